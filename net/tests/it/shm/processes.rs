//! Two processes: this test program starts itself again.

use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mofka_net::shm::{End, Offer, ReceiveError, SendError, Waiter, Wake};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::{bytes_of, config, frame};

const LOST: Option<Duration> = Some(Duration::from_secs(60));
const ROLE: &str = "MOFKA_TEST_SHM_ROLE";

fn await_ready(waiter: &mut Waiter, ready: impl FnMut() -> bool) {
    assert_ne!(
        waiter.wait(ready, 0, LOST).unwrap(),
        Wake::TimedOut,
        "a ring was lost"
    );
}

fn sockets() -> (OwnedFd, OwnedFd) {
    rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap()
}

/// This program as another process, with a socket as its input.
fn start(role: &str) -> (Child, OwnedFd) {
    let (ours, theirs) = sockets();
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "shm::processes::the_other_process",
            "--ignored",
            "--nocapture",
        ])
        .env(ROLE, role)
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    (child, ours)
}

#[test]
#[ignore = "started by the other tests here"]
fn the_other_process() {
    let role = std::env::var(ROLE).expect("started by the other tests here");
    match role.as_str() {
        "echo" => {
            let (offer, bytes) = Offer::receive(std::io::stdin(), &mut [0; 5]).unwrap();
            assert_eq!(bytes, 5);
            echo(End::attach(offer.unwrap()).unwrap());
        }
        "server" => {
            let (_end, offer) = End::create(&config(8, 1 << 16, 0)).unwrap();
            offer.pass(std::io::stdin(), b"offer").unwrap();
            std::thread::sleep(Duration::from_secs(600));
        }
        _ => panic!("{role}"),
    }
}

/// Sends back what comes.
fn echo(mut end: End) {
    loop {
        let content = match end.receiver.receive() {
            Ok(Some(arrival)) => bytes_of(&arrival),
            Ok(None) => {
                await_ready(&mut end.waiter, || end.receiver.is_ready());
                continue;
            }
            Err(ReceiveError::Closed) => return,
            Err(error) => panic!("{error}"),
        };
        while let Err(error) = end.sender.send(&[&content]) {
            if error == SendError::Closed {
                return;
            }
            assert!(matches!(error, SendError::NoRoom { .. }), "{error}");
            await_ready(&mut end.waiter, || end.sender.can_send(content.len() as u64));
        }
    }
}

fn start_echo() -> (Child, End) {
    let (child, socket) = start("echo");
    let (end, offer) = End::create(&config(8, 32 << 10, u64::MAX - 99)).unwrap();
    offer.pass(&socket, b"offer").unwrap();
    (child, end)
}

fn bytes_at(number: u64) -> usize {
    32 + number as usize * 131 % 7000
}

/// Sends frames, several at a time, and checks what comes back, up to frame `end`.
fn exchange(ring: &mut End, numbers: std::ops::Range<u64>) {
    let (mut to_send, mut to_receive) = (numbers.clone(), numbers);
    let mut next = to_send.next();
    while to_receive.start < to_receive.end {
        if let Some(number) = next
            && ring.sender.send(&[&frame(number, bytes_at(number))]).is_ok()
        {
            next = to_send.next();
            continue;
        }
        match ring.receiver.receive().unwrap() {
            Some(arrival) => {
                let number = to_receive.next().unwrap();
                assert!(
                    bytes_of(&arrival) == frame(number, bytes_at(number)),
                    "frame {number}"
                );
            }
            None => await_ready(&mut ring.waiter, || {
                let bytes = next.map(|number| bytes_at(number) as u64);
                ring.receiver.is_ready() || bytes.is_some_and(|bytes| ring.sender.can_send(bytes))
            }),
        }
    }
}

#[test]
fn frames_go_to_another_process_and_back() {
    let (mut child, mut ring) = start_echo();
    exchange(&mut ring, 0..20_000);
    drop(ring);
    assert!(child.wait().unwrap().success());
}

/// Nobody tells this side, as long as it does not look at the socket; nothing else goes wrong.
#[test]
fn a_client_that_is_killed_leaves_the_server_whole() {
    for frames in [0, 1, 77, 400] {
        let (mut child, mut ring) = start_echo();
        exchange(&mut ring, 0..frames);
        while ring.sender.send(&[&frame(1, 500)]).is_ok() {}
        child.kill().unwrap();
        child.wait().unwrap();
        while ring.sender.send(&[&frame(1, 500)]).is_ok() {}
        let error = ring.sender.send(&[&frame(1, 500)]).unwrap_err();
        assert!(matches!(error, SendError::NoRoom { .. }), "{error}");
        while ring.receiver.receive().unwrap().is_some() {}
        let mut ready = || ring.receiver.is_ready();
        // It was rung before, or it is not rung any more.
        while ring.waiter.wait(&mut ready, 0, Some(Duration::ZERO)).unwrap() == Wake::Rung {}
    }
}

#[test]
fn the_end_of_the_servers_process_is_heard() {
    let (mut child, socket) = start("server");
    let (offer, _) = Offer::receive(&socket, &mut [0; 5]).unwrap();
    let mut end = End::attach(offer.unwrap()).unwrap();
    assert!(end.receiver.receive().unwrap().is_none());
    let killing = std::thread::spawn(move || {
        child.kill().unwrap();
        child.wait().unwrap();
    });
    let wake = end.waiter.wait(|| end.receiver.is_ready(), 0, LOST).unwrap();
    assert_eq!(wake, Wake::Gone);
    killing.join().unwrap();
}

#[test]
fn bytes_without_descriptors_are_no_offer_and_too_few_are_refused() {
    let (ours, theirs) = sockets();
    rustix::io::write(&ours, b"offer").unwrap();
    let (offer, bytes) = Offer::receive(&theirs, &mut [0; 5]).unwrap();
    assert!(offer.is_none() && bytes == 5);
    let mut room = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = rustix::net::SendAncillaryBuffer::new(&mut room);
    let one = [std::os::fd::AsFd::as_fd(&ours)];
    assert!(ancillary.push(rustix::net::SendAncillaryMessage::ScmRights(&one)));
    let bytes = [std::io::IoSlice::new(b"offer")];
    rustix::net::sendmsg(&ours, &bytes, &mut ancillary, rustix::net::SendFlags::empty()).unwrap();
    let refused = Offer::receive(&theirs, &mut [0; 5]).unwrap_err();
    assert!(refused.to_string().starts_with("1 descriptors came"), "{refused}");
}
