/* A child that was forked in the middle of everything gets errors at once, and its parent goes on undisturbed. The child then
 * connects on its own. */
#include "check.h"
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS 20

static mofka_producer *producer;
static int stop;

/* Keeps the locks of the library busy while the process forks. */
static void *push_on(void *unused)
{
    (void)unused;
    while (!__atomic_load_n(&stop, __ATOMIC_SEQ_CST))
        OK(mofka_producer_push(producer, "{}", 2, NULL, 0, 1, NULL));
    return NULL;
}

static void in_child(const char *group_file, mofka_driver *driver, mofka_topic *topic, mofka_consumer *consumer,
                     mofka_event *event, mofka_future *settled, mofka_future *open, mofka_event_future *waiting,
                     mofka_future *flush, mofka_future *acknowledged, mofka_thread_pool *pool, mofka_writer *writer,
                     mofka_reader *reader, mofka_in_place *in_place)
{
    /* What hangs is killed, and seen by the parent. */
    alarm(120);
    const int forked = MOFKA_ERROR_FORKED;
    bool exists;
    char *json = NULL;
    uint64_t id = 0;
    size_t count = 0;
    mofka_event *pulled = NULL;
    FAILS(mofka_driver_topic_exists(driver, "forked", &exists), forked, "after a fork");
    FAILS(mofka_driver_node_status(driver, 0, &json), forked, "after a fork");
    CHECK(mofka_driver_node_count(driver) == 0 && mofka_topic_partition_count(topic) == 0);
    FAILS(mofka_topic_refresh(topic), forked, "after a fork");
    FAILS(mofka_topic_sync(topic), forked, "after a fork");
    FAILS(mofka_producer_push(producer, "{}", 2, NULL, 0, 1, NULL), forked, "after a fork");
    FAILS(mofka_producer_flush(producer, -1), forked, "after a fork");
    FAILS(mofka_producer_close(producer, NULL, NULL), forked, "after a fork");
    FAILS(mofka_producer_done(producer, NULL, NULL), forked, "after a fork");
    FAILS(mofka_consumer_next(consumer, -1, &pulled), forked, "after a fork");
    FAILS(mofka_consumer_seek(consumer, 0, MOFKA_START_FIRST, 0), forked, "after a fork");
    FAILS(mofka_consumer_close(consumer), forked, "after a fork");
    FAILS(mofka_consumer_process(consumer, NULL, NULL, NULL, NULL, NULL), MOFKA_ERROR_INVALID_ARGUMENT, "processor");
    FAILS(mofka_event_acknowledge(event), forked, "after a fork");
    FAILS(mofka_future_wait(open, -1, &id), forked, "fork");
    FAILS(mofka_event_future_wait(waiting, -1, &pulled), forked, "fork");
    CHECK(mofka_future_completed(open) && mofka_event_future_completed(waiting));
    CHECK(mofka_future_wait(flush, -1, &id) <= 0);
    CHECK(mofka_future_wait(acknowledged, -1, &id) <= 0);
    FAILS(mofka_thread_pool_push(pool, free, NULL, 0), forked, "after a fork");
    FAILS(mofka_writer_write(writer, "x", 1), forked, "after a fork");
    FAILS(mofka_reader_read(reader, &id, 1, &count), forked, "after a fork");
    mofka_in_place *claimed = NULL;
    FAILS(mofka_producer_claim(producer, "{}", 2, 1, 1, &claimed), forked, "after a fork");
    FAILS(mofka_in_place_write(in_place, 0, "child", 5), forked, "after a fork");
    FAILS(mofka_in_place_shorten(in_place, 1), forked, "after a fork");
    FAILS(mofka_in_place_commit(in_place, NULL), forked, "after a fork");
    CHECK(mofka_in_place_data(in_place) == NULL && mofka_in_place_bytes(in_place) == 0);
    CHECK(!mofka_in_place_is_shared(in_place));
    /* What is here already can be looked at. */
    OK(mofka_future_wait(settled, -1, &id));
    CHECK(id == 0 && is_text(mofka_event_metadata(event), "{\"n\": 0}"));

    /* Freeing harms nobody, and waits for nobody. */
    mofka_in_place_free(in_place);
    mofka_writer_free(writer);
    mofka_reader_free(reader);
    mofka_future_free(settled);
    mofka_future_free(open);
    mofka_future_free(flush);
    mofka_future_free(acknowledged);
    mofka_event_future_free(waiting);
    mofka_event_free(event);
    mofka_consumer_free(consumer);
    mofka_producer_free(producer);
    mofka_thread_pool_free(pool);
    mofka_topic_free(topic);
    mofka_driver_free(driver);

    /* A connection of its own. */
    mofka_driver *own = NULL;
    mofka_topic *opened = NULL;
    mofka_producer *pushes = NULL;
    mofka_future *future = NULL;
    OK(mofka_driver_connect(group_file, NULL, &own));
    OK(mofka_topic_open(own, "forked", &opened));
    OK(mofka_producer_create(opened, NULL, &pushes));
    OK(mofka_producer_push(pushes, "{}", 2, NULL, 0, 1, &future));
    OK(mofka_future_wait(future, -1, NULL));
    mofka_future_free(future);
    mofka_producer_free(pushes);
    mofka_topic_free(opened);
    mofka_driver_free(own);
}

int main(int argc, char **argv)
{
    const char *group_file = argc > 1 ? argv[1] : "mofka.json";
    mofka_driver *driver = NULL;
    mofka_topic *topic = NULL;
    mofka_consumer *consumer = NULL;
    mofka_future *settled = NULL;
    OK(mofka_driver_connect(group_file, NULL, &driver));
    mofka_topic_options options = {.size = sizeof options, .partitions = 3};
    OK(mofka_topic_create(driver, "forked", &options, &topic));
    OK(mofka_producer_create(topic, NULL, &producer));
    OK(mofka_producer_push(producer, "{\"n\": 0}", 8, &(mofka_slice){"abc", 3}, 1, 0, &settled));
    OK(mofka_future_wait(settled, -1, NULL));
    size_t first = 0;
    mofka_consumer_options consumes = {.size = sizeof consumes, .targets = &first, .target_count = 1};
    OK(mofka_consumer_create(topic, "parent", &consumes, &consumer));
    mofka_event *event = NULL;
    OK(mofka_consumer_next(consumer, -1, &event));
    mofka_thread_pool *pool = NULL;
    OK(mofka_thread_pool_create(2, &pool));

    /* A producer of its own whose event waits for more, so that its future is open for sure. */
    mofka_producer *slow = NULL;
    mofka_producer_options fixed = {.size = sizeof fixed, .batch_size = 1000};
    OK(mofka_producer_create(topic, &fixed, &slow));

    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, push_on, NULL) == 0);
    for (int round = 0; round < ROUNDS; round++) {
        mofka_future *open = NULL, *flush = NULL, *acknowledged = NULL;
        mofka_event_future *waiting = NULL;
        mofka_writer *writer = NULL;
        mofka_reader *reader = NULL;
        mofka_in_place *in_place = NULL;
        OK(mofka_producer_push(slow, "{}", 2, NULL, 0, 2, &open));
        OK(mofka_producer_flush_start(producer, &flush));
        OK(mofka_event_acknowledge_start(event, &acknowledged));
        OK(mofka_consumer_pull(consumer, &waiting));
        OK(mofka_producer_push_stream(producer, "{}", 2, 2, &writer));
        OK(mofka_event_open_data(event, &reader));
        OK(mofka_producer_claim(producer, "{}", 2, 100000, 1, &in_place));
        OK(mofka_in_place_write(in_place, 0, "parent", 6));
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            in_child(group_file, driver, topic, consumer, event, settled, open, waiting, flush, acknowledged, pool,
                     writer, reader, in_place);
            _exit(0);
        }
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);

        /* The parent: all of it still works. */
        OK(mofka_future_wait(open, -1, NULL));
        OK(mofka_future_wait(flush, -1, NULL));
        OK(mofka_future_wait(acknowledged, -1, NULL));
        OK(mofka_in_place_shorten(in_place, 6));
        CHECK(memcmp(mofka_in_place_data(in_place), "parent", 6) == 0);
        mofka_future_free(open);
        OK(mofka_in_place_commit(in_place, &open));
        OK(mofka_future_wait(open, -1, NULL));
        mofka_in_place_free(in_place);
        OK(mofka_writer_write(writer, "abc", 3));
        OK(mofka_writer_finish(writer, NULL));
        char byte = 0;
        size_t read = 0;
        OK(mofka_reader_read(reader, &byte, 1, &read));
        CHECK(read == 1 && byte == 'a');
        CHECK(mofka_event_future_wait(waiting, 0, &(mofka_event *){NULL}) == MOFKA_TIMEOUT);
        mofka_future_free(open);
        mofka_future_free(flush);
        mofka_future_free(acknowledged);
        mofka_event_future_free(waiting);
        mofka_writer_free(writer);
        mofka_reader_free(reader);
    }
    __atomic_store_n(&stop, 1, __ATOMIC_SEQ_CST);
    CHECK(pthread_join(thread, NULL) == 0);

    mofka_producer_report report = {.size = sizeof report};
    OK(mofka_producer_close(producer, &report, NULL));
    CHECK(report.acknowledged == report.pushed && report.pushed > ROUNDS);
    mofka_future_free(settled);
    mofka_event_free(event);
    mofka_consumer_free(consumer);
    mofka_producer_free(producer);
    mofka_producer_free(slow);
    mofka_thread_pool_free(pool);
    mofka_topic_free(topic);
    mofka_driver_free(driver);
    printf("done\n");
    return 0;
}
