//! Validators that the node itself enforces: those it knows, when the topic says so.
//!
//! Clients validate before they push. A topic whose validator says `"enforce": true` does not rely on that.

use mofka_log::{Batch, TopicRecord};
use mofka_net::{ErrorCode, MetadataSchema, Pattern, WireError};
use serde_json::Value;

/// What metadata has to be.
pub(crate) enum Enforcer {
    Schema(MetadataSchema),
    Pattern(Pattern),
}

impl Enforcer {
    /// What a topic's validator asks the node to enforce, if it does.
    ///
    /// # Errors
    /// When it cannot be enforced here, or makes no sense.
    pub(crate) fn of(topic: &TopicRecord) -> Result<Option<Self>, String> {
        let validator = &topic.validator;
        match validator.get("enforce") {
            None | Some(Value::Bool(false)) => return Ok(None),
            Some(Value::Bool(true)) => {}
            Some(other) => return Err(format!("the validator's \"enforce\" is {other}: true or false")),
        }
        if let Some(serializer) = own_serializer(topic) {
            return Err(format!(
                "the validator is to be enforced by the node, which cannot read metadata of a serializer of type \"{serializer}\""
            ));
        }
        let schema = validator.get("schema").unwrap_or(&Value::Null);
        match type_of(validator) {
            "default" => Ok(None),
            "schema" => MetadataSchema::parse(schema)
                .map(|schema| Some(Self::Schema(schema)))
                .map_err(|error| format!("the validator's \"schema\" is {error}")),
            "eventbridge" => Pattern::parse(schema)
                .map(|pattern| Some(Self::Pattern(pattern)))
                .map_err(|error| format!("the validator: {error}")),
            other => Err(format!(
                "a validator of type \"{other}\" runs in clients only: it cannot be enforced by the node, which knows \"schema\" and \
                 \"eventbridge\""
            )),
        }
    }

    /// Checks the metadata of all events of a batch. A batch is taken as a whole or not at all.
    ///
    /// # Errors
    /// Which event does not comply, and why.
    pub(crate) fn check(&self, batch: &Batch) -> Result<(), WireError> {
        for event in batch.events() {
            self.check_one(event.metadata).map_err(|reason| {
                let message = format!(
                    "event {} of a batch of {}: {reason}",
                    event.index,
                    batch.event_count()
                );
                WireError::new(ErrorCode::InvalidMetadata, message)
            })?;
        }
        Ok(())
    }

    fn check_one(&self, metadata: &[u8]) -> Result<(), String> {
        match self {
            Self::Pattern(pattern) if pattern.matches_text(metadata) => Ok(()),
            Self::Pattern(_) => Err("Metadata object does not satisfy eventbridge pattern".to_owned()),
            Self::Schema(schema) => {
                let value: Value = serde_json::from_slice(metadata)
                    .map_err(|error| format!("metadata is not JSON: {error}"))?;
                schema.check(&value)
            }
        }
    }
}

/// The type of the serializer of a topic whose metadata only clients can read; `None`: it is JSON text.
pub(crate) fn own_serializer(topic: &TopicRecord) -> Option<&str> {
    Some(type_of(&topic.serializer)).filter(|kind| *kind != "default")
}

fn type_of(component: &Value) -> &str {
    component.get("type").and_then(Value::as_str).unwrap_or("default")
}
