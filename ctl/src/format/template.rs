//! Templates: text in which fields stand in braces, as in `{topic}/{partition}/{id} {metadata.level} {data:hex}`.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

use super::unescape;
use crate::base64;
use crate::event_line::EventFacts;
use crate::suggest;

/// Names of fields, for messages.
const FIELDS: [&str; 8] = [
    "topic",
    "partition",
    "id",
    "time",
    "timestamp_us",
    "metadata",
    "data",
    "data_bytes",
];
/// How a field may be written.
const CODES: [&str; 3] = ["json", "hex", "base64"];

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(String),
    Topic,
    Partition,
    Id,
    Time,
    TimestampUs,
    DataBytes,
    /// All metadata, or what is at this path of it.
    Metadata(Vec<String>, Code),
    Data(Code),
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Code {
    /// Text without quotes, bytes as they are.
    Plain,
    /// JSON. Bytes that are no UTF-8 are replaced.
    Json,
    Hex,
    Base64,
}

impl Template {
    /// # Errors
    /// What is no template.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            plain.push_str(before);
            if let Some(after) = from.strip_prefix("{{") {
                plain.push('{');
                rest = after;
            } else if let Some(after) = from.strip_prefix("}}") {
                plain.push('}');
                rest = after;
            } else {
                let inside = from.strip_prefix('{').and_then(|inside| inside.split_once('}'));
                let (name, after) = inside.ok_or_else(|| {
                    format!(
                        "a brace is not closed, or not opened, at {from:?}: write {{{{ or }}}} for itself"
                    )
                })?;
                if !plain.is_empty() {
                    pieces.push(Piece::Text(unescape(&plain)?));
                    plain.clear();
                }
                pieces.push(field(name)?);
                rest = after;
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(unescape(&plain)?));
        }
        Ok(Self { pieces })
    }

    pub(crate) fn shows_data(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Data(_)))
    }

    /// # Errors
    /// When metadata has at a path what cannot be looked into or written as it is to be.
    pub(crate) fn render(&self, event: &EventFacts<'_>) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Topic => out.extend_from_slice(event.topic.as_bytes()),
                Piece::Partition => out.extend_from_slice(event.partition.to_string().as_bytes()),
                Piece::Id => out.extend_from_slice(event.event_id.to_string().as_bytes()),
                Piece::Time => out.extend_from_slice(utc(event.timestamp_us).as_bytes()),
                Piece::TimestampUs => out.extend_from_slice(event.timestamp_us.to_string().as_bytes()),
                Piece::DataBytes => out.extend_from_slice(event.data_bytes.to_string().as_bytes()),
                Piece::Metadata(path, code) => {
                    // What is not there is nothing.
                    let value = at(event.metadata, path);
                    let coded =
                        value.and_then(|value| value.map_or(Ok(Vec::new()), |v| coded_value(v, *code)));
                    out.extend(coded.map_err(|e| format!("{{metadata.{}}}: {e}", path.join(".")))?);
                }
                Piece::Data(code) => out.extend_from_slice(&coded(event.data.unwrap_or_default(), *code)),
            }
        }
        Ok(out)
    }
}

fn field(text: &str) -> Result<Piece, String> {
    let (name, code) = match text.split_once(':') {
        None => (text, Code::Plain),
        Some((name, "json")) => (name, Code::Json),
        Some((name, "hex")) => (name, Code::Hex),
        Some((name, "base64")) => (name, Code::Base64),
        Some((_, other)) => {
            let hint = suggest::best(other, CODES)
                .map_or_else(String::new, |code| format!("; did you mean {code}?"));
            return Err(format!(
                "{{{text}}}: {other:?} is none of {}{hint}",
                CODES.join(", ")
            ));
        }
    };
    let mut parts = name.split('.').map(str::to_owned);
    let first = parts.next().unwrap_or_default();
    let path: Vec<String> = parts.collect();
    let piece = match first.as_str() {
        "metadata" => return Ok(Piece::Metadata(path, code)),
        "data" if path.is_empty() => return Ok(Piece::Data(code)),
        "topic" => Piece::Topic,
        "partition" => Piece::Partition,
        "id" => Piece::Id,
        "time" => Piece::Time,
        "timestamp_us" => Piece::TimestampUs,
        "data_bytes" => Piece::DataBytes,
        other => {
            let hint = suggest::best(other, FIELDS)
                .map_or_else(String::new, |field| format!("; did you mean {{{field}}}?"));
            return Err(format!(
                "{{{text}}} is no field: there are {{{}}}{hint}",
                FIELDS.join("}, {")
            ));
        }
    };
    match (path.is_empty(), code) {
        (true, Code::Plain) => Ok(piece),
        (false, _) => Err(format!("{{{text}}}: only {{metadata}} has fields inside")),
        (true, _) => Err(format!(
            "{{{text}}}: only {{metadata}} and {{data}} can be written so"
        )),
    }
}

/// What is at a path: keys of objects, and places in lists. Each is taken apart as text, so that numbers stay as they are.
fn at<'a>(value: &'a RawValue, path: &[String]) -> Result<Option<&'a RawValue>, String> {
    let mut value = value;
    for part in path {
        let text = value.get();
        let inner = match text.as_bytes().first() {
            Some(b'{') => parts::<BTreeMap<String, &RawValue>>(text)?.remove(part),
            Some(b'[') => match part.parse::<usize>() {
                Ok(index) => parts::<Vec<&RawValue>>(text)?.get(index).copied(),
                Err(_) => None,
            },
            _ => None,
        };
        match inner {
            Some(inner) => value = inner,
            None => return Ok(None),
        }
    }
    Ok(Some(value))
}

fn parts<'a, T: serde::Deserialize<'a>>(json: &'a str) -> Result<T, String> {
    serde_json::from_str(json).map_err(|error| error.to_string())
}

fn coded_value(value: &RawValue, code: Code) -> Result<Vec<u8>, String> {
    let json = value.get();
    match code {
        Code::Json => Ok(json.as_bytes().to_vec()),
        _ if !json.starts_with('"') => Ok(coded(json.as_bytes(), code)),
        _ => match serde_json::from_str::<String>(json) {
            Ok(text) => Ok(coded(text.as_bytes(), code)),
            Err(error) => Err(format!("{json} is no text ({error}): :json prints it as it is")),
        },
    }
}

fn coded(bytes: &[u8], code: Code) -> Vec<u8> {
    match code {
        Code::Plain => bytes.to_vec(),
        Code::Json => Value::from(String::from_utf8_lossy(bytes))
            .to_string()
            .into_bytes(),
        Code::Hex => bytes
            .iter()
            .flat_map(|byte| format!("{byte:02x}").into_bytes())
            .collect(),
        Code::Base64 => base64::encode(bytes).into_bytes(),
    }
}

/// Unix time in microseconds as RFC 3339 writes it, in UTC.
fn utc(timestamp_us: u64) -> String {
    let (seconds, us) = (timestamp_us / 1_000_000, timestamp_us % 1_000_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years from March on, in eras of 400 years of 146,097 days: the leap day is the last of a year then.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{us:06}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_line::one_line;

    fn rendered(template: &str, data: &[u8]) -> String {
        let metadata = r#"{"level": "FATAL", "n": 7, "deep": {"list": [1, {"x": "y"}]}, "a.b": 1}"#;
        String::from_utf8(of_metadata(metadata, template, data).unwrap()).unwrap()
    }

    fn of_metadata(metadata: &str, template: &str, data: &[u8]) -> Result<Vec<u8>, String> {
        let event = EventFacts {
            topic: "logs",
            partition: 3,
            event_id: 41,
            timestamp_us: 1_700_000_000_000_001,
            metadata: &one_line(metadata.as_bytes()).unwrap(),
            data_bytes: 9,
            data: Some(data),
        };
        Template::parse(template).unwrap().render(&event)
    }

    #[test]
    fn metadata_is_written_as_it_was_stored() {
        let deep = "[".repeat(5000) + &"]".repeat(5000);
        let big = r#"{"n": {"id": 18446744073709551617}, "e": 1e400, "s": "\ud800", "z": 1, "z": 2, "d": D}"#;
        let big = big.replace('D', &deep);
        let got =
            |template: &str| of_metadata(&big, template, b"").map(|bytes| String::from_utf8(bytes).unwrap());
        for (template, expected) in [
            ("{metadata}", big.as_str()),
            (
                "{metadata.n} {metadata.n.id}",
                "{\"id\": 18446744073709551617} 18446744073709551617",
            ),
            ("{metadata.e} {metadata.z}", "1e400 2"),
            ("{metadata.s:json}", "\"\\ud800\""),
            ("{metadata.d}", &deep),
            ("{metadata.e.x}{metadata.d.0.7}{metadata.d.x}{metadata.none}", ""),
        ] {
            assert_eq!(got(template).as_deref(), Ok(expected), "{template}");
        }
        let error = got("{metadata.s}").unwrap_err();
        assert!(
            error.starts_with("{metadata.s}: \"\\ud800\" is no text"),
            "{error}"
        );
    }

    #[test]
    fn fields_are_filled_in() {
        assert_eq!(
            rendered("{topic}/{partition}/{id} {metadata.level} {data:hex}", b"a\xff"),
            "logs/3/41 FATAL 61ff"
        );
        assert_eq!(
            rendered("{metadata.deep.list.1.x}{metadata.deep.list.9}", b""),
            "y"
        );
        assert_eq!(
            rendered("{metadata.level:json} {metadata.n} {metadata.deep.list}", b""),
            "\"FATAL\" 7 [1, {\"x\": \"y\"}]"
        );
        assert_eq!(
            rendered("{data}|{data:json}|{data:base64}|{data_bytes}", b"q\"x"),
            "q\"x|\"q\\\"x\"|cSJ4|9"
        );
        assert_eq!(
            rendered("{{{id}}}\\t{time}", b""),
            "{41}\t2023-11-14T22:13:20.000001Z"
        );
        assert_eq!(rendered("{timestamp_us}", b""), "1700000000000001");
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399, "2000-02-28T23:59:59.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (951_868_800, "2000-03-01T00:00:00.000000Z"),
            (4_102_444_799, "2099-12-31T23:59:59.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
        ] {
            assert_eq!(utc(seconds * 1_000_000), text);
        }
        assert!(utc(u64::MAX).ends_with('Z'));
    }

    #[test]
    fn what_is_no_template_is_said() {
        for (wrong, word) in [
            ("{ide}", "did you mean {id}?"),
            ("{id", "not closed"),
            ("}{id}", "not opened"),
            ("{data:hexa}", "did you mean hex?"),
            ("{id:hex}", "only {metadata} and {data}"),
            ("{id.x}", "has fields inside"),
            ("{data.x}", "no field"),
            ("{}", "no field"),
            ("{id}\\q", "\\q"),
        ] {
            let error = Template::parse(wrong).unwrap_err();
            assert!(error.contains(word), "{wrong}: {error}");
        }
    }
}
