//! `log export`: a partition to one portable file.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indicatif::ProgressBar;
use mofka_log::{
    Batch, CursorRecord, EventId, ExportHead, ExportSums, FramePlace, MetaScan, ProducerTable, SeenFrame,
};
use serde_json::json;

use super::data::check_data;
use super::durable::{create_new, failed, now_us, sync_dir};
use super::meta::{drive, frames};
use super::names::{Names, names_around};
use super::partition::{Look, Nobody, PartitionFound, examine, partition_dirs};
use super::place::{Target, partition_id, user_of};
use super::problem::Severity;
use super::progress::bar;
use super::segment::{Depth, FooterFound, SegmentFound};
use super::source::{Ranges, Source};
use crate::cli::ExportArgs;
use crate::failure::{Failure, Outcome};
use crate::output::{Output, bytes_text};

/// Bytes that are handed to the system at a time.
const WRITE_BYTES: usize = 1 << 20;

pub(crate) fn run(args: &ExportArgs, output: Output) -> Outcome {
    let (dir, names) = which(args)?;
    if let Some(user) = user_of(&dir) {
        eprintln!("warning: the data directory is in use ({user}): what is durable now is exported");
    }
    let how = Look {
        depth: Depth::Tail,
        only: None,
    };
    let found = examine(&dir, how, &ProgressBar::hidden(), &mut Nobody)?;
    let end = end_of(&found, args)?;
    let first = found
        .segments
        .first()
        .map_or(EventId::new(0), |first| first.files.base);
    let from = args.from.map_or(first, EventId::new);
    if from < first || from > end {
        return Err(Failure::failed(format!(
            "events from {from} on cannot be exported: the partition has events {first} to {end}"
        )));
    }
    let to_stdout = args.file == Path::new("-");
    let mut sink = if to_stdout {
        OutFile::stdout()
    } else {
        OutFile::beside(&args.file)?
    };
    let written = export(&found, &names, from, end, &mut sink);
    let sums = match written {
        Ok(sums) => sums,
        Err(failure) => {
            sink.discard();
            return Err(failure);
        }
    };
    let bytes = sink.bytes;
    sink.finish()?;
    let (count, end) = (sums.event_count(), sums.end_event_id());
    let base = end.get() - count;
    let text = format!(
        "events {base} to {end} exported: {count} events, {}",
        bytes_text(bytes)
    );
    let answer = json!({
        "file": args.file.display().to_string(),
        "base_event_id": base,
        "end_event_id": end.get(),
        "events": count,
        "bytes": bytes,
    });
    if to_stdout {
        // Standard output is the export.
        eprintln!(
            "{}",
            if output.is_json() {
                answer.to_string()
            } else {
                text
            }
        );
        return Ok(());
    }
    output.print(&answer, || text)
}

/// The partition that the command line names.
fn which(args: &ExportArgs) -> Outcome<(PathBuf, Names)> {
    match Target::of(&args.path)? {
        Target::Partition(dir) if args.topic.is_none() => {
            let names = names_around(&dir);
            Ok((dir, names))
        }
        Target::DataDir(data_dir) => {
            let names = Names::of(&data_dir)?;
            let dirs = partition_dirs(&data_dir)?;
            let Some(topic) = &args.topic else {
                return match dirs.as_slice() {
                    [only] => Ok((only.clone(), names)),
                    _ => Err(Failure::usage(format!(
                        "{} has {} partitions: say which with --topic and --partition",
                        data_dir.display(),
                        dirs.len()
                    ))),
                };
            };
            let record = names.catalog.topic(topic).and_then(|topic| {
                let mut partitions = names.catalog.partitions_of(topic.id);
                partitions.find(|partition| partition.index == args.partition)
            });
            let dir = record.and_then(|record| dirs.iter().find(|dir| partition_id(dir) == Some(record.id)));
            let dir = dir.cloned().ok_or_else(|| {
                Failure::failed(format!(
                    "{} has no stored partition {} of a topic {topic:?}",
                    data_dir.display(),
                    args.partition
                ))
            })?;
            Ok((dir, names))
        }
        Target::Partition(_) => Err(Failure::usage("--topic is for a data directory")),
        Target::Segment(_, _) | Target::File(_) => Err(Failure::usage(format!(
            "{} is one file; export takes the directory of a partition, or a data directory",
            args.path.display()
        ))),
    }
}

/// Where the export ends: at the end of the events, or where it is told to.
fn end_of(found: &PartitionFound, args: &ExportArgs) -> Outcome<EventId> {
    // Up to the first segment with something worse than a torn tail.
    let mut good = found
        .segments
        .first()
        .map_or(EventId::new(0), |first| first.files.base);
    let mut problem = None;
    for segment in found.own_segments() {
        if segment.files.base != good {
            problem = Some(format!("events {good} to {} are missing", segment.files.base));
            break;
        }
        good = segment.end();
        let worse = segment
            .problems
            .iter()
            .find(|problem| problem.severity > Severity::Note);
        if let Some(worse) = worse {
            problem = Some(format!("{}: {}", worse.file, worse.text));
            break;
        }
    }
    let to = args.to.map(EventId::new);
    match (to, problem) {
        (Some(to), _) if to <= good => Ok(to),
        (_, Some(problem)) => Err(Failure::check(format!(
            "events from {good} on cannot be exported: {problem}; export what is before with --to {good}, or repair first"
        ))),
        (Some(to), None) => Err(Failure::failed(format!(
            "events up to {to} cannot be exported: the partition ends at {good}"
        ))),
        (None, None) => Ok(good),
    }
}

/// Writes the whole export.
fn export(
    found: &PartitionFound,
    names: &Names,
    from: EventId,
    end: EventId,
    sink: &mut OutFile,
) -> Outcome<ExportSums> {
    let used: u64 = found
        .segments
        .iter()
        .filter(|segment| segment.files.base < end && segment.end() > from)
        .map(|segment| {
            segment
                .good_meta_end
                .get()
                .saturating_add(segment.good_data_end.get())
        })
        .fold(0, u64::saturating_add);
    let progress = bar("export", used);
    let mut exporting = Exporting {
        found,
        names,
        sink,
        sums: None,
        producers: found.kept_producers(),
        from,
        end,
    };
    for segment in found.own_segments() {
        if segment.files.base >= end {
            break;
        }
        if segment.end() <= from {
            // What it knows of producers counts.
            exporting.producers = segment.producers().unwrap_or_default();
            continue;
        }
        exporting.segment(segment, &progress)?;
    }
    let sums = exporting.finish()?;
    progress.finish_and_clear();
    Ok(sums)
}

struct Exporting<'a> {
    found: &'a PartitionFound,
    names: &'a Names,
    sink: &'a mut OutFile,
    /// From the first batch on: only then is it known where the file begins.
    sums: Option<ExportSums>,
    producers: ProducerTable,
    from: EventId,
    end: EventId,
}

impl Exporting<'_> {
    fn segment(&mut self, segment: &SegmentFound, progress: &ProgressBar) -> Outcome {
        let (Some(meta_path), Some(header)) = (&segment.files.meta, segment.header.header()) else {
            return Ok(());
        };
        let open = |path: &Path| Source::open(path).map_err(|error| failed("open", path, &error));
        let meta = Arc::new(open(meta_path)?);
        let mut ranges = match &segment.files.data {
            Some(path) => Some(Ranges::new(Arc::new(open(path)?), progress)),
            None => None,
        };
        let to = match &segment.footer {
            FooterFound::Checks { at, .. } => at.get(),
            // Nothing of the export lies beyond what recovery keeps.
            FooterFound::None | FooterFound::Broken(_) | FooterFound::Wrong(_) => segment.good_meta_end.get(),
        };
        let mut scan = MetaScan::new(header);
        let mut outcome = Ok(());
        let read = drive(
            &meta,
            frames(&meta, progress),
            &mut scan,
            to,
            progress,
            &mut |seen| {
                if outcome.is_ok() {
                    outcome = self.frame(&seen, ranges.as_mut());
                }
            },
        );
        read.map_err(|error| failed("read", meta_path, &error))?;
        outcome
    }

    fn frame(&mut self, seen: &SeenFrame<'_>, ranges: Option<&mut Ranges>) -> Outcome {
        let batch = seen.batch;
        if seen.place != FramePlace::Chain || batch.is_mark() || batch.base_event_id() >= self.end {
            return Ok(());
        }
        self.producers.note_batch(batch);
        if batch.end_event_id() <= self.from {
            return Ok(());
        }
        let mut sums = match self.sums.take() {
            Some(sums) => sums,
            None => self.begin(batch.base_event_id())?,
        };
        let section = sums
            .batch(batch)
            .map_err(|error| Failure::failed(error.to_string()))?;
        for part in [&section.encode()[..], batch.header_bytes(), batch.body()] {
            self.sink.put(&mut sums, part)?;
        }
        if batch.data_bytes() > 0 {
            self.data(batch, ranges, &mut sums)?;
        }
        self.sums = Some(sums);
        Ok(())
    }

    /// Data goes out while it is checked: an export that ends in an error has no trailer.
    fn data(&mut self, batch: &Batch, ranges: Option<&mut Ranges>, sums: &mut ExportSums) -> Outcome {
        let mut outcome = Ok(());
        let checked = match ranges {
            Some(ranges) => check_data(batch, ranges, &mut |part| {
                if outcome.is_ok() {
                    outcome = self.sink.put(sums, part);
                }
            }),
            None => Err(io::Error::other("the data file is not there")),
        };
        outcome?;
        let base = batch.base_event_id();
        match checked {
            Ok(Ok(())) => Ok(()),
            Ok(Err(bad)) => Err(Failure::check(format!(
                "data of event {} does not check: export what is before with --to {base}, or repair first",
                base.get() + u64::from(bad.index)
            ))),
            Err(error) => Err(Failure::failed(format!(
                "cannot read the data of event {base}: {error}"
            ))),
        }
    }

    fn begin(&mut self, base: EventId) -> Outcome<ExportSums> {
        let record = self
            .found
            .id
            .and_then(|id| self.names.catalog.partition(id))
            .cloned();
        let topic = record
            .as_ref()
            .and_then(|record| self.names.catalog.topic_by_id(record.topic));
        let head = ExportHead {
            partition: self.found.id.unwrap_or_default(),
            base_event_id: base,
            exported_us: now_us(),
            topic: topic.cloned(),
            record,
        };
        let mut sums = ExportSums::new(&head);
        self.sink.put(&mut sums, &head.encode())?;
        Ok(sums)
    }

    fn finish(mut self) -> Outcome<ExportSums> {
        let say = |error: mofka_log::ExportError| Failure::failed(error.to_string());
        let mut sums = match self.sums.take() {
            Some(sums) => sums,
            None => self.begin(self.from)?,
        };
        let end = sums.end_event_id();
        let ours = |record: &CursorRecord| !record.name.starts_with('\0');
        for mut record in self.found.cursor_table.snapshot().into_iter().filter(ours) {
            record.next_event_id = record.next_event_id.min(end);
            let bytes = record.encode();
            let section = sums.cursor(&bytes).map_err(say)?;
            self.sink.put(&mut sums, &section.encode())?;
            self.sink.put(&mut sums, &bytes)?;
        }
        let (section, table) = sums.producers(&self.producers.before(end)).map_err(say)?;
        self.sink.put(&mut sums, &section.encode())?;
        self.sink.put(&mut sums, &table)?;
        let last = sums.end().map_err(say)?;
        self.sink.write(&last)?;
        Ok(sums)
    }
}

/// The file that is written, or standard output. A file has another name until it is complete.
struct OutFile {
    out: BufWriter<Box<dyn Write>>,
    /// The file as it is, and its name at the end.
    file: Option<(File, PathBuf, PathBuf)>,
    bytes: u64,
}

impl OutFile {
    fn stdout() -> Self {
        Self {
            out: BufWriter::with_capacity(WRITE_BYTES, Box::new(io::stdout())),
            file: None,
            bytes: 0,
        }
    }

    fn beside(path: &Path) -> Outcome<Self> {
        if path.exists() {
            return Err(Failure::failed(format!(
                "{} is there already: remove it, or choose another name",
                path.display()
            )));
        }
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".part-{}", std::process::id()));
        let part = PathBuf::from(name);
        let open = || {
            let file = create_new(&part)?;
            Ok((file.try_clone()?, file))
        };
        let (file, out) = open().map_err(|error| failed("create", &part, &error))?;
        Ok(Self {
            out: BufWriter::with_capacity(WRITE_BYTES, Box::new(out)),
            file: Some((file, part, path.to_path_buf())),
            bytes: 0,
        })
    }

    fn put(&mut self, sums: &mut ExportSums, bytes: &[u8]) -> Outcome {
        sums.pass(bytes);
        self.write(bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Outcome {
        self.bytes += bytes.len() as u64;
        let written = self.out.write_all(bytes);
        written.map_err(|error| Failure::writing("the export", &error))
    }

    fn discard(self) {
        if let Some((_, part, _)) = &self.file {
            std::fs::remove_file(part).ok();
        }
    }

    fn finish(mut self) -> Outcome {
        let flushed = self.out.flush();
        flushed.map_err(|error| Failure::writing("the export", &error))?;
        let Some((file, part, path)) = &self.file else {
            return Ok(());
        };
        let named = file.sync_all().and_then(|()| {
            std::fs::rename(part, path)?;
            sync_dir(path.parent().unwrap_or(Path::new(".")))
        });
        named.map_err(|error| failed("finish", path, &error))
    }
}
