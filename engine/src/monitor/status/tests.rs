//! The document of nodes that are well, that are not, and that are large.

use super::super::detail::tests::node;
use super::super::process::{Disk, Process};
use super::*;

fn around() -> Surroundings {
    Surroundings {
        disk: Some(Disk {
            size_bytes: 100,
            available_bytes: 50,
        }),
        ..Surroundings::default()
    }
}

#[test]
fn a_healthy_node_has_no_problems_and_all_is_summed() {
    let status = of(&node(2, 3), &around());
    assert_eq!(status.problems, []);
    assert_eq!(
        (
            status.topics.len(),
            status.partitions.len(),
            status.consumers.len()
        ),
        (2, 6, 4)
    );
    assert_eq!(status.totals.accepted_events, 60 + 2000, "with what was deleted");
    let topic = &status.topics[1];
    assert_eq!(
        (topic.topic.as_str(), topic.partitions, topic.events, topic.lag),
        ("t1", 3, 9, Some(15))
    );
    assert_eq!(topic.totals.produce.buckets[1], 6);
    assert_eq!(status.consumers[0].lag, 15);
    assert!(status.partitions.iter().all(|p| p.state == "open"));
}

#[test]
fn problems_come_first_and_the_worst_of_them_before_the_others() {
    let mut snapshot = node(2, 3);
    snapshot.partitions[4].state = PartitionState::Poisoned;
    snapshot.partitions[4].reason = Some("a sync failed".to_owned());
    snapshot.partitions[5].is_full = true;
    snapshot.shards[0].counts.errors = vec![(ErrorCode::Internal, 2)];
    let mut around = around();
    around.disk = Some(Disk {
        size_bytes: 100,
        available_bytes: 4,
    });
    around.process = Process {
        open_fds: 95,
        max_fds: 100,
        ..Process::default()
    };
    let status = of(&snapshot, &around);
    let kinds: Vec<&str> = status
        .problems
        .iter()
        .map(|problem| problem.kind.as_str())
        .collect();
    assert_eq!(
        kinds,
        [
            "partition_poisoned",
            "partition_full",
            "disk_low",
            "descriptors_low",
            "internal_errors"
        ]
    );
    assert_eq!(status.problems[0].subject, "topic t1, partition 1");
    assert!(status.problems[0].message.ends_with("a sync failed"));
    let first: Vec<_> = status
        .partitions
        .iter()
        .take(2)
        .map(|p| (p.state.as_str(), p.partition))
        .collect();
    assert_eq!(first, [("poisoned", 1), ("full", 2)]);
    assert_eq!(status.topics[1].unwell, 2);
}

#[test]
fn the_document_is_bounded() {
    let mut snapshot = node(1000, 2);
    snapshot
        .partitions
        .iter_mut()
        .for_each(|p| p.state = PartitionState::Broken);
    let status = of(&snapshot, &around());
    assert_eq!((status.topics.len(), status.topics_left_out), (500, 500));
    assert_eq!((status.partitions.len(), status.partitions_left_out), (500, 1500));
    assert_eq!((status.consumers.len(), status.consumers_left_out), (500, 1500));
    assert_eq!((status.problems.len(), status.problems_left_out), (100, 1900));
    assert!(serde_json::to_vec(&status).unwrap().len() < 2 << 20);
}

#[test]
fn figures_of_files_that_nobody_wrote_so_do_not_overflow() {
    let mut snapshot = node(1, 2);
    for partition in &mut snapshot.partitions {
        partition.gauges.bytes = u64::MAX - 1;
        partition.gauges.events = u64::MAX - 1;
    }
    let status = of(&snapshot, &around());
    let topic = &status.topics[0];
    assert_eq!((topic.events, topic.bytes), (u64::MAX, u64::MAX));
    assert_eq!(status.disk.unwrap().stored_bytes, u64::MAX);
}
