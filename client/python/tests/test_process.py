"""The program around the client: asyncio, signals, forks, the end."""

import asyncio
import gc
import signal
import threading
import time
import weakref

import mofka
import pytest
from conftest import PATIENCE_MS


def test_futures_are_awaited(topic):
    async def run():
        consumer = topic.consumer("c")
        waiting = asyncio.create_task(next_one(consumer))
        ticks = 0
        while ticks < 3:
            await asyncio.sleep(0)
            ticks += 1
        assert not waiting.done()
        producer = topic.producer(batch_size=1000)
        ids = await asyncio.gather(*(producer.push({"number": number}) for number in range(20)))
        assert ids == list(range(20))
        assert await producer.flush() is True
        event = await waiting
        assert event.metadata == {"number": 0}
        assert await event.acknowledge() is True
        topic.mark_as_complete()
        return [event.event_id async for event in consumer]

    async def next_one(consumer):
        return await consumer.pull()

    assert asyncio.run(run()) == list(range(1, 20))


def test_a_cancelled_await_loses_nothing(topic):
    async def run():
        consumer = topic.consumer("c")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(consumer.pull(), 0.05)
        topic.producer().push({"a": 1}).wait()
        assert (await consumer.pull()).event_id == 0

    asyncio.run(run())


def test_other_threads_run_while_one_waits(topic):
    consumer = topic.consumer("c")
    begun, ended = threading.Event(), threading.Event()

    def wait():
        begun.set()
        assert consumer.pull().wait(-1).event_id == 0
        ended.set()

    thread = threading.Thread(target=wait)
    thread.start()
    begun.wait()
    topic.producer().push({}).wait()
    thread.join()
    assert ended.is_set()


def test_a_signal_ends_a_wait(topic):
    consumer = topic.consumer("c")
    main = threading.main_thread().ident
    for wait in [consumer.pull().wait, lambda: next(iter(consumer.events(None)))]:
        timer = threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            timer.start()
            wait()
        timer.join()
    topic.producer().push({}).wait()
    assert consumer.pull().wait(PATIENCE_MS).event_id == 0


def test_a_signal_ends_the_calls_of_a_writer(node, topic):
    producer = topic.producer()
    writer = producer.push_stream({})
    writer.write(b"data")
    main = threading.main_thread().ident
    for call in [writer.finish, lambda: producer.push_stream({})]:
        with node.suspended():
            timer = threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT))
            begun = time.monotonic()
            with pytest.raises(KeyboardInterrupt):
                timer.start()
                call()
            assert time.monotonic() - begun < 10
            timer.join()
    with pytest.raises(mofka.ClosedError):
        writer.finish()


def test_what_is_pending_at_the_end_is_sent(program, topic):
    ended = program(
        "kept = topic.producer(batch_size=1_000_000)\n"
        "consumer = topic.consumer('c', data_selector=lambda metadata, descriptor: descriptor)\n"
        "for number in range(1000):\n"
        "    kept.push({'number': number}, b'x' * 100_000 if number % 100 == 0 else b'x')\n"
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    numbers = [event.metadata["number"] for event in topic.consumer("d").events(2000)]
    assert numbers == list(range(1000))


def test_an_error_at_the_end_of_a_program_loses_nothing_either(program, topic):
    ended = program("producer = topic.producer(batch_size=1000)\nproducer.push({})\nraise SystemExit(3)\n")
    assert (ended.returncode, ended.stderr) == (3, "")
    assert topic.consumer("c").pull().wait(PATIENCE_MS).event_id == 0


def test_a_signal_at_the_end_ends_one_wait_and_not_the_others(node, program, topic):
    text = f"""
import ctypes, os, signal
first = topic.producer(batch_size=1)
first.push({{"first": True}}).wait()
os.kill({node.process.pid}, signal.SIGSTOP)
first.push({{"first": True}})
second = topic.producer(batch_size=1000)
second.push({{"second": True}})
# Nobody collects it.
ctypes.pythonapi.Py_IncRef(ctypes.py_object(second))

def interrupt(*_):
    os.kill({node.process.pid}, signal.SIGCONT)
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
signal.setitimer(signal.ITIMER_REAL, 0.5)
"""
    done = program(text)
    assert "KeyboardInterrupt" in done.stderr, done.stderr
    consumer = topic.consumer("c")
    pulled = [consumer.pull().wait(PATIENCE_MS).metadata for _ in range(3)]
    assert {"second": True} in pulled


def test_a_forked_child_is_told_and_connects_anew(program, topic):
    ended = program(
        "import os, sys\n"
        "producer = topic.producer(batch_size=1000)\n"
        "consumer = topic.consumer('c')\n"
        "pushed = producer.push({'from': 'parent'})\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    for use in ['producer.push({})', 'pushed.wait()', 'consumer.pull().wait()', 'topic.refresh()',\n"
        "                'producer.close()', 'producer.flush().wait()', 'topic.driver.list_topics()']:\n"
        "        try:\n"
        "            eval(use)\n"
        "        except mofka.ForkedError:\n"
        "            continue\n"
        "        print('not told:', use, file=sys.stderr)\n"
        "        os._exit(9)\n"
        "    other = mofka.Driver(group_file).open_topic(topic.name)\n"
        "    with other.producer() as mine:\n"
        "        mine.push({'from': 'child'}, b'y' * 200_000).wait()\n"
        "    sys.exit(5)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5\n"
        "assert pushed.wait() is not None\n"
    )
    assert (ended.stderr, ended.returncode) == ("", 0)
    whose = sorted(event.metadata["from"] for event in topic.consumer("d").events(2000))
    assert whose == ["child", "parent"]


def test_a_child_that_python_did_not_fork_is_told_as_well(program):
    ended = program(
        "import ctypes, os\n"
        "producer = topic.producer(batch_size=1000)\n"
        "pushed = producer.push({})\n"
        "child = ctypes.PyDLL(None).fork()\n"
        "if child == 0:\n"
        "    for use in [pushed.wait, lambda: producer.push({}), topic.refresh]:\n"
        "        try:\n"
        "            use()\n"
        "        except mofka.ForkedError as error:\n"
        "            assert str(os.getppid()) in str(error), error\n"
        "            continue\n"
        "        os._exit(9)\n"
        "    os._exit(5)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5\n"
        "assert pushed.wait() == 0\n"
    )
    assert (ended.stderr, ended.returncode) == ("", 0)


def test_collected_consumers_and_producers_close(driver, topic):
    producer = topic.producer(batch_size=1000)
    future = producer.push({})
    gone = weakref.ref(producer)
    del producer
    gc.collect()
    assert gone() is None and future.completed
    consumer = topic.consumer("c", data_selector=lambda metadata, descriptor: descriptor)
    assert consumer.pull().wait(PATIENCE_MS).event_id == 0
    del consumer
    gc.collect()
    end = time.monotonic() + PATIENCE_MS / 1000
    while any(known["connected"] for known in driver.list_consumers(topic.name)):
        assert time.monotonic() < end
        time.sleep(0.01)
