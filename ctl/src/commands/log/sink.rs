//! Prints a long answer while it is found: as text, or as one JSON document, without holding it in memory.

use std::io::{self, BufWriter, Stdout, Write};

use serde_json::Value;

use crate::failure::{Failure, Outcome};
use crate::output::printable;

/// See the module. In text only `text` shows, in JSON everything else.
pub(super) struct Sink<W: Write = Stdout> {
    json: bool,
    out: BufWriter<W>,
    /// Of each open object and array: whether something is in it already.
    open: Vec<bool>,
    /// The first failure; what comes after it is dropped.
    failed: Option<io::Error>,
}

impl Sink {
    pub(super) fn stdout(json: bool) -> Self {
        Self::new(json, io::stdout())
    }
}

impl<W: Write> Sink<W> {
    fn new(json: bool, out: W) -> Self {
        Self {
            json,
            out: BufWriter::new(out),
            open: Vec::new(),
            failed: None,
        }
    }

    fn put(&mut self, text: &str) {
        if self.failed.is_none()
            && let Err(error) = self.out.write_all(text.as_bytes())
        {
            self.failed = Some(error);
        }
    }

    /// A line of text.
    pub(super) fn text(&mut self, line: impl FnOnce() -> String) {
        if !self.json {
            let line = printable(&line());
            self.put(&line);
            self.put("\n");
        }
    }

    /// A field of the open object, or an element of the open array when `key` is empty.
    pub(super) fn value(&mut self, key: &str, value: impl FnOnce() -> Value) {
        if self.json {
            self.begin_item(key);
            let text = value().to_string();
            self.put(&text);
        }
    }

    /// Every field of this object, in the open one.
    pub(super) fn fields(&mut self, object: impl FnOnce() -> Value) {
        if self.json
            && let Value::Object(fields) = object()
        {
            for (key, value) in fields {
                self.value(&key, || value);
            }
        }
    }

    pub(super) fn open_object(&mut self, key: &str) {
        self.open(key, "{");
    }

    pub(super) fn close_object(&mut self) {
        self.close("}");
    }

    pub(super) fn open_array(&mut self, key: &str) {
        self.open(key, "[");
    }

    pub(super) fn close_array(&mut self) {
        self.close("]");
    }

    fn begin_item(&mut self, key: &str) {
        if self.open.last() == Some(&true) {
            self.put(",");
        }
        if let Some(last) = self.open.last_mut() {
            *last = true;
        }
        if !key.is_empty() {
            let key = Value::from(key).to_string();
            self.put(&key);
            self.put(":");
        }
    }

    fn open(&mut self, key: &str, bracket: &str) {
        if self.json {
            self.begin_item(key);
            self.put(bracket);
            self.open.push(false);
        }
    }

    fn close(&mut self, bracket: &str) {
        if self.json {
            self.open.pop();
            self.put(bracket);
        }
    }

    /// All was said.
    ///
    /// # Errors
    /// When it could not be written.
    pub(super) fn finish(mut self) -> Outcome {
        if self.json {
            self.put("\n");
        }
        let flushed = match self.failed.take() {
            Some(error) => Err(error),
            None => self.out.flush(),
        };
        flushed.map_err(|error| Failure::writing("to standard output", &error))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(json: bool) -> String {
        let mut sink = Sink::new(json, Vec::new());
        sink.open_object("");
        sink.value("a", || json!(1));
        sink.text(|| "a is 1".to_owned());
        sink.open_array("list \"1\"");
        for n in 0..2 {
            sink.open_object("");
            sink.fields(|| json!({"n": n, "m": null}));
            sink.close_object();
        }
        sink.open_array("");
        sink.close_array();
        sink.close_array();
        sink.value("z", || json!({}));
        sink.close_object();
        sink.put("\n");
        String::from_utf8(sink.out.into_inner().unwrap()).unwrap()
    }

    #[test]
    fn json_is_one_document() {
        let found: Value = serde_json::from_str(&said(true)).unwrap();
        let list = json!([{"n": 0, "m": null}, {"n": 1, "m": null}, []]);
        assert_eq!(found, json!({"a": 1, "list \"1\"": list, "z": {}}));
    }

    #[test]
    fn text_is_only_its_lines() {
        assert_eq!(said(false), "a is 1\n\n");
    }
}
