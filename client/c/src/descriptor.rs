//! Data descriptors: which bytes of an event's data are meant.

use std::ffi::c_void;
use std::mem::MaybeUninit;

use mofka_client::{DataDescriptor, Segment};

use crate::border::{OutHandle, array_of, bytes_of, fill, free, give, handle_place, needed, place, room_of};
use crate::data::mofka_slice;
use crate::status::{Failure, complete, mofka_status};

/// Which bytes of an event's data are meant: all of them, or a view, or a view of a view. It never changes: views are made as new
/// ones. An empty one selects nothing.
pub struct mofka_descriptor(pub(crate) DataDescriptor);

/// A stretch of bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct mofka_range {
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
}

/// All of some data at a place that only its storage understands; with no location and no bytes the empty descriptor.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mofka_descriptor_create(
    location: *const c_void,
    location_bytes: usize,
    data_bytes: u64,
    descriptor: Option<&mut MaybeUninit<*mut mofka_descriptor>>,
) -> mofka_status {
    complete(|| {
        let descriptor = handle_place(descriptor, "descriptor")?;
        // SAFETY: so many bytes, as the caller promises.
        let location = unsafe { bytes_of(location, location_bytes, "location") }?;
        let made = DataDescriptor::new(location, data_bytes);
        give(
            descriptor,
            mofka_descriptor(made.map_err(|error| Failure::argument(error.to_string()))?),
        );
        Ok(())
    })
}

/// Another handle of the same. NULL for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_descriptor_clone(descriptor: Option<&mofka_descriptor>) -> *mut mofka_descriptor {
    descriptor.map_or(std::ptr::null_mut(), |descriptor| {
        Box::into_raw(Box::new(mofka_descriptor(descriptor.0.clone())))
    })
}

/// Makes a view of a descriptor.
fn view(
    descriptor: Option<&mofka_descriptor>,
    view: OutHandle<'_, mofka_descriptor>,
    make: impl FnOnce(&DataDescriptor) -> Result<DataDescriptor, Failure>,
) -> mofka_status {
    complete(|| {
        let view = handle_place(view, "view")?;
        give(
            view,
            mofka_descriptor(make(&needed(descriptor, "descriptor")?.0)?),
        );
        Ok(())
    })
}

/// `bytes` bytes of it from `offset` on, cut to what there is; empty when nothing is left.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_descriptor_sub_view(
    descriptor: Option<&mofka_descriptor>,
    offset: u64,
    bytes: u64,
    view: Option<&mut MaybeUninit<*mut mofka_descriptor>>,
) -> mofka_status {
    self::view(descriptor, view, |whole| Ok(whole.sub_view(offset, bytes)))
}

/// `block_count` blocks of `block_bytes` of it, the first at `offset`, `gap_bytes` between them.
///
/// `MOFKA_ERROR_INVALID_VIEW` when the last block ends beyond it.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_descriptor_strided_view(
    descriptor: Option<&mofka_descriptor>,
    offset: u64,
    block_count: u64,
    block_bytes: u64,
    gap_bytes: u64,
    view: Option<&mut MaybeUninit<*mut mofka_descriptor>>,
) -> mofka_status {
    self::view(descriptor, view, |whole| {
        Ok(whole.strided_view(offset, block_count, block_bytes, gap_bytes)?)
    })
}

/// These ranges of it, which have to be ascending and disjoint.
///
/// `MOFKA_ERROR_INVALID_VIEW` when they are not, or end beyond it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mofka_descriptor_unstructured_view(
    descriptor: Option<&mofka_descriptor>,
    ranges: *const mofka_range,
    range_count: usize,
    view: Option<&mut MaybeUninit<*mut mofka_descriptor>>,
) -> mofka_status {
    self::view(descriptor, view, |whole| {
        // SAFETY: so many ranges, as the caller promises.
        let ranges = unsafe { array_of(ranges, range_count, "ranges") }?;
        let segments: Vec<Segment> = ranges
            .iter()
            .map(|range| Segment {
                offset: range.offset,
                bytes: range.bytes,
            })
            .collect();
        Ok(whole.unstructured_view(&segments)?)
    })
}

/// Bytes that are selected. NULL selects none.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_descriptor_bytes(descriptor: Option<&mofka_descriptor>) -> u64 {
    descriptor.map_or(0, |descriptor| descriptor.0.bytes())
}

/// Bytes of the event's whole data.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_descriptor_base_bytes(descriptor: Option<&mofka_descriptor>) -> u64 {
    descriptor.map_or(0, |descriptor| descriptor.0.base_bytes())
}

/// Where the data is: opaque, except to its storage. Valid as long as the descriptor.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_descriptor_location(descriptor: Option<&mofka_descriptor>) -> mofka_slice {
    descriptor.map_or(mofka_slice::EMPTY, |descriptor| {
        mofka_slice::of(descriptor.0.location())
    })
}

/// The ranges of the event's data that are selected, ascending, touching ones merged: as many as there is room for.
///
/// `range_count`: gets how many there are, which may be more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mofka_descriptor_flatten(
    descriptor: Option<&mofka_descriptor>,
    ranges: *mut mofka_range,
    room_count: usize,
    range_count: Option<&mut MaybeUninit<usize>>,
) -> mofka_status {
    complete(|| {
        let count = place(range_count, "range_count")?;
        let descriptor = needed(descriptor, "descriptor")?;
        // SAFETY: room for so many ranges, as the caller promises.
        let room = unsafe { room_of(ranges, room_count, "ranges") }?;
        let found = descriptor.0.flatten().map(|range| mofka_range {
            offset: range.offset,
            bytes: range.bytes,
        });
        fill(room, found, count);
        Ok(())
    })
}

/// The descriptor as bytes, for other processes: as many as there is room for.
///
/// `bytes`: gets how many there are, which may be more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mofka_descriptor_serialize(
    descriptor: Option<&mofka_descriptor>,
    into: *mut c_void,
    room_bytes: usize,
    bytes: Option<&mut MaybeUninit<usize>>,
) -> mofka_status {
    complete(|| {
        let count = place(bytes, "bytes")?;
        let descriptor = needed(descriptor, "descriptor")?;
        // SAFETY: room for so many bytes, as the caller promises.
        let room = unsafe { room_of(into.cast::<u8>(), room_bytes, "into") }?;
        fill(room, descriptor.0.serialize(), count);
        Ok(())
    })
}

/// Reads what `mofka_descriptor_serialize` wrote. Wrong bytes are refused.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mofka_descriptor_deserialize(
    from: *const c_void,
    bytes: usize,
    descriptor: Option<&mut MaybeUninit<*mut mofka_descriptor>>,
) -> mofka_status {
    complete(|| {
        let descriptor = handle_place(descriptor, "descriptor")?;
        // SAFETY: so many bytes, as the caller promises.
        let serialized = unsafe { bytes_of(from, bytes, "from") }?;
        let read = DataDescriptor::deserialize(serialized);
        give(
            descriptor,
            mofka_descriptor(read.map_err(|error| Failure::argument(error.to_string()))?),
        );
        Ok(())
    })
}

/// Frees the handle.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_descriptor_free(descriptor: Option<Box<mofka_descriptor>>) {
    free(descriptor);
}
