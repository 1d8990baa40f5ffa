//! Where each named consumer of a partition goes on: durable for log partitions, in memory for memory partitions.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

use event_listener::Event;
use mofka_log::{CursorRecord, Cursors, EventId, SegmentKind};
use mofka_net::{ErrorCode, WireError};
use uuid::Uuid;

use super::Partition;
use super::pins::pin_of;
use crate::commit::{Done, Poison};
use crate::io::Io;
use crate::promise::promise;
use crate::record_log::{RecordLog, RecordLogSpec};
use crate::recover::OpenError;

/// Consumers that a partition remembers at most; more are refused, not forgotten.
const CONSUMERS_MAX: usize = 65_536;
/// Names besides, of those that no consumer can have: whoever makes up consumers leaves room for what the node itself remembers.
const RESERVED_MAX: usize = 8192;
/// Under this name, which no consumer can have, the file keeps how far the partition's events are known to be durable.
const WITNESS: &str = "\0synced_end";

/// Whether a consumer may have this name.
pub(crate) fn is_reserved(name: &str) -> bool {
    name.starts_with('\0')
}

/// What is called when a cursor is durable, with the position in force.
pub type CursorDone = Box<dyn FnOnce(Result<EventId, WireError>)>;

/// See the module.
pub(crate) struct PartitionCursors<I: Io> {
    io: I,
    spec: Option<RecordLogSpec>,
    state: Rc<RefCell<State<I>>>,
}

struct State<I: Io> {
    table: Cursors,
    log: Option<Rc<RecordLog<I>>>,
    /// While the file is created or rewritten, changes wait here.
    busy: bool,
    /// The table holds positions that could not be stored: all of it is stored anew before anything is answered.
    unstored: bool,
    waiting: Vec<Waiting>,
    /// It is not busy any more.
    settled: Event,
}

enum Waiting {
    Store(CursorRecord, CursorDone),
    Barrier(EventId, CursorDone),
}

impl<I: Io> PartitionCursors<I> {
    /// Cursors that live as long as the process: a memory partition's events do not outlive it either.
    pub(crate) fn in_memory(io: I) -> Self {
        Self {
            io,
            spec: None,
            state: Rc::new(RefCell::new(State::new(Cursors::default(), None))),
        }
    }

    /// Opens the cursors file of a partition. The file is made when the first cursor is set.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged.
    pub(crate) async fn open(
        io: I,
        path: PathBuf,
        partition: Uuid,
        rewrite_bytes: u64,
    ) -> Result<Self, OpenError> {
        let spec = RecordLogSpec {
            path,
            kind: SegmentKind::Cursors,
            owner: partition,
            rewrite_bytes,
        };
        let mut table = Cursors::default();
        let exists = match io.open(&spec.path).await {
            Ok(_) => true,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
            // A file that cannot be opened now is not an absent one: it would be made anew, over every cursor.
            Err(error) => return Err(OpenError::io("opening", &spec.path, &error)),
        };
        let log = if exists {
            let log = RecordLog::open(io.clone(), spec.clone(), |record| {
                let record = CursorRecord::check(record).map_err(|error| error.to_string())?;
                table.apply(&record);
                Ok(())
            })
            .await?;
            Some(Rc::new(log))
        } else {
            None
        };
        Ok(Self {
            io,
            spec: Some(spec),
            state: Rc::new(RefCell::new(State::new(table, log))),
        })
    }

    /// Where `consumer` goes on, if it ever acknowledged anything here.
    pub(crate) fn get(&self, consumer: &str) -> Option<EventId> {
        self.state.borrow().table.get(consumer)
    }

    /// Keeps, apart from the events' own files, that everything before `synced_end` is durable: a meta file that lost
    /// its end together with its last witness is found out by this.
    pub(crate) async fn witness(&self, synced_end: EventId) {
        if self.get(WITNESS).is_some_and(|known| known >= synced_end) {
            return;
        }
        let (keep, kept) = promise();
        self.set(WITNESS, synced_end, self.io.now_us(), Box::new(keep));
        if let Err(error) = kept.await {
            tracing::warn!(%error, "a partition's end could not be noted beside its cursors");
        }
    }

    /// Everything before this was durable once.
    pub(crate) fn witnessed_end(&self) -> EventId {
        self.get(WITNESS).unwrap_or_default()
    }

    /// How far any consumer acknowledged.
    pub(crate) fn acknowledged_end(&self) -> EventId {
        self.all()
            .into_iter()
            .map(|(_, next)| next)
            .max()
            .unwrap_or_default()
    }

    /// Moves cursors beyond the end of the events to that: what was acknowledged there was never durable and is gone, and other events
    /// will have those ids. Done when it is durable: else the next start could find the old places behind new events, and their
    /// consumers would never get those.
    ///
    /// # Errors
    /// When it cannot be stored: then no event may be taken.
    pub(crate) async fn move_back(&self, end: EventId) -> Result<(), WireError> {
        let all = self.all().into_iter();
        let beyond: Vec<_> = all.filter(|(_, next)| *next > end).collect();
        if beyond.is_empty() {
            return Ok(());
        }
        for (consumer, next) in beyond {
            tracing::warn!(
                consumer,
                acknowledged = next.get(),
                end = end.get(),
                "a consumer acknowledged events that were not durable and are gone: it goes on at the end"
            );
            // What becomes of it is asked below, of all of them.
            self.set(&consumer, end, self.io.now_us(), Box::new(|_| ()));
        }
        let (keep, kept) = promise();
        self.barrier(end, Box::new(keep));
        let stored = kept.await;
        if let Err(error) = &stored {
            tracing::warn!(%error, "a cursor beyond the end could not be stored anew; the next start tries again");
        }
        stored.map(|_: EventId| ())
    }

    /// Every consumer and where it goes on, in the order of the names.
    pub(crate) fn all(&self) -> Vec<(String, EventId)> {
        self.state
            .borrow()
            .table
            .iter()
            .filter(|(name, _)| !is_reserved(name))
            .map(|(name, id)| (name.to_owned(), id))
            .collect()
    }

    /// As [`PartitionCursors::all`], `count_max` of them at most, and how many are left out.
    pub(crate) fn first(&self, count_max: usize) -> (Vec<(String, EventId)>, usize) {
        let state = self.state.borrow();
        let mut consumers = state.table.iter().filter(|(name, _)| !is_reserved(name));
        let first: Vec<_> = consumers
            .by_ref()
            .take(count_max)
            .map(|(name, id)| (name.to_owned(), id))
            .collect();
        (first, consumers.count())
    }

    /// Every pin: who refers, and from which event on.
    pub(crate) fn pins(&self) -> Vec<(Uuid, EventId)> {
        let state = self.state.borrow();
        let pins = state.table.iter();
        pins.filter_map(|(name, first)| Some((pin_of(name)?, first)))
            .collect()
    }

    /// As [`PartitionCursors::all`], when these positions are durable; nothing when they cannot be stored.
    pub(crate) async fn all_durable(&self) -> Option<Vec<(String, EventId)>> {
        let all = self.all();
        let (keep, kept) = promise();
        self.barrier(EventId::default(), Box::new(keep));
        kept.await.ok().map(|_: EventId| all)
    }

    /// Moves a cursor forward to `next`; an older position changes nothing and is answered with the one in force.
    pub(crate) fn acknowledge(&self, consumer: &str, next: EventId, now_us: u64, done: CursorDone) {
        let in_force = self.get(consumer);
        if let Some(current) = in_force
            && current >= next
        {
            // Answered only when what it repeats is durable.
            return self.barrier(current, done);
        }
        self.set(consumer, next, now_us, done);
    }

    /// Moves a cursor to `next`, also backwards: an explicit seek.
    pub(crate) fn set(&self, consumer: &str, next: EventId, now_us: u64, done: CursorDone) {
        {
            let state = self.state.borrow();
            let max = match is_reserved(consumer) {
                true => CONSUMERS_MAX + RESERVED_MAX,
                false => CONSUMERS_MAX,
            };
            if state.table.get(consumer).is_none() && state.table.len() >= max {
                let message =
                    format!("partition already remembers {CONSUMERS_MAX} consumers; remove some first");
                drop(state);
                return done(Err(WireError::new(ErrorCode::Overloaded, message)));
            }
        }
        self.put(
            CursorRecord {
                name: consumer.to_owned(),
                next_event_id: next,
                timestamp_us: now_us,
                removed: false,
            },
            done,
        );
    }

    /// Forgets what is kept under this name.
    pub(crate) fn remove(&self, name: &str, now_us: u64, done: CursorDone) {
        self.put(
            CursorRecord {
                name: name.to_owned(),
                next_event_id: EventId::default(),
                timestamp_us: now_us,
                removed: true,
            },
            done,
        );
    }

    fn put(&self, record: CursorRecord, done: CursorDone) {
        self.state.borrow_mut().table.apply(&record);
        let Some(spec) = &self.spec else {
            return done(Ok(record.next_event_id));
        };
        let mut state = self.state.borrow_mut();
        if state.busy {
            state.waiting.push(Waiting::Store(record, done));
            return;
        }
        match &state.log {
            Some(log) if !state.unstored && !log.wants_rewrite(state.table.snapshot_bytes()) => {
                let log = Rc::clone(log);
                drop(state);
                append(&self.state, &log, &record, done);
            }
            _ => {
                state.busy = true;
                state.waiting.push(Waiting::Store(record, done));
                drop(state);
                let work = renew(self.io.clone(), spec.clone(), Rc::clone(&self.state));
                self.io.spawn(work);
            }
        }
    }

    /// Calls `done` when all that was set before is durable.
    pub(super) fn barrier(&self, current: EventId, done: CursorDone) {
        let mut state = self.state.borrow_mut();
        if state.busy {
            state.waiting.push(Waiting::Barrier(current, done));
            return;
        }
        if let (true, Some(spec)) = (state.unstored, &self.spec) {
            state.busy = true;
            state.waiting.push(Waiting::Barrier(current, done));
            drop(state);
            let work = renew(self.io.clone(), spec.clone(), Rc::clone(&self.state));
            self.io.spawn(work);
            return;
        }
        let log = state.log.clone();
        drop(state);
        match log {
            Some(log) => log.barrier(answer(current, done)),
            None => done(Ok(current)),
        }
    }

    /// Finishes what was accepted, also what waits for the file to be made or rewritten.
    pub(crate) async fn stop(&self) {
        loop {
            let settled = self.state.borrow().settled.listen();
            if !self.state.borrow().busy {
                break;
            }
            settled.await;
        }
        let log = self.state.borrow().log.clone();
        if let Some(log) = log {
            log.stop().await;
        }
    }

    /// Why cursors can no longer be stored, if so.
    pub(crate) fn poison(&self) -> Option<String> {
        self.state.borrow().log.as_ref().and_then(|log| log.poison())
    }
}

/// What a partition does for its consumers' positions.
impl<I: Io> Partition<I> {
    /// Moves a consumer's cursor forward; `done` hears the position in force when it is durable.
    pub fn acknowledge(&self, consumer: &str, next: EventId, done: CursorDone) {
        self.measures.acknowledgements.add(1);
        self.cursors.acknowledge(consumer, next, self.io.now_us(), done);
    }

    /// Moves a consumer's cursor to any place; `done` hears it when it is durable.
    pub fn seek(&self, consumer: &str, next: EventId, done: CursorDone) {
        self.cursors.set(consumer, next, self.io.now_us(), done);
    }

    /// Forgets a consumer's cursor; `done` hears it when that is durable.
    pub fn forget(&self, consumer: &str, done: CursorDone) {
        match self.cursors.get(consumer) {
            Some(_) => self.cursors.remove(consumer, self.io.now_us(), done),
            // Answered when an earlier removal, which this may repeat, is durable.
            None => self.cursors.barrier(EventId::default(), done),
        }
    }

    /// Where a consumer goes on, if it ever acknowledged anything here.
    pub fn cursor(&self, consumer: &str) -> Option<EventId> {
        self.cursors.get(consumer)
    }

    /// The durable positions of consumers.
    pub(crate) fn cursors(&self) -> &PartitionCursors<I> {
        &self.cursors
    }
}

impl<I: Io> State<I> {
    fn new(table: Cursors, log: Option<Rc<RecordLog<I>>>) -> Self {
        Self {
            table,
            log,
            busy: false,
            unstored: false,
            waiting: Vec::new(),
            settled: Event::new(),
        }
    }
}

/// Creates the file, or rewrites it when it has grown, then stores the changes that waited.
async fn renew<I: Io>(io: I, spec: RecordLogSpec, state: Rc<RefCell<State<I>>>) {
    let log = state.borrow().log.clone();
    let outcome = match log {
        None => RecordLog::open(io, spec, |_| Ok(()))
            .await
            .map(|log| Some(Rc::new(log))),
        Some(log) => {
            // The table has the waiting changes already; storing them once more below changes nothing.
            let snapshot = state.borrow().table.snapshot();
            log.rewrite(snapshot.iter().map(CursorRecord::encode).collect())
                .await
                .map(|()| None)
        }
    };
    let (log, waiting, unstored) = {
        let mut state = state.borrow_mut();
        state.busy = false;
        let stored_before = !std::mem::replace(&mut state.unstored, outcome.is_err());
        let mut unstored = Vec::new();
        if let Ok(Some(log)) = &outcome {
            state.log = Some(Rc::clone(log));
            if !stored_before {
                unstored = state.table.snapshot().iter().map(CursorRecord::encode).collect();
            }
        }
        (state.log.clone(), std::mem::take(&mut state.waiting), unstored)
    };
    if let (Some(log), false) = (&log, unstored.is_empty()) {
        log.append(&unstored, Box::new(noting_refusal(&state, |_| ())));
    }
    let error = match outcome {
        Ok(_) => None,
        Err(error) => {
            let code = if error.is_full() {
                ErrorCode::NoSpace
            } else {
                ErrorCode::Poisoned
            };
            Some(WireError::new(code, format!("storing a cursor: {error}")))
        }
    };
    for item in waiting {
        match (item, &log, &error) {
            (Waiting::Store(record, done), Some(log), None) => append(&state, log, &record, done),
            (Waiting::Barrier(current, done), Some(log), None) => log.barrier(answer(current, done)),
            (Waiting::Store(_, done) | Waiting::Barrier(_, done), _, Some(error)) => done(Err(error.clone())),
            (_, None, None) => unreachable!("a renewed cursors file is open"),
        }
    }
    state.borrow().settled.notify(usize::MAX);
}

fn append<I: Io>(state: &Rc<RefCell<State<I>>>, log: &RecordLog<I>, record: &CursorRecord, done: CursorDone) {
    let answer = answer(record.next_event_id, done);
    log.append(&[record.encode()], Box::new(noting_refusal(state, answer)));
}

/// Tells what came of an append, and notes when it found no room: the table has it then, and the file has not.
fn noting_refusal<I: Io, F: FnOnce(Result<(), Rc<Poison>>)>(
    state: &Rc<RefCell<State<I>>>,
    tell: F,
) -> impl FnOnce(Result<(), Rc<Poison>>) + use<I, F> {
    // Not owned: the state owns the log, which owns whoever waits for it.
    let state = Rc::downgrade(state);
    move |stored| {
        if stored.as_ref().is_err_and(|poison| poison.passes)
            && let Some(state) = state.upgrade()
        {
            state.borrow_mut().unstored = true;
        }
        tell(stored);
    }
}

fn answer(position: EventId, done: CursorDone) -> Done {
    Box::new(move |stored| {
        done(match stored {
            Ok(()) => Ok(position),
            Err(poison) => {
                let code = if poison.passes {
                    ErrorCode::NoSpace
                } else {
                    ErrorCode::Poisoned
                };
                Err(WireError::new(
                    code,
                    format!("storing a cursor: {}", poison.reason),
                ))
            }
        });
    })
}
