//! Events as JSON lines.

use serde_json::{Map, Value};

/// An event to be printed.
pub(crate) struct EventFacts<'a> {
    pub(crate) partition: usize,
    pub(crate) event_id: u64,
    pub(crate) metadata: Value,
    /// Size of the event's data, fetched or not.
    pub(crate) data_bytes: u64,
    /// The data, when it was fetched.
    pub(crate) data: Option<&'a [u8]>,
}

/// The line: data that is UTF-8 as `data`, other data as `data_base64`.
pub(crate) fn render(event: EventFacts<'_>) -> String {
    let mut object = Map::new();
    object.insert("partition".to_owned(), event.partition.into());
    object.insert("id".to_owned(), event.event_id.into());
    object.insert("metadata".to_owned(), event.metadata);
    object.insert("data_bytes".to_owned(), event.data_bytes.into());
    if let Some(data) = event.data {
        match std::str::from_utf8(data) {
            Ok(text) => object.insert("data".to_owned(), text.into()),
            Err(_) => object.insert("data_base64".to_owned(), base64(data).into()),
        };
    }
    Value::Object(object).to_string()
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let sextet = usize::try_from(word >> (18 - 6 * place) & 63).unwrap_or(0);
            let letter = ALPHABET.get(sextet).copied().map_or('=', char::from);
            text.push(if place > chunk.len() { '=' } else { letter });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn base64_is_the_common_one() {
        let pairs = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ];
        pairs
            .iter()
            .for_each(|(plain, coded)| assert_eq!(base64(plain.as_bytes()), *coded));
        assert_eq!(base64(&[0xFF, 0xFE, 0xFD]), "//79");
    }

    #[test]
    fn text_stays_text_and_bytes_are_coded() {
        let event = |data| EventFacts {
            partition: 1,
            event_id: 7,
            metadata: json!({"x": 1}),
            data_bytes: 2,
            data,
        };
        assert_eq!(
            render(event(None)),
            r#"{"data_bytes":2,"id":7,"metadata":{"x":1},"partition":1}"#
        );
        assert!(render(event(Some(b"ab"))).starts_with(r#"{"data":"ab","#));
        assert!(render(event(Some(&[0xFF, 0]))).starts_with(r#"{"data_base64":"/wA=","#));
    }
}
