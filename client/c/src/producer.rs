//! Producers.

use std::ffi::{CString, c_char, c_void};
use std::mem::MaybeUninit;
use std::sync::Arc;

use bytes::Bytes;
use mofka_client::{Data, Metadata, Producer, PushFuture};

use crate::border::{Versioned, answer, bytes_of, free, give, give_json, handle_place, needed, options_of};
use crate::data::{Lease, leased, mofka_release, mofka_slice, parts};
use crate::fork::Owner;
use crate::future::{Future, mofka_future};
use crate::options::{mofka_producer_options, versioned};
use crate::status::{Failure, c_text, complete, guard, mofka_status};
use crate::topic::{mofka_topic, topic_of};

/// Pushes events into a topic. May be used by any number of threads.
pub struct mofka_producer {
    producer: Producer,
    owner: Owner,
    name: CString,
}

/// The producer, in the process that made it, which it says as well.
pub(crate) fn owned_producer(producer: Option<&mofka_producer>) -> Result<(&Producer, Owner), Failure> {
    let producer = needed(producer, "producer")?;
    producer.owner.check()?;
    Ok((&producer.producer, producer.owner))
}

/// The producer, in the process that made it.
fn producer_of(producer: Option<&mofka_producer>) -> Result<&Producer, Failure> {
    owned_producer(producer).map(|(producer, _)| producer)
}

/// What became of the events of a producer that was closed.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mofka_producer_report {
    /// `sizeof(mofka_producer_report)`; set it before the call.
    pub size: usize,
    /// Events that were taken.
    pub pushed: u64,
    /// Those that a node acknowledged.
    pub acknowledged: u64,
    /// Those that failed. Pushed events are either acknowledged or failed.
    pub failed: u64,
    /// Failed ones that may be stored all the same, because they were sent and only the answer is missing.
    pub may_be_stored: u64,
}

/// What a producer has done so far.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mofka_producer_stats {
    /// `sizeof(mofka_producer_stats)`; set it before the call.
    pub size: usize,
    /// Events that were taken.
    pub events: u64,
    /// Bytes of their metadata and data.
    pub bytes: u64,
    /// Batches that were sent, each counted once.
    pub batches: u64,
    /// Batches that were sent again.
    pub resent: u64,
    /// Events that were acknowledged.
    pub acknowledged: u64,
    /// Events that failed.
    pub failed: u64,
}

// The sizes of the first version.
versioned! {
    mofka_producer_report: 40,
    mofka_producer_stats: 56,
}

/// Makes a producer. `options`: NULL for the defaults. It does not need the topic's handle any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mofka_producer_create(
    topic: Option<&mofka_topic>,
    options: *const mofka_producer_options,
    producer: Option<&mut MaybeUninit<*mut mofka_producer>>,
) -> mofka_status {
    complete(|| {
        let producer = handle_place(producer, "producer")?;
        // SAFETY: null, or options that say their size, as the caller promises.
        let options = unsafe { options_of(options) }?;
        // SAFETY: the caller promises what the fields' comments say.
        let options = unsafe { options.get() }?;
        let name = c_text(options.name.as_str());
        let made = mofka_producer {
            producer: topic_of(topic)?.producer(options),
            owner: Owner::here(),
            name,
        };
        give(producer, made);
        Ok(())
    })
}

/// Its name; NULL for NULL. Valid as long as the handle.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_producer_name(producer: Option<&mofka_producer>) -> *const c_char {
    producer.map_or(std::ptr::null(), |producer| producer.name.as_ptr())
}

/// The partition that is asked for; negative: none.
pub(crate) fn partition(partition: i64) -> Option<usize> {
    usize::try_from(partition).ok()
}

/// Takes an event.
pub(crate) fn push(
    producer: Option<&mofka_producer>,
    metadata: &[u8],
    data: Data,
    partition: i64,
    future: Option<&mut MaybeUninit<*mut mofka_future>>,
) -> Result<(), Failure> {
    let (producer, owner) = owned_producer(producer)?;
    let metadata = match metadata {
        [] => Metadata::default(),
        text => Metadata::from(Bytes::copy_from_slice(text)),
    };
    let pushed = producer.push(metadata, data, self::partition(partition))?;
    give_future(future, pushed, owner);
    Ok(())
}

/// Takes an event of bytes that are copied.
fn push_slices(
    producer: Option<&mofka_producer>,
    metadata: &[u8],
    data: &[&[u8]],
    partition: i64,
    future: Option<&mut MaybeUninit<*mut mofka_future>>,
) -> Result<(), Failure> {
    let (producer, owner) = owned_producer(producer)?;
    let metadata = match metadata {
        [] => b"{}",
        text => text,
    };
    let pushed = producer.push_slices(metadata, data, self::partition(partition))?;
    give_future(future, pushed, owner);
    Ok(())
}

/// What will become of an event, to whoever wants to know.
fn give_future(future: Option<&mut MaybeUninit<*mut mofka_future>>, pushed: PushFuture, owner: Owner) {
    if let Some(future) = future {
        give(future, mofka_future(Future::Push(pushed), owner));
    }
}

/// Takes an event, with a copy of its data: nothing has to be kept.
///
/// `metadata`: JSON text in UTF-8, of `metadata_bytes` bytes, no NUL needed; with 0 bytes it is `{}`. `segments`: the data, in any
/// number of pieces. `partition`: what the topic's partition selector makes of it; the usual one takes the next partition in turn
/// for a negative number, and the number modulo the number of partitions otherwise. `future`: gets what will become the event's
/// id; NULL when only `mofka_producer_flush` or `mofka_producer_close` will ask.
///
/// Blocks while the partition has as many batches as `max_num_batches` allows. An error means that nothing was queued;
/// `MOFKA_ERROR_INVALID_METADATA` when the metadata is not JSON, or the topic's validator does not take the event.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mofka_producer_push(
    producer: Option<&mofka_producer>,
    metadata: *const c_char,
    metadata_bytes: usize,
    segments: *const mofka_slice,
    segment_count: usize,
    partition: i64,
    future: Option<&mut MaybeUninit<*mut mofka_future>>,
) -> mofka_status {
    complete(|| {
        let future = future
            .map(|future| handle_place(Some(future), "future"))
            .transpose()?;
        // SAFETY: so many bytes, as the caller promises.
        let metadata = unsafe { bytes_of(metadata.cast(), metadata_bytes, "metadata") }?;
        // SAFETY: so many segments, which stay as they are during the call, as the caller promises.
        let data = unsafe { parts(segments, segment_count) }?;
        push_slices(producer, metadata, &data, partition, future)
    })
}

/// The same with the data where it is: it must stay as it is until the library calls `release(release_context)`, once, whatever
/// happens, also when this returns an error. `release` may be NULL for data that stays for ever.
///
/// The library copies it no more often than it has to, and may release it before this returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mofka_producer_push_owned(
    producer: Option<&mofka_producer>,
    metadata: *const c_char,
    metadata_bytes: usize,
    segments: *const mofka_slice,
    segment_count: usize,
    release: mofka_release,
    release_context: *mut c_void,
    partition: i64,
    future: Option<&mut MaybeUninit<*mut mofka_future>>,
) -> mofka_status {
    // Outside: it is released by every way out.
    let lease = Lease::new(release, release_context);
    complete(move || {
        let future = future
            .map(|future| handle_place(Some(future), "future"))
            .transpose()?;
        // SAFETY: so many bytes, as the caller promises.
        let metadata = unsafe { bytes_of(metadata.cast(), metadata_bytes, "metadata") }?;
        // SAFETY: so many segments, which stay as they are until the lease ends, as the caller promises.
        let data = unsafe { leased(segments, segment_count, &lease) }?;
        // From here on the data alone keeps it.
        drop::<Arc<Lease>>(lease);
        push(producer, metadata, data, partition, future)
    })
}

/// Sends what gathered, and waits until every event that was pushed before was acknowledged or failed: at most `timeout_ms`
/// milliseconds; negative: as long as it takes. What became of events is told by their futures, and by `mofka_producer_close`.
///
/// `MOFKA_TIMEOUT` when it takes longer.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_producer_flush(producer: Option<&mofka_producer>, timeout_ms: i64) -> mofka_status {
    guard(|| {
        let flush = producer_of(producer)?.flush();
        Ok(match flush.wait_ms(timeout_ms)? {
            Some(()) => crate::status::MOFKA_OK,
            None => crate::status::MOFKA_TIMEOUT,
        })
    })
}

/// The same without waiting: `future` gets what completes then.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_producer_flush_start(
    producer: Option<&mofka_producer>,
    future: Option<&mut MaybeUninit<*mut mofka_future>>,
) -> mofka_status {
    complete(|| {
        let future = handle_place(future, "future")?;
        let (producer, owner) = owned_producer(producer)?;
        give(future, mofka_future(Future::Flush(producer.flush()), owner));
        Ok(())
    })
}

/// Sends what is left, waits until every event was acknowledged or failed, and counts. Later pushes fail with
/// `MOFKA_ERROR_CLOSED`; closing again gives the same.
///
/// `report`, with its size set, and `failures`, a JSON object with a count for each reason, may be NULL. The text is yours:
/// `mofka_string_free`. `MOFKA_OK` also when events failed: look at the report.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mofka_producer_close(
    producer: Option<&mofka_producer>,
    report: *mut mofka_producer_report,
    failures: Option<&mut MaybeUninit<*mut c_char>>,
) -> mofka_status {
    complete(|| {
        let failures = failures
            .map(|json| handle_place(Some(json), "failures"))
            .transpose()?;
        let closed = producer_of(producer)?.close()?;
        if !report.is_null() {
            let told = mofka_producer_report {
                size: 0,
                pushed: closed.pushed,
                acknowledged: closed.acknowledged,
                failed: closed.failed,
                may_be_stored: closed.may_be_stored,
            };
            // SAFETY: a report that says its size, as the caller promises.
            unsafe { answer(report, told) }?;
        }
        failures.map_or(Ok(()), |json| {
            give_json(json, serde_json::to_string(&closed.failed_by_reason))
        })
    })
}

/// Closes it, and says, durably, that this producer will push no more: with the last of those that the topic expects
/// (`producers_expected`) the topic is complete. Who has a name counts once, however often it says so.
///
/// `done_count` and `expected_count`: how many said so, and how many there will be; may be NULL.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_producer_done(
    producer: Option<&mofka_producer>,
    done_count: Option<&mut MaybeUninit<u32>>,
    expected_count: Option<&mut MaybeUninit<u32>>,
) -> mofka_status {
    complete(|| {
        let told = producer_of(producer)?.done()?;
        for (place, count) in [(done_count, told.done), (expected_count, told.expected)] {
            if let Some(place) = place {
                place.write(count);
            }
        }
        Ok(())
    })
}

/// What it has done so far. `stats` with its size set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mofka_producer_get_stats(
    producer: Option<&mofka_producer>,
    stats: *mut mofka_producer_stats,
) -> mofka_status {
    complete(|| {
        let found = producer_of(producer)?.stats();
        let told = mofka_producer_stats {
            size: 0,
            events: found.events,
            bytes: found.bytes,
            batches: found.batches,
            resent: found.resent,
            acknowledged: found.acknowledged,
            failed: found.failed,
        };
        // SAFETY: stats that say their size, as the caller promises.
        unsafe { answer(stats, told) }
    })
}

/// Frees the handle. Sends what is left, and waits for the answers up to the option `drop_timeout_ms`. Futures stay usable.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_producer_free(producer: Option<Box<mofka_producer>>) {
    free(producer);
}
