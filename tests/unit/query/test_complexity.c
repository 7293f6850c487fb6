/* test_complexity.c - statements that would overrun the parser's stack (hazard H43). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <pthread.h>
#include <cmocka.h>

#include "query/complexity.h"
#include "query/grammar.h"
#include "query/shape.h"
#include "query/tree.h"

/* `unit` n times between `before` and `middle`, then `close` n times, then `after`. */
typedef struct Nest {
    const char *before, *unit, *middle, *close, *after;
} Nest;

static const Nest nests[] = {
    {"select 1", "+1", "", "", ""},
    {"select ", "- ", "a", "", ""},
    {"select ", "not ", "a", "", ""},
    {"select a", " and a", "", "", ""},
    {"select a", " or a and b", "", "", ""},
    {"select ", "(", "1", ")", ""},
    {"select ", "((", "1", "))", ""},
    {"select ", "(- not ", "a", " + 1)", ""},
    {"select 1", " union select 1", "", "", ""},
    {"select 1", " union all (select 1", "", ")", ""},
    {"select 1", " intersect select 1, 2", "", "", ""},
    {"select ", "case when a then ", "1", " end", ""},
    {"select ", "case when a and b then ", "1", " end", ""},
    {"select ", "case when a then b else - ", "1", " end", ""},
    {"select ", "array[", "1", "]", ""},
    {"select array", "[", "1", "]", ""},
    {"select ", "a[", "1", "]", ""},
    {"select a", "[1]", "", "", ""},
    {"select ", "(select ", "1", ")", ""},
    {"select 1 order by ", "(select 1 order by ", "1", ")", ""},
    {"select 1 limit ", "(select 1 limit ", "1", ")", ""},
    {"select 1 group by ", "(select 1 group by ", "1", ")", ""},
    {"select * from ", "(select * from ", "t", ") x", ""},
    {"select * from ", "(select * from a, ", "t", ") x", ""},
    {"select * from ", "lateral (select * from ", "t", ") x", ""},
    {"select 1 where ", "exists (select 1 where ", "a", ")", ""},
    {"select 1 where a in (", "select 1 where a in (", "1", ")", ")"},
    {"", "with x as (", "select 1", ") select 1", ""},
    {"", "with x as (", "delete from t", ") delete from t", ""},
    {"", "with x as (insert into t select 1 where a = (", "select 1", ") returning 1) select 1", ""},
    {"select ", "f(", "1", ")", ""},
    {"select ", "f(1, 2, ", "1", ")", ""},
    {"select ", "f(a => ", "1", ")", ""},
    {"select ", "sum(", "1", ") over ()", ""},
    {"select ", "sum(1) over (order by ", "a", ")", ""},
    {"select ", "count(*) filter (where ", "a", ")", ""},
    {"select ", "count(a order by ", "a", ")", ""},
    {"select a", "::int", "", "", ""},
    {"select ", "cast(", "a", " as int)", ""},
    {"select a::t(", "b::t(", "1", ")", ")"},
    {"select a", " collate \"C\"", "", "", ""},
    {"select a", " at time zone 'x'", "", "", ""},
    {"select ", "(", "a", " is null)", ""},
    {"select ", "(", "a", ").b", ""},
    {"select ", "row(", "1", ")", ""},
    {"select ", "(1, ", "1", ")", ""},
    {"select ", "coalesce(", "1", ", 2)", ""},
    {"select ", "a between b and not ", "c", "", ""},
    {"select ", "a between b and - - - not ", "c", "", ""},
    {"select ", "a between case when p and q then 1 end and - - - not ", "c", "", ""},
    {"select ", "a operator(pg_catalog.+) ", "1", "", ""},
    {"select a", " || b like c", "", "", ""},
    {"select t.and", " + t.and + t.or", "", "", ""},
    {"select ", "xmlforest(", "a", " as b)", ""},
    {"select ", "a = any (array[", "1", "])", ""},
    {"select 1 group by ", "grouping sets (", "a", ")", ""},
    {"select * from t", " join t on a = b", "", "", ""},
    {"select * from t", " join t on a and b", "", "", ""},
    {"select * from t", " join t", "", " on a = b", ""},
    {"select * from t", " cross join t", "", "", ""},
    {"select * from t", " natural join t", "", "", ""},
    {"select * from t", " join t using (a, b)", "", "", ""},
    {"select * from ", "(", "t", " join t on true)", ""},
    {"select * from ", "rows from (f(", "(select 1)", ")) ", ""},
    {"insert into t select * from ", "(select * from ", "t", ") x", ""},
    {"values ", "((values ", "(1)", "))", ""},
    {"create view v as ", "select * from (", "select 1", ") x", ""},
};

static char *nest_text(const Nest *nest, size_t n)
{
    size_t unit = strlen(nest->unit) + strlen(nest->close);
    size_t size = strlen(nest->before) + strlen(nest->middle) + strlen(nest->after) + n * unit + 1;
    char *text = test_malloc(size), *to = stpcpy(text, nest->before);
    for (size_t i = 0; i < n; i++)
        to = stpcpy(to, nest->unit);
    to = stpcpy(to, nest->middle);
    for (size_t i = 0; i < n; i++)
        to = stpcpy(to, nest->close);
    stpcpy(to, nest->after);
    return text;
}

/* Messages under one another in the tree. */
typedef struct Depth {
    uint32_t now, most;
} Depth;

static void depth_visit(const ProtobufCMessage *message, void *context)
{
    Depth *depth = context;
    depth->now++;
    depth->most = MAX(depth->most, depth->now);
    tree_children(message, depth_visit, depth);
    depth->now--;
}

/* 0 when it is not in the grammar. */
static uint32_t tree_depth(const char *text)
{
    Arena arena;
    PgQuery__ParseResult *tree;
    Depth depth = {0};
    arena_init(&arena, 64 * 1024);
    if (grammar_parse(text, &arena, &tree) == GRAMMAR_OK)
        depth_visit(&tree->base, &depth);
    arena_finish(&arena);
    return depth.most;
}

/* Lost: a form of nesting that is not counted kills the process for all clients. */
static void test_steps_bound_the_tree(void **state)
{
    enum { AROUND = 24 }; /* messages of any statement: ParseResult, RawStmt, SelectStmt ... */
    unsigned wrong = 0, parsed = 0;
    for (size_t i = 0; i < ARRAY_LEN(nests); i++)
        for (size_t n = 1; n <= 64; n *= 8) {
            char *text = nest_text(&nests[i], n);
            Complexity complexity = complexity_measure(slice_str(text), true);
            uint32_t depth = tree_depth(text);
            parsed += depth > 0;
            if (depth > 2 * complexity.terms + AROUND) {
                print_error("%s: depth %u, %u steps\n", text, depth, complexity.terms);
                wrong++;
            }
            test_free(text);
        }
    assert_int_equal(wrong, 0);
    assert_true(parsed > ARRAY_LEN(nests) * 2); /* most of them are SQL */
}

/* Lost: a bulk INSERT or a long OR is refused although it is flat. */
static void test_wide_is_not_deep(void **state)
{
    static const Nest wide[] = {
        {"insert into t values (1)", ", (-1, 'x'::uuid, now() + 1, (1 + 2))", "", "", ""},
        {"select * from t where a = 1", " or (a = 1 and b = 2 and c between 1 and 2)", "", "", ""},
        {"select * from t where a in (-1", ", -1", "", "", ")"},
        {"select 1", ", case when a then b + 1 else -1 end as c", "", "", ""},
        {"select 1", "; select a + b", "", "", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(wide); i++) {
        char *text = nest_text(&wide[i], 2000);
        assert_true(complexity_measure(slice_str(text), true).terms < 20);
        test_free(text);
    }
}

typedef struct Attempt {
    const char *text;
    ShapeKind kind;
    bool too_complex;
} Attempt;

static void *attempt_run(void *data)
{
    Attempt *attempt = data;
    ShapeCache cache;
    Arena arena;
    ShapeReading reading;
    shape_cache_init(&cache, 10, 1 << 20);
    arena_init(&arena, 1024);
    if (shape_read(&cache, slice_str(attempt->text), true, true, &arena, &reading)) {
        attempt->kind = reading.shape->kind;
        attempt->too_complex = reading.shape->too_complex;
        shape_release(&cache, reading.shape);
    }
    shape_cache_finish(&cache);
    arena_finish(&arena);
    return NULL;
}

/* On a third of a 16 MiB stack: three times the room remains. */
static Attempt attempt_on_small_stack(const char *text)
{
    Attempt attempt = {.text = text};
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, (16u << 20) / 3);
    assert_int_equal(pthread_create(&thread, &attr, attempt_run, &attempt), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attr);
    return attempt;
}

/* Lost: SELECT 1+1+... of one client ends the router (PostgreSQL answers 54001). */
static void test_crashers(void **state)
{
    static const size_t counts[] = {1000, 64000};
    for (size_t i = 0; i < ARRAY_LEN(nests); i++)
        for (size_t k = 0; k < ARRAY_LEN(counts); k++) {
            char *text = nest_text(&nests[i], counts[k]);
            attempt_on_small_stack(text); /* reaching the next line is the test */
            test_free(text);
        }
    char *sum = nest_text(&nests[0], 64000);
    Attempt attempt = attempt_on_small_stack(sum);
    assert_int_equal(attempt.kind, SHAPE_UNPARSED);
    assert_true(attempt.too_complex);
    test_free(sum);
}

/* Lost: the limits' own depth is too much for a worker's stack. */
static void test_deepest_allowed(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(nests); i++) {
        size_t low = 1, high = 4000; /* the most that is not refused */
        while (low < high) {
            size_t middle = (low + high + 1) / 2;
            char *text = nest_text(&nests[i], middle);
            Complexity complexity = complexity_measure(slice_str(text), true);
            if (complexity.terms <= 2000 && complexity.depth <= 200)
                low = middle;
            else
                high = middle - 1;
            test_free(text);
        }
        char *text = nest_text(&nests[i], low);
        Attempt attempt = attempt_on_small_stack(text);
        assert_false(attempt.too_complex && strlen(text) < 100000);
        test_free(text);
    }
}

/* Lost: text behind an unbalanced parenthesis is not counted. */
static void test_unbalanced(void **state)
{
    assert_int_equal(complexity_measure(SLICE("((((1 + 1"), true).depth, 4);
    assert_true(complexity_measure(SLICE("((((1 + 1"), true).terms >= 5);
    assert_int_equal(complexity_measure(SLICE("))))"), true).depth, 0);
    char *deep = nest_text(&(Nest){"", "(", "", "", ""}, 100000);
    assert_int_equal(complexity_measure(slice_str(deep), true).depth, COMPLEXITY_DEPTH_MAX + 1);
    test_free(deep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps_bound_the_tree),
        cmocka_unit_test(test_wide_is_not_deep),
        cmocka_unit_test(test_crashers),
        cmocka_unit_test(test_deepest_allowed),
        cmocka_unit_test(test_unbalanced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
