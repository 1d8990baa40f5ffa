"""The Python side of `mofka-benches python`. On its standard input comes a line for each turn, a JSON list of topic, way of pushing,
milliseconds, and bytes of data; what became of it goes to standard output as JSON. Usage: side.py GROUP_FILE METADATA...
"""

import json
import sys
import time

import mofka

# Events between two looks at the clock, and together in push_many.
BETWEEN = 256


def push_text(producer, texts, documents, data):
    for text in texts:
        producer.push(text, data)


def push_dicts(producer, texts, documents, data):
    for document in documents:
        producer.push(document, data)


def push_many(producer, texts, documents, data):
    producer.push_many(texts, [data] * len(texts))


WAYS = {"push(str)": push_text, "push(dict)": push_dicts, "push_many(str)": push_many}


def turn(driver, texts, documents, topic, way, milliseconds, data_bytes):
    push, data = WAYS[way], bytes([7]) * data_bytes
    parts = [(texts[at : at + BETWEEN], documents[at : at + BETWEEN]) for at in range(0, len(texts) - BETWEEN + 1, BETWEEN)]
    producer = driver.open_topic(topic).producer()
    cpu, begin, rounds = time.process_time(), time.perf_counter(), 0
    end = begin + milliseconds / 1000
    while time.perf_counter() < end:
        push(producer, *parts[rounds % len(parts)], data)
        rounds += 1
    account = producer.close()
    seconds = time.perf_counter() - begin
    assert account["acknowledged"] == rounds * BETWEEN, account
    return {"events": account["acknowledged"], "seconds": seconds, "cpu_seconds": time.process_time() - cpu}


group_file, *texts = sys.argv[1:]
documents = [json.loads(text) for text in texts]
driver = mofka.Driver(group_file)
print(json.dumps({"mofka": mofka.__version__}), flush=True)
for line in sys.stdin:
    print(json.dumps(turn(driver, texts, documents, *json.loads(line))), flush=True)
