"""Client of Mofka, persistent event streaming.

A Driver leads to the nodes, a TopicHandle to a topic; a Producer pushes events and a Consumer pulls them. An event is
metadata (a small JSON document, always delivered) and data (bytes, delivered as far as the consumer wants them).

    import mofka

    driver = mofka.Driver("mofka.json")
    topic = driver.create_topic("collisions")
    with topic.producer() as producer:
        producer.push({"energy": 42}, b"the data")
    for event in topic.consumer("analysis"):
        print(event.metadata, event.data_bytes())
        event.acknowledge()

Every class may be used by any number of threads. Waiting lets other threads run, and Ctrl-C ends it. After a fork, a child
gets ForkedError from what its parent made, and connects anew. Times are in milliseconds where the name ends in `_ms`.
"""

import atexit as _atexit
import os as _os

from . import _mofka
from ._errors import (
    AcknowledgeError,
    ClosedError,
    ComponentError,
    ConsumerError,
    DeliveryError,
    DriverError,
    ForkedError,
    InvalidMetadata,
    MofkaError,
    PullError,
    PushError,
    StopEventProcessor,
    TopicExistsError,
    TopicNotFoundError,
    UnreachableError,
    ViewError,
)
from ._files import DataReader
from ._mofka import (
    Consumer,
    DataDescriptor,
    DataRef,
    DataWriter,
    Driver,
    Event,
    EventIterator,
    FutureAcknowledged,
    FutureEvent,
    FutureFlushed,
    FutureUint,
    InPlace,
    Ordering,
    Producer,
    Recipe,
    ThreadPool,
    TopicHandle,
    __version__,
    register_partition_selector,
    register_serializer,
    register_validator,
)


class BatchSize(int):
    """Events that are sent together. 0 is adaptive: whatever has gathered when the connection is free."""

    @classmethod
    def adaptive(cls) -> "BatchSize":
        """The lowest latency when there is little to do, large batches when there is much."""
        return cls(0)


AdaptiveBatchSize = BatchSize.adaptive()


def FullDataSelector(metadata: object, descriptor: DataDescriptor) -> DataDescriptor:
    """Selects all data. `data_selector="all"` does the same without a call for each event."""
    return descriptor


def ByteArrayAllocator(metadata: object, descriptor: DataDescriptor) -> list[bytearray]:
    """Places data in a new bytearray."""
    return [bytearray(descriptor.size)]


_atexit.register(_mofka._close_all)
_os.register_at_fork(after_in_child=_mofka._forked)

__all__ = [
    "AcknowledgeError",
    "AdaptiveBatchSize",
    "BatchSize",
    "ByteArrayAllocator",
    "ClosedError",
    "ComponentError",
    "Consumer",
    "ConsumerError",
    "DataDescriptor",
    "DataReader",
    "DataRef",
    "DataWriter",
    "DeliveryError",
    "Driver",
    "DriverError",
    "Event",
    "EventIterator",
    "ForkedError",
    "FullDataSelector",
    "FutureAcknowledged",
    "FutureEvent",
    "FutureFlushed",
    "FutureUint",
    "InPlace",
    "InvalidMetadata",
    "MofkaError",
    "Ordering",
    "Producer",
    "PullError",
    "PushError",
    "Recipe",
    "StopEventProcessor",
    "ThreadPool",
    "TopicExistsError",
    "TopicHandle",
    "TopicNotFoundError",
    "UnreachableError",
    "ViewError",
    "__version__",
    "register_partition_selector",
    "register_serializer",
    "register_validator",
]
