//! Metadata that complies to a JSON Schema.

use serde_json::Value;

use super::{Config, Validator};
use crate::data::Data;
use crate::error::BoxError;
use crate::metadata::Metadata;

/// Violations that are told of one event.
const VIOLATIONS_MAX: usize = 20;
/// Bytes of a value that is quoted in an error.
const QUOTED_BYTES_MAX: usize = 200;

/// Validates by a schema: of the draft that its `$schema` names, of draft 7 without one. References lead to other parts of the
/// same schema only: nothing is fetched.
pub(super) struct SchemaValidator {
    schema: jsonschema::Validator,
}

impl SchemaValidator {
    pub(super) fn new(config: &Config) -> Result<Self, BoxError> {
        let schema = match config.get("schema") {
            Some(schema @ (Value::Object(_) | Value::Bool(_))) => schema,
            Some(other) => return Err(format!("\"schema\" is not a JSON Schema but {other}").into()),
            None => return Err("there is no \"schema\"".into()),
        };
        let names_a_draft = schema.get("$schema").is_some();
        let mut options = jsonschema::options();
        if !names_a_draft {
            options = options.with_draft(jsonschema::Draft::Draft7);
        }
        let schema = options.build(schema).map_err(|error| {
            format!(
                "\"schema\" is not a JSON Schema: {error}, at \"{}\"",
                error.instance_path()
            )
        })?;
        Ok(Self { schema })
    }
}

impl Validator for SchemaValidator {
    fn validate(&self, metadata: &Metadata, _: &Data) -> Result<(), BoxError> {
        let value = metadata.value();
        if self.schema.is_valid(value) {
            return Ok(());
        }
        let mut text = "Metadata does not comply to required schema:".to_owned();
        for error in self.schema.iter_errors(value).take(VIOLATIONS_MAX) {
            let instance = quoted(&error.instance().to_string());
            text.push_str(&format!("\n'{}' - '{instance}': {error}", error.instance_path()));
        }
        Err(text.into())
    }
}

/// Cut to a length that fits a line of a log.
fn quoted(text: &str) -> String {
    match text.char_indices().find(|(at, _)| *at >= QUOTED_BYTES_MAX) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
