//! The one thread that does for the client's threads what needs the interpreter.

use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};

use mofka_client::this_process;
use pyo3::prelude::*;

use crate::buffers::Lent;
use crate::gate;

/// What is to be done.
pub(crate) enum Job {
    /// Call a function without arguments; nobody hears of its errors.
    Call(Py<PyAny>),
    /// Give memory back to its owner.
    GiveBack(Lent),
}

/// The thread of a process. A forked child has none of its parent's threads, and gets the next one of the chain: so nobody
/// needs a lock to find it, which another thread might have held at the fork.
struct Background {
    pid: u32,
    /// `None`: the system had no thread for us.
    jobs: Option<Sender<Job>>,
    child: OnceLock<Box<Background>>,
}

static FIRST: OnceLock<Box<Background>> = OnceLock::new();

impl Background {
    fn start() -> Box<Self> {
        let (jobs, todo) = channel();
        let builder = std::thread::Builder::new().name("mofka-python".to_owned());
        let started = builder.spawn(move || work(&todo)).is_ok();
        Box::new(Self {
            pid: this_process(),
            jobs: started.then_some(jobs),
            child: OnceLock::new(),
        })
    }

    fn here() -> &'static Self {
        let pid = this_process();
        let mut background = FIRST.get_or_init(Self::start);
        while background.pid != pid {
            background = background.child.get_or_init(Self::start);
        }
        background
    }
}

/// Starts the thread of this process. With the interpreter's lock held, so that no fork finds it half started.
pub(crate) fn start() {
    Background::here();
}

/// Has it done soon. Never waits for the interpreter.
pub(crate) fn later(job: Job) {
    if let Some(jobs) = &Background::here().jobs
        && let Err(unsent) = jobs.send(job)
    {
        // Its memory stays where it is: giving it back needs the interpreter.
        std::mem::forget(unsent);
    }
}

fn work(todo: &Receiver<Job>) {
    while let Ok(first) = todo.recv() {
        let mut jobs = Some(first);
        let done = gate::attach(|py| {
            for job in jobs.take().into_iter().chain(todo.try_iter()) {
                match job {
                    Job::Call(function) => drop(function.call0(py)),
                    Job::GiveBack(lent) => lent.give_back(py),
                }
            }
        });
        if done.is_none() {
            // The interpreter is gone, and with it all of its memory.
            std::mem::forget(jobs);
            return;
        }
    }
}
