//! The C interface as programs use it.

mod header;
mod node;
mod program;
