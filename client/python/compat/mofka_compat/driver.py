"""Drivers and topics."""

import warnings

import mofka

from .components import PartitionSelector, Serializer, Validator, document
from .events import Consumer, Producer

# What the original calls partitions that are on a disk.
_KINDS = {"memory": "memory", "default": "default", "legacy": "default"}


class ThreadPool:
    """Threads for producers and consumers."""

    def __init__(self, thread_count=0, _pool=None):
        self._pool = mofka.ThreadPool(int(thread_count)) if _pool is None else _pool

    @property
    def thread_count(self):
        return self._pool.thread_count


def _kind(kind):
    if kind not in _KINDS:
        raise mofka.DriverError(f"partitions of type {kind!r} are not known; there are {sorted(_KINDS)}")
    return _KINDS[kind]


class Driver:
    """`Driver(backend="mofka", options={"group_file": ...})`, `Driver.new("mofka", {...})`."""

    def __init__(self, backend="mofka", options=None):
        options = dict(options or {})
        if backend != "mofka":
            raise mofka.DriverError(f"there is no driver {backend!r} here, only \"mofka\"")
        if "group_file" not in options:
            raise mofka.DriverError('"group_file" key not found in options')
        # Options of the network library of the original ("margo") mean nothing here.
        self._driver = mofka.Driver(options["group_file"])
        self._default_pool = None

    @classmethod
    def new(cls, backend, options=None):
        return Driver(backend=backend, options=options)

    def create_topic(
        self,
        name=None,
        validator=None,
        partition_selector=None,
        serializer=None,
        schema=None,
        *,
        options=None,
        topic_name=None,
        selector=None,
    ):
        options = dict(options or {})
        config = options.get("config", {})
        if schema is not None:
            validator = Validator.from_metadata(type="schema", schema=schema)
        self._driver.create_topic(
            topic_name if name is None else name,
            # Without it the original makes none; they are added later.
            partitions=options.get("num_partitions", 0),
            partition_type=_kind(config.get("type", "memory")),
            validator=document(validator),
            partition_selector=document(partition_selector if selector is None else selector),
            serializer=document(serializer),
        )

    def open_topic(self, name=None, *, topic_name=None):
        return TopicHandle(self, self._driver.open_topic(topic_name if name is None else name))

    def topic_exists(self, name=None, *, topic_name=None):
        return self._driver.topic_exists(topic_name if name is None else name)

    def list_topics(self):
        return {name: {k: v for k, v in topic.items() if v is not None} for name, topic in self._driver.list_topics().items()}

    def make_thread_pool(self, count):
        return ThreadPool(_pool=self._driver.make_thread_pool(int(count)))

    @property
    def default_thread_pool(self):
        if self._default_pool is None:
            self._default_pool = ThreadPool(_pool=self._driver.default_thread_pool)
        return self._default_pool


class MofkaDriver(Driver):
    """`MofkaDriver("mofka.json", use_progress_thread=True)`, `MofkaDriver(group_file="mofka.json", margo={...})`."""

    def __init__(self, group_file, arg=None, use_progress_thread=None, **options):
        super().__init__("mofka", {"group_file": group_file})

    @property
    def num_servers(self):
        return self._driver.num_servers

    def start_progress_thread(self):
        """There is nothing to start."""

    def add_memory_partition(self, topic_name, server_rank, pool_name=""):
        self._add(topic_name, server_rank, "memory")

    def add_default_partition(self, topic_name, server_rank, *ignored, **configuration):
        self._add(topic_name, server_rank, "default")

    def add_legacy_partition(self, topic_name, server_rank, *ignored, **configuration):
        self._add(topic_name, server_rank, "legacy")

    def add_custom_partition(
        self, topic_name, server_rank, partition_type="memory", partition_config=None, dependencies=None, pool_name=""
    ):
        self._add(topic_name, server_rank, partition_type)

    def add_metadata_provider(self, server_rank, database_type="map", database_config=None, dependencies=None):
        """Where metadata is stored is the node's own matter here; the name is what partitions may be told."""
        return self._provider("metadata", server_rank)

    def add_data_provider(self, server_rank, target_type="memory", target_config=None, dependencies=None):
        """The same for data."""
        return self._provider("data", server_rank)

    def add_default_metadata_provider(self, server_rank, config=None, dependencies=None):
        return self._provider("metadata", server_rank)

    def add_default_data_provider(self, server_rank, config=None, dependencies=None):
        return self._provider("data", server_rank)

    def _provider(self, kind, server_rank):
        if not 0 <= server_rank < self.num_servers:
            raise mofka.DriverError(f"invalid rank {server_rank} (should be lower than {self.num_servers})")
        return f"{kind}@rank-{server_rank}"

    def _add(self, topic_name, server_rank, kind):
        # Where the original's partitions have their databases and files is the node's own matter here.
        self._driver.add_partition(topic_name, rank=server_rank, partition_type=_kind(kind))


class KafkaDriver:
    """The original's way to a Kafka broker, as where it was built without: there is none here."""

    def __init__(self, config_file):
        raise NotImplementedError("Kafka is not supported by this client")


class ServiceHandle(MofkaDriver):
    """Older name of MofkaDriver."""

    def __init__(self, *arguments, **options):
        warnings.warn("ServiceHandle is now MofkaDriver", DeprecationWarning, stacklevel=2)
        super().__init__(*arguments, **options)


class Client:
    """The oldest way: `Client(engine).connect("mofka.json")`."""

    config = "{}"

    def __init__(self, arg=None):
        warnings.warn("Client is now MofkaDriver", DeprecationWarning, stacklevel=2)

    def connect(self, group_file):
        return ServiceHandle(group_file)


class TopicHandle:
    def __init__(self, driver, topic):
        self.driver = driver
        self._topic = topic

    @property
    def name(self):
        return self._topic.name

    @property
    def partitions(self):
        return self._topic.partitions

    @property
    def validator(self):
        return Validator(self._topic.validator)

    @property
    def selector(self):
        return PartitionSelector(self._topic.partition_selector)

    @property
    def serializer(self):
        return Serializer(self._topic.serializer)

    def mark_as_complete(self):
        self._topic.mark_as_complete()

    markAsComplete = mark_as_complete

    def producer(
        self,
        name="",
        batch_size=mofka.AdaptiveBatchSize,
        max_num_batches=2,
        thread_pool=None,
        ordering=mofka.Ordering.Strict,
        *,
        options=None,
        max_batch=None,
    ):
        if not isinstance(max_num_batches, int):
            raise TypeError(f"max_num_batches is a number, not {max_num_batches!r}")
        producer = self._topic.producer(
            name,
            batch_size=batch_size,
            max_num_batches=max_num_batches if max_batch is None else max_batch,
            ordering=ordering,
            thread_pool=None if thread_pool is None else thread_pool._pool,
            # The option of the original whose meaning this is.
            durability="buffered" if (options or {}).get("ack_early") else None,
        )
        return Producer(self, self.driver.default_thread_pool if thread_pool is None else thread_pool, producer)

    def consumer(
        self,
        name,
        data_selector=None,
        data_broker=None,
        batch_size=mofka.AdaptiveBatchSize,
        max_batch=None,
        thread_pool=None,
        targets=None,
        *,
        data_allocator=None,
        max_num_batches=2,
        options=None,
    ):
        data_allocator = data_broker if data_allocator is None else data_allocator
        consumer = self._topic.consumer(
            name,
            data_selector="all" if data_selector is None else data_selector,
            data_allocator=data_allocator,
            batch_size=batch_size,
            max_num_batches=max_num_batches if max_batch is None else max_batch,
            thread_pool=None if thread_pool is None else thread_pool._pool,
            targets=targets,
        )
        pool = self.driver.default_thread_pool if thread_pool is None else thread_pool
        return Consumer(self, pool, data_selector, data_allocator, consumer)
