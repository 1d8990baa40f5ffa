//! Events as JSON lines.
//!
//! Metadata goes through as text: a value would round large numbers, sort keys, and hold not all that is JSON.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::base64;

/// An event to be printed.
pub(crate) struct EventFacts<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: usize,
    pub(crate) event_id: u64,
    /// When the node accepted it: Unix time in microseconds.
    pub(crate) timestamp_us: u64,
    /// In one line.
    pub(crate) metadata: &'a RawValue,
    /// Size of the event's data, fetched or not.
    pub(crate) data_bytes: u64,
    /// What was fetched of the data, when any was wanted.
    pub(crate) data: Option<&'a [u8]>,
}

/// JSON text as it was stored, if that is one line; else without the blanks between its parts.
///
/// # Errors
/// When it is not JSON, which a topic's serializer may have made of it.
pub(crate) fn one_line(json: &[u8]) -> Result<Cow<'_, RawValue>, String> {
    let wrong = |error: serde_json::Error| format!("its metadata is not JSON: {error}");
    let text: &RawValue = serde_json::from_slice(json).map_err(wrong)?;
    if !text.get().contains(['\n', '\r']) {
        return Ok(Cow::Borrowed(text));
    }
    let (mut is_text, mut is_escaped) = (false, false);
    let is_kept = |c: &char| {
        is_text ^= *c == '"' && !is_escaped;
        is_escaped = *c == '\\' && !is_escaped;
        is_text || !c.is_ascii_whitespace()
    };
    let line = text.get().chars().filter(is_kept).collect();
    RawValue::from_string(line).map(Cow::Owned).map_err(wrong)
}

/// The keys of a line, in the order of their names.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
    data_bytes: u64,
    id: u64,
    metadata: &'a RawValue,
    partition: usize,
    timestamp_us: u64,
}

/// The line: data that is UTF-8 as `data`, other data as `data_base64`.
///
/// # Errors
/// None that is known.
pub(crate) fn render(event: &EventFacts<'_>) -> Result<String, String> {
    let data = event.data.map(|data| std::str::from_utf8(data).map_err(|_| data));
    let line = Line {
        data: data.and_then(Result::ok),
        data_base64: data.and_then(Result::err).map(base64::encode),
        data_bytes: event.data_bytes,
        id: event.event_id,
        metadata: event.metadata,
        partition: event.partition,
        timestamp_us: event.timestamp_us,
    };
    serde_json::to_string(&line).map_err(|error| error.to_string())
}

/// Metadata, as it is written, and data of a line as [`render`] writes it. Where the event was does not matter.
///
/// # Errors
/// What is wrong with the line.
pub(crate) fn parse(line: &[u8]) -> Result<(&str, Vec<u8>), String> {
    let mut object: BTreeMap<String, &RawValue> =
        serde_json::from_slice(line).map_err(|e| format!("not the JSON object of an event: {e}"))?;
    let metadata = object.remove("metadata").map_or("{}", RawValue::get);
    let text = |value: &RawValue, key: &str| {
        serde_json::from_str::<String>(value.get())
            .map_err(|_| format!("\"{key}\" is {value}, and must be text"))
    };
    let data = match (object.remove("data"), object.remove("data_base64")) {
        (None, None) => Vec::new(),
        (Some(data), None) => text(data, "data")?.into_bytes(),
        (None, Some(coded)) => {
            base64::decode(&text(coded, "data_base64")?).map_err(|e| format!("\"data_base64\": {e}"))?
        }
        (Some(_), Some(_)) => return Err("both \"data\" and \"data_base64\" are there".to_owned()),
    };
    let whole = object.remove("data_bytes");
    let whole = whole.and_then(|bytes| bytes.get().parse::<u64>().ok());
    if let Some(whole) = whole.filter(|whole| *whole != data.len() as u64) {
        return Err(format!(
            "\"data_bytes\" is {whole}, and {} bytes of data are there: the event was printed without all of its data",
            data.len()
        ));
    }
    let known = ["partition", "id", "timestamp_us"];
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(format!(
            "unknown key \"{key}\": an event has metadata, data or data_base64"
        )),
        None => Ok((metadata, data)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_printed_and_read_as_it_was_stored() {
        let deep = "[".repeat(5000) + &"]".repeat(5000);
        for metadata in [
            r#"{"id":18446744073709551617,"x":0.1000000000000000055511151231257827}"#,
            r#"{"n":1e400}"#,
            r#"{ "z": 1, "a": 2, "a": 3 }"#,
            r#"{"s":"\ud800"}"#,
            &deep,
        ] {
            let printed = line(metadata, Some(b""));
            assert_eq!(parse(printed.as_bytes()).unwrap().0, metadata);
        }
    }

    #[test]
    fn metadata_of_many_lines_becomes_one() {
        for (metadata, expected) in [
            (
                "{\n  \"a b\": [1, 1e400],\r\n\t\"c\": \"\\\" \\\\\"\n}",
                "{\"a b\":[1,1e400],\"c\":\"\\\" \\\\\"}",
            ),
            ("\n {\"a\": 1}\n", "{\"a\": 1}"),
        ] {
            assert_eq!(one_line(metadata.as_bytes()).unwrap().get(), expected);
        }
        assert!(one_line(b"{").unwrap_err().contains("not JSON"));
        assert!(one_line(b"\"\xff\"").is_err());
    }

    fn line(metadata: &str, data: Option<&[u8]>) -> String {
        let facts = EventFacts {
            topic: "t",
            partition: 1,
            event_id: 7,
            timestamp_us: 9,
            metadata: &one_line(metadata.as_bytes()).unwrap(),
            data_bytes: data.map_or(2, |data| data.len() as u64),
            data,
        };
        render(&facts).unwrap()
    }

    #[test]
    fn text_stays_text_and_bytes_are_coded() {
        let metadata = r#"{"x":1}"#;
        assert_eq!(
            line(metadata, None),
            r#"{"data_bytes":2,"id":7,"metadata":{"x":1},"partition":1,"timestamp_us":9}"#
        );
        assert!(line(metadata, Some(b"ab")).starts_with(r#"{"data":"ab","#));
        assert!(line(metadata, Some(&[0xFF, 0])).starts_with(r#"{"data_base64":"/wA=","#));
    }

    #[test]
    fn what_was_printed_can_be_produced() {
        let metadata = r#"[1, "a"]"#;
        for data in [&b""[..], b"ab", &[0xFF, 0]] {
            let line = line(metadata, Some(data));
            let (read, bytes) = parse(line.as_bytes()).unwrap();
            assert_eq!((read, bytes.as_slice()), (metadata, data));
        }
        assert_eq!(parse(b"{}").unwrap(), ("{}", vec![]));
        for (wrong, word) in [
            (line(metadata, None), "without all of its data"),
            ("[]".to_owned(), "object"),
            (r#"{"data": 1}"#.to_owned(), "must be text"),
            (r#"{"data": "", "data_base64": ""}"#.to_owned(), "both"),
            (r#"{"data_base64": "x"}"#.to_owned(), "base64"),
            (r#"{"metdata": {}}"#.to_owned(), "metdata"),
        ] {
            let error = parse(wrong.as_bytes()).unwrap_err();
            assert!(error.contains(word), "{wrong}: {error}");
        }
    }
}
