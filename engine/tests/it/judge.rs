//! Holds what a crash left against what was known before: everything acknowledged is there, byte for byte, nothing is
//! half-there, nothing that was shown is gone, and a producer that sends everything again gets its first answers.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use mofka_engine::partition::Partition;
use mofka_engine::sim::{Image, SimIo};
use mofka_log::{Durability, PartitionKind, Verdict};

use crate::model::{Accepted, Content, Sent, check_prefix, open, read_all, send, spec};

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
    let old = settled.iter().map(|events| Accepted {
        events,
        acknowledged: None,
        must_be_there: true,
    });
    let new = sent.iter().map(|batch| Accepted {
        events: &batch.events,
        acknowledged: batch.acknowledged(),
        must_be_there: batch.acknowledged().is_some(),
    });
    Ok(check_prefix(found, old.chain(new))? - settled.len())
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
