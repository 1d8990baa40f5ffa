//! Drives the scan of `mofka-log` over a meta file.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use indicatif::ProgressBar;
use mofka_log::{BLOCK_BYTES, BatchHeader, MetaScan, SeenFrame, SegmentHeader, SegmentHeaderError};

use super::source::{Source, Stream};

/// Bytes that a window keeps from before the place that is wanted: the scan may look back by less than a block.
const BACK_BYTES: u64 = BLOCK_BYTES as u64;

/// The first block of a file, and whether anything but zeros follows it.
pub(super) struct FirstBlock {
    pub(super) header: Result<SegmentHeader, SegmentHeaderError>,
    pub(super) beyond: bool,
}

/// Reads the first block. What follows a header that does not check is looked at to its end: whether it was ever used
/// decides what its loss means.
pub(super) fn first_block(source: &Arc<Source>, progress: &ProgressBar) -> io::Result<FirstBlock> {
    let header = SegmentHeader::check(&source.read(0, BLOCK_BYTES)?);
    let mut beyond = false;
    if header.is_err() {
        let mut stream = Stream::new(source, BACK_BYTES, u64::MAX, progress);
        loop {
            let part = stream.next(u64::MAX)?;
            if part.is_empty() {
                break;
            }
            if part.iter().any(|byte| *byte != 0) {
                beyond = true;
                break;
            }
        }
    }
    Ok(FirstBlock { header, beyond })
}

/// The first frame's header, whatever segment it is of: its salt is that of a segment header that is lost.
pub(super) fn first_frame(source: &Source) -> io::Result<Option<BatchHeader>> {
    Ok(BatchHeader::check(&source.read(BLOCK_BYTES as u64, BLOCK_BYTES)?).ok())
}

/// The frames of a meta file, and what follows them, as a stream that a scan may begin.
pub(super) fn frames(source: &Arc<Source>, progress: &ProgressBar) -> Stream {
    Stream::new(source, BLOCK_BYTES as u64, u64::MAX, progress)
}

/// Shows the file up to `to` to the scan, until it has seen all of it. `stream`: what [`frames`] began.
pub(super) fn drive(
    source: &Arc<Source>,
    mut stream: Stream,
    scan: &mut MetaScan,
    to: u64,
    progress: &ProgressBar,
    visit: &mut dyn FnMut(SeenFrame<'_>),
) -> io::Result<()> {
    let to = to.min(source.len());
    let mut window = Bytes::new();
    let mut window_at = stream.at();
    let mut ended = stream.at() >= to;
    while let Some((at, min_bytes)) = scan.next_read() {
        let at_byte = at.get();
        if at_byte < window_at {
            stream = Stream::new(source, at_byte, to, progress);
            (window, window_at, ended) = (Bytes::new(), stream.at(), stream.at() >= to);
        }
        let wanted = at_byte.saturating_add(min_bytes);
        if !ended && window_at + (window.len() as u64) < wanted {
            let keep_from = at_byte.saturating_sub(BACK_BYTES).max(window_at);
            let kept = usize::try_from(keep_from - window_at).unwrap_or(usize::MAX);
            let mut joined = window.get(kept..).unwrap_or_default().to_vec();
            // At least what is asked for, a whole part at a time.
            while stream.at() < wanted {
                let part = stream.next(to.saturating_sub(stream.at()))?;
                if part.is_empty() {
                    ended = true;
                    break;
                }
                joined.extend_from_slice(part);
            }
            window_at = stream.at() - joined.len() as u64;
            window = Bytes::from(joined);
        }
        let skip = usize::try_from(at_byte.saturating_sub(window_at)).unwrap_or(usize::MAX);
        let rest = window.slice(skip.min(window.len())..);
        let end_of_file = at_byte + rest.len() as u64 >= to || ended;
        scan.feed_seen(at, rest, end_of_file, visit);
    }
    Ok(())
}
