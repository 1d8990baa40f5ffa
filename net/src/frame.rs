//! The header of every frame, and the opcodes.
//!
//! ```text
//! at  0      4        5       6      8           16          24        28          32
//!     magic  version  opcode  flags  request_id  body_bytes  body_crc  header_crc  body ...
//!     "MFN1" 1                                                         (of 0..28)
//! ```

use bytemuck::{Pod, Zeroable};
use bytes::Bytes;
use mofka_log::le::{Le16, Le32, Le64};

use crate::error::{ErrorCode, WireError};
use crate::limits::VERSION_MAX;
use crate::width::wide;

/// Bytes of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 32;

const MAGIC: u32 = u32::from_le_bytes(*b"MFN1");
const VERSION: u8 = 1;
/// Set in the opcode of an answer.
const RESPONSE: u8 = 0x80;
const ERROR: u8 = 0xFF;
/// Flag: the body carries checksums of its own; `body_crc` is 0.
const SELF_CHECKED: u16 = 1;
/// Bytes of the header that its checksum covers.
const CHECKED_BYTES: usize = 28;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct RawHeader {
    magic: Le32,
    version: u8,
    opcode: u8,
    flags: Le16,
    request_id: Le64,
    body_bytes: Le64,
    body_crc: Le32,
    header_crc: Le32,
}

const _: () = {
    assert!(size_of::<RawHeader>() == FRAME_HEADER_BYTES);
    assert!(align_of::<RawHeader>() == 1);
    assert!(std::mem::offset_of!(RawHeader, opcode) == 5);
    assert!(std::mem::offset_of!(RawHeader, request_id) == 8);
    assert!(std::mem::offset_of!(RawHeader, body_bytes) == 16);
    assert!(std::mem::offset_of!(RawHeader, header_crc) == CHECKED_BYTES);
    assert!(VERSION_MAX == 1);
};

macro_rules! opcodes {
    ($( $(#[doc = $doc:literal])+ $variant:ident = $number:literal; )+) => {
        /// What a frame asks for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Opcode {
            $( $(#[doc = $doc])+ $variant, )+
        }

        impl Opcode {
            /// Every opcode.
            pub const ALL: &'static [Opcode] = &[$( Opcode::$variant, )+];

            /// The number on the wire.
            pub fn number(self) -> u8 {
                match self { $( Opcode::$variant => $number, )+ }
            }

            /// The opcode of a number.
            pub fn from_number(number: u8) -> Option<Self> {
                match number { $( $number => Some(Opcode::$variant), )+ _ => None }
            }
        }
    };
}

opcodes! {
    /// Version, features, limits. The first request of a connection.
    Hello = 0x01;
    /// Nothing; keeps the connection alive.
    Ping = 0x02;
    /// Goes on through shared memory, on a Unix socket.
    RingOpen = 0x03;
    /// Through shared memory: the next frame comes over the socket, because it does not fit. Either way; has no answer.
    RingDetour = 0x04;
    /// Creates a topic.
    TopicCreate = 0x10;
    /// Describes a topic: what opening one needs.
    TopicDescribe = 0x11;
    /// Lists topics.
    TopicList = 0x12;
    /// Deletes a topic and its events.
    TopicDelete = 0x13;
    /// Adds a partition to a topic.
    PartitionAdd = 0x14;
    /// State of a partition.
    PartitionDescribe = 0x15;
    /// Marks a topic complete: no more events.
    TopicComplete = 0x16;
    /// Changes a topic's settings.
    TopicAlter = 0x17;
    /// A producer will push no more.
    ProducerDone = 0x18;
    /// A batch of events.
    Produce = 0x20;
    /// Answered when all that was accepted before is durable.
    Flush = 0x21;
    /// Begins an event whose data comes in parts.
    StreamOpen = 0x22;
    /// A part of its data.
    StreamPart = 0x23;
    /// Makes the event, when all of its data came.
    StreamCommit = 0x24;
    /// Gives it up.
    StreamAbort = 0x25;
    /// Starts feeds of a partition's events.
    Subscribe = 0x30;
    /// Ends them.
    Unsubscribe = 0x31;
    /// Allows more feeds; has no answer.
    Credit = 0x32;
    /// Events, from server to client; the request id is the subscription's.
    Feed = 0x33;
    /// Data of many events.
    Fetch = 0x34;
    /// Moves a cursor forward.
    Acknowledge = 0x35;
    /// Moves a cursor anywhere.
    Seek = 0x36;
    /// Lists the consumers of a topic.
    ConsumerList = 0x37;
    /// Joins those who read a topic under one name, or waits for news of what is to be read.
    GroupSync = 0x38;
    /// Leaves them.
    GroupLeave = 0x39;
    /// Forgets a consumer of a partition.
    ConsumerDelete = 0x3A;
    /// State of the node.
    Status = 0x40;
    /// Stops the node.
    Shutdown = 0x41;
    /// Settings of the node.
    ConfigGet = 0x42;
    /// Changes some of them while it runs.
    ConfigSet = 0x43;
    /// What the node counted.
    Report = 0x44;
}

impl Opcode {
    /// The opcode of a request's frame.
    ///
    /// # Errors
    /// `unknown_opcode` for what is not a request.
    pub fn of(header: &FrameHeader) -> Result<Self, WireError> {
        match header.kind() {
            FrameKind::Request(opcode) => Ok(opcode),
            _ => Err(WireError::new(
                ErrorCode::UnknownOpcode,
                format!(
                    "opcode {:#04x} is not a request of protocol version {VERSION}",
                    header.opcode
                ),
            )),
        }
    }

    /// Whether bodies of this opcode may carry their own checksums instead of the frame's.
    fn may_be_self_checked(self, is_response: bool) -> bool {
        match self {
            Self::Produce | Self::Feed | Self::StreamPart => !is_response,
            Self::Fetch => is_response,
            _ => false,
        }
    }
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// Something is asked for (or, with [`Opcode::Feed`], fed).
    Request(Opcode),
    /// The answer to a request.
    Response(Opcode),
    /// The answer that something went wrong.
    Error,
    /// An opcode that this version does not know.
    Unknown(u8),
}

/// Why bytes are not a frame: what follows them cannot be trusted either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Less than a header.
    #[error("a frame header has {FRAME_HEADER_BYTES} bytes, not {have_bytes}")]
    Short {
        /// Bytes that are there.
        have_bytes: u64,
    },
    /// The header's checksum.
    #[error("the checksum of a frame header does not match: not our protocol, or damaged on the way")]
    HeaderChecksum,
    /// The first bytes.
    #[error("a frame begins with {found:#010x} instead of \"MFN1\"")]
    Magic {
        /// What it begins with.
        found: u32,
    },
    /// The frame's version.
    #[error("frame version {found} is not spoken here: this side speaks version {VERSION}")]
    Version {
        /// What it says.
        found: u8,
    },
    /// Flags that this version does not know, or not for this opcode.
    #[error("flags {flags:#06x} make no sense in a frame with opcode {opcode:#04x}")]
    Flags {
        /// The flags.
        flags: u16,
        /// The opcode.
        opcode: u8,
    },
    /// The bound.
    #[error("a frame with a body of {body_bytes} bytes is larger than the {frame_bytes_max} bytes allowed")]
    TooLarge {
        /// What the header says.
        body_bytes: u64,
        /// The bound on header and body.
        frame_bytes_max: u64,
    },
    /// Not all of the body was given.
    #[error("the frame's body has {have_bytes} bytes instead of {body_bytes}")]
    BodyBytes {
        /// What the header says.
        body_bytes: u64,
        /// What was given.
        have_bytes: u64,
    },
    /// The body's checksum.
    #[error("the checksum of a frame's body does not match: damaged on the way")]
    BodyChecksum,
}

impl From<FrameError> for WireError {
    fn from(error: FrameError) -> Self {
        let code = match error {
            FrameError::TooLarge { .. } => ErrorCode::TooLarge,
            FrameError::Version { .. } => ErrorCode::UnsupportedVersion,
            FrameError::HeaderChecksum | FrameError::BodyChecksum => ErrorCode::BadChecksum,
            _ => ErrorCode::Malformed,
        };
        Self::new(code, error.to_string())
    }
}

/// A frame's header, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    opcode: u8,
    flags: u16,
    request_id: u64,
    body_bytes: u64,
    body_crc: u32,
}

impl FrameHeader {
    /// Checks the first [`FRAME_HEADER_BYTES`] of `bytes`. The body is bounded by `frame_bytes_max`, which counts
    /// the header too.
    ///
    /// # Errors
    /// See [`FrameError`]. Unknown opcodes are not errors here: they can be answered.
    pub fn check(bytes: &[u8], frame_bytes_max: u64) -> Result<Self, FrameError> {
        let Some(bytes) = bytes.get(..FRAME_HEADER_BYTES) else {
            return Err(FrameError::Short {
                have_bytes: wide(bytes.len()),
            });
        };
        let raw: RawHeader = bytemuck::pod_read_unaligned(bytes);
        let checked = bytes.get(..CHECKED_BYTES).unwrap_or_default();
        if crc32fast::hash(checked) != raw.header_crc.get() {
            return Err(FrameError::HeaderChecksum);
        }
        if raw.magic.get() != MAGIC {
            return Err(FrameError::Magic {
                found: raw.magic.get(),
            });
        }
        if raw.version != VERSION {
            return Err(FrameError::Version { found: raw.version });
        }
        let header = Self {
            opcode: raw.opcode,
            flags: raw.flags.get(),
            request_id: raw.request_id.get(),
            body_bytes: raw.body_bytes.get(),
            body_crc: raw.body_crc.get(),
        };
        if !header.flags_make_sense() {
            return Err(FrameError::Flags {
                flags: header.flags,
                opcode: header.opcode,
            });
        }
        if header.body_bytes > frame_bytes_max.saturating_sub(wide(FRAME_HEADER_BYTES)) {
            return Err(FrameError::TooLarge {
                body_bytes: header.body_bytes,
                frame_bytes_max,
            });
        }
        Ok(header)
    }

    /// Checks the body against the header.
    ///
    /// # Errors
    /// A body of another length or with another checksum.
    pub fn check_body(&self, body: &[u8]) -> Result<(), FrameError> {
        if wide(body.len()) != self.body_bytes {
            return Err(FrameError::BodyBytes {
                body_bytes: self.body_bytes,
                have_bytes: wide(body.len()),
            });
        }
        if !self.is_self_checked() && crc32fast::hash(body) != self.body_crc {
            return Err(FrameError::BodyChecksum);
        }
        Ok(())
    }

    /// The header of a request with this body, encoded.
    pub fn request(opcode: Opcode, request_id: u64, body: &[u8]) -> Bytes {
        Bytes::copy_from_slice(&Self::of_body(opcode.number(), request_id, body).encode())
    }

    /// The header of the answer with this body to `request`, encoded.
    pub fn response(request: &Self, body: &[u8]) -> [u8; FRAME_HEADER_BYTES] {
        Self::of_body(request.opcode | RESPONSE, request.request_id, body).encode()
    }

    /// The header of an error, encoded. `body` is [`WireError::to_json`].
    pub fn error(request_id: u64, body: &[u8]) -> Bytes {
        Bytes::copy_from_slice(&Self::of_body(ERROR, request_id, body).encode())
    }

    /// What a node sends that lives and can answer nothing now, whole: an answer to a ping that nobody sent. Clients number their
    /// requests from 1 on.
    pub fn sign_of_life() -> [u8; FRAME_HEADER_BYTES] {
        Self::of_body(Opcode::Ping.number() | RESPONSE, 0, &[]).encode()
    }

    /// The header of a request (or feed) whose body checks itself, encoded.
    pub fn self_checked(opcode: Opcode, request_id: u64, body_bytes: u64) -> [u8; FRAME_HEADER_BYTES] {
        let opcode = opcode.number();
        Self {
            opcode,
            flags: SELF_CHECKED,
            request_id,
            body_bytes,
            body_crc: 0,
        }
        .encode()
    }

    /// The header of the answer to `request` whose body checks itself, encoded.
    pub fn self_checked_response(request: &Self, body_bytes: u64) -> [u8; FRAME_HEADER_BYTES] {
        let opcode = request.opcode | RESPONSE;
        Self {
            opcode,
            flags: SELF_CHECKED,
            request_id: request.request_id,
            body_bytes,
            body_crc: 0,
        }
        .encode()
    }

    /// What the frame is.
    pub fn kind(&self) -> FrameKind {
        if self.opcode == ERROR {
            return FrameKind::Error;
        }
        let is_response = self.opcode & RESPONSE != 0;
        match Opcode::from_number(self.opcode & !RESPONSE) {
            Some(opcode) if is_response => FrameKind::Response(opcode),
            Some(opcode) => FrameKind::Request(opcode),
            None => FrameKind::Unknown(self.opcode),
        }
    }

    /// Which request this is or answers.
    pub fn request_id(&self) -> u64 {
        self.request_id
    }

    /// Bytes that follow the header.
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// Whether the body carries its own checksums.
    pub fn is_self_checked(&self) -> bool {
        self.flags & SELF_CHECKED != 0
    }

    fn of_body(opcode: u8, request_id: u64, body: &[u8]) -> Self {
        let body_crc = crc32fast::hash(body);
        Self {
            opcode,
            flags: 0,
            request_id,
            body_bytes: wide(body.len()),
            body_crc,
        }
    }

    fn flags_make_sense(&self) -> bool {
        match (self.flags, self.kind()) {
            (0, _) => true,
            (SELF_CHECKED, FrameKind::Request(opcode)) => {
                self.body_crc == 0 && opcode.may_be_self_checked(false)
            }
            (SELF_CHECKED, FrameKind::Response(opcode)) => {
                self.body_crc == 0 && opcode.may_be_self_checked(true)
            }
            _ => false,
        }
    }

    fn encode(&self) -> [u8; FRAME_HEADER_BYTES] {
        let mut raw = RawHeader {
            magic: Le32::from(MAGIC),
            version: VERSION,
            opcode: self.opcode,
            flags: Le16::from(self.flags),
            request_id: Le64::from(self.request_id),
            body_bytes: Le64::from(self.body_bytes),
            body_crc: Le32::from(self.body_crc),
            header_crc: Le32::from(0),
        };
        let checked = bytemuck::bytes_of(&raw).get(..CHECKED_BYTES).unwrap_or_default();
        raw.header_crc = Le32::from(crc32fast::hash(checked));
        bytemuck::cast(raw)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: u64 = 1 << 20;

    fn encode_raw(change: impl Fn(&mut RawHeader)) -> Vec<u8> {
        let mut raw: RawHeader = bytemuck::pod_read_unaligned(&FrameHeader::request(Opcode::Ping, 7, b"x"));
        change(&mut raw);
        raw.header_crc = Le32::from(crc32fast::hash(&bytemuck::bytes_of(&raw)[..CHECKED_BYTES]));
        bytemuck::bytes_of(&raw).to_vec()
    }

    #[test]
    fn a_request_and_its_answers_find_each_other() {
        let request = FrameHeader::check(&FrameHeader::request(Opcode::Fetch, 9, b"body"), MAX).unwrap();
        assert_eq!(request.kind(), FrameKind::Request(Opcode::Fetch));
        request.check_body(b"body").unwrap();
        assert_eq!(request.check_body(b"bodY"), Err(FrameError::BodyChecksum));
        assert!(matches!(
            request.check_body(b"bod"),
            Err(FrameError::BodyBytes { .. })
        ));
        for answer in [
            FrameHeader::response(&request, b""),
            FrameHeader::self_checked_response(&request, 5),
        ] {
            let answer = FrameHeader::check(&answer, MAX).unwrap();
            assert_eq!(
                (answer.kind(), answer.request_id()),
                (FrameKind::Response(Opcode::Fetch), 9)
            );
        }
        let error = FrameHeader::check(&FrameHeader::error(9, b"{}"), MAX).unwrap();
        assert_eq!(error.kind(), FrameKind::Error);
    }

    #[test]
    fn each_lie_is_named() {
        let check = |bytes: &[u8]| FrameHeader::check(bytes, MAX).unwrap_err();
        assert!(matches!(check(&[0; 31]), FrameError::Short { have_bytes: 31 }));
        assert_eq!(check(&[0; 32]), FrameError::HeaderChecksum);
        assert!(matches!(
            check(&encode_raw(|raw| raw.magic = Le32::from(1))),
            FrameError::Magic { found: 1 }
        ));
        assert!(matches!(
            check(&encode_raw(|raw| raw.version = 2)),
            FrameError::Version { found: 2 }
        ));
        assert!(matches!(
            check(&encode_raw(|raw| raw.flags = Le16::from(2))),
            FrameError::Flags { flags: 2, .. }
        ));
        // Only bodies made of checked parts may go without the frame's checksum.
        let unchecked_ping = encode_raw(|raw| {
            raw.flags = Le16::from(SELF_CHECKED);
            raw.body_crc = Le32::from(0);
        });
        assert!(matches!(check(&unchecked_ping), FrameError::Flags { .. }));
        let large = encode_raw(|raw| raw.body_bytes = Le64::from(u64::MAX));
        assert!(matches!(check(&large), FrameError::TooLarge { .. }));
        let full = encode_raw(|raw| raw.body_bytes = Le64::from(MAX - 32));
        assert!(FrameHeader::check(&full, MAX).is_ok());
    }

    #[test]
    fn unknown_opcodes_pass_so_that_they_can_be_answered() {
        let header = FrameHeader::check(&encode_raw(|raw| raw.opcode = 0x77), MAX).unwrap();
        assert_eq!(header.kind(), FrameKind::Unknown(0x77));
        assert_eq!(Opcode::of(&header).unwrap_err().code, ErrorCode::UnknownOpcode);
    }

    #[test]
    fn opcodes_are_unique_and_leave_room_for_the_response_bit() {
        for opcode in Opcode::ALL {
            assert_eq!(Opcode::from_number(opcode.number()), Some(*opcode));
            assert!(opcode.number() < 0x7F);
        }
    }

    proptest! {
        #[test]
        fn encode_then_check_is_identity(opcode in 0..Opcode::ALL.len(), id: u64, body: Vec<u8>) {
            let header = FrameHeader::of_body(Opcode::ALL[opcode].number(), id, &body);
            let back = FrameHeader::check(&header.encode(), MAX).unwrap();
            prop_assert_eq!(back, header);
            prop_assert!(back.check_body(&body).is_ok());
        }

        #[test]
        fn check_never_panics(bytes: Vec<u8>, max: u64) {
            FrameHeader::check(&bytes, max).ok();
        }

        #[test]
        fn any_flipped_bit_is_seen(bit in 0_usize..256) {
            let mut bytes = FrameHeader::request(Opcode::Status, 1, b"{}").to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(FrameHeader::check(&bytes, MAX).is_err());
        }
    }
}
