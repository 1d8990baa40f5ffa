//! System tests: the real daemon, real files, real sockets.

mod consume;
mod kill;
mod protocol;
mod restart;
mod retention;
mod start;
