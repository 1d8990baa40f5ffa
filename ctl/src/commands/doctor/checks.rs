//! What facts mean, and what to do: from facts to verdicts, without looking at anything.

mod machine;
mod storage;

use serde::Serialize;

use crate::commands::doctor::facts::Facts;

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Good,
    /// Was not looked at.
    Skipped,
    /// Works, and could be better or will not work for long.
    Warning,
    /// A node does not start here, or does not keep what it promises.
    Bad,
}

/// One check. With `--json` it is printed as it is; `ctl/schemas/doctor.json` says what each field means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) check: &'static str,
    pub(crate) verdict: Verdict,
    pub(crate) found: String,
    pub(crate) meaning: String,
    /// `None`: nothing.
    pub(crate) advice: Option<String>,
}

impl Finding {
    fn new(
        check: &'static str,
        verdict: Verdict,
        found: impl Into<String>,
        meaning: impl Into<String>,
    ) -> Self {
        Self {
            check,
            verdict,
            found: found.into(),
            meaning: meaning.into(),
            advice: None,
        }
    }

    fn good(check: &'static str, found: impl Into<String>, meaning: impl Into<String>) -> Self {
        Self::new(check, Verdict::Good, found, meaning)
    }

    fn warning(check: &'static str, found: impl Into<String>, meaning: impl Into<String>) -> Self {
        Self::new(check, Verdict::Warning, found, meaning)
    }

    fn bad(check: &'static str, found: impl Into<String>, meaning: impl Into<String>) -> Self {
        Self::new(check, Verdict::Bad, found, meaning)
    }

    fn unknown(check: &'static str, what: &str) -> Self {
        Self::new(
            check,
            Verdict::Skipped,
            what,
            "could not be found out on this machine",
        )
    }

    fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

/// All checks, in the order in which things must be right.
pub(crate) fn all(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![
        machine::kernel(&facts.kernel),
        machine::ring(&facts.ring),
        machine::memlock(&facts.limits, shards(facts)),
        machine::files(&facts.limits, facts.wanted.connections_max),
        machine::cpus(&facts.cpus, facts.wanted.shards),
        machine::memory(&facts.memory, shards(facts), facts.wanted.shard_memory_bytes),
        machine::clock(facts.clock.as_deref()),
        storage::directory(&facts.dir),
        storage::file_system(facts.mount.as_ref()),
    ];
    match facts.devices.as_slice() {
        [] => findings.push(Finding::unknown(
            "device",
            "no block device behind the data directory",
        )),
        devices => findings.extend(devices.iter().map(storage::device)),
    }
    findings.push(storage::room(facts.room));
    findings.push(storage::direct_io(
        facts.writes.as_ref(),
        facts.wanted.needs_direct_io,
    ));
    findings.push(storage::syncs(facts.writes.as_ref()));
    let places = facts.places.iter();
    findings.extend(places.map(|place| machine::place(place, facts.dir.node)));
    findings
}

/// Shards that the node would have.
fn shards(facts: &Facts) -> u64 {
    facts.wanted.shards.unwrap_or(facts.cpus.usable) as u64
}

#[cfg(test)]
mod tests;
