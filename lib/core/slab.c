/*
 * slab.c - chunks of equal objects and a chain through the free ones.
 *
 *     chunks -> [chunk| obj | obj | obj ] -> [chunk| obj | obj | obj ] -> NULL
 *     free   ---------->|__________^
 *
 * A chunk is never given back before slab_finish: the peak of sessions or tasks comes again.
 */
#include "core/slab.h"

#include <stdlib.h>
#include <string.h>

#define SLAB_ALIGN ((size_t)16)

struct SlabChunk {
    SlabChunk *next;
    _Alignas(16) uint8_t bytes[];
};

typedef struct FreeObject {
    struct FreeObject *next;
} FreeObject;

static bool slab_grow(Slab *slab);
static void slab_push(Slab *slab, void *object);

void slab_init(Slab *slab, size_t object_size, size_t per_chunk)
{
    assert(object_size > 0 && per_chunk > 0);
    *slab = (Slab){
        .size = (object_size + SLAB_ALIGN - 1) & ~(SLAB_ALIGN - 1),
        .per_chunk = per_chunk,
    };
}

void slab_finish(Slab *slab)
{
    while (slab->chunks) {
        SlabChunk *chunk = slab->chunks;
        slab->chunks = chunk->next;
        MEM_UNPOISON(chunk->bytes, slab->size * slab->per_chunk);
        free(chunk);
    }
    slab->free = NULL;
    slab->in_use = 0;
}

void *slab_take(Slab *slab)
{
    if (!slab->free && !slab_grow(slab))
        return NULL;
    FreeObject *object = slab->free;
    MEM_UNPOISON(object, slab->size);
    slab->free = object->next;
    slab->in_use++;
    memset(object, 0, slab->size);
    return object;
}

void slab_give(Slab *slab, void *object)
{
    if (!object)
        return;
    assert(slab->in_use > 0);
    slab->in_use--;
    slab_push(slab, object);
}

static bool slab_grow(Slab *slab)
{
    SlabChunk *chunk = malloc(sizeof(*chunk) + slab->size * slab->per_chunk);
    if (!chunk)
        return false;
    chunk->next = slab->chunks;
    slab->chunks = chunk;
    for (size_t i = slab->per_chunk; i-- > 0;) /* so that the lowest address is taken first */
        slab_push(slab, chunk->bytes + i * slab->size);
    return true;
}

static void slab_push(Slab *slab, void *object)
{
    FreeObject *freed = object;
    freed->next = slab->free;
    slab->free = freed;
    MEM_POISON(object, slab->size);
}
