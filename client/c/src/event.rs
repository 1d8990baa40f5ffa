//! Events that were pulled.

use std::ffi::c_void;
use std::mem::MaybeUninit;

use mofka_client::{Event, PullFuture};

use crate::border::{free, give, handle_place, needed, room_of};
use crate::data::mofka_slice;
use crate::descriptor::mofka_descriptor;
use crate::fork::Owner;
use crate::future::{Future, mofka_future};
use crate::status::{
    Failure, MOFKA_NO_MORE_EVENTS, MOFKA_OK, MOFKA_TIMEOUT, complete, guard, mofka_status, quietly,
};

/// What a pull will give. It lives on its own.
pub struct mofka_event_future(pub(crate) PullFuture, pub(crate) Owner);

/// An event that was pulled. It lives on its own: the consumer may be freed before. It may share memory with the other events
/// that it came with: who keeps few of many events for long should copy what is kept.
pub struct mofka_event(pub(crate) Event, pub(crate) Owner);

/// Gives what was pulled by this process.
pub(crate) fn give_pulled(
    pulled: Option<Option<Event>>,
    owner: Owner,
    place: &mut MaybeUninit<*mut mofka_event>,
) -> mofka_status {
    match pulled {
        None => MOFKA_TIMEOUT,
        Some(None) => MOFKA_NO_MORE_EVENTS,
        Some(Some(event)) => {
            give(place, mofka_event(event, owner));
            MOFKA_OK
        }
    }
}

/// Waits for the event, at most this many milliseconds; negative: as long as it takes; 0 only looks.
///
/// `MOFKA_OK`: `event` gets it, and each time it is asked for another handle of it. `MOFKA_TIMEOUT`: it did not come yet.
/// `MOFKA_NO_MORE_EVENTS`: the topic is complete, and all of it was pulled. An error is that of this pull; unless it says that
/// the consumer or the partition is at its end, later events come all the same.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_event_future_wait(
    future: Option<&mofka_event_future>,
    timeout_ms: i64,
    event: Option<&mut MaybeUninit<*mut mofka_event>>,
) -> mofka_status {
    guard(|| {
        let place = handle_place(event, "event")?;
        let future = needed(future, "future")?;
        if future.1.is_elsewhere() && !future.0.completed() {
            future.1.check()?;
        }
        Ok(give_pulled(future.0.wait_ms(timeout_ms)?, future.1, place))
    })
}

/// Whether waiting would return at once. NULL: yes, with an error; so in a forked child.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_event_future_completed(future: Option<&mofka_event_future>) -> bool {
    quietly(true, || {
        future.is_none_or(|future| future.1.is_elsewhere() || future.0.completed())
    })
}

/// Frees the future. An event that nobody took from it is left to the next pull.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_event_future_free(future: Option<Box<mofka_event_future>>) {
    free(future);
}

/// Another handle of the same event. NULL for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_event_clone(event: Option<&mofka_event>) -> *mut mofka_event {
    event.map_or(std::ptr::null_mut(), |event| {
        Box::into_raw(Box::new(mofka_event(event.0.clone(), event.1)))
    })
}

/// Its id in its partition, from 0. `UINT64_MAX` for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_event_id(event: Option<&mofka_event>) -> u64 {
    event.map_or(u64::MAX, |event| event.0.id().get())
}

/// The index of its partition in the topic. `SIZE_MAX` for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_event_partition(event: Option<&mofka_event>) -> usize {
    event.map_or(usize::MAX, |event| event.0.partition())
}

/// When the node accepted it: Unix time in microseconds.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_event_timestamp_us(event: Option<&mofka_event>) -> u64 {
    event.map_or(0, |event| event.0.timestamp_us())
}

/// Its metadata: JSON text in UTF-8, **without a NUL at its end**. Valid as long as the event's handle.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_event_metadata(event: Option<&mofka_event>) -> mofka_slice {
    event.map_or(mofka_slice::EMPTY, |event| {
        mofka_slice::of(event.0.metadata_bytes())
    })
}

/// Bytes of its data that were selected and are here.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_event_data_bytes(event: Option<&mofka_event>) -> u64 {
    event.map_or(0, |event| event.0.data().bytes())
}

/// Segments that these bytes are in. With an allocator: those that it gave, but for empty ones.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_event_data_segment_count(event: Option<&mofka_event>) -> usize {
    event.map_or(0, |event| {
        let data = event.0.data();
        // Of an allocation of nothing, an empty segment keeps the lease.
        if data.is_empty() { 0 } else { data.segments().len() }
    })
}

/// One segment of its data, from index 0 on; nothing for an index beyond the last. Valid as long as the event's handle.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_event_data_segment(event: Option<&mofka_event>, index: usize) -> mofka_slice {
    let segment = event.and_then(|event| event.0.data().segments().get(index));
    let segment = segment.filter(|segment| !segment.is_empty());
    segment.map_or(mofka_slice::EMPTY, |segment| mofka_slice::of(segment))
}

/// Copies bytes of its data from `offset` on, as many as there are and fit. Returns how many these were.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mofka_event_data_copy(
    event: Option<&mofka_event>,
    offset: u64,
    into: *mut c_void,
    room_bytes: usize,
) -> usize {
    quietly(0, || {
        let Some(event) = event else { return 0 };
        // SAFETY: room for so many bytes, as the caller promises.
        let Ok(room) = (unsafe { room_of(into.cast::<u8>(), room_bytes, "into") }) else {
            return 0;
        };
        let mut before = offset;
        let mut copied = 0;
        for segment in event.0.data().segments() {
            let begin = usize::try_from(before).map_or(segment.len(), |before| before.min(segment.len()));
            before -= begin as u64;
            let bytes = (segment.len() - begin).min(room.len() - copied);
            for (place, byte) in room[copied..].iter_mut().zip(&segment[begin..begin + bytes]) {
                place.write(*byte);
            }
            copied += bytes;
        }
        copied
    })
}

/// Bytes of all its data, whatever of it was selected.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_event_stored_bytes(event: Option<&mofka_event>) -> u64 {
    event.map_or(0, |event| event.0.data_bytes())
}

/// What was selected of its data; empty when nothing was. The descriptor is yours: `mofka_descriptor_free`. NULL for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_event_descriptor(event: Option<&mofka_event>) -> *mut mofka_descriptor {
    event.map_or(std::ptr::null_mut(), |event| {
        Box::into_raw(Box::new(mofka_descriptor(event.0.descriptor().clone())))
    })
}

/// The descriptor of all of its data, for `mofka_event_open_view`. It is yours: `mofka_descriptor_free`. NULL for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_event_whole(event: Option<&mofka_event>) -> *mut mofka_descriptor {
    event.map_or(std::ptr::null_mut(), |event| {
        Box::into_raw(Box::new(mofka_descriptor(event.0.whole())))
    })
}

/// Acknowledges this event and all before it in its partition: the next consumer of this name begins after it. Returns when that
/// is durable. An older event acknowledged later changes nothing. Also works when the consumer is freed.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_event_acknowledge(event: Option<&mofka_event>) -> mofka_status {
    complete(|| {
        let (event, _) = event_of(event)?;
        Ok(event.acknowledge().wait()?)
    })
}

/// The same without waiting: `future` gets what completes when it is durable; NULL when nobody will ask. Those that follow each
/// other quickly are sent as one.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_event_acknowledge_start(
    event: Option<&mofka_event>,
    future: Option<&mut MaybeUninit<*mut mofka_future>>,
) -> mofka_status {
    complete(|| {
        let future = future
            .map(|future| handle_place(Some(future), "future"))
            .transpose()?;
        let (event, owner) = event_of(event)?;
        let acknowledged = event.acknowledge();
        if let Some(future) = future {
            give(future, mofka_future(Future::Acknowledge(acknowledged), owner));
        }
        Ok(())
    })
}

/// The event, in the process that pulled it, which it says as well.
pub(crate) fn event_of(event: Option<&mofka_event>) -> Result<(&Event, Owner), Failure> {
    let event = needed(event, "event")?;
    event.1.check()?;
    Ok((&event.0, event.1))
}

/// Frees the handle, and what was pointed to through it.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_event_free(event: Option<Box<mofka_event>>) {
    free(event);
}
