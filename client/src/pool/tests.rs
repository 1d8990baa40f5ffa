use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use mofka_net::shm::this_process;

use super::*;

const FIRST: u64 = ThreadPool::DEFAULT_PRIORITY;

/// A pool of one thread that does nothing until something is sent.
fn held() -> (ThreadPool, Sender<()>) {
    let pool = ThreadPool::new(1).unwrap();
    let (release, released) = channel::<()>();
    let (begin, begun) = channel();
    pool.push_work(
        move || {
            begin.send(()).unwrap();
            released.recv().ok();
        },
        FIRST,
    )
    .unwrap();
    begun.recv().unwrap();
    (pool, release)
}

fn counting() -> (Arc<AtomicUsize>, impl Fn() -> Box<dyn FnOnce() + Send>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let task = move || {
        let counter = Arc::clone(&counter);
        let task = move || {
            counter.fetch_add(1, Ordering::SeqCst);
        };
        Box::new(task) as Box<dyn FnOnce() + Send>
    };
    (count, task)
}

#[test]
fn no_threads_run_tasks_where_they_are_pushed() {
    let pool = ThreadPool::new(0).unwrap();
    let (send, received) = channel();
    let pusher = std::thread::current().id();
    pool.push_work(move || send.send(std::thread::current().id()).unwrap(), 3)
        .unwrap();
    // It has run by now, not later.
    assert_eq!(received.try_recv().unwrap(), pusher);
    assert_eq!((pool.thread_count(), pool.size()), (0, 0));
    assert!(!pool.is_mine());
    pool.push_work(|| panic!("caught here too"), FIRST).unwrap();
}

#[test]
fn threads_share_the_tasks() {
    let pool = ThreadPool::new(3).unwrap();
    assert_eq!(pool.thread_count(), 3);
    // Each of three tasks waits for the other two: they run at the same time.
    let barrier = Arc::new(std::sync::Barrier::new(3));
    let (send, received) = channel();
    for _ in 0..3 {
        let (barrier, send, mine) = (Arc::clone(&barrier), send.clone(), pool.clone());
        pool.push_work(
            move || {
                barrier.wait();
                send.send((std::thread::current().id(), mine.is_mine())).unwrap();
            },
            FIRST,
        )
        .unwrap();
    }
    let mut seen: Vec<_> = (0..3).map(|_| received.recv().unwrap()).collect();
    assert!(seen.iter().all(|(_, is_mine)| *is_mine));
    seen.dedup_by_key(|(thread, _)| *thread);
    assert_eq!(seen.len(), 3);
}

#[test]
fn ten_thousand_tasks_of_eight_pushers_and_of_all_priorities_are_run() {
    let pool = ThreadPool::new(4).unwrap();
    let (count, task) = counting();
    std::thread::scope(|scope| {
        for pusher in 0..8_u64 {
            let (pool, task) = (&pool, &task);
            scope.spawn(move || {
                for n in 0..1250 {
                    let priority = if n % 5 == 0 { FIRST } else { n * pusher % 17 };
                    pool.push_work(task(), priority).unwrap();
                }
            });
        }
    });
    drop(pool);
    assert_eq!(count.load(Ordering::SeqCst), 10_000);
}

#[test]
fn size_counts_what_is_queued() {
    let (pool, release) = held();
    assert_eq!(pool.size(), 0, "the held task was taken");
    let (count, task) = counting();
    for n in 1..=10 {
        pool.push_work(task(), n % 3).unwrap();
        assert_eq!(pool.size() as u64, n);
    }
    assert!(format!("{pool:?}").contains("1 threads, 10 tasks"), "{pool:?}");
    drop(release);
    let (done, end) = channel();
    // The last to come, and the least urgent.
    pool.push_work(move || done.send(()).unwrap(), 0).unwrap();
    end.recv().unwrap();
    assert_eq!((pool.size(), count.load(Ordering::SeqCst)), (0, 10));
}

/// What a thread does that was held while all of this was pushed, in the order of `priorities`.
fn order_of(priorities: &[u64]) -> Vec<(u64, usize)> {
    let (pool, release) = held();
    let (send, received): (_, Receiver<(u64, usize)>) = channel();
    for (n, priority) in priorities.iter().enumerate() {
        let (send, priority) = (send.clone(), *priority);
        pool.push_work(move || send.send((priority, n)).unwrap(), priority)
            .unwrap();
    }
    drop((release, send));
    received.iter().collect()
}

#[test]
fn larger_priorities_come_first_and_the_default_before_all() {
    let priorities = [0, 5, FIRST, 1, FIRST - 1, 1 << 40, FIRST, 5, 0];
    assert_eq!(
        order_of(&priorities),
        [
            (FIRST, 2),
            (FIRST, 6),
            (FIRST - 1, 4),
            (1 << 40, 5),
            (5, 1),
            (5, 7),
            (1, 3),
            (0, 0),
            (0, 8)
        ]
    );
}

#[test]
fn equal_priorities_are_first_in_first_out() {
    for priority in [FIRST, 7] {
        let order: Vec<usize> = order_of(&[priority; 300]).into_iter().map(|(_, n)| n).collect();
        assert!(order.into_iter().eq(0..300));
    }
}

#[test]
fn a_panic_ends_its_own_task_only() {
    let pool = ThreadPool::new(2).unwrap();
    let (count, task) = counting();
    for _ in 0..20 {
        pool.push_work(|| panic!("a defect of the application"), FIRST)
            .unwrap();
        pool.push_work(task(), FIRST).unwrap();
    }
    // Its threads are still there: both are needed for this.
    let barrier = Arc::new(std::sync::Barrier::new(3));
    for _ in 0..2 {
        let barrier = Arc::clone(&barrier);
        pool.push_work(
            move || {
                barrier.wait();
            },
            FIRST,
        )
        .unwrap();
    }
    barrier.wait();
    drop(pool);
    assert_eq!(count.load(Ordering::SeqCst), 20);
}

#[test]
fn dropping_the_last_clone_waits_for_what_is_queued() {
    let (pool, release) = held();
    let (count, task) = counting();
    for n in 0..100 {
        pool.push_work(task(), n).unwrap();
    }
    drop(pool.clone());
    assert_eq!(count.load(Ordering::SeqCst), 0, "a clone is left");
    let thread = std::thread::spawn(move || drop(pool));
    drop(release);
    thread.join().unwrap();
    assert_eq!(count.load(Ordering::SeqCst), 100);
}

#[test]
fn dropping_the_last_clone_in_a_task_neither_hangs_nor_loses_tasks() {
    let (pool, release) = held();
    let (send, received) = channel();
    let (first, last) = (send.clone(), send);
    let mine = pool.clone();
    pool.push_work(
        move || {
            drop(mine);
            first.send("dropped").unwrap();
        },
        FIRST,
    )
    .unwrap();
    pool.push_work(move || last.send("the last task").unwrap(), 0)
        .unwrap();
    // Now the task has the last clone.
    drop(pool);
    drop(release);
    let seen: Vec<&str> = received.iter().collect();
    assert_eq!(seen, ["dropped", "the last task"]);
}

#[test]
fn pools_that_drop_each_other_do_not_wait_for_each_other() {
    let (one, release_one) = held();
    let (two, release_two) = held();
    let (send, received) = channel();
    for (pool, other) in [(one.clone(), two.clone()), (two.clone(), one.clone())] {
        let send = send.clone();
        pool.push_work(
            move || {
                drop(other);
                send.send(()).unwrap();
            },
            FIRST,
        )
        .unwrap();
    }
    // Each pool's last clone is now in a task of the other.
    drop((one, two, send));
    drop((release_one, release_two));
    assert_eq!(received.iter().count(), 2);
}

#[test]
fn a_task_may_push_others() {
    let pool = ThreadPool::new(1).unwrap();
    let (send, received) = channel();
    let mine = pool.clone();
    pool.push_work(
        move || {
            for n in 0..3 {
                let send = send.clone();
                mine.push_work(move || send.send(n).unwrap(), n).unwrap();
            }
        },
        FIRST,
    )
    .unwrap();
    drop(pool);
    assert_eq!(received.iter().collect::<Vec<u64>>(), [2, 1, 0]);
}

#[test]
fn a_pool_has_a_bound() {
    let error = ThreadPool::new(THREADS_MAX + 1).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a thread pool of 1025 threads was asked for, and at most 1024 are allowed"
    );
}

#[test]
fn a_forked_child_gets_an_error_instead_of_threads_that_are_not_there() {
    let (pool, release) = held();
    drop(release);
    // As the child would see it.
    let child = ThreadPool {
        handle: Arc::new(Handle {
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    threads: 2,
                    ..State::default()
                }),
                work: Condvar::new(),
                ended: Condvar::new(),
                pid: this_process() + 1,
            }),
            thread_count: 2,
        }),
    };
    let error = child.push_work(|| (), FIRST).unwrap_err();
    assert!(matches!(error, ThreadPoolError::Forked { pid } if pid == this_process() + 1));
    assert!(error.to_string().contains("make another in the child"), "{error}");
    // Waits for nobody.
    drop(child);
    drop(pool);
}
