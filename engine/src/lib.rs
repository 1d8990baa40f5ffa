//! The storage engine and daemon of Mofka.
//!
//! A node runs one [`shard::Shard`] per core; each owns its partitions, their files and their connections, so that no
//! event hops between cores. Everything but [`uring`] is generic over the small [`io::Io`] trait: the simulated disk
//! of the tests (`sim`, feature of the same name) runs the real partitions, the real recovery and the real log.
//!
//! What this crate does not know: how events are produced or consumed on the client's side (`mofka-client`), what
//! validators, selectors and serializers mean (the topic only stores them), how bytes are laid out (`mofka-log` for
//! what is stored, `mofka-net` for what is sent).

#![deny(unsafe_code)]

mod bedrock;
pub mod catalog;
mod commit;
pub mod config;
mod control;
mod enforcing;
mod errands;
pub mod facts;
mod fresh;
mod groups;
mod halves;
mod home;
mod intake;
pub mod io;
mod limits;
pub mod logging;
mod machine_memory;
pub mod measures;
pub mod monitor;
mod nearest;
mod outbox;
pub mod partition;
mod partition_dirs;
pub mod predecessor;
mod promise;
mod record_log;
mod recover;
mod references;
mod requests;
mod ring;
mod room;
mod session;
pub mod shard;
#[cfg(feature = "sim")]
pub mod sim;
mod streams;
mod subscription;
pub mod supervisor;
mod turn;
pub mod uring;
mod uses;

pub use home::{Home, HomeError};
pub use limits::EngineLimits;
pub use mofka_net::WireError;
pub use recover::OpenError;
