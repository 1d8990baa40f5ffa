import mofka
import pytest
from conftest import PATIENCE_MS

LETTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@pytest.fixture
def letters(topic):
    with topic.producer() as producer:
        for number in range(4):
            producer.push({"number": number}, LETTERS)
    return topic


def first(consumer):
    return consumer.pull().wait(PATIENCE_MS)


@pytest.mark.parametrize("selector", [None, "none"])
def test_nothing_is_selected(letters, selector):
    event = first(letters.consumer("c", data_selector=selector))
    assert event.data_bytes() == b"" and event.data_size == 52 and not event.descriptor


def test_recipes_select_without_a_call_for_each_event(letters):
    recipe = mofka.Recipe().sub_view(13, 26)
    assert first(letters.consumer("a", data_selector=recipe)).data_bytes() == LETTERS[13:39]
    recipe = mofka.Recipe().strided_view(offset=13, num_blocks=3, block_size=4, gap_size=2)
    assert first(letters.consumer("b", data_selector=recipe)).data_bytes() == b"nopqtuvwzABC"
    recipe = mofka.Recipe().unstructured_view([(3, 6), (15, 4), (27, 8)])
    assert first(letters.consumer("c", data_selector=recipe)).data_bytes() == b"defghipqrsBCDEFGHI"


def test_functions_select_and_allocate(letters):
    places = []

    def select(metadata, descriptor):
        if metadata["number"] == 0:
            return None
        if metadata["number"] == 1:
            return descriptor
        return descriptor.make_sub_view(offset=0, size=metadata["number"])

    def allocate(metadata, descriptor):
        size = descriptor.size
        places.append([bytearray(size // 2), bytearray(size - size // 2)])
        return tuple(places[-1]) if metadata["number"] == 3 else places[-1]

    consumer = letters.consumer("c", data_selector=select, data_allocator=allocate)
    events = [first(consumer) for _ in range(4)]
    assert [event.data_bytes() for event in events] == [b"", LETTERS, b"ab", b"abc"]
    # The application's own objects, with nothing copied.
    assert all(mine is given for mine, given in zip(places[1], events[1].data, strict=True))
    consumer = letters.consumer("d", data_selector=mofka.FullDataSelector, data_allocator=mofka.ByteArrayAllocator)
    assert bytes(first(consumer).data[0]) == LETTERS


def test_a_function_that_fails_fails_its_own_event(letters):
    def select(metadata, descriptor):
        if metadata["number"] == 1:
            raise KeyError("not this one")
        if metadata["number"] == 2:
            return "nonsense"
        return descriptor

    def allocate(metadata, descriptor):
        return bytes(descriptor.size) if metadata["number"] == 3 else bytearray(descriptor.size)

    consumer = letters.consumer("c", data_selector=select, data_allocator=allocate)
    assert first(consumer).data_bytes() == LETTERS
    with pytest.raises(mofka.PullError, match="KeyError: 'not this one'") as raised:
        first(consumer)
    assert (raised.value.event_id, raised.value.partition) == (1, 0)
    with pytest.raises(mofka.PullError, match="TypeError"):
        first(consumer)
    with pytest.raises(mofka.PullError, match="read-only"):
        first(consumer)
    consumer = letters.consumer("d", data_allocator=lambda metadata, descriptor: [bytearray(3)])
    with pytest.raises(mofka.PullError, match="different"):
        first(consumer)
    for wrong in ["some", 5]:
        with pytest.raises((ValueError, TypeError)):
            letters.consumer("e", data_selector=wrong)


def test_views_compose_and_bounds_are_kept():
    data = mofka.DataDescriptor(b"somewhere", 1024)
    assert data.size == 1024 and data.location == b"somewhere" and bool(data)
    assert data.make_sub_view(1200, 200).size == 0
    assert data.make_sub_view(offset=900, size=200).flatten() == [(900, 124)]
    strided = data.make_strided_view(offset=0, num_blocks=4, block_size=64, gap_size=192)
    assert strided.size == 256 and strided == data.make_stride_view(0, 4, 64, 192)
    assert data.make_unstructured_view(segments=[(0, 100), (200, 100)]).size == 200
    nested = data.make_sub_view(100, 500).make_strided_view(10, 2, 5, 5)
    assert nested.flatten() == [(110, 5), (120, 5)]
    for view in [
        lambda: data.make_strided_view(0, 4, 128, 512),
        lambda: data.make_unstructured_view([(0, 200), (100, 200)]),
        lambda: data.make_unstructured_view([(1000, 200)]),
    ]:
        with pytest.raises(mofka.ViewError):
            view()
    assert mofka.DataDescriptor().size == 0 and not mofka.DataDescriptor()


class Energy:
    def __init__(self, config):
        self.most = config["most"]

    def validate(self, metadata, data):
        if metadata["energy"] > self.most or sum(part.nbytes for part in data) > 10:
            raise ValueError(f"{metadata['energy']} is too much")


class ByEnergy:
    def __init__(self, config):
        pass

    def select(self, metadata, requested, partitions):
        return metadata["energy"] % len(partitions) if requested is None else 7


class Reverse:
    def __init__(self, config):
        pass

    def serialize(self, metadata):
        return str(metadata["energy"]).encode()[::-1]

    def deserialize(self, stored):
        return {"energy": int(stored[::-1])}


def test_validators_selectors_and_serializers_are_written_in_python(driver, name):
    mofka.register_validator("python-energy", Energy)
    mofka.register_partition_selector("python-energy", ByEnergy)
    mofka.register_serializer("python-energy", Reverse)
    topic = driver.create_topic(
        name,
        partitions=2,
        validator={"type": "python-energy", "most": 100},
        partition_selector={"type": "python-energy"},
        serializer={"type": "python-energy"},
    )
    with topic.producer() as producer:
        for energy in [12, 13, 14]:
            producer.push({"energy": energy})
        with pytest.raises(mofka.InvalidMetadata, match="101 is too much"):
            producer.push({"energy": 101})
        with pytest.raises(mofka.InvalidMetadata):
            producer.push({"energy": 1}, b"more than ten")
        with pytest.raises(mofka.PushError, match="partition 7"):
            producer.push({"energy": 1}, partition=0)
        with pytest.raises(mofka.InvalidMetadata, match="KeyError"):
            producer.push({})
    consumer = topic.consumer("c", targets=[0])
    assert [first(consumer).metadata for _ in range(2)] == [{"energy": 12}, {"energy": 14}]
    with pytest.raises(mofka.MofkaError, match="built in"):
        mofka.register_validator("schema", Energy)
