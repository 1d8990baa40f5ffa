//! Reading a meta file back: drives the pure scan of `mofka-log` over a real file. Never writes.

use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use mofka_log::{
    Appender, AppenderConfig, BLOCK_BYTES, Batch, DataCheck, EventId, FilePos, MetaScan, ProducerTable,
    Recovered, Resume, SegmentFacts, SegmentHeader, SegmentHeaderError,
};

use crate::io::{Io, IoFile, Then, write_one};
use crate::room::is_full;

/// Bytes read at a time; also what recovery holds in memory, beside a frame larger than it.
const WINDOW_BYTES: usize = 1 << 20;

/// Why a file of the engine cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct OpenError {
    message: String,
    /// The machine failed to read or to open, so nothing is known of the bytes.
    is_io: bool,
    /// The device is full.
    is_full: bool,
}

impl OpenError {
    pub(crate) fn new(message: String) -> Self {
        Self {
            message,
            is_io: false,
            is_full: false,
        }
    }

    /// Whether trying again may do: it says nothing about what is stored.
    pub(crate) fn is_io(&self) -> bool {
        self.is_io
    }

    /// Whether the device was full, which passes.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full
    }

    pub(crate) fn io(what: &str, path: &Path, error: &std::io::Error) -> Self {
        Self {
            message: format!("{what} {}: {error}", path.display()),
            is_io: true,
            is_full: is_full(error),
        }
    }
}

/// What a meta file turned out to be.
pub(crate) enum Opened {
    /// Its header never landed and nothing in it was: it was being created when the machine stopped.
    NeverUsed,
    /// A segment, with what recovery made of it.
    Segment(Box<OpenedSegment>),
}

pub(crate) struct OpenedSegment {
    pub(crate) header: SegmentHeader,
    pub(crate) recovered: Recovered,
    /// From these places on nothing in the meta file proves that it, or the data, was ever durable.
    proven: (FilePos, FilePos),
}

/// What is known of a segment before it is read.
#[derive(Clone, Default)]
pub(crate) struct Known {
    /// What the segments before it know of the producers' sequences.
    pub(crate) producers: ProducerTable,
    /// Everything before this was durable: where the next segment begins.
    pub(crate) durable_end: EventId,
}

/// Scans a meta file to its end. `data` is the segment's data file: frames that no later frame vouches for are kept
/// only when their data is there too, and where that of the others lies beyond its end, it is damaged. `visit` sees every batch of the chain, before the verdict is known.
///
/// `known`: what is known from elsewhere.
pub(crate) async fn meta_file<F: IoFile>(
    path: &Path,
    meta: &Rc<F>,
    data: Option<&Rc<F>>,
    known: Known,
    visit: &mut dyn FnMut(&Batch),
) -> Result<Opened, OpenError> {
    let failed = |error: &std::io::Error| OpenError::io("reading", path, error);
    let size = meta.size_bytes().await.map_err(|error| failed(&error))?;
    let block = meta
        .read_at(FilePos::new(0), BLOCK_BYTES)
        .await
        .map_err(|error| failed(&error))?;
    let header = match SegmentHeader::check(&block) {
        Ok(header) => header,
        // The header is durable before the first frame is written: a file that ends with its first block and has no
        // whole header was being made when the machine stopped, and nothing was ever acknowledged from it.
        Err(
            SegmentHeaderError::Absent
            | SegmentHeaderError::Short { .. }
            | SegmentHeaderError::Checksum { .. }
            | SegmentHeaderError::Magic { .. },
        ) if size <= BLOCK_BYTES as u64 => return Ok(Opened::NeverUsed),
        // A file with room ahead that has nothing in it, either.
        Err(SegmentHeaderError::Absent) if is_zero(meta, size).await.map_err(|error| failed(&error))? => {
            return Ok(Opened::NeverUsed);
        }
        Err(error) => return Err(OpenError::new(format!("{}: {error}", path.display()))),
    };
    let data_bytes = match data {
        None => u64::MAX,
        Some(data) => data
            .size_bytes()
            .await
            .map_err(|error| OpenError::io("reading the data file of", path, &error))?,
    };
    let mut first_beyond = None;
    let mut visit = |batch: &Batch| {
        let end = batch.data_at().get().saturating_add(batch.data_bytes());
        if batch.data_bytes() > 0 && end > data_bytes && first_beyond.is_none() {
            first_beyond = Some(batch.base_event_id());
        }
        visit(batch);
    };
    let mut scan = MetaScan::with_producers(&header, known.producers);
    scan.witness(known.durable_end);
    let mut window = Bytes::new();
    let mut window_at = FilePos::new(0);
    while let Some((at, min_bytes)) = scan.next_read() {
        let have = window_end(window_at, &window);
        let wanted = at.get().saturating_add(min_bytes);
        let reread = at < window_at || (wanted > have && have < size);
        if reread {
            let bytes = WINDOW_BYTES.max(usize::try_from(min_bytes).unwrap_or(usize::MAX));
            window = meta.read_at(at, bytes).await.map_err(|error| failed(&error))?;
            window_at = at;
        }
        let skip = usize::try_from(at.get() - window_at.get())
            .unwrap_or(usize::MAX)
            .min(window.len());
        let rest = window.slice(skip..);
        let end_of_file = window_end(at, &rest) >= size || rest.is_empty();
        scan.feed(at, rest, end_of_file, &mut visit);
    }
    let first_bad_data = match data {
        None => None,
        Some(data) => first_bad_data(&scan, data)
            .await
            .map_err(|error| OpenError::io("reading the data file of", path, &error))?,
    };
    let proven = scan.proven();
    // Data lies in the order of the events: the first beyond the end comes before any other that is bad behind it.
    let first_bad_data = first_beyond.into_iter().chain(first_bad_data).min();
    let recovered = scan.finish(first_bad_data);
    Ok(Opened::Segment(Box::new(OpenedSegment {
        header,
        recovered,
        proven,
    })))
}

async fn is_zero<F: IoFile>(file: &Rc<F>, size: u64) -> std::io::Result<bool> {
    let mut at = 0;
    while at < size {
        let window = file.read_at(FilePos::new(at), WINDOW_BYTES).await?;
        if window.is_empty() {
            break;
        }
        if window.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += window.len() as u64;
    }
    Ok(true)
}

fn window_end(at: FilePos, window: &Bytes) -> u64 {
    at.get().saturating_add(window.len() as u64)
}

/// Writes a file's first block and makes it durable, before anything follows it.
pub(crate) async fn write_first_block<I: Io>(
    io: &I,
    file: &Rc<I::File>,
    header: &SegmentHeader,
) -> std::io::Result<()> {
    let mut block = io.alloc(BLOCK_BYTES);
    block.as_mut().copy_from_slice(&header.to_block());
    write_one(io, file, FilePos::new(0), block, Then::Sync).await
}

/// Of the frames that nothing vouches for, the first whose data is not all there.
async fn first_bad_data<F: IoFile>(scan: &MetaScan, data: &Rc<F>) -> std::io::Result<Option<EventId>> {
    for frame in scan.unvouched() {
        if frame.data_bytes() > 0 && !is_there(data, &frame.batch).await? {
            return Ok(Some(frame.base_event_id()));
        }
    }
    Ok(None)
}

/// Whether the data of a batch is there and checks; in windows, since there may be more of it than memory.
async fn is_there<F: IoFile>(data: &Rc<F>, batch: &Batch) -> std::io::Result<bool> {
    let mut check = DataCheck::new(batch);
    let (mut at, mut left) = (batch.data_at(), batch.data_bytes());
    while left > 0 {
        let bytes = usize::try_from(left).map_or(WINDOW_BYTES, |left| left.min(WINDOW_BYTES));
        let window = data.read_at(at, bytes).await?;
        if window.len() < bytes || check.feed(&window).is_err() {
            return Ok(false);
        }
        at = FilePos::new(at.get() + window.len() as u64);
        left -= window.len() as u64;
    }
    Ok(check.finish().is_ok())
}

/// An appender that goes on where the segment ends, in a new incarnation. What recovery kept is made durable first,
/// whoever wrote it: it counts from now on. A sync alone would not do: after one that failed the kernel takes what it
/// dropped for clean, and what is read may be gone at the next power cut. So what nothing vouches for is written again. What it dropped is
/// overwritten with zeros, or a frame of an earlier life could one day take the place of a later one with the same ids.
pub(crate) async fn resume<I: Io>(
    io: &I,
    segment: &OpenedSegment,
    config: AppenderConfig,
    path: &Path,
    meta: &Rc<I::File>,
    data: Option<&Rc<I::File>>,
) -> Result<Appender, OpenError> {
    let recovered = &segment.recovered;
    let failed = |what: &str, error: &std::io::Error| OpenError::io(what, path, error);
    if !recovered.verdict.is_damaged() {
        let (meta_from, data_from) = segment.proven;
        rewrite(io, meta, meta_from, recovered.meta_end)
            .await
            .map_err(|error| failed("writing again what was kept of", &error))?;
        if let Some(data) = data {
            rewrite(io, data, data_from, recovered.data_end)
                .await
                .map_err(|error| failed("writing again the data of", &error))?;
        }
    }
    if let Some(data) = data {
        io.sync(vec![Rc::clone(data)])
            .await
            .map_err(|error| failed("syncing the data of", &error))?;
    }
    let meta_tail = tail(meta, recovered.meta_end).await?;
    for plan in recovered.cut(&meta_tail) {
        let bytes = usize::try_from(plan.total_bytes())
            .map_err(|error| failed("cutting", &std::io::Error::other(error)))?;
        let mut buf = io.alloc(bytes);
        plan.fill(buf.as_mut());
        write_one(io, meta, plan.at(), buf, Then::Nothing)
            .await
            .map_err(|error| failed("cutting the torn tail of", &error))?;
    }
    io.sync(vec![Rc::clone(meta)])
        .await
        .map_err(|error| failed("syncing", &error))?;
    let data_tail = match data {
        // Nothing is added to what is damaged, and its last block may be what is gone.
        Some(_) if recovered.verdict.is_damaged() => zeros_of_tail(recovered.data_end),
        Some(data) => tail(data, recovered.data_end).await?,
        None => Vec::new(),
    };
    let facts = SegmentFacts {
        salt: segment.header.salt(),
        base_event_id: segment.header.base_event_id(),
        incarnation: recovered.next_incarnation,
    };
    Ok(Appender::resume(
        config,
        facts,
        Resume {
            meta_end: recovered.meta_end,
            data_end: recovered.data_end,
            next_event_id: recovered.next_event_id,
            synced_end: recovered.next_event_id,
            meta_tail,
            data_tail,
        },
    ))
}

/// Writes again, unchanged, the blocks from that of `from` up to that of `end`: as they are read now, a sync will make
/// them durable.
pub(crate) async fn rewrite<I: Io>(
    io: &I,
    file: &Rc<I::File>,
    from: FilePos,
    end: FilePos,
) -> std::io::Result<()> {
    let (mut at, end) = (
        from.align_down(BLOCK_BYTES as u64),
        end.align_up(BLOCK_BYTES as u64),
    );
    while at < end {
        let left = usize::try_from(end.since(at)).unwrap_or(usize::MAX);
        let bytes = file.read_at(at, left.min(WINDOW_BYTES)).await?;
        if bytes.is_empty() {
            break;
        }
        let mut buf = io.alloc(bytes.len().next_multiple_of(BLOCK_BYTES));
        let (front, rest) = buf.as_mut().split_at_mut(bytes.len());
        front.copy_from_slice(&bytes);
        rest.fill(0);
        let next = FilePos::new(at.get() + buf.as_ref().len() as u64);
        write_one(io, file, at, buf, Then::Nothing).await?;
        at = next;
    }
    Ok(())
}

/// As many bytes as a file that ends at `end` has in its last block.
fn zeros_of_tail(end: FilePos) -> Vec<u8> {
    let bytes = end.since(end.align_down(BLOCK_BYTES as u64));
    vec![0; usize::try_from(bytes).unwrap_or(BLOCK_BYTES)]
}

/// The bytes of the partial last block, which the next commit rewrites unchanged.
async fn tail<F: IoFile>(file: &Rc<F>, end: FilePos) -> Result<Vec<u8>, OpenError> {
    let start = end.align_down(BLOCK_BYTES as u64);
    let bytes = usize::try_from(end.get() - start.get()).unwrap_or(BLOCK_BYTES);
    if bytes == 0 {
        return Ok(Vec::new());
    }
    let tail = file
        .read_at(start, bytes)
        .await
        .map_err(|error| OpenError::new(format!("reading the last block at {start}: {error}")))?;
    if tail.len() != bytes {
        return Err(OpenError::new(format!(
            "the last block at {start} has {} of {bytes} bytes",
            tail.len()
        )));
    }
    Ok(tail.to_vec())
}
