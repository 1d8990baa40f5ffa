//! Takes frames off a socket.
//!
//! Small frames come many at a time in one large read; the body of a large one is read straight to its place.

use std::io;

use bytes::Bytes;
use mofka_net::{FRAME_HEADER_BYTES, FrameHeader};

use super::stream::Stream;
pub(crate) use super::stream::Wait;
use crate::promise::Deadline;

/// Bytes asked of the socket at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// What reading led to.
pub(crate) enum Next {
    /// A frame whose body was checked.
    Frame(FrameHeader, Bytes),
    /// Nothing came, or not all of it, within the socket's read timeout if that was to be waited for; what came before is kept.
    Quiet,
}

/// See the module.
pub(crate) struct Frames {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// A body too large for the buffer, as far as it has come.
    large: Option<(FrameHeader, Vec<u8>)>,
    frame_bytes_max: u64,
    /// Whether anything was read since this was last asked.
    heard: bool,
}

impl Frames {
    /// `frame_bytes_max` bounds the frames that are taken.
    pub(crate) fn new(frame_bytes_max: u64) -> Self {
        let buffer = vec![0; BUFFER_BYTES];
        Self {
            buffer,
            start: 0,
            end: 0,
            large: None,
            frame_bytes_max,
            heard: false,
        }
    }

    /// What was announced in hello.
    pub(crate) fn set_frame_bytes_max(&mut self, frame_bytes_max: u64) {
        self.frame_bytes_max = frame_bytes_max;
    }

    /// Whether anything came since the last call.
    pub(crate) fn take_heard(&mut self) -> bool {
        std::mem::take(&mut self.heard)
    }

    /// The next frame.
    ///
    /// # Errors
    /// When the connection ended, or what came is not a frame.
    pub(crate) fn next(&mut self, stream: &Stream, wait: Wait) -> io::Result<Next> {
        loop {
            if let Some(next) = self.step(stream, wait)? {
                return Ok(next);
            }
        }
    }

    /// The next frame, in however many pieces it comes; [`Next::Quiet`] when it is not there by then. Changes the socket's read timeout.
    ///
    /// # Errors
    /// As [`Frames::next`].
    pub(crate) fn next_by(&mut self, stream: &Stream, deadline: Deadline) -> io::Result<Next> {
        loop {
            if deadline.is_over() {
                return Ok(Next::Quiet);
            }
            stream.set_read_deadline(deadline)?;
            if let Some(next) = self.step(stream, Wait::Yes)? {
                return Ok(next);
            }
        }
    }

    /// Takes a frame that is here, or reads once.
    fn step(&mut self, stream: &Stream, wait: Wait) -> io::Result<Option<Next>> {
        if let Some((header, body)) = self.next_here()? {
            return Ok(Some(Next::Frame(header, body)));
        }
        let read = match &mut self.large {
            Some((header, body)) => read_large(stream, *header, body, wait),
            None => self.fill(stream, wait),
        };
        match read {
            Ok(0) => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the other side closed it",
            )),
            Ok(_) => {
                self.heard = true;
                Ok(None)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            Err(error) if is_timeout(&error) => Ok(Some(Next::Quiet)),
            Err(error) => Err(error),
        }
    }

    /// The next frame, if all of it was read from the socket already.
    ///
    /// # Errors
    /// When what came is not a frame.
    pub(crate) fn next_here(&mut self) -> io::Result<Option<(FrameHeader, Bytes)>> {
        let frame = self.take_frame()?;
        if let Some((header, body)) = &frame {
            header.check_body(body).map_err(invalid)?;
        }
        Ok(frame)
    }

    /// A frame that is wholly here.
    fn take_frame(&mut self) -> io::Result<Option<(FrameHeader, Bytes)>> {
        if let Some((header, body)) = self
            .large
            .take_if(|(header, body)| body.len() as u64 == header.body_bytes())
        {
            return Ok(Some((header, Bytes::from(body))));
        }
        let available = &self.buffer[self.start..self.end];
        if self.large.is_some() || available.len() < FRAME_HEADER_BYTES {
            return Ok(None);
        }
        let header = FrameHeader::check(available, self.frame_bytes_max).map_err(invalid)?;
        let body_bytes = usize::try_from(header.body_bytes()).map_err(invalid)?;
        let rest = &available[FRAME_HEADER_BYTES..];
        if let Some(body) = rest.get(..body_bytes) {
            let body = Bytes::copy_from_slice(body);
            self.start += FRAME_HEADER_BYTES + body_bytes;
            return Ok(Some((header, body)));
        }
        if FRAME_HEADER_BYTES + body_bytes > BUFFER_BYTES {
            let mut body = Vec::with_capacity(body_bytes);
            body.extend_from_slice(rest);
            (self.start, self.end) = (0, 0);
            self.large = Some((header, body));
        }
        Ok(None)
    }

    fn fill(&mut self, stream: &Stream, wait: Wait) -> io::Result<usize> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let read = stream.receive(&mut self.buffer[self.end..], wait)?;
        self.end += read;
        Ok(read)
    }
}

/// Reads the rest of a large body to its place. Returns how much came, also when a timeout ended it.
fn read_large(stream: &Stream, header: FrameHeader, body: &mut Vec<u8>, wait: Wait) -> io::Result<usize> {
    let before = body.len();
    let missing = usize::try_from(header.body_bytes()).map_err(invalid)? - before;
    let outcome = stream.append_to(body, missing, wait);
    let read = body.len() - before;
    match outcome {
        Err(error) if !is_timeout(&error) || read == 0 => Err(error),
        _ => Ok(read),
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::thread;
    use std::time::Duration;

    use mofka_net::Opcode;

    use super::*;

    #[test]
    fn small_and_large_frames_arrive_however_they_are_cut() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let stream = Stream::Unix(ours);
        stream.set_read_timeout(Duration::from_millis(20)).unwrap();
        let bodies: Vec<Vec<u8>> = [0, 1, 100, 300_000, 5, 262_112, 262_113, 1_000_000, 0]
            .map(|n| vec![3; n])
            .into();
        let mut sent = Vec::new();
        for (id, body) in bodies.iter().enumerate() {
            sent.extend_from_slice(&FrameHeader::request(Opcode::Status, id as u64, body));
            sent.extend_from_slice(body);
        }
        let writer = std::thread::spawn(move || {
            for (place, part) in sent.chunks(77_777).enumerate() {
                if place == 3 {
                    // Longer than the timeout, in the middle of a body.
                    std::thread::sleep(Duration::from_millis(60));
                }
                theirs.write_all(part).unwrap();
            }
        });
        let mut frames = Frames::new(1 << 20);
        let (mut received, mut quiet) = (Vec::new(), 0);
        while received.len() < bodies.len() {
            match frames.next(&stream, Wait::Yes).unwrap() {
                Next::Frame(header, body) => {
                    assert_eq!(header.request_id(), received.len() as u64);
                    received.push(body.to_vec());
                }
                Next::Quiet => quiet += 1,
            }
        }
        assert!(received == bodies && quiet > 0 && frames.take_heard() && !frames.take_heard());
        writer.join().unwrap();
        assert!(frames.next(&stream, Wait::Yes).is_err());
    }

    #[test]
    fn a_frame_that_comes_byte_by_byte_has_no_more_time_for_that() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let stream = Stream::Unix(ours);
        let body = [7; 300];
        let header = FrameHeader::request(Opcode::Ping, 1, &body);
        let writer = thread::spawn(move || {
            for byte in header.iter().chain(&body) {
                thread::sleep(Duration::from_millis(10));
                if theirs.write_all(&[*byte]).is_err() {
                    return;
                }
            }
        });
        // A read for each byte, and none of them waits for longer than it may.
        let next = Frames::new(1 << 20).next_by(&stream, Deadline::after(Duration::from_millis(100)));
        assert!(matches!(next, Ok(Next::Quiet)));
        drop(stream);
        writer.join().unwrap();
    }

    #[test]
    fn nonsense_ends_it() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(&[9; 40]).unwrap();
        assert!(Frames::new(1 << 20).next(&Stream::Unix(ours), Wait::Yes).is_err());
    }
}
