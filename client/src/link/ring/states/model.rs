//! The states under a model checker: threads that ask, wait, nap and leave, the reader thread, and a node that answers when it likes, in
//! every interleaving with one preemption or two. Whoever is not woken sleeps for good here, which the checker reports.
//!
//! What sleeps in the system is a lock and a condition here; the ring is a position, and the word and fence by which its sides wake each other,
//! which `mofka_net::shm` models on their own. The checker takes sequentially consistent accesses for acquiring and
//! releasing ones, but knows fences: so there is a fence between such a store and the next such load of a thread ([`Checked`]). That is
//! what those accesses promise for two flags of which each thread sets one and looks at the other. It does not order stores that
//! nothing else orders either, so stores of what others swap are swaps.
//!
//! A check that finds nothing proves little: each order and each second look is also left out once, and must be found.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::AtomicBool as StdBool;
use std::sync::atomic::Ordering::{self, Acquire, Relaxed, Release, SeqCst};

use loom::sync::atomic::{AtomicBool, AtomicUsize, fence};
use loom::sync::{Condvar, Mutex, MutexGuard, Notify};
use loom::thread;

use super::{Flag, Held, States};

mod scenes;

/// What is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    /// Accesses to this flag have no order.
    Unordered(&'static str),
    /// Whoever looks at this flag sees that it is not set.
    Unseen(&'static str),
    /// Who leaves does not look again whether anything is expected, once nobody is to be woken for it.
    Expected,
    /// Nor whether there is anything to take, once it was announced that this side sleeps.
    News,
    /// A ring that was taken from somebody who naps is not handed on.
    Ring,
    /// The reader thread sleeps for good where it should look again.
    Time(Rest),
}

/// How the reader thread sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// A millisecond, because it missed the receiving end.
    Missed,
    /// A millisecond, because others see to their answers.
    Lazy,
    /// Until it is woken: heartbeats are for dead peers.
    Announced,
}

loom::thread_local! {
    /// Whether this thread set a flag in the one order of all, and has not looked at one since.
    static HAS_SET: Cell<bool> = Cell::new(false);
}

/// A flag of the model.
struct Checked {
    name: &'static str,
    flaw: Flaw,
    value: AtomicBool,
    /// In its place for those that guard nothing: whatever they say is right, so the checker need not try what they could say.
    hint: Option<StdBool>,
}

impl Checked {
    fn has_order(&self, order: Ordering) -> bool {
        order == SeqCst && self.flaw != Flaw::Unordered(self.name)
    }

    fn will_look(&self, order: Ordering) {
        if self.has_order(order) && HAS_SET.with(|has_set| has_set.replace(false)) {
            fence(SeqCst);
        }
    }

    fn set(&self, value: bool, order: Ordering, ordered: Ordering) -> bool {
        let has_order = self.has_order(order);
        let was = self.value.swap(value, if has_order { ordered } else { Relaxed });
        if has_order {
            HAS_SET.with(|has_set| has_set.set(true));
        }
        was
    }
}

impl Flag for Checked {
    fn load(&self, order: Ordering) -> bool {
        if let Some(hint) = &self.hint {
            return hint.load(order);
        }
        self.will_look(order);
        let ordered = if self.has_order(order) { Acquire } else { Relaxed };
        self.value.load(ordered) && self.flaw != Flaw::Unseen(self.name)
    }

    fn store(&self, value: bool, order: Ordering) {
        if let Some(hint) = &self.hint {
            return hint.store(value, order);
        }
        if self.flaw == Flaw::Unordered(self.name) && HAS_SET.with(|has_set| has_set.replace(false)) {
            // What was set before is in that order all the same, and this is not.
            fence(SeqCst);
        }
        self.set(value, order, Release);
    }

    fn swap(&self, value: bool, order: Ordering) -> bool {
        if let Some(hint) = &self.hint {
            return hint.swap(value, order);
        }
        self.will_look(order);
        let was = self.set(value, order, Ordering::AcqRel);
        was && self.flaw != Flaw::Unseen(self.name)
    }
}

/// What can be slept at.
#[derive(Default)]
struct Descriptors {
    bell: bool,
    nudge: bool,
    handed: bool,
    is_over: bool,
}

/// Requests of a run at most.
const REQUESTS: usize = 2;

/// How a sleep is in a run that its time could end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sleep {
    /// Until something wakes it.
    Through,
    /// Over before anything happened.
    Short,
}

/// What is played.
#[derive(Clone, Copy)]
struct Scene {
    requests: usize,
    /// The first thing was asked for and announced before the threads begin, and the second is asked for where the first answer is taken.
    is_chain: bool,
    nap: Sleep,
    lazy: Sleep,
    /// What the threads of the client do, beside its reader thread.
    clients: &'static [fn(&World)],
    preemptions_max: usize,
}

/// What the node, the ring and the threads of the client share.
struct World {
    flaw: Flaw,
    scene: Scene,
    states: States<Checked>,
    /// Answers that were taken.
    taking: Mutex<usize>,
    waiting: Mutex<[bool; REQUESTS]>,
    descriptors: Mutex<Descriptors>,
    changed: Condvar,
    /// Answers that the node sent.
    published: AtomicUsize,
    client_sleeps: AtomicUsize,
    is_sent: [StdBool; REQUESTS],
    sent: [Notify; REQUESTS],
    is_answered: [StdBool; REQUESTS],
    promises: [Notify; REQUESTS],
    /// The node has sent its first answer.
    has_begun: Notify,
}

/// The receiving end.
struct Holding<'a> {
    world: &'a World,
    taken: MutexGuard<'a, usize>,
    /// Nothing was expected when this was looked at last.
    is_content: Cell<bool>,
}

impl Held for Holding<'_> {
    type Error = ();

    fn expects(&self) -> bool {
        if self.is_content.get() && self.world.flaw == Flaw::Expected {
            return false;
        }
        let expects = self.world.waiting.lock().unwrap().contains(&true);
        self.is_content.set(!expects);
        expects
    }

    fn announce(&mut self) {
        self.world.client_sleeps.swap(1, Relaxed);
        fence(SeqCst);
    }

    fn withdraw(&mut self) {
        self.world.client_sleeps.swap(0, Relaxed);
    }

    fn has_news(&mut self) -> bool {
        self.world.published.load(Acquire) > *self.taken && self.world.flaw != Flaw::News
    }

    fn take_all(&mut self) -> Result<(), ()> {
        while self.take() {}
        Ok(())
    }

    fn wake_reader(&self) {
        self.world.nudge();
    }
}

impl Holding<'_> {
    /// As `Connection::take`.
    fn take(&mut self) -> bool {
        if self.world.published.load(Acquire) <= *self.taken {
            return false;
        }
        let request = *self.taken;
        *self.taken += 1;
        self.world.waiting.lock().unwrap()[request] = false;
        self.world.is_answered[request].store(true, SeqCst);
        self.world.promises[request].notify();
        if self.world.scene.is_chain && request == 0 {
            self.world.ask(1);
        }
        true
    }
}

impl World {
    fn change(&self, change: impl FnOnce(&mut Descriptors)) {
        change(&mut self.descriptors.lock().unwrap());
        self.changed.notify_all();
    }

    fn nudge(&self) {
        self.change(|descriptors| descriptors.nudge = true);
    }

    /// As `poll`: what of it is there, or nothing when the time is over.
    fn poll(&self, sleep: Sleep, mut is_there: impl FnMut(&mut Descriptors) -> bool) -> bool {
        let mut descriptors = self.descriptors.lock().unwrap();
        while !is_there(&mut descriptors) && !descriptors.is_over {
            if sleep == Sleep::Short {
                return true;
            }
            descriptors = self.changed.wait(descriptors).unwrap();
        }
        !descriptors.is_over
    }

    /// The receiving end, unless another thread has it.
    fn hold(&self) -> Option<Holding<'_>> {
        let taken = self.taking.try_lock().ok()?;
        Some(Holding {
            world: self,
            taken,
            is_content: Cell::new(false),
        })
    }

    fn leave(&self, mut held: Holding<'_>) {
        self.states.leave(&mut held).unwrap();
    }

    /// As `Connection::request`.
    fn ask(&self, request: usize) {
        self.waiting.lock().unwrap()[request] = true;
        self.is_sent[request].store(true, SeqCst);
        self.sent[request].notify();
        self.states.asked(|| self.nudge());
    }

    /// As a promise is waited for.
    fn wait(&self, request: usize) {
        // The checker wakes without a reason, too.
        while !self.is_answered[request].load(SeqCst) {
            self.promises[request].wait();
        }
    }

    /// As `Connection::drive_ring`, without polling for longer than a look.
    fn drive(&self, request: usize, naps_max: usize) {
        let is_done = || self.is_answered[request].load(SeqCst);
        if is_done() {
            return;
        }
        if !self.states.wants() {
            return self.states.awaited(|| self.nudge());
        }
        let held = self.hold();
        self.states.wants_no_more();
        let Some(mut held) = held else {
            return self.states.awaited(|| self.nudge());
        };
        held.withdraw();
        self.states.looks();
        let mut naps = 0;
        let has_it = loop {
            if held.take() {
                continue;
            }
            if is_done() {
                break true;
            }
            if naps == naps_max {
                break false;
            }
            naps += 1;
            self.nap(&mut held);
        };
        if has_it && self.states.counts_on_reader() {
            return;
        }
        self.leave(held);
    }

    /// As `Connection::nap`.
    fn nap(&self, held: &mut Holding<'_>) {
        self.states.nap_begins();
        held.announce();
        if !held.has_news() {
            self.poll(self.scene.nap, |descriptors| {
                let is_handed = std::mem::take(&mut descriptors.handed);
                std::mem::take(&mut descriptors.bell) || is_handed
            });
        }
        held.withdraw();
        self.states.nap_ends();
    }

    /// The reader thread, as `Connection::read`.
    fn read(&self) {
        let mut rest = match self.scene.is_chain {
            true => Rest::Announced,
            false => self.turn(),
        };
        while self.rest(rest) {
            rest = self.turn();
        }
    }

    /// As `Connection::take_turn`, without polling for longer than a look.
    fn turn(&self) -> Rest {
        let is_awaited = self.states.turn_begins();
        let Some(mut held) = self.hold() else {
            self.states.misses(is_awaited, || false);
            return Rest::Missed;
        };
        held.withdraw();
        self.states.looks();
        let mut came = self.states.is_busy();
        while !self.states.is_wanted() && held.take() {
            came = true;
        }
        if !is_awaited && came && self.states.stays_lazy() {
            return Rest::Lazy;
        }
        self.states.is_diligent();
        self.leave(held);
        Rest::Announced
    }

    /// As `RingLink::sleep`. False at the end.
    fn rest(&self, rest: Rest) -> bool {
        let is_at_bell = self.states.falls_asleep();
        let sleep = match rest {
            _ if self.flaw == Flaw::Time(rest) => Sleep::Through,
            Rest::Missed => Sleep::Short,
            Rest::Lazy => self.scene.lazy,
            Rest::Announced => Sleep::Through,
        };
        let mut has_rung = false;
        let goes_on = self.poll(sleep, |descriptors| {
            has_rung = is_at_bell && descriptors.bell;
            std::mem::take(&mut descriptors.nudge) || has_rung
        });
        if rest == Rest::Missed {
            // Whoever has it goes on.
            thread::yield_now();
        }
        if has_rung && !self.states.leaves_ring() {
            self.change(|descriptors| descriptors.bell = false);
            if self.states.took_ring() && self.flaw != Flaw::Ring {
                self.change(|descriptors| descriptors.handed = true);
            }
        }
        goes_on
    }

    /// The node: answers in this order.
    fn serve(&self) {
        for request in 0..self.scene.requests {
            while !self.is_sent[request].load(SeqCst) {
                self.sent[request].wait();
            }
            self.published.store(request + 1, Release);
            fence(SeqCst);
            let sleeps = &self.client_sleeps;
            if sleeps.load(Relaxed) == 1 && sleeps.compare_exchange(1, 0, Relaxed, Relaxed).is_ok() {
                self.change(|descriptors| descriptors.bell = true);
            }
            self.has_begun.notify();
        }
    }
}

fn run(flaw: Flaw, scene: Scene) {
    let flag = |name| Checked {
        name,
        flaw,
        value: AtomicBool::new(false),
        hint: ["wanted", "busy"].contains(&name).then(StdBool::default),
    };
    let world = Arc::new(World {
        flaw,
        scene,
        states: States::of(&flag),
        taking: Mutex::new(0),
        waiting: Mutex::new([false; REQUESTS]),
        descriptors: Mutex::default(),
        changed: Condvar::new(),
        published: AtomicUsize::new(0),
        client_sleeps: AtomicUsize::new(0),
        is_sent: Default::default(),
        sent: [Notify::new(), Notify::new()],
        has_begun: Notify::new(),
        is_answered: Default::default(),
        promises: [Notify::new(), Notify::new()],
    });
    if scene.is_chain {
        world.ask(0);
        while world.turn() != Rest::Announced {}
        world.change(|descriptors| descriptors.nudge = false);
    }
    let spawn = |part: fn(&World)| {
        let world = Arc::clone(&world);
        thread::spawn(move || part(&world))
    };
    let (reader, node) = (spawn(World::read), spawn(World::serve));
    let (first, others) = scene.clients.split_first().unwrap();
    let others: Vec<_> = others.iter().map(|other| spawn(*other)).collect();
    first(&world);
    others.into_iter().for_each(|other| other.join().unwrap());
    node.join().unwrap();
    world.change(|descriptors| descriptors.is_over = true);
    reader.join().unwrap();
}

fn explore(flaw: Flaw, scene: Scene) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(scene.preemptions_max);
    builder.max_branches = 2_000;
    builder.check(move || run(flaw, scene));
}

/// That the checker reports each of the flaws.
#[track_caller]
fn expect_found(scene: Scene, flaws: &[Flaw]) {
    for &flaw in flaws {
        // A thread of its own: a check that fails leaves the checker's state behind.
        let checked = std::thread::spawn(move || explore(flaw, scene)).join();
        let reason = checked.expect_err(&format!("{flaw:?} is found"));
        let reason = reason.downcast::<String>().map_or_else(
            |_| "there is no end of looking in vain".to_owned(),
            |reason| *reason,
        );
        println!("{flaw:?}: {reason}");
    }
}
