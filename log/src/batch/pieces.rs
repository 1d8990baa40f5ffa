//! Checksums of events' data, one for each 64 KiB.

use super::{Batch, Table};
use crate::le::Le32;
use crate::limits::PIECE_BYTES;
use crate::width::{narrow, wide};

/// [`PIECE_BYTES`] where lengths are computed.
const PIECE: u64 = 65536;

const _: () = assert!(PIECE_BYTES == 65536);

/// Pieces that so much data has.
pub(crate) fn piece_count(data_bytes: u64) -> u64 {
    data_bytes.div_ceil(PIECE)
}

/// The checksums of one event's data, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PieceCrcs<'a>(&'a [Le32]);

impl<'a> PieceCrcs<'a> {
    pub(super) fn new(crcs: &'a [Le32]) -> Self {
        Self(crcs)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the event has no data.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The checksum of one piece.
    pub fn get(&self, index: usize) -> Option<u32> {
        self.0.get(index).map(|crc| crc.get())
    }

    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = u32> + 'a {
        self.0.iter().map(|crc| crc.get())
    }
}

/// Whether a piece of an event's data has this checksum.
pub fn check_piece(piece: &[u8], crc: u32) -> bool {
    crc32fast::hash(piece) == crc
}

/// Whether `data` is the data of this batch, all of it. Data of a batch that was left without its table never is.
pub fn check_pieces(data: &[u8], batch: &Batch) -> bool {
    wide(data.len()) == batch.data_bytes() && first_bad_piece(&batch.table(), data).is_none()
}

/// The first piece that does not check: the event's place in the batch, the piece's place in the event.
pub(super) fn first_bad_piece(table: &Table<'_>, data: &[u8]) -> Option<(u32, u64)> {
    let (mut data, mut crcs) = (data, table.pieces);
    for (index, entry) in (0_u32..).zip(table.entries) {
        let Some((own, rest)) = data.split_at_checked(narrow(entry.data_bytes())) else {
            return Some((index, 0));
        };
        let Some((own_crcs, rest_crcs)) = crcs.split_at_checked(narrow(piece_count(entry.data_bytes())))
        else {
            return Some((index, 0));
        };
        for (piece, (bytes, crc)) in (0_u64..).zip(own.chunks(PIECE_BYTES).zip(own_crcs)) {
            if !check_piece(bytes, crc.get()) {
                return Some((index, piece));
            }
        }
        (data, crcs) = (rest, rest_crcs);
    }
    // Without a table there is nothing to hold the data against.
    (!data.is_empty()).then_some((0, 0))
}

/// The checksum of an event's whole data, from those of its pieces: what the producer computed vouches for it, not what
/// was just read. `pieces` are all pieces of `data_bytes` bytes.
pub fn combine_crc(pieces: &[u32], data_bytes: u64) -> u32 {
    let mut left = data_bytes;
    let mut whole = crc32fast::Hasher::new();
    for crc in pieces {
        let bytes = left.min(PIECE);
        whole.combine(&crc32fast::Hasher::new_with_initial_len(*crc, bytes));
        left = left.saturating_sub(bytes);
    }
    whole.finalize()
}
