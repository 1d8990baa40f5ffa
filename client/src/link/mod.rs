//! Connections to the nodes: sockets, frames on them, and who waits for which answer.

mod answers;
mod connection;
mod frames;
mod kept;
mod outbox;
mod ring;
mod socket;
mod stream;
mod table;

pub(crate) use answers::{Answer, Asker, LentFrame, Lost, Sink};
pub(crate) use connection::Connection;
pub(crate) use kept::Kept;
pub(crate) use table::{Links, Nearness, Place};
