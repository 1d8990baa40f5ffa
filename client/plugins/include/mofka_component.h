/* Components of Mofka topics in shared libraries: the C interface, version 1.
 *
 * A library exports one function, mofka_components_v1, which returns a table of what the library offers: validators, partition
 * selectors and serializers, each with the name that stands under "type" in a topic's document. Clients load the library when a
 * topic names such a type, and keep it for the life of the process. docs/PLUGINS.md has examples and the rules of loading.
 *
 * Contract, for whoever writes a library:
 *
 * - Threads: any function may be called from any thread. Those of one instance may be called by many threads at the same time,
 *   but for set_partitions, which nothing of that instance runs beside, and destroy, which comes last and once.
 * - Memory: what a function is given (texts, data, sinks) is valid until that function returns, and is not changed by it. What a
 *   function has to say, it writes to a sink, which copies it: nothing that one side allocated is freed by the other. The table, and
 *   all that it points to, stays as it is for the life of the process.
 * - Texts are UTF-8, and have no NUL at their end. A text or data of 0 bytes may begin at NULL.
 * - Errors: a function returns MOFKA_OK, or anything else after it wrote to `error` why it failed. What it wrote to `out` is thrown
 *   away then. Of an error's text, the first MOFKA_ERROR_BYTES_MAX bytes are kept.
 * - No exception, panic or longjmp may leave a function.
 * - A function must not push to, or pull from, the topic that it works for.
 *
 * Versions: the layout of version 1 never changes. Another version has another number, another exported name, and new types; a
 * library may offer several versions at a time.
 */
#ifndef MOFKA_COMPONENT_H
#define MOFKA_COMPONENT_H

#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MOFKA_COMPONENTS_VERSION 1u

/* What functions return. */
#define MOFKA_OK 0
#define MOFKA_FAILED 1

/* Kinds of components. */
#define MOFKA_VALIDATOR 1u
#define MOFKA_PARTITION_SELECTOR 2u
#define MOFKA_SERIALIZER 3u

/* Bounds of a library: a table with more components, or a longer name, is refused. */
#define MOFKA_COMPONENTS_MAX 1024u
#define MOFKA_TYPE_NAME_BYTES_MAX 255u
/* Bytes that are kept of an error's text. */
#define MOFKA_ERROR_BYTES_MAX 4096u
/* Bytes of metadata that serialize or deserialize may write, 256 MiB. */
#define MOFKA_OUTPUT_BYTES_MAX 268435456u

#if defined(__GNUC__)
#define MOFKA_EXPORT __attribute__((visibility("default")))
#else
#define MOFKA_EXPORT
#endif

/* UTF-8 text. */
typedef struct mofka_text {
    const char *start;
    uint64_t bytes;
} mofka_text;

/* Any bytes. */
typedef struct mofka_data {
    const uint8_t *start;
    uint64_t bytes;
} mofka_data;

/* Takes what a function has to say. `write` appends a copy of the bytes. It returns MOFKA_OK, or MOFKA_FAILED when there is no
 * room for them: the call fails then, whatever its function returns. */
typedef struct mofka_sink {
    void *context;
    int32_t (*write)(void *context, const void *start, uint64_t bytes);
} mofka_sink;

/* One component. Functions that its kind does not have are NULL. */
typedef struct mofka_component {
    uint32_t kind;
    /* 0. */
    uint32_t reserved;
    /* Ends with a NUL; 1 to MOFKA_TYPE_NAME_BYTES_MAX bytes of UTF-8 before it, without ':'. */
    const char *type_name;

    /* All kinds: makes an instance. `config` is the JSON object that is stored with the topic, its "type" included. On success
     * *instance is not NULL (a component that needs none points to anything of its own); on failure nothing is left behind. */
    int32_t (*create)(mofka_text config, void **instance, const mofka_sink *error);
    /* All kinds: ends an instance. */
    void (*destroy)(void *instance);

    /* Validators: MOFKA_OK takes the event. `metadata` is JSON; the event's data is in `segments_count` segments. */
    int32_t (*validate)(void *instance, mofka_text metadata, const mofka_data *segments, uint64_t segments_count,
                        const mofka_sink *error);

    /* Partition selectors, or NULL: told before the first select, and again before the next when the topic's partitions changed.
     * `partitions` is a JSON array of objects with "id", "index", "type", "rank", "shard" and "addresses", by index. */
    int32_t (*set_partitions)(void *instance, mofka_text partitions, const mofka_sink *error);
    /* Partition selectors: puts the index of the event's partition, below `partitions_count` (at least 1), into *index. `requested`
     * is NULL, or what the producer asked for: any number. */
    int32_t (*select)(void *instance, mofka_text metadata, const uint64_t *requested, uint64_t partitions_count,
                      uint64_t *index, const mofka_sink *error);

    /* Serializers: writes what is to be stored to `out`, in any number of pieces. */
    int32_t (*serialize)(void *instance, mofka_text metadata, const mofka_sink *out, const mofka_sink *error);
    /* Serializers: writes the JSON text of what was stored to `out`. `stored` may be anything: check it. */
    int32_t (*deserialize)(void *instance, mofka_data stored, const mofka_sink *out, const mofka_sink *error);
} mofka_component;

/* What a library offers. */
typedef struct mofka_components {
    /* MOFKA_COMPONENTS_VERSION */
    uint32_t version;
    /* sizeof(mofka_component) */
    uint32_t component_bytes;
    uint64_t components_count;
    const mofka_component *components;
} mofka_components;

/* The library's table. Called whenever the library is loaded, from any thread; always returns the same. */
MOFKA_EXPORT const mofka_components *mofka_components_v1(void);

/* Says why a function fails, for its return: `return mofka_fail(error, "there is no energy");` */
static inline int32_t mofka_fail(const mofka_sink *error, const char *why) {
    error->write(error->context, why, (uint64_t)strlen(why));
    return MOFKA_FAILED;
}

#ifdef __cplusplus
}
#endif

#endif
