/*
 * arena.h - memory that ends together: allocate at will, free all at once.
 *
 * Name the lifetime first (request, turn, topology), then allocate from its arena. Aligned to 16.
 * Not shared between threads.
 */
#ifndef SHOAL_CORE_ARENA_H
#define SHOAL_CORE_ARENA_H

#include "core/slice.h"

typedef struct ArenaBlock ArenaBlock;
typedef struct Arena {
    ArenaBlock *blocks; /* newest first; owned */
    size_t used;        /* bytes used in the newest block */
    size_t block_size;  /* bytes of an ordinary block; bigger wishes get a block of their own */
    size_t total;       /* bytes held, for limits and SHOW */
} Arena;

void arena_init(Arena *arena, size_t block_size);
void arena_finish(Arena *arena);
/* Forgets everything, keeps one ordinary block. */
void arena_reset(Arena *arena);

/* NULL only when memory is out (or n * size does not fit a size_t). The z ones clear. */
void *arena_alloc(Arena *arena, size_t size) MUST_USE;
void *arena_zalloc(Arena *arena, size_t size) MUST_USE;
void *arena_zalloc_n(Arena *arena, size_t n, size_t size) MUST_USE;
/* A copy that lives as long as the arena; arena_text adds a NUL behind it. */
Slice arena_dup(Arena *arena, Slice bytes) MUST_USE;
char *arena_text(Arena *arena, Slice bytes) MUST_USE;
char *arena_printf(Arena *arena, const char *fmt, ...) PRINTF_LIKE(2, 3) MUST_USE;

#define arena_new(arena, type) ((type *)arena_zalloc((arena), sizeof(type)))
#define arena_array(arena, type, n) ((type *)arena_zalloc_n((arena), (size_t)(n), sizeof(type)))

#endif
