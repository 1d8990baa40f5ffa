//! The limit of reading: files read once from start to end with direct I/O, several reads in flight.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, types};

use super::file::{BLOCK_BYTES, Blocks};

/// What was read, and in which time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadReport {
    pub(crate) bytes: u64,
    pub(crate) elapsed: Duration,
}

/// Reads all of these files, `read_bytes` (a multiple of 4096) at a time, with `depth` reads in flight.
pub(crate) fn read(paths: &[PathBuf], read_bytes: u64, depth: usize) -> io::Result<ReadReport> {
    let (read_bytes, depth) = (read_bytes.next_multiple_of(BLOCK_BYTES), depth.max(1));
    let mut files = Vec::new();
    let mut places = Vec::new();
    for path in paths {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECT)
            .open(path)?;
        let bytes = file.metadata()?.len();
        places.extend((0..bytes.div_ceil(read_bytes)).map(|n| (files.len(), n * read_bytes, bytes)));
        files.push(file);
    }
    let entries = u32::try_from(depth.next_power_of_two()).map_err(io::Error::other)?;
    Reading {
        ring: IoUring::new(entries)?,
        files,
        buffers: (0..depth).map(|_| Blocks::zeros(read_bytes)).collect(),
        expected: vec![0; depth],
        in_flight: 0,
    }
    .run(places)
}

struct Reading {
    ring: IoUring,
    files: Vec<File>,
    buffers: Vec<Blocks>,
    /// Bytes that the read into each buffer is to bring.
    expected: Vec<u64>,
    in_flight: usize,
}

impl Reading {
    fn run(mut self, places: Vec<(usize, u64, u64)>) -> io::Result<ReadReport> {
        let started = Instant::now();
        let mut places = places.into_iter();
        let mut idle: Vec<usize> = (0..self.buffers.len()).collect();
        let mut bytes = 0;
        let outcome = loop {
            while let Some(slot) = idle.last().copied()
                && let Some((file, at, end)) = places.next()
            {
                idle.pop();
                self.push(slot, file, at, end);
            }
            if self.in_flight == 0 {
                break Ok(());
            }
            match self.reap(&mut idle) {
                Ok(more) => bytes += more,
                Err(error) => break Err(error),
            }
        };
        // The buffers must outlive what is in flight, whatever happened.
        while self.in_flight > 0 {
            match self.reap(&mut idle) {
                Err(error) if error.raw_os_error().is_none() => {}
                Err(error) => {
                    eprintln!("Error: cannot wait for the ring: {error}");
                    std::process::abort();
                }
                Ok(_) => {}
            }
        }
        outcome?;
        Ok(ReadReport {
            bytes,
            elapsed: started.elapsed(),
        })
    }

    fn push(&mut self, slot: usize, file: usize, at: u64, end: u64) {
        let buffer = &mut self.buffers[slot];
        self.expected[slot] = u64::from(buffer.bytes()).min(end - at);
        let entry = opcode::Read::new(
            types::Fd(self.files[file].as_raw_fd()),
            buffer.as_mut_ptr(),
            buffer.bytes(),
        )
        .offset(at)
        .build()
        .user_data(slot as u64);
        // SAFETY: file and buffer belong to `self` and are let go only after `run` has seen every completion; a buffer
        // is in flight once at most, since its slot is not idle meanwhile, and nobody looks into it.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        assert!(pushed.is_ok(), "the ring has an entry for every buffer");
        self.in_flight += 1;
    }

    fn reap(&mut self, idle: &mut Vec<usize>) -> io::Result<u64> {
        self.ring.submit_and_wait(1)?;
        let (mut bytes, mut failure) = (0, None);
        for completion in self.ring.completion() {
            self.in_flight -= 1;
            let slot = usize::try_from(completion.user_data()).unwrap_or(usize::MAX);
            idle.push(slot);
            match u64::try_from(completion.result()) {
                Ok(read) if Some(&read) == self.expected.get(slot) => bytes += read,
                other => failure = Some(io::Error::other(format!("a read gave {other:?}"))),
            }
        }
        failure.map_or(Ok(bytes), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_every_file_is_read_once() {
        let scratch = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let paths: Vec<PathBuf> = [0_usize, 5, 70_000]
            .iter()
            .map(|bytes| {
                let path = scratch.path().join(bytes.to_string());
                std::fs::write(&path, vec![7; *bytes]).unwrap();
                path
            })
            .collect();
        for depth in [1, 3] {
            match read(&paths, 8192, depth) {
                // Some file systems have no direct I/O, some sandboxes no ring: nothing to measure there.
                Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::EPERM)) => {
                    return;
                }
                report => assert_eq!(report.unwrap().bytes, 70_005),
            }
        }
    }
}
