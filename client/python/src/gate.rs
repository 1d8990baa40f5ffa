//! Taking the interpreter's lock, so that the end of the interpreter finds no thread at it.
//!
//! When an interpreter ends, it ends each other thread that wants its lock, where that stands, by unwinding its stack. There must be no
//! frames of Rust on it: they catch what unwinds, and the process is aborted. So threads are counted from where they want the lock
//! until they are out of calls to Python. The end ([`close`]) waits for these, and whoever wants the lock from then on
//! sleeps for good, as whoever held no frames of ours would be gone for good.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use crate::process::Owner;

/// How long the end waits for calls to Python that are under way: one that takes longer may abort the process.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(1);

/// What threads have in [`HELD`], together. SeqCst here and below: a thread that does not see the end is seen by it.
static INSIDE: AtomicUsize = AtomicUsize::new(0);
/// The thread that ends the interpreter. Only it gets the lock from then on.
static ENDER: OnceLock<ThreadId> = OnceLock::new();

thread_local! {
    /// How often this thread is counted: a function in Python, called from Rust, may call Rust, and so on.
    static HELD: Cell<usize> = const { Cell::new(0) };
}

/// Counts this thread so many times more. False: the interpreter ends, and nothing is counted. Whoever is counted already goes on:
/// the end waits for it.
fn enter(times: usize) -> bool {
    let held = HELD.get();
    INSIDE.fetch_add(times, Ordering::SeqCst);
    HELD.set(held.saturating_add(times));
    match ENDER.get() {
        Some(ender) if held == 0 && *ender != std::thread::current().id() => {
            leave(times);
            false
        }
        _ => true,
    }
}

fn leave(times: usize) {
    let times = times.min(HELD.get());
    INSIDE.fetch_sub(times, Ordering::SeqCst);
    HELD.set(HELD.get().saturating_sub(times));
}

/// This thread is counted once more.
pub(crate) struct Inside(Owner);

impl Inside {
    fn enter() -> Option<Self> {
        enter(1).then(|| Self(Owner::here()))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // A child counts anew.
        if self.0.is_here() {
            leave(1);
        }
    }
}

fn sleep_for_good() -> ! {
    leave(HELD.get());
    loop {
        std::thread::park();
    }
}

/// Runs `act` with other threads of the interpreter running meanwhile.
pub(crate) fn detach<T: Send>(py: Python<'_>, act: impl FnOnce() -> T + Send) -> T {
    let held = HELD.get();
    leave(held);
    let (done, _inside) = py.detach(|| {
        let done = act();
        match Inside::enter() {
            Some(inside) if enter(held) => (done, inside),
            _ => sleep_for_good(),
        }
    });
    done
}

/// Runs `act` with the interpreter's lock; `None` when there is no interpreter any more.
pub(crate) fn attach<T>(act: impl FnOnce(Python<'_>) -> T) -> Option<T> {
    let _inside = Inside::enter()?;
    Python::try_attach(act)
}

/// To be kept while code in Python is called: it may let other threads run.
pub(crate) fn calling(py: Python<'_>) -> Inside {
    match Inside::enter() {
        Some(inside) => inside,
        None => py.detach(|| sleep_for_good()),
    }
}

/// The interpreter is about to end, and this thread ends it.
pub(crate) fn close(py: Python<'_>) {
    ENDER.get_or_init(|| std::thread::current().id());
    // One that sleeps for good may be a pool's, in a function of the application.
    mofka_client::ThreadPool::leave_threads();
    let begun = Instant::now();
    py.detach(|| {
        while INSIDE.load(Ordering::SeqCst) > 0 && begun.elapsed() < CLOSE_TIMEOUT {
            std::thread::sleep(PAUSE);
        }
    });
}

/// This is a forked child: of the threads that were counted there are none.
pub(crate) fn forked() {
    INSIDE.store(0, Ordering::SeqCst);
    HELD.set(0);
}
