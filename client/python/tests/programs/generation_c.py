"""Quick start as it was written for Mofka 0.8. Usage: generation_c.py TOPIC; mofka.json is in the current directory."""

import sys

from diaspora_stream.api import Driver, Validator

topic_name = sys.argv[1]
driver = Driver(backend="mofka", options={"group_file": "mofka.json"})
driver.create_topic(
    name=topic_name,
    options={"num_partitions": 1, "config": {"type": "memory"}},
    validator=Validator.from_metadata(type="schema", schema={"type": "object", "properties": {"x": {"type": "integer"}}}),
)
assert driver.topic_exists(topic_name) and topic_name in driver.list_topics()
topic = driver.open_topic(topic_name)

producer = topic.producer(name="my_producer", batch_size=16, max_num_batches=4)
futures = [producer.push(metadata={"x": i}, data=f"data {i}".encode()) for i in range(100)]
assert producer.flush().wait(timeout_ms=10000) is True
assert [future.wait(timeout_ms=1000) for future in futures] == list(range(100))

consumer = topic.consumer(
    name="my_consumer",
    data_selector=lambda metadata, descriptor: descriptor.make_sub_view(offset=0, size=4),
    data_allocator=lambda metadata, descriptor: [bytearray(descriptor.size)],
)
for i in range(100):
    future = consumer.pull()
    event = future.wait(timeout_ms=100)
    while event is None:
        event = future.wait(-1)
    assert future.completed()
    assert (event.event_id, event.metadata) == (i, {"x": i})
    assert event.data == [bytearray(b"data")]
    if (i + 1) % 10 == 0:
        event.acknowledge()
assert consumer.pull().wait(timeout_ms=100) is None
print("generation C: 100 events")
