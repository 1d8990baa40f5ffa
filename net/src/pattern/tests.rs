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

/// The same value in other words: every character as an escape, spaces, and each field once before with another value.
fn disguised(value: &Value) -> String {
    let text = |text: &str| -> String {
        let escapes = text.encode_utf16().map(|unit| format!("\\u{unit:04X}"));
        format!(" \"{}\" ", escapes.collect::<String>())
    };
    match value {
        Value::String(string) => text(string),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(disguised).collect();
            format!(" [{}]\n", items.join(","))
        }
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| {
                format!("{}:[\"}}\"] ,{} : {}", text(key), text(key), disguised(value))
            };
            let fields: Vec<String> = fields.iter().map(field).collect();
            format!("\t{{{} }}", fields.join(", "))
        }
        other => other.to_string(),
    }
}

fn agree(pattern: &Value, metadata: &Value) -> Option<bool> {
    let parsed = Pattern::parse(pattern).ok();
    let ours = parsed.as_ref().map(|pattern| pattern.matches(metadata));
    for text in [metadata.to_string(), disguised(metadata)] {
        let of_text = parsed
            .as_ref()
            .map(|pattern| pattern.matches_text(text.as_bytes()));
        assert_eq!(of_text, ours, "{pattern}\n{text}");
    }
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

    /// Of broken text nothing is believed, wherever it is broken.
    #[test]
    fn what_is_not_json_matches_nothing((pattern, metadata) in random::pair(), cut: prop::sample::Index) {
        let text = json!({"x": metadata, "a": "A"}).to_string();
        let cut = cut.index(text.len());
        if let Ok(pattern) = Pattern::parse(&pattern) {
            prop_assert!(!pattern.matches_text(&text.as_bytes()[..cut]));
            let longer = [text.as_str(), "]"].concat();
            prop_assert!(!pattern.matches_text(longer.as_bytes()));
        }
    }

    #[test]
    fn parse_never_panics(pattern in random::anything(), metadata in random::anything()) {
        agree(&pattern, &metadata);
    }
}

#[test]
fn words_that_cannot_stand_in_the_text_spare_reading_it() {
    let outline = |pattern: Value| Pattern::parse(&pattern).unwrap().outline;
    let one = outline(json!({"class": ["rare", "odd"]}));
    assert!(one.may_match(br#"{"class":"odd"}"#));
    assert!(!one.may_match(br#"{"class":"other","text":"rarely odd"}"#));
    // Written with an escape, it may be any word.
    assert!(one.may_match(br#"{"class":"r\u0061re"}"#));
    let affixes = outline(json!({"a": [{"prefix": "ab"}, {"suffix": ["yz", "zz"]}]}));
    assert!(
        affixes.may_match(br#"["abc"]"#)
            && affixes.may_match(br#"["xyz"]"#)
            && !affixes.may_match(br#"["cab","yzx"]"#)
    );
    let nested = outline(json!({"a": {"b": "c"}, "$or": [{"d": "e"}, {"f": "g", "h": 1}]}));
    assert!(
        nested.may_match(br#""c" "g""#) && !nested.may_match(br#""c" "h""#) && !nested.may_match(br#""e""#)
    );
    let probed =
        outline(json!({"energy": [{"numeric": [">", 5, "<", 9]}], "d.side": [{"anything-but": "A"}]}));
    assert!(probed.may_match(br#"{"energy" : 7.5,"d":{"side":"C"}}"#));
    // Any field of that name could be it.
    assert!(probed.may_match(br#"{"energy":1,"x":{"energy":7},"side":[]}"#));
    for text in [
        r#"{"energy":7}"#,
        r#"{"side":"C","x":["energy",7]}"#,
        r#"{"energy":1,"side":"C"}"#,
        r#"{"energy":7,"side":"A"}"#,
    ] {
        assert!(!probed.may_match(text.as_bytes()), "{text}");
    }
    // Nothing can be said of these.
    for pattern in [
        json!({"a": [{"exists": false}]}),
        json!({"a": [{"prefix": "b"}, {"exists": false}]}),
        json!({"a\n": [{"numeric": ["=", 1]}]}),
        json!({"$or": [{"a": "b"}, {"c": 1}]}),
    ] {
        assert!(outline(pattern.clone()).may_match(b"{}"), "{pattern}");
    }
}
