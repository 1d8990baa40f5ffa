/* A consumer begins after the last event that was acknowledged under its name: run it twice.
 *
 * resume GROUP-FILE BEGIN: the first event has to be that; acknowledges the one five later, and ends with two more unacknowledged.
 */
#include "check.h"

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    uint64_t begin = strtoull(argv[2], NULL, 10);
    mofka_driver *driver = NULL;
    mofka_topic *topic = NULL;
    mofka_consumer *consumer = NULL;
    OK(mofka_driver_connect(argv[1], NULL, &driver));
    OK(mofka_topic_open(driver, "collisions", &topic));
    OK(mofka_consumer_create(topic, "resumes", NULL, &consumer));
    for (uint64_t id = begin; id <= begin + 7; id++) {
        mofka_event *event = NULL;
        OK(mofka_consumer_next(consumer, -1, &event));
        CHECK(mofka_event_id(event) == id);
        if (id == begin + 5)
            OK(mofka_event_acknowledge(event));
        mofka_event_free(event);
    }
    /* As a program that is killed would: nothing is freed. */
    printf("done\n");
    fflush(stdout);
    _Exit(0);
}
