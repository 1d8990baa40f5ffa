"""Quick start as it was written for Mofka 0.2 to 0.6. Usage: generation_a.py TOPIC; mofka.json is in the current directory."""

import json
import sys

from mochi.mofka.client import (
    AdaptiveBatchSize,
    DataDescriptor,
    MofkaDriver,
    Ordering,
    PartitionSelector,
    Serializer,
    ThreadPool,
    Validator,
)

topic_name = sys.argv[1]
driver = MofkaDriver("mofka.json", use_progress_thread=True)

validator = Validator.from_metadata("default", {})
selector = PartitionSelector.from_metadata("default", {})
serializer = Serializer.from_metadata("property_list_serializer", {"properties": ["x", "y"]})
driver.create_topic(topic_name, validator, selector, serializer)
driver.add_memory_partition(topic_name, 0)

topic = driver.open_topic(topic_name)
thread_pool = ThreadPool(1)
producer = topic.producer("app1", batch_size=AdaptiveBatchSize, thread_pool=thread_pool, ordering=Ordering.Strict)
for i in range(100):
    future = producer.push(metadata={"x": str(i), "y": "text"}, data=f"data {i}".encode())
    if i == 0:
        assert future.wait() == 0
        assert future.completed
producer.push(json.dumps({"x": "100", "y": "text"}), [b"data ", bytearray(b"100")])
producer.flush()
topic.mark_as_complete()


def data_selector(metadata, descriptor):
    if int(metadata["x"]) % 2 == 0:
        return descriptor
    return DataDescriptor()


def data_broker(metadata, descriptor):
    return [bytearray(descriptor.size)]


consumer = topic.consumer(
    name="app2", thread_pool=thread_pool, batch_size=AdaptiveBatchSize, data_selector=data_selector, data_broker=data_broker
)
count = 0
while True:
    event = consumer.pull().wait()
    if event.event_id is None:
        break
    x = int(json.loads(event.metadata)["x"])
    assert x == event.event_id == count
    assert bytes(event.data[0]) == (f"data {x}".encode() if x % 2 == 0 else b"")
    if (count + 1) % 10 == 0:
        event.acknowledge()
    count += 1
print(f"generation A: {count} events")
