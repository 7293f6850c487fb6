/*
 * merge.c - the smallest head goes first; of equal ones that of the first leg.
 *
 * A row lies in its leg's queue as | length 4 | DataRow body |. Keys are read from it when it is compared:
 * the last columns, in binary (split.h). Few legs, so the smallest is found by looking at each.
 */
#include "router/merge.h"

#include <stdlib.h>

#include "router/order.h"
#include "wire/backend.h"

#define ROW_MAX ((size_t)1 << 30)

bool merge_init(Merge *merge, const MergeKey *keys, uint32_t key_count, uint32_t leg_count,
                uint64_t offset, uint64_t limit, size_t high)
{
    *merge = (Merge){.keys = keys, .key_count = key_count, .leg_count = leg_count, .offset = offset,
                     .limit = limit, .high = high};
    merge->legs = calloc(leg_count ? leg_count : 1, sizeof *merge->legs);
    if (!merge->legs || key_count > MERGE_KEYS_MAX)
        return false;
    for (uint32_t i = 0; i < leg_count; i++)
        buf_init(&merge->legs[i].rows, ROW_MAX);
    return true;
}

void merge_finish(Merge *merge)
{
    for (uint32_t i = 0; merge->legs && i < merge->leg_count; i++)
        buf_finish(&merge->legs[i].rows);
    free(merge->legs);
    merge->legs = NULL;
}

/* ---- a row out ------------------------------------------------------------------------------------- */

static bool malformed(Error *err)
{
    error_set(err, SQLSTATE_PROTOCOL_VIOLATION, "a shard sent a row that is not what was asked for");
    return false;
}

static bool out_of_memory(Error *err)
{
    error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    return false;
}

/* Where the key columns begin, counted in the body; and the keys, unless NULL. False: too few columns. */
static bool row_read(const Merge *merge, Slice body, size_t *ret_end, Column *keys)
{
    DataRow row;
    Column column;
    Error ignored;
    size_t cursor = 0;
    if (backend_read_data_row(body, -1, &row, &ignored) != WIRE_OK || row.count < merge->key_count)
        return false;
    uint32_t visible = row.count - merge->key_count;
    for (uint32_t i = 0; i < visible; i++)
        if (!data_row_next(&row, &cursor, &column))
            return false;
    *ret_end = 2 + cursor;
    for (uint32_t i = 0; keys && i < merge->key_count; i++)
        if (!data_row_next(&row, &cursor, &keys[i]))
            return false;
    return true;
}

static void put_int(uint8_t *at, uint32_t value, size_t n)
{
    for (size_t i = 0; i < n; i++)
        at[i] = (uint8_t)(value >> (8 * (n - 1 - i)));
}

/* One more for the client, without its keys. */
static bool row_emit(Merge *merge, Slice body, Buf *out, Error *err)
{
    size_t end = body.len;
    if (merge->limit == 0)
        return true;
    if (merge->offset) {
        merge->offset--;
        return true;
    }
    if (body.len < 2 || (merge->key_count && !row_read(merge, body, &end, NULL)))
        return malformed(err);
    uint32_t columns = ((uint32_t)body.data[0] << 8 | body.data[1]) - merge->key_count;
    uint8_t *frame = buf_reserve(out, 5 + end);
    if (!frame)
        return out_of_memory(err);
    frame[0] = BACKEND_DATA_ROW;
    put_int(frame + 1, (uint32_t)(4 + end), 4);
    put_int(frame + 5, columns, 2);
    memcpy(frame + 7, body.data + 2, end - 2);
    buf_commit(out, 5 + end);
    merge->rows++;
    if (merge->limit != UINT64_MAX)
        merge->limit--;
    return true;
}

/* ---- heads ------------------------------------------------------------------------------------------- */

static Slice leg_head(const MergeLeg *leg)
{
    Slice queue = buf_bytes(&leg->rows);
    uint32_t len;
    if (queue.len < sizeof len)
        return slice_of(NULL, 0);
    memcpy(&len, queue.data, sizeof len);
    return slice_of(queue.data + sizeof len, len);
}

static bool leg_push(MergeLeg *leg, Slice body, Error *err)
{
    uint32_t len = (uint32_t)body.len;
    buf_append(&leg->rows, slice_of(&len, sizeof len));
    buf_append(&leg->rows, body);
    return !leg->rows.failed || out_of_memory(err);
}

static bool key_compare(const MergeKey *key, const Column *a, const Column *b, int *ret)
{
    if (a->is_null || b->is_null) {
        int nulls = (int)a->is_null - (int)b->is_null;
        *ret = key->nulls_first ? -nulls : nulls;
        return true;
    }
    if (!order_compare(key->type_oid, a->value, b->value, ret))
        return false;
    if (key->descending)
        *ret = *ret < 0 ? 1 : *ret > 0 ? -1 : 0;
    return true;
}

static bool row_less(const Merge *merge, const Column *a, const Column *b, bool *ret)
{
    *ret = false;
    for (uint32_t i = 0; i < merge->key_count; i++) {
        int order = 0;
        if (!key_compare(&merge->keys[i], &a[i], &b[i], &order))
            return false;
        if (order) {
            *ret = order < 0;
            return true;
        }
    }
    return true;
}

/* Which head is first; UINT32_MAX when a leg that has not ended has none, or all have ended. */
static bool first_head(const Merge *merge, uint32_t *ret, Error *err)
{
    Column best[MERGE_KEYS_MAX], keys[MERGE_KEYS_MAX];
    *ret = UINT32_MAX;
    for (uint32_t i = 0; i < merge->leg_count; i++)
        if (!merge->legs[i].ended && buf_len(&merge->legs[i].rows) == 0)
            return true;
    for (uint32_t i = 0; i < merge->leg_count; i++) {
        Slice head = leg_head(&merge->legs[i]);
        size_t end;
        bool less = true;
        if (!head.data)
            continue;
        if (!row_read(merge, head, &end, keys) ||
            (*ret != UINT32_MAX && !row_less(merge, keys, best, &less)))
            return malformed(err);
        if (less) {
            memcpy(best, keys, merge->key_count * sizeof *keys);
            *ret = i;
        }
    }
    return true;
}

/* Without keys: whatever is there. */
static bool any_head(const Merge *merge, uint32_t *ret)
{
    *ret = UINT32_MAX;
    for (uint32_t i = 0; i < merge->leg_count && *ret == UINT32_MAX; i++)
        if (buf_len(&merge->legs[i].rows))
            *ret = i;
    return true;
}

static bool merge_go_on(Merge *merge, Buf *out, Error *err)
{
    uint32_t leg;
    while (!merge_is_full(merge) && !merge->gated) {
        if (merge->key_count ? !first_head(merge, &leg, err) : !any_head(merge, &leg))
            return false;
        if (leg == UINT32_MAX)
            return true;
        Slice head = leg_head(&merge->legs[leg]);
        if (!row_emit(merge, head, out, err))
            return false;
        buf_consume(&merge->legs[leg].rows, sizeof(uint32_t) + head.len);
    }
    return true;
}

bool merge_row(Merge *merge, uint32_t leg, Slice body, Buf *out, Error *err)
{
    if (merge_is_full(merge))
        return true;
    if (merge->key_count == 0 && !merge->gated)
        return row_emit(merge, body, out, err);
    return leg_push(&merge->legs[leg], body, err) && merge_go_on(merge, out, err);
}

bool merge_end(Merge *merge, uint32_t leg, Buf *out, Error *err)
{
    merge->legs[leg].ended = true;
    return merge->key_count == 0 || merge_go_on(merge, out, err);
}

bool merge_open(Merge *merge, Buf *out, Error *err)
{
    merge->gated = false;
    return merge_go_on(merge, out, err);
}

bool merge_wants_pause(const Merge *merge, uint32_t leg)
{
    const MergeLeg *at = &merge->legs[leg];
    size_t bytes = buf_len(&at->rows);
    return at->paused ? bytes > merge->high / 2 : bytes > merge->high;
}
