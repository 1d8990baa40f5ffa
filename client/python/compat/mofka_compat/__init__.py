"""The names and the habits of the original's Python API, generations A to D, over the package mofka."""

from mofka import AdaptiveBatchSize, ByteArrayAllocator, DataDescriptor, FullDataSelector, InvalidMetadata, Ordering
from mofka import MofkaError as Exception

from .components import PartitionSelector, Serializer, Validator
from .driver import Driver, ThreadPool, TopicHandle
from .events import Consumer, Event, FutureEvent, FutureFlushed, FutureUint, Producer, StopEventProcessor

ClientException = Exception

__all__ = [
    "AdaptiveBatchSize",
    "ByteArrayAllocator",
    "ClientException",
    "Consumer",
    "DataDescriptor",
    "Driver",
    "Event",
    "Exception",
    "FullDataSelector",
    "FutureEvent",
    "FutureFlushed",
    "FutureUint",
    "InvalidMetadata",
    "Ordering",
    "PartitionSelector",
    "Producer",
    "Serializer",
    "StopEventProcessor",
    "ThreadPool",
    "TopicHandle",
    "Validator",
]
