//! Batches of events through one plain connection, so many of them in flight: what is measured of any other system.
//! One thread, blocking: while a write blocks, the server has more than enough to do.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// A server that says nothing for so long hangs.
const SILENCE_MAX: Duration = Duration::from_secs(30);
const READ_BYTES: usize = 256 << 10;

/// A connection, and what came through it and was not understood yet.
pub(crate) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    begin: usize,
    end: usize,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Result<Self, String> {
        stream
            .set_nodelay(true)
            .and_then(|()| stream.set_read_timeout(Some(SILENCE_MAX)))
            .and_then(|()| stream.set_write_timeout(Some(SILENCE_MAX)))
            .map_err(|e| e.to_string())?;
        Ok(Self {
            stream,
            received: vec![0; READ_BYTES],
            begin: 0,
            end: 0,
        })
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream
            .write_all(bytes)
            .map_err(|e| format!("sending failed: {e}"))
    }

    /// Waits for more, behind what is here.
    pub(crate) fn receive(&mut self) -> Result<(), String> {
        self.received.copy_within(self.begin..self.end, 0);
        self.end -= self.begin;
        self.begin = 0;
        if self.end == self.received.len() {
            self.received.resize(self.received.len() * 2, 0);
        }
        match self.stream.read(&mut self.received[self.end..]) {
            Ok(0) => Err("the server closed the connection".to_owned()),
            Ok(bytes) => {
                self.end += bytes;
                Ok(())
            }
            Err(e) => Err(format!("receiving failed: {e}")),
        }
    }

    /// What came and was not taken.
    pub(crate) fn here(&self) -> &[u8] {
        &self.received[self.begin..self.end]
    }

    /// Takes so many bytes off the front of what is here.
    pub(crate) fn take(&mut self, bytes: usize) {
        self.begin = self.end.min(self.begin + bytes);
    }
}

/// How a system is told to store events, and what it answers.
pub(crate) trait Protocol {
    /// What to send so that the batch with this number, of so many events, is stored.
    fn batch(&mut self, number: u64, events: u64) -> &[u8];

    /// Understands the replies in what was received, as many as are whole, and checks each. Returns their bytes and how
    /// many events they acknowledge. What must be sent back at once goes into `answer`.
    fn replies(&mut self, received: &[u8], answer: &mut Vec<u8>) -> Result<(usize, u64), String>;
}

/// What to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub(crate) events: u64,
    pub(crate) batch_events: u64,
    pub(crate) in_flight: usize,
}

/// How long it took.
pub(crate) struct Measured {
    /// From before the first batch was sent until the last was acknowledged.
    pub(crate) elapsed: Duration,
    /// Of each batch, from before it was sent until all of it was acknowledged, in microseconds.
    pub(crate) latency_us: Histogram<u64>,
}

/// Does the work.
pub(crate) fn run(
    connection: &mut Connection,
    protocol: &mut impl Protocol,
    work: Work,
) -> Result<Measured, String> {
    let mut latency_us = Histogram::<u64>::new_with_max(60_000_000, 3).map_err(|e| e.to_string())?;
    // When a batch was sent, and the end of its events.
    let mut in_flight: VecDeque<(Instant, u64)> = VecDeque::new();
    let (mut batches, mut sent, mut acknowledged) = (0, 0, 0);
    let mut answer = Vec::new();
    let started = Instant::now();
    while acknowledged < work.events {
        if in_flight.len() < work.in_flight.max(1) && sent < work.events {
            let events = work.batch_events.clamp(1, work.events - sent);
            let began = Instant::now();
            connection.send(protocol.batch(batches, events))?;
            batches += 1;
            sent += events;
            in_flight.push_back((began, sent));
            continue;
        }
        connection.receive()?;
        let (bytes, events) = protocol.replies(connection.here(), &mut answer)?;
        connection.take(bytes);
        acknowledged += events;
        if acknowledged > sent {
            return Err(format!("{acknowledged} events acknowledged, and {sent} sent"));
        }
        while let Some((began, end)) = in_flight.front()
            && *end <= acknowledged
        {
            latency_us.saturating_record(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
            in_flight.pop_front();
        }
        if !answer.is_empty() {
            connection.send(&answer)?;
            answer.clear();
        }
    }
    Ok(Measured {
        elapsed: started.elapsed(),
        latency_us,
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// An event is a byte, its acknowledgement another; batches are numbered.
    struct Bytes {
        out: Vec<u8>,
        numbers: Vec<u64>,
    }

    impl Protocol for Bytes {
        fn batch(&mut self, number: u64, events: u64) -> &[u8] {
            self.numbers.push(number);
            self.out.clear();
            self.out.extend((0..events).map(|_| b'e'));
            &self.out
        }

        fn replies(&mut self, received: &[u8], _: &mut Vec<u8>) -> Result<(usize, u64), String> {
            match received.iter().find(|b| **b != b'a') {
                Some(_) => Err("refused".to_owned()),
                None => Ok((received.len(), u64::try_from(received.len()).unwrap())),
            }
        }
    }

    /// A server that answers each byte with `reply`, and the most of them that were in flight.
    fn serve(reply: u8) -> (Connection, std::thread::JoinHandle<usize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let thread = std::thread::spawn(move || {
            let (mut buffer, mut most) = ([0; 64], 0);
            loop {
                // Time for all that may come before an answer.
                std::thread::sleep(Duration::from_millis(20));
                let Ok(bytes @ 1..) = server.read(&mut buffer) else {
                    return most;
                };
                most = most.max(bytes);
                if server.write_all(&vec![reply; bytes]).is_err() {
                    return most;
                }
            }
        });
        (Connection::new(client).unwrap(), thread)
    }

    fn bytes() -> Bytes {
        Bytes {
            out: Vec::new(),
            numbers: Vec::new(),
        }
    }

    #[test]
    fn no_more_than_the_batches_allowed_are_in_flight() {
        let work = Work {
            events: 26,
            batch_events: 4,
            in_flight: 3,
        };
        let (mut connection, server) = serve(b'a');
        let mut protocol = bytes();
        let measured = run(&mut connection, &mut protocol, work).unwrap();
        drop(connection);
        assert_eq!(server.join().unwrap(), 12, "three batches of 4");
        assert_eq!(measured.latency_us.len(), 7, "six batches of 4 and one of 2");
        assert_eq!(protocol.numbers, [0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_refusal_ends_it() {
        let work = Work {
            events: 3,
            batch_events: 1,
            in_flight: 1,
        };
        let (mut connection, _server) = serve(b'x');
        assert_eq!(
            run(&mut connection, &mut bytes(), work).map(|m| m.elapsed),
            Err("refused".to_owned())
        );
    }
}
