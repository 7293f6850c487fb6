/*
 * provenance.c - why hashes: what is compared is written in two protocols and two formats, by drivers
 * with opinions about types. A value is brought to one form (a number, 16 bytes of a uuid, or its bytes)
 * and hashed; rows keep their bytes, because they become keys later.
 */
#include "router/provenance.h"

#include <stdlib.h>

#include "wire/value.h"

#define HASH_SEED 0x5ca1ab1e

/* ---- values ---------------------------------------------------------------------------------- */

uint64_t provenance_hash_integer(int64_t number)
{
    uint64_t hash = ((uint64_t)number ^ HASH_SEED) * 0x9e3779b97f4a7c15ULL;
    hash ^= hash >> 31;
    return hash ? hash : 1;
}

static bool integer_text(Slice text, int64_t *ret)
{
    size_t at = 0;
    bool negative = text.len > 0 && text.data[0] == '-';
    uint64_t number = 0;
    at += negative;
    if (text.len == at || text.len - at > 18)
        return false;
    for (; at < text.len; at++) {
        uint8_t digit = (uint8_t)(text.data[at] - '0');
        if (digit > 9)
            return false;
        number = number * 10 + digit;
    }
    *ret = negative ? -(int64_t)number : (int64_t)number;
    return true;
}

static int nibble(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* 8-4-4-4-12 as drivers write it. */
static bool uuid_text(Slice text, uint8_t ret[16])
{
    size_t digits = 0;
    if (text.len != 36)
        return false;
    memset(ret, 0, 16);
    for (size_t i = 0; i < 36; i++) {
        bool hyphen = i == 8 || i == 13 || i == 18 || i == 23;
        int digit = nibble(text.data[i]);
        if (hyphen != (text.data[i] == '-') || (!hyphen && digit < 0))
            return false;
        if (!hyphen) {
            ret[digits / 2] = (uint8_t)(ret[digits / 2] << 4 | digit);
            digits++;
        }
    }
    return true;
}

uint64_t provenance_hash(Slice value, uint16_t format)
{
    int64_t number;
    uint8_t uuid[16];
    if (format == FORMAT_BINARY ? value_integer(value, &number) : integer_text(value, &number))
        return provenance_hash_integer(number);
    if (format == FORMAT_TEXT && uuid_text(value, uuid))
        value = slice_of(uuid, sizeof uuid);
    uint64_t hash = slice_hash(value, HASH_SEED);
    return hash ? hash : 1;
}

/* ---- rows ------------------------------------------------------------------------------------ */

void parent_rows_init(ParentRows *rows)
{
    *rows = (ParentRows){0};
    buf_init(&rows->bytes, 0);
}

void parent_rows_finish(ParentRows *rows)
{
    buf_finish(&rows->bytes);
    free(rows->at);
    *rows = (ParentRows){0};
}

void parent_rows_drop(ParentRows *rows)
{
    parent_rows_finish(rows);
    parent_rows_init(rows);
}

void parent_rows_begin(ParentRows *rows, WireFormats formats, uint32_t rows_max, uint64_t bytes_max)
{
    buf_reset(&rows->bytes);
    rows->bytes.limit = bytes_max;
    rows->rows_max = rows_max;
    rows->count = 0;
    rows->overflow = false;
    rows->binary = 0;
    for (uint32_t i = 0; formats.count && i < PROVENANCE_COLUMNS_MAX; i++)
        if (formats.count == 1 || i < formats.count)
            rows->binary |= (uint32_t)(formats_of(formats, i) == FORMAT_BINARY) << i;
}

static bool room_for_row(ParentRows *rows)
{
    if (rows->count < rows->room)
        return true;
    uint32_t room = rows->room ? rows->room * 2 : 64;
    uint32_t *at = realloc(rows->at, sizeof(uint32_t) * room);
    if (!at)
        return false;
    rows->at = at;
    rows->room = room;
    return true;
}

void parent_rows_add(ParentRows *rows, Slice body)
{
    if (rows->overflow)
        return;
    size_t at = buf_len(&rows->bytes);
    if (rows->count >= rows->rows_max || !room_for_row(rows) || !buf_append(&rows->bytes, body)) {
        parent_rows_drop(rows);
        rows->overflow = true;
        return;
    }
    rows->at[rows->count++] = (uint32_t)at;
}

size_t parent_rows_memory(const ParentRows *rows)
{
    return rows->bytes.cap + sizeof(uint32_t) * rows->room;
}

static uint32_t read_u32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

bool parent_rows_value(const ParentRows *rows, uint32_t row, uint32_t column, Slice *ret,
                       uint16_t *ret_format)
{
    Slice bytes = buf_bytes(&rows->bytes);
    size_t end = row + 1 < rows->count ? rows->at[row + 1] : bytes.len, at = rows->at[row];
    if (end - at < 2 || column >= (uint32_t)(bytes.data[at] << 8 | bytes.data[at + 1]) ||
        column >= PROVENANCE_COLUMNS_MAX)
        return false;
    *ret_format = rows->binary >> column & 1 ? FORMAT_BINARY : FORMAT_TEXT;
    at += 2;
    for (;; column--) {
        if (end - at < 4)
            return false;
        uint32_t len = read_u32(bytes.data + at);
        at += 4;
        if (column == 0) {
            *ret = slice_of(bytes.data + at, len);
            return len != UINT32_MAX && len <= end - at;
        }
        if (len != UINT32_MAX) {
            if (len > end - at)
                return false;
            at += len;
        }
    }
}

/* ---- the loop -------------------------------------------------------------------------------- */

/* 0: NULL, or no such column. */
static uint64_t row_hash(const ParentRows *rows, uint32_t row, uint32_t column)
{
    Slice value;
    uint16_t format;
    return parent_rows_value(rows, row, column, &value, &format) ? provenance_hash(value, format) : 0;
}

static uint32_t column_count(const ParentRows *rows)
{
    Slice bytes = buf_bytes(&rows->bytes);
    if (rows->count == 0 || bytes.len < 2)
        return 0;
    return MIN((uint32_t)(bytes.data[0] << 8 | bytes.data[1]), PROVENANCE_COLUMNS_MAX);
}

/* The first row whose column is not NULL; UINT32_MAX none. */
static uint32_t first_row(const ParentRows *rows, uint32_t column, uint64_t *ret_hash)
{
    for (uint32_t row = 0; row < rows->count; row++) {
        *ret_hash = row_hash(rows, row, column);
        if (*ret_hash)
            return row;
    }
    return UINT32_MAX;
}

static void loop_begin(Provenance *loop, const ParentRows *rows, const uint64_t *values, uint32_t count)
{
    loop->suspect_count = 0;
    for (uint32_t column = 0; column < column_count(rows); column++) {
        uint64_t hash = 0;
        uint32_t row = first_row(rows, column, &hash);
        for (uint32_t v = 0; row != UINT32_MAX && v < count; v++)
            if (values[v] == hash && loop->suspect_count < PROVENANCE_SUSPECTS_MAX)
                loop->suspects[loop->suspect_count++] = (Suspect){
                    .value = (uint8_t)v, .column = (uint8_t)column, .row = row, .last = hash};
    }
}

static bool met_before(const ParentRows *rows, const Suspect *suspect, uint64_t hash)
{
    for (uint32_t row = suspect->row + 1; row-- > 0;)
        if (row_hash(rows, row, suspect->column) == hash)
            return true;
    return false;
}

/* On to the row of this value; false when the rows say otherwise. */
static bool suspect_step(Suspect *suspect, const ParentRows *rows, uint64_t value)
{
    for (uint32_t row = suspect->row + 1; row < rows->count; row++) {
        uint64_t hash = row_hash(rows, row, suspect->column);
        if (hash == value) {
            suspect->changes += hash != suspect->last && suspect->changes < UINT16_MAX;
            suspect->row = row;
            suspect->last = hash;
            return true;
        }
        if (hash && !met_before(rows, suspect, hash))
            return false;
    }
    return false;
}

bool provenance_step(Provenance *loop, const ParentRows *rows, const uint64_t *values, uint32_t value_count)
{
    if (loop->broken)
        return false;
    if (loop->turns == 0) {
        loop_begin(loop, rows, values, value_count);
        if (loop->suspect_count == 0)
            return false; /* asked for something else, before the loop begins */
    } else {
        uint32_t kept = 0;
        for (uint32_t i = 0; i < loop->suspect_count; i++) {
            Suspect suspect = loop->suspects[i];
            if (suspect.value < value_count && values[suspect.value] &&
                suspect_step(&suspect, rows, values[suspect.value]))
                loop->suspects[kept++] = suspect;
        }
        loop->suspect_count = kept;
    }
    loop->turns++;
    loop->broken = loop->suspect_count == 0;
    return !loop->broken;
}

uint32_t provenance_links(const Provenance *loop, Suspect *ret, uint32_t max)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < loop->suspect_count && count < max; i++) {
        const Suspect *suspect = &loop->suspects[i];
        bool known = suspect->changes == 0;
        for (uint32_t k = 0; k < count && !known; k++)
            known = ret[k].value == suspect->value;
        if (!known)
            ret[count++] = *suspect;
    }
    return count;
}
