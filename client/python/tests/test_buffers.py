"""NumPy arrays, and how often their bytes are copied."""

import gc
import sys

import mofka
import numpy
import pytest
from conftest import PATIENCE_MS

MIB = 1 << 20


def resident_bytes(field):
    """Of this process: now (VmRSS), or at most (VmHWM)."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith(field))
    return int(line.split()[1]) * 1024


def peak_over(action):
    """What an action needs beyond what was there."""
    gc.collect()
    with open("/proc/self/clear_refs", "w") as clear:
        clear.write("5")
    before = resident_bytes("VmRSS")
    result = action()
    return resident_bytes("VmHWM") - before, result


@pytest.mark.parametrize("mebibytes", [16, 64])
@pytest.mark.parametrize("copy, copies", [(None, 1), (False, 0)])
def test_a_large_array_is_pushed_and_fetched_with_one_copy_at_most(node, topic, mebibytes, copy, copies):
    size = mebibytes * MIB
    array = numpy.arange(size // 8, dtype=numpy.uint64)
    # What is shared with the node is memory of this process, too; so there is little of it.
    topic = mofka.Driver(node.group_file, ring_bytes=MIB).open_topic(topic.name)
    topic.producer().push({"warm": True}, b"x").wait()
    producer = topic.producer()
    peak, future = peak_over(lambda: _pushed(producer, array, copy))
    # Half an array is room for all that is no copy of it.
    assert peak < (copies + 0.5) * size, f"{peak / size:.2f} copies while it was pushed"
    assert future == 1
    print(f"{mebibytes} MiB, copy={copy}: pushed with {peak / size:.2f} copies", end=", ")
    place = numpy.empty_like(array)
    place.fill(1)
    consumer = topic.consumer("c", data_allocator=lambda metadata, descriptor: [place], start=1)
    peak, event = peak_over(lambda: consumer.pull().wait(PATIENCE_MS))
    print(f"fetched with {peak / size:.2f}")
    assert peak < 1.5 * size, f"{peak / size:.2f} copies while it was fetched"
    assert event.data[0] is place
    assert numpy.array_equal(place, array)


def _pushed(producer, array, copy):
    return producer.push({"shape": array.shape}, array, copy=copy).wait(PATIENCE_MS)


def test_views_become_arrays_without_a_copy(topic):
    frame = numpy.arange(12, dtype=numpy.float32).reshape(3, 4)
    topic.producer().push({}, frame).wait()
    event = topic.consumer("c").pull().wait(PATIENCE_MS)
    again = numpy.frombuffer(event.data[0], dtype=numpy.float32).reshape(3, 4)
    assert not again.flags.owndata and not again.flags.writeable
    del event
    gc.collect()
    assert numpy.array_equal(again, frame)
    with pytest.raises(BufferError, match="contiguous"):
        topic.producer().push({}, frame[:, 1])


def test_memory_that_was_lent_is_given_back(topic):
    given = bytearray(b"x" * MIB)
    whole = bytes(MIB)
    references = sys.getrefcount(whole)
    with topic.producer() as producer:
        kept = producer.push({}, given, copy=False)
        producer.push({}, whole)
        if not kept.completed:
            with pytest.raises(BufferError):
                given.clear()
        kept.wait()
    # The thread that gives memory back may need a moment; it needs the interpreter for it.
    for _ in range(10_000):
        if sys.getrefcount(whole) == references and resizes(given):
            break
        topic.refresh()
    assert resizes(given) and sys.getrefcount(whole) == references
    place = bytearray(MIB)
    consumer = topic.consumer("c", data_allocator=lambda metadata, descriptor: place)
    event = consumer.pull().wait(PATIENCE_MS)
    assert event.data[0] is place and not resizes(place)


def resizes(array):
    try:
        array.append(0)
        return True
    except BufferError:
        return False
