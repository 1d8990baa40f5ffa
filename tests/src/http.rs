//! A client of the port for metrics: one request a connection.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers, with names in lower case.
    pub headers: BTreeMap<String, String>,
    /// What follows them.
    pub body: String,
}

/// Gets a path of `url` (`http://HOST:PORT`), with these headers beside `Host`.
///
/// # Panics
/// When there is no answer, or it is not one.
pub fn get(url: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = format!("GET {path} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        request.push_str(&format!("Host: {}\r\n", host(url)));
    }
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    send(url, request.as_bytes())
}

/// The host and port of a URL without a path.
pub fn host(url: &str) -> &str {
    url.strip_prefix("http://").expect("a URL begins with http://")
}

/// Sends these bytes and reads the answer.
///
/// # Panics
/// When there is none.
pub fn send(url: &str, bytes: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(host(url)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    parse(&String::from_utf8(answer).unwrap())
}

/// Reads an answer.
///
/// # Panics
/// When it is none.
pub fn parse(text: &str) -> Answer {
    let (head, body) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("no answer: {text:?}"));
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let header = |line: &str| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_ascii_lowercase(), value.trim().to_owned())
    };
    Answer {
        status,
        headers: lines.map(header).collect(),
        body: body.to_owned(),
    }
}

/// The samples of an exposition.
pub struct Samples(Vec<(String, BTreeMap<String, String>, f64)>);

impl Samples {
    /// Reads them. Values of labels of ours have no quotes or commas in these tests.
    ///
    /// # Panics
    /// When a line is no sample.
    pub fn read(text: &str) -> Self {
        let sample = |line: &str| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let labels = labels.strip_suffix('}').unwrap();
            let pair = |pair: &str| {
                let (name, value) = pair.split_once('=').unwrap();
                (name.to_owned(), value.trim_matches('"').to_owned())
            };
            let labels = labels.split(',').filter(|pair| !pair.is_empty()).map(pair);
            (name.to_owned(), labels.collect(), value.parse().unwrap())
        };
        Self(
            text.lines()
                .filter(|line| !line.starts_with('#'))
                .map(sample)
                .collect(),
        )
    }

    /// The sum of a name's samples with these labels; nothing when there is no such sample.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let fits = |known: &BTreeMap<String, String>| {
            labels
                .iter()
                .all(|(name, value)| known.get(*name).is_some_and(|known| known == value))
        };
        let fitting: Vec<f64> = self
            .0
            .iter()
            .filter(|(known, labels, _)| known == name && fits(labels))
            .map(|(.., value)| *value)
            .collect();
        (!fitting.is_empty()).then(|| fitting.iter().sum())
    }
}
