import mofka
import pytest


def test_topics_are_created_opened_listed_and_deleted(driver, name):
    assert not driver.topic_exists(name)
    topic = driver.create_topic(name, partitions=2, validator={"type": "eventbridge", "schema": {"a": [1, 2]}})
    assert driver.topic_exists(name)
    assert topic.name == name and len(topic.partitions) == 2
    assert [partition["index"] for partition in topic.partitions] == [0, 1]
    assert driver.open_topic(name).validator["type"] == "eventbridge"
    listed = driver.list_topics()[name]
    assert listed["num_partitions"] == 2 and listed["validator"]["schema"] == {"a": [1, 2]}
    added = driver.add_partition(name, partition_type="memory")
    assert (added["index"], added["type"]) == (2, "memory")
    assert len(topic.partitions) == 2
    topic.refresh()
    assert len(topic.partitions) == 3
    with pytest.raises(mofka.TopicExistsError):
        driver.create_topic(name)
    driver.delete_topic(name)
    with pytest.raises(mofka.TopicNotFoundError):
        driver.open_topic(name)
    with pytest.raises(mofka.TopicNotFoundError):
        driver.delete_topic(name)


def test_what_makes_no_sense_is_refused_with_its_value(driver, name):
    with pytest.raises(mofka.DriverError):
        driver.create_topic("a/b")
    with pytest.raises(ValueError, match="durability=\"sometimes\""):
        driver.create_topic(name, durability="sometimes")
    with pytest.raises(mofka.ComponentError, match="schema"):
        driver.create_topic(name, validator={"type": "schema"})
    with pytest.raises(TypeError):
        driver.create_topic(name, validator={"type": object()})
    assert not driver.topic_exists(name)
    with pytest.raises(mofka.UnreachableError):
        mofka.Driver("no such file")
    with pytest.raises(mofka.MofkaError):
        mofka.Driver()


def test_objects_show_themselves(driver, topic):
    producer = topic.producer("shower")
    producer.push({"a": 1}, b"xyz").wait()
    consumer = topic.consumer("watcher")
    event = consumer.pull().wait()
    assert topic.name in repr(topic)
    assert "Driver" in repr(driver)
    assert "1 pushed, 1 acknowledged, 0 failed" in repr(producer)
    assert "watcher" in repr(consumer)
    assert '{"a":1}' in repr(event) and "3 of 3 bytes" in repr(event)
    assert "completed=True" in repr(producer.flush())
    assert "3 of 3" in repr(event.descriptor)
