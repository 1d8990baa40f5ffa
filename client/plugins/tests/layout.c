/* Prints the layout of the header as this compiler sees it, for a test that holds it against what the client has. */
#include <stddef.h>
#include <stdio.h>

#include "mofka_component.h"

#define SHOW(name, value) printf("%s %lu\n", name, (unsigned long)(value))
#define SIZE(type) SHOW(#type, sizeof(type))
#define FIELD(type, field) SHOW(#type "." #field, offsetof(type, field))

int main(void) {
    SIZE(mofka_text);
    FIELD(mofka_text, start);
    FIELD(mofka_text, bytes);
    SIZE(mofka_data);
    FIELD(mofka_data, start);
    FIELD(mofka_data, bytes);
    SIZE(mofka_sink);
    FIELD(mofka_sink, context);
    FIELD(mofka_sink, write);
    SIZE(mofka_component);
    FIELD(mofka_component, kind);
    FIELD(mofka_component, reserved);
    FIELD(mofka_component, type_name);
    FIELD(mofka_component, create);
    FIELD(mofka_component, destroy);
    FIELD(mofka_component, validate);
    FIELD(mofka_component, set_partitions);
    FIELD(mofka_component, select);
    FIELD(mofka_component, serialize);
    FIELD(mofka_component, deserialize);
    SIZE(mofka_components);
    FIELD(mofka_components, version);
    FIELD(mofka_components, component_bytes);
    FIELD(mofka_components, components_count);
    FIELD(mofka_components, components);
    SHOW("MOFKA_COMPONENTS_VERSION", MOFKA_COMPONENTS_VERSION);
    SHOW("MOFKA_OK", MOFKA_OK);
    SHOW("MOFKA_FAILED", MOFKA_FAILED);
    SHOW("MOFKA_VALIDATOR", MOFKA_VALIDATOR);
    SHOW("MOFKA_PARTITION_SELECTOR", MOFKA_PARTITION_SELECTOR);
    SHOW("MOFKA_SERIALIZER", MOFKA_SERIALIZER);
    SHOW("MOFKA_COMPONENTS_MAX", MOFKA_COMPONENTS_MAX);
    SHOW("MOFKA_TYPE_NAME_BYTES_MAX", MOFKA_TYPE_NAME_BYTES_MAX);
    SHOW("MOFKA_ERROR_BYTES_MAX", MOFKA_ERROR_BYTES_MAX);
    SHOW("MOFKA_OUTPUT_BYTES_MAX", MOFKA_OUTPUT_BYTES_MAX);
    return 0;
}
