//! Named pipes: making, opening, reading lines, writing without blocking.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};
use rustix::io::Errno;

/// Read at once: what a pipe holds.
const READ_BYTES: usize = 64 << 10;

/// Makes a FIFO that everybody may open, as far as the umask lets them.
pub(super) fn make(path: &Path) -> io::Result<()> {
    Ok(mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o666), 0)?)
}

/// Whether there is one; an error when something else is.
pub(super) fn is_there(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::FileTypeExt;
    match std::fs::metadata(path) {
        Ok(found) if found.file_type().is_fifo() => Ok(true),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "it is there, and is no FIFO",
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

pub(super) fn open_for_reading(path: &Path) -> io::Result<OwnedFd> {
    Ok(open(
        path,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// `None`: nobody reads.
pub(super) fn open_for_writing(path: &Path) -> io::Result<Option<OwnedFd>> {
    match open(
        path,
        OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn open_both(path: &Path) -> io::Result<OwnedFd> {
    Ok(open(
        path,
        OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// Waits for one of these, or an error or a hang-up, which come unasked; empty: nothing happened in time.
pub(super) fn wait(fd: &OwnedFd, flags: PollFlags, timeout: Duration) -> io::Result<PollFlags> {
    let timeout = Timespec::try_from(timeout).unwrap_or(Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    });
    let mut fds = [PollFd::new(fd, flags)];
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) => Ok(fds[0].revents()),
        Err(Errno::INTR) => Ok(PollFlags::empty()),
        Err(error) => Err(error.into()),
    }
}

/// Bytes in the pipe that nobody has read.
pub(super) fn unread_bytes(fd: &OwnedFd) -> io::Result<u64> {
    Ok(rustix::io::ioctl_fionread(fd)?)
}

/// Takes out of the pipe what nobody has read, and says how much that was.
pub(super) fn take_back(path: &Path) -> io::Result<u64> {
    let fd = open_for_reading(path)?;
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        match rustix::io::read(&fd, &mut buffer[..]) {
            Ok(0) | Err(Errno::AGAIN) => return Ok(bytes),
            Ok(read) => bytes += read as u64,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// What came.
pub(super) enum Read {
    Line(Vec<u8>),
    /// A line with more bytes than one may have; it is over.
    TooLong {
        bytes: u64,
    },
    /// Nothing yet.
    Nothing,
    /// Everybody who wrote has closed. What they wrote came before; also a last line without an end.
    End,
}

/// Lines out of a pipe.
pub(super) struct LineReader {
    fd: OwnedFd,
    line_bytes_max: usize,
    held: Vec<u8>,
    /// Where the line that is looked for begins in `held`, and up to where it was looked for its end.
    from: usize,
    looked: usize,
    /// Bytes of a line that is too long and were thrown away.
    thrown: u64,
}

impl LineReader {
    pub(super) fn new(fd: OwnedFd, line_bytes_max: usize) -> Self {
        Self {
            fd,
            line_bytes_max,
            held: Vec::new(),
            from: 0,
            looked: 0,
            thrown: 0,
        }
    }

    /// The next line, without its end; waits for it no longer than this.
    pub(super) fn next(&mut self, timeout: Duration) -> io::Result<Read> {
        let mut waited = false;
        loop {
            if let Some(line) = self.take_line() {
                return Ok(line);
            }
            self.held.drain(..self.from);
            (self.from, self.looked) = (0, self.held.len());
            if self.held.len() > self.line_bytes_max {
                self.thrown += self.held.len() as u64;
                self.held.clear();
                self.looked = 0;
            }
            let before = self.held.len();
            self.held.resize(before + READ_BYTES, 0);
            let read = rustix::io::read(&self.fd, &mut self.held[before..]);
            self.held.truncate(before + read.unwrap_or(0));
            match read {
                // Nobody has it open for writing: nobody yet, or nobody any more.
                Ok(0) if waited => return Ok(self.end()),
                Ok(0) | Err(Errno::AGAIN) => {
                    if waited {
                        return Ok(Read::Nothing);
                    }
                    waited = true;
                    let ready = wait(&self.fd, PollFlags::IN, timeout)?;
                    if ready.is_empty() {
                        return Ok(Read::Nothing);
                    }
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn take_line(&mut self) -> Option<Read> {
        let place = memchr::memchr(b'\n', &self.held[self.looked..])?;
        let end = self.looked + place;
        let line = self.held[self.from..end].to_vec();
        (self.from, self.looked) = (end + 1, end + 1);
        Some(self.whole(line))
    }

    fn whole(&mut self, line: Vec<u8>) -> Read {
        let bytes = std::mem::take(&mut self.thrown) + line.len() as u64;
        if bytes > self.line_bytes_max as u64 {
            return Read::TooLong { bytes };
        }
        Read::Line(line)
    }

    fn end(&mut self) -> Read {
        if self.held.is_empty() && self.thrown == 0 {
            return Read::End;
        }
        let line = std::mem::take(&mut self.held);
        self.looked = 0;
        self.whole(line)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn lines(reader: &mut LineReader) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            match reader.next(Duration::from_millis(200)).unwrap() {
                Read::Line(line) => lines.push(String::from_utf8(line).unwrap()),
                Read::TooLong { bytes } => lines.push(format!("too long: {bytes}")),
                Read::End => return lines,
                Read::Nothing => lines.push("nothing".to_owned()),
            }
        }
    }

    #[test]
    fn lines_come_whole_however_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        assert!(!is_there(&path).unwrap());
        make(&path).unwrap();
        assert!(is_there(&path).unwrap() && make(&path).is_err() && is_there(dir.path()).is_err());
        let mut reader = LineReader::new(open_for_reading(&path).unwrap(), 100_000);
        assert!(
            matches!(reader.next(Duration::ZERO).unwrap(), Read::Nothing),
            "nobody writes yet"
        );
        let writing = std::thread::spawn(move || {
            let mut file = std::fs::File::options().write(true).open(path).unwrap();
            for part in [
                "one\ntw",
                "o\n\n",
                &"x".repeat(99_999),
                "x\n",
                &"y".repeat(300_000),
                "\nlast",
            ] {
                file.write_all(part.as_bytes()).unwrap();
            }
        });
        let come = lines(&mut reader);
        writing.join().unwrap();
        let long = "x".repeat(100_000);
        let come: Vec<&str> = come
            .iter()
            .map(String::as_str)
            .filter(|line| *line != "nothing")
            .collect();
        assert_eq!(come, ["one", "two", "", &long, "too long: 300000", "last"]);
    }

    #[test]
    fn what_nobody_read_is_counted_and_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        make(&path).unwrap();
        assert!(open_for_writing(&path).unwrap().is_none());
        let reader = open_for_reading(&path).unwrap();
        let writer = open_for_writing(&path).unwrap().unwrap();
        rustix::io::write(&writer, &[7; 1000]).unwrap();
        let mut some = [0; 300];
        rustix::io::read(&reader, &mut some[..]).unwrap();
        assert_eq!(unread_bytes(&writer).unwrap(), 700);
        drop(reader);
        // The writer keeps it alive.
        assert!(
            wait(&writer, PollFlags::empty(), Duration::ZERO)
                .unwrap()
                .contains(PollFlags::ERR)
        );
        assert_eq!(take_back(&path).unwrap(), 700);
        assert_eq!(unread_bytes(&writer).unwrap(), 0);
    }
}
