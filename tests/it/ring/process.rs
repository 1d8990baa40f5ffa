//! Clients in processes of their own.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use mofka_client::{
    BatchSize, ConsumerOptions, DataSelector, Driver, DriverOptions, Metadata, ProducerOptions, Start,
};

const ROLE: &str = "MOFKA_RING_ROLE";
const TEST: &str = "ring::process::a_client_of_the_ring_tests";
/// What a process prints to be heard among what the test harness prints.
const MARK: &str = "ring test: ";

/// A client, killed when dropped.
pub(super) struct Process {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Process {
    /// Starts this very program, at another of its tests.
    pub(super) fn start(role: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        Self::spawn(command.env(ROLE, [&[role], arguments].concat().join(" ")))
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .args(["--exact", TEST, "--nocapture"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// The next thing that it says.
    pub(super) fn await_line(&mut self) -> String {
        let mut line = String::new();
        while self.output.read_line(&mut line).unwrap() > 0 {
            if let Some((_, said)) = line.split_once(MARK) {
                return said.trim().to_owned();
            }
            line.clear();
        }
        panic!("the process ended: {:?}", self.child.wait());
    }

    pub(super) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// What becomes of a connection of this user.
    pub(super) fn ask_as(user: u32, dir: &Path, address: &str) -> String {
        Self::run_as(user, dir, &format!("connect {address}")).await_line()
    }

    /// Connects as this user, says that it stays, and then why its connection ended.
    pub(super) fn stay_as(user: u32, dir: &Path, address: &str) -> Self {
        Self::run_as(user, dir, &format!("stay {address}"))
    }

    fn run_as(user: u32, dir: &Path, role: &str) -> Self {
        // Other users may not go where this program is.
        let program = dir.join("client");
        if !program.exists() {
            std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        }
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new(program);
        let command = command.env(ROLE, role).current_dir("/").uid(user).gid(user);
        Self::spawn(command)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Not a test of its own: what the processes run.
#[test]
fn a_client_of_the_ring_tests() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let words: Vec<&str> = role.split(' ').collect();
    match words[..] {
        ["connect", address] => match Driver::connect(DriverOptions::addresses([address])) {
            Ok(driver) => println!("{MARK}connected, {} nodes", driver.num_servers()),
            Err(error) => println!("{MARK}{error}"),
        },
        ["stay", address] => stay(address),
        ["load", group_file, round] => load(group_file, round),
        _ => panic!("{role}"),
    }
}

/// Asks for the node's state until that fails.
fn stay(address: &str) {
    let driver = Driver::connect(DriverOptions {
        reconnect_timeout: Duration::from_millis(10),
        ..DriverOptions::addresses([address])
    });
    let driver = driver.unwrap();
    println!("{MARK}stays");
    loop {
        if let Err(error) = driver.node_status(0) {
            println!("{MARK}lost: {error}");
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Produces and consumes until it is killed, and says so after the first event of each.
fn load(group_file: &str, round: &str) {
    let driver = Driver::connect(DriverOptions::group_file(group_file)).unwrap();
    let topic = driver.open_topic("t").unwrap();
    let producer = topic.producer(ProducerOptions {
        batch_size: BatchSize::fixed(1),
        max_num_batches: 64,
        ..ProducerOptions::default()
    });
    let consumer = topic
        .consumer(
            &format!("c{round}"),
            ConsumerOptions {
                data_selector: DataSelector::all(),
                start: Start::First,
                ..ConsumerOptions::default()
            },
        )
        .unwrap();
    let pushed = producer.push(Metadata::from("{}"), vec![1; 5000], None).unwrap();
    pushed.wait().unwrap();
    consumer.pull().wait().unwrap();
    println!("{MARK}first");
    let consuming = std::thread::spawn(move || while let Ok(Some(_)) = consumer.pull().wait() {});
    for n in 0.. {
        producer
            .push(Metadata::from("{}"), vec![2; n * 7919 % 100_000], Some(n % 2))
            .unwrap();
    }
    consuming.join().unwrap();
}
