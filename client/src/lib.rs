//! Client of Mofka: a [`Driver`] leads to the nodes, a [`TopicHandle`] to a topic, a [`Producer`] pushes events and a
//! [`Consumer`] pulls them.
//!
//! An event is *metadata* (a small JSON document, always delivered) and *data* (bytes, delivered as far as the
//! consumer's selector wants them).
//!
//! ```no_run
//! use mofka_client::{ConsumerOptions, DataSelector, Driver, DriverOptions, ProducerOptions, TopicOptions};
//! use serde_json::json;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let driver = Driver::connect(DriverOptions::group_file("mofka.json"))?;
//! let topic = driver.create_topic(TopicOptions::new("collisions"))?;
//!
//! let producer = topic.producer(ProducerOptions::default());
//! let pushed = producer.push(json!({"energy": 42}), "the data", None)?;
//! println!("stored as event {}", pushed.wait()?);
//!
//! let options = ConsumerOptions { data_selector: DataSelector::all(), ..ConsumerOptions::default() };
//! let consumer = topic.consumer("analysis", options)?;
//! if let Some(event) = consumer.pull().wait()? {
//!     println!("{} {:?}", event.metadata(), event.data().to_bytes());
//!     event.acknowledge().wait()?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Everything is synchronous and uses plain threads; every future can be waited for, polled, or awaited. A lost node
//! is looked for in the background, and what was not acknowledged is sent again; nodes recognize what they have.
#![forbid(unsafe_code)]

mod chores;
mod components;
mod consumer;
mod data;
mod data_ref;
mod driver;
mod error;
mod future;
mod link;
mod metadata;
mod options;
mod pool;
mod producer;
mod promise;
mod retry;
mod route;
mod topic;

pub use components::{
    PartitionSelector, Selection, Serializer, Validator, register_library, register_partition_selector,
    register_serializer, register_validator,
};
pub use consumer::{
    AckFuture, AssignmentChange, Consumer, ConsumerStats, DataAllocator, DataReader, DataSegment,
    DataSelector, Event, Events, OnAssignment, ProcessEnd, ProcessFailure, ProcessOptions, ProcessReport,
    PullFuture,
};
pub use data::Data;
pub use data_ref::DataRef;
pub use driver::Driver;
pub use error::{
    AcknowledgeError, BoxError, ComponentError, ConsumerError, DeliveryError, DriverError, FillError,
    MetadataError, ProcessError, PullError, PushError, StreamError, ThreadPoolError,
};
pub use metadata::Metadata;
pub use mofka_log::{AcknowledgedBy, Durability, EventId, PartitionKind, Retention};
pub use mofka_net::control::{
    ConfigFileInfo, ConfigGetResponse, ConsumerInfo, NodeStatus, PartitionInfo, PartitionState,
    PartitionStatus, PinStatus, ReadStatus, Setting, SettingChange, ShardStatus, TopicInfo, TopicSummary,
};
pub use mofka_net::shm::this_process;
pub use mofka_net::{
    DataDescriptor, ErrorCode, Pattern, PatternError, Recipe, ReferenceError, Segment, ViewError, WireError,
};
pub use mofka_plugins::{Library, LibraryPolicy, LoadError};
pub use options::{
    BatchSize, ConsumerOptions, DriverOptions, Ordering, PartitionOptions, ProducerOptions, RingSize, Source,
    Start, TopicOptions,
};
pub use pool::ThreadPool;
pub use producer::{
    DataWriter, FlushFuture, InPlace, Producer, ProducerReport, ProducerStats, ProducersDone, PushFuture,
};
pub use topic::TopicHandle;
