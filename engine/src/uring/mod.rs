//! The engine on io_uring: glommio's executor, one per core, and a ring of our own for the log's files. The only modules
//! that name glommio, and the only ones with `unsafe` code: where memory is shared with the kernel.

#![allow(unsafe_code)]

mod activity;
mod asking;
mod extents;
mod file;
mod flushes;
mod memory;
mod mesh;
mod node;
mod panics;
mod quiet;
mod ring;
mod rings;
mod self_test;
mod server;
mod settled;
mod slabs;
mod watch;

pub use file::{UringFile, UringIo};
pub use memory::IoBuf;
pub use node::{NodeError, PREEMPT_TIMER, RunningNode, start};
