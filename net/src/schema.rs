//! Which metadata is allowed: JSON Schema.

use serde_json::Value;

mod weight;

/// Violations that are told of one document.
const VIOLATIONS_MAX: usize = 20;
/// Bytes of a value that is quoted in an error.
const QUOTED_BYTES_MAX: usize = 200;

/// Why a JSON value is not a schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON Schema: {reason}")]
pub struct SchemaError {
    /// What is wrong with it, and where.
    pub reason: String,
}

/// A JSON Schema, ready to check: of the draft that its `$schema` names, of draft 7 without one. References lead to other parts
/// of the same schema only: nothing is fetched.
#[derive(Clone, Debug)]
pub struct MetadataSchema {
    schema: jsonschema::Validator,
}

impl MetadataSchema {
    /// Reads a schema.
    ///
    /// # Errors
    /// When it is none, or leads elsewhere.
    pub fn parse(schema: &Value) -> Result<Self, SchemaError> {
        if !matches!(schema, Value::Object(_) | Value::Bool(_)) {
            return Err(SchemaError {
                reason: format!("it is {}", quoted(&schema.to_string())),
            });
        }
        weight::check(schema).map_err(|reason| SchemaError { reason })?;
        let names_a_draft = schema.get("$schema").is_some();
        let mut options = jsonschema::options();
        if !names_a_draft {
            options = options.with_draft(jsonschema::Draft::Draft7);
        }
        let schema = options.build(schema).map_err(|error| SchemaError {
            reason: format!("{error}, at \"{}\"", error.instance_path()),
        })?;
        Ok(Self { schema })
    }

    /// Checks metadata.
    ///
    /// # Errors
    /// What does not comply, and where; 20 violations at most.
    pub fn check(&self, metadata: &Value) -> Result<(), String> {
        if self.schema.is_valid(metadata) {
            return Ok(());
        }
        let mut text = "Metadata does not comply to required schema:".to_owned();
        for error in self.schema.iter_errors(metadata).take(VIOLATIONS_MAX) {
            let instance = quoted(&error.instance().to_string());
            text.push_str(&format!("\n'{}' - '{instance}': {error}", error.instance_path()));
        }
        Err(text)
    }
}

/// Cut to a length that fits a line of a log.
fn quoted(text: &str) -> String {
    match text.char_indices().find(|(at, _)| *at >= QUOTED_BYTES_MAX) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
