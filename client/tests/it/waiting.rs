//! Threads and tasks that wait for different things over one connection.

use std::time::Duration;

use mofka_client::{BatchSize, ProducerOptions};
use serde_json::json;

use crate::node::{Node, block_on};

const THREADS: usize = 8;
const EVENTS: u64 = 2000;

#[test]
fn everybody_who_waits_over_one_connection_gets_his_own_answers() {
    let node = Node::start();
    let topic = node.topic(THREADS as u32);
    std::thread::scope(|scope| {
        for partition in 0..THREADS {
            let topic = topic.clone();
            scope.spawn(move || {
                let producer = topic.producer(ProducerOptions {
                    batch_size: BatchSize::fixed(1),
                    ..ProducerOptions::default()
                });
                for n in 0..EVENTS {
                    let future = producer.push(json!({"n": n}), "data", Some(partition)).unwrap();
                    // In every way that there is.
                    let id = match (partition as u64 + n) % 4 {
                        0 => future.wait().unwrap(),
                        1 => block_on(future).unwrap(),
                        2 => loop {
                            if let Some(id) = future.wait_timeout(Duration::from_micros(50)).unwrap() {
                                break id;
                            }
                        },
                        _ => {
                            // A request and its answer between the event and its own.
                            topic.refresh().unwrap();
                            future.wait().unwrap()
                        }
                    };
                    assert_eq!(id.get(), n);
                }
            });
        }
    });
    for partition in 0..THREADS {
        assert_eq!(node.stored(&topic, partition).len() as u64, EVENTS);
    }
}
