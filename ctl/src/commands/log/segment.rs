//! Looks at one segment: both files, as recovery reads them, and on demand every checksum in them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indicatif::ProgressBar;
use mofka_log::{
    BLOCK_BYTES, EventId, FilePos, Footer, FooterTail, LastSegment, MetaScan, ProducerTable, Recovered,
    SeenFrame, SegmentHeader, SegmentHeaderError, SegmentKind, Verdict,
};
use uuid::Uuid;

use super::data::{BadBatch, DataFound, check_all, check_unvouched};
use super::meta::{drive, first_block, first_frame, frames};
use super::problem::Problem;
use super::source::{Ranges, Source};

/// The files of a segment, as far as they are there.
#[derive(Debug, Clone)]
pub(super) struct SegmentFiles {
    pub(super) base: EventId,
    pub(super) meta: Option<PathBuf>,
    pub(super) data: Option<PathBuf>,
}

impl SegmentFiles {
    /// A file of it, to name it by.
    pub(super) fn path(&self) -> &Path {
        let path = self.meta.as_deref().or(self.data.as_deref());
        path.unwrap_or(Path::new(""))
    }
}

/// How much of the data is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// What recovery reads: data of frames that nothing vouches for.
    Tail,
    /// All of it.
    Everything,
}

/// What is known of a segment before it is looked at.
#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) partition: Option<Uuid>,
    /// Everything before this was durable, says something outside the segment.
    pub(super) witness: EventId,
    /// What the segments before it know of producers.
    pub(super) producers: ProducerTable,
    pub(super) depth: Depth,
}

/// What follows the frames.
#[derive(Debug, Clone)]
pub(super) enum FooterFound {
    /// No tail of a footer at the end of the file.
    None,
    /// A footer.
    Checks { footer: Box<Footer>, at: FilePos },
    /// The tail of one, and it does not check.
    Broken(String),
    /// One that checks and does not say what the frames do.
    Wrong(String),
}

/// How the first block of a meta file came out.
#[derive(Debug, Clone)]
pub(super) enum HeaderFound {
    /// It is the header that belongs there.
    Fine(SegmentHeader),
    /// It is lost, and this is what it was, as the data file or the first frame tells.
    Rebuilt(SegmentHeader),
    /// It is a header of something else.
    Other(SegmentHeader),
    /// Of the last segment, which was being named when the machine stopped: its own, or of an earlier one that the file was made for.
    NeverBegun(SegmentHeader),
    /// It is lost.
    Lost,
}

impl HeaderFound {
    /// The header to read the file by.
    pub(super) fn header(&self) -> Option<&SegmentHeader> {
        match self {
            Self::Fine(header) | Self::Rebuilt(header) | Self::Other(header) | Self::NeverBegun(header) => {
                Some(header)
            }
            Self::Lost => None,
        }
    }
}

/// A segment as it was found.
#[derive(Debug, Clone)]
pub(super) struct SegmentFound {
    pub(super) files: SegmentFiles,
    pub(super) meta_bytes: u64,
    /// `None` without a data file.
    pub(super) data_bytes: Option<u64>,
    pub(super) header: HeaderFound,
    pub(super) data_header: Option<Result<SegmentHeader, SegmentHeaderError>>,
    pub(super) footer: FooterFound,
    pub(super) verdict: Verdict,
    /// What a scan found, when there is a header to scan by.
    pub(super) recovered: Option<Recovered>,
    pub(super) data: DataFound,
    /// End of the good frames, and of their data.
    pub(super) good_meta_end: FilePos,
    pub(super) good_data_end: FilePos,
    pub(super) problems: Vec<Problem>,
}

impl SegmentFound {
    /// Exclusive end of the events that are good.
    pub(super) fn end(&self) -> EventId {
        self.recovered
            .as_ref()
            .map_or(self.files.base, |recovered| recovered.next_event_id)
    }

    pub(super) fn is_sealed(&self) -> bool {
        matches!(self.footer, FooterFound::Checks { .. })
    }

    /// Whether the daemon will say of this one, the last, that it was never begun, and remove it.
    pub(super) fn was_never_begun(&self, partition: Option<Uuid>) -> bool {
        let (HeaderFound::Fine(meta) | HeaderFound::Other(meta)) = &self.header else {
            return false;
        };
        let (Some(recovered), FooterFound::None) = (&self.recovered, &self.footer) else {
            return false;
        };
        let data = self.data_header.as_ref().and_then(|data| data.as_ref().ok());
        LastSegment {
            partition: partition.unwrap_or(meta.partition()),
            base: self.files.base,
            meta,
            recovered,
            data,
        }
        .was_never_begun()
    }

    /// It was never begun: what its files say otherwise does not matter.
    pub(super) fn note_never_begun(&mut self) {
        if let Some(header) = self.header.header().copied() {
            self.header = HeaderFound::NeverBegun(header);
            self.verdict = Verdict::EmptyTorn;
            self.recovered = None;
            self.problems.clear();
        }
    }

    /// What the segments after it are to know of producers.
    pub(super) fn producers(&self) -> Option<ProducerTable> {
        match &self.footer {
            FooterFound::Checks { footer, .. } => Some(footer.producers()),
            _ => self
                .recovered
                .as_ref()
                .map(|recovered| recovered.producers.clone()),
        }
    }

    fn nothing(files: &SegmentFiles) -> Self {
        Self {
            files: files.clone(),
            meta_bytes: 0,
            data_bytes: None,
            header: HeaderFound::Lost,
            data_header: None,
            footer: FooterFound::None,
            verdict: Verdict::ForeignBytes,
            recovered: None,
            data: DataFound::default(),
            good_meta_end: FilePos::new(BLOCK_BYTES as u64),
            good_data_end: FilePos::new(BLOCK_BYTES as u64),
            problems: Vec::new(),
        }
    }
}

/// Reads a segment. `visit` sees every valid frame of the meta file.
///
/// # Errors
/// When a file cannot be read.
pub(super) fn look(
    files: &SegmentFiles,
    context: &Context,
    progress: &ProgressBar,
    visit: &mut dyn FnMut(SeenFrame<'_>),
) -> io::Result<SegmentFound> {
    let mut found = SegmentFound::nothing(files);
    let data = match &files.data {
        Some(path) => Some(Arc::new(Source::open(path)?)),
        None => None,
    };
    let meta = match &files.meta {
        Some(path) => Some(Arc::new(Source::open(path)?)),
        None => None,
    };
    // Before the small reads, so that the device is not idle meanwhile.
    let stream = meta.as_ref().map(|meta| frames(meta, progress));
    let ranges = data.as_ref().map(|data| {
        let mut ranges = Ranges::new(Arc::clone(data), progress);
        if context.depth == Depth::Everything {
            ranges.begin(BLOCK_BYTES as u64);
        }
        ranges
    });
    if let Some(data) = &data {
        found.data_bytes = Some(data.len());
        found.data_header = Some(SegmentHeader::check(&data.read(0, BLOCK_BYTES)?));
        progress.inc(BLOCK_BYTES as u64);
    }
    let (Some(meta_path), Some(meta), Some(stream)) = (&files.meta, meta, stream) else {
        return Ok(found);
    };
    found.meta_bytes = meta.len();
    let first = first_block(&meta, progress)?;
    found.header = match &first.header {
        Ok(header) => match expect(header, context.partition, files.base) {
            Ok(()) => HeaderFound::Fine(*header),
            Err(reason) => {
                found.problems.push(Problem::new(
                    super::problem::Severity::Foreign,
                    "foreign",
                    meta_path,
                    reason,
                ));
                HeaderFound::Other(*header)
            }
        },
        Err(error) => {
            found.verdict = Verdict::of_header(error, first.beyond);
            if found.verdict == Verdict::ForeignBytes {
                rebuild(&found, &meta, context)?.map_or(HeaderFound::Lost, HeaderFound::Rebuilt)
            } else {
                HeaderFound::Lost
            }
        }
    };
    let Some(header) = found.header.header().copied() else {
        return Ok(found);
    };
    found.footer = read_footer(&meta, &header)?;
    let (to, mut witness) = match &found.footer {
        FooterFound::Checks { footer, at } => (at.get(), footer.end_event_id()),
        _ => (meta.len(), header.base_event_id()),
    };
    // A segment of something else is looked at, but nothing is known of its end.
    if !matches!(found.header, HeaderFound::Other(_)) {
        witness = witness.max(context.witness);
    }
    let mut scan = MetaScan::with_producers(&header, context.producers.clone());
    scan.witness(witness);
    found.data = match context.depth {
        Depth::Everything => check_all(ranges, |check| {
            drive(&meta, stream, &mut scan, to, progress, &mut |seen| {
                check.show(&seen);
                visit(seen);
            })
        })?,
        Depth::Tail => {
            drive(&meta, stream, &mut scan, to, progress, visit)?;
            check_unvouched(ranges, &scan)?
        }
    };
    let recovered = scan.finish(found.data.first_bad.as_ref().map(|bad| bad.base));
    if let FooterFound::Checks { footer, .. } = &found.footer
        && footer.end_event_id() < recovered.next_event_id
    {
        let (said, end) = (footer.end_event_id(), recovered.next_event_id);
        let text =
            format!("the footer says that the segment ends at event {said}, and its frames go to {end}");
        found.footer = FooterFound::Wrong(text);
    }
    (found.good_meta_end, found.good_data_end) = match &found.data.first_bad {
        Some(bad) if recovered.verdict.is_damaged() && bad.base == recovered.next_event_id => {
            (bad.meta_end_before, bad.data_end_before)
        }
        _ => (recovered.meta_end, recovered.data_end),
    };
    if matches!(found.header, HeaderFound::Fine(_)) {
        found.verdict = recovered.verdict.clone();
    }
    found.recovered = Some(recovered);
    Ok(found)
}

/// Whether the header is that of the segment whose name the file has.
pub(super) fn expect(header: &SegmentHeader, partition: Option<Uuid>, base: EventId) -> Result<(), String> {
    let partition = partition.unwrap_or(header.partition());
    header
        .expect(SegmentKind::Meta, partition)
        .map_err(|error| error.to_string())?;
    if header.base_event_id() != base {
        return Err(format!(
            "its header says that it begins at event {}, and its name says {base}",
            header.base_event_id()
        ));
    }
    Ok(())
}

/// The header of a meta file that lost it: the data file's says the same, and so does the first frame.
fn rebuild(found: &SegmentFound, meta: &Source, context: &Context) -> io::Result<Option<SegmentHeader>> {
    let base = found.files.base;
    if let Some(Ok(data)) = &found.data_header {
        let ours = context
            .partition
            .is_none_or(|partition| partition == data.partition());
        if ours && data.kind() == SegmentKind::Data && data.base_event_id() == base {
            let (salt, created_us) = (data.salt(), data.created_us());
            let header = SegmentHeader::new(
                SegmentKind::Meta,
                data.partition(),
                base,
                salt,
                created_us,
                data.incarnation(),
            );
            return Ok(Some(header));
        }
    }
    let (Some(partition), Some(frame)) = (context.partition, first_frame(meta)?) else {
        return Ok(None);
    };
    let header = |frame: &mofka_log::BatchHeader| {
        let (salt, created_us) = (frame.salt(), frame.timestamp_us());
        SegmentHeader::new(
            SegmentKind::Meta,
            partition,
            base,
            salt,
            created_us,
            frame.incarnation(),
        )
    };
    Ok((frame.base_event_id() == base).then(|| header(&frame)))
}

/// The footer at the end of a sealed segment.
fn read_footer(meta: &Source, header: &SegmentHeader) -> io::Result<FooterFound> {
    let block = BLOCK_BYTES as u64;
    if meta.len() < 2 * block {
        return Ok(FooterFound::None);
    }
    let last = meta.read(meta.len() - block, BLOCK_BYTES)?;
    let Some(tail) = FooterTail::check(&last, meta.len()) else {
        return Ok(FooterFound::None);
    };
    let bytes = usize::try_from(tail.footer_bytes()).map_err(io::Error::other)?;
    let bytes = meta.read(tail.footer_at().get(), bytes)?;
    Ok(match Footer::check(&bytes, header.salt()) {
        Ok(footer) if footer.base_event_id() == header.base_event_id() => FooterFound::Checks {
            footer: Box::new(footer),
            at: tail.footer_at(),
        },
        Ok(footer) => FooterFound::Broken(format!(
            "the footer says that the segment begins at event {}",
            footer.base_event_id()
        )),
        Err(error) => FooterFound::Broken(error.to_string()),
    })
}

/// What is to be said of the bad data of a segment.
pub(super) fn bad_data_text(bad: &BadBatch, batches: u64) -> String {
    let what = match bad.missing {
        true => "is not there",
        false => "does not check",
    };
    let more = match batches {
        0 | 1 => String::new(),
        more => format!("; in all, data of {more} batches is bad"),
    };
    format!(
        "data of event {} (bytes {} on of its data; its batch has events {} to {}, at position {} of the data file) \
         {what}{more}",
        bad.event, bad.byte_of_event, bad.base, bad.end, bad.data_at
    )
}
