use bytes::Bytes;

use super::*;
use crate::batch::BatchBuilder;

const CONFIG: AppenderConfig = AppenderConfig {
    commits_in_flight_max: 2,
    commit_bytes_max: 1 << 20,
    pipeline_bytes_min: 0,
    meta_pipeline_bytes_min: 0,
    segment_meta_bytes: 1 << 20,
    segment_data_bytes: 1 << 20,
};
const SEGMENT: SegmentFacts = SegmentFacts {
    salt: 0x5a17,
    base_event_id: EventId::new(100),
    incarnation: 3,
};

fn id(n: u64) -> EventId {
    EventId::new(n)
}

fn at(n: u64) -> FilePos {
    FilePos::new(n)
}

/// A batch of `events` events with `data_bytes` bytes each.
fn batch(events: u32, data_bytes: usize) -> Batch {
    let mut builder = BatchBuilder::new();
    for n in 0..events {
        let data = vec![n as u8 + 1; data_bytes];
        builder.push(b"{\"some\":\"metadata\"}", [&data[..]]).unwrap();
    }
    let (frame, data) = builder.finish(None);
    Batch::check_client(frame, data).unwrap()
}

fn filled(plan: &WritePlan) -> Bytes {
    let mut buffer = vec![0xee; plan.total_bytes() as usize];
    plan.fill(&mut buffer);
    buffer.into()
}

fn meta_of(commit: &Commit) -> &WritePlan {
    commit.meta.as_ref().expect("frames are in it")
}

fn ends(appender: &Appender) -> (u64, u64, u64) {
    let Ends {
        synced_end,
        written_end,
        appended_end,
    } = appender.ends();
    (synced_end.get(), written_end.get(), appended_end.get())
}

fn finish(appender: &mut Appender, commit: &Commit) -> Progress {
    appender.written(commit.id);
    appender.synced(commit.id)
}

#[test]
fn a_commit_gathers_what_is_queued() {
    let mut appender = Appender::new(CONFIG, SEGMENT);
    assert!(appender.plan().is_none() && appender.is_idle());
    let accepted = appender.accept(batch(2, 5), 1000);
    assert_eq!(
        accepted,
        Accepted {
            base_event_id: id(100),
            end_event_id: id(102)
        }
    );
    assert_eq!(appender.accept(batch(1, 0), 1001).base_event_id, id(102));
    assert_eq!(appender.accept(batch(3, 7), 1002).end_event_id, id(106));
    assert_eq!(appender.pending_bytes(), (208 + 10) + 168 + (248 + 21));
    let commit = appender.plan().unwrap();
    assert_eq!(
        (appender.pending_bytes(), appender.in_flight(), ends(&appender)),
        (0, 1, (100, 100, 106))
    );
    let places: Vec<(u64, u64, u64, u64)> = commit
        .batches
        .iter()
        .map(|stored| {
            let batch = &stored.batch;
            (
                batch.base_event_id().get(),
                stored.meta_at.get(),
                batch.data_at().get(),
                batch.timestamp_us(),
            )
        })
        .collect();
    assert_eq!(
        places,
        [
            (100, 4096, 4096, 1000),
            (102, 4304, 0, 1001),
            (103, 4472, 4106, 1002)
        ]
    );
    for stored in &commit.batches {
        let batch = &stored.batch;
        assert_eq!(
            (batch.salt(), batch.incarnation(), batch.synced_end()),
            (0x5a17, 3, id(100))
        );
    }
    assert_eq!(
        (
            commit.end_event_id,
            meta_of(&commit).at(),
            meta_of(&commit).total_bytes()
        ),
        (id(106), at(4096), 4096)
    );
    let bytes = filled(meta_of(&commit));
    for stored in &commit.batches {
        let start = stored.meta_at.get() as usize - 4096;
        let frame = bytes.slice(start..start + stored.batch.frame_bytes() as usize);
        assert_eq!(
            Batch::check(frame, stored.batch.data().cloned()).unwrap(),
            stored.batch
        );
    }
    let data = commit.data.as_ref().unwrap();
    assert_eq!(
        (data.at(), data.total_bytes(), data.content_bytes()),
        (at(4096), 4096, 31)
    );
    let expected = [
        vec![1; 5],
        vec![2; 5],
        vec![1; 7],
        vec![2; 7],
        vec![3; 7],
        vec![0; 4065],
    ]
    .concat();
    assert_eq!(filled(data), expected);
    assert_eq!((appender.meta_end(), appender.data_end()), (at(4720), at(4127)));
    let progress = appender.written(commit.id);
    assert_eq!(
        progress,
        Progress {
            written_end: id(106),
            synced_end: id(100)
        }
    );
    let progress = appender.synced(commit.id);
    assert_eq!(
        progress,
        Progress {
            written_end: id(106),
            synced_end: id(106)
        }
    );
    assert!(appender.is_idle());
}

#[test]
fn an_idle_segment_goes_on_in_its_last_block_and_a_busy_one_does_not() {
    let mut appender = Appender::new(CONFIG, SEGMENT);
    appender.accept(batch(1, 10), 1);
    let first = appender.plan().unwrap();
    finish(&mut appender, &first);
    appender.accept(batch(1, 10), 2);
    let second = appender.plan().unwrap();
    assert_eq!(
        (meta_of(&second).at(), second.batches[0].meta_at),
        (at(4096), at(4096 + 168))
    );
    assert_eq!(second.data.as_ref().map(|data| data.at()), Some(at(4096)));
    assert_eq!(second.batches[0].batch.data_at(), at(4106));
    assert_eq!(second.batches[0].batch.synced_end(), id(101));
    let length = meta_of(&first).content_bytes() as usize;
    assert_eq!(
        filled(meta_of(&second))[..length],
        filled(meta_of(&first))[..length],
        "old bytes are unchanged"
    );
    assert_eq!(filled(second.data.as_ref().unwrap())[..20], [1; 20]);
    // Without data: the data file is not touched and not busy.
    appender.accept(batch(1, 0), 3);
    let third = appender.plan().unwrap();
    assert!(third.data.is_none());
    assert_eq!(
        (meta_of(&third).at(), third.batches[0].meta_at),
        (at(8192), at(8192))
    );
    assert_eq!(
        third.batches[0].batch.synced_end(),
        id(101),
        "the second is not durable yet"
    );
    finish(&mut appender, &second);
    appender.accept(batch(1, 10), 4);
    let fourth = appender.plan().unwrap();
    assert_eq!(fourth.batches[0].meta_at, at(12288), "the third is under way");
    assert_eq!(
        fourth.data.as_ref().map(|data| data.at()),
        Some(at(4096)),
        "nothing is under way in the data file"
    );
    assert_eq!(fourth.batches[0].batch.data_at(), at(4116));
}

#[test]
fn a_data_file_with_a_write_under_way_goes_on_in_the_next_block() {
    let mut appender = Appender::new(CONFIG, SEGMENT);
    appender.accept(batch(1, 10), 1);
    appender.plan().unwrap();
    appender.accept(batch(1, 10), 2);
    let second = appender.plan().unwrap();
    assert_eq!(second.batches[0].batch.data_at(), at(8192));
    assert_eq!(second.data.map(|data| data.at()), Some(at(8192)));
}

#[test]
fn progress_is_told_in_order() {
    let config = AppenderConfig {
        commits_in_flight_max: 3,
        ..CONFIG
    };
    let mut appender = Appender::new(config, SEGMENT);
    let mut commits = Vec::new();
    for _ in 0..3 {
        appender.accept(batch(10, 1), 1);
        commits.push(appender.plan().unwrap());
    }
    appender.accept(batch(1, 1), 1);
    assert!(appender.plan().is_none(), "three are under way");
    finish(&mut appender, &commits[2]);
    assert_eq!((ends(&appender), appender.in_flight()), ((100, 100, 131), 3));
    appender.written(commits[0].id);
    assert_eq!(ends(&appender), (100, 110, 131));
    appender.written(commits[1].id);
    assert_eq!(ends(&appender), (100, 130, 131));
    appender.synced(commits[1].id);
    assert_eq!((ends(&appender), appender.in_flight()), ((100, 130, 131), 3));
    assert!(appender.plan().is_none(), "those behind a stalled one count");
    appender.synced(commits[0].id);
    assert_eq!((ends(&appender), appender.in_flight()), ((130, 130, 131), 0));
    assert_eq!(appender.plan().unwrap().batches[0].batch.synced_end(), id(130));
}

#[test]
fn a_commit_is_bounded_but_takes_one_batch() {
    let config = AppenderConfig {
        commit_bytes_max: 450,
        ..CONFIG
    };
    let mut appender = Appender::new(config, SEGMENT);
    for data_bytes in [1000, 10, 10, 10] {
        appender.accept(batch(1, data_bytes), 1);
    }
    let first = appender.plan().unwrap();
    assert_eq!((first.batches.len(), first.end_event_id), (1, id(101)));
    let second = appender.plan().unwrap();
    assert_eq!((second.batches.len(), appender.pending_bytes()), (2, 178));
}

#[test]
fn a_mark_is_a_witness_when_nothing_is_under_way() {
    let mut appender = Appender::new(CONFIG, SEGMENT);
    appender.accept(batch(2, 1), 1);
    assert!(appender.plan_mark(true, 2).is_none(), "something is queued");
    let commit = appender.plan().unwrap();
    assert!(appender.plan_mark(true, 2).is_none(), "something is under way");
    finish(&mut appender, &commit);
    let mark = appender.plan_mark(true, 9).unwrap();
    assert!(mark.data.is_none());
    assert_eq!(
        (mark.end_event_id, mark.batches.len(), appender.in_flight()),
        (id(102), 1, 1)
    );
    let stored = &mark.batches[0];
    assert!(stored.batch.is_clean_mark());
    assert_eq!(
        (stored.batch.base_event_id(), stored.batch.synced_end()),
        (id(102), id(102))
    );
    assert_eq!((stored.meta_at, stored.batch.timestamp_us()), (at(4096 + 208), 9));
    finish(&mut appender, &mark);
    assert_eq!(
        (ends(&appender), appender.meta_end()),
        ((102, 102, 102), at(4096 + 208 + 128))
    );
    assert!(
        !appender.plan_mark(false, 9).unwrap().batches[0]
            .batch
            .is_clean_mark()
    );
}

#[test]
fn a_full_segment_is_rolled_when_nothing_is_queued() {
    let config = AppenderConfig {
        segment_meta_bytes: 0,
        segment_data_bytes: 5000,
        ..CONFIG
    };
    let mut appender = Appender::new(config, SEGMENT);
    assert!(!appender.is_full(), "a segment without events is never full");
    let config = AppenderConfig {
        segment_meta_bytes: 1 << 20,
        ..config
    };
    let mut appender_of_data = Appender::new(config, SEGMENT);
    for (appender, data_bytes) in [(&mut appender, 0), (&mut appender_of_data, 1000)] {
        appender.accept(batch(1, data_bytes), 1);
        assert!(appender.is_full(), "what is queued counts");
        let commit = appender.plan().unwrap();
        finish(appender, &commit);
        let next = SegmentFacts {
            salt: 1,
            base_event_id: id(101),
            incarnation: 3,
        };
        appender.roll(next);
        assert_eq!((appender.segment(), appender.incarnation()), (next, 3));
        assert!(!appender.is_full());
        appender.accept(batch(4, 3), 5);
        let commit = appender.plan().unwrap();
        let stored = &commit.batches[0];
        assert_eq!(
            (stored.meta_at, stored.batch.data_at(), stored.batch.salt()),
            (at(4096), at(4096), 1)
        );
        assert_eq!(
            (stored.batch.base_event_id(), stored.batch.timestamp_us()),
            (id(101), 5)
        );
    }
}

#[test]
fn little_is_gathered_while_a_commit_is_under_way() {
    let config = AppenderConfig {
        commits_in_flight_max: 4,
        pipeline_bytes_min: 1000,
        ..CONFIG
    };
    let mut appender = Appender::new(config, SEGMENT);
    appender.accept(batch(1, 10), 1);
    let first = appender.plan().expect("nothing is under way");
    appender.accept(batch(1, 10), 1);
    assert!(appender.plan().is_none(), "it waits for more, or for the first");
    appender.accept(batch(1, 1000), 1);
    assert_eq!(appender.plan().unwrap().batches.len(), 2);
    appender.accept(batch(1, 10), 1);
    finish(&mut appender, &first);
    assert!(appender.plan().is_none(), "the second is still under way");
}

#[test]
fn data_begins_at_once_and_frames_gather_while_others_are_under_way() {
    let config = AppenderConfig {
        commits_in_flight_max: 4,
        meta_pipeline_bytes_min: 1000,
        ..CONFIG
    };
    let mut appender = Appender::new(config, SEGMENT);
    appender.accept(batch(1, 5000), 1);
    let first = appender.plan().expect("nothing is under way");
    assert!(first.meta.is_some() && first.data.is_some());
    appender.accept(batch(1, 5000), 1);
    let second = appender.plan().expect("data may begin");
    assert!(second.meta.is_none() && second.data.is_some() && second.batches.is_empty());
    appender.accept(batch(2, 5000), 1);
    let third = appender.plan().expect("data may begin");
    assert_eq!(
        (third.meta.is_none(), appender.pending_bytes()),
        (true, 168 + 208)
    );
    assert!(appender.plan().is_none(), "the first frame is under way");
    finish(&mut appender, &first);
    assert_eq!(ends(&appender), (101, 101, 104));
    let frames = appender.plan().expect("both frames wait");
    assert!(frames.data.is_none());
    let places: Vec<_> = frames.batches.iter().map(|stored| stored.meta_at).collect();
    assert_eq!(places, [at(4096 + 168), at(4096 + 336)], "in the same block");
    assert_eq!(meta_of(&frames).at(), at(4096));
    assert_eq!(frames.batches[0].batch.synced_end(), id(101));
    finish(&mut appender, &third);
    finish(&mut appender, &frames);
    assert_eq!(ends(&appender), (101, 101, 104), "the second's data is missing");
    appender.written(second.id);
    assert_eq!(ends(&appender), (101, 104, 104));
    appender.synced(second.id);
    assert_eq!(ends(&appender), (104, 104, 104));
    assert!(appender.is_idle());
}

#[test]
fn it_goes_on_where_recovery_says() {
    let resume = Resume {
        meta_end: at(4096 + 16),
        data_end: at(8192 + 5),
        next_event_id: id(140),
        synced_end: id(120),
        meta_tail: vec![7; 16],
        data_tail: vec![8; 5],
    };
    let mut appender = Appender::resume(CONFIG, SEGMENT, resume);
    assert_eq!(ends(&appender), (120, 140, 140));
    appender.accept(batch(1, 2), 1);
    let commit = appender.plan().unwrap();
    assert_eq!(
        (meta_of(&commit).at(), commit.batches[0].meta_at),
        (at(4096), at(4112))
    );
    assert_eq!(commit.batches[0].batch.base_event_id(), id(140));
    assert_eq!(filled(meta_of(&commit))[..16], [7; 16]);
    let data = commit.data.as_ref().unwrap();
    assert_eq!(
        (data.at(), commit.batches[0].batch.data_at()),
        (at(8192), at(8197))
    );
    assert_eq!(filled(data)[..8], [8, 8, 8, 8, 8, 1, 1, 0]);
}

#[test]
#[should_panic(expected = "the bytes of the last block")]
fn a_tail_of_the_wrong_length_is_our_mistake() {
    let (next_event_id, synced_end) = (id(100), id(100));
    let (meta_end, data_end) = (at(4104), at(4096));
    let resume = Resume {
        meta_end,
        data_end,
        next_event_id,
        synced_end,
        meta_tail: vec![1; 7],
        data_tail: vec![],
    };
    Appender::resume(CONFIG, SEGMENT, resume);
}

fn one_under_way() -> (Appender, Commit) {
    let mut appender = Appender::new(CONFIG, SEGMENT);
    appender.accept(batch(1, 1), 1);
    let commit = appender.plan().unwrap();
    (appender, commit)
}

#[test]
#[should_panic(expected = "cannot be Synced now")]
fn a_sync_before_the_write_is_our_mistake() {
    let (mut appender, commit) = one_under_way();
    appender.synced(commit.id);
}

#[test]
#[should_panic(expected = "is not under way")]
fn a_commit_that_is_done_is_done() {
    let (mut appender, commit) = one_under_way();
    finish(&mut appender, &commit);
    appender.written(commit.id);
}

#[test]
#[should_panic(expected = "in flight at a roll")]
fn a_roll_under_a_commit_is_our_mistake() {
    let (mut appender, _) = one_under_way();
    appender.roll(SegmentFacts {
        base_event_id: id(101),
        ..SEGMENT
    });
}

#[test]
#[should_panic(expected = "its data with it")]
fn a_batch_without_its_data_is_our_mistake() {
    let with_data = batch(1, 1);
    let frame = [&with_data.header_bytes()[..], with_data.body()].concat();
    let mut appender = Appender::new(CONFIG, SEGMENT);
    appender.accept(Batch::check(frame.into(), None).unwrap(), 1);
}

mod properties;
