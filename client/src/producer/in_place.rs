//! One event's data filled where the node reads it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use mofka_log::{BatchBuilder, StreamedData};

use super::futures::PushFuture;
use super::patience::Patience;
use super::queue::Queue;
use crate::error::{FillError, PushError};
use crate::link::Kept;

/// What memory of its own begins at a multiple of, as shared memory does: devices ask for it.
const BOUNDARY_BYTES: usize = 4096;

/// Room for the data of one event, which is filled here and then becomes the event ([`InPlace::commit`]). Dropped, it is as if it had
/// never been.
///
/// With a node in shared memory the room lies there, so that nothing has to be copied to where the node reads it; else it is
/// memory of this process. [`InPlace::is_shared`] tells. Either begins at a multiple of 4096 in memory. What is in shared
/// memory at first is left over from earlier events of this process; memory of its own is zero.
///
/// Shared memory is scarce: at most half of the ring's arena ([`RingSize`](crate::RingSize)), and half as many claims as it has
/// slots, of all producers that talk to the same shard. A claim has its part of it from [`Producer::claim`](crate::Producer::claim)
/// until its event was acknowledged, failed for good, or the connection ended. Whoever wants it always needs an arena that is twice
/// as large as all that is claimed at a time.
///
/// To be filled by the process that claimed it: after a fork it is the parent's.
pub struct InPlace {
    queue: Arc<Queue>,
    /// As the topic's serializer made it.
    metadata: Bytes,
    memory: Memory,
    /// What was seen of the data: its first bytes, which did not change since. `None`: somebody has its address, and may change
    /// any of it.
    seen: Option<StreamedData>,
}

enum Memory {
    Shared(Kept),
    Own {
        memory: Vec<u8>,
        start: usize,
        end: usize,
    },
}

impl InPlace {
    /// In shared memory, or in memory of its own.
    pub(super) fn new(queue: Arc<Queue>, metadata: Bytes, bytes: usize, kept: Option<Kept>) -> Self {
        let memory = match kept {
            Some(kept) => Memory::Shared(kept),
            None => {
                let memory = vec![0; bytes + BOUNDARY_BYTES - 1];
                // Of bytes it is always known, but on machines that only pretend to run.
                let start = memory
                    .as_ptr()
                    .align_offset(BOUNDARY_BYTES)
                    .min(BOUNDARY_BYTES - 1);
                Memory::Own {
                    memory,
                    start,
                    end: start + bytes,
                }
            }
        };
        Self {
            queue,
            metadata,
            memory,
            seen: Some(StreamedData::new()),
        }
    }

    /// Whether it lies in memory that the node shares.
    pub fn is_shared(&self) -> bool {
        matches!(self.memory, Memory::Shared(_))
    }

    /// How many bytes of data the event will have.
    pub fn bytes(&self) -> usize {
        match &self.memory {
            // It is mapped.
            Memory::Shared(kept) => usize::try_from(kept.bytes()).unwrap_or(usize::MAX),
            Memory::Own { start, end, .. } => end - start,
        }
    }

    /// Writes some of them, from byte `at` on. Bytes that are written one after the other from the first on are looked at while
    /// they are in the processor's caches; all others are read back when it is committed, and so is everything when somebody asked
    /// for its address ([`InPlace::as_mut_ptr`]).
    ///
    /// # Errors
    /// When they do not lie within, or in a forked child; nothing is written then.
    pub fn write(&mut self, at: usize, bytes: &[u8]) -> Result<(), FillError> {
        let data_bytes = self.bytes();
        self.queue
            .check_process()
            .map_err(|pid| FillError::Forked { pid })?;
        let end = at.checked_add(bytes.len()).filter(|end| *end <= data_bytes);
        let Some(end) = end else {
            return Err(FillError::Outside {
                at,
                bytes: bytes.len(),
                data_bytes,
            });
        };
        match &mut self.memory {
            Memory::Own { memory, start, .. } => memory[*start + at..*start + end].copy_from_slice(bytes),
            Memory::Shared(kept) => {
                let at = at as u64;
                if let Some(seen) = &mut self.seen {
                    if at < seen.bytes() {
                        *seen = StreamedData::new();
                    }
                    if at == seen.bytes() {
                        // Bounded by what a batch may have when it was claimed.
                        seen.push(bytes).ok();
                    }
                }
                // They lie within.
                kept.write(at, bytes).ok();
            }
        }
        Ok(())
    }

    /// Makes it shorter: the event has fewer bytes than were claimed.
    ///
    /// # Errors
    /// When it would become longer.
    pub fn shorten(&mut self, bytes: usize) -> Result<(), FillError> {
        let data_bytes = self.bytes();
        if bytes > data_bytes {
            return Err(FillError::Outside {
                at: 0,
                bytes,
                data_bytes,
            });
        }
        match &mut self.memory {
            Memory::Own { start, end, .. } => *end = *start + bytes,
            Memory::Shared(kept) => {
                // It does not become longer.
                kept.shorten(bytes as u64).ok();
                let is_seen = |seen: &mut StreamedData| seen.bytes() > bytes as u64;
                if self.seen.take_if(is_seen).is_some() {
                    self.seen = Some(StreamedData::new());
                }
            }
        }
        Ok(())
    }

    /// The first byte, for devices and other code that fills it. The pointer is good for [`InPlace::bytes`] bytes until this is
    /// committed or dropped; all that is written through it has to be there before.
    ///
    /// Who dereferences it has to keep to that, and should make no reference of it: another process shares the memory. What is
    /// written later makes the node refuse the event, or is not in it.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        match &mut self.memory {
            Memory::Shared(kept) => {
                self.seen = None;
                kept.as_mut_ptr()
            }
            Memory::Own { memory, start, .. } => memory.as_mut_ptr().wrapping_add(*start),
        }
    }

    /// Pushes the event, as a batch of its own behind all that was pushed before; returns what will become its id. Blocks while the
    /// partition's batches are at their bound ([`ProducerOptions::max_num_batches`](crate::ProducerOptions::max_num_batches)).
    ///
    /// # Errors
    /// As [`Producer::push`](crate::Producer::push).
    pub fn commit(self) -> Result<PushFuture, PushError> {
        self.commit_with(Patience::endless())
    }

    /// The same for those who may have to give up while it blocks: `goes_on` is asked every 50 ms whether to wait for room any longer.
    /// Who gave up has no claim any more.
    ///
    /// # Errors
    /// As [`InPlace::commit`], and [`PushError::GivenUp`].
    pub fn commit_while(self, goes_on: impl Fn() -> bool) -> Result<PushFuture, PushError> {
        self.commit_with(Patience::while_it(&goes_on))
    }

    fn commit_with(self, patience: Patience<'_>) -> Result<PushFuture, PushError> {
        self.queue
            .check_process()
            .map_err(|pid| PushError::Forked { pid })?;
        let bytes = self.bytes() as u64;
        let mut builder = BatchBuilder::new();
        let (added, rest) = match self.memory {
            Memory::Shared(kept) => {
                let mut seen = self.seen.unwrap_or_default();
                let looked = kept.look(seen.bytes(), |bytes| seen.push(bytes));
                let added = looked.and_then(|()| builder.push_seen(&self.metadata, seen));
                (added, Some(Arc::new(kept)))
            }
            Memory::Own { memory, start, end } => {
                let data = Bytes::from(memory).slice(start..end);
                (builder.push_shared(&self.metadata, &[data], 1), None)
            }
        };
        // Both were bounded when it was claimed, by what the node took then.
        added.map_err(|_| self.queue.too_large(self.metadata.len(), bytes))?;
        let placed =
            self.queue
                .push_alone(Box::new(builder), rest, (self.metadata.len(), bytes), patience)?;
        Ok(PushFuture::known(placed))
    }
}

impl fmt::Debug for InPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InPlace")
            .field("bytes", &self.bytes())
            .field("is_shared", &self.is_shared())
            .finish_non_exhaustive()
    }
}
