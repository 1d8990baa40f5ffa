//! An event's data read in pieces: with bounded memory, however much there is.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use mofka_net::{DataDescriptor, ErrorCode, FetchItemError, FetchRequest, FetchResponse};

use super::asking::Asking;
use crate::link::{Answer, Connection};
use crate::retry::Retry;
use crate::route::{Route, RouteError};

/// Bytes that are asked for at a time, unless the node gives fewer.
const REQUEST_BYTES: u64 = 8 << 20;
/// Requests on their way, and pieces in memory, together.
const PIECES_MAX: usize = 2;

/// Reads an event's data from the node, in pieces of 8 MiB, of which at most two are in memory or on their way. It does not
/// need the consumer any more, and looks for a lost node as every other request does.
///
/// An error that came is not the end: reading goes on where it stopped. `NotFound` says that retention dropped the event, or
/// that the topic is gone; `InvalidData` that bytes were damaged, where they are stored or on the way; `TimedOut` that the node could not be reached,
/// or did not answer ([`fetch_timeout`](crate::DriverOptions::fetch_timeout)), within
/// [`reconnect_timeout`](crate::DriverOptions::reconnect_timeout).
pub struct DataReader {
    route: Route,
    wanted: DataDescriptor,
    /// Where the next read begins.
    position: u64,
    /// What came and was not read: from `position` on.
    current: Bytes,
    in_flight: VecDeque<Asked>,
    /// Requests whose answers are not wanted any more. They count: their answers come into memory.
    stale: VecDeque<Asking>,
    /// The last piece came right before this place: the next is asked for ahead.
    is_reading_on: bool,
}

/// A piece that is on its way.
struct Asked {
    part: DataDescriptor,
    /// Where it begins and ends in what is wanted.
    start: u64,
    end: u64,
    answer: Asking,
}

/// Why a piece did not come.
enum Trouble {
    /// Trying again may help.
    Passing(String),
    Lasting(io::Error),
}

impl DataReader {
    pub(super) fn new(route: Route, wanted: DataDescriptor) -> Self {
        Self {
            route,
            wanted,
            position: 0,
            current: Bytes::new(),
            in_flight: VecDeque::new(),
            stale: VecDeque::new(),
            is_reading_on: false,
        }
    }

    /// Bytes that there are to read in all.
    pub fn data_bytes(&self) -> u64 {
        self.wanted.bytes()
    }

    /// Makes what comes next available in memory. Not at the end.
    fn fill(&mut self) -> io::Result<()> {
        if let Err(pid) = self.route.driver().check_process() {
            let message =
                format!("this event was pulled by process {pid}: after a fork, connect again in the child");
            return Err(io::Error::other(message));
        }
        let mut retry = None;
        while self.current.is_empty() {
            let reason = match self.next_piece() {
                Ok(piece) => {
                    self.current = piece;
                    continue;
                }
                Err(trouble) => {
                    // What was asked for behind it belongs behind it.
                    self.forget_requests();
                    match trouble {
                        Trouble::Lasting(error) => return Err(error),
                        Trouble::Passing(reason) => reason,
                    }
                }
            };
            let timeout = self.route.driver().reconnect_timeout();
            let retry = retry.get_or_insert_with(|| Retry::new(timeout));
            let Some(pause) = retry.pause() else {
                let message = format!(
                    "{self} could not be read at byte {} within {:.1?}: {reason}",
                    self.position,
                    retry.waited()
                );
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            };
            std::thread::sleep(pause);
        }
        Ok(())
    }

    fn next_piece(&mut self) -> Result<Bytes, Trouble> {
        self.ask()?;
        let Some(asked) = self.in_flight.pop_front() else {
            unreachable!("a piece was asked for")
        };
        let answer = asked.answer.wait(self.route.driver().fetch_timeout());
        let answer = answer.map_err(Trouble::Passing)?;
        let piece = self.check(&asked, answer)?;
        if asked.start != self.position {
            return Err(Trouble::Passing(format!(
                "bytes from {} on came where those from {} on are next",
                asked.start, self.position
            )));
        }
        self.is_reading_on = true;
        Ok(piece)
    }

    /// Sends requests as long as there may be more.
    fn ask(&mut self) -> Result<(), Trouble> {
        let connection = match self.route.alive() {
            Some(connection) => connection,
            None => self.route.establish().map_err(|error| match error {
                RouteError::Away(reason) => Trouble::Passing(reason),
                RouteError::Gone(reason) => Trouble::Lasting(io::Error::new(io::ErrorKind::NotFound, reason)),
            })?,
        };
        let bytes_max = connection.limits().fetch_bytes_max.clamp(1, REQUEST_BYTES);
        let pieces_max = if self.is_reading_on { PIECES_MAX } else { 1 };
        while self.in_flight.len() < pieces_max {
            let start = self.in_flight.back().map_or(self.position, |last| last.end);
            if start >= self.data_bytes() {
                break;
            }
            self.stale.retain(|unwanted| !unwanted.is_over());
            while self.in_flight.len() + self.stale.len() >= PIECES_MAX
                && let Some(unwanted) = self.stale.pop_front()
            {
                // One that does not come in time goes with its connection.
                unwanted.wait(self.route.driver().fetch_timeout()).ok();
            }
            let asked = self.send(&connection, start, bytes_max)?;
            self.in_flight.push_back(asked);
        }
        Ok(())
    }

    fn send(&self, connection: &Arc<Connection>, start: u64, bytes_max: u64) -> Result<Asked, Trouble> {
        let part = match start == 0 && self.data_bytes() <= bytes_max {
            // The whole: the node has its checksum already.
            true => self.wanted.clone(),
            false => self.wanted.sub_view(start, bytes_max),
        };
        let request = FetchRequest {
            partition: self.route.partition(),
            items: vec![part.clone()],
        };
        let body = request.encode().map_err(|error| {
            Trouble::Lasting(io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))
        })?;
        let answer = Asking::send(connection, body).map_err(|lost| {
            self.route.lost();
            Trouble::Passing(lost.to_string())
        })?;
        let end = start + part.bytes();
        Ok(Asked {
            part,
            start,
            end,
            answer,
        })
    }

    /// What an answer says.
    fn check(&self, asked: &Asked, answer: &Answer) -> Result<Bytes, Trouble> {
        let body = match answer {
            Answer::Response(body) => body,
            Answer::Lost(lost) => {
                self.route.lost();
                return Err(Trouble::Passing(lost.to_string()));
            }
            Answer::Refused(error) if error.code.is_retriable() => {
                if error.code == ErrorCode::NotOwner {
                    self.route.moved(error);
                }
                return Err(Trouble::Passing(error.to_string()));
            }
            Answer::Refused(error) => return Err(self.lasting(asked, Some(error.code), &error.to_string())),
        };
        let items =
            FetchResponse::check(body.clone()).map_err(|error| Trouble::Passing(error.to_string()))?;
        match items.as_slice() {
            [Ok(bytes)] if bytes.len() as u64 == asked.part.bytes() => Ok(bytes.clone()),
            [Ok(bytes)] => {
                let reason = format!("{} bytes came instead of {}", bytes.len(), asked.part.bytes());
                Err(self.lasting(asked, None, &reason))
            }
            [Err(error)] => {
                let code = match error {
                    FetchItemError::Refused { code, .. } => *code,
                    FetchItemError::Checksum => Some(ErrorCode::BadChecksum),
                };
                Err(self.lasting(asked, code, &error.to_string()))
            }
            items => Err(Trouble::Passing(format!(
                "one item was fetched and {} came",
                items.len()
            ))),
        }
    }

    fn lasting(&self, asked: &Asked, code: Option<ErrorCode>, reason: &str) -> Trouble {
        let kind = match code {
            Some(ErrorCode::Trimmed | ErrorCode::UnknownEvent | ErrorCode::UnknownPartition) => {
                io::ErrorKind::NotFound
            }
            Some(ErrorCode::Damaged | ErrorCode::BadChecksum) => io::ErrorKind::InvalidData,
            _ => io::ErrorKind::Other,
        };
        let message = format!(
            "bytes {} to {} of {self} could not be read: {reason}",
            asked.start, asked.end
        );
        Trouble::Lasting(io::Error::new(kind, message))
    }

    /// What is on its way is not wanted any more.
    fn forget_requests(&mut self) {
        self.stale
            .extend(self.in_flight.drain(..).map(|asked| asked.answer));
        self.is_reading_on = false;
    }

    fn seek_to(&mut self, position: u64) {
        let skipped = position.checked_sub(self.position);
        let here = skipped.filter(|skipped| *skipped <= self.current.len() as u64);
        match here.and_then(|skipped| usize::try_from(skipped).ok()) {
            Some(skipped) => self.current.advance(skipped),
            None => {
                self.current = Bytes::new();
                self.forget_requests();
            }
        }
        self.position = position;
    }
}

impl Read for DataReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.position >= self.data_bytes() {
            return Ok(0);
        }
        self.fill()?;
        let bytes = buffer.len().min(self.current.len());
        let (now, _) = buffer.split_at_mut(bytes);
        now.copy_from_slice(&self.current.split_to(bytes));
        self.position += bytes as u64;
        Ok(bytes)
    }
}

impl Seek for DataReader {
    /// Beyond the end there is nothing to read, and before the beginning there is no place (`InvalidInput`).
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.data_bytes().checked_add_signed(by),
        };
        let Some(position) = position else {
            let message = format!(
                "{self} begins at byte 0: cannot go to {to:?} from {}",
                self.position
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        };
        self.seek_to(position);
        Ok(position)
    }
}

impl fmt::Display for DataReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.wanted.event_id() {
            Some(id) => write!(
                f,
                "the data of event {id} of partition {}",
                self.route.partition()
            ),
            None => write!(f, "no data of partition {}", self.route.partition()),
        }
    }
}

impl fmt::Debug for DataReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataReader")
            .field("partition", &self.route.partition())
            .field("wanted", &self.wanted)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}
