//! An event's JSON document: as text, and parsed at most once.

use std::fmt;
use std::sync::OnceLock;

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde_json::Value;

/// An event's metadata.
///
/// Made from a [`Value`], or from JSON text, which `push` then checks. Text is stored as it is given.
#[derive(Clone)]
pub struct Metadata {
    raw: Bytes,
    value: OnceLock<Value>,
    /// Whether `raw` is known to be JSON.
    checked: bool,
}

impl Metadata {
    /// Bytes that have to be JSON.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(crate) fn check(raw: Bytes) -> Result<Self, String> {
        let metadata = Self {
            raw,
            value: OnceLock::new(),
            checked: false,
        };
        metadata.verify()?;
        Ok(Self {
            checked: true,
            ..metadata
        })
    }

    /// Looks whether it is JSON, without building anything.
    pub(crate) fn verify(&self) -> Result<(), String> {
        if self.checked {
            return Ok(());
        }
        serde_json::from_slice::<IgnoredAny>(&self.raw)
            .map(|_| ())
            .map_err(|error| error.to_string())
    }

    /// The JSON text.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// The document, parsed at the first call. Text that is not JSON (which no consumer gives) is `null`.
    pub fn value(&self) -> &Value {
        self.value
            .get_or_init(|| serde_json::from_slice(&self.raw).unwrap_or(Value::Null))
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Metadata({})", String::from_utf8_lossy(&self.raw))
    }
}

impl Default for Metadata {
    /// `{}`
    fn default() -> Self {
        Self {
            raw: Bytes::from_static(b"{}"),
            value: OnceLock::new(),
            checked: true,
        }
    }
}

impl From<Value> for Metadata {
    fn from(value: Value) -> Self {
        let raw = value.to_string().into();
        Self {
            raw,
            value: OnceLock::from(value),
            checked: true,
        }
    }
}

impl From<&Value> for Metadata {
    fn from(value: &Value) -> Self {
        Self {
            raw: value.to_string().into(),
            value: OnceLock::new(),
            checked: true,
        }
    }
}

impl From<Bytes> for Metadata {
    /// JSON text, checked by `push`.
    fn from(raw: Bytes) -> Self {
        Self {
            raw,
            value: OnceLock::new(),
            checked: false,
        }
    }
}

impl From<String> for Metadata {
    fn from(text: String) -> Self {
        Self::from(Bytes::from(text))
    }
}

impl From<&str> for Metadata {
    fn from(text: &str) -> Self {
        Self::from(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<&[u8]> for Metadata {
    fn from(text: &[u8]) -> Self {
        Self::from(Bytes::copy_from_slice(text))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_stays_as_it_is_and_is_checked() {
        let metadata = Metadata::from("{ \"a\": 1 }");
        assert!(metadata.verify().is_ok());
        assert_eq!(metadata.raw().as_ref(), b"{ \"a\": 1 }");
        assert_eq!(metadata.value(), &json!({"a": 1}));
        assert!(Metadata::from("{").verify().is_err());
        assert!(Metadata::from("").verify().is_err());
        assert!(Metadata::from("{} x").verify().is_err());
        assert!(Metadata::check(Bytes::from_static(b"\xff")).is_err());
    }

    #[test]
    fn values_are_written_compactly() {
        let value = json!({"b": [1, null], "a": "x"});
        assert_eq!(Metadata::from(&value).raw(), Metadata::from(value.clone()).raw());
        assert_eq!(Metadata::from(value.clone()).value(), &value);
        assert_eq!(Metadata::default().value(), &json!({}));
    }
}
