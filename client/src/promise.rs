//! A value that comes once, from another thread, and can be looked at again and again.

use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::task::Waker;
use std::time::{Duration, Instant};

/// Locks. A panic elsewhere must not take the other threads of the application down with it; every structure here is
/// changed in steps that leave it whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks, unless somebody else has it.
pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Locks, in a process that may be a forked child: there, whoever held the lock at the time of the fork is not there
/// to release it. `check`, which asks who we are, is only called when it would matter.
pub(crate) fn lock_unless_forked<'a, T, E>(
    mutex: &'a Mutex<T>,
    check: impl FnOnce() -> Result<(), E>,
) -> Result<MutexGuard<'a, T>, E> {
    if let Some(guard) = try_lock(mutex) {
        return Ok(guard);
    }
    check()?;
    Ok(lock(mutex))
}

/// When to stop waiting.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Deadline {
    Never,
    At(Instant),
}

impl Deadline {
    /// A deadline this far away; one beyond the clock's range is none.
    pub(crate) fn after(timeout: Duration) -> Self {
        Instant::now().checked_add(timeout).map_or(Self::Never, Self::At)
    }

    /// Negative: never; 0: now.
    pub(crate) fn after_ms(timeout_ms: i64) -> Self {
        u64::try_from(timeout_ms).map_or(Self::Never, |timeout_ms| {
            Self::after(Duration::from_millis(timeout_ms))
        })
    }

    /// Time that is left: `None` when there is no end, zero when it is over.
    pub(crate) fn left(self) -> Option<Duration> {
        match self {
            Self::Never => None,
            Self::At(at) => Some(at.saturating_duration_since(Instant::now())),
        }
    }

    pub(crate) fn is_over(self) -> bool {
        self.left() == Some(Duration::ZERO)
    }
}

/// Waits on a condition variable until it is signalled or the deadline is over.
pub(crate) fn wait_on<'a, T>(
    condvar: &Condvar,
    guard: MutexGuard<'a, T>,
    deadline: Deadline,
) -> MutexGuard<'a, T> {
    match deadline.left() {
        None => condvar.wait(guard).unwrap_or_else(PoisonError::into_inner),
        Some(left) => {
            condvar
                .wait_timeout(guard, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0
        }
    }
}

/// See the module.
pub(crate) struct Promise<T> {
    value: OnceLock<T>,
    waiting: Mutex<Waiting>,
    settled: Condvar,
}

/// Who waits for a value.
#[derive(Default)]
struct Waiting {
    wakers: Vec<Waker>,
    thread_count: usize,
}

impl<T> Promise<T> {
    pub(crate) fn new() -> Self {
        Self {
            value: OnceLock::new(),
            waiting: Mutex::default(),
            settled: Condvar::new(),
        }
    }

    /// A promise that is kept already.
    pub(crate) fn settled(value: T) -> Self {
        let promise = Self::new();
        promise.set(value);
        promise
    }

    /// Sets the value; the first one stays.
    pub(crate) fn set(&self, value: T) {
        if self.value.set(value).is_ok() {
            // Whoever looks for the value under this lock either finds it or is woken: none falls asleep in between.
            let (wakers, thread_count) = {
                let mut waiting = lock(&self.waiting);
                (std::mem::take(&mut waiting.wakers), waiting.thread_count)
            };
            // A system call, also when nobody waits.
            if thread_count > 0 {
                self.settled.notify_all();
            }
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        self.value.get()
    }

    /// Waits for the value.
    pub(crate) fn wait(&self, deadline: Deadline) -> Option<&T> {
        if let Some(value) = self.value.get() {
            return Some(value);
        }
        let mut waiting = lock(&self.waiting);
        loop {
            if let Some(value) = self.value.get() {
                return Some(value);
            }
            if deadline.is_over() {
                return None;
            }
            waiting.thread_count += 1;
            waiting = wait_on(&self.settled, waiting, deadline);
            waiting.thread_count -= 1;
        }
    }

    /// The value, or else a promise to wake.
    pub(crate) fn poll(&self, waker: &Waker) -> Option<&T> {
        if let Some(value) = self.value.get() {
            return Some(value);
        }
        let wakers = &mut lock(&self.waiting).wakers;
        if let Some(value) = self.value.get() {
            return Some(value);
        }
        if !wakers.iter().any(|known| known.will_wake(waker)) {
            wakers.push(waker.clone());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_deadline_of_zero_is_over_and_a_negative_one_never() {
        assert!(Deadline::after_ms(0).is_over());
        assert!(matches!(Deadline::after_ms(-1), Deadline::Never));
        assert!(matches!(Deadline::after(Duration::MAX), Deadline::Never));
        // The original computed this in 32 bits, and 3000 ms were over at once.
        assert!(
            Deadline::after_ms(3000)
                .left()
                .is_some_and(|left| left > Duration::from_millis(2900))
        );
        assert!(matches!(
            Deadline::after_ms(i64::MAX),
            Deadline::At(_) | Deadline::Never
        ));
    }

    #[test]
    fn the_value_comes_from_another_thread_and_stays() {
        let promise = Arc::new(Promise::new());
        assert_eq!(promise.wait(Deadline::after_ms(0)), None);
        assert_eq!(promise.wait(Deadline::after_ms(5)), None);
        let setter = Arc::clone(&promise);
        let thread = std::thread::spawn(move || setter.set(7));
        assert_eq!(promise.wait(Deadline::Never), Some(&7));
        promise.set(8);
        assert_eq!(promise.wait(Deadline::after_ms(0)), Some(&7));
        thread.join().unwrap();
    }
}
