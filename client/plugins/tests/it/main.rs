//! Real libraries: the examples, in Rust and C, the header, and libraries that misbehave.

#[allow(unreachable_pub, reason = "public where it stands")]
#[path = "../../../../tests/src/library.rs"]
mod library;

mod energy;
mod header;
mod misbehaving;
