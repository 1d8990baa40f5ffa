//! A file system that is really full, and then is not any more.

use std::time::{Duration, Instant};

use mofka_log::EventId;
use mofka_net::control::{From, Selection, SubscribeRequest};
use mofka_net::{ErrorCode, WireError};
use mofka_tests::Node;
use mofka_tests::raw::RawClient;
use serde_json::json;
use uuid::Uuid;

const DISK_BYTES: u64 = 96 << 20;

fn data(n: u64) -> Vec<u8> {
    (0..40_000_u64)
        .map(|place| (place.wrapping_mul(n + 3) >> 2).to_le_bytes()[0])
        .collect()
}

fn push(client: &mut RawClient, partition: Uuid, n: u64) -> Result<EventId, WireError> {
    let metadata = format!("{{\"n\":{n}}}");
    client
        .produce_now(partition, &[(&metadata, &data(n))], Some((7, 0, n)))
        .map(|answer| answer.base_event_id)
}

fn check(node: &Node, partition: Uuid, events: u64) {
    let (mut client, _) = RawClient::hello(&node.group_file());
    let terms = SubscribeRequest {
        subscription: 1 << 40,
        partition,
        consumer: "checker".to_owned(),
        member: Uuid::nil(),
        filter: None,
        from: From::First,
        batch_events_max: 100,
        batch_bytes_max: 1 << 20,
        credits: 100_000,
        selection: Selection::All,
    };
    assert_eq!(client.subscribe(&terms).unwrap().visible_end, events);
    let mut next = 0;
    while next < events {
        for batch in client.feed(terms.subscription).1 {
            assert_eq!(batch.base_event_id().get(), next);
            assert_eq!(batch.data().unwrap().as_ref(), data(next), "event {next}");
            next += u64::from(batch.event_count());
        }
    }
}

#[test]
fn a_full_disk_refuses_loses_nothing_and_heals_without_a_restart() {
    let Some(mut node) = Node::prepare_with_disk(&["-c", "config.json"], DISK_BYTES) else {
        return;
    };
    let disk = node.disk().path().to_path_buf();
    let config = json!({
        "data_dir": disk.join("data"),
        "shards": 1,
        "limits": {"segment_meta_bytes": 1 << 20, "segment_data_bytes": 4 << 20},
    });
    std::fs::write(node.dir().join("config.json"), config.to_string()).unwrap();
    node.start_again();
    let (mut client, _) = RawClient::hello(&node.group_file());
    let partition = client.create_partition();
    let ballast = disk.join("ballast");
    let file = std::fs::File::create(&ballast).unwrap();
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 40 << 20).unwrap();

    let mut n = 0;
    let refusal = loop {
        match push(&mut client, partition, n) {
            Ok(id) => assert_eq!(id.get(), n),
            Err(error) => break error,
        }
        n += 1;
        assert!(n * 40_000 < DISK_BYTES, "more was stored than there is room for");
    };
    assert_eq!(refusal.code, ErrorCode::NoSpace, "{refusal}");
    assert!(n > 100, "only {n} events fitted");
    for _ in 0..3 {
        let again = push(&mut client, partition, n).unwrap_err();
        assert_eq!(again.code, ErrorCode::NoSpace, "{again}");
    }
    check(&node, partition, n);

    drop(file);
    std::fs::remove_file(&ballast).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match push(&mut client, partition, n) {
            Ok(id) => {
                assert_eq!(id.get(), n, "the refused batch had no ids");
                break;
            }
            Err(error) => assert_eq!(error.code, ErrorCode::NoSpace, "{error}"),
        }
        assert!(Instant::now() < deadline, "there is room, and nothing is taken");
        std::thread::sleep(Duration::from_millis(100));
    }
    for more in n + 1..n + 20 {
        assert_eq!(push(&mut client, partition, more).unwrap().get(), more);
    }
    check(&node, partition, n + 20);
    let log = node.log();
    for state in ["full", "healed"] {
        // It may have been full a second time, before there was room for good.
        let lines = log.matches(&format!("state=\"{state}\"")).count();
        assert!((1..10).contains(&lines), "{lines} lines of {state}:\n{log}");
    }
    node.kill();
    node.start_again();
    check(&node, partition, n + 20);
    assert!(node.terminate().success());
}
