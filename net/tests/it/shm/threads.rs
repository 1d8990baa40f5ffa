//! Two threads on both ends of a ring, sleeping whenever there is nothing to do.

use std::sync::mpsc;
use std::time::Duration;

use mofka_net::shm::{ReceiveError, Receiver, SendError, Sender, Waiter, Wake};

use super::{bytes_of, frame, ring};

/// Nothing takes that long: a ring was lost.
const LOST: Option<Duration> = Some(Duration::from_secs(60));
const FRAMES: u64 = 20_000;

fn bytes_at(number: u64) -> usize {
    [40, 100, 300, 2000, 32, 6000][number as usize % 6] + number as usize % 13
}

fn await_ready(waiter: &mut Waiter, polls: u32, ready: impl FnMut() -> bool) {
    assert_ne!(
        waiter.wait(ready, polls, LOST).unwrap(),
        Wake::TimedOut,
        "a ring was lost"
    );
}

fn send(sender: &mut Sender, waiter: &mut Waiter, number: u64, polls: u32) {
    let content = frame(number, bytes_at(number));
    loop {
        let sent = if number.is_multiple_of(2) {
            sender.send(&[&content])
        } else {
            sender.claim(content.len() as u64).and_then(|mut claim| {
                claim.write(0, &content).unwrap();
                sender.commit(claim)
            })
        };
        match sent {
            Ok(()) => return,
            Err(SendError::NoRoom { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        await_ready(waiter, polls, || sender.can_claim(content.len() as u64, None));
    }
}

fn receive_all(receiver: &mut Receiver, waiter: &mut Waiter, polls: u32) {
    // Given back by another thread, and not in their order.
    let (release, released) = mpsc::channel();
    let releasing = std::thread::spawn(move || {
        let mut kept = Vec::new();
        for arrival in released {
            kept.push(arrival);
            if kept.len() == 3 {
                kept.swap(0, 2);
                kept.clear();
            }
        }
    });
    for number in 0.. {
        let arrival = loop {
            match receiver.receive() {
                Ok(Some(arrival)) => break arrival,
                Ok(None) => await_ready(waiter, polls, || receiver.is_ready()),
                Err(ReceiveError::Closed) => {
                    assert_eq!(number, FRAMES);
                    drop(release);
                    releasing.join().unwrap();
                    return;
                }
                Err(error) => panic!("{error}"),
            }
        };
        assert!(
            bytes_of(&arrival) == frame(number, bytes_at(number)),
            "frame {number}"
        );
        release.send(arrival).unwrap();
    }
}

fn run(polls: u32, from_server: bool) {
    let (server, client) = ring(8, 32 << 10, u64::MAX - 1000);
    let (from, to) = if from_server {
        (server, client)
    } else {
        (client, server)
    };
    std::thread::scope(|scope| {
        let sending = scope.spawn(move || {
            let (mut sender, mut waiter) = (from.sender, from.waiter);
            (0..FRAMES).for_each(|number| send(&mut sender, &mut waiter, number, polls));
        });
        let (mut receiver, mut waiter) = (to.receiver, to.waiter);
        receive_all(&mut receiver, &mut waiter, polls);
        sending.join().unwrap();
    });
}

#[test]
fn sleeping_ends_pass_frames_to_the_server() {
    run(0, false);
}

#[test]
fn sleeping_ends_pass_frames_to_the_client() {
    run(0, true);
}

#[test]
fn ends_that_poll_before_they_sleep_pass_frames() {
    run(200, false);
}
