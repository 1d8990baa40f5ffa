"""Producers, consumers, events and futures."""

import os

import mofka
from mofka import StopEventProcessor as StopEventProcessor


class _Completed(int):
    """A truth value, as which some futures had it, that can be called, as others had it."""

    def __call__(self):
        return bool(self)

    def __repr__(self):
        return repr(bool(self))


class _Future:
    def __init__(self, future):
        self._future = future

    def wait(self, timeout_ms=-1):
        """Negative: as long as it takes. 0 only looks."""
        return self._future.wait(timeout_ms)

    @property
    def completed(self):
        return _Completed(self._future.completed)


class FutureUint(_Future):
    """Of a push: the event's id, or None."""


class FutureFlushed(_Future):
    """Of a flush: whether it is done."""


class FutureEvent(_Future):
    """Of a pull: the event, or None."""

    _event = None

    def wait(self, timeout_ms=-1):
        event = self._future.wait(timeout_ms)
        if event is not None and self._event is None:
            self._event = Event(event)
        return self._event


class Event:
    def __init__(self, event):
        self._event = event

    @property
    def metadata(self):
        """A dict; the JSON text with MOFKA_COMPAT_METADATA=str, as programs for 0.6 expect it."""
        if os.environ.get("MOFKA_COMPAT_METADATA") == "str":
            return self._event.metadata_json
        return self._event.metadata

    @property
    def data(self):
        return self._event.data

    @property
    def event_id(self):
        return self._event.event_id

    @property
    def partition(self):
        return self._event.partition

    def acknowledge(self):
        """Returns when it is durable."""
        self._event.acknowledge().wait()


class Producer:
    def __init__(self, topic, thread_pool, producer):
        self.topic = topic
        self.thread_pool = thread_pool
        self._producer = producer

    @property
    def name(self):
        return self._producer.name

    @property
    def batch_size(self):
        return mofka.BatchSize(self._producer.batch_size)

    @property
    def max_num_batches(self):
        return self._producer.max_num_batches

    def push(self, metadata=None, data=b"", partition=None):
        return FutureUint(self._producer.push(metadata, data, partition=partition))

    def flush(self):
        return FutureFlushed(self._producer.flush())


class Consumer:
    def __init__(self, topic, thread_pool, data_selector, data_allocator, consumer):
        self.topic = topic
        self.thread_pool = thread_pool
        self.data_selector = data_selector
        self.data_allocator = self.data_broker = data_allocator
        self._consumer = consumer

    @property
    def name(self):
        return self._consumer.name

    @property
    def batch_size(self):
        return mofka.BatchSize(self._consumer.batch_size)

    @property
    def max_num_batches(self):
        return self._consumer.max_num_batches

    def pull(self):
        return FutureEvent(self._consumer.pull())

    def __iter__(self):
        """Ends after 5 s without an event, and at the end of the topic."""
        return (Event(event) for event in self._consumer)

    def process(self, processor, *, timeout_ms=-1, max_events=None, thread_pool=None):
        """Hands events to the processor, and None after a timeout, until it raises StopEventProcessor or so many were handed over: one
        after the other in this thread, or in a pool."""
        self._consumer.process(
            lambda event: processor(None if event is None else Event(event)),
            timeout_ms=timeout_ms,
            max_events=max_events,
            thread_pool=None if thread_pool is None else thread_pool._pool,
        )
