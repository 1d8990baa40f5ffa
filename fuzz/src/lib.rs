//! What the fuzz targets do with their bytes, as plain functions: each panics when a promise is broken.
//!
//! Most of what Mofka reads carries checksums, and bytes that were changed at random never get past one. So the targets
//! put the checksums right before they show the bytes to the product (the module [`repair`]), unless the first byte says
//! otherwise: then the checks behind the checksums meet hostile values too.
//!
//! | module | reads | and checks |
//! |---|---|---|
//! | [`recover`] | a meta file and a data file | twice is once, the cut keeps what was kept, a log that was cut goes on |
//! | [`image`] | the directory of a partition | the real engine opens it, serves it, adds to it, opens it again |
//! | [`operations`] | a history of operations and crashes | the real partition against a model |
//! | [`footer`] | segment headers, footers, indexes, producers | what is written again is read as the same |
//! | [`batch`] | a client's batch | what passes adds up |
//! | [`catalog`], [`cursors`] | records | the state is that of a plain model |
//! | [`session`] | what a client sends | the real shard answers every request, in whole frames, and serves the next client |
//! | [`wire`] | frames and every body | what is written again is read as the same |
//! | [`descriptor`] | data descriptors, and views made on views | the ranges are those of a plain model |
//! | [`config`] | configurations, group files, addresses | what is written again is read as the same |
#![forbid(unsafe_code)]

pub mod batch;
pub mod catalog;
pub mod config;
pub mod cursors;
pub mod descriptor;
pub mod footer;
pub mod image;
pub mod operations;
pub mod recover;
pub mod repair;
pub mod seeds;
pub mod session;
pub mod wire;

/// What the engine's own crash tests believe a partition holds.
#[allow(dead_code)]
#[path = "../../engine/tests/it/model.rs"]
mod model;
