//! Where libraries write to.

use std::ffi::c_void;

use crate::abi::{ERROR_BYTES_MAX, FAILED, OK, Sink};
use crate::error::CallError;

/// Gathers what a function writes.
pub(crate) struct Gather<'a> {
    into: &'a mut Vec<u8>,
    /// Bytes that are still taken.
    left: usize,
    beyond: Beyond,
    overflowed: bool,
}

/// What happens to bytes beyond the bound.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beyond {
    /// They are left out.
    Cut,
    /// They are refused, and that is noted.
    Refuse,
}

impl<'a> Gather<'a> {
    /// Appends up to `bytes_max` bytes; more are refused.
    pub(crate) fn output(into: &'a mut Vec<u8>, bytes_max: usize) -> Self {
        Self {
            into,
            left: bytes_max,
            beyond: Beyond::Refuse,
            overflowed: false,
        }
    }

    fn error(into: &'a mut Vec<u8>) -> Self {
        Self {
            into,
            left: ERROR_BYTES_MAX,
            beyond: Beyond::Cut,
            overflowed: false,
        }
    }

    /// The sink for one call. Whoever passes it on keeps it, and `self`, until that call returned.
    pub(crate) fn sink(&mut self) -> Sink {
        Sink {
            context: std::ptr::from_mut(self).cast(),
            write,
        }
    }

    /// Whether something was refused.
    pub(crate) fn overflowed(&self) -> bool {
        self.overflowed
    }

    fn take(&mut self, bytes: &[u8]) -> i32 {
        let taken = match self.beyond {
            Beyond::Cut => bytes.get(..self.left).unwrap_or(bytes),
            Beyond::Refuse => bytes,
        };
        // Without memory the call fails, not the process.
        let fits = !self.overflowed && taken.len() <= self.left && self.into.try_reserve(taken.len()).is_ok();
        if !fits {
            self.overflowed = true;
            return FAILED;
        }
        self.into.extend_from_slice(taken);
        self.left -= taken.len();
        OK
    }

    fn refuse(&mut self) -> i32 {
        self.overflowed = true;
        FAILED
    }
}

/// [`Sink::write`] of a [`Gather`]. Nothing in it panics.
///
/// # Safety
/// `context` comes from [`Gather::sink`], whose `Gather` lives and is used by nobody else; `start` leads to `bytes` bytes.
unsafe extern "C" fn write(context: *mut c_void, start: *const c_void, bytes: u64) -> i32 {
    // SAFETY: `sink` made `context` of a `Gather`, which lives until the call that the sink was made for returned, and which
    // nobody else touches until then: the contract lets a function use its sinks only while it runs, one write after the other.
    let gather = unsafe { &mut *context.cast::<Gather<'_>>() };
    let Ok(bytes) = usize::try_from(bytes) else {
        return gather.refuse();
    };
    if bytes == 0 {
        return OK;
    }
    // Slices have at most isize::MAX bytes.
    if start.is_null() || isize::try_from(bytes).is_err() {
        return gather.refuse();
    }
    // SAFETY: not null, of a length that a slice may have, and readable for the time of this call: the contract.
    gather.take(unsafe { std::slice::from_raw_parts(start.cast(), bytes) })
}

/// Makes a call with a sink for its error.
///
/// # Errors
/// What the function said, when it failed.
pub(crate) fn call(function: impl FnOnce(*const Sink) -> i32) -> Result<(), CallError> {
    let mut text = Vec::new();
    let mut gather = Gather::error(&mut text);
    let sink = gather.sink();
    match function(&raw const sink) {
        OK => Ok(()),
        status if text.is_empty() => Err(CallError(format!(
            "it failed with status {status}, and did not say why"
        ))),
        _ => Err(CallError(String::from_utf8_lossy(&text).into_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(sink: *const Sink, bytes: &[u8]) -> i32 {
        // SAFETY: the tests pass sinks of gathers that live.
        unsafe { ((*sink).write)((*sink).context, bytes.as_ptr().cast(), bytes.len() as u64) }
    }

    #[test]
    fn errors_are_cut_and_may_be_anything() {
        assert_eq!(call(|_| OK), Ok(()));
        assert_eq!(
            call(|_| -7).unwrap_err().to_string(),
            "it failed with status -7, and did not say why"
        );
        let told = call(|error| {
            assert_eq!(say(error, b"no "), OK);
            assert_eq!(say(error, b"\xff"), OK);
            2
        });
        assert_eq!(told.unwrap_err().to_string(), "no \u{fffd}");
        let told = call(|error| {
            for _ in 0..3 {
                assert_eq!(say(error, &[b'x'; ERROR_BYTES_MAX - 1]), OK);
            }
            FAILED
        });
        assert_eq!(told.unwrap_err().to_string(), "x".repeat(ERROR_BYTES_MAX));
    }

    #[test]
    fn output_beyond_its_bound_is_refused_for_good() {
        let mut bytes = b"before ".to_vec();
        let mut gather = Gather::output(&mut bytes, 4);
        let sink = gather.sink();
        assert_eq!(say(&raw const sink, b"abc"), OK);
        assert_eq!(say(&raw const sink, b""), OK);
        assert_eq!(say(&raw const sink, b"de"), FAILED);
        assert_eq!(say(&raw const sink, b"f"), FAILED, "nothing follows a gap");
        assert!(gather.overflowed());
        assert_eq!(bytes, b"before abc");
    }

    #[test]
    fn wild_pointers_and_lengths_are_refused_before_they_are_used() {
        for (start, bytes) in [
            (std::ptr::null(), 1_u64),
            (b"x".as_ptr(), u64::MAX),
            (b"x".as_ptr(), 1 << 63),
        ] {
            let mut taken = Vec::new();
            let mut gather = Gather::output(&mut taken, 100);
            let sink = gather.sink();
            // SAFETY: the gather lives; the bytes are refused without a look.
            let status = unsafe { (sink.write)(sink.context, start.cast(), bytes) };
            assert_eq!(status, FAILED, "{bytes}");
            assert!(gather.overflowed());
            assert!(taken.is_empty());
        }
        let mut taken = Vec::new();
        let mut gather = Gather::output(&mut taken, 100);
        let sink = gather.sink();
        // SAFETY: as above; no bytes may begin anywhere.
        assert_eq!(unsafe { (sink.write)(sink.context, std::ptr::null(), 0) }, OK);
        assert!(!gather.overflowed());
    }
}
