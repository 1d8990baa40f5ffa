//! `mofka-ctl fifo`: lines into a pipe, through a topic, out of a pipe, while the node is killed again and again and the programs at
//! both pipes come and go. Every line is stored once, and handed over once.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mofka_client::{ConsumerOptions, Start, TopicOptions};
use mofka_tests::tool::Tool;
use mofka_tests::{Node, Random, scale};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::kill::seed_of_clock;

/// How long what is to come may take, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(120);

/// Lines with what has to be escaped in JSON, of very different lengths.
fn line(n: u64) -> String {
    let padding = match n % 101 {
        0 => 3000,
        rest => rest,
    };
    format!(
        "{n} \"quoted\" back\\slash \t\u{1}é {}",
        "x".repeat(padding as usize)
    )
}

/// Writes lines, each with one call, in lives that end without a word.
fn write(path: &Path, count: u64, seed: u64) {
    let mut random = Random::new(seed);
    let mut written = 0;
    while written < count {
        // Opening waits for the other end.
        let mut pipe = File::options().write(true).open(path).unwrap();
        for _ in 0..(1 + random.below(2000)).min(count - written) {
            let mut bytes = line(written).into_bytes();
            bytes.push(b'\n');
            assert!(bytes.len() <= 4096, "what is longer may be written in part");
            pipe.write_all(&bytes).unwrap();
            written += 1;
        }
    }
}

/// Reads lines in lives that end anywhere, also in the middle of a line, which then counts for nothing.
fn read(path: &Path, log: &Path, count: u64, seed: u64, read_count: &AtomicU64) -> Vec<String> {
    let mut random = Random::new(seed);
    let mut lines = Vec::new();
    let mut deaths = 0;
    while (lines.len() as u64) < count {
        let mut pipe = File::open(path).unwrap();
        let mut held: Vec<u8> = Vec::new();
        let mut reads = 1 + random.below(60);
        while reads > 0 && (lines.len() as u64) < count {
            let mut fds = [PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)];
            let timeout = Timespec::try_from(PATIENCE).unwrap();
            assert!(
                poll(&mut fds, Some(&timeout)).unwrap() > 0,
                "only {} lines came",
                lines.len()
            );
            let mut chunk = vec![0; 1 + random.below(6000) as usize];
            let bytes = pipe.read(&mut chunk).unwrap();
            assert!(bytes > 0, "whoever writes has closed the pipe");
            held.extend_from_slice(&chunk[..bytes]);
            while let Some(end) = held.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = held.drain(..=end).collect();
                lines.push(String::from_utf8(line[..end].to_vec()).unwrap());
            }
            read_count.store(lines.len() as u64, Ordering::Relaxed);
            reads -= 1;
        }
        drop(pipe);
        deaths += 1;
        // A program that opens the pipe in this very moment would get the rest of the line.
        let deadline = Instant::now() + PATIENCE;
        while (lines.len() as u64) < count
            && std::fs::read_to_string(log)
                .unwrap()
                .matches("reader_gone")
                .count()
                < deaths
        {
            assert!(Instant::now() < deadline, "it is not noticed that nobody reads");
            thread::sleep(Duration::from_millis(2));
        }
    }
    println!("{deaths} programs read");
    lines
}

fn control(dir: &Path, command: &str) {
    let mut control = File::options().write(true).open(dir.join("control")).unwrap();
    control.write_all(format!("{command}\n").as_bytes()).unwrap();
}

fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn start(node: &Node) -> (Tool, PathBuf) {
    let dir = node.dir().to_owned();
    let tool = Tool::start("fifo", &dir, &["fifo", "--control-file", "control"]);
    eventually("there is no control FIFO", || dir.join("control").exists());
    (tool, dir)
}

fn pipe(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    path
}

#[test]
fn every_line_goes_through_once_while_the_node_and_both_ends_are_killed() {
    let mut node = Node::start(&["--listen", "tcp://127.0.0.1:0"]);
    let driver = node.driver();
    driver.create_topic(TopicOptions::new("t")).unwrap();
    let count = scale("MOFKA_FIFO_EVENTS", 4000);
    let kills = scale("MOFKA_FIFO_KILLS", 5);
    let seed = scale("MOFKA_KILL_SEED", seed_of_clock());
    println!("to repeat the moments: MOFKA_KILL_SEED={seed}");
    let (mut fifo, dir) = start(&node);
    let (into, out) = (pipe(&dir, "into"), pipe(&dir, "out"));
    let read_count = Arc::new(AtomicU64::new(0));
    let reading = {
        let (out, log, read_count) = (out, dir.join("fifo.log"), Arc::clone(&read_count));
        thread::spawn(move || read(&out, &log, count, seed ^ 1, &read_count))
    };
    control(&dir, &format!("{} -> t (keep=true)", into.display()));
    control(&dir, &format!("{} <- t", dir.join("out").display()));
    let writing = thread::spawn(move || write(&into, count, seed ^ 2));
    let mut random = Random::new(seed);
    for kill in 0..kills {
        // Spread over all of it.
        let from = count * kill / (kills + 1);
        eventually("lines come", || read_count.load(Ordering::Relaxed) >= from);
        thread::sleep(Duration::from_millis(random.below(100)));
        node.kill();
        thread::sleep(Duration::from_millis(random.below(100)));
        node.start_again();
    }
    writing.join().unwrap();
    let lines = reading.join().unwrap();
    assert_eq!(lines.len() as u64, count);
    for (n, found) in (0..).zip(&lines) {
        assert_eq!(*found, line(n), "line {n} was handed over");
    }
    assert!(fifo.terminate().success(), "{}", fifo.log());
    assert!(!dir.join("control").exists());
    let options = ConsumerOptions {
        start: Start::First,
        ..ConsumerOptions::default()
    };
    let stored = driver
        .open_topic("t")
        .unwrap()
        .consumer("checker", options)
        .unwrap();
    for n in 0..count {
        let event = stored
            .pull()
            .wait_timeout(PATIENCE)
            .unwrap()
            .expect("an event comes")
            .unwrap();
        assert_eq!(
            (event.id().get(), event.metadata().as_str()),
            (n, Some(line(n).as_str()))
        );
    }
    let more = stored.pull().wait_timeout(Duration::from_millis(300)).unwrap();
    assert!(more.is_none(), "more than {count} lines are stored");
    println!("{count} lines in, stored and out, each once; the node was killed {kills} times");
}

#[test]
fn commands_that_make_no_sense_are_said_and_formats_are_kept() {
    let node = Node::start(&["--listen", "tcp://127.0.0.1:0"]);
    let driver = node.driver();
    driver.create_topic(TopicOptions::new("t")).unwrap();
    let (mut fifo, dir) = start(&node);
    let into = dir.join("made");
    for command in ["nonsense", "a -> none", "gone <- t", "x -> t (colour=red)"] {
        control(&dir, command);
    }
    control(
        &dir,
        &format!("{} -> t (format=json, batch_size=x)", into.display()),
    );
    eventually("the pipe is made", || into.exists());
    std::fs::write(&into, "{\"a\": 1}\nno json\n\n[2]").unwrap();
    eventually("the pipe is removed when its program has ended", || {
        !into.exists()
    });
    for said in [
        "Invalid command format",
        "topic none",
        "is not there: make it",
        "unknown option",
        "batch_size=x",
        "no json",
    ] {
        eventually(&format!("{said:?} is not said"), || fifo.log().contains(said));
    }
    let out = pipe(&dir, "out");
    let reading = thread::spawn(move || {
        let mut read = [0; 13];
        File::open(out).unwrap().read_exact(&mut read).unwrap();
        read
    });
    control(
        &dir,
        &format!(
            "{} <- t (format=json, acknowledge=true)",
            dir.join("out").display()
        ),
    );
    assert_eq!(&reading.join().unwrap(), b"{\"a\": 1}\n[2]\n");
    eventually("what was read is acknowledged", || {
        let consumers = driver.list_consumers("t").unwrap();
        consumers.iter().any(|consumer| consumer.next_event_id == 2)
    });
    assert!(fifo.terminate().success());
    // The control FIFO must not be there.
    std::fs::write(dir.join("control"), "").unwrap();
    let mut second = Tool::start("second", &dir, &["fifo", "--control-file", "control"]);
    eventually("it fails", || {
        second.log().contains("cannot make the control FIFO")
    });
    second.kill();
}
