//! Batches that a partition accepted, and what of them has to be there after a crash.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use mofka_engine::partition::{Appended, Partition};
use mofka_engine::sim::SimIo;
use mofka_log::Durability;

use crate::model::{Content, Sent, batch};

/// Hands a batch to the partition, to be answered when it is as durable as asked, and does not kick it.
pub(crate) fn hand_over(
    partition: &Rc<Partition<SimIo>>,
    events: Vec<Content>,
    producer: (u64, u32, u64),
    asked: Option<Durability>,
) -> Sent {
    let outcome = Rc::new(RefCell::new(None));
    let noted = Rc::clone(&outcome);
    partition.append(
        batch(&events, Some(producer)),
        asked,
        Box::new(move |answer| *noted.borrow_mut() = Some(answer.map_err(|error| error.to_string()))),
    );
    Sent {
        events,
        sequence: producer.2,
        outcome,
    }
}

/// A batch that a partition accepted, in the order of acceptance.
pub(crate) struct Accepted<'a> {
    pub(crate) events: &'a [Content],
    /// The answer that its producer has got, if any: it has to be at its place then.
    pub(crate) acknowledged: Option<Appended>,
    /// It was promised to survive.
    pub(crate) must_be_there: bool,
}

/// What is there after a crash is a prefix of what was accepted, whole batch by whole batch, byte for byte, with all
/// that was promised. Gives how many batches are there.
pub(crate) fn check_prefix<'a>(
    found: &BTreeMap<u64, Content>,
    accepted: impl Iterator<Item = Accepted<'a>>,
) -> Result<usize, String> {
    let (mut id, mut survived, mut ended) = (0_u64, 0, false);
    for (n, batch) in accepted.enumerate() {
        let there = (0..batch.events.len() as u64)
            .filter(|event| found.contains_key(&(id + event)))
            .count();
        if let Some(acknowledged) = batch.acknowledged
            && !ended
            && (acknowledged.base_event_id.get() != id || acknowledged.duplicate)
        {
            return Err(format!(
                "batch {n} was acknowledged as {acknowledged:?}, not at {id}"
            ));
        }
        if batch.must_be_there && there < batch.events.len() {
            return Err(format!(
                "batch {n} was acknowledged or seen and {there} of its events are there"
            ));
        }
        match there {
            0 => {
                ended = true;
                continue;
            }
            there if there < batch.events.len() => return Err(format!("batch {n} is half there")),
            _ if ended => return Err(format!("batch {n} is there and one before it is not")),
            _ => {}
        }
        for (event, content) in (id..).zip(batch.events) {
            if found.get(&event) != Some(content) {
                return Err(format!("event {event}, of batch {n}, is changed"));
            }
        }
        id += batch.events.len() as u64;
        survived += 1;
    }
    if found.len() as u64 != id {
        return Err(format!(
            "{} events are there, and {id} of them were sent",
            found.len()
        ));
    }
    Ok(survived)
}
