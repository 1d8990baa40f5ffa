//! Events as JSON lines.

use serde_json::{Map, Value};

use crate::base64;

/// An event to be printed.
pub(crate) struct EventFacts<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: usize,
    pub(crate) event_id: u64,
    /// When the node accepted it: Unix time in microseconds.
    pub(crate) timestamp_us: u64,
    pub(crate) metadata: &'a Value,
    /// Size of the event's data, fetched or not.
    pub(crate) data_bytes: u64,
    /// What was fetched of the data, when any was wanted.
    pub(crate) data: Option<&'a [u8]>,
}

/// The line: data that is UTF-8 as `data`, other data as `data_base64`.
pub(crate) fn render(event: &EventFacts<'_>) -> String {
    let mut object = Map::new();
    object.insert("partition".to_owned(), event.partition.into());
    object.insert("id".to_owned(), event.event_id.into());
    object.insert("timestamp_us".to_owned(), event.timestamp_us.into());
    object.insert("metadata".to_owned(), event.metadata.clone());
    object.insert("data_bytes".to_owned(), event.data_bytes.into());
    if let Some(data) = event.data {
        match std::str::from_utf8(data) {
            Ok(text) => object.insert("data".to_owned(), text.into()),
            Err(_) => object.insert("data_base64".to_owned(), base64::encode(data).into()),
        };
    }
    Value::Object(object).to_string()
}

/// Metadata and data of a line as [`render`] writes it. Where the event was does not matter.
///
/// # Errors
/// What is wrong with the line.
pub(crate) fn parse(line: &[u8]) -> Result<(Value, Vec<u8>), String> {
    let mut object: Map<String, Value> =
        serde_json::from_slice(line).map_err(|e| format!("not the JSON object of an event: {e}"))?;
    let metadata = object
        .remove("metadata")
        .unwrap_or_else(|| Value::Object(Map::new()));
    let text = |value: Value, key: &str| match value {
        Value::String(text) => Ok(text),
        other => Err(format!("\"{key}\" is {other}, and must be text")),
    };
    let data = match (object.remove("data"), object.remove("data_base64")) {
        (None, None) => Vec::new(),
        (Some(data), None) => text(data, "data")?.into_bytes(),
        (None, Some(coded)) => {
            base64::decode(&text(coded, "data_base64")?).map_err(|e| format!("\"data_base64\": {e}"))?
        }
        (Some(_), Some(_)) => return Err("both \"data\" and \"data_base64\" are there".to_owned()),
    };
    let whole = object.remove("data_bytes").and_then(|bytes| bytes.as_u64());
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
    use serde_json::json;

    use super::*;

    fn line(metadata: &Value, data: Option<&[u8]>) -> String {
        render(&EventFacts {
            topic: "t",
            partition: 1,
            event_id: 7,
            timestamp_us: 9,
            metadata,
            data_bytes: data.map_or(2, |data| data.len() as u64),
            data,
        })
    }

    #[test]
    fn text_stays_text_and_bytes_are_coded() {
        let metadata = json!({"x": 1});
        assert_eq!(
            line(&metadata, None),
            r#"{"data_bytes":2,"id":7,"metadata":{"x":1},"partition":1,"timestamp_us":9}"#
        );
        assert!(line(&metadata, Some(b"ab")).starts_with(r#"{"data":"ab","#));
        assert!(line(&metadata, Some(&[0xFF, 0])).starts_with(r#"{"data_base64":"/wA=","#));
    }

    #[test]
    fn what_was_printed_can_be_produced() {
        let metadata = json!([1, "a"]);
        for data in [&b""[..], b"ab", &[0xFF, 0]] {
            let (read, bytes) = parse(line(&metadata, Some(data)).as_bytes()).unwrap();
            assert_eq!((&read, bytes.as_slice()), (&metadata, data));
        }
        assert_eq!(parse(b"{}").unwrap(), (json!({}), vec![]));
        for (wrong, word) in [
            (line(&metadata, None), "without all of its data"),
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
