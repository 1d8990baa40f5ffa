//! Checksums of events' data, one for each 64 KiB.

use super::{Batch, Entry, Table};
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

/// The piece of a batch's data that did not check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPiece {
    /// The event's place in the batch.
    pub index: u32,
    /// The piece's place in the event's data.
    pub piece: u64,
}

/// Checks the data of one batch as it comes, in parts of any length: a batch may have more data than a reader wants to
/// hold.
#[derive(Clone, Debug)]
pub struct DataCheck<'a> {
    entries: &'a [Entry],
    crcs: &'a [Le32],
    index: u32,
    /// Bytes of the event's data that were not seen, and of its piece that is being read.
    event_left: u64,
    piece_left: u64,
    piece: u64,
    hasher: crc32fast::Hasher,
}

impl<'a> DataCheck<'a> {
    /// Begins with the first byte of the batch's data.
    pub fn new(batch: &'a Batch) -> Self {
        let table = batch.table();
        let mut check = Self {
            entries: table.entries,
            crcs: table.pieces,
            index: 0,
            event_left: 0,
            piece_left: 0,
            piece: 0,
            hasher: crc32fast::Hasher::new(),
        };
        check.begin_event();
        check
    }

    /// The event at the front is the one whose data comes; those without data are passed over.
    fn begin_event(&mut self) {
        while let Some((first, rest)) = self.entries.split_first() {
            if first.data_bytes() > 0 {
                self.event_left = first.data_bytes();
                break;
            }
            self.entries = rest;
            self.index = self.index.saturating_add(1);
        }
        self.piece = 0;
        self.piece_left = self.event_left.min(PIECE);
    }

    /// Looks at the next bytes.
    ///
    /// # Errors
    /// The first piece that does not check, or that the batch does not have.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), BadPiece> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let bad = BadPiece {
                index: self.index,
                piece: self.piece,
            };
            if self.piece_left == 0 {
                return Err(bad);
            }
            let (now, later) = rest
                .split_at_checked(narrow(self.piece_left))
                .unwrap_or((rest, &[]));
            self.hasher.update(now);
            self.piece_left = self.piece_left.saturating_sub(wide(now.len()));
            self.event_left = self.event_left.saturating_sub(wide(now.len()));
            rest = later;
            if self.piece_left == 0 {
                self.end_piece().ok_or(bad)?;
            }
        }
        Ok(())
    }

    /// Holds the piece against its checksum and goes on to the next.
    fn end_piece(&mut self) -> Option<()> {
        let (crc, crcs) = self.crcs.split_first()?;
        let found = std::mem::take(&mut self.hasher).finalize();
        self.crcs = crcs;
        self.piece = self.piece.saturating_add(1);
        self.piece_left = self.event_left.min(PIECE);
        if self.event_left == 0 {
            self.entries = self.entries.get(1..).unwrap_or_default();
            self.index = self.index.saturating_add(1);
            self.begin_event();
        }
        (found == crc.get()).then_some(())
    }

    /// All data was seen.
    ///
    /// # Errors
    /// The first piece that is missing.
    pub fn finish(self) -> Result<(), BadPiece> {
        if self.event_left == 0 {
            return Ok(());
        }
        Err(BadPiece {
            index: self.index,
            piece: self.piece,
        })
    }
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
