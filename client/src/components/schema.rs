//! Metadata that complies to a JSON Schema.

use mofka_net::MetadataSchema;

use super::{Config, Validator};
use crate::data::Data;
use crate::error::BoxError;
use crate::metadata::Metadata;

/// Validates by the schema under the key `schema`.
pub(super) struct SchemaValidator {
    schema: MetadataSchema,
}

impl SchemaValidator {
    pub(super) fn new(config: &Config) -> Result<Self, BoxError> {
        let schema = config.get("schema").ok_or("there is no \"schema\"")?;
        let schema = MetadataSchema::parse(schema).map_err(|error| format!("\"schema\" is {error}"))?;
        Ok(Self { schema })
    }
}

impl Validator for SchemaValidator {
    fn validate(&self, metadata: &Metadata, _: &Data) -> Result<(), BoxError> {
        Ok(self.schema.check(metadata.try_value()?)?)
    }
}
