//! Which types of components this process knows.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use mofka_net::Pattern;
use serde_json::Value;

use super::compact::Compact;
use super::property_list::PropertyList;
use super::schema::SchemaValidator;
use super::selector::KeyHash;
use super::validator::PatternValidator;
use super::{Config, PartitionSelector, Serializer, Validator, guarded, object_at};
use crate::error::{BoxError, ComponentError};

type Factory<T> = Arc<dyn Fn(&Config) -> Result<Arc<T>, BoxError> + Send + Sync>;

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

    /// Makes what a document describes.
    pub(super) fn make(&self, document: &Value) -> Result<Option<Arc<T>>, ComponentError> {
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
        let factory = {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            known.get(name).map(Arc::clone)
        };
        if let Some(factory) = factory {
            let made = guarded(|| factory(config));
            return made.map(Some).map_err(|reason| self.error(reason.to_string()));
        }
        if library.is_none()
            && let Some(made) = (self.built_in)(name, config)
        {
            return made.map_err(|error| self.error(error.to_string()));
        }
        let what = self.what;
        let hint = match library {
            Some(library) => {
                format!("; \"{library}\" is not loaded: this client takes types that the program registers")
            }
            None => String::new(),
        };
        Err(ComponentError {
            is_unknown_type: true,
            ..self.error(format!(
                "no {what} of type \"{name}\" is known in this process{hint}"
            ))
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
