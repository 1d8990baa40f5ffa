//! `log verify`: every checksum, and the chain of segments.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use mofka_log::{EventId, SegmentKind, Verdict};
use serde_json::{Value, json};

use super::durable::failed;
use super::export_file::{ExportReader, Item, is_export};
use super::names::{Names, names_around};
use super::partition::{Listing, Look, Nobody, PartitionFound, examine, partition_dirs};
use super::place::{Target, user_of};
use super::problem::{Problem, Severity, file_name};
use super::progress::{bar, gb_per_s};
use super::records::{self, RecordsFound};
use super::segment::{Depth, SegmentFound};
use crate::failure::{Failure, Outcome};
use crate::output::{Output, bytes_text, table};

/// Looks at what a node may be making or removing just now, and the time between two of them.
const LOOKS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(100);

/// What was verified.
struct Verified {
    partitions: Vec<PartitionFound>,
    /// A catalog, or cursors that were named alone.
    records: Vec<RecordsFound>,
    names: Names,
    problems: Vec<Problem>,
}

pub(crate) fn run(path: &Path, output: Output) -> Outcome {
    let target = Target::of(path)?;
    let user = user_of(path);
    if let Some(user) = &user {
        eprintln!(
            "warning: the data directory is in use ({user}): figures are of a moving tail, and a tail that is being \
             written is not damage"
        );
    }
    let started = Instant::now();
    let (verified, read_bytes) = match &target {
        Target::DataDir(dir) => data_dir(dir)?,
        Target::Partition(dir) => partitions(std::slice::from_ref(dir), None, names_around(dir))?,
        Target::Segment(dir, base) => partitions(std::slice::from_ref(dir), Some(*base), names_around(dir))?,
        Target::File(file) if is_export(file).unwrap_or(false) => return export_file(file, output),
        Target::File(file) => one_file(file)?,
    };
    let took = started.elapsed();
    output.print(
        &json_of(path, &verified, user.is_some(), read_bytes, took),
        || text_of(&verified, read_bytes, took),
    )?;
    outcome(&verified)
}

/// The failure that the worst problem is.
fn outcome(verified: &Verified) -> Outcome {
    let worst = verified.all_problems().map(|problem| problem.severity).max();
    let count = verified
        .all_problems()
        .filter(|problem| Some(problem.severity) == worst)
        .count();
    let what = |text: &str| format!("{text} ({count} found): see above");
    match worst {
        None | Some(Severity::Note) => Ok(()),
        Some(Severity::Damage) => Err(Failure::check(what("something that had been durable is damaged"))),
        Some(Severity::Foreign) => Err(Failure::foreign(what("files are not what belongs there"))),
        Some(Severity::Newer) => Err(Failure::newer(what("files were made by a newer program"))),
    }
}

impl Verified {
    fn all_problems(&self) -> impl Iterator<Item = &Problem> {
        let partitions = self.partitions.iter().flat_map(PartitionFound::all_problems);
        let records = self.records.iter().flat_map(|records| &records.problems);
        partitions.chain(records).chain(&self.problems)
    }
}

fn data_dir(dir: &Path) -> Outcome<(Verified, u64)> {
    let mut names = Names::of(dir)?;
    let records: Vec<RecordsFound> = names.found.take().into_iter().collect();
    let dirs = partition_dirs(dir)?;
    let mut problems = Vec::new();
    if records.is_empty() && !dirs.is_empty() {
        let text = "there are partitions, and no catalog that names them";
        problems.push(Problem::damage("catalog_missing", &dir.join("catalog"), text));
    }
    if !records.is_empty() {
        problems.extend(strays(dir, &names, &dirs)?);
    }
    let catalog_bytes: u64 = records.iter().map(|found| found.bytes).sum();
    let (mut verified, read_bytes) = partitions(&dirs, None, names)?;
    verified.records = records;
    verified.problems = problems;
    Ok((verified, read_bytes + catalog_bytes))
}

/// Partitions without a directory, and directories without a partition. A node that runs makes and removes some between the look at the
/// catalog and that at the directories: of such a one, those that stay.
fn strays(dir: &Path, names: &Names, dirs: &[PathBuf]) -> Outcome<Vec<Problem>> {
    let mut strays = names.strays(dir, dirs);
    for _ in 0..LOOKS {
        let is_any = strays.iter().any(|stray| stray.severity == Severity::Damage);
        if !is_any || user_of(dir).is_none() {
            break;
        }
        std::thread::sleep(PAUSE);
        let now = Names::of(dir)?.strays(dir, &partition_dirs(dir)?);
        strays.retain(|stray| now.contains(stray));
    }
    Ok(strays)
}

fn partitions(dirs: &[PathBuf], only: Option<EventId>, names: Names) -> Outcome<(Verified, u64)> {
    let mut total = 0;
    for dir in dirs {
        total += Listing::of(dir)?.file_bytes();
    }
    let progress = bar("verify", total);
    let how = Look {
        depth: Depth::Everything,
        only,
    };
    let mut found = Vec::new();
    for dir in dirs {
        found.push(examine(dir, how, &progress, &mut Nobody)?);
    }
    let read_bytes = progress.position();
    progress.finish_and_clear();
    let verified = Verified {
        partitions: found,
        records: Vec::new(),
        names,
        problems: Vec::new(),
    };
    Ok((verified, read_bytes))
}

fn one_file(path: &Path) -> Outcome<(Verified, u64)> {
    let progress = bar("verify", std::fs::metadata(path).map_or(0, |about| about.len()));
    let found = look_at_records(path, &progress)?;
    let read_bytes = progress.position();
    progress.finish_and_clear();
    let verified = Verified {
        partitions: Vec::new(),
        records: vec![found],
        names: Names::default(),
        problems: Vec::new(),
    };
    Ok((verified, read_bytes))
}

/// An export file: all of it is held against its checksums.
fn export_file(path: &Path, output: Output) -> Outcome {
    let started = Instant::now();
    let file = File::open(path).map_err(|error| failed("open", path, &error))?;
    let progress = bar("verify", file.metadata().map_or(0, |about| about.len()));
    let mut reader = ExportReader::new(BufReader::with_capacity(1 << 20, file))?;
    let mut cursors = 0;
    loop {
        match reader.next()? {
            Item::End => break,
            Item::Cursor(_) => cursors += 1,
            Item::Batch(_) | Item::Producers(_) => {}
        }
        progress.set_position(reader.sums().bytes());
    }
    progress.finish_and_clear();
    let (head, sums, took) = (reader.head(), reader.sums(), started.elapsed());
    let topic = head.topic.as_ref().map(|topic| topic.name.clone());
    let answer = json!({
        "path": path.display().to_string(),
        "worst": "clean",
        "export": {
            "partition": head.partition.to_string(),
            "topic": topic,
            "base_event_id": head.base_event_id.get(),
            "end_event_id": sums.end_event_id().get(),
            "events": sums.event_count(),
            "cursors": cursors,
            "exported_us": head.exported_us,
        },
        "read_bytes": sums.bytes(),
        "seconds": took.as_secs_f64(),
        "gb_per_s": gb_per_s(sums.bytes(), took),
    });
    output.print(&answer, || {
        format!(
            "export of partition {} of topic {}: events {} to {}, {cursors} cursors; all of it checks\n{} read in {:.1} s, \
             {:.2} GB/s",
            head.partition,
            topic.as_deref().unwrap_or("(not named)"),
            head.base_event_id,
            sums.end_event_id(),
            bytes_text(sums.bytes()),
            took.as_secs_f64(),
            gb_per_s(sums.bytes(), took)
        )
    })
}

/// A file of records that was named: its header says which, or else its name.
pub(super) fn look_at_records(path: &Path, progress: &ProgressBar) -> Outcome<RecordsFound> {
    let found = match kind_of(path)? {
        SegmentKind::Catalog => records::catalog(path, None, progress).map(|(found, _, _)| found),
        _ => records::cursors(path, None, progress).map(|(found, _)| found),
    };
    found.map_err(|error| Failure::failed(format!("cannot read {}: {error}", path.display())))
}

/// Whether a file is a catalog or cursors.
pub(super) fn kind_of(path: &Path) -> Outcome<SegmentKind> {
    let failed = |error| Failure::failed(format!("cannot read {}: {error}", path.display()));
    let source = super::source::Source::open(path).map_err(failed)?;
    let block = source.read(0, mofka_log::BLOCK_BYTES).map_err(failed)?;
    Ok(
        match (mofka_log::SegmentHeader::check(&block), file_name(path).as_str()) {
            (Ok(header), _) => header.kind(),
            (Err(_), "catalog") => SegmentKind::Catalog,
            (Err(_), _) => SegmentKind::Cursors,
        },
    )
}

fn json_of(path: &Path, verified: &Verified, in_use: bool, read_bytes: u64, took: Duration) -> Value {
    let worst = verified.all_problems().map(|problem| problem.severity).max();
    json!({
        "path": path.display().to_string(),
        "in_use": in_use,
        "worst": worst.map_or("clean", Severity::word),
        "partitions": verified.partitions.iter().map(|found| partition_json(found, &verified.names)).collect::<Vec<_>>(),
        "files": verified.records.iter().map(records_json).collect::<Vec<_>>(),
        "problems": verified.problems.iter().map(Problem::json).collect::<Vec<_>>(),
        "read_bytes": read_bytes,
        "seconds": took.as_secs_f64(),
        "gb_per_s": gb_per_s(read_bytes, took),
    })
}

pub(super) fn verdict_json(verdict: &Verdict) -> Value {
    json!({"letter": verdict.letter().to_string(), "text": verdict.prose()})
}

fn problems_json(problems: &[Problem]) -> Value {
    problems.iter().map(Problem::json).collect()
}

fn partition_json(found: &PartitionFound, names: &Names) -> Value {
    let name = names.name_of(found.id);
    json!({
        "directory": found.dir.display().to_string(),
        "id": found.id.map(|id| id.to_string()),
        "topic": name.as_ref().map(|(topic, _)| topic),
        "index": name.as_ref().map(|(_, index)| index),
        "end_event_id": found.end().get(),
        "events": found.events(),
        "segments": found.segments.iter().map(segment_json).collect::<Vec<_>>(),
        "cursors": found.cursors.as_ref().map(records_json),
        "problems": problems_json(&found.problems),
    })
}

fn segment_json(found: &SegmentFound) -> Value {
    json!({
        "base_event_id": found.files.base.get(),
        "end_event_id": found.end().get(),
        "meta": found.files.meta.as_deref().map(file_name),
        "data": found.files.data.as_deref().map(file_name),
        "sealed": found.is_sealed(),
        "verdict": verdict_json(&found.verdict),
        "checked_data_bytes": found.data.checked_bytes,
        "bad_batches": found.data.bad_batches,
        "problems": problems_json(&found.problems),
    })
}

fn records_json(found: &RecordsFound) -> Value {
    json!({
        "file": file_name(&found.path),
        "kind": format!("{:?}", found.kind).to_lowercase(),
        "bytes": found.bytes,
        "verdict": verdict_json(&found.verdict),
        "problems": problems_json(&found.problems),
    })
}

fn text_of(verified: &Verified, read_bytes: u64, took: Duration) -> String {
    let mut lines = Vec::new();
    for found in &verified.records {
        lines.push(format!(
            "{}: {} {}",
            file_name(&found.path),
            found.verdict.letter(),
            found.verdict.prose()
        ));
        lines.extend(
            found
                .problems
                .iter()
                .map(|problem| format!("  {}", problem.line())),
        );
    }
    for found in &verified.partitions {
        lines.extend(partition_text(found, &verified.names));
    }
    lines.extend(verified.problems.iter().map(Problem::line));
    lines.push(format!(
        "{} read in {:.1} s, {:.2} GB/s",
        bytes_text(read_bytes),
        took.as_secs_f64(),
        gb_per_s(read_bytes, took)
    ));
    lines.join("\n")
}

/// What a partition is called in text.
pub(super) fn partition_title(found: &PartitionFound, names: &Names) -> String {
    let name = names
        .name_of(found.id)
        .map(|(topic, index)| format!(", partition {index} of topic {topic}"));
    format!("partition {}{}", file_name(&found.dir), name.unwrap_or_default())
}

fn partition_text(found: &PartitionFound, names: &Names) -> Vec<String> {
    let mut lines = vec![format!(
        "{}: {} segments, events {} to {}",
        partition_title(found, names),
        found.segments.len(),
        found.segments.first().map_or(0, |first| first.files.base.get()),
        found.end()
    )];
    let mut rows: Vec<Vec<String>> = found.segments.iter().map(segment_row).collect();
    if let Some(cursors) = &found.cursors {
        let mut row = vec!["  cursors".to_owned(), String::new(), String::new()];
        row.extend([
            String::new(),
            bytes_text(cursors.bytes),
            cursors.verdict.letter().to_string(),
        ]);
        rows.push(row);
    }
    let heads = ["  file", "events", "sealed", "data checked", "meta", "verdict"];
    lines.push(table(&heads, &rows));
    lines.extend(
        found
            .all_problems()
            .map(|problem| format!("  {}", problem.line())),
    );
    lines
}

fn segment_row(found: &SegmentFound) -> Vec<String> {
    vec![
        format!("  {}", file_name(found.files.path())),
        found.end().since(found.files.base).to_string(),
        if found.is_sealed() { "yes" } else { "no" }.to_owned(),
        bytes_text(found.data.checked_bytes),
        bytes_text(found.meta_bytes),
        found.verdict.letter().to_string(),
    ]
}
