//! A stretch of a meta file, and looking for frames in it.

use bytes::Bytes;

use crate::batch::{BATCH_HEADER_BYTES, Batch, BatchHeader, MAGIC};
use crate::ids::FilePos;
use crate::width::{narrow, wide};

/// [`BATCH_HEADER_BYTES`] where lengths are computed.
pub(super) const HEADER_BYTES: u64 = 128;

const _: () = assert!(BATCH_HEADER_BYTES == 128);

pub(super) struct Window {
    at: FilePos,
    bytes: Bytes,
    end_of_file: bool,
}

/// What is at a place.
pub(super) enum Attempt {
    /// A valid frame of this segment.
    Frame(Batch),
    /// None.
    Nothing,
    /// So many bytes from that place on must be seen to tell.
    More(u64),
}

/// How far a search came, and where the last byte that is not zero ended that it passed.
pub(super) struct Searched {
    pub(super) stop: Stop,
    pub(super) residue_end: Option<FilePos>,
}

pub(super) enum Stop {
    /// Here something begins like a frame.
    Candidate(FilePos),
    /// From here on more must be seen.
    More(FilePos),
    /// The file ended.
    End,
}

impl Window {
    pub(super) fn new(at: FilePos, bytes: Bytes, end_of_file: bool) -> Self {
        Self {
            at,
            bytes,
            end_of_file,
        }
    }

    /// The bytes from `at` on; `None` before the window. Nothing when it ends earlier.
    fn from(&self, at: FilePos) -> Option<&[u8]> {
        let skip = narrow(at.get().checked_sub(self.at.get())?);
        Some(self.bytes.get(skip..).unwrap_or_default())
    }

    /// Looks whether a frame with this salt is at `at`. The header's own checksum holds before its length is believed.
    pub(super) fn attempt(&self, at: FilePos, salt: u64) -> Attempt {
        let Some(rest) = self.from(at) else {
            return Attempt::More(HEADER_BYTES);
        };
        let short = |need: u64| {
            if self.end_of_file {
                Attempt::Nothing
            } else {
                Attempt::More(need)
            }
        };
        if wide(rest.len()) < HEADER_BYTES {
            return short(HEADER_BYTES);
        }
        let header = match BatchHeader::check(rest) {
            Ok(header) if header.salt() == salt => header,
            _ => return Attempt::Nothing,
        };
        let Some(frame) = rest.get(..narrow(header.frame_bytes())) else {
            return short(header.frame_bytes());
        };
        match Batch::check_body(header, self.bytes.slice_ref(frame)) {
            Ok(batch) => Attempt::Frame(batch),
            Err(_) => Attempt::Nothing,
        }
    }

    /// Looks for the next place that begins like a frame, at `at` or a multiple of 8 after it.
    pub(super) fn search(&self, at: FilePos) -> Searched {
        let Some(rest) = self.from(at) else {
            return Searched {
                stop: Stop::More(at),
                residue_end: None,
            };
        };
        let magic = MAGIC.to_le_bytes();
        let (words, last) = rest.as_chunks::<8>();
        let place = |n: u64| at.plus(n.saturating_mul(8));
        let mut residue_end = None;
        for (n, word) in (0_u64..).zip(words) {
            if *word == [0; 8] {
                continue;
            }
            residue_end = Some(place(n.saturating_add(1)));
            if word.starts_with(&magic) {
                return Searched {
                    stop: Stop::Candidate(place(n)),
                    residue_end,
                };
            }
        }
        let words_end = place(wide(words.len()));
        if !self.end_of_file {
            return Searched {
                stop: Stop::More(words_end),
                residue_end,
            };
        }
        if last.iter().any(|byte| *byte != 0) {
            residue_end = Some(words_end.plus(wide(last.len())));
        }
        Searched {
            stop: Stop::End,
            residue_end,
        }
    }
}
