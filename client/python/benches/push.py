"""How many events a second one thread pushes, and pulls again: 128 B of metadata, 1 KiB of data, adaptive batches.

Usage: push.py GROUP_FILE [SECONDS] [METADATA]   (METADATA: text, the default, or dict)"""

import json
import sys
import time

import mofka

group_file, *rest = sys.argv[1:]
seconds = float(rest[0]) if rest else 1.0
as_dict = rest[1:] == ["dict"]

document = {"detector": "north", "run": 1234567, "energy": 42.25, "filler": ""}
document["filler"] = "x" * (128 - len(json.dumps(document, separators=(",", ":"))))
metadata = document if as_dict else json.dumps(document, separators=(",", ":"))
data = bytes(1024)

driver = mofka.Driver(group_file)
topic_name = f"bench-{time.time_ns()}"
topic = driver.create_topic(topic_name)
producer = topic.producer()
begin = time.monotonic()
count = 0
while time.monotonic() - begin < seconds:
    for _ in range(1000):
        producer.push(metadata, data)
    count += 1000
account = producer.close()
took = time.monotonic() - begin
assert account["acknowledged"] == count, account
batches = producer.stats["batches"]
print(f"pushed {count} events in {took:.2f} s: {count / took:,.0f} events/s, {count / batches:.0f} in a batch")

with topic.consumer("bench") as consumer:
    begin = time.monotonic()
    for _ in range(count):
        consumer.pull().wait()
    took = time.monotonic() - begin
print(f"pulled {count} events in {took:.2f} s: {count / took:,.0f} events/s")
driver.delete_topic(topic_name)
