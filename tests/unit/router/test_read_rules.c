/* What may be answered by a replica: only what PostgreSQL would answer there alike. */
#include "router/read_rules.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static Catalog *catalog;
static ShapeCache cache;
static Arena arena;

static void add_table(const char *name, char kind, char persistence, bool row_security)
{
    CatalogTable *table = arena_new(&catalog->arena, CatalogTable);
    *table = (CatalogTable){.schema = SLICE("public"), .name = slice_str(name), .kind = kind,
                            .persistence = persistence, .row_security = row_security};
    assert_true(catalog_add_table(catalog, table));
}

static void add_function(const char *schema, const char *name, char volatility)
{
    CatalogFunction *function = arena_new(&catalog->arena, CatalogFunction);
    *function = (CatalogFunction){.schema = slice_str(schema), .name = slice_str(name), .volatility = volatility, .kind = 'f'};
    assert_true(catalog_add_function(catalog, function));
}

static int setup(void **state)
{
    (void)state;
    catalog = catalog_create();
    catalog->loaded = true;
    arena_init(&arena, 8192);
    shape_cache_init(&cache, 100, 1 << 20);
    add_table("t", 'r', 'p', false);
    add_table("parts", 'p', 'p', false);
    add_table("v", 'v', 'p', false);
    add_table("foreign_one", 'f', 'p', false);
    add_table("scratch", 'r', 'u', false);
    add_table("guarded", 'r', 'p', true);
    add_function("pg_catalog", "lower", 'i');
    add_function("pg_catalog", "now", 's');
    add_function("pg_catalog", "random", 'v');
    add_function("pg_catalog", "nextval", 'v');
    add_function("pg_catalog", "pg_advisory_lock", 'v');
    add_function("pg_catalog", "inet_server_addr", 's');
    add_function("public", "mine_stable", 's');
    add_function("public", "mine_volatile", 'v');
    add_function("public", "random", 'v');
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    catalog_free(catalog);
    shape_cache_finish(&cache);
    arena_finish(&arena);
    return 0;
}

static ReadRule rule(const char *sql)
{
    ShapeReading reading;
    assert_true(shape_read(&cache, slice_str(sql), true, true, &arena, &reading));
    ReadRuleInput input = {.shape = reading.shape, .catalog = catalog, .search_path = SLICE("public"), .user = SLICE("app")};
    ReadRule answer = read_rule(&input);
    shape_release(&cache, reading.shape);
    return answer;
}

static void test_reads_may_go(void **state)
{
    (void)state;
    assert_int_equal(rule("SELECT * FROM t WHERE id = 1"), READ_MAY_GO);
    assert_int_equal(rule("SELECT lower(a), now() FROM t JOIN parts USING (id)"), READ_MAY_GO);
    assert_int_equal(rule("WITH x AS (SELECT * FROM t) SELECT count(*) FROM x, LATERAL (SELECT 1) y"), READ_RULE_FUNCTION);
    assert_int_equal(rule("SELECT mine_stable() FROM t"), READ_MAY_GO);
    assert_int_equal(rule("SELECT pg_catalog.random()"), READ_MAY_GO);
}

/* Else: it fails there, or succeeds and means nothing. */
static void test_what_writes_locks_or_draws_does_not(void **state)
{
    (void)state;
    assert_int_equal(rule("UPDATE t SET a = 1"), READ_RULE_KIND);
    assert_int_equal(rule("SELECT * FROM t FOR UPDATE"), READ_RULE_LOCKING);
    assert_int_equal(rule("SELECT * INTO x FROM t"), READ_RULE_CLAUSE);
    assert_int_equal(rule("WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x"), READ_RULE_CLAUSE);
    assert_int_equal(rule("SELECT nextval('s')"), READ_RULE_FUNCTION);
    assert_int_not_equal(rule("SELECT pg_advisory_lock(1)"), READ_MAY_GO);
    assert_int_equal(rule("SELECT mine_volatile() FROM t"), READ_RULE_FUNCTION);
    assert_int_equal(rule("SELECT nobody_knows(1)"), READ_RULE_FUNCTION);
}

static void test_what_asks_about_the_server_does_not(void **state)
{
    (void)state;
    assert_int_equal(rule("SELECT inet_server_addr()"), READ_RULE_FUNCTION);
}

static void test_only_tables_that_are_replicated(void **state)
{
    (void)state;
    assert_int_equal(rule("SELECT * FROM v"), READ_RULE_TABLE);
    assert_int_equal(rule("SELECT * FROM foreign_one"), READ_RULE_TABLE);
    assert_int_equal(rule("SELECT * FROM scratch"), READ_RULE_TABLE);
    assert_int_equal(rule("SELECT * FROM guarded"), READ_RULE_SECURITY);
    assert_int_equal(rule("SELECT * FROM t, unheard_of"), READ_RULE_TABLE);
    assert_int_equal(rule("SELECT * FROM t WHERE EXISTS (SELECT 1 FROM v)"), READ_RULE_TABLE);
}

/* Else: a function of the user that hides a builtin one writes behind its name. */
static void test_a_name_found_twice_counts_as_the_worse(void **state)
{
    (void)state;
    assert_int_equal(rule("SELECT random() FROM t"), READ_RULE_FUNCTION);
}

static void test_an_unknown_catalog_means_no(void **state)
{
    (void)state;
    catalog->loaded = false;
    assert_int_equal(rule("SELECT * FROM t"), READ_RULE_CATALOG);
    catalog->loaded = true;
}

static bool begins(const char *sql, Slice isolation)
{
    ShapeReading reading;
    assert_true(shape_read(&cache, slice_str(sql), true, true, &arena, &reading));
    bool answer = read_rule_begin(reading.shape, isolation);
    shape_release(&cache, reading.shape);
    return answer;
}

static void test_read_only_transactions_say_so_themselves(void **state)
{
    (void)state;
    assert_true(begins("BEGIN READ ONLY", SLICE("")));
    assert_true(begins("START TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY", SLICE("")));
    assert_false(begins("BEGIN", SLICE("")));
    assert_false(begins("BEGIN READ WRITE", SLICE("")));
    assert_false(begins("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY", SLICE("")));
    assert_false(begins("BEGIN READ ONLY", SLICE("'Serializable'")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_may_go),
        cmocka_unit_test(test_what_writes_locks_or_draws_does_not),
        cmocka_unit_test(test_what_asks_about_the_server_does_not),
        cmocka_unit_test(test_only_tables_that_are_replicated),
        cmocka_unit_test(test_a_name_found_twice_counts_as_the_worse),
        cmocka_unit_test(test_an_unknown_catalog_means_no),
        cmocka_unit_test(test_read_only_transactions_say_so_themselves),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
