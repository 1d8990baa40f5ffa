//! Which partitions a consumer reads. The node says so, to all consumers of the name together: each partition is read by one
//! of them. A question waits there until there is news, so changes come at once and cost nothing until then.
//!
//! What was asked is asked again from the reader thread of the connection; news is acted on by a chore, because letting go of
//! a partition waits for the node.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use mofka_log::EventId;
use mofka_net::control::{
    GroupLeaveRequest, GroupPartition, GroupPlace, GroupSyncRequest, GroupSyncResponse, decode_any, encode,
};
use mofka_net::{ErrorCode, Opcode};
use uuid::Uuid;

use super::assignment::AssignmentChange;
use super::subscription::Source;
use super::{CLOSE_TIMEOUT, Core};
use crate::driver::{DriverCore, Repeat};
use crate::error::{DriverError, PullError};
use crate::link::{Answer, Connection};
use crate::options::Start;
use crate::promise::{Deadline, Promise, lock};
use crate::retry::Retry;

/// How long a question may wait at the node. Nodes answer earlier when their heartbeat is shorter.
const WAIT_MS: u32 = 60_000;

/// Of one consumer.
pub(super) struct Membership {
    topic: String,
    consumer: String,
    member: Uuid,
    targets: Vec<u32>,
    start: Start,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    generation: u64,
    /// Partitions that there were when it joined: later ones are read from their beginning.
    initial_count: u32,
    /// What it let go of since it last asked.
    released: Vec<GroupPlace>,
    /// Where it was when it was closed.
    last_places: Option<Vec<GroupPlace>>,
    retry: Option<Retry>,
    is_over: bool,
}

impl Membership {
    pub(super) fn new(topic: String, consumer: &str, targets: Vec<u32>, start: Start) -> Self {
        Self {
            topic,
            consumer: consumer.to_owned(),
            member: Uuid::new_v4(),
            targets,
            start,
            state: Mutex::default(),
        }
    }

    pub(super) fn member(&self) -> Uuid {
        self.member
    }

    /// Joins, and says what is to be read.
    pub(super) fn join(&self, driver: &DriverCore) -> Result<GroupSyncResponse, DriverError> {
        let request = self.request(0, Vec::new(), Vec::new(), 0);
        // Joining twice is the same as once.
        let answer: GroupSyncResponse = driver.ask(Opcode::GroupSync, "group_sync", &request, Repeat::Yes)?;
        let mut state = lock(&self.state);
        state.generation = answer.generation;
        state.initial_count = answer.partition_count;
        Ok(answer)
    }

    /// Where to begin a partition that is to be read.
    pub(super) fn start(&self, partition: &GroupPartition) -> Start {
        match (self.start, partition.next_event_id) {
            (Start::Cursor, _) => Start::Cursor,
            // Who had it before said how far that went: nothing is left out, and nothing comes twice.
            (_, Some(next)) => Start::Id(next),
            // All of its events are new.
            (Start::Last | Start::Id(_), None) if partition.info.index >= lock(&self.state).initial_count => {
                Start::First
            }
            (start, None) => start,
        }
    }

    fn request(
        &self,
        generation: u64,
        holding: Vec<GroupPlace>,
        released: Vec<GroupPlace>,
        wait_ms: u32,
    ) -> GroupSyncRequest {
        GroupSyncRequest {
            topic: self.topic.clone(),
            consumer: self.consumer.clone(),
            member: self.member,
            targets: self.targets.clone(),
            generation,
            holding,
            released,
            wait_ms,
        }
    }

    /// Whether this is the last that was heard, and no other member reads anything of it.
    fn is_current(&self, news: &GroupSyncResponse) -> bool {
        lock(&self.state).generation == news.generation
    }

    /// Where the application has got is noted, to be told when it leaves: whoever reads on from there goes by that, unless it goes by the
    /// cursors.
    pub(super) fn note_places(&self, places: impl FnOnce() -> Vec<GroupPlace>) {
        if self.start != Start::Cursor {
            let places = places();
            lock(&self.state).last_places = Some(places);
        }
    }

    /// Leaves: others may read what this one did. The promise is kept when the node knows, or is gone.
    pub(super) fn leave(&self, driver: &DriverCore) -> Arc<Promise<()>> {
        let last = {
            let mut state = lock(&self.state);
            state.is_over = true;
            let released = std::mem::take(&mut state.released);
            let places = state.last_places.take();
            places.map(|places| self.request(state.generation, places, released, 0))
        };
        let left = Arc::new(Promise::new());
        let Some(connection) = driver.any_alive() else {
            // The node notices by itself.
            left.set(());
            return left;
        };
        let leaving = GroupLeaveRequest {
            topic: self.topic.clone(),
            consumer: self.consumer.clone(),
            member: self.member,
        };
        let Some(last) = last else {
            send_leave(&connection, &leaving, Arc::clone(&left));
            return left;
        };
        let (told, next) = (Arc::clone(&left), Arc::clone(&connection));
        let sent = encode("group_sync", &last).ok().and_then(|body| {
            // Whatever came of it.
            let answered = move |_: Answer| send_leave(&next, &leaving, told);
            connection.request(Opcode::GroupSync, body.into(), answered).ok()
        });
        if sent.is_none() {
            left.set(());
        }
        left
    }
}

fn send_leave(connection: &Arc<Connection>, request: &GroupLeaveRequest, left: Arc<Promise<()>>) {
    let told = Arc::clone(&left);
    let sent = encode("group_leave", request).ok().and_then(|body| {
        let answered = move |_: Answer| told.set(());
        connection.request(Opcode::GroupLeave, body.into(), answered).ok()
    });
    // Without a connection the node notices by itself.
    if sent.is_none() {
        left.set(());
    }
}

/// Asks for news, from now on until the consumer is closed.
pub(super) fn begin(core: &Arc<Core>) {
    match core.driver.any_alive() {
        Some(connection) => ask(core, &connection),
        None => look_for_connection(core, Duration::ZERO),
    }
}

fn look_for_connection(core: &Arc<Core>, pause: Duration) {
    let weak = Arc::downgrade(core);
    core.driver.chores.after(pause, move || {
        let Some(core) = weak.upgrade() else { return };
        match core.driver.any_node() {
            Ok(connection) => ask(&core, &connection),
            Err(error) => again(&core, &error.to_string()),
        }
    });
}

fn ask(core: &Arc<Core>, connection: &Arc<Connection>) {
    let membership = &core.membership;
    let holding = holding(core);
    let (generation, released) = {
        let mut state = lock(&membership.state);
        if state.is_over || core.is_closed() {
            return;
        }
        (state.generation, std::mem::take(&mut state.released))
    };
    let request = membership.request(generation, holding, released.clone(), WAIT_MS);
    let body = match encode("group_sync", &request) {
        Ok(body) => body,
        Err(error) => return give_up(core, &error.to_string()),
    };
    let weak = Arc::downgrade(core);
    let (asked, told) = (Arc::clone(connection), released.clone());
    let sent = connection.request(Opcode::GroupSync, body.into(), move |answer| {
        if let Some(core) = weak.upgrade() {
            answered(&core, &asked, generation, told, answer);
        }
    });
    if let Err(lost) = sent {
        lock(&membership.state).released.extend(released);
        again(core, &lost.reason);
    }
}

/// What it reads, and how far its application has got.
pub(super) fn holding(core: &Core) -> Vec<GroupPlace> {
    let sources = lock(&core.sources).clone();
    // In this order: what is delivered in between waits to be pulled, and was not.
    let nexts: Vec<Option<EventId>> = sources.iter().map(|source| source.next()).collect();
    let pending = core.delivery.pending();
    let place = |(source, next): (&Arc<Source>, Option<EventId>)| GroupPlace {
        partition: u32::try_from(source.index()).unwrap_or(u32::MAX),
        next_event_id: pending.get(&source.index()).copied().or(next).map(EventId::get),
    };
    sources.iter().zip(nexts).map(place).collect()
}

/// On the connection's reader thread: must not block.
fn answered(
    core: &Arc<Core>,
    connection: &Arc<Connection>,
    generation: u64,
    released: Vec<GroupPlace>,
    answer: Answer,
) {
    let failed = |reason: &str| {
        // It is not known whether the node heard of it.
        lock(&core.membership.state).released.extend(released);
        again(core, reason);
    };
    match answer {
        Answer::Lost(lost) => failed(&lost.reason),
        Answer::Refused(error) if error.code.is_retriable() => failed(&error.to_string()),
        // The node took it for gone: it comes back with all that it has.
        Answer::Refused(error) if error.code == ErrorCode::Superseded => failed(&error.to_string()),
        Answer::Refused(error) if error.code == ErrorCode::UnknownTopic => {
            lock(&core.membership.state).is_over = true;
            core.delivery.unfollow();
        }
        Answer::Refused(error) => give_up(core, &error.to_string()),
        Answer::Response(body) => match decode_any::<GroupSyncResponse>("group_sync answer", &body) {
            Err(error) => give_up(core, &error.to_string()),
            Ok(news) => {
                let is_news = {
                    let mut state = lock(&core.membership.state);
                    state.retry = None;
                    // What happened meanwhile may have made it forget what it knew.
                    let is_news = news.generation != generation || state.generation != generation;
                    state.generation = news.generation;
                    is_news
                };
                if is_news {
                    aside(core, move |core| {
                        apply(core, &news);
                        begin(core);
                    });
                } else {
                    ask(core, connection);
                }
            }
        },
    }
}

/// Does what may wait: for the node, and for the application if it is told of assignments. For that there is a thread of its own,
/// since it may wait for what only a chore brings, such as a connection for its acknowledgements.
fn aside(core: &Arc<Core>, work: impl FnOnce(&Arc<Core>) + Send + 'static) {
    let weak = Arc::downgrade(core);
    let run = move || {
        if let Some(core) = weak.upgrade() {
            work(&core);
        }
    };
    if !core.assignments.is_told() {
        return core.driver.chores.after(Duration::ZERO, run);
    }
    let run = Arc::new(Mutex::new(Some(run)));
    let spare = Arc::clone(&run);
    let spawned = thread::Builder::new()
        .name("mofka-assignment".to_owned())
        .spawn(move || run_once(&run));
    if let Err(error) = spawned {
        tracing::warn!(%error, "no thread for telling of assignments: a common one does it");
        core.driver.chores.after(Duration::ZERO, move || run_once(&spare));
    }
}

fn run_once(work: &Mutex<Option<impl FnOnce()>>) {
    let work = lock(work).take();
    if let Some(work) = work {
        work();
    }
}

/// Lets go of what others are to read, and begins with what is new.
pub(super) fn apply(core: &Arc<Core>, news: &GroupSyncResponse) {
    let turn = core.assignments.turn();
    let is_told = |source: &Arc<Source>| {
        news.partitions
            .iter()
            .any(|told| told.info.id == source.partition())
    };
    let leaving: Vec<Arc<Source>> = {
        let mut sources = lock(&core.sources);
        let (kept, leaving) = std::mem::take(&mut *sources).into_iter().partition(is_told);
        *sources = kept;
        leaving
    };
    let indices = |sources: &[Arc<Source>]| sources.iter().map(|source| source.index()).collect();
    if core.is_closed() {
        // The consumer's thread may have looked at them already.
        leaving
            .iter()
            .filter_map(|source| source.finish())
            .for_each(|live| {
                live.end();
            });
        return turn.tell(AssignmentChange::Withdrawn, indices(&leaving));
    }
    let ends: Vec<_> = leaving
        .iter()
        .map(|source| {
            let (next, end) = source.withdraw(core);
            // A close drops what was not pulled: where this one was is not known then, and the next reader goes by what was told
            // before. It is noted before anything is dropped.
            (next.filter(|_| !core.is_closed()), end)
        })
        .collect();
    // Before the node hears of it, and when no more of their events come.
    turn.tell(AssignmentChange::Withdrawn, indices(&leaving));
    let deadline = Deadline::after(CLOSE_TIMEOUT);
    for (source, (next, end)) in leaving.iter().zip(ends) {
        if let Some(end) = end {
            end.wait(deadline);
        }
        // The next one begins at the cursor: what the application acknowledged already counts.
        source.lane().wait_until_idle(deadline);
        tracing::info!(
            topic = core.membership.topic,
            partition = source.index(),
            consumer = core.name,
            "let go of a partition"
        );
        lock(&core.membership.state).released.push(GroupPlace {
            partition: u32::try_from(source.index()).unwrap_or(u32::MAX),
            next_event_id: next.map(EventId::get),
        });
    }
    // While that took its time, this one may have been taken for gone, and others read what it was to read: the next answer
    // says what is so now.
    if !core.membership.is_current(news) {
        return;
    }
    let coming = take_on(core, news);
    turn.tell(AssignmentChange::Assigned, indices(&coming));
    for source in coming {
        tracing::info!(
            topic = core.membership.topic,
            partition = source.index(),
            consumer = core.name,
            "a partition to read"
        );
        core.delivery.began();
        source.begin_later();
    }
    if news.complete {
        core.delivery.unfollow();
    }
}

/// What is new to it, from now on among what it reads; nothing when it is closed, since its thread has taken all by then.
fn take_on(core: &Arc<Core>, news: &GroupSyncResponse) -> Vec<Arc<Source>> {
    let mut sources = lock(&core.sources);
    if core.is_closed() {
        return Vec::new();
    }
    let known: HashSet<Uuid> = sources.iter().map(|source| source.partition()).collect();
    let coming: Vec<Arc<Source>> = news
        .partitions
        .iter()
        .filter(|told| !known.contains(&told.info.id))
        .map(|told| {
            Source::new(
                core,
                &core.membership.topic,
                &told.info,
                core.membership.start(told),
            )
        })
        .collect();
    sources.extend(coming.iter().cloned());
    coming
}

/// Another member reads one of its partitions: asks what is to be read now. On the connection's reader thread: must not block.
pub(super) fn superseded(core: &Arc<Core>, partition: Uuid) {
    let lost: Vec<usize> = {
        let mut sources = lock(&core.sources);
        let is_lost = |source: &mut Arc<Source>| source.partition() == partition;
        sources
            .extract_if(.., is_lost)
            .map(|source| source.index())
            .collect()
    };
    for index in lost {
        if core.assignments.lose(index) {
            aside(core, |core| drop(core.assignments.turn()));
        }
    }
    // No answer has this generation: the next one is acted on.
    lock(&core.membership.state).generation = 0;
}

/// Asks again after a pause, unless that took too long already.
fn again(core: &Arc<Core>, reason: &str) {
    let mut state = lock(&core.membership.state);
    if state.is_over {
        return;
    }
    let retry = state
        .retry
        .get_or_insert_with(|| Retry::new(core.driver.reconnect_timeout()));
    let (pause, waited) = (retry.pause(), retry.waited());
    drop(state);
    match pause {
        Some(pause) => look_for_connection(core, pause),
        None => give_up(
            core,
            &format!("no node said for {waited:.1?} what is to be read: {reason}"),
        ),
    }
}

fn give_up(core: &Core, reason: &str) {
    lock(&core.membership.state).is_over = true;
    core.delivery.gave_up(PullError::Membership {
        reason: reason.into(),
    });
}
