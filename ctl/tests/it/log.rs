//! The offline tools on files that a real node wrote.

mod export;
mod layouts;
mod lost;
mod repair;
mod stored;
mod verify;
