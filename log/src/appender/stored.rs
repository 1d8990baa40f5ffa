//! Events whose data was durable before they got their ids: the data file of a segment begins with it.

use super::lane::Lane;
use super::{Accepted, Appender, Placed, Queued};
use crate::batch::Batch;
use crate::ids::FilePos;
use crate::limits::EVENT_ID_END;
use crate::write_plan::FileTail;

impl Appender {
    /// The segment has no events, and its data file is now one that has the data of the next batch already, durable,
    /// from its first block to `data_end`. [`Appender::accept_stored`] is to follow. `data_tail`: the data file's bytes from
    /// the start of the block of `data_end` up to there.
    ///
    /// # Panics
    /// When the segment has events, or `data_tail` has another length.
    pub fn adopt_data(&mut self, data_end: FilePos, data_tail: Vec<u8>) {
        assert!(
            self.is_empty() && self.queue.is_empty() && self.data.is_idle(),
            "a segment with events from {} on cannot have another data file",
            self.segment.base_event_id
        );
        self.data = Lane::new(FileTail::resume(data_end, data_tail));
    }

    /// As [`Appender::accept`], for the first batch of a segment, whose data is durable in the data file from its first block
    /// on.
    ///
    /// # Panics
    /// When the data file does not end with this batch's data, or the segment has events.
    pub fn accept_stored(&mut self, batch: Batch, now_us: u64) -> Accepted {
        let (data_at, data_bytes) = (FilePos::FIRST, batch.data_bytes());
        assert!(
            self.is_empty() && !batch.is_mark() && data_bytes > 0,
            "only the first batch of a segment can have its data in the file"
        );
        assert_eq!(
            self.data.tail.end(),
            data_at.plus(data_bytes),
            "the data file ends with the data of its batch"
        );
        let base_event_id = self.ends.appended_end;
        let end_event_id = base_event_id.plus(batch.event_count().into());
        assert!(
            end_event_id.get() < EVENT_ID_END,
            "ids of a partition ran out at {base_event_id}"
        );
        self.placed_frame_bytes = self.placed_frame_bytes.saturating_add(batch.frame_bytes());
        self.placed_data_bytes = self.placed_data_bytes.saturating_add(data_bytes);
        let queued = Queued {
            batch,
            base_event_id,
            timestamp_us: now_us,
        };
        self.placed.push_back(Placed { queued, data_at });
        self.placed_end = end_event_id;
        self.ends.appended_end = end_event_id;
        self.assert_ends();
        Accepted {
            base_event_id,
            end_event_id,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::{AppenderConfig, SegmentFacts};
    use super::*;
    use crate::batch::{BatchBuilder, StreamedData};
    use crate::ids::EventId;

    const CONFIG: AppenderConfig = AppenderConfig {
        commits_in_flight_max: 2,
        commit_bytes_max: 1 << 20,
        pipeline_bytes_min: 0,
        meta_pipeline_bytes_min: 0,
        segment_meta_bytes: 1 << 20,
        segment_data_bytes: 1 << 20,
    };
    const SEGMENT: SegmentFacts = SegmentFacts {
        salt: 1,
        base_event_id: EventId::new(50),
        incarnation: 2,
    };

    fn streamed(data: &[u8]) -> Batch {
        let mut came = StreamedData::new();
        came.push(data).unwrap();
        Batch::check_streamed(came.clone().frame(b"{}", None).unwrap(), &came).unwrap()
    }

    fn small() -> Batch {
        let mut builder = BatchBuilder::new();
        builder.push(b"{}", [&[7_u8; 10][..]]).unwrap();
        let (frame, data) = builder.finish(None);
        Batch::check_client(frame, data).unwrap()
    }

    #[test]
    fn only_the_frame_is_written_and_the_next_data_goes_behind() {
        let mut appender = Appender::new(CONFIG, SEGMENT);
        let data = [3_u8; 5000];
        let end = FilePos::FIRST.plus(5000);
        appender.adopt_data(end, data[4096..].to_vec());
        let accepted = appender.accept_stored(streamed(&data), 77);
        assert_eq!(
            (accepted.base_event_id, accepted.end_event_id),
            (EventId::new(50), EventId::new(51))
        );
        let commit = appender.plan().unwrap();
        assert!(commit.data.is_none() && commit.meta.is_some());
        let stored = &commit.batches[0].batch;
        assert_eq!(
            (
                stored.data_at(),
                stored.data_bytes(),
                stored.timestamp_us(),
                stored.salt()
            ),
            (FilePos::FIRST, 5000, 77, 1)
        );
        appender.accept(small(), 78);
        appender.written(commit.id);
        appender.synced(commit.id);
        assert_eq!(appender.ends().synced_end, EventId::new(51));
        let next = appender.plan().unwrap();
        assert_eq!(next.batches[0].batch.data_at(), end);
        // The partial block is written again with what it had.
        let plan = next.data.unwrap();
        let mut block = vec![0xee; plan.total_bytes() as usize];
        plan.fill(&mut block);
        assert_eq!(plan.at(), end.block_down());
        assert_eq!(
            Bytes::from(block),
            Bytes::from([&data[4096..], &[7; 10], &[0; 3182]].concat())
        );
    }

    #[test]
    fn a_segment_with_much_data_is_full_at_once() {
        let mut appender = Appender::new(CONFIG, SEGMENT);
        let data = vec![5_u8; 1 << 20];
        appender.adopt_data(FilePos::FIRST.plus(1 << 20), Vec::new());
        assert!(!appender.is_full(), "it has no events");
        appender.accept_stored(streamed(&data), 1);
        assert!(appender.is_full());
    }

    #[test]
    #[should_panic(expected = "cannot have another data file")]
    fn a_segment_with_events_keeps_its_data_file() {
        let mut appender = Appender::new(CONFIG, SEGMENT);
        appender.accept(small(), 1);
        appender.adopt_data(FilePos::FIRST.plus(4096), Vec::new());
    }
}
