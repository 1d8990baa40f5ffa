//! Who reads a partition now, under which name. A name has one member that reads; a newer one ends the subscriptions of an
//! older one.

use std::collections::BTreeMap;
use std::rc::Rc;

use uuid::Uuid;

use super::Partition;
use crate::io::Io;

/// A subscription, as the partition knows it.
pub(crate) trait Subscriber {
    /// Another member of its consumer's name reads here from now on.
    fn supersede(&self);
    /// Feeds that may be sent.
    fn credits(&self) -> u32;
}

/// A consumer that reads here.
pub(super) struct Reading {
    consumer: String,
    member: Uuid,
    subscriber: Rc<dyn Subscriber>,
}

impl<I: Io> Partition<I> {
    /// Notes that a member of a consumer's name reads here from now on. Subscriptions of its other members end.
    pub(crate) fn connect(&self, consumer: &str, member: Uuid, subscriber: Rc<dyn Subscriber>) {
        let mut readers = self.readers.borrow_mut();
        let older = readers
            .iter()
            .filter(|reading| reading.consumer == consumer && reading.member != member)
            .map(|reading| Rc::clone(&reading.subscriber))
            .collect::<Vec<_>>();
        readers.push(Reading {
            consumer: consumer.to_owned(),
            member,
            subscriber,
        });
        drop(readers);
        for subscriber in older {
            subscriber.supersede();
        }
    }

    /// Notes that it does not any more.
    pub(crate) fn disconnect(&self, subscriber: &Rc<dyn Subscriber>) {
        self.readers
            .borrow_mut()
            .retain(|reading| !std::ptr::addr_eq(Rc::as_ptr(&reading.subscriber), Rc::as_ptr(subscriber)));
    }

    /// How many subscriptions there are, how many feeds these may be sent, and how many of them may be sent none.
    pub(super) fn count_credits(&self) -> (u64, u64, u64) {
        let readers = self.readers.borrow();
        readers
            .iter()
            .fold((0, 0, 0), |(count, credits, starved), reading| {
                let more = reading.subscriber.credits();
                (
                    count + 1,
                    credits + u64::from(more),
                    starved + u64::from(more == 0),
                )
            })
    }

    /// How many subscriptions of this consumer's name are open.
    pub(crate) fn connected(&self, consumer: &str) -> usize {
        let readers = self.readers.borrow();
        readers
            .iter()
            .filter(|reading| reading.consumer == consumer)
            .count()
    }

    /// Consumers that read here now, and how many subscriptions each has.
    pub(crate) fn connected_counts(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for reading in self.readers.borrow().iter() {
            *counts.entry(reading.consumer.clone()).or_insert(0) += 1;
        }
        counts
    }
}
