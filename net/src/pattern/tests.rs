mod acceptance;
mod errors;
mod naive;
mod random;
mod rules;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn matches(pattern: &Value, metadata: &Value) -> bool {
    Pattern::parse(pattern).unwrap().matches(metadata)
}

fn message(pattern: &Value) -> String {
    Pattern::parse(pattern).unwrap_err().to_string()
}

fn agree(pattern: &Value, metadata: &Value) -> Option<bool> {
    let ours = Pattern::parse(pattern)
        .ok()
        .map(|pattern| pattern.matches(metadata));
    assert_eq!(ours, naive::judge(pattern, metadata), "{pattern}\n{metadata}");
    ours
}

/// The comparison below says something only if all outcomes are frequent, and for each rule.
#[test]
fn random_patterns_match_and_fail() {
    // Invalid, no, yes: of all, then of the patterns in which a rule stands.
    let mut counts = [0_usize; 3];
    let mut counts_of_rules = [[0_usize; 3]; 8];
    for (pattern, metadata) in random::sample(10_000) {
        let outcome = agree(&pattern, &metadata).map_or(0, |matches| 1 + usize::from(matches));
        counts[outcome] += 1;
        let text = pattern.to_string();
        for (counts, name) in counts_of_rules.iter_mut().zip(random::NAMES) {
            counts[outcome] += usize::from(text.contains(&format!("{name:?}:")));
        }
    }
    assert!(counts.iter().all(|count| *count >= 1000), "{counts:?}");
    for counts in counts_of_rules {
        assert!(counts.iter().all(|count| *count >= 200), "{counts_of_rules:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn agrees_with_a_naive_interpreter((pattern, metadata) in random::pair()) {
        agree(&pattern, &metadata);
    }

    #[test]
    fn wildcards_agree_with_a_naive_interpreter(form in r"[ab*\\]{0,8}", text in r"[ab*\\]{0,8}") {
        agree(&json!({"k": [{ "wildcard": form }]}), &json!({ "k": text }));
    }

    #[test]
    fn parse_never_panics(pattern in random::anything(), metadata in random::anything()) {
        agree(&pattern, &metadata);
    }
}
