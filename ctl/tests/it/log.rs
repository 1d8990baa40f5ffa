//! The offline tools on files that a real node wrote.

mod repair;
mod stored;
mod verify;
