//! What `--help` shows of each command in use.

use clap::Command;

/// A command's words, and lines that can be typed as they are, given such files and topics.
const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "start",
        &[
            "mofka-ctl start",
            "mofka-ctl start -c mofkad.json --log-file /var/log/mofkad.log",
            "mofka-ctl start --listen tcp://0.0.0.0:7000 --data-dir /nvme/mofka --shards 4",
        ],
    ),
    (
        "shutdown",
        &[
            "mofka-ctl shutdown",
            "mofka-ctl shutdown -g /run/mofka/mofka.json --timeout 300",
        ],
    ),
    (
        "status",
        &[
            "mofka-ctl status",
            "mofka-ctl --json status | jq '.shards[].partitions[].state'",
        ],
    ),
    (
        "config get",
        &[
            "mofka-ctl config get",
            "mofka-ctl config get limits.connections_max",
        ],
    ),
    (
        "config set",
        &["mofka-ctl config set log_level info,mofka_engine=debug"],
    ),
    (
        "config check",
        &[
            "mofka-ctl config check mofkad.json",
            "mofka-ctl --json config check bedrock.json | jq -r '.notes[]'",
        ],
    ),
    (
        "config generate",
        &[
            "mofka-ctl config generate > mofkad.json",
            "mofka-ctl config generate --minimal --data-dir /nvme/mofka --listen tcp://0.0.0.0:7000 --set direct_io=auto",
        ],
    ),
    (
        "config explain",
        &[
            "mofka-ctl config explain",
            "mofka-ctl config explain limits.heartbeat_ms",
            "mofka-ctl --json config explain limits | jq -r '.[].key'",
        ],
    ),
    (
        "topic create",
        &[
            "mofka-ctl topic create logs --partitions 4",
            "mofka-ctl topic create frames --durability written --retention-bytes 500GB --retention-age 7d",
            "mofka-ctl topic create logs --validator schema --validator.schema.type object --partitions 1",
        ],
    ),
    (
        "topic list",
        &[
            "mofka-ctl topic list",
            "mofka-ctl --json topic list | jq -r '.[].name'",
        ],
    ),
    (
        "topic describe",
        &[
            "mofka-ctl topic describe logs",
            "mofka-ctl --json topic describe logs | jq .retention",
        ],
    ),
    (
        "topic alter",
        &[
            "mofka-ctl topic alter logs --retention-age 36h",
            "mofka-ctl topic alter logs --retention-bytes none --retention-keep-unacknowledged=archive",
        ],
    ),
    (
        "topic delete",
        &[
            "mofka-ctl topic delete logs",
            "mofka-ctl topic delete frames --force",
        ],
    ),
    (
        "topic complete",
        &[
            "mofka-ctl topic complete logs",
            "mofka-ctl topic complete logs --partition 2",
        ],
    ),
    (
        "partition add",
        &[
            "mofka-ctl partition add logs",
            "mofka-ctl partition add scratch --type memory --shard 1",
        ],
    ),
    (
        "partition move",
        &[
            "mofka-ctl partition move frames 2 --shard 1",
            "mofka-ctl --json partition move frames 2 --shard 1 --data-dir /nvme/mofka | jq .from_shard",
        ],
    ),
    ("partition list", &["mofka-ctl partition list logs"]),
    ("partition describe", &["mofka-ctl partition describe logs 0"]),
    (
        "produce",
        &[
            "mofka-ctl produce logs events.jsonl",
            "journalctl -f -o json | mofka-ctl produce logs",
            "mofka-ctl produce logs --raw --metadata '{\"from\": \"nginx\"}' /var/log/nginx/access.log",
            "mofka-ctl tail logs --from first --timeout 1 | mofka-ctl produce copy --format event",
            "mofka-ctl produce frames --stream image.tiff --metadata '{\"run\": 17}'",
        ],
    ),
    (
        "consume",
        &[
            "mofka-ctl consume logs --consumer archive",
            "mofka-ctl consume logs -c archive --count 1000 --ack-every 100",
            "mofka-ctl consume logs -c lines --format raw > lines.log",
            "mofka-ctl consume logs -c looking --count 1 | jq .metadata",
            "mofka-ctl consume frames -c heads --data 0..16 --format '{id} {data:hex}'",
            "mofka-ctl consume frames -c viewer --from @-3600 --filter '{\"run\": [17]}' --data-to ./frames",
        ],
    ),
    (
        "tail",
        &[
            "mofka-ctl tail logs",
            "mofka-ctl tail logs --from first --filter '{\"level\": [\"FATAL\"]}' --data none",
            "mofka-ctl tail logs --format '{time} {partition}/{id} {metadata.level} {data}'",
            "mofka-ctl tail logs --from-time -600 --timeout 1 | jq .metadata",
        ],
    ),
    ("consumer describe", &["mofka-ctl consumer describe logs archive"]),
    (
        "consumer lag",
        &[
            "mofka-ctl consumer lag logs",
            "mofka-ctl consumer lag logs archive --max 100000",
        ],
    ),
    (
        "consumer delete",
        &[
            "mofka-ctl consumer delete logs archive",
            "mofka-ctl consumer delete logs archive --partition 2",
        ],
    ),
    ("consumer list", &["mofka-ctl consumer list logs"]),
    (
        "consumer seek",
        &[
            "mofka-ctl consumer seek logs archive first",
            "mofka-ctl consumer seek logs archive @-3600 --partition 2",
        ],
    ),
    (
        "forward",
        &[
            "mofka-ctl forward --config forward.yaml",
            "mofka-ctl --json forward --config /etc/mofka/forward.toml --logging warn > forward.log",
        ],
    ),
    (
        "fifo",
        &[
            "mofka-ctl fifo --control-file ./control",
            "mofka-ctl -g /run/mofka/mofka.json fifo --control-file /run/mofka/fifo",
        ],
    ),
    ("demo", &["mofka-ctl demo", "mofka-ctl demo --dir /nvme --keep"]),
    (
        "generate completions",
        &[
            "mofka-ctl generate completions bash > ~/.local/share/bash-completion/completions/mofka-ctl",
            "mofka-ctl generate completions zsh --name mofkad > _mofkad",
        ],
    ),
    (
        "generate man",
        &["mofka-ctl generate man ~/.local/share/man/man1"],
    ),
    ("links", &["mofka-ctl links ~/.local/bin"]),
    (
        "top",
        &[
            "mofka-ctl top",
            "mofka-ctl top --view consumers --interval 5s",
            "mofka-ctl top --once",
            "mofka-ctl --json top --once | jq '.consumers[] | select(.lag > 1000)'",
        ],
    ),
    (
        "doctor",
        &[
            "mofka-ctl doctor --data-dir /var/lib/mofka",
            "mofka-ctl doctor -c /etc/mofka/mofkad.json",
            "mofka-ctl doctor -c /etc/mofka/mofkad.json --no-write",
            "mofka-ctl --json doctor | jq '.checks[] | select(.verdict != \"good\")'",
        ],
    ),
    (
        "bench produce",
        &[
            "mofka-ctl bench produce",
            "mofka-ctl bench produce --duration 30s --producers 4 --partitions 4 --data-bytes 64KiB",
            "mofka-ctl bench produce --events 1000000 --batch-size 1000 --durability written --hdr produce.hdr",
        ],
    ),
    (
        "bench consume",
        &[
            "mofka-ctl bench consume",
            "mofka-ctl bench consume --events 1000000 --data none",
            "mofka-ctl bench consume --topic my_topic --duration 10s",
        ],
    ),
    (
        "bench roundtrip",
        &[
            "mofka-ctl bench roundtrip --rate 1000 --duration 30s",
            "mofka-ctl bench roundtrip --rate 50000 --producers 2 --partitions 2 --data-bytes 0",
            "mofka-ctl --json bench roundtrip --hdr roundtrip.hdr | jq .latency.p99_us",
        ],
    ),
];

/// The command, each of its commands with its examples at the foot of the help.
pub(super) fn add(command: Command) -> Command {
    add_below(command, "")
}

fn add_below(command: Command, above: &str) -> Command {
    command.mut_subcommands(|below| {
        let words = format!("{above} {}", below.get_name()).trim_start().to_owned();
        let below = add_below(below, &words);
        let Some((_, lines)) = EXAMPLES.iter().find(|(of, _)| *of == words) else {
            return below;
        };
        let before = below.get_after_help().map(|text| format!("{text}\n\n"));
        let text = format!(
            "{}Examples:\n  {}",
            before.unwrap_or_default(),
            lines.join("\n  ")
        );
        below.after_help(text)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::ffi::OsString;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::cli::Cli;
    use crate::dotted;

    /// Commands that print no JSON, and why.
    const WITHOUT_JSON: &[(&str, &str)] = &[
        (
            "config generate",
            "prints a configuration, which is JSON of its own form",
        ),
        ("generate completions", "prints a shell's script"),
        ("generate man", "writes files, and prints nothing"),
    ];

    fn schemas() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas")
    }

    /// Every command that has no commands of its own, with its words.
    fn leaves(command: &Command, above: &str, found: &mut Vec<(String, Command)>) {
        for below in command.get_subcommands() {
            let words = format!("{above} {}", below.get_name()).trim_start().to_owned();
            if below.has_subcommands() {
                leaves(below, &words, found);
            } else {
                found.push((words, below.clone()));
            }
        }
    }

    fn all_leaves() -> Vec<(String, Command)> {
        let mut found = Vec::new();
        leaves(&Cli::with_examples(), "", &mut found);
        assert!(found.len() > 20, "{} commands", found.len());
        found
    }

    /// A line's words, as a shell splits it, up to the first redirection; one list for each command of a pipe.
    fn split(line: &str) -> Vec<Vec<String>> {
        let (mut commands, mut word, mut quote) = (vec![Vec::new()], None::<String>, None);
        for c in line.chars().chain([' ']) {
            match (quote, c) {
                (Some(open), c) if c == open => quote = None,
                (None, '\'' | '"') => {
                    quote = Some(c);
                    word.get_or_insert_default();
                }
                (None, ' ' | '|') => {
                    commands.last_mut().unwrap().extend(word.take());
                    if c == '|' {
                        commands.push(Vec::new());
                    }
                }
                (_, c) => word.get_or_insert_default().push(c),
            }
        }
        assert!(quote.is_none(), "a quote is open: {line}");
        for words in &mut commands {
            let end = words.iter().position(|word| word == ">" || word == "<");
            words.truncate(end.unwrap_or(words.len()));
        }
        commands
    }

    #[test]
    fn every_command_has_examples_that_it_understands() {
        for (words, command) in all_leaves() {
            let help = command.term_width(0).render_long_help().to_string();
            let (_, examples) = help
                .split_once("Examples:\n")
                .unwrap_or_else(|| panic!("`mofka-ctl {words} --help` has no \"Examples:\""));
            let lines: Vec<&str> = examples
                .lines()
                .take_while(|line| line.starts_with("  "))
                .collect();
            assert!(!lines.is_empty(), "{words}: {help}");
            for line in lines {
                let commands = split(line);
                let ours: Vec<_> = commands
                    .iter()
                    .filter(|words| words.first().is_some_and(|name| name == "mofka-ctl"))
                    .collect();
                let mut uses = Vec::<String>::new();
                for arguments in ours {
                    let arguments = arguments.iter().map(OsString::from).collect();
                    let (plain, _) = dotted::split(arguments).unwrap_or_else(|e| panic!("{line}: {e}"));
                    let parsed = Cli::with_examples().try_get_matches_from(plain);
                    let matches = parsed.unwrap_or_else(|e| panic!("{line}: {e}"));
                    let mut found = Vec::new();
                    let mut at = &matches;
                    while let Some((name, below)) = at.subcommand() {
                        found.push(name);
                        at = below;
                    }
                    uses.push(found.join(" "));
                }
                assert!(
                    uses.contains(&words),
                    "{line} is no use of {words:?}, but of {uses:?}"
                );
            }
        }
    }

    #[test]
    fn every_example_is_of_a_command_and_every_command_and_schema_have_each_other() {
        let leaves: BTreeSet<String> = all_leaves().into_iter().map(|(words, _)| words).collect();
        for (words, _) in EXAMPLES.iter() {
            assert!(leaves.contains(*words), "there is no command {words:?}");
        }
        let files: BTreeSet<String> = std::fs::read_dir(schemas())
            .unwrap()
            .map(|entry| {
                entry
                    .unwrap()
                    .path()
                    .file_stem()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned()
            })
            .filter(|name| name != "common")
            .collect();
        let without = |words: &str| {
            WITHOUT_JSON
                .iter()
                .any(|(of, why)| *of == words && !why.is_empty())
        };
        for words in &leaves {
            let has = files.contains(&words.replace(' ', "-"));
            assert!(
                has != without(words),
                "`mofka-ctl {words}`: schema {has}, in the list of those without JSON {}",
                !has
            );
        }
        for file in &files {
            assert!(
                leaves.iter().any(|words| words.replace(' ', "-") == *file),
                "ctl/schemas/{file}.json is of no command"
            );
        }
    }
}
