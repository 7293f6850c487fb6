/*
 * hash_cli.c - asks Shoal's own code for the row hash of a key, so that tests can hold it against PostgreSQL.
 *
 * stdin:   <type oid> TAB <format 0|1> TAB <value in hex>      one key per line
 * stdout:  <row hash, unsigned decimal>  |  opaque  |  range  |  nokey
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "meta/hash.h"
#include "wire/value.h"

#define LINE_MAX_BYTES (1 << 20)

/* Decodes in place; the length in bytes. */
static size_t hex_decode(char *hex)
{
    size_t len = strcspn(hex, "\r\n") / 2;
    for (size_t i = 0; i < len; i++) {
        unsigned byte = 0;
        if (sscanf(hex + 2 * i, "%2x", &byte) != 1)
            return i;
        hex[i] = (char)byte;
    }
    return len;
}

static void answer(uint32_t type_oid, int format, Slice value, Arena *arena)
{
    Slice canonical;
    KeyType type = key_type_of(type_oid);
    if (type == KEY_NONE) {
        puts("nokey");
        return;
    }
    switch (value_canonical(type_oid, format, value, arena, &canonical)) {
    case VALUE_OK:
        printf("%" PRIu64 "\n", hash_key(type, canonical));
        break;
    case VALUE_OPAQUE:
        puts("opaque");
        break;
    case VALUE_OUT_OF_RANGE:
        puts("range");
        break;
    }
}

int main(void)
{
    char *line = malloc(LINE_MAX_BYTES);
    if (line == NULL)
        return 1;
    while (fgets(line, LINE_MAX_BYTES, stdin) != NULL) {
        char *format = strchr(line, '\t');
        char *hex = format == NULL ? NULL : strchr(format + 1, '\t');
        if (hex == NULL) {
            fprintf(stderr, "hash_cli: want <oid> TAB <format> TAB <hex>\n");
            free(line);
            return 2;
        }
        size_t len = hex_decode(hex + 1);
        Arena arena;
        arena_init(&arena, 4096);
        answer((uint32_t)strtoul(line, NULL, 10), atoi(format + 1),
               (Slice){(const uint8_t *)hex + 1, len}, &arena);
        arena_finish(&arena);
    }
    free(line);
    return 0;
}
