//! Many producers and one group of consumers, in processes of their own, which are killed at random, as is the daemon. What each of
//! them was told is in a journal of its own; at the end all of it must add up.

mod account;
mod worker;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use mofka_client::TopicOptions;
use mofka_tests::{Node, Random, scale};
use serde_json::{Value, json};

use self::account::Account;
use self::worker::{CONSUMER, PLACE, ROLE, STOP_CONSUMERS, STOP_PRODUCERS, TOPIC};

const PRODUCER_PROCESSES: usize = 8;
/// In each of these.
const PRODUCERS: u64 = 8;
const CONSUMERS: usize = 8;
const PARTITIONS: u32 = 16;
/// What the daemon may take, with the limits below: the memory of both shards for recent batches and reading ahead, what may wait in
/// each partition, what may be unanswered and unsent on each connection (of each process to each shard), and 64 MB for the program
/// itself.
const MEMORY_MAX_BYTES: u64 = 2 * (32 + 16) * 1_000_000
    + 16 * 4_000_000
    + 2 * (PRODUCER_PROCESSES + CONSUMERS + 1) as u64 * (4 + 4) * 1_000_000
    + 64_000_000;
/// And through shared memory, that of each connection.
const RING_BYTES_MAX: u64 = 4 << 20;

fn config(listen: &str) -> Value {
    json!({"listen": [listen], "shards": 2, "limits": {
        "shard_recent_bytes_max": 32_000_000, "shard_read_ahead_bytes_max": 16_000_000,
        "partition_pending_bytes_max": 4_000_000,
        "connection_inflight_bytes_max": 4_000_000, "connection_outbox_bytes_max": 4_000_000,
        "ring_bytes_max": RING_BYTES_MAX,
    }})
}

/// A process that is killed and started again.
struct Client {
    role: String,
    life: usize,
    child: Child,
}

impl Client {
    fn start(role: String, life: usize, place: &Path, group_file: &Path) -> Self {
        // This very program, at another of its tests.
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crowd::worker::a_client_of_the_crowd", "--nocapture"])
            .env(ROLE, format!("{role} {life} {}", group_file.display()))
            .env(PLACE, place)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { role, life, child }
    }

    fn kill(&mut self, place: &Path, group_file: &Path) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        *self = Self::start(self.role.clone(), self.life + 1, place, group_file);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The most memory that a process ever had.
fn memory_peak_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    1024 * kilobytes.unwrap_or(0)
}

#[test]
fn all_adds_up_while_clients_and_the_daemon_are_killed() {
    all_adds_up("tcp://127.0.0.1:0", 0);
}

#[test]
fn all_adds_up_through_shared_memory() {
    // Those of the killed ones are not all gone when others have come.
    let connections = 2 * (PRODUCER_PROCESSES + CONSUMERS + 1) as u64;
    all_adds_up("na+sm", 2 * connections * RING_BYTES_MAX);
}

/// `more_bytes`: what the daemon may take beside [`MEMORY_MAX_BYTES`].
fn all_adds_up(listen: &str, more_bytes: u64) {
    let memory_max = MEMORY_MAX_BYTES + more_bytes;
    let mut node = Node::prepare(&["-c", "config.json"]);
    std::fs::write(node.dir().join("config.json"), config(listen).to_string()).unwrap();
    node.start_again();
    let driver = node.driver();
    driver
        .create_topic(TopicOptions::new(TOPIC).partitions(PARTITIONS))
        .unwrap();
    let place: PathBuf = node.dir().join("journals");
    std::fs::create_dir(&place).unwrap();
    let group_file = node.group_file();
    let start = |role: String| Client::start(role, 0, &place, &group_file);
    let mut producers: Vec<Client> = (0..PRODUCER_PROCESSES)
        .map(|n| start(format!("producers {n}")))
        .collect();
    let mut consumers: Vec<Client> = (0..CONSUMERS).map(|n| start(format!("consumer {n}"))).collect();
    let seed = scale("MOFKA_KILL_SEED", super::kill::seed_of_clock());
    println!("to repeat the order of the kills: MOFKA_KILL_SEED={seed}");
    let mut random = Random::new(seed);
    let until = Instant::now() + Duration::from_secs(scale("MOFKA_CROWD_SECONDS", 8));
    let (mut kills, mut memory_peak) = ([0; 3], 0);
    while Instant::now() < until {
        thread::sleep(Duration::from_millis(50 + random.below(400)));
        let pick = |random: &mut Random, count: usize| usize::try_from(random.below(count as u64)).unwrap();
        match random.below(10) {
            0..=3 => {
                let picked = pick(&mut random, PRODUCER_PROCESSES);
                producers[picked].kill(&place, &group_file);
                kills[0] += 1;
            }
            4..=7 => {
                let picked = pick(&mut random, CONSUMERS);
                consumers[picked].kill(&place, &group_file);
                kills[1] += 1;
            }
            _ => {
                memory_peak = memory_peak.max(memory_peak_bytes(node.pid()));
                node.kill();
                node.start_again();
                kills[2] += 1;
            }
        }
    }
    std::fs::write(place.join(STOP_PRODUCERS), "").unwrap();
    for client in &mut producers {
        let ended = client.child.wait().unwrap();
        assert!(ended.success(), "{}: {ended}\n{}", client.role, node.log());
    }
    if more_bytes > 0 {
        let shards = node.driver().node_status(0).unwrap().shards;
        let attached: u64 = shards.iter().map(|shard| shard.rings.attached_count).sum();
        assert!(attached > 0, "nobody came through shared memory");
    }
    // Everybody lives now: the group reads to the end, and acknowledges it.
    let deadline = Instant::now() + Duration::from_secs(60);
    let lag = || -> Option<u64> {
        let all = driver.list_consumers(TOPIC).ok()?;
        let of_it: Vec<u64> = all
            .iter()
            .filter(|one| one.consumer == CONSUMER)
            .map(|one| one.lag)
            .collect();
        (of_it.len() == PARTITIONS as usize).then(|| of_it.iter().sum())
    };
    while lag() != Some(0) {
        assert!(
            Instant::now() < deadline,
            "the consumers lag behind: {:?}",
            driver.list_consumers(TOPIC)
        );
        thread::sleep(Duration::from_millis(50));
    }
    std::fs::write(place.join(STOP_CONSUMERS), "").unwrap();
    for client in &mut consumers {
        let ended = client.child.wait().unwrap();
        assert!(ended.success(), "{}: {ended}", client.role);
    }
    memory_peak = memory_peak.max(memory_peak_bytes(node.pid()));
    let account = Account::read(&place);
    let events = account.check(&driver);
    println!(
        "{listen}: {events} events of {} producers by {CONSUMERS} consumers over {PARTITIONS} partitions; killed: {} times producers, {} \
         consumers, {} the daemon; {} events came again; 0 differences; the daemon took {:.0} MB at most, of {:.0}",
        PRODUCER_PROCESSES as u64 * PRODUCERS,
        kills[0],
        kills[1],
        kills[2],
        account.repeated_count(),
        memory_peak as f64 / 1e6,
        memory_max as f64 / 1e6
    );
    assert!(
        events > 1000,
        "only {events} events: the test was too short to mean anything"
    );
    assert!(
        memory_peak < memory_max,
        "the daemon took {memory_peak} bytes of the {memory_max} that its limits come to"
    );
}
