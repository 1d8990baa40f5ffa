//! `diaspora-ctl`: names, options and exit codes of the original.

use crate::run::{Bench, Ran};

#[track_caller]
fn fails(ran: &Ran, words: &[&str]) {
    assert_eq!((ran.code, ran.err.as_str()), (Some(1), ""), "{ran:?}");
    words
        .iter()
        .for_each(|word| assert!(ran.out.contains(word), "no {word:?} in {ran:?}"));
}

#[test]
fn usage_and_errors_go_to_standard_output_with_code_1() {
    let bench = Bench::new();
    fails(&bench.run("diaspora-ctl"), &["Usage"]);
    fails(&bench.run("diaspora-ctl topik"), &["topik", "Usage"]);
    fails(&bench.run("diaspora-ctl topic"), &["Usage"]);
    fails(
        &bench.run("diaspora-ctl topic create --name t"),
        &["Argument error", "--driver"],
    );
    fails(
        &bench.run("diaspora-ctl topic list --driver files"),
        &["Argument error", "\"files\"", "mofka"],
    );
    fails(
        &bench.run("diaspora-ctl topic list --driver mofka"),
        &["group_file"],
    );
    fails(
        &bench.run("diaspora-ctl topic list --driver mofka --driver-config none.json"),
        &["Error: cannot read none.json"],
    );
    fails(
        &bench.run("diaspora-ctl topic list --driver mofka --driver.group_file none.json --topic.x 1"),
        &["--topic.x"],
    );
    fails(
        &bench.run("diaspora-ctl forward --config none.yaml"),
        &["Fatal error: ", "none.yaml"],
    );
    let help = bench.run("diaspora-ctl --help").ok();
    assert!(help.contains("Usage"), "{help}");
}

#[test]
fn topics_are_created_and_listed() {
    let bench = Bench::with_daemon();
    bench.run("mofka-ctl start --shards 1").ok();
    std::fs::write(
        bench.path().join("driver.json"),
        r#"{"group_file": "wrong.json", "margo": {}}"#,
    )
    .unwrap();
    let driver = "--driver mofka --driver-config driver.json --driver.group_file mofka.json \
                  --driver.margo.use_progress_thread true";
    assert_eq!(bench.run(&format!("diaspora-ctl topic list {driver}")).ok(), "");
    let create = format!("diaspora-ctl topic create {driver} --name t --topic.num_partitions 2");
    let created = bench.run(&create).ok();
    assert!(
        created.contains("[info] Topic 't' created successfully"),
        "{created}"
    );
    fails(&bench.run(&create), &["Error: ", "\"t\""]);
    assert_eq!(
        bench.run(&format!("diaspora-ctl topic list {driver}")).ok(),
        "t\n"
    );
    let verbose = bench.run(&format!("diaspora-ctl topic list {driver} -v")).ok();
    assert!(verbose.starts_with("t {"), "{verbose}");
    let partitions = bench.run("mofka-ctl partition list t").ok();
    assert_eq!(partitions.matches("memory").count(), 2, "{partitions}");
}
