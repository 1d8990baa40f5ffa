//! Puts the checksums of hostile structures right. Places and widths are those of docs/FORMAT.md and docs/PROTOCOL.md,
//! on purpose not taken from the crates: a layout that moves leaves the fuzzers before closed doors, and their coverage
//! says so.

use std::ops::Range;

/// Bytes of one piece of an event's data.
const PIECE_BYTES: usize = 65536;

/// What a target's first byte asks for.
#[derive(Clone, Copy)]
pub struct Mode(u8);

impl Mode {
    /// The mode of this byte. 0 repairs everything.
    pub fn new(byte: u8) -> Self {
        Self(byte)
    }

    /// Checksums are left as they are.
    pub fn is_raw(self) -> bool {
        self.0 & 1 != 0
    }

    /// Frames keep the salt that they have.
    pub fn keeps_salts(self) -> bool {
        self.0 & 2 != 0
    }

    /// Pieces of data keep the checksums that they have.
    pub fn keeps_pieces(self) -> bool {
        self.0 & 4 != 0
    }
}

fn number(bytes: &[u8], at: usize, width: usize) -> u64 {
    let field = bytes.get(at..at + width).unwrap_or_default();
    field
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    if let Some(room) = bytes.get_mut(at..at + field.len()) {
        room.copy_from_slice(field);
    }
}

/// Stores the CRC of `covered` at `at`, when both are there.
fn put_crc(bytes: &mut [u8], at: usize, covered: Range<usize>) {
    if let Some(covered) = bytes.get(covered) {
        let crc = crc32fast::hash(covered);
        put(bytes, at, &crc.to_le_bytes());
    }
}

/// The header at the start of any file of ours.
pub fn segment_header(bytes: &mut [u8]) {
    put_crc(bytes, 4, 8..128);
}

/// Every batch frame in a meta file. `data`: the data file, for the checksums of pieces.
pub fn frames(meta: &mut [u8], data: Option<&[u8]>, mode: Mode) {
    let salt = number(meta, 40, 8);
    let mut at = 4096;
    while at + 128 <= meta.len() {
        if meta[at..].starts_with(b"MFB1") {
            if !mode.keeps_salts() {
                put(meta, at + 16, &salt.to_le_bytes());
            }
            let data_at = usize::try_from(number(meta, at + 40, 8)).unwrap_or(usize::MAX);
            let own = data.and_then(|data| data.get(data_at..));
            let frame = &mut meta[at..];
            batch(frame, own.filter(|_| !mode.keeps_pieces()));
        }
        at += 8;
    }
}

/// The batch frame at the start of `frame`. `data`: where its data begins.
pub fn batch(frame: &mut [u8], data: Option<&[u8]>) {
    let count = |at: usize| usize::try_from(number(frame, at, 4)).unwrap_or(0);
    let (events, pieces) = (count(12), count(100));
    let pieces_at = events.saturating_mul(16).saturating_add(128);
    let metadata_at = pieces.saturating_mul(4).saturating_add(pieces_at);
    if metadata_at <= frame.len() {
        let (mut metadata, mut piece_at, mut rest) = (metadata_at, pieces_at, data.unwrap_or_default());
        for entry in (128..pieces_at).step_by(16) {
            let own = usize::try_from(number(frame, entry, 4)).unwrap_or(usize::MAX);
            let end = metadata.saturating_add(own);
            put_crc(frame, entry + 4, metadata..end);
            metadata = end.min(frame.len());
            let own = usize::try_from(number(frame, entry + 8, 8)).unwrap_or(usize::MAX);
            let (own, behind) = rest.split_at_checked(own).unwrap_or((&[], &[]));
            for piece in own.chunks(PIECE_BYTES) {
                if piece_at + 4 <= metadata_at {
                    put(frame, piece_at, &crc32fast::hash(piece).to_le_bytes());
                }
                piece_at += 4;
            }
            rest = behind;
        }
        put_crc(frame, 104, 128..metadata_at);
    }
    put_crc(frame, 4, 8..128);
}

/// A footer, from its header to its tail.
pub fn footer(bytes: &mut [u8]) {
    let Some(tail) = bytes.len().checked_sub(64).filter(|tail| *tail >= 128) else {
        return;
    };
    put_crc(bytes, 4, 8..tail);
    put_crc(bytes, tail + 4, tail + 8..tail + 64);
}

/// The header of a frame on the wire, and its body's checksum, if the body does not check itself. Gives the whole
/// frame's length, as the header says it.
pub fn wire_frame(bytes: &mut [u8]) -> usize {
    let body_bytes = usize::try_from(number(bytes, 16, 8)).unwrap_or(usize::MAX);
    let end = body_bytes.saturating_add(32);
    if number(bytes, 6, 2) & 1 == 0 {
        put_crc(bytes, 24, 32..end);
    }
    put_crc(bytes, 28, 0..28);
    end
}

/// The body of a produce request.
pub fn produce(body: &mut [u8]) {
    put_crc(body, 28, 0..28);
    let Some(frame) = body.get_mut(32..) else { return };
    let parts = [
        128,
        16 * number(frame, 12, 4),
        4 * number(frame, 100, 4),
        number(frame, 96, 4),
    ];
    let frame_bytes = parts.into_iter().fold(0, u64::saturating_add).next_multiple_of(8);
    let frame_bytes = usize::try_from(frame_bytes).unwrap_or(usize::MAX);
    match frame.split_at_mut_checked(frame_bytes) {
        Some((frame, data)) => batch(frame, Some(data)),
        None => batch(frame, None),
    }
}

/// The body of a feed, and the batches in it.
pub fn feed(body: &mut [u8]) {
    put_crc(body, 40, 0..40);
    let mut at = 64;
    while let Some(item) = body.get_mut(at..).filter(|rest| rest.len() >= 16 + 128) {
        let frame_bytes = usize::try_from(number(item, 0, 8)).unwrap_or(usize::MAX);
        let data_bytes = usize::try_from(number(item, 8, 8)).unwrap_or(usize::MAX);
        let end = frame_bytes.saturating_add(data_bytes).saturating_add(16);
        if end > item.len() {
            return;
        }
        let (frame, data) = item[16..end].split_at_mut(frame_bytes);
        batch(
            frame,
            Some(data).filter(|data| !data.is_empty()).map(|data| &*data),
        );
        at = at.saturating_add(end).saturating_add(7) & !7;
    }
}

/// The answer to a fetch: its table, and the checksum of each item.
pub fn fetch_answer(body: &mut [u8]) {
    let items = usize::try_from(number(body, 0, 4)).unwrap_or(0);
    let end = items.saturating_mul(16).saturating_add(8);
    if end > body.len() {
        return;
    }
    let mut data_at = end;
    for entry in (8..end).step_by(16) {
        let bytes = usize::try_from(number(body, entry + 8, 8)).unwrap_or(usize::MAX);
        let own = data_at..data_at.saturating_add(bytes);
        data_at = own.end;
        put_crc(body, entry + 4, own);
    }
    let mut crc = crc32fast::Hasher::new();
    crc.update(&body[..4]);
    crc.update(&body[8..end]);
    put(body, 4, &crc.finalize().to_le_bytes());
}
