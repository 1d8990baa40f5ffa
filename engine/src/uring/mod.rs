//! The engine on io_uring: glommio's executor, one per core. The only modules that name glommio.

mod file;
mod mesh;
mod node;
mod self_test;
mod server;

pub use file::UringIo;
pub use node::{NodeError, RunningNode, start};
