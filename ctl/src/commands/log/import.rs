//! `log import`: an exported partition becomes files again, of a stopped node or on their own.
//!
//! Everything is written under another name and verified; then it gets its name, and at last the catalog knows it. A
//! crash in between leaves nothing that the daemon would serve.

pub(super) mod writer;

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use mofka_log::{
    Batch, Catalog, CatalogRecord, CursorRecord, Durability, EventId, ExportHead, PartitionKind,
    PartitionRecord, ProducerTable, SegmentKind, TopicRecord,
};
use serde_json::json;
use uuid::Uuid;

use super::durable::{failed, now_us, sync_dir, sync_name};
use super::export_file::{ExportReader, Item};
use super::names::{Names, NewCatalog};
use super::partition::{Look, Nobody, WITNESS, examine, partition_dirs};
use super::place::{HeldOff, Target, hold_off, names};
use super::problem::Severity;
use super::progress::bar;
use super::record_file;
use super::segment::Depth;
use crate::cli::ImportArgs;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use writer::SegmentWriter;

/// Where the partition goes.
struct Destination {
    /// Its directory while it is written, and at the end.
    part: PathBuf,
    dir: PathBuf,
    partition: Uuid,
    /// What is told to the catalog.
    catalog: Option<CatalogChange>,
}

struct CatalogChange {
    path: PathBuf,
    new: NewCatalog,
    topic: String,
    index: u32,
}

/// What was imported.
struct Imported {
    base: EventId,
    end: EventId,
    events: u64,
    cursors: usize,
}

pub(crate) fn run(args: &ImportArgs, output: Output) -> Outcome {
    let (from, total): (Box<dyn Read>, u64) = if args.file == Path::new("-") {
        (Box::new(io::stdin().lock()), 0)
    } else {
        let file = File::open(&args.file).map_err(|error| failed("open", &args.file, &error))?;
        let total = file.metadata().map_or(0, |about| about.len());
        (Box::new(file), total)
    };
    let mut reader = ExportReader::new(BufReader::with_capacity(1 << 20, from))?;
    // Kept to the end: no daemon may open the directory meanwhile.
    let _held: HeldOff = hold_off(&args.into, "import into its data directory")?;
    let destination = destination(args, reader.head())?;
    let progress = bar("import", total);
    let written = write_and_verify(&mut reader, &destination, &progress);
    progress.finish_and_clear();
    let imported = match written {
        Ok(imported) => imported,
        Err(failure) => {
            // Nothing of it was visible.
            std::fs::remove_dir_all(&destination.part).ok();
            return Err(failure);
        }
    };
    show(&destination)?;
    let Imported {
        base,
        end,
        events,
        cursors,
    } = imported;
    let answer = json!({
        "directory": destination.dir.display().to_string(),
        "partition": destination.partition.to_string(),
        "topic": destination.catalog.as_ref().map(|change| &change.topic),
        "index": destination.catalog.as_ref().map(|change| change.index),
        "base_event_id": base.get(),
        "end_event_id": end.get(),
        "events": events,
        "cursors": cursors,
    });
    output.print(&answer, || {
        let place = match &destination.catalog {
            Some(change) => format!("partition {} of topic {}", change.index, change.topic),
            None => destination.dir.display().to_string(),
        };
        format!("events {base} to {end} and {cursors} cursors imported as {place}")
    })
}

/// Where the partition goes, by what is at the path.
fn destination(args: &ImportArgs, head: &ExportHead) -> Outcome<Destination> {
    let into = &args.into;
    let is_empty = !into.exists() || (into.is_dir() && names(into)?.is_empty());
    if is_empty {
        if args.topic.is_some() || args.add_partition {
            return Err(Failure::usage(format!(
                "{} is empty: --topic and --add-partition are for the data directory of a node that ran before",
                into.display()
            )));
        }
        // Without a slash or a dot at its end, which would be another place for the name beside it.
        let dir = std::path::absolute(into).map_err(|error| failed("find", into, &error))?;
        let dir: PathBuf = dir.components().collect();
        let mut part = dir.as_os_str().to_owned();
        part.push(".importing");
        return Ok(Destination {
            part: PathBuf::from(part),
            dir,
            partition: head.partition,
            catalog: None,
        });
    }
    match Target::of(into) {
        Ok(Target::DataDir(data_dir)) => in_data_dir(args, head, &data_dir),
        _ => Err(Failure::failed(format!(
            "{} is neither empty nor the data directory of a node: nothing is imported over what is there",
            into.display()
        ))),
    }
}

fn in_data_dir(args: &ImportArgs, head: &ExportHead, data_dir: &Path) -> Outcome<Destination> {
    let known = Names::of(data_dir)?;
    if known
        .found
        .as_ref()
        .is_some_and(super::records::RecordsFound::is_damaged)
    {
        return Err(Failure::check(format!(
            "the catalog of {} is damaged: `mofka-ctl log repair` first",
            data_dir.display()
        )));
    }
    let node = known.node.ok_or_else(|| {
        Failure::failed(format!(
            "{} has no node.json: start the node once",
            data_dir.display()
        ))
    })?;
    let dirs = partition_dirs(data_dir)?;
    if known.found.is_none() && known.unlisted(&dirs).next().is_some() {
        return Err(Failure::check(format!(
            "{} has partitions, and no catalog that names them: `mofka-ctl log repair` first",
            data_dir.display()
        )));
    }
    let leftovers = known.leftovers(&dirs).cloned().collect();
    let mut catalog = known.catalog;
    let topic = topic_record(args, head, &mut catalog)?;
    let partitions = data_dir.join("partitions");
    let is_free = |id: Uuid| {
        let taken = partitions.join(id.to_string()).exists();
        !id.is_nil() && !taken && catalog.partition(id).is_none()
    };
    let partition = if is_free(head.partition) {
        head.partition
    } else {
        Uuid::new_v4()
    };
    let index = u32::try_from(catalog.partitions_of(topic.id).count()).unwrap_or(u32::MAX);
    let shard = u32::try_from(catalog.partitions().count()).unwrap_or(0);
    let rank = catalog.partitions().next().map_or(0, |other| other.rank);
    let record = PartitionRecord {
        id: partition,
        topic: topic.id,
        index,
        kind: PartitionKind::Default,
        rank,
        shard,
        created_us: head
            .record
            .as_ref()
            .map_or_else(now_us, |record| record.created_us),
        config: head
            .record
            .as_ref()
            .map_or_else(|| json!({}), |record| record.config.clone()),
        complete: head.record.as_ref().is_some_and(|record| record.complete),
        refers: false,
        // Of frames without a record it is not known.
        sourced: head.record.as_ref().is_none_or(|record| record.sourced),
    };
    let added = catalog.apply(&CatalogRecord::PartitionAdded(record));
    added.map_err(|error| Failure::failed(error.to_string()))?;
    Ok(Destination {
        part: partitions.join(format!("{partition}.importing")),
        dir: partitions.join(partition.to_string()),
        partition,
        catalog: Some(CatalogChange {
            path: data_dir.join("catalog"),
            new: NewCatalog {
                node,
                records: catalog.snapshot().iter().map(CatalogRecord::encode).collect(),
                leftovers,
            },
            topic: topic.name,
            index,
        }),
    })
}

/// The topic that gets the partition: one that is there, or a new one, which `catalog` then has.
fn topic_record(args: &ImportArgs, head: &ExportHead, catalog: &mut Catalog) -> Outcome<TopicRecord> {
    let exported = head.topic.as_ref();
    let name = args
        .topic
        .clone()
        .or_else(|| exported.map(|topic| topic.name.clone()));
    let name = name.ok_or_else(|| {
        Failure::usage("the export does not name its topic: say what to call it with --topic NAME")
    })?;
    let there = catalog.topic(&name).cloned();
    match (there, args.add_partition) {
        (Some(topic), true) => return Ok(topic),
        (Some(_), false) => {
            return Err(Failure::failed(format!(
                "there is a topic {name:?} already: --add-partition adds to it, --topic NAME makes another"
            )));
        }
        (None, true) => return Err(Failure::failed(format!("there is no topic {name:?} to add to"))),
        (None, false) => {}
    }
    let mut topic = match exported {
        Some(topic) => topic.clone(),
        None => plain_topic(&name)?,
    };
    topic.name = name;
    if catalog.topic_by_id(topic.id).is_some() {
        topic.id = Uuid::new_v4();
    }
    let created = catalog.apply(&CatalogRecord::TopicCreated(topic.clone()));
    created.map_err(|error| Failure::failed(error.to_string()))?;
    Ok(topic)
}

/// A topic with nothing special about it, for an export that does not tell its own.
fn plain_topic(name: &str) -> Outcome<TopicRecord> {
    let plain = json!({"type": "default"});
    // By its stored form: what is not said has its default.
    let topic = serde_json::from_value(json!({
        "id": Uuid::new_v4().to_string(),
        "name": name,
        "durability": Durability::default(),
        "validator": plain,
        "partition_selector": plain,
        "serializer": plain,
        "created_us": now_us(),
        "complete": false,
    }));
    topic.map_err(|error| Failure::failed(format!("a topic named {name:?} cannot be made: {error}")))
}

/// Writes all files under their temporary directory, makes them durable, and reads them back.
fn write_and_verify<R: Read>(
    reader: &mut ExportReader<R>,
    destination: &Destination,
    progress: &ProgressBar,
) -> Outcome<Imported> {
    let part = &destination.part;
    let made = || {
        // What an import left that was interrupted.
        if part.exists() {
            std::fs::remove_dir_all(part)?;
        }
        std::fs::create_dir_all(part)
    };
    made().map_err(|error| failed("create", part, &error))?;
    let base = reader.head().base_event_id;
    let mut writer = SegmentWriter::new(part, destination.partition, base);
    let (mut cursors, mut producers) = (Vec::new(), ProducerTable::default());
    loop {
        let item = reader.next()?;
        if let Item::Batch(batch) = &item {
            refuse_references(batch)?;
        }
        match item {
            Item::Batch(batch) if batch.data_bytes() > 0 && batch.data().is_none() => {
                let cannot = |error: io::Error| failed("write into", part, &error);
                let mut data = writer.begin_data().map_err(cannot)?;
                reader.data(&mut |bytes| {
                    let written = data.write(bytes).map_err(cannot);
                    progress.inc(bytes.len() as u64);
                    written
                })?;
                writer.add_written(batch, &data).map_err(cannot)?;
            }
            Item::Batch(batch) => {
                writer
                    .add(batch)
                    .map_err(|error| failed("write into", part, &error))?;
            }
            Item::Cursor(cursor) if cursor.name.starts_with('\0') => {
                let text = "the export does not check: it has a cursor of the engine's own";
                return Err(Failure::check(text));
            }
            Item::Cursor(cursor) => cursors.push(cursor),
            Item::Producers(table) => producers = table,
            Item::End => break,
        }
        progress.set_position(reader.sums().bytes());
    }
    let end = reader.sums().end_event_id();
    writer
        .finish(&producers)
        .map_err(|error| failed("write into", part, &error))?;
    write_cursors(destination, &mut cursors, end)
        .map_err(|error| failed("write cursors into", part, &error))?;
    sync_dir(part).map_err(|error| failed("sync", part, &error))?;
    let how = Look {
        depth: Depth::Everything,
        only: None,
    };
    let found = examine(part, how, &ProgressBar::hidden(), &mut Nobody)?;
    let problem = found
        .all_problems()
        .find(|problem| problem.severity > Severity::Note);
    if let Some(problem) = problem {
        return Err(Failure::check(format!(
            "what was written does not check: {}",
            problem.line()
        )));
    }
    if found.end() != end || found.events() != reader.sums().event_count() {
        return Err(Failure::check(format!(
            "what was written has events up to {}, and the export up to {end}",
            found.end()
        )));
    }
    Ok(Imported {
        base,
        end,
        events: found.events(),
        cursors: cursors.len(),
    })
}

/// The data of an event that refers to another one is not in the file, and nothing would keep that other one here.
fn refuse_references(batch: &Batch) -> Outcome {
    let found = batch
        .events()
        .find_map(|event| Some((event.index, event.reference?)));
    let Some((index, to)) = found else { return Ok(()) };
    Err(Failure::failed(format!(
        "event {} refers to data of event {} of partition {}, which an export does not have: such events cannot be imported; \
         consume them with their data, and produce them anew",
        batch.base_event_id().get() + u64::from(index),
        to.event_id(),
        to.partition()
    )))
}

fn write_cursors(destination: &Destination, cursors: &mut [CursorRecord], end: EventId) -> io::Result<()> {
    for cursor in cursors.iter_mut() {
        cursor.next_event_id = cursor.next_event_id.min(end);
    }
    let witness = CursorRecord {
        name: WITNESS.to_owned(),
        next_event_id: end,
        timestamp_us: now_us(),
        removed: false,
    };
    let records: Vec<Vec<u8>> = cursors
        .iter()
        .chain([&witness])
        .map(CursorRecord::encode)
        .collect();
    let path = destination.part.join("cursors");
    record_file::replace(&path, SegmentKind::Cursors, destination.partition, &records)
}

/// Gives everything its name: first the files, then the catalog, without which nobody is served from them.
fn show(destination: &Destination) -> Outcome {
    let Destination { part, dir, .. } = destination;
    let named = std::fs::rename(part, dir).and_then(|()| sync_name(dir));
    named.map_err(|error| failed("name", dir, &error))?;
    match &destination.catalog {
        Some(change) => change.new.replace(&change.path),
        None => Ok(()),
    }
}
