"""Events whose data is filled in the room that was claimed for it, and views of that room."""

import gc
import os
import signal
import threading
import weakref

import mofka
import numpy
import pytest
from conftest import PATIENCE_MS, Node, program_of

MIB = 1 << 20
# Of the arena: half of it can be claimed at a time.
RING_BYTES = 8 * MIB


@pytest.fixture(scope="module", params=["na+sm", "tcp://127.0.0.1:0"])
def listening(request):
    """A node, and whether it shares memory with us."""
    with Node.running("--listen", request.param) as node:
        yield node, request.param == "na+sm"


@pytest.fixture
def is_shared(listening):
    return listening[1]


@pytest.fixture
def topic(listening, name):
    driver = mofka.Driver(listening[0].group_file, ring_bytes=RING_BYTES)
    return driver.create_topic(name)


@pytest.fixture
def producer(topic):
    return topic.producer()


def data_of(topic, start=0):
    """The data of the topic's events so far."""
    end = topic.partition_status(0)["visible_end"]
    with topic.consumer("check", start=start) as consumer:
        events = [consumer.pull().wait(PATIENCE_MS) for _ in range(start, end)]
        return [b"".join(event.data) for event in events]


def test_what_is_filled_arrives_byte_for_byte(topic, producer, is_shared):
    expected = []
    for number in range(30):
        values = numpy.arange(number * 7919, dtype=numpy.uint32) * (2 * number + 1)
        with producer.claim({"number": number}, values.nbytes + 100) as room:
            assert room.is_shared is is_shared
            assert len(room) == values.nbytes + 100
            room.shorten(values.nbytes)
            if number % 3 == 0:
                array = numpy.frombuffer(room, dtype=numpy.uint32)
                assert array.flags.writeable and array.ctypes.data % 4096 == 0
                array[:] = values
                del array
            elif number % 3 == 1:
                with memoryview(room) as view:
                    assert (view.readonly, view.format, view.nbytes) == (False, "B", values.nbytes)
                    view[:] = values.tobytes()
            else:
                whole, half = values.tobytes(), values.nbytes // 2
                assert room.write(whole[:half]) == half
                assert room.write(values.view(numpy.uint8)[half:], half) == len(whole) - half
            assert len(room) == values.nbytes and room
            pushed = room.commit()
            assert not room and len(room) == values.nbytes and room.is_shared is is_shared
        if number % 4 == 0:
            assert pushed.wait(PATIENCE_MS) == number
        expected.append(values.tobytes())
    account = producer.close()
    assert (account["pushed"], account["acknowledged"]) == (30, 30)
    assert data_of(topic) == expected


def test_files_are_read_into_it(tmp_path, topic, producer):
    path = tmp_path / "frame"
    path.write_bytes(os.urandom(300_000))
    with open(path, "rb", buffering=0) as file, producer.claim(None, 400_000) as room:
        read = file.readinto(room)
        room.shorten(read)
        room.commit().wait()
    assert data_of(topic) == [path.read_bytes()]


def test_what_is_given_up_frees_its_room(producer, is_shared):
    """Far more in all than there is memory for at a time."""
    for number in range(100):
        room = producer.claim({}, RING_BYTES // 4 - number)
        assert room.is_shared is is_shared
        if number % 4 == 0:
            room.abort()
            room.abort()
            assert not room
        elif number % 4 == 1:
            with room:
                room.write(b"x", number)
        elif number % 4 == 2:
            with pytest.raises(ZeroDivisionError), room:
                view = memoryview(room)
                # What was raised is not hidden by the view that there is.
                raise ZeroDivisionError
            view[0] = 1
            view.release()
    room = None
    with producer.claim({}, RING_BYTES // 2) as whole:
        assert whole.is_shared is is_shared
        with producer.claim({}, 1) as beside:
            assert beside.is_shared is False
    assert producer.stats["events"] == 0


def test_while_there_is_a_view_nothing_ends_its_memory(topic, producer):
    room = producer.claim({}, 1000)
    first = memoryview(room)
    array = numpy.frombuffer(room, dtype=numpy.uint8)
    endings = [room.commit, room.abort, lambda: room.shorten(10), lambda: room.write(b"x"), lambda: room.write(room)]
    for end in endings:
        with pytest.raises(BufferError, match=r"2 views of it exist|3 views of it exist"):
            end()
    first.release()
    # A view of a view is one as well.
    part = array[10:20]
    del array
    for end in endings[:-1]:
        with pytest.raises(BufferError, match="1 view of it exists: let go of them first"):
            end()
    part[:] = 7
    assert room and len(room) == 1000
    del part
    with pytest.raises(BufferError, match="1 view"):
        room.write(room)
    room.write(bytes(10))
    room.shorten(20)
    assert room.commit().wait(PATIENCE_MS) == 0
    for view in [memoryview, numpy.frombuffer]:
        with pytest.raises(BufferError, match="this event was committed"):
            view(room)
    assert data_of(topic) == [bytes(10) + b"\x07" * 10]


def test_views_outlive_everything_else(listening, name, is_shared):
    topic = mofka.Driver(listening[0].group_file, ring_bytes=RING_BYTES).create_topic(name)
    producer = topic.producer()
    room = producer.claim({}, MIB)
    gone = weakref.ref(room)
    array = numpy.frombuffer(room, dtype=numpy.uint8)
    with room:
        pass
    with pytest.raises(BufferError, match="given up"):
        memoryview(room)
    for end in [room.commit, lambda: room.write(b"x"), lambda: room.shorten(1)]:
        with pytest.raises(mofka.ClosedError, match="given up"):
            end()
    # Its room is not given to anybody else as long as somebody looks at it.
    others = [producer.claim({}, MIB) for _ in range(3)]
    assert [other.is_shared for other in others] == [is_shared] * 3
    with producer.claim({}, MIB) as more:
        assert more.is_shared is False
    array[:] = 5
    for other in others:
        other.write(bytes(MIB))
    del topic, producer, room, others, other, more
    gc.collect()
    assert gone() is not None and (array == 5).all()
    array[:] = 6
    assert array.sum() == 6 * MIB
    del array
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("listen", ["na+sm", "tcp://127.0.0.1:0"])
def test_views_stay_usable_when_the_node_is_gone(listen):
    with Node.running("--listen", listen) as node:
        driver = mofka.Driver(node.group_file, reconnect_timeout_ms=4000)
        topic = driver.create_topic("t")
        producer = topic.producer()
        kept, given_up, late = (producer.claim({}, MIB) for _ in range(3))
        assert kept.is_shared is (listen == "na+sm")
        views = [numpy.frombuffer(room, dtype=numpy.uint8) for room in (kept, given_up)]
        views[0][:] = 1
        node.kill()
        # The connection has ended, too, when this has failed.
        with pytest.raises(mofka.DeliveryError):
            late.commit().wait(PATIENCE_MS)
        for number, view in enumerate(views, 2):
            view[:] = number
            assert (view == number).all()
        with pytest.raises(BufferError, match="1 view"):
            kept.commit()
        del views[0], view
        with pytest.raises(mofka.DeliveryError):
            kept.commit().wait(PATIENCE_MS)
        del driver, topic, producer, kept, late, given_up
        gc.collect()
        assert (views[0] == 3).all()
        views[0][:] = 4


def test_what_is_wrong_is_told(topic, producer):
    for metadata, nbytes, error, text in [
        ("{", 10, mofka.InvalidMetadata, "JSON"),
        ({}, 1 << 40, mofka.PushError, "larger than the"),
        ({}, (1 << 64) - 1, mofka.PushError, "larger than the"),
        ({}, -1, OverflowError, "negative"),
        ({}, 1.5, TypeError, "float"),
        ({}, "1", TypeError, "str"),
        ({1}, 10, TypeError, "JSON"),
    ]:
        with pytest.raises(error, match=text):
            producer.claim(metadata, nbytes)
    room = producer.claim({}, 10)
    for wrong, error, text in [
        (lambda: room.write(b"123", 8), ValueError, "3 bytes at 8 are not within the 10 bytes"),
        (lambda: room.write(b"1", (1 << 64) - 1), ValueError, "not within"),
        (lambda: room.write("text"), TypeError, "encode"),
        (lambda: room.shorten(11), ValueError, "claim more"),
        (lambda: room.shorten(-1), OverflowError, "negative"),
    ]:
        with pytest.raises(error, match=text):
            wrong()
    assert room.write(b"0123456789") == 10
    assert "10 bytes in" in repr(room) and "open" in repr(room)
    room.commit().wait()
    room.abort()
    assert "committed" in repr(room)
    for wrong in [room.commit, lambda: room.write(b"1"), lambda: room.shorten(1)]:
        with pytest.raises(mofka.ClosedError, match="this event was committed"):
            wrong()
    with producer.claim(None, 0) as empty:
        assert len(empty) == 0 and empty and empty.is_shared is False
        assert memoryview(empty).nbytes == 0
        empty.commit().wait()
    late = producer.claim({}, 10)
    producer.close()
    with pytest.raises(mofka.ClosedError, match="closed"):
        late.commit()
    with pytest.raises(mofka.ClosedError, match="given up"):
        late.commit()
    with pytest.raises(mofka.ClosedError):
        producer.claim({}, 10)
    assert data_of(topic) == [b"0123456789", b""]


def test_it_keeps_its_producer(topic):
    room = topic.producer().claim({}, 3)
    gc.collect()
    room.write(b"abc")
    assert room.commit().wait(PATIENCE_MS) == 0
    assert data_of(topic) == [b"abc"]


def test_a_thread_at_a_time(producer):
    """Whatever the others are told, what is committed is one event, and nobody's view dangles."""
    for _ in range(50):
        room = producer.claim({}, 4096)
        committed, start = [], threading.Barrier(4)

        def use():
            start.wait()
            for step in (lambda: room.write(b"x" * 4096), lambda: memoryview(room)[::7].tobytes(), room.commit):
                try:
                    committed.append(isinstance(step(), mofka.FutureUint))
                except (BufferError, RuntimeError):
                    # mofka.ClosedError is one of these.
                    pass

        threads = [threading.Thread(target=use) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert committed.count(True) <= 1
        if not any(committed):
            room.commit()
    assert producer.close()["acknowledged"] == 50


def test_a_signal_ends_a_commit_that_waits_for_room(topic, listening):
    class Interrupted(Exception):
        pass

    def handle(*_):
        raise Interrupted

    producer = topic.producer(max_num_batches=1)
    producer.push({}).wait()
    first, second, third = (producer.claim({}, 100) for _ in range(3))
    before = signal.signal(signal.SIGUSR1, handle)
    try:
        with listening[0].suspended():
            first.commit()
            timer = threading.Timer(0.2, signal.pthread_kill, (threading.main_thread().ident, signal.SIGUSR1))
            timer.start()
            with pytest.raises(Interrupted):
                second.commit()
            timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    with pytest.raises(mofka.ClosedError, match="given up"):
        second.commit()
    assert third.commit().wait(PATIENCE_MS) == 2
    assert producer.close()["pushed"] == 3


def test_a_forked_child_is_told_and_leaves_its_parents_room_alone(listening, topic, is_shared):
    ended = program_of(
        listening[0],
        topic,
        """
import gc, os, sys
producer = topic.producer()
room, dropped = producer.claim({}, 100_000), producer.claim({}, 100)
room.write(b'parent')
child = os.fork()
if child == 0:
    for use in ['producer.claim({}, 1)', 'room.write(b"child!")', 'room.shorten(1)', 'room.commit()', 'room.abort()']:
        try:
            eval(use)
        except mofka.ForkedError:
            continue
        print('not told:', use, file=sys.stderr)
        os._exit(9)
    try:
        memoryview(room)
    except BufferError as error:
        assert 'after a fork' in str(error), error
    else:
        os._exit(8)
    with room:
        pass
    del dropped, room
    gc.collect()
    with mofka.Driver(group_file).open_topic(topic.name).producer() as mine, mine.claim({}, 5) as own:
        own.write(b'child')
        own.commit().wait()
    sys.exit(5)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
with memoryview(room) as view:
    assert view[:6] == b'parent'
room.shorten(6)
room.commit()
print(room.is_shared)
""",
    )
    assert (ended.stderr, ended.returncode) == ("", 0)
    assert ended.stdout == f"{is_shared}\n"
    # The end of the program sent what was committed.
    assert sorted(data_of(topic)) == [b"child", b"parent"]


def test_the_end_of_a_program_with_claims_and_views(listening, topic):
    ended = program_of(
        listening[0],
        topic,
        """
import numpy
kept = topic.producer(batch_size=1000)
rooms = [kept.claim({}, 1000) for _ in range(5)]
views = [memoryview(rooms[0]), numpy.frombuffer(rooms[1])]
cycle = [rooms, views]
cycle.append(cycle)
rooms[2].commit()
""",
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert [len(data) for data in data_of(topic)] == [1000]
