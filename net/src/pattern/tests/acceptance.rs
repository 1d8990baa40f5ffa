//! All kinds of keys in one pattern.

use serde_json::{Value, json};

use crate::Pattern;

/// All kinds of keys together, in the forms of the original's acceptance test.
fn acceptance_pattern() -> Value {
    json!({
        "a1": "plain",
        "a2": ["one", "two", "three"],
        "b1": [{"anything-but": "red"}],
        "b2": [{"anything-but": ["red", "blue"]}],
        "b3": [{"anything-but": {"prefix": "red_"}}],
        "b4": [{"anything-but": {"prefix": ["red_", "blue_"]}}],
        "b5": [{"anything-but": {"prefix": {"equals-ignore-case": "rED_"}}}],
        "b6": [{"anything-but": {"prefix": {"equals-ignore-case": ["rED_", "bLUE_"]}}}],
        "b7": [{"anything-but": {"suffix": "_red"}}],
        "b8": [{"anything-but": {"suffix": ["_red", "_blue"]}}],
        "b9": [{"anything-but": {"suffix": {"equals-ignore-case": "_rED"}}}],
        "b10": [{"anything-but": {"suffix": {"equals-ignore-case": ["_rED", "_bLUE"]}}}],
        "c1": [{"prefix": "run_"}],
        "c2": [{"prefix": ["run_", "job_"]}],
        "c3": [{"prefix": {"equals-ignore-case": "rUN_"}}],
        "c4": [{"prefix": {"equals-ignore-case": ["rUN_", "jOB_"]}}],
        "d1": [{"suffix": ".h5"}],
        "d2": [{"suffix": [".h5", ".nc"]}],
        "d3": [{"suffix": {"equals-ignore-case": ".H5"}}],
        "d4": [{"suffix": {"equals-ignore-case": [".H5", ".nC"]}}],
        "e1": [{"numeric": ["=", 33]}],
        "e2": [{"numeric": [">", 30, "<=", 34]}],
        "f1": [{"exists": true}],
        "f2": [{"exists": false}],
        "g1": [{"equals-ignore-case": "mIXed"}],
        "g2": [{"equals-ignore-case": ["mIXed", "cASE"]}],
        "h1": [{"wildcard": "abc*def*ghi"}],
        "i1": {"i1_1": "inner"},
        "i2.i2_1": "deep",
        "j1": [{"$or": [{"j1_1": [{"exists": true}]}, {"j1_2": [{"exists": true}]}]}],
    })
}

fn acceptance_metadata() -> Value {
    json!({
        "a1": "plain", "a2": "two",
        "b1": "not red", "b2": "not red", "b3": "not_red_", "b4": "not_blue_",
        "b5": "not_REd_", "b6": "not_BLue_", "b7": "_red_not", "b8": "_blue_not",
        "b9": "_REd_not", "b10": "_BLue_not",
        "c1": "run_7", "c2": "job_7", "c3": "Run_7", "c4": "JOb_7",
        "d1": "file.h5", "d2": "file.nc", "d3": "file.h5", "d4": "file.Nc",
        "e1": 33, "e2": 34,
        "f1": "something",
        "g1": "Mixed", "g2": "Case",
        "h1": "abc---def--ghi",
        "i1": {"i1_1": "inner", "more": 1},
        "i2": {"i2_1": "deep"},
        "j1": {"j1_2": 123},
        "unmentioned": [1, 2],
    })
}

#[test]
fn acceptance_vector() {
    let pattern = Pattern::parse(&acceptance_pattern()).unwrap();
    let metadata = acceptance_metadata();
    assert!(pattern.matches(&metadata));
    let changes = [
        ("a1", json!("Plain")),
        ("a2", json!("four")),
        ("b1", json!("red")),
        ("b2", json!("blue")),
        ("b3", json!("red_1")),
        ("b4", json!("blue_1")),
        ("b5", json!("Red_1")),
        ("b6", json!("BLUE_1")),
        ("b7", json!("1_red")),
        ("b8", json!("1_blue")),
        ("b9", json!("1_Red")),
        ("b10", json!("1_Blue")),
        ("c1", json!("Run_7")),
        ("c2", json!("jobs")),
        ("c3", json!("xrun_7")),
        ("c4", json!("jo_b")),
        ("d1", json!("file.H5")),
        ("d2", json!("file.n")),
        ("d3", json!("file.h5x")),
        ("d4", json!("file_nc")),
        ("e1", json!(33.5)),
        ("e2", json!(30)),
        ("f2", json!(null)),
        ("g1", json!("mixe")),
        ("g2", json!("cased")),
        ("h1", json!("abc-de-ghi")),
        ("i1", json!({"i1_1": "outer"})),
        ("i2", json!({"i2_1": "shallow"})),
        ("j1", json!({"j1_3": 1})),
    ];
    for (key, value) in changes {
        let mut changed = metadata.clone();
        changed[key] = value;
        assert!(!pattern.matches(&changed), "{key}");
    }
    for key in acceptance_pattern()
        .as_object()
        .unwrap()
        .keys()
        .filter(|key| *key != "f2")
    {
        let key = key.split('.').next().unwrap();
        let mut changed = metadata.clone();
        assert!(changed.as_object_mut().unwrap().remove(key).is_some());
        assert!(!pattern.matches(&changed), "without {key}");
    }
    let mut more = metadata;
    more["another"] = json!(1);
    assert!(pattern.matches(&more));
}
