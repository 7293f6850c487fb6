/*
 * One more AND-term. Without it, in the wrong place, or in a statement that means something else afterwards, rows that
 * are being moved are read, counted or changed twice.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "query/term.h"

static void expect(const char *sql, const char *wanted)
{
    Arena arena;
    arena_init(&arena, 4096);
    Slice text = term_add(slice_str(sql), "NOT COALESCE(t.id > 7, false)", "\"id\", \"Name\"", &arena);
    if (!slice_equal(text, slice_str(wanted)))
        fail_msg("%s: %.*s", sql, SLICE_FMT(text));
    arena_finish(&arena);
}

static void the_term_is_the_last_condition(void **state)
{
    expect("SELECT * FROM t", "SELECT * FROM t WHERE NOT COALESCE(t.id > 7, false)");
    expect("SELECT a, count(*) FROM t WHERE x OR y GROUP BY 1 HAVING count(*) > 1 ORDER BY 2 LIMIT 3",
           "SELECT a, count(*) FROM t WHERE (x OR y) AND NOT COALESCE(t.id > 7, false) GROUP BY 1 HAVING count(*) > 1 "
           "ORDER BY 2 LIMIT 3");
    expect("UPDATE t SET a = $1 WHERE b = $2 RETURNING a",
           "UPDATE t SET a = $1 WHERE b = $2 AND NOT COALESCE(t.id > 7, false) RETURNING a");
    expect("DELETE FROM s.x AS t USING u WHERE t.id = u.id",
           "DELETE FROM s.x t USING u WHERE t.id = u.id AND NOT COALESCE(t.id > 7, false)");
    expect("SELECT 1 FROM t LEFT JOIN u ON u.id = t.id FOR UPDATE OF t",
           "SELECT 1 FROM t LEFT JOIN u ON u.id = t.id WHERE NOT COALESCE(t.id > 7, false) FOR UPDATE OF t");
}

/* COPY of a table leaves out its children and its generated columns. */
static void copy_of_a_table_becomes_copy_of_its_rows(void **state)
{
    expect("COPY s.t TO STDOUT WITH (FORMAT csv, HEADER)",
           "COPY (SELECT id, \"Name\" FROM ONLY s.t WHERE NOT COALESCE(t.id > 7, false)) TO STDOUT WITH (FORMAT CSV, HEADER)");
    expect("COPY t (\"Name\") TO STDOUT",
           "COPY (SELECT \"Name\" FROM ONLY t WHERE NOT COALESCE(t.id > 7, false)) TO STDOUT");
    expect("COPY (SELECT id FROM t WHERE a) TO STDOUT",
           "COPY (SELECT id FROM t WHERE a AND NOT COALESCE(t.id > 7, false)) TO STDOUT");
}

static void what_cannot_take_it_is_refused(void **state)
{
    expect("SELECT 1 FROM t UNION ALL SELECT 2 FROM t", "");
    expect("SELECT * FROM (t JOIN u ON true) AS j", "");
    expect("DELETE FROM t WHERE CURRENT OF c", "");
    expect("INSERT INTO t VALUES (1)", "");
    expect("COPY t FROM STDIN", "");
    expect("not SQL", "");
    expect("SELECT 1 FROM t; SELECT 2 FROM t", "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_term_is_the_last_condition),
        cmocka_unit_test(copy_of_a_table_becomes_copy_of_its_rows),
        cmocka_unit_test(what_cannot_take_it_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
