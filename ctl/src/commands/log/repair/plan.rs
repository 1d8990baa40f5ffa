//! What is to be done to a partition, found out without doing it.

use std::path::{Path, PathBuf};

use mofka_log::{
    BLOCK_BYTES, CursorRecord, EventId, FilePos, FooterFacts, SegmentHeader, SegmentKind, Verdict,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::durable::{now_us, random_u64};
use super::super::partition::{PartitionFound, WITNESS};
use super::super::problem::{Severity, file_name};
use super::super::segment::{FooterFound, HeaderFound, SegmentFound};
use crate::failure::{Failure, Outcome};

/// One change of the files.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Move a file out of the way.
    SetAside { path: PathBuf, why: String },
    /// Write a header that was lost.
    WriteHeader { path: PathBuf, header: SegmentHeader },
    /// Make a file with nothing but its header.
    NewFile { path: PathBuf, header: SegmentHeader },
    /// End a segment after its good frames.
    Cut {
        meta: PathBuf,
        at: FilePos,
        data: Option<(PathBuf, FilePos)>,
        end: EventId,
    },
    /// Write a footer that was lost.
    Seal { meta: PathBuf, facts: Box<FooterFacts> },
    /// Write the cursors anew.
    RewriteCursors {
        path: PathBuf,
        owner: Uuid,
        records: Vec<CursorRecord>,
        why: String,
    },
}

impl Step {
    /// Name of the kind, stable for programs.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::SetAside { .. } => "set_aside",
            Self::WriteHeader { .. } => "write_header",
            Self::NewFile { .. } => "new_file",
            Self::Cut { .. } => "cut",
            Self::Seal { .. } => "seal",
            Self::RewriteCursors { .. } => "rewrite_cursors",
        }
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::SetAside { path, .. }
            | Self::WriteHeader { path, .. }
            | Self::NewFile { path, .. }
            | Self::RewriteCursors { path, .. } => path,
            Self::Cut { meta, .. } | Self::Seal { meta, .. } => meta,
        }
    }

    /// What it does, for people.
    pub(super) fn text(&self) -> String {
        let name = file_name(self.path());
        match self {
            Self::SetAside { why, .. } => format!("set {name} aside: {why}"),
            Self::WriteHeader { .. } => format!("write the header of {name} again"),
            Self::NewFile { .. } => format!("make {name}, with nothing but its header"),
            Self::Cut { at, data, end, .. } => {
                let data = data.as_ref().map_or_else(String::new, |(path, at)| {
                    format!(" and {} after position {at}", file_name(path))
                });
                format!("cut {name} after position {at}{data}: events before {end} stay")
            }
            Self::Seal { facts, .. } => format!(
                "write the footer of {name} again: events {} to {}",
                facts.base_event_id, facts.end_event_id
            ),
            Self::RewriteCursors { records, why, .. } => {
                format!("write {name} again with {} records: {why}", records.len())
            }
        }
    }
}

/// A cursor that moves, since what it stood behind is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) consumer: String,
    pub(super) from: EventId,
    pub(super) to: EventId,
}

/// What is to be done to a partition.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    /// Exclusive end of the events that stay.
    pub(super) end: EventId,
    /// Exclusive end of what was there, as far as anything testifies.
    pub(super) end_before: EventId,
    pub(super) moved: Vec<Moved>,
}

impl Plan {
    pub(super) fn json(&self) -> Value {
        let step =
            |step: &Step| json!({"kind": step.kind(), "file": file_name(step.path()), "text": step.text()});
        let moved = |moved: &Moved| json!({"consumer": moved.consumer, "from": moved.from.get(), "to": moved.to.get()});
        json!({
            "steps": self.steps.iter().map(step).collect::<Vec<_>>(),
            "end_event_id": self.end.get(),
            "dropped_events": self.end_before.since(self.end),
            "cursors_moved": self.moved.iter().map(moved).collect::<Vec<_>>(),
        })
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.steps.iter().map(Step::text).collect();
        if self.end < self.end_before {
            let (end, before) = (self.end, self.end_before);
            lines.push(format!(
                "events {end} to {before} are given up; events before {end} stay"
            ));
        }
        for moved in &self.moved {
            let Moved { consumer, from, to } = moved;
            lines.push(format!("the cursor of {consumer} moves back from {from} to {to}"));
        }
        lines
    }
}

/// Builds a plan while it goes over the segments.
struct Planning<'a> {
    found: &'a PartitionFound,
    partition: Uuid,
    steps: Vec<Step>,
    /// Where the next segment must begin.
    expected: Option<EventId>,
    /// No segment after this place can stay.
    stopped: Option<String>,
    kept_segments: usize,
}

/// What is to be done so that the daemon can go on with this partition.
///
/// # Errors
/// When it cannot be repaired here: a newer program made it, or a file cannot be read.
pub(super) fn plan(found: &PartitionFound) -> Outcome<Plan> {
    for problem in found.all_problems() {
        let advice = match (problem.kind, problem.severity) {
            ("unreadable", _) => "copy the partition to a device that works, as far as it can be read, first",
            (_, Severity::Newer) => "use the program that made it",
            _ => continue,
        };
        let text = &problem.text;
        return Err(Failure::failed(format!(
            "{} cannot be repaired: {}: {text}; {advice}",
            found.dir.display(),
            problem.file
        )));
    }
    let Some(partition) = found.id else {
        return Err(Failure::failed(format!(
            "{} cannot be repaired: no file says which partition it is of, and the directory's name does not either",
            found.dir.display()
        )));
    };
    let mut planning = Planning {
        found,
        partition,
        steps: Vec::new(),
        expected: None,
        stopped: None,
        kept_segments: 0,
    };
    // One that was never begun goes, so the one before it is the last.
    let is_begun = |segment: &&SegmentFound| !matches!(segment.header, HeaderFound::NeverBegun(_));
    let last = found.own_segments().rfind(is_begun).map(|last| last.files.base);
    for segment in &found.segments {
        planning.segment(segment, last == Some(segment.files.base));
    }
    if let Some(first) = found.segments.first() {
        planning.begin_empty_when_first(first.files.base);
    }
    if found
        .problems
        .iter()
        .any(|problem| problem.kind == "producers_damaged")
        && let Some(path) = &found.listing.producers
    {
        planning.steps.push(Step::SetAside {
            path: path.clone(),
            why: "it is damaged; producers that it alone knew begin anew".to_owned(),
        });
    }
    let witness = found.cursor_table.get(WITNESS).unwrap_or_default();
    let end = planning.expected.unwrap_or_default();
    let end_before = end_before(found).max(witness).max(end);
    let moved = planning.cursors(end);
    Ok(Plan {
        steps: planning.steps,
        end,
        end_before,
        moved,
    })
}

/// How far events went, by all that testifies in the segments.
fn end_before(found: &PartitionFound) -> EventId {
    let ends = found
        .own_segments()
        .map(|segment| match (&segment.verdict, &segment.recovered) {
            (Verdict::Damaged { to, .. }, _) => segment.end().max(*to),
            (_, Some(recovered)) => match recovered.verdict {
                Verdict::Damaged { to, .. } => segment.end().max(to),
                _ => segment.end(),
            },
            (_, None) => segment.files.base,
        });
    ends.max().unwrap_or_default()
}

impl Planning<'_> {
    fn segment(&mut self, segment: &SegmentFound, is_last: bool) {
        let base = segment.files.base;
        if let Some(why) = self.stopped.clone() {
            return self.set_aside(segment, &why);
        }
        if let Some(expected) = self.expected
            && expected != base
        {
            let why = match base > expected {
                true => format!("events {expected} to {base} before it are missing"),
                false => format!("the events from {base} to {expected} are in the segment before it"),
            };
            return self.set_aside(segment, &why);
        }
        if matches!(segment.header, HeaderFound::NeverBegun(_)) {
            // The daemon removes it.
            self.expected = Some(base);
            return;
        }
        let (Some(meta), Some(header)) = (&segment.files.meta, usable_header(segment)) else {
            // The daemon makes a segment that was being named when the machine stopped: the data file gets its name first.
            if is_last && segment.files.meta.is_none() {
                return;
            }
            let why = match &segment.header {
                HeaderFound::Other(_) => "it is not a segment of this partition that begins here",
                HeaderFound::Fine(_)
                | HeaderFound::Rebuilt(_)
                | HeaderFound::Lost
                | HeaderFound::NeverBegun(_) => "its header is lost, and with it what its frames are",
            };
            self.set_aside(segment, why);
            if !matches!(segment.header, HeaderFound::Other(_)) {
                // Its events are gone: what follows can stay only where it goes on with what is before.
                self.begin_empty_when_first(base);
            }
            return;
        };
        let recovered_verdict = segment.recovered.as_ref().map(|recovered| &recovered.verdict);
        let is_damaged = recovered_verdict.is_some_and(Verdict::is_damaged);
        if is_damaged && segment.end() == base && self.kept_segments > 0 {
            self.set_aside(segment, "nothing in it is good");
            self.stopped = Some(format!("events {base} on are gone"));
            return;
        }
        self.headers(segment, meta, &header);
        let is_torn = matches!(recovered_verdict, Some(Verdict::TornTail { .. }));
        if is_damaged || (is_torn && is_last) {
            self.cut(segment, meta);
        } else if !is_last && !segment.is_sealed() {
            self.seal(segment, meta, &header);
        } else if is_last && matches!(segment.footer, FooterFound::Broken(_) | FooterFound::Wrong(_)) {
            self.cut(segment, meta);
        }
        if is_damaged {
            self.stopped = Some(format!("events {} on are gone", segment.end()));
        }
        self.kept_segments += 1;
        self.expected = Some(segment.end());
    }

    /// A partition whose first segments were removed must not begin at event 0 again.
    fn begin_empty_when_first(&mut self, base: EventId) {
        if self.expected.is_some() {
            return;
        }
        self.expected = Some(base);
        if base == EventId::new(0) {
            return;
        }
        let (salt, created_us) = (random_u64(), now_us());
        for (kind, ending) in [(SegmentKind::Data, "data"), (SegmentKind::Meta, "meta")] {
            let path = self.found.dir.join(format!("{:020}.{ending}", base.get()));
            let header = SegmentHeader::new(kind, self.partition, base, salt, created_us, 1);
            self.steps.push(Step::NewFile { path, header });
        }
        self.kept_segments += 1;
    }

    fn set_aside(&mut self, segment: &SegmentFound, why: &str) {
        // Without its meta file a segment is none: that one goes first.
        for path in [&segment.files.meta, &segment.files.data].into_iter().flatten() {
            self.steps.push(Step::SetAside {
                path: path.clone(),
                why: why.to_owned(),
            });
        }
    }

    /// Headers that were lost, and a data file that is not there.
    fn headers(&mut self, segment: &SegmentFound, meta: &Path, header: &SegmentHeader) {
        if let HeaderFound::Rebuilt(header) = segment.header {
            self.steps.push(Step::WriteHeader {
                path: meta.to_path_buf(),
                header,
            });
        }
        let data_header = SegmentHeader::new(
            SegmentKind::Data,
            header.partition(),
            header.base_event_id(),
            header.salt(),
            header.created_us(),
            header.incarnation(),
        );
        let lost = segment
            .problems
            .iter()
            .any(|problem| problem.kind == "data_header_lost");
        match &segment.files.data {
            None => self.steps.push(Step::NewFile {
                path: meta.with_extension("data"),
                header: data_header,
            }),
            Some(path) if lost => self.steps.push(Step::WriteHeader {
                path: path.clone(),
                header: data_header,
            }),
            Some(_) => {}
        }
    }

    fn cut(&mut self, segment: &SegmentFound, meta: &Path) {
        let data = segment
            .files
            .data
            .clone()
            .map(|path| (path, segment.good_data_end));
        self.steps.push(Step::Cut {
            meta: meta.to_path_buf(),
            at: segment.good_meta_end,
            data,
            end: segment.end(),
        });
    }

    fn seal(&mut self, segment: &SegmentFound, meta: &Path, header: &SegmentHeader) {
        let Some(recovered) = &segment.recovered else {
            return;
        };
        let facts = FooterFacts {
            salt: header.salt(),
            base_event_id: header.base_event_id(),
            end_event_id: recovered.next_event_id,
            meta_end: recovered.meta_end,
            data_end: recovered.data_end,
            index: recovered.index.clone(),
            producers: recovered.producers.before(recovered.next_event_id),
        };
        self.steps.push(Step::Seal {
            meta: meta.to_path_buf(),
            facts: Box::new(facts),
        });
    }

    /// Cursors that stand beyond the end move back, and so does the record of what is durable: the daemon would take the
    /// partition for damaged again.
    fn cursors(&mut self, end: EventId) -> Vec<Moved> {
        let Some(file) = &self.found.cursors else {
            return Vec::new();
        };
        let mut moved = Vec::new();
        let mut records = self.found.cursor_table.snapshot();
        let mut lowers_witness = false;
        for record in records.iter_mut().filter(|record| record.next_event_id > end) {
            if record.name == WITNESS {
                lowers_witness = true;
            } else {
                moved.push(Moved {
                    consumer: record.name.clone(),
                    from: record.next_event_id,
                    to: end,
                });
            }
            record.next_event_id = end;
            record.timestamp_us = now_us();
        }
        let is_damaged = file.is_damaged();
        if is_damaged && records.is_empty() {
            self.steps.push(Step::SetAside {
                path: file.path.clone(),
                why: "no record in it checks; consumers begin as if they were new".to_owned(),
            });
        } else if is_damaged || lowers_witness || !moved.is_empty() {
            let why = match is_damaged {
                true => "it is damaged, and these records check; a consumer may see events again",
                false => "it says that more is durable than there is",
            };
            self.steps.push(Step::RewriteCursors {
                path: file.path.clone(),
                owner: self.partition,
                records,
                why: why.to_owned(),
            });
        }
        moved
    }
}

/// The header to go on with.
fn usable_header(segment: &SegmentFound) -> Option<SegmentHeader> {
    match segment.header {
        HeaderFound::Fine(header) => Some(header),
        // Of a file without a single frame that checks nobody knows whether the header fits.
        HeaderFound::Rebuilt(header) if segment.good_meta_end > FilePos::new(BLOCK_BYTES as u64) => {
            Some(header)
        }
        HeaderFound::Rebuilt(_) | HeaderFound::Other(_) | HeaderFound::Lost | HeaderFound::NeverBegun(_) => {
            None
        }
    }
}
