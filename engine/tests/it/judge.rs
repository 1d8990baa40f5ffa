//! Holds what a crash left against what was known before: everything acknowledged is there, byte for byte, nothing is
//! half-there, nothing that was shown is gone, and a producer that sends everything again gets its first answers.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use mofka_engine::partition::Partition;
use mofka_engine::sim::{Image, SimIo};
use mofka_log::{Durability, PartitionKind, Verdict};

use crate::model::{Content, Sent, open, read_all, send, spec};

pub(crate) const PRODUCER: u64 = 0xfeed;

/// What was known to the outside at the moment of a crash.
pub(crate) struct Known<'a> {
    pub(crate) settled: &'a [Vec<Content>],
    pub(crate) sent: &'a [Sent],
    pub(crate) visible_end: u64,
    pub(crate) cursor: (u64, u64),
}

/// What is known of a cursor: what was asked for, and what was acknowledged as durable.
pub(crate) struct CursorWatch {
    asked: u64,
    durable: Rc<Cell<u64>>,
}

impl CursorWatch {
    pub(crate) fn of(partition: &Partition<SimIo>) -> Self {
        let found = partition.cursor("reader").map_or(0, |next| next.get());
        Self {
            asked: found,
            durable: Rc::new(Cell::new(found)),
        }
    }

    pub(crate) fn move_to(&mut self, partition: &Rc<Partition<SimIo>>, next: u64) {
        self.asked = self.asked.max(next);
        let durable = Rc::clone(&self.durable);
        partition.acknowledge(
            "reader",
            crate::model::id(next),
            Box::new(move |stored| {
                // One that failed may be stored or not.
                if let Ok(stored) = stored {
                    durable.set(durable.get().max(stored.get()));
                }
            }),
        );
    }

    pub(crate) fn bounds(&self) -> (u64, u64) {
        (self.durable.get(), self.asked)
    }
}

/// Recovers the image and holds it against what was known. Returns whether anything that was sent is missing.
pub(crate) fn check(image: &Image, known: &Known<'_>) -> Result<bool, String> {
    let io = SimIo::immediate(image);
    let outcome = check_on(&io, known);
    io.shut_down();
    outcome
}

fn check_on(io: &SimIo, known: &Known<'_>) -> Result<bool, String> {
    let partition = open(io, spec(PartitionKind::Default, Durability::Synced))?;
    if let Some(reason) = partition.read_only() {
        return Err(format!("an ordinary crash was taken for damage: {reason}"));
    }
    if matches!(partition.verdict(), Verdict::Damaged { .. }) {
        return Err(format!(
            "an ordinary crash was taken for damage: {}",
            partition.verdict().prose()
        ));
    }
    let found = io.block_on(read_all(Rc::clone(&partition)))?;
    let kept = hold(&found, known.settled, known.sent)?;
    if partition.visible_end().get() < known.visible_end {
        return Err(format!(
            "events up to {} had been shown to readers",
            known.visible_end
        ));
    }
    let cursor = partition.cursor("reader").map_or(0, |next| next.get());
    let (durable, asked) = known.cursor;
    if cursor < durable || cursor > asked {
        return Err(format!(
            "the cursor is at {cursor}, and {:?} was known",
            known.cursor
        ));
    }
    resend(io, &partition, known)?;
    Ok(kept < known.sent.len())
}

/// Holds events against batches: all of `settled`, then a prefix of `sent` that has every acknowledged one, and nothing
/// else. Returns how many of `sent` are there.
pub(crate) fn hold(
    found: &BTreeMap<u64, Content>,
    settled: &[Vec<Content>],
    sent: &[Sent],
) -> Result<usize, String> {
    let mut id = 0_u64;
    for events in settled {
        for content in events {
            if found.get(&id) != Some(content) {
                return Err(format!("event {id} of an earlier life is lost or changed"));
            }
            id += 1;
        }
    }
    let mut kept = 0;
    let mut ended = false;
    for batch in sent {
        let there = (0..batch.events.len() as u64)
            .filter(|n| found.contains_key(&(id + n)))
            .count();
        if let Some(acknowledged) = batch.acknowledged() {
            if acknowledged.base_event_id.get() != id || acknowledged.duplicate {
                return Err(format!(
                    "batch {} was acknowledged as {acknowledged:?}, not at {id}",
                    batch.sequence
                ));
            }
            if there < batch.events.len() {
                return Err(format!(
                    "batch {} was acknowledged and {there} of its events are there",
                    batch.sequence
                ));
            }
        }
        match there {
            0 => {
                ended = true;
                continue;
            }
            there if there < batch.events.len() => {
                return Err(format!("batch {} is half there", batch.sequence));
            }
            _ if ended => {
                return Err(format!(
                    "batch {} is there and one before it is not",
                    batch.sequence
                ));
            }
            _ => {}
        }
        for (n, content) in batch.events.iter().enumerate() {
            if found.get(&(id + n as u64)) != Some(content) {
                return Err(format!("event {n} of batch {} is changed", batch.sequence));
            }
        }
        id += batch.events.len() as u64;
        kept += 1;
    }
    if found.len() as u64 != id {
        return Err(format!(
            "{} events are there, and only {id} were ever sent",
            found.len()
        ));
    }
    Ok(kept)
}

/// A producer that never got its answers sends everything again: what is there gets its first ids, what is not is new.
fn resend(io: &SimIo, partition: &Rc<Partition<SimIo>>, known: &Known<'_>) -> Result<(), String> {
    let survived = partition.visible_end().get();
    let mut id: u64 = known.settled.iter().map(|events| events.len() as u64).sum();
    for batch in known.sent.iter().take(12) {
        let again = send(partition, batch.events.clone(), (PRODUCER, 0, batch.sequence));
        while io.step() && again.outcome.borrow().is_none() {}
        io.run_tasks();
        let appended = again.acknowledged().ok_or_else(|| {
            format!(
                "sending batch {} again gave {:?}",
                batch.sequence,
                again.outcome.borrow()
            )
        })?;
        if appended.base_event_id.get() != id || appended.duplicate != (id < survived) {
            return Err(format!(
                "sending batch {} again gave {appended:?}; it belongs at {id}, and {survived} events had survived",
                batch.sequence
            ));
        }
        id += batch.events.len() as u64;
    }
    Ok(())
}
