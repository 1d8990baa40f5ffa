/* A detector whose frames are filled where the node reads them: nothing is copied to it on the way when both run on one machine (`na+sm` or
 * `unix://`), and the same program works over a network.
 *
 *     cc in_place.c $(pkg-config --cflags --libs mofka) -o in_place && ./in_place mofka.json
 */
#include <mofka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIXELS (512 * 640)

static void check(mofka_status status, const char *what)
{
    if (status != MOFKA_OK) {
        fprintf(stderr, "%s: %s: %s\n", what, mofka_status_name(status), mofka_last_error_message());
        exit(1);
    }
}

/* What a camera's driver does, by DMA: it knows nothing but the place. Every fifth frame is lost. */
static int read_out(int number, uint16_t *pixels)
{
    for (int i = 0; i < PIXELS; i++)
        pixels[i] = (uint16_t)(number + i % 640);
    return number % 5 != 4;
}

int main(int argc, char **argv)
{
    mofka_driver *driver = NULL;
    mofka_topic *topic = NULL;
    mofka_producer *producer = NULL;
    check(mofka_driver_connect(argc > 1 ? argv[1] : "mofka.json", NULL, &driver), "connect");
    mofka_status created = mofka_topic_create(driver, "frames", NULL, NULL);
    if (created != MOFKA_ERROR_TOPIC_EXISTS)
        check(created, "create the topic");
    check(mofka_topic_open(driver, "frames", &topic), "open the topic");
    check(mofka_producer_create(topic, NULL, &producer), "make a producer");

    int shared = 0;
    for (int number = 0; number < 10; number++) {
        char metadata[64];
        snprintf(metadata, sizeof metadata, "{\"frame\": %d}", number);
        mofka_in_place *room = NULL;
        check(mofka_producer_claim(producer, metadata, strlen(metadata), PIXELS * sizeof(uint16_t), -1, &room), "claim");
        /* Not committed, it is as if it had never been. */
        if (read_out(number, mofka_in_place_data(room))) {
            shared += mofka_in_place_is_shared(room);
            check(mofka_in_place_commit(room, NULL), "commit");
        }
        mofka_in_place_free(room);
    }

    mofka_producer_report report = {.size = sizeof report};
    check(mofka_producer_close(producer, &report, NULL), "close the producer");
    printf("%llu frames acknowledged, %llu failed, %d filled in shared memory\n", (unsigned long long)report.acknowledged,
           (unsigned long long)report.failed, shared);
    mofka_producer_free(producer);
    mofka_topic_free(topic);
    mofka_driver_free(driver);
    return report.failed > 0;
}
