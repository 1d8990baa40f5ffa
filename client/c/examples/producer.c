/* Creates a topic if there is none, and pushes ten events to it.
 *
 *     cc producer.c $(pkg-config --cflags --libs mofka) -o producer && ./producer mofka.json
 */
#include <mofka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

    mofka_status created = mofka_topic_create(driver, "collisions", NULL, NULL);
    if (created != MOFKA_ERROR_TOPIC_EXISTS)
        check(created, "create the topic");
    mofka_topic *topic = NULL;
    check(mofka_topic_open(driver, "collisions", &topic), "open the topic");

    mofka_producer_options options = {.size = sizeof options, .name = "example"};
    mofka_producer *producer = NULL;
    check(mofka_producer_create(topic, &options, &producer), "make a producer");

    mofka_future *last = NULL;
    for (int i = 0; i < 10; i++) {
        char metadata[64], data[64];
        snprintf(metadata, sizeof metadata, "{\"energy\": %d}", 10 * i);
        snprintf(data, sizeof data, "what collision %d left behind", i);
        mofka_slice segment = {data, strlen(data)};
        mofka_future_free(last);
        check(mofka_producer_push(producer, metadata, strlen(metadata), &segment, 1, -1, &last), "push");
    }

    uint64_t event_id = 0;
    check(mofka_future_wait(last, -1, &event_id), "the last event");
    printf("the last event is stored, as event %llu\n", (unsigned long long)event_id);
    mofka_future_free(last);

    /* Nothing was asked of the other events yet. */
    mofka_producer_report report = {.size = sizeof report};
    check(mofka_producer_close(producer, &report, NULL), "close the producer");
    printf("%llu events pushed, %llu acknowledged, %llu failed\n", (unsigned long long)report.pushed,
           (unsigned long long)report.acknowledged, (unsigned long long)report.failed);

    mofka_producer_free(producer);
    mofka_topic_free(topic);
    mofka_driver_free(driver);
    return report.failed > 0;
}
