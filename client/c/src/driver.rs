//! The way to the nodes, and administration.

use std::ffi::c_char;
use std::mem::MaybeUninit;

use mofka_client::Driver;

use crate::border::{free, give, give_json, handle_place, needed, optional_text, options_of, place, text};
use crate::fork::Owner;
use crate::options::{mofka_driver_options, mofka_partition_options};
use crate::status::{Failure, complete, mofka_status, quietly};

/// The way to the nodes. Everything made from it shares its connections, and may outlive the handle.
pub struct mofka_driver(pub(crate) Driver, pub(crate) Owner);

/// The driver, in the process that made it.
pub(crate) fn driver_of(driver: Option<&mofka_driver>) -> Result<&Driver, Failure> {
    let driver = needed(driver, "driver")?;
    driver.1.check()?;
    Ok(&driver.0)
}

/// The version of this library, as text: `0.1.0`. Valid for ever.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Reads the group file that the nodes write (`mofka.json`), and connects to the first node that answers. It is not waited for
/// one to come.
///
/// `group_file`: NULL when the options have addresses instead. `options`: NULL for the defaults.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mofka_driver_connect(
    group_file: *const c_char,
    options: *const mofka_driver_options,
    driver: Option<&mut MaybeUninit<*mut mofka_driver>>,
) -> mofka_status {
    complete(|| {
        let driver = handle_place(driver, "driver")?;
        // SAFETY: null, or a text, as the caller promises.
        let group_file = unsafe { optional_text(group_file, "group_file") }?;
        // SAFETY: null, or options that say their size, as the caller promises.
        let options = unsafe { options_of(options) }?;
        // SAFETY: the caller promises what the fields' comments say.
        let options = unsafe { options.get(group_file) }?;
        // Before there are threads that a fork could leave behind.
        let owner = Owner::here();
        give(driver, mofka_driver(Driver::connect(options)?, owner));
        Ok(())
    })
}

/// How many nodes there are. NULL has none, and so has a driver in a forked child.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_driver_node_count(driver: Option<&mofka_driver>) -> usize {
    quietly(0, || driver_of(driver).map_or(0, Driver::num_servers))
}

/// Whether there is a topic of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mofka_driver_topic_exists(
    driver: Option<&mofka_driver>,
    name: *const c_char,
    exists: Option<&mut MaybeUninit<bool>>,
) -> mofka_status {
    complete(|| {
        let exists = place(exists, "exists")?;
        // SAFETY: null, or a text, as the caller promises.
        let name = unsafe { text(name, "name") }?;
        exists.write(driver_of(driver)?.topic_exists(name)?);
        Ok(())
    })
}

/// All topics by name: a JSON array of objects with `name`, `num_partitions`, `durability`, `complete`, and the documents
/// `validator`, `partition_selector` and `serializer`. The text is yours: `mofka_string_free`.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_driver_list_topics(
    driver: Option<&mofka_driver>,
    json: Option<&mut MaybeUninit<*mut c_char>>,
) -> mofka_status {
    complete(|| {
        let json = handle_place(json, "json")?;
        give_json(json, serde_json::to_string(&driver_of(driver)?.list_topics()?))
    })
}

/// Deletes a topic with all of its events and cursors. `MOFKA_ERROR_REFUSED`, with reason `referenced`, when events of other topics
/// refer to data of its events, unless `force` is set: their data cannot be had any more then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mofka_driver_delete_topic(
    driver: Option<&mofka_driver>,
    name: *const c_char,
    force: bool,
) -> mofka_status {
    complete(|| {
        // SAFETY: null, or a text, as the caller promises.
        let name = unsafe { text(name, "name") }?;
        let driver = driver_of(driver)?;
        match force {
            true => driver.delete_topic_by_force(name)?,
            false => driver.delete_topic(name)?,
        }
        Ok(())
    })
}

/// Adds a partition to a topic. Topic handles see it after `mofka_topic_refresh`.
///
/// `options`: NULL for the defaults. `json`: gets the partition's description, as `mofka_topic_partition_info`; may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mofka_driver_add_partition(
    driver: Option<&mofka_driver>,
    topic: *const c_char,
    options: *const mofka_partition_options,
    json: Option<&mut MaybeUninit<*mut c_char>>,
) -> mofka_status {
    complete(|| {
        let json = json.map(|json| handle_place(Some(json), "json")).transpose()?;
        // SAFETY: null, or a text, as the caller promises.
        let topic = unsafe { text(topic, "topic") }?;
        // SAFETY: null, or options that say their size, as the caller promises.
        let options = unsafe { options_of(options) }?;
        // SAFETY: the caller promises what the fields' comments say.
        let options = unsafe { options.get() }?;
        let added = driver_of(driver)?.add_partition(topic, options)?;
        json.map_or(Ok(()), |json| give_json(json, serde_json::to_string(&added)))
    })
}

/// The consumers of a topic, with their cursors: a JSON array. The text is yours: `mofka_string_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mofka_driver_list_consumers(
    driver: Option<&mofka_driver>,
    topic: *const c_char,
    json: Option<&mut MaybeUninit<*mut c_char>>,
) -> mofka_status {
    complete(|| {
        let json = handle_place(json, "json")?;
        // SAFETY: null, or a text, as the caller promises.
        let topic = unsafe { text(topic, "topic") }?;
        give_json(
            json,
            serde_json::to_string(&driver_of(driver)?.list_consumers(topic)?),
        )
    })
}

/// The state of a node: a JSON object. It is not looked for when it is lost. The text is yours: `mofka_string_free`.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_driver_node_status(
    driver: Option<&mofka_driver>,
    rank: usize,
    json: Option<&mut MaybeUninit<*mut c_char>>,
) -> mofka_status {
    complete(|| {
        let json = handle_place(json, "json")?;
        give_json(
            json,
            serde_json::to_string(&driver_of(driver)?.node_status(rank)?),
        )
    })
}

/// Asks a node to finish what it accepted and to stop.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_driver_shutdown_node(driver: Option<&mofka_driver>, rank: usize) -> mofka_status {
    complete(|| Ok(driver_of(driver)?.shutdown_node(rank)?))
}

/// Frees the handle. The connections end with the last handle that was made from it.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_driver_free(driver: Option<Box<mofka_driver>>) {
    free(driver);
}
