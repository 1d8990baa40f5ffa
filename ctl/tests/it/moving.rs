//! `partition move`: from one shard to another, with all that the partition has.

use serde_json::{Value, json};

use crate::run::Bench;

#[test]
fn a_partition_moves_to_another_shard_with_its_events_and_cursors() {
    let bench = Bench::with_daemon();
    bench.run("mofka-ctl start --shards 2 --data-dir ./data").ok();
    bench.run("mofka-ctl topic create t --partitions 2").ok();
    let lines: String = (0..20).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    bench.run_with_input("mofka-ctl produce t", lines.as_bytes()).ok();
    bench.run("mofka-ctl consume t --consumer me --count 6").ok();
    let shards = || -> Vec<u64> {
        let listed: Value =
            serde_json::from_str(&bench.run("mofka-ctl partition list t --json").ok()).unwrap();
        listed
            .as_array()
            .unwrap()
            .iter()
            .map(|partition| partition["info"]["shard"].as_u64().unwrap())
            .collect()
    };
    let lag = || -> u64 {
        let listed: Value =
            serde_json::from_str(&bench.run("mofka-ctl consumer list t --json").ok()).unwrap();
        let mine = listed
            .as_array()
            .unwrap()
            .iter()
            .filter(|consumer| consumer["consumer"] == "me");
        mine.map(|consumer| consumer["lag"].as_u64().unwrap()).sum()
    };
    let (before, lag_before) = (shards(), lag());
    assert_eq!(before, [0, 1]);
    bench
        .run("mofka-ctl partition move t 0 --shard 1 --data-dir ./data")
        .fails(1, &["in use", "mofka-ctl shutdown"]);
    bench.run("mofka-ctl shutdown").ok();
    for (line, words) in [
        ("t 7 --shard 1 --data-dir ./data", ["no partition 7", "\"t\""]),
        ("u 0 --shard 1 --data-dir ./data", ["no topic \"u\"", "catalog"]),
        (
            "t 0 --shard 1 --data-dir ./elsewhere",
            ["./elsewhere", "--data-dir"],
        ),
    ] {
        bench
            .run(&format!("mofka-ctl partition move {line}"))
            .fails(1, &words);
    }
    let moved = bench
        .run("mofka-ctl partition move t 0 --shard 1 --data-dir ./data --json")
        .ok();
    let moved: Value = serde_json::from_str(&moved).unwrap();
    assert_eq!(
        moved,
        json!({"topic": "t", "partition": 0, "from_shard": 0, "to_shard": 1})
    );
    bench.run("mofka-ctl log verify ./data").ok();
    bench.run("mofka-ctl start --shards 2 --data-dir ./data").ok();
    assert_eq!((shards(), lag()), (vec![1, 1], lag_before));
    let all = bench.run("mofka-ctl consume t --consumer other --count 20").ok();
    assert_eq!(all.lines().count(), 20);
}
