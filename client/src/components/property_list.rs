//! Values of a list of text properties, without their names.
//!
//! ```text
//! width (1 byte: 1, 2, 4 or 8), then for each property in the order of the names: length (that wide, little-endian), UTF-8 text
//! ```

use bytes::Bytes;
use serde_json::{Map, Value};

use super::{Config, Serializer};
use crate::error::BoxError;
use crate::metadata::Metadata;

/// See the module.
pub(super) struct PropertyList {
    /// Sorted, each once.
    names: Vec<String>,
}

impl PropertyList {
    pub(super) fn new(config: &Config) -> Result<Self, BoxError> {
        let Some(Value::Array(properties)) = config.get("properties") else {
            return Err("there is no \"properties\": a list of names".into());
        };
        let mut names = Vec::with_capacity(properties.len());
        for name in properties {
            let name = name.as_str();
            let name = name.ok_or("\"properties\" has something that is not a name")?;
            names.push(name.to_owned());
        }
        names.sort();
        if let Some(pair) = names.windows(2).find(|pair| pair.first() == pair.last()) {
            return Err(format!("\"properties\" has {pair:?} twice").into());
        }
        Ok(Self { names })
    }
}

impl Serializer for PropertyList {
    fn serialize(&self, metadata: &Metadata, bytes: &mut Vec<u8>) -> Result<(), BoxError> {
        let object = metadata.try_value()?.as_object();
        let object = object.ok_or("metadata that is stored as a list of properties has to be an object")?;
        if object.len() > self.names.len() {
            let other = object.keys().find(|name| self.names.binary_search(name).is_err());
            return Err(format!("property {other:?} is not in the list, and would be lost").into());
        }
        let mut values = Vec::with_capacity(self.names.len());
        for name in &self.names {
            match object.get(name) {
                Some(Value::String(text)) => values.push(text.as_bytes()),
                Some(other) => return Err(format!("property \"{name}\" is not text but {other}").into()),
                None => return Err(format!("property \"{name}\" is missing").into()),
            }
        }
        let longest = values.iter().map(|value| value.len() as u64).max().unwrap_or(0);
        let width: u8 = match longest {
            0..=0xff => 1,
            0x100..=0xffff => 2,
            0x1_0000..=0xffff_ffff => 4,
            _ => 8,
        };
        bytes.push(width);
        for value in values {
            let length = (value.len() as u64).to_le_bytes();
            bytes.extend(length.iter().take(width.into()));
            bytes.extend_from_slice(value);
        }
        Ok(())
    }

    fn deserialize(&self, bytes: &Bytes) -> Result<Metadata, BoxError> {
        let (width, mut rest) = match bytes.split_first() {
            Some((width @ (1 | 2 | 4 | 8), rest)) => (usize::from(*width), rest),
            other => {
                return Err(format!(
                    "{:?} cannot be the width of lengths",
                    other.map(|(width, _)| width)
                )
                .into());
            }
        };
        let mut object = Map::new();
        for name in &self.names {
            let value = take(&mut rest, width).and_then(|length| {
                let mut wide = [0; 8];
                wide.iter_mut().zip(length).for_each(|(to, from)| *to = *from);
                take(&mut rest, usize::try_from(u64::from_le_bytes(wide)).ok()?)
            });
            let value = value.ok_or_else(|| format!("it ends within property \"{name}\""))?;
            object.insert(name.clone(), std::str::from_utf8(value)?.into());
        }
        match rest.len() {
            0 => Ok(Value::Object(object).into()),
            more => Err(format!("{more} bytes follow the last property").into()),
        }
    }
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(bytes)?;
    *rest = left;
    Some(taken)
}
