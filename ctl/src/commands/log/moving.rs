//! `partition move`: a partition gets another shard of its node, which does not run.
//!
//! A partition's files are in a directory of its own, whoever serves them: only its record in the catalog says which shard that is.
//! The catalog is written anew beside and renamed over, so that a crash leaves the old one or the new one.

use mofka_log::CatalogRecord;
use serde_json::json;

use super::names::{Names, NewCatalog};
use super::partition::partition_dirs;
use super::place::hold_off;
use crate::cli::PartitionMoveArgs;
use crate::failure::{Failure, Outcome};
use crate::output::Output;

pub(crate) fn run(args: &PartitionMoveArgs, output: Output) -> Outcome {
    let dir = &args.data_dir;
    let path = dir.join("catalog");
    if !path.exists() {
        return Err(Failure::failed(format!(
            "{} has no catalog: give the data directory of a node that ran before with --data-dir",
            dir.display()
        )));
    }
    // Kept to the end: no daemon may open the directory meanwhile.
    let _held = hold_off(dir, "move a partition")?;
    let names = Names::of(dir)?;
    if names.found.as_ref().is_some_and(|found| found.is_damaged()) {
        return Err(Failure::failed(format!(
            "{} is damaged: see `mofka-ctl log verify {1}`, and repair it before with `mofka-ctl log repair --apply {1}`",
            path.display(),
            dir.display()
        )));
    }
    let node = names.node.ok_or_else(|| {
        Failure::failed(format!(
            "{} does not say whose it is",
            dir.join("node.json").display()
        ))
    })?;
    let topic = names.catalog.topic(&args.topic).ok_or_else(|| {
        Failure::failed(format!(
            "there is no topic \"{}\" in {}",
            args.topic,
            path.display()
        ))
    })?;
    let mut records = names.catalog.snapshot();
    let mut from = None;
    for record in &mut records {
        if let CatalogRecord::PartitionAdded(partition) = record
            && (partition.topic, partition.index) == (topic.id, args.partition)
        {
            from = Some(std::mem::replace(&mut partition.shard, args.shard));
        }
    }
    let from = from.ok_or_else(|| {
        Failure::failed(format!(
            "topic \"{}\" has no partition {}",
            args.topic, args.partition
        ))
    })?;
    if from != args.shard {
        let new = NewCatalog {
            node,
            records: records.iter().map(CatalogRecord::encode).collect(),
            leftovers: names.leftovers(&partition_dirs(dir)?).cloned().collect(),
        };
        new.replace(&path)?;
    }
    let answer = json!({
        "topic": args.topic, "partition": args.partition, "from_shard": from, "to_shard": args.shard,
    });
    output.print(&answer, || {
        format!(
            "partition {} of topic {}: shard {from} -> {}; it is served there from the node's next start on",
            args.partition, args.topic, args.shard
        )
    })
}
