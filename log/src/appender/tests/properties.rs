//! Whatever is accepted, planned and ended in whatever order.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Action {
    Accept {
        events: u32,
        data_bytes: usize,
    },
    Plan,
    Mark,
    /// Moves the n-th commit under way one step on.
    Step(usize),
}

fn actions() -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => (1..4_u32, prop_oneof![5 => Just(0), 5 => 1..3000_usize, 5 => Just(4096), 1 => Just(300_000)])
            .prop_map(|(events, data_bytes)| Action::Accept { events, data_bytes }),
        2 => Just(Action::Plan),
        1 => Just(Action::Mark),
        3 => (0..4_usize).prop_map(Action::Step),
    ]
}

/// A file that takes whole-block writes; counts what is under way in each block.
#[derive(Default)]
struct Blocks {
    bytes: Vec<u8>,
    written: Vec<bool>,
    durable: Vec<bool>,
}

impl Blocks {
    /// What was there may only be written over by the same bytes, and never while it is under way.
    fn write(&mut self, plan: &WritePlan, under_way: &[(FilePos, FilePos)]) {
        for (at, end) in under_way {
            assert!(
                plan.end() <= *at || *end <= plan.at(),
                "two writes of one block: {plan:?} and {at}..{end}"
            );
        }
        let (start, end) = (plan.at().get() as usize, plan.end().get() as usize);
        self.bytes.resize(self.bytes.len().max(end), 0);
        self.written.resize(self.bytes.len(), false);
        let content_end = start + plan.content_bytes() as usize;
        for (place, byte) in (start..).zip(filled(plan)) {
            assert!(
                !self.written[place] || self.bytes[place] == byte,
                "byte {place} was changed"
            );
            self.bytes[place] = byte;
            self.written[place] |= place < content_end;
        }
    }
}

impl Blocks {
    /// This write is durable.
    fn sync(&mut self, plan: &WritePlan) {
        let start = plan.at().get() as usize;
        self.durable.resize(self.bytes.len(), false);
        self.durable[start..start + plan.content_bytes() as usize].fill(true);
    }

    fn is_durable(&self, at: FilePos, bytes: u64) -> bool {
        let range = at.get() as usize..(at.get() + bytes) as usize;
        bytes == 0
            || self
                .durable
                .get(range)
                .is_some_and(|all| all.iter().all(|durable| *durable))
    }
}

type Range = (FilePos, FilePos);

proptest! {
    /// Whatever happens in whatever order: blocks under way are left alone, old bytes are unchanged, what is durable is a
    /// prefix of which both files have everything, and every batch is where the commit said.
    #[test]
    fn writes_never_meet_and_never_change_what_is_there(
        actions in vec(actions(), 1..80),
        depth in 1..5_usize,
        commit_bytes_max in prop_oneof![Just(1), Just(9000), Just(1 << 20)],
        pipeline_bytes_min in prop_oneof![Just(0), Just(2000)],
        meta_pipeline_bytes_min in prop_oneof![Just(0), Just(400), Just(1 << 20)],
    ) {
        let config = AppenderConfig {
            commits_in_flight_max: depth,
            commit_bytes_max,
            pipeline_bytes_min,
            meta_pipeline_bytes_min,
            ..CONFIG
        };
        let mut appender = Appender::new(config, SEGMENT);
        let (mut meta, mut data) = (Blocks::default(), Blocks::default());
        let mut under_way: Vec<(Commit, bool)> = Vec::new();
        let mut stored: Vec<StoredBatch> = Vec::new();
        let mut reach = appender.reach_with(0, 0);
        for action in actions {
            let planned = match action {
                Action::Accept { events, data_bytes } => {
                    let batch = batch(events, data_bytes);
                    reach = appender.reach_with(batch.frame_bytes(), batch.data_bytes());
                    appender.accept(batch, 1);
                    None
                }
                Action::Plan => appender.plan(),
                Action::Mark => {
                    reach = appender.reach_with(128, 0);
                    appender.plan_mark(false, 1)
                }
                Action::Step(n) => {
                    if !under_way.is_empty() {
                        let n = n % under_way.len();
                        if under_way[n].1 {
                            let (commit, _) = under_way.remove(n);
                            appender.synced(commit.id);
                            commit.meta.iter().for_each(|plan| meta.sync(plan));
                            commit.data.iter().for_each(|plan| data.sync(plan));
                        } else {
                            under_way[n].1 = true;
                            appender.written(under_way[n].0.id);
                        }
                    }
                    None
                }
            };
            if let Some(commit) = planned {
                let range = |plan: &WritePlan| (plan.at(), plan.end());
                if let Some(plan) = &commit.meta {
                    prop_assert!(plan.end() <= reach.meta, "{:?} beyond {reach:?}", plan.end());
                    let others: Vec<Range> = under_way.iter().filter_map(|(c, _)| c.meta.as_ref().map(range)).collect();
                    meta.write(plan, &others);
                }
                if let Some(plan) = &commit.data {
                    prop_assert!(plan.end() <= reach.data, "{:?} beyond {reach:?}", plan.end());
                    let others: Vec<Range> = under_way.iter().filter_map(|(c, _)| c.data.as_ref().map(range)).collect();
                    data.write(plan, &others);
                }
                prop_assert!(commit.meta.is_some() || commit.data.is_some());
                stored.extend(commit.batches.iter().cloned());
                under_way.push((commit, false));
            }
            let synced_end = appender.ends().synced_end;
            for StoredBatch { batch, meta_at } in stored.iter().filter(|one| one.batch.end_event_id() <= synced_end) {
                // A mark ends where the batch before it does, and nobody waits for it.
                prop_assert!(batch.is_mark() || meta.is_durable(*meta_at, batch.frame_bytes()), "{batch:?}");
                prop_assert!(data.is_durable(batch.data_at(), batch.data_bytes()), "{batch:?}");
            }
            let events: u64 = stored.iter().map(|stored| u64::from(stored.batch.event_count())).sum();
            prop_assert!(synced_end <= id(100 + events), "nothing without a frame is durable");
        }
        for StoredBatch { batch, meta_at } in stored {
            let start = meta_at.get() as usize;
            let frame = Bytes::copy_from_slice(&meta.bytes[start..start + batch.frame_bytes() as usize]);
            let start = batch.data_at().get() as usize;
            let own = batch.data().map(|bytes| Bytes::copy_from_slice(&data.bytes[start..start + bytes.len()]));
            let own = own.filter(|_| batch.data_bytes() > 0).or(batch.data().cloned());
            prop_assert_eq!(Batch::check(frame, own).unwrap(), batch);
        }
    }
}
