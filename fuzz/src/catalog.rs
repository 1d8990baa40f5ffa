//! Records of the catalog, one a line.

use std::collections::BTreeMap;

use mofka_log::{Catalog, CatalogRecord, check_topic_name};

/// See the module.
pub fn run(input: &[u8]) {
    let mut catalog = Catalog::default();
    let mut partition_counts = BTreeMap::new();
    for line in input.split(|byte| *byte == b'\n') {
        let Ok(record) = CatalogRecord::decode(line) else {
            continue;
        };
        let encoded = record.encode();
        assert_eq!(
            CatalogRecord::decode(&encoded).as_ref(),
            Ok(&record),
            "a record is read as it was written"
        );
        let before = catalog.clone();
        if catalog.apply(&record).is_err() {
            assert_eq!(catalog, before, "what is refused changes nothing");
            continue;
        }
        match &record {
            CatalogRecord::TopicCreated(topic) => {
                assert!(before.topic(&topic.name).is_none() && before.topic_by_id(topic.id).is_none());
                assert_eq!(catalog.topic(&topic.name), Some(topic));
                partition_counts.insert(topic.id, 0_u32);
            }
            CatalogRecord::PartitionAdded(partition) => {
                let count = partition_counts
                    .get_mut(&partition.topic)
                    .expect("its topic is there");
                assert_eq!(partition.index, *count, "partitions are dense");
                *count += 1;
                assert_eq!(catalog.partition(partition.id), Some(partition));
            }
            CatalogRecord::TopicAltered { topic, retention } => {
                assert!(
                    catalog
                        .topic_by_id(*topic)
                        .is_some_and(|topic| topic.retention == *retention)
                );
            }
            CatalogRecord::TopicCompleted { topic } => {
                assert!(catalog.topic_by_id(*topic).is_some_and(|topic| topic.complete));
            }
            CatalogRecord::PartitionCompleted { topic, index } => {
                let partitions: Vec<_> = catalog.partitions_of(*topic).collect();
                assert!(partitions[*index as usize].complete);
            }
            CatalogRecord::PartitionRefers { topic, index } => {
                let partitions: Vec<_> = catalog.partitions_of(*topic).collect();
                assert!(partitions[*index as usize].refers);
            }
            CatalogRecord::PartitionSourced { topic, index } => {
                let partitions: Vec<_> = catalog.partitions_of(*topic).collect();
                assert!(partitions[*index as usize].sourced);
            }
            CatalogRecord::ProducerDone { topic, producer } => {
                let record = catalog.topic_by_id(*topic).expect("it is there");
                assert!(record.producers_done.contains(producer));
            }
            CatalogRecord::TopicDeleted { topic } => {
                assert!(partition_counts.remove(topic).is_some());
                assert!(catalog.topic_by_id(*topic).is_none());
                assert_eq!(catalog.partitions_of(*topic).count(), 0);
            }
            CatalogRecord::NodeStarted { node, started_us } => {
                assert_eq!(catalog.last_start(), Some((*node, *started_us)));
            }
        }
    }
    assert_eq!(catalog.topics().count(), partition_counts.len());
    for topic in catalog.topics() {
        assert!(
            check_topic_name(&topic.name).is_ok(),
            "{:?} may become part of a path",
            topic.name
        );
        let places = catalog.partitions_of(topic.id).map(|partition| partition.index);
        assert!(places.eq(0..partition_counts[&topic.id]));
    }
    let mut again = Catalog::default();
    for record in catalog.snapshot() {
        let record = CatalogRecord::decode(&record.encode()).expect("a snapshot is read as it was written");
        again
            .apply(&record)
            .expect("a snapshot does not contradict itself");
    }
    assert_eq!(again, catalog, "a snapshot is the whole catalog");
}
