//! Functions of the application that say which data is wanted, and where it is placed.

use std::cell::RefCell;
use std::ffi::{c_char, c_void};
use std::sync::Arc;

use mofka_client::{AssignmentChange, DataAllocator, DataDescriptor, DataSelector, Metadata, OnAssignment};

use crate::border::{check_bytes, optional_text};
use crate::data::{Lease, mofka_release};
use crate::descriptor::mofka_descriptor;
use crate::status::{Failure, complete, mofka_status, quietly};

/// Says which data of an event is wanted.
///
/// It gets the event's metadata, JSON text of `metadata_bytes` bytes, and the descriptor of all of its data, both valid during the
/// call. It puts a new descriptor, a clone or a view of that, into `selected`, which then belongs to the library; when it leaves
/// the NULL that is there, nothing is wanted. It returns 0; anything else fails the pull of this event, with what it said by
/// `mofka_callback_fail`. It must not throw or jump out.
///
/// Called on a thread of the consumer, or of its pool, in the order of the events of a partition; in a pool, for several
/// partitions at once.
pub type mofka_data_selector = Option<
    unsafe extern "C" fn(
        context: *mut c_void,
        metadata: *const c_char,
        metadata_bytes: usize,
        whole: *const mofka_descriptor,
        selected: *mut *mut mofka_descriptor,
    ) -> i32,
>;

/// Says where the selected data of an event is placed.
///
/// It gets the metadata and the selected descriptor, and adds memory to `allocation` whose sizes add up to
/// `mofka_descriptor_bytes(selected)`. It is also called when nothing is selected. Returns, errors and threads as those of a
/// selector.
pub type mofka_data_allocator = Option<
    unsafe extern "C" fn(
        context: *mut c_void,
        metadata: *const c_char,
        metadata_bytes: usize,
        selected: *const mofka_descriptor,
        allocation: *mut mofka_allocation,
    ) -> i32,
>;

/// The consumer reads these partitions from now on. None of their events was handed over yet.
pub const MOFKA_ASSIGNED: i32 = 1;
/// It reads these no more. What is acknowledged before the call returns counts: the next one that reads the partition begins
/// behind it.
pub const MOFKA_WITHDRAWN: i32 = 2;
/// It reads these no more, and another consumer does already, because the node took this one for gone.
pub const MOFKA_LOST: i32 = 3;

/// Is told which partitions a consumer reads, for applications that keep something for each: `change` is `MOFKA_ASSIGNED`,
/// `MOFKA_WITHDRAWN` or `MOFKA_LOST`, and `partitions` has `partition_count` indices, ascending, at least one.
///
/// Called by one thread at a time: for the first partitions by the one that makes the consumer, later by a thread of the library. It
/// may acknowledge events. It should not take longer than some seconds: a consumer whose call takes four heartbeats of the node (40 s
/// by default) is taken for gone. It must not throw or jump out.
pub type mofka_on_assignment = Option<
    unsafe extern "C" fn(context: *mut c_void, change: i32, partitions: *const usize, partition_count: usize),
>;

/// The memory that an allocator gives for one event.
pub struct mofka_allocation {
    segments: Vec<(*mut u8, usize)>,
    lease: Option<Arc<Lease>>,
}

thread_local! {
    static SAID: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Says why a callback fails, before it returns anything but 0. UTF-8 text, copied.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mofka_callback_fail(reason: *const c_char) {
    quietly((), || {
        // SAFETY: null, or a text, as the caller promises.
        let reason = unsafe { optional_text(reason, "reason") };
        let text = reason.ok().flatten().map(str::to_owned);
        SAID.try_with(|said| said.replace(text)).ok();
    });
}

/// What a callback said that returned this.
pub(crate) fn outcome(returned: i32) -> Result<(), String> {
    let said = SAID.try_with(|said| said.take()).ok().flatten();
    match returned {
        0 => Ok(()),
        other => Err(said.unwrap_or_else(|| format!("it returned {other}"))),
    }
}

/// Forgets what an earlier callback said in this thread.
pub(crate) fn begin() {
    SAID.try_with(|said| said.take()).ok();
}

/// Adds memory for the event's data, after what was added before. The library writes to it until the event comes, and reads it as
/// long as there is a handle of the event; nobody else may use it before the event comes, or change it before it is released.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mofka_allocation_add(
    allocation: Option<&mut mofka_allocation>,
    start: *mut c_void,
    bytes: usize,
) -> mofka_status {
    complete(|| {
        let allocation = allocation.ok_or_else(|| Failure::null("allocation"))?;
        check_bytes(start, bytes, "start")?;
        if bytes > 0 {
            allocation.segments.push((start.cast(), bytes));
        }
        Ok(())
    })
}

/// Says who releases the memory: `release(context)` is called once, when the last handle of the event is freed, or when the event
/// does not come. Said twice, the earlier one is called at once. Without it the memory has to stay for ever.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mofka_allocation_on_release(
    allocation: Option<&mut mofka_allocation>,
    release: mofka_release,
    context: *mut c_void,
) -> mofka_status {
    complete(|| {
        let allocation = allocation.ok_or_else(|| Failure::null("allocation"))?;
        allocation.lease = Some(Lease::new(release, context));
        Ok(())
    })
}

/// What an application gives along with its functions; told when they are called no more.
#[derive(Clone)]
pub(crate) struct Given {
    context: *mut c_void,
    _lease: Arc<Lease>,
}

// SAFETY: the context is only handed to the application's functions, and the header says on which threads these are called.
unsafe impl Send for Given {}
// SAFETY: as above: in a pool they are called by several threads at once.
unsafe impl Sync for Given {}

impl Given {
    pub(crate) fn new(context: *mut c_void, lease: &Arc<Lease>) -> Self {
        Self {
            context,
            _lease: Arc::clone(lease),
        }
    }

    /// By reference, so that closures take all of it along.
    pub(crate) fn context(&self) -> *mut c_void {
        self.context
    }
}

/// The selector that calls this function.
pub(crate) fn selector(select: mofka_data_selector, given: Given) -> Result<DataSelector, Failure> {
    let select = select.ok_or_else(|| Failure::null("data_selector"))?;
    Ok(DataSelector::new(
        move |metadata: &Metadata, whole: &DataDescriptor| {
            let text = metadata.raw();
            let whole = mofka_descriptor(whole.clone());
            let mut selected = std::ptr::null_mut();
            begin();
            // SAFETY: a function and its context, as they were given together; all else lives during the call.
            let returned = unsafe {
                select(
                    given.context(),
                    text.as_ptr().cast(),
                    text.len(),
                    &raw const whole,
                    &raw mut selected,
                )
            };
            let selected = match selected.is_null() {
                true => DataDescriptor::default(),
                // SAFETY: the function gave a descriptor of this library, which it does not use any more.
                false => unsafe { Box::from_raw(selected) }.0,
            };
            outcome(returned)?;
            Ok(selected)
        },
    ))
}

/// The allocator that calls this function.
pub(crate) fn allocator(allocate: mofka_data_allocator, given: Given) -> DataAllocator {
    let Some(allocate) = allocate else {
        return DataAllocator::default();
    };
    DataAllocator::new(move |metadata: &Metadata, selected: &DataDescriptor| {
        let text = metadata.raw();
        let selected = mofka_descriptor(selected.clone());
        let mut allocation = mofka_allocation {
            segments: Vec::new(),
            lease: None,
        };
        begin();
        // SAFETY: as above.
        let returned = unsafe {
            allocate(
                given.context(),
                text.as_ptr().cast(),
                text.len(),
                &raw const selected,
                &raw mut allocation,
            )
        };
        outcome(returned)?;
        let lease = allocation.lease;
        let placed = allocation.segments.into_iter().map(|(start, bytes)| Placed {
            start,
            bytes,
            _lease: lease.clone(),
        });
        let mut placed: Vec<Placed> = placed.collect();
        if placed.is_empty()
            && let Some(lease) = lease
        {
            // Nothing is placed, and the event is released like others.
            placed.push(Placed {
                start: std::ptr::dangling_mut(),
                bytes: 0,
                _lease: Some(lease),
            });
        }
        Ok(placed)
    })
}

/// What tells this function.
pub(crate) fn on_assignment(call: mofka_on_assignment, given: Given) -> OnAssignment {
    let Some(call) = call else {
        return OnAssignment::none();
    };
    OnAssignment::new(move |change| {
        let (change, partitions) = match change {
            AssignmentChange::Assigned(partitions) => (MOFKA_ASSIGNED, partitions),
            AssignmentChange::Withdrawn(partitions) => (MOFKA_WITHDRAWN, partitions),
            AssignmentChange::Lost(partitions) => (MOFKA_LOST, partitions),
        };
        // SAFETY: a function and its context, as they were given together; the indices live during the call.
        unsafe { call(given.context(), change, partitions.as_ptr(), partitions.len()) };
    })
}

/// One segment of the application's memory.
struct Placed {
    start: *mut u8,
    bytes: usize,
    _lease: Option<Arc<Lease>>,
}

// SAFETY: the library alone uses the memory until the event comes, and only reads it then; the lease keeps it.
unsafe impl Send for Placed {}
// SAFETY: as above.
unsafe impl Sync for Placed {}

impl AsRef<[u8]> for Placed {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `mofka_allocation_add` checked that it is a slice, and its caller promised that it stays until it is released.
        unsafe { std::slice::from_raw_parts(self.start, self.bytes) }
    }
}

impl AsMut<[u8]> for Placed {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; while the data is written, nobody else uses it, as the caller promised.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.bytes) }
    }
}
