//! Carries a plan out: first everything that goes is copied aside, then the files are changed, one durable step after
//! the other. A crash in between leaves something that the next repair goes on with: segments that are given up go from
//! the last to the first, so that no gap comes to be, and what says that they were durable goes before the cut.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use mofka_log::{BLOCK_BYTES, CursorRecord, FilePos, Footer, FooterFacts, SegmentHeader, SegmentKind};
use serde_json::Value;

use super::super::durable::{
    copy_from, create_new, cut, failed, now_us, open_for_writing, sync_dir, sync_name, write_file,
};
use super::super::problem::file_name;
use super::super::record_file;
use super::plan::{Plan, Step};
use crate::failure::Outcome;

/// Carries the plan out and returns where the copies are.
///
/// # Errors
/// What could not be done. Everything up to there was; repair again goes on.
pub(super) fn apply(dir: &Path, plan: &Plan, told: &Value) -> Outcome<PathBuf> {
    let aside = make_aside(dir)?;
    for step in &plan.steps {
        keep(step, &aside)?;
    }
    let what = aside.join("what.json");
    let text = serde_json::to_vec_pretty(told).unwrap_or_default();
    write_file(&what, &text).map_err(|error| failed("write", &what, &error))?;
    sync_dir(&aside).map_err(|error| failed("sync", &aside, &error))?;
    for step in in_order(plan) {
        change(step, dir, &aside).map_err(|error| failed("repair", step.path(), &error))?;
    }
    sync_dir(dir).map_err(|error| failed("sync", dir, &error))?;
    Ok(aside)
}

/// The steps in the order in which they are made: what is set aside from the last segment to the first, of each the meta
/// file before the data file, as the plan has them; then the cursors; then the rest.
fn in_order(plan: &Plan) -> Vec<&Step> {
    let rank = |step: &&Step| match step {
        Step::SetAside { .. } => 0,
        Step::RewriteCursors { .. } => 1,
        _ => 2,
    };
    let segment = |step: &&Step| match step {
        Step::SetAside { path, .. } => path.file_stem().map(std::ffi::OsStr::to_owned),
        _ => None,
    };
    let mut steps: Vec<&Step> = plan.steps.iter().collect();
    steps.sort_by_key(|step| (rank(step), std::cmp::Reverse(segment(step))));
    steps
}

/// A directory for what goes, durable with its name.
fn make_aside(dir: &Path) -> Outcome<PathBuf> {
    let seconds = now_us() / 1_000_000;
    let mut aside = dir.join(format!("repair-{seconds}"));
    let mut again = 1;
    while aside.exists() {
        again += 1;
        aside = dir.join(format!("repair-{seconds}-{again}"));
    }
    let made = std::fs::create_dir(&aside).and_then(|()| sync_dir(dir));
    made.map_err(|error| failed("create", &aside, &error))?;
    Ok(aside)
}

/// Copies what a step would overwrite or cut. What is set aside is moved as it is.
fn keep(step: &Step, aside: &Path) -> Outcome {
    let copy = |path: &Path, from: u64| {
        let from = FilePos::new(from).align_down(BLOCK_BYTES as u64).get();
        let name = match from {
            0 => file_name(path),
            from => format!("{}.from-{from}", file_name(path)),
        };
        copy_from(path, from, &aside.join(name)).map_err(|error| failed("copy aside", path, &error))
    };
    match step {
        Step::SetAside { .. } | Step::NewFile { .. } => {}
        Step::WriteHeader { path, .. } => {
            let block = File::open(path).and_then(|file| {
                let mut block = vec![0; BLOCK_BYTES];
                let bytes = file.read_at(&mut block, 0)?;
                write_file(
                    &aside.join(format!("{}.header", file_name(path))),
                    &block[..bytes],
                )
            });
            block.map_err(|error| failed("copy aside", path, &error))?;
        }
        Step::Cut { meta, at, data, .. } => {
            copy(meta, at.get())?;
            if let Some((data, at)) = data {
                copy(data, at.get())?;
            }
        }
        Step::Seal { meta, facts } => {
            copy(meta, facts.meta_end.get())?;
        }
        Step::RewriteCursors { path, .. } => {
            copy(path, 0)?;
        }
    }
    Ok(())
}

/// Makes one change, durable when this returns.
fn change(step: &Step, dir: &Path, aside: &Path) -> io::Result<()> {
    match step {
        Step::SetAside { path, .. } => {
            std::fs::rename(path, aside.join(file_name(path)))?;
            sync_dir(aside)?;
            sync_dir(dir)
        }
        Step::WriteHeader { path, header } => write_header(&open_for_writing(path)?, header),
        Step::NewFile { path, header } => {
            write_header(&create_new(path)?, header)?;
            sync_name(path)
        }
        Step::Cut { meta, at, data, .. } => {
            cut(&open_for_writing(meta)?, *at)?;
            match data {
                Some((path, at)) => shorten(&open_for_writing(path)?, *at),
                None => Ok(()),
            }
        }
        Step::Seal { meta, facts } => seal(&open_for_writing(meta)?, facts),
        Step::RewriteCursors {
            path, owner, records, ..
        } => {
            let records: Vec<Vec<u8>> = records.iter().map(CursorRecord::encode).collect();
            record_file::replace(path, SegmentKind::Cursors, *owner, &records)
        }
    }
}

fn write_header(file: &File, header: &SegmentHeader) -> io::Result<()> {
    file.write_all_at(&header.to_block(), 0)?;
    file.sync_all()
}

/// Ends a data file at the block of `at`. In a data file anything may follow what frames point to.
fn shorten(file: &File, at: FilePos) -> io::Result<()> {
    let end = at.align_up(BLOCK_BYTES as u64).get();
    if file.metadata()?.len() > end {
        file.set_len(end)?;
    }
    file.sync_all()
}

/// Writes the footer where the frames end, and ends the file with it. One that lands in part does not check.
fn seal(file: &File, facts: &FooterFacts) -> io::Result<()> {
    let footer_at = cut(file, facts.meta_end)?;
    file.write_all_at(&Footer::encode(facts, footer_at), footer_at.get())?;
    file.sync_all()
}

#[cfg(test)]
mod tests;
