//! What each condition holds for.

use serde_json::{Value, json};

use super::matches;
use crate::Pattern;

/// Checks a table: what is right of the key `k`, values at `k` that match, values that do not. Then without `k`.
fn check_rows(rows: &[(Value, Value, Value, bool)]) {
    for (condition, yes, no, missing) in rows {
        let pattern = Pattern::parse(&json!({ "k": condition })).unwrap();
        for value in yes.as_array().unwrap() {
            assert!(pattern.matches(&json!({ "k": value })), "{condition} {value}");
        }
        for value in no.as_array().unwrap() {
            assert!(!pattern.matches(&json!({ "k": value })), "{condition} {value}");
        }
        for metadata in [
            json!({}),
            json!({"other": 1}),
            json!(1),
            json!(["k"]),
            json!(null),
        ] {
            assert_eq!(pattern.matches(&metadata), *missing, "{condition} {metadata}");
        }
    }
}

#[test]
fn values_are_compared_as_a_whole() {
    check_rows(&[
        (
            json!("a"),
            json!(["a"]),
            json!(["A", "ab", "", 1, ["a"], {"a": 1}, null]),
            false,
        ),
        (json!(true), json!([true]), json!([false, 1, "true"]), false),
        (json!(null), json!([null]), json!([false, 0, "", [], {}]), false),
        (json!(1), json!([1, 1.0]), json!([2, 1.5, "1", true, [1]]), false),
        (json!(2.5), json!([2.5]), json!([2, "2.5"]), false),
        (json!(-0.0), json!([0, 0.0]), json!([1]), false),
        (
            json!(u64::MAX),
            json!([u64::MAX]),
            json!([u64::MAX - 1, -1]),
            false,
        ),
        (
            json!(["a", 1, null]),
            json!(["a", 1, 1.0, null]),
            json!(["b", 2, ["a"], ["a", 1, null], {}]),
            false,
        ),
        (json!([]), json!([]), json!([null, [], {}, ""]), false),
    ]);
}

#[test]
fn rules_of_texts() {
    check_rows(&[
        (
            json!([{"prefix": "ab"}]),
            json!(["ab", "abc"]),
            json!(["a", "Ab", "cab", "", 1, ["ab"], null]),
            false,
        ),
        (
            json!([{"prefix": ["a", "bé"]}]),
            json!(["ax", "bé!"]),
            json!(["b", "be", "bè"]),
            false,
        ),
        (json!([{"prefix": ""}]), json!(["", "x"]), json!([0]), false),
        (json!([{"prefix": []}]), json!([]), json!(["", "x"]), false),
        (
            json!([{"prefix": {"equals-ignore-case": "aB"}}]),
            json!(["Abc", "ab"]),
            json!(["a", "b", "xab"]),
            false,
        ),
        (
            json!([{"prefix": {"equals-ignore-case": ["x", "É"]}}]),
            json!(["Xy", "Éa"]),
            json!(["éa", "y"]),
            false,
        ),
        (
            json!([{"suffix": "ab"}]),
            json!(["ab", "cab"]),
            json!(["b", "aB", "abc", "", 1]),
            false,
        ),
        (
            json!([{"suffix": ["a", "é"]}]),
            json!(["xa", "é"]),
            json!(["b", "è", "©"]),
            false,
        ),
        (
            json!([{"suffix": {"equals-ignore-case": ["aB", "q"]}}]),
            json!(["cAB", "Q"]),
            json!(["b", "abc"]),
            false,
        ),
        (
            json!([{"equals-ignore-case": "aB"}]),
            json!(["ab", "AB"]),
            json!(["a", "abc", 1, null]),
            false,
        ),
        (
            json!([{"equals-ignore-case": ["aB", "É"]}]),
            json!(["Ab", "É"]),
            json!(["é", ""]),
            false,
        ),
        (
            json!([{"equals-ignore-case": []}]),
            json!([]),
            json!(["", "a"]),
            false,
        ),
    ]);
}

#[test]
fn wildcards_are_literal_but_for_stars_and_their_escapes() {
    check_rows(&[
        (
            json!([{"wildcard": "a*b*c"}]),
            json!(["abc", "a1b2c", "abbcc", "a\nbc"]),
            json!(["ab", "acb", "abcd", "xabc"]),
            false,
        ),
        (
            json!([{"wildcard": "*"}]),
            json!(["", "*", "abc"]),
            json!([1, null, ["a"]]),
            false,
        ),
        (json!([{"wildcard": ""}]), json!([""]), json!(["a"]), false),
        (
            json!([{"wildcard": "**a**"}]),
            json!(["a", "bab"]),
            json!(["", "b"]),
            false,
        ),
        (
            json!([{"wildcard": "ab*ba"}]),
            json!(["abba", "ab-ba"]),
            json!(["aba", "ab", "ba"]),
            false,
        ),
        (
            json!([{"wildcard": "*a*b*"}]),
            json!(["ab", "ab-a", "b-abba"]),
            json!(["ba", "aa"]),
            false,
        ),
        (
            json!([{"wildcard": "*ab*ab"}]),
            json!(["abab", "ababab"]),
            json!(["ab", "aab"]),
            false,
        ),
        (
            json!([{"wildcard": "a.c+(d)?[e]$"}]),
            json!(["a.c+(d)?[e]$"]),
            json!(["abc", "abcd"]),
            false,
        ),
        (
            json!([{"wildcard": r"a\*b"}]),
            json!(["a*b"]),
            json!(["ab", "a-b", r"a\*b"]),
            false,
        ),
        (
            json!([{"wildcard": r"a\\*"}]),
            json!([r"a\", r"a\b"]),
            json!(["a*", r"a"]),
            false,
        ),
        (
            json!([{"wildcard": r"a\\\*"}]),
            json!([r"a\*"]),
            json!([r"a\", r"a\b"]),
            false,
        ),
        (
            json!([{"wildcard": r"\n\"}]),
            json!([r"\n\"]),
            json!(["\n", r"n\", r"\n"]),
            false,
        ),
        (
            json!([{"wildcard": "é*é"}]),
            json!(["éé", "é日é"]),
            json!(["é", "e-e"]),
            false,
        ),
    ]);
}

#[test]
fn rules_of_other_values() {
    check_rows(&[
        (
            json!([{"numeric": [">", 1, "<=", 5]}]),
            json!([1.5, 5, 5.0]),
            json!([1, 5.1, -3, "2", null, [2]]),
            false,
        ),
        (
            json!([{"numeric": ["=", 1]}]),
            json!([1, 1.0]),
            json!([2, "1", true]),
            false,
        ),
        (
            json!([{"numeric": [">=", -1, "<", 0.5, "<", 7]}]),
            json!([-1, 0]),
            json!([0.5, -1.1]),
            false,
        ),
        (
            json!([{"numeric": []}]),
            json!([0, -1.5]),
            json!(["0", null]),
            false,
        ),
        (
            json!([{"exists": true}]),
            json!([0, null, "", [], {}]),
            json!([]),
            false,
        ),
        (
            json!([{"exists": false}]),
            json!([]),
            json!([0, null, [], {}]),
            true,
        ),
        (
            json!([{"anything-but": "a"}]),
            json!(["b", 1, null, ["a"]]),
            json!(["a"]),
            false,
        ),
        (
            json!([{"anything-but": null}]),
            json!(["b", 1]),
            json!([null]),
            false,
        ),
        (
            json!([{"anything-but": ["a", 1]}]),
            json!(["b", 2, {}]),
            json!(["a", 1, 1.0]),
            false,
        ),
        (
            json!([{"anything-but": []}]),
            json!(["a", null]),
            json!([]),
            false,
        ),
        (
            json!([{"anything-but": {"prefix": "a"}}]),
            json!(["b", 1, null]),
            json!(["a", "ab"]),
            false,
        ),
        (
            json!([{"anything-but": {"wildcard": "a*c"}}]),
            json!(["ab"]),
            json!(["abc"]),
            false,
        ),
        (
            json!([{"anything-but": {"numeric": [">", 3]}}]),
            json!([3, "4"]),
            json!([4]),
            false,
        ),
        (
            json!([{"anything-but": {"anything-but": "a"}}]),
            json!(["a"]),
            json!(["b", null]),
            false,
        ),
        (
            json!([{"anything-but": {"exists": false}}]),
            json!([1, null]),
            json!([]),
            false,
        ),
        (
            json!([{"anything-but": {"exists": true}}]),
            json!([]),
            json!([1, null]),
            false,
        ),
    ]);
}

#[test]
fn any_rule_of_an_array_is_enough_also_for_what_is_missing() {
    check_rows(&[
        (
            json!([{"prefix": "a"}, {"suffix": "b"}]),
            json!(["ax", "xb"]),
            json!(["x", "ba"]),
            false,
        ),
        (
            json!([{"prefix": "a"}, {"exists": false}]),
            json!(["ax"]),
            json!(["x", null]),
            true,
        ),
        (
            json!([{"exists": false}, {"anything-but": "a"}]),
            json!(["b"]),
            json!(["a"]),
            true,
        ),
        (
            json!([{"exists": false}, {"exists": true}]),
            json!([null, 1]),
            json!([]),
            true,
        ),
    ]);
}

#[test]
fn patterns_inside_patterns() {
    check_rows(&[
        (json!({}), json!([1, null, {}, {"x": 1}]), json!([]), false),
        (
            json!({"x": 1, "y": 2}),
            json!([{"x": 1, "y": 2, "z": 3}]),
            json!([{"x": 1}, {"x": 1, "y": 1}, 1, [], null]),
            false,
        ),
        (
            json!({"x": [{"exists": false}]}),
            json!([{}, 1, null]),
            json!([{"x": null}]),
            false,
        ),
        (
            json!({"$or": [{"x": 1}, {"y": 2}]}),
            json!([{"x": 1}, {"y": 2}]),
            json!([{"x": 2}, {}, 1]),
            false,
        ),
        (
            json!([{"$or": [{"x": 1}, {"y.z": 2}]}]),
            json!([{"x": 1}, {"y": {"z": 2}}]),
            json!([{"x": 2}, {}, 1]),
            false,
        ),
        (
            json!([{"$or": [{"x": [{"exists": false}]}]}]),
            json!([{}, 1]),
            json!([{"x": 1}]),
            false,
        ),
        (json!([{"$or": []}]), json!([]), json!([{}, null]), false),
        (
            json!([{"anything-but": {"$or": [{"x": 1}]}}]),
            json!([{}, 1]),
            json!([{"x": 1}]),
            false,
        ),
    ]);
}

#[test]
fn or_at_the_top_is_one_more_condition() {
    let pattern = json!({"a": 1, "$or": [{"b": 2}, {"c": {"$or": [{"d": 3}, {"e": [{"exists": false}]}]}}]});
    for metadata in [
        json!({"a": 1, "b": 2}),
        json!({"a": 1, "c": {"d": 3, "e": 0}}),
        json!({"a": 1, "c": {}}),
    ] {
        assert!(matches(&pattern, &metadata), "{metadata}");
    }
    for metadata in [
        json!({"b": 2}),
        json!({"a": 1}),
        json!({"a": 1, "b": 3}),
        json!({"a": 1, "c": {"d": 4, "e": 0}}),
        json!({"a": 1, "$or": 1}),
    ] {
        assert!(!matches(&pattern, &metadata), "{metadata}");
    }
    assert!(!matches(&json!({"$or": []}), &json!({})));
}

#[test]
fn dotted_paths_descend_through_objects_only() {
    let pattern = json!({"a.b.c": 1});
    assert!(matches(&pattern, &json!({"a": {"b": {"c": 1}}})));
    for metadata in [
        json!({"a.b.c": 1}),
        json!({"a": {"b.c": 1}}),
        json!({"a": {"b": 1}}),
        json!({"a": [{"b": {"c": 1}}]}),
        json!({"a": null}),
    ] {
        assert!(!matches(&pattern, &metadata), "{metadata}");
        assert!(matches(&json!({"a.b.c": [{"exists": false}]}), &metadata));
    }
    assert!(!matches(&json!({"a.0": 1}), &json!({"a": [1]})));
    assert!(matches(&json!({"a..b": 1}), &json!({"a": {"": {"b": 1}}})));
    assert!(matches(&json!({"": 1}), &json!({"": 1})));
    assert!(matches(&json!({"a.$or": 1}), &json!({"a": {"$or": 1}})));
    assert!(matches(&json!({}), &json!(7)));
}
