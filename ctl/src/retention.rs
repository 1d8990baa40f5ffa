//! The options that say what of a topic's events may go, and the policy they make.

use std::str::FromStr;

use clap::Args;
use mofka_client::{AcknowledgedBy, Retention};

use crate::measure;
use crate::output::bytes_text;

/// Each option is one rule; what is not given stays as it is.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct RetentionArgs {
    /// Drop the oldest events of a partition while it holds more: 500MB, 10GiB; none: no bound.
    #[arg(long = "retention-bytes", value_name = "SIZE", value_parser = bound_of_bytes)]
    bytes: Option<Bound>,
    /// Drop events that were accepted longer ago: 36h, 7d; none: no bound.
    #[arg(long = "retention-age", value_name = "TIME", value_parser = bound_of_time)]
    age: Option<Bound>,
    /// Drop what every consumer that has a cursor has acknowledged, or each of these: =a,b; =none: no such rule.
    #[arg(
        long = "retention-acknowledged",
        value_name = "NAMES",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = ""
    )]
    acknowledged: Option<Names>,
    /// Keep what every consumer that has a cursor, or each of these (=a,b), has not acknowledged, against the other
    /// rules; =none: no such rule.
    #[arg(
        long = "retention-keep-unacknowledged",
        value_name = "NAMES",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = ""
    )]
    keep_unacknowledged: Option<Names>,
}

/// A bound, or the word that there is none.
type Bound = Setting<u64>;
/// Consumers, or the word that the rule is off.
type Names = Setting<Consumers>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting<T>(Option<T>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Consumers(AcknowledgedBy);

fn bound_of_bytes(text: &str) -> Result<Bound, String> {
    bound(text, measure::bytes)
}

fn bound_of_time(text: &str) -> Result<Bound, String> {
    bound(text, measure::milliseconds)
}

fn bound(text: &str, read: impl FnOnce(&str) -> Result<u64, String>) -> Result<Bound, String> {
    match text {
        "none" => Ok(Setting(None)),
        text => read(text).and_then(|value| {
            if value == 0 {
                Err("0 would keep nothing; none is for no bound".to_owned())
            } else {
                Ok(Setting(Some(value)))
            }
        }),
    }
}

impl FromStr for Names {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let by = match text {
            "none" => None,
            "" => Some(AcknowledgedBy::EveryConsumer),
            names => {
                let names: Vec<String> = names.split(',').map(|name| name.trim().to_owned()).collect();
                if names.iter().any(String::is_empty) {
                    return Err(format!("an empty name in \"{text}\""));
                }
                Some(AcknowledgedBy::Consumers(names))
            }
        };
        Ok(Self(by.map(Consumers)))
    }
}

impl RetentionArgs {
    /// Whether no rule is given.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_none()
            && self.age.is_none()
            && self.acknowledged.is_none()
            && self.keep_unacknowledged.is_none()
    }

    /// The policy with these rules in place of its own.
    pub(crate) fn over(&self, policy: Retention) -> Retention {
        let names = |given: &Option<Names>, old: Option<AcknowledgedBy>| match given {
            Some(Setting(by)) => by.as_ref().map(|consumers| consumers.0.clone()),
            None => old,
        };
        Retention {
            bytes_max: self.bytes.as_ref().map_or(policy.bytes_max, |given| given.0),
            age_max_ms: self.age.as_ref().map_or(policy.age_max_ms, |given| given.0),
            acknowledged: names(&self.acknowledged, policy.acknowledged),
            keep_unacknowledged: names(&self.keep_unacknowledged, policy.keep_unacknowledged),
        }
    }
}

/// A policy in words.
pub(crate) fn text(policy: &Retention) -> String {
    let who = |by: &AcknowledgedBy| match by {
        AcknowledgedBy::EveryConsumer => "every consumer".to_owned(),
        AcknowledgedBy::Consumers(names) => names.join(", "),
    };
    let mut rules = Vec::new();
    if let Some(bytes) = policy.bytes_max {
        rules.push(format!("at most {} in a partition", bytes_text(bytes)));
    }
    if let Some(ms) = policy.age_max_ms {
        rules.push(format!("for {}", measure::milliseconds_text(ms)));
    }
    if let Some(by) = &policy.acknowledged {
        rules.push(format!("until acknowledged by {}", who(by)));
    }
    if rules.is_empty() {
        rules.push("everything".to_owned());
    }
    if let Some(by) = &policy.keep_unacknowledged {
        rules.push(format!("but all that is not acknowledged by {}", who(by)));
    }
    rules.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_stays_and_none_takes_away() {
        let old = Retention {
            bytes_max: Some(1),
            age_max_ms: Some(2),
            acknowledged: Some(AcknowledgedBy::EveryConsumer),
            keep_unacknowledged: None,
        };
        let nothing = RetentionArgs::default();
        assert!(nothing.is_empty());
        assert_eq!(nothing.over(old.clone()), old);
        let given = RetentionArgs {
            bytes: Some(bound_of_bytes("3KiB").unwrap()),
            age: Some(bound_of_time("none").unwrap()),
            acknowledged: Some("none".parse().unwrap()),
            keep_unacknowledged: Some("a, b".parse().unwrap()),
        };
        assert_eq!(
            given.over(old),
            Retention {
                bytes_max: Some(3072),
                age_max_ms: None,
                acknowledged: None,
                keep_unacknowledged: Some(AcknowledgedBy::Consumers(vec!["a".to_owned(), "b".to_owned()])),
            }
        );
        assert_eq!(
            "".parse::<Names>().unwrap(),
            Setting(Some(Consumers(AcknowledgedBy::EveryConsumer)))
        );
        assert!("a,,b".parse::<Names>().unwrap_err().contains("empty name"));
        assert!(bound_of_bytes("0B").unwrap_err().contains("none"));
    }

    #[test]
    fn a_policy_is_told_in_words() {
        assert_eq!(text(&Retention::default()), "everything");
        let policy = Retention {
            bytes_max: Some(10 << 30),
            age_max_ms: Some(3_600_000),
            acknowledged: Some(AcknowledgedBy::Consumers(vec!["a".to_owned(), "b".to_owned()])),
            keep_unacknowledged: Some(AcknowledgedBy::EveryConsumer),
        };
        assert_eq!(
            text(&policy),
            "at most 10.0 GiB in a partition; for 1h; until acknowledged by a, b; but all that is not acknowledged by every \
             consumer"
        );
    }
}
