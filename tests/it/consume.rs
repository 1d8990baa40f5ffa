//! The walk-through with the real client: a named consumer that acknowledges, goes away, and goes on where it was.

use std::time::Duration;

use mofka_client::{
    ConsumerOptions, DataSelector, Metadata, PartitionKind, PartitionOptions, ProducerOptions, TopicOptions,
};
use mofka_tests::Node;

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_named_consumer_goes_on_after_its_last_acknowledged_event() {
    for kind in [PartitionKind::Default, PartitionKind::Memory] {
        let mut node = Node::start(&["--shards", "1"]);
        let driver = node.driver();
        driver
            .create_topic(TopicOptions::new("my_topic").partitions(0))
            .unwrap();
        driver
            .add_partition(
                "my_topic",
                PartitionOptions {
                    kind,
                    ..PartitionOptions::default()
                },
            )
            .unwrap();
        let topic = driver.open_topic("my_topic").unwrap();
        let producer = topic.producer(ProducerOptions::default());
        for n in 0..100_u32 {
            let metadata = Metadata::from(format!("{{\"event_num\":{n}}}"));
            producer
                .push(metadata, format!("data {n}").into_bytes(), None)
                .unwrap();
        }
        let report = producer.close().unwrap();
        assert_eq!((report.acknowledged, report.failed), (100, 0));
        let options = || ConsumerOptions {
            data_selector: DataSelector::all(),
            ..ConsumerOptions::default()
        };
        let first = topic.consumer("my_consumer", options()).unwrap();
        for n in 0..35_u64 {
            let event = first.pull().wait_timeout(PATIENCE).unwrap().unwrap().unwrap();
            assert_eq!(event.id().get(), n);
            assert_eq!(event.metadata()["event_num"].as_u64(), Some(n));
            assert_eq!(event.data().to_bytes().as_ref(), format!("data {n}").as_bytes());
            if (n + 1) % 10 == 0 {
                event.acknowledge().wait().unwrap();
            }
        }
        drop(first);
        if kind == PartitionKind::Default {
            node.kill();
            node.start_again();
        }
        let again = topic.consumer("my_consumer", options()).unwrap();
        let event = again.pull().wait_timeout(PATIENCE).unwrap().unwrap().unwrap();
        assert_eq!(event.id().get(), 30, "the last acknowledged event was 29");
        let other = topic.consumer("another", options()).unwrap();
        let event = other.pull().wait_timeout(PATIENCE).unwrap().unwrap().unwrap();
        assert_eq!(event.id().get(), 0, "another name is another reader");
    }
}
