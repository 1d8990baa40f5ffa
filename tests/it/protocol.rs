//! The daemon on the wire: what it answers, to honest clients and to others.

use mofka_net::control::{From, Selection, SubscribeRequest};
use mofka_net::{
    DataDescriptor, ErrorCode, FetchRequest, FetchResponse, FrameHeader, Opcode, ProduceResponse, WireError,
};
use mofka_tests::Node;
use mofka_tests::raw::RawClient;
use serde_json::json;
use uuid::Uuid;

const TCP: [&str; 4] = ["--listen", "tcp://127.0.0.1:0", "--shards", "2"];

fn subscription(partition: Uuid, from: From, selection: Selection) -> SubscribeRequest {
    SubscribeRequest {
        subscription: 1 << 40,
        partition,
        consumer: "c".to_owned(),
        member: Uuid::nil(),
        filter: None,
        from,
        batch_events_max: 1000,
        batch_bytes_max: 1 << 20,
        credits: 10,
        selection,
    }
}

#[test]
fn events_go_in_and_out_over_tcp_and_unix_sockets() {
    for listen in ["tcp://127.0.0.1:0", "na+sm"] {
        let node = Node::start(&["--listen", listen, "--shards", "1"]);
        let (mut client, hello) = RawClient::hello(&node.group_file());
        assert_eq!((hello.shards, hello.version), (1, 1));
        let partition = client.create_partition();
        let events: [(&str, &[u8]); 3] = [("{\"n\":0}", b"zero"), ("{\"n\":1}", b""), ("{\"n\":2}", b"two")];
        let answer = client.produce_now(partition, &events, None).unwrap();
        assert_eq!(
            (answer.base_event_id.get(), answer.event_count, answer.duplicate),
            (0, 3, false)
        );
        client
            .subscribe(&subscription(partition, From::Cursor, Selection::All))
            .unwrap();
        let (feed, batches) = client.feed(1 << 40);
        assert_eq!(
            (feed.header.first_event_id.get(), feed.header.end_event_id.get()),
            (0, 3)
        );
        let found: Vec<&[u8]> = batches[0].events().map(|event| event.metadata).collect();
        assert_eq!(found, [&b"{\"n\":0}"[..], b"{\"n\":1}", b"{\"n\":2}"]);
        assert_eq!(batches[0].data().unwrap().as_ref(), b"zerotwo");
        let request = FetchRequest {
            partition,
            items: vec![
                DataDescriptor::of_event(mofka_log::EventId::new(2), 3).sub_view(1, 2),
                DataDescriptor::of_event(mofka_log::EventId::new(0), 4),
                DataDescriptor::of_event(mofka_log::EventId::new(9), 4),
            ],
        };
        let answer = client.call(Opcode::Fetch, &request.encode().unwrap()).unwrap();
        let fetched = FetchResponse::check(answer).unwrap();
        assert_eq!(fetched[0].as_ref().unwrap().as_ref(), b"wo");
        assert_eq!(fetched[1].as_ref().unwrap().as_ref(), b"zero");
        assert!(fetched[2].is_err(), "there is no event 9");
    }
}

#[test]
fn any_shard_answers_about_topics_and_names_the_owner_of_a_partition() {
    let node = Node::start(&TCP);
    let (mut client, hello) = RawClient::hello(&node.group_file());
    let topic = client
        .create_topic(&json!({"name": "t", "num_partitions": 4}))
        .unwrap();
    let shards: Vec<u32> = topic.partitions.iter().map(|partition| partition.shard).collect();
    assert_eq!(shards, [0, 1, 0, 1], "partitions go round the shards");
    for (shard, addresses) in hello.endpoints.iter().enumerate() {
        let (mut client, own) = RawClient::hello_at(&addresses[0]);
        assert_eq!(own.shard as usize, shard);
        client.json(Opcode::TopicDescribe, &json!({"name": "t"})).unwrap();
        for partition in &topic.partitions {
            let answer = client.produce_now(partition.id, &[("{}", b"x")], None);
            if partition.shard as usize == shard {
                answer.unwrap();
            } else {
                let error = answer.unwrap_err();
                assert_eq!(error.code, ErrorCode::NotOwner);
                assert_eq!(error.addresses(), hello.endpoints[partition.shard as usize]);
            }
        }
    }
}

#[test]
fn requests_are_pipelined_and_a_resent_batch_gets_its_first_answer_also_after_a_restart() {
    let mut node = Node::start(&["--listen", "tcp://127.0.0.1:0", "--shards", "1"]);
    let (mut client, _) = RawClient::hello(&node.group_file());
    let partition = client.create_partition();
    let event = |n: u64| format!("{{\"n\":{n}}}");
    let numbers: Vec<u64> = (0..10)
        .map(|n| client.produce(partition, &[(&event(n), b"d")], Some((77, 0, n))))
        .collect();
    for (n, number) in (0..).zip(numbers) {
        let answer = ProduceResponse::check(client.wait_for(number).unwrap()).unwrap();
        assert_eq!((answer.base_event_id.get(), answer.duplicate), (n, false));
    }
    node.kill();
    node.start_again();
    let (mut client, _) = RawClient::hello(&node.group_file());
    for n in [9, 0, 5] {
        let again = client
            .produce_now(partition, &[(&event(n), b"d")], Some((77, 0, n)))
            .unwrap();
        assert_eq!((again.base_event_id.get(), again.duplicate), (n, true));
    }
    let next = client
        .produce_now(partition, &[(&event(10), b"d")], Some((77, 0, 10)))
        .unwrap();
    assert_eq!((next.base_event_id.get(), next.duplicate), (10, false));
    let gap = client
        .produce_now(partition, &[("{}", b"")], Some((77, 0, 12)))
        .unwrap_err();
    assert_eq!((gap.code, gap.expected()), (ErrorCode::SequenceGap, Some(11)));
}

fn first_error(client: &mut RawClient) -> WireError {
    client.receive().unwrap().answer().unwrap_err()
}

#[test]
fn nonsense_is_answered_and_the_connection_ends() {
    let node = Node::start(&["--listen", "tcp://127.0.0.1:0", "--shards", "1"]);
    let group = mofka_net::GroupFile::check(&std::fs::read_to_string(node.group_file()).unwrap()).unwrap();
    let address = &group.members[0].address;

    let mut client = RawClient::connect(address);
    client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert_eq!(first_error(&mut client).code, ErrorCode::BadChecksum);
    assert!(
        client.receive().is_err(),
        "nothing after a broken frame can be trusted"
    );

    let mut client = RawClient::connect(address);
    let error = client.json(Opcode::Status, &json!({})).unwrap_err();
    assert!(error.message.contains("hello"), "{error}");

    let (mut client, _) = RawClient::hello_at(address);
    let mut header = FrameHeader::request(Opcode::Status, 5, b"{}").to_vec();
    header[16] ^= 0xff;
    client.send(&header).unwrap();
    assert!(matches!(
        first_error(&mut client).code,
        ErrorCode::Malformed | ErrorCode::BadChecksum
    ));

    let (mut client, _) = RawClient::hello_at(address);
    client
        .send(&FrameHeader::self_checked(Opcode::Produce, 6, 1 << 31))
        .unwrap();
    assert_eq!(first_error(&mut client).code, ErrorCode::TooLarge);

    let (mut client, _) = RawClient::hello_at(address);
    let error = client
        .json(Opcode::TopicCreate, &json!({"name": "a", "durabilty": "synced"}))
        .unwrap_err();
    assert!(error.message.contains("durabilty"), "{error}");
    for name in ["", "..", "a/b", "a b", &"x".repeat(201)] {
        let error = client.create_topic(&json!({"name": name})).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidName, "{name:?}: {error}");
    }
    client.json(Opcode::Status, &json!({})).unwrap();
}

#[test]
fn a_batch_that_was_changed_on_its_way_is_refused_and_stores_nothing() {
    let node = Node::start(&["--listen", "tcp://127.0.0.1:0", "--shards", "1"]);
    let (mut client, _) = RawClient::hello(&node.group_file());
    let partition = client.create_partition();
    let mut builder = mofka_log::BatchBuilder::new();
    builder
        .push(b"{\"a\":1}", std::iter::once(&b"some data"[..]))
        .unwrap();
    let (frame, data) = builder.finish(None);
    let prefix = mofka_net::ProducePrefix {
        partition,
        durability: None,
    }
    .encode();
    let whole = [&prefix[..], &frame, &data].concat();
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 0x10;
        let number = 1000 + at as u64;
        let header = FrameHeader::self_checked(Opcode::Produce, number, changed.len() as u64);
        client.send(&[&header[..], &changed].concat()).unwrap();
        let error = client.wait_for(number).unwrap_err();
        assert!(
            matches!(error.code, ErrorCode::BadChecksum | ErrorCode::Malformed),
            "byte {at}: {error}"
        );
    }
    let answer = client.produce_now(partition, &[("{}", b"x")], None).unwrap();
    assert_eq!(answer.base_event_id.get(), 0, "nothing of that was stored");
}

#[test]
fn credit_bounds_what_is_sent() {
    let node = Node::start(&["--listen", "tcp://127.0.0.1:0", "--shards", "1"]);
    let (mut client, _) = RawClient::hello(&node.group_file());
    let partition = client.create_partition();
    for _ in 0..10 {
        client.produce_now(partition, &[("{}", b"x")], None).unwrap();
    }
    let mut terms = subscription(partition, From::First, Selection::None);
    terms.batch_events_max = 2;
    terms.credits = 2;
    client.subscribe(&terms).unwrap();
    assert_eq!(client.feed(terms.subscription).0.header.end_event_id.get(), 2);
    assert_eq!(client.feed(terms.subscription).0.header.end_event_id.get(), 4);
    // A ping's answer comes before any third feed would.
    let ping = client.request(Opcode::Ping, b"");
    assert_eq!(
        client.receive().unwrap().header.request_id(),
        ping,
        "without credit nothing is fed"
    );
    let more = mofka_net::CreditRequest {
        subscription: terms.subscription,
        credits: 1,
    };
    client.request(Opcode::Credit, &more.encode());
    assert_eq!(client.feed(terms.subscription).0.header.end_event_id.get(), 6);
}
