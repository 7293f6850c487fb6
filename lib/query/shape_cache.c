/*
 * shape_cache.c - who keeps a Shape alive: its references, and while there are none the cache.
 *
 *     shape_read:   by_key + refs 1           not in lru: cannot be dropped
 *     shape_release: refs 0 -> tail of lru    dropped from the head when count or bytes run out
 *
 * A Shape that found no room is in no list and no map; its last release destroys it.
 */
#include "query/shape_cache.h"

#include <stdlib.h>

enum {
    SHAPE_BLOCK = 1024,
    SCRATCH_BLOCK = 256 * 1024, /* keys up to a quarter of it take no malloc */
    SHARE_MAX = 8               /* one Shape takes at most this fraction of the cache */
};

/* Measured: README.md, "Limits before the parser". */
enum { TEXT_MAX = 1024 * 1024, TOKENS_MAX = 50 * 1000, DEPTH_MAX = 200, TERMS_MAX = 2000 };

static void cache_forget(ShapeCache *cache, Shape *shape);

static bool key_equal(const void *item, const void *key)
{
    const Shape *shape = item;
    return slice_equal(shape->key, *(const Slice *)key);
}

void shape_cache_init(ShapeCache *cache, size_t count_max, size_t bytes_max)
{
    *cache = (ShapeCache){.count_max = count_max,
                          .bytes_max = bytes_max,
                          .text_max = TEXT_MAX,
                          .tokens_max = TOKENS_MAX,
                          .depth_max = DEPTH_MAX,
                          .terms_max = TERMS_MAX};
    map_init(&cache->by_key, key_equal);
    list_init(&cache->lru);
    arena_init(&cache->scratch, SCRATCH_BLOCK);
}

/* All references have been given back. */
void shape_cache_finish(ShapeCache *cache)
{
    List *link;
    while ((link = list_first(&cache->lru)))
        cache_forget(cache, list_entry(link, Shape, lru));
    assert(cache->count == 0 && cache->bytes == 0);
    map_finish(&cache->by_key);
    arena_finish(&cache->scratch);
}

Shape *shape_new(void)
{
    Shape *shape = calloc(1, sizeof(Shape));
    if (!shape)
        return NULL;
    arena_init(&shape->arena, SHAPE_BLOCK);
    list_init(&shape->lru);
    return shape;
}

void shape_destroy(Shape *shape)
{
    if (!shape)
        return;
    assert(shape->refs == 0 && !shape->cached);
    arena_finish(&shape->arena);
    free(shape);
}

Shape *shape_retain(Shape *shape)
{
    if (shape->refs++ == 0)
        list_remove(&shape->lru);
    return shape;
}

void shape_release(ShapeCache *cache, Shape *shape)
{
    if (!shape)
        return;
    assert(shape->refs > 0);
    if (--shape->refs > 0)
        return;
    if (shape->cached)
        list_push(&cache->lru, &shape->lru);
    else
        shape_destroy(shape);
}

Shape *cache_get(ShapeCache *cache, Slice key, uint64_t hash)
{
    Shape *shape = map_get(&cache->by_key, hash, &key);
    if (shape && shape->refs == 0) {
        list_remove(&shape->lru);
        list_push(&cache->lru, &shape->lru);
    }
    return shape;
}

void cache_add(ShapeCache *cache, Shape *shape)
{
    assert(shape->refs == 0 && !shape->cached);
    size_t bytes = sizeof(Shape) + shape->arena.total;
    if (!shape->key.len || bytes > cache->bytes_max / SHARE_MAX)
        return;
    while (cache->count >= cache->count_max || cache->bytes + bytes > cache->bytes_max) {
        List *link = list_first(&cache->lru);
        if (!link)
            return;
        cache_forget(cache, list_entry(link, Shape, lru));
    }
    if (!map_put(&cache->by_key, shape->hash, shape))
        return;
    shape->cached = true;
    shape->bytes = bytes;
    cache->count++;
    cache->bytes += bytes;
    list_push(&cache->lru, &shape->lru);
}

void cache_drop_unused(ShapeCache *cache, Shape *shape)
{
    if (!shape->cached && shape->refs == 0)
        shape_destroy(shape);
}

static void cache_forget(ShapeCache *cache, Shape *shape)
{
    assert(shape->cached && shape->refs == 0);
    map_remove(&cache->by_key, shape->hash, &shape->key);
    list_remove(&shape->lru);
    cache->count--;
    cache->bytes -= shape->bytes;
    shape->cached = false;
    shape_destroy(shape);
}
