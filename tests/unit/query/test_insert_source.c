/*
 * What an INSERT is cut into. A user's rows would come from another query than the one written, or lose what ON
 * CONFLICT and RETURNING say.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "query/insert_source.h"

typedef struct Story {
    Arena arena;
    InsertSource source;
} Story;

static int setup(void **state)
{
    Story *s = calloc(1, sizeof *s);
    arena_init(&s->arena, 16 * 1024);
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    Story *s = *state;
    arena_finish(&s->arena);
    free(s);
    return 0;
}

static void cut(Story *s, const char *sql, const char *source)
{
    assert_true(insert_source_read(slice_str(sql), &s->arena, &s->source));
    assert_string_equal(arena_text(&s->arena, s->source.text), source);
}

/* Else: rows come from another query. */
static void the_source_is_a_query_of_its_own(void **state)
{
    Story *s = *state;
    cut(s, "INSERT INTO t SELECT a, b.\"C\", 1 FROM b", "SELECT a, b.\"C\", 1 FROM b");
    assert_int_equal(s->source.column_count, 3);
    assert_true(slice_is(s->source.columns[0].name, "a") && slice_is(s->source.columns[1].name, "C"));
    assert_true(slice_is(s->source.columns[1].qualifier, "b"));
    assert_int_equal(s->source.columns[2].name.len, 0);
    cut(s, "WITH w AS (SELECT 1) INSERT INTO t (x) SELECT * FROM w", "WITH w AS (SELECT 1) SELECT * FROM w");
    assert_true(s->source.star);
    cut(s, "INSERT INTO t TABLE u", "SELECT * FROM u");
    cut(s, "INSERT INTO t VALUES (1, DEFAULT)", "VALUES (1, DEFAULT)");
    assert_true(s->source.plain);
    cut(s, "INSERT INTO t DEFAULT VALUES", "");
    cut(s, "INSERT INTO t SELECT a FROM b UNION SELECT 1", "SELECT a FROM b UNION SELECT 1");
    assert_int_equal(s->source.column_count, 0);
}

/* Else: a conflict that was to be passed over fails the statement. */
static void the_tail_stays(void **state)
{
    Story *s = *state;
    cut(s, "INSERT INTO t AS x (a) SELECT a FROM b ON CONFLICT (a) DO UPDATE SET n = x.n + $1 RETURNING x.a",
        "SELECT a FROM b");
    assert_true(s->source.on_conflict && s->source.returning && s->source.conflict_params);
    assert_false(s->source.returning_params || s->source.reads_more || s->source.user_value);
    Slice columns[] = {SLICE("a"), SLICE("The \"n\"")};
    Slice text = insert_rows_text(SLICE("INSERT INTO t AS x (a) SELECT a FROM b ON CONFLICT (a) DO NOTHING RETURNING x.a"),
                                  SLICE("public"), SLICE("t"), columns, 2, 4, &s->arena);
    assert_string_equal(arena_text(&s->arena, text),
                        "INSERT INTO public.t AS x (a, \"The \"\"n\"\"\") OVERRIDING SYSTEM VALUE SELECT shoal_rows.a, "
                        "shoal_rows.\"The \"\"n\"\"\" FROM unnest($4::public.t[]) shoal_rows ON CONFLICT (a) DO NOTHING "
                        "RETURNING x.a");
}

/* Else: it is cut where the rest of it reads something else. */
static void what_cannot_be_cut_is_told(void **state)
{
    Story *s = *state;
    assert_false(insert_source_read(SLICE("INSERT INTO t (a[1]) SELECT 1"), &s->arena, &s->source));
    assert_false(insert_source_read(SLICE("WITH a AS (SELECT 1) INSERT INTO t WITH b AS (SELECT 2) SELECT * FROM a, b"),
                                    &s->arena, &s->source));
    assert_false(insert_source_read(SLICE("SELECT 1"), &s->arena, &s->source));
    cut(s, "INSERT INTO t OVERRIDING USER VALUE SELECT 1 RETURNING (SELECT 2)", "SELECT 1");
    assert_true(s->source.user_value && s->source.reads_more);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_source_is_a_query_of_its_own, setup, teardown),
        cmocka_unit_test_setup_teardown(the_tail_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_cut_is_told, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
