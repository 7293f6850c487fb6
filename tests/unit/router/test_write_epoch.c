/*
 * Which answers a write throws away. A user would be told of what was before a write that he has seen
 * acknowledged, if one of these pairs were wrong.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "router/write_epoch.h"

static Catalog *catalog;
static Catalog *catalogs[2];
static DatabaseConfig databases[2] = {{.name = "app", .dbname = "app"}, {.name = "other", .dbname = "other"}};
static Config config = {.databases = databases, .database_count = 2};
static Topology topology = {.config = &config, .catalogs = catalogs};
static ShapeCache shapes;
static Arena arena;
static WriteEpochs epochs;

static CatalogTable *table(const char *name, char kind)
{
    CatalogTable *t = arena_new(&catalog->arena, CatalogTable);
    *t = (CatalogTable){.schema = SLICE("public"), .name = slice_str(name), .kind = kind, .persistence = 'p'};
    assert_true(catalog_add_table(catalog, t));
    return t;
}

static void function(const char *schema, const char *name, char volatility)
{
    CatalogFunction *f = arena_new(&catalog->arena, CatalogFunction);
    *f = (CatalogFunction){.schema = slice_str(schema), .name = slice_str(name), .volatility = volatility, .kind = 'f'};
    assert_true(catalog_add_function(catalog, f));
}

static int start(void **state)
{
    (void)state;
    catalogs[0] = catalogs[1] = catalog = catalog_create();
    table("users", 'r'), table("posts", 'r'), table("dear", 'v'), table("days", 'm');
    table("parts", 'p')->has_children = true;
    table("parts_1", 'r');
    table("owners", 'r')->cascades = true;
    table("audited", 'r')->has_rules_or_triggers = true;
    function("public", "touch", 'v'), function("public", "twice", 'i'), function("pg_catalog", "random", 'v');
    catalog->search_path = SLICE("public");
    catalog->loaded = true;
    shape_cache_init(&shapes, 1000, 1 << 24);
    arena_init(&arena, 4096);
    return 0;
}
static int stop(void **state)
{
    (void)state;
    shape_cache_finish(&shapes);
    arena_finish(&arena);
    catalog_free(catalog);
    return 0;
}

static WriteSet set_of(const char *sql, uint32_t database, bool reads)
{
    ShapeReading reading;
    WriteSet set = {0};
    WriteScope scope = {&topology, database, SLICE("alice"), SLICE("public"), false};
    assert_true(shape_read(&shapes, slice_str(sql), true, true, &arena, &reading));
    if (reads)
        assert_true(write_set_add_reads(&set, &scope, reading.shape));
    else
        write_set_add_writes(&set, &scope, reading.shape);
    shape_release(&shapes, reading.shape);
    return set;
}

static bool throws_away(const char *write, uint32_t database, const char *read)
{
    WriteSet reads = set_of(read, 0, true), writes = set_of(write, database, false);
    uint64_t before = write_epochs_sum(&epochs, &reads);
    write_epochs_increase(&epochs, &writes);
    return write_epochs_sum(&epochs, &reads) != before;
}

static void check(const char *write, const char *read, bool wanted)
{
    if (throws_away(write, 0, read) != wanted)
        fail_msg("%s\n  should %s %s", write, wanted ? "throw away" : "leave", read);
}

#define USERS "select name from users where id = 1"
#define PARTS "select v from parts where id = 1"

static void writes_to_the_table_count(void **state)
{
    (void)state;
    check("update users set name = 'x' where id = 2", USERS, true);
    check("insert into users values (1)", USERS, true);
    check("delete from public.users", USERS, true);
    check("copy users from stdin", USERS, true);
    check("merge into users u using posts p on u.id = p.id when matched then delete", USERS, true);
    check("select 1; update users set n = 1", USERS, true);
    check("update users set n = 1", "select 1 from posts p join users u on u.id = p.id where p.id = 1", true);
}

static void writes_elsewhere_do_not(void **state)
{
    (void)state;
    check("update posts set title = 'x'", USERS, false);
    check("select name from users", USERS, false);
    check("select twice(id), random() from users", USERS, false);
    check("begin", USERS, false);
    check("commit", USERS, false);
    check("set search_path = x", USERS, false);
    assert_false(throws_away("update users set name = 'x'", 1, USERS));
}

static void what_cannot_be_followed_counts(void **state)
{
    (void)state;
    static const char *const WRITES[] = {
        "select touch(1)", "select unknown_function(1)", "update posts set title = touch(1)", "call p()",
        "do $$ begin end $$", "truncate posts", "alter table posts add c int", "refresh materialized view days",
        "update dear set n = 1", "insert into audited values (1)", "delete from owners", "execute q(1)",
        "update parts set v = 'x'", "with w as (delete from posts returning id) select * from w",
        "explain analyze delete from users", "select * into fresh from users", "commit prepared 'x'",
        "insert into nowhere values (1)", "this is no SQL",
    };
    for (size_t i = 0; i < ARRAY_LEN(WRITES); i++)
        check(WRITES[i], USERS, true);
    check("insert into owners values (1)", USERS, false); /* nothing cascades from there */
}

static void partitions_are_written_under_other_names(void **state)
{
    (void)state;
    check("update parts_1 set v = 'x'", PARTS, true);
    check("update parts set v = 'x'", "select v from parts_1 where id = 1", true);
    check("update users set n = 1", PARTS, true); /* too much, but never too little */
    check("update users set n = 1", "select v from days where id = 1", true);
}

static void too_many_tables_mean_all(void **state)
{
    (void)state;
    WriteSet set = {0};
    for (int i = 0; i < 40; i++) {
        WriteSet one = set_of(i % 2 ? "update users set n = 1" : "update posts set n = 1", 0, false);
        for (uint8_t k = 0; k < one.count && !set.full; k++) {
            if (set.count == WRITE_SET_MAX)
                set.full = true;
            else
                set.slots[set.count++] = (uint16_t)(one.slots[k] + i * 7);
        }
    }
    assert_true(set.full);
    WriteSet reads = set_of(USERS, 0, true);
    uint64_t before = write_epochs_sum(&epochs, &reads);
    write_epochs_increase(&epochs, &set);
    assert_true(write_epochs_sum(&epochs, &reads) != before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_to_the_table_count),
        cmocka_unit_test(writes_elsewhere_do_not),
        cmocka_unit_test(what_cannot_be_followed_counts),
        cmocka_unit_test(partitions_are_written_under_other_names),
        cmocka_unit_test(too_many_tables_mean_all),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
