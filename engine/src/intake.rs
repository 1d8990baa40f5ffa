//! What came from a connection and was not handled yet, cut into requests.
//!
//! Small requests share memory, and many come in one read. A large one gets memory of its own as soon as its length is
//! known, so that it is never moved again: the data of its batch begins there at a block boundary, and is written to the
//! log from where it is.

use bytes::{Buf, Bytes, BytesMut};
use mofka_net::{
    FRAME_HEADER_BYTES, FrameHeader, Opcode, PRODUCE_HINT_BYTES, ServerSession, WireError, produce_data_at,
};

use crate::io::{IN_PLACE_BYTES, IoDir};

/// Bytes asked of the socket at a time.
const READ_BYTES_MIN: usize = 16 << 10;
const READ_BYTES_MAX: usize = 256 << 10;
/// Bodies from here on are large. Below, a buffer that is still in the processor's cache and a copy for the device are
/// faster: batches of 1.2 MB at 700,000 events/s rather than 420,000. See `docs/decisions/0002-write-path.md`.
const LARGE_BYTES: usize = 2 << 20;

/// Why nothing more can be taken: where the next request begins is not known.
#[derive(Debug)]
pub(crate) struct Nonsense {
    /// Of the request, as far as that is known.
    pub(crate) request_id: u64,
    /// What the client is told.
    pub(crate) error: WireError,
}

/// One request, whole.
pub(crate) struct Request {
    pub(crate) header: FrameHeader,
    pub(crate) body: Bytes,
}

/// See the module.
pub(crate) struct Intake<D: IoDir> {
    memory: D,
    buffer: BytesMut,
    /// Bytes of the buffer that came; the rest is for the next read.
    filled: usize,
    read_bytes: usize,
    asked_bytes: usize,
    large: Option<Large<D::Buf>>,
}

/// A request that has begun and gets memory of its own.
struct Large<B> {
    header: FrameHeader,
    memory: B,
    /// Where the body begins and ends, and how far it came.
    start: usize,
    end: usize,
    filled: usize,
}

impl<D: IoDir> Intake<D> {
    /// Takes memory for large requests from here.
    pub(crate) fn new(memory: D) -> Self {
        Self {
            memory,
            buffer: BytesMut::new(),
            filled: 0,
            read_bytes: READ_BYTES_MIN,
            asked_bytes: 0,
            large: None,
        }
    }

    /// Whether everything that came was taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.filled == 0 && self.large.is_none()
    }

    /// Memory for what comes next; not empty. [`Intake::came`] says how much of it did.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        if let Some(large) = &mut self.large {
            let free = large.memory.as_mut().get_mut(large.filled..large.end);
            return free.unwrap_or_default();
        }
        // Memory is zeroed before it is read into: ask for much only where much comes.
        self.asked_bytes = self.read_bytes;
        self.buffer.resize(self.filled + self.asked_bytes, 0);
        self.buffer.get_mut(self.filled..).unwrap_or_default()
    }

    /// Notes that so many bytes came.
    pub(crate) fn came(&mut self, bytes: usize) {
        if let Some(large) = &mut self.large {
            large.filled += bytes;
            assert!(
                large.filled <= large.end,
                "what came fits the memory it came into"
            );
            return;
        }
        self.filled += bytes;
        self.read_bytes = match bytes {
            bytes if bytes == self.asked_bytes => (self.read_bytes * 2).min(READ_BYTES_MAX),
            bytes if bytes < self.read_bytes / 4 => (self.read_bytes / 2).max(READ_BYTES_MIN),
            _ => self.read_bytes,
        };
    }

    /// Takes one whole request, if there is one.
    ///
    /// # Errors
    /// When what came is not a frame.
    pub(crate) fn next(&mut self, session: &ServerSession) -> Result<Option<Request>, Nonsense> {
        let taken = match self.large.take_if(|large| large.filled == large.end) {
            Some(large) => Some(large.finish()),
            None if self.large.is_some() => None,
            None => self.next_small(session)?,
        };
        let Some(request) = taken else { return Ok(None) };
        match session.check_body(&request.header, &request.body) {
            Ok(()) => Ok(Some(request)),
            Err(error) => Err(Nonsense {
                request_id: request.header.request_id(),
                error,
            }),
        }
    }

    /// Takes a request off the buffer. One that is large and not whole moves to memory of its own.
    fn next_small(&mut self, session: &ServerSession) -> Result<Option<Request>, Nonsense> {
        self.buffer.truncate(self.filled);
        let Some(first) = self.buffer.get(..FRAME_HEADER_BYTES) else {
            return Ok(None);
        };
        let header = session
            .check_header(first)
            .map_err(|error| Nonsense { request_id: 0, error })?;
        let body_bytes = usize::try_from(header.body_bytes()).unwrap_or(usize::MAX);
        let have_bytes = self.filled - FRAME_HEADER_BYTES;
        if have_bytes < body_bytes {
            self.begin_large(header, body_bytes, have_bytes);
            return Ok(None);
        }
        self.buffer.advance(FRAME_HEADER_BYTES);
        // In memory of its own: it may stay for long, among the recent batches, and must not keep a buffer alive that is
        // many times as large. What is large is worth more than the copy.
        let body = if body_bytes >= LARGE_BYTES {
            self.buffer.split_to(body_bytes).freeze()
        } else {
            let body = Bytes::copy_from_slice(self.buffer.get(..body_bytes).unwrap_or_default());
            self.buffer.advance(body_bytes);
            body
        };
        self.filled = self.buffer.len();
        Ok(Some(Request { header, body }))
    }

    fn begin_large(&mut self, header: FrameHeader, body_bytes: usize, have_bytes: usize) {
        let is_produce = Opcode::of(&header) == Ok(Opcode::Produce);
        if body_bytes < LARGE_BYTES || (is_produce && have_bytes < PRODUCE_HINT_BYTES) {
            return;
        }
        let have = self.buffer.get(FRAME_HEADER_BYTES..).unwrap_or_default();
        // Nonsense is found out when it is whole; it may lie anywhere.
        let aligned = produce_data_at(have).filter(|at| is_produce && *at <= body_bytes);
        let start = aligned.map_or(0, |at| at.next_multiple_of(IN_PLACE_BYTES) - at);
        let end = start.saturating_add(body_bytes);
        let mut memory = self.memory.alloc_to_keep(end);
        let filled = start + have_bytes;
        if let Some(begun) = memory.as_mut().get_mut(start..filled) {
            begun.copy_from_slice(have);
        }
        self.large = Some(Large {
            header,
            memory,
            start,
            end,
            filled,
        });
        self.buffer.clear();
        self.filled = 0;
        // What follows begins with another large one, whose beginning is copied.
        self.read_bytes = READ_BYTES_MIN;
    }
}

impl<B: AsRef<[u8]> + Send + 'static> Large<B> {
    fn finish(self) -> Request {
        Request {
            header: self.header,
            body: Bytes::from_owner(self.memory).slice(self.start..self.end),
        }
    }
}

#[cfg(test)]
mod tests {
    use mofka_log::{BatchBuilder, Durability};
    use mofka_net::control::HelloRequest;
    use mofka_net::{ProducePrefix, ProduceRequest};
    use uuid::Uuid;

    use super::*;
    use crate::sim::{Image, SimIo};

    fn session() -> ServerSession {
        let mut session = ServerSession::new(64 << 20);
        let hello = HelloRequest {
            version_min: 1,
            version_max: 1,
            client: "test".to_owned(),
            features: Vec::new(),
            token: None,
        };
        session.hello(&hello).unwrap();
        session
    }

    fn produce(request_id: u64, metadata_bytes: usize, data_bytes: usize) -> (Vec<u8>, Bytes) {
        let mut builder = BatchBuilder::new();
        let metadata = format!("\"{}\"", "m".repeat(metadata_bytes));
        let data: Vec<u8> = (0..data_bytes)
            .map(|n| n.wrapping_mul(31).to_le_bytes()[0])
            .collect();
        builder
            .push(metadata.as_bytes(), std::iter::once(data.as_slice()))
            .unwrap();
        let (frame, data) = builder.finish(None);
        let prefix = ProducePrefix {
            partition: Uuid::from_u128(7),
            durability: Some(Durability::Synced),
        };
        let body: Bytes = [&prefix.encode()[..], &frame, &data].concat().into();
        let header = FrameHeader::self_checked(Opcode::Produce, request_id, body.len() as u64);
        ([&header[..], &body].concat(), body)
    }

    /// Hands `stream` over in pieces of these sizes, again and again, and gives what was taken.
    fn take_all(stream: &[u8], pieces: &[usize]) -> Vec<Request> {
        let session = session();
        let mut intake = Intake::new(SimIo::immediate(&Image::new()));
        let (mut taken, mut left) = (Vec::new(), stream);
        for piece in pieces.iter().cycle() {
            while let Some(request) = intake.next(&session).unwrap() {
                taken.push(request);
            }
            if left.is_empty() {
                break;
            }
            let space = intake.space();
            let bytes = left.len().min(*piece).min(space.len());
            assert!(bytes > 0, "there is always room for more");
            space[..bytes].copy_from_slice(&left[..bytes]);
            left = &left[bytes..];
            intake.came(bytes);
        }
        assert!(intake.is_empty());
        taken
    }

    #[test]
    fn requests_of_all_sizes_come_whole_and_in_order_however_they_are_cut() {
        let sizes = [
            (3, 0),
            (100, 70_000),
            (9, 10),
            (3, LARGE_BYTES),
            (300_000, 0),
            (5, LARGE_BYTES + 12_345),
            (70_000, LARGE_BYTES + 1),
            (2, 0),
            (1, 65_536),
        ];
        let frames: Vec<_> = (0..).zip(sizes).map(|(n, (m, d))| produce(n, m, d)).collect();
        let stream: Vec<u8> = frames.iter().flat_map(|(frame, _)| frame.clone()).collect();
        for pieces in [&[usize::MAX][..], &[1, 40, 70_000], &[31, 1, 160, 33], &[4096]] {
            let taken = take_all(&stream, pieces);
            assert_eq!(taken.len(), frames.len(), "{pieces:?}");
            for (n, (request, (_, body))) in (0..).zip(taken.iter().zip(&frames)) {
                assert_eq!(request.header.request_id(), n, "{pieces:?}");
                assert!(request.body == *body, "{pieces:?}: body {n}");
                ProduceRequest::check(request.body.clone()).unwrap();
            }
        }
    }

    #[test]
    fn a_small_body_has_memory_of_its_own() {
        let (first, _) = produce(1, 10, 10);
        let (second, _) = produce(2, 10, 10);
        let session = session();
        let mut intake = Intake::new(SimIo::immediate(&Image::new()));
        let both = [first, second].concat();
        intake.space()[..both.len()].copy_from_slice(&both);
        intake.came(both.len());
        let range = intake.buffer.as_ptr_range();
        let body = intake.next(&session).unwrap().unwrap().body;
        assert!(!range.contains(&body.as_ptr()));
    }

    #[test]
    fn the_data_of_a_large_batch_begins_at_a_block_boundary() {
        let (frame, body) = produce(1, 1000, LARGE_BYTES);
        let session = session();
        let mut intake = Intake::new(SimIo::immediate(&Image::new()));
        let (mut left, mut memory) = (frame.as_slice(), 0);
        while !left.is_empty() {
            assert!(intake.next(&session).unwrap().is_none());
            let space = intake.space();
            let bytes = left.len().min(space.len());
            space[..bytes].copy_from_slice(&left[..bytes]);
            left = &left[bytes..];
            intake.came(bytes);
            if let Some(large) = &intake.large {
                memory = large.memory.as_ptr().addr();
            }
        }
        let request = intake.next(&session).unwrap().unwrap();
        assert!(request.body == body);
        let data = ProduceRequest::check(request.body).unwrap().data;
        let at = data.as_ptr().addr() - memory;
        assert!(at > 0 && at.is_multiple_of(IN_PLACE_BYTES), "{at}");
    }
}
