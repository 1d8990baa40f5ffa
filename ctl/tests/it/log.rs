//! The offline tools on files that a real node wrote.

mod stored;
mod verify;
