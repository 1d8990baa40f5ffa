/* The components of a topic `collisions` in C, as src/lib.rs has them in Rust: events have an `energy` below `energy_max`.
 *
 *     cc -std=c99 -O2 -fPIC -shared -I client/plugins/include -o libenergy.so energy.c
 *
 * A library of your own would read JSON with a library for that. What is here finds the keys of an object whose text is known to
 * be JSON, and reads whole numbers; a key that is written with escapes is one that it does not know.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "mofka_component.h"

/* ---- Reading JSON ---- */

typedef struct cursor {
    const char *at;
    const char *end;
} cursor;

static int is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

static int is_letter_or_digit(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static void skip_space(cursor *c) {
    while (c->at < c->end && is_space(*c->at)) c->at++;
}

/* Steps over `what`, if it comes next. */
static int take(cursor *c, char what) {
    skip_space(c);
    if (c->at == c->end || *c->at != what) return 0;
    c->at++;
    return 1;
}

/* The text between the quotes, as it is written. */
static int take_string(cursor *c, mofka_text *text) {
    if (!take(c, '"')) return 0;
    text->start = c->at;
    while (c->at < c->end && *c->at != '"') {
        if (*c->at == '\\') c->at++;
        if (c->at < c->end) c->at++;
    }
    text->bytes = (uint64_t)(c->at - text->start);
    return take(c, '"');
}

/* The text of any value. */
static int take_value(cursor *c, mofka_text *value) {
    mofka_text inner;
    size_t depth = 0;
    skip_space(c);
    value->start = c->at;
    do {
        skip_space(c);
        if (c->at == c->end) return 0;
        if (*c->at == '"') {
            if (!take_string(c, &inner)) return 0;
        } else if (*c->at == '{' || *c->at == '[') {
            depth++;
            c->at++;
        } else if (*c->at == '}' || *c->at == ']') {
            if (depth == 0) return 0;
            depth--;
            c->at++;
        } else if (*c->at == ',' || *c->at == ':') {
            if (depth == 0) return 0;
            c->at++;
        } else {
            /* A number, true, false or null. */
            const char *start = c->at;
            while (c->at < c->end && (is_letter_or_digit(*c->at) || *c->at == '+' || *c->at == '-' || *c->at == '.')) c->at++;
            if (c->at == start) return 0;
        }
    } while (depth > 0);
    value->bytes = (uint64_t)(c->at - value->start);
    return value->bytes > 0;
}

static int is(mofka_text text, const char *word) {
    return text.bytes == strlen(word) && memcmp(text.start, word, text.bytes) == 0;
}

/* A whole number from 0 on. */
static int read_number(mofka_text text, uint64_t *number) {
    uint64_t read = 0;
    if (text.bytes == 0) return 0;
    for (uint64_t i = 0; i < text.bytes; i++) {
        if (text.start[i] < '0' || text.start[i] > '9') return 0;
        uint64_t digit = (uint64_t)(text.start[i] - '0');
        if (read > (UINT64_MAX - digit) / 10) return 0;
        read = read * 10 + digit;
    }
    *number = read;
    return 1;
}

typedef struct found {
    /* The value of the key that was looked for; without bytes when there is none. */
    mofka_text value;
    /* One of the other keys; it begins at NULL when there is none. */
    mofka_text other;
} found;

/* Looks through an object. 0: it is none. */
static int look(mofka_text object, const char *key, found *into) {
    cursor c = {object.start, object.start + object.bytes};
    memset(into, 0, sizeof *into);
    if (!take(&c, '{')) return 0;
    if (take(&c, '}')) return 1;
    do {
        mofka_text name, value;
        if (!take_string(&c, &name) || !take(&c, ':') || !take_value(&c, &value)) return 0;
        if (is(name, key)) {
            /* The last one, if there are several. */
            into->value = value;
        } else if (into->other.start == NULL) {
            into->other = name;
        }
    } while (take(&c, ','));
    return take(&c, '}');
}

/* ---- The components ---- */

/* An instance of any of them. Nothing changes it: it may be used by all threads at a time. */
typedef struct bound {
    uint64_t energy_max;
} bound;

static int32_t create(mofka_text config, void **instance, const mofka_sink *error) {
    found found;
    bound *made;
    uint64_t energy_max;
    if (!look(config, "energy_max", &found) || !read_number(found.value, &energy_max) || energy_max == 0 ||
        energy_max > UINT32_MAX) {
        return mofka_fail(error, "\"energy_max\" has to be a whole number from 1 to 4294967295");
    }
    made = malloc(sizeof *made);
    if (made == NULL) return mofka_fail(error, "there is no memory");
    made->energy_max = energy_max;
    *instance = made;
    return MOFKA_OK;
}

static void destroy(void *instance) { free(instance); }

static int32_t check(const bound *bound, uint64_t energy, const mofka_sink *error) {
    char why[100];
    if (energy < bound->energy_max) return MOFKA_OK;
    snprintf(why, sizeof why, "an energy of %" PRIu64 " is not below %" PRIu64, energy, bound->energy_max);
    return mofka_fail(error, why);
}

/* The energy of an event, and one of the other keys of its metadata. */
static int32_t energy_of(const bound *bound, mofka_text metadata, uint64_t *energy, mofka_text *other,
                         const mofka_sink *error) {
    found found;
    if (!look(metadata, "energy", &found)) {
        return mofka_fail(error, "metadata with an energy has to be an object");
    }
    if (found.value.bytes == 0) return mofka_fail(error, "there is no energy");
    if (!read_number(found.value, energy)) {
        return mofka_fail(error, "an energy has to be a whole number from 0 on");
    }
    *other = found.other;
    return check(bound, *energy, error);
}

static int32_t validate(void *instance, mofka_text metadata, const mofka_data *segments, uint64_t segments_count,
                        const mofka_sink *error) {
    uint64_t energy;
    mofka_text other;
    (void)segments;
    (void)segments_count;
    return energy_of(instance, metadata, &energy, &other, error);
}

static int32_t select_partition(void *instance, mofka_text metadata, const uint64_t *requested,
                                uint64_t partitions_count, uint64_t *index, const mofka_sink *error) {
    const bound *bound = instance;
    uint64_t energy;
    mofka_text other;
    /* By the energy, whatever was requested. */
    (void)requested;
    if (energy_of(bound, metadata, &energy, &other, error) != MOFKA_OK) return MOFKA_FAILED;
    if (partitions_count > UINT32_MAX) return mofka_fail(error, "there are too many partitions");
    /* Below `partitions_count`, because the energy is below the bound; the product of two numbers of 32 bits fits. */
    *index = energy * partitions_count / bound->energy_max;
    return MOFKA_OK;
}

static int32_t serialize(void *instance, mofka_text metadata, const mofka_sink *out, const mofka_sink *error) {
    uint64_t energy;
    mofka_text other;
    uint8_t stored[8];
    if (energy_of(instance, metadata, &energy, &other, error) != MOFKA_OK) return MOFKA_FAILED;
    if (other.start != NULL) {
        error->write(error->context, "\"", 1);
        error->write(error->context, other.start, other.bytes);
        return mofka_fail(error, "\" would be lost: only the energy is stored");
    }
    for (int i = 0; i < 8; i++) stored[i] = (uint8_t)(energy >> (8 * i));
    return out->write(out->context, stored, sizeof stored);
}

static int32_t deserialize(void *instance, mofka_data stored, const mofka_sink *out, const mofka_sink *error) {
    char text[100];
    uint64_t energy = 0;
    if (stored.bytes != 8) {
        snprintf(text, sizeof text, "an energy is stored in 8 bytes, not in %" PRIu64, stored.bytes);
        return mofka_fail(error, text);
    }
    for (int i = 0; i < 8; i++) energy |= (uint64_t)stored.start[i] << (8 * i);
    if (check(instance, energy, error) != MOFKA_OK) return MOFKA_FAILED;
    int bytes = snprintf(text, sizeof text, "{\"energy\":%" PRIu64 "}", energy);
    return out->write(out->context, text, (uint64_t)bytes);
}

/* ---- The table ---- */

static const mofka_component components[] = {
    {.kind = MOFKA_VALIDATOR, .type_name = "energy_validator", .create = create, .destroy = destroy, .validate = validate},
    {.kind = MOFKA_PARTITION_SELECTOR, .type_name = "energy_selector", .create = create, .destroy = destroy,
     .select = select_partition},
    {.kind = MOFKA_SERIALIZER, .type_name = "energy_serializer", .create = create, .destroy = destroy,
     .serialize = serialize, .deserialize = deserialize},
};

const mofka_components *mofka_components_v1(void) {
    static const mofka_components table = {
        .version = MOFKA_COMPONENTS_VERSION,
        .component_bytes = sizeof(mofka_component),
        .components_count = sizeof components / sizeof components[0],
        .components = components,
    };
    return &table;
}
