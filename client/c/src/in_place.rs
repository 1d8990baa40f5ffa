//! Events whose data is filled where the node reads it.

use std::ffi::{c_char, c_void};
use std::mem::MaybeUninit;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use mofka_client::{InPlace, Metadata};

use crate::border::{bytes_of, free, give, handle_place, needed};
use crate::fork::Owner;
use crate::future::{Future, mofka_future};
use crate::producer::{mofka_producer, owned_producer, partition};
use crate::status::{Failure, MOFKA_ERROR_CLOSED, complete, mofka_status, quietly};

/// Room for the data of one event, which is filled there and then becomes the event. It lies in memory that the node shares, if there
/// is any for it, and else in memory of this process; either begins at a multiple of 4096.
///
/// Shared memory is scarce: at most half of the ring (`ring_bytes`), and half as many claims as it has slots, of all producers that talk
/// to the same shard. A claim has its part of it until it is freed or, once committed, its event was acknowledged or failed for good.
pub struct mofka_in_place {
    /// None when it is committed.
    claim: Mutex<Option<InPlace>>,
    owner: Owner,
}

impl mofka_in_place {
    fn lock(&self) -> MutexGuard<'_, Option<InPlace>> {
        // A panic of this library was told to who caused it; what is inside is whole.
        self.claim.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn committed() -> Failure {
    Failure::new(
        MOFKA_ERROR_CLOSED,
        "this room is used up: its event was committed, or refused then; claim some for another one",
    )
}

/// Does something with room that is there, in the process that claimed it.
fn with<T>(
    in_place: Option<&mofka_in_place>,
    act: impl FnOnce(&mut InPlace) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let in_place = needed(in_place, "in_place")?;
    in_place.owner.check()?;
    act(in_place.lock().as_mut().ok_or_else(committed)?)
}

/// The same where nothing is told of what is wrong.
fn look<T>(in_place: Option<&mofka_in_place>, otherwise: T, act: impl FnOnce(&mut InPlace) -> T) -> T {
    let looked = quietly(None, || with(in_place, |claim| Ok(act(claim))).ok());
    looked.unwrap_or(otherwise)
}

/// Claims room for the data of an event, `data_bytes` bytes; none is an event without data. Its owner fills it
/// (`mofka_in_place_data`, `mofka_in_place_write`) and commits it (`mofka_in_place_commit`): it has its place there among the events that
/// are pushed, as a batch of its own.
///
/// `metadata` and `partition` as of `mofka_producer_push`; the topic's validator sees no data. Connects to the partition's node if
/// nothing did so yet. `MOFKA_ERROR_TOO_LARGE` when the node takes no such event.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mofka_producer_claim(
    producer: Option<&mofka_producer>,
    metadata: *const c_char,
    metadata_bytes: usize,
    data_bytes: usize,
    partition: i64,
    in_place: Option<&mut MaybeUninit<*mut mofka_in_place>>,
) -> mofka_status {
    complete(|| {
        let in_place = handle_place(in_place, "in_place")?;
        // SAFETY: so many bytes, as the caller promises.
        let metadata = match unsafe { bytes_of(metadata.cast(), metadata_bytes, "metadata") }? {
            [] => Metadata::default(),
            text => Metadata::from(Bytes::copy_from_slice(text)),
        };
        let (producer, owner) = owned_producer(producer)?;
        let claim = producer.claim(metadata, data_bytes, self::partition(partition))?;
        let made = mofka_in_place {
            claim: Mutex::new(Some(claim)),
            owner,
        };
        give(in_place, made);
        Ok(())
    })
}

/// The first byte, to be written by whatever fills memory, devices too. Good for `mofka_in_place_bytes` bytes, until it is committed or
/// freed: all that is written through it has to be there before, since what is written later makes the node refuse the event, or is
/// not in it. What is there at first may be left over from earlier events of this process.
///
/// NULL for NULL, in a forked child, and when it is committed.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_in_place_data(in_place: Option<&mofka_in_place>) -> *mut c_void {
    look(in_place, std::ptr::null_mut(), |claim| claim.as_mut_ptr().cast())
}

/// Bytes of data that the event will have. 0 for NULL, in a forked child, and when it is committed.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_in_place_bytes(in_place: Option<&mofka_in_place>) -> usize {
    look(in_place, 0, |claim| claim.bytes())
}

/// Whether it lies in memory that the node shares, so that nothing has to be copied to it. false for NULL, in a forked child, and when it is
/// committed.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_in_place_is_shared(in_place: Option<&mofka_in_place>) -> bool {
    look(in_place, false, |claim| claim.is_shared())
}

/// Copies bytes into it, from byte `offset` of the data on. Bytes that come one after the other from the first on are looked at while
/// they are in the processor's caches; all others are read again when it is committed, and so is everything when
/// `mofka_in_place_data` was asked for its place.
///
/// `MOFKA_ERROR_INVALID_ARGUMENT` when they do not lie within; nothing is written then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mofka_in_place_write(
    in_place: Option<&mofka_in_place>,
    offset: usize,
    start: *const c_void,
    bytes: usize,
) -> mofka_status {
    complete(|| {
        // SAFETY: so many bytes, as the caller promises.
        let bytes = unsafe { bytes_of(start, bytes, "start") }?;
        with(in_place, |claim| Ok(claim.write(offset, bytes)?))
    })
}

/// Makes it shorter: the event has only the first `bytes` bytes. What lies behind them stays taken until the event is done with.
///
/// `MOFKA_ERROR_INVALID_ARGUMENT` when it would become longer.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_in_place_shorten(in_place: Option<&mofka_in_place>, bytes: usize) -> mofka_status {
    complete(|| with(in_place, |claim| Ok(claim.shorten(bytes)?)))
}

/// Pushes the event, behind all that was pushed before. `future`: gets what will become the event's id, as of `mofka_producer_push`; NULL
/// when nobody will ask.
///
/// Blocks while the partition has as many batches as `max_num_batches` allows. The claim is used up, also by an error, which means that
/// nothing was queued: its handle is good for nothing but `mofka_in_place_free` from then on. `MOFKA_ERROR_CLOSED` when it was
/// committed before, or its producer is closed or freed. (An argument that is NULL, and a forked child, leave it as it is.)
#[unsafe(no_mangle)]
pub extern "C" fn mofka_in_place_commit(
    in_place: Option<&mofka_in_place>,
    future: Option<&mut MaybeUninit<*mut mofka_future>>,
) -> mofka_status {
    complete(|| {
        let future = future
            .map(|future| handle_place(Some(future), "future"))
            .transpose()?;
        let in_place = needed(in_place, "in_place")?;
        in_place.owner.check()?;
        let taken = in_place.lock().take();
        let pushed = taken.ok_or_else(committed)?.commit()?;
        if let Some(future) = future {
            give(future, mofka_future(Future::Push(pushed), in_place.owner));
        }
        Ok(())
    })
}

/// Frees the handle. What was not committed is as if it had never been, and its room is free for other claims.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_in_place_free(in_place: Option<Box<mofka_in_place>>) {
    free(in_place);
}
