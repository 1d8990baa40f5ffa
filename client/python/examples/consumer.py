"""Quick start: pulls events until none came for a second. Usage: consumer.py GROUP_FILE TOPIC"""

import sys

import mofka

group_file, topic_name = sys.argv[1:]
topic = mofka.Driver(group_file).open_topic(topic_name)

with topic.consumer("quick start") as consumer:
    for event in consumer.events(timeout_ms=1000):
        print(event.event_id, event.metadata, event.data_bytes().decode())
        # Everything up to here: once in a while is enough.
        if (event.event_id + 1) % 10 == 0:
            event.acknowledge()
