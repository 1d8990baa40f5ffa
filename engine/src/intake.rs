//! What came from a connection and was not handled yet, cut into requests.
//!
//! Small requests come many in one read, into a buffer that all share, and are copied to memory of their own: they may
//! stay for long, among the recent batches. A large one gets its memory as soon as its length is known, and what did not come
//! with its beginning is read right into it; the data of its batch begins there at a block boundary, and is written to
//! the log from where it is.

use bytes::Bytes;
use mofka_net::limits::FEATURE_RING_IN_PLACE;
use mofka_net::shm::{Arrival, OutsideFrame};
use mofka_net::{
    ErrorCode, FRAME_HEADER_BYTES, FrameError, FrameHeader, Opcode, PRODUCE_HINT_BYTES, STREAM_PREFIX_BYTES,
    ServerSession, WireError, produce_data_at,
};

use crate::io::{IN_PLACE_BYTES, IoDir};

/// Bytes of the buffer: as many as came in one go twice, within these.
const BUFFER_BYTES_MIN: usize = 16 << 10;
const BUFFER_BYTES_MAX: usize = 256 << 10;
/// Bodies from here on are large.
const LARGE_BYTES: usize = 64 << 10;
/// Bodies from here on lie in memory that is used again: it needs no new pages, and no search through the heap.
const POOLED_BYTES_MIN: usize = 512;

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
    /// What came and was not taken is from `start` to `end`; the rest is for the next read.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// How long the buffer should be.
    wanted_bytes: usize,
    begun: Option<Begun<D::Buf>>,
}

/// A request that has memory of its own and is not whole.
struct Begun<B> {
    header: FrameHeader,
    memory: B,
    /// Where the body begins and ends, and how far it came.
    start: usize,
    end: usize,
    filled: usize,
}

impl<D: IoDir> Intake<D> {
    /// Takes memory for requests from here.
    pub(crate) fn new(memory: D) -> Self {
        Self {
            memory,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            wanted_bytes: BUFFER_BYTES_MIN,
            begun: None,
        }
    }

    /// Whether everything that came was taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end && self.begun.is_none()
    }

    /// Memory for what comes next; not empty. [`Intake::came`] says how much of it did.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        match &mut self.begun {
            Some(begun) if begun.is_large() => return begun.space(),
            _ => {}
        }
        // At most the beginning of a request is left.
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.buffer.len() != self.wanted_bytes && self.end < self.wanted_bytes {
            self.buffer.resize(self.wanted_bytes, 0);
            self.buffer.shrink_to_fit();
        }
        self.buffer.get_mut(self.end..).unwrap_or_default()
    }

    /// Notes that so many bytes came.
    pub(crate) fn came(&mut self, bytes: usize) {
        if let Some(begun) = self.begun.as_mut().filter(|begun| begun.is_large()) {
            begun.filled += bytes;
            assert!(
                begun.filled <= begun.end,
                "what came fits the memory it came into"
            );
            return;
        }
        self.end += bytes;
        assert!(self.end <= self.buffer.len(), "what came fits the buffer");
        self.wanted_bytes = match bytes {
            _ if self.end == self.buffer.len() => (self.wanted_bytes * 2).min(BUFFER_BYTES_MAX),
            bytes if bytes < self.wanted_bytes / 8 => (self.wanted_bytes / 2).max(BUFFER_BYTES_MIN),
            _ => self.wanted_bytes,
        };
    }

    /// Takes a request out of shared memory, where its client can still write: all that is checked and used is a copy, and
    /// its large data lies where it is written to the log from.
    ///
    /// # Errors
    /// When it is not a frame.
    pub(crate) fn arrived(&self, arrival: &Arrival, session: &ServerSession) -> Result<Request, Nonsense> {
        let unknown = |error: WireError| Nonsense { request_id: 0, error };
        let outside = |error: OutsideFrame| unknown(WireError::new(ErrorCode::Malformed, error.to_string()));
        let mut first = [0; FRAME_HEADER_BYTES];
        arrival.read(0, &mut first).map_err(outside)?;
        let header = session.check_header(&first).map_err(unknown)?;
        let have_bytes = arrival.bytes().saturating_sub(FRAME_HEADER_BYTES as u64);
        if have_bytes != header.body_bytes() {
            let body_bytes = header.body_bytes();
            return Err(unknown(
                FrameError::BodyBytes {
                    body_bytes,
                    have_bytes,
                }
                .into(),
            ));
        }
        if arrival.is_split() && !session.has(FEATURE_RING_IN_PLACE) {
            let message = format!(
                "a frame in two stretches (a slot of kind 3) is for connections that agreed on \"{FEATURE_RING_IN_PLACE}\" in \
                 hello: say so there, or send the frame in one"
            );
            return Err(Nonsense {
                request_id: header.request_id(),
                error: WireError::new(ErrorCode::UnsupportedVersion, message),
            });
        }
        let body_bytes = usize::try_from(have_bytes).unwrap_or(usize::MAX);
        let request = if body_bytes < POOLED_BYTES_MIN {
            let body = arrival.body();
            Request { header, body }
        } else {
            let mut hint = [0; PRODUCE_HINT_BYTES];
            if is_large(body_bytes) {
                arrival
                    .read(FRAME_HEADER_BYTES as u64, &mut hint)
                    .map_err(outside)?;
            }
            // Whatever the client does with it meanwhile: this only says where the copy is to lie.
            let mut begun = self.begin(header, body_bytes, &hint);
            arrival
                .read(FRAME_HEADER_BYTES as u64, begun.space())
                .map_err(outside)?;
            begun.filled = begun.end;
            begun.finish()
        };
        match session.check_body(&request.header, &request.body) {
            Ok(()) => Ok(request),
            Err(error) => Err(Nonsense {
                request_id: request.header.request_id(),
                error,
            }),
        }
    }

    /// Takes one whole request, if there is one.
    ///
    /// # Errors
    /// When what came is not a frame.
    pub(crate) fn next(&mut self, session: &ServerSession) -> Result<Option<Request>, Nonsense> {
        let Some(request) = self.take(session)? else {
            return Ok(None);
        };
        match session.check_body(&request.header, &request.body) {
            Ok(()) => Ok(Some(request)),
            Err(error) => Err(Nonsense {
                request_id: request.header.request_id(),
                error,
            }),
        }
    }

    fn take(&mut self, session: &ServerSession) -> Result<Option<Request>, Nonsense> {
        if self.begun.is_none() {
            let Some(first) = self.came_bytes().get(..FRAME_HEADER_BYTES) else {
                return Ok(None);
            };
            let header = session
                .check_header(first)
                .map_err(|error| Nonsense { request_id: 0, error })?;
            let body_bytes = usize::try_from(header.body_bytes()).unwrap_or(usize::MAX);
            let come = self.came_bytes().get(FRAME_HEADER_BYTES..).unwrap_or_default();
            if let Some(body) = come.get(..body_bytes)
                && body_bytes < POOLED_BYTES_MIN
            {
                let body = Bytes::copy_from_slice(body);
                self.start += FRAME_HEADER_BYTES + body_bytes;
                return Ok(Some(Request { header, body }));
            }
            let is_produce = Opcode::of(&header) == Ok(Opcode::Produce);
            if is_produce && is_large(body_bytes) && come.len() < PRODUCE_HINT_BYTES {
                return Ok(None);
            }
            self.begun = Some(self.begin(header, body_bytes, come));
            self.start += FRAME_HEADER_BYTES;
            if body_bytes >= BUFFER_BYTES_MAX {
                // Another one like it follows: the less of it is copied, the better.
                self.wanted_bytes = BUFFER_BYTES_MIN;
            }
        }
        let come = self.buffer.get(self.start..self.end).unwrap_or_default();
        if let Some(begun) = &mut self.begun {
            self.start += begun.fill(come);
        }
        let whole = self.begun.take_if(|begun| begun.filled == begun.end);
        Ok(whole.map(Begun::finish))
    }

    fn came_bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Memory for a body; large data in it begins at a block boundary, as its beginning says.
    fn begin(&self, header: FrameHeader, body_bytes: usize, beginning: &[u8]) -> Begun<D::Buf> {
        let is_large = is_large(body_bytes);
        let data_at = is_large
            .then(|| data_at(&header, beginning, body_bytes))
            .flatten();
        let start = data_at.map_or(0, |at| at.next_multiple_of(IN_PLACE_BYTES) - at);
        let end = start.saturating_add(body_bytes);
        Begun {
            header,
            memory: self.memory.alloc_to_keep(end),
            start,
            end,
            filled: start,
        }
    }
}

fn is_large(body_bytes: usize) -> bool {
    body_bytes >= LARGE_BYTES
}

/// Where the data of a large request begins in its body, of which these bytes are the beginning. Nonsense is found out when
/// it is whole; it may lie anywhere.
fn data_at(header: &FrameHeader, beginning: &[u8], body_bytes: usize) -> Option<usize> {
    let data_at = match Opcode::of(header) {
        Ok(Opcode::StreamPart) => Some(STREAM_PREFIX_BYTES),
        Ok(Opcode::Produce) => produce_data_at(beginning),
        _ => None,
    };
    data_at.filter(|at| *at <= body_bytes)
}

impl<B: AsMut<[u8]> + AsRef<[u8]> + Send + 'static> Begun<B> {
    fn is_large(&self) -> bool {
        is_large(self.end - self.start)
    }

    fn space(&mut self) -> &mut [u8] {
        let space = self.memory.as_mut().get_mut(self.filled..self.end);
        space.unwrap_or_default()
    }

    /// Copies what belongs to it, and says how much that was.
    fn fill(&mut self, come: &[u8]) -> usize {
        let bytes = come.len().min(self.end - self.filled);
        if let (Some(space), Some(come)) = (self.space().get_mut(..bytes), come.get(..bytes)) {
            space.copy_from_slice(come);
        }
        self.filled += bytes;
        bytes
    }

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
            if let Some(begun) = &intake.begun {
                memory = begun.memory.as_ptr().addr();
            }
        }
        let request = intake.next(&session).unwrap().unwrap();
        assert!(request.body == body);
        let data = ProduceRequest::check(request.body).unwrap().data;
        let at = data.as_ptr().addr() - memory;
        assert!(at > 0 && at.is_multiple_of(IN_PLACE_BYTES), "{at}");
    }
}
