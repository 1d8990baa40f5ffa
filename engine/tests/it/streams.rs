//! Events whose data comes in parts: as other batches go on, at the bounds, and with a crash at every boundary, after which
//! the whole event is there or nothing of it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use mofka_engine::io::Io;
use mofka_engine::partition::{Appended, Partition};
use mofka_engine::sim::{Image, Random, SimIo};
use mofka_log::{Durability, PartitionKind, ProducerId, StreamedData};
use mofka_net::ErrorCode;

use crate::model::{Content, Sent, open, random_events, read_all, send, spec};
use crate::sweep::Sweep;
use crate::world::any_sectors;

type Outcome = Rc<RefCell<Option<Result<Appended, String>>>>;
type Open = Rc<Partition<SimIo>>;

const PRODUCER: u64 = 0xabba;
const PART_BYTES: usize = 65_536;
/// An unknown stream: what is said of its commit follows from the producer alone.
const NO_STREAM: u64 = 1;

fn open_log(io: &SimIo) -> Open {
    open(io, spec(PartitionKind::Default, Durability::Synced)).unwrap()
}

fn frame_of((metadata, data): &Content, producer: u64) -> Bytes {
    let mut streamed = StreamedData::new();
    streamed.push(data).unwrap();
    let producer = Some((ProducerId::new(producer), 0, 0));
    streamed.frame(metadata, producer).unwrap()
}

fn bytes(len: usize, seed: u64) -> Vec<u8> {
    (0..len as u64)
        .map(|n| (seed.wrapping_add(n.wrapping_mul(37)) >> 2) as u8)
        .collect()
}

/// Sends all of an event's data and commits it.
async fn stream(partition: Open, event: Content, producer: u64) -> Result<Appended, String> {
    let upload = partition
        .begin_upload()
        .await
        .map_err(|error| error.to_string())?;
    let data = Bytes::from(event.1.clone());
    let mut written = Vec::new();
    for (n, part) in (0_u64..).zip(data.chunks(PART_BYTES)) {
        let part = data.slice_ref(part);
        let write = upload.write(n * PART_BYTES as u64, part);
        written.push(write.map_err(|error| error.to_string())?);
        if written.len() == 2 {
            written.remove(0).await.map_err(|error| error.to_string())?;
        }
    }
    for write in written {
        write.await.map_err(|error| error.to_string())?;
    }
    let commit = partition.commit_upload(
        upload.stream(),
        data.len() as u64,
        frame_of(&event, producer),
        None,
    );
    commit.await.map_err(|error| error.to_string())
}

fn begin_stream(io: &SimIo, partition: &Open, event: &Content, producer: u64) -> Outcome {
    let outcome: Outcome = Rc::default();
    let (noted, partition, event) = (Rc::clone(&outcome), Rc::clone(partition), event.clone());
    io.spawn(async move {
        let appended = stream(partition, event, producer).await;
        *noted.borrow_mut() = Some(appended);
    });
    outcome
}

fn incoming(image: &Image) -> usize {
    let names = image.keys().filter_map(|path| path.file_name()?.to_str());
    names.filter(|name| name.starts_with("incoming-")).count()
}

#[test]
fn an_event_in_parts_is_stored_beside_others_and_read_as_they_are() {
    let io = SimIo::immediate(&Image::new());
    let partition = open_log(&io);
    // Shorter than a block, than a piece, of whole pieces, much longer than a segment.
    let sizes = [1, 4096, 4097, 65_536, 131_072, 400_001, 0];
    let mut expected = BTreeMap::new();
    for (n, size) in (0_u64..).zip(sizes) {
        let event = (format!("{{\"n\":{n}}}").into_bytes(), bytes(size, n));
        let appended = io
            .block_on(stream(Rc::clone(&partition), event.clone(), 100 + n))
            .unwrap();
        assert_eq!((appended.base_event_id.get(), appended.duplicate), (2 * n, false));
        let other: Content = (b"{}".to_vec(), bytes(3000, 77 + n));
        let sent = send(&partition, vec![other.clone()], (PRODUCER, 0, n));
        io.run_tasks();
        assert_eq!(sent.acknowledged().unwrap().base_event_id.get(), 2 * n + 1);
        expected.insert(2 * n, event);
        expected.insert(2 * n + 1, other);
    }
    assert_eq!(io.block_on(read_all(Rc::clone(&partition))).unwrap(), expected);
    assert_eq!(incoming(&io.settled()), 0);
    let stopped = Rc::clone(&partition);
    io.block_on(async move { stopped.stop().await });
    let again = SimIo::immediate(&io.settled());
    io.shut_down();
    assert_eq!(again.block_on(read_all(open_log(&again))).unwrap(), expected);
    again.shut_down();
}

#[test]
fn a_commit_that_comes_again_gets_its_first_answer_and_an_unknown_stream_none() {
    let io = SimIo::immediate(&Image::new());
    let partition = open_log(&io);
    let event: Content = (b"{}".to_vec(), bytes(100_000, 3));
    let first = io
        .block_on(stream(Rc::clone(&partition), event.clone(), 5))
        .unwrap();
    let again = |partition: &Open, producer| {
        let (partition, frame) = (Rc::clone(partition), frame_of(&event, producer));
        io.block_on(async move { partition.commit_upload(NO_STREAM, 100_000, frame, None).await })
    };
    let same = again(&partition, 5).unwrap();
    assert_eq!((same.base_event_id, same.duplicate), (first.base_event_id, true));
    assert_eq!(again(&partition, 6).unwrap_err().code.name(), "unknown_stream");
    // All of the data again, too.
    let same = io
        .block_on(stream(Rc::clone(&partition), event.clone(), 5))
        .unwrap();
    assert!(same.duplicate && incoming(&io.settled()) == 0);
    assert_eq!(partition.visible_end().get(), 1);
    io.shut_down();
}

#[test]
fn what_does_not_fit_together_is_refused_and_leaves_nothing() {
    let io = SimIo::immediate(&Image::new());
    let partition = open_log(&io);
    let begin = || {
        let partition = Rc::clone(&partition);
        io.block_on(async move { partition.begin_upload().await })
            .unwrap()
    };
    let write = |upload: &Rc<mofka_engine::partition::Upload<SimIo>>, offset, data: &[u8]| {
        let written = upload.write(offset, Bytes::copy_from_slice(data))?;
        io.block_on(written)
    };
    let commit = |stream, bytes, frame: Bytes| {
        let partition = Rc::clone(&partition);
        io.block_on(async move { partition.commit_upload(stream, bytes, frame, None).await })
    };
    let event: Content = (b"{}".to_vec(), bytes(70_000, 1));
    // Out of order, and behind the last.
    let upload = begin();
    assert_eq!(
        write(&upload, 65_536, b"x").unwrap_err().code.name(),
        "invalid_argument"
    );
    assert_eq!(write(&upload, 0, &event.1[..65_536]).unwrap(), 65_536);
    assert_eq!(write(&upload, 65_536, &event.1[65_536..]).unwrap(), 70_000);
    assert_eq!(
        write(&upload, 70_000, b"x").unwrap_err().code.name(),
        "invalid_argument"
    );
    // Other data than the frame says, and then nothing is left of it.
    let mut other = event.clone();
    other.1[65_537] ^= 1;
    let refused = commit(upload.stream(), 70_000, frame_of(&other, 9)).unwrap_err();
    assert_eq!(refused.code.name(), "bad_checksum");
    let refused = commit(upload.stream(), 70_000, frame_of(&event, 9)).unwrap_err();
    assert_eq!(refused.code.name(), "unknown_stream");
    // Too early.
    let upload = begin();
    assert_eq!(write(&upload, 0, &event.1[..65_536]).unwrap(), 65_536);
    let refused = commit(upload.stream(), 70_000, frame_of(&event, 9)).unwrap_err();
    assert_eq!(refused.code.name(), "invalid_argument");
    // Given up, and what the partition gives up when it stops.
    let (given_up, left) = (begin(), begin());
    write(&given_up, 0, b"some").unwrap();
    write(&left, 0, b"some").unwrap();
    assert_eq!(incoming(&io.settled()), 2);
    let (aborting, stream) = (Rc::clone(&partition), given_up.stream());
    io.block_on(async move { aborting.abort_upload(stream).await });
    assert_eq!(
        write(&given_up, 4, b"more").unwrap_err().code.name(),
        "unknown_stream"
    );
    let stopping = Rc::clone(&partition);
    io.block_on(async move { stopping.stop().await });
    assert_eq!((incoming(&io.settled()), partition.visible_end().get()), (0, 0));
    let late = Rc::clone(&partition);
    let refused = io
        .block_on(async move { late.begin_upload().await })
        .err()
        .unwrap();
    assert_eq!(refused.code.name(), "shutting_down");
    io.shut_down();
}

#[test]
fn a_part_behind_the_commit_does_not_touch_what_others_wrote() {
    let io = SimIo::immediate(&Image::new());
    let partition = open_log(&io);
    let event: Content = (b"{}".to_vec(), bytes(PART_BYTES, 1));
    let upload = io.block_on({
        let (partition, event) = (Rc::clone(&partition), event.clone());
        async move {
            let upload = partition.begin_upload().await.unwrap();
            let part = Bytes::from(event.1.clone());
            upload.write(0, part).unwrap().await.unwrap();
            let bytes = event.1.len() as u64;
            let frame = frame_of(&event, 5);
            let commit = partition.commit_upload(upload.stream(), bytes, frame, None);
            commit.await.unwrap();
            upload
        }
    });
    let other: Content = (b"{\"other\":1}".to_vec(), bytes(3000, 9));
    let sent = send(&partition, vec![other.clone()], (PRODUCER, 0, 0));
    io.run_tasks();
    assert_eq!(sent.acknowledged().unwrap().base_event_id.get(), 1);
    let late = upload.write(PART_BYTES as u64, Bytes::from(vec![0xee; 4096]));
    let refused = late.err().expect("its file is the log's");
    assert_eq!(refused.code, ErrorCode::UnknownStream);
    io.run_tasks();
    let expected = BTreeMap::from([(0, event), (1, other)]);
    assert_eq!(io.block_on(read_all(Rc::clone(&partition))).unwrap(), expected);
    io.shut_down();
    let again = SimIo::immediate(&io.settled());
    assert_eq!(again.block_on(read_all(open_log(&again))).unwrap(), expected);
    again.shut_down();
}

#[test]
fn memory_partitions_and_too_many_streams_are_refused() {
    let io = SimIo::immediate(&Image::new());
    let begin = |partition: &Open| {
        let partition = Rc::clone(partition);
        io.block_on(async move { partition.begin_upload().await })
    };
    let memory = open(&io, spec(PartitionKind::Memory, Durability::Buffered)).unwrap();
    let refused = begin(&memory).err().unwrap();
    assert!(refused.code.name() == "invalid_argument" && refused.message.contains("in memory"));
    let mut few = spec(PartitionKind::Default, Durability::Synced);
    few.limits.shard_streams_max = 2;
    let partition = open(&io, few).unwrap();
    let (first, _second) = (begin(&partition).unwrap(), begin(&partition).unwrap());
    assert_eq!(begin(&partition).err().unwrap().code.name(), "overloaded");
    let (aborting, stream) = (Rc::clone(&partition), first.stream());
    drop(first);
    io.block_on(async move { aborting.abort_upload(stream).await });
    begin(&partition).unwrap();
    io.shut_down();
}

#[test]
fn a_full_device_fails_the_stream_and_nothing_else() {
    let io = SimIo::immediate(&Image::new());
    let partition = open_log(&io);
    let event: Content = (b"{}".to_vec(), bytes(800_000, 1));
    let first = send(&partition, vec![(b"{}".to_vec(), vec![1; 10])], (PRODUCER, 0, 0));
    io.run_tasks();
    assert!(first.acknowledged().is_some());
    io.set_room(Some(500_000));
    let refused = io
        .block_on(stream(Rc::clone(&partition), event.clone(), 5))
        .unwrap_err();
    assert!(refused.contains("no_space"), "{refused}");
    let other = send(&partition, vec![(b"{}".to_vec(), vec![2; 10])], (PRODUCER, 0, 1));
    io.run_tasks();
    assert!(other.acknowledged().is_some(), "{:?}", other.outcome.borrow());
    io.set_room(None);
    let stored = io.block_on(stream(Rc::clone(&partition), event, 5)).unwrap();
    assert_eq!((stored.base_event_id.get(), partition.poison()), (2, None));
    io.shut_down();
}

/// What was sent together: a batch, or an event in parts.
struct Unit {
    events: Vec<Content>,
    outcome: Outcome,
    /// Of an event in parts.
    producer: Option<u64>,
}

impl Unit {
    fn of(sent: Sent) -> Self {
        Self {
            events: sent.events,
            outcome: sent.outcome,
            producer: None,
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Tally {
    images: u64,
    /// Images with an acknowledged stream in them.
    with_stream: u64,
    /// Images made while a stream was on its way that nobody was told of, and that have it or not.
    stored: u64,
    lost: u64,
}

/// Holds what a crash left against what was known. Gives the units in the order of their events.
fn check(
    image: &Image,
    settled: &[Content],
    units: &[Unit],
    tally: &mut Tally,
) -> Result<Vec<usize>, String> {
    let io = SimIo::immediate(image);
    let outcome = check_on(&io, settled, units, tally);
    io.shut_down();
    outcome
}

fn check_on(
    io: &SimIo,
    settled: &[Content],
    units: &[Unit],
    tally: &mut Tally,
) -> Result<Vec<usize>, String> {
    let partition = open(io, spec(PartitionKind::Default, Durability::Synced))?;
    if let Some(reason) = partition.read_only() {
        return Err(format!("an ordinary crash was taken for damage: {reason}"));
    }
    if incoming(&io.settled()) > 0 {
        return Err("the data of an event that is not whole was left".to_owned());
    }
    let found: Vec<Content> = io
        .block_on(read_all(Rc::clone(&partition)))?
        .into_values()
        .collect();
    if !found.starts_with(settled) {
        return Err("events of an earlier life are gone or changed".to_owned());
    }
    let (mut at, mut order) = (settled.len(), Vec::new());
    while at < found.len() {
        let here = units
            .iter()
            .enumerate()
            .find(|(n, unit)| !order.contains(n) && found[at..].starts_with(&unit.events));
        let Some((n, unit)) = here else {
            return Err(format!("event {at} is none that was sent, or half of a batch"));
        };
        if let Some(Ok(appended)) = &*unit.outcome.borrow()
            && appended.base_event_id.get() != at as u64
        {
            return Err(format!(
                "unit {n} is at {at} and was acknowledged as {appended:?}"
            ));
        }
        order.push(n);
        at += unit.events.len();
    }
    tally.images += 1;
    for (n, unit) in units.iter().enumerate() {
        let (there, outcome) = (order.contains(&n), unit.outcome.borrow());
        match &*outcome {
            Some(Ok(_)) if !there => return Err(format!("unit {n} was acknowledged and is gone")),
            Some(Err(error)) => return Err(format!("unit {n} was refused: {error}")),
            _ => {}
        }
        let Some(producer) = unit.producer else { continue };
        tally.with_stream += u64::from(outcome.is_some());
        tally.stored += u64::from(outcome.is_none() && there);
        tally.lost += u64::from(outcome.is_none() && !there);
        // Whoever lost the answer asks again.
        let (partition, event) = (Rc::clone(&partition), &unit.events[0]);
        let (frame, len) = (frame_of(event, producer), event.1.len() as u64);
        let again = io.block_on(async move { partition.commit_upload(NO_STREAM, len, frame, None).await });
        match again {
            Ok(appended) if there && appended.duplicate => {}
            Err(error) if !there && error.code.name() == "unknown_stream" => {}
            other => return Err(format!("unit {n} is there: {there}; committed again: {other:?}")),
        }
    }
    let sent = send(
        &partition,
        vec![(b"{}".to_vec(), vec![1; 100])],
        (PRODUCER + 1, 0, 0),
    );
    io.run_tasks();
    match sent.acknowledged() {
        Some(_) => Ok(order),
        None => Err(format!("it takes no batch: {:?}", sent.outcome.borrow())),
    }
}

/// Three lives of one partition, each ended by a crash.
fn history(seed: u64) -> Result<Tally, String> {
    let mut random = Random::new(seed);
    let (mut tally, mut image, mut settled) = (Tally::default(), Image::new(), Vec::new());
    let (mut tag, mut sequence) = (0, 0);
    for life in 0..3 {
        let io = SimIo::stepping(&image, seed * 1000 + life);
        let partition = open_log(&io);
        let mut units: Vec<Unit> = Vec::new();
        for _ in 0..100 + random.below(150) {
            tag += 1;
            if random.chance(10) {
                let events = random_events(&mut random, tag);
                units.push(Unit::of(send(
                    &partition,
                    events,
                    (PRODUCER, life as u32, sequence),
                )));
                sequence += 1;
            } else if units.iter().filter(|unit| unit.producer.is_some()).count() < 3 && random.chance(10) {
                let size = match random.below(4) {
                    0 => random.below(5000) as usize,
                    1 => PART_BYTES,
                    _ => random.below(160_000) as usize,
                };
                let event = (
                    format!("{{\"stream\":{tag}}}").into_bytes(),
                    bytes(size, random.number()),
                );
                let producer = 1000 * seed + tag;
                units.push(Unit {
                    outcome: begin_stream(&io, &partition, &event, producer),
                    events: vec![event],
                    producer: Some(producer),
                });
            }
            io.step();
            let is_judged = random.chance(40);
            for keep_percent in [0, 50, 100].into_iter().filter(|_| is_judged) {
                let sectors = any_sectors(&mut random);
                let image = io.crash(&mut random, keep_percent, sectors);
                check(&image, &settled, &units, &mut tally).map_err(|reason| {
                    format!("life {life}, {keep_percent}% of the {sectors:?} sectors kept: {reason}")
                })?;
            }
        }
        let keep_percent = random.below(101);
        image = io.crash(&mut random, keep_percent, any_sectors(&mut Random::new(seed)));
        for n in check(&image, &settled, &units, &mut tally)? {
            settled.extend(units[n].events.clone());
        }
        sequence = 0;
        io.shut_down();
    }
    Ok(tally)
}

const CASES_MIN: u64 = 4000;

#[test]
fn after_a_crash_the_whole_event_is_there_or_nothing_of_it() {
    let sweep = Sweep::of("after_a_crash_the_whole_event_is_there_or_nothing_of_it", 12);
    let mut all = Tally::default();
    for tally in sweep.run(history) {
        all.images += tally.images;
        all.with_stream += tally.with_stream;
        all.stored += tally.stored;
        all.lost += tally.lost;
    }
    sweep.report(
        all.images,
        CASES_MIN,
        &format!(
            "crash images: {} had acknowledged streams; of those on their way {} were stored and {} were not",
            all.with_stream, all.stored, all.lost
        ),
    );
    assert!(
        all.with_stream > all.images / 4,
        "too few streams had anything to lose"
    );
    assert!(all.stored > 20 && all.lost > 1000, "the crashes hit no commit");
}
