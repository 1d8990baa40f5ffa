//! What the command line says to mistakes. No node is needed.

use crate::run::Bench;

/// A failure with nothing on standard output.
#[track_caller]
fn expect_error(line: &str, code: i32, words: &[&str]) {
    let ran = Bench::new().run(line);
    ran.fails(code, words);
    assert!(ran.out.is_empty(), "{line}: {ran:?}");
}

#[test]
fn wrong_usage_is_code_2_with_a_suggestion() {
    expect_error("mofka-ctl", 2, &["Usage"]);
    expect_error("mofka-ctl topik list", 2, &["topik", "topic"]);
    expect_error("mofka-ctl topic list --jsn", 2, &["--jsn", "--json"]);
    expect_error("mofka-ctl topic create", 2, &["<NAME>"]);
    expect_error("mofkactl partition add t --rnk 0", 2, &["--rnk", "--rank"]);
    expect_error("mofkactl partition add t --rank x", 2, &["'x'", "--rank"]);
    expect_error(
        "mofka-ctl consume t --from yesterday",
        2,
        &["yesterday", "cursor, first, last"],
    );
    expect_error("mofka-ctl produce t --batch-size 0", 2, &["batch-size"]);
}

#[test]
fn dotted_options_that_nobody_takes_are_errors() {
    expect_error(
        "mofkactl topic create t --validatr.schema x",
        2,
        &["--validatr.schema", "--validator.schema"],
    );
    expect_error(
        "mofkactl topic create t --config.path x",
        2,
        &["--config.path", "for this command"],
    );
    expect_error("mofka-ctl status --config.a 1", 2, &["--config.a"]);
    expect_error(
        "mofkactl partition add t --config.a",
        2,
        &["--config.a", "no value"],
    );
    expect_error(
        "mofkactl partition add t --config.a 1 --config.a.b 2",
        2,
        &["--config.a.b"],
    );
}

#[test]
fn a_missing_group_file_is_named_with_what_to_do() {
    for command in [
        "status",
        "shutdown",
        "topic list",
        "topic create t",
        "partition add t --rank 0",
        "consume t",
    ] {
        expect_error(
            &format!("mofka-ctl {command}"),
            3,
            &["./mofka.json", "mofka-ctl start", "--groupfile"],
        );
    }
    expect_error(
        "mofkactl topic create t --groupfile other.json",
        3,
        &["other.json"],
    );
    expect_error("bedrock-shutdown na+sm -f other.json", 3, &["other.json"]);
    expect_error("bedrock-query na+sm -f other.json", 3, &["other.json"]);
}

#[test]
fn a_group_file_of_nonsense_is_refused() {
    let bench = Bench::new();
    for content in [
        "",
        "[]",
        "{\"members\": []}",
        "{\"members\": [{}]}",
        "{\"members\": 1}",
    ] {
        std::fs::write(bench.path().join("mofka.json"), content).unwrap();
        let ran = bench.run("mofka-ctl status");
        assert_eq!(ran.code, Some(3), "{content}: {ran:?}");
        assert!(
            ran.err.starts_with("Error: ") && ran.err.contains("mofka.json"),
            "{content}: {ran:?}"
        );
    }
}

#[test]
fn a_node_that_is_gone_is_code_3() {
    let bench = Bench::new();
    let group = "{\"members\": [{\"address\": \"unix:///nowhere/at/all.sock\", \"provider_id\": 1}], \"metadata\": {}}";
    std::fs::write(bench.path().join("mofka.json"), group).unwrap();
    let ran = bench.run("mofka-ctl status");
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.err.contains("/nowhere/at/all.sock"), "{ran:?}");
}

#[test]
fn help_names_the_exit_codes() {
    for line in [
        "mofka-ctl --help",
        "mofkactl --help",
        "bedrock --help",
        "bedrock-shutdown --help",
    ] {
        let ran = Bench::new().run(line);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.out.contains("Exit codes: 0"), "{line}: {ran:?}");
        let name = line.split(' ').next().unwrap();
        assert!(ran.out.contains(&format!("Usage: {name}")), "{line}: {ran:?}");
    }
}

#[test]
fn bedrock_says_what_it_lacks() {
    expect_error("bedrock na+sm --toml -c x", 2, &["--toml"]);
    expect_error("bedrock na+sm -c x -v loud", 2, &["loud"]);
    expect_error("bedrock na+sm --confg x", 2, &["--confg", "--config"]);
    expect_error("bedrock-shutdown na+sm", 2, &["--flock-file"]);
}

#[test]
fn links_are_made_and_made_again() {
    let bench = Bench::new();
    let directory = bench.path().display().to_string();
    for _ in 0..2 {
        let ran = bench.run(&format!("mofka-ctl links {directory}"));
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
    let link = bench.path().join("bedrock-query");
    let target = std::fs::read_link(link).unwrap();
    assert!(target.ends_with("mofka-ctl"), "{}", target.display());
    // What is no link stays.
    let mine = bench.path().join("bedrock");
    std::fs::remove_file(&mine).unwrap();
    std::fs::write(&mine, "mine").unwrap();
    let ran = bench.run(&format!("mofka-ctl links {directory}"));
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(std::fs::read_to_string(mine).unwrap(), "mine");
}
