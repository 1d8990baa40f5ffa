//! `log inspect`: what files hold.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use indicatif::ProgressBar;
use mofka_log::{CatalogRecord, CursorRecord, Footer, FramePlace, SeenFrame, SegmentHeader, SegmentKind};
use serde_json::{Value, json};

use super::durable::failed;
use super::export_file::{ExportReader, Item, is_export};
use super::kept_producers;
use super::names::{Names, names_around};
use super::partition::{Look, PartitionFound, Visitor, WITNESS, examine, partition_dirs};
use super::place::{Target, user_of};
use super::problem::{Problem, file_name};
use super::records::{self, Record, RecordsFound};
use super::reference::{reference_json, reference_text};
use super::segment::{Depth, FooterFound, SegmentFiles, SegmentFound};
use super::sink::Sink;
use super::source::Source;
use super::verify::{kind_of, verdict_json};
use crate::cli::InspectArgs;
use crate::failure::{Failure, Outcome};
use crate::output::{Output, bytes_text};

/// Prints while partitions are read.
struct Inspector<'a> {
    sink: Sink,
    args: &'a InspectArgs,
    /// Frames of the segment that is being read, by their place.
    chain: u64,
    beyond: u64,
}

pub(crate) fn run(args: &InspectArgs, output: Output) -> Outcome {
    let path = &args.path;
    let target = Target::of(path)?;
    let user = user_of(path);
    if let Some(user) = &user {
        eprintln!("warning: the data directory is in use ({user}): what is shown is of a moving tail");
    }
    let mut inspector = Inspector {
        sink: Sink::stdout(output.is_json()),
        args,
        chain: 0,
        beyond: 0,
    };
    inspector.sink.open_object("");
    inspector.sink.value("path", || json!(path.display().to_string()));
    inspector.sink.value("in_use", || json!(user.is_some()));
    match &target {
        Target::DataDir(dir) => inspector.data_dir(dir)?,
        Target::Partition(dir) => {
            inspector.partitions(std::slice::from_ref(dir), None, &names_around(dir))?
        }
        Target::Segment(dir, base) => {
            inspector.partitions(std::slice::from_ref(dir), Some(*base), &names_around(dir))?
        }
        Target::File(file) if is_export(file).unwrap_or(false) => inspector.export(file)?,
        Target::File(file) => {
            inspector.sink.open_array("files");
            inspector.records(file, kind_of(file)?, None)?;
            inspector.sink.close_array();
        }
    }
    inspector.sink.close_object();
    inspector.sink.finish()
}

impl Inspector<'_> {
    fn data_dir(&mut self, dir: &Path) -> Outcome {
        let names = Names::of(dir)?;
        self.sink
            .value("node", || json!(names.node.map(|node| node.to_string())));
        self.sink.open_array("files");
        if names.found.is_some() {
            self.records(&dir.join("catalog"), SegmentKind::Catalog, names.node)?;
        }
        self.sink.close_array();
        let dirs = partition_dirs(dir)?;
        self.partitions(&dirs, None, &names)
    }

    fn partitions(
        &mut self,
        dirs: &[std::path::PathBuf],
        only: Option<mofka_log::EventId>,
        names: &Names,
    ) -> Outcome {
        self.sink.open_array("partitions");
        for dir in dirs {
            self.sink.open_object("");
            self.sink.value("directory", || json!(dir.display().to_string()));
            self.sink.text(|| format!("partition {}", dir.display()));
            self.sink.open_array("segments");
            let how = Look {
                depth: Depth::Tail,
                only,
            };
            let found = examine(dir, how, &ProgressBar::hidden(), self)?;
            self.sink.close_array();
            self.partition(&found, names)?;
            self.sink.close_object();
        }
        self.sink.close_array();
        Ok(())
    }

    /// What is known of a partition once its segments were shown.
    fn partition(&mut self, found: &PartitionFound, names: &Names) -> Outcome {
        let name = names.name_of(found.id);
        let kept = found
            .listing
            .producers
            .as_deref()
            .and_then(|path| kept_producers::read(path, found.id).ok())
            .map(mofka_log::KeptProducers::into_producers);
        self.sink.fields(|| {
            json!({
                "id": found.id.map(|id| id.to_string()),
                "topic": name.as_ref().map(|(topic, _)| topic),
                "index": name.as_ref().map(|(_, index)| index),
                "end_event_id": found.end().get(),
                "kept_producers": kept.as_ref().map(producers_json),
                "trimmed_data_files": found.listing.leftovers,
                "reserved_files": found.listing.reserved,
                "other_files": found.listing.others,
                "problems": found.problems.iter().map(Problem::json).collect::<Vec<_>>(),
            })
        });
        if let Some(cursors) = &found.cursors {
            self.sink.open_array("files");
            self.records(&cursors.path, SegmentKind::Cursors, found.id)?;
            self.sink.close_array();
        }
        self.sink.open_array("cursors");
        for (name, next) in found
            .cursor_table
            .iter()
            .filter(|(name, _)| !name.starts_with('\0'))
        {
            self.sink
                .value("", || json!({"consumer": name, "next_event_id": next.get()}));
            self.sink
                .text(|| format!("  cursor of {name}: next event {next}"));
        }
        self.sink.close_array();
        let witness = found.cursor_table.get(WITNESS);
        self.sink
            .value("synced_end_witness", || json!(witness.map(|id| id.get())));
        if let Some(witness) = witness {
            self.sink
                .text(|| format!("  durable up to event {witness}, says the cursors file"));
        }
        if let Some(kept) = &kept {
            let count = kept.len();
            self.sink
                .text(|| format!("  {count} producers known from segments that were trimmed"));
        }
        if !found.listing.leftovers.is_empty() {
            let names = found.listing.leftovers.join(", ");
            self.sink
                .text(|| format!("  left from trimming, and removed by the daemon: {names}"));
        }
        if !found.listing.reserved.is_empty() {
            let names = found.listing.reserved.join(", ");
            self.sink
                .text(|| format!("  kept by the daemon for later, and not looked at: {names}"));
        }
        if !found.listing.others.is_empty() {
            let names = found.listing.others.join(", ");
            self.sink
                .text(|| format!("  not known here, and not looked at: {names}"));
        }
        for problem in &found.problems {
            self.sink.text(|| format!("  {}", problem.line()));
        }
        Ok(())
    }

    /// An export file.
    fn export(&mut self, path: &Path) -> Outcome {
        let file = File::open(path).map_err(|error| failed("open", path, &error))?;
        let mut reader = ExportReader::new(BufReader::new(file))?;
        let head = reader.head().clone();
        self.sink.value("partition", || json!(head.partition.to_string()));
        self.sink.value("topic_record", || json!(head.topic));
        self.sink.value("partition_record", || json!(head.record));
        self.sink
            .value("base_event_id", || json!(head.base_event_id.get()));
        self.sink.value("exported_us", || json!(head.exported_us));
        let topic = head.topic.as_ref().map_or("(not named)", |topic| &topic.name);
        self.sink
            .text(|| format!("export of partition {} of topic {topic}", head.partition));
        self.sink.open_array("frames");
        let (mut cursors, mut producers) = (Vec::new(), None);
        let outcome = loop {
            match reader.next() {
                Ok(Item::Batch(batch)) => self.frame(SeenFrame {
                    batch: &batch,
                    // Its place in the file is of no use to anybody.
                    meta_at: mofka_log::FilePos::new(0),
                    place: FramePlace::Chain,
                }),
                Ok(Item::Cursor(cursor)) => cursors.push(cursor),
                Ok(Item::Producers(table)) => producers = Some(table),
                Ok(Item::End) => break Ok(()),
                Err(failure) => break Err(failure),
            }
        };
        self.sink.close_array();
        let end = reader.sums().end_event_id();
        self.sink.value("end_event_id", || json!(end.get()));
        self.sink
            .value("producers", || json!(producers.as_ref().map(producers_json)));
        self.sink.open_array("cursors");
        for cursor in &cursors {
            let (name, next) = (&cursor.name, cursor.next_event_id);
            self.sink
                .value("", || json!({"consumer": name, "next_event_id": next.get()}));
            self.sink
                .text(|| format!("  cursor of {name}: next event {next}"));
        }
        self.sink.close_array();
        self.sink
            .value("error", || json!(outcome.as_ref().err().map(ToString::to_string)));
        self.sink.text(|| match &outcome {
            Ok(()) => format!("  events {} to {end}; all of it checks", head.base_event_id),
            Err(failure) => format!("  events {} to {end}, then: {failure}", head.base_event_id),
        });
        Ok(())
    }

    /// A file of records, with each record when events are wanted.
    fn records(&mut self, path: &Path, kind: SegmentKind, owner: Option<uuid::Uuid>) -> Outcome {
        let failed = |error| Failure::failed(format!("cannot read {}: {error}", path.display()));
        self.sink.open_object("");
        self.sink.text(|| format!("{} ({kind:?})", file_name(path)));
        self.sink.open_array("records");
        // Of a catalog there are few, and they are what one looks for.
        let shown = self.args.events || self.args.frames || kind == SegmentKind::Catalog;
        let sink = &mut self.sink;
        let mut show = |record: Record<'_>| {
            if shown {
                sink.value("", || record_json(kind, &record));
                sink.text(|| {
                    format!(
                        "  at {}: {}",
                        record.meta_at,
                        record_json(kind, &record)["record"]
                    )
                });
            }
        };
        let found = records::look(path, kind, owner, &ProgressBar::hidden(), &mut show).map_err(failed)?;
        self.sink.close_array();
        self.records_outcome(&found);
        self.sink.close_object();
        Ok(())
    }

    fn records_outcome(&mut self, found: &RecordsFound) {
        self.sink.fields(|| {
            json!({
                "file": file_name(&found.path),
                "kind": kind_word(found.kind),
                "bytes": found.bytes,
                "header": found.header.header().map(header_json),
                "records_end_position": found.recovered.as_ref().map(|recovered| recovered.meta_end.get()),
                "record_count": found.recovered.as_ref().map(|recovered| recovered.event_count),
                "verdict": verdict_json(&found.verdict),
                "problems": found.problems.iter().map(Problem::json).collect::<Vec<_>>(),
            })
        });
        let verdict = &found.verdict;
        let count = found
            .recovered
            .as_ref()
            .map_or(0, |recovered| recovered.event_count);
        self.sink.text(|| {
            format!(
                "  {count} records; verdict {}: {}",
                verdict.letter(),
                verdict.prose()
            )
        });
    }
}

impl Visitor for Inspector<'_> {
    fn begin(&mut self, files: &SegmentFiles) {
        (self.chain, self.beyond) = (0, 0);
        self.sink.open_object("");
        self.sink.value("base_event_id", || json!(files.base.get()));
        self.sink.text(|| format!("segment {}", files.base));
        for (half, path) in [("meta", &files.meta), ("data", &files.data)] {
            let Some(path) = path else {
                self.sink.value(half, || Value::Null);
                self.sink.text(|| format!("  {half}: not there"));
                continue;
            };
            let block = Source::open(path)
                .and_then(|source| Ok((source.len(), source.read(0, mofka_log::BLOCK_BYTES)?)));
            let (bytes, header) = match block {
                Ok((bytes, block)) => {
                    let header = SegmentHeader::check(&block).map_err(|error| error.to_string());
                    (bytes, header)
                }
                Err(error) => (0, Err(error.to_string())),
            };
            let name = file_name(path);
            self.sink.value(half, || {
                json!({
                    "file": name,
                    "bytes": bytes,
                    "header": header.as_ref().ok().map(header_json),
                    "header_error": header.as_ref().err(),
                })
            });
            self.sink.text(|| match &header {
                Ok(header) => format!("  {name} ({}): {}", bytes_text(bytes), header_text(header)),
                Err(error) => format!("  {name} ({}): {error}", bytes_text(bytes)),
            });
        }
        self.sink.open_array("frames");
    }

    fn frame(&mut self, seen: SeenFrame<'_>) {
        match seen.place {
            FramePlace::Chain => self.chain += 1,
            FramePlace::Survivor | FramePlace::Stale => self.beyond += 1,
        }
        if self.args.frames || self.args.events {
            let with_events = self.args.events;
            self.sink.value("", || frame_json(&seen, with_events));
            self.sink.text(|| frame_text(&seen));
        }
        if self.args.events {
            for event in seen.batch.events() {
                let id = seen.batch.base_event_id().get() + u64::from(event.index);
                let metadata = String::from_utf8_lossy(event.metadata);
                let bytes = match event.reference {
                    None => format!("{} bytes of data", event.data_bytes),
                    Some(to) => reference_text(&to),
                };
                self.sink
                    .text(|| format!("      event {id}, {bytes}: {metadata}"));
            }
        }
    }

    fn end(&mut self, found: &SegmentFound) {
        self.sink.close_array();
        let (chain, beyond) = (self.chain, self.beyond);
        let footer = match &found.footer {
            FooterFound::Checks { footer, at } => Some(footer_json(footer, at.get())),
            _ => None,
        };
        let recovered = found.recovered.as_ref();
        let verdict = &found.verdict;
        self.sink.fields(|| {
            json!({
                "frame_count": chain,
                "frames_beyond_the_chain": beyond,
                "end_event_id": found.end().get(),
                "meta_end": found.good_meta_end.get(),
                "data_end": found.good_data_end.get(),
                "synced_end": recovered.map(|recovered| recovered.synced_end.get()),
                "last_timestamp_us": recovered.and_then(|recovered| recovered.last_timestamp_us),
                "next_incarnation": recovered.map(|recovered| recovered.next_incarnation),
                "footer": footer,
                "producers": found.producers().map(|table| producers_json(&table)),
                "verdict": verdict_json(verdict),
                "problems": found.problems.iter().map(Problem::json).collect::<Vec<_>>(),
            })
        });
        self.sink.text(|| {
            let beyond = match beyond {
                0 => String::new(),
                more => format!(", {more} beyond their end"),
            };
            format!(
                "  {chain} frames{beyond}; events {} to {}; frames end at {}, data at {}",
                found.files.base,
                found.end(),
                found.good_meta_end,
                found.good_data_end
            )
        });
        match &found.footer {
            FooterFound::Checks { footer, at } => self.sink.text(|| {
                format!(
                    "  footer at {at}: {} index entries, {} producers",
                    footer.index().len(),
                    footer.producers().len()
                )
            }),
            FooterFound::Broken(reason) | FooterFound::Wrong(reason) => {
                self.sink.text(|| format!("  footer: {reason}"))
            }
            FooterFound::None => self.sink.text(|| "  no footer: it is not sealed".to_owned()),
        }
        if self.args.frames || self.args.events {
            for producer in found.producers().iter().flat_map(mofka_log::ProducerTable::iter) {
                self.sink.text(|| {
                    format!(
                        "    producer {}: epoch {}, next sequence {}, last batch at event {}, {} answers remembered",
                        producer.id,
                        producer.epoch,
                        producer.next_sequence,
                        producer.last_base,
                        producer.remembered_batches
                    )
                });
            }
        }
        self.sink
            .text(|| format!("  verdict {}: {}", verdict.letter(), verdict.prose()));
        for problem in &found.problems {
            self.sink.text(|| format!("  {}", problem.line()));
        }
        self.sink.close_object();
    }
}

fn kind_word(kind: SegmentKind) -> &'static str {
    match kind {
        SegmentKind::Meta => "meta",
        SegmentKind::Data => "data",
        SegmentKind::Catalog => "catalog",
        SegmentKind::Cursors => "cursors",
    }
}

fn place_word(place: FramePlace) -> &'static str {
    match place {
        FramePlace::Chain => "chain",
        FramePlace::Survivor => "survivor",
        FramePlace::Stale => "stale",
    }
}

fn header_json(header: &SegmentHeader) -> Value {
    json!({
        "kind": kind_word(header.kind()),
        "owner": header.partition().to_string(),
        "base_event_id": header.base_event_id().get(),
        "salt": format!("{:016x}", header.salt()),
        "created_us": header.created_us(),
        "incarnation": header.incarnation(),
    })
}

fn header_text(header: &SegmentHeader) -> String {
    format!(
        "{} of {}, from event {} on, salt {:016x}, made at {} us, incarnation {}",
        kind_word(header.kind()),
        header.partition(),
        header.base_event_id(),
        header.salt(),
        header.created_us(),
        header.incarnation()
    )
}

fn frame_json(seen: &SeenFrame<'_>, with_events: bool) -> Value {
    let batch = seen.batch;
    let header = batch.header();
    let producer = batch.producer();
    let mut value = json!({
        "at": seen.meta_at.get(),
        "place": place_word(seen.place),
        "frame_bytes": batch.frame_bytes(),
        "base_event_id": batch.base_event_id().get(),
        "end_event_id": batch.end_event_id().get(),
        "event_count": batch.event_count(),
        "mark": batch.is_mark(),
        "clean": batch.is_clean_mark(),
        "references": batch.has_references(),
        "synced_end": batch.synced_end().get(),
        "data_at": batch.data_at().get(),
        "data_bytes": batch.data_bytes(),
        "metadata_bytes": header.metadata_bytes(),
        "piece_count": header.piece_count(),
        "producer": producer.map(|(id, _, _)| id.to_string()),
        "producer_epoch": producer.map(|(_, epoch, _)| epoch),
        "sequence": producer.map(|(_, _, sequence)| sequence),
        "span": batch.place().map(|place| place.span),
        "incarnation": batch.incarnation(),
        "timestamp_us": batch.timestamp_us(),
        "partition_epoch": header.partition_epoch(),
    });
    if with_events {
        let events = batch.events().map(|event| {
            let text = String::from_utf8_lossy(event.metadata);
            let metadata = serde_json::from_slice(event.metadata).unwrap_or_else(|_| json!(text));
            json!({
                "id": batch.base_event_id().get() + u64::from(event.index),
                "metadata": metadata,
                "data_offset": event.data_offset,
                "data_bytes": event.data_bytes,
                "refers_to": event.reference.map(reference_json),
            })
        });
        value["events"] = events.collect();
    }
    value
}

fn frame_text(seen: &SeenFrame<'_>) -> String {
    let batch = seen.batch;
    let what = match (batch.is_clean_mark(), batch.is_mark()) {
        (true, _) => "clean mark".to_owned(),
        (_, true) => "mark".to_owned(),
        _ => format!("events {} to {}", batch.base_event_id(), batch.end_event_id()),
    };
    let place = match seen.place {
        FramePlace::Chain => "",
        FramePlace::Survivor => " SURVIVOR",
        FramePlace::Stale => " STALE",
    };
    let data = match batch.data_bytes() {
        0 => String::new(),
        bytes => format!(", {bytes} bytes of data at {}", batch.data_at()),
    };
    let producer = batch.place().map_or_else(String::new, |place| {
        let covered = match place.span {
            0 => String::new(),
            _ => format!(" to {} of a source", place.end()),
        };
        format!(
            ", producer {} epoch {} sequence {}{covered}",
            place.producer, place.epoch, place.sequence
        )
    });
    format!(
        "    at {}{place}: {what}, {} bytes, synced_end {}{data}{producer}, incarnation {}, at {} us",
        seen.meta_at,
        batch.frame_bytes(),
        batch.synced_end(),
        batch.incarnation(),
        batch.timestamp_us()
    )
}

fn footer_json(footer: &Footer, at: u64) -> Value {
    let index = footer.index();
    let entry = |(id, at, us): (mofka_log::EventId, mofka_log::FilePos, u64)| json!({"event_id": id.get(), "at": at.get(), "timestamp_us": us});
    json!({
        "at": at,
        "base_event_id": footer.base_event_id().get(),
        "end_event_id": footer.end_event_id().get(),
        "meta_end": footer.meta_end().get(),
        "data_end": footer.data_end().get(),
        "first_timestamp_us": footer.timestamps_us().map(|(first, _)| first),
        "last_timestamp_us": footer.timestamps_us().map(|(_, last)| last),
        "index": index.iter().map(entry).collect::<Vec<_>>(),
        "producers": producers_json(&footer.producers()),
    })
}

fn producers_json(table: &mofka_log::ProducerTable) -> Value {
    let producer = |producer: mofka_log::ProducerFacts| {
        json!({
            "id": producer.id.to_string(),
            "epoch": producer.epoch,
            "next_sequence": producer.next_sequence,
            "last_base_event_id": producer.last_base.get(),
            "remembered_batches": producer.remembered_batches,
        })
    };
    table.iter().map(producer).collect()
}

fn record_json(kind: SegmentKind, record: &Record<'_>) -> Value {
    let decoded = match kind {
        SegmentKind::Catalog => match CatalogRecord::decode(record.bytes) {
            Ok(_) => serde_json::from_slice(record.bytes).unwrap_or(Value::Null),
            Err(error) => json!({"error": error.to_string()}),
        },
        _ => match CursorRecord::check(record.bytes) {
            Ok(cursor) => json!({
                "consumer": cursor.name,
                "next_event_id": cursor.next_event_id.get(),
                "timestamp_us": cursor.timestamp_us,
                "removed": cursor.removed,
            }),
            Err(error) => json!({"error": error.to_string()}),
        },
    };
    json!({
        "at": record.meta_at.get(),
        "place": place_word(record.place),
        "timestamp_us": record.timestamp_us,
        "record": decoded,
    })
}
