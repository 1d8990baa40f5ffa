/* Pulls events until none comes for a second; begins after the last event that was acknowledged under its name.
 *
 *     cc consumer.c $(pkg-config --cflags --libs mofka) -o consumer && ./consumer mofka.json
 */
#include <mofka.h>
#include <stdio.h>
#include <stdlib.h>

/* Ends the program when something failed. */
static void check(mofka_status status, const char *what)
{
    if (status != MOFKA_OK) {
        fprintf(stderr, "%s: %s: %s\n", what, mofka_status_name(status), mofka_last_error_message());
        exit(1);
    }
}

int main(int argc, char **argv)
{
    mofka_driver *driver = NULL;
    check(mofka_driver_connect(argc > 1 ? argv[1] : "mofka.json", NULL, &driver), "connect");
    mofka_topic *topic = NULL;
    check(mofka_topic_open(driver, "collisions", &topic), "open the topic");

    mofka_consumer_options options = {.size = sizeof options, .data = MOFKA_DATA_ALL};
    mofka_consumer *consumer = NULL;
    check(mofka_consumer_create(topic, "analysis", &options, &consumer), "make a consumer");

    mofka_event *event = NULL;
    mofka_status pulled;
    while ((pulled = mofka_consumer_next(consumer, 1000, &event)) == MOFKA_OK) {
        mofka_slice metadata = mofka_event_metadata(event);
        printf("event %llu: %.*s", (unsigned long long)mofka_event_id(event), (int)metadata.bytes,
               (const char *)metadata.start);
        for (size_t i = 0; i < mofka_event_data_segment_count(event); i++) {
            mofka_slice segment = mofka_event_data_segment(event, i);
            printf(" %.*s", (int)segment.bytes, (const char *)segment.start);
        }
        printf("\n");
        check(mofka_event_acknowledge(event), "acknowledge");
        mofka_event_free(event);
    }
    if (pulled < 0)
        check(pulled, "pull");

    mofka_consumer_free(consumer);
    mofka_topic_free(topic);
    mofka_driver_free(driver);
    return 0;
}
