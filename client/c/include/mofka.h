/* Client of Mofka: the C interface, libmofka_c.
 *
 * A driver leads to the nodes, a topic is opened or created through it, a producer pushes events and a consumer pulls them. An
 * event is metadata (a small JSON document, always delivered) and data (bytes, delivered as far as the consumer wants them).
 * docs/C.md has a tour, client/c/examples whole programs, and mofka.hpp the same in C++.
 *
 * What holds for all functions:
 *
 * - Results: a function that can fail returns a mofka_status: 0 (MOFKA_OK), a positive number when there was nothing to do it with
 *   (MOFKA_TIMEOUT, MOFKA_NO_MORE_EVENTS), a negative one for an error. Each thread keeps the message of its last error:
 *   mofka_last_error_message(). Ask at once: what moves between threads (coroutines, tasks) loses it.
 * - Handles (mofka_driver, mofka_topic ...) are made by one function and freed once by mofka_..._free, in any order: each keeps
 *   what it needs. NULL is nothing to free. A place for a handle is NULL after an error. Nobody may use a handle while or after
 *   it is freed.
 * - Memory: what a function is given (texts, bytes, options, arrays) is read during the call and copied; only
 *   mofka_producer_push_owned and allocators take memory of yours, and say by a call when they need it no more. A `const char *`
 *   or a slice that a function returns belongs to a handle, and lives as long as that. A `char *` that it gives is yours:
 *   mofka_string_free.
 * - Texts are UTF-8. Those without a length end with a NUL, those with one need none, and metadata that is given has none.
 * - NULL where something is needed is MOFKA_ERROR_INVALID_ARGUMENT; functions that return no status return nothing for it, as
 *   their comments say. What may be NULL is said there as well.
 * - Places for results that are given to one call are different ones, and need not be initialized, but for sizes that are asked for.
 * - Options are structures that begin with their size and can grow; zero is the default of every field:
 *       mofka_producer_options options = {.size = sizeof options, .batch_size = 100};
 * - Threads: any function may be called by any thread, at the same time, also with the same handle.
 * - Callbacks run on threads of the library, as their comments say. They must not throw or jump out, nor wait for something that
 *   only they could bring about.
 * - Forks: in a forked child every function of a handle that its parent made fails at once with MOFKA_ERROR_FORKED (those without a
 *   status return nothing), but for freeing, and for looking at events and futures that are there already. The child connects
 *   anew. The parent goes on undisturbed.
 * - Times are milliseconds of the monotonic clock; a negative timeout is none, and 0 only looks.
 *
 * Versions: what is here stays as it is within one number of the library's name (libmofka_c.so.0); functions, numbers and fields
 * of options are added.
 *
 * Made from client/c/src by cbindgen: change it there, then run `make header`.
 */


#ifndef MOFKA_H
#define MOFKA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * The consumer reads these partitions from now on. None of their events was handed over yet.
 */
#define MOFKA_ASSIGNED 1

/**
 * It reads these no more. What is acknowledged before the call returns counts: the next one that reads the partition begins
 * behind it.
 */
#define MOFKA_WITHDRAWN 2

/**
 * It reads these no more, and another consumer does already, because the node took this one for gone.
 */
#define MOFKA_LOST 3

/**
 * No data.
 */
#define MOFKA_DATA_NONE 0

/**
 * All data of every event. The node knows in advance and sends it with the events.
 */
#define MOFKA_DATA_ALL 1

/**
 * The same views of the data of every event, as the option `data_views` says. The node knows in advance: only the selected bytes
 * leave its device.
 */
#define MOFKA_DATA_VIEWS 2

/**
 * What the option `data_selector` says.
 */
#define MOFKA_DATA_SELECTOR 3

/**
 * The function said so.
 */
#define MOFKA_PROCESS_STOPPED 1

/**
 * `max_events` were handed over.
 */
#define MOFKA_PROCESS_COUNTED 2

/**
 * The topic is complete, and all of it was pulled.
 */
#define MOFKA_PROCESS_NO_MORE_EVENTS 3

/**
 * No pull will give anything any more; the last error says why.
 */
#define MOFKA_PROCESS_FAILED 4

/**
 * As the topic says; for a topic: as the node says, which is synced unless it was told otherwise.
 */
#define MOFKA_DURABILITY_DEFAULT 0

/**
 * Acknowledged events survive a power cut.
 */
#define MOFKA_DURABILITY_SYNCED 1

/**
 * Acknowledged events were handed to the device.
 */
#define MOFKA_DURABILITY_WRITTEN 2

/**
 * Acknowledged events are in the node's memory.
 */
#define MOFKA_DURABILITY_BUFFERED 3

/**
 * In each partition events are stored in the order of the calls.
 */
#define MOFKA_ORDERING_STRICT 0

/**
 * Events may be stored in another order: they are prepared by the threads of a pool.
 */
#define MOFKA_ORDERING_LOOSE 1

/**
 * Events are kept in a log, on the node's device.
 */
#define MOFKA_PARTITION_DEFAULT 0

/**
 * Events are kept in the node's memory, as long as it lives.
 */
#define MOFKA_PARTITION_MEMORY 1

/**
 * After the last event that a consumer of this name acknowledged; the first event if there is none.
 */
#define MOFKA_START_CURSOR 0

/**
 * With the first event that there is.
 */
#define MOFKA_START_FIRST 1

/**
 * With the first event that becomes visible from now on.
 */
#define MOFKA_START_LAST 2

/**
 * With the event of the id that is given as value.
 */
#define MOFKA_START_ID 3

/**
 * With the first event of the first batch that the node accepted at the time that is given as value, or later: Unix time in
 * microseconds.
 */
#define MOFKA_START_TIME 4

/**
 * It is done.
 */
#define MOFKA_OK 0

/**
 * It did not happen within the time that was given. Nothing is lost by that: wait again.
 */
#define MOFKA_TIMEOUT 1

/**
 * The topic is complete and all of it was pulled. Every later pull says the same.
 */
#define MOFKA_NO_MORE_EVENTS 2

/**
 * An argument makes no sense: NULL where something is needed, an unknown number, text that is not UTF-8, JSON that is none.
 */
#define MOFKA_ERROR_INVALID_ARGUMENT -1

/**
 * The metadata is not JSON, or the topic's validator does not take the event.
 */
#define MOFKA_ERROR_INVALID_METADATA -2

/**
 * There is no topic of this name.
 */
#define MOFKA_ERROR_UNKNOWN_TOPIC -3

/**
 * There is a topic of this name already.
 */
#define MOFKA_ERROR_TOPIC_EXISTS -4

/**
 * There is no such partition, or none at all.
 */
#define MOFKA_ERROR_NO_PARTITION -5

/**
 * No node answers, or the connection was lost and not found again in time.
 */
#define MOFKA_ERROR_UNREACHABLE -6

/**
 * The node refused; the reason says why.
 */
#define MOFKA_ERROR_REFUSED -7

/**
 * It is larger than what is allowed.
 */
#define MOFKA_ERROR_TOO_LARGE -8

/**
 * The producer, the consumer or the stream was closed.
 */
#define MOFKA_ERROR_CLOSED -9

/**
 * This process is a forked child of the one that made the handle: connect again in the child.
 */
#define MOFKA_ERROR_FORKED -10

/**
 * The topic's validator, partition selector or serializer cannot work in this process.
 */
#define MOFKA_ERROR_COMPONENT -11

/**
 * A function of the application, or a component of the topic, failed.
 */
#define MOFKA_ERROR_CALLBACK -12

/**
 * The data, or the metadata, of an event could not be fetched or understood.
 */
#define MOFKA_ERROR_DATA -13

/**
 * The device of the node is full.
 */
#define MOFKA_ERROR_NO_SPACE -14

/**
 * The topic is complete: it takes no more events.
 */
#define MOFKA_ERROR_TOPIC_COMPLETE -15

/**
 * The event was not acknowledged within the producer's delivery timeout.
 */
#define MOFKA_ERROR_TIMED_OUT -16

/**
 * A view selects what is not there.
 */
#define MOFKA_ERROR_INVALID_VIEW -17

/**
 * The system starts no more threads, or these are too many.
 */
#define MOFKA_ERROR_THREADS -18

/**
 * No more events come from a partition, or from all.
 */
#define MOFKA_ERROR_PARTITION -19

/**
 * The group file cannot be read, or is none.
 */
#define MOFKA_ERROR_GROUP_FILE -20

/**
 * A defect of this library. Please report it.
 */
#define MOFKA_ERROR_INTERNAL -99

/**
 * The memory that an allocator gives for one event.
 */
typedef struct mofka_allocation mofka_allocation;

/**
 * What an application, or a library, offers: validators, partition selectors and serializers. Its layout, and what its functions have to
 * keep, is in `mofka_component.h`.
 */
typedef struct mofka_components mofka_components;

/**
 * Pulls events of a topic. May be used by any number of threads. Consumers of one name share the topic's partitions, wherever
 * they run; consumers of different names get everything each.
 */
typedef struct mofka_consumer mofka_consumer;

/**
 * Data of an event that is stored, whole or in part, to be pushed as the data of another event of the same node: nothing of it is
 * copied. The node keeps what is referred to for as long as the event that refers is kept.
 */
typedef struct mofka_data_ref mofka_data_ref;

/**
 * Which bytes of an event's data are meant: all of them, or a view, or a view of a view. It never changes: views are made as new
 * ones. An empty one selects nothing.
 */
typedef struct mofka_descriptor mofka_descriptor;

/**
 * The way to the nodes. Everything made from it shares its connections, and may outlive the handle.
 */
typedef struct mofka_driver mofka_driver;

/**
 * An event that was pulled. It lives on its own: the consumer may be freed before. It may share memory with the other events
 * that it came with: who keeps few of many events for long should copy what is kept.
 */
typedef struct mofka_event mofka_event;

/**
 * What a pull will give. It lives on its own.
 */
typedef struct mofka_event_future mofka_event_future;

/**
 * What will become of a push, a flush or an acknowledgement. It lives on its own: what it came from may be freed before.
 */
typedef struct mofka_future mofka_future;

/**
 * Room for the data of one event, which is filled there and then becomes the event. It lies in memory that the node shares, if there
 * is any for it, and else in memory of this process; either begins at a multiple of 4096.
 *
 * Shared memory is scarce: at most half of the ring (`ring_bytes`), and half as many claims as it has slots, of all producers that talk
 * to the same shard. A claim has its part of it until it is freed or, once committed, its event was acknowledged or failed for good.
 */
typedef struct mofka_in_place mofka_in_place;

/**
 * Pushes events into a topic. May be used by any number of threads.
 */
typedef struct mofka_producer mofka_producer;

/**
 * Reads the data of one event in pieces. One thread at a time works with it; others wait for it.
 */
typedef struct mofka_reader mofka_reader;

/**
 * Threads that work on tasks, the most urgent first: for producers, consumers, and whatever the application likes. A forked child
 * has none of the threads.
 */
typedef struct mofka_thread_pool mofka_thread_pool;

/**
 * A topic that was opened. The list of its partitions is that of this moment, until `mofka_topic_refresh`.
 */
typedef struct mofka_topic mofka_topic;

/**
 * Writes the data of one event as it comes. One thread at a time works with it; others wait for it.
 */
typedef struct mofka_writer mofka_writer;

/**
 * What a function returns: 0 when it did what it should, a positive number when there was nothing to do it with, a negative one
 * for an error.
 */
typedef int32_t mofka_status;

/**
 * Called once, with the context that was given along, when the library needs the memory no more. It may come on any thread,
 * also before the function that it was given to returns, and must not call this library but to free events and descriptors.
 */
typedef void (*mofka_release)(void *context);

/**
 * Says which data of an event is wanted.
 *
 * It gets the event's metadata, JSON text of `metadata_bytes` bytes, and the descriptor of all of its data, both valid during the
 * call. It puts a new descriptor, a clone or a view of that, into `selected`, which then belongs to the library; when it leaves
 * the NULL that is there, nothing is wanted. It returns 0; anything else fails the pull of this event, with what it said by
 * `mofka_callback_fail`. It must not throw or jump out.
 *
 * Called on a thread of the consumer, or of its pool, in the order of the events of a partition; in a pool, for several
 * partitions at once.
 */
typedef int32_t (*mofka_data_selector)(void *context,
                                       const char *metadata,
                                       size_t metadata_bytes,
                                       const mofka_descriptor *whole,
                                       mofka_descriptor **selected);

/**
 * Says where the selected data of an event is placed.
 *
 * It gets the metadata and the selected descriptor, and adds memory to `allocation` whose sizes add up to
 * `mofka_descriptor_bytes(selected)`. It is also called when nothing is selected. Returns, errors and threads as those of a
 * selector.
 */
typedef int32_t (*mofka_data_allocator)(void *context,
                                        const char *metadata,
                                        size_t metadata_bytes,
                                        const mofka_descriptor *selected,
                                        mofka_allocation *allocation);

/**
 * Is told which partitions a consumer reads, for applications that keep something for each: `change` is `MOFKA_ASSIGNED`,
 * `MOFKA_WITHDRAWN` or `MOFKA_LOST`, and `partitions` has `partition_count` indices, ascending, at least one.
 *
 * Called by one thread at a time: for the first partitions by the one that makes the consumer, later by a thread of the library. It
 * may acknowledge events. It should not take longer than some seconds: a consumer whose call takes four heartbeats of the node (40 s
 * by default) is taken for gone. It must not throw or jump out.
 */
typedef void (*mofka_on_assignment)(void *context, int32_t change, const size_t *partitions, size_t partition_count);

/**
 * How a consumer works.
 */
typedef struct {
    /**
     * `sizeof(mofka_consumer_options)`
     */
    size_t size;
    /**
     * Events that come together: a wish. 0: adaptive.
     */
    uint32_t batch_size;
    /**
     * Bytes that come together. 0: 4 MiB.
     */
    uint32_t batch_bytes_max;
    /**
     * Feeds of one partition that may be here and not pulled. 0: 2.
     */
    size_t max_num_batches;
    /**
     * Indices of the partitions to read. NULL: all, those too that are added later.
     */
    const size_t *targets;
    /**
     * How many there are.
     */
    size_t target_count;
    /**
     * Which events are wanted: an event pattern, JSON, that their metadata has to match. NULL: all.
     */
    const char *filter;
    /**
     * Which data is wanted: `MOFKA_DATA_...`.
     */
    int32_t data;
    /**
     * Where to begin in each partition: `MOFKA_START_...`.
     */
    int32_t start;
    /**
     * Its value, where it needs one.
     */
    uint64_t start_value;
    /**
     * For `MOFKA_DATA_VIEWS`: a JSON array of views, each of what the one before leaves, as `[{"sub": {"offset": 0, "bytes": 64}}]`,
     * `{"strided": {"offset": 0, "block_count": 8, "block_bytes": 4, "gap_bytes": 4}}`,
     * `{"unstructured": [{"offset": 0, "bytes": 4}, {"offset": 8, "bytes": 4}]}`.
     */
    const char *data_views;
    /**
     * For `MOFKA_DATA_SELECTOR`.
     */
    mofka_data_selector data_selector;
    /**
     * For the selector.
     */
    void *data_selector_context;
    /**
     * Where data is placed. NULL: in memory of the library.
     */
    mofka_data_allocator data_allocator;
    /**
     * For the allocator.
     */
    void *data_allocator_context;
    /**
     * What is told which partitions this consumer reads, as that changes. NULL: nothing.
     */
    mofka_on_assignment on_assignment;
    /**
     * For it.
     */
    void *on_assignment_context;
    /**
     * Called once, when none of these functions will be called any more, also when there is no consumer in the end. NULL:
     * their contexts stay for ever. That may be a moment after the consumer was freed, on a thread of the library.
     */
    mofka_release release;
    /**
     * For `release`.
     */
    void *release_context;
    /**
     * Bytes of one event's data that are taken into memory; an event with more that is selected fails its own pull. 0: 1 GiB.
     */
    uint64_t data_bytes_max;
    /**
     * Where selectors and allocators run and data is fetched. NULL: a thread of the consumer's own. It may be freed right after.
     */
    const mofka_thread_pool *thread_pool;
} mofka_consumer_options;

/**
 * What events are handed to.
 *
 * `status` is `MOFKA_OK` with an event, which belongs to the library: `mofka_event_clone` keeps it. Without one it is NULL, and
 * `status` is `MOFKA_TIMEOUT`, or the error of a pull, told by `mofka_last_error_message`. It returns 0 to go on, a positive number
 * to stop, and a negative one when it failed, which is counted, with what it said by `mofka_callback_fail`. It must not throw or
 * jump out.
 */
typedef int32_t (*mofka_event_processor)(void *context, mofka_status status, const mofka_event *event);

/**
 * How `mofka_consumer_process` works.
 */
typedef struct {
    /**
     * `sizeof(mofka_process_options)`
     */
    size_t size;
    /**
     * How long it waits for an event before it hands over that there was none. 0: 5000. Negative: as long as it takes.
     */
    int64_t timeout_ms;
    /**
     * It ends when it has handed over so many results, those without an event included. 0: no bound.
     */
    uint64_t max_events;
    /**
     * Where the function is called, by all threads, without order. NULL: by the calling thread, in the order of the events.
     */
    const mofka_thread_pool *thread_pool;
} mofka_process_options;

/**
 * What `mofka_consumer_process` did.
 */
typedef struct {
    /**
     * `sizeof(mofka_process_report)`; set it before the call.
     */
    size_t size;
    /**
     * Results that were handed over.
     */
    uint64_t handed_over;
    /**
     * Those of them that were events.
     */
    uint64_t events;
    /**
     * Calls that failed.
     */
    uint64_t failed;
    /**
     * Why it ended: `MOFKA_PROCESS_...`.
     */
    int32_t end;
    /**
     * 0.
     */
    uint32_t reserved;
} mofka_process_report;

/**
 * What a consumer has done so far.
 */
typedef struct {
    /**
     * `sizeof(mofka_consumer_stats)`; set it before the call.
     */
    size_t size;
    /**
     * Events that were handed to pulls, or failed in their place.
     */
    uint64_t events;
    /**
     * Feeds that came.
     */
    uint64_t feeds;
    /**
     * Bytes of these feeds.
     */
    uint64_t feed_bytes;
    /**
     * Requests for data.
     */
    uint64_t fetches;
    /**
     * Bytes of the answers to these.
     */
    uint64_t fetched_bytes;
    /**
     * Events that it will never get, because retention dropped them before they were sent.
     */
    uint64_t missed;
} mofka_consumer_stats;

/**
 * A stretch of bytes.
 */
typedef struct {
    /**
     * Where it begins.
     */
    uint64_t offset;
    /**
     * How long it is.
     */
    uint64_t bytes;
} mofka_range;

/**
 * Bytes in memory. No bytes may begin anywhere, also at NULL.
 */
typedef struct {
    /**
     * The first byte.
     */
    const void *start;
    /**
     * How many there are.
     */
    size_t bytes;
} mofka_slice;

/**
 * How to connect.
 */
typedef struct {
    /**
     * `sizeof(mofka_driver_options)`
     */
    size_t size;
    /**
     * Addresses of one node, instead of a group file, best first: `tcp://host:port`, `unix:///path`.
     */
    const char *const *addresses;
    /**
     * How many there are.
     */
    size_t address_count;
    /**
     * A name for the nodes' logs and status. NULL: the process id.
     */
    const char *client_name;
    /**
     * Directories of the shared libraries that may be loaded for the components of topics, with `:` between them; empty: none
     * may. NULL: as the environment's `MOFKA_PLUGIN_PATH` says.
     */
    const char *library_path;
    /**
     * Not 0: nodes on this machine are talked to over sockets only, and not through shared memory.
     */
    int32_t sockets_only;
    /**
     * Requests that are under way at a time in memory that is shared with a node. 0: 1024.
     */
    uint32_t ring_slots;
    /**
     * Bytes of each direction of that memory, for each connection. 0: 16 MiB.
     */
    uint64_t ring_bytes;
    /**
     * How long one attempt to connect may take. 0: 5000.
     */
    int64_t connect_timeout_ms;
    /**
     * How long a lost node is looked for before events, pulls and requests fail. 0: 60000. Negative: it is not looked for.
     */
    int64_t reconnect_timeout_ms;
    /**
     * How long a node may take to answer a request for data, of which each has 8 MiB at most, while no other data comes over its
     * connection, which ends then: what was not delivered is asked for again over a new one, within `reconnect_timeout_ms` from the
     * first failure on, and so twice at least. 0: 60000. Negative: as long as the node lives.
     */
    int64_t fetch_timeout_ms;
} mofka_driver_options;

/**
 * What a partition to be added is like.
 */
typedef struct {
    /**
     * `sizeof(mofka_partition_options)`
     */
    size_t size;
    /**
     * The node that is to have it.
     */
    uint32_t rank;
    /**
     * Log or memory: `MOFKA_PARTITION_...`.
     */
    int32_t kind;
    /**
     * Whether `shard` says which shard of the node is to have it; 0: the node chooses.
     */
    int32_t has_shard;
    /**
     * That shard.
     */
    uint32_t shard;
    /**
     * Options of the kind, JSON. NULL: none.
     */
    const char *config;
} mofka_partition_options;

/**
 * A task. It must not throw or jump out.
 */
typedef void (*mofka_task)(void *context);

/**
 * How a producer works.
 */
typedef struct {
    /**
     * `sizeof(mofka_producer_options)`
     */
    size_t size;
    /**
     * A name. NULL: none.
     */
    const char *name;
    /**
     * Events in a batch. 0: adaptive, whatever has gathered when the connection is free.
     */
    uint32_t batch_size;
    /**
     * Whether order is kept: `MOFKA_ORDERING_...`.
     */
    int32_t ordering;
    /**
     * Batches of one partition that may wait for their answer or to be sent; pushing blocks beyond it. 0: 2.
     */
    size_t max_num_batches;
    /**
     * Bytes from which on a batch is full, whatever the batch size says. 0: 4 MiB.
     */
    uint64_t batch_bytes_max;
    /**
     * Bytes from which on a segment of `mofka_producer_push_owned` is not copied but kept until the event was acknowledged or failed, and
     * sent from where it is. `SIZE_MAX` copies everything. 0: 64 KiB.
     */
    size_t shared_bytes_min;
    /**
     * Where events are prepared that need no order. NULL: the driver's default pool. It may be freed right after.
     */
    const mofka_thread_pool *thread_pool;
    /**
     * When to acknowledge, if earlier than the topic says: `MOFKA_DURABILITY_...`.
     */
    int32_t durability;
    /**
     * Leave it 0.
     */
    uint32_t reserved;
    /**
     * How long an event may wait for its acknowledgement before its future fails. 0: as long as the node lives, or is looked for.
     */
    int64_t delivery_timeout_ms;
    /**
     * A batch of a fixed size is sent, full or not, when no event came into it for so long. 0: it waits to be full, flushed or
     * waited for.
     */
    int64_t batch_idle_timeout_ms;
    /**
     * How long freeing the producer waits for its events. 0: 10000. Negative: not at all.
     */
    int64_t drop_timeout_ms;
} mofka_producer_options;

/**
 * What became of the events of a producer that was closed.
 */
typedef struct {
    /**
     * `sizeof(mofka_producer_report)`; set it before the call.
     */
    size_t size;
    /**
     * Events that were taken.
     */
    uint64_t pushed;
    /**
     * Those that a node acknowledged.
     */
    uint64_t acknowledged;
    /**
     * Those that failed. Pushed events are either acknowledged or failed.
     */
    uint64_t failed;
    /**
     * Failed ones that may be stored all the same, because they were sent and only the answer is missing.
     */
    uint64_t may_be_stored;
} mofka_producer_report;

/**
 * What a producer has done so far.
 */
typedef struct {
    /**
     * `sizeof(mofka_producer_stats)`; set it before the call.
     */
    size_t size;
    /**
     * Events that were taken.
     */
    uint64_t events;
    /**
     * Bytes of their metadata and data.
     */
    uint64_t bytes;
    /**
     * Batches that were sent, each counted once.
     */
    uint64_t batches;
    /**
     * Batches that were sent again.
     */
    uint64_t resent;
    /**
     * Events that were acknowledged.
     */
    uint64_t acknowledged;
    /**
     * Events that failed.
     */
    uint64_t failed;
} mofka_producer_stats;

/**
 * What a new topic is like.
 */
typedef struct {
    /**
     * `sizeof(mofka_topic_options)`
     */
    size_t size;
    /**
     * What acknowledged means: `MOFKA_DURABILITY_...`.
     */
    int32_t durability;
    /**
     * Partitions to make at once. 0: one. Negative: none, they are added later.
     */
    int32_t partitions;
    /**
     * What they are like: `MOFKA_PARTITION_...`.
     */
    int32_t partition_kind;
    /**
     * How many producers there will be: the topic is complete when so many said that they are done. 0: that is not counted.
     */
    uint32_t producers_expected;
    /**
     * Options of that kind of partitions, JSON. NULL: none.
     */
    const char *partition_config;
    /**
     * The validator's JSON, as `{"type": "schema", ...}`. NULL: everything is accepted.
     */
    const char *validator;
    /**
     * The partition selector's JSON. NULL: partitions in turn.
     */
    const char *partition_selector;
    /**
     * The serializer's JSON. NULL: metadata is stored as JSON text.
     */
    const char *serializer;
    /**
     * What of its events may go, JSON, as `{"bytes_max": 1000000000}`. NULL: nothing.
     */
    const char *retention;
} mofka_topic_options;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Frees a text that this library gave. NULL is nothing to free.
 */
void mofka_string_free(char *text);

/**
 * Says why a callback fails, before it returns anything but 0. UTF-8 text, copied.
 */
void mofka_callback_fail(const char *reason);

/**
 * Adds memory for the event's data, after what was added before. The library writes to it until the event comes, and reads it as
 * long as there is a handle of the event; nobody else may use it before the event comes, or change it before it is released.
 */
mofka_status mofka_allocation_add(mofka_allocation *allocation,
                                  void *start,
                                  size_t bytes);

/**
 * Says who releases the memory: `release(context)` is called once, when the last handle of the event is freed, or when the event
 * does not come. Said twice, the earlier one is called at once. Without it the memory has to stay for ever.
 */
mofka_status mofka_allocation_on_release(mofka_allocation *allocation,
                                         mofka_release release,
                                         void *context);

/**
 * Makes the components of a table known in this process, for topics whose documents name their types, as if a library had offered
 * them. What is known already stays as it is; topics that were opened before keep what they had.
 *
 * The table and all that it leads to stays as it is until the process ends. `MOFKA_ERROR_COMPONENT` when it makes no sense.
 */
mofka_status mofka_components_register(const mofka_components *table);

/**
 * Makes a consumer and subscribes it.
 *
 * `name`: 1 to 200 bytes; what it acknowledges is kept under it. `options`: NULL for the defaults: all partitions, no data,
 * from the cursor on. It does not need the topic's handle any more.
 */
mofka_status mofka_consumer_create(const mofka_topic *topic,
                                   const char *name,
                                   const mofka_consumer_options *options,
                                   mofka_consumer **consumer);

/**
 * Its name; NULL for NULL. Valid as long as the handle.
 */
const char *mofka_consumer_name(const mofka_consumer *consumer);

/**
 * Asks for the next event: `future` gets what will give it. Pulls get events in the order in which they were made. One that is
 * freed leaves its event to the next.
 */
mofka_status mofka_consumer_pull(const mofka_consumer *consumer,
                                 mofka_event_future **future);

/**
 * Pulls the next event and waits for it, as `mofka_event_future_wait`. After a timeout nothing is lost: the next call gets it.
 */
mofka_status mofka_consumer_next(const mofka_consumer *consumer,
                                 int64_t timeout_ms,
                                 mofka_event **event);

/**
 * Pulls events and hands each to `processor(context, ...)`, until that says to stop, or the topic is complete and all of it was
 * pulled, or `max_events` were handed over. All that was pulled is handed over, once, before this returns. Nothing is
 * acknowledged unless the function does it.
 *
 * `options`: NULL for the defaults. `report`, with its size set, and `first_failure`, why the first call failed that did (NULL
 * when none did), may be NULL. The text is yours: `mofka_string_free`.
 */
mofka_status mofka_consumer_process(const mofka_consumer *consumer,
                                    mofka_event_processor processor,
                                    void *context,
                                    const mofka_process_options *options,
                                    mofka_process_report *report,
                                    char **first_failure);

/**
 * Indices of the partitions that it reads now, ascending: as many as there is room for. Consumers of its name that come and go
 * change it.
 *
 * `partition_count`: gets how many there are, which may be more.
 */
mofka_status mofka_consumer_partitions(const mofka_consumer *consumer,
                                       size_t *partitions,
                                       size_t room_count,
                                       size_t *partition_count);

/**
 * Goes on elsewhere in one partition, at once; what was not pulled yet is dropped. The cursor stays where it is until something is
 * acknowledged, and does not go back for that: `mofka_topic_seek` moves it.
 *
 * `to` and `value`: `MOFKA_START_...`.
 */
mofka_status mofka_consumer_seek(const mofka_consumer *consumer,
                                 size_t partition,
                                 int32_t to,
                                 uint64_t value);

/**
 * What it has done so far. `stats` with its size set.
 */
mofka_status mofka_consumer_get_stats(const mofka_consumer *consumer, mofka_consumer_stats *stats);

/**
 * Unsubscribes. Pulls fail from now on; events that were not pulled come again to the next consumer of this name. Waits a second at
 * most for nodes that do not answer.
 */
mofka_status mofka_consumer_close(const mofka_consumer *consumer);

/**
 * Frees the handle, and unsubscribes. Events stay usable.
 */
void mofka_consumer_free(mofka_consumer *consumer);

/**
 * All of some data at a place that only its storage understands; with no location and no bytes the empty descriptor.
 */
mofka_status mofka_descriptor_create(const void *location,
                                     size_t location_bytes,
                                     uint64_t data_bytes,
                                     mofka_descriptor **descriptor);

/**
 * Another handle of the same. NULL for NULL.
 */
mofka_descriptor *mofka_descriptor_clone(const mofka_descriptor *descriptor);

/**
 * `bytes` bytes of it from `offset` on, cut to what there is; empty when nothing is left.
 */
mofka_status mofka_descriptor_sub_view(const mofka_descriptor *descriptor,
                                       uint64_t offset,
                                       uint64_t bytes,
                                       mofka_descriptor **view);

/**
 * `block_count` blocks of `block_bytes` of it, the first at `offset`, `gap_bytes` between them.
 *
 * `MOFKA_ERROR_INVALID_VIEW` when the last block ends beyond it.
 */
mofka_status mofka_descriptor_strided_view(const mofka_descriptor *descriptor,
                                           uint64_t offset,
                                           uint64_t block_count,
                                           uint64_t block_bytes,
                                           uint64_t gap_bytes,
                                           mofka_descriptor **view);

/**
 * These ranges of it, which have to be ascending and disjoint.
 *
 * `MOFKA_ERROR_INVALID_VIEW` when they are not, or end beyond it.
 */
mofka_status mofka_descriptor_unstructured_view(const mofka_descriptor *descriptor,
                                                const mofka_range *ranges,
                                                size_t range_count,
                                                mofka_descriptor **view);

/**
 * Bytes that are selected. NULL selects none.
 */
uint64_t mofka_descriptor_bytes(const mofka_descriptor *descriptor);

/**
 * Bytes of the event's whole data.
 */
uint64_t mofka_descriptor_base_bytes(const mofka_descriptor *descriptor);

/**
 * Where the data is: opaque, except to its storage. Valid as long as the descriptor.
 */
mofka_slice mofka_descriptor_location(const mofka_descriptor *descriptor);

/**
 * The ranges of the event's data that are selected, ascending, touching ones merged: as many as there is room for.
 *
 * `range_count`: gets how many there are, which may be more.
 */
mofka_status mofka_descriptor_flatten(const mofka_descriptor *descriptor,
                                      mofka_range *ranges,
                                      size_t room_count,
                                      size_t *range_count);

/**
 * The descriptor as bytes, for other processes: as many as there is room for.
 *
 * `bytes`: gets how many there are, which may be more.
 */
mofka_status mofka_descriptor_serialize(const mofka_descriptor *descriptor,
                                        void *into,
                                        size_t room_bytes,
                                        size_t *bytes);

/**
 * Reads what `mofka_descriptor_serialize` wrote. Wrong bytes are refused.
 */
mofka_status mofka_descriptor_deserialize(const void *from, size_t bytes, mofka_descriptor **descriptor);

/**
 * Frees the handle.
 */
void mofka_descriptor_free(mofka_descriptor *descriptor);

/**
 * The version of this library, as text: `0.1.0`. Valid for ever.
 */
const char *mofka_version(void);

/**
 * Reads the group file that the nodes write (`mofka.json`), and connects to the first node that answers. It is not waited for
 * one to come.
 *
 * `group_file`: NULL when the options have addresses instead. `options`: NULL for the defaults.
 */
mofka_status mofka_driver_connect(const char *group_file,
                                  const mofka_driver_options *options,
                                  mofka_driver **driver);

/**
 * How many nodes there are. NULL has none, and so has a driver in a forked child.
 */
size_t mofka_driver_node_count(const mofka_driver *driver);

/**
 * Whether there is a topic of this name.
 */
mofka_status mofka_driver_topic_exists(const mofka_driver *driver, const char *name, bool *exists);

/**
 * All topics by name: a JSON array of objects with `name`, `num_partitions`, `durability`, `complete`, and the documents
 * `validator`, `partition_selector` and `serializer`. The text is yours: `mofka_string_free`.
 */
mofka_status mofka_driver_list_topics(const mofka_driver *driver,
                                      char **json);

/**
 * Deletes a topic with all of its events and cursors. `MOFKA_ERROR_REFUSED`, with reason `referenced`, when events of other topics
 * refer to data of its events, unless `force` is set: their data cannot be had any more then.
 */
mofka_status mofka_driver_delete_topic(const mofka_driver *driver,
                                       const char *name,
                                       bool force);

/**
 * Adds a partition to a topic. Topic handles see it after `mofka_topic_refresh`.
 *
 * `options`: NULL for the defaults. `json`: gets the partition's description, as `mofka_topic_partition_info`; may be NULL.
 */
mofka_status mofka_driver_add_partition(const mofka_driver *driver,
                                        const char *topic,
                                        const mofka_partition_options *options,
                                        char **json);

/**
 * The consumers of a topic, with their cursors: a JSON array. The text is yours: `mofka_string_free`.
 */
mofka_status mofka_driver_list_consumers(const mofka_driver *driver, const char *topic, char **json);

/**
 * The state of a node: a JSON object. It is not looked for when it is lost. The text is yours: `mofka_string_free`.
 */
mofka_status mofka_driver_node_status(const mofka_driver *driver, size_t rank, char **json);

/**
 * Asks a node to finish what it accepted and to stop.
 */
mofka_status mofka_driver_shutdown_node(const mofka_driver *driver, size_t rank);

/**
 * Frees the handle. The connections end with the last handle that was made from it.
 */
void mofka_driver_free(mofka_driver *driver);

/**
 * Waits for the event, at most this many milliseconds; negative: as long as it takes; 0 only looks.
 *
 * `MOFKA_OK`: `event` gets it, and each time it is asked for another handle of it. `MOFKA_TIMEOUT`: it did not come yet.
 * `MOFKA_NO_MORE_EVENTS`: the topic is complete, and all of it was pulled. An error is that of this pull; unless it says that
 * the consumer or the partition is at its end, later events come all the same.
 */
mofka_status mofka_event_future_wait(const mofka_event_future *future,
                                     int64_t timeout_ms,
                                     mofka_event **event);

/**
 * Whether waiting would return at once. NULL: yes, with an error; so in a forked child.
 */
bool mofka_event_future_completed(const mofka_event_future *future);

/**
 * Frees the future. An event that nobody took from it is left to the next pull.
 */
void mofka_event_future_free(mofka_event_future *future);

/**
 * Another handle of the same event. NULL for NULL.
 */
mofka_event *mofka_event_clone(const mofka_event *event);

/**
 * Its id in its partition, from 0. `UINT64_MAX` for NULL.
 */
uint64_t mofka_event_id(const mofka_event *event);

/**
 * The index of its partition in the topic. `SIZE_MAX` for NULL.
 */
size_t mofka_event_partition(const mofka_event *event);

/**
 * When the node accepted it: Unix time in microseconds.
 */
uint64_t mofka_event_timestamp_us(const mofka_event *event);

/**
 * Its metadata: JSON text in UTF-8, **without a NUL at its end**. Valid as long as the event's handle.
 */
mofka_slice mofka_event_metadata(const mofka_event *event);

/**
 * Bytes of its data that were selected and are here.
 */
uint64_t mofka_event_data_bytes(const mofka_event *event);

/**
 * Segments that these bytes are in. With an allocator: those that it gave, but for empty ones.
 */
size_t mofka_event_data_segment_count(const mofka_event *event);

/**
 * One segment of its data, from index 0 on; nothing for an index beyond the last. Valid as long as the event's handle.
 */
mofka_slice mofka_event_data_segment(const mofka_event *event, size_t index);

/**
 * Copies bytes of its data from `offset` on, as many as there are and fit. Returns how many these were.
 */
size_t mofka_event_data_copy(const mofka_event *event, uint64_t offset, void *into, size_t room_bytes);

/**
 * Bytes of all its data, whatever of it was selected.
 */
uint64_t mofka_event_stored_bytes(const mofka_event *event);

/**
 * What was selected of its data; empty when nothing was. The descriptor is yours: `mofka_descriptor_free`. NULL for NULL.
 */
mofka_descriptor *mofka_event_descriptor(const mofka_event *event);

/**
 * The descriptor of all of its data, for `mofka_event_open_view`. It is yours: `mofka_descriptor_free`. NULL for NULL.
 */
mofka_descriptor *mofka_event_whole(const mofka_event *event);

/**
 * Acknowledges this event and all before it in its partition: the next consumer of this name begins after it. Returns when that
 * is durable. An older event acknowledged later changes nothing. Also works when the consumer is freed.
 */
mofka_status mofka_event_acknowledge(const mofka_event *event);

/**
 * The same without waiting: `future` gets what completes when it is durable; NULL when nobody will ask. Those that follow each
 * other quickly are sent as one.
 */
mofka_status mofka_event_acknowledge_start(const mofka_event *event,
                                           mofka_future **future);

/**
 * Frees the handle, and what was pointed to through it.
 */
void mofka_event_free(mofka_event *event);

/**
 * Waits at most this many milliseconds; negative: as long as it takes; 0 only looks.
 *
 * `value`, which may be NULL, becomes the event's id for a push, and 0 for a flush and an acknowledgement. Waiting again gives the
 * same again. Waiting for an event that is not sent yet sends it, with all that gathered.
 *
 * `MOFKA_TIMEOUT` when it did not happen yet; else what went wrong with it.
 */
mofka_status mofka_future_wait(const mofka_future *future,
                               int64_t timeout_ms,
                               uint64_t *value);

/**
 * Whether waiting would return at once. NULL: yes, with an error; so in a forked child.
 */
bool mofka_future_completed(const mofka_future *future);

/**
 * Frees the future. What it is about goes on.
 */
void mofka_future_free(mofka_future *future);

/**
 * Claims room for the data of an event, `data_bytes` bytes; none is an event without data. Its owner fills it
 * (`mofka_in_place_data`, `mofka_in_place_write`) and commits it (`mofka_in_place_commit`): it has its place there among the events that
 * are pushed, as a batch of its own.
 *
 * `metadata` and `partition` as of `mofka_producer_push`; the topic's validator sees no data. Connects to the partition's node if
 * nothing did so yet. `MOFKA_ERROR_TOO_LARGE` when the node takes no such event.
 */
mofka_status mofka_producer_claim(const mofka_producer *producer,
                                  const char *metadata,
                                  size_t metadata_bytes,
                                  size_t data_bytes,
                                  int64_t partition,
                                  mofka_in_place **in_place);

/**
 * The first byte, to be written by whatever fills memory, devices too. Good for `mofka_in_place_bytes` bytes, until it is committed or
 * freed: all that is written through it has to be there before, since what is written later makes the node refuse the event, or is
 * not in it. What is there at first may be left over from earlier events of this process.
 *
 * NULL for NULL, in a forked child, and when it is committed.
 */
void *mofka_in_place_data(const mofka_in_place *in_place);

/**
 * Bytes of data that the event will have. 0 for NULL, in a forked child, and when it is committed.
 */
size_t mofka_in_place_bytes(const mofka_in_place *in_place);

/**
 * Whether it lies in memory that the node shares, so that nothing has to be copied to it. false for NULL, in a forked child, and when it is
 * committed.
 */
bool mofka_in_place_is_shared(const mofka_in_place *in_place);

/**
 * Copies bytes into it, from byte `offset` of the data on. Bytes that come one after the other from the first on are looked at while
 * they are in the processor's caches; all others are read again when it is committed, and so is everything when
 * `mofka_in_place_data` was asked for its place.
 *
 * `MOFKA_ERROR_INVALID_ARGUMENT` when they do not lie within; nothing is written then.
 */
mofka_status mofka_in_place_write(const mofka_in_place *in_place,
                                  size_t offset,
                                  const void *start,
                                  size_t bytes);

/**
 * Makes it shorter: the event has only the first `bytes` bytes. What lies behind them stays taken until the event is done with.
 *
 * `MOFKA_ERROR_INVALID_ARGUMENT` when it would become longer.
 */
mofka_status mofka_in_place_shorten(const mofka_in_place *in_place,
                                    size_t bytes);

/**
 * Pushes the event, behind all that was pushed before. `future`: gets what will become the event's id, as of `mofka_producer_push`; NULL
 * when nobody will ask.
 *
 * Blocks while the partition has as many batches as `max_num_batches` allows. The claim is used up, also by an error, which means that
 * nothing was queued: its handle is good for nothing but `mofka_in_place_free` from then on. `MOFKA_ERROR_CLOSED` when it was
 * committed before, or its producer is closed or freed. (An argument that is NULL, and a forked child, leave it as it is.)
 */
mofka_status mofka_in_place_commit(const mofka_in_place *in_place,
                                   mofka_future **future);

/**
 * Frees the handle. What was not committed is as if it had never been, and its room is free for other claims.
 */
void mofka_in_place_free(mofka_in_place *in_place);

/**
 * Starts this many threads, at most 1024. 0: who pushes a task runs it.
 */
mofka_status mofka_thread_pool_create(size_t thread_count, mofka_thread_pool **pool);

/**
 * The pool of those who name none and need one: as many threads as the process may use cores, started at the first call.
 */
mofka_status mofka_driver_default_thread_pool(const mofka_driver *driver,
                                              mofka_thread_pool **pool);

/**
 * How many threads it has. NULL has none.
 */
size_t mofka_thread_pool_thread_count(const mofka_thread_pool *pool);

/**
 * Tasks that no thread has taken yet.
 */
size_t mofka_thread_pool_size(const mofka_thread_pool *pool);

/**
 * Calls `task(context)` on one of its threads, once. Larger priorities come first, equal ones in the order in which they were
 * pushed; `UINT64_MAX` is the usual one. A task that was taken (`MOFKA_OK`) is always run.
 */
mofka_status mofka_thread_pool_push(const mofka_thread_pool *pool,
                                    mofka_task task,
                                    void *context,
                                    uint64_t priority);

/**
 * Frees the handle. With the last one, and no producer or consumer that works with the pool, its tasks are run to their end,
 * which this waits for (not on one of the pool's own threads).
 */
void mofka_thread_pool_free(mofka_thread_pool *pool);

/**
 * Makes a producer. `options`: NULL for the defaults. It does not need the topic's handle any more.
 */
mofka_status mofka_producer_create(const mofka_topic *topic,
                                   const mofka_producer_options *options,
                                   mofka_producer **producer);

/**
 * Its name; NULL for NULL. Valid as long as the handle.
 */
const char *mofka_producer_name(const mofka_producer *producer);

/**
 * Takes an event, with a copy of its data: nothing has to be kept.
 *
 * `metadata`: JSON text in UTF-8, of `metadata_bytes` bytes, no NUL needed; with 0 bytes it is `{}`. `segments`: the data, in any
 * number of pieces. `partition`: what the topic's partition selector makes of it; the usual one takes the next partition in turn
 * for a negative number, and the number modulo the number of partitions otherwise. `future`: gets what will become the event's
 * id; NULL when only `mofka_producer_flush` or `mofka_producer_close` will ask.
 *
 * Blocks while the partition has as many batches as `max_num_batches` allows. An error means that nothing was queued;
 * `MOFKA_ERROR_INVALID_METADATA` when the metadata is not JSON, or the topic's validator does not take the event.
 */
mofka_status mofka_producer_push(const mofka_producer *producer,
                                 const char *metadata,
                                 size_t metadata_bytes,
                                 const mofka_slice *segments,
                                 size_t segment_count,
                                 int64_t partition,
                                 mofka_future **future);

/**
 * The same with the data where it is: it must stay as it is until the library calls `release(release_context)`, once, whatever
 * happens, also when this returns an error. `release` may be NULL for data that stays for ever.
 *
 * The library copies it no more often than it has to, and may release it before this returns.
 */
mofka_status mofka_producer_push_owned(const mofka_producer *producer,
                                       const char *metadata,
                                       size_t metadata_bytes,
                                       const mofka_slice *segments,
                                       size_t segment_count,
                                       mofka_release release,
                                       void *release_context,
                                       int64_t partition,
                                       mofka_future **future);

/**
 * Sends what gathered, and waits until every event that was pushed before was acknowledged or failed: at most `timeout_ms`
 * milliseconds; negative: as long as it takes. What became of events is told by their futures, and by `mofka_producer_close`.
 *
 * `MOFKA_TIMEOUT` when it takes longer.
 */
mofka_status mofka_producer_flush(const mofka_producer *producer,
                                  int64_t timeout_ms);

/**
 * The same without waiting: `future` gets what completes then.
 */
mofka_status mofka_producer_flush_start(const mofka_producer *producer, mofka_future **future);

/**
 * Sends what is left, waits until every event was acknowledged or failed, and counts. Later pushes fail with
 * `MOFKA_ERROR_CLOSED`; closing again gives the same.
 *
 * `report`, with its size set, and `failures`, a JSON object with a count for each reason, may be NULL. The text is yours:
 * `mofka_string_free`. `MOFKA_OK` also when events failed: look at the report.
 */
mofka_status mofka_producer_close(const mofka_producer *producer,
                                  mofka_producer_report *report,
                                  char **failures);

/**
 * Closes it, and says, durably, that this producer will push no more: with the last of those that the topic expects
 * (`producers_expected`) the topic is complete. Who has a name counts once, however often it says so.
 *
 * `done_count` and `expected_count`: how many said so, and how many there will be; may be NULL.
 */
mofka_status mofka_producer_done(const mofka_producer *producer, uint32_t *done_count, uint32_t *expected_count);

/**
 * What it has done so far. `stats` with its size set.
 */
mofka_status mofka_producer_get_stats(const mofka_producer *producer, mofka_producer_stats *stats);

/**
 * Frees the handle. Sends what is left, and waits for the answers up to the option `drop_timeout_ms`. Futures stay usable.
 */
void mofka_producer_free(mofka_producer *producer);

/**
 * An event's data as something that another event can refer to: what was selected of it, and all of it when nothing was.
 *
 * `MOFKA_ERROR_INVALID_VIEW` when it has no data.
 */
mofka_status mofka_event_data_ref(const mofka_event *event,
                                  mofka_data_ref **reference);

/**
 * Whether an event's data is that of another event, to which it refers.
 */
bool mofka_event_is_reference(const mofka_event *event);

/**
 * What a descriptor selects in a partition of this topic; its location is the id of an event there that has data of its own, 8 bytes,
 * little-endian.
 */
mofka_status mofka_data_ref_create(const mofka_topic *topic,
                                   size_t partition,
                                   const mofka_descriptor *descriptor,
                                   mofka_data_ref **reference);

/**
 * A view of a reference: `views` is JSON, as the consumer's option `data_views`.
 */
mofka_status mofka_data_ref_view(const mofka_data_ref *whole, const char *views, mofka_data_ref **reference);

/**
 * Bytes that it selects. NULL selects none.
 */
uint64_t mofka_data_ref_bytes(const mofka_data_ref *reference);

/**
 * Takes an event whose data is that of another event. All else as of `mofka_producer_push`; the topic's validator sees no data. The
 * node refuses it, which the future tells, when there is no such data any more.
 */
mofka_status mofka_producer_push_ref(const mofka_producer *producer,
                                     const char *metadata,
                                     size_t metadata_bytes,
                                     const mofka_data_ref *reference,
                                     int64_t partition,
                                     mofka_future **future);

/**
 * Frees the handle. What is referred to by events stays.
 */
void mofka_data_ref_free(mofka_data_ref *reference);

/**
 * Why the last function that failed in this thread did so: text in UTF-8, what was tried, with values. Empty when none failed
 * yet. Never NULL; valid until the next function fails in this thread, or the thread ends.
 */
const char *mofka_last_error_message(void);

/**
 * The same as one word, for counting: what the node answered (`no_space`, `topic_complete`, `durability_unavailable` ...), or else
 * as `mofka_status_name`. Never NULL; valid as long as the message.
 */
const char *mofka_last_error_reason(void);

/**
 * Whether the event that the last error was about may be stored all the same: it was sent, and only the answer is missing.
 */
bool mofka_last_error_may_be_stored(void);

/**
 * A status as a word: `ok`, `timeout`, `unknown_topic` ... `unknown` for what is none. Valid for ever.
 */
const char *mofka_status_name(mofka_status status);

/**
 * Begins an event whose data is written in pieces. It gets its place among the events when it is finished; the topic's validator
 * sees no data. The partition must not be one in memory.
 *
 * `metadata` and `partition` as of `mofka_producer_push`.
 */
mofka_status mofka_producer_push_stream(const mofka_producer *producer,
                                        const char *metadata,
                                        size_t metadata_bytes,
                                        int64_t partition,
                                        mofka_writer **writer);

/**
 * Writes all of these bytes, after those before. After an error there is nothing more to do with the stream.
 */
mofka_status mofka_writer_write(const mofka_writer *writer, const void *start, size_t bytes);

/**
 * Bytes that were written so far; 0 when it is finished.
 */
uint64_t mofka_writer_bytes(const mofka_writer *writer);

/**
 * Makes the event of what was written, and waits until it is as durable as asked. `event_id`: gets its id; may be NULL.
 */
mofka_status mofka_writer_finish(const mofka_writer *writer, uint64_t *event_id);

/**
 * Frees the handle. Of an event that is not finished, nothing is stored.
 */
void mofka_writer_free(mofka_writer *writer);

/**
 * Opens an event's data at the node, to be read in pieces: what was selected of it, and all of it when nothing was. Does not need
 * the consumer any more.
 */
mofka_status mofka_event_open_data(const mofka_event *event,
                                   mofka_reader **reader);

/**
 * The same of a view of its data, whatever was selected when it was pulled: of `mofka_event_whole`, or a view of that. Nothing is to
 * be read of an empty one. `MOFKA_ERROR_INVALID_VIEW` when it is a view of other data.
 */
mofka_status mofka_event_open_view(const mofka_event *event,
                                   const mofka_descriptor *view,
                                   mofka_reader **reader);

/**
 * Reads the next bytes: as many as there is room for, fewer only at the end. After an error reading goes on where it stopped.
 *
 * `read_bytes`: gets how many these were, also with an error; 0 at the end.
 */
mofka_status mofka_reader_read(const mofka_reader *reader,
                               void *into,
                               size_t room_bytes,
                               size_t *read_bytes);

/**
 * Goes to this byte of what there is to read. Beyond the end there is nothing to read.
 */
mofka_status mofka_reader_seek(const mofka_reader *reader, uint64_t offset);

/**
 * Bytes that there are to read in all.
 */
uint64_t mofka_reader_bytes(const mofka_reader *reader);

/**
 * Frees the handle.
 */
void mofka_reader_free(mofka_reader *reader);

/**
 * Creates a topic.
 *
 * `name`: letters, digits and `._-`, 1 to 200 of them. `options`: NULL for the defaults: synced, one partition, in a log. `topic`:
 * gets the handle of it; may be NULL.
 *
 * `MOFKA_ERROR_TOPIC_EXISTS` when there is one; `MOFKA_ERROR_INVALID_ARGUMENT` when a component's document makes no sense. Nothing
 * is created then.
 */
mofka_status mofka_topic_create(const mofka_driver *driver,
                                const char *name,
                                const mofka_topic_options *options,
                                mofka_topic **topic);

/**
 * Opens a topic. `MOFKA_ERROR_UNKNOWN_TOPIC` when there is none.
 */
mofka_status mofka_topic_open(const mofka_driver *driver, const char *name, mofka_topic **topic);

/**
 * Its name; NULL for NULL. Valid as long as the handle.
 */
const char *mofka_topic_name(const mofka_topic *topic);

/**
 * All about the topic, as of when it was opened or refreshed: a JSON object, with an array `partitions`. The text is yours:
 * `mofka_string_free`.
 */
mofka_status mofka_topic_info(const mofka_topic *topic,
                              char **json);

/**
 * Looks at the topic again: producers see partitions that were added. Consumers see them by themselves.
 */
mofka_status mofka_topic_refresh(const mofka_topic *topic);

/**
 * How many partitions it has. NULL has none.
 */
size_t mofka_topic_partition_count(const mofka_topic *topic);

/**
 * A partition and where it is: a JSON object with `id`, `index`, `type`, `rank`, `shard` and `addresses`. The text is yours:
 * `mofka_string_free`.
 */
mofka_status mofka_topic_partition_info(const mofka_topic *topic,
                                        size_t partition,
                                        char **json);

/**
 * The state of a partition, asked of its node: a JSON object. The text is yours: `mofka_string_free`.
 */
mofka_status mofka_topic_partition_status(const mofka_topic *topic, size_t partition, char **json);

/**
 * Marks the topic complete, durably, or one of its partitions: it takes no more events, and consumers learn when they have all.
 *
 * `partition`: its index; negative: all of the topic.
 */
mofka_status mofka_topic_mark_complete(const mofka_topic *topic,
                                       int64_t partition);

/**
 * Says anew what of the topic's events may go, in place of all that was said before. JSON; NULL: nothing may.
 */
mofka_status mofka_topic_set_retention(const mofka_topic *topic, const char *retention);

/**
 * Returns when all that any producer was acknowledged before is durable, whatever the topic's durability is.
 */
mofka_status mofka_topic_sync(const mofka_topic *topic);

/**
 * Moves a consumer's cursor in one partition, durably, also backwards. Consumers that are at work go on where they are.
 *
 * `to` and `value`: `MOFKA_START_...`, but for the cursor itself. `next_event_id`: gets the next event that it will get; may be
 * NULL.
 */
mofka_status mofka_topic_seek(const mofka_topic *topic,
                              const char *consumer,
                              size_t partition,
                              int32_t to,
                              uint64_t value,
                              uint64_t *next_event_id);

/**
 * Whether the topic's validator, partition selector and serializer can work in this process. Pushing fails if not, and so does
 * making a consumer.
 */
mofka_status mofka_topic_check_components(const mofka_topic *topic);

/**
 * Frees the handle. Nothing happens to the topic.
 */
void mofka_topic_free(mofka_topic *topic);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* MOFKA_H */
