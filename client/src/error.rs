//! What can go wrong, one type for each kind of operation.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mofka_net::{BodyError, ErrorCode, GroupError, PatternError, ViewError, WireError};

/// An error of a function that the application gave (a selector, an allocator).
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a topic's validator, partition selector or serializer cannot work in this process.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Cannot create {what} from Metadata: {reason}")]
pub struct ComponentError {
    /// Which of the three.
    pub what: &'static str,
    /// What is wrong with its document, or who is missing.
    pub reason: Arc<str>,
    /// The document may be right: its type is neither known in this process nor in a library that it could load, and may be
    /// in others.
    pub is_unknown_type: bool,
}

/// Why something could not be asked of the nodes, or what they answered.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DriverError {
    /// Neither a group file nor addresses were given.
    #[error("\"group_file\" key not found in options: give a group file, or addresses")]
    NoGroup,
    /// The group file cannot be read.
    #[error("could not find or open group file {path}: {reason}", path = path.display())]
    GroupFile {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The group file is not one.
    #[error("{path}: {error}", path = path.display())]
    Group {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        error: GroupError,
    },
    /// An address is none, or an option makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// No node answers.
    #[error("no node could be reached{}: {reason}", within(*.waited))]
    Unreachable {
        /// How long it was tried again; zero: it was tried once.
        waited: Duration,
        /// What each attempt led to.
        reason: String,
    },
    /// The connection ended after the request was sent: it may or may not have been done.
    #[error(
        "the connection to {address} ended while {what} was under way, so it may or may not have been done: {reason}"
    )]
    Lost {
        /// What was asked.
        what: &'static str,
        /// Of whom.
        address: String,
        /// How it ended.
        reason: String,
    },
    /// The node refused.
    #[error(transparent)]
    Refused(#[from] WireError),
    /// The node answered what makes no sense.
    #[error("the answer to {what} cannot be understood: {error}")]
    Answer {
        /// What was asked.
        what: &'static str,
        /// What is wrong with the answer.
        error: BodyError,
    },
    /// A component of the topic cannot work in this process.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// No node of this rank.
    #[error("invalid rank {rank} (should be lower than {members})")]
    InvalidRank {
        /// What was asked for.
        rank: usize,
        /// How many nodes there are.
        members: usize,
    },
    /// The process forked after the driver was made.
    #[error("this driver was made by process {pid}: after a fork, connect again in the child")]
    Forked {
        /// The process that made it.
        pid: u32,
    },
}

fn within(waited: Duration) -> String {
    if waited.is_zero() {
        String::new()
    } else {
        format!(" within {waited:.1?}")
    }
}

impl DriverError {
    /// What the node answered, if it did.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused(error) => Some(error.code),
            _ => None,
        }
    }

    /// Whether trying again soon may help.
    pub(crate) fn is_retriable(&self) -> bool {
        match self {
            Self::Refused(error) => error.code.is_retriable(),
            Self::Unreachable { .. } | Self::Lost { .. } => true,
            // The file is being written anew while a node restarts.
            Self::GroupFile { .. } | Self::Group { .. } => true,
            _ => false,
        }
    }
}

/// Why metadata is not what it was taken for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// The text is not JSON.
    #[error("Could not parse JSON: {reason}")]
    NotJson {
        /// What is wrong with it, and where.
        reason: Arc<str>,
    },
    /// The text is JSON, and says what a value cannot hold.
    #[error("Could not make a value of JSON: {reason}")]
    NoValue {
        /// What that is, and where.
        reason: Arc<str>,
    },
    /// It is not a JSON string.
    #[error("Metadata content is not a string, it is {kind}")]
    NotString {
        /// What it is.
        kind: &'static str,
    },
}

/// Why there is no thread pool, or why it takes no task.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ThreadPoolError {
    /// Beyond the bound of a pool.
    #[error("a thread pool of {wanted} threads was asked for, and at most {max} are allowed")]
    TooMany {
        /// What was asked for.
        wanted: usize,
        /// The bound.
        max: usize,
    },
    /// The system starts no more threads.
    #[error(
        "a thread pool of {wanted} threads cannot be started, only {started} of them: {reason}; \
         ask for fewer, or look at the limits of processes and memory (ulimit -u)"
    )]
    Threads {
        /// What was asked for.
        wanted: usize,
        /// How many there were when it failed; they have ended.
        started: usize,
        /// What the system said.
        reason: Arc<str>,
    },
    /// The process forked after the pool was made.
    #[error("this thread pool was made by process {pid}: after a fork, make another in the child")]
    Forked {
        /// The process that made it.
        pid: u32,
    },
}

/// Why bytes of an event's data were not written in place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FillError {
    /// They do not lie within the data.
    #[error(
        "{bytes} bytes at {at} are not within the {data_bytes} bytes that were claimed: claim more, or write less"
    )]
    Outside {
        /// First byte.
        at: usize,
        /// How many.
        bytes: usize,
        /// Bytes of the event's data.
        data_bytes: usize,
    },
    /// The process forked after they were claimed.
    #[error("this memory was claimed by process {pid}: after a fork, connect again in the child")]
    Forked {
        /// The process that claimed it.
        pid: u32,
    },
}

/// Why an event was not taken by `push`: nothing of it was queued.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The topic has no partitions.
    #[error("PartitionSelector has no target to select from: topic \"{topic}\" has no partitions")]
    NoTarget {
        /// Which topic.
        topic: String,
    },
    /// The metadata is not JSON.
    #[error("Could not parse JSON: {reason}")]
    InvalidMetadata {
        /// What is wrong with it.
        reason: String,
    },
    /// The topic's validator does not take the event.
    #[error("{reason}")]
    Rejected {
        /// What the validator said.
        reason: Arc<str>,
    },
    /// The topic's partition selector or serializer failed for this event.
    #[error("the {what} failed: {reason}")]
    Callback {
        /// Which of them.
        what: &'static str,
        /// What it said.
        reason: Arc<str>,
    },
    /// A component of the topic cannot work in this process.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// The event is larger than a node takes.
    #[error("an event of {bytes} bytes is larger than the {max} that the node takes in one batch")]
    TooLarge {
        /// Bytes of metadata, data and table.
        bytes: u64,
        /// The bound.
        max: u64,
    },
    /// The event's place in the producer's source is missing, or cannot be.
    #[error("{reason}")]
    Place {
        /// What is wrong with it.
        reason: String,
    },
    /// The producer was closed.
    #[error("the producer is closed")]
    Closed,
    /// Whoever pushed did not want to wait for room any longer ([`Producer::push_while`](crate::Producer::push_while)).
    #[error("given up while it waited for room")]
    GivenUp,
    /// The process forked after the driver was made.
    #[error("this producer was made by process {pid}: after a fork, connect again in the child")]
    Forked {
        /// The process that made it.
        pid: u32,
    },
}

impl PushError {
    /// The reason as one word, for counting.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoTarget { .. } => "no_target",
            Self::InvalidMetadata { .. } => "invalid_metadata",
            Self::Rejected { .. } => "rejected",
            Self::Callback { .. } => "callback",
            Self::Component(_) => "component",
            Self::TooLarge { .. } => "too_large",
            Self::Place { .. } => "place",
            Self::Closed => "closed",
            Self::GivenUp => "given_up",
            Self::Forked { .. } => "forked",
        }
    }
}

/// Why a pushed event is not acknowledged.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeliveryError {
    /// It could not be taken. Only of a loose producer: others are told by `push`.
    #[error(transparent)]
    NotTaken(Arc<PushError>),
    /// The node refused it.
    #[error(transparent)]
    Refused(Arc<WireError>),
    /// The node refused it, and it may be stored all the same: the answer was lost when it was sent before, or the node could not
    /// write what it had taken.
    #[error("{0} (it was sent, and may be stored)")]
    InDoubt(Arc<WireError>),
    /// It could not be brought to its node, or the answer did not come. Only in the latter case it may be stored.
    #[error("the event could not be delivered within {waited:.1?}{}: {reason}", if *.may_be_stored { " (it was sent, and may be stored)" } else { "" })]
    Unreachable {
        /// How long it was tried.
        waited: Duration,
        /// Whether it was sent and only the answer is missing.
        may_be_stored: bool,
        /// What happened last.
        reason: Arc<str>,
    },
    /// It was not acknowledged within [`ProducerOptions::delivery_timeout`](crate::ProducerOptions::delivery_timeout).
    #[error(
        "the event was not acknowledged within {waited:.1?}{}", if *.may_be_stored {
            ": it was sent, and may be stored, or will be when the node is back"
        } else {
            ": it was not sent, and will not be"
        }
    )]
    TimedOut {
        /// How long it waited, or the first event of its batch.
        waited: Duration,
        /// Whether it was sent. It is still on its way then, since what was sent after it depends on it.
        may_be_stored: bool,
    },
    /// The topic or the partition does not exist any more.
    #[error("{0}")]
    Gone(Arc<str>),
    /// The process forked after the driver was made.
    #[error("this event was pushed by process {pid}, and only that can wait for it")]
    Forked {
        /// The process that made the driver.
        pid: u32,
    },
}

impl From<PushError> for DeliveryError {
    fn from(error: PushError) -> Self {
        Self::NotTaken(Arc::new(error))
    }
}

impl DeliveryError {
    /// The reason as one word, for counting.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotTaken(error) => error.reason(),
            Self::Refused(error) | Self::InDoubt(error) => error.code.name(),
            Self::Unreachable { .. } => "unreachable",
            Self::TimedOut { .. } => "timed_out",
            Self::Gone(_) => "gone",
            Self::Forked { .. } => "forked",
        }
    }

    /// Whether the event may be stored all the same: it was sent, and its answer is missing or says that writing it failed.
    pub fn may_be_stored(&self) -> bool {
        matches!(
            self,
            Self::InDoubt(_)
                | Self::Unreachable {
                    may_be_stored: true,
                    ..
                }
                | Self::TimedOut {
                    may_be_stored: true,
                    ..
                }
        )
    }
}

/// Why an event whose data is written in pieces is not stored.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The event is none that can be taken.
    #[error(transparent)]
    Push(#[from] PushError),
    /// The node does not take its data.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// Its data could not be read, or could not be written to the node.
    #[error("the data of the event: {0}")]
    Data(Arc<std::io::Error>),
    /// The node does not take the event.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
}

/// Why a pull gives no event.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// The application's selector or allocator failed for this event. Later events come all the same.
    #[error("the {what} failed for event {event_id} of partition {partition}: {reason}")]
    Callback {
        /// Which function.
        what: &'static str,
        /// Which event.
        event_id: u64,
        /// The partition's index.
        partition: usize,
        /// What it said.
        reason: Arc<str>,
    },
    /// The allocator gave too much or too little memory.
    #[error(
        "DataBroker returned a Data object with a size different from the selected DataDescriptor size: \
         {allocated_bytes} bytes for the {selected_bytes} selected of event {event_id} of partition {partition}"
    )]
    Allocation {
        /// Which event.
        event_id: u64,
        /// The partition's index.
        partition: usize,
        /// What was to be placed.
        selected_bytes: u64,
        /// What there is room for.
        allocated_bytes: u64,
    },
    /// More of the event's data is selected than is taken into memory. Later events come all the same.
    #[error(
        "{selected_bytes} bytes of the data of event {event_id} of partition {partition} are selected, and `data_bytes_max` \
         lets at most {max_bytes} into memory: select less, or nothing and read the data in pieces with the DataReader that \
         `Event::open_data` gives"
    )]
    DataTooLarge {
        /// Which event.
        event_id: u64,
        /// The partition's index.
        partition: usize,
        /// What is selected.
        selected_bytes: u64,
        /// The bound: [`ConsumerOptions::data_bytes_max`](crate::ConsumerOptions::data_bytes_max).
        max_bytes: u64,
    },
    /// The event's data could not be fetched. Later events come all the same.
    #[error("the data of event {event_id} of partition {partition} could not be fetched: {reason}")]
    Data {
        /// Which event.
        event_id: u64,
        /// The partition's index.
        partition: usize,
        /// Why.
        reason: Arc<str>,
    },
    /// The event's metadata is not what the topic's serializer made.
    #[error("could not deserialize the metadata of event {event_id} of partition {partition}: {reason}")]
    Metadata {
        /// Which event.
        event_id: u64,
        /// The partition's index.
        partition: usize,
        /// What is wrong with it.
        reason: Arc<str>,
    },
    /// No more events come from this partition.
    #[error("partition {partition} gives no more events: {reason}")]
    Partition {
        /// Its index.
        partition: usize,
        /// Why.
        reason: Arc<str>,
    },
    /// It is not known any more which partitions to read.
    #[error("this consumer gets no more events: {reason}")]
    Membership {
        /// Why.
        reason: Arc<str>,
    },
    /// The consumer was closed.
    #[error("the consumer is closed")]
    Closed,
    /// The process forked after the driver was made.
    #[error("this consumer was made by process {pid}: after a fork, connect again in the child")]
    Forked {
        /// The process that made it.
        pid: u32,
    },
}

/// Why events are not processed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// There is one call at a time for a consumer and its clones.
    #[error(
        "events of this consumer are processed already: wait until that call of process has ended, or make another consumer"
    )]
    UnderWay,
}

/// Why an acknowledgement did not become durable.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcknowledgeError {
    /// The node refused it.
    #[error("Could not acknowledge event: {0}")]
    Refused(Arc<WireError>),
    /// The node could not be reached.
    #[error("Could not acknowledge event within {waited:.1?}: {reason}")]
    Unreachable {
        /// How long it was tried.
        waited: Duration,
        /// What happened last.
        reason: Arc<str>,
    },
    /// The process forked after the driver was made.
    #[error("this event was pulled by process {pid}: after a fork, connect again in the child")]
    Forked {
        /// The process that made the driver.
        pid: u32,
    },
}

/// Why a consumer could not be made.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConsumerError {
    /// A target is not a partition of the topic.
    #[error(
        "invalid partition index passed to TopicHandle::consumer(): {index}, and the topic has {partitions}"
    )]
    InvalidTarget {
        /// What was given.
        index: usize,
        /// How many partitions there are.
        partitions: usize,
    },
    /// The name cannot be a consumer's.
    #[error("a consumer's name has 1 to {max} bytes, not {bytes}")]
    InvalidName {
        /// Its length.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// The consumer does not read this partition: another one of its name does, or it was closed.
    #[error("partition {partition} is not read by this consumer: see Consumer::partitions()")]
    NotRead {
        /// Which one.
        partition: usize,
    },
    /// The filter is not an event pattern.
    #[error("the consumer's filter: {0}")]
    Filter(#[from] PatternError),
    /// The data selector's views are too many.
    #[error("the data selector: {0}")]
    Views(#[from] ViewError),
    /// The topic's serializer cannot work in this process.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// It could not subscribe.
    #[error(transparent)]
    Driver(#[from] DriverError),
}
