"""What the driver does for Python programs beyond what the API's own suites look at: every.py GROUP-FILE. Says "done" when all of it is so.

The interpreter's lock, its memory and its end are what can go wrong: functions and buffers of Python's are only touched by threads of the
program, with the lock held, and nothing waits for a thread that waits for the lock.
"""

import subprocess
import sys
import threading
import time
import weakref

from diaspora_stream.api import Driver, Exception as DiasporaException

GROUP_FILE = sys.argv[1]
OPTIONS = {"num_partitions": 1, "config": {"type": "memory"}}
# Longer than what is copied: it is sent from where it is, and let go of by a thread of the client.
LARGE = 1 << 20


class Buffer(bytearray):
    """One that can be watched."""


def topic_of(driver, name):
    driver.create_topic(name, options=OPTIONS)
    return driver.open_topic(name)


def until(condition, what):
    for _ in range(30_000):
        if condition():
            return
        time.sleep(0.001)
    raise AssertionError(f"never: {what}")


def buffers_are_let_go_of(driver):
    topic = topic_of(driver, "buffers")
    watched, lock = [], threading.Lock()

    def produce(letter):
        producer = topic.producer(batch_size=2, max_num_batches=1)
        for _ in range(10):
            buffer = Buffer(letter * LARGE)
            with lock:
                watched.append(weakref.ref(buffer))
            producer.push(metadata={"letter": letter.decode()}, data=buffer)
            del buffer
        producer.flush().wait(timeout_ms=60_000)

    threads = [threading.Thread(target=produce, args=[letter]) for letter in (b"a", b"b", b"c", b"d")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: all(buffer() is None for buffer in watched), "all buffers are let go of")

    consumer = topic.consumer("c")
    for event_id in range(40):
        event = consumer.pull().wait(timeout_ms=60_000)
        assert event.event_id == event_id
        assert bytes(event.data[0]) == event.metadata["letter"].encode() * LARGE


def functions_run_in_threads_that_wait(driver):
    topic = topic_of(driver, "functions")
    producer = topic.producer()
    for n in range(30):
        producer.push(metadata={"n": n}, data=[b"%02d" % n, b"-rest"])
    producer.flush().wait(timeout_ms=60_000)
    called_by = set()

    def select(metadata, whole):
        called_by.add(threading.get_ident())
        if metadata["n"] == 3:
            raise ValueError("not number 3")
        return None if metadata["n"] == 4 else whole.make_sub_view(offset=0, size=2)

    given = []

    def allocate(metadata, selected):
        called_by.add(threading.get_ident())
        # Five readers' worth of other work goes on beside this.
        given.append(bytearray(selected.size + (metadata["n"] == 5)))
        return [given[-1]]

    consumer = topic.consumer("c", data_selector=select, data_allocator=allocate)
    failures = {3: "not number 3", 5: "size different"}
    for n in range(30):
        future = consumer.pull()
        if n in failures:
            for timeout_ms in (60_000, 0):
                try:
                    future.wait(timeout_ms=timeout_ms)
                    raise AssertionError(f"event {n} did not fail")
                except (DiasporaException, RuntimeError) as error:
                    assert failures[n] in str(error), error
            continue
        event = future.wait(timeout_ms=60_000)
        assert event.event_id == n and event.data[0] is given[-1]
        assert bytes(event.data[0]) == (b"" if n == 4 else b"%02d" % n), n
    assert called_by == {threading.get_ident()}


def others_work_meanwhile(driver):
    """What waits holds nobody up: neither an iterator, which the API's module calls with the lock held, nor a full producer."""
    topic = topic_of(driver, "meanwhile")

    def produce():
        producer = topic.producer(batch_size=1)
        for n in range(20):
            time.sleep(0.002)
            producer.push(metadata={"n": n}).wait(timeout_ms=60_000)

    thread = threading.Thread(target=produce)
    thread.start()
    seen = []
    for event in topic.consumer("c"):
        seen.append(event.metadata["n"])
        event.acknowledge()
        if len(seen) == 20:
            break
    thread.join()
    assert seen == list(range(20)), seen
    consumer = topic.consumer("c")
    assert consumer.pull().wait(timeout_ms=0) is None and consumer.pull().wait(timeout_ms=50) is None


def a_processor_that_fails_ends_processing(driver):
    """The API's module cannot hand events to processors (0.5.2); what that throws on threads of the pool arrives here."""
    topic = topic_of(driver, "processed")
    producer = topic.producer()
    for n in range(20):
        producer.push(metadata={"n": n})
    producer.flush().wait(timeout_ms=60_000)
    for threads in (0, 3):
        seen = []
        try:
            consumer = topic.consumer(f"pooled {threads}")
            consumer.process(seen.append, timeout_ms=60_000, max_events=20, thread_pool=driver.make_thread_pool(threads))
            assert len(seen) == 20
        except RuntimeError as error:
            assert "Unable to convert" in str(error), error


ENDING = """
import sys
from diaspora_stream.api import Driver
driver = Driver(backend="mofka", options={"group_file": sys.argv[1]})
topic = driver.open_topic("ends")
producer = topic.producer()
consumer = topic.consumer("c" + sys.argv[2], data_selector=lambda metadata, whole: whole, data_allocator=lambda metadata, selected: [bytearray(selected.size)])
futures = [producer.push(metadata={"n": n}, data=bytearray(100_000)) for n in range(20)]
pulls = [consumer.pull() for _ in range(5)]
assert pulls[0].wait(timeout_ms=60_000).event_id == 0
"""


def a_program_may_end_at_any_time(driver):
    topic = topic_of(driver, "ends")
    runs = 10
    for n in range(runs):
        # Nothing is flushed, waited for or closed.
        subprocess.run([sys.executable, "-X", "faulthandler", "-c", ENDING, GROUP_FILE, str(n)], check=True, timeout=120)
    consumer = topic.consumer("all")
    for event_id in range(20 * runs):
        assert consumer.pull().wait(timeout_ms=60_000).event_id == event_id
    assert consumer.pull().wait(timeout_ms=100) is None


def main():
    driver = Driver(backend="mofka", options={"group_file": GROUP_FILE})
    assert driver.default_thread_pool is driver.default_thread_pool
    buffers_are_let_go_of(driver)
    functions_run_in_threads_that_wait(driver)
    others_work_meanwhile(driver)
    a_processor_that_fails_ends_processing(driver)
    a_program_may_end_at_any_time(driver)
    print("done")


main()
