"""Programs in the shape of the original's walk-throughs, generations A to D."""

import pytest


def read(consumer, count):
    return [consumer.pull().wait(60_000) for _ in range(count)]


def test_generation_a(node, name):
    from mochi.mofka.client import AdaptiveBatchSize, ByteArrayAllocator, ClientException, FullDataSelector
    from mochi.mofka.client import KafkaDriver, MofkaDriver
    from mochi.mofka.client import Ordering, PartitionSelector, Serializer, ThreadPool, Validator

    driver = MofkaDriver(node.group_file, use_progress_thread=True)
    driver.create_topic(
        name,
        Validator.from_metadata("eventbridge", {"schema": {"n": [{"numeric": [">=", 0]}]}}),
        PartitionSelector.from_metadata(),
        Serializer.from_metadata({"type": "default"}),
    )
    driver.add_memory_partition(name, 0)
    metadata, data = driver.add_default_metadata_provider(0), driver.add_data_provider(server_rank=0, target_type="memory")
    assert "@" in metadata and "@" in data
    driver.add_default_partition(topic_name=name, server_rank=0, metadata_provider=metadata, data_provider=data)
    with pytest.raises(ClientException, match="invalid rank 1"):
        driver.add_metadata_provider(1)
    with pytest.raises(NotImplementedError):
        KafkaDriver("kafka.json")
    topic = driver.open_topic(name)
    assert [partition["type"] for partition in topic.partitions] == ["memory", "default"]
    producer = topic.producer("producer", AdaptiveBatchSize, 2, ThreadPool(1), Ordering.Strict)
    futures = [producer.push({"n": n}, bytearray(b"data"), 0) for n in range(10)]
    producer.flush()
    assert [future.wait() for future in futures] == list(range(10))
    assert futures[0].completed and futures[0].completed()
    topic.mark_as_complete()
    consumer = topic.consumer("consumer", FullDataSelector, ByteArrayAllocator, AdaptiveBatchSize, 2, ThreadPool(0))
    events = list(consumer)
    assert [event.metadata["n"] for event in events] == list(range(10))
    assert bytes(events[0].data[0]) == b"data" and events[0].acknowledge() is None
    assert consumer.pull().wait().event_id is None


def test_metadata_is_text_for_those_who_expect_it(node, name, monkeypatch):
    from mochi.mofka.client import Client

    monkeypatch.setenv("MOFKA_COMPAT_METADATA", "str")
    with pytest.deprecated_call():
        driver = Client("na+sm").connect(node.group_file)
    driver.create_topic(topic_name=name, options={"num_partitions": 1})
    topic = driver.open_topic(topic_name=name)
    topic.producer().push('{"a": 1}').wait(-1)
    (event,) = read(topic.consumer("c"), 1)
    assert event.metadata == '{"a": 1}'


@pytest.mark.parametrize("new", ["new", "constructor"])
def test_generations_b_to_d(node, name, new):
    from diaspora_stream.api import Driver, Exception, InvalidMetadata, Ordering, Validator

    options = {"group_file": node.group_file, "margo": {"use_progress_thread": True}}
    driver = Driver.new("mofka", options) if new == "new" else Driver(backend="mofka", options=options)
    arguments = {"num_partitions": 1, "config": {"type": "default", "partition": {"path": "/tmp/x"}}}
    schema = {"type": "object", "required": ["n"]}
    driver.create_topic(name, options=arguments, validator=Validator.from_metadata(type="schema", schema=schema))
    with pytest.raises(Exception):
        driver.create_topic(name)
    assert isinstance(driver.list_topics()[name]["validator"], dict)
    topic = driver.open_topic(name)
    pool = driver.make_thread_pool(1)
    producer = topic.producer("p", batch_size=3, ordering=Ordering.Loose, thread_pool=pool)
    assert producer.topic is topic and producer.thread_pool is pool and producer.batch_size == 3
    pushed = producer.push(metadata={"n": 1}, data=[b"ab", b"cd"])
    assert producer.flush().wait(timeout_ms=60_000) is True
    assert pushed.wait(timeout_ms=60_000) == 0
    with pytest.raises(InvalidMetadata):
        topic.producer().push({})
    consumer = topic.consumer(
        "c",
        data_selector=lambda metadata, descriptor: descriptor.make_sub_view(offset=1, size=2),
        data_allocator=lambda metadata, descriptor: [bytearray(descriptor.size)],
        targets=[0],
    )
    (event,) = read(consumer, 1)
    assert bytes(event.data[0]) == b"bc"
    event.acknowledge()
    waiting = consumer.pull()
    assert waiting.wait(timeout_ms=10) is None and not waiting.completed()
    with pytest.raises(Exception, match="group_file"):
        Driver(backend="mofka", options={})
    with pytest.raises(Exception, match="files"):
        Driver(backend="files", options=options)


def test_events_are_processed(node, name):
    from diaspora_stream.api import Driver, StopEventProcessor

    driver = Driver(backend="mofka", options={"group_file": node.group_file})
    driver.create_topic(name, options={"num_partitions": 1})
    topic = driver.open_topic(name)
    producer = topic.producer()
    for n in range(10):
        producer.push({"n": n})
    seen = []

    def process(event):
        seen.append(event.metadata["n"])
        if len(seen) == 7:
            raise StopEventProcessor

    consumer = topic.consumer("c")
    consumer.process(process, max_events=4)
    assert seen == list(range(4))
    consumer.process(process, timeout_ms=60_000)
    assert seen == list(range(7))
