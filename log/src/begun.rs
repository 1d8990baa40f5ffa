//! Whether the last segment of a partition was ever begun.
//!
//! A segment is begun when the headers of both files are durable and both have their names. Where the machine stops before that, the
//! names may be there and what they promise not. The node removes such a segment when it starts, and the offline tools say that it will.

use uuid::Uuid;

use crate::ids::EventId;
use crate::scan::Recovered;
use crate::segment::{SegmentHeader, SegmentKind};
use crate::verdict::Verdict;

/// What the files of a partition's last segment say. They have no footer.
#[derive(Clone, Copy, Debug)]
pub struct LastSegment<'a> {
    /// Whose they are to be.
    pub partition: Uuid,
    /// Where the segment begins by the files' names.
    pub base: EventId,
    /// The meta file's header.
    pub meta: &'a SegmentHeader,
    /// What a scan by that header found.
    pub recovered: &'a Recovered,
    /// The data file's header; `None` where there is no file, or none that has a header.
    pub data: Option<&'a SegmentHeader>,
}

impl LastSegment<'_> {
    /// Whether the data file was begun together with the meta file.
    pub fn has_its_data(&self) -> bool {
        self.data.is_some_and(|data| {
            data.salt() == self.meta.salt() && data.expect(SegmentKind::Data, self.partition).is_ok()
        })
    }

    /// Whether it was never begun: nothing is in it, and nothing ever was.
    pub fn was_never_begun(&self) -> bool {
        if self.meta.expect(SegmentKind::Meta, self.partition).is_err() {
            return false;
        }
        let recovered = self.recovered;
        let begins_at = self.meta.base_event_id();
        if begins_at == self.base {
            // Both names are made durable before the first frame is written.
            let is_empty = recovered.verdict == Verdict::Clean && recovered.next_event_id == self.base;
            return is_empty && !self.has_its_data();
        }
        // An earlier life had made it ready for an earlier segment: its removal was lost, and the name that was given to the file made
        // after it was not. The verdict does not matter: what was durable before the name was in the segments before.
        let is_blank = recovered.next_event_id == begins_at && recovered.residue_end == recovered.meta_end;
        begins_at < self.base && is_blank
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::limits::BLOCK_BYTES;
    use crate::scan::MetaScan;

    const OURS: Uuid = Uuid::from_u128(7);
    const SALT: u64 = 0x5a17;

    fn header(kind: SegmentKind, partition: Uuid, base: u64, salt: u64) -> SegmentHeader {
        SegmentHeader::new(kind, partition, EventId::new(base), salt, 1, 1)
    }

    /// What a scan finds behind a header: zeros, and then this byte.
    fn scanned(header: &SegmentHeader, last: u8, witness: u64) -> Recovered {
        let mut frames = vec![0; BLOCK_BYTES];
        frames.push(last);
        let frames = Bytes::from(frames);
        let mut scan = MetaScan::new(header);
        scan.witness(EventId::new(witness));
        while let Some((at, _)) = scan.next_read() {
            let skip = usize::try_from(at.get()).unwrap() - BLOCK_BYTES;
            scan.feed_seen(at, frames.slice(skip.min(frames.len())..), true, &mut |_| ());
        }
        scan.finish(None)
    }

    #[test]
    fn a_segment_was_never_begun_when_nothing_is_in_it_and_its_files_do_not_belong_to_it() {
        let meta = |base| header(SegmentKind::Meta, OURS, base, SALT);
        let data = |base| Some(header(SegmentKind::Data, OURS, base, SALT));
        let others = |base| Some(header(SegmentKind::Data, OURS, base, SALT + 1));
        let stranger = header(SegmentKind::Meta, Uuid::from_u128(8), 40, SALT);
        for (what, meta, data, last, witness, expected) in [
            ("as it is begun", meta(50), data(50), 0, 50, false),
            ("without a data file", meta(50), None, 0, 50, true),
            ("with that of another", meta(50), others(50), 0, 50, true),
            ("with something behind it", meta(50), None, 1, 50, false),
            ("with events that had been durable", meta(50), None, 0, 60, false),
            ("both made for an earlier one", meta(40), data(40), 0, 50, true),
            ("the meta file alone", meta(40), others(50), 0, 50, true),
            ("without a data file, earlier", meta(40), None, 0, 50, true),
            ("with something behind it, earlier", meta(40), None, 1, 50, false),
            ("made for a later one", meta(60), data(60), 0, 50, false),
            ("another partition's", stranger, None, 0, 50, false),
        ] {
            let recovered = scanned(&meta, last, witness);
            let files = LastSegment {
                partition: OURS,
                base: EventId::new(50),
                meta: &meta,
                recovered: &recovered,
                data: data.as_ref(),
            };
            assert_eq!(files.was_never_begun(), expected, "{what}");
        }
    }
}
