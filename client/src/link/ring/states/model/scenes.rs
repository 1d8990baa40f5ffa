//! What is played, and that nobody sleeps for good in it; nor would what is left out go unnoticed.

use super::{Flaw, Rest, Scene, Sleep, expect_found, explore};

/// Asks for something, and neither polls nor calls the reader thread.
const ASKER: Scene = Scene {
    requests: 1,
    is_chain: false,
    nap: Sleep::Short,
    lazy: Sleep::Short,
    clients: &[|world| {
        for request in 0..world.scene.requests {
            world.ask(request);
            world.wait(request);
        }
    }],
    preemptions_max: 2,
};

#[test]
fn whoever_asks_is_answered_although_nobody_looked() {
    explore(Flaw::None, ASKER);
    explore(
        Flaw::None,
        Scene {
            requests: 2,
            preemptions_max: 1,
            ..ASKER
        },
    );
}

#[test]
fn what_is_left_out_between_who_asks_and_who_leaves_is_found() {
    let flaws = [
        Flaw::Unseen("deaf"),
        Flaw::Expected,
        Flaw::News,
        Flaw::Time(Rest::Lazy),
    ];
    expect_found(ASKER, &flaws);
}

/// Sleeps at the bell himself, also where the reader thread hears it, and is only woken by it.
const NAPPER: Scene = Scene {
    requests: 2,
    is_chain: true,
    nap: Sleep::Through,
    lazy: Sleep::Short,
    clients: &[|world| {
        world.has_begun.wait();
        world.drive(1, usize::MAX);
        world.wait(1);
    }],
    preemptions_max: 2,
};

#[test]
fn whoever_naps_is_woken_by_the_bell_whoever_hears_it_too() {
    explore(Flaw::None, NAPPER);
}

#[test]
fn a_ring_that_is_taken_from_one_who_naps_is_found() {
    expect_found(NAPPER, &[Flaw::Ring, Flaw::Unseen("napped")]);
}

/// Naps in vain, and leaves the rest to the reader thread, which may have gone away meanwhile.
const LEAVER: Scene = Scene {
    requests: 1,
    is_chain: false,
    nap: Sleep::Short,
    lazy: Sleep::Short,
    clients: &[|world| {
        world.ask(0);
        world.drive(0, 1);
        world.wait(0);
    }],
    preemptions_max: 2,
};

#[test]
fn the_reader_thread_comes_back_when_nobody_naps_any_more() {
    explore(Flaw::None, LEAVER);
}

#[test]
fn what_is_left_out_between_who_naps_and_the_reader_thread_is_found() {
    let flaws = [
        Flaw::Unordered("napped"),
        Flaw::Unordered("away"),
        Flaw::Unseen("away"),
        Flaw::News,
        Flaw::Time(Rest::Missed),
    ];
    expect_found(LEAVER, &flaws);
}

/// Waits without polling, and calls the reader thread, which is lazy until somebody does.
const WAITER: Scene = Scene {
    requests: 1,
    is_chain: false,
    nap: Sleep::Short,
    lazy: Sleep::Through,
    clients: &[|world| {
        for request in 0..world.scene.requests {
            world.ask(request);
            world.states.awaited(|| world.nudge());
            world.wait(request);
        }
    }],
    preemptions_max: 2,
};

#[test]
fn a_lazy_reader_thread_sees_who_waits_at_once() {
    explore(Flaw::None, WAITER);
    explore(
        Flaw::None,
        Scene {
            requests: 2,
            preemptions_max: 1,
            ..WAITER
        },
    );
}

#[test]
fn what_is_left_out_between_who_waits_and_a_lazy_reader_thread_is_found() {
    let flaws = [
        Flaw::Unordered("awaited"),
        Flaw::Unordered("lazy"),
        Flaw::Unseen("lazy"),
        Flaw::Unseen("awaited"),
    ];
    expect_found(WAITER, &flaws);
}

/// One who polls and leaves, and one who asks and waits meanwhile.
const SEVERAL: Scene = Scene {
    requests: 2,
    is_chain: false,
    nap: Sleep::Short,
    lazy: Sleep::Short,
    clients: &[
        |world| {
            world.ask(0);
            world.drive(0, 1);
            world.wait(0);
        },
        |world| {
            world.ask(1);
            world.states.awaited(|| world.nudge());
            world.wait(1);
        },
    ],
    preemptions_max: 1,
};

#[test]
fn whoever_waits_beside_one_who_polls_is_woken() {
    explore(Flaw::None, SEVERAL);
}
