//! What libraries offer, as types and instances that are safe to use.

use std::ffi::c_void;
use std::ptr::{NonNull, null};
use std::sync::{Arc, PoisonError, RwLock};

use crate::abi::{Convert, Create, Destroy, OUTPUT_BYTES_MAX, Select, SetPartitions, Slice, Validate};
use crate::error::CallError;
use crate::sink::{Gather, call};

/// A type of component that a library offers.
#[derive(Clone, Debug)]
pub enum ComponentType {
    /// Looks at events.
    Validator(ValidatorType),
    /// Chooses partitions.
    PartitionSelector(PartitionSelectorType),
    /// Stores metadata.
    Serializer(SerializerType),
}

impl ComponentType {
    /// The type's name: what stands under `type` in a topic's document.
    pub fn name(&self) -> &str {
        &self.making().name
    }

    /// Which of the three it is, in words.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Validator(_) => "validator",
            Self::PartitionSelector(_) => "partition selector",
            Self::Serializer(_) => "serializer",
        }
    }

    fn making(&self) -> &Making {
        match self {
            Self::Validator(ValidatorType { making, .. })
            | Self::PartitionSelector(PartitionSelectorType { making, .. })
            | Self::Serializer(SerializerType { making, .. }) => making,
        }
    }
}

/// A type of validator.
#[derive(Clone, Debug)]
pub struct ValidatorType {
    pub(crate) making: Making,
    pub(crate) validate: Validate,
}

/// A type of partition selector.
#[derive(Clone, Debug)]
pub struct PartitionSelectorType {
    pub(crate) making: Making,
    pub(crate) set_partitions: Option<SetPartitions>,
    pub(crate) select: Select,
}

/// A type of serializer.
#[derive(Clone, Debug)]
pub struct SerializerType {
    pub(crate) making: Making,
    pub(crate) serialize: Convert,
    pub(crate) deserialize: Convert,
}

/// What all types have. The functions are those of one entry of the table of a library that stays loaded.
#[derive(Clone, Debug)]
pub(crate) struct Making {
    pub(crate) name: Arc<str>,
    pub(crate) create: Create,
    pub(crate) destroy: Destroy,
}

impl Making {
    fn create(&self, config: &str) -> Result<Instance, CallError> {
        let mut pointer = std::ptr::null_mut();
        call(|error| {
            // SAFETY: `create` is a function of a library that stays loaded, with this signature by the table's version; the text,
            // the place for the instance and the sink live until it returned.
            unsafe { (self.create)(Slice::of(config.as_bytes()), &raw mut pointer, error) }
        })?;
        let pointer = NonNull::new(pointer);
        let pointer =
            pointer.ok_or_else(|| CallError("it was created without an instance (NULL)".to_owned()))?;
        Ok(Instance {
            pointer,
            destroy: self.destroy,
        })
    }
}

/// What `create` made, until `destroy`.
#[derive(Debug)]
struct Instance {
    pointer: NonNull<c_void>,
    destroy: Destroy,
}

// SAFETY: the contract lets any thread call any function of an instance, `destroy` too.
unsafe impl Send for Instance {}
// SAFETY: the contract lets any number of threads call an instance's functions at a time; `set_partitions`, which it
// excepts, is called under a lock (`PartitionSelector::select`), and `destroy` by the last owner.
unsafe impl Sync for Instance {}

impl Instance {
    fn get(&self) -> *mut c_void {
        self.pointer.as_ptr()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // SAFETY: `create` of the same entry made it, nobody else has it any more, and this happens once.
        unsafe { (self.destroy)(self.pointer.as_ptr()) }
    }
}

impl ValidatorType {
    /// The type's name.
    pub fn name(&self) -> &str {
        &self.making.name
    }

    /// Makes one of this document.
    ///
    /// # Errors
    /// What the library said.
    pub fn create(&self, config: &str) -> Result<Validator, CallError> {
        Ok(Validator {
            instance: self.making.create(config)?,
            validate: self.validate,
        })
    }
}

/// A validator of a library.
#[derive(Debug)]
pub struct Validator {
    instance: Instance,
    validate: Validate,
}

impl Validator {
    /// Looks at an event: its metadata as JSON text, and its data in segments.
    ///
    /// # Errors
    /// Why the event is not taken.
    pub fn validate<'a>(
        &self,
        metadata: &str,
        segments: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), CallError> {
        let segments: Vec<Slice> = segments.into_iter().map(Slice::of).collect();
        let count = segments.len() as u64;
        call(|error| {
            // SAFETY: as in `Making::create`; the instance is of the same entry and lives; `segments` has `count` slices, and
            // the iterator's items outlive the call.
            unsafe {
                (self.validate)(
                    self.instance.get(),
                    Slice::of(metadata.as_bytes()),
                    segments.as_ptr(),
                    count,
                    error,
                )
            }
        })
    }
}

/// A topic's partitions, as selectors are told. Clones are recognized: a selector is told once of each list.
#[derive(Clone, Debug)]
pub struct Partitions {
    /// How many there are.
    pub count: u64,
    /// The JSON array that describes them, by index. Only selectors with [`PartitionSelectorType::wants_partitions`] look at it.
    pub described: Arc<str>,
}

impl PartitionSelectorType {
    /// The type's name.
    pub fn name(&self) -> &str {
        &self.making.name
    }

    /// Whether its instances look at what the partitions are, not only at how many there are.
    pub fn wants_partitions(&self) -> bool {
        self.set_partitions.is_some()
    }

    /// Makes one of this document.
    ///
    /// # Errors
    /// What the library said.
    pub fn create(&self, config: &str) -> Result<PartitionSelector, CallError> {
        Ok(PartitionSelector {
            instance: self.making.create(config)?,
            set_partitions: self.set_partitions,
            select: self.select,
            told: RwLock::new(None),
        })
    }
}

/// A partition selector of a library.
#[derive(Debug)]
pub struct PartitionSelector {
    instance: Instance,
    set_partitions: Option<SetPartitions>,
    select: Select,
    /// The partitions that the instance knows. Held for reading by whoever calls `select`, for writing by whoever calls
    /// `set_partitions`: nothing runs beside that.
    told: RwLock<Option<Arc<str>>>,
}

impl PartitionSelector {
    /// The index of an event's partition. It may be one that the topic does not have.
    ///
    /// # Errors
    /// What the library said.
    pub fn select(
        &self,
        metadata: &str,
        requested: Option<u64>,
        partitions: &Partitions,
    ) -> Result<u64, CallError> {
        let Some(set_partitions) = self.set_partitions else {
            return self.call(metadata, requested, partitions.count);
        };
        loop {
            {
                let told = self.told.read().unwrap_or_else(PoisonError::into_inner);
                if told
                    .as_ref()
                    .is_some_and(|told| Arc::ptr_eq(told, &partitions.described))
                {
                    return self.call(metadata, requested, partitions.count);
                }
            }
            let mut told = self.told.write().unwrap_or_else(PoisonError::into_inner);
            // When it fails, the instance knows what it knows; it is told again before the next event.
            *told = None;
            call(|error| {
                // SAFETY: as in `Making::create`; the instance is of the same entry and lives; the lock is held for writing.
                unsafe {
                    set_partitions(
                        self.instance.get(),
                        Slice::of(partitions.described.as_bytes()),
                        error,
                    )
                }
            })?;
            *told = Some(Arc::clone(&partitions.described));
        }
    }

    fn call(&self, metadata: &str, requested: Option<u64>, count: u64) -> Result<u64, CallError> {
        /// No partition has this index, whatever a library makes of it.
        const UNTOUCHED: u64 = u64::MAX;
        let mut index = UNTOUCHED;
        let requested = requested.as_ref().map_or(null(), std::ptr::from_ref);
        call(|error| {
            // SAFETY: as in `Making::create`; the instance is of the same entry and lives; `requested` is null or leads to a
            // number that lives as long as this function; so does `index`. `set_partitions` does not run: there is none, or
            // the lock is held for reading.
            unsafe {
                (self.select)(
                    self.instance.get(),
                    Slice::of(metadata.as_bytes()),
                    requested,
                    count,
                    &raw mut index,
                    error,
                )
            }
        })?;
        match index {
            UNTOUCHED => Err(CallError("it succeeded without an index".to_owned())),
            index => Ok(index),
        }
    }
}

impl SerializerType {
    /// The type's name.
    pub fn name(&self) -> &str {
        &self.making.name
    }

    /// Makes one of this document.
    ///
    /// # Errors
    /// What the library said.
    pub fn create(&self, config: &str) -> Result<Serializer, CallError> {
        Ok(Serializer {
            instance: self.making.create(config)?,
            serialize: self.serialize,
            deserialize: self.deserialize,
        })
    }
}

/// A serializer of a library.
#[derive(Debug)]
pub struct Serializer {
    instance: Instance,
    serialize: Convert,
    deserialize: Convert,
}

impl Serializer {
    /// Appends what is to be stored of this metadata. After an error, part of it may be there.
    ///
    /// # Errors
    /// What the library said, or that it wrote more than 256 MiB.
    pub fn serialize(&self, metadata: &str, bytes: &mut Vec<u8>) -> Result<(), CallError> {
        self.convert(self.serialize, metadata.as_bytes(), bytes)
    }

    /// The metadata of what was stored. Nobody looked whether it is JSON.
    ///
    /// # Errors
    /// What the library said, that it wrote more than 256 MiB, or that it is not UTF-8.
    pub fn deserialize(&self, stored: &[u8]) -> Result<String, CallError> {
        let mut bytes = Vec::new();
        self.convert(self.deserialize, stored, &mut bytes)?;
        String::from_utf8(bytes)
            .map_err(|error| CallError(format!("what it made of the stored bytes is not UTF-8: {error}")))
    }

    fn convert(&self, function: Convert, from: &[u8], into: &mut Vec<u8>) -> Result<(), CallError> {
        let mut out = Gather::output(into, OUTPUT_BYTES_MAX);
        let sink = out.sink();
        let called = call(|error| {
            // SAFETY: as in `Making::create`; the instance is of the same entry and lives; `out` is used by nobody else until
            // the function returned.
            unsafe { function(self.instance.get(), Slice::of(from), &raw const sink, error) }
        });
        match out.overflowed() {
            true => Err(CallError(format!(
                "it wrote what cannot be taken: more than {OUTPUT_BYTES_MAX} bytes, more than there is memory for, or \
                 bytes at a null pointer"
            ))),
            false => called,
        }
    }
}
