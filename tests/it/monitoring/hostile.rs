//! Clients of the port for metrics that mean ill, or are broken.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use mofka_client::{Metadata, ProducerOptions, TopicOptions};
use mofka_tests::Random;
use mofka_tests::http::{get, host, send};
use serde_json::json;

use super::{node, scrape_until};

const CONNECTIONS_MAX: usize = 8;

fn threads(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().count()
}

#[test]
fn silent_slow_huge_and_many_connections_harm_nothing() {
    let monitoring = json!({"listen": "127.0.0.1:0", "connections_max": CONNECTIONS_MAX});
    let (node, url) = node(&json!({"monitoring": monitoring}));
    let threads_before = threads(node.pid());
    let topic = node
        .driver()
        .create_topic(TopicOptions::new("t").partitions(2))
        .unwrap();
    let place = host(&url).to_owned();
    // Silent ones, more than there may be, and some that send a byte now and then.
    let mut crowd = Vec::new();
    for n in 0..200 {
        // One whose turn to be cut off has come may be refused while the system still queues it.
        let Ok(mut stream) = TcpStream::connect(&place) else {
            continue;
        };
        if n % 3 == 0 {
            stream.write_all(b"GET /metrics HT").ok();
        }
        crowd.push(stream);
        if n % 50 == 10 {
            assert_eq!(get(&url, "/healthz", &[]).status, 200, "after {n} silent ones");
        }
    }
    let producer = topic.producer(ProducerOptions::default());
    for n in 0..2000 {
        if n % 100 == 0 {
            for stream in &mut crowd {
                stream.write_all(b"T").ok();
            }
        }
        producer
            .push(Metadata::from(format!("{{\"n\":{n}}}")), vec![1; 100], None)
            .unwrap();
    }
    assert_eq!(producer.close().unwrap().acknowledged, 2000);
    // One for each connection, the one that accepts, and what ends just now.
    assert!(threads(node.pid()) <= threads_before + 2 * CONNECTIONS_MAX + 8);
    scrape_until(&url, "all is told", |samples| {
        samples.sum("mofka_accepted_events_total", &[("topic", "t")]) == Some(2000.0)
    });
    // Who does not take the answer only keeps its own place, and not for ever.
    for _ in 0..CONNECTIONS_MAX - 1 {
        let mut deaf = TcpStream::connect(&place).unwrap();
        deaf.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .unwrap();
        crowd.push(deaf);
    }
    scrape_until(&url, "the deaf keep nobody out", |_| true);
    drop(crowd);
    assert_eq!(get(&url, "/readyz", &[]).status, 200);
}

#[test]
fn nonsense_is_answered_and_costs_nothing() {
    let (node, url) = node(&json!({}));
    let place = host(&url).to_owned();
    let huge = format!("GET /{} HTTP/1.1\r\n", "a".repeat(100_000));
    for (bytes, status) in [
        (&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], 400),
        (huge.as_bytes(), 431),
        (
            b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nabcd",
            405,
        ),
        (b"DELETE / HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ] {
        assert_eq!(
            send(&url, bytes).status,
            status,
            "{:?}",
            String::from_utf8_lossy(bytes)
        );
    }
    // The head alone.
    let answer = send(&url, b"HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(answer.status == 200 && answer.body.is_empty() && answer.headers["content-length"] != "0");
    // Any bytes at all, from several at once.
    let seed = mofka_tests::scale("MOFKA_SEED", 1);
    thread::scope(|scope| {
        for who in 0..4 {
            let place = &place;
            scope.spawn(move || {
                let mut random = Random::new(seed * 100 + who);
                for _ in 0..100 {
                    let Ok(mut stream) = TcpStream::connect(place) else {
                        continue;
                    };
                    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
                    let count = random.below(3000);
                    let bytes: Vec<u8> = (0..count)
                        .map(|_| u8::try_from(random.below(256)).unwrap())
                        .collect();
                    stream.write_all(&bytes).ok();
                    if random.below(2) == 0 {
                        stream.shutdown(Shutdown::Write).ok();
                        stream.read_to_end(&mut Vec::new()).ok();
                    }
                }
            });
        }
    });
    assert_eq!(get(&url, "/healthz", &[]).status, 200);
    assert!(!node.log().contains("panicked"), "{}", node.log());
}
