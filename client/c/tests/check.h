/* What the test programs share: a condition that does not hold ends them, with the place and the last error. */
#ifndef CHECK_H
#define CHECK_H

#include <mofka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: %s does not hold; last error: %s (%s)\n", __FILE__, __LINE__,            \
                    #condition, mofka_last_error_message(), mofka_last_error_reason());                      \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

#define OK(call) CHECK((call) == MOFKA_OK)

/* It fails so, and says something in which `part` stands. */
#define FAILS(call, status, part)                                                                            \
    do {                                                                                                     \
        CHECK((call) == (status));                                                                           \
        CHECK(strstr(mofka_last_error_message(), (part)) != NULL);                                           \
    } while (0)

/* Whether a slice is this text. */
static inline int is_text(mofka_slice slice, const char *text)
{
    return slice.bytes == strlen(text) && memcmp(slice.start, text, slice.bytes) == 0;
}

/* A document that has this part. */
static inline void take_json(char *json, const char *part)
{
    CHECK(json != NULL);
    if (strstr(json, part) == NULL)
        fprintf(stderr, "%s is not in %s\n", part, json);
    CHECK(strstr(json, part) != NULL);
    mofka_string_free(json);
}

#endif
