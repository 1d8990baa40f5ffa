//! System tests: the real daemon, real files, real sockets.

mod components;
mod consume;
mod containers;
mod crowd;
mod ending;
mod filter;
mod full;
mod groups;
mod kill;
mod libraries;
mod logging;
mod monitoring;
mod packaging;
mod power;
mod protocol;
mod reference;
mod references;
mod restart;
mod retention;
mod ring;
mod selection;
mod settled;
mod start;
mod streams;
mod supervisor;
mod tuning;
