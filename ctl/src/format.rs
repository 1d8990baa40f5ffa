//! How an event is printed: a JSON line, its data as it is, a dump, or what a template says.

mod template;

use std::fmt::Write;
use std::str::FromStr;

pub(crate) use self::template::Template;
use crate::event_line::{EventFacts, render};

/// Words that are formats.
const WORDS: [&str; 3] = ["json", "raw", "hex"];

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Format {
    /// A JSON object a line.
    Json,
    /// The data as it is.
    Raw,
    /// Where the event is, its metadata, and its data as a dump of 16 bytes a line.
    Hex,
    /// Text with fields in braces.
    Template(Template),
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "json" => Ok(Self::Json),
            "raw" => Ok(Self::Raw),
            "hex" => Ok(Self::Hex),
            template if template.contains('{') => Template::parse(template).map(Self::Template),
            other => {
                let hint = crate::suggest::best(other, WORDS)
                    .map_or_else(String::new, |word| format!("; did you mean {word}?"));
                Err(format!(
                    "neither json, raw, hex, nor a template with fields in braces{hint}"
                ))
            }
        }
    }
}

impl Format {
    /// Whether it shows data.
    pub(crate) fn shows_data(&self) -> bool {
        match self {
            Self::Json | Self::Raw | Self::Hex => true,
            Self::Template(template) => template.shows_data(),
        }
    }

    /// Whether what it writes of an event ends by itself.
    pub(crate) fn is_lines(&self) -> bool {
        matches!(self, Self::Json | Self::Hex)
    }

    /// The event, and `separator` where the format has no end of its own.
    ///
    /// # Errors
    /// When it cannot be printed so.
    pub(crate) fn render(&self, event: &EventFacts<'_>, separator: &str) -> Result<Vec<u8>, String> {
        let mut out = match self {
            Self::Json => render(event)?.into_bytes(),
            Self::Raw => event.data.unwrap_or_default().to_vec(),
            Self::Hex => return Ok(hex_dump(event).into_bytes()),
            Self::Template(template) => template.render(event)?,
        };
        let end = if self.is_lines() { "\n" } else { separator };
        out.extend_from_slice(end.as_bytes());
        Ok(out)
    }
}

fn hex_dump(event: &EventFacts<'_>) -> String {
    let mut out = format!(
        "{} partition {} id {} metadata {} data {} bytes\n",
        event.topic, event.partition, event.event_id, event.metadata, event.data_bytes
    );
    for (row, bytes) in event.data.unwrap_or_default().chunks(16).enumerate() {
        let half = |half: &[u8]| {
            half.iter()
                .fold(String::new(), |text, byte| text + &format!("{byte:02x} "))
        };
        let (left, right) = bytes.split_at(bytes.len().min(8));
        let text: String = bytes
            .iter()
            .map(|byte| {
                if byte.is_ascii_graphic() || *byte == b' ' {
                    char::from(*byte)
                } else {
                    '.'
                }
            })
            .collect();
        // Of the bytes that are there: what a selection left out is not.
        let written = writeln!(
            out,
            "{:08x}  {:24} {:24} |{text}|",
            row * 16,
            half(left),
            half(right)
        );
        debug_assert!(written.is_ok(), "text takes all that is written");
    }
    out
}

/// A separator as it is written on a command line.
///
/// # Errors
/// What is no escape.
pub(crate) fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        out.push(match c {
            '\\' => match rest.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some('0') => '\0',
                Some('\\') => '\\',
                other => {
                    let what = other.map_or_else(String::new, String::from);
                    return Err(format!("\\{what} is none of \\n, \\r, \\t, \\0 and \\\\"));
                }
            },
            other => other,
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_line::one_line;

    #[test]
    fn words_and_templates_are_told_apart() {
        assert_eq!("raw".parse(), Ok(Format::Raw));
        assert!(matches!("{id}".parse(), Ok(Format::Template(_))));
        let error = "jsn".parse::<Format>().unwrap_err();
        assert!(error.ends_with("did you mean json?"), "{error}");
        assert!("".parse::<Format>().is_err());
    }

    #[test]
    fn a_dump_shows_bytes_and_letters() {
        let metadata = one_line(b"{\"x\":1}").unwrap();
        let event = EventFacts {
            topic: "t",
            partition: 2,
            event_id: 7,
            timestamp_us: 0,
            metadata: &metadata,
            data_bytes: 18,
            data: Some(b"0123456789abcdef\n\xff"),
        };
        let expected = "t partition 2 id 7 metadata {\"x\":1} data 18 bytes\n\
                        00000000  30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66  |0123456789abcdef|\n\
                        00000010  0a ff                                             |..|\n";
        assert_eq!(
            String::from_utf8(Format::Hex.render(&event, "\n").unwrap()).unwrap(),
            expected
        );
        let raw = Format::Raw.render(&event, "").unwrap();
        assert_eq!(raw, b"0123456789abcdef\n\xff");
    }

    #[test]
    fn separators_have_escapes() {
        assert_eq!(unescape("a\\n\\t\\0\\\\"), Ok("a\n\t\0\\".to_owned()));
        assert!(unescape("\\x").is_err() && unescape("\\").is_err());
    }
}
