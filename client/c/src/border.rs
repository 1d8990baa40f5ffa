//! What comes from C and goes there: texts, bytes, handles, structures that grow.

use std::ffi::{CStr, c_char, c_void};
use std::mem::MaybeUninit;

use mofka_client::Recipe;
use serde_json::Value;

use crate::status::{Failure, quietly};

/// A place of the caller's that something is written to. It need not be initialized.
pub(crate) type Out<'a, T> = Option<&'a mut MaybeUninit<T>>;
/// A place for a new handle.
pub(crate) type OutHandle<'a, T> = Out<'a, *mut T>;

/// The handle that has to be there.
pub(crate) fn needed<'a, T>(handle: Option<&'a T>, what: &str) -> Result<&'a T, Failure> {
    handle.ok_or_else(|| Failure::null(what))
}

/// The place that has to be there.
pub(crate) fn place<'a, T>(out: Out<'a, T>, what: &str) -> Result<&'a mut MaybeUninit<T>, Failure> {
    out.ok_or_else(|| Failure::null(what))
}

/// The place for a handle; there is none in it until all went well.
pub(crate) fn handle_place<'a, T>(
    out: OutHandle<'a, T>,
    what: &str,
) -> Result<&'a mut MaybeUninit<*mut T>, Failure> {
    let place = place(out, what)?;
    place.write(std::ptr::null_mut());
    Ok(place)
}

/// Gives a handle to the caller.
pub(crate) fn give<T>(place: &mut MaybeUninit<*mut T>, value: T) {
    place.write(Box::into_raw(Box::new(value)));
}

/// Gives a text to the caller, who frees it by `mofka_string_free`.
pub(crate) fn give_text(place: &mut MaybeUninit<*mut c_char>, text: String) {
    place.write(crate::status::c_text(text).into_raw());
}

/// Gives a document as text.
pub(crate) fn give_json(
    place: &mut MaybeUninit<*mut c_char>,
    document: serde_json::Result<String>,
) -> Result<(), Failure> {
    let text = document.map_err(|error| Failure::argument(format!("no JSON can be made of it: {error}")))?;
    give_text(place, text);
    Ok(())
}

/// Frees what was given.
pub(crate) fn free<T>(handle: Option<Box<T>>) {
    quietly((), || drop(handle));
}

/// A text that has to be there.
///
/// # Safety
/// `start` is null, or leads to bytes with a NUL behind them, which live and stay as they are as long as the result.
pub(crate) unsafe fn text<'a>(start: *const c_char, what: &str) -> Result<&'a str, Failure> {
    // SAFETY: as the caller says.
    unsafe { optional_text(start, what) }?.ok_or_else(|| Failure::null(what))
}

/// A text that may be null.
///
/// # Safety
/// As [`text`].
pub(crate) unsafe fn optional_text<'a>(start: *const c_char, what: &str) -> Result<Option<&'a str>, Failure> {
    if start.is_null() {
        return Ok(None);
    }
    // SAFETY: it is not null, and the caller says that a NUL ends it.
    let bytes = unsafe { CStr::from_ptr(start) };
    let text = bytes
        .to_str()
        .map_err(|error| Failure::argument(format!("{what} is not UTF-8: {error}")))?;
    Ok(Some(text))
}

/// A JSON document that may be null.
///
/// # Safety
/// As [`text`].
pub(crate) unsafe fn optional_json(start: *const c_char, what: &str) -> Result<Option<Value>, Failure> {
    // SAFETY: as the caller says.
    let text = unsafe { optional_text(start, what) }?;
    text.map(|text| {
        serde_json::from_str(text).map_err(|error| Failure::argument(format!("{what} is not JSON: {error}")))
    })
    .transpose()
}

/// Views of data, as JSON.
///
/// # Safety
/// As [`text`].
pub(crate) unsafe fn recipe(start: *const c_char, what: &str) -> Result<Recipe, Failure> {
    // SAFETY: as the caller says.
    let text = unsafe { text(start, what) }?;
    serde_json::from_str(text)
        .map_err(|error| Failure::argument(format!("{what} is no array of views: {error}")))
}

/// Bytes. None may begin at null.
///
/// # Safety
/// `start` leads to `bytes` bytes, which live and stay as they are as long as the result, if there are any.
pub(crate) unsafe fn bytes_of<'a>(
    start: *const c_void,
    bytes: usize,
    what: &str,
) -> Result<&'a [u8], Failure> {
    // SAFETY: the caller says so; bytes have no alignment.
    unsafe { array_of(start.cast(), bytes, what) }
}

/// An array. An empty one may begin at null.
///
/// # Safety
/// `start` leads to `count` values, which live and stay as they are as long as the result, if there are any.
pub(crate) unsafe fn array_of<'a, T>(start: *const T, count: usize, what: &str) -> Result<&'a [T], Failure> {
    check_array(start, count, what)?;
    match count {
        0 => Ok(&[]),
        // SAFETY: it is neither null nor misplaced nor longer than memory may be, and the caller says what it leads to.
        _ => Ok(unsafe { std::slice::from_raw_parts(start, count) }),
    }
}

/// Room of the caller's that may not be initialized.
///
/// # Safety
/// `start` leads to room for `count` values, which nobody else uses as long as the result, if there is any.
pub(crate) unsafe fn room_of<'a, T>(
    start: *mut T,
    count: usize,
    what: &str,
) -> Result<&'a mut [MaybeUninit<T>], Failure> {
    check_array(start, count, what)?;
    match count {
        0 => Ok(&mut []),
        // SAFETY: as above, and what is not initialized is what a `MaybeUninit` may be.
        _ => Ok(unsafe { std::slice::from_raw_parts_mut(start.cast(), count) }),
    }
}

/// Fails for memory that cannot be there.
pub(crate) fn check_bytes(start: *const c_void, bytes: usize, what: &str) -> Result<(), Failure> {
    check_array(start.cast::<u8>(), bytes, what)
}

fn check_array<T>(start: *const T, count: usize, what: &str) -> Result<(), Failure> {
    let bytes = count.checked_mul(size_of::<T>());
    if count > 0 && start.is_null() {
        return Err(Failure::argument(format!(
            "{what} is NULL, and should have {count} entries"
        )));
    }
    if !start.is_aligned() {
        return Err(Failure::argument(format!(
            "{what} is at {start:?}, where no such value can be"
        )));
    }
    match bytes.and_then(|bytes| isize::try_from(bytes).ok()) {
        Some(_) => Ok(()),
        None => Err(Failure::argument(format!(
            "{what} should have {count} entries, more than memory can have"
        ))),
    }
}

/// Writes as many values as there is room for, and how many there are.
pub(crate) fn fill<T: Copy>(
    room: &mut [MaybeUninit<T>],
    values: impl IntoIterator<Item = T>,
    count: &mut MaybeUninit<usize>,
) {
    let mut found = 0;
    for value in values {
        if let Some(place) = room.get_mut(found) {
            place.write(value);
        }
        found += 1;
    }
    count.write(found);
}

/// A structure that begins with its own size, so that later versions can have more fields: those of an earlier version are
/// read as far as they go, and the rest is zero, which means the default.
///
/// # Safety
/// `repr(C)`; the first field is a `usize`, the size; any bytes are a value, zeros as well.
pub(crate) unsafe trait Versioned: Copy {
    /// Its name in C.
    const NAME: &'static str;
    /// The size of its first version, below which there was never one.
    const BYTES_MIN: usize;
}

/// The size that stands at the beginning.
///
/// # Safety
/// `start` leads to as many bytes as its first `usize` says.
unsafe fn stated_bytes<T: Versioned>(start: *const T) -> Result<usize, Failure> {
    if !start.is_aligned() {
        return Err(Failure::argument(format!(
            "{} is misaligned, at {start:?}",
            T::NAME
        )));
    }
    // SAFETY: the caller says that it begins with this number, and it is aligned.
    let bytes = unsafe { start.cast::<usize>().read() };
    if bytes < T::BYTES_MIN || bytes > 4096 {
        return Err(Failure::argument(format!(
            "{}.size is {bytes}: set it to sizeof({}), which is {}",
            T::NAME,
            T::NAME,
            size_of::<T>()
        )));
    }
    Ok(bytes)
}

/// The options that are given; null: the defaults, all zero.
///
/// # Safety
/// `start` is null, or leads to as many bytes as its first `usize` says.
pub(crate) unsafe fn options_of<T: Versioned>(start: *const T) -> Result<T, Failure> {
    let mut options = MaybeUninit::<T>::zeroed();
    if !start.is_null() {
        // SAFETY: as the caller says.
        let bytes = unsafe { stated_bytes(start) }?;
        let known = bytes.min(size_of::<T>());
        // SAFETY: both have that many bytes, and they are different places.
        unsafe {
            std::ptr::copy_nonoverlapping(start.cast::<u8>(), options.as_mut_ptr().cast::<u8>(), known);
        }
        // SAFETY: the rest is there too, as the caller says.
        let unknown = unsafe {
            bytes_of(
                start.cast::<u8>().wrapping_add(known).cast(),
                bytes - known,
                T::NAME,
            )
        }?;
        if unknown.iter().any(|byte| *byte != 0) {
            return Err(Failure::argument(format!(
                "{} has options that this version of the library does not know: it was made for a later one",
                T::NAME
            )));
        }
    }
    // SAFETY: any bytes are a value, says the trait.
    Ok(unsafe { options.assume_init() })
}

/// Fills a structure of the caller's as far as its size goes. What a later version has more is zero.
///
/// # Safety
/// `into` is null, or leads to as many bytes as its first `usize` says, which nobody else uses.
pub(crate) unsafe fn answer<T: Versioned>(into: *mut T, mut value: T) -> Result<(), Failure> {
    if into.is_null() {
        return Err(Failure::null(T::NAME));
    }
    // SAFETY: as the caller says.
    let bytes = unsafe { stated_bytes(into) }?;
    let known = bytes.min(size_of::<T>());
    // SAFETY: the first field is a `usize`, says the trait: the caller's size stays as it is. All bytes that are written are
    // within `bytes`, and those that are read within `value`.
    unsafe {
        (&raw mut value).cast::<usize>().write(bytes);
        std::ptr::copy_nonoverlapping((&raw const value).cast::<u8>(), into.cast::<u8>(), known);
        into.cast::<u8>()
            .wrapping_add(known)
            .write_bytes(0, bytes - known);
    }
    Ok(())
}

/// Frees a text that this library gave. NULL is nothing to free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mofka_string_free(text: *mut c_char) {
    if !text.is_null() {
        // SAFETY: the caller says that this library gave it, and `give_text` is the only way for that.
        free(Some(Box::new(unsafe { std::ffi::CString::from_raw(text) })));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Version 2 of a structure whose version 1 had no `second`.
    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Two {
        size: usize,
        first: u64,
        second: u64,
    }

    // SAFETY: integers only, the size first.
    unsafe impl Versioned for Two {
        const NAME: &'static str = "two";
        const BYTES_MIN: usize = 16;
    }

    #[repr(C)]
    struct Three {
        two: Two,
        third: u64,
    }

    fn three(size: usize, third: u64) -> Three {
        let two = Two {
            size,
            first: 1,
            second: 2,
        };
        Three { two, third }
    }

    fn read(three: &Three) -> Result<Two, Failure> {
        // SAFETY: it has at least as many bytes as it says: the tests say 32 at most, or what is refused.
        unsafe { options_of((&raw const *three).cast::<Two>()) }
    }

    #[test]
    fn options_of_earlier_and_later_versions_are_read() {
        let full = Two {
            size: 24,
            first: 1,
            second: 2,
        };
        assert_eq!(read(&three(24, 9)).unwrap(), full);
        assert_eq!(
            read(&three(16, 9)).unwrap(),
            Two {
                size: 16,
                first: 1,
                second: 0
            }
        );
        assert_eq!(read(&three(32, 0)).unwrap().second, 2);
        assert!(read(&three(32, 9)).is_err());
        for wrong in [0, 15, 4097, usize::MAX] {
            assert!(read(&three(wrong, 0)).is_err(), "{wrong}");
        }
        // SAFETY: null is allowed.
        let none = unsafe { options_of::<Two>(std::ptr::null()) }.unwrap();
        assert_eq!((none.first, none.second), (0, 0));
    }

    #[test]
    fn answers_to_earlier_and_later_versions_are_written() {
        let value = three(0, 0).two;
        for (size, expected) in [(16, (1, 7, 7)), (24, (1, 2, 7)), (32, (1, 2, 0))] {
            let mut into = Three {
                two: Two {
                    size,
                    first: 7,
                    second: 7,
                },
                third: 7,
            };
            // SAFETY: it has 32 bytes, and says that or less.
            unsafe { answer((&raw mut into).cast::<Two>(), value) }.unwrap();
            assert_eq!((into.two.first, into.two.second, into.third), expected);
            assert_eq!(into.two.size, size);
        }
    }

    #[test]
    fn what_is_null_or_no_text_is_told_by_name() {
        // SAFETY: null, or ended by a NUL.
        let told = unsafe {
            [
                text(std::ptr::null(), "the name").unwrap_err(),
                text(c"\xff".as_ptr(), "the name").unwrap_err(),
                optional_json(c"{".as_ptr(), "the name").unwrap_err(),
                bytes_of(std::ptr::null(), 1, "the name").unwrap_err(),
                array_of(std::ptr::dangling::<u64>(), usize::MAX, "the name").unwrap_err(),
            ]
        };
        for failure in told {
            assert!(format!("{failure:?}").contains("the name"), "{failure:?}");
        }
        // SAFETY: null is allowed for none.
        assert_eq!(unsafe { bytes_of(std::ptr::null(), 0, "x") }.unwrap(), b"");
    }

    #[test]
    fn no_more_is_written_than_there_is_room_for() {
        let mut room = [MaybeUninit::new(0_u64); 3];
        let mut count = MaybeUninit::uninit();
        fill(&mut room[..2], [5, 6, 7], &mut count);
        // SAFETY: `fill` always writes it, and the room was initialized.
        unsafe {
            assert_eq!(count.assume_init(), 3);
            assert_eq!(room.map(|place| place.assume_init()), [5, 6, 0]);
        }
    }
}
