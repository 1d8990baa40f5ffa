//! `log repair`: makes a damaged partition one that the daemon goes on with.

mod apply;
mod catalog;
mod plan;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::names::{Names, names_around};
use super::partition::{Look, Nobody, PartitionFound, examine, partition_dirs};
use super::place::{HeldOff, Target, hold_off};
use super::problem::{Problem, Severity};
use super::progress::bar;
use super::segment::Depth;
use super::verify::partition_title;
use crate::cli::RepairArgs;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use catalog::CatalogPlan;
use plan::{Plan, plan};

const LOOK: Look = Look {
    depth: Depth::Everything,
    only: None,
};

/// A partition with what is to be done to it.
struct Patient {
    found: PartitionFound,
    plan: Plan,
}

pub(crate) fn run(args: &RepairArgs, output: Output) -> Outcome {
    let (dirs, data_dir) = match Target::of(&args.path)? {
        Target::DataDir(dir) => (partition_dirs(&dir)?, Some(dir)),
        Target::Partition(dir) => (vec![dir], None),
        Target::Segment(_, _) | Target::File(_) => {
            return Err(Failure::usage(format!(
                "{} is one file; repair takes the directory of a partition, or a data directory",
                args.path.display()
            )));
        }
    };
    // Kept to the end: no daemon may open what is being changed.
    let _held: HeldOff = hold_off(&args.path, "repair its files")?;
    let names = match (&data_dir, dirs.first()) {
        (Some(dir), _) => Names::of(dir)?,
        (None, Some(dir)) => names_around(dir),
        (None, None) => Names::default(),
    };
    let catalog = match &data_dir {
        Some(dir) => catalog::plan(dir, &names, &dirs)?,
        None => None,
    };
    let patients = examine_all(&dirs)?;
    let mut told = Told {
        values: Vec::new(),
        lines: Vec::new(),
    };
    let mut unhealed = 0;
    for patient in &patients {
        unhealed += told.partition(patient, &names, args.apply)?;
    }
    // After the partitions: it may rename their directories.
    let catalog_told = match &catalog {
        Some(plan) => Some(told.catalog(plan, args.apply)?),
        None => None,
    };
    let changes = patients.iter().any(|patient| !patient.plan.steps.is_empty()) || catalog.is_some();
    told.lines.push(match (changes, args.apply) {
        (false, _) => "nothing is to be repaired".to_owned(),
        (true, false) => "nothing was changed; --apply does it, and keeps a copy of what goes".to_owned(),
        (true, true) => "repaired".to_owned(),
    });
    let answer = json!({
        "path": args.path.display().to_string(),
        "applied": args.apply,
        "catalog": catalog_told,
        "partitions": told.values,
    });
    output.print(&answer, || told.lines.join("\n"))?;
    if unhealed > 0 {
        return Err(Failure::check(format!(
            "{unhealed} partitions are not well after the repair: `mofka-ctl log verify` says what is wrong"
        )));
    }
    Ok(())
}

fn examine_all(dirs: &[PathBuf]) -> Outcome<Vec<Patient>> {
    let mut total = 0;
    for dir in dirs {
        total += super::partition::Listing::of(dir)?.file_bytes();
    }
    let progress = bar("look", total);
    let mut patients = Vec::new();
    for dir in dirs {
        let found = examine(dir, LOOK, &progress, &mut Nobody)?;
        let plan = plan(&found)?;
        patients.push(Patient { found, plan });
    }
    progress.finish_and_clear();
    Ok(patients)
}

/// What is printed.
struct Told {
    values: Vec<Value>,
    lines: Vec<String>,
}

impl Told {
    fn catalog(&mut self, plan: &CatalogPlan, apply: bool) -> Outcome<Value> {
        self.lines.extend(plan.lines());
        if apply {
            plan.apply()?;
        }
        Ok(plan.json())
    }

    /// Repairs a partition, or says how. Gives 1 when it is not well afterwards.
    fn partition(&mut self, patient: &Patient, names: &Names, apply: bool) -> Outcome<usize> {
        let Patient { found, plan } = patient;
        let mut value = plan.json();
        value["directory"] = json!(found.dir.display().to_string());
        self.lines.push(partition_title(found, names));
        self.lines
            .extend(plan.lines().into_iter().map(|line| format!("  {line}")));
        let mut unhealed = 0;
        if plan.steps.is_empty() {
            self.lines.push("  nothing is to be repaired".to_owned());
        } else if apply {
            let aside = apply::apply(&found.dir, plan, &value)?;
            self.lines
                .push(format!("  what went is kept in {}", aside.display()));
            value["repair_directory"] = json!(aside.display().to_string());
            let left = left_over(&found.dir)?;
            unhealed = usize::from(!left.is_empty());
            value["verified"] = json!(left.is_empty());
            value["problems_left"] = left.iter().map(Problem::json).collect();
            self.lines
                .extend(left.iter().map(|problem| format!("  {}", problem.line())));
        }
        self.values.push(value);
        Ok(unhealed)
    }
}

/// What is still wrong.
fn left_over(dir: &Path) -> Outcome<Vec<Problem>> {
    let progress = bar("verify", super::partition::Listing::of(dir)?.file_bytes());
    let found = examine(dir, LOOK, &progress, &mut Nobody)?;
    progress.finish_and_clear();
    let worse = |problem: &&Problem| problem.severity > Severity::Note;
    Ok(found.all_problems().filter(worse).cloned().collect())
}
