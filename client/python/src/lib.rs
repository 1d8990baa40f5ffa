//! The extension module `mofka._mofka`: the client for Python. The package around it (`python/mofka`) adds exceptions, what asyncio
//! needs, and types for editors (`_mofka.pyi`), where each function's meaning is told.
//!
//! How Python and the client's threads keep out of each other's way:
//!
//! - Whatever may block lets other Python threads run meanwhile (`Python::detach`), and looks for signals every few
//!   milliseconds (`waiting.rs`).
//! - The client's threads take the interpreter's lock only to call functions of the application. What else they have for
//!   Python (memory to give back, who to wake) goes to one thread made for it (`background.rs`).
//! - Locks of this module are taken with the interpreter's lock held, and never kept while it is released: a fork, which is made
//!   with that lock, finds them open.
#![deny(unsafe_code)]
#![allow(
    clippy::too_many_arguments,
    reason = "they are keyword arguments, and each has its default"
)]
#![allow(clippy::needless_pass_by_value, reason = "arguments from Python are values")]

include!(concat!(env!("OUT_DIR"), "/docs.rs"));

mod background;
#[allow(unsafe_code)]
mod buffers;
mod components;
mod consumer;
mod convert;
mod descriptor;
mod driver;
mod errors;
mod event;
mod exit;
mod futures;
mod gate;
mod held;
mod html;
mod options;
mod pool;
mod process;
mod processing;
mod producer;
mod reader;
mod selecting;
mod topic;
mod turns;
mod waiting;
mod writer;

use pyo3::prelude::*;

/// The client of Mofka. Use the package `mofka`, which has all of this.
#[pymodule]
fn _mofka(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<consumer::Consumer>()?;
    module.add_class::<consumer::EventIterator>()?;
    module.add_class::<descriptor::DataDescriptor>()?;
    module.add_class::<descriptor::DataRef>()?;
    module.add_class::<descriptor::Recipe>()?;
    module.add_class::<driver::Driver>()?;
    module.add_class::<event::Event>()?;
    module.add_class::<futures::FutureAcknowledged>()?;
    module.add_class::<futures::FutureEvent>()?;
    module.add_class::<futures::FutureFlushed>()?;
    module.add_class::<futures::FutureUint>()?;
    module.add_class::<buffers::InPlace>()?;
    module.add_class::<options::Ordering>()?;
    module.add_class::<pool::ThreadPool>()?;
    module.add_class::<producer::Producer>()?;
    module.add_class::<reader::Pieces>()?;
    module.add_class::<topic::TopicHandle>()?;
    module.add_class::<writer::DataWriter>()?;
    module.add_function(wrap_pyfunction!(components::register_validator, module)?)?;
    module.add_function(wrap_pyfunction!(components::register_partition_selector, module)?)?;
    module.add_function(wrap_pyfunction!(components::register_serializer, module)?)?;
    module.add_function(wrap_pyfunction!(exit::close_all, module)?)?;
    module.add_function(wrap_pyfunction!(process::forked, module)?)?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))
}
