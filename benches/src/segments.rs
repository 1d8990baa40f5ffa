//! Large events in one segment and in several: kept where they are until they are sent, or copied into the batch first.

use std::path::PathBuf;
use std::time::Instant;

use bytes::Bytes;
use clap::Args;
use mofka_client::{BatchSize, Data, Driver, PartitionKind, ProducerOptions, TopicOptions};

use crate::bytes_text;
use crate::harness::{self, Machine, Sample, Series, Side, cpu_time};
use crate::node::Node;

#[derive(Args)]
pub(crate) struct SegmentsArgs {
    /// Directory on the device to measure; the events stay in memory.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Bytes of data in an event; several, with commas between.
    #[arg(long, value_delimiter = ',', default_value = "1048576,16777216")]
    data_bytes: Vec<usize>,
    /// Segments of an event; several, with commas between.
    #[arg(long, value_delimiter = ',', default_value = "1,4")]
    segments: Vec<usize>,
    /// Bytes of all events of one turn.
    #[arg(long, default_value_t = 256 << 20)]
    turn_bytes: usize,
    /// Turns of each side; the median counts.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
}

pub(crate) fn measure(args: &SegmentsArgs, json: bool) -> Result<(), String> {
    let node = Node::start(&args.dir, 1)?;
    let driver = node.driver()?;
    let machine = Machine::here(&args.dir);
    for data_bytes in &args.data_bytes {
        for segments in &args.segments {
            let data = data(*data_bytes, *segments)?;
            let events = (args.turn_bytes / data_bytes).max(1);
            let side = |name: &str, shared_bytes_min| {
                let (driver, data) = (&driver, &data);
                Side::new(name.to_owned(), move || {
                    turn(driver, data, events, shared_bytes_min)
                })
            };
            let copied = "copied into the batch";
            let kept = "kept until they are sent";
            let sides = vec![side(copied, usize::MAX), side(kept, 64 << 10)];
            let series = harness::interleave(args.rounds, sides)?;
            let title = format!(
                "{events} events of {}, segments in each: {segments}; memory partition, TCP loopback; CPU of the client",
                bytes_text(data.bytes())
            );
            harness::print(&title, &machine, &series, Some(copied), json);
            if !json {
                println!("CPU of the client, kept to copied: {:.2}\n", cpu_ratio(&series));
            }
        }
    }
    Ok(())
}

fn data(bytes: usize, segments: usize) -> Result<Data, String> {
    if segments == 0 || bytes < segments {
        return Err(format!("{bytes} bytes cannot be cut into {segments} segments"));
    }
    let whole = Bytes::from((0..bytes).map(|at| (at % 251) as u8).collect::<Vec<u8>>());
    let place = |n: usize| bytes / segments * n;
    let cut = |n: usize| match n + 1 == segments {
        true => whole.slice(place(n)..),
        false => whole.slice(place(n)..place(n + 1)),
    };
    // Memory of its own for each, as an application has it.
    let segment = |n| Bytes::copy_from_slice(&cut(n));
    Ok((0..segments).map(segment).collect::<Vec<Bytes>>().into())
}

/// Every event in a batch of its own, two of them under way; the time ends when the last one is acknowledged.
fn turn(driver: &Driver, data: &Data, events: usize, shared_bytes_min: usize) -> Result<Sample, String> {
    let options = TopicOptions::new("segments").partition_kind(PartitionKind::Memory);
    let topic = driver.create_topic(options).map_err(|e| e.to_string())?;
    let producer = topic.producer(ProducerOptions {
        batch_size: BatchSize::fixed(1),
        shared_bytes_min,
        ..ProducerOptions::default()
    });
    let (started, cpu_before) = (Instant::now(), cpu_time());
    for _ in 0..events {
        producer
            .push("{}", data.clone(), None)
            .map_err(|e| e.to_string())?;
    }
    let report = producer.close().map_err(|e| e.to_string())?;
    let (elapsed, cpu) = (started.elapsed(), cpu_time().saturating_sub(cpu_before));
    if report.acknowledged != events as u64 {
        return Err(format!("{report:?}"));
    }
    driver.delete_topic("segments").map_err(|e| e.to_string())?;
    let per_second = events as f64 / elapsed.as_secs_f64();
    Ok(Sample {
        per_second,
        megabytes_per_second: per_second * data.bytes() as f64 / 1e6,
        cpu_us: cpu.as_secs_f64() * 1e6 / events as f64,
        ..Sample::default()
    })
}

/// Of the second series to the first.
fn cpu_ratio(series: &[Series]) -> f64 {
    let cpu = |n: usize| series.get(n).map_or(f64::NAN, |one| one.median().cpu_us);
    cpu(1) / cpu(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_cut_into_so_many_segments() {
        let whole = data(1000, 1).unwrap();
        for segments in [2, 3, 4] {
            let cut = data(1000, segments).unwrap();
            assert_eq!((cut.segments().len(), &cut), (segments, &whole));
        }
        assert!(data(3, 0).is_err() && data(3, 4).is_err());
    }
}
