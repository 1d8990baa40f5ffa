/* A partition selector that looks at what the topic's partitions are: it takes the last of those that it was told of, and fails when
 * there are not as many as the client says. For tests. */
#include <stdlib.h>

#include "mofka_component.h"

static int32_t create(mofka_text config, void **instance, const mofka_sink *error) {
    (void)config;
    *instance = calloc(1, sizeof(uint64_t));
    return *instance == NULL ? mofka_fail(error, "there is no memory") : MOFKA_OK;
}

static void destroy(void *instance) { free(instance); }

/* Nothing runs beside this: it needs no lock. */
static int32_t set_partitions(void *instance, mofka_text partitions, const mofka_sink *error) {
    static const char key[] = "\"rank\":0";
    uint64_t *count = instance;
    (void)error;
    *count = 0;
    for (uint64_t i = 0; i + sizeof key <= partitions.bytes; i++) {
        if (memcmp(partitions.start + i, key, sizeof key - 1) == 0) ++*count;
    }
    return MOFKA_OK;
}

static int32_t select_last(void *instance, mofka_text metadata, const uint64_t *requested, uint64_t partitions_count,
                           uint64_t *index, const mofka_sink *error) {
    const uint64_t *count = instance;
    (void)metadata;
    (void)requested;
    if (*count != partitions_count) return mofka_fail(error, "I was told of others");
    *index = *count - 1;
    return MOFKA_OK;
}

static const mofka_component components[] = {
    {.kind = MOFKA_PARTITION_SELECTOR, .type_name = "last_partition", .create = create, .destroy = destroy,
     .set_partitions = set_partitions, .select = select_last},
};

const mofka_components *mofka_components_v1(void) {
    static const mofka_components table = {
        .version = MOFKA_COMPONENTS_VERSION,
        .component_bytes = sizeof(mofka_component),
        .components_count = 1,
        .components = components,
    };
    return &table;
}
