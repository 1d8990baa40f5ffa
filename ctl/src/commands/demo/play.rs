//! The play: produce and consume, kill -9 half-way, start again, go on, and read everything once more.

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mofka_client::{
    Consumer, ConsumerOptions, DataSelector, Driver, ProducerOptions, PushFuture, Start, TopicHandle,
    TopicOptions,
};

use super::bgl::Line;
use super::checks::{Judge, Seen, Slot, Wanted, slot_of};
use super::node::DemoNode;
use super::progress::{Counter, Stage};
use super::report::{Report, Span};
use crate::failure::{Failure, Outcome};
use crate::node;

const TOPIC: &str = "bgl";
const PARTITIONS: u32 = 4;
const CONSUMER: &str = "alert-watch";
/// How long anything may take before the demonstration has failed.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn play(lines: &[Line], directory: &Path, stage: &Stage) -> Outcome<Report> {
    let mut node = DemoNode::prepare(directory)?;
    let (status, took) = node.start()?;
    let io = if status.direct_io {
        "direct I/O"
    } else {
        "buffered I/O: this file system has no direct I/O"
    };
    stage.say(&format!(
        "node: {} shards in {}, {io}, ready in {:.0} ms",
        status.shards.len(),
        directory.display(),
        took.as_secs_f64() * 1e3
    ));
    let driver = connect(&node)?;
    let topic = driver
        .create_topic(TopicOptions::new(TOPIC).partitions(PARTITIONS))
        .map_err(node::failure)?;
    stage.say(&format!(
        "topic: {TOPIC}, {PARTITIONS} partitions, acknowledged when synced"
    ));

    let mut judge = Judge::new(lines, PARTITIONS, Wanted::Alerts);
    let (produced, consume, restart) = middle(lines, &topic, &mut node, &mut judge, stage)?;
    judge.conclude()?;

    // Of the node since it was killed: the second half of the events in, all of them out.
    let shards = driver.node_status(0).map_err(node::failure)?.shards;
    let rings = shards.iter().map(|shard| shard.rings);
    let ring_frame_count = rings.map(|ring| ring.received_count + ring.sent_count).sum();

    stage.say("clean stop, start, and everything once more");
    drop((topic, driver));
    node.shutdown()?;
    node.start()?;
    let read_again = read_again(lines, &node, &judge)?;
    node.shutdown()?;

    Ok(Report {
        event_count: judge.seen_count(),
        alert_count: judge.alert_count(),
        repeated_count: judge.repeated_count(),
        acknowledged_ends: judge.acknowledged_ends().to_vec(),
        data_bytes: lines.iter().map(|line| line.text.len() as u64).sum(),
        produce: produced.first_half,
        consume,
        read_again,
        restart,
        before_us: produced.before_us,
        across_us: produced.across_us,
        ring_frame_count,
        direct_io: status.direct_io,
        files: node.files()?,
    })
}

fn connect(node: &DemoNode) -> Outcome<Driver> {
    node::connect_patiently(&node.place(), PATIENCE)
}

/// From the first push to the last pull, with the kill between.
fn middle(
    lines: &[Line],
    topic: &TopicHandle,
    node: &mut DemoNode,
    judge: &mut Judge<'_>,
    stage: &Stage,
) -> Outcome<(Produced, Span, Duration)> {
    let total = lines.len() as u64;
    let half = lines.len() / 2;
    // Not a multiple of ten, so that something is always read and not acknowledged when the node dies.
    let read_first = half.saturating_sub(14);
    let (produced, consumed) = (stage.counter("produced", total), stage.counter("consumed", total));
    let (go_on, may_go_on) = channel();
    thread::scope(|scope| {
        let producer = scope.spawn(|| produce(lines, topic, half, may_go_on, &produced));
        let outcome = (|| {
            let started = Instant::now();
            let consumer = watch_alerts(topic)?;
            consume_until(&consumer, judge, read_first, &consumed)?;
            let first_half = started.elapsed();
            // The second half is on its way to the node when it dies.
            let _ = go_on.send(());
            wait_until(
                || produced.done() > half as u64 || producer.is_finished(),
                "an acknowledgement of the second half",
            )?;
            node.kill();
            stage.say(&format!(
                "kill -9: {} of {total} acknowledged, {read_first} consumed",
                produced.done()
            ));
            drop(consumer);
            let (_, restart) = node.start()?;
            stage.say(&format!("started again in {:.0} ms", restart.as_secs_f64() * 1e3));

            // As another process would: a new driver, and a consumer with nothing but its name.
            let topic = connect(node)?.open_topic(TOPIC).map_err(node::failure)?;
            judge.resume();
            let resumed = Instant::now();
            let consumer = watch_alerts(&topic)?;
            consume_until(&consumer, judge, lines.len(), &consumed)?;
            let elapsed = first_half + resumed.elapsed();
            expect_end(&topic, &consumer)?;
            Ok((
                Span {
                    event_count: lines.len(),
                    elapsed,
                },
                restart,
            ))
        })();
        // If the play failed early, the producer must not wait for its cue.
        drop(go_on);
        match (outcome, join(producer)) {
            (Ok((consume, restart)), Ok(produced)) => Ok((produced, consume, restart)),
            (Err(failure), Ok(_)) => Err(failure),
            (Ok(_), Err(failure)) => Err(failure.while_doing("producing")),
            // Which of the two came first is for the reader to say.
            (Err(failure), Err(producing)) => Err(failure.and(&producing.while_doing("producing"))),
        }
    })
}

/// A consumer that fetches data only of alerts.
fn watch_alerts(topic: &TopicHandle) -> Outcome<Consumer> {
    let data_selector = DataSelector::new(|metadata, whole| {
        let is_alert = metadata.value()["label"] != "-";
        Ok(if is_alert {
            whole.clone()
        } else {
            whole.sub_view(0, 0)
        })
    });
    let options = ConsumerOptions {
        data_selector,
        ..ConsumerOptions::default()
    };
    topic.consumer(CONSUMER, options).map_err(node::consumer_failure)
}

/// Pulls until the judge has seen so many different events.
fn consume_until(
    consumer: &Consumer,
    judge: &mut Judge<'_>,
    count: usize,
    progress: &Counter<'_>,
) -> Outcome {
    while judge.seen_count() < count {
        let seen_before = judge.seen_count();
        let pulled = consumer
            .pull()
            .wait_timeout(PATIENCE)
            .map_err(|e| Failure::failed(e.to_string()))?;
        let short =
            |what: &str| Failure::check(format!("{what}: {} of {count} events seen", judge.seen_count()));
        let event = pulled
            .ok_or_else(|| short("no event came any more"))?
            .ok_or_else(|| short("the topic ended"))?;
        let slot = slot_of_event(&event);
        let seen = Seen {
            slot,
            metadata: event.metadata(),
            data: &event.data().to_bytes(),
        };
        if judge.see(&seen)? {
            event
                .acknowledge()
                .wait()
                .map_err(|e| node::acknowledge_failure(&e))?;
            judge.acknowledged(slot);
        }
        if judge.seen_count() > seen_before {
            progress.add_one();
        }
    }
    Ok(())
}

fn slot_of_event(event: &mofka_client::Event) -> Slot {
    Slot {
        partition: u32::try_from(event.partition()).unwrap_or(u32::MAX),
        event_id: event.id().get(),
    }
}

/// Once the topic is complete, not one event more may come.
fn expect_end(topic: &TopicHandle, consumer: &Consumer) -> Outcome {
    topic.mark_complete().map_err(node::failure)?;
    match consumer.pull().wait_timeout(PATIENCE) {
        Ok(Some(None)) => Ok(()),
        Ok(Some(Some(event))) => Err(Failure::check(format!(
            "{event:?} came after every line had been seen: an event was repeated"
        ))),
        Ok(None) => Err(Failure::check("the end of the topic was not told")),
        Err(error) => Err(Failure::failed(error.to_string())),
    }
}

/// What the producing side found.
struct Produced {
    first_half: Span,
    before_us: Histogram<u64>,
    across_us: Histogram<u64>,
}

/// A push whose answer is to come.
struct Pushed {
    n: usize,
    at: Instant,
    future: PushFuture,
}

/// Pushes the first half, waits for the cue, pushes the rest. Every answer is waited for by its partition's own thread,
/// and must be the id that the line's place in the file demands.
fn produce(
    lines: &[Line],
    topic: &TopicHandle,
    half: usize,
    cue: Receiver<()>,
    progress: &Counter<'_>,
) -> Outcome<Produced> {
    let producer = topic.producer(ProducerOptions {
        name: "demo".to_owned(),
        ..ProducerOptions::default()
    });
    thread::scope(|scope| {
        let mut collectors = Vec::new();
        let mut lanes: Vec<Sender<Pushed>> = Vec::new();
        for _ in 0..PARTITIONS {
            let (lane, answers) = channel();
            lanes.push(lane);
            collectors.push(scope.spawn(move || collect(answers, half, progress)));
        }
        let push = |(n, line): (usize, &Line)| {
            let partition = slot_of(n, PARTITIONS).partition as usize;
            let at = Instant::now();
            let future = producer.push(line.metadata(), line.text.as_str(), Some(partition));
            let future = future.map_err(|e| Failure::failed(format!("line {}: {e}", n + 1)))?;
            if let Some(lane) = lanes.get(partition) {
                // A collector that is gone has failed, and says so below.
                let _ = lane.send(Pushed { n, at, future });
            }
            Ok(())
        };
        let started = Instant::now();
        let pushed = (|| {
            lines.iter().enumerate().take(half).try_for_each(push)?;
            producer
                .flush()
                .wait()
                .map_err(|e| Failure::failed(e.to_string()))?;
            let elapsed = started.elapsed();
            if cue.recv().is_ok() {
                lines.iter().enumerate().skip(half).try_for_each(push)?;
            }
            Ok(Span {
                event_count: half,
                elapsed,
            })
        })();
        drop(lanes);
        let mut latencies = (empty()?, empty()?);
        for collector in collectors {
            let (before, across) = join(collector)?;
            latencies
                .0
                .add(before)
                .and_then(|()| latencies.1.add(across))
                .map_err(|e| Failure::failed(e.to_string()))?;
        }
        Ok(Produced {
            first_half: pushed?,
            before_us: latencies.0,
            across_us: latencies.1,
        })
    })
}

fn collect(
    answers: Receiver<Pushed>,
    half: usize,
    progress: &Counter<'_>,
) -> Outcome<(Histogram<u64>, Histogram<u64>)> {
    let (mut before, mut across) = (empty()?, empty()?);
    for Pushed { n, at, future } in answers {
        let id = future
            .wait()
            .map_err(|e| node::delivery_failure(&e).while_doing(format!("line {}", n + 1)))?;
        let us = u64::try_from(at.elapsed().as_micros()).unwrap_or(u64::MAX);
        let latency = if n < half { &mut before } else { &mut across };
        latency.record(us).map_err(|e| Failure::failed(e.to_string()))?;
        let slot = slot_of(n, PARTITIONS);
        if id.get() != slot.event_id {
            return Err(Failure::check(format!(
                "line {} got event id {id} in partition {} instead of {}: events were lost or duplicated",
                n + 1,
                slot.partition,
                slot.event_id
            )));
        }
        progress.add_one();
    }
    Ok((before, across))
}

fn empty() -> Outcome<Histogram<u64>> {
    Histogram::new(3).map_err(|e| Failure::failed(e.to_string()))
}

/// Everything again from the start, with all data, under another name; and the first consumer's cursors must stand where
/// it left them.
fn read_again(lines: &[Line], node: &DemoNode, before: &Judge<'_>) -> Outcome<Span> {
    let driver = connect(node)?;
    let topic = driver.open_topic(TOPIC).map_err(node::failure)?;
    let cursors = driver.list_consumers(TOPIC).map_err(node::failure)?;
    for (partition, end) in before.acknowledged_ends().iter().enumerate() {
        let found = cursors
            .iter()
            .find(|c| c.consumer == CONSUMER && c.index as usize == partition);
        let next = found.map_or(0, |cursor| cursor.next_event_id);
        if next != *end {
            return Err(Failure::check(format!(
                "partition {partition}: the cursor stands at {next} instead of {end}"
            )));
        }
    }
    let started = Instant::now();
    let options = ConsumerOptions {
        data_selector: DataSelector::all(),
        start: Start::First,
        ..ConsumerOptions::default()
    };
    let consumer = topic
        .consumer("reader", options)
        .map_err(node::consumer_failure)?;
    let mut judge = Judge::new(lines, PARTITIONS, Wanted::All);
    while judge.seen_count() < lines.len() {
        let pulled = consumer
            .pull()
            .wait_timeout(PATIENCE)
            .map_err(|e| Failure::failed(e.to_string()))?;
        let event = pulled
            .flatten()
            .ok_or_else(|| Failure::check("after the clean stop, events are missing"))?;
        let slot = slot_of_event(&event);
        judge.see(&Seen {
            slot,
            metadata: event.metadata(),
            data: &event.data().to_bytes(),
        })?;
    }
    judge.conclude()?;
    Ok(Span {
        event_count: lines.len(),
        elapsed: started.elapsed(),
    })
}

fn wait_until(mut holds: impl FnMut() -> bool, what: &str) -> Outcome {
    let started = Instant::now();
    while !holds() {
        if started.elapsed() > PATIENCE {
            return Err(Failure::check(format!(
                "waited {} s in vain for {what}",
                PATIENCE.as_secs()
            )));
        }
        thread::yield_now();
    }
    Ok(())
}

fn join<T>(thread: ScopedJoinHandle<'_, Outcome<T>>) -> Outcome<T> {
    thread
        .join()
        .unwrap_or_else(|_| Err(Failure::failed("a thread of the demonstration ended badly")))
}
