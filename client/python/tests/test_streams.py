"""Data in pieces, references to data, being told of partitions, and functions that process events."""

import hashlib
import io
import shutil
import signal
import sys
import threading

import mofka
import pytest
from conftest import PATIENCE_MS

MIB = 1 << 20


def test_data_is_written_and_read_in_pieces(topic):
    pattern = bytes(range(256)) * 4096
    producer = topic.producer()
    digest = hashlib.sha256()
    with producer.push_stream({"kind": "long"}) as writer:
        for number in range(20):
            piece = pattern[number:] + pattern[:number]
            digest.update(piece)
            assert writer.write(memoryview(piece)) == len(piece)
        assert writer.data_size == 20 * len(pattern)
    with pytest.raises(mofka.ClosedError):
        writer.write(b"more")
    consumer = topic.consumer("c", data_bytes_max=1 << 30, data_selector=None)
    event = consumer.pull().wait(PATIENCE_MS)
    assert event.metadata == {"kind": "long"} and event.data_size == 20 * MIB
    consumer.close()
    with event.open_data() as reader:
        assert reader.size == 20 * MIB and reader.seekable() and not reader.writable()
        assert hashlib.file_digest(reader, "sha256").digest() == digest.digest()
        assert reader.read(1) == b""
        assert reader.seek(-3, io.SEEK_END) == 20 * MIB - 3 and reader.tell() == 20 * MIB - 3
        assert len(reader.read()) == 3
        reader.seek(MIB)
        place = bytearray(2 * MIB)
        assert reader.readinto(place) == 2 * MIB
        assert place[: MIB - 1] == pattern[1:] and place[MIB : 2 * MIB - 2] == pattern[2:]
        with pytest.raises(ValueError):
            reader.seek(-1)
        with pytest.raises(BufferError, match="read-only"):
            reader.readinto(b"abc")
    with pytest.raises(ValueError, match="closed"):
        reader.read(1)


def test_a_signal_in_the_middle_of_a_read_loses_nothing(topic):
    class Interrupted(Exception):
        pass

    def interrupt(*_):
        raise Interrupted

    pattern = bytes(range(256)) * 4096
    producer = topic.producer()
    with producer.push_stream({}) as writer:
        for number in range(40):
            writer.write(memoryview(pattern[number:] + pattern[:number]))
    event = topic.consumer("c", data_selector=None).pull().wait(PATIENCE_MS)
    place, places = bytearray(40 * MIB), set()
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        # One of them comes in the middle.
        for delay_ms in range(1, 60, 4):
            with event.open_data() as reader:
                reader.seek(10)
                try:
                    signal.setitimer(signal.ITIMER_REAL, delay_ms / 1000)
                    reader.readinto(place)
                    signal.setitimer(signal.ITIMER_REAL, 0)
                except Interrupted:
                    pass
                places.add(reader.tell())
                assert reader.seek(10) == 10 and len(reader.readall()) == 40 * MIB - 10
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert places <= {10, 40 * MIB}


def test_what_is_not_finished_is_not_there(topic):
    producer = topic.producer()
    with pytest.raises(KeyError), producer.push_stream({}) as writer:
        writer.write(bytes(3 * MIB))
        raise KeyError("the detector is on fire")
    dropped = producer.push_stream({})
    dropped.write(b"x")
    del dropped
    aborted = producer.push_stream({})
    aborted.abort()
    aborted.abort()
    copied = producer.push_stream({"copied": True})
    shutil.copyfileobj(io.BytesIO(b"abc" * 1000), copied)
    assert copied.finish() == 0
    consumer = topic.consumer("c")
    assert consumer.pull().wait(PATIENCE_MS).data_bytes() == b"abc" * 1000
    assert topic.partition_status(0)["visible_end"] == 1
    with pytest.raises(mofka.InvalidMetadata):
        producer.push_stream("{")
    producer.close()
    with pytest.raises(mofka.ClosedError):
        producer.push_stream({})


def test_events_refer_to_data_of_others(driver, topic, name):
    frames = topic.producer()
    frames.push({"frame": 0}, bytes(range(100))).wait()
    frame = topic.consumer("c", data_selector=None).pull().wait(PATIENCE_MS)
    whole = frame.data_ref()
    assert whole.size == 100 and whole.partition == topic.partitions[0]["id"] and not frame.is_reference
    part = whole.view(mofka.Recipe().sub_view(10, 20))
    assert part.size == 20 and part != whole and whole == frame.data_ref()
    assert mofka.DataRef(topic.partitions[0], whole.descriptor) == whole
    found = driver.create_topic(name + "-found")
    with found.producer() as producer:
        producer.push({"of": 0}, part)
        producer.push_many([{"of": 0}], [whole])
    first, second = [event for _, event in zip(range(2), found.consumer("d"), strict=False)]
    assert first.is_reference and first.data_bytes() == bytes(range(10, 30))
    assert second.data_bytes() == bytes(range(100))
    assert first.open_data().read() == bytes(range(10, 30))
    assert first.data_ref() == part
    for wrong in [mofka.Recipe().strided_view(0, 10, 10, 10), mofka.Recipe().sub_view(100, 1)]:
        with pytest.raises(mofka.ViewError):
            whole.view(wrong)
    with pytest.raises(mofka.ViewError):
        mofka.DataRef(topic.partitions[0], mofka.DataDescriptor())
    with pytest.raises(mofka.ViewError):
        found.producer().push({}).wait() and found.consumer("d", start=2).pull().wait(PATIENCE_MS).data_ref()


def test_a_consumer_is_told_which_partitions_it_reads(driver, name):
    topic = driver.create_topic(name, partitions=2)
    told, changed = [], threading.Condition()

    def on_assignment(change, partitions):
        with changed:
            told.append((change, partitions))
            changed.notify_all()

    def until(happened):
        with changed:
            assert changed.wait_for(happened, PATIENCE_MS / 1000), told

    first = topic.consumer("shared", on_assignment=on_assignment)
    assert told == [("assigned", [0, 1])] and first.partitions == [0, 1]
    second = topic.consumer("shared")
    until(lambda: len(told) == 2)
    ((change, given),) = told[1:]
    assert change == "withdrawn" and len(given) == 1
    second.close()
    until(lambda: told[2:] == [("assigned", given)])
    first.close()
    until(lambda: told[3:] == [("withdrawn", [0, 1])])
    with pytest.raises(TypeError, match="on_assignment"):
        topic.consumer("shared", on_assignment=5)


def test_what_is_raised_when_it_is_told_goes_to_the_hook(topic, monkeypatch):
    raised = []
    monkeypatch.setattr(sys, "unraisablehook", raised.append)

    def on_assignment(change, partitions):
        raise KeyError(change)

    with topic.consumer("c", on_assignment=on_assignment) as consumer:
        topic.producer().push({}).wait()
        assert consumer.pull().wait(PATIENCE_MS).event_id == 0
    assert [str(told.exc_value) for told in raised][:1] == ["'assigned'"]


@pytest.mark.parametrize("threads", [None, 0, 3])
def test_functions_process_events(driver, topic, threads):
    pool = None if threads is None else driver.make_thread_pool(threads)
    with topic.producer() as producer:
        producer.push_many([{"number": number} for number in range(300)])
    seen, guard = [], threading.Lock()

    def note(event):
        with guard:
            seen.append(None if event is None else event.metadata["number"])

    consumer = topic.consumer("c", data_selector=None)
    assert consumer.process(note, max_events=100, thread_pool=pool) == 100
    assert sorted(seen) == list(range(100))

    def stop(event):
        note(event)
        if event.metadata["number"] == 200:
            raise mofka.StopEventProcessor

    calls = consumer.process(stop, thread_pool=pool)
    assert len(seen) == 100 + calls and 200 in seen

    with pytest.raises(mofka.ConsumerError, match="already"):
        consumer.process(lambda event: consumer.process(note), max_events=1)
    seen.append(next(number for number in range(300) if number not in seen))

    def fail(event):
        note(event)
        raise KeyError("not this one")

    with pytest.raises(KeyError, match="not this one"):
        consumer.process(fail, thread_pool=pool)
    so_far = len(seen)
    assert consumer.process(note, timeout_ms=20, max_events=301 - so_far, thread_pool=pool) == 301 - so_far
    # Each once, and then a silence.
    assert seen.count(None) == 1 and sorted(number for number in seen if number is not None) == list(range(300))
    topic.mark_as_complete()
    assert consumer.process(note, thread_pool=pool) == 0
    consumer.close()
    with pytest.raises(mofka.ClosedError):
        consumer.process(note)


def test_many_events_are_pushed_at_once(driver, name):
    topic = driver.create_topic(name, validator={"type": "eventbridge", "schema": {"n": [{"numeric": [">=", 0]}]}})
    producer = topic.producer()
    count = 3000
    futures = producer.push_many(({"n": n} for n in range(count)), (b"%d" % n for n in range(count)))
    assert [future.wait(PATIENCE_MS) for future in futures] == list(range(count))
    assert producer.push_many([]) == []
    futures = producer.push_many(['{"n": 1}', b'{"n": 2}'])
    assert [future.wait(PATIENCE_MS) for future in futures] == [count, count + 1]
    for metadata, data, kind in [
        ([{"n": 1}, {"n": -1}, {"n": 3}], None, mofka.InvalidMetadata),
        ([{"n": 1}, object()], None, TypeError),
        ([{"n": 1}, {"n": 2}], [b"x", "text"], TypeError),
        ([{"n": 1}, {"n": 2}], [b"x"], ValueError),
        ([{"n": 1}], [b"x", b"y"], ValueError),
    ]:
        with pytest.raises(kind) as raised:
            producer.push_many(metadata, data)
        # The event before the one that is refused was pushed, and nothing behind it.
        assert [future.wait(PATIENCE_MS) for future in raised.value.pushed] == [topic.partition_status(0)["visible_end"] - 1]
    account = producer.close()
    assert account["pushed"] == account["acknowledged"] == count + 2 + 5
    with pytest.raises(mofka.ClosedError):
        producer.push_many([{"n": 1}])
    consumer = topic.consumer("c")
    events = [consumer.pull().wait(PATIENCE_MS) for _ in range(count)]
    assert [(event.metadata["n"], event.data_bytes()) for event in events] == [(n, b"%d" % n) for n in range(count)]


def test_drivers_may_do_without_shared_memory_and_libraries(node, name, tmp_path):
    driver = mofka.Driver(node.group_file, shared_memory=False, libraries="never")
    topic = driver.create_topic(name)
    topic.producer().push({"a": 1}, b"over the socket").wait()
    small = mofka.Driver(node.group_file, ring_slots=64, ring_bytes=1 << 16, libraries=[tmp_path]).open_topic(name)
    small.producer().push({"a": 2}, bytes(MIB)).wait()
    events = [event.data_size for _, event in zip(range(2), small.consumer("c"), strict=False)]
    assert events == [15, MIB]
    for libraries in ["sometimes", ["relative"]]:
        with pytest.raises(ValueError, match="libraries"):
            mofka.Driver(node.group_file, libraries=libraries)
    other = driver.create_topic(name + "-2", validator={"type": "energy:libenergy.so"})
    with pytest.raises(mofka.ComponentError, match="may not load libraries"):
        other.producer().push({})


def test_notebooks_show_objects(driver, topic):
    producer = topic.producer("<shower>")
    producer.push({"a": "<b>"}, b"xyz").wait()
    consumer = topic.consumer("watcher")
    event = consumer.pull().wait(PATIENCE_MS)
    shown = {thing: thing._repr_html_() for thing in [topic, producer, consumer, event]}
    assert all(html.startswith("<strong>") and html.endswith("</table>") for html in shown.values())
    assert topic.partitions[0]["id"] in shown[topic]
    assert "&lt;shower&gt;" in shown[producer] and "<td>acknowledged</td><td>1</td>" in shown[producer]
    assert "[0]" in shown[consumer]
    assert "&lt;b&gt;" in shown[event] and "<b>" not in shown[event] and "3 of 3 bytes" in shown[event]
