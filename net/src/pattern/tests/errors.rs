//! What is refused, how it is said, and what is bounded.

use serde_json::{Value, json};

use super::message;
use crate::limits::{PATTERN_DEPTH_MAX, PATTERN_PARTS_MAX};
use crate::{Pattern, PatternError};

#[test]
fn errors_say_where_what_and_what_is_allowed() {
    let rows = [
        (json!([]), "found an array of length 0 at $: allowed is a pattern"),
        (json!("x"), r#"found the string "x" at $: allowed is a pattern"#),
        (
            json!({"k": [1, {"prefix": "a"}]}),
            r#"found an object of 1 keys at $["k"][1]: allowed is an array of only"#,
        ),
        (
            json!({"k": [{"prefix": "a"}, null]}),
            r#"found null at $["k"][1]: allowed is an array of only primitives"#,
        ),
        (
            json!({"k": [{"prefix": "a"}, []]}),
            r#"found an array of length 0 at $["k"][1]"#,
        ),
        (json!({"k": [[1]]}), r#"found an array of length 1 at $["k"][0]"#),
        (
            json!({"k": [{}]}),
            r#"found an object of 0 keys at $["k"][0]: allowed is a rule"#,
        ),
        (
            json!({"k": [{"prefix": "a", "suffix": "b"}]}),
            r#"found an object of 2 keys at $["k"][0]: allowed is a rule"#,
        ),
        (
            json!({"k": [{"nope": 1}]}),
            r#"Invalid Eventbridge pattern: unexpected rule: "nope" at $["k"][0]: allowed are anything-but"#,
        ),
        (
            json!({"k": [{"anything-but": {"nope": 1}}]}),
            r#"unexpected rule: "nope" at $["k"][0]["anything-but"]"#,
        ),
        (
            json!({"k": [{"anything-but": {}}]}),
            r#"found an object of 0 keys at $["k"][0]["anything-but"]"#,
        ),
        (
            json!({"k": [{"anything-but": [[]]}]}),
            r#"$["k"][0]["anything-but"][0]: allowed is a primitive"#,
        ),
        (
            json!({"k": [{"anything-but": [{"prefix": "a"}]}]}),
            r#"$["k"][0]["anything-but"][0]: allowed is a primitive"#,
        ),
        (
            json!({"k": [{"prefix": 1}]}),
            r#"found 1 at $["k"][0]["prefix"]: allowed is a string, an array of"#,
        ),
        (
            json!({"k": [{"suffix": ["a", 1.5]}]}),
            r#"found 1.5 at $["k"][0]["suffix"][1]: allowed is a string"#,
        ),
        (
            json!({"k": [{"suffix": {"prefix": "a"}}]}),
            r#"found the key "prefix" at $["k"][0]["suffix"]: allowed"#,
        ),
        (
            json!({"k": [{"suffix": {}}]}),
            r#"found an object of 0 keys at $["k"][0]["suffix"]: allowed"#,
        ),
        (
            json!({"k": [{"prefix": {"equals-ignore-case": {}}}]}),
            r#"$["k"][0]["prefix"]["equals-ignore-case"]: allowed"#,
        ),
        (
            json!({"k": [{"equals-ignore-case": false}]}),
            r#"found false at $["k"][0]["equals-ignore-case"]: allowed"#,
        ),
        (
            json!({"k": [{"equals-ignore-case": [null]}]}),
            r#"found null at $["k"][0]["equals-ignore-case"][0]"#,
        ),
        (
            json!({"k": [{"numeric": 1}]}),
            r#"found 1 at $["k"][0]["numeric"]: allowed is an array of pairs"#,
        ),
        (
            json!({"k": [{"numeric": [">"]}]}),
            r#"an array of length 1 at $["k"][0]["numeric"]: allowed is an array of pairs"#,
        ),
        (
            json!({"k": [{"numeric": [">", 1, "<"]}]}),
            r#"found an array of length 3 at $["k"][0]["numeric"]"#,
        ),
        (
            json!({"k": [{"numeric": [">", 1, "!=", 2]}]}),
            r#""!=" at $["k"][0]["numeric"][2]: allowed is one of the operators"#,
        ),
        (
            json!({"k": [{"numeric": [1, ">"]}]}),
            r#"found 1 at $["k"][0]["numeric"][0]: allowed is one of the operators"#,
        ),
        (
            json!({"k": [{"numeric": [">", "1"]}]}),
            r#""1" at $["k"][0]["numeric"][1]: allowed is a number"#,
        ),
        (
            json!({"k": [{"exists": 1}]}),
            r#"found 1 at $["k"][0]["exists"]: allowed is true or false"#,
        ),
        (
            json!({"k": [{"$or": {}}]}),
            r#"$["k"][0]["$or"]: allowed is an array of patterns"#,
        ),
        (
            json!({"k": [{"$or": [1]}]}),
            r#"found 1 at $["k"][0]["$or"][0]: allowed is a pattern"#,
        ),
        (
            json!({"$or": "a"}),
            r#"found the string "a" at $["$or"]: allowed is an array of patterns"#,
        ),
        (
            json!({"a": {"$or": [[]]}}),
            r#"$["a"]["$or"][0]: allowed is a pattern"#,
        ),
        (
            json!({"k": [{"wildcard": ["a*"]}]}),
            r#"$["k"][0]["wildcard"]: allowed is a string"#,
        ),
    ];
    for (pattern, expected) in rows {
        let message = message(&pattern);
        assert!(message.starts_with("Invalid Eventbridge pattern: "), "{message}");
        assert!(message.contains(expected), "{pattern}: {message}");
    }
}

#[test]
fn messages_stay_short() {
    let long = "\u{1b}é".repeat(100_000);
    let mut pattern = json!({});
    pattern[&long] = json!([{ &long: 1 }]);
    assert!(message(&pattern).len() < 4096);
    assert!(!message(&pattern).contains('\u{1b}'));
    pattern[&long] = json!([{"exists": long}]);
    assert!(message(&pattern).len() < 4096);
}

fn repeated(times: usize, inner: Value, wrap: impl Fn(Value) -> Value) -> Value {
    (0..times).fold(inner, |value, _| wrap(value))
}

#[test]
fn depth_is_bounded() {
    let wraps: [fn(Value) -> Value; 3] = [
        |inner| json!({ "k": inner }),
        |inner| json!({ "$or": [inner] }),
        |inner| json!({ "k": [{ "$or": [inner] }] }),
    ];
    for wrap in wraps {
        // The innermost pattern is one too.
        assert!(Pattern::parse(&repeated(PATTERN_DEPTH_MAX - 1, json!({}), wrap)).is_ok());
        for times in [PATTERN_DEPTH_MAX, 150] {
            let error = Pattern::parse(&repeated(times, json!({}), wrap)).unwrap_err();
            assert!(matches!(error, PatternError::TooDeep { .. }), "{error}");
            assert!(error.to_string().contains("more than 32"), "{error}");
        }
    }
    let rules = |times| {
        repeated(
            times,
            json!({"exists": true}),
            |inner| json!({ "anything-but": inner }),
        )
    };
    let pattern = |times| json!({"k": [rules(times)]});
    assert!(Pattern::parse(&pattern(PATTERN_DEPTH_MAX - 1)).is_ok());
    let error = Pattern::parse(&pattern(PATTERN_DEPTH_MAX)).unwrap_err();
    assert!(matches!(error, PatternError::TooDeep { .. }));
    let arrays = repeated(150, json!(1), |inner| json!([inner]));
    assert!(message(&json!({ "k": arrays })).contains("allowed is"));
}

#[test]
fn parts_are_bounded() {
    let max = PATTERN_PARTS_MAX;
    let texts = |count: usize| vec!["a"; count];
    // The pattern and the step of its path are two parts, a rule is one.
    let rows: [(Value, Value); 6] = [
        (json!({"k": texts(max - 2)}), json!({"k": texts(max - 1)})),
        (
            json!({"k": [{"prefix": texts(max - 3)}]}),
            json!({"k": [{"prefix": texts(max - 2)}]}),
        ),
        (
            json!({"k": [{"anything-but": texts(max - 3)}]}),
            json!({"k": [{"anything-but": texts(max - 2)}]}),
        ),
        (
            json!({"k": vec![json!({"exists": true}); max - 2]}),
            json!({"k": vec![json!({"exists": true}); max - 1]}),
        ),
        (
            json!({"k": [{"wildcard": "*".repeat(max - 3)}]}),
            json!({"k": [{"wildcard": "*".repeat(max - 2)}]}),
        ),
        (
            json!({"$or": vec![json!({}); max - 1]}),
            json!({"$or": vec![json!({}); max]}),
        ),
    ];
    for (enough, too_many) in rows {
        assert_eq!(Pattern::parse(&enough).unwrap().parts(), max);
        let error = Pattern::parse(&too_many).unwrap_err();
        assert!(matches!(error, PatternError::TooManyParts { .. }), "{error}");
    }
    let mut path = json!({});
    path[".".repeat(max)] = json!([]);
    assert!(message(&path).contains("more than 10000 values"));
    let pairs: Vec<Value> = (0..max)
        .map(|at| if at % 2 == 0 { json!("=") } else { json!(1) })
        .collect();
    assert!(message(&json!({"k": [{ "numeric": pairs }]})).contains("more than 10000"));
}

#[test]
fn hostile_wildcards_take_no_time() {
    let pattern = Pattern::parse(&json!({"k": [{"wildcard": "*aab".repeat(4000)}]})).unwrap();
    assert!(!pattern.matches(&json!({"k": "a".repeat(4 << 20)})));
    assert!(!pattern.matches(&json!({"k": "aab".repeat(3999)})));
    assert!(pattern.matches(&json!({"k": "aab".repeat(4000)})));
}

/// The deepest patterns take little of a stack, for the server matches on whatever stack it has.
#[test]
fn the_deepest_pattern_fits_a_small_stack() {
    let deepest = repeated(
        PATTERN_DEPTH_MAX - 1,
        json!({"k": 1}),
        |inner| json!({ "k": [{ "$or": [inner] }] }),
    );
    let metadata = repeated(
        PATTERN_DEPTH_MAX - 1,
        json!({"k": 1}),
        |inner| json!({ "k": inner }),
    );
    let judge = move || Pattern::parse(&deepest).unwrap().matches(&metadata);
    let thread = std::thread::Builder::new().stack_size(256 << 10).spawn(judge);
    assert!(thread.unwrap().join().unwrap());
}
