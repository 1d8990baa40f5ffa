//! `forward` and `fifo` at work. What they do when anything is killed: `tests/it/forward.rs`, `tests/it/fifo.rs`.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::run::{Bench, Ran};
use crate::schema;

/// For what takes as long as the machine lets it.
const PATIENCE: Duration = Duration::from_secs(60);

const FORWARD: &str = "drivers:
  here: {type: mofka, options: {group_file: mofka.json}}
forward:
  - {from: here/a, to: here/b}
  - {from: here/a, to: here/c, data: none, filter: {odd: [true]}, partitions: any}
";

fn write(bench: &Bench, name: &str, text: &str) {
    std::fs::write(bench.path().join(name), text).unwrap();
}

/// A command that goes on until it is told to stop.
struct Running {
    child: Child,
    log: std::path::PathBuf,
}

impl Running {
    fn start(bench: &Bench, line: &str) -> Self {
        let words: Vec<&str> = line.split_whitespace().collect();
        let log = bench.path().join("log");
        let child = bench
            .command(words[0])
            .args(&words[1..])
            .stdout(File::create(&log).unwrap())
            .stderr(Stdio::inherit())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, log }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    fn eventually(&self, what: &str, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < deadline, "{what}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What it printed in all, after a wish to stop.
    fn interrupt(mut self) -> String {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}:\n{}", self.log());
        self.log()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn topics_are_forwarded_to_their_end_and_again_from_there() {
    let bench = Bench::with_daemon();
    bench.run("mofka-ctl start --shards 1").ok();
    bench.run("mofka-ctl topic create a --partitions 2").ok();
    bench.run("mofka-ctl topic create b --partitions 2").ok();
    bench.run("mofka-ctl topic create c --partitions 1").ok();
    let lines: String = (0..40)
        .map(|n| format!("{{\"n\":{n},\"odd\":{}}}\n", n % 2 == 1))
        .collect();
    bench.run_with_input("mofka-ctl produce a", lines.as_bytes()).ok();
    write(&bench, "f.yaml", FORWARD);
    // While the source may get more, it goes on.
    let running = Running::start(&bench, "mofka-ctl --json forward --config f.yaml");
    let has = |topic: &str, count: usize| {
        let command =
            format!("mofka-ctl consume {topic} --from first --ack-every 0 --count {count} --timeout 1");
        bench.run(&command).ok().lines().count() == count
    };
    running.eventually("what was there is forwarded", || has("b", 40) && has("c", 20));
    schema::lines_conform("forward", &running.interrupt());
    bench.run_with_input("mofka-ctl produce a", lines.as_bytes()).ok();
    bench.run("mofka-ctl topic complete a").ok();
    for _ in 0..2 {
        let log = bench.run("mofka-ctl --json forward --config f.yaml").ok();
        assert_eq!(log.matches("\"state\":\"complete\"").count(), 4, "{log}");
        let copied = bench
            .run("mofka-ctl consume b --from first --ack-every 0 --timeout 1")
            .ok();
        assert_eq!(copied.lines().count(), 80, "each once");
        let filtered = bench
            .run("mofka-ctl consume c --from first --ack-every 0 --timeout 1")
            .ok();
        assert_eq!(
            filtered
                .lines()
                .filter(|line| line.contains("\"odd\":true"))
                .count(),
            40
        );
        assert_eq!(filtered.lines().count(), 40);
    }
    // A catalog that older programs cannot take for theirs.
    bench.run("mofka-ctl shutdown").ok();
    let catalog = std::fs::read(bench.path().join("mofka-data/catalog")).unwrap();
    let catalog = String::from_utf8_lossy(&catalog).into_owned();
    assert_eq!(
        catalog.matches("partition_sourced").count(),
        3,
        "one for each partition of b and c"
    );
    let frames = bench.run("mofka-ctl log inspect ./mofka-data --frames").ok();
    assert!(frames.contains(" of a source"), "{frames}");
}

#[track_caller]
fn fatal(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!((ran.code, ran.out.as_str()), (Some(code), ""), "{ran:?}");
    assert!(ran.err.starts_with("Fatal error: "), "{ran:?}");
    words
        .iter()
        .for_each(|word| assert!(ran.err.contains(word), "no {word:?} in {ran:?}"));
}

#[test]
fn what_keeps_forward_from_beginning_is_said() {
    let bench = Bench::with_daemon();
    write(&bench, "f.yaml", FORWARD);
    let forward = "mofka-ctl forward --config f.yaml";
    fatal(&bench.run(forward), 3, &["driver \"here\"", "mofka.json"]);
    bench.run("mofka-ctl start --shards 1").ok();
    fatal(
        &bench.run(forward),
        1,
        &["topic here/a", "mofka-ctl topic create a"],
    );
    bench.run("mofka-ctl topic create a --partitions 2").ok();
    bench.run("mofka-ctl topic create b --partitions 1").ok();
    bench.run("mofka-ctl topic create c --partitions 1").ok();
    let words = [
        "here/a has 2 partitions and here/b has 1",
        "\"partitions\": \"any\"",
    ];
    fatal(&bench.run(forward), 1, &words);
    for (text, words) in [
        (
            FORWARD.replace("filter", "filtr"),
            ["f.yaml", "did you mean \"filter\"?"],
        ),
        (FORWARD.replace("forward:", "forward: ["), ["f.yaml", "YAML"]),
        (
            FORWARD.replace("here/b", "there/b"),
            ["no driver \"there\"", "there are: here"],
        ),
    ] {
        write(&bench, "f.yaml", &text);
        fatal(&bench.run(forward), 1, &words);
    }
    bench.run("mofka-ctl forward").fails(2, &["--config"]);
}

fn control(dir: &Path, command: &str) {
    let mut control = File::options().write(true).open(dir.join("control")).unwrap();
    control.write_all(format!("{command}\n").as_bytes()).unwrap();
}

#[test]
fn lines_go_into_a_topic_and_come_out_of_it() {
    let bench = Bench::with_daemon();
    bench.run("mofka-ctl start --shards 1").ok();
    bench.run("mofka-ctl topic create t").ok();
    bench.run("mofka-ctl partition add t").ok();
    let fifo = Running::start(&bench, "mofka-ctl --json fifo --control-file control");
    fifo.eventually("it is ready", || fifo.log().contains("\"state\":\"ready\""));
    control(bench.path(), "./in -> t (format=jsn)");
    control(bench.path(), "./in -> t (format=json, keep=true)");
    let into = bench.path().join("in");
    fifo.eventually("the pipe is made", || into.exists());
    std::fs::write(&into, "{\"a\":1}\n{\"a\":2\n{\"a\":3}\n").unwrap();
    let stored = bench.run("mofka-ctl consume t --count 2").ok();
    assert_eq!(stored.lines().count(), 2);
    fifo.eventually("a line that is no JSON is said", || {
        fifo.log().contains("{\\\"a\\\":2")
    });
    let log = fifo.interrupt();
    schema::lines_conform("fifo", &log);
    assert!(log.contains("it is raw or json"), "{log}");
    assert!(log.contains("\"stored\":2,\"refused\":1"), "{log}");
    assert!(
        !bench.path().join("control").exists(),
        "the control FIFO is removed"
    );
    bench.run("mofka-ctl fifo").fails(2, &["--control-file"]);
}
