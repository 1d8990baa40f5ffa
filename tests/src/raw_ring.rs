//! A client that speaks through shared memory and knows nothing but the wire: for what the real one never does there.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mofka_net::control::{RingLane, RingOpenRequest, encode};
use mofka_net::limits::{FEATURE_RING, FEATURE_RING_IN_PLACE};
use mofka_net::shm::{End, Offer, ReceiveError, SendError};
use mofka_net::{FRAME_HEADER_BYTES, FrameHeader, FrameKind, Opcode, WireError};

use crate::raw::{RawClient, Received};

/// Longer than anything takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// One connection.
pub struct RawRing {
    /// Its end of the ring.
    pub end: End,
    /// The memory, to be written where it should not.
    pub memory: OwnedFd,
    /// Held: its end is the end of the connection.
    pub socket: UnixStream,
    next_request: u64,
}

/// The request for a ring with both directions like this.
pub fn ring_request(slots: u32, arena_bytes: u64) -> RingOpenRequest {
    let lane = RingLane { slots, arena_bytes };
    RingOpenRequest {
        submission: lane,
        completion: lane,
    }
}

impl RawRing {
    /// Connects to a Unix socket, says hello, and asks for a ring.
    ///
    /// # Panics
    /// When that does not work.
    pub fn open(address: &str, slots: u32, arena_bytes: u64) -> Self {
        Self::open_with(
            address,
            slots,
            arena_bytes,
            &[FEATURE_RING, FEATURE_RING_IN_PLACE],
        )
    }

    /// The same with these features in hello.
    ///
    /// # Panics
    /// As [`Self::open`].
    pub fn open_with(address: &str, slots: u32, arena_bytes: u64, features: &[&str]) -> Self {
        let mut client = RawClient::connect(address);
        let hello = client.say_hello(features);
        assert_eq!(hello.features, features);
        assert!(hello.ring.is_some(), "the node gives rings");
        let body = encode("ring_open", &ring_request(slots, arena_bytes)).unwrap();
        client.request(Opcode::RingOpen, &body);
        let socket = client.into_unix();
        let mut answer = [0; 1024];
        let (offer, bytes) = Offer::receive(&socket, &mut answer).unwrap();
        let header = FrameHeader::check(&answer[..bytes], 1024).unwrap();
        assert_eq!(header.kind(), FrameKind::Response(Opcode::RingOpen));
        let offer = offer.expect("an offer comes with the answer");
        let memory = offer.memory.try_clone().unwrap();
        Self {
            end: End::attach(offer).unwrap(),
            memory,
            socket,
            next_request: 1,
        }
    }

    /// Sends a request without waiting for its answer; returns its number.
    ///
    /// # Errors
    /// When the ring is closed or broken.
    ///
    /// # Panics
    /// When there is no room for a long time.
    pub fn request(&mut self, opcode: Opcode, body: &[u8]) -> Result<u64, SendError> {
        let number = self.next_request;
        self.next_request += 1;
        let header = FrameHeader::request(opcode, number, body);
        self.send(&[&header, body])?;
        Ok(number)
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// When the ring is closed or broken.
    ///
    /// # Panics
    /// When there is no room for a long time.
    pub fn send(&mut self, parts: &[&[u8]]) -> Result<(), SendError> {
        let started = Instant::now();
        loop {
            match self.end.sender.send(parts) {
                Err(SendError::NoRoom { .. }) if started.elapsed() < PATIENCE => std::thread::yield_now(),
                Err(SendError::NoRoom { .. }) => panic!("no room for {PATIENCE:?}"),
                sent => return sent,
            }
        }
    }

    /// The next frame from the server.
    ///
    /// # Errors
    /// When the connection ended.
    ///
    /// # Panics
    /// When nothing comes for a long time, or what came is not a frame.
    pub fn receive(&mut self) -> io::Result<Received> {
        let started = Instant::now();
        loop {
            match self.end.receiver.receive() {
                Ok(Some(arrival)) => {
                    let header = arrival.header(FRAME_HEADER_BYTES as u64 + (1 << 30)).unwrap();
                    let body = arrival.body();
                    header.check_body(&body).unwrap();
                    return Ok(Received { header, body });
                }
                Ok(None) => assert!(started.elapsed() < PATIENCE, "nothing came for {PATIENCE:?}"),
                Err(error @ (ReceiveError::Closed | ReceiveError::Fault(_))) => {
                    return Err(io::Error::other(error));
                }
            }
            std::thread::yield_now();
        }
    }

    /// Sends a request and waits for its answer; feeds in between are dropped.
    ///
    /// # Errors
    /// What the server answered.
    ///
    /// # Panics
    /// When the connection ended.
    pub fn call(&mut self, opcode: Opcode, body: &[u8]) -> Result<Bytes, WireError> {
        let number = self.request(opcode, body).unwrap();
        loop {
            let received = self.receive().unwrap();
            if received.header.request_id() == number {
                return received.answer();
            }
        }
    }
}
