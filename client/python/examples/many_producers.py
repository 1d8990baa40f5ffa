"""Many processes push into one topic. Usage: many_producers.py GROUP_FILE TOPIC

The workers are forked: each connects on its own. The topic is complete when the last of them is done."""

import multiprocessing
import sys

import mofka

WORKERS, EVENTS = 4, 500


def work(group_file, topic_name, worker):
    topic = mofka.Driver(group_file).open_topic(topic_name)
    # With a name it counts once, however often it is started.
    producer = topic.producer(f"worker {worker}")
    for number in range(EVENTS):
        producer.push({"worker": worker, "number": number})
    producer.done()


if __name__ == "__main__":
    group_file, topic_name = sys.argv[1:]
    topic = mofka.Driver(group_file).create_topic(topic_name, partitions=2, producers_expected=WORKERS)
    processes = multiprocessing.get_context("fork")
    workers = [processes.Process(target=work, args=(group_file, topic_name, worker)) for worker in range(WORKERS)]
    for worker in workers:
        worker.start()
    counts = [0] * WORKERS
    for event in topic.consumer("counter", data_selector=None).events(timeout_ms=None):
        counts[event.metadata["worker"]] += 1
    for worker in workers:
        worker.join()
    print(counts)
    assert counts == [EVENTS] * WORKERS
