"""Quick start as it is written for Mofka 0.9. Usage: generation_d.py TOPIC; mofka.json is in the current directory."""

import sys

from mochi.mofka.client import ByteArrayAllocator, FullDataSelector, MofkaDriver

topic_name = sys.argv[1]
driver = MofkaDriver(group_file="mofka.json", margo={"use_progress_thread": True})
driver.create_topic(
    topic_name,
    options={
        "num_partitions": 1,
        "config": {"type": "default", "partition": {"path": f"/tmp/{topic_name}"}},
        "dependencies": {"io_controller": "io_controller"},
    },
)
driver.add_default_partition(topic_name, server_rank=0, abt_io_instance="io_controller", partition_config={})
topic = driver.open_topic(topic_name)
assert len(topic.partitions) == 2

producer = topic.producer("my_producer")
for i in range(100):
    producer.push(metadata={"x": i}, data=b"data", partition=i % 2)
assert producer.flush().wait(timeout_ms=10000)

consumer = topic.consumer(
    "my_consumer", data_selector=FullDataSelector, data_allocator=ByteArrayAllocator, targets=[1], options={}
)
count = 0
for event in consumer:
    assert event.metadata == {"x": 2 * count + 1}
    assert bytes(event.data[0]) == b"data"
    event.acknowledge()
    count += 1
    if count == 50:
        break
print(f"generation D: {count} events")
