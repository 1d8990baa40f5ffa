/* A library that does what none should, for tests. Compiled with one of these defined, what is wrong is the library:
 * NO_TABLE (the function is missing), NULL_TABLE, OTHER_VERSION, MISSING_SYMBOL (something that no library has is called). Without,
 * the table is as it should be, and the components misbehave, each as its name says.
 */
#include "mofka_component.h"

static int something;

static int32_t create(mofka_text config, void **instance, const mofka_sink *error) {
    (void)config;
    (void)error;
    *instance = &something;
    return MOFKA_OK;
}

static int32_t create_nothing(mofka_text config, void **instance, const mofka_sink *error) {
    (void)config;
    (void)instance;
    (void)error;
    return MOFKA_OK;
}

static int32_t create_in_silence(mofka_text config, void **instance, const mofka_sink *error) {
    (void)config;
    (void)error;
    /* Failed: nobody looks at it. */
    *instance = (void *)8;
    return -3;
}

static void destroy(void *instance) { (void)instance; }

static int32_t validate(void *instance, mofka_text metadata, const mofka_data *segments, uint64_t segments_count,
                        const mofka_sink *error) {
    (void)instance;
    (void)metadata;
    (void)segments;
    (void)segments_count;
    return mofka_fail(error, "never \xff");
}

/* The index of no partition. */
static int32_t select_wildly(void *instance, mofka_text metadata, const uint64_t *requested, uint64_t partitions_count,
                             uint64_t *index, const mofka_sink *error) {
    (void)instance;
    (void)metadata;
    (void)requested;
    (void)error;
    *index = partitions_count + 5;
    return MOFKA_OK;
}

static int32_t select_nothing(void *instance, mofka_text metadata, const uint64_t *requested, uint64_t partitions_count,
                              uint64_t *index, const mofka_sink *error) {
    (void)instance;
    (void)metadata;
    (void)requested;
    (void)partitions_count;
    (void)index;
    (void)error;
    return MOFKA_OK;
}

static int32_t copy(void *instance, mofka_text metadata, const mofka_sink *out, const mofka_sink *error) {
    (void)instance;
    (void)error;
    return out->write(out->context, metadata.start, metadata.bytes);
}

static int32_t not_json(void *instance, mofka_data stored, const mofka_sink *out, const mofka_sink *error) {
    (void)instance;
    (void)stored;
    (void)error;
    return out->write(out->context, "{\"energy\":", 10);
}

static int32_t not_utf8(void *instance, mofka_data stored, const mofka_sink *out, const mofka_sink *error) {
    (void)instance;
    (void)stored;
    (void)error;
    return out->write(out->context, "\"\xff\"", 3);
}

/* More than is taken; and what the sink says to that does not matter to it. */
static int32_t too_much(void *instance, mofka_text metadata, const mofka_sink *out, const mofka_sink *error) {
    (void)instance;
    (void)error;
    out->write(out->context, metadata.start, (uint64_t)MOFKA_OUTPUT_BYTES_MAX + 1);
    return MOFKA_OK;
}

static int32_t from_nowhere(void *instance, mofka_data stored, const mofka_sink *out, const mofka_sink *error) {
    (void)instance;
    (void)stored;
    (void)error;
    out->write(out->context, NULL, 8);
    return MOFKA_OK;
}

#define VALIDATOR(name, by) {.kind = MOFKA_VALIDATOR, .type_name = name, .create = by, .destroy = destroy, .validate = validate}
#define SELECTOR(name, by) \
    {.kind = MOFKA_PARTITION_SELECTOR, .type_name = name, .create = create, .destroy = destroy, .select = by}
#define SERIALIZER(name, to, from)                                                                       \
    {.kind = MOFKA_SERIALIZER, .type_name = name, .create = create, .destroy = destroy, .serialize = to, \
     .deserialize = from}

static const mofka_component components[] = {
    VALIDATOR("takes_nothing", create),
    VALIDATOR("creates_nothing", create_nothing),
    VALIDATOR("creates_in_silence", create_in_silence),
    SELECTOR("selects_wildly", select_wildly),
    SELECTOR("selects_nothing", select_nothing),
    SERIALIZER("not_json", copy, not_json),
    SERIALIZER("not_utf8", copy, not_utf8),
    SERIALIZER("too_much", too_much, from_nowhere),
};

#if defined(MISSING_SYMBOL)
void no_library_has_this_function(void);
#endif

#if defined(NO_TABLE)
MOFKA_EXPORT const mofka_component *mofka_components_of_another_name(void) { return components; }
#else
const mofka_components *mofka_components_v1(void) {
    static const mofka_components table = {
#if defined(OTHER_VERSION)
        .version = 99,
#else
        .version = MOFKA_COMPONENTS_VERSION,
#endif
        .component_bytes = sizeof(mofka_component),
        .components_count = sizeof components / sizeof components[0],
        .components = components,
    };
#if defined(MISSING_SYMBOL)
    no_library_has_this_function();
#endif
#if defined(NULL_TABLE)
    (void)table;
    return NULL;
#else
    return &table;
#endif
}
#endif
