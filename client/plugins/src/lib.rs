//! Validators, partition selectors and serializers of Mofka topics in shared libraries, over the C interface of
//! `include/mofka_component.h`.
//!
//! - [`Library::load`] loads a library as far as a [`LibraryPolicy`] lets it, and gives what it offers as checked types
//!   ([`ComponentType`]), whose instances are safe to use from any thread.
//! - [`author`] and [`components!`] are for those who write such a library in Rust.
//! - [`abi`] is the interface itself.
//!
//! All `unsafe` of the client is in this crate. It knows nothing of drivers, topics or events: texts and bytes go in and out.
//!
//! **Loading a library is trusting it.** Its code runs in this process, and all that makes its instances safe to use is that the
//! library keeps the contract of the header. What can be checked is: the table and its version, null pointers, names, results,
//! the size and encoding of what it writes.
#![deny(unsafe_code)]

#[allow(unsafe_code, reason = "what the interface is made of")]
pub mod abi;
#[allow(unsafe_code, reason = "turns what clients pass into safe arguments")]
pub mod author;
#[allow(unsafe_code, reason = "calls what libraries offer")]
mod component;
mod error;
#[allow(unsafe_code, reason = "loads libraries and reads their tables")]
mod library;
mod policy;
#[allow(unsafe_code, reason = "receives what libraries write")]
mod sink;

#[cfg(test)]
#[allow(unsafe_code, reason = "reads tables that the tests made")]
mod tests;

pub use component::{
    ComponentType, PartitionSelector, PartitionSelectorType, Partitions, Serializer, SerializerType,
    Validator, ValidatorType,
};
pub use error::{CallError, LoadError};
pub use library::Library;
pub use policy::{LibraryPolicy, PLUGIN_PATH_VARIABLE};
