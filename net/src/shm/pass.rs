//! Descriptors over a Unix socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

use crate::shm::end::Offer;

const DESCRIPTORS: usize = 3;

impl Offer {
    /// Sends the offer over a Unix socket, along with `bytes`, of which there must be some. Never waits.
    ///
    /// # Errors
    /// Those of the system, and when the socket took only a part of the bytes.
    pub fn pass(&self, socket: impl AsFd, bytes: &[u8]) -> io::Result<()> {
        let descriptors = [
            self.memory.as_fd(),
            self.server_bell.as_fd(),
            self.client_bell.as_fd(),
        ];
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut room);
        if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::Error::other("three descriptors do not fit one message"));
        }
        let sent = rustix::net::sendmsg(
            socket,
            &[IoSlice::new(bytes)],
            &mut ancillary,
            SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        )?;
        if sent != bytes.len() {
            let reason = format!(
                "{sent} of {} bytes went with an offer of shared memory",
                bytes.len()
            );
            return Err(io::Error::new(io::ErrorKind::WriteZero, reason));
        }
        Ok(())
    }

    /// Receives bytes, and an offer if one came with them: how many were put into `into`.
    ///
    /// # Errors
    /// Those of the system, and when descriptors come that are not the three of an offer.
    pub fn receive(socket: impl AsFd, into: &mut [u8]) -> io::Result<(Option<Self>, usize)> {
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut room);
        let message = rustix::net::recvmsg(
            socket,
            &mut [IoSliceMut::new(into)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        let descriptors: Vec<OwnedFd> = ancillary
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                _ => None,
            })
            .flatten()
            .collect();
        let found = descriptors.len();
        if found == 0 {
            return Ok((None, message.bytes));
        }
        let descriptors: Result<[OwnedFd; DESCRIPTORS], _> = descriptors.try_into();
        let Ok([memory, server_bell, client_bell]) = descriptors else {
            let reason =
                format!("{found} descriptors came instead of the {DESCRIPTORS} of an offer of shared memory");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        };
        let offer = Self {
            memory,
            server_bell,
            client_bell,
        };
        Ok((Some(offer), message.bytes))
    }
}
