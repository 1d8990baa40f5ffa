"""Quick start: pushes events. Usage: producer.py GROUP_FILE TOPIC [COUNT]"""

import sys

import mofka

group_file, topic_name, *rest = sys.argv[1:]
driver = mofka.Driver(group_file)
if not driver.topic_exists(topic_name):
    driver.create_topic(topic_name)
topic = driver.open_topic(topic_name)

with topic.producer("quick start") as producer:
    for number in range(int(rest[0]) if rest else 100):
        producer.push({"number": number, "sensor": "north"}, f"reading {number}".encode())
print(producer.close())
