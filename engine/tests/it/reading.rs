//! Reading from the device: on and on, beside appends, by time, in parts, within the shard's memory.

use std::rc::Rc;

use mofka_engine::io::Io;
use mofka_engine::partition::{Partition, PartitionSpec, ReadLimits, Reader, ShardMemory, Slice};
use mofka_engine::sim::{Image, Random, SimIo};
use mofka_log::{Durability, EventId, PartitionKind};
use mofka_net::{DataDescriptor, ErrorCode};

use crate::model::{Content, batch, id, open, random_events, send, spec};

const LIMITS: ReadLimits = ReadLimits {
    events_max: 16,
    bytes_max: 64 << 10,
    with_data: true,
};

fn open_within(io: &SimIo, spec: PartitionSpec, memory: &Rc<ShardMemory>) -> Rc<Partition<SimIo>> {
    let (machine, shared) = (io.clone(), Rc::clone(memory));
    io.block_on(async move { Partition::open_within(machine, spec, shared).await.unwrap() })
}

fn settle(io: &SimIo) {
    io.run_tasks();
    while io.is_busy() {
        io.step();
    }
}

fn events_of(slice: &Slice) -> Vec<(u64, Vec<u8>, Option<Vec<u8>>)> {
    let mut found = Vec::new();
    for batch in &slice.batches {
        for (id, event) in (batch.base_event_id().get()..).zip(batch.events()) {
            let place = event.data_offset as usize..(event.data_offset + event.data_bytes) as usize;
            let data = batch.data().map(|data| data[place].to_vec());
            found.push((id, event.metadata.to_vec(), data));
        }
    }
    found
}

/// A log partition with nothing in memory, so that all is read from the device.
fn forgetful() -> PartitionSpec {
    let mut spec = spec(PartitionKind::Default, Durability::Synced);
    spec.limits.shard_recent_bytes_max = 0;
    spec
}

#[test]
fn a_reader_gets_every_event_once_while_more_are_written() {
    for seed in 0..30 {
        let io = SimIo::stepping(&Image::new(), seed);
        let partition = open(&io, forgetful()).unwrap();
        let mut random = Random::new(seed);
        let mut expected: Vec<Content> = Vec::new();
        let mut seen: u64 = 0;
        let mut reader = Reader::new(Rc::clone(&partition), LIMITS);
        for round in 0..60 {
            let events = random_events(&mut random, round);
            expected.extend(events.clone());
            send(&partition, events, (1, 0, round));
            // Sometimes the reader looks while writes are under way: what it has read ahead is then older than what is
            // visible when it goes on.
            for _ in 0..random.below(6) {
                io.step();
            }
            while seen < partition.visible_end().get() && random.below(4) > 0 {
                let (from, kept) = (id(seen), reader);
                let (slice, back) = io.block_on(async move {
                    let mut kept = kept;
                    (kept.next(from).await.unwrap(), kept)
                });
                reader = back;
                assert!(
                    slice.end_event_id.get() > seen,
                    "seed {seed}: no progress at {seen}"
                );
                for (found_id, metadata, data) in events_of(&slice) {
                    let content = &expected[found_id as usize];
                    assert_eq!(metadata, content.0, "seed {seed}: event {found_id}");
                    if let Some(data) = data {
                        assert_eq!(data, content.1, "seed {seed}: event {found_id}");
                    }
                }
                seen = slice.end_event_id.get();
            }
        }
        settle(&io);
        while seen < partition.visible_end().get() {
            let (from, kept) = (id(seen), reader);
            let (slice, back) = io.block_on(async move {
                let mut kept = kept;
                (kept.next(from).await.unwrap(), kept)
            });
            reader = back;
            seen = slice.end_event_id.get();
        }
        assert_eq!(seen, expected.len() as u64);
        assert!(partition.segment_count() > 3, "the reader crossed segments");
    }
}

fn plain(n: u64, data_bytes: usize) -> Vec<Content> {
    let data = (0..data_bytes)
        .map(|place| (place as u64 / 7 + n).to_le_bytes()[0])
        .collect();
    vec![(format!("{{\"n\":{n}}}").into_bytes(), data)]
}

#[test]
fn a_few_bytes_of_a_large_event_cost_its_frame_and_the_pieces_they_lie_in() {
    let mut spec = forgetful();
    spec.limits.segment_data_bytes = 64 << 20;
    let memory = ShardMemory::new(&spec.limits);
    let io = SimIo::stepping(&Image::new(), 2);
    let partition = open_within(&io, spec, &memory);
    let content = plain(0, 1 << 20);
    send(&partition, content.clone(), (1, 0, 0));
    settle(&io);
    let whole = DataDescriptor::of_event(id(0), 1 << 20);
    for (offset, bytes, pieces) in [
        (0, 10, 1),
        (700_000, 10, 1),
        (65_530, 12, 2),
        (1 << 19, 200_000, 4),
    ] {
        let before = memory.counts();
        let (reading, part) = (Rc::clone(&partition), whole.sub_view(offset, bytes));
        let fetched = io.block_on(async move { reading.fetch(&part, 1 << 20, &mut None).await.unwrap() });
        let place = offset as usize..(offset + bytes) as usize;
        assert_eq!(fetched.bytes, content[0].1[place]);
        let read = memory.counts().device_bytes - before.device_bytes;
        // One window of the meta file, whole pieces, and the blocks at the edges, for data begins at any byte.
        let bound = (64 << 10) + 4096 + pieces * (64 << 10) + 2 * 4096;
        assert!(
            read <= bound,
            "{bytes} bytes at {offset} cost {read} bytes, more than {bound}"
        );
        assert!(read >= pieces * (64 << 10), "the counter counts");
    }
}

#[test]
fn events_of_one_batch_that_follow_each_other_share_reads_and_others_do_not() {
    const COUNT: u64 = 3000;
    let mut spec = forgetful();
    spec.limits.segment_data_bytes = 64 << 20;
    let memory = ShardMemory::new(&spec.limits);
    let io = SimIo::stepping(&Image::new(), 4);
    let partition = open_within(&io, spec, &memory);
    // Of all lengths, none and more than a piece too.
    let length = |n: u64| match n % 10 {
        0 => 0,
        1 => 70_000,
        other => 300 * other as usize,
    };
    let content: Vec<Content> = (0..COUNT).flat_map(|n| plain(n, length(n))).collect();
    let total: u64 = content.iter().map(|event| event.1.len() as u64).sum();
    send(&partition, content.clone(), (1, 0, 0));
    settle(&io);
    let fetch_all = |numbers: Vec<u64>| {
        let (reading, content) = (Rc::clone(&partition), content.clone());
        let before = memory.counts();
        io.block_on(async move {
            let mut last = None;
            for n in numbers {
                let data = &content[n as usize].1;
                let whole = DataDescriptor::of_event(id(n), data.len() as u64);
                let fetched = reading.fetch(&whole, 1 << 20, &mut last).await.unwrap();
                assert_eq!(
                    (&fetched.bytes[..], fetched.crc),
                    (&data[..], crc32fast::hash(data))
                );
            }
        });
        let after = memory.counts();
        let reads = after.device_count - before.device_count;
        (reads, after.device_bytes - before.device_bytes)
    };
    let (reads, bytes) = fetch_all((0..COUNT).collect());
    assert!(reads < 30, "{reads} reads for a row of events");
    assert!(
        bytes < total + total / 4 + (1 << 20),
        "{bytes} bytes read of {total}"
    );
    // Backwards, and one in a hundred, what lies behind an event is not wanted.
    let (_, backwards) = fetch_all((0..300).rev().collect());
    let first: u64 = (0..300).map(|n| length(n) as u64).sum();
    assert!(
        backwards < first + 300 * 2 * 4096 + (1 << 20),
        "{backwards} bytes read of {first}"
    );
    let (_, sparse) = fetch_all((5..COUNT).step_by(100).collect());
    assert!(
        sparse < 30 * (1500 + 2 * 4096) + (1 << 20),
        "{sparse} bytes read for 30 events"
    );
}

#[test]
fn events_that_are_asked_for_one_by_one_do_not_each_cost_a_window_of_frames() {
    const COUNT: u64 = 200;
    let [kept, forgotten] = [1 << 20, 0].map(|ahead_bytes_max| {
        let mut spec = forgetful();
        spec.limits.shard_read_ahead_bytes_max = ahead_bytes_max;
        let memory = ShardMemory::new(&spec.limits);
        let io = SimIo::stepping(&Image::new(), 5);
        let partition = open_within(&io, spec, &memory);
        let mut write = |n: u64| {
            send(&partition, plain(n, 100), (1, 0, n));
            settle(&io);
        };
        (0..COUNT).for_each(&mut write);
        let fetch = |n: u64| {
            let (reading, whole) = (Rc::clone(&partition), DataDescriptor::of_event(id(n), 100));
            let fetched = io.block_on(async move { reading.fetch(&whole, 1 << 20, &mut None).await });
            assert_eq!(*fetched.unwrap().bytes, *plain(n, 100)[0].1);
        };
        let before = memory.counts().device_bytes;
        // Two consumers at their own pace, one of which asks for every event twice.
        for n in 0..COUNT {
            fetch(n);
            if n >= 50 {
                fetch(n - 50);
                fetch(n - 50);
            }
        }
        let cost = memory.counts().device_bytes - before;
        // What was kept when the file ended sees what came after.
        (COUNT..COUNT + 3).for_each(&mut write);
        (COUNT..COUNT + 3).for_each(fetch);
        cost
    });
    // Without memory nothing is kept. With it, what is left is mostly the blocks of the data.
    assert!(kept < forgotten / 3, "{kept} bytes read instead of {forgotten}");
}

#[test]
fn a_quiet_partition_keeps_its_recent_batches_beside_a_busy_one_and_readers_take_nothing() {
    let mut spec = spec(PartitionKind::Default, Durability::Synced);
    spec.limits.shard_recent_bytes_max = 100 << 10;
    let memory = ShardMemory::new(&spec.limits);
    let io = SimIo::stepping(&Image::new(), 3);
    let open_in = |dir: &str| {
        let mut spec = spec.clone();
        spec.dir = dir.into();
        open_within(&io, spec, &memory)
    };
    let (quiet, busy) = (open_in("/quiet"), open_in("/busy"));
    send(&quiet, plain(0, 3000), (1, 0, 0));
    settle(&io);
    for n in 0..200 {
        send(&busy, plain(n, 3000), (2, 0, n));
        settle(&io);
        assert!(
            memory.recent_bytes() <= 100 << 10,
            "{} bytes are held",
            memory.recent_bytes()
        );
    }
    assert!(memory.recent_bytes() > 80 << 10, "the budget is used");
    // Somebody reads everything from the device.
    let reading = Rc::clone(&busy);
    let before = memory.recent_bytes();
    io.block_on(async move {
        let mut reader = Reader::new(Rc::clone(&reading), LIMITS);
        let mut next = id(0);
        while next < reading.visible_end() {
            next = reader.next(next).await.unwrap().end_event_id;
        }
    });
    assert_eq!(
        memory.recent_bytes(),
        before,
        "what is read from the device does not enter"
    );
    let counts = memory.counts();
    assert!(counts.device_count > 0 && counts.device_bytes > 100 * 3000);
    let tail = Rc::clone(&quiet);
    let slice = io.block_on(async move { tail.read(id(0), LIMITS).await.unwrap() });
    assert_eq!(slice.batches.len(), 1);
    assert_eq!(
        memory.counts().device_count,
        counts.device_count,
        "it is still in memory"
    );
    assert_eq!(memory.counts().memory_count, counts.memory_count + 1);
    drop((slice, quiet, busy));
}

#[test]
fn a_place_is_found_by_time_across_segments_also_when_the_clock_went_back() {
    for kind in [PartitionKind::Default, PartitionKind::Memory] {
        let io = SimIo::stepping(&Image::new(), 4);
        let partition = open(&io, spec(kind, Durability::Synced)).unwrap();
        let mut times = Vec::new();
        for n in 0..120_u64 {
            send(&partition, plain(n, 2000), (1, 0, n));
            settle(&io);
            // Once, in the middle, back by more than what passed since the segment before.
            match n {
                60 => io.set_now_us(io.now_us() - 30_000_000),
                _ => io.set_now_us(io.now_us() + 1_000_000),
            }
        }
        if kind == PartitionKind::Default {
            assert!(partition.segment_count() > 4);
        }
        let reading = Rc::clone(&partition);
        for (n, batch) in io
            .block_on(async move {
                let mut found = Vec::new();
                let mut next = id(0);
                while next < reading.visible_end() {
                    let slice = reading.read(next, LIMITS).await.unwrap();
                    next = slice.end_event_id;
                    found.extend(slice.batches);
                }
                found
            })
            .into_iter()
            .enumerate()
        {
            assert_eq!(batch.base_event_id(), id(n as u64));
            times.push(batch.timestamp_us());
        }
        assert!(
            times.windows(2).any(|pair| pair[1] < pair[0]),
            "the clock went back"
        );
        let latest = *times.iter().max().unwrap();
        let asked =
            times
                .iter()
                .flat_map(|time| [time - 1, *time, time + 1])
                .chain([0, latest + 1, u64::MAX]);
        for time in asked {
            let expected = times
                .iter()
                .position(|known| *known >= time)
                .unwrap_or(times.len());
            let looking = Rc::clone(&partition);
            let found = io.block_on(async move { looking.find_time(time).await.unwrap() });
            assert_eq!(found, id(expected as u64), "{kind:?} at {time}");
        }
    }
}

#[test]
fn looking_for_a_time_does_not_read_whole_segments() {
    let mut spec = forgetful();
    spec.limits.segment_data_bytes = 1 << 20;
    let memory = ShardMemory::new(&spec.limits);
    let io = SimIo::stepping(&Image::new(), 5);
    let partition = open_within(&io, spec, &memory);
    for n in 0..300 {
        send(&partition, plain(n, 20_000), (1, 0, n));
        settle(&io);
        io.set_now_us(io.now_us() + 1000);
    }
    let before = memory.counts().device_bytes;
    let looking = Rc::clone(&partition);
    let time = io.now_us() - 100_000;
    let found = io.block_on(async move { looking.find_time(time).await.unwrap() });
    assert!((id(150)..id(250)).contains(&found), "{found}");
    let read = memory.counts().device_bytes - before;
    assert!(read <= 128 << 10, "{read} bytes were read");
}

#[test]
fn knowing_where_events_are_takes_less_than_a_byte_each_at_1_kib() {
    let mut spec = forgetful();
    spec.limits.segment_data_bytes = 256 << 20;
    spec.limits.segment_meta_bytes = 64 << 20;
    let io = SimIo::immediate(&Image::new());
    let partition = open(&io, spec).unwrap();
    let (batches, each) = (40_u64, 500_u64);
    for n in 0..batches {
        let events: Vec<Content> = (0..each)
            .map(|m| {
                (
                    format!("{{\"n\":{m},\"pad\":\"{}\"}}", "x".repeat(100)).into_bytes(),
                    vec![7; 1024],
                )
            })
            .collect();
        partition.append(
            batch(&events, Some((1, 0, n))),
            None,
            Box::new(|answer| assert!(answer.is_ok())),
        );
        partition.kick();
        settle(&io);
    }
    assert_eq!(partition.visible_end(), EventId::new(batches * each));
    let per_event = partition.index_bytes() as f64 / (batches * each) as f64;
    assert!(per_event > 0.0 && per_event <= 1.0, "{per_event} bytes an event");
}

#[test]
fn an_event_that_does_not_exist_is_named() {
    let io = SimIo::stepping(&Image::new(), 6);
    let partition = open(&io, forgetful()).unwrap();
    send(&partition, plain(0, 10), (1, 0, 0));
    settle(&io);
    let beyond = DataDescriptor::of_event(id(9), 10);
    let error = io.block_on(async move { partition.fetch(&beyond, 100, &mut None).await.unwrap_err() });
    assert_eq!(error.code, ErrorCode::UnknownEvent);
}
