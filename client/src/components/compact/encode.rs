//! From values to bytes.

use serde_json::{Map, Number, Value};

use super::{ANY, Shape, tag};
use crate::error::BoxError;

/// Appends a value; `depth` more may be inside one another.
pub(super) fn value(value: &Value, shape: &Shape, bytes: &mut Vec<u8>, depth: usize) -> Result<(), BoxError> {
    let deeper = depth
        .checked_sub(1)
        .ok_or("too many values are inside one another")?;
    if let Some(place) = shape.choices.iter().position(|choice| choice == value) {
        bytes.push(tag::ENUM);
        varint(place as u64, bytes);
        return Ok(());
    }
    match value {
        Value::Null => bytes.push(tag::NULL),
        Value::Bool(false) => bytes.push(tag::FALSE),
        Value::Bool(true) => bytes.push(tag::TRUE),
        Value::Number(value) => number(value, bytes),
        Value::String(text) => match u8::try_from(text.len()) {
            Ok(length) if length <= u8::MAX - tag::SHORT => {
                bytes.push(tag::SHORT + length);
                bytes.extend_from_slice(text.as_bytes());
            }
            _ => {
                bytes.push(tag::TEXT);
                name(text, bytes);
            }
        },
        Value::Array(values) => {
            bytes.push(tag::ARRAY);
            varint(values.len() as u64, bytes);
            for element in values {
                self::value(element, shape.items(), bytes, deeper)?;
            }
        }
        Value::Object(object) if shape.properties.is_empty() => {
            bytes.push(tag::OBJECT);
            fields(object.iter(), object.len(), bytes, deeper)?;
        }
        Value::Object(object) => structure(object, shape, bytes, deeper)?,
    }
    Ok(())
}

fn structure(
    object: &Map<String, Value>,
    shape: &Shape,
    bytes: &mut Vec<u8>,
    depth: usize,
) -> Result<(), BoxError> {
    bytes.push(tag::STRUCT);
    let mut known = 0;
    for properties in shape.properties.chunks(8) {
        let mut bits = 0_u8;
        for (place, (name, _)) in properties.iter().enumerate() {
            if object.contains_key(name) {
                bits |= 1 << place;
                known += 1;
            }
        }
        bytes.push(bits);
    }
    for (name, shape) in &shape.properties {
        if let Some(field) = object.get(name) {
            value(field, shape, bytes, depth)?;
        }
    }
    let others = object.iter().filter(|(name, _)| shape.property(name).is_none());
    fields(others, object.len() - known, bytes, depth)
}

fn fields<'a>(
    fields: impl Iterator<Item = (&'a String, &'a Value)>,
    count: usize,
    bytes: &mut Vec<u8>,
    depth: usize,
) -> Result<(), BoxError> {
    varint(count as u64, bytes);
    for (text, field) in fields {
        name(text, bytes);
        value(field, &ANY, bytes, depth)?;
    }
    Ok(())
}

fn number(number: &Number, bytes: &mut Vec<u8>) {
    if let Some(value) = number.as_u64() {
        match u8::try_from(value) {
            Ok(small) if small < tag::SHORT - tag::SMALL => bytes.push(tag::SMALL + small),
            _ => {
                bytes.push(tag::UNSIGNED);
                varint(value, bytes);
            }
        }
    } else if let Some(value) = number.as_i64() {
        bytes.push(tag::NEGATIVE);
        // -1 - n, which is not negative.
        varint(value.unsigned_abs() - 1, bytes);
    } else {
        bytes.push(tag::FLOAT);
        // All others are doubles.
        bytes.extend_from_slice(&number.as_f64().unwrap_or_default().to_le_bytes());
    }
}

fn name(text: &str, bytes: &mut Vec<u8>) {
    varint(text.len() as u64, bytes);
    bytes.extend_from_slice(text.as_bytes());
}

fn varint(mut value: u64, bytes: &mut Vec<u8>) {
    while value >= 0x80 {
        bytes.push(0x80 | value.to_le_bytes()[0]);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
}
