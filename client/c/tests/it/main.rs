//! The C interface as programs use it.

mod diaspora;
mod header;
mod node;
mod program;
