//! Partitions without crashes: durability levels, faults, sequences, reading, selections.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use mofka_engine::partition::{Appended, Partition};
use mofka_engine::sim::{Image, Random, Sectors, SimIo};
use mofka_log::{Durability, EventId, PartitionKind};
use mofka_net::{DataDescriptor, ErrorCode, Segment, WireError};

use crate::model::{Content, Sent, batch, open, random_events, read_all, send, spec};

fn segment(offset: u64, bytes: u64) -> Segment {
    Segment { offset, bytes }
}

type Answers = Rc<RefCell<Vec<Result<Appended, WireError>>>>;

fn content(n: u64, data_bytes: usize) -> Vec<Content> {
    let data = (0..data_bytes)
        .map(|place| (place as u64).wrapping_mul(n + 3).to_le_bytes()[0])
        .collect();
    vec![(format!("{{\"n\":{n}}}").into_bytes(), data)]
}

fn append(partition: &Rc<Partition<SimIo>>, n: u64, asked: Option<Durability>) -> Answers {
    let answers = Answers::default();
    let kept = Rc::clone(&answers);
    partition.append(
        batch(&content(n, 10), None),
        asked,
        Box::new(move |answer| kept.borrow_mut().push(answer)),
    );
    partition.kick();
    answers
}

fn settle(io: &SimIo) {
    io.run_tasks();
    while io.is_busy() {
        io.step();
    }
}

#[test]
fn an_answer_comes_at_the_durability_that_was_asked_for_and_not_before() {
    let io = SimIo::stepping(&Image::new(), 1);
    let partition = open(&io, spec(PartitionKind::Default, Durability::Synced)).unwrap();
    let synced = append(&partition, 0, None);
    let written = append(&partition, 1, Some(Durability::Written));
    let buffered = append(&partition, 2, Some(Durability::Buffered));
    assert_eq!(buffered.borrow().len(), 1, "buffered is answered on acceptance");
    io.run_tasks();
    assert!(synced.borrow().is_empty() && written.borrow().is_empty());
    let mut written_before_synced = false;
    while io.is_busy() {
        io.step();
        let ends = partition.ends();
        assert!(
            written.borrow().is_empty() || ends.written_end.get() >= 2,
            "answered before it was written"
        );
        assert!(
            synced.borrow().is_empty() || ends.synced_end.get() >= 1,
            "answered before it was synced"
        );
        written_before_synced |= !written.borrow().is_empty() && ends.synced_end.get() < 2;
        assert!(
            partition.visible_end() <= ends.synced_end,
            "readers of a synced topic see only what is synced"
        );
    }
    assert!(written_before_synced, "asking for less is answered earlier");
    assert_eq!(
        synced.borrow()[0].as_ref().unwrap().base_event_id,
        EventId::new(0)
    );
}

#[test]
fn a_failed_sync_poisons_and_nothing_after_it_is_acknowledged() {
    for failing in 0..6 {
        let io = SimIo::stepping(&Image::new(), 7 + failing);
        let partition = open(&io, spec(PartitionKind::Default, Durability::Synced)).unwrap();
        let first = append(&partition, 0, None);
        settle(&io);
        assert!(first.borrow()[0].is_ok());
        io.fail_sync(failing);
        let answers: Vec<Answers> = (1..12).map(|n| append(&partition, n, None)).collect();
        settle(&io);
        let Some(reason) = partition.poison() else {
            continue;
        };
        assert!(reason.contains("syncing"), "{reason}");
        let acknowledged = answers
            .iter()
            .take_while(|answer| matches!(answer.borrow().first(), Some(Ok(_))))
            .count();
        for answer in &answers[acknowledged..] {
            let answer = answer.borrow();
            let error = answer[0].as_ref().unwrap_err();
            assert_eq!(error.code, ErrorCode::Poisoned, "{error}");
        }
        let refused = append(&partition, 99, None);
        assert_eq!(
            refused.borrow()[0].as_ref().unwrap_err().code,
            ErrorCode::Poisoned
        );
        // What was synced is still served.
        let found = io.block_on(read_all(Rc::clone(&partition))).unwrap();
        assert_eq!(found.len(), 1 + acknowledged);
    }
}

#[test]
fn a_failed_write_poisons_only_its_partition_and_reopening_heals() {
    let io = SimIo::stepping(&Image::new(), 3);
    let partition = open(&io, spec(PartitionKind::Default, Durability::Synced)).unwrap();
    let first = append(&partition, 0, None);
    settle(&io);
    io.fail_write(0);
    let second = append(&partition, 1, None);
    settle(&io);
    assert!(first.borrow()[0].is_ok());
    assert_eq!(second.borrow()[0].as_ref().unwrap_err().code, ErrorCode::Poisoned);
    let again = SimIo::stepping(&io.settled(), 4);
    let partition = open(&again, spec(PartitionKind::Default, Durability::Synced)).unwrap();
    assert_eq!(partition.poison(), None);
    let third = append(&partition, 2, None);
    settle(&again);
    assert_eq!(third.borrow()[0].as_ref().unwrap().base_event_id, EventId::new(1));
}

#[test]
fn a_memory_partition_gives_what_it_can_and_refuses_what_it_cannot() {
    let io = SimIo::stepping(&Image::new(), 5);
    let partition = open(&io, spec(PartitionKind::Memory, Durability::Synced)).unwrap();
    assert!(append(&partition, 0, None).borrow()[0].is_ok());
    let refused = append(&partition, 1, Some(Durability::Synced));
    assert_eq!(
        refused.borrow()[0].as_ref().unwrap_err().code,
        ErrorCode::DurabilityUnavailable
    );
    assert_eq!(io.block_on(read_all(Rc::clone(&partition))).unwrap().len(), 1);
}

#[test]
fn a_full_memory_partition_refuses_and_keeps_what_it_has() {
    let io = SimIo::stepping(&Image::new(), 5);
    let mut small = spec(PartitionKind::Memory, Durability::Synced);
    small.limits.memory_partition_bytes_max = 1000;
    let partition = open(&io, small).unwrap();
    let answers: Vec<Answers> = (0..20).map(|n| append(&partition, n, None)).collect();
    let accepted = answers.iter().filter(|answer| answer.borrow()[0].is_ok()).count();
    assert!((1..20).contains(&accepted));
    assert_eq!(
        answers[19].borrow()[0].as_ref().unwrap_err().code,
        ErrorCode::NoSpace
    );
    assert_eq!(
        io.block_on(read_all(Rc::clone(&partition))).unwrap().len(),
        accepted
    );
}

#[test]
fn sequences_out_of_order_are_refused_with_what_is_expected() {
    let io = SimIo::stepping(&Image::new(), 5);
    let partition = open(&io, spec(PartitionKind::Default, Durability::Synced)).unwrap();
    let outcome = |sent: &Sent| sent.outcome.borrow().clone().unwrap();
    let first = send(&partition, content(0, 5), (9, 0, 0));
    let gap = send(&partition, content(2, 5), (9, 0, 2));
    settle(&io);
    assert!(outcome(&first).is_ok());
    assert!(outcome(&gap).unwrap_err().contains("1 is expected next"));
    let unknown = send(&partition, content(0, 5), (10, 0, 4));
    assert!(
        outcome(&unknown)
            .unwrap_err()
            .contains("first batch has sequence 0")
    );
    let newer = send(&partition, content(0, 5), (9, 1, 0));
    settle(&io);
    assert!(outcome(&newer).is_ok());
    let fenced = send(&partition, content(0, 5), (9, 0, 1));
    assert!(outcome(&fenced).unwrap_err().contains("fenced by epoch 1"));
}

#[test]
fn many_segments_are_read_back_and_reopened_by_their_footers() {
    let io = SimIo::stepping(&Image::new(), 11);
    let mut random = Random::new(11);
    let partition = open(&io, spec(PartitionKind::Default, Durability::Synced)).unwrap();
    let mut expected = Vec::new();
    for sequence in 0..60 {
        let events = random_events(&mut random, sequence);
        expected.extend(events.clone());
        send(&partition, events, (1, 0, sequence));
        if random.chance(50) {
            settle(&io);
        }
    }
    settle(&io);
    assert!(
        partition.segment_count() > 5,
        "{} segments",
        partition.segment_count()
    );
    let check = |io: &SimIo, partition: &Rc<Partition<SimIo>>| {
        let found = io.block_on(read_all(Rc::clone(partition))).unwrap();
        assert_eq!(found.len(), expected.len());
        assert!(
            found.values().eq(expected.iter()),
            "events are what was sent, in order"
        );
    };
    check(&io, &partition);
    let stopping = Rc::clone(&partition);
    io.block_on(async move { stopping.stop().await });
    let again = SimIo::immediate(&io.settled());
    let partition = open(&again, spec(PartitionKind::Default, Durability::Synced)).unwrap();
    assert!(
        partition.verdict().prose().contains("clean"),
        "{}",
        partition.verdict().prose()
    );
    check(&again, &partition);
    let duplicate = send(&partition, expected[..1].to_vec(), (1, 0, 59));
    again.run_tasks();
    assert!(
        duplicate.acknowledged().unwrap().duplicate,
        "sequences survive in footers"
    );
}

#[test]
fn selections_are_read_from_memory_and_from_disk_alike() {
    let io = SimIo::stepping(&Image::new(), 13);
    let partition = open(&io, spec(PartitionKind::Default, Durability::Synced)).unwrap();
    let events = content(5, 200_000);
    let data = events[0].1.clone();
    send(&partition, content(4, 77), (1, 0, 0));
    send(&partition, events, (1, 0, 1));
    settle(&io);
    let reopened = SimIo::immediate(&io.settled());
    let from_disk = open(&reopened, spec(PartitionKind::Default, Durability::Synced)).unwrap();
    let whole = DataDescriptor::of_event(EventId::new(1), 200_000);
    let picks = [
        whole.clone(),
        whole.sub_view(65_530, 20),
        whole.strided_view(100, 30, 10, 5000).unwrap(),
        whole
            .unstructured_view(&[segment(3, 6), segment(70_000, 40), segment(199_990, 10)])
            .unwrap(),
        whole
            .sub_view(60_000, 100_000)
            .strided_view(10, 3, 20_000, 100)
            .unwrap()
            .sub_view(19_990, 20),
    ];
    for pick in picks {
        let expected: Vec<u8> = pick
            .flatten()
            .flat_map(|range| data[range.offset as usize..(range.offset + range.bytes) as usize].to_vec())
            .collect();
        for (io, partition) in [(&io, &partition), (&reopened, &from_disk)] {
            let (partition, pick) = (Rc::clone(partition), pick.clone());
            let fetched = io
                .block_on(async move { partition.fetch(&pick, 1 << 20, &mut None).await })
                .unwrap();
            assert_eq!(fetched.bytes, expected);
            assert_eq!(fetched.crc, crc32fast::hash(&expected));
        }
    }
    let too_much = Rc::clone(&partition);
    let refused = io.block_on(async move { too_much.fetch(&whole, 100, &mut None).await });
    assert_eq!(refused.unwrap_err().code, ErrorCode::TooLarge);
}

#[test]
fn damage_to_what_was_synced_is_found_and_never_served() {
    let io = SimIo::stepping(&Image::new(), 17);
    let partition = open(&io, spec(PartitionKind::Default, Durability::Synced)).unwrap();
    for n in 0..6 {
        send(&partition, content(n, 600), (1, 0, n));
        settle(&io);
    }
    let image = io.settled();
    let data_path = image
        .keys()
        .find(|path| path.extension().is_some_and(|end| end == "data"))
        .unwrap()
        .clone();
    let meta_path = image
        .keys()
        .find(|path| path.extension().is_some_and(|end| end == "meta"))
        .unwrap()
        .clone();
    let mut damaged_data = image.clone();
    damaged_data.get_mut(&data_path).unwrap()[4096 + 700] ^= 1;
    let machine = SimIo::immediate(&damaged_data);
    let opened = open(&machine, spec(PartitionKind::Default, Durability::Synced)).unwrap();
    let error = machine.block_on(read_all(opened)).unwrap_err();
    assert!(error.contains("checksum"), "{error}");
    let mut damaged_meta = image;
    damaged_meta.get_mut(&meta_path).unwrap()[4096 + 40] ^= 1;
    let machine = SimIo::immediate(&damaged_meta);
    let opened = open(&machine, spec(PartitionKind::Default, Durability::Synced)).unwrap();
    assert!(
        opened.read_only().is_some(),
        "events that later frames vouch for are gone: {}",
        opened.verdict().prose()
    );
    let refused = send(&opened, content(9, 1), (1, 0, 6));
    assert!(
        refused
            .outcome
            .borrow()
            .clone()
            .unwrap()
            .unwrap_err()
            .contains("read-only")
    );
}

#[test]
fn a_meta_file_that_lost_its_end_is_found_out_after_a_clean_stop() {
    let io = SimIo::stepping(&Image::new(), 19);
    let partition = open(&io, spec(PartitionKind::Default, Durability::Synced)).unwrap();
    for n in 0..4 {
        send(&partition, content(n, 100), (1, 0, n));
        settle(&io);
    }
    let stopping = Rc::clone(&partition);
    io.block_on(async move { stopping.stop().await });
    let mut image = io.settled();
    let meta = image
        .iter_mut()
        .find(|(path, _)| path.extension().is_some_and(|end| end == "meta"))
        .map(|(_, content)| content)
        .unwrap();
    meta.truncate(4096 + 200);
    let machine = SimIo::immediate(&image);
    let opened = open(&machine, spec(PartitionKind::Default, Durability::Synced)).unwrap();
    let reason = opened.read_only().expect("four events were durable");
    assert!(reason.contains("to 4 had been durable"), "{reason}");
}

#[test]
fn what_waits_for_a_partition_goes_with_it() {
    let io = SimIo::stepping(&Image::new(), 1);
    let partition = open(&io, spec(PartitionKind::Default, Durability::Synced)).unwrap();
    append(&partition, 0, None);
    settle(&io);
    let waiting = Rc::new(());
    let acknowledge = |next| {
        let kept = Rc::clone(&waiting);
        partition.acknowledge("reader", EventId::new(next), Box::new(move |_| drop(kept)));
    };
    // The first one makes the file; the second waits in it.
    acknowledge(1);
    settle(&io);
    assert_eq!(Rc::strong_count(&waiting), 1);
    append(&partition, 1, None);
    settle(&io);
    acknowledge(2);
    io.run_tasks();
    assert_eq!(Rc::strong_count(&waiting), 2, "it is not stored yet");
    io.shut_down();
    drop(partition);
    assert_eq!(Rc::strong_count(&waiting), 1, "nothing keeps itself alive");
}

/// The cursors of a partition with four events, of which some consumers acknowledged all, beside the files of before those events.
fn cursors_without_their_events(durability: Durability, consumers: u64) -> Image {
    let io = SimIo::stepping(&Image::new(), 21);
    let partition = open(&io, spec(PartitionKind::Default, durability)).unwrap();
    settle(&io);
    let mut image = io.settled();
    send(&partition, content(4, 10), (1, 0, 0));
    settle(&io);
    for n in 0..consumers {
        let consumer = format!("reader {n}");
        partition.acknowledge(
            &consumer,
            EventId::new(4),
            Box::new(|stored| assert!(stored.is_ok())),
        );
        settle(&io);
    }
    let after = io.settled();
    let cursors = after.iter().filter(|(path, _)| path.ends_with("cursors"));
    image.extend(cursors.map(|(path, content)| (path.clone(), content.clone())));
    image
}

#[test]
fn what_was_acknowledged_was_durable_and_its_loss_is_found_out() {
    let io = SimIo::stepping(&cursors_without_their_events(Durability::Synced, 1), 22);
    let opened = open(&io, spec(PartitionKind::Default, Durability::Synced)).unwrap();
    let reason = opened.read_only().expect("four events were durable");
    assert!(reason.contains("events 0 to 4 had been durable"), "{reason}");
    assert_eq!(opened.cursor("reader 0"), Some(EventId::new(4)));
}

#[test]
fn cursors_do_not_stand_beyond_what_was_never_durable() {
    let spec = || spec(PartitionKind::Default, Durability::Written);
    let io = SimIo::stepping(&cursors_without_their_events(Durability::Written, 1), 23);
    let opened = open(&io, spec()).unwrap();
    assert_eq!(opened.read_only(), None);
    assert_eq!(opened.cursor("reader 0"), Some(EventId::new(0)));
    settle(&io);
    // Also after the next start.
    let again = SimIo::stepping(&io.settled(), 24);
    let opened = open(&again, spec()).unwrap();
    assert_eq!(opened.cursor("reader 0"), Some(EventId::new(0)));
}

#[test]
fn events_are_taken_only_when_cursors_beyond_the_end_are_moved_back_for_good() {
    const CONSUMERS: u64 = 100;
    let spec = || spec(PartitionKind::Default, Durability::Written);
    let all_at = |partition: &Partition<SimIo>, end| {
        (0..CONSUMERS).all(|n| partition.cursor(&format!("reader {n}")) == Some(EventId::new(end)))
    };
    let mut image = cursors_without_their_events(Durability::Written, CONSUMERS);
    // The power goes right after the partition was opened, and with it what is not durable.
    let io = SimIo::stepping(&image, 27);
    let opened = open(&io, spec()).unwrap();
    assert_eq!(opened.read_only(), None);
    let left = io.crash(&mut Random::new(27), 0, Sectors::Small);
    let synced = SimIo::stepping(&left, 28);
    let mut unmoved = spec();
    // Of a synced topic they would be damage, and stay where they are.
    unmoved.topic.durability = Durability::Synced;
    let found = open(&synced, unmoved).unwrap();
    assert_eq!(found.read_only(), None);
    assert!(all_at(&found, 0));

    // The file of cursors has no room ahead, and the device none left.
    let content = image.get_mut(Path::new("/p/cursors")).unwrap();
    let used = content.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    content.truncate(used.next_multiple_of(4096));
    let io = SimIo::stepping(&image, 29);
    io.set_room(Some(0));
    let opened = open(&io, spec()).unwrap();
    let reason = opened.read_only().expect("the cursors are still where they were");
    assert!(
        reason.contains("could not be moved back") && reason.contains("make room"),
        "{reason}"
    );
    let refused = append(&opened, 0, None);
    settle(&io);
    assert!(refused.borrow()[0].is_err());
    // The next start has room.
    let again = SimIo::stepping(&io.settled(), 30);
    let opened = open(&again, spec()).unwrap();
    assert_eq!(opened.read_only(), None);
    assert!(all_at(&opened, 0));
}

#[test]
fn a_repeated_acknowledgement_is_confirmed_only_when_the_first_one_is_durable() {
    type Told = Rc<std::cell::RefCell<Option<bool>>>;
    let io = SimIo::stepping(&Image::new(), 25);
    let partition = open(&io, spec(PartitionKind::Default, Durability::Synced)).unwrap();
    let acknowledge = |consumer: &str| -> Told {
        let told = Told::default();
        let teller = Rc::clone(&told);
        let done = move |stored: Result<EventId, _>| *teller.borrow_mut() = Some(stored.is_ok());
        partition.acknowledge(consumer, EventId::new(1), Box::new(done));
        told
    };
    let first = acknowledge("first");
    settle(&io);
    assert_eq!(*first.borrow(), Some(true));
    // More at once than the file has room for, which gets no more.
    io.set_room(Some(0));
    let all: Vec<Told> = (0..20_000).map(|n| acknowledge(&format!("reader {n}"))).collect();
    let again = acknowledge("reader 19999");
    settle(&io);
    assert_eq!(*all[0].borrow(), Some(true));
    assert_eq!(*all[19_999].borrow(), Some(false));
    assert_eq!(*again.borrow(), Some(false));
    io.set_room(None);
    let again = acknowledge("reader 19999");
    settle(&io);
    assert_eq!(*again.borrow(), Some(true));
    let machine = SimIo::stepping(&io.settled(), 26);
    let found = open(&machine, spec(PartitionKind::Default, Durability::Synced)).unwrap();
    assert_eq!(found.cursor("reader 19999"), Some(EventId::new(1)));
}
