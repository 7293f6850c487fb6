/*
 * arena.c - blocks of memory, filled from the front.
 *
 *     arena -> [block | xxxxxxxx.....] -> [big block] -> [block | xxxxxxxxxxxx.] -> NULL
 *                      used ^
 *
 * Only the newest block has room. A wish bigger than a quarter of an ordinary block gets one of its
 * own, put second, so that the room in the newest is not lost. Under AddressSanitizer everything
 * not handed out is poisoned.
 */
#include "core/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define ARENA_ALIGN ((size_t)16)
#define ARENA_BLOCK_MIN ((size_t)256)

struct ArenaBlock {
    ArenaBlock *next;
    size_t size; /* bytes behind this header */
    _Alignas(16) uint8_t bytes[];
};

static void *arena_block_add(Arena *arena, size_t size, bool big);
static void arena_block_free(Arena *arena, ArenaBlock *block);

void arena_init(Arena *arena, size_t block_size)
{
    block_size = (block_size + ARENA_ALIGN - 1) & ~(ARENA_ALIGN - 1);
    *arena = (Arena){.block_size = MAX(block_size, ARENA_BLOCK_MIN)};
}

void arena_finish(Arena *arena)
{
    while (arena->blocks) {
        ArenaBlock *block = arena->blocks;
        arena->blocks = block->next;
        arena_block_free(arena, block);
    }
    assert(arena->total == 0);
    arena->used = 0;
}

void arena_reset(Arena *arena)
{
    ArenaBlock *kept = NULL;
    while (arena->blocks) {
        ArenaBlock *block = arena->blocks;
        arena->blocks = block->next;
        if (!kept && block->size == arena->block_size)
            kept = block;
        else
            arena_block_free(arena, block);
    }
    arena->used = 0;
    arena->blocks = kept;
    if (kept) {
        kept->next = NULL;
        MEM_POISON(kept->bytes, kept->size);
    }
}

void *arena_alloc(Arena *arena, size_t size)
{
    if (size > SIZE_MAX / 2)
        return NULL;
    size_t rounded = MAX((size + ARENA_ALIGN - 1) & ~(ARENA_ALIGN - 1), ARENA_ALIGN);
    bool big = rounded > arena->block_size / 4;
    /* The newest block may itself be a big one (when it is the only one): then it is full. */
    if (!arena->blocks || arena->blocks->size - arena->used < rounded) {
        if (!arena_block_add(arena, big ? rounded : arena->block_size, big))
            return NULL;
        if (big) {
            ArenaBlock *block = arena->blocks->next ? arena->blocks->next : arena->blocks;
            MEM_UNPOISON(block->bytes, size);
            return block->bytes;
        }
    }
    uint8_t *memory = arena->blocks->bytes + arena->used;
    arena->used += rounded;
    MEM_UNPOISON(memory, size);
    return memory;
}

void *arena_zalloc(Arena *arena, size_t size)
{
    void *memory = arena_alloc(arena, size);
    if (memory)
        memset(memory, 0, size);
    return memory;
}

void *arena_zalloc_n(Arena *arena, size_t n, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes))
        return NULL;
    return arena_zalloc(arena, bytes);
}

Slice arena_dup(Arena *arena, Slice bytes)
{
    uint8_t *memory = arena_alloc(arena, bytes.len);
    if (!memory)
        return slice_of(NULL, 0);
    if (bytes.len)
        memcpy(memory, bytes.data, bytes.len);
    return slice_of(memory, bytes.len);
}

char *arena_text(Arena *arena, Slice bytes)
{
    if (bytes.len == SIZE_MAX)
        return NULL;
    char *text = arena_alloc(arena, bytes.len + 1);
    if (!text)
        return NULL;
    if (bytes.len)
        memcpy(text, bytes.data, bytes.len);
    text[bytes.len] = '\0';
    return text;
}

char *arena_printf(Arena *arena, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    char *text = len < 0 ? NULL : arena_alloc(arena, (size_t)len + 1);
    if (text)
        vsnprintf(text, (size_t)len + 1, fmt, again);
    va_end(again);
    return text;
}

/* An ordinary block becomes the newest. A big one goes second; as the first of all it is the
 * newest and full. */
static void *arena_block_add(Arena *arena, size_t size, bool big)
{
    ArenaBlock *block = malloc(sizeof(*block) + size);
    if (!block)
        return NULL;
    block->size = size;
    arena->total += size;
    MEM_POISON(block->bytes, size);
    if (big && arena->blocks) {
        block->next = arena->blocks->next;
        arena->blocks->next = block;
    } else {
        block->next = arena->blocks;
        arena->blocks = block;
        arena->used = big ? size : 0;
    }
    return block;
}

static void arena_block_free(Arena *arena, ArenaBlock *block)
{
    arena->total -= block->size;
    MEM_UNPOISON(block->bytes, block->size);
    free(block);
}
