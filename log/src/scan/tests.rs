use proptest::collection::vec;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::appender::{Appender, AppenderConfig, Commit, Resume, SegmentFacts};
use crate::batch::{BatchBuilder, check_pieces};
use crate::ids::ProducerId;
use crate::producers::SequenceVerdict;
use crate::segment::SegmentKind;
use crate::verdict::{DamageCause, TornCause, Verdict};
use crate::write_plan::WritePlan;

const BASE: u64 = 100;
const CONFIG: AppenderConfig = AppenderConfig {
    commits_in_flight_max: 9,
    commit_bytes_max: 1,
    segment_meta_bytes: u64::MAX,
    segment_data_bytes: u64::MAX,
};

fn id(n: u64) -> EventId {
    EventId::new(n)
}

fn at(n: u64) -> FilePos {
    FilePos::new(n)
}

/// `events` events with `data_bytes` bytes each.
fn batch(events: u32, data_bytes: usize, sequence: u64) -> Batch {
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
struct Life {
    header: SegmentHeader,
    meta: Vec<u8>,
    data: Vec<u8>,
    appender: Appender,
    sequence: u64,
}

fn land(file: &mut Vec<u8>, plan: &WritePlan) {
    let (start, end) = (plan.at().get() as usize, plan.end().get() as usize);
    file.resize(file.len().max(end), 0);
    plan.fill(&mut file[start..end]);
}

impl Life {
    fn first() -> Self {
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

    /// The next life, which goes on where this recovery says.
    fn next(&self, recovered: &Recovered) -> Self {
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
        Self {
            header: self.header,
            meta: self.meta.clone(),
            data: self.data.clone(),
            appender,
            sequence: self.sequence,
        }
    }

    /// A commit that is planned and has not landed.
    fn plan(&mut self, events: u32, data_bytes: usize) -> Commit {
        self.appender
            .accept(batch(events, data_bytes, self.sequence), 1000 + self.sequence);
        self.sequence += 1;
        self.appender.plan().unwrap()
    }

    fn land(&mut self, commit: &Commit) {
        land(&mut self.meta, &commit.meta);
        if let Some(plan) = &commit.data {
            land(&mut self.data, plan);
        }
    }

    fn sync(&mut self, commit: &Commit) {
        self.appender.written(commit.id);
        self.appender.synced(commit.id);
    }

    /// A commit that landed and was synced before the next.
    fn store(&mut self, events: u32, data_bytes: usize) -> Commit {
        let commit = self.plan(events, data_bytes);
        self.land(&commit);
        self.sync(&commit);
        commit
    }

    fn mark(&mut self, clean: bool) {
        let commit = self.appender.plan_mark(clean, 5).unwrap();
        self.land(&commit);
        self.sync(&commit);
    }

    fn scan(&self) -> Recovered {
        self.scan_with(usize::MAX, &mut |_| ())
    }

    /// Scans as the engine does, shown `window_bytes` at a time.
    fn scan_with(&self, window_bytes: usize, visit: &mut dyn FnMut(&Batch)) -> Recovered {
        let mut scan = MetaScan::new(&self.header);
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

fn erase(file: &mut [u8], range: std::ops::Range<usize>) {
    file[range].fill(0);
}

#[test]
fn a_new_segment_is_clean_and_empty() {
    let recovered = Life::first().scan();
    assert_eq!(recovered.verdict, Verdict::Clean);
    assert_eq!(
        (recovered.next_event_id, recovered.synced_end),
        (id(BASE), id(BASE))
    );
    assert_eq!((recovered.meta_end, recovered.data_end), (at(4096), at(4096)));
    assert_eq!((recovered.next_incarnation, recovered.event_count), (2, 0));
    assert_eq!(
        (recovered.last_timestamp_us, recovered.index.lookup(id(BASE))),
        (None, None)
    );
}

#[test]
fn a_chain_is_read_to_its_end() {
    let mut life = Life::first();
    let first = life.store(2, 10);
    // Three at once: each begins in a block of its own.
    let commits = [life.plan(1, 0), life.plan(3, 5000), life.plan(1, 10)];
    for commit in &commits {
        life.land(commit);
    }
    for commit in &commits {
        life.sync(commit);
    }
    let last = life.store(1, 1);
    let mut seen = Vec::new();
    let recovered = life.scan_with(4096, &mut |batch| seen.push(batch.clone()));
    let expected: Vec<Batch> = std::iter::once(&first)
        .chain(&commits)
        .chain([&last])
        .flat_map(|commit| {
            commit.batches.iter().map(|stored| Batch {
                ..stored.batch.clone()
            })
        })
        .collect();
    assert_eq!(seen.len(), 5);
    for (seen, expected) in seen.iter().zip(&expected) {
        assert_eq!(
            seen.clone().with_data(expected.data().unwrap().clone()).unwrap(),
            *expected
        );
    }
    assert_eq!(recovered.verdict, Verdict::Clean);
    assert_eq!(
        (recovered.next_event_id, recovered.event_count),
        (id(BASE + 8), 8)
    );
    assert_eq!(
        recovered.synced_end,
        id(BASE + 7),
        "nothing vouches for the last yet"
    );
    assert_eq!(
        (recovered.meta_end, recovered.data_end),
        (life.appender.meta_end(), life.appender.data_end())
    );
    assert_eq!(
        (recovered.last_timestamp_us, recovered.next_incarnation),
        (Some(1004), 2)
    );
    assert_eq!(recovered.index.lookup(id(BASE + 5)), Some(at(4096)));
    assert_eq!(recovered.index.timestamps_us(), Some((1000, 1004)));
    let verdict = recovered.producers.check(ProducerId::new(7), 0, 2);
    assert_eq!(
        verdict,
        SequenceVerdict::Duplicate {
            base_event_id: id(BASE + 3),
            event_count: 3
        }
    );
    assert_eq!(
        (
            recovered.dropped_frames,
            recovered.dropped_events,
            recovered.stale_frames
        ),
        (0, 0, 0)
    );
}

#[test]
fn producers_of_the_segment_before_are_known() {
    let mut before = ProducerTable::default();
    before.note(ProducerId::new(1), 0, 0, id(3), 2);
    let mut scan = MetaScan::with_producers(&Life::first().header, before.clone());
    scan.feed(at(4096), Bytes::new(), true, &mut |_| ());
    assert_eq!(scan.finish(None).producers, before);
}

#[test]
fn a_clean_mark_tells_an_orderly_stop_and_vouches() {
    let mut life = Life::first();
    life.store(2, 10);
    life.mark(false);
    let recovered = life.scan();
    assert_eq!(
        (&recovered.verdict, recovered.synced_end),
        (&Verdict::Clean, id(BASE + 2))
    );
    life.mark(true);
    let recovered = life.scan();
    assert_eq!(
        (&recovered.verdict, recovered.event_count),
        (&Verdict::CleanStop, 2)
    );
    let mut life = life.next(&recovered);
    life.store(1, 0);
    let recovered = life.scan();
    assert_eq!(
        (&recovered.verdict, recovered.next_event_id),
        (&Verdict::Clean, id(BASE + 3))
    );
    assert_eq!(recovered.next_incarnation, 3);
}

#[test]
fn a_frame_that_landed_in_part_is_cut() {
    let mut life = Life::first();
    let kept = life.store(2, 10);
    let commit = life.plan(30, 0);
    land(&mut life.meta, &commit.meta);
    erase(&mut life.meta, 4608..5120);
    let recovered = life.scan();
    let cut_at = at(4096 + kept.batches[0].batch.frame_bytes());
    assert_eq!(
        recovered.verdict,
        Verdict::TornTail {
            cut_at,
            dropped_frames: 0,
            cause: TornCause::Residue
        }
    );
    assert_eq!(
        (recovered.next_event_id, recovered.meta_end),
        (id(BASE + 2), cut_at)
    );
    assert_eq!(
        recovered.synced_end,
        id(BASE),
        "the torn frame would have vouched"
    );
}

#[test]
fn a_frame_whose_data_did_not_land_is_cut_with_all_that_follow() {
    let mut life = Life::first();
    let first = life.store(2, 10);
    let (second, third) = (life.plan(2, 5000), life.plan(1, 10));
    life.land(&second);
    life.land(&third);
    let start = second.data.as_ref().unwrap().at().get() as usize;
    erase(&mut life.data, start + 512..start + 1024);
    let recovered = life.scan();
    let cut_at = first.batches[0]
        .meta_at
        .plus(first.batches[0].batch.frame_bytes());
    assert_eq!(
        recovered.verdict,
        Verdict::TornTail {
            cut_at,
            dropped_frames: 2,
            cause: TornCause::Data
        }
    );
    assert_eq!(
        (recovered.next_event_id, recovered.dropped_events),
        (id(BASE + 2), 3)
    );
    assert_eq!((recovered.data_end, recovered.event_count), (at(4096 + 20), 2));
    assert_eq!(
        recovered.producers.check(ProducerId::new(7), 0, 1),
        SequenceVerdict::New
    );
}

#[test]
fn a_hole_that_nothing_vouches_for_is_an_ordinary_power_cut() {
    let mut life = Life::first();
    life.store(2, 10);
    let (second, third, fourth) = (life.plan(2, 10), life.plan(1, 10), life.plan(3, 0));
    life.land(&third);
    life.land(&fourth);
    let recovered = life.scan();
    let cut_at = at(4096 + 208);
    assert_eq!(
        recovered.verdict,
        Verdict::TornTail {
            cut_at,
            dropped_frames: 2,
            cause: TornCause::Hole
        }
    );
    assert_eq!(
        (recovered.next_event_id, recovered.dropped_events),
        (id(BASE + 2), 4)
    );
    assert_eq!(
        recovered.synced_end,
        id(BASE + 2),
        "the survivors were written after the first was synced"
    );
    // The same hole, when a later frame says that the second was durable: no crash does that.
    life.land(&second);
    life.sync(&second);
    let fifth = life.plan(1, 0);
    life.land(&fifth);
    let start = second.meta.at().get() as usize;
    erase(&mut life.meta, start + 208..start + 512);
    let damaged = life.scan();
    let (from, to) = (id(BASE + 2), id(BASE + 4));
    assert_eq!(
        damaged.verdict,
        Verdict::Damaged {
            from,
            to,
            at: cut_at,
            cause: DamageCause::Frames
        }
    );
    assert_eq!(
        (damaged.next_event_id, damaged.synced_end),
        (id(BASE + 2), id(BASE + 2))
    );
}

#[test]
fn every_flipped_byte_of_what_is_vouched_for_is_damage() {
    let mut life = Life::first();
    for events in 1..4 {
        life.store(events, 3);
    }
    let vouched_end = life.appender.meta_end().get() as usize;
    life.mark(false);
    let whole = life.scan();
    assert_eq!(
        (&whole.verdict, whole.synced_end),
        (&Verdict::Clean, id(BASE + 6))
    );
    for place in 4096..vouched_end {
        for flip in [1, 0x80] {
            life.meta[place] ^= flip;
            let recovered = life.scan();
            let to = id(BASE + 6);
            assert!(
                matches!(recovered.verdict, Verdict::Damaged { to: end, .. } if end == to),
                "byte {place}"
            );
            life.meta[place] ^= flip;
        }
    }
    assert_eq!(life.scan(), whole);
}

#[test]
fn data_that_was_durable_and_does_not_check_is_damage() {
    let mut life = Life::first();
    life.store(2, 10);
    life.store(1, 10);
    life.mark(true);
    let mut scan = MetaScan::new(&life.header);
    scan.feed(
        at(4096),
        Bytes::copy_from_slice(&life.meta[4096..]),
        true,
        &mut |_| (),
    );
    assert_eq!(scan.unvouched().count(), 0);
    let recovered = scan.finish(Some(id(BASE + 2)));
    let verdict = Verdict::Damaged {
        from: id(BASE + 2),
        to: id(BASE + 3),
        at: life.appender.meta_end(),
        cause: DamageCause::Data,
    };
    assert_eq!(
        (recovered.verdict, recovered.next_event_id),
        (verdict, id(BASE + 2))
    );
}

#[test]
fn frames_of_an_earlier_life_do_not_go_on_with_the_chain() {
    let mut life = Life::first();
    life.store(2, 0);
    let (_lost, survivor) = (life.plan(2, 0), life.plan(1, 0));
    life.land(&survivor);
    let recovered = life.scan();
    assert_eq!(
        (recovered.next_event_id, recovered.dropped_frames),
        (id(BASE + 2), 1)
    );
    let mut life = life.next(&recovered);
    // As many events as were lost, so that the old survivor's ids and place would follow.
    let again = life.store(2, 0);
    assert_eq!(again.batches[0].batch.incarnation(), 2);
    let next_block = again.batches[0]
        .meta_at
        .plus(again.batches[0].batch.frame_bytes())
        .block_up();
    assert_eq!(next_block, at(8192));
    let moved: Vec<u8> = life.meta[survivor.meta.at().get() as usize..][..168].to_vec();
    life.meta[8192..8192 + 168].copy_from_slice(&moved);
    let after = life.scan();
    assert_eq!((after.next_event_id, after.event_count), (id(BASE + 4), 4));
    assert!(after.stale_frames >= 1, "{after:?}");
    assert_eq!((after.dropped_frames, after.next_incarnation), (0, 3));
    let cut_at = life.appender.meta_end();
    assert_eq!(
        after.verdict,
        Verdict::TornTail {
            cut_at,
            dropped_frames: 0,
            cause: TornCause::Residue
        }
    );
    life.mark(true);
    assert_eq!(
        life.scan().verdict,
        Verdict::CleanStop,
        "what an earlier recovery cut does not count"
    );
}

#[test]
fn a_later_life_that_left_only_a_survivor_is_counted() {
    let mut life = Life::first();
    life.store(1, 0);
    life.mark(true);
    let mut second = life.next(&life.scan());
    let (_lost, survivor) = (second.plan(1, 0), second.plan(1, 0));
    second.land(&survivor);
    let recovered = second.scan();
    assert_eq!(recovered.next_incarnation, 3, "the second life's number is taken");
    assert!(matches!(
        recovered.verdict,
        Verdict::TornTail {
            cause: TornCause::Hole,
            dropped_frames: 1,
            ..
        }
    ));
    assert_eq!(recovered.next_event_id, id(BASE + 1));
}

#[test]
fn frames_of_another_segment_are_nothing() {
    let mut life = Life::first();
    life.store(1, 0);
    life.mark(true);
    let mut other = Life::first();
    other.header = SegmentHeader::new(SegmentKind::Meta, Uuid::from_u128(9), id(BASE), 0x5a18, 1, 1);
    other.meta = life.meta.clone();
    let recovered = other.scan();
    assert_eq!(
        (
            recovered.next_event_id,
            recovered.next_incarnation,
            recovered.dropped_frames
        ),
        (id(BASE), 2, 0)
    );
    let verdict = Verdict::TornTail {
        cut_at: at(4096),
        dropped_frames: 0,
        cause: TornCause::Residue,
    };
    assert_eq!(recovered.verdict, verdict);
}

#[test]
fn a_frame_whose_data_would_lie_in_what_is_taken_does_not_go_on_with_the_chain() {
    let mut life = Life::first();
    let first = life.store(1, 100);
    let mut second = life.plan(1, 100).batches.remove(0).batch;
    second.stamp(crate::batch::Stamp {
        salt: 0x5a17,
        base_event_id: second.base_event_id(),
        synced_end: id(BASE),
        data_at: at(4096 + 99),
        incarnation: 1,
        timestamp_us: 1,
        partition_epoch: 0,
    });
    let start = first.batches[0]
        .meta_at
        .plus(first.batches[0].batch.frame_bytes())
        .get() as usize;
    let frame = [&second.header_bytes()[..], second.body()].concat();
    life.meta[start..start + frame.len()].copy_from_slice(&frame);
    let recovered = life.scan();
    assert_eq!(
        (recovered.next_event_id, recovered.dropped_frames),
        (id(BASE + 1), 1)
    );
}

#[test]
#[should_panic(expected = "bytes were shown that were not asked for")]
fn bytes_of_another_place_are_our_mistake() {
    let mut scan = MetaScan::new(&Life::first().header);
    scan.feed(at(0), Bytes::new(), true, &mut |_| ());
}

#[test]
#[should_panic(expected = "finished before the end of the file")]
fn half_a_scan_is_our_mistake() {
    MetaScan::new(&Life::first().header).finish(None);
}

#[test]
fn a_large_frame_is_asked_for_as_a_whole() {
    let mut life = Life::first();
    life.store(5000, 0);
    let frame_bytes = life.appender.meta_end().get() - 4096;
    let mut scan = MetaScan::new(&life.header);
    assert_eq!(scan.next_read(), Some((at(4096), 128)));
    scan.feed(
        at(4096),
        Bytes::copy_from_slice(&life.meta[4096..8192]),
        false,
        &mut |_| (),
    );
    assert_eq!(scan.next_read(), Some((at(4096), frame_bytes)));
    assert_eq!(life.scan_with(1, &mut |_| ()), life.scan());
}

/// Lives of random commits, of which the last few landed as `landed` says; then a cut, and the next life.
fn random_lives(lives: &[Vec<(u32, usize, u8)>]) -> Life {
    let mut life = Life::first();
    for (n, commits) in lives.iter().enumerate() {
        if n > 0 {
            life = life.next(&life.scan());
        }
        let mut under_way = Vec::new();
        for (events, data_bytes, landed) in commits {
            if under_way.len() == 9 {
                break;
            }
            let commit = life.plan(*events, *data_bytes);
            if landed & 1 == 1 {
                life.land(&commit);
            } else if landed & 2 == 2 {
                land(&mut life.meta, &commit.meta);
            }
            if under_way.is_empty() && landed & 5 == 5 {
                life.sync(&commit);
            } else {
                under_way.push(commit);
            }
        }
    }
    life
}

fn lives() -> impl Strategy<Value = Vec<Vec<(u32, usize, u8)>>> {
    let data = prop_oneof![Just(0), 1..40_usize, Just(5000)];
    vec(vec((1..40_u32, data, any::<u8>()), 1..9), 1..5)
}

proptest! {
    #[test]
    fn how_it_is_shown_makes_no_difference(lives in lives(), window_bytes in 1..9000_usize) {
        let life = random_lives(&lives);
        let (mut seen, mut again) = (Vec::new(), Vec::new());
        let recovered = life.scan_with(usize::MAX, &mut |batch| seen.push(batch.clone()));
        prop_assert_eq!(life.scan_with(window_bytes, &mut |batch| again.push(batch.clone())), recovered.clone());
        prop_assert_eq!(again, seen);
        prop_assert!(!recovered.verdict.is_damaged(), "{:?}", recovered.verdict);
    }

    #[test]
    fn recovering_after_recovery_changes_nothing(lives in lives()) {
        let life = random_lives(&lives);
        let recovered = life.scan();
        // The next life leaves a mark where the tail was cut, and is not synced; or stops in order.
        for clean in [false, true] {
            let mut next = life.next(&recovered);
            next.mark(clean);
            let again = next.scan();
            prop_assert_eq!(again.next_event_id, recovered.next_event_id);
            prop_assert_eq!((again.data_end, again.event_count), (recovered.data_end, recovered.event_count));
            prop_assert_eq!((&again.index, &again.producers), (&recovered.index, &recovered.producers));
            prop_assert_eq!(again.next_incarnation, recovered.next_incarnation + 1);
            prop_assert_eq!(again.synced_end, recovered.next_event_id);
            prop_assert_eq!(again.dropped_frames, 0, "all that was dropped is stale now");
        }
    }

    #[test]
    fn any_bytes_give_a_verdict(bytes in vec(any::<u8>(), 0..2000), window_bytes in 1..5000_usize) {
        let mut life = Life::first();
        life.store(2, 10);
        life.meta.truncate(4096 + 208);
        life.meta.extend(bytes);
        let recovered = life.scan_with(window_bytes, &mut |_| ());
        prop_assert_eq!(recovered.next_event_id, id(BASE + 2));
    }

    #[test]
    fn changed_bytes_never_change_an_event(lives in lives(), changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut life = random_lives(&lives);
        let mut before = Vec::new();
        let whole = life.scan_with(usize::MAX, &mut |batch| before.push(batch.clone()));
        for (place, value) in changes {
            if life.meta.len() > 4096 {
                let place = 4096 + place.index(life.meta.len() - 4096);
                life.meta[place] = value;
            }
        }
        let mut after = Vec::new();
        let recovered = life.scan_with(999, &mut |batch| after.push(batch.clone()));
        // A change can make an earlier life's frame fit again only where it restores it.
        let same = after.iter().zip(&before).take_while(|(a, b)| a == b).count();
        prop_assert!(same == after.len() || same == before.len(), "the chain goes another way");
        if recovered.next_event_id < whole.synced_end {
            prop_assert!(recovered.synced_end <= recovered.next_event_id);
        }
    }
}
