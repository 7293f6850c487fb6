/* Arena, slab, and what happens when malloc says no (the linker puts our malloc before libc's). */
#include "story.h"

#include "core/arena.h"
#include "core/buf.h"
#include "core/loop.h"
#include "core/map.h"
#include "core/slab.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);

static int allocations_left = -1; /* -1: as many as you like */

static bool allocation_fails(void)
{
    if (allocations_left < 0)
        return false;
    return allocations_left-- == 0 ? (allocations_left = 0, true) : false;
}
void *__wrap_malloc(size_t size) { return allocation_fails() ? NULL : __real_malloc(size); }
void *__wrap_calloc(size_t n, size_t size)
{
    return allocation_fails() ? NULL : __real_calloc(n, size);
}

/* Else: two parts of one request overwrite each other. */
static void arena_pieces_never_overlap_and_are_aligned(void **state)
{
    Arena arena;
    struct {
        uint8_t *bytes;
        size_t n;
    } pieces[500];
    uint64_t random = 3;
    arena_init(&arena, 1024);
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
            pieces[i].n = story_random(&random) % (i % 50 == 0 ? 5000 : 100);
            pieces[i].bytes = arena_alloc(&arena, pieces[i].n);
            assert_non_null(pieces[i].bytes);
            assert_int_equal((uintptr_t)pieces[i].bytes % 16, 0);
            memset(pieces[i].bytes, (int)(i & 0xff), pieces[i].n);
        }
        for (size_t i = 0; i < ARRAY_LEN(pieces); i++)
            for (size_t k = 0; k < pieces[i].n; k++)
                assert_int_equal(pieces[i].bytes[k], i & 0xff);
        arena_reset(&arena);
        assert_true(arena.total <= 1024); /* one block is kept, for the next request */
    }
    arena_finish(&arena);
}

/* Else: a text is cut, not terminated, or a length from the wire wraps around. */
static void arena_copies_texts_and_refuses_absurd_sizes(void **state)
{
    Arena arena;
    arena_init(&arena, 100);
    assert_true(slice_is(arena_dup(&arena, SLICE("bytes")), "bytes"));
    assert_string_equal(arena_text(&arena, SLICE("text")), "text");
    assert_string_equal(arena_printf(&arena, "%d shards, %s", 3, "one map"), "3 shards, one map");
    assert_null(arena_alloc(&arena, SIZE_MAX - 3));
    assert_null(arena_zalloc_n(&arena, SIZE_MAX / 4, 8));
    uint64_t *zeros = arena_array(&arena, uint64_t, 100);
    assert_int_equal(zeros[0] | zeros[99], 0);
    arena_finish(&arena);
}

/* Else: a session's fields start with another session's secrets, or a leak goes unseen. */
static void slab_objects_are_zeroed_and_counted(void **state)
{
    Slab slab;
    char *objects[100];
    slab_init(&slab, 40, 7);
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < ARRAY_LEN(objects); i++) {
            objects[i] = slab_take(&slab);
            for (size_t k = 0; k < 40; k++)
                assert_int_equal(objects[i][k], 0);
            memset(objects[i], 0xff, 40);
        }
        assert_int_equal(slab.in_use, ARRAY_LEN(objects));
        for (size_t i = 0; i < ARRAY_LEN(objects); i++)
            slab_give(&slab, objects[(i * 37) % ARRAY_LEN(objects)]);
        assert_int_equal(slab.in_use, 0);
    }
    slab_give(&slab, NULL);
    slab_finish(&slab);
}

static bool int_equal(const void *item, const void *key)
{
    return *(const int *)item == *(const int *)key;
}

/* Else: the router dies, or loses what it had, when the machine is short of memory. */
static void exhaustion_is_an_answer_and_changes_nothing(void **state)
{
    Arena arena;
    Slab slab;
    Buf buf;
    Map map;
    Loop loop;
    int one = 1;
    arena_init(&arena, 64);
    slab_init(&slab, 64, 4);
    buf_init(&buf, 1 << 20);
    map_init(&map, int_equal);
    assert_true(buf_append(&buf, SLICE("kept")));

    allocations_left = 0;
    bool loop_ok = loop_init(&loop);
    void *from_arena = arena_alloc(&arena, 10), *from_slab = slab_take(&slab);
    Slice dup = arena_dup(&arena, SLICE("x"));
    uint8_t *from_buf = buf_reserve(&buf, 10000);
    bool put = map_put(&map, 1, &one);
    allocations_left = -1;

    assert_false(loop_ok);
    assert_null(from_arena);
    assert_null(dup.data);
    assert_null(from_slab);
    assert_null(from_buf);
    assert_false(put);
    assert_int_equal(slab.in_use, 0);
    assert_true(slice_is(buf_bytes(&buf), "kept"));
    assert_true(map_put(&map, 1, &one)); /* and goes on when there is memory again */
    assert_ptr_equal(map_get(&map, 1, &one), &one);
    map_finish(&map);
    buf_finish(&buf);
    slab_finish(&slab);
    arena_finish(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arena_pieces_never_overlap_and_are_aligned),
        cmocka_unit_test(arena_copies_texts_and_refuses_absurd_sizes),
        cmocka_unit_test(slab_objects_are_zeroed_and_counted),
        cmocka_unit_test(exhaustion_is_an_answer_and_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
