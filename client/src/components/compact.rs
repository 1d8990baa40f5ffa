//! Metadata without the names that its schema knows.
//!
//! ```text
//! document  version (1), value
//! value     tag, then what it says; a struct's values follow in the order of the sorted names of its schema's properties
//!
//! 00 null   01 false   02 true
//! 03 number: f64, little-endian          04 number: varint        05 number: varint of -1 - n
//! 06 text: varint bytes, UTF-8           07 array: varint count, values
//! 08 object: varint count, (varint bytes, name, value)...
//! 09 struct: presence of each property (bits, lowest first, whole bytes), the values of those present,
//!            then what the schema does not know: varint count, (varint bytes, name, value)...
//! 0a a value of the schema's enum: varint place among its numbers, truth values, null and texts of up to 256 bytes
//! 10..7f number 0..111                   80..ff text of 0..127 bytes
//! ```
//!
//! A varint has 7 bits a byte, the lowest first, the highest bit set on all but the last. Whatever does not fit the schema is stored all
//! the same: each value says what it is. The schema must not change as long as events are stored.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use serde_json::Value;

use super::{Config, Serializer, object_at};
use crate::error::BoxError;
use crate::metadata::Metadata;

const VERSION: u8 = 1;
/// Values inside one another: what the JSON parser allows.
const DEPTH_MAX: usize = 128;
/// Bytes of a text of the schema's enum that is stored as its place.
const CHOICE_BYTES_MAX: usize = 256;

mod tag {
    pub(super) const NULL: u8 = 0x00;
    pub(super) const FALSE: u8 = 0x01;
    pub(super) const TRUE: u8 = 0x02;
    pub(super) const FLOAT: u8 = 0x03;
    pub(super) const UNSIGNED: u8 = 0x04;
    pub(super) const NEGATIVE: u8 = 0x05;
    pub(super) const TEXT: u8 = 0x06;
    pub(super) const ARRAY: u8 = 0x07;
    pub(super) const OBJECT: u8 = 0x08;
    pub(super) const STRUCT: u8 = 0x09;
    pub(super) const ENUM: u8 = 0x0a;
    /// Numbers up to 0x7f - this.
    pub(super) const SMALL: u8 = 0x10;
    /// Texts up to 0xff - this.
    pub(super) const SHORT: u8 = 0x80;
}

/// What a schema says of a value that helps to store it.
#[derive(Debug, Default)]
struct Shape {
    /// Sorted by name.
    properties: Vec<(String, Shape)>,
    /// Of each element of an array.
    items: Option<Box<Shape>>,
    choices: Vec<Value>,
}

/// Of what the schema says nothing.
static ANY: Shape = Shape {
    properties: Vec::new(),
    items: None,
    choices: Vec::new(),
};

impl Shape {
    /// Other keywords do not matter here: what they allow or forbid is stored alike.
    fn of(schema: &Value) -> Self {
        let mut shape = Self::default();
        if let Some(Value::Object(properties)) = schema.get("properties") {
            let properties = properties
                .iter()
                .map(|(name, schema)| (name.clone(), Self::of(schema)));
            shape.properties = properties.collect();
            shape.properties.sort_by(|a, b| a.0.cmp(&b.0));
        }
        if let Some(items @ Value::Object(_)) = schema.get("items") {
            shape.items = Some(Box::new(Self::of(items)));
        }
        if let Some(Value::Array(choices)) = schema.get("enum") {
            shape.choices = choices
                .iter()
                .filter(|choice| is_short(choice))
                .cloned()
                .collect();
        }
        shape
    }

    fn property(&self, name: &str) -> Option<usize> {
        self.properties
            .binary_search_by(|(known, _)| known.as_str().cmp(name))
            .ok()
    }

    fn items(&self) -> &Self {
        self.items.as_deref().unwrap_or(&ANY)
    }
}

/// Whether a value may be stored as its place among the schema's. Large ones are not: a few bytes would become many.
fn is_short(choice: &Value) -> bool {
    match choice {
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
        Value::String(text) => text.len() <= CHOICE_BYTES_MAX,
        Value::Array(_) | Value::Object(_) => false,
    }
}

/// See the module.
pub(super) struct Compact {
    shape: Shape,
}

impl Compact {
    pub(super) fn new(config: &Config) -> Result<Self, BoxError> {
        let shape = Shape::of(object_at(config, "schema")?);
        Ok(Self { shape })
    }
}

impl Serializer for Compact {
    fn serialize(&self, metadata: &Metadata, bytes: &mut Vec<u8>) -> Result<(), BoxError> {
        bytes.push(VERSION);
        encode::value(metadata.try_value()?, &self.shape, bytes, DEPTH_MAX)
    }

    fn deserialize(&self, bytes: &Bytes) -> Result<Metadata, BoxError> {
        match bytes.split_first() {
            Some((&VERSION, rest)) => decode::document(rest, &self.shape).map(Metadata::from),
            Some((version, _)) => Err(format!("version {version} of the compact form is not known").into()),
            None => Err("it is empty".into()),
        }
    }
}
