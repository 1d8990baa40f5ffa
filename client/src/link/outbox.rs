//! What goes out on a connection.
//!
//! Whoever has something to send writes it at once if the kernel takes it without waiting: no thread has to be woken
//! for that. What the kernel does not take is left to the writer thread. So nobody but the writer thread ever waits
//! for the other side to read, and the reader thread may send too.
//!
//! Pieces are sent where they are. They may be memory of the application, whose owner does what it likes when the last of them is
//! dropped: the writer thread and whoever closes do that without the lock. What [`Outbox::send`] itself sent is kept by its caller,
//! who may have to send it again.
//!
//! With a ring in shared memory it is the same, but that what had no room goes on when the node made some, by whoever takes
//! what comes ([`Outbox::go_on`]). What the ring can never hold is announced there and sent over the socket. A frame may end with bytes
//! that lie in the ring's memory already; they are copied when it goes another way.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use bytes::{Buf, Bytes};
use mofka_net::shm::{SendError, Sender};
use mofka_net::{FRAME_HEADER_BYTES, FrameHeader, Opcode};

use super::answers::LentFrame;
use super::kept::Kept;
use super::stream::Stream;
use crate::promise::{Deadline, lock, wait_on};

/// Pieces in one system call.
const SLICES_MAX: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    /// Whether the state has frames. Written under its lock.
    has_frames: AtomicBool,
    work: Condvar,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Bytes>,
    /// In place of the socket.
    ring: Option<Sender>,
    /// Whole frames that the ring had no room for.
    frames: VecDeque<Frame>,
    /// Those that went, to be dropped without the lock.
    spent: Vec<Vec<Bytes>>,
    /// The writer thread is in a system call with the front of the queue.
    writing: bool,
    closed: bool,
}

/// A frame that goes through the ring.
#[derive(Default)]
struct Frame {
    pieces: Vec<Bytes>,
    /// How it ends: in the ring's own memory.
    rest: Option<Arc<Kept>>,
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rest_bytes = self.rest.as_ref().map_or(0, |rest| rest.bytes());
        write!(f, "Frame({} + {rest_bytes} bytes)", self.copied_bytes())
    }
}

impl Outbox {
    /// Sends a frame, given in pieces, after all frames sent before it. Never waits for the other side.
    ///
    /// # Errors
    /// When the connection is dead; the frame may have been sent in part.
    pub(crate) fn send(&self, stream: &Stream, frame: impl IntoIterator<Item = Bytes>) -> io::Result<()> {
        self.send_with(stream, frame, None)
    }

    /// The same of a frame that is lent, and may end with these bytes.
    pub(super) fn send_lent(
        &self,
        stream: &Stream,
        frame: &LentFrame<'_>,
        rest: Option<Arc<Kept>>,
    ) -> io::Result<()> {
        if rest.is_none() && lock(&self.state).lends(frame) {
            return Ok(());
        }
        self.send_with(stream, frame.to_pieces(), rest)
    }

    fn send_with(
        &self,
        stream: &Stream,
        frame: impl IntoIterator<Item = Bytes>,
        mut rest: Option<Arc<Kept>>,
    ) -> io::Result<()> {
        let is_foreign = |rest: &mut Arc<Kept>| !self.is_own(rest);
        let copied = rest.take_if(is_foreign).map(|rest| rest.copy());
        // A frame that is in a vector stays in it.
        let mut pieces: Vec<Bytes> = frame.into_iter().collect();
        pieces.extend(copied);
        let mut state = lock(&self.state);
        if state.closed {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if state.ring.is_some() {
            state.frames.push_back(Frame { pieces, rest });
            self.has_frames.store(true, Ordering::Relaxed);
            let sent = match state.frames.len() {
                1 => self.go_on_locked(&mut state).map(|_| ()),
                _ => Ok(()),
            };
            let spent = std::mem::take(&mut state.spent);
            drop(state);
            drop(spent);
            return sent;
        }
        let was_idle = state.queue.is_empty() && !state.writing;
        state
            .queue
            .extend(pieces.into_iter().filter(|piece| !piece.is_empty()));
        if was_idle {
            while !state.queue.is_empty() {
                match stream.try_send(&slices(&state.queue)) {
                    Ok(sent) => drop(advance(&mut state.queue, sent)),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => {
                        state.closed = true;
                        self.work.notify_all();
                        return Err(error);
                    }
                }
            }
        }
        if !state.queue.is_empty() && !state.writing {
            self.work.notify_one();
        }
        Ok(())
    }

    /// From now on everything goes through this ring.
    pub(crate) fn go_over(&self, ring: Sender) {
        lock(&self.state).ring = Some(ring);
    }

    /// Bytes of the ring's memory, if there is room now. They begin at a multiple of 4096.
    pub(super) fn keep(&self, bytes: u64) -> Option<Kept> {
        let state = &mut *lock(&self.state);
        let stretch = state.ring.as_mut()?.keep(bytes, Some(0)).ok()?;
        Some(Kept::new(stretch))
    }

    /// Whether these bytes lie in the memory of the ring that is used here.
    fn is_own(&self, rest: &Kept) -> bool {
        let state = lock(&self.state);
        state
            .ring
            .as_ref()
            .is_some_and(|ring| ring.is_own(rest.stretch()))
    }

    /// Whether frames wait for room in the ring.
    pub(crate) fn has_frames(&self) -> bool {
        !lock(&self.state).frames.is_empty()
    }

    /// Whether anything waits to be sent.
    pub(crate) fn is_held_up(&self) -> bool {
        let state = lock(&self.state);
        !state.frames.is_empty() || !state.queue.is_empty()
    }

    /// Whether [`Outbox::go_on`] would send any of them.
    pub(crate) fn can_go_on(&self) -> bool {
        let state = &mut *lock(&self.state);
        let front = state.frames.front().filter(|_| state.queue.is_empty());
        match (front, &mut state.ring) {
            (Some(frame), Some(ring)) => {
                let bytes = frame.copied_bytes();
                if bytes > ring.frame_bytes_max() {
                    // Of what the ring cannot hold, it gets the notice.
                    ring.can_send(FRAME_HEADER_BYTES as u64)
                } else if frame.rest.is_some() {
                    ring.can_send_with(bytes)
                } else {
                    ring.can_send(bytes)
                }
            }
            _ => false,
        }
    }

    /// Sends what had no room in the ring before, and says whether that was anything.
    pub(crate) fn go_on(&self) -> io::Result<bool> {
        // Asked for every frame that comes. Who goes to sleep looks under the lock before ([`Outbox::can_go_on`]).
        if !self.has_frames.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let mut state = lock(&self.state);
        if state.frames.is_empty() {
            return Ok(false);
        }
        let sent = self.go_on_locked(&mut state);
        let spent = std::mem::take(&mut state.spent);
        drop(state);
        drop(spent);
        sent
    }

    fn go_on_locked(&self, state: &mut State) -> io::Result<bool> {
        let sent = state.send_frames();
        self.has_frames.store(!state.frames.is_empty(), Ordering::Relaxed);
        if sent.is_err() {
            state.closed = true;
        }
        if sent.is_err() || !state.queue.is_empty() && !state.writing {
            self.work.notify_all();
        }
        sent
    }

    /// The writer thread: sends what others had to leave, until the outbox is closed.
    pub(crate) fn write(&self, stream: &Stream) -> io::Result<()> {
        let mut state = lock(&self.state);
        loop {
            if state.closed {
                return Ok(());
            }
            if state.queue.is_empty() {
                // After a detour.
                self.go_on_locked(&mut state)?;
                let spent = std::mem::take(&mut state.spent);
                if !spent.is_empty() {
                    drop(state);
                    drop(spent);
                    state = lock(&self.state);
                    continue;
                }
            }
            if state.queue.is_empty() {
                state = wait_on(&self.work, state, Deadline::Never);
                continue;
            }
            let pieces: Vec<Bytes> = state.queue.iter().take(SLICES_MAX).cloned().collect();
            state.writing = true;
            drop(state);
            let slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            let sent = stream.send(&slices);
            state = lock(&self.state);
            state.writing = false;
            let outcome = match sent {
                Ok(sent) => Ok(advance(&mut state.queue, sent)),
                Err(error) => {
                    state.closed = true;
                    Err(error)
                }
            };
            drop(state);
            drop(slices);
            drop((pieces, outcome?));
            state = lock(&self.state);
        }
    }

    /// Nothing more is sent.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        let unsent = (
            std::mem::take(&mut state.queue),
            std::mem::take(&mut state.frames),
        );
        self.work.notify_all();
        drop(state);
        drop(unsent);
    }
}

impl State {
    /// Whether the frame went, as most do: through the ring, nothing was before it, and there was room. Whatever else there is to
    /// say about it, it is said when it is tried in pieces.
    fn lends(&mut self, frame: &LentFrame<'_>) -> bool {
        let is_first = self.frames.is_empty() && self.queue.is_empty() && !self.closed;
        let ring = self.ring.as_mut().filter(|_| is_first);
        let sent = ring.and_then(|ring| frame.with_parts(|parts| ring.send(parts)));
        matches!(sent, Some(Ok(())))
    }

    /// Brings frames to the ring as long as there is room. One that it can never hold goes to the writer thread, and the others
    /// wait for that.
    fn send_frames(&mut self) -> io::Result<bool> {
        let Some(ring) = &mut self.ring else {
            return Ok(false);
        };
        let mut is_any = false;
        while self.queue.is_empty()
            && let Some(frame) = self.frames.front()
        {
            let sent = match frame.send(ring) {
                Err(SendError::FrameBytes { .. }) => {
                    let notice = FrameHeader::request(Opcode::RingDetour, 0, &[]);
                    ring.send(&[&notice]).map(|()| true)
                }
                sent => sent.map(|()| false),
            };
            match sent {
                Ok(is_detour) => {
                    let Frame { pieces, rest } = self.frames.pop_front().unwrap_or_default();
                    is_any = true;
                    if is_detour {
                        let copied = rest.map(|rest| rest.copy());
                        let pieces = pieces.into_iter().chain(copied);
                        self.queue.extend(pieces.filter(|piece| !piece.is_empty()));
                    } else {
                        self.spent.push(pieces);
                    }
                }
                Err(SendError::NoRoom { .. }) => break,
                Err(error) => return Err(io::Error::new(io::ErrorKind::BrokenPipe, error)),
            }
        }
        Ok(is_any)
    }
}

impl Frame {
    /// Sends it through the ring, whose rest it is.
    fn send(&self, ring: &mut Sender) -> Result<(), SendError> {
        let mut send = |parts: &[&[u8]]| match &self.rest {
            Some(rest) => ring.send_with(parts, rest.stretch()),
            None => ring.send(parts),
        };
        let pieces = &self.pieces;
        let mut parts: [&[u8]; 4] = [&[]; 4];
        match parts.get_mut(..pieces.len()) {
            Some(few) => {
                few.iter_mut().zip(pieces).for_each(|(part, piece)| *part = piece);
                send(few)
            }
            None => send(&pieces.iter().map(Bytes::as_ref).collect::<Vec<&[u8]>>()),
        }
    }

    /// Bytes that are copied into the ring.
    fn copied_bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len() as u64).sum()
    }
}

fn slices(queue: &VecDeque<Bytes>) -> Vec<IoSlice<'_>> {
    queue
        .iter()
        .take(SLICES_MAX)
        .map(|piece| IoSlice::new(piece))
        .collect()
}

/// Returns the pieces that were sent.
fn advance(queue: &mut VecDeque<Bytes>, mut sent: usize) -> Vec<Bytes> {
    let whole = queue
        .iter()
        .take_while(|piece| {
            let is_whole = piece.len() <= sent;
            sent -= if is_whole { piece.len() } else { 0 };
            is_whole
        })
        .count();
    let spent = queue.drain(..whole).collect();
    if let Some(front) = queue.front_mut() {
        front.advance(sent);
    }
    spent
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;

    use super::*;

    #[test]
    fn frames_come_out_whole_and_in_order_though_the_reader_is_slow() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let stream = Arc::new(Stream::Unix(ours));
        let outbox = Arc::new(Outbox::default());
        let writer = {
            let (stream, outbox) = (Arc::clone(&stream), Arc::clone(&outbox));
            std::thread::spawn(move || outbox.write(&stream))
        };
        let frame = |number: u32| {
            [
                Bytes::copy_from_slice(&number.to_le_bytes()),
                Bytes::from(vec![7; 50_000]),
            ]
        };
        // Far more than the kernel's buffer takes, and none of these calls may wait.
        for number in 0..200 {
            outbox.send(&stream, frame(number)).unwrap();
        }
        for number in 0..200_u32 {
            let mut received = vec![0; 50_004];
            theirs.read_exact(&mut received).unwrap();
            assert_eq!(received[..4], number.to_le_bytes());
        }
        outbox.close();
        writer.join().unwrap().unwrap();
        assert!(outbox.send(&stream, frame(0)).is_err());
    }

    #[test]
    fn a_dead_peer_is_an_error_and_no_signal() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        let outbox = Outbox::default();
        assert!(
            outbox
                .send(&Stream::Unix(ours), [Bytes::from_static(b"x")])
                .is_err()
        );
    }
}
