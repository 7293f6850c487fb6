/*
 * digest.c - figures per statement, found by the hash that the shape cache has made already.
 *
 * One lookup and one move in a list per statement; memory is taken once per distinct statement. Two
 * statements of the same 64-bit hash would share their figures, nothing else.
 */
#include "router/digest.h"

#include <stdlib.h>

#include "router/worker_state.h"

static bool digest_equal(const void *item, const void *key)
{
    return ((const Digest *)item)->hash == *(const uint64_t *)key;
}

void digests_init(DigestSet *set, uint32_t max)
{
    *set = (DigestSet){.max = max};
    map_init(&set->by_hash, digest_equal);
    list_init(&set->lru);
}

static void drop_oldest(DigestSet *set)
{
    Digest *digest = list_entry(list_pop(&set->lru), Digest, lru);
    map_remove(&set->by_hash, digest->hash, &digest->hash);
    set->count--;
    free(digest);
}

void digests_limit(DigestSet *set, uint32_t max)
{
    set->max = max;
    while (set->count > max)
        drop_oldest(set);
}

void digests_finish(DigestSet *set)
{
    digests_limit(set, 0);
    map_finish(&set->by_hash);
}

static Digest *digest_make(DigestSet *set, const Shape *shape, Slice database, uint64_t hash)
{
    Slice text = shape->template_text;
    Digest *digest = calloc(1, sizeof *digest + text.len + database.len + 2);
    if (!digest || !map_put(&set->by_hash, hash, digest)) {
        free(digest);
        return NULL;
    }
    list_init(&digest->lru);
    digest->hash = hash;
    digest->text = (char *)(digest + 1);
    digest->database = digest->text + text.len + 1;
    if (text.len)
        memcpy(digest->text, text.data, text.len);
    memcpy(digest->database, database.data, database.len);
    digest->kind = shape_kind_name(shape->kind);
    list_push(&set->lru, &digest->lru);
    set->count++;
    return digest;
}

static Digest *digest_get(DigestSet *set, const Shape *shape, Slice database)
{
    uint64_t hash = slice_hash(database, shape->hash | 1);
    Digest *digest = map_get(&set->by_hash, hash, &hash);
    if (digest) {
        list_remove(&digest->lru);
        list_push(&set->lru, &digest->lru);
        return digest;
    }
    while (set->count >= set->max) {
        drop_oldest(set);
        set->dropped++;
    }
    return digest_make(set, shape, database, hash);
}

/* What the batcher was not asked, because the router could see that it would say no. */
static BatchReason reason_of(const Request *request, const Shape *shape)
{
    if (request->batch_reason)
        return (BatchReason)request->batch_reason;
    if (shape->kind != SHAPE_SELECT)
        return BATCH_NOT_SELECT;
    return request->in_transaction ? BATCH_IN_TRANSACTION : BATCH_PROTOCOL;
}

void digests_on_leave(DigestSet *set, const Request *request)
{
    const Session *session = request->session;
    if (set->max == 0 || session->console)
        return;
    uint64_t us = request->times.ended_us - MIN(request->times.arrived_us, request->times.ended_us);
    for (uint32_t i = 0; i < request->planned_count; i++) {
        const Shape *shape = request->planned[i].shape;
        if (!request->planned[i].executed)
            continue;
        Digest *digest = digest_get(set, shape, slice_str(session->database));
        if (!digest)
            return;
        digest->calls++;
        digest->errors += request->error_seen;
        digest->batched += request->batched;
        digest->total_us += us;
        digest->max_us = MAX(digest->max_us, us);
        rate_add(&digest->rate, 1, request->times.ended_us);
        spread_add(&digest->spread_us, us);
        if (!request->batched) {
            digest->reason = reason_of(request, shape);
            digest->asked = true;
        }
    }
}
