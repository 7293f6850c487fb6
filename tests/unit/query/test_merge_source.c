/*
 * A MERGE cut into its rows and what it does with them. A wrong cut matches rows by another column than the key, gives
 * a column another name or another row's value, or sends rows where their target does not lie.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "query/merge_source.h"

static Arena arena;
static const char *why;

static const Slice *columns_of(void *context, Slice schema, Slice name, uint32_t *ret_count)
{
    static Slice columns[2];
    columns[0] = SLICE("id");
    columns[1] = SLICE("note");
    *ret_count = 2;
    return slice_is(name, "src") ? columns : NULL;
}

static bool read_it(const char *sql, MergeSource *ret)
{
    static Slice keys[1];
    static const uint32_t positions[1] = {0};
    keys[0] = SLICE("k");
    const MergeTables tables = {.keys = keys, .positions = positions, .key_count = 1, .columns = columns_of};
    return merge_source_read(slice_str(sql), &tables, 4, &arena, ret, &why);
}

/* "name name ..." of the source's columns; `on` and `when` are the rest of the statement. */
static void names_are(const char *source, const char *wanted)
{
    MergeSource made;
    char *sql = arena_printf(&arena, "%s ON t.k = s.k WHEN MATCHED THEN DELETE", source), all[256] = "";
    if (!read_it(sql, &made))
        fail_msg("%s: %s", source, why);
    for (uint32_t i = 0; i < made.column_count; i++)
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%.*s", i ? " " : "", SLICE_FMT(made.names[i]));
    assert_string_equal(all, wanted);
}

static void columns_have_the_names_that_postgres_gives_them(void **state)
{
    names_are("MERGE INTO t USING (VALUES (1, 2)) s (k)", "k column2");
    names_are("MERGE INTO t USING (SELECT a.k, count(*), x::int8, 1, '2'::text, coalesce(a, b), a + 1 AS \"Odd x\" FROM a) s",
              "k count x ?column? text coalesce Odd x");
    names_are("MERGE INTO t USING (SELECT k, g::int::text, max(x)::int, (1 + 2)::int8, greatest(1, 2)::int FROM a) s",
              "k g max int8 greatest");
    names_are("MERGE INTO t USING src AS s (k)", "k note");
    names_are("MERGE INTO t USING (SELECT * FROM src x (k, l) UNION SELECT 1, 2) s", "k l");
    names_are("WITH a (k) AS (SELECT * FROM src), s AS (SELECT * FROM a) MERGE INTO t USING s", "k note");
    names_are("MERGE INTO t USING unnest(ARRAY[1], ARRAY['a']) AS s (k, x)", "k x");
    names_are("MERGE INTO t USING json_to_recordset('[]') AS s (k int, x text)", "k x");
}

/* Else: a name of an inner WITH is taken for a table's, or the other way round. */
static void names_that_are_not_certain_are_refused(void **state)
{
    static const char *const SOURCES[] = {
        "MERGE INTO t USING (SELECT * FROM src, src x) s", "MERGE INTO t USING (SELECT * FROM unknown) s",
        "MERGE INTO t USING unknown s", "MERGE INTO t USING (SELECT k, CASE WHEN a THEN 1 END FROM a) s",
        "WITH b AS (SELECT 1 AS k) MERGE INTO t USING (WITH c AS (SELECT 2) SELECT * FROM b) s",
        "WITH s AS (SELECT * FROM later), later AS (SELECT 1 AS k) MERGE INTO t USING s",
        "MERGE INTO t USING generate_series(1, 2) s", "MERGE INTO t USING (src a JOIN src b ON true) s",
    };
    for (size_t i = 0; i < ARRAY_LEN(SOURCES); i++) {
        MergeSource made;
        char *sql = arena_printf(&arena, "%s ON t.k = s.k WHEN MATCHED THEN DELETE", SOURCES[i]);
        if (read_it(sql, &made))
            fail_msg("%s", SOURCES[i]);
    }
}

static void facts_are(const char *rest, bool joined, bool inserts, bool inserts_key)
{
    MergeSource made;
    char *sql = arena_printf(&arena, "MERGE INTO t USING (SELECT id, note, id AS k2 FROM src) s ON %s", rest);
    if (!read_it(sql, &made))
        fail_msg("%s: %s", rest, why);
    if (made.joined != joined || made.inserts != inserts || made.inserts_key != inserts_key)
        fail_msg("%s: %d %d %d", rest, made.joined, made.inserts, made.inserts_key);
}

/* Else: a row is inserted where nobody looks for it, or matched where its target does not lie. */
static void the_key_is_followed_from_on_to_insert(void **state)
{
    facts_are("t.k = s.id WHEN MATCHED THEN DELETE", true, false, true);
    facts_are("id = k AND t.x > 1 WHEN NOT MATCHED THEN INSERT (k) VALUES (id)", true, true, true);
    facts_are("s.id = t.k WHEN NOT MATCHED THEN INSERT VALUES (s.id, 1)", true, true, true);
    facts_are("t.k = s.id WHEN NOT MATCHED THEN INSERT (k) VALUES (s.k2)", true, true, false);
    facts_are("t.k = s.id WHEN NOT MATCHED THEN INSERT (x) VALUES (s.id)", true, true, false);
    facts_are("t.k = s.id WHEN NOT MATCHED THEN INSERT DEFAULT VALUES", true, true, false);
    facts_are("t.k = s.id WHEN NOT MATCHED THEN INSERT OVERRIDING USER VALUE VALUES (s.id)", true, true, false);
    facts_are("t.k = s.id WHEN NOT MATCHED AND s.note = '' THEN INSERT VALUES (id) WHEN NOT MATCHED THEN INSERT VALUES (1)",
              true, true, false);
    facts_are("t.k = s.id OR t.x = 1 WHEN MATCHED THEN DELETE", false, false, false);
    facts_are("t.k = s.id + 1 WHEN MATCHED THEN DELETE", false, false, false);
    facts_are("t.k < s.id WHEN MATCHED THEN DELETE", false, false, false);
    facts_are("t.x = s.id WHEN MATCHED THEN DELETE", false, false, false);
    facts_are("s.k = s.id WHEN MATCHED THEN DELETE", false, false, false);
}

static void values_are_seen(void **state)
{
    MergeSource made;
    assert_true(read_it("MERGE INTO t USING (VALUES (-7, 'a'), ($2::int8, 'b'), (5000000000, '')) s (a, x) ON t.k = s.a "
                        "WHEN MATCHED THEN UPDATE SET x = $3", &made));
    assert_int_equal(made.value_rows, 3);
    assert_true(slice_is(made.values[0].text, "-7") && made.values[0].kind == MERGE_VALUE_INTEGER);
    assert_true(made.values[1].kind == MERGE_VALUE_PARAM && made.values[1].param == 2 && slice_is(made.values[1].cast, "int8"));
    assert_true(slice_is(made.values[2].text, "5000000000"));
    assert_true(made.params[2] && !made.params[3] && made.rest_params[3] && !made.rest_params[2] && !made.reads_more);
    assert_true(read_it("MERGE INTO t USING (SELECT 1 AS a WHERE now() > $1) s ON t.k = s.a WHEN MATCHED THEN DELETE", &made));
    assert_null(made.values); /* it may give no row */
    assert_true(read_it("MERGE INTO t USING (SELECT generate_series(1, 9) AS a) s ON t.k = s.a WHEN MATCHED THEN DELETE", &made));
    assert_null(made.values);
    assert_true(read_it("MERGE INTO t USING (VALUES (1)) s (a) ON t.k = s.a WHEN MATCHED THEN UPDATE SET x = (SELECT 1)", &made));
    assert_true(made.reads_more);
}

static void same(Slice text, const char *wanted)
{
    if (!slice_equal(text, slice_str(wanted)))
        fail_msg("%.*s", SLICE_FMT(text));
}

static void rows_come_as_texts_of_their_types(void **state)
{
    MergeSource made;
    const char *sql = "WITH w AS (SELECT 1 AS a, '' AS \"B c\") MERGE INTO t AS x USING w AS s ON x.k = s.a WHEN MATCHED THEN DELETE";
    const Slice types[] = {SLICE("integer"), SLICE("\"bit\"")};
    assert_true(read_it(sql, &made));
    same(made.text, "WITH w AS (SELECT 1 AS a, '' AS \"B c\") SELECT * FROM w s");
    same(merge_rows_text(slice_str(sql), &made, types, 3, &arena),
         "MERGE INTO t x USING (SELECT shoal_r.a[1]::int AS a, shoal_r.a[2]::\"bit\" AS \"B c\" FROM (SELECT x::pg_catalog.text[] "
         "AS a FROM pg_catalog.unnest($3::pg_catalog.text[]) u(x) OFFSET 0) shoal_r) s ON x.k = s.a WHEN MATCHED THEN DELETE");
    Slice query = merge_query_text(&made, 1, made.text, &arena);
    assert_non_null(memmem(query.data, query.len, "WITH shoal_s (c1, c2) AS MATERIALIZED (WITH w AS", 48));
    assert_non_null(memmem(query.data, query.len, "SELECT 'T', pg_catalog.pg_typeof(shoal_s.c1)", 43));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_have_the_names_that_postgres_gives_them),
        cmocka_unit_test(names_that_are_not_certain_are_refused),
        cmocka_unit_test(the_key_is_followed_from_on_to_insert),
        cmocka_unit_test(values_are_seen),
        cmocka_unit_test(rows_come_as_texts_of_their_types),
    };
    arena_init(&arena, 1 << 16);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    arena_finish(&arena);
    return failed;
}
