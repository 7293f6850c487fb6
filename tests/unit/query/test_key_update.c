/*
 * An UPDATE of the shard key, cut up. A wrong cut moves other rows than were changed, loses a value on the way, or
 * returns columns that the client did not ask for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "query/key_update.h"

static Arena arena;

static KeyUpdate cut(const char *sql)
{
    static Slice columns[2], keys[1];
    KeyUpdate made;
    columns[0] = keys[0] = SLICE("k");
    columns[1] = SLICE("Odd \"x\"");
    const KeyUpdateTable table = {.schema = SLICE("s"), .name = SLICE("t"), .keys = keys, .key_count = 1,
                                  .columns = columns, .column_count = 2};
    assert_true(key_update_read(slice_str(sql), &table, &arena, &made));
    return made;
}

static void same(Slice text, const char *wanted)
{
    if (!slice_equal(text, slice_str(wanted)))
        fail_msg("%.*s", SLICE_FMT(text));
}

static void the_update_says_where_its_rows_lie(void **state)
{
    KeyUpdate made = cut("UPDATE t SET k = $2 + 1 WHERE k > $1");
    same(made.update, "UPDATE t SET k = $2 + 1 WHERE k > $1 RETURNING t.k::pg_catalog.text, t.ctid::pg_catalog.text, "
                      "t.*::pg_catalog.text");
    same(made.remove, "DELETE FROM ONLY \"s\".\"t\" WHERE ctid OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.tid[])");
    same(made.insert, "INSERT INTO s.t (k, \"Odd \"\"x\"\"\") OVERRIDING SYSTEM VALUE SELECT shoal_rows.k, "
                      "shoal_rows.\"Odd \"\"x\"\"\" FROM pg_catalog.unnest($1::s.t[]) shoal_rows");
    assert_false(made.returning);
    assert_int_equal(made.reread.len, 0);
}

static void returning_goes_with_the_rows(void **state)
{
    KeyUpdate made = cut("UPDATE s.t AS a SET k = 1 RETURNING a.k, a.\"Odd \"\"x\"\"\" AS y");
    assert_true(made.returning && !made.returns_more);
    assert_non_null(strstr((const char *)made.update.data, "RETURNING a.k::pg_catalog.text"));
    assert_non_null(memmem(made.insert.data, made.insert.len, "INSERT INTO s.t AS a", 20));
    assert_non_null(memmem(made.insert.data, made.insert.len, "RETURNING a.k, a.\"Odd \"\"x\"\"\" AS y", 33));
    same(made.reread, "SELECT a.k, a.\"Odd \"\"x\"\"\" AS y FROM ONLY s.t a WHERE a.ctid OPERATOR(pg_catalog.=) ANY"
                      "($1::pg_catalog.tid[])");
}

static void what_only_the_update_knows_is_told(void **state)
{
    KeyUpdate made;
    assert_true(cut("UPDATE t SET k = 1 RETURNING k + $1").returns_more);
    assert_true(cut("UPDATE t SET k = 1 RETURNING (SELECT 1)").returns_more);
    assert_true(cut("UPDATE t SET k = 1 FROM u RETURNING u.x").returns_more);
    assert_false(cut("UPDATE t SET k = $1 FROM u WHERE u.k = t.k").returns_more);
    assert_false(key_update_read(SLICE("DELETE FROM t"), &(KeyUpdateTable){0}, &arena, &made));
    assert_false(key_update_read(SLICE("UPDATE t SET"), &(KeyUpdateTable){0}, &arena, &made));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_update_says_where_its_rows_lie),
        cmocka_unit_test(returning_goes_with_the_rows),
        cmocka_unit_test(what_only_the_update_knows_is_told),
    };
    arena_init(&arena, 4096);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    arena_finish(&arena);
    return failed;
}
