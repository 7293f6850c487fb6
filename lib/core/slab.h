/*
 * slab.h - objects of one size, taken and given back in O(1) without malloc.
 *
 * Owner: one worker. Under AddressSanitizer freed objects are poisoned, so that a use after free
 * is seen although the memory is ours.
 */
#ifndef SHOAL_CORE_SLAB_H
#define SHOAL_CORE_SLAB_H

#include "core/base.h"

typedef struct SlabChunk SlabChunk;
typedef struct Slab {
    size_t size;       /* bytes of one object */
    size_t per_chunk;  /* objects per malloc */
    void *free;        /* chain of free objects */
    SlabChunk *chunks; /* owned */
    size_t in_use;     /* objects taken; 0 at the end of a leak-free run */
} Slab;

void slab_init(Slab *slab, size_t object_size, size_t per_chunk);
void slab_finish(Slab *slab);
void *slab_take(Slab *slab) MUST_USE; /* zeroed; NULL only when memory is out */
void slab_give(Slab *slab, void *object);

#endif
