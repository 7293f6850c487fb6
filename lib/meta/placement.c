/*
 * placement.c - values and the shards they were given to, by hand.
 *
 * The map of buckets says nothing about ranges, lists and pinned values: they stand with their table. There
 * are few of them; a list is walked, a range is searched.
 */
#include "meta/placement.h"

static const char *const KIND_NAMES[] = {[TABLE_HASH] = "hash",
                                         [TABLE_RANGE] = "range",
                                         [TABLE_LIST] = "list",
                                         [TABLE_REFERENCE] = "reference",
                                         [TABLE_LOCAL] = "local"};

const char *table_kind_name(TableKind kind)
{
    return KIND_NAMES[kind];
}

bool table_kind_read(Slice name, TableKind *ret_kind)
{
    for (size_t i = 0; i < ARRAY_LEN(KIND_NAMES); i++) {
        if (!slice_is(name, KIND_NAMES[i]))
            continue;
        *ret_kind = (TableKind)i;
        return true;
    }
    return false;
}

/* ---- values -------------------------------------------------------------------------------------- */

static bool is_signed_number(KeyType type)
{
    return type == KEY_INT || type == KEY_DATE || type == KEY_TIMESTAMP;
}

Slice key_normal(KeyType type, Slice canonical, uint8_t space[static 8])
{
    if (type == KEY_BPCHAR)
        while (canonical.len && canonical.data[canonical.len - 1] == ' ')
            canonical.len--;
    if (type != KEY_INT || canonical.len >= 8)
        return canonical;
    assert(canonical.len > 0);
    memset(space, canonical.data[0] & 0x80 ? 0xff : 0, 8);
    memcpy(space + 8 - canonical.len, canonical.data, canonical.len);
    return slice_of(space, 8);
}

bool key_type_ordered(KeyType type)
{
    return is_signed_number(type) || type == KEY_UUID || type == KEY_BOOL;
}

int key_compare(KeyType type, Slice a, Slice b)
{
    uint8_t wide_a[8], wide_b[8];
    a = key_normal(type, a, wide_a);
    b = key_normal(type, b, wide_b);
    if (is_signed_number(type) && a.len && b.len && ((a.data[0] ^ b.data[0]) & 0x80))
        return a.data[0] & 0x80 ? -1 : 1; /* the signs differ */
    size_t n = MIN(a.len, b.len);
    int order = n ? memcmp(a.data, b.data, n) : 0;
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

/* ---- finding --------------------------------------------------------------------------------------- */

static const Place *find_range(KeyType type, const Place *places, uint32_t count, Slice value)
{
    uint32_t from = 0, to = count; /* the answer is the last one that is not above the value */
    while (from < to) {
        uint32_t middle = from + (to - from) / 2;
        bool above = places[middle].value.data && key_compare(type, places[middle].value, value) > 0;
        if (above)
            to = middle;
        else
            from = middle + 1;
    }
    return from ? &places[from - 1] : NULL;
}

const Place *placement_find(TableKind kind, KeyType type, const Place *places, uint32_t count, Slice value)
{
    if (kind == TABLE_RANGE)
        return find_range(type, places, count, value);
    const Place *others = NULL;
    for (uint32_t i = 0; i < count; i++) {
        if (!places[i].value.data)
            others = &places[i];
        else if (slice_equal(places[i].value, value))
            return &places[i];
    }
    return others;
}

/* ---- text ------------------------------------------------------------------------------------------- */

static int hex_digit(uint8_t c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool place_value_of_hex(Slice hex, Arena *arena, Slice *ret)
{
    uint8_t *bytes = arena_alloc(arena, hex.len / 2 + 1);
    if (!bytes || hex.len % 2)
        return false;
    for (size_t i = 0; i < hex.len / 2; i++) {
        int high = hex_digit(hex.data[2 * i]), low = hex_digit(hex.data[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        bytes[i] = (uint8_t)(high << 4 | low);
    }
    *ret = slice_of(bytes, hex.len / 2);
    return true;
}

char *place_value_hex(Slice value, Arena *arena)
{
    static const char DIGITS[] = "0123456789abcdef";
    char *text = arena_alloc(arena, value.len * 2 + 1), *at = text;
    if (!text)
        return NULL;
    for (size_t i = 0; i < value.len; i++) {
        *at++ = DIGITS[value.data[i] >> 4];
        *at++ = DIGITS[value.data[i] & 15];
    }
    *at = '\0';
    return text;
}

static bool read_shard(Slice name, const Config *config, uint16_t *ret, Error *err)
{
    for (uint32_t i = 0; i < config->shard_count; i++) {
        if (!slice_is(name, config->shards[i].name))
            continue;
        *ret = (uint16_t)i;
        return true;
    }
    error_set(err, SQLSTATE_CONFIG_FILE, "%.120s: shard \"%.*s\" is missing, but a table has rows there",
              config->path, SLICE_FMT(name));
    error_hint(err, "Put [shard %.*s] back.", SLICE_FMT(name));
    return false;
}

static Slice take_word(Slice *rest)
{
    while (rest->len && *rest->data == ' ')
        *rest = slice_from(*rest, 1);
    const uint8_t *end = rest->len ? memchr(rest->data, ' ', rest->len) : NULL;
    Slice word = slice_of(rest->data, end ? (size_t)(end - rest->data) : rest->len);
    *rest = slice_from(*rest, word.len);
    return word;
}

bool placement_read(Slice text, const Config *config, Arena *arena, Place **ret_places,
                    uint32_t *ret_count, Error *err)
{
    uint32_t count = 0, room = 1;
    for (size_t i = 0; i < text.len; i++)
        room += text.data[i] == ' ';
    Place *places = arena_array(arena, Place, room);
    if (!places) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        return false;
    }
    for (Slice word; (word = take_word(&text)).len; count++) {
        const uint8_t *at = memchr(word.data, '@', word.len);
        Slice value = slice_of(word.data, at ? (size_t)(at - word.data) : 0);
        if (!at || (!slice_is(value, "*") && !place_value_of_hex(value, arena, &places[count].value))) {
            error_set(err, SQLSTATE_DATA_CORRUPTED, "\"%.60s\" is no place of a value",
                      (const char *)word.data);
            return false;
        }
        if (!read_shard(slice_from(word, value.len + 1), config, &places[count].shard, err))
            return false;
    }
    *ret_places = places;
    *ret_count = count;
    return true;
}

const char *placement_write(const Place *places, uint32_t count, const Config *config, Arena *arena)
{
    size_t size = 1;
    for (uint32_t i = 0; i < count; i++)
        size += places[i].value.len * 2 + strlen(config->shards[places[i].shard].name) + 3;
    char *text = arena_alloc(arena, size), *at = text;
    for (uint32_t i = 0; text && i < count; i++) {
        const char *hex = places[i].value.data ? place_value_hex(places[i].value, arena) : "*";
        if (!hex)
            return NULL;
        if (i)
            *at++ = ' ';
        at = stpcpy(at, hex);
        *at++ = '@';
        at = stpcpy(at, config->shards[places[i].shard].name);
    }
    if (text)
        *at = '\0';
    return text;
}
