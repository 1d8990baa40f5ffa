//! For those who write a component library in Rust: traits, and [`components!`](crate::components!), which exports what
//! implements them.
//!
//! The library is a crate of type `cdylib`. It needs no `unsafe` of its own; panics become errors.
//!
//! ```
//! use mofka_plugins::author::{Component, Error, Validator};
//!
//! struct Small {
//!     bytes_max: usize,
//! }
//!
//! impl Component for Small {
//!     fn create(config: &str) -> Result<Self, Error> {
//!         let config: serde_json::Value = serde_json::from_str(config)?;
//!         let bytes_max = config["bytes_max"].as_u64().ok_or("there is no \"bytes_max\"")?;
//!         Ok(Self { bytes_max: bytes_max.try_into()? })
//!     }
//! }
//!
//! impl Validator for Small {
//!     fn validate(&self, _metadata: &str, data: &[&[u8]]) -> Result<(), Error> {
//!         let bytes: usize = data.iter().map(|segment| segment.len()).sum();
//!         match bytes <= self.bytes_max {
//!             true => Ok(()),
//!             false => Err(format!("{bytes} bytes of data are more than {}", self.bytes_max).into()),
//!         }
//!     }
//! }
//!
//! mofka_plugins::components! {
//!     validator "small" => Small,
//! }
//! ```

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::abi::{
    self, FAILED, OK, PARTITION_SELECTOR, SERIALIZER, Sink, Slice, TYPE_NAME_BYTES_MAX, VALIDATOR,
};

/// Why a component fails: its text reaches whoever pushes or pulls the event.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// What all components have.
pub trait Component: Send + Sync + Sized + 'static {
    /// Makes one of the topic's document: a JSON object, its `type` included.
    ///
    /// # Errors
    /// What is wrong with the document.
    fn create(config: &str) -> Result<Self, Error>;
}

/// Says which events a topic takes.
pub trait Validator: Component {
    /// Looks at an event: its metadata as JSON text, and the segments of its data.
    ///
    /// # Errors
    /// Why the event is not taken.
    fn validate(&self, metadata: &str, data: &[&[u8]]) -> Result<(), Error>;
}

/// Chooses the partition of an event.
pub trait PartitionSelector: Component {
    /// Whether [`set_partitions`](Self::set_partitions) is to be called. Without it, selecting takes no lock.
    const WANTS_PARTITIONS: bool = false;

    /// The topic's partitions: a JSON array of objects with `id`, `index`, `type`, `rank`, `shard` and `addresses`, by index.
    /// Called before the first `select`, and before the next one when they changed.
    ///
    /// # Errors
    /// Why it cannot work with them: the event that it was called for fails, and it is called again for the next.
    fn set_partitions(&mut self, partitions: &str) -> Result<(), Error> {
        let _ = partitions;
        Ok(())
    }

    /// The index of the partition, below `partitions_count`, which is at least 1. `requested` is what the producer asked for:
    /// any number.
    ///
    /// # Errors
    /// Why there is none.
    fn select(&self, metadata: &str, requested: Option<u64>, partitions_count: u64) -> Result<u64, Error>;
}

/// Turns metadata into the bytes that are stored, and back.
pub trait Serializer: Component {
    /// Appends the bytes that are stored of this JSON text.
    ///
    /// # Errors
    /// Why it cannot be stored.
    fn serialize(&self, metadata: &str, bytes: &mut Vec<u8>) -> Result<(), Error>;

    /// The JSON text of what was stored, which may be anything.
    ///
    /// # Errors
    /// Why it makes no sense.
    fn deserialize(&self, stored: &[u8]) -> Result<String, Error>;
}

/// Exports components: `validator`, `partition_selector` or `serializer`, the type's name, and what implements the trait of
/// that kind ([`author`](crate::author)). Once in a library, with all that it offers.
#[macro_export]
macro_rules! components {
    ($($kind:ident $name:literal => $component:ty),+ $(,)?) => {
        /// What this library offers to clients of Mofka.
        #[unsafe(no_mangle)]
        pub extern "C" fn mofka_components_v1() -> *const $crate::abi::Components {
            static COMPONENTS: &[$crate::abi::Component] =
                &[$($crate::author::$kind::<$component>(concat!($name, "\0"))),+];
            static TABLE: $crate::abi::Components = $crate::abi::Components::of(COMPONENTS);
            &raw const TABLE
        }
    };
}

/// The entry of a validator, under a name that ends with a NUL.
pub const fn validator<V: Validator>(name: &'static str) -> abi::Component {
    abi::Component {
        kind: VALIDATOR,
        validate: Some(validate::<V>),
        ..entry::<V>(name)
    }
}

/// The entry of a partition selector, under a name that ends with a NUL.
pub const fn partition_selector<S: PartitionSelector>(name: &'static str) -> abi::Component {
    abi::Component {
        kind: PARTITION_SELECTOR,
        set_partitions: match S::WANTS_PARTITIONS {
            true => Some(set_partitions::<S>),
            false => None,
        },
        select: Some(select::<S>),
        ..entry::<S>(name)
    }
}

/// The entry of a serializer, under a name that ends with a NUL.
pub const fn serializer<S: Serializer>(name: &'static str) -> abi::Component {
    abi::Component {
        kind: SERIALIZER,
        serialize: Some(serialize::<S>),
        deserialize: Some(deserialize::<S>),
        ..entry::<S>(name)
    }
}

const fn entry<C: Component>(name: &'static str) -> abi::Component {
    let bytes = name.as_bytes();
    assert!(
        bytes.len() >= 2 && bytes.len() <= TYPE_NAME_BYTES_MAX + 1 && bytes[bytes.len() - 1] == 0,
        "a type's name has 1 to 255 bytes"
    );
    let mut at = 0;
    while at + 1 < bytes.len() {
        assert!(
            bytes[at] != b':' && bytes[at] != 0,
            "a type's name has no ':' and no NUL in it"
        );
        at += 1;
    }
    abi::Component {
        kind: 0,
        reserved: 0,
        type_name: bytes.as_ptr().cast(),
        create: Some(create::<C>),
        destroy: Some(destroy::<C>),
        validate: None,
        set_partitions: None,
        select: None,
        serialize: None,
        deserialize: None,
    }
}

// The functions of the table. Each begins with what the client gives it, which the contract makes safe to use until it returns.

/// # Safety
/// Called as the header says: by a client, through the table. So are the functions below.
unsafe extern "C" fn create<C: Component>(
    config: Slice,
    instance: *mut *mut c_void,
    error: *const Sink,
) -> i32 {
    // SAFETY: the text, the place for the instance and the sink are there until this function returns.
    let (config, instance, error) = unsafe { (config.get(), &mut *instance, &*error) };
    answer(error, || {
        let made = C::create(std::str::from_utf8(config)?)?;
        *instance = Box::into_raw(Box::new(made)).cast();
        Ok(())
    })
}

/// # Safety
/// As of [`create`].
unsafe extern "C" fn destroy<C: Component>(instance: *mut c_void) {
    // SAFETY: `create` of the same entry made it of a box; nobody uses it any more.
    let instance = unsafe { Box::from_raw(instance.cast::<C>()) };
    // There is nobody to be told.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(instance)));
}

/// # Safety
/// As of [`create`].
unsafe extern "C" fn validate<V: Validator>(
    instance: *mut c_void,
    metadata: Slice,
    segments: *const Slice,
    segments_count: u64,
    error: *const Sink,
) -> i32 {
    // SAFETY: the instance is of the same entry's `create`; the text and the sink are there until this function returns.
    let (validator, metadata, error) = unsafe { (&*instance.cast::<V>(), metadata.get(), &*error) };
    let segments = match usize::try_from(segments_count) {
        Ok(count @ 1..) => {
            // SAFETY: as many segments are there, until this function returns.
            unsafe { std::slice::from_raw_parts(segments, count) }
        }
        _ => &[],
    };
    answer(error, || {
        let segments = segments.iter().map(|segment| {
            // SAFETY: the bytes of each segment are there until this function returns.
            unsafe { segment.get() }
        });
        let segments: Vec<&[u8]> = segments.collect();
        validator.validate(std::str::from_utf8(metadata)?, &segments)
    })
}

/// # Safety
/// As of [`create`].
unsafe extern "C" fn set_partitions<S: PartitionSelector>(
    instance: *mut c_void,
    partitions: Slice,
    error: *const Sink,
) -> i32 {
    // SAFETY: the instance is of the same entry's `create`, and no other function of it runs meanwhile; the text and the sink
    // are there until this function returns.
    let (selector, partitions, error) = unsafe { (&mut *instance.cast::<S>(), partitions.get(), &*error) };
    answer(error, || {
        selector.set_partitions(std::str::from_utf8(partitions)?)
    })
}

/// # Safety
/// As of [`create`].
unsafe extern "C" fn select<S: PartitionSelector>(
    instance: *mut c_void,
    metadata: Slice,
    requested: *const u64,
    partitions_count: u64,
    index: *mut u64,
    error: *const Sink,
) -> i32 {
    // SAFETY: the instance is of the same entry's `create`; the text, the sink and the place for the index are there until this
    // function returns.
    let (selector, metadata, index, error) =
        unsafe { (&*instance.cast::<S>(), metadata.get(), &mut *index, &*error) };
    // SAFETY: null, or there until this function returns.
    let requested = unsafe { requested.as_ref() }.copied();
    answer(error, || {
        *index = selector.select(std::str::from_utf8(metadata)?, requested, partitions_count)?;
        Ok(())
    })
}

/// # Safety
/// As of [`create`].
unsafe extern "C" fn serialize<S: Serializer>(
    instance: *mut c_void,
    metadata: Slice,
    out: *const Sink,
    error: *const Sink,
) -> i32 {
    // SAFETY: the instance is of the same entry's `create`; the text and the sinks are there until this function returns.
    let (serializer, metadata, out, error) =
        unsafe { (&*instance.cast::<S>(), metadata.get(), &*out, &*error) };
    answer(error, || {
        let mut bytes = Vec::new();
        serializer.serialize(std::str::from_utf8(metadata)?, &mut bytes)?;
        say(out, &bytes)
    })
}

/// # Safety
/// As of [`create`].
unsafe extern "C" fn deserialize<S: Serializer>(
    instance: *mut c_void,
    stored: Slice,
    out: *const Sink,
    error: *const Sink,
) -> i32 {
    // SAFETY: as in `serialize`; what was stored takes the place of the text.
    let (serializer, stored, out, error) = unsafe { (&*instance.cast::<S>(), stored.get(), &*out, &*error) };
    answer(error, || say(out, serializer.deserialize(stored)?.as_bytes()))
}

/// Runs the author's function; its error, or panic, goes to the client.
fn answer(error: &Sink, function: impl FnOnce() -> Result<(), Error>) -> i32 {
    // Writing the error's text may panic, too.
    let function = || function().map_err(|reason| reason.to_string());
    let reason = match catch_unwind(AssertUnwindSafe(function)) {
        Ok(Ok(())) => return OK,
        Ok(Err(reason)) => reason,
        Err(panic) => match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
            (Some(text), _) => format!("it panicked: {text}"),
            (_, Some(text)) => format!("it panicked: {text}"),
            _ => "it panicked".to_owned(),
        },
    };
    // The status says so all the same.
    let _ = say(error, reason.as_bytes());
    FAILED
}

/// Writes to a sink that a client gave.
fn say(sink: &Sink, bytes: &[u8]) -> Result<(), Error> {
    // SAFETY: the client's `write` takes its own `context`, and bytes that are there until it returns.
    match unsafe { (sink.write)(sink.context, bytes.as_ptr().cast(), bytes.len() as u64) } {
        OK => Ok(()),
        _ => Err("the client has no room for so much".into()),
    }
}
