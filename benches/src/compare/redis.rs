//! Redis Streams: pipelines of XADD, with every write to the append-only file synced before it is answered.

mod resp;

use std::path::Path;

use self::resp::Value;
use super::peer::{self, Peer};
use super::pipeline::{self, Connection, Measured, Protocol, Work};
use crate::events::Events;

pub(crate) const INSTALL: &str = "as root: apt-get install redis-server";
const KEY: &str = "bench";

/// A running Redis.
pub(crate) struct Redis {
    peer: Peer,
}

impl Redis {
    /// Starts one that stores below `parent`; `None` when it is not installed.
    pub(crate) fn start(parent: &Path) -> Result<Option<Self>, String> {
        let Some(program) = peer::find("redis-server") else {
            return Ok(None);
        };
        let peer = Peer::start(&program, parent, |dir, port| {
            let (port, dir) = (port.to_string(), dir.display().to_string());
            let options = [
                ("--bind", "127.0.0.1"),
                ("--port", &port),
                ("--dir", &dir),
                ("--daemonize", "no"),
                ("--appendonly", "yes"),
                ("--appendfsync", "always"),
                ("--no-appendfsync-on-rewrite", "no"),
                ("--auto-aof-rewrite-percentage", "0"),
                ("--save", ""),
            ];
            let pairs = options.into_iter().flat_map(|(name, value)| [name, value]);
            Ok(pairs.map(str::to_owned).collect())
        })?;
        let redis = Self { peer };
        let mut connection = redis.connect()?;
        for (name, wanted) in [("appendonly", "yes"), ("appendfsync", "always")] {
            let answer = ask(&mut connection, &["CONFIG", "GET", name])?;
            let set = [name, wanted].map(|text| Value::Bulk(Some(text.as_bytes().to_vec())));
            if answer != Value::Array(Some(set.to_vec())) {
                return Err(format!(
                    "redis is to run with {name} {wanted}, and says {answer:?}"
                ));
            }
        }
        Ok(Some(redis))
    }

    /// Does the work on an empty stream, looks whether all of it is stored, and removes it.
    pub(crate) fn work(&self, events: &Events, work: Work) -> Result<Measured, String> {
        let mut connection = self.connect()?;
        let mut protocol = Xadd::new(events, work.batch_events.min(work.events));
        let measured = pipeline::run(&mut connection, &mut protocol, work)?;
        match ask(&mut connection, &["XLEN", KEY])? {
            Value::Integer(stored) if u64::try_from(stored) == Ok(work.events) => {}
            other => {
                return Err(format!(
                    "{} events were sent, and XLEN says {other:?}",
                    work.events
                ));
            }
        }
        ask(&mut connection, &["DEL", KEY])?;
        Ok(measured)
    }

    fn connect(&self) -> Result<Connection, String> {
        Connection::new(self.peer.connect()?)
    }
}

/// One command and its reply.
fn ask(connection: &mut Connection, words: &[&str]) -> Result<Value, String> {
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    let mut command = Vec::new();
    resp::command(&words, &mut command);
    connection.send(&command)?;
    loop {
        if let Some((value, bytes)) = resp::value(connection.here())? {
            connection.take(bytes);
            return match value {
                Value::Error(message) => Err(message),
                value => Ok(value),
            };
        }
        connection.receive()?;
    }
}

/// Batches as pipelines of XADD. What is sent was put together before, so that the client costs next to nothing.
struct Xadd<'a> {
    events: &'a Events,
    encoded: Vec<u8>,
    encoded_events: u64,
    /// The last id that came: time and number.
    last_id: Option<(u64, u64)>,
}

impl<'a> Xadd<'a> {
    fn new(events: &'a Events, batch_events: u64) -> Self {
        let mut xadd = Self {
            events,
            encoded: Vec::new(),
            encoded_events: 0,
            last_id: None,
        };
        xadd.encode(batch_events);
        xadd
    }

    fn encode(&mut self, events: u64) {
        self.encoded.clear();
        self.encoded_events = events;
        for metadata in self.events.metadata(events) {
            let words: [&[u8]; 7] = [
                b"XADD",
                KEY.as_bytes(),
                b"*",
                b"m",
                metadata.as_bytes(),
                b"d",
                &self.events.data,
            ];
            resp::command(&words, &mut self.encoded);
        }
    }
}

impl Protocol for Xadd<'_> {
    fn batch(&mut self, _: u64, events: u64) -> &[u8] {
        if events != self.encoded_events {
            self.encode(events);
        }
        &self.encoded
    }

    fn replies(&mut self, received: &[u8], _: &mut Vec<u8>) -> Result<(usize, u64), String> {
        let (mut at, mut events) = (0, 0);
        while let Some((value, bytes)) = resp::value(&received[at..])? {
            let id = match &value {
                Value::Bulk(Some(text)) => stream_id(text),
                _ => None,
            };
            match id {
                Some(id) if Some(id) > self.last_id => self.last_id = Some(id),
                _ => return Err(format!("no id greater than {:?}: {value:?}", self.last_id)),
            }
            at += bytes;
            events += 1;
        }
        Ok((at, events))
    }
}

/// An entry's id, `<milliseconds>-<number>`.
fn stream_id(text: &[u8]) -> Option<(u64, u64)> {
    let (time, number) = std::str::from_utf8(text).ok()?.split_once('-')?;
    Some((time.parse().ok()?, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replies(received: &[u8]) -> Result<(usize, u64), String> {
        let events = Events::new(128, 16);
        Xadd::new(&events, 1).replies(received, &mut Vec::new())
    }

    #[test]
    fn every_reply_must_be_an_id_greater_than_the_one_before() {
        assert_eq!(replies(b"$3\r\n1-0\r\n$3\r\n1-1\r\n$3\r\n2-"), Ok((18, 2)));
        assert_eq!(replies(b"$4\r\n1-10\r\n$3\r\n2-0\r\n"), Ok((19, 2)));
        assert!(replies(b"$3\r\n1-1\r\n$3\r\n1-1\r\n").is_err());
        assert!(replies(b"$3\r\n2-0\r\n$3\r\n1-9\r\n").is_err());
        assert!(replies(b"$3\r\nx-0\r\n").is_err());
        assert!(replies(b"$-1\r\n").is_err());
        assert!(replies(b":1\r\n").is_err());
        let refused = replies(b"-OOM command not allowed\r\n").unwrap_err();
        assert!(refused.contains("OOM"), "{refused}");
    }

    #[test]
    fn a_batch_is_so_many_commands() {
        let events = Events::new(128, 16);
        let mut xadd = Xadd::new(&events, 3);
        let commands = |bytes: &[u8]| bytes.windows(4).filter(|word| word == b"XADD").count();
        assert_eq!(commands(xadd.batch(0, 3)), 3);
        assert_eq!(commands(xadd.batch(1, 2)), 2);
    }
}
