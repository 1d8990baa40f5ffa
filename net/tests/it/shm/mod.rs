//! The ring in shared memory, through its public face.

mod frames;
mod hostile;
mod model;
mod processes;
mod threads;

use mofka_net::shm::{Arrival, End, LaneConfig, RingConfig};

/// A ring whose lanes are alike, and both of its ends.
fn ring(slot_count: u32, arena_bytes: u64, first_position: u64) -> (End, End) {
    let (server, offer) = End::create(&config(slot_count, arena_bytes, first_position)).unwrap();
    (server, End::attach(offer).unwrap())
}

fn config(slot_count: u32, arena_bytes: u64, first_position: u64) -> RingConfig {
    let lane = LaneConfig {
        slot_count,
        arena_bytes,
    };
    RingConfig {
        submission: lane,
        completion: lane,
        first_position,
    }
}

/// Bytes that no other number has.
fn frame(number: u64, bytes: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

fn bytes_of(arrival: &Arrival) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(arrival.bytes()).unwrap()];
    arrival.read(0, &mut bytes).unwrap();
    bytes
}
