//! `config check|generate|explain`, and `generate`: what needs `mofkad`, and no node.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::run::Bench;

const WRONG: &str = "{\n  \"shard\": 2,\n  \"direct_io\": \"requre\",\n  \"limits\": {\"connections_max\": 0},\n  \"listen\": []\n}\n";

#[test]
fn a_check_says_all_that_is_wrong_as_a_start_does() {
    let bench = Bench::with_daemon();
    fs::write(bench.path().join("bad.json"), WRONG).unwrap();
    let ran = bench.run("mofka-ctl config check bad.json");
    ran.fails(4, &["4 errors in bad.json", "no node starts with it"]);
    assert_eq!(
        ran.out,
        "line 2 column 3: unknown key \"shard\"; did you mean \"shards\"?\n\
         line 3 column 16: \"direct_io\": unknown variant `requre`, expected `require` or `auto`; did you mean \"require\"?\n\
         line 4 column 33: \"limits.connections_max\" is 0, which would let nothing through\n\
         line 5 column 13: \"listen\" is empty: nobody could reach the node\n"
    );
    let told: Value = serde_json::from_str(&bench.run("mofka-ctl --json config check bad.json").out).unwrap();
    assert_eq!(
        told["errors"][0],
        json!({"pointer": "/shard", "line": 2, "column": 3, "message": "unknown key \"shard\"", "suggestion": "shards"})
    );
    // A start says the same.
    bench.run("mofka-ctl start -c bad.json").fails(
        1,
        &[
            "unknown key \"shard\" (line 2 column 3)",
            "limits.connections_max",
            "\"listen\" is empty",
        ],
    );
    fs::write(bench.path().join("none.json"), "{\"a\" 1}").unwrap();
    let ran = bench.run("mofka-ctl config check none.json");
    assert!(
        ran.code == Some(4) && ran.out.starts_with("line 1 column 6: not JSON"),
        "{ran:?}"
    );
    bench
        .run("mofka-ctl config check absent.json")
        .fails(1, &["absent.json", "could not read"]);
}

#[test]
fn a_bedrock_configuration_is_told_with_what_becomes_of_it() {
    let bench = Bench::with_daemon();
    let made = bench
        .run("mofkactl config generate -a tcp -m 2 --master-db-needs-persistence --master-db-path-prefixes /nvme")
        .ok();
    fs::write(bench.path().join("bedrock.json"), &made).unwrap();
    let text = bench.run("mofka-ctl config check bedrock.json").ok();
    for words in [
        "Bedrock configuration",
        "\"libraries\" are not loaded",
        "provider \"metadata_1\" (yokan) is not needed",
        "group_file is mofka.flock.json",
        "data_dir is /nvme/master",
        "nothing is wrong",
    ] {
        assert!(text.contains(words), "no {words:?} in {text}");
    }
    let told: Value =
        serde_json::from_str(&bench.run("mofka-ctl --json config check bedrock.json").ok()).unwrap();
    assert_eq!(
        (&told["form"], &told["settings"]["data_dir"]),
        (&json!("bedrock"), &json!("/nvme/master"))
    );
    bench.run("mofkactl config generate").fails(2, &["--address"]);
    bench
        .run("mofkactl config generate -a tcp -p 2,1")
        .fails(2, &["FIRST,LAST"]);
}

#[test]
fn what_is_generated_starts_a_node_with_what_was_asked_for() {
    let bench = Bench::with_daemon();
    let made = bench
        .run("mofka-ctl config generate --shards 1 --data-dir stored --set limits.connections_max=17 --set log_format=json")
        .ok();
    let config: Value = serde_json::from_str(&made).unwrap();
    assert_eq!(
        (&config["limits"]["connections_max"], &config["pin"]),
        (&json!(17), &json!(true))
    );
    fs::write(bench.path().join("made.json"), &made).unwrap();
    let checked = bench.run("mofka-ctl config check made.json").ok();
    assert_eq!(checked, "made.json: nothing is wrong\n");
    bench.run("mofka-ctl start -c made.json").ok();
    assert_eq!(
        bench.run("mofka-ctl config get limits.connections_max").ok(),
        "17\n"
    );
    assert!(bench.path().join("stored/catalog").exists());
    let minimal = bench
        .run("mofka-ctl config generate --minimal -g there.json --listen na+sm --monitoring 127.0.0.1:0")
        .ok();
    let minimal: Value = serde_json::from_str(&minimal).unwrap();
    assert_eq!(
        minimal,
        json!({"group_file": "there.json", "listen": ["na+sm"], "monitoring": {"listen": "127.0.0.1:0"}})
    );
    for (arguments, words) in [
        ("--shards 0", "\"shards\" is 0"),
        ("--set limits.heartbeat=1", "did you mean \"heartbeat_ms\"?"),
        ("--set pin", "KEY=VALUE"),
        ("--set pin.x=1", "nothing is inside"),
    ] {
        bench
            .run(&format!("mofka-ctl config generate {arguments}"))
            .fails(2, &[words]);
    }
}

#[test]
fn settings_are_explained() {
    let bench = Bench::with_daemon();
    let text = bench.run("mofka-ctl config explain limits.heartbeat_ms").ok();
    for words in [
        "default  10000",
        "unit     milliseconds",
        "bounds   at least 1",
        "closed after three",
    ] {
        assert!(text.contains(words), "no {words:?} in {text}");
    }
    assert!(
        bench
            .run("mofka-ctl config explain log_level")
            .ok()
            .contains("live     yes")
    );
    let all: Value = serde_json::from_str(&bench.run("mofka-ctl --json config explain").ok()).unwrap();
    let limits: Value =
        serde_json::from_str(&bench.run("mofka-ctl --json config explain limits").ok()).unwrap();
    let count = |value: &Value| value.as_array().unwrap().len();
    assert!(count(&all) > count(&limits) && count(&limits) > 20);
    assert!(
        bench
            .run("mofka-ctl config explain")
            .ok()
            .contains("monitoring.listen")
    );
    bench
        .run("mofka-ctl config explain log_levl")
        .fails(2, &["did you mean \"log_level\"?"]);
    bench
        .run("mofka-ctl config explain rings_max")
        .fails(2, &["did you mean \"limits.rings_max\"?"]);
}

#[test]
fn bash_completes_commands_of_both_programs() {
    let bench = Bench::with_daemon();
    for name in ["mofka-ctl", "mofkactl", "mofkad"] {
        let script = bench
            .run(&format!("mofka-ctl generate completions bash --name {name}"))
            .ok();
        fs::write(bench.path().join(name.to_owned() + ".bash"), script).unwrap();
        for shell in ["zsh", "fish"] {
            let script = bench
                .run(&format!("mofka-ctl generate completions {shell} --name {name}"))
                .ok();
            assert!(script.contains(name), "{shell} {name}");
        }
    }
    // As bash calls it: the words, which of them the cursor is in, and the answer in COMPREPLY.
    let completed = |name: &str, words: &[&str]| {
        let program = "source \"$1.bash\" && shift 1 && COMP_WORDS=(\"$@\") && COMP_CWORD=$(($# - 1)) \
                       && f=$(complete -p \"$1\" | sed 's/.*-F \\([^ ]*\\).*/\\1/') \
                       && $f \"$1\" \"${@: -1}\" \"${@: -2:1}\"; echo \"${COMPREPLY[*]}\"";
        let ran = Command::new("bash")
            .args(["--norc", "-c", program, "bash", name, name])
            .args(words)
            .current_dir(bench.path())
            .output()
            .unwrap();
        assert!(ran.stderr.is_empty(), "{ran:?}");
        String::from_utf8(ran.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(completed("mofka-ctl", &["topic", "des"]), "describe");
    assert_eq!(completed("mofka-ctl", &["tail", "t", "--sep"]), "--separator");
    assert_eq!(completed("mofkactl", &["partition", "a"]), "add");
    assert_eq!(completed("mofkad", &["--data"]), "--data-dir");
    bench
        .run("mofka-ctl generate completions bash --name bash")
        .fails(2, &["mofka-ctl, mofkactl and mofkad"]);
}

#[test]
fn manual_pages_are_written_for_every_command() {
    let bench = Bench::with_daemon();
    assert_eq!(bench.run("mofka-ctl generate man man1").ok(), "");
    let pages: Vec<String> = fs::read_dir(bench.path().join("man1"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for page in [
        "mofka-ctl.1",
        "mofka-ctl-topic-create.1",
        "mofka-ctl-consumer-delete.1",
        "mofkad.1",
    ] {
        assert!(pages.iter().any(|found| found == page), "no {page} in {pages:?}");
    }
    let text = fs::read_to_string(bench.path().join("man1/mofka-ctl-consumer-lag.1")).unwrap();
    assert!(text.contains("--max") || text.contains("\\-\\-max"), "{text}");
    // A formatter that is there must have nothing to say.
    let groff = Command::new("groff").arg("--version").output();
    let Ok(_) = groff else {
        eprintln!("SKIPPED: groff is not installed, so that no page is rendered");
        return;
    };
    for page in pages {
        let ran = Command::new("groff")
            .args(["-Kutf8", "-man", "-Tutf8", "-ww", "-z"])
            .arg(bench.path().join("man1").join(&page))
            .output()
            .unwrap();
        assert!(
            ran.status.success() && ran.stderr.is_empty(),
            "{page}: {}",
            String::from_utf8_lossy(&ran.stderr)
        );
    }
}
