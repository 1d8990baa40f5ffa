//! A simulated machine for tests: a disk that loses what was not synced, faults of the disk and of the clock, tasks in
//! one thread. The log, the recovery and the partitions above it are the real ones.
//!
//! # What takes time
//! Every operation: writing and syncing, and reading, opening, creating, listing, renaming, removing, cutting and making room as
//! well. It ends at some step that the seed chooses, so anything else may run between, as it does on a real machine. What changes
//! names or sizes, or finds a file by its name, may be over for everybody else before whoever asked is told. Only the size of an open file
//! is told at once, as the kernel does. A test whose steps are counted can ask for a machine on which just writes, syncs and
//! reservations take time ([`SimIo::set_quick`]).
//!
//! # What a power cut may do ([`SimIo::crash`])
//! - Every write that no completed sync covers (a sync covers the writes that had completed when it was *issued*) is
//!   cut into sectors of 512 or 4096 bytes, and each sector is there or not, independently: so writes are kept,
//!   dropped, torn and reordered. A sector itself is never torn.
//! - Every truncation and every change of a name without a completed sync (of the file, of its directory) happened or
//!   did not, independently.
//! - Operations in flight count as not synced: a rename, a removal, a new name is there or not. A truncation in flight happened or
//!   did not, and in the first case before or after what was written meanwhile, be that synced.
//! - A sync of a directory covers the changes that had happened when it was issued.
//!
//! # What a kill of the process may do ([`SimIo::kill`])
//! - Operations in flight happened or did not; what had completed is still read, and is still not durable.
//!
//! # Faults ([`Fault`]): which are allowed where, and what is promised under them
//!
//! A simulator that breaks what nothing could survive teaches nothing, so each kind has its promise:
//!
//! | fault | where | promise |
//! |---|---|---|
//! | write error, short write, sync error, error of a directory's sync, read error, too many open files, error of a truncation, rename, removal or reservation, full disk ([`SimIo::set_room`]), clock jump | any operation, any number of them, also while opening, with power cuts and kills between | no acknowledged event is lost, changed, doubled or moved; batches stay whole; what a reader saw stays; durable cursors stay; nothing is called damaged; the partition serves what is durable, says why it takes no more, and works again when it is opened on a healthy machine |
//! | lost write, misdirected write | one in the life of the files, then a stop of any kind | what is served is never wrong. When anything durable that follows vouches for what was hit (a later synced batch, the mark of an idle partition, the end kept beside the cursors) it is found out: opening fails or gives a read-only partition, or reading says that a checksum is wrong. Without a witness the last batches may be missing, whole, from the end |
//! | a directory's sync that was not one | the same | the same; only the end kept beside the cursors can vouch for a name |
//! | flipped bit at rest ([`flip_bit`]) | any bit of any file, after an orderly stop | never wrong content, never a silent loss |
//!
//! After a failed sync the rule of the kernel holds: what it should have made durable counts as clean, so that the next
//! sync succeeds, while part of it is gone at the next power cut, and only then. Who retries a failed sync, or reads after
//! a restart and trusts what it reads, loses data here.
//!
//! Not simulated: two faults that together destroy an event and all of its witnesses; a device that forgets what a sync
//! had covered, other than by a flipped bit; wrong bytes on reading that are right the next time.

mod content;
mod disk;
mod executor;
mod faults;
mod machine;
mod names;
mod outcome;
mod pending;
mod pipe;
mod random;

pub use content::FileBytes;
pub use disk::{Image, Sectors, flip_bit};
pub use executor::SimIo;
pub use faults::{Fault, FaultRates, Operation};
pub use pipe::{Pipe, ShardEnd};
pub use random::Random;
