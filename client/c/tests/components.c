/* Components of the program's own: it registers them, and topics that name them work. */
#include <mofka_component.h>

#include "check.h"

static int instances;

static int32_t create(mofka_text config, void **instance, const mofka_sink *error)
{
    const char *wanted = "\"type\":\"of_program_";
    for (uint64_t i = 0; i + strlen(wanted) <= config.bytes; i++)
        if (memcmp(config.start + i, wanted, strlen(wanted)) == 0) {
            __atomic_add_fetch(&instances, 1, __ATOMIC_SEQ_CST);
            *instance = &instances;
            return MOFKA_OK;
        }
    return mofka_fail(error, "the document has another type");
}

static void destroy(void *instance)
{
    CHECK(instance == &instances);
    __atomic_sub_fetch(&instances, 1, __ATOMIC_SEQ_CST);
}

/* Events with data only. */
static int32_t validate(void *instance, mofka_text metadata, const mofka_data *segments, uint64_t segments_count,
                        const mofka_sink *error)
{
    (void)instance, (void)metadata, (void)segments;
    return segments_count > 0 ? MOFKA_OK : mofka_fail(error, "there is no data");
}

/* The last partition, unless another is asked for. */
static int32_t choose(void *instance, mofka_text metadata, const uint64_t *requested, uint64_t partitions_count,
                      uint64_t *index, const mofka_sink *error)
{
    (void)instance, (void)metadata, (void)error;
    *index = requested != NULL ? *requested : partitions_count - 1;
    return MOFKA_OK;
}

static const mofka_component components[] = {
    {.kind = MOFKA_VALIDATOR, .type_name = "of_program_validator", .create = create, .destroy = destroy, .validate = validate},
    {.kind = MOFKA_PARTITION_SELECTOR, .type_name = "of_program_selector", .create = create, .destroy = destroy, .select = choose},
};

static const struct mofka_components table = {
    .version = MOFKA_COMPONENTS_VERSION,
    .component_bytes = sizeof(mofka_component),
    .components_count = sizeof components / sizeof components[0],
    .components = components,
};

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    struct mofka_components later = table;
    later.version = 2;
    FAILS(mofka_components_register(NULL), MOFKA_ERROR_INVALID_ARGUMENT, "table");
    FAILS(mofka_components_register(&later), MOFKA_ERROR_COMPONENT, "version 2");

    mofka_driver *driver = NULL;
    mofka_topic *topic = NULL;
    mofka_producer *producer = NULL;
    mofka_topic_options options = {
        .size = sizeof options,
        .partitions = 3,
        .validator = "{\"type\": \"of_program_validator\"}",
        .partition_selector = "{\"type\": \"of_program_selector\"}",
    };
    OK(mofka_driver_connect(argv[1], NULL, &driver));
    OK(mofka_topic_create(driver, "programmed", &options, &topic));
    FAILS(mofka_topic_check_components(topic), MOFKA_ERROR_COMPONENT, "of_program_validator");
    mofka_topic_free(topic);

    OK(mofka_components_register(&table));
    /* Again does no harm. */
    OK(mofka_components_register(&table));
    OK(mofka_topic_open(driver, "programmed", &topic));
    OK(mofka_topic_check_components(topic));
    OK(mofka_producer_create(topic, NULL, &producer));
    mofka_slice data = {"data", 4};
    FAILS(mofka_producer_push(producer, "{}", 2, NULL, 0, -1, NULL), MOFKA_ERROR_INVALID_METADATA, "there is no data");
    OK(mofka_producer_push(producer, "{}", 2, &data, 1, -1, NULL));
    OK(mofka_producer_push(producer, "{}", 2, &data, 1, 1, NULL));
    FAILS(mofka_producer_push(producer, "{}", 2, &data, 1, 7, NULL), MOFKA_ERROR_CALLBACK, "partition 7");
    OK(mofka_producer_flush(producer, -1));
    char *json = NULL;
    for (size_t partition = 0; partition < 3; partition++) {
        OK(mofka_topic_partition_status(topic, partition, &json));
        take_json(json, partition == 0 ? "\"visible_end\":0" : "\"visible_end\":1");
    }
    mofka_producer_free(producer);
    mofka_topic_free(topic);
    mofka_driver_free(driver);
    CHECK(__atomic_load_n(&instances, __ATOMIC_SEQ_CST) == 0);
    printf("done\n");
    return 0;
}
