/* Eight threads push with one producer; eight others consume with one consumer: every event comes once, intact. */
#include "check.h"
#include <pthread.h>

#define THREADS 8
#define EVENTS 2000

static mofka_producer *producer;
static mofka_consumer *consumer;
static unsigned char seen[THREADS][EVENTS];
static int total, released;

static void count_release(void *context)
{
    free(context);
    __atomic_add_fetch(&released, 1, __ATOMIC_SEQ_CST);
}

static void *push_all(void *argument)
{
    int me = (int)(size_t)argument;
    mofka_future *future = NULL;
    for (int i = 0; i < EVENTS; i++) {
        char metadata[64];
        int bytes = snprintf(metadata, sizeof metadata, "{\"thread\": %d, \"n\": %d}", me, i);
        int *data = malloc(2 * sizeof *data);
        data[0] = me;
        data[1] = i;
        mofka_slice segments[2] = {{&data[0], sizeof *data}, {&data[1], sizeof *data}};
        mofka_future_free(future);
        future = NULL;
        if (i % 2 == 0) {
            OK(mofka_producer_push(producer, metadata, (size_t)bytes, segments, 2, -1, &future));
            count_release(data);
        } else {
            OK(mofka_producer_push_owned(producer, metadata, (size_t)bytes, segments, 2, count_release, data, -1,
                                         &future));
        }
        if (i % 500 == 0)
            OK(mofka_future_wait(future, -1, NULL));
        /* Each thread has errors of its own. */
        if (i % 100 == me) {
            char wrong[32];
            snprintf(wrong, sizeof wrong, "no status %d", me);
            CHECK(mofka_driver_connect(wrong, NULL, &(mofka_driver *){NULL}) == MOFKA_ERROR_GROUP_FILE);
            CHECK(strstr(mofka_last_error_message(), wrong) != NULL);
        }
    }
    mofka_future_free(future);
    return NULL;
}

static void *pull_all(void *unused)
{
    (void)unused;
    mofka_event *event = NULL;
    mofka_status pulled;
    while ((pulled = mofka_consumer_next(consumer, -1, &event)) == MOFKA_OK) {
        int data[2] = {-1, -1};
        CHECK(mofka_event_data_copy(event, 0, data, sizeof data) == sizeof data);
        char wanted[64];
        snprintf(wanted, sizeof wanted, "{\"thread\": %d, \"n\": %d}", data[0], data[1]);
        CHECK(is_text(mofka_event_metadata(event), wanted));
        CHECK(__atomic_add_fetch(&seen[data[0]][data[1]], 1, __ATOMIC_SEQ_CST) == 1);
        __atomic_add_fetch(&total, 1, __ATOMIC_SEQ_CST);
        mofka_event_free(event);
    }
    CHECK(pulled == MOFKA_NO_MORE_EVENTS);
    return NULL;
}

int main(int argc, char **argv)
{
    mofka_driver *driver = NULL;
    mofka_topic *topic = NULL;
    OK(mofka_driver_connect(argc > 1 ? argv[1] : "mofka.json", NULL, &driver));
    mofka_topic_options options = {.size = sizeof options, .partitions = 2};
    OK(mofka_topic_create(driver, "threads", &options, &topic));
    mofka_producer_options adaptive = {.size = sizeof adaptive, .max_num_batches = 4};
    OK(mofka_producer_create(topic, &adaptive, &producer));
    mofka_consumer_options whole = {.size = sizeof whole, .data = MOFKA_DATA_ALL};
    OK(mofka_consumer_create(topic, "threads", &whole, &consumer));

    pthread_t pushing[THREADS], pulling[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&pulling[i], NULL, pull_all, NULL) == 0);
        CHECK(pthread_create(&pushing[i], NULL, push_all, (void *)i) == 0);
    }
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(pushing[i], NULL) == 0);
    mofka_producer_report report = {.size = sizeof report};
    OK(mofka_producer_close(producer, &report, NULL));
    CHECK(report.acknowledged == THREADS * EVENTS && report.failed == 0);
    CHECK(released == THREADS * EVENTS);
    OK(mofka_topic_mark_complete(topic, -1));
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(pulling[i], NULL) == 0);
    CHECK(total == THREADS * EVENTS);
    mofka_consumer_free(consumer);
    mofka_producer_free(producer);
    mofka_topic_free(topic);
    mofka_driver_free(driver);
    printf("done\n");
    return 0;
}
