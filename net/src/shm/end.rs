//! The two ends of a ring.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::shm::bell::{self, Hearing};
use crate::shm::fault::MapError;
use crate::shm::layout::{LanePlaces, RingConfig};
use crate::shm::mapping::Mapping;
use crate::shm::receiver::Receiver;
use crate::shm::sender::Sender;
use crate::shm::side::{Side, SleepWords};
use crate::shm::waiter::Waiter;

/// One end of a ring: what it needs to send, to receive, and to sleep meanwhile. They can go to different threads.
#[derive(Debug)]
pub struct End {
    /// Sends to the other end.
    pub sender: Sender,
    /// Receives from the other end.
    pub receiver: Receiver,
    /// Sleeps until the other end rings.
    pub waiter: Waiter,
}

/// What a client needs to attach. It travels over the Unix socket.
#[derive(Debug)]
pub struct Offer {
    /// The shared memory.
    pub memory: OwnedFd,
    /// Rings the server.
    pub server_bell: OwnedFd,
    /// Hears the server ring.
    pub client_bell: OwnedFd,
}

impl End {
    /// Makes a ring for one client: the server's end, and what the client is to be given. Memory and bells are never
    /// shared by two clients, who could spoil them for each other.
    ///
    /// # Errors
    /// Sizes out of bounds, or a refusal of the system.
    pub fn create(config: &RingConfig) -> Result<(Self, Offer), MapError> {
        let (mapping, memory) = Mapping::create(config)?;
        let server_bell = bell::event()?;
        let (ringing, client_bell) = bell::socket()?;
        let hearing = server_bell.try_clone().map_err(|error| MapError::System {
            what: "duplicate the bell of a ring",
            error,
        })?;
        let places = *mapping.places();
        let sleeps = SleepWords {
            own: places.server_sleeps,
            peer: places.client_sleeps,
        };
        let side = Side::new(mapping, sleeps, move || bell::ring_socket(&ringing));
        let ends = (places.completion, places.submission);
        let end = Self::of(side, ends, places.first_position, Hearing::Event(hearing));
        let offer = Offer {
            memory,
            server_bell,
            client_bell,
        };
        Ok((end, offer))
    }

    /// The client's end.
    ///
    /// # Errors
    /// As [`Mapping::attach`].
    pub fn attach(offer: Offer) -> Result<Self, MapError> {
        let mapping = Mapping::attach(&offer.memory)?;
        let places = *mapping.places();
        let sleeps = SleepWords {
            own: places.client_sleeps,
            peer: places.server_sleeps,
        };
        let ringing = offer.server_bell;
        let side = Side::new(mapping, sleeps, move || bell::ring_event(&ringing));
        let ends = (places.submission, places.completion);
        let hearing = Hearing::Socket(offer.client_bell);
        Ok(Self::of(side, ends, places.first_position, hearing))
    }

    fn of(
        side: Side<Mapping>,
        (out, back): (LanePlaces, LanePlaces),
        first_position: u64,
        hearing: Hearing,
    ) -> Self {
        let side = Arc::new(side);
        Self {
            sender: Sender::new(Arc::clone(&side), out, first_position),
            receiver: Receiver::new(Arc::clone(&side), back, first_position),
            waiter: Waiter::new(side, hearing),
        }
    }
}
