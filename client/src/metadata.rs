//! An event's JSON document: as text, and parsed at most once.

use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::error::MetadataError;

/// An event's metadata.
///
/// Made from a [`Value`], or from JSON text, which `push` then checks, or [`Metadata::parse`] at once. Text is stored as it is given.
#[derive(Clone)]
pub struct Metadata {
    raw: Bytes,
    /// The document, or why there is none.
    value: OnceLock<Result<Value, Arc<str>>>,
    /// Whether `raw` is known to be JSON.
    checked: bool,
}

impl Metadata {
    /// JSON text, checked here and not by `push`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: impl Into<Bytes>) -> Result<Self, MetadataError> {
        Self::check(text.into()).map_err(|reason| MetadataError::NotJson {
            reason: reason.into(),
        })
    }

    /// A JSON string with this content, whatever that is.
    pub fn string(text: impl Into<String>) -> Self {
        Self::from(Value::String(text.into()))
    }

    /// The content of a JSON string.
    ///
    /// # Errors
    /// When it is something else, or no document. Its JSON text is [`Metadata::raw`].
    pub fn as_str(&self) -> Result<&str, MetadataError> {
        let value = self.try_value()?;
        value.as_str().ok_or(MetadataError::NotString {
            kind: match value {
                Value::Null => "null",
                Value::Bool(_) => "a truth value",
                Value::Number(_) => "a number",
                Value::String(_) => "a string",
                Value::Array(_) => "an array",
                Value::Object(_) => "an object",
            },
        })
    }

    /// The document, to be changed and made metadata of again; `null` where [`Metadata::try_value`] fails.
    pub fn into_value(mut self) -> Value {
        self.value();
        self.value.take().and_then(Result::ok).unwrap_or_default()
    }

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
        verify(&self.raw)
    }

    /// The JSON text itself: nobody has to count who has it.
    pub(crate) fn into_raw(self) -> Bytes {
        self.raw
    }

    /// The JSON text.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// The document, parsed at the first call; `null` where [`Metadata::try_value`] fails, whose word on exactness holds here too.
    pub fn value(&self) -> &Value {
        self.try_value().unwrap_or(&Value::Null)
    }

    /// The document, parsed at the first call. It has what a [`Value`] can hold: numbers beyond the range of `u64` and `i64`, and
    /// those with more digits than an `f64`, are rounded to it, and of keys that are there twice the last counts. The text is
    /// exact ([`Metadata::raw`]).
    ///
    /// # Errors
    /// When no [`Value`] can hold it: some text that is JSON has numbers beyond an `f64` (`1e400`), halves of surrogate pairs
    /// (`"\ud800"`), or more than 127 levels. Or when it is not JSON.
    pub fn try_value(&self) -> Result<&Value, MetadataError> {
        let parse = || serde_json::from_slice(&self.raw).map_err(|error| error.to_string().into());
        let parsed = self.value.get_or_init(parse).as_ref();
        parsed.map_err(|reason| MetadataError::NoValue {
            reason: Arc::clone(reason),
        })
    }
}

/// Looks whether this is JSON, without building anything.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn verify(raw: &[u8]) -> Result<(), String> {
    // Of what is not looked at, the parser would not see that.
    let text = std::str::from_utf8(raw).map_err(|error| error.to_string())?;
    serde_json::from_str::<IgnoredAny>(text)
        .map(|_| ())
        .map_err(|error| error.to_string())
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
            value: OnceLock::from(Ok(value)),
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
        assert!(
            Metadata::from(Bytes::from_static(b"{\"a\":\"\xff\"}"))
                .verify()
                .is_err()
        );
    }

    #[test]
    fn text_that_is_parsed_is_checked_at_once() {
        let metadata = Metadata::parse("[1, 2]").unwrap();
        assert_eq!(
            (metadata.value(), metadata.raw().as_ref()),
            (&json!([1, 2]), &b"[1, 2]"[..])
        );
        for text in ["", "{", "{} x", "nul", "{'a': 1}", "\"\n\""] {
            let error = Metadata::parse(text).unwrap_err().to_string();
            assert!(error.starts_with("Could not parse JSON: "), "{error}");
        }
        assert!(Metadata::parse(vec![0xff]).is_err());
    }

    #[test]
    fn text_that_is_not_parsed_is_a_json_string() {
        for text in ["", "{", "{\"a\": 1}", "\u{1f980}\n\"\\"] {
            let metadata = Metadata::string(text);
            assert_eq!(metadata.value(), &json!(text));
            assert_eq!(metadata.as_str().unwrap(), text);
            // What is sent is JSON, quoted and escaped.
            assert_eq!(
                Metadata::parse(metadata.raw().clone()).unwrap().as_str().unwrap(),
                text
            );
        }
    }

    #[test]
    fn only_a_json_string_has_text() {
        assert_eq!(Metadata::from("\"x\"").as_str().unwrap(), "x");
        for (value, kind) in [
            (json!(null), "null"),
            (json!(true), "a truth value"),
            (json!(1), "a number"),
            (json!([]), "an array"),
            (json!({}), "an object"),
        ] {
            let error = Metadata::from(value).as_str().unwrap_err();
            assert!(matches!(error, MetadataError::NotString { kind: told } if told == kind));
            assert!(
                error.to_string().starts_with("Metadata content is not a string"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_document_that_no_value_can_hold_is_an_error_and_no_null() {
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        for text in ["{\"n\": 1e400}", "{\"s\": \"\\ud800\"}", &deep] {
            let metadata = Metadata::parse(text.to_owned()).unwrap();
            for error in [metadata.try_value().unwrap_err(), metadata.as_str().unwrap_err()] {
                assert!(matches!(error, MetadataError::NoValue { .. }), "{error}");
                assert!(
                    error.to_string().starts_with("Could not make a value of JSON: "),
                    "{error}"
                );
            }
            assert_eq!(metadata.raw().as_ref(), text.as_bytes());
            // As it always was, for those who do not ask.
            assert_eq!(metadata.value(), &Value::Null);
            assert_eq!(metadata.into_value(), Value::Null);
        }
        let null = Metadata::from("null");
        assert_eq!(null.try_value().unwrap(), &Value::Null);
    }

    #[test]
    fn a_document_is_taken_changed_and_made_metadata_again() {
        for metadata in [
            Metadata::from("{\"a\": 1}"),
            Metadata::from(json!({"a": 1})),
            Metadata::from(&json!({"a": 1})),
        ] {
            let mut value = metadata.into_value();
            value["b"] = json!([2]);
            assert_eq!(Metadata::from(value).raw().as_ref(), b"{\"a\":1,\"b\":[2]}");
        }
        assert_eq!(Metadata::default().into_value(), json!({}));
    }

    #[test]
    fn values_are_written_compactly() {
        let value = json!({"b": [1, null], "a": "x"});
        assert_eq!(Metadata::from(&value).raw(), Metadata::from(value.clone()).raw());
        assert_eq!(Metadata::from(value.clone()).value(), &value);
        assert_eq!(Metadata::default().value(), &json!({}));
    }
}
