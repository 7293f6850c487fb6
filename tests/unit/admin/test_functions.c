/* test_functions.c - what shoal.*() functions accept: names, arguments, tables and keys. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "admin/distribute.h"

/*
 * A database `app` on two shards, with
 *     orders(customer int4, note text, price float8, kind text nondeterministic)
 *     events(customer int8), distributed by customer        a view v
 */
typedef struct World {
    Config config;
    uint32_t home; /* shard 0, the only one */
    uint32_t config_refs;
    DatabaseConfig database;
    TableConfig declared;
    Topology *topology;
    ShardMap *map;
    Arena arena;
    Error err;
} World;

static CatalogTable *add_table(Catalog *catalog, const char *name, char kind, uint32_t columns)
{
    CatalogTable *table = arena_new(&catalog->arena, CatalogTable);
    table->schema = SLICE("public");
    table->name = slice_str(name);
    table->kind = kind;
    table->persistence = 'p';
    table->columns = arena_array(&catalog->arena, CatalogColumn, columns);
    table->column_count = columns;
    assert_true(catalog_add_table(catalog, table));
    return table;
}

static CatalogColumn column(const char *name, uint32_t type_oid, bool deterministic)
{
    return (CatalogColumn){
        .name = slice_str(name), .type_oid = type_oid, .deterministic = deterministic};
}

static Catalog *make_catalog(bool loaded)
{
    Catalog *catalog = catalog_create();
    catalog->loaded = loaded;
    CatalogTable *orders = add_table(catalog, "orders", 'r', 4);
    orders->columns[0] = column("customer", 23, true);
    orders->columns[1] = column("note", 25, true);
    orders->columns[2] = column("price", 701, true);
    orders->columns[3] = column("kind", 25, false);
    CatalogTable *events = add_table(catalog, "events", 'r', 1);
    events->columns[0] = column("customer", 20, true);
    CatalogTable *parent = add_table(catalog, "parent", 'r', 1);
    parent->columns[0] = column("id", 20, true);
    parent->has_children = true;
    add_table(catalog, "v", 'v', 0);
    return catalog;
}

static void make_topology(World *world, bool loaded)
{
    Table events = {.schema = SLICE("public"),
                    .name = SLICE("events"),
                    .key = SLICE("customer"),
                    .colocation = SLICE("default")};
    Catalog *catalog = make_catalog(loaded);
    topology_destroy(world->topology ? &world->topology->published : NULL);
    world->topology = topology_create(&world->config, &world->config_refs, world->map, &events, 1,
                                      &catalog, &world->err);
    assert_non_null(world->topology);
    catalog_free(catalog);
}

static int setup(void **state)
{
    World *world = calloc(1, sizeof *world);
    world->database = (DatabaseConfig){.name = "app", .dbname = "app", .shards = &world->home, .shard_count = 1};
    world->config =
        (Config){.path = "shards.ini", .databases = &world->database, .database_count = 1};
    world->config_refs = 1;
    world->map = shard_map_create(1024);
    arena_init(&world->arena, 1024);
    make_topology(world, true);
    *state = world;
    return 0;
}

static int teardown(void **state)
{
    World *world = *state;
    topology_destroy(&world->topology->published);
    shard_map_free(world->map);
    arena_finish(&world->arena);
    free(world);
    return 0;
}

static bool distribute(World *world, DistributePlan *plan, const char *table, const char *key,
                       const char *with)
{
    Slice args[] = {slice_str(table), slice_str(key), slice_str(with)};
    return distribute_plan_make(world->topology, 0, "distribute_table", args, with ? 3 : 2, &world->arena, plan,
                                &world->err);
}

static void refuses(World *world, const char *table, const char *key, const char *with,
                    const char *sqlstate)
{
    DistributePlan plan;
    assert_false(distribute(world, &plan, table, key, with));
    assert_string_equal(world->err.sqlstate, sqlstate);
}

/* Rows would be spread by a column that was not asked for. */
static void test_plan(void **state)
{
    DistributePlan plan;
    assert_true(distribute(*state, &plan, "orders", "customer", NULL));
    assert_false(plan.already);
    assert_string_equal(plan.schema, "public");
    assert_string_equal(plan.name, "orders");
    assert_string_equal(plan.key_text, "customer");
    assert_int_equal(plan.keys[0].type, KEY_INT);
    assert_true(distribute(*state, &plan, "Public.ORDERS", "note", NULL));
    assert_int_equal(plan.keys[0].type, KEY_TEXT);
}

/* A mistake in a migration must be told by name, before anything is touched. */
static void test_refused(void **state)
{
    World *world = *state;
    refuses(world, "nowhere", "customer", NULL, "42P01");
    refuses(world, "\"Orders\"", "customer", NULL, "42P01");
    refuses(world, "orders", "custmer", NULL, "42703");
    refuses(world, "orders", "price", NULL, "42804");
    assert_non_null(strstr(world->err.hint, "bigint"));
    refuses(world, "orders", "kind", NULL, "42804");
    refuses(world, "v", "x", NULL, "42809");
    refuses(world, "parent", "id", NULL, "42809");
    refuses(world, "a.b.c", "x", NULL, "42602");
    refuses(world, "", "x", NULL, "42602");
    refuses(world, NULL, "x", NULL, "22004");
    refuses(world, "orders", NULL, NULL, "22004");
}

/* Running a migration twice is no error; running another one is. */
static void test_already(void **state)
{
    World *world = *state;
    DistributePlan plan;
    assert_true(distribute(world, &plan, "events", "customer", NULL));
    assert_true(plan.already);
    CatalogTable *events = (CatalogTable *)(uintptr_t)catalog_table(
        world->topology->catalogs[0], SLICE("public"), SLICE("events"));
    events->columns[0].name = SLICE("other");
    refuses(world, "events", "other", NULL, "42P07");
}

/* Joins of colocated tables on keys of different types would miss rows. */
static void test_colocation(void **state)
{
    World *world = *state;
    DistributePlan plan;
    assert_true(distribute(world, &plan, "orders", "customer", "events"));
    assert_string_equal(plan.colocation, "default");
    refuses(world, "orders", "note", "events", "42804");
    refuses(world, "orders", "customer", "orders", "42P01");
}

/* Without a catalog nothing is known about the key. */
static void test_catalog_not_loaded(void **state)
{
    make_topology(*state, false);
    refuses(*state, "orders", "customer", NULL, "55000");
}

/* A table of shards.ini would come back with the next RELOAD, and its rows would be spread again.
 */
static void test_undistribute(void **state)
{
    World *world = *state;
    DistributePlan plan;
    Slice events = SLICE("events"), orders = SLICE("orders");
    assert_true(distribute_plan_make(world->topology, 0, "undistribute_table", &orders, 1, &world->arena, &plan,
                                     &world->err));
    assert_true(plan.already);
    assert_true(distribute_plan_make(world->topology, 0, "undistribute_table", &events, 1, &world->arena, &plan,
                                     &world->err));
    assert_false(plan.already);
    assert_string_equal(plan.key_text, "customer");
    world->declared = (TableConfig){
        .database = "app", .schema = "public", .name = "events", .key = "customer", .line = 7};
    world->config.tables = &world->declared;
    world->config.table_count = 1;
    assert_false(distribute_plan_make(world->topology, 0, "undistribute_table", &events, 1, &world->arena, &plan,
                                      &world->err));
    assert_string_equal(world->err.sqlstate, "55000");
}

/* shoal.shard_of() must agree with PostgreSQL's own hash. */
static void test_key_bucket(void **state)
{
    World *world = *state;
    uint32_t bucket, shard;
    Slice key = SLICE("42"), bad = SLICE("x"), pair[2] = {key, key};
    assert_true(key_bucket(world->topology, 0, SLICE("events"), &key, 1, &world->arena, &bucket, &shard,
                           &world->err));
    uint8_t value[8] = {0, 0, 0, 0, 0, 0, 0, 42};
    assert_int_equal(bucket, hash_key(KEY_INT, slice_of(value, 8)) & 1023);
    assert_false(key_bucket(world->topology, 0, SLICE("events"), &bad, 1, &world->arena, &bucket, &shard,
                            &world->err));
    assert_string_equal(world->err.sqlstate, "22023");
    assert_false(key_bucket(world->topology, 0, SLICE("events"), pair, 2, &world->arena, &bucket, &shard,
                            &world->err));
    assert_string_equal(world->err.sqlstate, "22023");
    assert_false(key_bucket(world->topology, 0, SLICE("orders"), &key, 1, &world->arena, &bucket, &shard,
                            &world->err));
    assert_string_equal(world->err.sqlstate, "42P01");
}

/* A wrong call must not reach a handler. */
static void test_find(void **state)
{
    World *world = *state;
    Call call = {.function = SLICE("distribute_table"), .arg_count = 2};
    assert_non_null(function_find(&call, &world->err));
    call.arg_count = 1;
    assert_null(function_find(&call, &world->err));
    assert_string_equal(world->err.sqlstate, "42883");
    call.function = SLICE("drop_everything");
    assert_null(function_find(&call, &world->err));
    assert_string_equal(world->err.sqlstate, "42883");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_plan, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_already, setup, teardown),
        cmocka_unit_test_setup_teardown(test_colocation, setup, teardown),
        cmocka_unit_test_setup_teardown(test_catalog_not_loaded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_undistribute, setup, teardown),
        cmocka_unit_test_setup_teardown(test_key_bucket, setup, teardown),
        cmocka_unit_test_setup_teardown(test_find, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
