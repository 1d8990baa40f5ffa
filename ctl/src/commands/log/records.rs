//! Looks at a file of records: a node's catalog, a partition's cursors.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indicatif::ProgressBar;
use mofka_log::{
    Catalog, CatalogRecord, CursorRecord, Cursors, FilePos, FramePlace, MetaScan, Recovered, SegmentHeader,
    SegmentKind, Verdict,
};
use uuid::Uuid;

use super::meta::{drive, first_block, first_frame, frames};
use super::problem::{Problem, Severity};
use super::segment::HeaderFound;
use super::source::Source;

/// One record as it was read.
#[derive(Debug, Clone)]
pub(super) struct Record<'a> {
    pub(super) place: FramePlace,
    pub(super) meta_at: FilePos,
    pub(super) timestamp_us: u64,
    pub(super) bytes: &'a [u8],
}

/// A record file as it was found.
#[derive(Debug, Clone)]
pub(super) struct RecordsFound {
    pub(super) path: PathBuf,
    pub(super) kind: SegmentKind,
    pub(super) bytes: u64,
    pub(super) header: HeaderFound,
    pub(super) verdict: Verdict,
    pub(super) recovered: Option<Recovered>,
    pub(super) problems: Vec<Problem>,
}

impl RecordsFound {
    /// Whether something is wrong with it that the daemon does not answer by itself.
    pub(super) fn is_damaged(&self) -> bool {
        self.problems
            .iter()
            .any(|problem| problem.severity > Severity::Note)
    }
}

/// The salt, the owner and the kind of a file with a lost header, as far as its first frame and its place tell.
fn rebuild(source: &Source, kind: SegmentKind, owner: Option<Uuid>) -> io::Result<HeaderFound> {
    let (Some(owner), Some(frame)) = (owner, first_frame(source)?) else {
        return Ok(HeaderFound::Lost);
    };
    let (base, salt) = (frame.base_event_id(), frame.salt());
    let header = SegmentHeader::new(kind, owner, base, salt, frame.timestamp_us(), frame.incarnation());
    Ok(HeaderFound::Rebuilt(header))
}

/// Reads a record file. `visit` sees every record of every valid frame, wherever it is.
///
/// # Errors
/// When it cannot be read.
pub(super) fn look(
    path: &Path,
    kind: SegmentKind,
    owner: Option<Uuid>,
    progress: &ProgressBar,
    visit: &mut dyn FnMut(Record<'_>),
) -> io::Result<RecordsFound> {
    let source = Arc::new(Source::open(path)?);
    let first = first_block(&source, progress)?;
    let mut problems = Vec::new();
    let mut verdict = Verdict::Clean;
    let header = match &first.header {
        Ok(header) => match header.expect(kind, owner.unwrap_or(header.partition())) {
            Ok(()) => HeaderFound::Fine(*header),
            Err(error) => {
                verdict = Verdict::ForeignBytes;
                problems.push(Problem::new(
                    Severity::Foreign,
                    "foreign",
                    path,
                    error.to_string(),
                ));
                HeaderFound::Other(*header)
            }
        },
        Err(error) => {
            verdict = Verdict::of_header(error, first.beyond);
            match verdict {
                Verdict::ForeignBytes => {
                    problems.push(Problem::new(
                        Severity::Foreign,
                        "foreign",
                        path,
                        error.to_string(),
                    ));
                    rebuild(&source, kind, owner)?
                }
                _ => HeaderFound::Lost,
            }
        }
    };
    let mut recovered = None;
    if let Some(header) = header.header() {
        let mut scan = MetaScan::new(header);
        let mut bad = None;
        drive(
            &source,
            frames(&source, progress),
            &mut scan,
            source.len(),
            progress,
            &mut |seen| {
                for event in seen.batch.events() {
                    if let Err(reason) = decodes(kind, event.metadata)
                        && seen.place == FramePlace::Chain
                    {
                        bad.get_or_insert_with(|| format!("at position {}: {reason}", seen.meta_at));
                    }
                    visit(Record {
                        place: seen.place,
                        meta_at: seen.meta_at,
                        timestamp_us: seen.batch.timestamp_us(),
                        bytes: event.metadata,
                    });
                }
            },
        )?;
        let found = scan.finish(None);
        if matches!(header_of(&first.header, kind, owner), Some(())) {
            verdict = found.verdict.clone();
        }
        if let Some(reason) = bad {
            problems.push(Problem::damage("record_unreadable", path, reason));
        }
        recovered = Some(found);
    }
    problems.extend(verdict_problem(path, &verdict));
    Ok(RecordsFound {
        path: path.to_path_buf(),
        kind,
        bytes: source.len(),
        header,
        verdict,
        recovered,
        problems,
    })
}

fn header_of<E>(found: &Result<SegmentHeader, E>, kind: SegmentKind, owner: Option<Uuid>) -> Option<()> {
    let header = found.as_ref().ok()?;
    header.expect(kind, owner.unwrap_or(header.partition())).ok()
}

/// What a verdict means for a file, when it is not clean.
pub(super) fn verdict_problem(path: &Path, verdict: &Verdict) -> Option<Problem> {
    match verdict {
        Verdict::Clean | Verdict::CleanStop => None,
        Verdict::TornTail { .. } => Some(Problem::note("torn_tail", path, verdict.prose())),
        Verdict::EmptyTorn => Some(Problem::note("empty", path, verdict.prose())),
        Verdict::Damaged { .. } => Some(Problem::damage("damaged", path, verdict.prose())),
        // Said where it was found out.
        Verdict::ForeignBytes => None,
        Verdict::UnknownVersion(_) => Some(Problem::new(
            Severity::Newer,
            "unknown_version",
            path,
            verdict.prose(),
        )),
    }
}

fn decodes(kind: SegmentKind, record: &[u8]) -> Result<(), String> {
    match kind {
        SegmentKind::Catalog => CatalogRecord::decode(record)
            .map(drop)
            .map_err(|error| error.to_string()),
        SegmentKind::Cursors => CursorRecord::check(record)
            .map(drop)
            .map_err(|error| error.to_string()),
        SegmentKind::Meta | SegmentKind::Data => Ok(()),
    }
}

/// A partition's cursors: what is in force, and how the file is.
///
/// # Errors
/// When the file cannot be read.
pub(super) fn cursors(
    path: &Path,
    partition: Option<Uuid>,
    progress: &ProgressBar,
) -> io::Result<(RecordsFound, Cursors)> {
    let mut cursors = Cursors::default();
    let found = look(path, SegmentKind::Cursors, partition, progress, &mut |record| {
        if record.place != FramePlace::Stale
            && let Ok(cursor) = CursorRecord::check(record.bytes)
        {
            cursors.apply(&cursor);
        }
    })?;
    Ok((found, cursors))
}

/// A node's catalog: what its records make, and how the file is.
///
/// # Errors
/// When the file cannot be read.
pub(super) fn catalog(
    path: &Path,
    node: Option<Uuid>,
    progress: &ProgressBar,
) -> io::Result<(RecordsFound, Catalog, BTreeSet<Uuid>)> {
    let (mut catalog, mut deleted) = (Catalog::default(), BTreeSet::new());
    let mut contradiction = None;
    let mut found = look(path, SegmentKind::Catalog, node, progress, &mut |record| {
        if record.place != FramePlace::Stale
            && let Ok(change) = CatalogRecord::decode(record.bytes)
            && let gone = catalog.gone_with(&change)
            && let Err(error) = catalog.apply(&change).map(|()| deleted.extend(gone))
            && record.place == FramePlace::Chain
        {
            contradiction.get_or_insert_with(|| format!("at position {}: {error}", record.meta_at));
        }
    })?;
    if let Some(text) = contradiction {
        found
            .problems
            .push(Problem::damage("record_contradicts", path, text));
    }
    Ok((found, catalog, deleted))
}
