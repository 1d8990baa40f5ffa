//! Partitions that a topic gets while it is consumed.
//!
//! A consumer of all partitions looks at its topic now and then, and whenever a partition has ended, until the topic is complete: no
//! partition is added to one that is. Before that it cannot know that there will be no more events.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mofka_net::ErrorCode;

use super::Core;
use super::subscription::Source;
use crate::error::DriverError;
use crate::options::Start;
use crate::promise::lock;
use crate::topic::TopicHandle;

/// Of a consumer that follows its topic.
pub(super) struct Following {
    topic: TopicHandle,
    interval: Duration,
    /// Held while somebody looks; whether that is over.
    is_over: Mutex<bool>,
}

impl Following {
    pub(super) fn new(topic: TopicHandle, interval: Duration) -> Self {
        Self {
            topic,
            interval,
            is_over: Mutex::new(false),
        }
    }
}

/// Looks again and again from now on.
pub(super) fn begin(core: &Arc<Core>) {
    let Some(following) = &core.following else { return };
    let weak = Arc::downgrade(core);
    core.driver.chores.after(following.interval, move || {
        let Some(core) = weak.upgrade() else { return };
        if look(&core) {
            begin(&core);
        }
    });
}

/// Looks once more, at once.
pub(super) fn look_soon(core: &Arc<Core>) {
    if core.following.is_none() {
        return;
    }
    let weak = Arc::downgrade(core);
    core.driver.chores.after(Duration::ZERO, move || {
        if let Some(core) = weak.upgrade() {
            look(&core);
        }
    });
}

/// Subscribes to what is new. `false` when there is nothing to look for any more.
fn look(core: &Arc<Core>) -> bool {
    let Some(following) = &core.following else {
        return false;
    };
    let mut is_over = lock(&following.is_over);
    if *is_over || core.is_closed() {
        return false;
    }
    match following.topic.refresh() {
        Ok(()) => {}
        Err(DriverError::Refused(error)) if error.code == ErrorCode::UnknownTopic => {
            *is_over = true;
            core.delivery.unfollow();
            return false;
        }
        Err(error) => {
            tracing::debug!(%error, topic = following.topic.name(), "cannot look for new partitions");
            return true;
        }
    }
    let info = following.topic.info();
    for partition in &info.partitions {
        let source = {
            let mut sources = lock(&core.sources);
            let is_known = sources.iter().any(|source| source.partition() == partition.id);
            // The consumer's thread takes them after it was closed.
            if is_known || core.is_closed() {
                continue;
            }
            // All of its events are new, whatever the consumer began with elsewhere.
            let start = match core.options.start {
                Start::Last | Start::Id(_) => Start::First,
                other => other,
            };
            let source = Source::new(core, &info.name, partition, start);
            sources.push(Arc::clone(&source));
            source
        };
        tracing::info!(
            topic = info.name,
            partition = partition.index,
            consumer = core.name,
            "a partition was added"
        );
        core.delivery.began();
        source.begin_later();
    }
    *is_over = info.complete;
    if info.complete {
        core.delivery.unfollow();
    }
    !info.complete
}
