//! Says what is wrong with a segment, and between segments, given how they were found.

use std::path::Path;

use mofka_log::{EventId, SegmentKind, Verdict};

use super::partition::PartitionFound;
use super::problem::{Problem, Severity};
use super::records::verdict_problem;
use super::segment::{FooterFound, HeaderFound, SegmentFound, bad_data_text};

/// Where a segment stands among the others.
pub(super) struct Place {
    pub(super) next: Option<EventId>,
    /// 0: it is the last.
    pub(super) from_last: usize,
    pub(super) last_is_sealed: bool,
    pub(super) in_use: bool,
}

/// Says what is wrong with a segment.
pub(super) fn judge(found: &mut SegmentFound, place: &Place) {
    let mut problems = Vec::new();
    let (meta, data) = (found.files.meta.clone(), found.files.data.clone());
    let path = found.files.path().to_path_buf();
    let Some(meta) = meta else {
        let text = "its meta file is not there";
        problems.push(if place.from_last == 0 {
            found.verdict = Verdict::EmptyTorn;
            Problem::note(
                "meta_missing",
                &path,
                format!("{text}: the segment was being made"),
            )
        } else {
            Problem::damage("meta_missing", &path, text)
        });
        found.problems.extend(problems);
        return;
    };
    if let HeaderFound::NeverBegun(header) = &found.header {
        let (begins_at, base) = (header.base_event_id(), found.files.base);
        let made_for = match begins_at == base {
            true => String::new(),
            false => format!("it was made ready for a segment from event {begins_at} on; "),
        };
        let text = format!(
            "{made_for}nothing is in it: the segment from event {base} on was never begun, and the daemon removes it when it starts"
        );
        found.problems.push(Problem::note("never_begun", &meta, text));
        return;
    }
    let is_ours = matches!(found.header, HeaderFound::Fine(_) | HeaderFound::Rebuilt(_));
    match &found.verdict {
        // A daemon that works here is writing it.
        Verdict::TornTail { .. } if place.in_use && place.from_last < 2 => {
            problems.push(Problem::note(
                "moving_tail",
                &meta,
                "its end is being written now",
            ));
        }
        // What follows its frames is told with its footer.
        Verdict::TornTail { .. } if place.from_last > 0 => {}
        // Its header is durable before the file gets this name, so it was lost, unless the file system mixed up its names.
        Verdict::EmptyTorn => {
            problems.push(Problem::damage(
                "header_lost",
                &meta,
                "its header is gone, and whatever it held with it",
            ));
        }
        verdict => problems.extend(verdict_problem(&meta, verdict)),
    }
    if found.verdict == Verdict::ForeignBytes && !matches!(found.header, HeaderFound::Other(_)) {
        let text = match &found.header {
            HeaderFound::Rebuilt(_) => format!(
                "its header is lost; by the other file or the first frame it was that of this segment, and frames of \
                 events {} to {} check",
                found.files.base,
                found.end()
            ),
            _ => "its header is lost, or it never was a segment".to_owned(),
        };
        problems.push(Problem::new(Severity::Foreign, "header_lost", &meta, text));
        // By the header that it had, it may be damaged as well.
        let verdict = found.recovered.as_ref().map(|recovered| &recovered.verdict);
        let damage = verdict.filter(|verdict| verdict.is_damaged());
        problems.extend(damage.and_then(|verdict| verdict_problem(&meta, verdict)));
    }
    if let (Some(bad), Some(data)) = (&found.data.first_bad, &data)
        && found.verdict.is_damaged()
    {
        problems.push(Problem::damage(
            "data_damaged",
            data,
            bad_data_text(bad, found.data.bad_batches),
        ));
    }
    if is_ours {
        problems.extend(judge_data_header(found, &meta));
        problems.extend(judge_footer(found, place, &meta));
        if let Some(next) = place.next
            && found.end() > next
        {
            problems.push(Problem::damage(
                "overlap",
                &meta,
                format!(
                    "it holds events up to {}, and the next segment begins at {next}",
                    found.end()
                ),
            ));
        }
    }
    found.problems.extend(problems);
}

fn judge_data_header(found: &SegmentFound, meta: &Path) -> Option<Problem> {
    let header = found.header.header()?;
    let Some(data) = &found.files.data else {
        return Some(Problem::damage(
            "data_missing",
            meta,
            "the data file of this segment is not there",
        ));
    };
    match found.data_header.as_ref()? {
        Err(mofka_log::SegmentHeaderError::Version { found }) => Some(Problem::new(
            Severity::Newer,
            "unknown_version",
            data,
            Verdict::UnknownVersion(*found).prose(),
        )),
        Err(error) => Some(Problem::new(
            Severity::Foreign,
            "data_header_lost",
            data,
            error.to_string(),
        )),
        Ok(theirs) => {
            let same = theirs.kind() == SegmentKind::Data
                && theirs.partition() == header.partition()
                && theirs.base_event_id() == header.base_event_id()
                && theirs.salt() == header.salt();
            (!same).then(|| {
                let text = "its header is not that of the data file of this segment";
                Problem::new(Severity::Foreign, "data_header_lost", data, text)
            })
        }
    }
}

fn judge_footer(found: &SegmentFound, place: &Place, meta: &Path) -> Option<Problem> {
    // The last two may be without: the one that is written, and the one before it while it is being sealed.
    let may_be_open = place.from_last == 0 || (place.from_last == 1 && !place.last_is_sealed);
    match &found.footer {
        FooterFound::Checks { .. } => None,
        FooterFound::Broken(reason) if place.from_last == 0 => Some(Problem::note(
            "footer_torn",
            meta,
            format!("it was being sealed: {reason}"),
        )),
        // By a last one the daemon would give ids a second time.
        FooterFound::Broken(reason) | FooterFound::Wrong(reason) => {
            Some(Problem::damage("footer_damaged", meta, reason.clone()))
        }
        FooterFound::None if place.from_last == 0 => None,
        FooterFound::None if may_be_open => Some(Problem::note(
            "not_sealed",
            meta,
            "it is not sealed, although a segment follows: the daemon had no time to, or the footer is lost",
        )),
        FooterFound::None => Some(Problem::damage(
            "footer_lost",
            meta,
            "it was sealed, since two segments follow, and its footer is gone",
        )),
    }
}

/// What is wrong between segments, and at the end.
pub(super) fn judge_chain(found: &mut PartitionFound, witness: EventId) {
    let mut problems = Vec::new();
    let segments: Vec<&SegmentFound> = found.own_segments().collect();
    for pair in segments.windows(2) {
        let [before, after] = pair else { continue };
        // A segment that is damaged or foreign said so itself.
        let is_known = before
            .problems
            .iter()
            .any(|problem| problem.severity > Severity::Note);
        if before.end() < after.files.base && !is_known {
            problems.push(Problem::damage(
                "gap",
                after.files.path(),
                format!(
                    "events {} to {} are missing: no segment holds them",
                    before.end(),
                    after.files.base
                ),
            ));
        }
    }
    let end = found.end();
    let last_is_well = found
        .own_segments()
        .last()
        .is_none_or(|last| !last.verdict.is_damaged());
    if witness > end && last_is_well {
        problems.push(Problem::damage(
            "end_lost",
            &found.dir,
            format!(
                "events {end} to {witness} had been durable, says the cursors file, and no segment holds them"
            ),
        ));
    }
    found.problems.extend(problems);
}
