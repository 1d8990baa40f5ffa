//! System tests: the real daemon, real files, real sockets.

mod protocol;
mod restart;
mod start;
