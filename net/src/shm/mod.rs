//! A ring in shared memory, over which a client on the same machine speaks the protocol as over a socket: the same frames,
//! one slot each.
//!
//! The server makes sealed memory for one client ([`End::create`]) and gives it over the Unix socket on which the client
//! came ([`Offer::pass`]); the client checks and maps it ([`End::attach`]). Each direction has a ring of slots, an arena
//! for frames that do not fit a slot, and a queue on which the receiver gives back what it is done with.
//!
//! | module | concept |
//! |---|---|
//! | `layout` | where everything lies |
//! | `words`, `mapping` | memory that the other side may write at any time; the only unsafe code |
//! | `queue` | positions and slots between one writer and one reader |
//! | `arena` | which bytes are whose, known to the claiming side alone |
//! | `sender`, `claim`, `stretch` | sending, in place too |
//! | `receiver`, `arrival` | receiving, and giving back |
//! | `side`, `bell`, `waiter`, `patience` | sleeping and waking |
//! | `end`, `pass` | both ends, and how the client comes by its own |
//! | `process` | which process this is, since forked children have the same memory |
//!
//! **Trust.** The client trusts the server; the server trusts nothing. What it loads from the memory it loads once,
//! checks, and uses the copy. A position or a slot that cannot be is a [`RingFault`], which ends this ring and nothing
//! else. Which bytes of an arena are free is never asked of the memory. Nothing here blocks but [`Waiter::wait`].
//!
//! **The death** of a peer is not seen here: the Unix socket tells. An end that is dropped says so to the other.

mod arena;
mod arrival;
mod bell;
mod claim;
mod end;
mod fault;
mod layout;
#[allow(unsafe_code, reason = "accesses memory that another process shares")]
mod mapping;
mod pass;
mod patience;
#[allow(unsafe_code, reason = "memory that the kernel empties in a forked child")]
mod process;
mod queue;
mod receiver;
mod sender;
mod side;
mod stretch;
mod waiter;
mod words;

#[cfg(test)]
#[allow(unsafe_code, reason = "plain memory under the model checker")]
mod model;

pub use arrival::Arrival;
pub use bell::Wake;
pub use claim::Claim;
pub use end::{End, Offer};
pub use fault::{MapError, OutsideFrame, ReceiveError, RingFault, SendError};
pub use layout::{ARENA_BYTES_MIN, INLINE_BYTES_MAX, LaneConfig, RingConfig, SLOTS_MIN};
pub use mapping::Mapping;
pub use patience::Patience;
pub use process::this_process;
pub use receiver::Receiver;
pub use sender::Sender;
pub use stretch::Stretch;
pub use waiter::Waiter;
pub use words::Words;
