/*
 * hash_cli.c - the bucket of 1024 of each key on stdin, for tests that ask PostgreSQL the same.
 *
 *     in:  uuid<TAB>F47AC10B-58cc-4372-a567-0e02b2c3d479      out:  362
 *
 * A value that the router would leave to PostgreSQL gives "opaque", one out of range "range".
 */
#include <stdio.h>
#include <stdlib.h>

#include "meta/hash.h"
#include "wire/value.h"

static const struct {
    const char *name;
    uint32_t oid;
} TYPES[] = {
    {"int2", WIRE_OID_INT2},       {"int4", WIRE_OID_INT4},
    {"int8", WIRE_OID_INT8},       {"text", WIRE_OID_TEXT},
    {"varchar", WIRE_OID_VARCHAR}, {"bpchar", WIRE_OID_BPCHAR},
    {"bytea", WIRE_OID_BYTEA},     {"uuid", WIRE_OID_UUID},
    {"bool", WIRE_OID_BOOL},       {"date", WIRE_OID_DATE},
    {"timestamp", WIRE_OID_TIMESTAMP}, {"timestamptz", WIRE_OID_TIMESTAMPTZ},
};

static uint32_t type_oid(Slice name)
{
    for (size_t i = 0; i < ARRAY_LEN(TYPES); i++) {
        if (slice_is(name, TYPES[i].name))
            return TYPES[i].oid;
    }
    return 0;
}

static bool print_bucket(uint32_t oid, Slice text, Arena *arena)
{
    Slice canonical;
    if (oid == 0)
        return false;
    switch (value_canonical(oid, 0, text, arena, &canonical)) {
    case VALUE_OK:
        printf("%u\n", (unsigned)(hash_key(key_type_of(oid), canonical) & 1023));
        break;
    case VALUE_OPAQUE:
        puts("opaque");
        break;
    case VALUE_OUT_OF_RANGE:
        puts("range");
        break;
    }
    return true;
}

int main(void)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t len;
    Arena arena;
    bool ok = true;
    arena_init(&arena, 4096);
    while (ok && (len = getline(&line, &cap, stdin)) >= 0) {
        if (len > 0 && line[len - 1] == '\n')
            line[--len] = 0;
        char *tab = memchr(line, '\t', (size_t)len);
        ok = tab && print_bucket(type_oid(slice_of(line, (size_t)(tab - line))),
                                 slice_of(tab + 1, (size_t)(line + len - tab - 1)), &arena);
        if (!ok)
            fprintf(stderr, "not a line of type<TAB>value: %s\n", line);
        arena_reset(&arena);
    }
    arena_finish(&arena);
    free(line);
    return ok ? 0 : 1;
}
