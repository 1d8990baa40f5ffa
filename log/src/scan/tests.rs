mod life;
mod properties;

use uuid::Uuid;

use super::*;
use crate::ids::ProducerId;
use crate::producers::SequenceVerdict;
use crate::segment::SegmentKind;
use crate::verdict::{DamageCause, TornCause, Verdict};
use crate::write_plan::WritePlan;
use life::{BASE, Life, at, erase, id, land, meta_of};

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
        .flat_map(|commit| commit.batches.iter().map(|stored| stored.batch.clone()))
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
    let verdict = recovered.producers.check((ProducerId::new(7), 0, 2).into());
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
    before.note((ProducerId::new(1), 0, 0).into(), id(3), 2);
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
    land(&mut life.meta, meta_of(&commit));
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
        recovered.producers.check((ProducerId::new(7), 0, 1).into()),
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
    let start = meta_of(&second).at().get() as usize;
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
    let mut life = life.next_uncut(&recovered);
    // As many events as were lost, so that the old survivor's ids and place would follow.
    let again = life.store(2, 0);
    assert_eq!(again.batches[0].batch.incarnation(), 2);
    let next_block = again.batches[0]
        .meta_at
        .plus(again.batches[0].batch.frame_bytes())
        .block_up();
    assert_eq!(next_block, at(8192));
    let moved: Vec<u8> = life.meta[meta_of(&survivor).at().get() as usize..][..168].to_vec();
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
fn a_cut_leaves_nothing_of_what_was_dropped() {
    let mut life = Life::first();
    life.store(2, 10);
    let (_lost, torn, survivor) = (life.plan(2, 0), life.plan(60_000, 0), life.plan(1, 0));
    life.land(&torn);
    let place = meta_of(&torn).at().get() as usize + 5000;
    erase(&mut life.meta, place..place + 512);
    life.land(&survivor);
    let recovered = life.scan();
    let survivor_end = survivor.batches[0]
        .meta_at
        .plus(survivor.batches[0].batch.frame_bytes());
    assert_eq!(
        (recovered.meta_end, recovered.residue_end),
        (at(4096 + 208), survivor_end)
    );
    let tail = life.meta[4096..4096 + 208].to_vec();
    let plans: Vec<WritePlan> = recovered.cut(&tail).collect();
    let mut next = at(4096);
    for plan in &plans {
        assert_eq!(plan.at(), next);
        assert!(plan.total_bytes() <= 1 << 20);
        next = plan.end();
    }
    assert_eq!((next, plans.len()), (survivor_end.block_up(), 3));
    // Whatever of it happened before a stop, the next recovery gives the same.
    for done in 0..=plans.len() {
        let mut cut = life.next_uncut(&recovered);
        for plan in plans.iter().take(done) {
            land(&mut cut.meta, plan);
        }
        let again = cut.scan();
        assert_eq!(
            (again.next_event_id, again.meta_end),
            (recovered.next_event_id, recovered.meta_end)
        );
    }
    let mut cut = life.next(&recovered);
    assert_eq!(cut.meta[4096 + 208..].iter().position(|byte| *byte != 0), None);
    let again = cut.scan();
    assert_eq!(
        (&again.verdict, again.residue_end),
        (&Verdict::Clean, recovered.meta_end)
    );
    assert_eq!(again.cut(&tail).count(), 0);
    cut.store(1, 0);
    assert_eq!(cut.scan().next_event_id, id(BASE + 3));
}

#[test]
fn what_follows_damage_is_not_cut() {
    let mut life = Life::first();
    life.store(1, 0);
    life.store(1, 0);
    life.mark(false);
    life.meta[4096] ^= 1;
    let damaged = life.scan();
    assert!(damaged.verdict.is_damaged() && damaged.residue_end > damaged.meta_end);
    assert_eq!(damaged.cut(&[]).count(), 0);
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
    // Not a matter of its data, which is not even looked at.
    assert!(matches!(
        recovered.verdict,
        Verdict::TornTail {
            cause: TornCause::Hole,
            ..
        }
    ));
}

#[test]
fn what_something_outside_the_file_testifies_is_missed() {
    let mut life = Life::first();
    life.store(2, 10);
    let last = life.store(3, 10);
    let scan_to = |life: &Life, end: u64| life.scan_witnessed(id(BASE + end));
    assert_eq!(scan_to(&life, 5).verdict, Verdict::Clean);
    let found = scan_to(&life, 6);
    assert!(
        matches!(found.verdict, Verdict::Damaged { from, to, cause: DamageCause::Frames, .. }
            if (from, to) == (id(BASE + 5), id(BASE + 6))),
        "{:?}",
        found.verdict
    );
    // The last frame has no witness within the file: only one from outside tells its loss from a torn tail.
    let start = last.batches[0].meta_at.get() as usize;
    erase(&mut life.meta, start..start + 4);
    assert!(matches!(scan_to(&life, 2).verdict, Verdict::TornTail { .. }));
    assert!(scan_to(&life, 3).verdict.is_damaged());
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
