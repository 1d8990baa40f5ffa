//! The file `producers`: what a partition knows of producers whose segments were trimmed. A segment header, and right behind it a
//! footer that has no index and begins where it ends.
//!
//! Whoever has the file's bytes hands over all of them: it is a header and one footer, and so bounded.

use uuid::Uuid;

use super::ProducerTable;
use crate::footer::{Footer, FooterError, FooterFacts, FooterTail};
use crate::ids::{EventId, FilePos};
use crate::index::SparseIndex;
use crate::limits::{BLOCK_BYTES, FOOTER_BYTES_MAX};
use crate::segment::{SegmentHeader, SegmentHeaderError, SegmentKind};
use crate::width::{narrow, wide};

/// Why bytes are not those of the file `producers`, or not enough to go by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeptProducersError {
    /// Its first block is not the header that belongs there.
    #[error(transparent)]
    Header(#[from] SegmentHeaderError),
    /// No footer begins behind the header and ends where the file does.
    #[error("its footer is gone")]
    FooterGone,
    /// Its footer does not check.
    #[error(transparent)]
    Footer(#[from] FooterError),
    /// A footer that checks, of a segment or of another such file.
    #[error("its footer is not that of its header")]
    FooterOfAnother,
    /// Segments went since it was written, and it does not say what producers sent to them.
    #[error("it has what producers sent before event {end}, and the first segment begins at {first}")]
    TooEarly {
        /// Where what it has ends.
        end: EventId,
        /// Where the first segment begins.
        first: EventId,
    },
}

/// What was kept of producers before an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptProducers {
    end: EventId,
    producers: ProducerTable,
}

impl KeptProducers {
    /// The whole file, for what producers sent before `end`.
    pub fn encode(
        partition: Uuid,
        end: EventId,
        producers: ProducerTable,
        salt: u64,
        created_us: u64,
    ) -> Vec<u8> {
        let header = SegmentHeader::new(SegmentKind::Meta, partition, end, salt, created_us, 1);
        let facts = FooterFacts {
            salt,
            base_event_id: end,
            end_event_id: end,
            meta_end: FilePos::FIRST,
            data_end: FilePos::FIRST,
            index: SparseIndex::default(),
            producers,
        };
        let mut bytes = header.to_block().to_vec();
        bytes.extend_from_slice(&Footer::encode(&facts, FilePos::FIRST));
        bytes
    }

    /// How many bytes of a file of this size [`KeptProducers::check`] wants: all, or enough to see that they are too many.
    pub fn read_bytes(file_bytes: u64) -> usize {
        let most = wide(BLOCK_BYTES).saturating_add(FOOTER_BYTES_MAX);
        narrow(file_bytes.min(most.saturating_add(1)))
    }

    /// Checks the bytes of the file. `partition`: whose it is to be, where that is known.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(bytes: &[u8], partition: Option<Uuid>) -> Result<Self, KeptProducersError> {
        let (block, footer) = bytes.split_at(bytes.len().min(BLOCK_BYTES));
        let header = SegmentHeader::check(block)?;
        header.expect(SegmentKind::Meta, partition.unwrap_or(header.partition()))?;
        let tail = FooterTail::check(footer, wide(bytes.len()));
        if tail.is_none_or(|tail| tail.footer_at() != FilePos::FIRST) {
            return Err(KeptProducersError::FooterGone);
        }
        let footer = Footer::check(footer, header.salt())?;
        let end = header.base_event_id();
        if footer.base_event_id() != end || footer.end_event_id() != end {
            return Err(KeptProducersError::FooterOfAnother);
        }
        Ok(Self {
            end,
            producers: footer.producers(),
        })
    }

    /// Whether it says enough where the first segment begins at `first` and no footer knows better.
    ///
    /// # Errors
    /// That segments went since.
    pub fn reaches(&self, first: EventId) -> Result<(), KeptProducersError> {
        let end = self.end;
        if end < first {
            return Err(KeptProducersError::TooEarly { end, first });
        }
        Ok(())
    }

    /// What producers had sent.
    pub fn into_producers(self) -> ProducerTable {
        self.producers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ProducerId;

    const PARTITION: Uuid = Uuid::from_u128(7);

    fn end() -> EventId {
        EventId::new(50)
    }

    fn table() -> ProducerTable {
        let mut producers = ProducerTable::default();
        producers.note((ProducerId::new(9), 1, 3).into(), EventId::new(40), 5);
        producers
    }

    fn whole() -> Vec<u8> {
        KeptProducers::encode(PARTITION, end(), table(), 0x5a17, 1)
    }

    #[test]
    fn what_was_kept_is_read() {
        for partition in [Some(PARTITION), None] {
            let kept = KeptProducers::check(&whole(), partition).unwrap();
            assert_eq!(kept.into_producers(), table());
        }
        let size = whole().len();
        assert_eq!(KeptProducers::read_bytes(wide(size)), size);
    }

    #[test]
    fn any_other_bytes_are_refused() {
        let whole = whole();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(KeptProducers::check(&changed, Some(PARTITION)).is_err(), "{at}");
        }
        for end in 0..whole.len() {
            let cut = KeptProducers::check(&whole[..end], Some(PARTITION));
            assert!(cut.is_err(), "{end}");
        }
        let longer = [&whole[..], &[0; 4096]].concat();
        assert_eq!(
            KeptProducers::check(&longer, Some(PARTITION)),
            Err(KeptProducersError::FooterGone)
        );
        let other = KeptProducers::check(&whole, Some(Uuid::from_u128(8)));
        assert!(matches!(other, Err(KeptProducersError::Header(_))), "{other:?}");
    }

    #[test]
    fn a_footer_of_something_else_is_refused() {
        let header = &whole()[..BLOCK_BYTES];
        let footer = |base: u64, end: u64, salt| {
            let facts = FooterFacts {
                salt,
                base_event_id: EventId::new(base),
                end_event_id: EventId::new(end),
                meta_end: FilePos::FIRST,
                data_end: FilePos::FIRST,
                index: SparseIndex::default(),
                producers: ProducerTable::default(),
            };
            Footer::encode(&facts, FilePos::FIRST)
        };
        let with = |footer: Vec<u8>| KeptProducers::check(&[header, &footer].concat(), None);
        assert!(with(footer(50, 50, 0x5a17)).is_ok());
        for (base, end) in [(40, 40), (50, 60), (40, 50)] {
            assert_eq!(
                with(footer(base, end, 0x5a17)),
                Err(KeptProducersError::FooterOfAnother)
            );
        }
        let salted = with(footer(50, 50, 0x5a18));
        assert!(matches!(salted, Err(KeptProducersError::Footer(_))), "{salted:?}");
    }

    #[test]
    fn what_is_from_before_segments_that_went_is_not_enough() {
        let kept = KeptProducers::check(&whole(), None).unwrap();
        for (first, is_enough) in [(0, true), (50, true), (51, false)] {
            assert_eq!(kept.reaches(EventId::new(first)).is_ok(), is_enough, "{first}");
        }
    }

    #[test]
    fn a_file_that_is_too_long_is_not_read_to_its_end() {
        let bytes = KeptProducers::read_bytes(u64::MAX);
        assert!(wide(bytes) > FOOTER_BYTES_MAX && wide(bytes) < FOOTER_BYTES_MAX + 8192);
    }
}
