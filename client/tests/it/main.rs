//! The client against a node of the same process that does as it is told: refuses, hangs, drops connections.

mod node;

mod acknowledging;
mod consuming;
mod fetching;
mod futures;
mod loose;
mod processing;
mod producing;
mod reading;
mod recovery;
mod segments;
mod sources;
mod streaming;
mod timing;
mod topics;
mod waiting;
