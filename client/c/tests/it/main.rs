//! The C interface as programs use it.

mod diaspora;
mod forked;
mod generations;
mod header;
mod node;
mod program;
