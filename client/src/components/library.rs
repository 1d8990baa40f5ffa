//! Components of shared libraries, as those of topics.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use mofka_net::control::PartitionInfo;
use mofka_plugins::{ComponentType, Library, LibraryPolicy, LoadError, PartitionSelectorType, Partitions};
use serde_json::Value;

use super::registry::{SELECTORS, SERIALIZERS, VALIDATORS};
use super::{Config, PartitionSelector, Selection, Serializer, Validator};
use crate::data::Data;
use crate::error::BoxError;
use crate::metadata::Metadata;

/// Loads a library and makes what it offers known in this process. What is known already stays as it is.
pub(super) fn load(name: &str, policy: &LibraryPolicy) -> Result<Library, LoadError> {
    let library = Library::load(name, policy)?;
    register_library(&library);
    Ok(library)
}

/// Makes known in this process what a library offers that the program has loaded itself, or made. What is known already stays as it
/// is; topics that were opened before keep what they had.
pub fn register_library(library: &Library) {
    for component in library.components() {
        let added = match component.clone() {
            ComponentType::Validator(kind) => VALIDATORS.add(
                component.name(),
                Arc::new(move |config| Ok(Arc::new(kind.create(&text(config))?))),
            ),
            ComponentType::PartitionSelector(kind) => SELECTORS.add(
                component.name(),
                Arc::new(move |config| Ok(Arc::new(LibrarySelector::new(&kind, config)?))),
            ),
            ComponentType::Serializer(kind) => SERIALIZERS.add(
                component.name(),
                Arc::new(move |config| Ok(Arc::new(kind.create(&text(config))?))),
            ),
        };
        if !added {
            tracing::debug!(
                library = library.name(),
                kind = component.kind(),
                name = component.name(),
                "a type that a library offers is known already, and stays what it was"
            );
        }
    }
}

/// What a library offers, for people.
pub(super) fn offer(library: &Library) -> String {
    let types = library.components().iter();
    let types: Vec<_> = types
        .map(|one| format!("{} \"{}\"", one.kind(), one.name()))
        .collect();
    types.join(", ")
}

fn text(config: &Config) -> String {
    Value::Object(config.clone()).to_string()
}

/// Metadata as libraries get it: they are promised UTF-8, of which nobody made sure yet.
fn metadata_text(metadata: &Metadata) -> Result<&str, BoxError> {
    std::str::from_utf8(metadata.raw()).map_err(|error| format!("the metadata is not UTF-8: {error}").into())
}

impl Validator for mofka_plugins::Validator {
    fn validate(&self, metadata: &Metadata, data: &Data) -> Result<(), BoxError> {
        let segments = data.segments().iter().map(Bytes::as_ref);
        Ok(self.validate(metadata_text(metadata)?, segments)?)
    }
}

impl Serializer for mofka_plugins::Serializer {
    fn serialize(&self, metadata: &Metadata, bytes: &mut Vec<u8>) -> Result<(), BoxError> {
        Ok(self.serialize(metadata_text(metadata)?, bytes)?)
    }

    fn deserialize(&self, bytes: &Bytes) -> Result<Metadata, BoxError> {
        let text = self.deserialize(bytes)?;
        Metadata::check(text.into()).map_err(|error| {
            format!("what the serializer made of the stored bytes is not JSON: {error}").into()
        })
    }
}

/// A partition selector of a library, and the partitions that it was last called with.
struct LibrarySelector {
    selector: mofka_plugins::PartitionSelector,
    wants_partitions: bool,
    last: Mutex<Last>,
}

struct Last {
    partitions: Vec<PartitionInfo>,
    described: Partitions,
}

impl LibrarySelector {
    fn new(kind: &PartitionSelectorType, config: &Config) -> Result<Self, BoxError> {
        Ok(Self {
            selector: kind.create(&text(config))?,
            wants_partitions: kind.wants_partitions(),
            last: Mutex::new(Last {
                partitions: Vec::new(),
                described: Partitions {
                    count: 0,
                    described: "[]".into(),
                },
            }),
        })
    }

    /// The partitions as the library knows them. Their text is written only when they changed, and is then another one: by
    /// that the selector sees it.
    fn partitions(&self, partitions: &[PartitionInfo]) -> Result<Partitions, BoxError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.partitions != partitions {
            *last = Last {
                described: Partitions {
                    count: partitions.len() as u64,
                    described: serde_json::to_string(partitions)?.into(),
                },
                partitions: partitions.to_vec(),
            };
        }
        Ok(last.described.clone())
    }
}

impl PartitionSelector for LibrarySelector {
    fn select(&self, event: &Selection<'_>) -> Result<usize, BoxError> {
        let partitions = match self.wants_partitions {
            true => self.partitions(event.partitions)?,
            false => Partitions {
                count: event.partitions.len() as u64,
                described: Arc::default(),
            },
        };
        let requested = event.requested.map(|index| index as u64);
        let selected = self
            .selector
            .select(metadata_text(event.metadata)?, requested, &partitions)?;
        // What is no index at all is one that no partition has.
        Ok(usize::try_from(selected).unwrap_or(usize::MAX))
    }
}
