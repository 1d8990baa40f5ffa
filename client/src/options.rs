//! Everything that can be chosen, with the defaults.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use mofka_log::{Durability, PartitionKind, Retention};
use mofka_plugins::LibraryPolicy;
use serde_json::Value;

use crate::consumer::{DataAllocator, DataSelector, OnAssignment};
use crate::pool::ThreadPool;

/// Where the nodes are, and how patient to be with them.
#[derive(Clone, Debug)]
pub struct DriverOptions {
    /// The group file that the nodes write (`mofka.json`). It is read again whenever a node is lost. Nodes on this machine are
    /// talked to over their Unix sockets when they listen on any, and so through shared memory.
    pub group_file: Option<PathBuf>,
    /// Addresses of one node, instead of a group file: `tcp://host:port`, `unix:///path`. The first one says which way is
    /// taken to the node's other shards, too, where there are several.
    pub addresses: Vec<String>,
    /// How long one attempt to connect may take. Default: 5 s.
    pub connect_timeout: Duration,
    /// How long a lost node is looked for before events, pulls and requests fail. Default: 60 s.
    pub reconnect_timeout: Duration,
    /// How long a node may take to answer a request for data, of which each has 8 MiB at most, while no other data comes over its
    /// connection: it may live, and answer all else, while its device does not. The connection ends then, and over a new one what was not
    /// delivered is asked for again, as after any loss: within `reconnect_timeout` from the first failure on, and so twice at least. After
    /// that pulls and reads fail. Not zero. `None`: as long as the node lives. Default: 60 s.
    pub fetch_timeout: Option<Duration>,
    /// Which shared libraries may be loaded for the components of topics, whose documents name them: a topic's document comes
    /// from whoever created it. What is loaded is known in the whole process, for all of its drivers. Default: what
    /// `MOFKA_PLUGIN_PATH` says, plain names on the system's search path when it is not set.
    pub libraries: LibraryPolicy,
    /// A name for the nodes' logs and status. Default: the process id.
    pub client_name: String,
    /// What is shared with a node that is reached over a Unix socket (`unix://`, `na+sm://`), so that events go through memory.
    /// Where the node gives less, there is less; where it gives none, the socket is used. `None`: sockets only.
    pub shared_memory: Option<RingSize>,
}

/// Memory that is shared with a node on this machine, for each connection. It is taken as it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSize {
    /// Requests under way at a time, and as many answers: a power of two, or the next smaller one is taken. Default: 1024.
    pub slots: u32,
    /// Bytes of each direction that are on their way. Frames that are larger go over the socket. Default: 16 MiB.
    pub arena_bytes: u64,
}

impl Default for RingSize {
    fn default() -> Self {
        Self {
            slots: 1024,
            arena_bytes: 16 << 20,
        }
    }
}

impl Default for DriverOptions {
    fn default() -> Self {
        Self {
            group_file: None,
            addresses: Vec::new(),
            connect_timeout: Duration::from_secs(5),
            reconnect_timeout: Duration::from_secs(60),
            fetch_timeout: Some(Duration::from_secs(60)),
            libraries: LibraryPolicy::default(),
            client_name: format!("pid {}", std::process::id()),
            shared_memory: Some(RingSize::default()),
        }
    }
}

impl DriverOptions {
    /// The nodes of this group file.
    pub fn group_file(path: impl Into<PathBuf>) -> Self {
        Self {
            group_file: Some(path.into()),
            ..Self::default()
        }
    }

    /// The node at these addresses, best first.
    pub fn addresses<T: Into<String>>(addresses: impl IntoIterator<Item = T>) -> Self {
        Self {
            addresses: addresses.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }
}

/// What a new topic is like.
#[derive(Clone, Debug)]
pub struct TopicOptions {
    /// Its name: `[A-Za-z0-9._-]`, 1 to 200 bytes.
    pub name: String,
    /// What acknowledged means; `None`: the node's default (synced).
    pub durability: Option<Durability>,
    /// The validator's JSON; `None`: accept everything.
    pub validator: Option<Value>,
    /// The partition selector's JSON; `None`: in turn.
    pub partition_selector: Option<Value>,
    /// The serializer's JSON; `None`: JSON text.
    pub serializer: Option<Value>,
    /// What of its events may go; `None`: what the node says (`default_retention`, which is nothing by default).
    pub retention: Option<Retention>,
    /// How many producers there will be: the topic is complete when so many said that they are done
    /// ([`Producer::done`](crate::Producer::done)). 0, the default: that is not counted.
    pub producers_expected: u32,
    /// Partitions to make at once; 0: they are added later.
    pub partitions: u32,
    /// What they are like.
    pub partition_kind: PartitionKind,
    /// Options of that kind.
    pub partition_config: Option<Value>,
}

impl TopicOptions {
    /// A topic with this name, everything else by default: synced, one partition, in a log.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            durability: None,
            validator: None,
            partition_selector: None,
            serializer: None,
            retention: None,
            producers_expected: 0,
            partitions: 1,
            partition_kind: PartitionKind::Default,
            partition_config: None,
        }
    }

    /// With this many partitions.
    #[must_use]
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.partitions = partitions;
        self
    }

    /// With this durability.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    /// With this retention.
    #[must_use]
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = Some(retention);
        self
    }

    /// Complete when so many producers are done.
    #[must_use]
    pub fn producers_expected(mut self, producers: u32) -> Self {
        self.producers_expected = producers;
        self
    }

    /// With partitions of this kind.
    #[must_use]
    pub fn partition_kind(mut self, kind: PartitionKind) -> Self {
        self.partition_kind = kind;
        self
    }
}

/// What a partition to be added is like.
#[derive(Clone, Debug)]
pub struct PartitionOptions {
    /// The node that is to have it.
    pub rank: u32,
    /// The shard of that node; `None`: the node chooses.
    pub shard: Option<u32>,
    /// Log or memory.
    pub kind: PartitionKind,
    /// Options of that kind.
    pub config: Option<Value>,
}

impl Default for PartitionOptions {
    fn default() -> Self {
        Self {
            rank: 0,
            shard: None,
            kind: PartitionKind::Default,
            config: None,
        }
    }
}

/// How many events are sent together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BatchSize {
    /// Whatever has gathered when the connection is free: the lowest latency when there is little to do, large batches
    /// when there is much.
    #[default]
    Adaptive,
    /// This many, or fewer after a flush, a timeout, or when somebody waits for one of them.
    Fixed(NonZeroU32),
}

impl BatchSize {
    /// `n` events; 0 means adaptive, as in the original's C interface.
    pub fn fixed(n: u32) -> Self {
        NonZeroU32::new(n).map_or(Self::Adaptive, Self::Fixed)
    }
}

/// Whether a producer keeps the order of its events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ordering {
    /// In each partition events are stored in the order of the calls of `push`, which does everything in the calling thread.
    #[default]
    Strict,
    /// Events may be stored in another order: the topic's validator, partition selector and serializer run in the threads of a
    /// pool. What they refuse is told by the event's future then.
    Loose,
}

/// Where a producer's events come from, when each of them has a place there: a file with its positions, or a partition with its
/// event ids. A partition remembers up to which place it has the events of a source, as durably as the events themselves, so
/// whoever begins anew with the same source neither repeats nor leaves out any, wherever and whenever the last one ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Who it is for the nodes: the same for everybody who pushes from this source, and for nobody else.
    pub id: NonZeroU64,
    /// The place with which to go on in the partition that is pushed to, when it is known: what a refusal with the code
    /// [`SequenceGap`](crate::ErrorCode::SequenceGap) said was expected. `None`: the first event's.
    pub from: Option<u64>,
}

/// How a producer works.
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// A name, for people.
    pub name: String,
    /// Events in a batch.
    pub batch_size: BatchSize,
    /// Batches of one partition that may wait for their answer or to be sent; `push` blocks beyond it. 0 is taken as 1.
    /// Of those, as many are on their way at once as a partition remembers, which is 64. Default: 2.
    pub max_num_batches: usize,
    /// Bytes from which on a batch is full, whatever the batch size says. One event may be larger. Default: 4 MiB, which is
    /// what a consumer takes together, so that data comes along with its events.
    pub batch_bytes_max: u64,
    /// Bytes from which on a segment of an event's data is not copied but kept, until the event was acknowledged or failed, and
    /// sent from where it is. Shorter ones are copied when they are pushed. `usize::MAX` copies everything; less than 4 KiB is taken
    /// as that, below which copying costs less. Default: 64 KiB.
    pub shared_bytes_min: usize,
    /// Whether order is kept. Default: strict.
    pub ordering: Ordering,
    /// Where events are prepared that need no order. As many of them as fit `max_num_batches` batches wait for it. `None`: the
    /// driver's default pool. Without threads, and for a strict producer, they are prepared where they are pushed.
    pub thread_pool: Option<ThreadPool>,
    /// How long an event may wait for its acknowledgement before its future fails, counted from the first event of its batch.
    /// `None`, the default: as long as the node lives, or is looked for ([`DriverOptions::reconnect_timeout`]).
    ///
    /// What was not sent by then is not sent any more. What was sent is told that it may be stored, and is brought to its end in
    /// the background, since the batches after it depend on it. A batch of a fixed size is sent when half of the time is over,
    /// full or not.
    ///
    /// Of an event whose data is written in pieces, this bounds each write, which waits for the node to have written what came
    /// before, and [`DataWriter::finish`](crate::DataWriter::finish).
    pub delivery_timeout: Option<Duration>,
    /// A batch of a fixed size is sent, full or not, when no event came into it for so long. `None`, the default: it waits to be
    /// full, flushed or waited for. Adaptive batches do not wait.
    pub batch_idle_timeout: Option<Duration>,
    /// When to acknowledge; `None`: as the topic says.
    pub durability: Option<Durability>,
    /// How long dropping the producer waits for its events. Default: 10 s.
    pub drop_timeout: Duration,
    /// The source of its events, which are then pushed with [`Producer::push_from`](crate::Producer::push_from). Such a producer is
    /// strict and has no `delivery_timeout`; and when an event fails, so does all that was pushed to this partition after it,
    /// and nothing more can be pushed there: what is left out would be left out for ever. `None`, the default: no source.
    pub source: Option<Source>,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            name: String::new(),
            batch_size: BatchSize::Adaptive,
            max_num_batches: 2,
            batch_bytes_max: 4 << 20,
            shared_bytes_min: 64 << 10,
            ordering: Ordering::Strict,
            thread_pool: None,
            delivery_timeout: None,
            batch_idle_timeout: None,
            durability: None,
            drop_timeout: Duration::from_secs(10),
            source: None,
        }
    }
}

/// Where a consumer begins in each partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// After the last event that a consumer of this name acknowledged; the first event if there is none.
    #[default]
    Cursor,
    /// With the first event that there is.
    First,
    /// With the first event that becomes visible from now on.
    Last,
    /// With this event.
    Id(u64),
    /// With the first event of the first batch that the node accepted at this time or later: Unix time in microseconds.
    /// With the first event from now on when there is none. Where the node's clock went backwards, events with
    /// earlier times may follow; none at or after the time is left out.
    Time(u64),
}

/// How a consumer works.
#[derive(Clone, Debug)]
pub struct ConsumerOptions {
    /// Events that come together. Batches are not split for it: it is a wish.
    pub batch_size: BatchSize,
    /// Feeds of one partition that may be here and not pulled: nothing more is sent beyond it. 0 is taken as 1.
    /// Default: 2.
    pub max_num_batches: usize,
    /// Bytes that come together. Default: 4 MiB.
    pub batch_bytes_max: u32,
    /// Indices of the partitions to read; empty: all, those too that are added later.
    pub targets: Vec<usize>,
    /// Which events are wanted: an event pattern ([`Pattern`](crate::Pattern)) that their metadata has to match. The node looks
    /// at the metadata, and only what matches is sent; where the topic's serializer is its own, the consumer looks. The
    /// cursor moves past what does not match. Default: all.
    pub filter: Option<Value>,
    /// Which data is wanted. Default: none.
    pub data_selector: DataSelector,
    /// Bytes of one event's data that are taken into memory. An event with more that is selected fails its own pull; its data
    /// can be read in pieces ([`Event::open_data`](crate::Event::open_data)). Default: 1 GiB.
    pub data_bytes_max: u64,
    /// Where data is placed. Default: in memory of the library.
    pub data_allocator: DataAllocator,
    /// Where metadata is deserialized, data selected, allocated and fetched. In a pool, partitions are worked on side by side,
    /// each in its order; a thread is busy also while it waits for data. `None`, the default, or a pool without threads: one
    /// thread of the consumer's own, for all of its partitions.
    pub thread_pool: Option<ThreadPool>,
    /// What is told which partitions this consumer reads, as that changes. Default: nothing.
    pub on_assignment: OnAssignment,
    /// Where to begin.
    pub start: Start,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self {
            batch_size: BatchSize::Adaptive,
            max_num_batches: 2,
            batch_bytes_max: 4 << 20,
            targets: Vec::new(),
            filter: None,
            data_selector: DataSelector::none(),
            data_bytes_max: 1 << 30,
            data_allocator: DataAllocator::default(),
            thread_pool: None,
            on_assignment: OnAssignment::none(),
            start: Start::Cursor,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_the_original() {
        let producer = ProducerOptions::default();
        assert_eq!((producer.name.as_str(), producer.max_num_batches), ("", 2));
        assert_eq!(
            (producer.batch_size, producer.ordering),
            (BatchSize::Adaptive, Ordering::Strict)
        );
        assert!(producer.thread_pool.is_none() && producer.durability.is_none());
        assert_eq!(
            (producer.delivery_timeout, producer.batch_idle_timeout),
            (None, None)
        );
        let consumer = ConsumerOptions::default();
        assert_eq!(
            (consumer.batch_size, consumer.max_num_batches),
            (BatchSize::Adaptive, 2)
        );
        assert!(consumer.targets.is_empty() && consumer.thread_pool.is_none());
        assert_eq!(consumer.start, Start::Cursor);
        let wants = format!("{:?} {:?}", consumer.data_selector, consumer.data_allocator);
        assert_eq!(wants, "DataSelector::none() DataAllocator::default()");
    }

    #[test]
    fn a_batch_size_of_zero_is_adaptive() {
        assert_eq!(BatchSize::fixed(0), BatchSize::Adaptive);
        assert_eq!(
            BatchSize::fixed(3),
            BatchSize::Fixed(NonZeroU32::MIN.saturating_add(2))
        );
    }
}
