"""Types and meanings of what the extension module has. Import it all from `mofka`."""

from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence
from enum import Enum
from os import PathLike
from types import TracebackType
from typing import Any, Literal, Protocol, final

from typing_extensions import Buffer

from ._files import DataReader

__version__: str

_Json = dict[str, Any]
_Data = Buffer | Sequence[Buffer] | DataRef | None
_Start = Literal["cursor", "first", "last"] | int | tuple[Literal["time"], float]
_Durability = Literal["synced", "written", "buffered"]
_Selector = Callable[[Any, "DataDescriptor"], "DataDescriptor | None"]
_OnAssignment = Callable[[Literal["assigned", "withdrawn", "lost"], list[int]], object]
_Allocator = Callable[[Any, "DataDescriptor"], "Buffer | Sequence[Buffer]"]

class Ordering(Enum):
    """Whether a producer keeps the order of its events."""

    Strict = ...
    """In each partition events are stored in the order of the calls of push."""
    Loose = ...
    """Validator, partition selector and serializer run in a thread pool, and events may pass each other."""

@final
class ThreadPool:
    """Threads for producers and consumers; Driver.default_thread_pool is one for all who name none."""

    def __init__(self, thread_count: int = 0) -> None:
        """Starts so many threads, at most 1024. 0: whoever has something to do does it.

        Raises MofkaError when the system has no room for them."""
    @property
    def thread_count(self) -> int: ...

@final
class Driver:
    """The way to the nodes. All that is made from it shares its connections."""

    def __init__(
        self,
        group_file: str | PathLike[str] | None = None,
        *,
        addresses: Sequence[str] | None = None,
        connect_timeout_ms: float | None = None,
        reconnect_timeout_ms: float | None = None,
        client_name: str | None = None,
        libraries: Literal["search_path", "never"] | Sequence[str | PathLike[str]] | None = None,
        shared_memory: bool = True,
        ring_slots: int | None = None,
        ring_bytes: int | None = None,
        fetch_timeout_ms: float | None = 60000.0,
    ) -> None:
        """Connects to the first node that answers.

        group_file: the file that the nodes write ("mofka.json"), read again whenever a node is lost.
        addresses: of one node instead, "tcp://host:port" or "unix:///path", best first.
        connect_timeout_ms: how long one attempt may take (5000).
        reconnect_timeout_ms: how long a lost node is looked for before events, pulls and requests fail (60000).
        client_name: for the nodes' logs (the process id).
        libraries: shared libraries that may be loaded for the components of topics, whose documents name them: absolute paths of
            directories, "search_path" (the system's, by plain names), "never"; None, as MOFKA_PLUGIN_PATH says, "search_path" without it.
        shared_memory: whether events go through memory that is shared with a node on this machine, when it listens on a Unix socket
            and gives any; the socket is used otherwise.
        ring_slots: requests that may be under way in it (1024).
        ring_bytes: bytes of each direction that may be under way in it (16777216, 16 MiB); larger frames go over the socket.
        fetch_timeout_ms: how long a node may take to answer a request for data, of which each has 8 MiB at most, while no other data
            comes over its connection, which ends then: what was not delivered is asked for again over a new one, within
            reconnect_timeout_ms from the first failure on, and so twice at least. Not 0. None: as long as the node lives.

        Raises UnreachableError when no node answers, DriverError when it makes no sense."""
    def create_topic(
        self,
        name: str,
        *,
        partitions: int = 1,
        validator: _Json | None = None,
        partition_selector: _Json | None = None,
        serializer: _Json | None = None,
        durability: _Durability | None = None,
        retention: _Json | None = None,
        partition_type: Literal["default", "memory"] | None = None,
        partition_config: _Json | None = None,
        producers_expected: int = 0,
    ) -> TopicHandle:
        """Creates a topic.

        name: 1 to 200 of [A-Za-z0-9._-].
        partitions: to make at once; 0, they are added later.
        validator, partition_selector, serializer: documents whose key "type" names the implementation: "schema" or
            "eventbridge"; "key_hash"; "schema" or "property_list_serializer"; one that was registered; one of a library.
        durability: what acknowledged means ("synced").
        retention: what of its events may go (nothing): "bytes_max", "age_max_ms", "acknowledged", "keep_unacknowledged".
        producers_expected: the topic is complete when so many said Producer.done(); 0, that is not counted.

        Raises TopicExistsError, ComponentError, DriverError; ValueError for what makes no sense."""
    def open_topic(self, name: str) -> TopicHandle:
        """Opens a topic. Raises TopicNotFoundError."""
    def topic_exists(self, name: str) -> bool:
        """Whether there is one. Raises DriverError when no node can say."""
    def list_topics(self) -> dict[str, _Json]:
        """All topics by name, with their "num_partitions", "validator", "durability" and so on."""
    def delete_topic(self, name: str) -> None:
        """Deletes a topic with all of its events and cursors. Raises TopicNotFoundError."""
    def add_partition(
        self,
        topic: str,
        *,
        rank: int = 0,
        shard: int | None = None,
        partition_type: Literal["default", "memory"] | None = None,
        config: _Json | None = None,
    ) -> _Json:
        """Adds a partition on the node of this rank, and describes it. Producers see it after TopicHandle.refresh()."""
    def list_consumers(self, topic: str) -> list[_Json]:
        """The consumers of a topic: "consumer", "index" (partition), "next_event_id", "lag", "connected"."""
    def status(self) -> list[_Json]:
        """The state of every node, by rank."""
    @property
    def num_servers(self) -> int: ...
    def make_thread_pool(self, count: int) -> ThreadPool: ...
    @property
    def default_thread_pool(self) -> ThreadPool:
        """As many threads as there are cores, started when they are first asked for."""

@final
class TopicHandle:
    """A topic that was opened."""

    def _repr_html_(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def driver(self) -> Driver: ...
    @property
    def info(self) -> _Json:
        """All about the topic, as of when it was opened or refreshed."""
    @property
    def partitions(self) -> list[_Json]:
        """Its partitions by index, as of then."""
    @property
    def validator(self) -> _Json | None: ...
    @property
    def partition_selector(self) -> _Json | None: ...
    @property
    def serializer(self) -> _Json | None: ...
    def refresh(self) -> None:
        """Looks at it again. Raises TopicNotFoundError."""
    def mark_as_complete(self) -> None:
        """It takes no more events, durably; consumers learn when they have all."""
    def mark_partition_as_complete(self, partition: int) -> None: ...
    def set_retention(self, retention: _Json) -> None: ...
    def sync(self) -> None:
        """Returns when all that was acknowledged before is durable, whatever the topic's durability is."""
    def seek(self, consumer: str, partition: int, to: _Start) -> int:
        """Moves a consumer's cursor in one partition, durably, also backwards; the next event that it will get."""
    def partition_status(self, partition: int) -> _Json: ...
    def producer(
        self,
        name: str = "",
        *,
        batch_size: int | None = None,
        max_num_batches: int = 2,
        ordering: Ordering = ...,
        thread_pool: ThreadPool | None = None,
        durability: _Durability | None = None,
        batch_bytes_max: int | None = None,
        shared_bytes_min: int | None = None,
        delivery_timeout_ms: float | None = None,
        batch_idle_timeout_ms: float | None = None,
        drop_timeout_ms: float | None = None,
    ) -> Producer:
        """Makes a producer.

        batch_size: events that are sent together; 0 or None is adaptive.
        max_num_batches: batches of one partition that may wait; push blocks beyond it.
        durability: when to acknowledge; None, as the topic says. It cannot ask for more.
        batch_bytes_max: bytes from which on a batch is full (4 MiB).
        shared_bytes_min: bytes from which on a segment of data is not copied (64 KiB); see Producer.push.
        delivery_timeout_ms: how long an event may wait for its acknowledgement (as long as it takes).
        batch_idle_timeout_ms: after which silence a batch of a fixed size is sent.
        drop_timeout_ms: how long its end waits for its events when it was not closed (10000)."""
    def consumer(
        self,
        name: str,
        *,
        data_selector: Literal["all", "none"] | Recipe | _Selector | None = "all",
        data_allocator: _Allocator | None = None,
        batch_size: int | None = None,
        max_num_batches: int = 2,
        thread_pool: ThreadPool | None = None,
        targets: Sequence[int] | None = None,
        filter: _Json | None = None,
        start: _Start | None = None,
        batch_bytes_max: int | None = None,
        data_bytes_max: int | None = None,
        on_assignment: _OnAssignment | None = None,
    ) -> Consumer:
        """Makes a consumer and subscribes it. Consumers of one name share the partitions.

        data_selector: which data is wanted. "all"; "none" or None; a Recipe, the same views of every event, applied by
            the node; or a function (metadata, descriptor) that returns a view of the descriptor, or None for no data.
        data_allocator: where it is placed. None, memory of the library; or a function (metadata, descriptor) that
            returns a writable buffer or a list of them, of descriptor.size bytes in all. Event.data is these very objects.
        targets: indices of the partitions to read (all, those too that are added later).
        filter: an event pattern that metadata has to match; the node sends nothing else.
        start: "cursor" (after what a consumer of this name acknowledged), "first", "last", an event id, or ("time", Unix time
            in seconds).
        batch_bytes_max: bytes that come together (4 MiB).
        data_bytes_max: bytes of one event's data that are taken into memory (1 GiB); more can be read with Event.open_data().
        on_assignment: a function (change, partitions) that is told which partitions the consumer reads: "assigned" before the first
            event of them comes, "withdrawn" after the last (what it acknowledges before it returns counts), "lost" when
            another one reads them already. One call at a time; what it raises goes to sys.unraisablehook.

        Functions are called on threads of the library, in the order of a partition's events; what they raise fails the pull of that
        event only. They should not keep the consumer, which then would never be collected.

        Raises ConsumerError, ComponentError, DriverError; TypeError and ValueError for what makes no sense."""

@final
class Producer:
    """Pushes events. `with` closes it. Collected without that, and at the end of the program, it sends what is left and waits for it, for
    drop_timeout_ms at most."""

    def _repr_html_(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def topic(self) -> TopicHandle: ...
    @property
    def batch_size(self) -> int:
        """0 is adaptive."""
    @property
    def max_num_batches(self) -> int: ...
    @property
    def ordering(self) -> Ordering: ...
    @property
    def thread_pool(self) -> ThreadPool | None: ...
    def push(
        self,
        metadata: Any = None,
        data: _Data = None,
        *,
        partition: int | None = None,
        copy: bool | None = None,
    ) -> FutureUint:
        """Takes an event; the future will give its id.

        metadata: JSON text (str, bytes), or what `json` can write; None is {}.
        data: a contiguous buffer, or a list of them: bytes, bytearray, memoryview, array, a NumPy array. Or a DataRef: the data of another
            event, of which nothing is copied.
        partition: for the topic's partition selector; the default one takes it modulo their number, and else the next in turn.
        copy: whether data is copied before push returns. None: all but `bytes`, which nobody can change. False: nothing of
            shared_bytes_min (64 KiB) or more; such buffers have to stay as they are until the event was acknowledged or failed, and
            cannot be resized meanwhile. They need not be kept alive.

        Blocks while max_num_batches batches of the partition wait. A signal whose handler raises ends that; the event is not pushed then.

        Raises InvalidMetadata when it is not JSON or the validator refuses it, PushError when it cannot be taken,
        ClosedError; TypeError and ValueError for what has no JSON, BufferError for a buffer with gaps."""
    def push_many(
        self,
        metadata: Iterable[Any],
        data: Iterable[_Data] | None = None,
        *,
        partition: int | None = None,
        copy: bool | None = None,
    ) -> list[FutureUint]:
        """Pushes many events: the same as push with each, in this order, in less time. Other threads run meanwhile.

        metadata: of each event.
        data: of each event, as many; None, no data.

        Raises what push would at the first event that is refused. Those before it were pushed; their futures are the list `pushed`
        of the exception. ValueError when there are more of one than of the other."""
    def push_stream(self, metadata: Any = None, *, partition: int | None = None) -> DataWriter:
        """Begins an event whose data is written in pieces: more than memory has, or before all of it is there. It has no place among the
        events that are pushed; it gets one when it is finished. The partition must not be one in memory.

        Raises as push does (the validator sees no data), and DriverError when the node does not take its data."""
    def claim(self, metadata: Any, nbytes: int, *, partition: int | None = None) -> InPlace:
        """Claims room for so many bytes of an event's data, to be filled where the node reads it if that is possible, and then committed: the
        event has its place there among those that are pushed, as a batch of its own. 0 bytes are an event without data.

        metadata, partition: as of push. The validator sees no data.

        Raises as push does; PushError also when the node takes no event of this size."""
    def flush(self) -> FutureFlushed:
        """Sends what gathered, also when nobody waits for the future."""
    def close(self) -> dict[str, Any]:
        """Sends what is left, waits until every event was acknowledged or failed, and counts: "pushed", "acknowledged", "failed",
        "failed_by_reason", "may_be_stored". Later pushes raise ClosedError; closing again gives the same."""
    def done(self) -> tuple[int, int]:
        """Closes it, and says durably that it will push no more: (producers done, producers expected)."""
    @property
    def stats(self) -> dict[str, int]:
        """"events", "bytes", "batches", "resent", "acknowledged", "failed" so far."""
    def __enter__(self) -> Producer: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

@final
class Consumer:
    """Pulls events. `with` closes it, and so does collecting it. `for` gives events until 5 s of silence or the end of
    the topic, `async for` until the end of the topic."""

    def _repr_html_(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def topic(self) -> TopicHandle: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def max_num_batches(self) -> int: ...
    @property
    def thread_pool(self) -> ThreadPool | None: ...
    @property
    def partitions(self) -> list[int]:
        """Indices of the partitions that it reads now; others of its name change that."""
    def pull(self) -> FutureEvent:
        """The next event. A future that is dropped without its event leaves it to the next pull."""
    def events(self, timeout_ms: float | None = 5000.0) -> EventIterator:
        """Events until so long a silence (None or negative: any) or the end of the topic. Raises PullError for an event that cannot be had;
        iterating may go on."""
    def seek(self, partition: int, to: _Start) -> None:
        """Goes on elsewhere in one partition, at once. The cursor stays. Raises ConsumerError when it does not read it."""
    def process(
        self,
        processor: Callable[[Event | None], object],
        *,
        timeout_ms: float | None = None,
        max_events: int | None = None,
        thread_pool: ThreadPool | None = None,
    ) -> int:
        """Hands events to a function, until it raises StopEventProcessor, or the topic is complete and all of it was pulled, or it was
        called max_events times. Returns how often it was called. Nothing is acknowledged unless the function does it.

        timeout_ms: after which silence it is called with None, which counts as well. None or negative: it never is.
        thread_pool: calls it on the threads of this pool, without order. None: in this thread, in the order of the events.

        Whatever else the function raises ends it, too, and is raised here; of a thread pool, the first one, after the calls that were under
        way. Raises PullError for an event that cannot be had, after which it may be called again, ClosedError, and
        ConsumerError when another call is under way."""
    @property
    def stats(self) -> dict[str, int]:
        """"events", "feeds", "feed_bytes", "fetches", "fetched_bytes", "missed" so far."""
    def close(self) -> None:
        """Unsubscribes. Pulls raise ClosedError from now on; events that were pulled stay usable."""
    def __iter__(self) -> EventIterator: ...
    def __aiter__(self) -> AsyncIterator[Event]: ...
    def __enter__(self) -> Consumer: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

@final
class EventIterator(Iterator[Event]):
    """See Consumer.events."""

    def __next__(self) -> Event: ...

@final
class Event:
    """An event that was pulled. It lives on its own."""

    def _repr_html_(self) -> str: ...
    @property
    def event_id(self) -> int | None:
        """Its id in its partition, from 0 on. None: there are no more events, and this is none."""
    @property
    def metadata(self) -> Any:
        """Its JSON document, parsed when it is first asked for."""
    @property
    def metadata_json(self) -> str:
        """The JSON text."""
    @property
    def data(self) -> list[Any]:
        """The selected data without a copy: read-only memoryviews, or the very buffers that the allocator gave."""
    def data_bytes(self) -> bytes:
        """A copy of it in one piece."""
    @property
    def data_size(self) -> int:
        """Bytes of all its data, whatever of it was selected."""
    @property
    def descriptor(self) -> DataDescriptor:
        """What was selected of its data."""
    @property
    def is_reference(self) -> bool:
        """Whether its data is that of another event, to which it refers."""
    def data_ref(self) -> DataRef:
        """Its data as something that another event can refer to: what was selected of it, and all of it when nothing was. Raises
        ViewError when it has none."""
    def open_data(self) -> DataReader:
        """Its data at the node as a file, to be read in pieces: what was selected of it, and all of it when nothing was. Also works when
        the consumer is closed."""
    @property
    def partition(self) -> _Json | None:
        """Its partition, as TopicHandle.partitions describes it."""
    @property
    def partition_index(self) -> int | None: ...
    @property
    def timestamp(self) -> float | None:
        """When the node accepted it: Unix time in seconds."""
    def acknowledge(self) -> FutureAcknowledged:
        """Acknowledges this event and all before it in its partition: the next consumer of this name begins after it. Need not be
        waited for. Raises AcknowledgeError for the end of the topic."""

@final
class FutureUint:
    """What becomes of an event that was pushed. May be awaited."""

    @property
    def completed(self) -> bool:
        """Whether waiting would return at once."""
    def wait(self, timeout_ms: float | None = None) -> int | None:
        """Its id in its partition, when it is as durable as was asked; None when that took longer. None or negative: as long as
        it takes; 0 only looks. Sends what it waits for. Raises DeliveryError, the same each time."""
    def __await__(self) -> Generator[Any, None, int]: ...

@final
class FutureFlushed:
    """Completes when everything pushed before was acknowledged or failed. May be awaited."""

    @property
    def completed(self) -> bool: ...
    def wait(self, timeout_ms: float | None = None) -> bool:
        """Whether it did within this time. Errors of events are told by their own futures."""
    def __await__(self) -> Generator[Any, None, bool]: ...

@final
class FutureEvent:
    """The next event. May be awaited."""

    @property
    def completed(self) -> bool: ...
    def wait(self, timeout_ms: float | None = None) -> Event | None:
        """The event; None when none came in this time. At the end of the topic, one whose event_id is None. Raises PullError, ClosedError."""
    def __await__(self) -> Generator[Any, None, Event]: ...

@final
class FutureAcknowledged:
    """Completes when an acknowledgement is durable. May be awaited."""

    @property
    def completed(self) -> bool: ...
    def wait(self, timeout_ms: float | None = None) -> bool:
        """Whether it was within this time. Raises AcknowledgeError."""
    def __await__(self) -> Generator[Any, None, bool]: ...

@final
class DataDescriptor:
    """A reference to data at a node, whole or in part. Views are relative to the view that they are made of."""

    def __init__(self, location: bytes | None = None, size: int = 0) -> None:
        """Without arguments: no data."""
    @property
    def size(self) -> int:
        """Bytes that are selected."""
    @property
    def location(self) -> bytes: ...
    def flatten(self) -> list[tuple[int, int]]:
        """The selected ranges of all data: (offset, bytes)."""
    def make_sub_view(self, offset: int, size: int) -> DataDescriptor:
        """Cut to what there is."""
    def make_strided_view(self, offset: int, num_blocks: int, block_size: int, gap_size: int) -> DataDescriptor:
        """Blocks with gaps between them. Raises ViewError when the last block ends beyond the view."""
    def make_stride_view(self, offset: int, num_blocks: int, block_size: int, gap_size: int) -> DataDescriptor:
        """The same."""
    def make_unstructured_view(self, segments: Sequence[tuple[int, int]]) -> DataDescriptor:
        """(offset, bytes) each, ascending and disjoint. Raises ViewError."""
    def __bool__(self) -> bool: ...

@final
class DataRef:
    """Data of an event that is stored, whole or in part. Pushed as the data of another event, nothing of it is copied, and it is kept
    for as long as that event is. The two may be in any topics and partitions of one node, but a log partition cannot refer
    to one in memory."""

    def __init__(self, partition: _Json, descriptor: DataDescriptor) -> None:
        """partition: as TopicHandle.partitions describes it. descriptor: what it selects, its location an event's id.

        Raises ViewError when it selects nothing, or is no descriptor of an event's data."""
    def view(self, recipe: Recipe) -> DataRef:
        """What a recipe selects of the bytes that this selects. Raises ViewError when that is nothing, or beyond them."""
    @property
    def partition(self) -> str:
        """The id of the partition with the data: "id" of what describes it."""
    @property
    def descriptor(self) -> DataDescriptor:
        """What is selected of the event's data."""
    @property
    def size(self) -> int:
        """Bytes that it selects."""

@final
class DataWriter:
    """Writes the data of one event in pieces. At most 9 MiB of it are in memory. One thread at a time may use it.

    The event exists when finish() says so. `with` finishes it; an exception, abort() and collecting it leave nothing at the node."""

    def write(self, data: Buffer) -> int:
        """Adds bytes, all of them, and says how many. Waits for the node to have written what came before.

        Raises ConnectionAbortedError when the connection was lost: all of it has to be written again, with a new writer; TimeoutError
        after delivery_timeout_ms; OSError when the device is full; ClosedError when it is done."""
    @property
    def data_size(self) -> int:
        """Bytes that were written so far."""
    def finish(self) -> int:
        """Makes the event and waits until it is as durable as was asked; its id. Raises DeliveryError: nothing is stored then, unless it
        says that it may be."""
    def abort(self) -> None:
        """Gives it up. Nothing to do when it is done."""
    def __enter__(self) -> DataWriter: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

@final
class InPlace:
    """Room for the data of one event, from Producer.claim: a writable buffer, for memoryview(), numpy.frombuffer() and whatever else fills
    one. It becomes the event when it is committed; given up or collected, it is as if it had never been.

        with producer.claim({"frame": 7}, 640 * 512 * 2) as room:
            frame = numpy.frombuffer(room, dtype=numpy.uint16)
            camera.read_into(frame)
            del frame
            room.commit()

    It lies in memory that the node shares, if there is any for it, and else in memory of this process; either begins at a multiple of
    4096. What is there at first may be left over from earlier events. Shared memory is scarce: at most half of ring_bytes, and half
    as many claims as ring_slots, are out at a time, each until it is given up, or its event was acknowledged or has failed.

    As long as a view of it exists, commit, shorten, write and abort raise BufferError, so that no view is left without its memory;
    views and arrays stay usable when this object, the producer or the node is gone. `with` gives it up if it was not
    committed; when there are views then, its room is free with the last of them.

    Every thread may use it, one at a time: others get RuntimeError. len() is the event's bytes, bool() whether it is open."""

    @property
    def is_shared(self) -> bool:
        """Whether it lies in memory that the node shares."""
    def write(self, data: Buffer, offset: int = 0) -> int:
        """Copies bytes into it, from byte `offset` on, and says how many. Bytes that come in order, from the first on, are looked at while they
        are in the processor's caches; all others are read again by commit, and so is everything that a view may have changed.

        Raises ValueError when they do not lie within; nothing is written then. BufferError while there are views, ClosedError when
        it is done."""
    def shorten(self, nbytes: int) -> None:
        """The event has only the first bytes, so many. Raises ValueError when there would be more, BufferError while there are views, ClosedError
        when it is done."""
    def commit(self) -> FutureUint:
        """Pushes the event, behind all that was pushed before; the future will give its id.

        Blocks while max_num_batches batches of the partition wait. A signal whose handler raises ends that; the event is not pushed then.
        Raises BufferError while there are views, and ClosedError when it is done, which both change nothing; else as push, and then it is
        given up."""
    def abort(self) -> None:
        """Gives it up: its room is free. Nothing to do when it is done. Raises BufferError while there are views."""
    def __len__(self) -> int: ...
    def __bool__(self) -> bool: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __enter__(self) -> InPlace: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

@final
class _Pieces:
    """What DataReader is made of."""

    @property
    def size(self) -> int: ...
    def readinto(self, into: Buffer) -> int: ...
    def seek(self, offset: int, whence: int) -> int: ...

@final
class Recipe:
    """Views on top of each other, for the data of any event: the node applies them. Each method returns a new recipe."""

    def __init__(self) -> None: ...
    def sub_view(self, offset: int, size: int) -> Recipe: ...
    def strided_view(self, offset: int, num_blocks: int, block_size: int, gap_size: int) -> Recipe: ...
    def unstructured_view(self, segments: Sequence[tuple[int, int]]) -> Recipe: ...

class _Validator(Protocol):
    def validate(self, metadata: Any, data: list[Buffer]) -> object: ...

class _PartitionSelector(Protocol):
    def select(self, metadata: Any, requested: int | None, partitions: list[_Json]) -> int: ...

class _Serializer(Protocol):
    def serialize(self, metadata: Any) -> bytes: ...
    def deserialize(self, stored: bytes) -> Any: ...

def register_validator(name: str, factory: Callable[[_Json], _Validator]) -> None:
    """Makes a type of validator known in this process, under a name for the key "type" of a topic's validator.

    The factory gets the whole document; its object's `validate` raises what is wrong with an event, and push raises
    InvalidMetadata. It is called by push on the pushing thread, of a loose producer on threads of its pool.

    Raises MofkaError when the name is built in, empty, or has a ":" in it."""

def register_partition_selector(name: str, factory: Callable[[_Json], _PartitionSelector]) -> None:
    """The same for partition selectors: `select` returns an index of `partitions`."""

def register_serializer(name: str, factory: Callable[[_Json], _Serializer]) -> None:
    """The same for serializers: how metadata is stored, and what was stored; `deserialize` is called for each event of a consumer, on a
    thread of the library."""

def _close_all() -> None: ...
def _forked() -> None: ...
