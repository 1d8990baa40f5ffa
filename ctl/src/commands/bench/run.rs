//! What all benchmarks share: the topic, its end, what is moved, the interruption.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mofka_client::{
    BatchSize, Data, Driver, Durability, ErrorCode, Producer, ProducerOptions, TopicHandle, TopicOptions,
};
use rustix::time::{ClockId, clock_gettime};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::cli::{BenchArgs, DurabilityName};
use crate::failure::{Failure, Outcome};
use crate::node::{self, Place};

/// A benchmark that has its topic.
pub(crate) struct Run<'a> {
    pub(crate) args: &'a BenchArgs,
    driver: Driver,
    pub(crate) topic: TopicHandle,
    is_ours: bool,
    stop: Arc<AtomicBool>,
    is_over: bool,
}

impl<'a> Run<'a> {
    /// Connects, and makes the topic if none was named. From here on SIGINT and SIGTERM end the measurement; a second one ends
    /// the program.
    pub(crate) fn begin(args: &'a BenchArgs, place: &Place) -> Outcome<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))
                .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
                .map_err(|error| Failure::failed(format!("cannot handle signal {signal}: {error}")))?;
        }
        let driver = node::connect(place)?;
        let topic = match &args.topic {
            Some(name) => driver.open_topic(name),
            None => {
                let name = format!("mofka-bench-{}", uuid::Uuid::new_v4().simple());
                let options = TopicOptions::new(name).partitions(args.partitions);
                driver.create_topic(options.durability(durability(args.durability)))
            }
        };
        let topic = topic.map_err(node::failure)?;
        if topic.partitions().is_empty() {
            return Err(Failure::failed(format!(
                "topic {} has no partition: add one with `mofka-ctl partition add`",
                topic.name()
            )));
        }
        Ok(Self {
            args,
            driver,
            topic,
            is_ours: args.topic.is_none(),
            stop,
            is_over: false,
        })
    }

    pub(crate) fn is_ours(&self) -> bool {
        self.is_ours
    }

    /// Whether somebody wants it to end.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// A producer as it was asked for.
    pub(crate) fn producer(&self) -> Producer {
        self.topic.producer(ProducerOptions {
            name: format!("mofka-bench-{}", uuid::Uuid::new_v4().simple()),
            batch_size: self.args.batch_size.map_or(BatchSize::Adaptive, BatchSize::fixed),
            max_num_batches: usize::try_from(self.args.in_flight).unwrap_or(1),
            ..ProducerOptions::default()
        })
    }

    /// Bytes of an event, metadata and data.
    pub(crate) fn event_bytes(&self) -> u64 {
        u64::from(self.args.metadata_bytes).saturating_add(self.args.data_bytes)
    }

    /// Every event's data: bytes that do not compress.
    pub(crate) fn data(&self) -> Outcome<Data> {
        let bytes = usize::try_from(self.args.data_bytes)
            .ok()
            .filter(|bytes| *bytes <= 1 << 30)
            .ok_or_else(|| Failure::usage("--data-bytes: 1GiB at most"))?;
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let data: Vec<u8> = std::iter::repeat_with(|| next_random(&mut state).to_le_bytes())
            .flatten()
            .take(bytes)
            .collect();
        Ok(Data::from(data))
    }

    /// Deletes the topic if it is ours.
    pub(crate) fn end(mut self) -> Outcome {
        self.clean_up()
    }

    fn clean_up(&mut self) -> Outcome {
        if std::mem::replace(&mut self.is_over, true) || !self.is_ours || self.args.keep {
            return Ok(());
        }
        let name = self.topic.name();
        match self.driver.delete_topic(&name) {
            Err(error) if error.code() != Some(ErrorCode::UnknownTopic) => {
                Err(node::failure(error).while_doing(format!("deleting topic {name}")))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        // Something failed before, which is what is told.
        if let Err(failure) = self.clean_up() {
            eprintln!("Warning: {failure}");
        }
    }
}

fn durability(name: DurabilityName) -> Durability {
    match name {
        DurabilityName::Synced => Durability::Synced,
        DurabilityName::Written => Durability::Written,
        DurabilityName::Buffered => Durability::Buffered,
    }
}

/// Xorshift: quick, and good enough to choose by chance.
pub(crate) fn next_random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// CPU time of this process, of all of its threads.
pub(crate) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}
