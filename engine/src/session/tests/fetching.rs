//! Much work in one request: others of the shard have their turn meanwhile.

use mofka_log::EventId;
use mofka_net::{DataDescriptor, FetchRequest, FetchResponse};

use super::*;

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
