"""Quick start as it was written for Mofka 0.7. Usage: generation_b.py TOPIC; mofkactl made the topic, mofka.json is in the current
directory."""

import sys

from diaspora_stream.api import AdaptiveBatchSize, DataDescriptor, Driver, Ordering

topic_name = sys.argv[1]
driver = Driver.new("mofka", {"group_file": "mofka.json", "margo": {"use_progress_thread": True}})
topic = driver.open_topic(topic_name)

producer = topic.producer(
    name="my_producer", batch_size=AdaptiveBatchSize, ordering=Ordering.Strict, thread_pool=driver.make_thread_pool(1)
)
for i in range(100):
    future = producer.push({"x": i}, f"data {i}".encode())
    if i % 50 == 0:
        assert future.wait() == i
producer.flush()
topic.markAsComplete()


def data_selector(metadata, descriptor):
    if metadata["x"] % 2 == 0:
        return descriptor
    return None


def data_allocator(metadata, descriptor):
    return [bytearray(descriptor.size)]


consumer = topic.consumer(name="my_consumer", data_selector=data_selector, data_allocator=data_allocator)
assert isinstance(DataDescriptor(), DataDescriptor)
count = 0
for event in consumer:
    if event.event_id is None:
        break
    assert event.metadata == {"x": event.event_id} == {"x": count}
    assert b"".join(event.data) == (f"data {count}".encode() if count % 2 == 0 else b"")
    # As the walk-through has it: nine of ten are acknowledged.
    if (count + 1) % 10:
        event.acknowledge()
    count += 1
print(f"generation B: {count} events")
