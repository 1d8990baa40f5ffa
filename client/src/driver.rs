//! The way to the nodes: connections, topics, administration.

mod nodes;

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use mofka_net::control::{
    ConsumerInfo, ConsumerListRequest, ConsumerListResponse, EmptyRequest, NodeLimits, PartitionAddRequest,
    PartitionInfo, PartitionSpec, TopicCreateRequest, TopicDeleteRequest, TopicInfo, TopicListResponse,
    TopicRequest, TopicSummary, decode_any, encode,
};
use mofka_net::shm::this_process;
use mofka_net::{Address, ErrorCode, GroupFile, Opcode};
use mofka_plugins::LibraryPolicy;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::chores::Chores;
use crate::components::Components;
use crate::error::{DriverError, ThreadPoolError};
use crate::link::{Answer, Connection, Links, Nearness};
use crate::options::{DriverOptions, PartitionOptions, TopicOptions};
use crate::pool::{THREADS_MAX, ThreadPool};
use crate::promise::{Deadline, lock};
use crate::retry::Retry;
use crate::topic::TopicHandle;

/// The way to the nodes. Cheap to clone; all clones, and everything made from them, share their connections.
///
/// May be used by any number of threads. Not after a fork: the child gets errors and connects on its own.
#[derive(Clone)]
pub struct Driver {
    core: Arc<DriverCore>,
}

/// What clones of a driver and all that is made from it share.
pub(crate) struct DriverCore {
    options: DriverOptions,
    pub(crate) links: Links,
    pub(crate) chores: Arc<Chores>,
    /// Addresses of each node, by rank.
    members: Mutex<Vec<Vec<Address>>>,
    limits: Mutex<NodeLimits>,
    /// Started when it is first asked for.
    default_pool: OnceLock<Result<ThreadPool, ThreadPoolError>>,
    pid: u32,
}

impl Driver {
    /// Reads the group file and connects to the first node that answers.
    ///
    /// # Errors
    /// When there is no such file, it is not a group file, or no node answers. It is not waited for.
    pub fn connect(options: DriverOptions) -> Result<Self, DriverError> {
        if options.fetch_timeout.is_some_and(|timeout| timeout.is_zero()) {
            let reason =
                "fetch_timeout is 0, in which no answer can come: leave it out, or say how long one may take";
            return Err(DriverError::Invalid(reason.to_owned()));
        }
        let links = Links::new(
            options.client_name.clone(),
            options.connect_timeout,
            options.shared_memory,
            nearness(&options)?,
        );
        let members = read_members(&options, &links)?;
        let core = DriverCore {
            options,
            links,
            chores: Arc::default(),
            members: Mutex::new(members),
            // Replaced at once: nothing is sent before a node told its own.
            limits: Mutex::new(NodeLimits {
                frame_bytes_max: 0,
                batch_events_max: 0,
                fetch_bytes_max: 0,
                subscriptions_max: 0,
                sequence_window: 0,
            }),
            default_pool: OnceLock::new(),
            pid: this_process(),
        };
        let no_thread = |error| DriverError::Invalid(format!("no thread for the driver: {error}"));
        core.chores.begin().map_err(no_thread)?;
        let connection = core.any_node()?;
        core.note_limits(&connection);
        Ok(Self { core: Arc::new(core) })
    }

    /// Starts a pool of this many threads, for producers, consumers and whatever the application likes. 0: whoever pushes a
    /// task runs it.
    ///
    /// # Errors
    /// When these are too many, for us or for the system.
    pub fn make_thread_pool(&self, thread_count: usize) -> Result<ThreadPool, ThreadPoolError> {
        ThreadPool::new(thread_count)
    }

    /// The pool of those who name none and need one: as many threads as the process may use cores. They are started at the first
    /// call, and end with the driver.
    ///
    /// # Errors
    /// When the system has no room for them; the same each time.
    pub fn default_thread_pool(&self) -> Result<ThreadPool, ThreadPoolError> {
        self.core.default_thread_pool()
    }

    /// How many nodes there are.
    pub fn num_servers(&self) -> usize {
        lock(&self.core.members).len()
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// When it exists, its name cannot be one, or a component's document makes no sense: nothing is created then. Types of
    /// components that this process neither knows nor can load are left to those that can.
    pub fn create_topic(&self, options: TopicOptions) -> Result<TopicHandle, DriverError> {
        let components = Components::new(
            options.validator.as_ref().unwrap_or(&Value::Null),
            options.partition_selector.as_ref().unwrap_or(&Value::Null),
            options.serializer.as_ref().unwrap_or(&Value::Null),
            self.core.libraries(),
        );
        if let Err(error) = components
            && !error.is_unknown_type
        {
            return Err(error.into());
        }
        let request = TopicCreateRequest {
            name: options.name,
            durability: options.durability,
            validator: options.validator,
            partition_selector: options.partition_selector,
            serializer: options.serializer,
            retention: options.retention,
            producers_expected: (options.producers_expected > 0).then_some(options.producers_expected),
            num_partitions: Some(options.partitions),
            partition: Some(PartitionSpec {
                kind: options.partition_kind,
                config: options.partition_config.unwrap_or_else(|| json!({})),
            }),
        };
        let info: TopicInfo = self
            .core
            .ask(Opcode::TopicCreate, "topic_create", &request, Repeat::No)?;
        Ok(TopicHandle::new(self.clone(), info))
    }

    /// Opens a topic.
    ///
    /// # Errors
    /// When it does not exist.
    pub fn open_topic(&self, name: &str) -> Result<TopicHandle, DriverError> {
        Ok(TopicHandle::new(self.clone(), self.core.describe(name)?))
    }

    /// Whether a topic exists.
    ///
    /// # Errors
    /// When no node could say.
    pub fn topic_exists(&self, name: &str) -> Result<bool, DriverError> {
        match self.core.describe(name) {
            Ok(_) => Ok(true),
            Err(error)
                if matches!(
                    error.code(),
                    Some(ErrorCode::UnknownTopic | ErrorCode::InvalidName)
                ) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// All topics, by name.
    ///
    /// # Errors
    /// When no node could say.
    pub fn list_topics(&self) -> Result<Vec<TopicSummary>, DriverError> {
        let answer: TopicListResponse =
            self.core
                .ask(Opcode::TopicList, "topic_list", &EmptyRequest {}, Repeat::Yes)?;
        Ok(answer.topics)
    }

    /// Deletes a topic with all of its events and cursors.
    ///
    /// # Errors
    /// When it does not exist, or events of other topics refer to data of its events ([`ErrorCode::Referenced`]).
    pub fn delete_topic(&self, name: &str) -> Result<(), DriverError> {
        self.delete(name, false)
    }

    /// The same also when events of other topics refer to its data: their data cannot be had any more.
    ///
    /// # Errors
    /// When it does not exist.
    pub fn delete_topic_by_force(&self, name: &str) -> Result<(), DriverError> {
        self.delete(name, true)
    }

    fn delete(&self, name: &str, force: bool) -> Result<(), DriverError> {
        let name = name.to_owned();
        let request = TopicDeleteRequest { name, force };
        self.core
            .request(Opcode::TopicDelete, "topic_delete", &request, Repeat::No)
            .map(|_| ())
    }

    /// Adds a partition to a topic. Topic handles see it after [`TopicHandle::refresh`].
    ///
    /// # Errors
    /// When the topic, the rank or the shard does not exist.
    pub fn add_partition(
        &self,
        topic: &str,
        options: PartitionOptions,
    ) -> Result<PartitionInfo, DriverError> {
        let request = PartitionAddRequest {
            topic: topic.to_owned(),
            kind: options.kind,
            rank: options.rank,
            shard: options.shard,
            config: options.config,
        };
        self.core
            .ask(Opcode::PartitionAdd, "partition_add", &request, Repeat::No)
    }

    /// The consumers of a topic, with their cursors.
    ///
    /// # Errors
    /// When the topic does not exist.
    pub fn list_consumers(&self, topic: &str) -> Result<Vec<ConsumerInfo>, DriverError> {
        let request = ConsumerListRequest {
            topic: topic.to_owned(),
        };
        let answer: ConsumerListResponse =
            self.core
                .ask(Opcode::ConsumerList, "consumer_list", &request, Repeat::Yes)?;
        Ok(answer.consumers)
    }

    pub(crate) fn core(&self) -> &Arc<DriverCore> {
        &self.core
    }
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Driver({:?})", lock(&self.core.members))
    }
}

/// Whether a request may be made again when it is not known whether it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    Yes,
    No,
}

impl DriverCore {
    /// Which libraries may be loaded for topics.
    pub(crate) fn libraries(&self) -> &LibraryPolicy {
        &self.options.libraries
    }

    pub(crate) fn default_thread_pool(&self) -> Result<ThreadPool, ThreadPoolError> {
        let cores = || {
            std::thread::available_parallelism()
                .map_or(1, usize::from)
                .min(THREADS_MAX)
        };
        self.default_pool.get_or_init(|| ThreadPool::new(cores())).clone()
    }

    pub(crate) fn reconnect_timeout(&self) -> Duration {
        self.options.reconnect_timeout
    }

    /// How long a request for data may take.
    pub(crate) fn fetch_timeout(&self) -> Option<Duration> {
        self.options.fetch_timeout
    }

    /// Bounds of the nodes, as one of them told.
    pub(crate) fn limits(&self) -> NodeLimits {
        *lock(&self.limits)
    }

    /// The process that made it.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Fails in a process that only inherited the driver: its threads are not there.
    pub(crate) fn check_process(&self) -> Result<(), u32> {
        if this_process() == self.pid {
            Ok(())
        } else {
            Err(self.pid)
        }
    }

    pub(crate) fn describe(&self, topic: &str) -> Result<TopicInfo, DriverError> {
        let request = TopicRequest {
            name: topic.to_owned(),
        };
        self.ask(Opcode::TopicDescribe, "topic_describe", &request, Repeat::Yes)
    }

    /// The same, tried once.
    pub(crate) fn describe_once(&self, topic: &str) -> Result<TopicInfo, DriverError> {
        let request = TopicRequest {
            name: topic.to_owned(),
        };
        let body = body("topic_describe", &request)?;
        let answer = self.try_request(Opcode::TopicDescribe, "topic_describe", &body)?;
        decode_any("topic_describe answer", &answer).map_err(|error| DriverError::Answer {
            what: "topic_describe",
            error,
        })
    }

    /// Asks any node and reads the answer.
    pub(crate) fn ask<T: DeserializeOwned>(
        &self,
        opcode: Opcode,
        what: &'static str,
        request: &impl Serialize,
        repeat: Repeat,
    ) -> Result<T, DriverError> {
        let answer = self.request(opcode, what, request, repeat)?;
        decode_any(what, &answer).map_err(|error| DriverError::Answer { what, error })
    }

    /// Asks any node; looks for one within the reconnect timeout.
    pub(crate) fn request(
        &self,
        opcode: Opcode,
        what: &'static str,
        request: &impl Serialize,
        repeat: Repeat,
    ) -> Result<Bytes, DriverError> {
        let body = body(what, request)?;
        self.with_retry(repeat, || self.try_request(opcode, what, &body))
    }

    /// Tries again what a lost connection or a stopping node prevented.
    pub(crate) fn with_retry<T>(
        &self,
        repeat: Repeat,
        mut attempt: impl FnMut() -> Result<T, DriverError>,
    ) -> Result<T, DriverError> {
        self.check_process().map_err(|pid| DriverError::Forked { pid })?;
        let mut retry = Retry::new(self.options.reconnect_timeout);
        loop {
            let error = match attempt() {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let again = match &error {
                DriverError::Lost { .. } => repeat == Repeat::Yes,
                DriverError::Refused(refused) => {
                    matches!(refused.code, ErrorCode::ShuttingDown | ErrorCode::NotOwner)
                }
                other => other.is_retriable(),
            };
            match (again.then(|| retry.pause()).flatten(), error) {
                (Some(pause), _) => std::thread::sleep(pause),
                (None, DriverError::Unreachable { reason, .. }) => {
                    return Err(DriverError::Unreachable {
                        waited: retry.waited(),
                        reason,
                    });
                }
                (None, error) => return Err(error),
            }
        }
    }

    fn try_request(&self, opcode: Opcode, what: &'static str, body: &Bytes) -> Result<Bytes, DriverError> {
        let connection = self.any_node()?;
        self.note_limits(&connection);
        self.call(&connection, opcode, what, body.clone())
    }

    /// Asks over this connection, and waits for the answer.
    pub(crate) fn call(
        &self,
        connection: &Arc<Connection>,
        opcode: Opcode,
        what: &'static str,
        body: Bytes,
    ) -> Result<Bytes, DriverError> {
        self.check_process().map_err(|pid| DriverError::Forked { pid })?;
        match connection.call(opcode, body, Deadline::after(self.options.reconnect_timeout)) {
            Answer::Response(body) => Ok(body),
            Answer::Refused(error) => Err(DriverError::Refused(error)),
            Answer::Lost(lost) => Err(DriverError::Lost {
                what,
                address: connection.address().to_string(),
                reason: lost.to_string(),
            }),
        }
    }

    /// A connection to any node. When none of the known ones answers, the group file is read again: a node that was
    /// started anew may listen elsewhere.
    pub(crate) fn any_node(&self) -> Result<Arc<Connection>, DriverError> {
        self.check_process().map_err(|pid| DriverError::Forked { pid })?;
        let known = lock(&self.members).clone();
        let mut reasons = match self.first_of(&known) {
            Ok(connection) => return Ok(connection),
            Err(reasons) => reasons,
        };
        let now = read_members(&self.options, &self.links)?;
        if now != known {
            *lock(&self.members) = now.clone();
            match self.first_of(&now) {
                Ok(connection) => return Ok(connection),
                Err(more) => reasons = more,
            }
        }
        Err(DriverError::Unreachable {
            waited: Duration::ZERO,
            reason: reasons,
        })
    }

    /// A connection that there is already. Does not wait.
    pub(crate) fn any_alive(&self) -> Option<Arc<Connection>> {
        self.check_process().ok()?;
        self.alive_of(&lock(&self.members))
    }

    fn alive_of(&self, members: &[Vec<Address>]) -> Option<Arc<Connection>> {
        members.iter().find_map(|member| self.links.alive(member, None))
    }

    fn first_of(&self, members: &[Vec<Address>]) -> Result<Arc<Connection>, String> {
        if let Some(alive) = self.alive_of(members) {
            return Ok(alive);
        }
        let mut reasons = Vec::new();
        for member in members {
            match self.links.connect(member, None) {
                Ok(connection) => return Ok(connection),
                Err(reason) => reasons.push(reason),
            }
        }
        Err(reasons.join("; "))
    }

    fn node(&self, rank: usize) -> Result<Arc<Connection>, DriverError> {
        self.check_process().map_err(|pid| DriverError::Forked { pid })?;
        let known = lock(&self.members).clone();
        let addresses = known.get(rank).ok_or(DriverError::InvalidRank {
            rank,
            members: known.len(),
        })?;
        self.links
            .connect(addresses, None)
            .map_err(|reason| DriverError::Unreachable {
                waited: Duration::ZERO,
                reason,
            })
    }

    /// Where a shard should be found, going by where we reach its node. The place is to be checked.
    pub(crate) fn reached_at(&self, rank: u32, shard: u32) -> Vec<Address> {
        let members = lock(&self.members);
        let member = usize::try_from(rank).ok().and_then(|rank| members.get(rank));
        let first = member.into_iter().flatten();
        first.filter_map(|address| address.of_shard(shard)).collect()
    }

    fn note_limits(&self, connection: &Connection) {
        *lock(&self.limits) = *connection.limits();
    }
}

impl Drop for DriverCore {
    fn drop(&mut self) {
        // In a forked child the locks may be held by threads that are not there.
        if self.check_process().is_ok() {
            self.chores.close();
            self.links.close();
        }
    }
}

fn body(what: &'static str, request: &impl Serialize) -> Result<Bytes, DriverError> {
    encode(what, request)
        .map(Bytes::from)
        .map_err(|error| DriverError::Answer { what, error })
}

/// Which way is wanted: who names addresses wants that of the first one.
fn nearness(options: &DriverOptions) -> Result<Nearness, DriverError> {
    match (&options.group_file, options.addresses.first()) {
        (None, Some(text)) => match text.parse() {
            Ok(Address::Unix(_)) => Ok(Nearness::Local),
            Ok(Address::Tcp { .. }) => Ok(Nearness::Network),
            Err(error) => Err(DriverError::Invalid(error.to_string())),
        },
        _ => Ok(Nearness::Auto),
    }
}

/// The addresses of each node. Which nodes they are is noted.
fn read_members(options: &DriverOptions, links: &Links) -> Result<Vec<Vec<Address>>, DriverError> {
    if let Some(path) = &options.group_file {
        return read_group_file(path, links);
    }
    if options.addresses.is_empty() {
        return Err(DriverError::NoGroup);
    }
    let parsed: Result<Vec<Address>, _> = options.addresses.iter().map(|text| text.parse()).collect();
    parsed
        .map(|addresses| vec![addresses])
        .map_err(|error| DriverError::Invalid(error.to_string()))
}

fn read_group_file(path: &Path, links: &Links) -> Result<Vec<Vec<Address>>, DriverError> {
    let text = std::fs::read_to_string(path).map_err(|error| DriverError::GroupFile {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    let group = GroupFile::check(&text).map_err(|error| DriverError::Group {
        path: path.to_owned(),
        error,
    })?;
    let nodes = group.members.iter().flat_map(|member| {
        let addresses = member.addresses.iter().chain(member.shards.iter().flatten());
        let parsed = addresses.filter_map(|text| text.parse().ok());
        parsed.filter_map(|address| Some((address, member.node?)))
    });
    links.note_nodes(nodes.collect());
    Ok(group
        .members
        .iter()
        .map(mofka_net::GroupMember::endpoints)
        .collect())
}
