//! A segment in memory and the appender that writes it.

use bytes::Bytes;
use uuid::Uuid;

use crate::appender::{Appender, AppenderConfig, Commit, Resume, SegmentFacts};
use crate::batch::{Batch, BatchBuilder, check_pieces};
use crate::ids::{EventId, FilePos, ProducerId};
use crate::scan::{MetaScan, Recovered, UnvouchedFrame};
use crate::segment::{SegmentHeader, SegmentKind};
use crate::write_plan::WritePlan;

pub(super) const BASE: u64 = 100;
pub(super) const CONFIG: AppenderConfig = AppenderConfig {
    commits_in_flight_max: 9,
    commit_bytes_max: 1,
    pipeline_bytes_min: 0,
    meta_pipeline_bytes_min: 0,
    segment_meta_bytes: u64::MAX,
    segment_data_bytes: u64::MAX,
};

pub(super) fn id(n: u64) -> EventId {
    EventId::new(n)
}

pub(super) fn at(n: u64) -> FilePos {
    FilePos::new(n)
}

/// `events` events with `data_bytes` bytes each.
pub(super) fn batch(events: u32, data_bytes: usize, sequence: u64) -> Batch {
    let mut builder = BatchBuilder::new();
    for n in 0..events {
        let data: Vec<u8> = (0..data_bytes)
            .map(|place| (place as u32 + n + sequence as u32) as u8 | 1)
            .collect();
        builder.push(b"{\"some\":\"metadata\"}", [&data[..]]).unwrap();
    }
    let (frame, data) = builder.finish(Some((ProducerId::new(7), 0, sequence)));
    Batch::check_client(frame, data).unwrap()
}

/// The files of a segment, and the life that writes them.
pub(super) struct Life {
    pub(super) header: SegmentHeader,
    pub(super) meta: Vec<u8>,
    pub(super) data: Vec<u8>,
    pub(super) appender: Appender,
    pub(super) sequence: u64,
}

/// Of a life that has no others under way, every commit has frames.
pub(super) fn meta_of(commit: &Commit) -> &WritePlan {
    commit.meta.as_ref().unwrap()
}

pub(super) fn land(file: &mut Vec<u8>, plan: &WritePlan) {
    let (start, end) = (plan.at().get() as usize, plan.end().get() as usize);
    file.resize(file.len().max(end), 0);
    plan.fill(&mut file[start..end]);
}

impl Life {
    pub(super) fn first() -> Self {
        let header = SegmentHeader::new(SegmentKind::Meta, Uuid::from_u128(9), id(BASE), 0x5a17, 1, 1);
        let facts = SegmentFacts {
            salt: 0x5a17,
            base_event_id: id(BASE),
            incarnation: 1,
        };
        let (meta, data) = (header.to_block().to_vec(), vec![0; 4096]);
        Self {
            header,
            meta,
            data,
            appender: Appender::new(CONFIG, facts),
            sequence: 0,
        }
    }

    /// The next life: what recovery dropped is cut, then it goes on where recovery says.
    pub(super) fn next(&self, recovered: &Recovered) -> Self {
        let mut life = self.next_uncut(recovered);
        let tail =
            &self.meta[recovered.meta_end.block_down().get() as usize..recovered.meta_end.get() as usize];
        for plan in recovered.cut(tail) {
            land(&mut life.meta, &plan);
        }
        life
    }

    /// The same without the cut, which a stop may have kept from happening.
    pub(super) fn next_uncut(&self, recovered: &Recovered) -> Self {
        let tail =
            |file: &[u8], end: FilePos| file[end.block_down().get() as usize..end.get() as usize].to_vec();
        let incarnation = recovered.next_incarnation;
        let facts = SegmentFacts {
            salt: 0x5a17,
            base_event_id: id(BASE),
            incarnation,
        };
        let resume = Resume {
            meta_end: recovered.meta_end,
            data_end: recovered.data_end,
            next_event_id: recovered.next_event_id,
            synced_end: recovered.next_event_id,
            meta_tail: tail(&self.meta, recovered.meta_end),
            data_tail: tail(&self.data, recovered.data_end),
        };
        let appender = Appender::resume(CONFIG, facts, resume);
        let (meta, data) = (self.meta.clone(), self.data.clone());
        Self {
            header: self.header,
            meta,
            data,
            appender,
            sequence: self.sequence,
        }
    }

    /// A commit that is planned and has not landed.
    pub(super) fn plan(&mut self, events: u32, data_bytes: usize) -> Commit {
        self.appender
            .accept(batch(events, data_bytes, self.sequence), 1000 + self.sequence);
        self.sequence += 1;
        self.appender.plan().unwrap()
    }

    pub(super) fn land(&mut self, commit: &Commit) {
        land(&mut self.meta, meta_of(commit));
        if let Some(plan) = &commit.data {
            land(&mut self.data, plan);
        }
    }

    pub(super) fn sync(&mut self, commit: &Commit) {
        self.appender.written(commit.id);
        self.appender.synced(commit.id);
    }

    /// A commit that landed and was synced before the next.
    pub(super) fn store(&mut self, events: u32, data_bytes: usize) -> Commit {
        let commit = self.plan(events, data_bytes);
        self.land(&commit);
        self.sync(&commit);
        commit
    }

    pub(super) fn mark(&mut self, clean: bool) {
        let commit = self.appender.plan_mark(clean, 5).unwrap();
        self.land(&commit);
        self.sync(&commit);
    }

    pub(super) fn scan(&self) -> Recovered {
        self.scan_with(usize::MAX, &mut |_| ())
    }

    /// Scans as the engine does, shown `window_bytes` at a time.
    pub(super) fn scan_with(&self, window_bytes: usize, visit: &mut dyn FnMut(&Batch)) -> Recovered {
        self.run(MetaScan::new(&self.header), window_bytes, visit)
    }

    /// Scans, and knows from elsewhere that everything before `end` was durable.
    pub(super) fn scan_witnessed(&self, end: EventId) -> Recovered {
        let mut scan = MetaScan::new(&self.header);
        scan.witness(end);
        self.run(scan, usize::MAX, &mut |_| ())
    }

    fn run(&self, mut scan: MetaScan, window_bytes: usize, visit: &mut dyn FnMut(&Batch)) -> Recovered {
        while let Some((at, min_bytes)) = scan.next_read() {
            let start = (at.get() as usize).min(self.meta.len());
            let bytes = window_bytes.max(min_bytes as usize);
            let end = start.saturating_add(bytes).min(self.meta.len());
            scan.feed(
                at,
                Bytes::copy_from_slice(&self.meta[start..end]),
                end == self.meta.len(),
                visit,
            );
        }
        let bad = scan.unvouched().find(|frame| {
            let start = frame.data_at().get() as usize;
            let stored = self.data.get(start..start + frame.data_bytes() as usize);
            frame.data_bytes() > 0 && !stored.is_some_and(|stored| check_pieces(stored, &frame.batch))
        });
        let bad = bad.map(UnvouchedFrame::base_event_id);
        scan.finish(bad)
    }
}

pub(super) fn erase(file: &mut [u8], range: std::ops::Range<usize>) {
    file[range].fill(0);
}
