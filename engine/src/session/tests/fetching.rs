//! Much work in one request: others of the shard have their turn meanwhile. And data that is damaged where events are picked.

use mofka_log::{BLOCK_BYTES, EventId, FilePos};
use mofka_net::{DataDescriptor, ErrorCode, Feed, FeedPart, FetchRequest, FetchResponse};

use super::*;
use crate::io::{IoDir, IoFile, Then, write_one};

fn fetch(node: &Node, client: &Client, id: u64, items: Vec<DataDescriptor>) -> (u64, Vec<Bytes>) {
    let request = FetchRequest {
        partition: node.memory,
        items,
    };
    client.ask(Opcode::Fetch, id, &request.encode().unwrap());
    let turns = node.turns_until(client, 1);
    let items = FetchResponse::check(client.answer(id).unwrap()).unwrap();
    (turns, items.into_iter().map(Result::unwrap).collect())
}

#[test]
fn others_have_their_turn_while_a_fetch_goes_from_batch_to_batch() {
    const EVENTS: u64 = 1 << 14;
    const ITEMS: u64 = 1 << 10;
    let node = Node::open(|_| ());
    let client = Client::connect(&node);
    for id in [10, 11] {
        let data = [b"a", b"b"][usize::from(id == 11)];
        let events = std::iter::repeat_n((&b"{}"[..], &data[..]), EVENTS as usize);
        client.produce(id, &batch(node.memory, events));
    }
    node.settle();
    // Each is the last of its batch, and in another batch than the one before.
    let item = |n: u64| DataDescriptor::of_event(EventId::new((n % 2 + 1) * EVENTS - 1), 1);
    let (turns, data) = fetch(&node, &client, 12, (0..ITEMS).map(item).collect());
    for (n, data) in data.iter().enumerate() {
        assert_eq!(data[..], [b"a", b"b"][n % 2][..]);
    }
    // A turn is about as long as a walk over a few batches.
    assert!(turns > ITEMS / 8, "{turns} turns");
}

#[test]
fn others_have_their_turn_while_small_pieces_of_an_event_are_gathered() {
    const RANGES: u64 = 1 << 19;
    let node = Node::open(|_| ());
    let client = Client::connect(&node);
    let data: Vec<u8> = (0..2 * RANGES).map(|n| n.to_le_bytes()[0]).collect();
    client.produce(10, &batch(node.memory, std::iter::once((&b"{}"[..], &data[..]))));
    node.settle();
    let whole = DataDescriptor::of_event(EventId::new(0), 2 * RANGES);
    let every_other = whole.strided_view(0, RANGES, 1, 1).unwrap();
    let (turns, fetched) = fetch(&node, &client, 11, vec![every_other]);
    assert!(fetched[0].iter().eq(data.iter().step_by(2)));
    assert!(turns > 6, "{turns} turns");
}

#[test]
fn others_have_their_turn_while_a_filter_looks_at_many_events() {
    const EVENTS: u64 = 1 << 12;
    let node = Node::open(|_| ());
    let client = Client::connect(&node);
    let metadata = format!(r#"{{"level":"{}"}}"#, "x".repeat(100));
    let events = std::iter::repeat_n((metadata.as_bytes(), &b""[..]), EVENTS as usize);
    client.produce(10, &batch(node.memory, events));
    node.settle();
    let levels: Vec<String> = (0..1000).map(|n| format!(r#""{n}""#)).collect();
    let subscribe = format!(
        r#"{{"subscription":5,"partition":"{}","consumer":"c","member":"{}","from":"first","batch_events_max":1000000,
            "batch_bytes_max":1000000,"credits":10,"selection":"none","filter":{{"level":[{},"{}"]}}}}"#,
        node.memory,
        Uuid::from_u128(1),
        levels.join(","),
        "x".repeat(100)
    );
    client.ask(Opcode::Subscribe, 11, subscribe.as_bytes());
    let turns = node.turns_until(&client, 2);
    client.answer(11).unwrap();
    let fed = client.pipe.frames().into_iter().map(|(header, _)| header.kind());
    assert!(fed.last() == Some(FrameKind::Request(Opcode::Feed)));
    // A thousand parts go over a hundred bytes.
    assert!(turns > EVENTS / 64, "{turns} turns");
}

/// Flips a bit of a data file of this partition, under the node that is running.
fn flip(node: &Node, partition: Uuid, at: usize) {
    let files = node.io.settled().into_keys();
    let is_data = |path: &std::path::PathBuf| {
        path.to_string_lossy().contains(&partition.to_string())
            && path.extension().is_some_and(|ending| ending == "data")
    };
    let path = files.into_iter().find(is_data).unwrap();
    let block_at = FilePos::new((at / BLOCK_BYTES * BLOCK_BYTES) as u64);
    let io = node.io.clone();
    node.io.block_on(async move {
        let file = Rc::new(io.open(&path).await.unwrap());
        let mut block = file.read_at(block_at, BLOCK_BYTES).await.unwrap().to_vec();
        block[at % BLOCK_BYTES] ^= 1;
        write_one(&io, &file, block_at, block, Then::Nothing)
            .await
            .unwrap();
    });
}

#[test]
fn an_event_whose_data_is_damaged_hides_none_of_those_picked_before_it() {
    const DATA_BYTES: usize = 5000;
    let whole = r#""selection":"all","filter":{"level":"x"}"#;
    let parts = r#""selection":{"views":[{"sub":{"offset":100,"bytes":50}}]}"#;
    for picking in [whole, parts] {
        let node = Node::open(|limits| limits.shard_recent_bytes_max = 0);
        let client = Client::connect(&node);
        let data = [7; DATA_BYTES];
        for id in [10, 11] {
            let events = std::iter::repeat_n((&br#"{"level":"x"}"#[..], &data[..]), 4);
            client.produce(id, &batch(node.log, events));
            node.settle();
        }
        // The second event of the second batch.
        flip(&node, node.log, BLOCK_BYTES + 5 * DATA_BYTES + 120);
        let subscribe = |subscription: u64, from: &str| {
            format!(
                r#"{{"subscription":{subscription},"partition":"{}","consumer":"c{subscription}","member":"{}","from":{from},
                    "batch_events_max":1000,"batch_bytes_max":1000000,"credits":10,{picking}}}"#,
                node.log,
                Uuid::from_u128(1)
            )
        };
        client.ask(Opcode::Subscribe, 20, subscribe(5, r#""first""#).as_bytes());
        node.settle();
        client.answer(20).unwrap();
        let told: Vec<_> = client
            .pipe
            .frames()
            .into_iter()
            .filter(|(header, _)| header.request_id() == 5)
            .collect();
        let [(_, fed), (_, error)] = &told[..] else {
            panic!("{} frames for {picking}", told.len());
        };
        let feed = Feed::check(fed.clone()).unwrap();
        assert_eq!(feed.header.end_event_id, EventId::new(5), "{picking}");
        let ids = feed.items.into_iter().flat_map(|item| match item {
            FeedPart::Picked(picked) => picked.events,
            FeedPart::Batch(_) => panic!("events are picked"),
        });
        assert!(ids.map(|event| event.id.get()).eq(0..5), "{picking}");
        let error = WireError::check(error).unwrap();
        assert_eq!(error.code, ErrorCode::Damaged, "{error}");
    }
}
