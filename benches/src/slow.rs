//! What slow consumers cost the others: events from a producer to a fast consumer, alone and beside consumers that hardly pull.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use mofka_client::{
    ConsumerOptions, DataSelector, Driver, ProducerOptions, Start, TopicHandle, TopicOptions,
};

use crate::events::Events;
use crate::harness::{self, Machine, Sample, Side};
use crate::node::Node;

/// How long a slow consumer thinks about each event.
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Args)]
pub(crate) struct SlowArgs {
    /// Directory on the device to measure.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Bytes of data in an event.
    #[arg(long, default_value_t = 1024)]
    data_bytes: usize,
    /// Bytes of metadata (JSON) in an event, about.
    #[arg(long, default_value_t = 128)]
    metadata_bytes: usize,
    /// Events of each turn.
    #[arg(long, default_value_t = 500_000)]
    events: u64,
    /// Slow consumers, each with a name of its own, that want all data.
    #[arg(long, default_value_t = 8)]
    slow: usize,
    /// Turns of each side; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

pub(crate) fn measure(args: &SlowArgs, json: bool) -> Result<(), String> {
    let node = Node::start(&args.dir, 1)?;
    let driver = node.driver()?;
    let turns = AtomicU64::new(0);
    let side = |slow: usize| {
        let (node, driver, turns) = (&node, &driver, &turns);
        move || turn(node, driver, turns.fetch_add(1, Ordering::Relaxed), args, slow)
    };
    let alone = "alone".to_owned();
    let sides = vec![
        Side::new(alone.clone(), side(0)),
        Side::new(
            format!("beside {} that pull every {} ms", args.slow, PAUSE.as_millis()),
            side(args.slow),
        ),
    ];
    let series = harness::interleave(args.rounds, sides)?;
    let title = format!(
        "a producer, synced, and a consumer that keeps up, {} events, TCP loopback: events/s at the consumer",
        args.events
    );
    harness::print(&title, &Machine::here(&args.dir), &series, Some(&alone), json);
    Ok(())
}

fn turn(node: &Node, driver: &Driver, number: u64, args: &SlowArgs, slow: usize) -> Result<Sample, String> {
    let name = format!("turn-{number}");
    let topic = driver
        .create_topic(TopicOptions::new(&name))
        .map_err(|e| e.to_string())?;
    let options = || ConsumerOptions {
        start: Start::First,
        data_selector: DataSelector::all(),
        ..ConsumerOptions::default()
    };
    let stop = AtomicBool::new(false);
    let fast = topic.consumer("fast", options()).map_err(|e| e.to_string())?;
    let sample = thread::scope(|scope| {
        for n in 0..slow {
            // Processes of their own, as far as connections go.
            let topic = node.driver()?.open_topic(&name).map_err(|e| e.to_string())?;
            let consumer = topic
                .consumer(&format!("slow {n}"), options())
                .map_err(|e| e.to_string())?;
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let pulled = consumer.pull().wait_timeout(PAUSE);
                    drop(pulled);
                    thread::sleep(PAUSE);
                }
            });
        }
        let topic = &topic;
        let producer = scope.spawn(move || produce(topic, args));
        let started = Instant::now();
        let mut seen = Ok(());
        for n in 0..args.events {
            let pulled = fast.pull().wait_timeout(Duration::from_secs(20));
            if !matches!(pulled, Ok(Some(Some(_)))) {
                seen = Err(format!("event {n} of {} did not come", args.events));
                break;
            }
        }
        let per_second = args.events as f64 / started.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        let produced = producer
            .join()
            .unwrap_or_else(|_| Err("the producer panicked".to_owned()));
        seen.and(produced)?;
        Ok::<_, String>(Sample {
            per_second,
            megabytes_per_second: per_second * (args.data_bytes + args.metadata_bytes) as f64 / 1e6,
            ..Sample::default()
        })
    })?;
    fast.close();
    driver.delete_topic(&name).map_err(|e| e.to_string())?;
    Ok(sample)
}

fn produce(topic: &TopicHandle, args: &SlowArgs) -> Result<(), String> {
    let events = Events::new(args.metadata_bytes, args.data_bytes);
    let producer = topic.producer(ProducerOptions {
        max_num_batches: 4,
        ..ProducerOptions::default()
    });
    for metadata in events.metadata(args.events) {
        producer
            .push(metadata.to_owned(), events.data.as_slice(), None)
            .map_err(|e| e.to_string())?;
    }
    let report = producer.close().map_err(|e| e.to_string())?;
    match report.acknowledged == args.events {
        true => Ok(()),
        false => Err(format!("{report:?}")),
    }
}
