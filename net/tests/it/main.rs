//! Whole-crate tests of the protocol.

mod golden;
mod shm;
