import array
import threading

import mofka
import pytest
from conftest import PATIENCE_MS


def take(consumer, count):
    events = [consumer.pull().wait(PATIENCE_MS) for _ in range(count)]
    assert None not in events
    return events


def test_events_come_as_they_were_pushed(topic):
    documents = [{}, {"a": [1, 2.5, None, True, "\u00e9\U0001f980\n"], "b": (1,), "c": {}}, {"big": 2**70, "small": -1e-300}, [1], 7, None]
    with topic.producer("p", batch_size=2) as producer:
        futures = [producer.push(document, b"x" * n) for n, document in enumerate(documents)]
        futures.append(producer.push('{"text" : 1}'))
        futures.append(producer.push(b'"bytes"'))
        assert producer.flush().wait(timeout_ms=PATIENCE_MS) is True
        assert [future.wait() for future in futures] == list(range(8))
        assert all(future.completed for future in futures)
    documents[1]["b"] = [1]
    expected = [{} if document is None else document for document in documents] + [{"text": 1}, "bytes"]
    events = take(topic.consumer("c"), 8)
    assert [event.metadata for event in events] == expected
    assert events[0].metadata is events[0].metadata
    assert events[6].metadata_json == '{"text" : 1}'
    assert [event.event_id for event in events] == list(range(8))
    assert [event.data_bytes() for event in events[:6]] == [b"x" * n for n in range(6)]
    assert events[3].partition["index"] == events[3].partition_index == 0


def test_a_producer_accounts_for_every_event(topic):
    producer = topic.producer()
    for number in range(100):
        producer.push({"number": number})
    account = producer.close()
    assert account == {
        "pushed": 100,
        "acknowledged": 100,
        "failed": 0,
        "failed_by_reason": {},
        "may_be_stored": 0,
    }
    assert producer.close() == account
    with pytest.raises(mofka.ClosedError):
        producer.push({})


def test_what_cannot_be_taken_is_refused_and_nothing_is_queued(driver, name):
    topic = driver.create_topic(name, validator={"type": "eventbridge", "schema": {"a": [1]}})
    producer = topic.producer()
    for metadata in ["{", b"\xff", {"a": 2}, "{} x"]:
        with pytest.raises(mofka.InvalidMetadata):
            producer.push(metadata)
    itself = {"a": []}
    itself["a"].append(itself)
    for metadata in [{"a": float("nan")}, {"a": float("inf")}, itself]:
        with pytest.raises(ValueError):
            producer.push(metadata)
    for metadata, data in [({"a": object()}, None), ({"a": 1}, "text"), ({"a": 1}, 5), ({"a": 1}, [b"x", "y"])]:
        with pytest.raises(TypeError):
            producer.push(metadata, data)
    assert producer.push({"a": 1}).wait() == 0
    assert producer.stats["events"] == 1
    empty = driver.create_topic(name + "-empty", partitions=0)
    with pytest.raises(mofka.PushError, match="no target"):
        empty.producer().push({})


def test_all_kinds_of_buffers_are_pushed(topic):
    numbers = array.array("d", [1.0, 2.0])
    changing = bytearray(b"before" * 20_000)
    parts = [b"ab", bytearray(b"cd"), memoryview(b"xefx")[1:3], b""]
    with topic.producer(batch_size=100) as producer:
        producer.push({}, numbers)
        producer.push({}, memoryview(b"0123456789")[2:5])
        producer.push({}, parts)
        producer.push({}, tuple(parts))
        producer.push({}, changing)
        changing[:6] = b"after!"
        producer.push({}, changing, copy=False)
        producer.push({}, b"kept" * 50_000, copy=True)
        with pytest.raises(BufferError, match="contiguous"):
            producer.push({}, memoryview(b"0123")[::2])
    events = take(topic.consumer("c"), 7)
    assert [event.data_bytes() for event in events] == [
        numbers.tobytes(),
        b"234",
        b"abcdef",
        b"abcdef",
        b"before" * 20_000,
        bytes(changing),
        b"kept" * 50_000,
    ]


def test_data_is_a_list_of_read_only_views_that_keep_their_memory(topic):
    with topic.producer() as producer:
        producer.push({}, b"0123456789")
    consumer = topic.consumer("c")
    (event,) = take(consumer, 1)
    (view,) = event.data
    assert isinstance(view, memoryview) and view.readonly and event.data is event.data
    consumer.close()
    del event, consumer
    assert view.tobytes() == b"0123456789" and bytes(view[3:5]) == b"34"


def test_a_timeout_loses_nothing(topic):
    consumer = topic.consumer("c")
    waiting = consumer.pull()
    assert waiting.wait(timeout_ms=0) is None
    assert waiting.wait(timeout_ms=20) is None and not waiting.completed
    assert consumer.pull().wait(10) is None
    del waiting
    topic.producer().push({"a": 1}).wait()
    pull = consumer.pull()
    assert pull.wait(-1).metadata == {"a": 1}
    assert pull.wait(-1).event_id == 0 and pull.completed
    with pytest.raises(ValueError):
        pull.wait(float("nan"))


def test_iterating_ends_with_silence_and_with_the_topic(topic):
    with topic.producer() as producer:
        for number in range(50):
            producer.push({"number": number})
    consumer = topic.consumer("c")
    assert [event.metadata["number"] for event in consumer.events(timeout_ms=2000)] == list(range(50))
    topic.mark_as_complete()
    assert list(consumer.events(timeout_ms=None)) == []
    assert [event.event_id for event in topic.consumer("d")] == list(range(50))
    last = consumer.pull().wait()
    assert last.event_id is None and last.metadata == {} and last.data == []
    with pytest.raises(mofka.AcknowledgeError):
        last.acknowledge()


def test_a_consumer_goes_on_after_what_it_acknowledged(topic):
    with topic.producer() as producer:
        for number in range(10):
            producer.push({"number": number})
    with topic.consumer("c") as consumer:
        events = take(consumer, 6)
        assert events[3].acknowledge().wait(PATIENCE_MS) is True
    with pytest.raises(mofka.ClosedError):
        consumer.pull().wait()
    with topic.consumer("c") as consumer:
        assert take(consumer, 1)[0].event_id == 4
        consumer.seek(0, "first")
        assert take(consumer, 1)[0].event_id == 0
        consumer.seek(0, 8)
        assert [event.event_id for event in take(consumer, 2)] == [8, 9]
    assert topic.seek("c", 0, 2) == 2
    with topic.consumer("c") as consumer:
        assert take(consumer, 1)[0].event_id == 2
    with topic.consumer("new", start=7) as consumer:
        assert take(consumer, 1)[0].event_id == 7
    with pytest.raises(TypeError, match="no place to start"):
        topic.consumer("x", start="somewhere")


def test_targets_and_filters_are_kept(driver, name):
    topic = driver.create_topic(name, partitions=2)
    with topic.producer() as producer:
        for number in range(20):
            producer.push({"number": number}, partition=number % 2)
    consumer = topic.consumer("odd", targets=[1])
    assert [event.metadata["number"] for event in take(consumer, 10)] == list(range(1, 20, 2))
    assert consumer.partitions == [1]
    wanted = topic.consumer("large", filter={"number": [{"numeric": [">=", 18]}]})
    assert sorted(event.metadata["number"] for event in take(wanted, 2)) == [18, 19]
    with pytest.raises(mofka.ConsumerError, match="invalid partition index"):
        topic.consumer("none", targets=[2])
    with pytest.raises(mofka.ConsumerError, match="filter"):
        topic.consumer("none", filter={"a": [{"no such rule": 1}]})


def test_many_threads_push_and_pull(topic):
    threads, each = 8, 250
    seen, guard = [], threading.Lock()
    consumer = topic.consumer("c", data_selector=None)
    with topic.producer() as producer:

        def push(thread):
            for number in range(each):
                producer.push({"thread": thread, "number": number})

        def pull():
            for _ in range(each):
                event = consumer.pull().wait(PATIENCE_MS)
                with guard:
                    seen.append((event.metadata["thread"], event.metadata["number"]))

        work = [threading.Thread(target=push, args=(thread,)) for thread in range(threads)]
        work += [threading.Thread(target=pull) for _ in range(threads)]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
    assert sorted(seen) == [(thread, number) for thread in range(threads) for number in range(each)]


def test_loose_order_and_thread_pools(driver, topic):
    pool = driver.make_thread_pool(3)
    assert pool.thread_count == 3
    with topic.producer(ordering=mofka.Ordering.Loose, thread_pool=pool, batch_size=mofka.BatchSize(10)) as producer:
        assert (producer.ordering, producer.batch_size) == (mofka.Ordering.Loose, 10)
        for number in range(200):
            producer.push({"number": number})
    consumer = topic.consumer("c", thread_pool=pool, batch_size=mofka.AdaptiveBatchSize)
    assert {event.metadata["number"] for event in take(consumer, 200)} == set(range(200))
    assert consumer.thread_pool.thread_count == 3
