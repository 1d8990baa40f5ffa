//! Looks at a partition: its segments in order, the chain of their ids, its cursors.

use std::io;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use mofka_log::{
    BLOCK_BYTES, Cursors, EventId, FooterTail, KeptProducers, ProducerTable, SeenFrame, SegmentHeader,
    Verdict,
};
use uuid::Uuid;

use super::judge::{Place, judge, judge_chain};
use super::kept_producers;
use super::place::{Half, is_reserved, names, partition_id, segment_name, user_of};
use super::problem::{Problem, file_name};
use super::records::{self, RecordsFound};
use super::segment::{Context, Depth, HeaderFound, SegmentFiles, SegmentFound, expect, look};
use super::source::Source;
use crate::failure::Outcome;

/// Under this name the cursors file keeps how far the partition's events are known to be durable.
pub(super) const WITNESS: &str = "\0synced_end";

/// What is in a partition's directory.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) segments: Vec<SegmentFiles>,
    pub(super) cursors: Option<PathBuf>,
    /// What producers sent before the first segment: see [`kept_producers`].
    pub(super) producers: Option<PathBuf>,
    /// Data files below the first meta file: the daemon was removing their segments, and goes on with it.
    pub(super) leftovers: Vec<String>,
    /// Files that hold nothing: see [`is_reserved`].
    pub(super) reserved: Vec<String>,
    /// Names that mean nothing here.
    pub(super) others: Vec<String>,
}

impl Listing {
    pub(super) fn of(dir: &Path) -> Outcome<Self> {
        let mut listing = Self::default();
        for name in names(dir)? {
            let path = dir.join(&name);
            if let Some((base, half)) = segment_name(&name) {
                if listing.segments.last().is_none_or(|last| last.base != base) {
                    listing.segments.push(SegmentFiles {
                        base,
                        meta: None,
                        data: None,
                    });
                }
                if let Some(last) = listing.segments.last_mut() {
                    match half {
                        Half::Meta => last.meta = Some(path),
                        Half::Data => last.data = Some(path),
                    }
                }
            } else if name == "cursors" {
                listing.cursors = Some(path);
            } else if name == "producers" {
                listing.producers = Some(path);
            } else if is_reserved(&name) {
                listing.reserved.push(name);
            } else {
                listing.others.push(name);
            }
        }
        // One alone may also be of the first segment of all, in the making: data files are made first.
        let first = listing.segments.iter().position(|segment| segment.meta.is_some());
        let leftovers = listing.segments.drain(..first.unwrap_or(0));
        let names = leftovers.filter_map(|segment| segment.data.as_deref().map(file_name));
        listing.leftovers = names.collect();
        Ok(listing)
    }

    /// Bytes of all files that are looked at.
    pub(super) fn file_bytes(&self) -> u64 {
        let paths = self
            .segments
            .iter()
            .flat_map(|segment| [&segment.meta, &segment.data]);
        let paths = paths.chain([&self.cursors]).flatten();
        paths
            .filter_map(|path| std::fs::metadata(path).ok())
            .map(|about| about.len())
            .fold(0, u64::saturating_add)
    }
}

/// A partition as it was found.
#[derive(Debug)]
pub(super) struct PartitionFound {
    pub(super) dir: PathBuf,
    pub(super) id: Option<Uuid>,
    pub(super) segments: Vec<SegmentFound>,
    pub(super) cursors: Option<RecordsFound>,
    pub(super) cursor_table: Cursors,
    pub(super) listing: Listing,
    /// About the partition as a whole: gaps between segments.
    pub(super) problems: Vec<Problem>,
}

impl PartitionFound {
    pub(super) fn all_problems(&self) -> impl Iterator<Item = &Problem> {
        let segments = self.segments.iter().flat_map(|segment| &segment.problems);
        let cursors = self.cursors.iter().flat_map(|cursors| &cursors.problems);
        segments.chain(cursors).chain(&self.problems)
    }

    /// Exclusive end of the events.
    pub(super) fn end(&self) -> EventId {
        let last = self.own_segments().last();
        last.map_or(EventId::new(0), SegmentFound::end)
    }

    /// The segments, but for files of something else.
    pub(super) fn own_segments(&self) -> impl DoubleEndedIterator<Item = &SegmentFound> {
        let is_own = |segment: &&SegmentFound| !matches!(segment.header, HeaderFound::Other(_));
        self.segments.iter().filter(is_own)
    }

    /// What is known of producers before the first segment.
    pub(super) fn kept_producers(&self) -> ProducerTable {
        let path = self.listing.producers.as_deref();
        let kept = path.and_then(|path| kept_producers::read(path, self.id).ok());
        kept.map(KeptProducers::into_producers).unwrap_or_default()
    }

    /// What was kept of producers before segments that went since knows too little, where no footer knows better.
    fn judge_kept_producers(&mut self) {
        let Some(path) = self.listing.producers.clone() else {
            return;
        };
        let first = self.own_segments().next().map(|segment| segment.files.base);
        let (Some(first), Ok(kept)) = (first, kept_producers::read(&path, self.id)) else {
            return;
        };
        if let Err(error) = kept.reaches(first)
            && !self.own_segments().any(SegmentFound::is_sealed)
        {
            let text = format!("{error}, and no segment has a footer");
            self.problems
                .push(Problem::damage("producers_damaged", &path, text));
        }
    }

    pub(super) fn events(&self) -> u64 {
        let count = |segment: &SegmentFound| segment.end().since(segment.files.base);
        self.own_segments().map(count).fold(0, u64::saturating_add)
    }
}

/// How a partition is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) depth: Depth,
    /// Only the segment that begins here.
    pub(super) only: Option<EventId>,
}

/// What sees the segments and their frames while they are read.
pub(super) trait Visitor {
    /// A segment is going to be read.
    fn begin(&mut self, _files: &SegmentFiles) {}
    /// One of its valid frames.
    fn frame(&mut self, _seen: SeenFrame<'_>) {}
    /// It was read.
    fn end(&mut self, _found: &SegmentFound) {}
}

/// For those who want only the outcome.
pub(super) struct Nobody;

impl Visitor for Nobody {}

/// Reads a partition.
///
/// # Errors
/// When its directory cannot be listed. A file that cannot be read is a problem among the others.
pub(super) fn examine(
    dir: &Path,
    how: Look,
    progress: &ProgressBar,
    visitor: &mut dyn Visitor,
) -> Outcome<PartitionFound> {
    let in_use = user_of(dir).is_some();
    // The order matters while a daemon works here: what the record beside the cursors and the list of segments
    // testify was durable before the segments are read.
    let cursors_path = dir.join("cursors");
    let id = partition_id(dir);
    let mut problems = Vec::new();
    let (mut cursors, mut cursor_table) = (None, Cursors::default());
    if cursors_path.exists() {
        match look_at_cursors(&cursors_path, id, in_use, progress) {
            Ok((found, table)) => (cursors, cursor_table) = (Some(found), table),
            Err(error) => problems.push(unreadable(&cursors_path, &error)),
        }
    }
    let listing = Listing::of(dir)?;
    let id = id.or_else(|| headers_id(&listing));
    let mut found = PartitionFound {
        dir: dir.to_path_buf(),
        id,
        segments: Vec::new(),
        cursors,
        cursor_table,
        listing,
        problems,
    };
    let witness = found.cursor_table.get(WITNESS).unwrap_or_default();
    let mut producers = match found
        .listing
        .producers
        .as_deref()
        .map(|path| (path, kept_producers::read(path, id)))
    {
        None => ProducerTable::default(),
        Some((_, Ok(kept))) => kept.into_producers(),
        Some((path, Err(reason))) => {
            let text = format!("what producers sent to segments that were trimmed is lost: {reason}");
            found
                .problems
                .push(Problem::damage("producers_damaged", path, text));
            ProducerTable::default()
        }
    };
    let files = found.listing.segments.clone();
    let last_named = files.iter().rposition(|files| files.meta.is_some());
    let is_ours = |(place, files)| {
        // The name of one that was never begun testifies as that of any other, whatever its file was made for.
        !is_of_another(files, id) || (last_named == Some(place) && was_never_begun(files, id))
    };
    let ours: Vec<bool> = files.iter().enumerate().map(is_ours).collect();
    let last = files.iter().zip(&ours).rfind(|(_, ours)| **ours);
    let last_is_sealed = last.is_some_and(|(last, _)| ends_with_footer(last));
    for (place, segment) in files.iter().enumerate() {
        let later = files.iter().zip(&ours).skip(place + 1);
        let next = later.filter(|(_, ours)| **ours).map(|(next, _)| next.base).next();
        if how.only.is_some_and(|only| only != segment.base) {
            continue;
        }
        let context = Context {
            partition: id,
            witness: next.unwrap_or(witness),
            producers: producers.clone(),
            depth: how.depth,
        };
        visitor.begin(segment);
        let mut looked = match look_twice(segment, &context, in_use, progress, visitor) {
            Ok(Some(looked)) => looked,
            Ok(None) => continue,
            Err(error) => {
                found.problems.push(unreadable(segment.path(), &error));
                continue;
            }
        };
        producers = looked.producers().unwrap_or_default();
        if last_named == Some(place) && looked.was_never_begun(id) {
            looked.note_never_begun();
        }
        let place = Place {
            next,
            from_last: ours.iter().skip(place + 1).filter(|ours| **ours).count(),
            last_is_sealed,
            in_use,
        };
        judge(&mut looked, &place);
        visitor.end(&looked);
        found.segments.push(looked);
    }
    if how.only.is_none() {
        judge_chain(&mut found, witness);
        found.judge_kept_producers();
    }
    Ok(found)
}

/// Whether the meta file has a header, and it is that of something else: its name testifies nothing then.
fn is_of_another(files: &SegmentFiles, id: Option<Uuid>) -> bool {
    let header = || {
        let source = Source::open(files.meta.as_ref()?).ok()?;
        SegmentHeader::check(&source.read(0, BLOCK_BYTES).ok()?).ok()
    };
    header().is_some_and(|header| expect(&header, id, files.base).is_err())
}

/// Whether the last segment, whose file has the header of another, was being named when the machine stopped.
fn was_never_begun(files: &SegmentFiles, id: Option<Uuid>) -> bool {
    let context = Context {
        partition: id,
        witness: EventId::new(0),
        producers: ProducerTable::default(),
        depth: Depth::Tail,
    };
    look(files, &context, &ProgressBar::hidden(), &mut |_| ()).is_ok_and(|found| found.was_never_begun(id))
}

/// Whether the meta file's last bytes are the tail of a footer.
fn ends_with_footer(files: &SegmentFiles) -> bool {
    let tail = || {
        let source = Source::open(files.meta.as_ref()?).ok()?;
        let block_at = source.len().checked_sub(BLOCK_BYTES as u64)?;
        FooterTail::check(&source.read(block_at, BLOCK_BYTES).ok()?, source.len())
    };
    tail().is_some()
}

fn unreadable(path: &Path, error: &io::Error) -> Problem {
    Problem::damage("unreadable", path, format!("it cannot be read: {error}"))
}

/// Whose partition this is, when its directory does not say: the first header that checks.
fn headers_id(listing: &Listing) -> Option<Uuid> {
    let paths = listing
        .segments
        .iter()
        .flat_map(|segment| [&segment.meta, &segment.data])
        .flatten();
    let mut headers = paths.filter_map(|path| {
        let block = Source::open(path).ok()?.read(0, BLOCK_BYTES).ok()?;
        SegmentHeader::check(&block).ok()
    });
    headers.next().map(|header| header.partition())
}

fn look_at_cursors(
    path: &Path,
    id: Option<Uuid>,
    in_use: bool,
    progress: &ProgressBar,
) -> io::Result<(RecordsFound, Cursors)> {
    let first = records::cursors(path, id, progress)?;
    match (&first.0.verdict, in_use) {
        (Verdict::Damaged { to, .. }, true) => {
            let to = *to;
            let (mut again, table) = records::cursors(path, id, progress)?;
            forgive_what_moved(&mut again.problems, &again.verdict, to, path);
            Ok((again, table))
        }
        _ => Ok(first),
    }
}

/// While a daemon writes, one read can see a frame and not the one before it that landed a moment later. What was
/// durable at the first look is there at the second: only what is missing then as well is damage.
pub(super) fn forgive_what_moved(
    problems: &mut Vec<Problem>,
    verdict: &Verdict,
    durable_before: EventId,
    path: &Path,
) {
    if let Verdict::Damaged { from, .. } = verdict
        && *from >= durable_before
    {
        problems.retain(|problem| problem.kind != "damaged");
        problems.push(Problem::note("moving_tail", path, "its end is being written now"));
    }
}

/// Reads a segment; twice when a daemon writes here and it looks damaged. `None`: the daemon removed it meanwhile.
fn look_twice(
    files: &SegmentFiles,
    context: &Context,
    in_use: bool,
    progress: &ProgressBar,
    visitor: &mut dyn Visitor,
) -> io::Result<Option<SegmentFound>> {
    let gone = |error: &io::Error| in_use && error.kind() == io::ErrorKind::NotFound;
    let mut visit = |seen: SeenFrame<'_>| visitor.frame(seen);
    let first = match look(files, context, progress, &mut visit) {
        Err(error) if gone(&error) => return Ok(None),
        other => other?,
    };
    let Verdict::Damaged { to, .. } = first.verdict else {
        return Ok(Some(first));
    };
    if !in_use {
        return Ok(Some(first));
    }
    let mut again = match look(files, context, progress, &mut |_| ()) {
        Err(error) if gone(&error) => return Ok(None),
        other => other?,
    };
    if let Verdict::Damaged { from, .. } = again.verdict
        && from >= to
    {
        let path = files.path();
        again.verdict = Verdict::Clean;
        again
            .problems
            .push(Problem::note("moving_tail", path, "its end is being written now"));
    }
    Ok(Some(again))
}

/// The partitions of a data directory: every directory below `partitions` that is one.
pub(super) fn partition_dirs(data_dir: &Path) -> Outcome<Vec<PathBuf>> {
    let dir = data_dir.join("partitions");
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let ids = names(&dir)?
        .into_iter()
        .filter(|name| name.parse::<Uuid>().is_ok());
    Ok(ids.map(|name| dir.join(name)).collect())
}
