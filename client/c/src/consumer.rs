//! Consumers.

use std::ffi::{CString, c_char, c_void};
use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use mofka_client::{Consumer, ConsumerOptions, DataSelector, Event, ProcessEnd, ProcessOptions, PullError};

use crate::border::{
    Versioned, answer, array_of, fill, free, give, give_text, handle_place, needed, optional_json,
    options_of, place, recipe, room_of, text,
};
use crate::callbacks::{self, Given, mofka_data_allocator, mofka_data_selector, mofka_on_assignment};
use crate::data::{Lease, mofka_release};
use crate::event::{give_pulled, mofka_event, mofka_event_future};
use crate::fork::Owner;
use crate::options::{batch_size, start, thread_pool, versioned};
use crate::pool::mofka_thread_pool;
use crate::status::{Failure, MOFKA_OK, MOFKA_TIMEOUT, c_text, complete, guard, mofka_status, note};
use crate::topic::{mofka_topic, topic_of};

/// No data.
pub const MOFKA_DATA_NONE: i32 = 0;
/// All data of every event. The node knows in advance and sends it with the events.
pub const MOFKA_DATA_ALL: i32 = 1;
/// The same views of the data of every event, as the option `data_views` says. The node knows in advance: only the selected bytes
/// leave its device.
pub const MOFKA_DATA_VIEWS: i32 = 2;
/// What the option `data_selector` says.
pub const MOFKA_DATA_SELECTOR: i32 = 3;

/// The function said so.
pub const MOFKA_PROCESS_STOPPED: i32 = 1;
/// `max_events` were handed over.
pub const MOFKA_PROCESS_COUNTED: i32 = 2;
/// The topic is complete, and all of it was pulled.
pub const MOFKA_PROCESS_NO_MORE_EVENTS: i32 = 3;
/// No pull will give anything any more; the last error says why.
pub const MOFKA_PROCESS_FAILED: i32 = 4;

/// Pulls events of a topic. May be used by any number of threads. Consumers of one name share the topic's partitions, wherever
/// they run; consumers of different names get everything each.
pub struct mofka_consumer {
    consumer: Consumer,
    owner: Owner,
    name: CString,
}

/// The consumer, in the process that made it, which it says as well.
fn owned_consumer(consumer: Option<&mofka_consumer>) -> Result<(&Consumer, Owner), Failure> {
    let consumer = needed(consumer, "consumer")?;
    consumer.owner.check()?;
    Ok((&consumer.consumer, consumer.owner))
}

/// The consumer, in the process that made it.
fn consumer_of(consumer: Option<&mofka_consumer>) -> Result<&Consumer, Failure> {
    owned_consumer(consumer).map(|(consumer, _)| consumer)
}

/// How a consumer works.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mofka_consumer_options {
    /// `sizeof(mofka_consumer_options)`
    pub size: usize,
    /// Events that come together: a wish. 0: adaptive.
    pub batch_size: u32,
    /// Bytes that come together. 0: 4 MiB.
    pub batch_bytes_max: u32,
    /// Feeds of one partition that may be here and not pulled. 0: 2.
    pub max_num_batches: usize,
    /// Indices of the partitions to read. NULL: all, those too that are added later.
    pub targets: *const usize,
    /// How many there are.
    pub target_count: usize,
    /// Which events are wanted: an event pattern, JSON, that their metadata has to match. NULL: all.
    pub filter: *const c_char,
    /// Which data is wanted: `MOFKA_DATA_...`.
    pub data: i32,
    /// Where to begin in each partition: `MOFKA_START_...`.
    pub start: i32,
    /// Its value, where it needs one.
    pub start_value: u64,
    /// For `MOFKA_DATA_VIEWS`: a JSON array of views, each of what the one before leaves, as `[{"sub": {"offset": 0, "bytes": 64}}]`,
    /// `{"strided": {"offset": 0, "block_count": 8, "block_bytes": 4, "gap_bytes": 4}}`,
    /// `{"unstructured": [{"offset": 0, "bytes": 4}, {"offset": 8, "bytes": 4}]}`.
    pub data_views: *const c_char,
    /// For `MOFKA_DATA_SELECTOR`.
    pub data_selector: mofka_data_selector,
    /// For the selector.
    pub data_selector_context: *mut c_void,
    /// Where data is placed. NULL: in memory of the library.
    pub data_allocator: mofka_data_allocator,
    /// For the allocator.
    pub data_allocator_context: *mut c_void,
    /// What is told which partitions this consumer reads, as that changes. NULL: nothing.
    pub on_assignment: mofka_on_assignment,
    /// For it.
    pub on_assignment_context: *mut c_void,
    /// Called once, when none of these functions will be called any more, also when there is no consumer in the end. NULL:
    /// their contexts stay for ever. That may be a moment after the consumer was freed, on a thread of the library.
    pub release: mofka_release,
    /// For `release`.
    pub release_context: *mut c_void,
    /// Bytes of one event's data that are taken into memory; an event with more that is selected fails its own pull. 0: 1 GiB.
    pub data_bytes_max: u64,
    /// Where selectors and allocators run and data is fetched. NULL: a thread of the consumer's own. It may be freed right after.
    pub thread_pool: *const mofka_thread_pool,
}

/// What a consumer has done so far.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mofka_consumer_stats {
    /// `sizeof(mofka_consumer_stats)`; set it before the call.
    pub size: usize,
    /// Events that were handed to pulls, or failed in their place.
    pub events: u64,
    /// Feeds that came.
    pub feeds: u64,
    /// Bytes of these feeds.
    pub feed_bytes: u64,
    /// Requests for data.
    pub fetches: u64,
    /// Bytes of the answers to these.
    pub fetched_bytes: u64,
    /// Events that it will never get, because retention dropped them before they were sent.
    pub missed: u64,
}

/// How `mofka_consumer_process` works.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mofka_process_options {
    /// `sizeof(mofka_process_options)`
    pub size: usize,
    /// How long it waits for an event before it hands over that there was none. 0: 5000. Negative: as long as it takes.
    pub timeout_ms: i64,
    /// It ends when it has handed over so many results, those without an event included. 0: no bound.
    pub max_events: u64,
    /// Where the function is called, by all threads, without order. NULL: by the calling thread, in the order of the events.
    pub thread_pool: *const mofka_thread_pool,
}

/// What `mofka_consumer_process` did.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mofka_process_report {
    /// `sizeof(mofka_process_report)`; set it before the call.
    pub size: usize,
    /// Results that were handed over.
    pub handed_over: u64,
    /// Those of them that were events.
    pub events: u64,
    /// Calls that failed.
    pub failed: u64,
    /// Why it ended: `MOFKA_PROCESS_...`.
    pub end: i32,
    /// 0.
    pub reserved: u32,
}

/// What events are handed to.
///
/// `status` is `MOFKA_OK` with an event, which belongs to the library: `mofka_event_clone` keeps it. Without one it is NULL, and
/// `status` is `MOFKA_TIMEOUT`, or the error of a pull, told by `mofka_last_error_message`. It returns 0 to go on, a positive number
/// to stop, and a negative one when it failed, which is counted, with what it said by `mofka_callback_fail`. It must not throw or
/// jump out.
pub type mofka_event_processor = Option<
    unsafe extern "C" fn(context: *mut c_void, status: mofka_status, event: *const mofka_event) -> i32,
>;

// The sizes of the first version.
versioned! {
    mofka_consumer_options: 152,
    mofka_consumer_stats: 56,
    mofka_process_options: 32,
    mofka_process_report: 40,
}

impl mofka_consumer_options {
    /// # Safety
    /// The pointers are null or lead to what the fields' comments say.
    unsafe fn get(&self, lease: &Arc<Lease>) -> Result<ConsumerOptions, Failure> {
        let defaults = ConsumerOptions::default();
        // SAFETY: as the caller says.
        let targets = unsafe { array_of(self.targets, self.target_count, "targets") }?;
        Ok(ConsumerOptions {
            batch_size: batch_size(self.batch_size),
            max_num_batches: match self.max_num_batches {
                0 => defaults.max_num_batches,
                count => count,
            },
            batch_bytes_max: match self.batch_bytes_max {
                0 => defaults.batch_bytes_max,
                bytes => bytes,
            },
            targets: targets.to_vec(),
            // SAFETY: as the caller says.
            filter: unsafe { optional_json(self.filter, "filter") }?,
            data_selector: match self.data {
                MOFKA_DATA_NONE => DataSelector::none(),
                MOFKA_DATA_ALL => DataSelector::all(),
                // SAFETY: as the caller says.
                MOFKA_DATA_VIEWS => DataSelector::views(unsafe { recipe(self.data_views, "data_views") }?),
                MOFKA_DATA_SELECTOR => {
                    callbacks::selector(self.data_selector, Given::new(self.data_selector_context, lease))?
                }
                other => {
                    return Err(Failure::argument(format!(
                        "data is {other}, which has no meaning"
                    )));
                }
            },
            data_bytes_max: match self.data_bytes_max {
                0 => defaults.data_bytes_max,
                bytes => bytes,
            },
            data_allocator: callbacks::allocator(
                self.data_allocator,
                Given::new(self.data_allocator_context, lease),
            ),
            on_assignment: callbacks::on_assignment(
                self.on_assignment,
                Given::new(self.on_assignment_context, lease),
            ),
            // SAFETY: as the caller says.
            thread_pool: unsafe { thread_pool(self.thread_pool) },
            start: start(self.start, self.start_value)?,
        })
    }
}

/// Makes a consumer and subscribes it.
///
/// `name`: 1 to 200 bytes; what it acknowledges is kept under it. `options`: NULL for the defaults: all partitions, no data,
/// from the cursor on. It does not need the topic's handle any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mofka_consumer_create(
    topic: Option<&mofka_topic>,
    name: *const c_char,
    options: *const mofka_consumer_options,
    consumer: Option<&mut MaybeUninit<*mut mofka_consumer>>,
) -> mofka_status {
    complete(|| {
        // SAFETY: null, or options that say their size, as the caller promises.
        let options: mofka_consumer_options = unsafe { options_of(options) }?;
        // First: it is released by every way out.
        let lease = Lease::new(options.release, options.release_context);
        let consumer = handle_place(consumer, "consumer")?;
        // SAFETY: null, or a text, as the caller promises.
        let name = unsafe { text(name, "name") }?;
        // SAFETY: the caller promises what the fields' comments say.
        let options = unsafe { options.get(&lease) }?;
        let made = mofka_consumer {
            consumer: topic_of(topic)?.consumer(name, options)?,
            owner: Owner::here(),
            name: c_text(name),
        };
        give(consumer, made);
        Ok(())
    })
}

/// Its name; NULL for NULL. Valid as long as the handle.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_consumer_name(consumer: Option<&mofka_consumer>) -> *const c_char {
    consumer.map_or(std::ptr::null(), |consumer| consumer.name.as_ptr())
}

/// Asks for the next event: `future` gets what will give it. Pulls get events in the order in which they were made. One that is
/// freed leaves its event to the next.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_consumer_pull(
    consumer: Option<&mofka_consumer>,
    future: Option<&mut MaybeUninit<*mut mofka_event_future>>,
) -> mofka_status {
    complete(|| {
        let future = handle_place(future, "future")?;
        let (consumer, owner) = owned_consumer(consumer)?;
        give(future, mofka_event_future(consumer.pull(), owner));
        Ok(())
    })
}

/// Pulls the next event and waits for it, as `mofka_event_future_wait`. After a timeout nothing is lost: the next call gets it.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_consumer_next(
    consumer: Option<&mofka_consumer>,
    timeout_ms: i64,
    event: Option<&mut MaybeUninit<*mut mofka_event>>,
) -> mofka_status {
    guard(|| {
        let place = handle_place(event, "event")?;
        let (consumer, owner) = owned_consumer(consumer)?;
        Ok(give_pulled(consumer.pull().wait_ms(timeout_ms)?, owner, place))
    })
}

/// Pulls events and hands each to `processor(context, ...)`, until that says to stop, or the topic is complete and all of it was
/// pulled, or `max_events` were handed over. All that was pulled is handed over, once, before this returns. Nothing is
/// acknowledged unless the function does it.
///
/// `options`: NULL for the defaults. `report`, with its size set, and `first_failure`, why the first call failed that did (NULL
/// when none did), may be NULL. The text is yours: `mofka_string_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mofka_consumer_process(
    consumer: Option<&mofka_consumer>,
    processor: mofka_event_processor,
    context: *mut c_void,
    options: *const mofka_process_options,
    report: *mut mofka_process_report,
    first_failure: Option<&mut MaybeUninit<*mut c_char>>,
) -> mofka_status {
    complete(|| {
        let first_failure = first_failure
            .map(|text| handle_place(Some(text), "first_failure"))
            .transpose()?;
        let processor = processor.ok_or_else(|| Failure::null("processor"))?;
        // SAFETY: null, or options that say their size, as the caller promises.
        let options: mofka_process_options = unsafe { options_of(options) }?;
        let options = ProcessOptions {
            timeout: match options.timeout_ms {
                0 => ProcessOptions::default().timeout,
                ms => u64::try_from(ms).ok().map(Duration::from_millis),
            },
            max_events: (options.max_events > 0).then_some(options.max_events),
            // SAFETY: the caller promises what the field's comment says.
            thread_pool: unsafe { thread_pool(options.thread_pool) },
        };
        let given = Given::new(context, &Lease::new(None, std::ptr::null_mut()));
        let (consumer, owner) = owned_consumer(consumer)?;
        let hand_over = move |pulled: Result<Option<Event>, PullError>| {
            let (status, event) = match pulled {
                Ok(Some(event)) => (MOFKA_OK, Some(mofka_event(event, owner))),
                Ok(None) => (MOFKA_TIMEOUT, None),
                Err(error) => (note(error.into()), None),
            };
            let event: *const mofka_event = event.as_ref().map_or(std::ptr::null(), |event| event);
            callbacks::begin();
            // SAFETY: a function and its context, as they were given together; all calls end before `process` returns.
            let returned = unsafe { processor(given.context(), status, event) };
            match returned {
                1.. => Ok(ControlFlow::Break(())),
                other => callbacks::outcome(other)
                    .map(|()| ControlFlow::Continue(()))
                    .map_err(Into::into),
            }
        };
        let done = consumer.process(hand_over, &options)?;
        let end = match done.end {
            ProcessEnd::Stopped => MOFKA_PROCESS_STOPPED,
            ProcessEnd::Counted => MOFKA_PROCESS_COUNTED,
            ProcessEnd::NoMoreEvents => MOFKA_PROCESS_NO_MORE_EVENTS,
            ProcessEnd::Failed(error) => {
                note(error.into());
                MOFKA_PROCESS_FAILED
            }
            _ => MOFKA_PROCESS_FAILED,
        };
        if !report.is_null() {
            let told = mofka_process_report {
                size: 0,
                handed_over: done.handed_over,
                events: done.events,
                failed: done.failed,
                end,
                reserved: 0,
            };
            // SAFETY: a report that says its size, as the caller promises.
            unsafe { answer(report, told) }?;
        }
        if let (Some(place), Some(failure)) = (first_failure, done.first_failure) {
            give_text(place, failure.reason.to_string());
        }
        Ok(())
    })
}

/// Indices of the partitions that it reads now, ascending: as many as there is room for. Consumers of its name that come and go
/// change it.
///
/// `partition_count`: gets how many there are, which may be more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mofka_consumer_partitions(
    consumer: Option<&mofka_consumer>,
    partitions: *mut usize,
    room_count: usize,
    partition_count: Option<&mut MaybeUninit<usize>>,
) -> mofka_status {
    complete(|| {
        let count = place(partition_count, "partition_count")?;
        // SAFETY: room for so many indices, as the caller promises.
        let room = unsafe { room_of(partitions, room_count, "partitions") }?;
        fill(room, consumer_of(consumer)?.partitions(), count);
        Ok(())
    })
}

/// Goes on elsewhere in one partition, at once; what was not pulled yet is dropped. The cursor stays where it is until something is
/// acknowledged, and does not go back for that: `mofka_topic_seek` moves it.
///
/// `to` and `value`: `MOFKA_START_...`.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_consumer_seek(
    consumer: Option<&mofka_consumer>,
    partition: usize,
    to: i32,
    value: u64,
) -> mofka_status {
    complete(|| Ok(consumer_of(consumer)?.seek(partition, start(to, value)?)?))
}

/// What it has done so far. `stats` with its size set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mofka_consumer_get_stats(
    consumer: Option<&mofka_consumer>,
    stats: *mut mofka_consumer_stats,
) -> mofka_status {
    complete(|| {
        let found = consumer_of(consumer)?.stats();
        let told = mofka_consumer_stats {
            size: 0,
            events: found.events,
            feeds: found.feeds,
            feed_bytes: found.feed_bytes,
            fetches: found.fetches,
            fetched_bytes: found.fetched_bytes,
            missed: found.missed,
        };
        // SAFETY: stats that say their size, as the caller promises.
        unsafe { answer(stats, told) }
    })
}

/// Unsubscribes. Pulls fail from now on; events that were not pulled come again to the next consumer of this name. Waits a second at
/// most for nodes that do not answer.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_consumer_close(consumer: Option<&mofka_consumer>) -> mofka_status {
    complete(|| {
        consumer_of(consumer)?.close();
        Ok(())
    })
}

/// Frees the handle, and unsubscribes. Events stay usable.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_consumer_free(consumer: Option<Box<mofka_consumer>>) {
    free(consumer);
}
