//! Whole-crate tests: what is planned, lands in part, and is read back.

mod crash;
mod golden;
mod sim;
