//! Consumers that share the partitions of a topic under one name: the shard that owns the catalog says who reads what.
//!
//! A member asks again and again, and its question waits until there is news for it. Nothing of this is stored: after a
//! restart the members come back, with what they read.

mod group;

use std::cell::RefCell;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::Duration;

use event_listener::Event;
use futures_lite::future;
use mofka_log::{Catalog, PartitionRecord};
use mofka_net::control::{
    GroupLeaveRequest, GroupPartition, GroupPlace, GroupSyncRequest, GroupSyncResponse,
};
use mofka_net::{ErrorCode, WireError};
use uuid::Uuid;

pub(crate) use self::group::SessionId;
use self::group::{Group, View};
use crate::control::{partition_info, unknown_topic};
use crate::io::Io;
use crate::shard::{Peers, Shard};

/// Members of a connection that end with it are noticed at once; one whose connection lives and that asks nothing leaves after
/// so many heartbeats.
const SILENT_HEARTBEATS_MAX: u64 = 4;

/// Members of one group.
const GROUP_MEMBERS_MAX: usize = 4096;
/// Members on a node from which on no group is begun.
const MEMBERS_MAX: usize = 1 << 16;

type Key = (Uuid, String);

/// All groups of the node.
#[derive(Default)]
pub(crate) struct Groups {
    groups: RefCell<HashMap<Key, Group>>,
    changed: Event,
    /// The last question of each member over each connection, as long as it waits for news.
    questions: RefCell<HashMap<(SessionId, Uuid), Rc<Event>>>,
}

impl Groups {
    /// The members of a connection that ended leave.
    pub(crate) fn gone(&self, session: SessionId) {
        let mut is_changed = false;
        self.groups.borrow_mut().retain(|_, group| {
            is_changed |= group.gone(session);
            !group.is_empty()
        });
        if is_changed {
            self.wake();
        }
    }

    /// Something about a topic changed in the catalog.
    pub(crate) fn wake(&self) {
        self.changed.notify(usize::MAX);
    }

    /// A member asks over a connection. What it asked there before is answered now: one question is kept, not as many as
    /// somebody sends.
    fn ask(&self, by: (SessionId, Uuid)) -> Question<'_> {
        let asked_again = Rc::<Event>::default();
        let before = self.questions.borrow_mut().insert(by, Rc::clone(&asked_again));
        if let Some(before) = before {
            before.notify(usize::MAX);
        }
        Question {
            groups: self,
            by,
            asked_again,
        }
    }
}

/// A question that waits for news.
struct Question<'a> {
    groups: &'a Groups,
    by: (SessionId, Uuid),
    /// Told when it is not the last one any more.
    asked_again: Rc<Event>,
}

impl Question<'_> {
    fn is_last(&self) -> bool {
        let questions = self.groups.questions.borrow();
        let last = questions.get(&self.by);
        last.is_some_and(|last| Rc::ptr_eq(last, &self.asked_again))
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        if self.is_last() {
            self.groups.questions.borrow_mut().remove(&self.by);
        }
    }
}

/// What a member is to read, once that differs from what it knows or its time is over.
///
/// # Errors
/// When it makes no sense, somebody else insists on the same partition, or the topic does not exist (any more).
pub(crate) async fn sync<I: Io, P: Peers>(
    shard: &Rc<Shard<I, P>>,
    session: SessionId,
    request: &GroupSyncRequest,
) -> Result<GroupSyncResponse, WireError> {
    crate::requests::check_consumer(&request.consumer)?;
    let heartbeat_ms = shard.limits().heartbeat_ms;
    let wait = Duration::from_millis(u64::from(request.wait_ms).min(heartbeat_ms));
    let mut over = std::pin::pin!(shard.io().sleep(wait));
    let mut is_over = wait.is_zero();
    let mut is_known = false;
    let question = shard.groups().ask((session, request.member));
    loop {
        let news = shard.groups().changed.listen();
        let asked_again = question.asked_again.listen();
        is_over |= !question.is_last();
        let catalog = shard.catalog();
        let (view, settles_us) = look(shard, &catalog, session, request, &mut is_known)?;
        if let Some(settles_us) = settles_us {
            let left_us = settles_us.saturating_sub(shard.io().now_us());
            let left = Duration::from_micros(left_us).min(wait);
            over.set(shard.io().sleep(left));
        }
        if view.generation != request.generation || is_over {
            return Ok(answer(shard, &catalog, request, view));
        }
        is_over = future::or(
            async {
                future::or(news, asked_again).await;
                false
            },
            async {
                over.as_mut().await;
                true
            },
        )
        .await;
    }
}

/// What it is to read, and when that may change although nothing happens.
fn look<I: Io, P: Peers>(
    shard: &Shard<I, P>,
    catalog: &Catalog,
    session: SessionId,
    request: &GroupSyncRequest,
    is_known: &mut bool,
) -> Result<(View, Option<u64>), WireError> {
    let topic = catalog
        .topic(&request.topic)
        .ok_or_else(|| unknown_topic(&request.topic))?;
    let partitions: Vec<bool> = catalog
        .partitions_of(topic.id)
        .map(|record| record.complete)
        .collect();
    check_targets(&topic.name, partitions.len(), &request.targets)?;
    let key = (topic.id, request.consumer.clone());
    let mut groups = shard.groups().groups.borrow_mut();
    let member_count: usize = match groups.contains_key(&key) {
        true => 0,
        false => groups.values().map(Group::member_count).sum(),
    };
    if member_count >= MEMBERS_MAX {
        let message = format!("{member_count} consumers are at work on this node, which is the limit");
        return Err(WireError::new(ErrorCode::Overloaded, message));
    }
    let group = groups.entry(key.clone()).or_default();
    let (before, generation) = (group.view(request.member), group.generation());
    if before.is_none() && group.member_count() >= GROUP_MEMBERS_MAX {
        let message = format!(
            "{GROUP_MEMBERS_MAX} consumers read topic \"{}\" as \"{}\", which is the limit",
            topic.name, request.consumer
        );
        return Err(WireError::new(ErrorCode::Overloaded, message));
    }
    group.set_topic(&partitions, topic.complete);
    let mut outcome = Ok(());
    if !*is_known {
        *is_known = true;
        let now_us = shard.io().now_us();
        let silent_us = shard.limits().heartbeat_ms * 1000 * SILENT_HEARTBEATS_MAX;
        outcome = group.sync(session, now_us, request);
        if outcome.is_ok() {
            group.expire(now_us.saturating_sub(silent_us));
        }
    }
    if group.generation() != generation {
        // What it let go of, others may have been waiting for.
        shard.groups().wake();
    }
    let (view, settles_us) = (group.view(request.member), group.settles_us());
    if group.is_empty() {
        groups.remove(&key);
    }
    if before.is_none() && view.is_some() {
        tracing::info!(topic = %topic.name, consumer = %request.consumer, member = %request.member, "a consumer joined");
    }
    outcome.map_err(|taken| {
        let message = format!(
            "partition {} of topic \"{}\" is among the targets of another consumer named \"{}\": use another name or other \
             targets, or close that one",
            taken.partition, topic.name, request.consumer
        );
        WireError::new(ErrorCode::PartitionTaken, message)
    })?;
    let view = view.ok_or_else(|| {
        let message = format!("member {} left meanwhile", request.member);
        WireError::new(ErrorCode::Superseded, message)
    })?;
    Ok((view, settles_us))
}

/// Whoever insists on partitions insists on some that are there, each named once: what is kept of a member is bounded by the topic.
fn check_targets(topic: &str, partition_count: usize, targets: &[u32]) -> Result<(), WireError> {
    let is_there = |target: &u32| usize::try_from(*target).is_ok_and(|target| target < partition_count);
    let message = match targets.iter().find(|target| !is_there(target)) {
        Some(target) => {
            format!("target {target}: topic \"{topic}\" has {partition_count} partitions, numbered from 0 on")
        }
        None if targets.len() > partition_count => format!(
            "{} targets are more than topic \"{topic}\" has partitions, which are {partition_count}",
            targets.len()
        ),
        None => return Ok(()),
    };
    Err(WireError::new(ErrorCode::InvalidArgument, message))
}

fn answer<I: Io, P: Peers>(
    shard: &Shard<I, P>,
    catalog: &Catalog,
    request: &GroupSyncRequest,
    view: View,
) -> GroupSyncResponse {
    let records = catalog
        .topic(&request.topic)
        .map(|topic| catalog.partitions_of(topic.id));
    let records: BTreeMap<u32, &PartitionRecord> = records
        .into_iter()
        .flatten()
        .map(|record| (record.index, record))
        .collect();
    let assigned = |place: &GroupPlace| {
        Some(GroupPartition {
            info: partition_info(shard, records.get(&place.partition)?),
            next_event_id: place.next_event_id,
        })
    };
    GroupSyncResponse {
        generation: view.generation,
        partitions: view.partitions.iter().filter_map(assigned).collect(),
        partition_count: u32::try_from(records.len()).unwrap_or(u32::MAX),
        complete: view.complete,
    }
}

/// A member leaves. It may have left before.
pub(crate) fn leave<I: Io, P: Peers>(shard: &Shard<I, P>, request: &GroupLeaveRequest) {
    let catalog = shard.catalog();
    let Some(topic) = catalog.topic(&request.topic) else {
        return;
    };
    let id = topic.id;
    let mut groups = shard.groups().groups.borrow_mut();
    let Entry::Occupied(mut group) = groups.entry((id, request.consumer.clone())) else {
        return;
    };
    if group.get_mut().leave(request.member) {
        tracing::info!(topic = %request.topic, consumer = %request.consumer, member = %request.member, "a consumer left");
        shard.groups().wake();
    }
    if group.get().is_empty() {
        group.remove();
    }
}

/// A topic does not exist any more.
pub(crate) fn forget<I: Io, P: Peers>(shard: &Shard<I, P>, topic: Uuid) {
    shard
        .groups()
        .groups
        .borrow_mut()
        .retain(|(id, _), _| *id != topic);
    shard.groups().wake();
}
