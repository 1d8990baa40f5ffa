//! References to data that is stored already.

use std::ffi::c_char;
use std::mem::MaybeUninit;

use mofka_client::{Data, DataRef, ReferenceError};

use crate::border::{bytes_of, free, give, handle_place, needed, recipe};
use crate::descriptor::mofka_descriptor;
use crate::event::{event_of, mofka_event};
use crate::future::mofka_future;
use crate::producer::{mofka_producer, push};
use crate::status::{Failure, MOFKA_ERROR_INVALID_VIEW, complete, mofka_status};
use crate::topic::{mofka_topic, partition_of};

/// Data of an event that is stored, whole or in part, to be pushed as the data of another event of the same node: nothing of it is
/// copied. The node keeps what is referred to for as long as the event that refers is kept.
pub struct mofka_data_ref(DataRef);

fn failure(error: ReferenceError) -> Failure {
    Failure::new(MOFKA_ERROR_INVALID_VIEW, error.to_string())
}

/// An event's data as something that another event can refer to: what was selected of it, and all of it when nothing was.
///
/// `MOFKA_ERROR_INVALID_VIEW` when it has no data.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_event_data_ref(
    event: Option<&mofka_event>,
    reference: Option<&mut MaybeUninit<*mut mofka_data_ref>>,
) -> mofka_status {
    complete(|| {
        let reference = handle_place(reference, "reference")?;
        let (event, _) = event_of(event)?;
        give(reference, mofka_data_ref(event.data_ref().map_err(failure)?));
        Ok(())
    })
}

/// Whether an event's data is that of another event, to which it refers.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_event_is_reference(event: Option<&mofka_event>) -> bool {
    event.is_some_and(|event| event.0.is_reference())
}

/// What a descriptor selects in a partition of this topic; its location is the id of an event there that has data of its own, 8 bytes,
/// little-endian.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_data_ref_create(
    topic: Option<&mofka_topic>,
    partition: usize,
    descriptor: Option<&mofka_descriptor>,
    reference: Option<&mut MaybeUninit<*mut mofka_data_ref>>,
) -> mofka_status {
    complete(|| {
        let reference = handle_place(reference, "reference")?;
        let info = partition_of(topic, partition)?;
        let selected = needed(descriptor, "descriptor")?.0.clone();
        give(
            reference,
            mofka_data_ref(DataRef::new(&info, selected).map_err(failure)?),
        );
        Ok(())
    })
}

/// A view of a reference: `views` is JSON, as the consumer's option `data_views`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mofka_data_ref_view(
    whole: Option<&mofka_data_ref>,
    views: *const c_char,
    reference: Option<&mut MaybeUninit<*mut mofka_data_ref>>,
) -> mofka_status {
    complete(|| {
        let reference = handle_place(reference, "reference")?;
        // SAFETY: null, or a text, as the caller promises.
        let recipe = unsafe { recipe(views, "views") }?;
        let view = needed(whole, "whole")?.0.view(&recipe);
        give(reference, mofka_data_ref(view.map_err(failure)?));
        Ok(())
    })
}

/// Bytes that it selects. NULL selects none.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_data_ref_bytes(reference: Option<&mofka_data_ref>) -> u64 {
    reference.map_or(0, |reference| reference.0.bytes())
}

/// Takes an event whose data is that of another event. All else as of `mofka_producer_push`; the topic's validator sees no data. The
/// node refuses it, which the future tells, when there is no such data any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mofka_producer_push_ref(
    producer: Option<&mofka_producer>,
    metadata: *const c_char,
    metadata_bytes: usize,
    reference: Option<&mofka_data_ref>,
    partition: i64,
    future: Option<&mut MaybeUninit<*mut mofka_future>>,
) -> mofka_status {
    complete(|| {
        let future = future
            .map(|future| handle_place(Some(future), "future"))
            .transpose()?;
        // SAFETY: so many bytes, as the caller promises.
        let metadata = unsafe { bytes_of(metadata.cast(), metadata_bytes, "metadata") }?;
        let data = Data::from(&needed(reference, "reference")?.0);
        push(producer, metadata, data, partition, future)
    })
}

/// Frees the handle. What is referred to by events stays.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_data_ref_free(reference: Option<Box<mofka_data_ref>>) {
    free(reference);
}
