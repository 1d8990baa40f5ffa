//! Where in a JSON text each value is.

use std::collections::BTreeMap;

use serde::Serialize;

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// From 1 on.
    pub line: usize,
    /// Of the line, in bytes, from 1 on.
    pub column: usize,
}

/// The places in a text.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Of keys of objects and of values, by JSON pointer.
    keys: BTreeMap<String, Place>,
    values: BTreeMap<String, Place>,
    /// Keys that their object has already.
    pub(super) repeated: Vec<(String, Place)>,
}

impl Places {
    /// Where a complaint about this points to: a value, and for an unknown key the key itself.
    pub(super) fn of(&self, pointer: &str) -> Option<Place> {
        let is_known = super::reference::KEYS
            .iter()
            .any(|key| key.key.replace('.', "/") == pointer.trim_start_matches('/'));
        let places = if is_known { &self.values } else { &self.keys };
        places.get(pointer).copied()
    }
}

/// The places in a text that is known to be JSON; what is not gives fewer places.
pub(super) fn places(text: &str) -> Places {
    let mut scan = Scan {
        bytes: text.as_bytes(),
        at: 0,
        found: Places::default(),
    };
    // How deep it nests was bounded by the parser that read it before.
    scan.value("");
    scan.found
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    found: Places,
}

impl Scan<'_> {
    fn peek(&mut self) -> Option<u8> {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied()
    }

    fn place(&self) -> Place {
        let before = self.bytes.get(..self.at).unwrap_or_default();
        let line_start = before
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        Place {
            line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
            column: self.at - line_start + 1,
        }
    }

    fn value(&mut self, pointer: &str) -> Option<()> {
        let first = self.peek()?;
        let place = self.place();
        self.found.values.insert(pointer.to_owned(), place);
        match first {
            b'{' => {
                self.at += 1;
                while self.peek()? != b'}' {
                    let place = self.place();
                    let key = self.string()?.replace('~', "~0").replace('/', "~1");
                    let below = format!("{pointer}/{key}");
                    if self.found.keys.insert(below.clone(), place).is_some() {
                        self.found.repeated.push((below.clone(), place));
                    }
                    self.skip(b':')?;
                    self.value(&below)?;
                    if self.peek()? == b',' {
                        self.at += 1;
                    }
                }
                self.at += 1;
            }
            b'[' => {
                self.at += 1;
                let mut index = 0;
                while self.peek()? != b']' {
                    self.value(&format!("{pointer}/{index}"))?;
                    index += 1;
                    if self.peek()? == b',' {
                        self.at += 1;
                    }
                }
                self.at += 1;
            }
            b'"' => drop(self.string()?),
            _ => {
                let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
                let start = self.at;
                while self.bytes.get(self.at).is_some_and(is_part) {
                    self.at += 1;
                }
                // Nothing that begins a value: not JSON after all.
                (self.at > start).then_some(())?;
            }
        }
        Some(())
    }

    fn skip(&mut self, wanted: u8) -> Option<()> {
        (self.peek()? == wanted).then(|| self.at += 1)
    }

    fn string(&mut self) -> Option<String> {
        self.skip(b'"')?;
        let start = self.at - 1;
        loop {
            match self.bytes.get(self.at)? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        serde_json::from_slice(self.bytes.get(start..self.at)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_have_their_places() {
        let found = places("{\n  \"a\": [1, {\"b\\\"/~\": true}],\n  \"shards\" : -1.5e3, \"a\": null}");
        let place = |line, column| Some(Place { line, column });
        assert_eq!(found.keys.get("/a/1/b\"~1~0").copied(), place(2, 13));
        assert_eq!(found.values.get("/a/1/b\"~1~0").copied(), place(2, 22));
        assert_eq!(found.of("/shards"), place(3, 14));
        assert_eq!(found.repeated, [("/a".to_owned(), Place { line: 3, column: 22 })]);
        assert_eq!(found.of("/absent"), None);
    }

    #[test]
    fn what_is_no_json_is_left() {
        for text in ["", "{", "{\"a\"", "{\"a\":", "[1,", "[}", "\"\\", "{a}", "[,]"] {
            places(text);
        }
    }
}
