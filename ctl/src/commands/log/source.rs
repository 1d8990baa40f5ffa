//! Reading files at the speed of the device: direct I/O, large reads, several of them under way.
//!
//! Never writes: files are opened for reading only.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};

use indicatif::ProgressBar;
use rustix::fs::OFlags;

use super::aligned::{ALIGN_BYTES, AlignedBuf};

/// Bytes of one read.
const CHUNK_BYTES: usize = 1 << 20;
/// Reads of one stream that are under way at the same time.
const LANES: u64 = 4;
/// Chunks that a lane has read and nobody has taken: what bridges the time until a thread gets a core.
const AHEAD: usize = 3;
/// A gap this long is jumped over, a shorter one is read.
const GAP_BYTES_MAX: u64 = 16 << 20;

/// A file that is read.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    file: File,
    /// In place of `file` once direct I/O was refused by a read.
    buffered: OnceLock<File>,
    direct: bool,
    len: u64,
}

impl Source {
    /// Opens a file for reading, past the page cache where the file system can do that.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = i32::try_from(OFlags::DIRECT.bits()).unwrap_or(0);
        let direct = OpenOptions::new().read(true).custom_flags(flags).open(path);
        let (file, direct) = match direct {
            Ok(file) => (file, true),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => (File::open(path)?, false),
            Err(error) => return Err(error),
        };
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        Ok(Self {
            path: path.to_path_buf(),
            file,
            buffered: OnceLock::new(),
            direct,
            len: about.len(),
        })
    }

    /// Bytes of the file when it was opened.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Fills `buf` from `at` on, both aligned; less only where the file ends.
    fn fill(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            let file = self.buffered.get().unwrap_or(&self.file);
            match file.read_at(&mut buf[done..], at + done as u64) {
                Ok(0) => break,
                Ok(bytes) => {
                    done += bytes;
                    // A direct read that is not whole blocks met the end of the file.
                    if self.direct && done % ALIGN_BYTES != 0 && at + done as u64 >= self.len {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A device with larger blocks, or a file system that refuses late.
                Err(error) if self.direct && self.refuses_direct(&error) => {
                    let file = File::open(&self.path)?;
                    self.buffered.set(file).ok();
                }
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn refuses_direct(&self, error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::InvalidInput && self.buffered.get().is_none()
    }

    /// The bytes from `at` on, `len` of them or up to the end of the file.
    pub(super) fn read(&self, at: u64, len: usize) -> io::Result<Vec<u8>> {
        let start = at / ALIGN_BYTES as u64 * ALIGN_BYTES as u64;
        let skip = usize::try_from(at - start).unwrap_or(0);
        let mut buf = AlignedBuf::new((skip + len).next_multiple_of(ALIGN_BYTES));
        let have = self.fill(buf.as_mut_slice(), start)?;
        let end = (skip + len).min(have);
        Ok(buf.as_slice().get(skip..end).unwrap_or_default().to_vec())
    }
}

/// A part of a file as it was read.
struct Chunk {
    at: u64,
    buf: AlignedBuf,
    len: usize,
}

/// One of the reads that are under way.
struct Lane {
    chunks: Receiver<io::Result<Chunk>>,
    /// Buffers go back, so that memory is touched for the first time only once.
    used: SyncSender<AlignedBuf>,
}

/// A file read from one place on to another. The reads run ahead of who takes them, as far as a few buffers reach.
pub(super) struct Stream {
    lanes: Vec<Lane>,
    next_lane: usize,
    current: Option<(usize, Chunk)>,
    /// Where the next byte is.
    at: u64,
    to: u64,
    progress: ProgressBar,
}

impl Stream {
    /// Begins at the block of `from`.
    pub(super) fn new(source: &Arc<Source>, from: u64, to: u64, progress: &ProgressBar) -> Self {
        let at = from / ALIGN_BYTES as u64 * ALIGN_BYTES as u64;
        let to = to.min(source.len());
        let chunks = to.saturating_sub(at).div_ceil(CHUNK_BYTES as u64);
        let count = chunks.min(LANES);
        let lane = |number: u64| {
            let (give, chunks) = sync_channel(AHEAD);
            let (used, take) = sync_channel(AHEAD + 1);
            let source = Arc::clone(source);
            std::thread::spawn(move || {
                let first = at + number * CHUNK_BYTES as u64;
                read_ahead(&source, first, to, count * CHUNK_BYTES as u64, &give, &take);
            });
            Lane { chunks, used }
        };
        Self {
            lanes: (0..count).map(lane).collect(),
            next_lane: 0,
            current: None,
            at,
            to,
            progress: progress.clone(),
        }
    }

    /// Where the next byte is.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// The next bytes, at most `most` of them; none at the end.
    pub(super) fn next(&mut self, most: u64) -> io::Result<&[u8]> {
        let spent = |chunk: &Chunk, at: u64| at >= chunk.at + chunk.len as u64;
        if self
            .current
            .as_ref()
            .is_none_or(|(_, chunk)| spent(chunk, self.at))
        {
            if self.at >= self.to {
                return Ok(&[]);
            }
            if let Some((lane, chunk)) = self.current.take() {
                // A lane that came to its end wants no more.
                self.lanes[lane].used.try_send(chunk.buf).ok();
            }
            let lane = self.next_lane;
            self.next_lane = (lane + 1) % self.lanes.len().max(1);
            let gone = || io::Error::other("a thread that reads ahead ended early");
            let chunk = self.lanes.get(lane).ok_or_else(gone)?.chunks.recv();
            let chunk = chunk.map_err(|_| gone())??;
            self.progress.inc(chunk.len as u64);
            let wanted = self.to.saturating_sub(chunk.at).min(CHUNK_BYTES as u64);
            if (chunk.len as u64) < wanted {
                // The file was cut while it was read: nothing comes after this.
                self.to = chunk.at + chunk.len as u64;
            }
            if spent(&chunk, self.at) {
                return Ok(&[]);
            }
            self.current = Some((lane, chunk));
        }
        let Some((_, chunk)) = &self.current else {
            return Ok(&[]);
        };
        let skip = usize::try_from(self.at - chunk.at).unwrap_or(chunk.len);
        let rest = &chunk.buf.as_slice()[skip..chunk.len];
        let most = rest.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        self.at += most as u64;
        Ok(&rest[..most])
    }

    /// Goes on to a later place by reading; `false` when that is not worth it or is behind.
    fn skip_to(&mut self, at: u64) -> io::Result<bool> {
        if at < self.at || at - self.at > GAP_BYTES_MAX {
            return Ok(false);
        }
        while self.at < at {
            if self.next(at - self.at)?.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn read_ahead(
    source: &Source,
    first: u64,
    to: u64,
    stride: u64,
    give: &SyncSender<io::Result<Chunk>>,
    take: &Receiver<AlignedBuf>,
) {
    let (mut at, mut given) = (first, 0_usize);
    while at < to {
        let fresh = if given < AHEAD + 2 { None } else { take.recv().ok() };
        given += 1;
        let mut buf = fresh.unwrap_or_else(|| AlignedBuf::new(CHUNK_BYTES));
        let wanted = usize::try_from(to - at).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        let aligned = wanted.next_multiple_of(ALIGN_BYTES);
        let chunk = source
            .fill(&mut buf.as_mut_slice()[..aligned], at)
            .map(|have| Chunk {
                at,
                buf,
                len: have.min(wanted),
            });
        let failed = chunk.is_err();
        // Nobody listens any more: who wanted the bytes has seen enough.
        if give.send(chunk).is_err() || failed {
            return;
        }
        at += stride;
    }
}

/// Ranges of a file in ascending order, or nearly: read as a stream.
pub(super) struct Ranges {
    source: Arc<Source>,
    stream: Option<Stream>,
    progress: ProgressBar,
}

impl Ranges {
    pub(super) fn new(source: Arc<Source>, progress: &ProgressBar) -> Self {
        Self {
            source,
            stream: None,
            progress: progress.clone(),
        }
    }

    /// Begins to read at this place, before anybody asks for it.
    pub(super) fn begin(&mut self, at: u64) {
        self.stream = Some(Stream::new(&self.source, at, u64::MAX, &self.progress));
    }

    /// Shows `bytes` bytes from `at` on to `look`, in parts, until it has seen enough or the file ends. `to`: where
    /// reading ahead is to stop.
    pub(super) fn read<E>(
        &mut self,
        at: u64,
        bytes: u64,
        to: u64,
        look: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> io::Result<Result<(), E>> {
        let ready = match &mut self.stream {
            Some(stream) => stream.skip_to(at)?,
            None => false,
        };
        if !ready {
            let mut stream = Stream::new(&self.source, at, to, &self.progress);
            stream.skip_to(at)?;
            self.stream = Some(stream);
        }
        let Some(stream) = &mut self.stream else {
            return Ok(Ok(()));
        };
        let end = at.saturating_add(bytes);
        while stream.at() >= at && stream.at() < end {
            let part = stream.next(end - stream.at())?;
            if part.is_empty() {
                break;
            }
            if let Err(enough) = look(part) {
                return Ok(Err(enough));
            }
        }
        Ok(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: usize) -> (tempfile::TempDir, Vec<u8>, Arc<Source>) {
        let dir = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..bytes).map(|n| (n / 7 + n / 4096) as u8).collect();
        std::fs::write(dir.path().join("f"), &content).unwrap();
        let source = Arc::new(Source::open(&dir.path().join("f")).unwrap());
        (dir, content, source)
    }

    #[test]
    fn a_stream_gives_every_byte_in_order() {
        for bytes in [0, 1, 4095, CHUNK_BYTES, CHUNK_BYTES + 1, 11 * CHUNK_BYTES + 4097] {
            let (_dir, content, source) = file(bytes);
            let mut stream = Stream::new(&source, 0, u64::MAX, &ProgressBar::hidden());
            let mut found = Vec::new();
            loop {
                let part = stream.next(300_000).unwrap();
                if part.is_empty() {
                    break;
                }
                found.extend_from_slice(part);
            }
            assert!(found == content, "{bytes} bytes");
        }
    }

    #[test]
    fn a_file_that_is_cut_while_it_is_read_ends_there() {
        for (bytes, end) in [(65_536, 8192), (65_536, 0), (6 * CHUNK_BYTES, CHUNK_BYTES + 4096)] {
            let (dir, content, source) = file(bytes);
            let cut = File::options().write(true).open(dir.path().join("f")).unwrap();
            cut.set_len(end as u64).unwrap();
            let mut stream = Stream::new(&source, 0, u64::MAX, &ProgressBar::hidden());
            let mut found = Vec::new();
            loop {
                let part = stream.next(u64::MAX).unwrap();
                if part.is_empty() {
                    break;
                }
                found.extend_from_slice(part);
            }
            assert!(found == content[..end], "{bytes} cut at {end}");
        }
    }

    #[test]
    fn ranges_are_found_forwards_and_backwards() {
        let (_dir, content, source) = file(9 * CHUNK_BYTES + 17);
        let mut ranges = Ranges::new(source.clone(), &ProgressBar::hidden());
        for (at, bytes) in [(5, 10), (100, 3 << 20), (8 << 20, 100), (50, 5000), (9 << 20, 17)] {
            let mut found = Vec::new();
            let outcome = ranges.read::<()>(at, bytes, u64::MAX, &mut |part| {
                found.extend_from_slice(part);
                Ok(())
            });
            assert_eq!(outcome.unwrap(), Ok(()));
            assert!(
                found == content[at as usize..(at + bytes) as usize],
                "{at} {bytes}"
            );
        }
        let mut found = 0;
        let outcome = ranges.read::<()>(9 << 20, 100, u64::MAX, &mut |part| {
            found += part.len();
            Ok(())
        });
        assert_eq!((outcome.unwrap(), found), (Ok(()), 17), "the file ends");
        assert_eq!(source.read(4090, 20).unwrap(), content[4090..4110]);
        assert_eq!(
            source.read((9 << 20) + 10, 20).unwrap(),
            content[(9 << 20) + 10..]
        );
        assert!(source.read(1 << 40, 20).unwrap().is_empty());
    }
}
