/* test_shape_cache.c - who keeps a Shape, and how much of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <pthread.h>
#include <cmocka.h>

#include "query/shape.h"

static ShapeReading read_text(ShapeCache *cache, Slice text)
{
    Arena arena;
    ShapeReading reading;
    arena_init(&arena, 1024);
    assert_true(shape_read(cache, text, true, true, &arena, &reading));
    arena_finish(&arena);
    reading.literals = NULL;
    return reading;
}

static Shape *read_shape(ShapeCache *cache, const char *sql)
{
    return read_text(cache, slice_str(sql)).shape;
}

static void read_and_release(ShapeCache *cache, const char *sql)
{
    shape_release(cache, read_shape(cache, sql));
}

/* Lost: each statement is parsed again and again. */
static void test_hit_and_miss(void **state)
{
    ShapeCache cache;
    shape_cache_init(&cache, 10, 1 << 20);
    Shape *first = read_shape(&cache, "select a from t where id = 1");
    Shape *again = read_shape(&cache, "select a from t where id = 2");
    assert_ptr_equal(first, again);
    assert_int_equal(first->refs, 2);
    assert_int_equal(cache.misses, 1);
    assert_int_equal(cache.hits, 1);
    shape_release(&cache, first);
    shape_release(&cache, again);
    read_and_release(&cache, "select a from t where id = 3");
    assert_int_equal(cache.misses, 1);
    assert_int_equal(cache.count, 1);
    shape_cache_finish(&cache);
}

/* Lost: a client that sends ever new statements fills the memory. */
static void test_eviction_by_count(void **state)
{
    ShapeCache cache;
    char sql[64];
    shape_cache_init(&cache, 10, 1 << 20);
    for (int i = 0; i < 100; i++) {
        read_and_release(&cache, "select favourite");
        snprintf(sql, sizeof(sql), "select c%d", i);
        read_and_release(&cache, sql);
    }
    assert_int_equal(cache.count, 10);
    assert_int_equal(cache.misses, 101); /* the favourite was never dropped */
    shape_cache_finish(&cache);
}

/* Lost: as above, with few and fat statements. */
static void test_eviction_by_bytes(void **state)
{
    ShapeCache cache;
    char sql[128];
    shape_cache_init(&cache, 1000, 60 * 1024);
    for (int i = 0; i < 100; i++) {
        snprintf(sql, sizeof(sql), "select c%d as a%0*d", i, 50, 1);
        read_and_release(&cache, sql);
        assert_true(cache.bytes <= cache.bytes_max);
    }
    assert_true(cache.count > 10 && cache.count < 100);
    shape_cache_finish(&cache);
    assert_int_equal(cache.bytes, 0);
}

/* Lost: a prepared statement's Shape is freed while the session uses it. */
static void test_referenced_are_kept(void **state)
{
    ShapeCache cache;
    char sql[64];
    shape_cache_init(&cache, 2, 1 << 20);
    Shape *held[5];
    for (int i = 0; i < 5; i++) {
        snprintf(sql, sizeof(sql), "select c%d from t%d", i, i);
        held[i] = read_shape(&cache, sql);
    }
    assert_int_equal(cache.count, 2);
    for (int i = 0; i < 5; i++) {
        snprintf(sql, sizeof(sql), "t%d", i);
        assert_true(slice_is(held[i]->tables[0].name.name, sql));
        shape_retain(held[i]);
        shape_release(&cache, held[i]);
        shape_release(&cache, held[i]);
    }
    assert_int_equal(cache.count, 2);
    shape_cache_finish(&cache);
}

/* Lost: one giant statement pushes all others out. */
static void test_giant_stays_outside(void **state)
{
    ShapeCache cache;
    static char sql[64 * 1024];
    shape_cache_init(&cache, 100, 128 * 1024);
    read_and_release(&cache, "select small");
    char *to = stpcpy(sql, "insert into t values (1)");
    for (int i = 0; i < 5000; i++)
        to = stpcpy(to, ",(1)");
    Shape *giant = read_shape(&cache, sql);
    assert_int_equal(giant->kind, SHAPE_INSERT);
    assert_int_equal(giant->insert.rows, 5001);
    shape_release(&cache, giant);
    assert_int_equal(cache.count, 1);
    shape_cache_finish(&cache);
}

/* Lost: a text of a gigabyte is parsed for minutes. */
static void test_too_long(void **state)
{
    ShapeCache cache;
    shape_cache_init(&cache, 100, 1 << 20);
    cache.text_max = 20;
    Shape *longer = read_shape(&cache, "select something from a_table");
    assert_int_equal(longer->kind, SHAPE_UNPARSED);
    assert_true(longer->too_complex);
    assert_int_equal(longer->table_count, 0);
    shape_release(&cache, longer);
    assert_int_equal(cache.count, 0);
    cache.text_max = 1000;
    cache.tokens_max = 3;
    Shape *many = read_shape(&cache, "insert into t values (1)");
    assert_int_equal(many->kind, SHAPE_UNPARSED);
    assert_true(many->too_complex);
    shape_release(&cache, many);
    shape_cache_finish(&cache);
}

/* Lost: a typing error in a loop costs a parse each time. */
static void test_errors_are_remembered(void **state)
{
    ShapeCache cache;
    shape_cache_init(&cache, 100, 1 << 20);
    read_and_release(&cache, "selec 1");
    read_and_release(&cache, "selec 2");
    assert_int_equal(cache.parse_errors, 1);
    assert_int_equal(cache.hits, 1);
    shape_cache_finish(&cache);
}

/* Lost: NUL inside a text cuts what the parser sees, but not what PostgreSQL sees. */
static void test_nul(void **state)
{
    ShapeCache cache;
    shape_cache_init(&cache, 100, 1 << 20);
    static const char quoted[] = "select 'a\0b' from t", bare[] = "select 1\0; drop table t";
    Shape *shape = read_text(&cache, slice_of(quoted, sizeof(quoted) - 1)).shape;
    assert_int_equal(shape->kind, SHAPE_UNPARSED);
    shape_release(&cache, shape);
    shape = read_text(&cache, slice_of(bare, sizeof(bare) - 1)).shape;
    assert_int_equal(shape->kind, SHAPE_UNPARSED);
    shape_release(&cache, shape);
    shape_cache_finish(&cache);
}

/* Lost: the template with its structural literals is found no more once its stub was dropped. */
static void test_stub_dropped(void **state)
{
    ShapeCache cache;
    shape_cache_init(&cache, 2, 1 << 20);
    Shape *held = read_shape(&cache, "select a from t order by 1");
    read_and_release(&cache, "select b");
    read_and_release(&cache, "select c");
    Shape *again = read_shape(&cache, "select a from t order by 1");
    assert_ptr_equal(held, again);
    shape_release(&cache, held);
    shape_release(&cache, again);
    shape_cache_finish(&cache);
}

static void *worker_run(void *data)
{
    ShapeCache cache;
    char sql[128];
    shape_cache_init(&cache, 50, 1 << 20);
    for (int i = 0; i < 300; i++) {
        snprintf(sql, sizeof(sql), i % 7 ? "select c%d from t where id = %d" : "selec c%d %d", i % 100, i);
        Arena arena;
        ShapeReading reading;
        arena_init(&arena, 1024);
        if (shape_read(&cache, slice_str(sql), true, true, &arena, &reading)) {
            *(unsigned *)data += reading.shape->kind == (i % 7 ? SHAPE_SELECT : SHAPE_UNPARSED);
            shape_release(&cache, reading.shape);
        }
        arena_finish(&arena);
    }
    shape_cache_finish(&cache);
    return NULL;
}

/* Lost: two workers parse at the same time and one gets the other's tree, or memory leaks. */
static void test_several_workers(void **state)
{
    pthread_t threads[4];
    unsigned right[4] = {0};
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 4; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, worker_run, &right[i]), 0);
        for (int i = 0; i < 4; i++)
            pthread_join(threads[i], NULL);
    }
    for (int i = 0; i < 4; i++)
        assert_int_equal(right[i], 900);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hit_and_miss),
        cmocka_unit_test(test_eviction_by_count),
        cmocka_unit_test(test_eviction_by_bytes),
        cmocka_unit_test(test_referenced_are_kept),
        cmocka_unit_test(test_giant_stays_outside),
        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_errors_are_remembered),
        cmocka_unit_test(test_nul),
        cmocka_unit_test(test_stub_dropped),
        cmocka_unit_test(test_several_workers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
