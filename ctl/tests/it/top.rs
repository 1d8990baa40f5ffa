//! `top` against a node at work: as text, as JSON, and on a terminal that tmux has.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::run::Bench;

/// Longer than anything takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Something that produces for as long as it is there.
struct Load(Child);

impl Load {
    fn on(bench: &Bench, topic: &str) -> Self {
        let mut child = bench
            .command("mofka-ctl")
            .args(["produce", topic, "--batch-size", "1"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        // Ends when the other end is gone.
        std::thread::spawn(move || {
            while input.write_all(b"{\"n\": 1}\n").is_ok() {
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Self(child)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn node_with_topic() -> Bench {
    let bench = Bench::with_daemon();
    bench.run("mofka-ctl start --shards 2").ok();
    bench.run("mofka-ctl topic create busy --partitions 2").ok();
    bench
}

#[test]
fn figures_are_printed_as_json_and_as_text() {
    let bench = node_with_topic();
    let load = Load::on(&bench, "busy");
    let schema: Value = serde_json::from_str(include_str!("../../schemas/top.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let figures: Value =
            serde_json::from_str(&bench.run("mofka-ctl --json top --once --interval 500ms").ok()).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&figures)
            .map(|error| error.to_string())
            .collect();
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(figures["topics"][0]["topic"], "busy");
        assert!(
            figures["interval_ms"].as_u64().is_some_and(|ms| ms >= 250),
            "{figures}"
        );
        let totals = &figures["totals"];
        if totals["accepted_events_per_s"].as_f64().unwrap() > 0.0 && totals["produce"]["p99_us"].is_u64() {
            break;
        }
        assert!(Instant::now() < deadline, "{figures}");
    }
    drop(load);
    let text = bench.run("mofka-ctl top --once --interval 0.3").ok();
    for part in [
        "Topics\n",
        "Partitions\n",
        "Shards\n",
        "busy",
        "in ev/s",
        "produce p50/p90/p99",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}

#[test]
fn without_a_terminal_or_a_node_it_says_what_to_do() {
    let bench = Bench::new();
    bench.run("mofka-ctl top").fails(2, &["no terminal", "--once"]);
    bench
        .run("mofka-ctl top --once")
        .fails(3, &["./mofka.json", "mofka-ctl start"]);
    bench
        .run("mofka-ctl top --once --interval 1ms")
        .fails(2, &["250ms"]);
    bench
        .run("mofka-ctl top --once --view topiks")
        .fails(2, &["topics"]);
}

/// A terminal of its own: a tmux server that ends with it.
struct Terminal<'a> {
    bench: &'a Bench,
    socket: String,
}

impl<'a> Terminal<'a> {
    /// A shell on a screen of 80 columns and 24 lines; `None` where there is no tmux.
    fn open(bench: &'a Bench) -> Option<Self> {
        Command::new("tmux").arg("-V").output().ok()?;
        let socket = bench.path().join("tmux").display().to_string();
        let terminal = Self { bench, socket };
        terminal.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            "80",
            "-y",
            "24",
            "env",
            "PS1=ready> ",
            "sh",
        ]);
        Some(terminal)
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let ran = Command::new("tmux")
            .args(["-S", &self.socket])
            .args(arguments)
            .current_dir(self.bench.path())
            .output()
            .unwrap();
        assert!(ran.status.success(), "tmux {arguments:?}: {ran:?}");
        String::from_utf8_lossy(&ran.stdout).into_owned()
    }

    fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    #[track_caller]
    fn until(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let screen = self.screen();
            if is_so(&screen) {
                return screen;
            }
            assert!(Instant::now() < deadline, "{what}:\n{screen}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        Command::new("tmux")
            .args(["-S", &self.socket, "kill-server"])
            .output()
            .ok();
    }
}

/// Events of the topic that is being produced into, as the view of topics has them.
fn stored_events(screen: &str) -> Option<u64> {
    let row = screen.lines().find(|line| line.starts_with("busy"))?;
    row.split_whitespace().nth_back(2)?.parse().ok()
}

#[test]
fn on_a_terminal_numbers_move_and_it_is_left_as_it_was() {
    let bench = node_with_topic();
    let Some(terminal) = Terminal::open(&bench) else {
        eprintln!("SKIPPED: tmux is not installed, so nothing draws on a terminal");
        return;
    };
    terminal.until("a shell", |screen| screen.contains("ready>"));
    let load = Load::on(&bench, "busy");
    terminal.keys(&["stty -a | cksum", "Enter"]);
    let before = terminal.until("settings of the terminal", |screen| {
        screen.lines().filter(|l| l.contains("ready>")).count() == 2
    });
    let settings = before.lines().nth(1).unwrap().to_owned();
    terminal.tmux(&["resize-window", "-x", "120", "-y", "30"]);
    terminal.keys(&["./mofka-ctl top --interval 0.5", "Enter"]);
    let first = terminal.until("rates", |screen| {
        stored_events(screen).is_some_and(|events| events > 0) && !screen.contains("in 0 ev/s")
    });
    let events = stored_events(&first).unwrap();
    let later = terminal.until("more events", |screen| {
        stored_events(screen).is_some_and(|more| more > events)
    });
    println!("{later}");
    terminal.keys(&["p"]);
    terminal.until("a pause", |screen| screen.contains("PAUSED"));
    terminal.keys(&["p", "Tab"]);
    terminal.until("partitions", |screen| {
        screen.contains("unsynced") && !screen.contains("PAUSED")
    });
    terminal.keys(&["h"]);
    terminal.until("help", |screen| screen.contains("change the view"));
    terminal.keys(&["h"]);
    for (columns, lines) in [("40", "10"), ("20", "5"), ("10", "3"), ("80", "24")] {
        terminal.tmux(&["resize-window", "-x", columns, "-y", lines]);
        terminal.until("another size", |screen| match columns {
            "10" => screen.contains("terminal"),
            "20" => screen.contains("busy"),
            _ => screen.contains("q end"),
        });
    }
    drop(load);
    bench.run("mofka-ctl shutdown").ok();
    terminal.until("a lost node", |screen| {
        screen.contains("The node does not answer")
    });
    bench.run("mofka-ctl start --shards 2").ok();
    terminal.until("the node again", |screen| {
        !screen.contains("does not answer") && screen.contains("busy")
    });
    terminal.keys(&["q"]);
    let is_back = |screen: &str| !screen.contains("q end") && screen.trim_end().ends_with("ready>");
    terminal.until("the shell again", is_back);
    // A signal ends it as cleanly as a key.
    terminal.keys(&["clear; sh -c 'echo $$ > top.pid; exec ./mofka-ctl top'", "Enter"]);
    terminal.until("top again", |screen| screen.contains("q end"));
    let kill = Command::new("sh")
        .args(["-c", "kill -TERM $(cat top.pid)"])
        .current_dir(bench.path())
        .status();
    assert!(kill.unwrap().success());
    terminal.until("the shell at last", is_back);
    terminal.keys(&["clear; stty -a | cksum", "Enter"]);
    terminal.until("the settings as they were", |screen| screen.contains(&settings));
    // So does a terminal that is gone.
    terminal.keys(&["clear; sh -c 'echo $$ > top.pid; exec ./mofka-ctl top'", "Enter"]);
    terminal.until("top once more", |screen| screen.contains("q end"));
    let pid = std::fs::read_to_string(bench.path().join("top.pid")).unwrap();
    drop(terminal);
    let deadline = Instant::now() + PATIENCE;
    let is_there = || Path::new("/proc").join(pid.trim()).join("exe").exists();
    while is_there() {
        assert!(Instant::now() < deadline, "top goes on without a terminal");
        std::thread::sleep(Duration::from_millis(50));
    }
}
