//! What a topic brings along: its validator, its partition selector and its serializer.
//!
//! Each is described by a JSON object that is stored with the topic; its key `type` names the implementation, and the rest is for
//! that. They run in clients only: producers validate, select and serialize, consumers deserialize. All of them may be called by
//! several threads at once.
//!
//! | | built in | `type` |
//! |---|---|---|
//! | validator | [`default`](Validator), takes everything; JSON Schema; event pattern | `default`, `schema`, `eventbridge` |
//! | partition selector | in turn; by the value at a place of the metadata | `default`, `key_hash` |
//! | serializer | JSON text; without the names that a schema knows; values of a list of text properties | `default`, `schema`, `property_list_serializer` |
//!
//! Others are registered in the process ([`register_validator`] and its siblings), or come from shared libraries: a type `name`
//! that is not known is looked for in `libname.so`, a type `name:library.so` in that library, as far as
//! [`DriverOptions::libraries`](crate::DriverOptions::libraries) lets it. What a library offers is known from then on.

mod compact;
mod library;
mod property_list;
mod registry;
mod schema;
mod selector;
mod serializer;
mod validator;

#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use mofka_net::control::TopicInfo;
use mofka_plugins::LibraryPolicy;
use serde_json::{Map, Value};

pub use library::register_library;
pub use registry::{register_partition_selector, register_serializer, register_validator};
pub use selector::{PartitionSelector, Selection};
pub use serializer::Serializer;
pub use validator::Validator;

use crate::error::{BoxError, ComponentError};

/// A component's document.
pub(crate) type Config = Map<String, Value>;

/// The components of one topic handle, as they work for it.
pub(crate) struct Components {
    /// `None` takes everything.
    pub(crate) validator: Option<Arc<dyn Validator>>,
    pub(crate) selector: Arc<dyn PartitionSelector>,
    /// The selector is the default one, which does not look at events.
    selects_unseen: bool,
    /// `None` leaves the JSON text as it is.
    pub(crate) serializer: Option<Arc<dyn Serializer>>,
}

impl Components {
    /// Those of a topic.
    ///
    /// # Errors
    /// When one is not known in this process and cannot be loaded, or its document makes no sense.
    pub(crate) fn of(info: &TopicInfo, libraries: &LibraryPolicy) -> Result<Self, ComponentError> {
        Self::new(
            &info.validator,
            &info.partition_selector,
            &info.serializer,
            libraries,
        )
    }

    /// Those that these documents describe. `null` is the default one.
    ///
    /// # Errors
    /// As above.
    pub(crate) fn new(
        validator: &Value,
        selector: &Value,
        serializer: &Value,
        libraries: &LibraryPolicy,
    ) -> Result<Self, ComponentError> {
        let validator = registry::VALIDATORS.make(validator, libraries)?;
        let selector = registry::SELECTORS.make(selector, libraries)?;
        Ok(Self {
            validator,
            selects_unseen: selector.is_none(),
            selector: selector.unwrap_or_else(|| Arc::new(selector::InTurn::default())),
            serializer: registry::SERIALIZERS.make(serializer, libraries)?,
        })
    }

    /// Whether any of them looks at events.
    pub(crate) fn look_at_events(&self) -> bool {
        self.validator.is_some() || self.serializer.is_some() || !self.selects_unseen
    }
}

/// Runs a function of the application, which must not take more down than the event that it was called for.
pub(crate) fn guarded<T>(function: impl FnOnce() -> Result<T, BoxError>) -> Result<T, Arc<str>> {
    match catch_unwind(AssertUnwindSafe(function)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.to_string().into()),
        Err(panic) => Err(
            match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
                (Some(text), _) => format!("it panicked: {text}").into(),
                (_, Some(text)) => format!("it panicked: {text}").into(),
                _ => "it panicked".into(),
            },
        ),
    }
}

/// The object under `key`, which has to be there.
fn object_at<'a>(config: &'a Config, key: &str) -> Result<&'a Value, BoxError> {
    match config.get(key) {
        Some(value @ Value::Object(_)) => Ok(value),
        Some(other) => Err(format!("\"{key}\" has to be an object, and is {other}").into()),
        None => Err(format!("there is no \"{key}\"").into()),
    }
}
