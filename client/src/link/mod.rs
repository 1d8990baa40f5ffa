//! Connections to the nodes: sockets, frames on them, and who waits for which answer.

mod connection;
mod frames;
mod kept;
mod outbox;
mod ring;
mod socket;
mod stream;
mod table;

pub(crate) use connection::{Answer, Connection, Lost, Sink};
pub(crate) use kept::Kept;
pub(crate) use table::{Links, Nearness, Place};
