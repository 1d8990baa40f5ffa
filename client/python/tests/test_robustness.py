"""What goes wrong by chance: each test tries it MOFKA_TEST_REPETITIONS times. No hang, no lost event, no crash."""

import asyncio
import collections
import gc
import signal
import threading
import time
import weakref

import mofka
import pytest
from conftest import PATIENCE_MS, REPETITIONS, Node


def drain(topic, count):
    """All events of a topic with one partition, which has so many: none is missing, none is there twice."""
    with topic.consumer("drain", start="first") as consumer:
        events = [consumer.pull().wait(PATIENCE_MS) for _ in range(count)]
        assert None not in events, f"{sum(event is not None for event in events)} of {count} events came"
        assert [event.event_id for event in events] == list(range(count))
        assert topic.partition_status(0)["visible_end"] == count
        return [event.metadata for event in events]


def test_forks_of_a_busy_program(program, topic):
    """Threads push, pull and acknowledge while their process forks: whatever lock is held at that moment, a child hears of it at once
    and connects anew; the parent goes on."""
    ended = program(
        """
import faulthandler, gc, os, sys, threading
producer = topic.producer('parent')
consumer = topic.consumer('reader')
stop = threading.Event()
counts = [0, 0]

def push():
    while not stop.is_set():
        producer.push({'from': 'parent', 'number': counts[0]}, b'x' * 1000)
        counts[0] += 1
        # So that there is not too much of it in 200 repetitions.
        stop.wait(0.0005)

def pull():
    while counts[1] < counts[0] or not stop.is_set():
        event = consumer.pull().wait(100)
        if event is not None:
            counts[1] += 1
            event.acknowledge()

threads = [threading.Thread(target=push), threading.Thread(target=pull)]
for thread in threads:
    thread.start()

def child(number, event, futures):
    faulthandler.dump_traceback_later(60, exit=True)
    for use in ['producer.push({})', 'producer.push_many([{}])', 'producer.flush()', 'producer.close()', 'producer.stats',
                'consumer.pull()', 'consumer.partitions', 'consumer.close()', 'consumer.events()', 'topic.refresh()',
                'topic.driver.list_topics()', 'event.open_data().read(1)']:
        try:
            eval(use, globals(), {'event': event})
        except mofka.ForkedError:
            continue
        print('not told:', use, file=sys.stderr)
        os._exit(9)
    for future in [*futures, event.acknowledge()]:
        # What had come is still there; what had not is told, and nothing waits for what will not come.
        try:
            future.wait()
        except mofka.ForkedError:
            pass
        assert future.completed
        try:
            future.wait(1)
        except mofka.ForkedError:
            pass
    del future
    futures.clear()
    globals().pop('producer'), globals().pop('consumer')
    gc.collect()
    with mofka.Driver(group_file).open_topic(topic.name).producer() as mine:
        assert mine.push({'from': 'child', 'number': number}, b'y' * 200_000).wait() is not None
    faulthandler.cancel_dump_traceback_later()

own = mofka.Driver(group_file).open_topic(topic.name).consumer('own')
event = own.pull().wait()
codes = []
for number in range(REPETITIONS):
    futures = [producer.push({'from': 'parent', 'number': -1}), producer.flush(), event.acknowledge(), own.pull()]
    pid = os.fork()
    if pid == 0:
        stop.set()
        child(number, event, futures)
        if number % 2:
            os._exit(0)
        sys.exit(0)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    for future in futures[:3]:
        assert future.wait() is not None
    latest = futures[3].wait()
    if latest is not None:
        event = latest
stop.set()
for thread in threads:
    thread.join()
account = producer.close()
assert account['acknowledged'] == account['pushed'], account
assert codes == [0] * REPETITIONS, codes
print(counts[0])
"""
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    pushed = int(ended.stdout)
    events = drain(topic, pushed + 2 * REPETITIONS)
    numbers = [event["number"] for event in events if event["from"] == "parent"]
    assert [number for number in numbers if number >= 0] == list(range(pushed))
    assert sorted(event["number"] for event in events if event["from"] == "child") == list(range(REPETITIONS))


def test_threads_that_come_and_go(driver, name):
    """Each thread makes its own producer and consumer, shares those of all, and leaves: nothing is lost."""
    topic = driver.create_topic(name)
    threads, each = 6, 40
    shared = topic.producer("shared")
    for repetition in range(REPETITIONS):
        failures = []

        def work(thread):
            try:
                own = topic.producer(f"own {thread}", batch_size=thread)
                futures = []
                for number in range(each):
                    futures.append(own.push({"repetition": repetition, "thread": thread, "number": number}, b"own"))
                    futures.append(shared.push({"repetition": repetition, "thread": thread, "number": -1}, b"shared"))
                if thread % 2:
                    own.close()
                del own
                for future in futures:
                    assert future.wait(PATIENCE_MS) is not None
                with topic.consumer(f"reader {thread}", start="last") as consumer:
                    shared.push({"repetition": repetition, "thread": thread, "number": -2})
                    assert consumer.pull().wait(PATIENCE_MS) is not None
            except BaseException as error:
                failures.append(error)

        workers = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert not failures
    events = drain(topic, REPETITIONS * threads * (2 * each + 1))
    numbers = collections.defaultdict(list)
    for event in events:
        numbers[event["repetition"], event["thread"]].append(event["number"])
    assert len(numbers) == REPETITIONS * threads
    for all_numbers in numbers.values():
        assert [number for number in all_numbers if number >= 0] == list(range(each))
        assert collections.Counter(all_numbers)[-1] == each


ENDINGS = {
    "the end of the text": "",
    "sys.exit": "import sys; sys.exit(0)",
    "an exception": "raise SystemExit(0)",
    "a thread that still waits": (
        "import threading\n"
        "def wait():\n"
        "    try:\n"
        "        while True:\n"
        "            consumer.pull().wait()\n"
        "    except mofka.ClosedError:\n"
        "        pass\n"
        "threading.Thread(target=wait, daemon=True).start()"
    ),
    "a thread that still pushes": (
        "import threading\n"
        "def push():\n"
        "    try:\n"
        "        while True:\n"
        "            kept.push({'number': -1})\n"
        "    except mofka.ClosedError:\n"
        "        pass\n"
        "threading.Thread(target=push, daemon=True).start()"
    ),
    # The interpreter unwinds the stacks of threads that want its lock when it ends: there must be none of the library's frames there.
    "threads that do all there is": (
        "import threading, time\n"
        "def call(function):\n"
        "    while True:\n"
        "        try:\n"
        "            function()\n"
        "        except mofka.MofkaError:\n"
        "            pass\n"
        "pool = mofka.ThreadPool(2)\n"
        "reader = topic.consumer('e', data_selector=lambda metadata, descriptor: descriptor)\n"
        "for function in [lambda: consumer.pull().wait(1), lambda: kept.push({'number': -1}, b'x').wait(),\n"
        "                 lambda: topic.partition_status(0), lambda: kept.push_many([{'number': -1}] * 10)[-1].wait(5),\n"
        "                 lambda: reader.process(lambda event: event.acknowledge().wait(1), max_events=5),\n"
        "                 lambda: topic.consumer('p').process(lambda event: event.acknowledge().wait(1), thread_pool=pool),\n"
        "                 lambda: mofka.Driver(group_file), lambda: topic.consumer('d').pull().wait(1)]:\n"
        "    threading.Thread(target=call, args=(function,), daemon=True).start()\n"
        "time.sleep(0.02)"
    ),
    "a reference cycle": "cycle = [kept, consumer]; cycle.append(cycle); del kept, consumer",
    "a function of the library's thread": "consumer.events(0); pulls = [consumer.pull() for _ in range(100)]",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_end_of_a_program_with_pushes_pending(program, topic, ending):
    """By chance and by the way it ends, batches are gathering, on their way or answered, and threads of the library call selectors."""
    repetitions = max(1, REPETITIONS // 4)
    counts = [100 + 37 * (repetition % 20) for repetition in range(repetitions)]
    for repetition, count in enumerate(counts):
        ended = program(
            # A busy device may take seconds to sync.
            f"kept = topic.producer(batch_size={[0, 1_000_000, 7][repetition % 3]}, drop_timeout_ms=100_000)\n"
            "consumer = topic.consumer('c', data_selector=lambda metadata, descriptor: descriptor)\n"
            f"for number in range({count}):\n"
            "    kept.push({'number': number}, b'x' * 100_000 if number % 50 == 0 else b'x')\n" + ENDINGS[ending]
        )
        assert (ended.returncode, ended.stderr) == (0, "")
    end = topic.partition_status(0)["visible_end"]
    numbers = [event["number"] for event in drain(topic, end) if event["number"] >= 0]
    assert numbers == [number for count in counts for number in range(count)]
    assert ending in ["a thread that still pushes", "threads that do all there is"] or end == len(numbers)


def test_who_awaits_is_woken(driver, name):
    """Also by what comes in the very moment in which it begins to wait."""
    topic = driver.create_topic(name, partition_type="memory")

    async def run():
        producer, consumer = topic.producer(), topic.consumer("c")
        for number in range(20 * REPETITIONS):
            pull = consumer.pull()
            assert await asyncio.wait_for(producer.push({"number": number}), 60) == number
            event = await asyncio.wait_for(pull, 60)
            assert event.event_id == number
            assert await asyncio.wait_for(event.acknowledge(), 60) is True
            assert await asyncio.wait_for(producer.flush(), 60) is True

    asyncio.run(run())


class Interrupted(Exception):
    pass


class Interrupts:
    """Signals that come while the main thread waits, and only then: each raises Interrupted once."""

    def __init__(self):
        self.armed = threading.Event()
        self.count = 0

    def __enter__(self):
        self.before = signal.signal(signal.SIGUSR1, self.handle)
        return self

    def __exit__(self, *_):
        signal.signal(signal.SIGUSR1, self.before)

    def handle(self, *_):
        if self.armed.is_set():
            self.armed.clear()
            self.count += 1
            raise Interrupted

    def during(self, wait, pause):
        """What `wait` gives, or Interrupted; a signal comes `pause` seconds after it began."""
        main = threading.main_thread().ident
        timer = threading.Timer(pause, signal.pthread_kill, (main, signal.SIGUSR1))
        try:
            self.armed.set()
            timer.start()
            result = wait()
            self.armed.clear()
            return result
        except Interrupted:
            return Interrupted
        finally:
            timer.join()


def test_signals_in_waits_lose_nothing(topic):
    """The same future, waited for again after a signal, gives what came meanwhile: each event once, in order."""
    producer, consumer = topic.producer(), topic.consumer("c")
    seen = []
    with Interrupts() as interrupts:
        for number in range(REPETITIONS):
            pull = consumer.pull()
            pause = (number % 7) / 1000
            if number % 2:
                # Signal and event come at about the same time.
                pushing = threading.Timer(pause, producer.push, ({"number": number},))
                pushing.start()
                got = interrupts.during(pull.wait, pause)
                pushing.join()
            else:
                assert interrupts.during(pull.wait, pause) is Interrupted
                pushed = producer.push({"number": number})
                got = interrupts.during(pushed.wait, pause)
                assert got in (number, Interrupted) and pushed.wait(PATIENCE_MS) == number
            event = pull.wait(PATIENCE_MS)
            assert event is not None
            seen.append(event.metadata["number"])
            acknowledged = event.acknowledge()
            interrupts.during(acknowledged.wait, pause)
            assert acknowledged.wait(PATIENCE_MS) is True
    assert seen == list(range(REPETITIONS))
    assert interrupts.count >= REPETITIONS // 2
    drain(topic, REPETITIONS)


def test_a_signal_ends_every_wait_for_a_node_that_does_not_answer():
    """Then the node goes on, and everything that was waited for comes."""
    with Node.running() as node, Interrupts() as interrupts:
        driver = mofka.Driver(node.group_file)
        topic = driver.create_topic("interrupted")
        producer, consumer = topic.producer(), topic.consumer("c")
        # What waits for room is not in the topic that is counted.
        other = driver.create_topic("full")
        full = other.producer(batch_size=1)
        loose = other.producer(batch_size=1, ordering=mofka.Ordering.Loose, thread_pool=driver.make_thread_pool(1))
        count = 0
        for _ in range(max(1, REPETITIONS // 8)):
            producer.push({"number": count})
            event = consumer.pull().wait(PATIENCE_MS)
            with node.suspended():
                pushed, acknowledged, pull = producer.push({"number": count + 1}), event.acknowledge(), consumer.pull()
                for wait in [
                    pushed.wait,
                    producer.flush().wait,
                    producer.close,
                    acknowledged.wait,
                    pull.wait,
                    lambda: next(consumer.events(None)),
                    lambda: consumer.process(print),
                    driver.list_topics,
                    topic.refresh,
                    lambda: mofka.Driver(node.group_file),
                    lambda: topic.consumer("another"),
                    lambda: [full.push({"full": True}, b"x" * 1000) for _ in range(100)],
                    lambda: full.push_many([{"full": True}] * 100),
                    lambda: [loose.push({"full": True}) for _ in range(100)],
                ]:
                    assert interrupts.during(wait, 0.05) is Interrupted
            assert pushed.wait(PATIENCE_MS) == count + 1 and acknowledged.wait(PATIENCE_MS) is True
            assert pull.wait(PATIENCE_MS).event_id == count + 1
            count += 2
        assert producer.close()["acknowledged"] == count
        drain(topic, count)
        pushed = sum(one.close()["acknowledged"] for one in [full, loose])
        assert len(drain(other, pushed)) == full.stats["events"] + loose.stats["events"]


def test_collected_consumers_leave_their_events_to_the_next(driver, topic):
    """Dropped in every state: with events that came and were not pulled, with pulls that wait, in cycles, with a function at work."""
    each = 20
    producer = topic.producer()
    seen = []
    for repetition in range(REPETITIONS):
        for number in range(each):
            producer.push({"number": repetition * each + number}, b"x" * (70_000 if number == 3 else 10))
        consumer = topic.consumer(
            "collected",
            data_selector=[None, "all", lambda metadata, descriptor: descriptor][repetition % 3],
            data_allocator=[None, lambda metadata, descriptor: [bytearray(descriptor.size)]][repetition % 2],
        )
        for _ in range(1 + repetition % each):
            event = consumer.pull().wait(PATIENCE_MS)
            seen.append(event.metadata["number"])
        assert event.acknowledge().wait(PATIENCE_MS) is True
        waiting = [consumer.pull() for _ in range(3)]
        iterator = iter(consumer)
        gone = weakref.ref(consumer)
        cycle = [consumer, waiting, iterator]
        cycle.append(cycle)
        if repetition % 4 == 3:
            # The last reference is another thread's.
            thread = threading.Thread(target=cycle.clear)
            del consumer, waiting, iterator
            thread.start()
            thread.join()
            del thread
        else:
            del consumer, waiting, iterator
        del cycle, event
        gc.collect()
        assert gone() is None, gc.get_referrers(gone())
    assert producer.close()["acknowledged"] == REPETITIONS * each
    with topic.consumer("collected") as consumer:
        while len(seen) < REPETITIONS * each:
            event = consumer.pull().wait(PATIENCE_MS)
            assert event is not None, f"{len(seen)} of {REPETITIONS * each} events came"
            seen.append(event.metadata["number"])
    assert seen == list(range(REPETITIONS * each))
    end = time.monotonic() + PATIENCE_MS / 1000
    while any(known["connected"] for known in driver.list_consumers(topic.name)):
        assert time.monotonic() < end
        time.sleep(0.01)
