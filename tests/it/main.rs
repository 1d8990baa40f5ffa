//! System tests: the real daemon, real files, real sockets.

mod components;
mod consume;
mod full;
mod kill;
mod power;
mod protocol;
mod reference;
mod restart;
mod retention;
mod selection;
mod start;
