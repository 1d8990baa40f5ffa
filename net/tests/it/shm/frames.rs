//! What one side does and the other sees.

use std::time::Duration;

use mofka_net::shm::{
    Arrival, Claim, INLINE_BYTES_MAX, MapError, OutsideFrame, ReceiveError, Receiver, SendError, Sender,
    Stretch, Waiter, Wake,
};
use mofka_net::{FrameError, FrameHeader, FrameKind, Opcode};
use rustix::event::{PollFd, PollFlags, Timespec};

use super::{bytes_of, config, frame, ring};

const AT_ONCE: Option<Duration> = Some(Duration::ZERO);

#[test]
fn frames_of_the_protocol_go_both_ways() {
    let (mut server, mut client) = ring(8, 1 << 16, 0);
    for body_bytes in [0, 16, 80, 81, 1000, 60_000] {
        let body = frame(7, body_bytes);
        let header = FrameHeader::request(Opcode::Produce, 42, &body);
        client.sender.send(&[&header, &body]).unwrap();
        let arrival = server.receiver.receive().unwrap().unwrap();
        assert_eq!(arrival.is_in_arena(), 32 + body_bytes > INLINE_BYTES_MAX);
        assert_eq!(arrival.as_ptr().is_some(), arrival.is_in_arena());
        let header = arrival.header(1 << 20).unwrap();
        assert_eq!(header.kind(), FrameKind::Request(Opcode::Produce));
        assert_eq!((header.request_id(), arrival.body()), (42, body.clone().into()));
        header.check_body(&arrival.body()).unwrap();
        drop(arrival);

        let answer = FrameHeader::response(&header, &body);
        server.sender.send(&[&answer, &body]).unwrap();
        let arrival = client.receiver.receive().unwrap().unwrap();
        assert_eq!(
            arrival.header(1 << 20).unwrap().kind(),
            FrameKind::Response(Opcode::Produce)
        );
        assert_eq!(arrival.body(), body);
    }
    assert!(server.receiver.receive().unwrap().is_none() && client.receiver.receive().unwrap().is_none());
}

#[test]
fn a_frame_is_as_long_as_its_header_says() {
    let (mut server, mut client) = ring(8, 1 << 16, 0);
    let header = FrameHeader::request(Opcode::Ping, 1, b"body");
    for body in [&b"bod"[..], b"body!", &[0; 500]] {
        client.sender.send(&[&header, body]).unwrap();
        let arrival = server.receiver.receive().unwrap().unwrap();
        let error = arrival.header(1 << 20).unwrap_err();
        assert!(
            matches!(error, FrameError::BodyBytes { body_bytes: 4, .. }),
            "{error}"
        );
    }
    client.sender.send(&[&header, b"body"]).unwrap();
    let arrival = server.receiver.receive().unwrap().unwrap();
    assert!(matches!(arrival.header(35), Err(FrameError::TooLarge { .. })));
}

#[test]
fn a_frame_is_built_in_place_at_a_boundary() {
    let (mut server, mut client) = ring(8, 1 << 16, 0);
    let bytes = frame(1, 9000);
    for boundary_at in [0, 1, 345, 4096, 8999] {
        let mut claim = client.sender.claim_at_boundary(9000, boundary_at).unwrap();
        assert_eq!((claim.as_mut_ptr() as usize + boundary_at as usize) % 4096, 0);
        claim.write(0, &bytes[..5]).unwrap();
        claim.write(5, &bytes[5..]).unwrap();
        assert!(
            server.receiver.receive().unwrap().is_none(),
            "it is not committed"
        );
        client.sender.commit(claim).unwrap();
        let arrival = server.receiver.receive().unwrap().unwrap();
        assert_eq!(
            (arrival.as_ptr().unwrap() as usize + boundary_at as usize) % 4096,
            0
        );
        assert!(bytes_of(&arrival) == bytes);
    }
}

#[test]
fn the_end_of_a_frame_is_read_where_it_was_filled_and_stays_its_senders() {
    let (mut server, mut client) = ring(8, 1 << 16, 0);
    let (body, header_bytes) = (frame(1, 20_000), 32);
    let mut rest = client.sender.keep(20_001, Some(0)).unwrap();
    assert_eq!((rest.as_mut_ptr() as usize) % 4096, 0);
    rest.write(0, &body[500..10_000]).unwrap();
    rest.write(9_500, &body[10_000..]).unwrap();
    assert_eq!(
        rest.shorten(20_002),
        Err(OutsideFrame {
            at: 0,
            bytes: 20_002,
            frame_bytes: 20_001
        })
    );
    rest.shorten(19_500).unwrap();
    assert!(rest.write(19_500, &[1]).is_err() && rest.read(19_499, &mut [0; 2]).is_err());
    // As often as it is asked for, and in any pieces.
    for round in 0..20_u64 {
        let header = FrameHeader::request(Opcode::Produce, round, &body);
        client.sender.send_with(&[&header, &body[..500]], &rest).unwrap();
        let arrival = server.receiver.receive().unwrap().unwrap();
        assert_eq!(arrival.bytes(), 20_032);
        assert!(arrival.is_in_arena() && arrival.as_ptr().is_none());
        assert_eq!(arrival.header(1 << 20).unwrap().request_id(), round);
        assert!(arrival.body() == body);
        for (at, bytes) in [(0, 0), (500, 32), (531, 2), (532, 1), (533, 7), (20_000, 0)] {
            let mut part = vec![0; bytes];
            arrival.read(header_bytes + at as u64, &mut part).unwrap();
            assert!(part == body[at..at + bytes], "{bytes} bytes at {at}");
        }
        let outside = OutsideFrame {
            at: 20_031,
            bytes: 2,
            frame_bytes: 20_032,
        };
        assert_eq!(arrival.read(20_031, &mut [0; 2]), Err(outside));
    }
    let mut again = vec![0; 19_500];
    rest.read(0, &mut again).unwrap();
    assert!(again == body[500..]);
}

#[test]
fn what_is_kept_is_bounded_and_leaves_room_for_frames() {
    let (mut server, mut client) = ring(8, 1 << 16, 0);
    let no_room = |bytes| Err(SendError::NoRoom { frame_bytes: bytes });
    assert_eq!(
        client.sender.keep(32_769, None).map(drop),
        Err(SendError::FrameBytes {
            frame_bytes: 32_769,
            min: 1,
            max: 32_768
        })
    );
    assert!(client.sender.keep(0, None).is_err());
    let whole = client.sender.keep(32_768, Some(0)).unwrap();
    assert_eq!(client.sender.keep(1, None).map(drop), no_room(1));
    assert_eq!(client.sender.frame_bytes_max(), 32_768);
    // What may never find room is refused, so that it can go another way; the rest finds it.
    assert!(client.sender.can_send(32_769) && client.sender.can_send(32_768));
    assert!(matches!(
        client.sender.send(&[&[0; 32_769]]),
        Err(SendError::FrameBytes { max: 32_768, .. })
    ));
    client.sender.send(&[&[5; 32_768]]).unwrap();
    assert!(!client.sender.can_send_with(200), "the lower half is full");
    assert_eq!(client.sender.send_with(&[&[7; 200]], &whole), no_room(200));
    drop(server.receiver.receive().unwrap());
    client.sender.send_with(&[&[7; 200]], &whole).unwrap();
    drop(whole);
    assert_eq!(client.sender.frame_bytes_max(), 65_536);
    let kept: Vec<Stretch> = (0..4).map(|_| client.sender.keep(1, None).unwrap()).collect();
    assert_eq!(
        client.sender.keep(1, None).map(drop),
        no_room(1),
        "half of the slots"
    );
    // The others are left to frames.
    drop(server.receiver.receive().unwrap());
    for _ in 0..4 {
        client.sender.send(&[&[1; 200]]).unwrap();
    }
    assert!(!client.sender.can_send(200) && client.sender.can_send(40));
    drop(kept);
    assert!(client.sender.can_send(200));
    let (_other_server, mut other) = ring(8, 1 << 16, 0);
    let foreign = other.sender.keep(100, None).unwrap();
    assert!(!client.sender.is_own(&foreign) && other.sender.is_own(&foreign));
    assert_eq!(
        client.sender.send_with(&[&[1; 200]], &foreign),
        Err(SendError::ForeignClaim)
    );
}

#[test]
fn reads_and_writes_stay_within_the_frame() {
    let (mut server, mut client) = ring(8, 1 << 16, 0);
    for bytes in [100, 1000_u64] {
        let mut claim = client.sender.claim(bytes).unwrap();
        let outside = |at, bytes_too_many| OutsideFrame {
            at,
            bytes: bytes_too_many,
            frame_bytes: bytes,
        };
        assert_eq!(claim.write(bytes - 1, &[0; 2]), Err(outside(bytes - 1, 2)));
        assert_eq!(claim.write(u64::MAX, &[0; 2]), Err(outside(u64::MAX, 2)));
        assert_eq!(claim.shorten(bytes + 1), Err(outside(0, bytes + 1)));
        claim.shorten(bytes).unwrap();
        claim.write(0, &frame(3, bytes as usize)).unwrap();
        client.sender.commit(claim).unwrap();
        client.sender.send(&[&frame(3, bytes as usize)]).unwrap();
        for _ in 0..2 {
            let arrival = server.receiver.receive().unwrap().unwrap();
            assert_eq!(arrival.read(bytes - 1, &mut [0; 2]), Err(outside(bytes - 1, 2)));
            assert_eq!(arrival.read(u64::MAX, &mut [0; 2]), Err(outside(u64::MAX, 2)));
            let mut part = [0; 3];
            arrival.read(50, &mut part).unwrap();
            assert_eq!(part, frame(3, bytes as usize)[50..53]);
            arrival.read(bytes, &mut []).unwrap();
        }
    }
}

#[test]
fn a_claim_can_become_shorter_and_is_aborted_when_dropped() {
    let (mut server, mut client) = ring(4, 4096, 0);
    let mut claim = client.sender.claim(4096).unwrap();
    assert!(matches!(
        client.sender.claim(33),
        Err(SendError::NoRoom { frame_bytes: 33 })
    ));
    claim.shorten(200).unwrap();
    claim.write(0, &frame(5, 200)).unwrap();
    client.sender.commit(claim).unwrap();
    assert_eq!(
        bytes_of(&server.receiver.receive().unwrap().unwrap()),
        frame(5, 200)
    );
    client.sender.claim(4096).unwrap().abort();
    drop(client.sender.claim(4096).unwrap());
    let mut claim = client.sender.claim(4096).unwrap();
    claim.shorten(31).unwrap();
    assert!(matches!(
        client.sender.commit(claim),
        Err(SendError::FrameBytes { .. })
    ));
    assert!(
        client.sender.claim(4096).is_ok(),
        "what could not be committed is given back"
    );
    assert!(server.receiver.receive().unwrap().is_none());
}

#[test]
fn what_never_fits_is_refused() {
    let (_server, mut client) = ring(4, 4096, 0);
    for bytes in [0, 31, 4097] {
        let error = client.sender.send(&[&vec![0; bytes]]).unwrap_err();
        assert!(
            matches!(
                error,
                SendError::FrameBytes {
                    min: 32,
                    max: 4096,
                    ..
                }
            ),
            "{error}"
        );
        assert!(
            client.sender.can_send(bytes as u64),
            "there is nothing to wait for"
        );
    }
    let error = client.sender.claim_at_boundary(4096, 1).unwrap_err();
    assert!(matches!(error, SendError::FrameBytes { max: 1, .. }), "{error}");
    assert!(matches!(
        client.sender.claim(u64::MAX),
        Err(SendError::FrameBytes { .. })
    ));
}

#[test]
fn a_claim_is_committed_where_it_was_made() {
    let (_server, mut client) = ring(4, 4096, 0);
    let (mut other_server, mut other) = ring(4, 4096, 0);
    let claim = client.sender.claim(4096).unwrap();
    assert_eq!(other.sender.commit(claim), Err(SendError::ForeignClaim));
    assert!(other_server.receiver.receive().unwrap().is_none());
    assert!(client.sender.claim(4096).is_ok());
}

#[test]
fn full_slots_and_a_full_arena_push_back() {
    let (mut server, mut client) = ring(4, 4096, 0);
    for number in 0..4 {
        assert!(client.sender.can_send(40));
        client.sender.send(&[&frame(number, 40)]).unwrap();
    }
    assert!(!client.sender.can_send(40) && !client.sender.can_claim(40, None));
    assert_eq!(
        client.sender.send(&[&[0; 40]]),
        Err(SendError::NoRoom { frame_bytes: 40 })
    );
    assert!(server.receiver.receive().unwrap().is_some());
    client.sender.send(&[&frame(4, 1000)]).unwrap();
    let mut held = Vec::new();
    for _ in 1..=4 {
        held.push(server.receiver.receive().unwrap().unwrap());
    }
    assert!(!client.sender.can_send(4096), "the arena's frame is held");
    assert!(client.sender.can_claim(2000, Some(2000)) && !client.sender.can_claim(3100, None));
    drop(held);
    assert!(client.sender.can_send(4096) && client.sender.can_claim(4096, Some(0)));
}

/// Claims have slots of their own, so small frames cannot take those.
#[test]
fn a_commit_never_waits() {
    let (mut server, mut client) = ring(4, 1 << 16, 0);
    let claims: Vec<Claim> = (0..3).map(|_| client.sender.claim(200).unwrap()).collect();
    client.sender.send(&[&[1; 40]]).unwrap();
    assert!(!client.sender.can_send(40) && !client.sender.can_send(200));
    for claim in claims {
        client.sender.commit(claim).unwrap();
    }
    let arrivals: Vec<Arrival> = std::iter::from_fn(|| server.receiver.receive().unwrap()).collect();
    assert_eq!(arrivals.len(), 4);
}

#[test]
fn a_closed_end_is_told_after_what_was_sent() {
    let (mut server, mut client) = ring(4, 1 << 16, 0);
    client.sender.send(&[&[1; 40]]).unwrap();
    client.sender.send(&[&[2; 400]]).unwrap();
    drop(client.sender);
    assert!(server.receiver.is_ready());
    let first = server.receiver.receive().unwrap().unwrap();
    let second = server.receiver.receive().unwrap().unwrap();
    assert_eq!((bytes_of(&first)[0], bytes_of(&second)[0]), (1, 2));
    assert_eq!(server.receiver.receive().unwrap_err(), ReceiveError::Closed);
    assert!(server.receiver.is_ready());
    // The other direction goes on.
    server.sender.send(&[&[3; 400]]).unwrap();
    assert!(client.receiver.receive().unwrap().is_some());
    drop(client.receiver);
    assert_eq!(server.sender.send(&[&[3; 40]]), Err(SendError::Closed));
    assert!(matches!(server.sender.claim(400), Err(SendError::Closed)));
    assert!(server.sender.can_send(40));
    // What was received outlives the ends.
    drop(server.receiver);
    assert_eq!(bytes_of(&second), [2; 400]);
}

fn is_rung(waiter: &Waiter) -> bool {
    let zero = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut polled = [PollFd::new(waiter, PollFlags::IN)];
    rustix::event::poll(&mut polled, Some(&zero)).unwrap() == 1
}

#[test]
fn only_who_sleeps_is_rung_and_once() {
    let (mut server, mut client) = ring(4, 1 << 16, 0);
    for number in 0..1000 {
        client
            .sender
            .send(&[&frame(number, 40 + (number % 2) as usize * 400)])
            .unwrap();
        drop(server.receiver.receive().unwrap().unwrap());
        assert!(server.receiver.receive().unwrap().is_none());
    }
    assert!(
        !is_rung(&server.waiter) && !is_rung(&client.waiter),
        "nobody slept"
    );
    for _ in 0..3 {
        server.waiter.announce();
        assert!(!server.receiver.is_ready());
        client.sender.send(&[&[1; 40]]).unwrap();
        client.sender.send(&[&[1; 400]]).unwrap();
        assert!(is_rung(&server.waiter));
        assert!(server.waiter.awake() && !is_rung(&server.waiter));
        let wake = server
            .waiter
            .wait(|| server.receiver.is_ready(), 0, None)
            .unwrap();
        assert_eq!(wake, Wake::Ready);
        client.waiter.announce();
        drop([
            server.receiver.receive().unwrap(),
            server.receiver.receive().unwrap(),
        ]);
        assert!(is_rung(&client.waiter), "there is room again");
        assert!(client.waiter.awake() && !is_rung(&client.waiter));
        assert!(server.receiver.receive().unwrap().is_none());
    }
}

#[test]
fn the_end_rings_too() {
    for close_receiver in [false, true] {
        let (mut server, client) = ring(4, 1 << 16, 0);
        server.waiter.announce();
        if close_receiver {
            drop(client.receiver);
        } else {
            drop(client.sender);
        }
        assert!(is_rung(&server.waiter));
    }
}

#[test]
fn a_wait_ends_when_its_time_is_over() {
    let (mut server, mut client) = ring(4, 1 << 16, 0);
    assert_eq!(server.waiter.wait(|| false, 0, AT_ONCE).unwrap(), Wake::TimedOut);
    assert_eq!(client.waiter.wait(|| false, 10, AT_ONCE).unwrap(), Wake::TimedOut);
    let mut asked = 0;
    let polled = client.waiter.wait(
        || {
            asked += 1;
            asked == 3
        },
        10,
        None,
    );
    assert_eq!((polled.unwrap(), asked), (Wake::Ready, 3));
}

#[test]
fn sizes_out_of_bounds_are_refused() {
    for slot_count in [0, 1, 3, 1 << 17] {
        let made = mofka_net::shm::End::create(&config(slot_count, 4096, 0));
        assert!(matches!(made, Err(MapError::Slots { .. })));
    }
    for arena_bytes in [0, 4095, 1 << 60] {
        let made = mofka_net::shm::End::create(&config(4, arena_bytes, 0));
        assert!(matches!(made, Err(MapError::Arena { .. })));
    }
}

#[test]
fn parts_can_go_to_other_threads() {
    fn is_send<T: Send>() {}
    fn is_sync<T: Sync>() {}
    is_send::<Sender>();
    is_send::<Receiver>();
    is_send::<Waiter>();
    is_send::<Claim>();
    is_send::<Arrival>();
    is_send::<Stretch>();
    is_sync::<Stretch>();
    is_sync::<Arrival>();
}
