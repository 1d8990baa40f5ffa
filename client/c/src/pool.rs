//! Thread pools.

use std::ffi::c_void;
use std::mem::MaybeUninit;

use mofka_client::ThreadPool;

use crate::border::{free, give, handle_place, needed};
use crate::driver::{driver_of, mofka_driver};
use crate::status::{Failure, complete, mofka_status, quietly};

/// Threads that work on tasks, the most urgent first: for producers, consumers, and whatever the application likes. A forked child
/// has none of the threads.
pub struct mofka_thread_pool(pub(crate) ThreadPool);

/// A task. It must not throw or jump out.
pub type mofka_task = Option<unsafe extern "C" fn(context: *mut c_void)>;

/// What is handed to a thread of the pool.
struct Context(*mut c_void);

// SAFETY: it is only handed back, and the header says on which thread.
unsafe impl Send for Context {}

impl Context {
    /// By value, so that a closure takes all of it along.
    fn get(self) -> *mut c_void {
        self.0
    }
}

/// Starts this many threads, at most 1024. 0: who pushes a task runs it.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_thread_pool_create(
    thread_count: usize,
    pool: Option<&mut MaybeUninit<*mut mofka_thread_pool>>,
) -> mofka_status {
    complete(|| {
        let pool = handle_place(pool, "pool")?;
        give(pool, mofka_thread_pool(ThreadPool::new(thread_count)?));
        Ok(())
    })
}

/// The pool of those who name none and need one: as many threads as the process may use cores, started at the first call.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_driver_default_thread_pool(
    driver: Option<&mofka_driver>,
    pool: Option<&mut MaybeUninit<*mut mofka_thread_pool>>,
) -> mofka_status {
    complete(|| {
        let pool = handle_place(pool, "pool")?;
        give(pool, mofka_thread_pool(driver_of(driver)?.default_thread_pool()?));
        Ok(())
    })
}

/// How many threads it has. NULL has none.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_thread_pool_thread_count(pool: Option<&mofka_thread_pool>) -> usize {
    pool.map_or(0, |pool| pool.0.thread_count())
}

/// Tasks that no thread has taken yet.
#[unsafe(no_mangle)]
pub extern "C" fn mofka_thread_pool_size(pool: Option<&mofka_thread_pool>) -> usize {
    quietly(0, || pool.map_or(0, |pool| pool.0.size()))
}

/// Calls `task(context)` on one of its threads, once. Larger priorities come first, equal ones in the order in which they were
/// pushed; `UINT64_MAX` is the usual one. A task that was taken (`MOFKA_OK`) is always run.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mofka_thread_pool_push(
    pool: Option<&mofka_thread_pool>,
    task: mofka_task,
    context: *mut c_void,
    priority: u64,
) -> mofka_status {
    complete(|| {
        let pool = needed(pool, "pool")?;
        let task = task.ok_or_else(|| Failure::null("task"))?;
        let context = Context(context);
        // SAFETY: a function and its context, as they were given together.
        let work = move || unsafe { task(context.get()) };
        Ok(pool.0.push_work(work, priority)?)
    })
}

/// Frees the handle. With the last one, and no producer or consumer that works with the pool, its tasks are run to their end,
/// which this waits for (not on one of the pool's own threads).
#[unsafe(no_mangle)]
pub extern "C" fn mofka_thread_pool_free(pool: Option<Box<mofka_thread_pool>>) {
    free(pool);
}
