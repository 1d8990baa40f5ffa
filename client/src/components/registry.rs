//! Which types of components this process knows.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, PoisonError, RwLock};

use mofka_net::Pattern;
use mofka_plugins::LibraryPolicy;
use serde_json::Value;

use super::compact::Compact;
use super::library::{load, offer};
use super::property_list::PropertyList;
use super::schema::SchemaValidator;
use super::selector::KeyHash;
use super::validator::PatternValidator;
use super::{Config, PartitionSelector, Serializer, Validator, guarded, object_at};
use crate::error::{BoxError, ComponentError};

pub(super) type Factory<T> = Arc<dyn Fn(&Config) -> Result<Arc<T>, BoxError> + Send + Sync>;

/// What a built-in type makes; `None`: nothing has to be done.
type BuiltIn<T> = fn(&str, &Config) -> Option<Result<Option<Arc<T>>, BoxError>>;

/// The types of one kind of component.
pub(super) struct Registry<T: ?Sized> {
    what: &'static str,
    built_in: BuiltIn<T>,
    known: RwLock<BTreeMap<String, Factory<T>>>,
}

pub(super) static VALIDATORS: Registry<dyn Validator> = Registry::new("validator", |name, config| {
    Some(match name {
        "default" => Ok(None),
        "schema" => SchemaValidator::new(config).map(|made| Some(Arc::new(made) as Arc<dyn Validator>)),
        "eventbridge" => {
            let pattern = object_at(config, "schema").and_then(|pattern| Ok(Pattern::parse(pattern)?));
            pattern.map(|pattern| Some(Arc::new(PatternValidator(pattern)) as Arc<dyn Validator>))
        }
        _ => return None,
    })
});

pub(super) static SELECTORS: Registry<dyn PartitionSelector> =
    Registry::new("partition selector", |name, config| {
        Some(match name {
            "default" => Ok(None),
            "key_hash" => KeyHash::new(config).map(|made| Some(Arc::new(made) as Arc<dyn PartitionSelector>)),
            _ => return None,
        })
    });

pub(super) static SERIALIZERS: Registry<dyn Serializer> = Registry::new("serializer", |name, config| {
    Some(match name {
        "default" => Ok(None),
        "schema" => Compact::new(config).map(|made| Some(Arc::new(made) as Arc<dyn Serializer>)),
        "property_list_serializer" => {
            PropertyList::new(config).map(|made| Some(Arc::new(made) as Arc<dyn Serializer>))
        }
        _ => return None,
    })
});

impl<T: ?Sized> Registry<T> {
    const fn new(what: &'static str, built_in: BuiltIn<T>) -> Self {
        Self {
            what,
            built_in,
            known: RwLock::new(BTreeMap::new()),
        }
    }

    fn error(&self, reason: String) -> ComponentError {
        ComponentError {
            what: self.what,
            reason: reason.into(),
            is_unknown_type: false,
        }
    }

    fn register(&self, name: &str, factory: Factory<T>) -> Result<(), ComponentError> {
        if name.is_empty() || name.contains(':') {
            return Err(self.error(format!(
                "\"{name}\" cannot be a type's name: it is empty, or has a ':' in it"
            )));
        }
        if (self.built_in)(name, &Config::new()).is_some() {
            return Err(self.error(format!("the type \"{name}\" is built in and cannot be replaced")));
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(name.to_owned(), factory);
        Ok(())
    }

    /// Adds a type, unless one of that name is known: whether it did. For types of libraries.
    pub(super) fn add(&self, name: &str, factory: Factory<T>) -> bool {
        if (self.built_in)(name, &Config::new()).is_some() {
            return false;
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        match known.entry(name.to_owned()) {
            Entry::Vacant(place) => {
                place.insert(factory);
                true
            }
            Entry::Occupied(_) => false,
        }
    }

    /// Makes what a document describes. A type that is not known is looked for in a library, as far as these may be loaded.
    pub(super) fn make(
        &self,
        document: &Value,
        libraries: &LibraryPolicy,
    ) -> Result<Option<Arc<T>>, ComponentError> {
        let empty = Config::new();
        let config = match document {
            Value::Null => &empty,
            Value::Object(config) => config,
            other => {
                return Err(self.error(format!("invalid type (expected an object, not {other})")));
            }
        };
        let kind = match config.get("type") {
            None => "default",
            Some(Value::String(kind)) => kind,
            Some(other) => {
                return Err(self.error(format!("invalid \"type\" (expected text, not {other})")));
            }
        };
        let (name, library) = match kind.split_once(':') {
            Some((name, library)) => (name, Some(library)),
            None => (kind, None),
        };
        if let Some(made) = self.make_known(name, config) {
            return made;
        }
        self.load(name, library, libraries)
            .map_err(|reason| ComponentError {
                is_unknown_type: true,
                ..self.error(reason)
            })
            .and_then(|factory| self.make_by(&factory, config).map(Some))
    }

    /// What a type makes that is known in this process.
    fn make_known(&self, name: &str, config: &Config) -> Option<Result<Option<Arc<T>>, ComponentError>> {
        if let Some(factory) = self.factory(name) {
            return Some(self.make_by(&factory, config).map(Some));
        }
        let made = (self.built_in)(name, config)?;
        Some(made.map_err(|error| self.error(error.to_string())))
    }

    fn factory(&self, name: &str) -> Option<Factory<T>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(name).map(Arc::clone)
    }

    fn make_by(&self, factory: &Factory<T>, config: &Config) -> Result<Arc<T>, ComponentError> {
        guarded(|| factory(config)).map_err(|reason| self.error(reason.to_string()))
    }

    /// Looks for a type that is not known in a library: the one that is named, or the one that is named like the type.
    fn load(&self, name: &str, library: Option<&str>, policy: &LibraryPolicy) -> Result<Factory<T>, String> {
        let what = self.what;
        let file = library.map_or_else(|| format!("lib{name}.so"), str::to_owned);
        let loaded = load(&file, policy).map_err(|error| {
            let told = match library {
                Some(_) => error.to_string(),
                None => format!("Trying to load {file} failed: {}", error.reason()),
            };
            format!("{told}; no {what} of type \"{name}\" is known in this process without it")
        })?;
        self.factory(name).ok_or_else(|| {
            let offer = offer(&loaded);
            format!("Factory method not found for type {name}: {file} was loaded, and offers no such {what}, but {offer}")
        })
    }
}

/// Makes a type of validator known in this process, under a name for the key `type` of a topic's validator. The
/// factory gets the whole document. A later registration takes the place of an earlier one, for topics that are opened from
/// then on.
///
/// # Errors
/// When the name is that of a built-in type, is empty or has a `:` in it.
pub fn register_validator<V: Validator + 'static>(
    name: &str,
    factory: impl Fn(&serde_json::Map<String, Value>) -> Result<V, BoxError> + Send + Sync + 'static,
) -> Result<(), ComponentError> {
    VALIDATORS.register(name, Arc::new(move |config| Ok(Arc::new(factory(config)?))))
}

/// Makes a type of partition selector known, as [`register_validator`] does. Each topic handle gets one of its own.
///
/// # Errors
/// As there.
pub fn register_partition_selector<S: PartitionSelector + 'static>(
    name: &str,
    factory: impl Fn(&serde_json::Map<String, Value>) -> Result<S, BoxError> + Send + Sync + 'static,
) -> Result<(), ComponentError> {
    SELECTORS.register(name, Arc::new(move |config| Ok(Arc::new(factory(config)?))))
}

/// Makes a type of serializer known, as [`register_validator`] does.
///
/// # Errors
/// As there.
pub fn register_serializer<S: Serializer + 'static>(
    name: &str,
    factory: impl Fn(&serde_json::Map<String, Value>) -> Result<S, BoxError> + Send + Sync + 'static,
) -> Result<(), ComponentError> {
    SERIALIZERS.register(name, Arc::new(move |config| Ok(Arc::new(factory(config)?))))
}
