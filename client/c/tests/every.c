/* Every function of the interface at least once, in one life of a topic. */
#include "check.h"
#include <time.h>

#define ALPHABET "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

static int released;

static void count_release(void *context)
{
    __atomic_add_fetch((int *)context, 1, __ATOMIC_SEQ_CST);
}

static int count_of(const int *counter)
{
    return __atomic_load_n(counter, __ATOMIC_SEQ_CST);
}

/* What is released may be released a moment after the call that ends its use. */
static void wait_for_release(const int *counter)
{
    for (int waited = 0; count_of(counter) == 0; waited++) {
        CHECK(waited < 60000);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

static void administration(mofka_driver *driver)
{
    CHECK(strlen(mofka_version()) >= 5);
    CHECK(strcmp(mofka_status_name(MOFKA_ERROR_NO_SPACE), "no_space") == 0);
    CHECK(mofka_driver_node_count(driver) == 1);

    mofka_topic_options options = {
        .size = sizeof options,
        .durability = MOFKA_DURABILITY_WRITTEN,
        .partitions = -1,
        .producers_expected = 2,
        .validator = "{\"type\": \"schema\", \"schema\": {\"type\": \"object\"}}",
        .partition_selector = "{\"type\": \"default\"}",
        .serializer = "{\"type\": \"default\"}",
        .retention = "{\"bytes_max\": 1000000000}",
    };
    mofka_topic *topic = NULL;
    OK(mofka_topic_create(driver, "administered", &options, &topic));
    CHECK(strcmp(mofka_topic_name(topic), "administered") == 0);
    CHECK(mofka_topic_partition_count(topic) == 0);
    OK(mofka_topic_check_components(topic));

    mofka_partition_options partition = {.size = sizeof partition, .has_shard = 1, .config = "{}"};
    char *json = NULL;
    OK(mofka_driver_add_partition(driver, "administered", &partition, &json));
    take_json(json, "\"index\":0");
    partition.kind = MOFKA_PARTITION_MEMORY;
    OK(mofka_driver_add_partition(driver, "administered", &partition, NULL));
    CHECK(mofka_topic_partition_count(topic) == 0);
    OK(mofka_topic_refresh(topic));
    CHECK(mofka_topic_partition_count(topic) == 2);
    OK(mofka_topic_partition_info(topic, 1, &json));
    take_json(json, "\"type\":\"memory\"");
    OK(mofka_topic_partition_status(topic, 0, &json));
    take_json(json, "\"state\":\"open\"");
    OK(mofka_topic_info(topic, &json));
    take_json(json, "\"durability\":\"written\"");
    OK(mofka_topic_set_retention(topic, "{\"age_max_ms\": 5000000}"));
    OK(mofka_topic_info(topic, &json));
    take_json(json, "\"age_max_ms\":5000000");
    OK(mofka_topic_set_retention(topic, NULL));
    OK(mofka_topic_sync(topic));
    OK(mofka_driver_node_status(driver, 0, &json));
    take_json(json, "shards");

    bool exists = false;
    OK(mofka_driver_topic_exists(driver, "administered", &exists));
    CHECK(exists);
    OK(mofka_driver_list_topics(driver, &json));
    take_json(json, "\"name\":\"administered\"");

    for (uint32_t n = 1; n <= 2; n++) {
        mofka_producer_options named = {.size = sizeof named, .name = n == 1 ? "first" : "second"};
        mofka_producer *producer = NULL;
        uint32_t done = 0, expected = 0;
        OK(mofka_producer_create(topic, &named, &producer));
        CHECK(strcmp(mofka_producer_name(producer), named.name) == 0);
        OK(mofka_producer_done(producer, &done, &expected));
        CHECK(done == n && expected == 2);
        mofka_producer_free(producer);
    }
    OK(mofka_topic_refresh(topic));
    OK(mofka_topic_info(topic, &json));
    take_json(json, "\"complete\":true");
    mofka_topic_free(topic);

    OK(mofka_driver_delete_topic(driver, "administered", false));
    OK(mofka_driver_topic_exists(driver, "administered", &exists));
    CHECK(!exists);
}

/* Event 0 copied, 1 owned, 2 without data, 3 a stream. */
static void produce(mofka_driver *driver, mofka_topic *topic)
{
    mofka_thread_pool *pool = NULL;
    OK(mofka_thread_pool_create(2, &pool));
    mofka_producer_options options = {
        .size = sizeof options,
        .name = "every",
        .batch_size = 100,
        .ordering = MOFKA_ORDERING_STRICT,
        .max_num_batches = 4,
        .batch_bytes_max = 1 << 20,
        .shared_bytes_min = 4096,
        .thread_pool = pool,
        .durability = MOFKA_DURABILITY_WRITTEN,
        .delivery_timeout_ms = 200000,
        .batch_idle_timeout_ms = 150000,
        .drop_timeout_ms = 20000,
    };
    mofka_producer *producer = NULL;
    OK(mofka_producer_create(topic, &options, &producer));
    mofka_thread_pool_free(pool);

    mofka_slice cut[3] = {{ALPHABET, 20}, {NULL, 0}, {&ALPHABET[20], 32}};
    mofka_future *first = NULL, *second = NULL, *third = NULL, *flush = NULL;
    OK(mofka_producer_push(producer, "{\"n\": 0}", 8, cut, 3, -1, &first));
    CHECK(!mofka_future_completed(first));
    CHECK(mofka_future_wait(first, 0, NULL) == MOFKA_TIMEOUT || mofka_future_completed(first));
    OK(mofka_producer_push_owned(producer, "{\"n\": 1}", 8, cut, 3, count_release, &released, 0, &second));
    OK(mofka_producer_push_owned(producer, "{\"n\": 2}", 8, NULL, 0, NULL, NULL, 0, &third));
    OK(mofka_producer_flush_start(producer, &flush));
    uint64_t id = 99;
    OK(mofka_future_wait(flush, -1, &id));
    CHECK(id == 0 && mofka_future_completed(flush));
    OK(mofka_future_wait(first, -1, &id));
    CHECK(id == 0);
    /* Again, and without asking for it. */
    OK(mofka_future_wait(first, 0, &id));
    CHECK(id == 0);
    OK(mofka_future_wait(third, -1, NULL));
    OK(mofka_future_wait(second, 5000, &id));
    CHECK(id == 1);
    CHECK(count_of(&released) == 1);
    mofka_future_free(first);
    mofka_future_free(second);
    mofka_future_free(third);
    mofka_future_free(flush);

    mofka_writer *writer = NULL;
    OK(mofka_producer_push_stream(producer, "{\"n\": 3}", 8, 0, &writer));
    for (int i = 0; i < 1000; i++)
        OK(mofka_writer_write(writer, ALPHABET, 52));
    CHECK(mofka_writer_bytes(writer) == 52000);
    OK(mofka_writer_finish(writer, &id));
    CHECK(id == 3 && mofka_writer_bytes(writer) == 0);
    FAILS(mofka_writer_finish(writer, &id), MOFKA_ERROR_CLOSED, "finished");
    FAILS(mofka_writer_write(writer, "x", 1), MOFKA_ERROR_CLOSED, "finished");
    mofka_writer_free(writer);
    /* One that is given up leaves nothing. */
    OK(mofka_producer_push_stream(producer, NULL, 0, 0, &writer));
    OK(mofka_writer_write(writer, ALPHABET, 52));
    mofka_writer_free(writer);

    OK(mofka_producer_flush(producer, -1));
    mofka_producer_stats stats = {.size = sizeof stats};
    OK(mofka_producer_get_stats(producer, &stats));
    CHECK(stats.size == sizeof stats && stats.events == 4 && stats.acknowledged == 4 && stats.failed == 0);
    mofka_producer_report report = {.size = sizeof report};
    char *failures = NULL;
    OK(mofka_producer_close(producer, &report, &failures));
    CHECK(report.pushed == 4 && report.acknowledged == 4 && report.failed + report.may_be_stored == 0);
    take_json(failures, "{}");
    FAILS(mofka_producer_push(producer, NULL, 0, NULL, 0, 0, NULL), MOFKA_ERROR_CLOSED, "closed");
    CHECK(strcmp(mofka_last_error_reason(), "closed") == 0 && !mofka_last_error_may_be_stored());
    mofka_producer_free(producer);

    /* A loose one, in the driver's pool. */
    OK(mofka_driver_default_thread_pool(driver, &pool));
    CHECK(mofka_thread_pool_thread_count(pool) > 0);
    mofka_producer_options loose = {.size = sizeof loose, .ordering = MOFKA_ORDERING_LOOSE, .thread_pool = pool};
    OK(mofka_producer_create(topic, &loose, &producer));
    OK(mofka_producer_push(producer, "{\"n\": 4}", 8, cut, 1, 0, &first));
    OK(mofka_future_wait(first, -1, &id));
    CHECK(id == 4);
    mofka_future_free(first);
    mofka_producer_free(producer);
    mofka_thread_pool_free(pool);
}

static void descriptors(void)
{
    mofka_descriptor *whole = NULL, *view = NULL, *deeper = NULL, *copy = NULL;
    OK(mofka_descriptor_create("place", 5, 52, &whole));
    CHECK(mofka_descriptor_bytes(whole) == 52 && is_text(mofka_descriptor_location(whole), "place"));
    OK(mofka_descriptor_sub_view(whole, 10, 100, &view));
    CHECK(mofka_descriptor_bytes(view) == 42 && mofka_descriptor_base_bytes(view) == 52);
    OK(mofka_descriptor_strided_view(view, 3, 3, 4, 2, &deeper));
    mofka_range ranges[4];
    size_t count = 0;
    OK(mofka_descriptor_flatten(deeper, ranges, 2, &count));
    CHECK(count == 3 && ranges[0].offset == 13 && ranges[1].offset == 19 && ranges[1].bytes == 4);
    FAILS(mofka_descriptor_strided_view(view, 0, 100, 4, 2, &copy), MOFKA_ERROR_INVALID_VIEW, "out of bounds");
    CHECK(copy == NULL);
    mofka_descriptor_free(view);

    mofka_range wanted[2] = {{0, 2}, {3, 1}};
    OK(mofka_descriptor_unstructured_view(deeper, wanted, 2, &view));
    CHECK(mofka_descriptor_bytes(view) == 3);
    FAILS(mofka_descriptor_unstructured_view(deeper, (mofka_range[]){{3, 1}, {0, 2}}, 2, &copy),
          MOFKA_ERROR_INVALID_VIEW, "out of order");

    unsigned char bytes[512];
    OK(mofka_descriptor_serialize(view, NULL, 0, &count));
    CHECK(count > 32 && count < sizeof bytes);
    OK(mofka_descriptor_serialize(view, bytes, sizeof bytes, &count));
    OK(mofka_descriptor_deserialize(bytes, count, &copy));
    CHECK(mofka_descriptor_bytes(copy) == 3 && is_text(mofka_descriptor_location(copy), "place"));
    mofka_descriptor_free(copy);
    FAILS(mofka_descriptor_deserialize(bytes, count - 1, &copy), MOFKA_ERROR_INVALID_ARGUMENT, "ends early");
    copy = mofka_descriptor_clone(view);
    CHECK(mofka_descriptor_bytes(copy) == 3);
    mofka_descriptor_free(copy);
    mofka_descriptor_free(view);
    mofka_descriptor_free(deeper);
    mofka_descriptor_free(whole);
}

static int32_t select_middle(void *context, const char *metadata, size_t metadata_bytes,
                             const mofka_descriptor *whole, mofka_descriptor **selected)
{
    count_release(context);
    CHECK(*selected == NULL && metadata_bytes == 8 && metadata[0] == '{');
    switch (metadata[6]) {
    case '0':
        OK(mofka_descriptor_strided_view(whole, 13, 3, 4, 2, selected));
        return 0;
    case '1':
        mofka_callback_fail("event 1 is not wanted here");
        return 7;
    case '3':
        OK(mofka_descriptor_sub_view(whole, 51999, 1, selected));
        return 0;
    default:
        return 0;
    }
}

struct memory {
    int allocated, freed;
};

struct buffer {
    struct memory *memory;
    char bytes[12];
};

static void free_buffer(void *context)
{
    struct buffer *buffer = context;
    count_release(&buffer->memory->freed);
    free(buffer);
}

static int32_t allocate_in_two(void *context, const char *metadata, size_t metadata_bytes,
                               const mofka_descriptor *selected, mofka_allocation *allocation)
{
    (void)metadata;
    (void)metadata_bytes;
    struct buffer *buffer = malloc(sizeof *buffer);
    buffer->memory = context;
    count_release(&buffer->memory->allocated);
    OK(mofka_allocation_on_release(allocation, free_buffer, buffer));
    uint64_t bytes = mofka_descriptor_bytes(selected);
    CHECK(bytes <= 12);
    OK(mofka_allocation_add(allocation, buffer->bytes, bytes > 5 ? 5 : bytes));
    if (bytes > 5)
        OK(mofka_allocation_add(allocation, buffer->bytes + 5, bytes - 5));
    return 0;
}

static void consume_with_callbacks(mofka_driver *driver, mofka_topic *topic)
{
    int selected = 0, gone = 0;
    /* Events that were not pulled may be released later still. */
    static struct memory memory;
    size_t targets[1] = {0};
    mofka_thread_pool *pool = NULL;
    OK(mofka_thread_pool_create(1, &pool));
    mofka_consumer_options options = {
        .size = sizeof options,
        .batch_size = 10,
        .batch_bytes_max = 1 << 20,
        .max_num_batches = 3,
        .targets = targets,
        .target_count = 1,
        .data = MOFKA_DATA_SELECTOR,
        .start = MOFKA_START_ID,
        .start_value = 0,
        .data_selector = select_middle,
        .data_selector_context = &selected,
        .data_allocator = allocate_in_two,
        .data_allocator_context = &memory,
        .release = count_release,
        .release_context = &gone,
        .data_bytes_max = 1000,
        .thread_pool = pool,
    };
    mofka_consumer *consumer = NULL;
    OK(mofka_consumer_create(topic, "chooser", &options, &consumer));
    mofka_thread_pool_free(pool);
    CHECK(strcmp(mofka_consumer_name(consumer), "chooser") == 0);
    size_t partitions[2] = {7, 7}, count = 0;
    OK(mofka_consumer_partitions(consumer, partitions, 2, &count));
    CHECK(count == 1 && partitions[0] == 0 && partitions[1] == 7);

    mofka_event_future *future = NULL;
    mofka_event *event = NULL, *again = NULL;
    OK(mofka_consumer_pull(consumer, &future));
    OK(mofka_event_future_wait(future, -1, &event));
    OK(mofka_event_future_wait(future, 0, &again));
    CHECK(mofka_event_future_completed(future) && mofka_event_id(again) == 0);
    mofka_event_free(again);
    mofka_event_future_free(future);
    again = mofka_event_clone(event);
    mofka_event_free(event);
    event = again;
    CHECK(mofka_event_id(event) == 0 && mofka_event_partition(event) == 0);
    CHECK(mofka_event_timestamp_us(event) > 1600000000000000);
    CHECK(is_text(mofka_event_metadata(event), "{\"n\": 0}"));
    CHECK(mofka_event_data_bytes(event) == 12 && mofka_event_stored_bytes(event) == 52);
    CHECK(mofka_event_data_segment_count(event) == 2);
    CHECK(is_text(mofka_event_data_segment(event, 0), "nopqt") &&
          is_text(mofka_event_data_segment(event, 1), "uvwzABC") && mofka_event_data_segment(event, 2).bytes == 0);
    char copied[16] = "";
    CHECK(mofka_event_data_copy(event, 3, copied, 4) == 4 && memcmp(copied, "qtuv", 4) == 0);
    CHECK(mofka_event_data_copy(event, 10, copied, 16) == 2 && mofka_event_data_copy(event, 99, copied, 16) == 0);
    mofka_descriptor *descriptor = mofka_event_descriptor(event);
    CHECK(mofka_descriptor_bytes(descriptor) == 12);
    mofka_descriptor_free(descriptor);

    mofka_event *refused = NULL;
    FAILS(mofka_consumer_next(consumer, -1, &refused), MOFKA_ERROR_CALLBACK, "event 1 is not wanted here");
    CHECK(refused == NULL);
    mofka_event *empty = NULL, *streamed = NULL;
    OK(mofka_consumer_next(consumer, -1, &empty));
    CHECK(mofka_event_id(empty) == 2 && mofka_event_data_bytes(empty) == 0);
    OK(mofka_consumer_next(consumer, -1, &streamed));
    CHECK(mofka_event_id(streamed) == 3 && mofka_event_stored_bytes(streamed) == 52000);

    /* All data of event 2, of which nothing was selected: none; what was selected of event 3: its last byte. */
    mofka_reader *reader = NULL;
    OK(mofka_event_open_data(streamed, &reader));
    CHECK(mofka_reader_bytes(reader) == 1);
    mofka_reader_free(reader);
    OK(mofka_event_open_data(empty, &reader));
    size_t read = 9;
    OK(mofka_reader_read(reader, copied, 16, &read));
    CHECK(read == 0);
    mofka_reader_free(reader);

    mofka_consumer_stats stats = {.size = sizeof stats};
    OK(mofka_consumer_get_stats(consumer, &stats));
    CHECK(stats.events >= 4 && stats.feeds >= 1 && stats.fetched_bytes >= 12 && stats.missed == 0);

    OK(mofka_event_acknowledge(empty));
    mofka_future *acknowledged = NULL;
    OK(mofka_event_acknowledge_start(streamed, &acknowledged));
    OK(mofka_future_wait(acknowledged, -1, NULL));
    mofka_future_free(acknowledged);
    OK(mofka_event_acknowledge_start(streamed, NULL));
    char *json = NULL;
    OK(mofka_driver_list_consumers(driver, "every", &json));
    take_json(json, "\"chooser\"");

    OK(mofka_consumer_seek(consumer, 0, MOFKA_START_ID, 2));
    mofka_event *sought = NULL;
    OK(mofka_consumer_next(consumer, -1, &sought));
    CHECK(mofka_event_id(sought) == 2);
    mofka_event_free(sought);

    OK(mofka_consumer_close(consumer));
    FAILS(mofka_consumer_next(consumer, -1, &sought), MOFKA_ERROR_CLOSED, "closed");
    mofka_consumer_free(consumer);
    mofka_event_free(empty);
    mofka_event_free(streamed);
    /* The consumer is gone, and its event stays. */
    CHECK(is_text(mofka_event_data_segment(event, 0), "nopqt"));
    int freed = count_of(&memory.freed);
    mofka_event_free(event);
    CHECK(count_of(&memory.freed) >= freed && count_of(&selected) >= 4 && count_of(&memory.allocated) >= 3);
    wait_for_release(&gone);
}

static void consume_declared(mofka_topic *topic)
{
    mofka_consumer_options options = {
        .size = sizeof options,
        .data = MOFKA_DATA_VIEWS,
        .data_views = "[{\"sub\": {\"offset\": 13, \"bytes\": 26}}, {\"sub\": {\"offset\": 1, \"bytes\": 3}}]",
        .filter = "{\"n\": [0, 2]}",
    };
    mofka_consumer *consumer = NULL;
    OK(mofka_consumer_create(topic, "viewer", &options, &consumer));
    mofka_event *event = NULL;
    OK(mofka_consumer_next(consumer, -1, &event));
    CHECK(mofka_event_id(event) == 0 && mofka_event_data_segment_count(event) == 1);
    CHECK(is_text(mofka_event_data_segment(event, 0), "opq"));
    mofka_event_free(event);
    OK(mofka_consumer_next(consumer, -1, &event));
    CHECK(mofka_event_id(event) == 2);
    mofka_event_free(event);
    CHECK(mofka_consumer_next(consumer, 0, &event) == MOFKA_TIMEOUT && event == NULL);
    mofka_consumer_free(consumer);

    /* Nothing is selected, and the whole is read in pieces. */
    mofka_consumer_options from = {.size = sizeof from, .start = MOFKA_START_ID, .start_value = 3};
    OK(mofka_consumer_create(topic, "reader", &from, &consumer));
    OK(mofka_consumer_next(consumer, -1, &event));
    mofka_reader *reader = NULL;
    OK(mofka_event_open_data(event, &reader));

    /* A part of it, although nothing was selected. */
    mofka_descriptor *whole = mofka_event_whole(event), *part = NULL, *nothing = NULL, *other = NULL;
    CHECK(mofka_descriptor_bytes(whole) == 52000 && mofka_event_whole(NULL) == NULL);
    OK(mofka_descriptor_sub_view(whole, 51960, 10, &part));
    OK(mofka_descriptor_sub_view(whole, 0, 0, &nothing));
    OK(mofka_descriptor_create("elsewhere", 9, 52000, &other));
    mofka_reader *viewed = NULL;
    char ten[100];
    size_t count = 0;
    FAILS(mofka_event_open_view(event, other, &viewed), MOFKA_ERROR_INVALID_VIEW, "event 3");
    CHECK(viewed == NULL);
    OK(mofka_event_open_view(event, part, &viewed));
    OK(mofka_reader_read(viewed, ten, sizeof ten, &count));
    CHECK(count == 10 && memcmp(ten, &ALPHABET[12], 10) == 0);
    mofka_reader_free(viewed);
    OK(mofka_event_open_view(event, nothing, &viewed));
    CHECK(mofka_reader_bytes(viewed) == 0);
    mofka_reader_free(viewed);
    mofka_descriptor_free(whole);
    mofka_descriptor_free(part);
    mofka_descriptor_free(nothing);
    mofka_descriptor_free(other);
    mofka_event_free(event);
    mofka_consumer_free(consumer);
    CHECK(mofka_reader_bytes(reader) == 52000);
    char piece[100];
    size_t read = 0;
    OK(mofka_reader_seek(reader, 51950));
    OK(mofka_reader_read(reader, piece, sizeof piece, &read));
    CHECK(read == 50 && memcmp(piece, &ALPHABET[2], 50) == 0);
    OK(mofka_reader_read(reader, piece, sizeof piece, &read));
    CHECK(read == 0);
    mofka_reader_free(reader);
}

struct read_now {
    int32_t last;
    size_t partitions;
};

static void note_partitions(void *context, int32_t change, const size_t *partitions, size_t partition_count)
{
    struct read_now *now = context;
    CHECK(partition_count == 1 && partitions[0] == 0);
    now->last = change;
    now->partitions += change == MOFKA_ASSIGNED ? partition_count : 0;
}

/* Events of another topic have the data of event 0, whole and in part. */
static void refer(mofka_driver *driver, mofka_topic *topic)
{
    mofka_topic *derived = NULL;
    mofka_producer *producer = NULL;
    mofka_consumer *consumer = NULL;
    mofka_event *event = NULL;
    mofka_data_ref *whole = NULL, *part = NULL, *made = NULL;
    mofka_descriptor *descriptor = NULL;
    OK(mofka_consumer_create(topic, "refers", NULL, &consumer));
    OK(mofka_consumer_next(consumer, -1, &event));
    CHECK(!mofka_event_is_reference(event));
    OK(mofka_event_data_ref(event, &whole));
    OK(mofka_data_ref_view(whole, "[{\"sub\": {\"offset\": 3, \"bytes\": 4}}]", &part));
    OK(mofka_descriptor_create("\0\0\0\0\0\0\0\0", 8, 52, &descriptor));
    OK(mofka_data_ref_create(topic, 0, descriptor, &made));
    CHECK(mofka_data_ref_bytes(whole) == 52 && mofka_data_ref_bytes(part) == 4 && mofka_data_ref_bytes(made) == 52);
    FAILS(mofka_data_ref_view(whole, "{", &(mofka_data_ref *){NULL}), MOFKA_ERROR_INVALID_ARGUMENT, "views");
    mofka_descriptor_free(descriptor);
    mofka_event_free(event);
    mofka_consumer_free(consumer);

    OK(mofka_topic_create(driver, "derived", NULL, &derived));
    OK(mofka_producer_create(derived, NULL, &producer));
    OK(mofka_producer_push_ref(producer, "{}", 2, whole, -1, NULL));
    OK(mofka_producer_push_ref(producer, "{}", 2, part, -1, NULL));
    OK(mofka_producer_push_ref(producer, "{}", 2, made, -1, NULL));
    mofka_producer_report report = {.size = sizeof report};
    OK(mofka_producer_close(producer, &report, NULL));
    CHECK(report.acknowledged == 3);
    mofka_producer_free(producer);
    mofka_data_ref_free(whole);
    mofka_data_ref_free(part);
    mofka_data_ref_free(made);

    struct read_now now = {0, 0};
    int gone = 0;
    mofka_consumer_options options = {
        .size = sizeof options,
        .data = MOFKA_DATA_ALL,
        .on_assignment = note_partitions,
        .on_assignment_context = &now,
        .release = count_release,
        .release_context = &gone,
    };
    const char *data[3] = {ALPHABET, "defg", ALPHABET};
    OK(mofka_consumer_create(derived, "derived", &options, &consumer));
    CHECK(now.partitions == 1 && now.last == MOFKA_ASSIGNED);
    for (int i = 0; i < 3; i++) {
        OK(mofka_consumer_next(consumer, -1, &event));
        CHECK(mofka_event_is_reference(event) && is_text(mofka_event_data_segment(event, 0), data[i]));
        mofka_event_free(event);
    }
    OK(mofka_consumer_close(consumer));
    CHECK(now.last == MOFKA_WITHDRAWN);
    mofka_consumer_free(consumer);
    wait_for_release(&gone);
    mofka_topic_free(derived);
    FAILS(mofka_driver_delete_topic(driver, "every", false), MOFKA_ERROR_REFUSED, "derived");
    CHECK(strcmp(mofka_last_error_reason(), "referenced") == 0);
    OK(mofka_driver_delete_topic(driver, "derived", false));
}

struct seen {
    int events, failures;
};

static int32_t look(void *context, mofka_status status, const mofka_event *event)
{
    struct seen *seen = context;
    if (status != MOFKA_OK) {
        CHECK(event == NULL && status == MOFKA_TIMEOUT);
        return 0;
    }
    seen->events++;
    if (mofka_event_id(event) == 1) {
        mofka_callback_fail("event 1 is odd");
        return -1;
    }
    return mofka_event_id(event) == 3;
}

static void process(mofka_topic *topic)
{
    mofka_consumer *consumer = NULL;
    OK(mofka_consumer_create(topic, "processor", NULL, &consumer));
    struct seen seen = {0, 0};
    mofka_process_options options = {.size = sizeof options, .timeout_ms = -1};
    mofka_process_report report = {.size = sizeof report};
    char *failure = NULL;
    OK(mofka_consumer_process(consumer, look, &seen, &options, &report, &failure));
    CHECK(report.end == MOFKA_PROCESS_STOPPED && report.events == 4 && report.failed == 1 && seen.events == 4);
    take_json(failure, "event 1 is odd");
    options.max_events = 1;
    OK(mofka_consumer_process(consumer, look, &seen, &options, &report, &failure));
    CHECK(report.end == MOFKA_PROCESS_COUNTED && report.handed_over == 1 && failure == NULL);
    mofka_consumer_free(consumer);
}

static void end(mofka_topic *topic)
{
    uint64_t next = 0;
    OK(mofka_topic_seek(topic, "latecomer", 0, MOFKA_START_ID, 4, &next));
    CHECK(next == 4);
    OK(mofka_topic_mark_complete(topic, 0));
    OK(mofka_topic_mark_complete(topic, -1));
    mofka_consumer *consumer = NULL;
    OK(mofka_consumer_create(topic, "latecomer", NULL, &consumer));
    mofka_event *event = NULL;
    OK(mofka_consumer_next(consumer, -1, &event));
    CHECK(mofka_event_id(event) == 4);
    mofka_event_free(event);
    CHECK(mofka_consumer_next(consumer, -1, &event) == MOFKA_NO_MORE_EVENTS && event == NULL);
    CHECK(mofka_consumer_next(consumer, -1, &event) == MOFKA_NO_MORE_EVENTS);
    mofka_process_report report = {.size = sizeof report};
    struct seen seen = {0, 0};
    OK(mofka_consumer_process(consumer, look, &seen, NULL, &report, NULL));
    CHECK(report.end == MOFKA_PROCESS_NO_MORE_EVENTS && seen.events == 0);
    mofka_consumer_free(consumer);

    mofka_producer *producer = NULL;
    OK(mofka_producer_create(topic, NULL, &producer));
    mofka_future *future = NULL;
    OK(mofka_producer_push(producer, NULL, 0, NULL, 0, -1, &future));
    FAILS(mofka_future_wait(future, -1, NULL), MOFKA_ERROR_TOPIC_COMPLETE, "complete");
    CHECK(strcmp(mofka_last_error_reason(), "topic_complete") == 0);
    mofka_future_free(future);
    char *failures = NULL;
    OK(mofka_producer_close(producer, NULL, &failures));
    take_json(failures, "{\"topic_complete\":1}");
    mofka_producer_free(producer);
}

/* Large data is sent from where it is, and released some time after it was acknowledged. */
static void large(mofka_driver *driver)
{
    enum { BYTES = 1 << 20 };
    mofka_topic *topic = NULL;
    mofka_producer *producer = NULL;
    mofka_consumer *consumer = NULL;
    mofka_event *event = NULL;
    mofka_future *future = NULL;
    OK(mofka_topic_create(driver, "large", NULL, &topic));
    OK(mofka_producer_create(topic, NULL, &producer));
    unsigned char *bytes = malloc(BYTES);
    for (int i = 0; i < BYTES; i++)
        bytes[i] = (unsigned char)(i * 7);
    int gone = 0;
    mofka_slice parts[2] = {{bytes, 300000}, {bytes + 300000, BYTES - 300000}};
    OK(mofka_producer_push_owned(producer, NULL, 0, parts, 2, count_release, &gone, -1, &future));
    OK(mofka_future_wait(future, -1, NULL));
    mofka_future_free(future);
    mofka_producer_free(producer);
    wait_for_release(&gone);
    mofka_consumer_options all = {.size = sizeof all, .data = MOFKA_DATA_ALL};
    OK(mofka_consumer_create(topic, "large", &all, &consumer));
    OK(mofka_consumer_next(consumer, -1, &event));
    CHECK(mofka_event_data_bytes(event) == BYTES && is_text(mofka_event_metadata(event), "{}"));
    unsigned char *copy = malloc(BYTES);
    CHECK(mofka_event_data_copy(event, 0, copy, BYTES) == BYTES && memcmp(copy, bytes, BYTES) == 0);
    free(copy);
    mofka_event_free(event);
    mofka_consumer_free(consumer);
    mofka_topic_free(topic);
    CHECK(count_of(&gone) == 1);
    free(bytes);
}

static void run_task(void *context)
{
    count_release(context);
}

static void pools(void)
{
    int ran = 0;
    mofka_thread_pool *pool = NULL;
    OK(mofka_thread_pool_create(0, &pool));
    OK(mofka_thread_pool_push(pool, run_task, &ran, 5));
    CHECK(ran == 1 && mofka_thread_pool_size(pool) == 0 && mofka_thread_pool_thread_count(pool) == 0);
    mofka_thread_pool_free(pool);
    OK(mofka_thread_pool_create(3, &pool));
    for (int i = 0; i < 1000; i++)
        OK(mofka_thread_pool_push(pool, run_task, &ran, UINT64_MAX));
    /* Waits for all of them. */
    mofka_thread_pool_free(pool);
    CHECK(count_of(&ran) == 1001);
    FAILS(mofka_thread_pool_create(100000, &pool), MOFKA_ERROR_THREADS, "100000");
}

int main(int argc, char **argv)
{
    const char *group_file = argc > 1 ? argv[1] : "mofka.json";
    mofka_driver_options options = {
        .size = sizeof options,
        .client_name = "every.c",
        .library_path = "",
        .ring_slots = 256,
        .ring_bytes = 4 << 20,
        .connect_timeout_ms = 10000,
        .reconnect_timeout_ms = 30000,
        .fetch_timeout_ms = 30000,
    };
    mofka_driver *driver = NULL;
    OK(mofka_driver_connect(group_file, &options, &driver));
    administration(driver);
    mofka_topic *topic = NULL;
    OK(mofka_topic_create(driver, "every", NULL, NULL));
    OK(mofka_topic_open(driver, "every", &topic));
    produce(driver, topic);
    descriptors();
    consume_with_callbacks(driver, topic);
    consume_declared(topic);
    refer(driver, topic);
    process(topic);
    end(topic);
    large(driver);
    pools();
    OK(mofka_driver_shutdown_node(driver, 0));
    mofka_topic_free(topic);
    mofka_driver_free(driver);
    printf("done\n");
    return 0;
}
