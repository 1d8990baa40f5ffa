//! Batches that say which places of a source they cover, through crashes and clean stops: a partition awaits the place behind the
//! last batch that it kept, answers that batch and the ones before it again, and takes nothing that overlaps them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use mofka_engine::partition::{Appended, Partition};
use mofka_engine::sim::{Image, Random, SimIo};
use mofka_log::{Batch, BatchBuilder, BatchPlace, Durability, PartitionKind, ProducerId, SEQUENCE_WINDOW};
use mofka_net::{ErrorCode, WireError};

use crate::model::{Content, open, random_events, read_all, spec};
use crate::sweep::Sweep;
use crate::world::any_sectors;

/// Two copies go into the partition at once.
const SOURCES: [ProducerId; 2] = [ProducerId::new(7), ProducerId::new(8)];

fn batch(events: &[Content], place: BatchPlace) -> Batch {
    let mut builder = BatchBuilder::new();
    for (metadata, data) in events {
        let data = (!data.is_empty()).then_some(data.as_slice());
        builder.push(metadata, data).unwrap();
    }
    let (frame, data) = builder.finish_at(Some(place));
    Batch::check_client(frame, data.concat().into()).unwrap()
}

type Answer = Rc<RefCell<Option<Result<Appended, WireError>>>>;

fn append(partition: &Rc<Partition<SimIo>>, batch: Batch) -> Answer {
    let answer = Answer::default();
    let noted = Rc::clone(&answer);
    partition.append(
        batch,
        None,
        Box::new(move |outcome| *noted.borrow_mut() = Some(outcome)),
    );
    partition.kick();
    answer
}

/// The answer to a batch, which is waited for.
fn ask(
    io: &SimIo,
    partition: &Rc<Partition<SimIo>>,
    events: &[Content],
    place: BatchPlace,
) -> Result<Appended, WireError> {
    let answer = append(partition, batch(events, place));
    settle(io);
    let answered = answer.borrow_mut().take();
    answered.expect("everything is answered when nothing is under way")
}

fn settle(io: &SimIo) {
    io.run_tasks();
    while io.is_busy() {
        io.step();
    }
}

struct Sent {
    place: BatchPlace,
    events: Vec<Content>,
    answer: Answer,
}

/// Sends batches, some of which are still under way at the end.
fn work(io: &SimIo, partition: &Rc<Partition<SimIo>>, random: &mut Random, due: &mut [u64; 2]) -> Vec<Sent> {
    let mut sent = Vec::new();
    for tag in 0..4 + random.below(30) {
        let which = random.below(2) as usize;
        let events = random_events(random, tag);
        // Places that have no event here are covered, too; at times more than what the table holds of a span.
        let left_out = match random.below(20) {
            0 => u64::from(u32::MAX) + random.below(3),
            1..=9 => random.below(1000),
            _ => 0,
        };
        let place = BatchPlace {
            producer: SOURCES[which],
            epoch: 0,
            sequence: due[which],
            span: events.len() as u64 + left_out,
        };
        due[which] = place.end();
        let answer = append(partition, batch(&events, place));
        sent.push(Sent {
            place,
            events,
            answer,
        });
        match random.below(4) {
            0 => settle(io),
            1 => {
                io.step();
            }
            _ => {}
        }
    }
    sent
}

/// What a source's batches look like that are there: their places, first ids and events.
type Known = Vec<(BatchPlace, u64, Vec<Content>)>;

/// Holds the partition against what it kept of a source. Gives where the next batch begins.
fn check(
    io: &SimIo,
    partition: &Rc<Partition<SimIo>>,
    producer: ProducerId,
    known: &Known,
) -> Result<u64, String> {
    let Some((last, ..)) = known.last() else {
        return Ok(0);
    };
    let due = last.end();
    let refused = |place: BatchPlace, events: &[Content]| match ask(io, partition, events, place) {
        Err(error) if error.code == ErrorCode::SequenceGap && error.expected() == Some(due) => Ok(()),
        other => Err(format!("{place:?}, where {due} is awaited: {other:?}")),
    };
    let place = |sequence, span| BatchPlace {
        producer,
        epoch: 0,
        sequence,
        span,
    };
    let some = [(b"{}".to_vec(), Vec::new())];
    refused(place(due + 1, 5), &some)?;
    let mut is_remembered = true;
    for (n, (before, base, events)) in known.iter().rev().enumerate() {
        is_remembered &= n < SEQUENCE_WINDOW && before.span < u64::from(u32::MAX);
        match ask(io, partition, events, *before) {
            Ok(again) if is_remembered && again.duplicate && again.base_event_id.get() == *base => {}
            Err(error)
                if !is_remembered
                    && error.code == ErrorCode::SequenceGap
                    && error.expected() == Some(due) => {}
            other => return Err(format!("{before:?} again, which was stored as {base}: {other:?}")),
        }
        // Other bounds: what is there must not be taken a second time, and what is not there must not be left out.
        refused(place(before.sequence, before.span + 1), &some)?;
        if before.span > 1 {
            refused(place(before.sequence, before.span - 1), &some)?;
            refused(place(before.sequence + 1, due - before.sequence), &some)?;
        }
    }
    Ok(due)
}

fn lives(seed: u64) -> Result<u64, String> {
    let mut random = Random::new(seed);
    let mut image = Image::new();
    let mut known: BTreeMap<ProducerId, Known> = SOURCES.map(|source| (source, Known::new())).into();
    // Not 0: nobody says where a source begins.
    let mut due = [random.below(2) * 5_000_000_000, random.below(100)];
    let mut count = 0_u64;
    let mut checked = 0;
    for _ in 0..1 + random.below(4) {
        let io = SimIo::stepping(&image, random.number());
        let partition = open(&io, spec(PartitionKind::Default, Durability::Synced))?;
        let sent = work(&io, &partition, &mut random, &mut due);
        let acknowledged = |sent: &Sent| matches!(&*sent.answer.borrow(), Some(Ok(_)));
        image = if random.below(4) == 0 {
            settle(&io);
            let stopping = Rc::clone(&partition);
            io.block_on(async move { stopping.stop().await });
            io.settled()
        } else {
            {
                let sectors = any_sectors(&mut random);
                io.crash(&mut random, 60, sectors)
            }
        };
        // Or its tasks would keep it, and it them.
        io.shut_down();
        let io = SimIo::stepping(&image, seed);
        let partition = open(&io, spec(PartitionKind::Default, Durability::Synced))?;
        let found = io.block_on(read_all(Rc::clone(&partition)))?;
        let end = found.len() as u64;
        for Sent {
            place,
            events,
            answer,
        } in &sent
        {
            if count >= end {
                if matches!(&*answer.borrow(), Some(Ok(_))) {
                    return Err(format!("{place:?} was acknowledged and is gone"));
                }
                continue;
            }
            for (event, content) in (count..).zip(events) {
                if found.get(&event) != Some(content) {
                    return Err(format!("event {event} is not that of {place:?}"));
                }
            }
            let kept = known.get_mut(&place.producer).expect("it is one of the two");
            kept.push((*place, count, events.clone()));
            count += events.len() as u64;
        }
        if count != end {
            return Err(format!("{end} events are there, {count} were sent"));
        }
        checked += sent.iter().filter(|sent| acknowledged(sent)).count() as u64;
        for (which, source) in SOURCES.into_iter().enumerate() {
            let kept = &known[&source];
            match check(&io, &partition, source, kept)? {
                0 if kept.is_empty() => {}
                next => due[which] = next,
            }
        }
        if partition.visible_end().get() != end {
            return Err("something was stored that was refused".to_owned());
        }
        settle(&io);
        image = io.settled();
        io.shut_down();
    }
    Ok(checked)
}

#[test]
fn a_partition_awaits_the_place_behind_what_it_kept_of_a_source() {
    let sweep = Sweep::of(
        "a_partition_awaits_the_place_behind_what_it_kept_of_a_source",
        400,
    );
    let acknowledged = sweep.run(lives).into_iter().sum();
    sweep.report(acknowledged, 4000, "acknowledged batches");
}
