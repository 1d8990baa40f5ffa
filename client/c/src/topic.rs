//! Topics.

use std::ffi::{CString, c_char};
use std::mem::MaybeUninit;

use mofka_client::{PartitionInfo, TopicHandle};

use crate::border::{free, give, give_json, handle_place, needed, optional_json, options_of, text};
use crate::driver::{driver_of, mofka_driver};
use crate::fork::Owner;
use crate::options::{mofka_topic_options, start};
use crate::status::{Failure, MOFKA_ERROR_NO_PARTITION, c_text, complete, mofka_status, quietly};

/// A topic that was opened. The list of its partitions is that of this moment, until `mofka_topic_refresh`.
pub struct mofka_topic {
    pub(crate) handle: TopicHandle,
    pub(crate) owner: Owner,
    name: CString,
}

impl mofka_topic {
    fn new(handle: TopicHandle, owner: Owner) -> Self {
        let name = c_text(handle.name());
        Self { handle, owner, name }
    }
}

/// The topic, in the process that opened it.
pub(crate) fn topic_of(topic: Option<&mofka_topic>) -> Result<&TopicHandle, Failure> {
    let topic = needed(topic, "topic")?;
    topic.owner.check()?;
    Ok(&topic.handle)
}

/// A partition, as of when the topic was opened or refreshed.
pub(crate) fn partition_of(topic: Option<&mofka_topic>, partition: usize) -> Result<PartitionInfo, Failure> {
    let info = topic_of(topic)?.info();
    info.partitions.get(partition).cloned().ok_or_else(|| {
        let count = info.partitions.len();
        Failure::new(
            MOFKA_ERROR_NO_PARTITION,
            format!(
                "topic \"{}\" has {count} partitions, and none with index {partition}",
                info.name
            ),
        )
    })
}

/// Creates a topic.
///
/// `name`: letters, digits and `._-`, 1 to 200 of them. `options`: NULL for the defaults: synced, one partition, in a log. `topic`:
/// gets the handle of it; may be NULL.
///
/// `MOFKA_ERROR_TOPIC_EXISTS` when there is one; `MOFKA_ERROR_INVALID_ARGUMENT` when a component's document makes no sense. Nothing
/// is created then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mofka_topic_create(
    driver: Option<&mofka_driver>,
    name: *const c_char,
    options: *const mofka_topic_options,
    topic: Option<&mut MaybeUninit<*mut mofka_topic>>,
) -> mofka_status {
    complete(|| {
        let topic = topic
            .map(|topic| handle_place(Some(topic), "topic"))
            .transpose()?;
        // SAFETY: null, or a text, as the caller promises.
        let name = unsafe { text(name, "name") }?;
        // SAFETY: null, or options that say their size, as the caller promises.
        let options = unsafe { options_of(options) }?;
        // SAFETY: the caller promises what the fields' comments say.
        let options = unsafe { options.get(name) }?;
        let created = driver_of(driver)?.create_topic(options)?;
        if let Some(topic) = topic {
            give(topic, mofka_topic::new(created, Owner::here()));
        }
        Ok(())
    })
}

/// Opens a topic. `MOFKA_ERROR_UNKNOWN_TOPIC` when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mofka_topic_open(
    driver: Option<&mofka_driver>,
    name: *const c_char,
    topic: Option<&mut MaybeUninit<*mut mofka_topic>>,
) -> mofka_status {
    complete(|| {
        let topic = handle_place(topic, "topic")?;
        // SAFETY: null, or a text, as the caller promises.
        let name = unsafe { text(name, "name") }?;
        let opened = driver_of(driver)?.open_topic(name)?;
        give(topic, mofka_topic::new(opened, Owner::here()));
        Ok(())
    })
}

/// Its name; NULL for NULL. Valid as long as the handle.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_topic_name(topic: Option<&mofka_topic>) -> *const c_char {
    topic.map_or(std::ptr::null(), |topic| topic.name.as_ptr())
}

/// All about the topic, as of when it was opened or refreshed: a JSON object, with an array `partitions`. The text is yours:
/// `mofka_string_free`.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_topic_info(
    topic: Option<&mofka_topic>,
    json: Option<&mut MaybeUninit<*mut c_char>>,
) -> mofka_status {
    complete(|| {
        let json = handle_place(json, "json")?;
        give_json(json, serde_json::to_string(&*topic_of(topic)?.info()))
    })
}

/// Looks at the topic again: producers see partitions that were added. Consumers see them by themselves.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_topic_refresh(topic: Option<&mofka_topic>) -> mofka_status {
    complete(|| Ok(topic_of(topic)?.refresh()?))
}

/// How many partitions it has. NULL has none.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_topic_partition_count(topic: Option<&mofka_topic>) -> usize {
    quietly(0, || {
        topic_of(topic).map_or(0, |topic| topic.info().partitions.len())
    })
}

/// A partition and where it is: a JSON object with `id`, `index`, `type`, `rank`, `shard` and `addresses`. The text is yours:
/// `mofka_string_free`.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_topic_partition_info(
    topic: Option<&mofka_topic>,
    partition: usize,
    json: Option<&mut MaybeUninit<*mut c_char>>,
) -> mofka_status {
    complete(|| {
        let json = handle_place(json, "json")?;
        give_json(json, serde_json::to_string(&partition_of(topic, partition)?))
    })
}

/// The state of a partition, asked of its node: a JSON object. The text is yours: `mofka_string_free`.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_topic_partition_status(
    topic: Option<&mofka_topic>,
    partition: usize,
    json: Option<&mut MaybeUninit<*mut c_char>>,
) -> mofka_status {
    complete(|| {
        let json = handle_place(json, "json")?;
        let status = topic_of(topic)?.partition_status(partition)?;
        give_json(json, serde_json::to_string(&status))
    })
}

/// Marks the topic complete, durably, or one of its partitions: it takes no more events, and consumers learn when they have all.
///
/// `partition`: its index; negative: all of the topic.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_topic_mark_complete(topic: Option<&mofka_topic>, partition: i64) -> mofka_status {
    complete(|| {
        let topic = topic_of(topic)?;
        match usize::try_from(partition) {
            Ok(partition) => topic.mark_partition_complete(partition)?,
            Err(_) => topic.mark_complete()?,
        }
        Ok(())
    })
}

/// Says anew what of the topic's events may go, in place of all that was said before. JSON; NULL: nothing may.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mofka_topic_set_retention(
    topic: Option<&mofka_topic>,
    retention: *const c_char,
) -> mofka_status {
    complete(|| {
        // SAFETY: null, or a text, as the caller promises.
        let retention = unsafe { optional_json(retention, "retention") }?;
        let retention = retention.map(serde_json::from_value).transpose();
        let retention = retention.map_err(|error| Failure::argument(format!("retention: {error}")))?;
        Ok(topic_of(topic)?.set_retention(retention.unwrap_or_default())?)
    })
}

/// Returns when all that any producer was acknowledged before is durable, whatever the topic's durability is.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_topic_sync(topic: Option<&mofka_topic>) -> mofka_status {
    complete(|| Ok(topic_of(topic)?.sync()?))
}

/// Moves a consumer's cursor in one partition, durably, also backwards. Consumers that are at work go on where they are.
///
/// `to` and `value`: `MOFKA_START_...`, but for the cursor itself. `next_event_id`: gets the next event that it will get; may be
/// NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mofka_topic_seek(
    topic: Option<&mofka_topic>,
    consumer: *const c_char,
    partition: usize,
    to: i32,
    value: u64,
    next_event_id: Option<&mut MaybeUninit<u64>>,
) -> mofka_status {
    complete(|| {
        // SAFETY: null, or a text, as the caller promises.
        let consumer = unsafe { text(consumer, "consumer") }?;
        let next = topic_of(topic)?.seek(consumer, partition, start(to, value)?)?;
        if let Some(place) = next_event_id {
            place.write(next);
        }
        Ok(())
    })
}

/// Whether the topic's validator, partition selector and serializer can work in this process. Pushing fails if not, and so does
/// making a consumer.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_topic_check_components(topic: Option<&mofka_topic>) -> mofka_status {
    complete(|| Ok(topic_of(topic)?.check_components()?))
}

/// Frees the handle. Nothing happens to the topic.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_topic_free(topic: Option<Box<mofka_topic>>) {
    free(topic);
}
