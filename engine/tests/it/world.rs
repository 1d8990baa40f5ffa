//! One partition through many lives, each with faults and each ended by a kill or a power cut, and what the outside
//! knows of it. The lives go on from what the machine really kept.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use mofka_engine::partition::Partition;
use mofka_engine::sim::{Fault, FaultRates, Random, Sectors, SimIo};
use mofka_log::{Durability, PartitionKind};

use crate::judge::{CursorWatch, Known, PRODUCER, check, hold};
use crate::model::{Content, Sent, open, random_events, read_all, send, spec};

/// What one life is put through.
pub(crate) struct LifePlan {
    pub(crate) batches: u64,
    /// Faults by chance, from the opening on.
    pub(crate) rates: FaultRates,
    /// One fault at one operation, counted from the opening.
    pub(crate) placed: Option<(Fault, u64)>,
    /// The disk has room for so much.
    pub(crate) room: Option<u64>,
    /// At so many of 100 steps one crash image is judged.
    pub(crate) watch_percent: u64,
}

impl LifePlan {
    /// A healthy machine.
    pub(crate) fn healthy(batches: u64, watch_percent: u64) -> Self {
        Self {
            batches,
            rates: FaultRates::none(),
            placed: None,
            room: None,
            watch_percent,
        }
    }

    fn may_fail(&self) -> bool {
        self.placed.is_some() || self.room.is_some() || self.rates.faults().next().is_some()
    }
}

/// What was looked at.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Tally {
    /// States that were judged: crash images, and partitions opened after a stop.
    pub(crate) cases: u64,
    /// Lives that met a fault.
    pub(crate) faulty: u64,
    /// Lives that a fault poisoned.
    pub(crate) poisoned: u64,
    /// Openings that a fault failed.
    pub(crate) unopened: u64,
    /// Batches refused for want of room, before they had ids.
    pub(crate) refused: u64,
    /// Batches acknowledged.
    pub(crate) acknowledged: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.cases += other.cases;
        self.faulty += other.faulty;
        self.poisoned += other.poisoned;
        self.unopened += other.unopened;
        self.refused += other.refused;
        self.acknowledged += other.acknowledged;
    }
}

/// See the module.
pub(crate) struct World {
    pub(crate) random: Random,
    /// Batches that a recovery found: they stay.
    settled: Vec<Vec<Content>>,
    /// Batches of the last life; nobody knows yet which of them stayed.
    sent: Vec<Sent>,
    next_sequence: u64,
    shown_end: u64,
    cursor: (u64, u64),
    pub(crate) tally: Tally,
}

type Open = Rc<Partition<SimIo>>;

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            settled: Vec::new(),
            sent: Vec::new(),
            next_sequence: 0,
            shown_end: 0,
            cursor: (0, 0),
            tally: Tally::default(),
        }
    }

    /// How the life ends: the process is killed, or power is lost. Gives the machine of the next.
    pub(crate) fn end(&mut self, io: &SimIo) -> SimIo {
        let seed = self.random.number();
        if self.random.chance(50) {
            return io.kill(seed);
        }
        let keep_percent = self.random.below(101);
        let image = io.crash(&mut self.random, keep_percent, Sectors::Small);
        io.shut_down();
        SimIo::stepping(&image, seed)
    }

    /// Judges one image that a power cut at this moment could leave.
    fn judge(&mut self, io: &SimIo) -> Result<(), String> {
        let keep_percent = [0, 20, 50, 80, 100][self.random.place(5)];
        let sectors = any_sectors(&mut self.random);
        let image = io.crash(&mut self.random, keep_percent, sectors);
        let known = Known {
            settled: &self.settled,
            sent: &self.sent,
            visible_end: self.shown_end,
            cursor: self.cursor,
        };
        self.tally.cases += 1;
        check(&image, &known)
            .map(|_| ())
            .map_err(|reason| format!("{keep_percent}% of the {sectors:?} sectors kept: {reason}"))
    }

    /// Runs one life on this machine.
    pub(crate) fn live(&mut self, io: &SimIo, plan: &LifePlan) -> Result<(), String> {
        io.set_fault_rates(plan.rates.clone());
        io.set_room(plan.room);
        if let Some((fault, n)) = plan.placed {
            io.place_fault(fault, n);
        }
        let outcome = self.open_and_work(io, plan);
        let met = !io.faults_met().is_empty();
        self.tally.faulty += u64::from(met);
        self.tally.acknowledged += self
            .sent
            .iter()
            .filter(|batch| batch.acknowledged().is_some())
            .count() as u64;
        outcome.map_err(|reason| format!("{reason} (faults so far: {:?})", io.faults_met()))
    }

    fn open_and_work(&mut self, io: &SimIo, plan: &LifePlan) -> Result<(), String> {
        let Some(partition) = self.open(io, plan)? else {
            self.tally.unopened += 1;
            return Ok(());
        };
        self.settle(io, &partition, plan)?;
        self.work(io, &partition, plan)
    }

    /// Opens the partition, step by step. Nothing when a fault prevented it.
    fn open(&mut self, io: &SimIo, plan: &LifePlan) -> Result<Option<Open>, String> {
        let slot = Rc::new(RefCell::new(None));
        let (kept, machine) = (Rc::clone(&slot), io.clone());
        mofka_engine::io::Io::spawn(io, async move {
            let opened = Partition::open(machine, spec(PartitionKind::Default, Durability::Synced)).await;
            *kept.borrow_mut() = Some(opened.map_err(|error| error.to_string()));
        });
        io.run_tasks();
        let opened = loop {
            if let Some(opened) = slot.borrow_mut().take() {
                break opened;
            }
            if self.random.chance(plan.watch_percent) {
                self.judge(io)?;
            }
            if !io.step() {
                return Err("opening waits for something that never happens".to_owned());
            }
        };
        match opened {
            // Something could not be read, so nothing is taken until the next start.
            Ok(partition)
                if plan.may_fail()
                    && partition
                        .read_only()
                        .is_some_and(|reason| reason.starts_with("nothing is damaged")) =>
            {
                Ok(None)
            }
            Ok(partition) => Ok(Some(partition)),
            Err(_) if plan.may_fail() => Ok(None),
            Err(reason) => Err(format!("a healthy machine does not open: {reason}")),
        }
    }

    /// What recovery found is known from now on, and stays.
    fn settle(&mut self, io: &SimIo, partition: &Open, plan: &LifePlan) -> Result<(), String> {
        if let Some(reason) = partition.read_only() {
            return Err(format!("what happened was taken for damage: {reason}"));
        }
        io.set_fault_rates(FaultRates::none());
        let mut found = io.block_on(read_all(Rc::clone(partition)));
        if found.is_err() && plan.placed.is_some() {
            // The one fault hit this reading.
            found = io.block_on(read_all(Rc::clone(partition)));
        }
        io.set_fault_rates(plan.rates.clone());
        let kept = hold(&found?, &self.settled, &self.sent)?;
        self.settled
            .extend(self.sent.drain(..).take(kept).map(|batch| batch.events));
        self.next_sequence = self.settled.len() as u64;
        let end = partition.visible_end().get();
        if end < self.shown_end {
            return Err(format!(
                "events up to {} had been shown to readers, and {end} are there",
                self.shown_end
            ));
        }
        self.shown_end = end;
        let cursor = partition.cursor("reader").map_or(0, |next| next.get());
        if cursor < self.cursor.0 || cursor > self.cursor.1 {
            return Err(format!(
                "the cursor is at {cursor}, and {:?} was known",
                self.cursor
            ));
        }
        self.cursor = (cursor, cursor);
        self.tally.cases += 1;
        Ok(())
    }

    fn work(&mut self, io: &SimIo, partition: &Open, plan: &LifePlan) -> Result<(), String> {
        let mut cursor = CursorWatch::of(partition);
        let steps = 20 + self.random.below(plan.batches * 18);
        let mut tried = 0;
        for _ in 0..steps {
            let is_stalled = self.sent.iter().any(is_refused);
            if tried < plan.batches && !is_stalled && self.random.chance(45) {
                tried += 1;
                self.send(partition, plan)?;
            }
            if self.random.chance(12) {
                cursor.move_to(partition, partition.visible_end().get());
            }
            if plan.room.is_some() && self.random.chance(4) {
                // Room returns, or goes.
                let room = self.random.below(400_000);
                io.set_room(self.random.chance(50).then_some(room));
            }
            let moved = io.step();
            self.shown_end = self.shown_end.max(partition.visible_end().get());
            self.cursor = cursor.bounds();
            if self.random.chance(plan.watch_percent) {
                self.judge(io)?;
            }
            self.take_back(partition, plan.room.is_some())?;
            if partition.poison().is_some() {
                return self.poisoned(io, partition, plan);
            }
            if !moved && tried >= plan.batches {
                break;
            }
        }
        if self.random.chance(50) {
            self.drain(io, partition)?;
            self.take_back(partition, plan.room.is_some())?;
            self.cursor = cursor.bounds();
        }
        if self.random.chance(30) {
            self.stop(io, partition, plan, &mut cursor)?;
        }
        Ok(())
    }

    /// The node begins to stop, and gets so far or to the end.
    fn stop(
        &mut self,
        io: &SimIo,
        partition: &Open,
        plan: &LifePlan,
        cursor: &mut CursorWatch,
    ) -> Result<(), String> {
        let stopped = Rc::new(Cell::new(false));
        let (stopping, ended) = (Rc::clone(partition), Rc::clone(&stopped));
        mofka_engine::io::Io::spawn(io, async move {
            stopping.stop().await;
            ended.set(true);
        });
        for _ in 0..self.random.below(80) {
            if self.random.chance(20) {
                cursor.move_to(partition, partition.visible_end().get());
            }
            let moved = io.step();
            self.shown_end = self.shown_end.max(partition.visible_end().get());
            self.cursor = cursor.bounds();
            // Whoever waited for room is refused.
            self.take_back(partition, true)?;
            if self.random.chance(plan.watch_percent) {
                self.judge(io)?;
            }
            if !moved || stopped.get() && self.random.chance(10) {
                break;
            }
        }
        match self.sent.iter().find(|batch| batch.outcome.borrow().is_none()) {
            Some(batch) if stopped.get() => Err(format!(
                "the partition has stopped, and batch {} is not answered",
                batch.sequence
            )),
            _ => Ok(()),
        }
    }

    fn send(&mut self, partition: &Open, plan: &LifePlan) -> Result<(), String> {
        let events = random_events(&mut self.random, self.next_sequence);
        let sent = send(partition, events, (PRODUCER, 0, self.next_sequence));
        self.sent.push(sent);
        self.next_sequence += 1;
        self.take_back(partition, plan.room.is_some())
    }

    /// Batches that were refused, for want of room say, have no ids: they are sent again later, with the same sequences. None
    /// that was sent after them may be accepted.
    fn take_back(&mut self, partition: &Open, may_refuse: bool) -> Result<(), String> {
        let Some(first) = self.sent.iter().position(is_refused) else {
            return Ok(());
        };
        if partition.poison().is_some() {
            return Ok(());
        }
        let refused = &self.sent[first..];
        if !may_refuse {
            let reason = refused[0].outcome.borrow().clone();
            return Err(format!("a batch was refused without need: {reason:?}"));
        }
        if refused.iter().any(|batch| batch.acknowledged().is_some()) {
            return Err("a batch was acknowledged and one before it was refused".to_owned());
        }
        if refused.iter().all(|batch| batch.outcome.borrow().is_some()) {
            self.tally.refused += refused.len() as u64;
            self.next_sequence = refused[0].sequence;
            self.sent.truncate(first);
        }
        Ok(())
    }

    /// Everything under way ends, and everybody is answered.
    fn drain(&mut self, io: &SimIo, partition: &Open) -> Result<(), String> {
        io.run_tasks();
        while io.is_busy() {
            io.step();
        }
        self.shown_end = self.shown_end.max(partition.visible_end().get());
        let silent = self.sent.iter().find(|batch| batch.outcome.borrow().is_none());
        match silent {
            Some(batch) => Err(format!("batch {} is never answered", batch.sequence)),
            None => Ok(()),
        }
    }

    /// From now on nothing is acknowledged, and what was durable is still served.
    fn poisoned(&mut self, io: &SimIo, partition: &Open, plan: &LifePlan) -> Result<(), String> {
        self.tally.poisoned += 1;
        if !plan.may_fail() {
            return Err(format!("poisoned without a fault: {:?}", partition.poison()));
        }
        let acknowledged = |sent: &[Sent]| sent.iter().filter(|batch| batch.acknowledged().is_some()).count();
        let before = acknowledged(&self.sent);
        let mut late = Vec::new();
        for _ in 0..3 {
            let events = random_events(&mut self.random, self.next_sequence);
            late.push(send(partition, events, (PRODUCER, 0, self.next_sequence)));
            io.step();
        }
        self.drain(io, partition)?;
        if !late.iter().all(is_refused) {
            return Err("a poisoned partition took a batch".to_owned());
        }
        if acknowledged(&self.sent) > before {
            return Err("a poisoned partition acknowledged a batch".to_owned());
        }
        io.set_fault_rates(FaultRates::none());
        let found = io.block_on(read_all(Rc::clone(partition)))?;
        if (found.len() as u64) < self.shown_end {
            return Err(format!(
                "a poisoned partition shows {} events and had shown {}",
                found.len(),
                self.shown_end
            ));
        }
        let acknowledged = self
            .sent
            .iter()
            .take_while(|batch| batch.acknowledged().is_some());
        let sent: Vec<Sent> = acknowledged.cloned().collect();
        hold(&found, &self.settled, &sent)?;
        self.judge(io)
    }
}

fn is_refused(batch: &Sent) -> bool {
    matches!(&*batch.outcome.borrow(), Some(Err(_)))
}

/// Opens the partition on a healthy machine and looks that it takes a batch and keeps it.
pub(crate) fn works(io: &SimIo) -> Result<(), String> {
    let partition = open(io, spec(PartitionKind::Default, Durability::Synced))?;
    let sent = send(
        &partition,
        vec![(b"{}".to_vec(), vec![1; 100])],
        (PRODUCER + 1, 0, 0),
    );
    while sent.outcome.borrow().is_none() && io.step() {}
    io.shut_down();
    sent.acknowledged()
        .map(|_| ())
        .ok_or_else(|| format!("a batch after all: {:?}", sent.outcome.borrow()))
}

/// Sectors of either size, as likely as each other.
pub(crate) fn any_sectors(random: &mut Random) -> Sectors {
    if random.chance(50) {
        Sectors::Small
    } else {
        Sectors::Large
    }
}
