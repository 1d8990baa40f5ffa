//! The catalog: which topics and partitions there are. Its file is a meta file whose events are these records, as JSON.
//!
//! JSON here and not a fixed layout, because records are few and hold documents of others (validators, selectors,
//! serializers). Unknown fields are refused: they would be lost at the next rewrite.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::name::{NameError, check_topic_name};
use crate::retention::Retention;

/// When events of a topic count as stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// They survive a power cut.
    #[default]
    Synced,
    /// They were handed to the device.
    Written,
    /// They are in the server's memory.
    Buffered,
}

/// Where a partition keeps its events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartitionKind {
    /// In the log.
    #[default]
    Default,
    /// In memory, as long as the process lives.
    Memory,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicRecord {
    /// Its identity; the name may be given to another topic when this one is deleted.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// When its events count as stored.
    pub durability: Durability,
    /// The validator's document.
    pub validator: Value,
    /// The partition selector's document.
    pub partition_selector: Value,
    /// The serializer's document.
    pub serializer: Value,
    /// When it was created: Unix time in microseconds.
    pub created_us: u64,
    /// No more events are taken.
    pub complete: bool,
    /// What of its events may go. Absent: nothing, so that records from before this field are read as they were meant.
    #[serde(default, skip_serializing_if = "Retention::is_default")]
    pub retention: Retention,
    /// How many producers there will be: the topic is complete when so many said that they are done. 0: that is not counted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub producers_expected: u32,
    /// The names of those who said so.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub producers_done: BTreeSet<String>,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

fn is_false(value: &bool) -> bool {
    !*value
}

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionRecord {
    /// Its identity.
    pub id: Uuid,
    /// The topic it belongs to.
    pub topic: Uuid,
    /// Its place among the topic's partitions, dense from 0.
    pub index: u32,
    /// Where it keeps its events.
    pub kind: PartitionKind,
    /// The node that owns it: its place in the group file.
    pub rank: u32,
    /// The shard of that node.
    pub shard: u32,
    /// When it was created: Unix time in microseconds.
    pub created_us: u64,
    /// Its settings, as they were given.
    pub config: Value,
    /// It takes no more events, whatever its topic does.
    #[serde(default, skip_serializing_if = "is_false")]
    pub complete: bool,
    /// Events of it may refer to data of other events: a program that does not know references must not open it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refers: bool,
    /// Batches of it may say which places of a source they cover: a program that does not know that must not open it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sourced: bool,
}

/// One change of the catalog.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CatalogRecord {
    /// A topic is there.
    TopicCreated(TopicRecord),
    /// A topic has one more partition.
    PartitionAdded(PartitionRecord),
    /// A topic's settings are others from now on.
    TopicAltered {
        /// Its id.
        topic: Uuid,
        /// What of its events may go.
        retention: Retention,
    },
    /// A topic takes no more events.
    TopicCompleted {
        /// Its id.
        topic: Uuid,
    },
    /// A partition takes no more events.
    PartitionCompleted {
        /// The topic's id.
        topic: Uuid,
        /// The partition's place.
        index: u32,
    },
    /// From now on events of a partition may refer to data of other events.
    PartitionRefers {
        /// The topic's id.
        topic: Uuid,
        /// The partition's place.
        index: u32,
    },
    /// From now on batches of a partition may say which places of a source they cover.
    PartitionSourced {
        /// The topic's id.
        topic: Uuid,
        /// The partition's place.
        index: u32,
    },
    /// A producer of a topic will push no more. With the last of those that are expected the topic takes no more events.
    ProducerDone {
        /// The topic's id.
        topic: Uuid,
        /// The producer's name.
        producer: String,
    },
    /// A topic and its partitions are no more.
    TopicDeleted {
        /// Its id.
        topic: Uuid,
    },
    /// The node was started.
    NodeStarted {
        /// Its id.
        node: Uuid,
        /// When: Unix time in microseconds.
        started_us: u64,
    },
}

/// Why bytes are not a catalog record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a catalog record of {bytes} bytes cannot be read: {reason}")]
pub struct CatalogRecordError {
    /// How many bytes.
    pub bytes: usize,
    /// What the parser says, with the place.
    pub reason: String,
}

/// Why a record contradicts the catalog.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// A name that no topic may have.
    #[error("a topic cannot be created: {0}")]
    Name(#[from] NameError),
    /// The name is taken.
    #[error("topic \"{name}\" cannot be created: there is one of this name")]
    TopicExists {
        /// The name.
        name: String,
    },
    /// The id is taken.
    #[error("{what} {id} cannot be added: there is one with this id")]
    IdExists {
        /// What it is of.
        what: &'static str,
        /// The id.
        id: Uuid,
    },
    /// There is no such topic.
    #[error("topic {topic} is not in the catalog")]
    UnknownTopic {
        /// The id.
        topic: Uuid,
    },
    /// There is no such partition.
    #[error("topic {topic} has no partition {index}")]
    UnknownPartition {
        /// The topic's id.
        topic: Uuid,
        /// The partition's place.
        index: u32,
    },
    /// The partition would leave a gap or take a place that is taken.
    #[error("partition {index} of topic {topic} cannot be added: {expected} is next")]
    PartitionIndex {
        /// The topic's id.
        topic: Uuid,
        /// The partition's place.
        index: u32,
        /// The next free place.
        expected: u32,
    },
}

impl CatalogRecord {
    /// The record as it is stored.
    pub fn encode(&self) -> Vec<u8> {
        match serde_json::to_vec(self) {
            Ok(bytes) => bytes,
            // Keys are text and numbers are finite in everything a record is made of.
            Err(error) => unreachable!("a catalog record is not JSON: {error}"),
        }
    }

    /// Reads a record.
    ///
    /// # Errors
    /// When it is not JSON, or has unknown or missing fields.
    pub fn decode(bytes: &[u8]) -> Result<Self, CatalogRecordError> {
        let error = |error: serde_json::Error| CatalogRecordError {
            bytes: bytes.len(),
            reason: error.to_string(),
        };
        serde_json::from_slice(bytes).map_err(error)
    }
}

/// The catalog as the records so far make it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalog {
    topics: BTreeMap<String, Topic>,
    names: BTreeMap<Uuid, String>,
    last_start: Option<(Uuid, u64)>,
}

#[derive(Clone, Debug, PartialEq)]
struct Topic {
    record: TopicRecord,
    /// By index.
    partitions: Vec<PartitionRecord>,
}

impl Catalog {
    /// Makes one change. The catalog is as before when this fails.
    ///
    /// # Errors
    /// How the record contradicts what is there.
    pub fn apply(&mut self, record: &CatalogRecord) -> Result<(), CatalogError> {
        match record {
            CatalogRecord::TopicCreated(topic) => self.create(topic),
            CatalogRecord::PartitionAdded(partition) => self.add(partition),
            CatalogRecord::TopicAltered { topic, retention } => {
                self.topic_mut(*topic)?.record.retention = retention.clone();
                Ok(())
            }
            CatalogRecord::TopicCompleted { topic } => {
                self.topic_mut(*topic)?.record.complete = true;
                Ok(())
            }
            CatalogRecord::PartitionCompleted { topic, index } => {
                self.partition_mut(*topic, *index)?.complete = true;
                Ok(())
            }
            CatalogRecord::PartitionRefers { topic, index } => {
                self.partition_mut(*topic, *index)?.refers = true;
                Ok(())
            }
            CatalogRecord::PartitionSourced { topic, index } => {
                self.partition_mut(*topic, *index)?.sourced = true;
                Ok(())
            }
            CatalogRecord::ProducerDone { topic, producer } => {
                let record = &mut self.topic_mut(*topic)?.record;
                record.producers_done.insert(producer.clone());
                let done = u32::try_from(record.producers_done.len()).unwrap_or(u32::MAX);
                if record.producers_expected > 0 && done >= record.producers_expected {
                    record.complete = true;
                }
                Ok(())
            }
            CatalogRecord::TopicDeleted { topic } => {
                let name = self
                    .names
                    .remove(topic)
                    .ok_or(CatalogError::UnknownTopic { topic: *topic })?;
                let removed = self.topics.remove(&name);
                assert!(
                    removed.is_some(),
                    "topic {topic} had the name {name:?}, which is not there"
                );
                Ok(())
            }
            CatalogRecord::NodeStarted { node, started_us } => {
                self.last_start = Some((*node, *started_us));
                Ok(())
            }
        }
    }

    fn create(&mut self, topic: &TopicRecord) -> Result<(), CatalogError> {
        check_topic_name(&topic.name)?;
        if self.topics.contains_key(&topic.name) {
            return Err(CatalogError::TopicExists {
                name: topic.name.clone(),
            });
        }
        if self.names.contains_key(&topic.id) {
            return Err(CatalogError::IdExists {
                what: "topic",
                id: topic.id,
            });
        }
        self.names.insert(topic.id, topic.name.clone());
        self.topics.insert(
            topic.name.clone(),
            Topic {
                record: topic.clone(),
                partitions: Vec::new(),
            },
        );
        Ok(())
    }

    fn add(&mut self, partition: &PartitionRecord) -> Result<(), CatalogError> {
        if self.partition(partition.id).is_some() {
            return Err(CatalogError::IdExists {
                what: "partition",
                id: partition.id,
            });
        }
        let topic = self.topic_mut(partition.topic)?;
        let expected = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
        if partition.index != expected {
            let (topic, index) = (partition.topic, partition.index);
            return Err(CatalogError::PartitionIndex {
                topic,
                index,
                expected,
            });
        }
        topic.partitions.push(partition.clone());
        Ok(())
    }

    fn topic_mut(&mut self, topic: Uuid) -> Result<&mut Topic, CatalogError> {
        let name = self.names.get(&topic);
        name.and_then(|name| self.topics.get_mut(name))
            .ok_or(CatalogError::UnknownTopic { topic })
    }

    fn partition_mut(&mut self, topic: Uuid, index: u32) -> Result<&mut PartitionRecord, CatalogError> {
        let partitions = &mut self.topic_mut(topic)?.partitions;
        let partition = usize::try_from(index)
            .ok()
            .and_then(|place| partitions.get_mut(place));
        partition.ok_or(CatalogError::UnknownPartition { topic, index })
    }

    /// The partitions that go when this record is applied. Their files may be removed from then on, and no others.
    pub fn gone_with(&self, record: &CatalogRecord) -> Vec<Uuid> {
        match record {
            CatalogRecord::TopicDeleted { topic } => {
                self.partitions_of(*topic).map(|partition| partition.id).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Records that give this catalog again.
    pub fn snapshot(&self) -> Vec<CatalogRecord> {
        let start = self
            .last_start
            .map(|(node, started_us)| CatalogRecord::NodeStarted { node, started_us });
        let topics = self.topics.values().flat_map(|topic| {
            let created = CatalogRecord::TopicCreated(topic.record.clone());
            let partitions = topic
                .partitions
                .iter()
                .cloned()
                .map(CatalogRecord::PartitionAdded);
            std::iter::once(created).chain(partitions)
        });
        start.into_iter().chain(topics).collect()
    }

    /// The topic of this name.
    pub fn topic(&self, name: &str) -> Option<&TopicRecord> {
        self.topics.get(name).map(|topic| &topic.record)
    }

    /// The topic with this id.
    pub fn topic_by_id(&self, id: Uuid) -> Option<&TopicRecord> {
        self.names.get(&id).and_then(|name| self.topic(name))
    }

    /// All topics, in the order of their names.
    pub fn topics(&self) -> impl Iterator<Item = &TopicRecord> {
        self.topics.values().map(|topic| &topic.record)
    }

    /// All partitions: topics in the order of their names, partitions by index.
    pub fn partitions(&self) -> impl Iterator<Item = &PartitionRecord> {
        self.topics.values().flat_map(|topic| &topic.partitions)
    }

    /// The partitions of a topic, by index; none when it is not there.
    pub fn partitions_of(&self, topic: Uuid) -> impl Iterator<Item = &PartitionRecord> {
        let topic = self.names.get(&topic).and_then(|name| self.topics.get(name));
        topic.into_iter().flat_map(|topic| &topic.partitions)
    }

    /// The partition with this id.
    pub fn partition(&self, id: Uuid) -> Option<&PartitionRecord> {
        self.partitions().find(|partition| partition.id == id)
    }

    /// Which node was started last, and when.
    pub fn last_start(&self) -> Option<(Uuid, u64)> {
        self.last_start
    }
}

#[cfg(test)]
mod tests;
