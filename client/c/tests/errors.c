/* What is wrong is told, and does no harm. */
#include "check.h"

static void nothing_where_something_is_needed(mofka_driver *driver, mofka_topic *topic, mofka_producer *producer)
{
    const int invalid = MOFKA_ERROR_INVALID_ARGUMENT;
    mofka_driver *no_driver = (mofka_driver *)1;
    FAILS(mofka_driver_connect(NULL, NULL, &no_driver), invalid, "group_file");
    CHECK(no_driver == NULL);
    FAILS(mofka_driver_connect("mofka.json", NULL, NULL), invalid, "driver is NULL");
    bool exists;
    FAILS(mofka_driver_topic_exists(NULL, "x", &exists), invalid, "driver is NULL");
    FAILS(mofka_driver_topic_exists(driver, NULL, &exists), invalid, "name is NULL");
    FAILS(mofka_driver_topic_exists(driver, "x", NULL), invalid, "exists is NULL");
    FAILS(mofka_driver_list_topics(driver, NULL), invalid, "json is NULL");
    FAILS(mofka_driver_delete_topic(driver, NULL, false), invalid, "name is NULL");
    FAILS(mofka_driver_add_partition(driver, NULL, NULL, NULL), invalid, "topic is NULL");
    FAILS(mofka_topic_create(driver, NULL, NULL, NULL), invalid, "name is NULL");
    FAILS(mofka_topic_open(driver, "x", NULL), invalid, "topic is NULL");
    FAILS(mofka_topic_refresh(NULL), invalid, "topic is NULL");
    mofka_producer *made = (mofka_producer *)1;
    FAILS(mofka_producer_create(NULL, NULL, &made), invalid, "topic is NULL");
    CHECK(made == NULL);
    FAILS(mofka_producer_push(NULL, NULL, 0, NULL, 0, -1, NULL), invalid, "producer is NULL");
    FAILS(mofka_producer_push(producer, NULL, 2, NULL, 0, -1, NULL), invalid, "metadata is NULL");
    FAILS(mofka_producer_push(producer, "{}", 2, NULL, 1, -1, NULL), invalid, "segments is NULL");
    mofka_slice hole = {NULL, 3}, endless = {"x", SIZE_MAX};
    FAILS(mofka_producer_push(producer, "{}", 2, &hole, 1, -1, NULL), invalid, "NULL");
    FAILS(mofka_producer_push(producer, "{}", 2, &endless, 1, -1, NULL), invalid, "more than memory");
    FAILS(mofka_producer_flush(NULL, -1), invalid, "producer is NULL");
    FAILS(mofka_producer_flush_start(producer, NULL), invalid, "future is NULL");
    FAILS(mofka_producer_get_stats(producer, NULL), invalid, "mofka_producer_stats is NULL");
    FAILS(mofka_future_wait(NULL, -1, NULL), invalid, "future is NULL");
    FAILS(mofka_consumer_create(topic, NULL, NULL, NULL), invalid, "consumer is NULL");
    mofka_consumer *consumer = NULL;
    FAILS(mofka_consumer_create(topic, NULL, NULL, &consumer), invalid, "name is NULL");
    FAILS(mofka_consumer_pull(NULL, NULL), invalid, "future is NULL");
    mofka_event *event = NULL;
    FAILS(mofka_consumer_next(NULL, 0, &event), invalid, "consumer is NULL");
    FAILS(mofka_consumer_process(NULL, NULL, NULL, NULL, NULL, NULL), invalid, "processor is NULL");
    FAILS(mofka_event_future_wait(NULL, 0, &event), invalid, "future is NULL");
    FAILS(mofka_event_acknowledge(NULL), invalid, "event is NULL");
    FAILS(mofka_event_open_data(NULL, NULL), invalid, "reader is NULL");
    FAILS(mofka_writer_write(NULL, NULL, 0), invalid, "writer is NULL");
    FAILS(mofka_thread_pool_push(NULL, NULL, NULL, 0), invalid, "pool is NULL");
    FAILS(mofka_allocation_add(NULL, NULL, 0), invalid, "allocation is NULL");
    FAILS(mofka_event_data_ref(NULL, NULL), invalid, "reference is NULL");
    FAILS(mofka_producer_push_ref(producer, "{}", 2, NULL, -1, NULL), invalid, "reference is NULL");
    FAILS(mofka_descriptor_flatten(NULL, NULL, 0, NULL), invalid, "range_count is NULL");
    mofka_in_place *in_place = (mofka_in_place *)1;
    FAILS(mofka_producer_claim(NULL, NULL, 0, 1, -1, &in_place), invalid, "producer is NULL");
    CHECK(in_place == NULL);
    FAILS(mofka_producer_claim(producer, NULL, 2, 1, -1, &in_place), invalid, "metadata is NULL");
    FAILS(mofka_producer_claim(producer, "{}", 2, 1, -1, NULL), invalid, "in_place is NULL");
    FAILS(mofka_in_place_write(NULL, 0, "x", 1), invalid, "in_place is NULL");
    FAILS(mofka_in_place_shorten(NULL, 0), invalid, "in_place is NULL");
    FAILS(mofka_in_place_commit(NULL, NULL), invalid, "in_place is NULL");

    /* Functions that return no status, and those that free. */
    CHECK(mofka_driver_node_count(NULL) == 0 && mofka_topic_partition_count(NULL) == 0);
    CHECK(mofka_topic_name(NULL) == NULL && mofka_producer_name(NULL) == NULL && mofka_consumer_name(NULL) == NULL);
    CHECK(mofka_future_completed(NULL) && mofka_event_future_completed(NULL));
    CHECK(mofka_event_id(NULL) == UINT64_MAX && mofka_event_metadata(NULL).bytes == 0);
    CHECK(mofka_event_data_copy(NULL, 0, NULL, 0) == 0 && mofka_event_clone(NULL) == NULL);
    CHECK(mofka_event_descriptor(NULL) == NULL && mofka_descriptor_clone(NULL) == NULL);
    CHECK(mofka_descriptor_bytes(NULL) == 0 && mofka_descriptor_location(NULL).bytes == 0);
    CHECK(mofka_in_place_data(NULL) == NULL && mofka_in_place_bytes(NULL) == 0 && !mofka_in_place_is_shared(NULL));
    mofka_callback_fail(NULL);
    mofka_driver_free(NULL);
    mofka_topic_free(NULL);
    mofka_producer_free(NULL);
    mofka_consumer_free(NULL);
    mofka_event_free(NULL);
    mofka_event_future_free(NULL);
    mofka_future_free(NULL);
    mofka_writer_free(NULL);
    mofka_reader_free(NULL);
    mofka_descriptor_free(NULL);
    mofka_thread_pool_free(NULL);
    mofka_data_ref_free(NULL);
    mofka_in_place_free(NULL);
    mofka_string_free(NULL);
}

static void options_that_make_no_sense(mofka_driver *driver, mofka_topic *topic)
{
    const int invalid = MOFKA_ERROR_INVALID_ARGUMENT;
    mofka_producer *producer = NULL;
    mofka_producer_options forgotten = {.batch_size = 5};
    FAILS(mofka_producer_create(topic, &forgotten, &producer), invalid, "mofka_producer_options.size is 0");
    struct {
        mofka_producer_options known;
        uint64_t later;
    } newer = {.known = {.size = sizeof newer}, .later = 1};
    FAILS(mofka_producer_create(topic, &newer.known, &producer), invalid, "a later one");
    newer.later = 0;
    OK(mofka_producer_create(topic, &newer.known, &producer));
    mofka_producer_free(producer);
    mofka_producer_options disordered = {.size = sizeof disordered, .ordering = 2};
    FAILS(mofka_producer_create(topic, &disordered, &producer), invalid, "ordering is 2");
    mofka_producer_options undurable = {.size = sizeof undurable, .durability = 9};
    FAILS(mofka_producer_create(topic, &undurable, &producer), invalid, "durability is 9");
    mofka_producer_options early = {.size = sizeof early, .delivery_timeout_ms = -4};
    FAILS(mofka_producer_create(topic, &early, &producer), invalid, "delivery_timeout_ms is -4");

    mofka_topic_options badly = {.size = sizeof badly, .validator = "{"};
    FAILS(mofka_topic_create(driver, "badly", &badly, NULL), invalid, "validator is not JSON");
    badly.validator = "{\"type\": \"schema\"}";
    FAILS(mofka_topic_create(driver, "badly", &badly, NULL), invalid, "schema");
    badly.validator = NULL;
    badly.retention = "{\"bytes\": 1}";
    FAILS(mofka_topic_create(driver, "badly", &badly, NULL), invalid, "retention");
    FAILS(mofka_topic_create(driver, "no/slash", NULL, NULL), invalid, "name");
    FAILS(mofka_topic_create(driver, "\xff", NULL, NULL), invalid, "UTF-8");

    mofka_consumer *consumer = NULL;
    mofka_consumer_options odd = {.size = sizeof odd, .data = 12};
    FAILS(mofka_consumer_create(topic, "odd", &odd, &consumer), invalid, "data is 12");
    odd.data = MOFKA_DATA_SELECTOR;
    FAILS(mofka_consumer_create(topic, "odd", &odd, &consumer), invalid, "data_selector is NULL");
    odd.data = MOFKA_DATA_VIEWS;
    FAILS(mofka_consumer_create(topic, "odd", &odd, &consumer), invalid, "data_views is NULL");
    odd.data_views = "{}";
    FAILS(mofka_consumer_create(topic, "odd", &odd, &consumer), invalid, "data_views");
    odd.data = MOFKA_DATA_ALL;
    odd.start = -1;
    FAILS(mofka_consumer_create(topic, "odd", &odd, &consumer), invalid, "start is -1");
    odd.start = 0;
    odd.filter = "[1]";
    FAILS(mofka_consumer_create(topic, "odd", &odd, &consumer), invalid, "filter");
    size_t nowhere = 17;
    mofka_consumer_options beyond = {.size = sizeof beyond, .targets = &nowhere, .target_count = 1};
    FAILS(mofka_consumer_create(topic, "odd", &beyond, &consumer), MOFKA_ERROR_NO_PARTITION, "17");
    CHECK(consumer == NULL);
}

static void count_release(void *context)
{
    ++*(int *)context;
}

int main(int argc, char **argv)
{
    CHECK(strcmp(mofka_last_error_message(), "") == 0);
    mofka_driver *driver = NULL;
    FAILS(mofka_driver_connect("missing.json", NULL, &driver), MOFKA_ERROR_GROUP_FILE, "missing.json");
    const char *addresses[] = {"carrier-pigeon://x"};
    mofka_driver_options options = {.size = sizeof options, .addresses = addresses, .address_count = 1};
    FAILS(mofka_driver_connect(NULL, &options, &driver), MOFKA_ERROR_INVALID_ARGUMENT, "carrier-pigeon");
    addresses[0] = "unix:///nonexistent/socket";
    FAILS(mofka_driver_connect(NULL, &options, &driver), MOFKA_ERROR_UNREACHABLE, "/nonexistent/socket");
    CHECK(driver == NULL && strcmp(mofka_last_error_reason(), "unreachable") == 0);

    OK(mofka_driver_connect(argc > 1 ? argv[1] : "mofka.json", NULL, &driver));
    mofka_topic_options strict = {
        .size = sizeof strict,
        .validator = "{\"type\": \"schema\", \"schema\": {\"type\": \"object\", \"required\": [\"x\"]}}",
    };
    mofka_topic *topic = NULL;
    OK(mofka_topic_create(driver, "errors", &strict, &topic));
    FAILS(mofka_topic_create(driver, "errors", NULL, NULL), MOFKA_ERROR_TOPIC_EXISTS, "errors");
    CHECK(strcmp(mofka_last_error_reason(), "topic_exists") == 0);
    mofka_topic *missing = (mofka_topic *)1;
    FAILS(mofka_topic_open(driver, "missing", &missing), MOFKA_ERROR_UNKNOWN_TOPIC, "missing");
    CHECK(missing == NULL);
    FAILS(mofka_driver_delete_topic(driver, "missing", true), MOFKA_ERROR_UNKNOWN_TOPIC, "missing");
    char *json = (char *)1;
    FAILS(mofka_topic_partition_info(topic, 5, &json), MOFKA_ERROR_NO_PARTITION, "index 5");
    CHECK(json == NULL);
    FAILS(mofka_driver_node_status(driver, 3, &json), MOFKA_ERROR_INVALID_ARGUMENT, "rank 3");

    mofka_producer *producer = NULL;
    OK(mofka_producer_create(topic, NULL, &producer));
    nothing_where_something_is_needed(driver, topic, producer);
    options_that_make_no_sense(driver, topic);

    FAILS(mofka_producer_push(producer, "{\"x\"", 4, NULL, 0, -1, NULL), MOFKA_ERROR_INVALID_METADATA,
          "Could not parse JSON");
    FAILS(mofka_producer_push(producer, "{\"y\": 1}", 8, NULL, 0, -1, NULL), MOFKA_ERROR_INVALID_METADATA, "x");
    CHECK(strcmp(mofka_last_error_reason(), "rejected") == 0);
    /* What is refused is released all the same, once. */
    int released = 0;
    mofka_slice data = {"data", 4};
    FAILS(mofka_producer_push_owned(producer, "{", 1, &data, 1, count_release, &released, -1, NULL),
          MOFKA_ERROR_INVALID_METADATA, "JSON");
    CHECK(released == 1);
    FAILS(mofka_producer_push_owned(NULL, "{}", 2, &data, 1, count_release, &released, -1, NULL),
          MOFKA_ERROR_INVALID_ARGUMENT, "producer is NULL");
    CHECK(released == 2);
    mofka_consumer *consumer = NULL;
    mofka_consumer_options unsaid = {
        .size = sizeof unsaid, .data = MOFKA_DATA_SELECTOR, .release = count_release, .release_context = &released};
    FAILS(mofka_consumer_create(topic, "x", &unsaid, &consumer), MOFKA_ERROR_INVALID_ARGUMENT, "data_selector");
    CHECK(released == 3);

    /* Nothing of all that was pushed. */
    mofka_producer_report report = {.size = sizeof report};
    OK(mofka_producer_close(producer, &report, NULL));
    CHECK(report.pushed == 0);
    mofka_producer_free(producer);

    mofka_topic *empty = NULL;
    mofka_topic_options without = {.size = sizeof without, .partitions = -1};
    OK(mofka_topic_create(driver, "without", &without, &empty));
    OK(mofka_producer_create(empty, NULL, &producer));
    FAILS(mofka_producer_push(producer, NULL, 0, NULL, 0, -1, NULL), MOFKA_ERROR_NO_PARTITION, "no partitions");
    mofka_producer_free(producer);
    mofka_topic_free(empty);
    mofka_topic_free(topic);
    mofka_driver_free(driver);
    printf("done\n");
    return 0;
}
