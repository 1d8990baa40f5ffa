//! What must hold, kept apart from what is played, so that the demonstration can fail.
//!
//! The truth is the file: line `n` goes to partition `n % partitions`, so it must get event id `n / partitions` there.
//! No id, count or content is believed because the node said it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::bgl::Line;
use crate::failure::{Failure, Outcome};

/// Every tenth event of a partition is acknowledged.
const ACKNOWLEDGE_EVERY: u64 = 10;

/// Where a line's event must be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) partition: u32,
    pub(super) event_id: u64,
}

/// The slot of line `n`.
pub(super) fn slot_of(n: usize, partitions: u32) -> Slot {
    let n = n as u64;
    let partition = u32::try_from(n % u64::from(partitions)).unwrap_or(0);
    Slot {
        partition,
        event_id: n / u64::from(partitions),
    }
}

/// An event as a consumer got it.
pub(super) struct Seen<'a> {
    pub(super) slot: Slot,
    pub(super) metadata: &'a Value,
    pub(super) data: &'a [u8],
}

/// Which data a reader asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Alerts,
    All,
}

/// Judges one consumer, over all of its lives.
pub(super) struct Judge<'a> {
    lines: &'a [Line],
    wanted: Wanted,
    /// For each partition, the id that must come next.
    next: Vec<u64>,
    /// For each partition, the end of what was acknowledged.
    acknowledged: Vec<u64>,
    seen: BTreeSet<usize>,
    alerts: BTreeSet<usize>,
    repeated: u64,
    /// How many must come again, by what was read and not acknowledged at each restart.
    repeated_due: u64,
}

impl<'a> Judge<'a> {
    pub(super) fn new(lines: &'a [Line], partitions: u32, wanted: Wanted) -> Self {
        let zeros = vec![0; usize::try_from(partitions).unwrap_or(0)];
        let (next, acknowledged) = (zeros.clone(), zeros);
        Self {
            lines,
            wanted,
            next,
            acknowledged,
            seen: BTreeSet::new(),
            alerts: BTreeSet::new(),
            repeated: 0,
            repeated_due: 0,
        }
    }

    /// Checks an event: the right one, in order, with the right content. Says whether it is to be acknowledged.
    pub(super) fn see(&mut self, event: &Seen<'_>) -> Outcome<bool> {
        let Slot { partition, event_id } = event.slot;
        let wrong = |what: String| Failure::check(format!("partition {partition}, event {event_id}: {what}"));
        let place = usize::try_from(partition).unwrap_or(usize::MAX);
        let partitions = self.next.len();
        let next = self
            .next
            .get_mut(place)
            .ok_or_else(|| wrong("no such partition".to_owned()))?;
        if event_id != *next {
            return Err(wrong(format!(
                "came where event {next} was due: events were lost, repeated or reordered"
            )));
        }
        *next += 1;
        let n = usize::try_from(event_id)
            .unwrap_or(usize::MAX)
            .saturating_mul(partitions)
            .saturating_add(place);
        let line = self
            .lines
            .get(n)
            .ok_or_else(|| wrong("is an event that nobody produced".to_owned()))?;
        if *event.metadata != line.metadata() {
            return Err(wrong(format!(
                "its metadata is {} instead of {}",
                event.metadata,
                line.metadata()
            )));
        }
        let fetched = self.wanted == Wanted::All || line.is_alert();
        let data = if fetched { line.text.as_bytes() } else { &[] };
        if event.data != data {
            let got = String::from_utf8_lossy(event.data);
            return Err(wrong(format!(
                "its data is {got:?} instead of {:?}",
                String::from_utf8_lossy(data)
            )));
        }
        if !self.seen.insert(n) {
            self.repeated += 1;
        }
        if line.is_alert() {
            self.alerts.insert(n);
        }
        Ok(event_id % ACKNOWLEDGE_EVERY == ACKNOWLEDGE_EVERY - 1)
    }

    /// The node answered an acknowledgement of this event.
    pub(super) fn acknowledged(&mut self, slot: Slot) {
        let place = usize::try_from(slot.partition).unwrap_or(usize::MAX);
        if let Some(end) = self.acknowledged.get_mut(place) {
            *end = slot.event_id + 1;
        }
    }

    /// The consumer starts anew: each partition must go on exactly after its last acknowledged event.
    pub(super) fn resume(&mut self) {
        let ends = self.next.iter().zip(&self.acknowledged);
        self.repeated_due += ends
            .map(|(next, acknowledged)| next.saturating_sub(*acknowledged))
            .sum::<u64>();
        self.next.clone_from(&self.acknowledged);
    }

    /// The consumer got everything: the counts, told by the file.
    pub(super) fn conclude(&self) -> Outcome {
        let alerts = self.lines.iter().filter(|line| line.is_alert()).count();
        let pairs = [
            ("events", self.seen.len(), self.lines.len()),
            ("alerts", self.alerts.len(), alerts),
        ];
        if self.repeated != self.repeated_due {
            return Err(Failure::check(format!(
                "{} events came again after the kill, and {} were read without being acknowledged",
                self.repeated, self.repeated_due
            )));
        }
        match pairs.iter().find(|(_, seen, expected)| seen != expected) {
            Some((what, seen, expected)) => Err(Failure::check(format!(
                "{seen} {what} were seen instead of {expected}"
            ))),
            None => Ok(()),
        }
    }

    pub(super) fn seen_count(&self) -> usize {
        self.seen.len()
    }

    pub(super) fn alert_count(&self) -> usize {
        self.alerts.len()
    }

    /// Events that came again after the restart because they had not been acknowledged.
    pub(super) fn repeated_count(&self) -> u64 {
        self.repeated
    }

    pub(super) fn acknowledged_ends(&self) -> &[u64] {
        &self.acknowledged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTITIONS: u32 = 4;

    fn lines() -> Vec<Line> {
        super::super::bgl::load(None).unwrap()
    }

    /// Shows line `n` to the judge, as `change` makes of it.
    fn show(
        judge: &mut Judge<'_>,
        n: usize,
        change: impl FnOnce(&mut Slot, &mut Value, &mut Vec<u8>),
    ) -> Outcome<bool> {
        let line = judge.lines[n].clone();
        let (mut slot, mut metadata) = (slot_of(n, PARTITIONS), line.metadata());
        let mut data = if line.is_alert() {
            line.text.into_bytes()
        } else {
            Vec::new()
        };
        change(&mut slot, &mut metadata, &mut data);
        judge.see(&Seen {
            slot,
            metadata: &metadata,
            data: &data,
        })
    }

    #[test]
    fn a_faultless_run_passes() {
        let lines = lines();
        let mut judge = Judge::new(&lines, PARTITIONS, Wanted::Alerts);
        let asked = (0..lines.len())
            .filter(|n| show(&mut judge, *n, |_, _, _| {}).unwrap())
            .count();
        judge.conclude().unwrap();
        assert_eq!(
            (
                judge.seen_count(),
                judge.alert_count(),
                judge.repeated_count(),
                asked
            ),
            (2000, 143, 0, 200)
        );
    }

    #[test]
    fn every_kind_of_fault_is_caught() {
        let lines = lines();
        let alert = lines.iter().position(Line::is_alert).unwrap();
        let mut judge = Judge::new(&lines, PARTITIONS, Wanted::Alerts);
        for n in 0..alert {
            show(&mut judge, n, |_, _, _| {}).unwrap();
        }
        let faults: [fn(&mut Slot, &mut Value, &mut Vec<u8>); 6] = [
            |slot, _, _| slot.event_id += 1,
            |slot, _, _| slot.event_id -= 1,
            |slot, _, _| slot.partition = 9,
            |_, metadata, _| metadata["level"] = "OTHER".into(),
            |_, _, data| data.clear(),
            |_, _, data| data[0] ^= 1,
        ];
        for (number, fault) in faults.into_iter().enumerate() {
            let mut judge = Judge {
                next: judge.next.clone(),
                seen: judge.seen.clone(),
                ..Judge::new(&lines, PARTITIONS, Wanted::Alerts)
            };
            assert!(show(&mut judge, alert, fault).is_err(), "fault {number}");
        }
        assert!(judge.conclude().is_err(), "not everything was seen");
    }

    #[test]
    fn after_a_restart_only_what_was_not_acknowledged_may_come_again() {
        let lines = lines();
        let mut judge = Judge::new(&lines, PARTITIONS, Wanted::Alerts);
        for n in 0..100 {
            if show(&mut judge, n, |_, _, _| {}).unwrap() {
                judge.acknowledged(slot_of(n, PARTITIONS));
            }
        }
        judge.resume();
        assert_eq!(judge.acknowledged_ends(), [20; 4]);
        assert!(
            show(&mut judge, 79, |_, _, _| {}).is_err(),
            "event 19 of partition 3 was acknowledged"
        );
        show(&mut judge, 80, |_, _, _| {}).unwrap();
        assert_eq!(judge.repeated_count(), 1);
    }
}
