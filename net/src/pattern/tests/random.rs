//! Patterns and metadata of small alphabets, so that they often meet.

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

/// A fixed sample of [`pair`].
pub(super) fn sample(count: usize) -> Vec<(Value, Value)> {
    let mut runner = TestRunner::deterministic();
    let pairs = pair();
    (0..count)
        .map(|_| pairs.new_tree(&mut runner).unwrap().current())
        .collect()
}

/// A pattern, valid most of the time, and metadata.
pub(super) fn pair() -> impl Strategy<Value = (Value, Value)> {
    let empty = |pattern: &Value| pattern.as_object().is_some_and(serde_json::Map::is_empty);
    let pattern = pattern(3).prop_filter("says nothing", move |pattern| !empty(pattern));
    (pattern, data(3))
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![2 => r"[aA]{0,2}", 1 => r"[aAbé*\\]{0,3}"]
}

fn scalar() -> BoxedStrategy<Value> {
    let numbers = vec![
        json!(0),
        json!(1),
        json!(1.0),
        json!(-1),
        json!(0.5),
        json!(u64::MAX),
        json!(u64::MAX - 1),
    ];
    prop_oneof![
        2 => select(numbers),
        1 => select(vec![json!(null), json!(true), json!(false)]),
        6 => text().prop_map(Value::from),
    ]
    .boxed()
}

fn data(depth: u32) -> BoxedStrategy<Value> {
    let objects = |inner: BoxedStrategy<Value>| {
        let fields = prop::collection::btree_map(select(vec!["a", "b", "c"]), inner, 1..6);
        fields.prop_map(|fields| json!(fields))
    };
    let leaf = prop_oneof![
        8 => scalar(),
        1 => prop::collection::vec(scalar(), 0..2).prop_map(Value::from),
    ];
    let mut values = leaf.boxed();
    for _ in 1..depth {
        values = prop_oneof![3 => values.clone(), 1 => objects(values)].boxed();
    }
    prop_oneof![30 => objects(values), 1 => scalar()].boxed()
}

fn one_or_many(values: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    prop_oneof![
        values.clone(),
        prop::collection::vec(values, 0..4).prop_map(Value::from)
    ]
    .boxed()
}

fn pattern(depth: u32) -> BoxedStrategy<Value> {
    let keys = select(vec!["a", "a", "a", "b", "b", "b", "c", "a.b", "b.a", "a.b.c"]);
    let fields = prop::collection::btree_map(keys, right_side(depth), 0..3);
    if depth == 0 {
        return fields.prop_map(|fields| json!(fields)).boxed();
    }
    let either = prop::option::weighted(0.2, patterns(depth - 1));
    (fields, either)
        .prop_map(|(fields, either)| {
            let mut pattern = json!(fields);
            if let Some(either) = either {
                pattern["$or"] = either;
            }
            pattern
        })
        .boxed()
}

fn patterns(depth: u32) -> BoxedStrategy<Value> {
    prop::collection::vec(pattern(depth), 0..4)
        .prop_map(Value::from)
        .boxed()
}

fn right_side(depth: u32) -> BoxedStrategy<Value> {
    let rules = prop::collection::vec(rule(depth), 1..4).prop_map(Value::from);
    let wrong = prop::collection::vec(prop_oneof![rule(0), scalar(), Just(json!([]))], 0..3);
    let flat = prop_oneof![
        10 => one_or_many(scalar()),
        30 => rules,
        4 => wrong.prop_map(Value::from),
    ];
    if depth == 0 {
        flat.boxed()
    } else {
        prop_oneof![8 => flat, 2 => pattern(depth - 1)].boxed()
    }
}

fn rule(depth: u32) -> BoxedStrategy<Value> {
    let named = |name: &'static str, operands: BoxedStrategy<Value>| {
        operands.prop_map(move |operand| json!({ name: operand })).boxed()
    };
    let texts = || one_or_many(text().prop_map(Value::from).boxed());
    let affixes = || prop_oneof![texts(), named("equals-ignore-case", texts())].boxed();
    let operators = select(vec!["=", ">", ">=", "<", "<="]);
    let comparison = (
        operators,
        select(vec![json!(0), json!(1), json!(0.5), json!(-1.0)]),
    );
    let comparisons = prop::collection::vec(comparison, 0..3).prop_map(|pairs| {
        let items = pairs
            .into_iter()
            .flat_map(|(operator, number)| [json!(operator), number]);
        Value::from(items.collect::<Vec<_>>())
    });
    let exists = any::<bool>().prop_map(Value::from).boxed();
    let wrong =
        (select(NAMES.to_vec()), one_or_many(scalar())).prop_map(|(name, operand)| json!({ name: operand }));
    let flat = prop_oneof![
        10 => named("anything-but", one_or_many(scalar())),
        10 => named("prefix", affixes()),
        10 => named("suffix", affixes()),
        10 => named("equals-ignore-case", texts()),
        10 => named("numeric", comparisons.boxed()),
        20 => named("exists", exists),
        10 => named("wildcard", text().prop_map(Value::from).boxed()),
        6 => wrong,
    ];
    if depth == 0 {
        return flat.boxed();
    }
    prop_oneof![
        8 => flat,
        1 => named("$or", patterns(depth - 1)),
        1 => named("anything-but", rule(depth - 1)),
    ]
    .boxed()
}

/// Names of the rules, and others.
pub(super) const NAMES: [&str; 11] = [
    "anything-but",
    "prefix",
    "suffix",
    "equals-ignore-case",
    "numeric",
    "exists",
    "$or",
    "wildcard",
    "a",
    "a.b",
    "nope",
];

/// Any JSON; its keys are often names of rules.
pub(super) fn anything() -> impl Strategy<Value = Value> {
    let texts = prop_oneof![
        any::<String>(),
        text(),
        select(vec!["=", "<", ">="]).prop_map(str::to_owned)
    ];
    let leaf = prop_oneof![
        scalar(),
        texts.prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
    ];
    leaf.prop_recursive(8, 64, 4, |inner| {
        let keys = prop_oneof![4 => select(NAMES.to_vec()).prop_map(str::to_owned), 1 => any::<String>()];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(keys, inner, 0..3).prop_map(|fields| json!(fields)),
        ]
    })
}
