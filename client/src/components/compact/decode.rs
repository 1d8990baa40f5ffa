//! From bytes to values. The bytes may be anything.

use serde_json::{Map, Number, Value};

use super::{ANY, DEPTH_MAX, Shape, tag};
use crate::error::BoxError;

/// The value that is all of these bytes.
pub(super) fn document(bytes: &[u8], shape: &Shape) -> Result<Value, BoxError> {
    let mut reader = Reader(bytes);
    let value = reader.value(shape, DEPTH_MAX)?;
    match reader.0.len() {
        0 => Ok(value),
        more => Err(format!("{more} bytes follow the document").into()),
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: u64) -> Result<&'a [u8], BoxError> {
        let taken = usize::try_from(bytes)
            .ok()
            .and_then(|bytes| self.0.split_at_checked(bytes));
        let (taken, rest) =
            taken.ok_or_else(|| format!("{bytes} bytes are said to follow, and {} do", self.0.len()))?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, BoxError> {
        self.take(1)?
            .first()
            .copied()
            .ok_or_else(|| "it ends within a value".into())
    }

    fn varint(&mut self) -> Result<u64, BoxError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a number has more than 64 bits".into())
    }

    fn text(&mut self, bytes: u64) -> Result<String, BoxError> {
        Ok(std::str::from_utf8(self.take(bytes)?)?.to_owned())
    }

    fn value(&mut self, shape: &Shape, depth: usize) -> Result<Value, BoxError> {
        let deeper = depth
            .checked_sub(1)
            .ok_or("too many values are inside one another")?;
        Ok(match self.byte()? {
            tag::NULL => Value::Null,
            tag::FALSE => Value::Bool(false),
            tag::TRUE => Value::Bool(true),
            tag::FLOAT => {
                let bytes = self.take(8)?.try_into()?;
                let number = Number::from_f64(f64::from_le_bytes(bytes));
                Value::Number(number.ok_or("a number is not finite")?)
            }
            tag::UNSIGNED => self.varint()?.into(),
            tag::NEGATIVE => {
                let below = i64::try_from(self.varint()?)?;
                (-1 - below).into()
            }
            tag::TEXT => {
                let bytes = self.varint()?;
                Value::String(self.text(bytes)?)
            }
            tag::ARRAY => {
                let count = self.varint()?;
                let mut values = Vec::new();
                for _ in 0..count {
                    values.push(self.value(shape.items(), deeper)?);
                }
                Value::Array(values)
            }
            tag::OBJECT => {
                let mut object = Map::new();
                self.fields(&mut object, deeper)?;
                Value::Object(object)
            }
            tag::STRUCT => self.structure(shape, deeper)?,
            tag::ENUM => {
                let place = self.varint()?;
                let choice = usize::try_from(place)
                    .ok()
                    .and_then(|place| shape.choices.get(place));
                choice
                    .cloned()
                    .ok_or_else(|| format!("the schema has no value {place} there"))?
            }
            small @ tag::SMALL..tag::SHORT => (small - tag::SMALL).into(),
            short @ tag::SHORT.. => Value::String(self.text(u64::from(short - tag::SHORT))?),
            other => return Err(format!("no value begins with {other:#04x}").into()),
        })
    }

    fn structure(&mut self, shape: &Shape, depth: usize) -> Result<Value, BoxError> {
        let mut object = Map::new();
        let presence = self.take(shape.properties.len().div_ceil(8) as u64)?;
        for (properties, bits) in shape.properties.chunks(8).zip(presence) {
            for (place, (name, shape)) in properties.iter().enumerate() {
                if bits & (1 << place) != 0 {
                    object.insert(name.clone(), self.value(shape, depth)?);
                }
            }
        }
        self.fields(&mut object, depth)?;
        Ok(Value::Object(object))
    }

    fn fields(&mut self, object: &mut Map<String, Value>, depth: usize) -> Result<(), BoxError> {
        for _ in 0..self.varint()? {
            let bytes = self.varint()?;
            let name = self.text(bytes)?;
            let value = self.value(&ANY, depth)?;
            object.insert(name, value);
        }
        Ok(())
    }
}
