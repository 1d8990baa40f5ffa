/* Events whose data is filled in the room that was claimed for it. The second argument says whether that is shared with the node. */
#include "check.h"
#include <pthread.h>

/* Half of the arena, which is what can be claimed at a time. */
#define HALF ((size_t)4 << 20)
#define EVENTS 60
#define THREADS 4

static bool is_local;
static mofka_producer *producer;

/* What byte `at` of event `n` is. */
static unsigned char byte_of(int n, size_t at)
{
    return (unsigned char)(at * (size_t)(2 * n + 1) + (at >> 8) + (size_t)n);
}

static size_t bytes_of(int n)
{
    return (size_t)n * 104729 % 300000;
}

static mofka_in_place *claim(int n, size_t bytes)
{
    char metadata[32];
    snprintf(metadata, sizeof metadata, "{\"n\": %d}", n);
    mofka_in_place *in_place = NULL;
    OK(mofka_producer_claim(producer, metadata, strlen(metadata), bytes, 0, &in_place));
    CHECK(mofka_in_place_bytes(in_place) == bytes);
    return in_place;
}

/* By its address, or by copying, in order or not. */
static void fill(mofka_in_place *in_place, int n)
{
    size_t bytes = bytes_of(n), half = bytes / 2;
    if (n % 3 == 0) {
        unsigned char *data = mofka_in_place_data(in_place);
        CHECK(data != NULL && (uintptr_t)data % 4096 == 0);
        for (size_t at = 0; at < bytes; at++)
            data[at] = byte_of(n, at);
        return;
    }
    unsigned char *from = malloc(bytes + 1);
    for (size_t at = 0; at < bytes; at++)
        from[at] = byte_of(n, at);
    if (n % 3 == 1) {
        for (size_t at = 0; at < bytes; at += 70001)
            OK(mofka_in_place_write(in_place, at, from + at, bytes - at < 70001 ? bytes - at : 70001));
    } else {
        OK(mofka_in_place_write(in_place, half, from + half, bytes - half));
        OK(mofka_in_place_write(in_place, 0, from, half));
    }
    free(from);
}

static void *push_some(void *argument)
{
    for (int n = *(int *)argument; n < EVENTS; n += THREADS) {
        /* Every other one a little longer than it turns out to be. */
        mofka_in_place *in_place = claim(n, bytes_of(n) + (size_t)(n % 2 * 5000));
        CHECK(mofka_in_place_is_shared(in_place) == is_local || bytes_of(n) == 0);
        fill(in_place, n);
        OK(mofka_in_place_shorten(in_place, bytes_of(n)));
        CHECK(mofka_in_place_bytes(in_place) == bytes_of(n));
        mofka_future *future = NULL;
        OK(mofka_in_place_commit(in_place, n % 4 == 3 ? NULL : &future));
        if (n % 4 == 1)
            mofka_in_place_free(in_place);
        if (n % 4 != 3)
            OK(mofka_future_wait(future, -1, NULL));
        mofka_future_free(future);
        if (n % 4 != 1)
            mofka_in_place_free(in_place);
    }
    return NULL;
}

static void arrives_byte_for_byte(mofka_topic *topic)
{
    pthread_t threads[THREADS];
    int first[THREADS];
    for (int i = 0; i < THREADS; i++) {
        first[i] = i;
        CHECK(pthread_create(&threads[i], NULL, push_some, &first[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    OK(mofka_producer_flush(producer, -1));
    mofka_consumer_options all = {.size = sizeof all, .data = MOFKA_DATA_ALL};
    mofka_consumer *consumer = NULL;
    OK(mofka_consumer_create(topic, "check", &all, &consumer));
    int seen[EVENTS] = {0};
    unsigned char *copy = malloc(300000);
    for (int i = 0; i < EVENTS; i++) {
        mofka_event *event = NULL;
        OK(mofka_consumer_next(consumer, -1, &event));
        mofka_slice metadata = mofka_event_metadata(event);
        int n = -1;
        CHECK(sscanf(metadata.start, "{\"n\": %d}", &n) == 1 && n >= 0 && n < EVENTS && !seen[n]);
        seen[n] = 1;
        CHECK(mofka_event_data_bytes(event) == bytes_of(n));
        CHECK(mofka_event_data_copy(event, 0, copy, 300000) == bytes_of(n));
        for (size_t at = 0; at < bytes_of(n); at++)
            CHECK(copy[at] == byte_of(n, at));
        mofka_event_free(event);
    }
    free(copy);
    mofka_consumer_free(consumer);
}

/* Far more in all than there is memory for at a time. */
static void what_is_not_committed_gives_its_room_back(void)
{
    mofka_producer_stats before = {.size = sizeof before}, after = {.size = sizeof after};
    OK(mofka_producer_get_stats(producer, &before));
    for (int i = 0; i < 500; i++) {
        mofka_in_place *in_place = claim(i, HALF / 2 + (size_t)i);
        CHECK(mofka_in_place_is_shared(in_place) == is_local);
        OK(mofka_in_place_write(in_place, (size_t)i, "x", 1));
        mofka_in_place_free(in_place);
    }
    mofka_in_place *whole = claim(0, HALF), *beside = claim(1, 1);
    CHECK(mofka_in_place_is_shared(whole) == is_local && !mofka_in_place_is_shared(beside));
    /* It works where it is. */
    OK(mofka_in_place_write(beside, 0, "x", 1));
    mofka_in_place_free(whole);
    mofka_in_place_free(beside);
    OK(mofka_producer_get_stats(producer, &after));
    CHECK(after.events == before.events);
}

static void what_is_wrong_is_told(mofka_topic *topic)
{
    const int invalid = MOFKA_ERROR_INVALID_ARGUMENT;
    mofka_in_place *in_place = (mofka_in_place *)1;
    FAILS(mofka_producer_claim(producer, "{", 1, 10, 0, &in_place), MOFKA_ERROR_INVALID_METADATA, "JSON");
    CHECK(in_place == NULL);
    FAILS(mofka_producer_claim(producer, "{}", 2, (size_t)1 << 40, 0, &in_place), MOFKA_ERROR_TOO_LARGE, "larger than the");
    FAILS(mofka_producer_claim(producer, "{}", 2, SIZE_MAX, 0, &in_place), MOFKA_ERROR_TOO_LARGE, "larger than the");
    CHECK(in_place == NULL);

    in_place = claim(0, 10);
    FAILS(mofka_in_place_write(in_place, 8, "123", 3), invalid, "3 bytes at 8 are not within the 10 bytes");
    FAILS(mofka_in_place_write(in_place, SIZE_MAX, "1", 1), invalid, "not within");
    FAILS(mofka_in_place_write(in_place, 0, NULL, 1), invalid, "start is NULL");
    FAILS(mofka_in_place_shorten(in_place, 11), invalid, "claim more");
    OK(mofka_in_place_shorten(in_place, 4));
    FAILS(mofka_in_place_write(in_place, 4, "5", 1), invalid, "not within the 4 bytes");
    OK(mofka_in_place_write(in_place, 0, "1234", 4));
    mofka_future *future = NULL;
    OK(mofka_in_place_commit(in_place, &future));
    OK(mofka_future_wait(future, -1, NULL));
    mofka_future_free(future);
    /* Used up. */
    FAILS(mofka_in_place_commit(in_place, &future), MOFKA_ERROR_CLOSED, "used up");
    CHECK(future == NULL);
    FAILS(mofka_in_place_write(in_place, 0, "1", 1), MOFKA_ERROR_CLOSED, "used up");
    FAILS(mofka_in_place_shorten(in_place, 1), MOFKA_ERROR_CLOSED, "used up");
    CHECK(mofka_in_place_data(in_place) == NULL && mofka_in_place_bytes(in_place) == 0);
    CHECK(!mofka_in_place_is_shared(in_place));
    mofka_in_place_free(in_place);

    /* No bytes are an event without data. */
    in_place = claim(0, 0);
    OK(mofka_in_place_write(in_place, 0, NULL, 0));
    OK(mofka_in_place_commit(in_place, NULL));
    mofka_in_place_free(in_place);

    /* A producer that is gone takes nothing; what was claimed of it is used up by that. */
    mofka_producer *gone = NULL;
    OK(mofka_producer_create(topic, NULL, &gone));
    OK(mofka_producer_claim(gone, NULL, 0, 10, 0, &in_place));
    mofka_producer_free(gone);
    OK(mofka_in_place_write(in_place, 0, "0123456789", 10));
    FAILS(mofka_in_place_commit(in_place, &future), MOFKA_ERROR_CLOSED, "closed");
    FAILS(mofka_in_place_commit(in_place, &future), MOFKA_ERROR_CLOSED, "used up");
    mofka_in_place_free(in_place);
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    is_local = strcmp(argv[2], "shared") == 0;
    mofka_driver_options options = {.size = sizeof options, .ring_bytes = 2 * HALF};
    mofka_driver *driver = NULL;
    mofka_topic *topic = NULL;
    OK(mofka_driver_connect(argv[1], &options, &driver));
    OK(mofka_topic_create(driver, "in_place", NULL, &topic));
    OK(mofka_producer_create(topic, NULL, &producer));
    arrives_byte_for_byte(topic);
    what_is_not_committed_gives_its_room_back();
    what_is_wrong_is_told(topic);
    mofka_producer_report report = {.size = sizeof report};
    OK(mofka_producer_close(producer, &report, NULL));
    CHECK(report.pushed == EVENTS + 2 && report.acknowledged == report.pushed);
    mofka_in_place *late = NULL;
    FAILS(mofka_producer_claim(producer, NULL, 0, 1, 0, &late), MOFKA_ERROR_CLOSED, "closed");
    mofka_producer_free(producer);
    mofka_topic_free(topic);
    mofka_driver_free(driver);
    printf("done\n");
    return 0;
}
