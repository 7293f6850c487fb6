/*
 * prepared.c - the table of statement texts of one worker.
 *
 * One block of memory per Prepared holds the struct, its OIDs and its text; whoever gives back the
 * last reference frees it. Ids count up and are never used twice, so that a name on some server
 * can never mean another text than the one we think of.
 */
#include "backend/prepared.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct PreparedKey {
    Slice text;
    const uint32_t *oids;
    uint32_t count;
    uint64_t epoch;
} PreparedKey;

static bool prepared_equal(const void *item, const void *key);
static uint64_t prepared_hash(const PreparedKey *key);
static Prepared *prepared_create(const PreparedKey *key, uint64_t hash, uint32_t tag, uint64_t id);

void prepared_set_init(PreparedSet *set)
{
    *set = (PreparedSet){.next_id = 1, .tag = (uint32_t)slice_hash(SLICE("prepared"), 0)};
    map_init(&set->by_text, prepared_equal);
}

void prepared_set_finish(PreparedSet *set)
{
    assert(set->by_text.count == 0); /* a reference that nobody gave back */
    map_finish(&set->by_text);
}

Prepared *prepared_intern(PreparedSet *set, Slice text, const uint32_t *oids, uint32_t count)
{
    PreparedKey key = {.text = text, .oids = oids, .count = count, .epoch = set->epoch};
    uint64_t hash = prepared_hash(&key);
    Prepared *found = map_get(&set->by_text, hash, &key);
    if (found)
        return prepared_retain(found);
    Prepared *fresh = prepared_create(&key, hash, set->tag, set->next_id);
    if (!fresh || !map_put(&set->by_text, hash, fresh)) {
        free(fresh);
        return NULL;
    }
    set->next_id++;
    set->bytes += text.len;
    return fresh;
}

Prepared *prepared_retain(Prepared *prepared)
{
    prepared->refs++;
    return prepared;
}

void prepared_release(PreparedSet *set, Prepared *prepared)
{
    if (!prepared)
        return;
    assert(prepared->refs > 0);
    if (--prepared->refs > 0)
        return;
    PreparedKey key = {prepared->text, prepared->oids, prepared->oid_count, prepared->epoch};
    void *gone = map_remove(&set->by_text, prepared->hash, &key);
    assert(gone == prepared);
    (void)gone;
    set->bytes -= prepared->text.len;
    free(prepared->learned);
    free(prepared);
}

static Prepared *prepared_create(const PreparedKey *key, uint64_t hash, uint32_t tag, uint64_t id)
{
    size_t oid_bytes = sizeof(uint32_t) * key->count;
    Prepared *prepared = malloc(sizeof(*prepared) + oid_bytes + key->text.len);
    if (!prepared)
        return NULL;
    uint32_t *oids = (uint32_t *)(prepared + 1);
    uint8_t *text = (uint8_t *)(oids + key->count);
    if (oid_bytes)
        memcpy(oids, key->oids, oid_bytes);
    if (key->text.len)
        memcpy(text, key->text.data, key->text.len);
    *prepared = (Prepared){.id = id,
                           .text = slice_of(text, key->text.len),
                           .oids = oids,
                           .oid_count = key->count,
                           .epoch = key->epoch,
                           .hash = hash,
                           .refs = 1};
    snprintf(prepared->name, sizeof prepared->name, "shoal_%08" PRIx32 "_%" PRIu64, tag, id);
    return prepared;
}

static uint64_t prepared_hash(const PreparedKey *key)
{
    uint64_t hash = slice_hash(key->text, 0) + key->epoch;
    return hash ^ slice_hash(slice_of(key->oids, sizeof(uint32_t) * key->count), 0) * 31;
}

static bool prepared_equal(const void *item, const void *wanted)
{
    const Prepared *prepared = item;
    const PreparedKey *key = wanted;
    return prepared->epoch == key->epoch && slice_equal(prepared->text, key->text) &&
           slice_equal(slice_of(prepared->oids, sizeof(uint32_t) * prepared->oid_count),
                       slice_of(key->oids, sizeof(uint32_t) * key->count));
}
