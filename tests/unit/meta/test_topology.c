/* Maps and topologies: even placement, lookups, and parts that live exactly as long as needed. */
#include "story.h"

#include "meta/topology.h"

typedef struct Parts {
    Config *config;
    uint32_t *refs;
    ShardMap *map;
    Catalog *catalogs[2];
} Parts;

static Parts parts_create(void)
{
    Parts p = {.config = story_config(TRUST CLUSTER "[database other]\n"), .refs = malloc(sizeof(uint32_t)),
               .map = shard_map_create(1024), .catalogs = {catalog_create(), catalog_create()}};
    *p.refs = 1;
    return p;
}

static void parts_release(Parts *p)
{
    topology_release_config(p->config, p->refs);
    shard_map_free(p->map);
    catalog_free(p->catalogs[0]);
    catalog_free(p->catalogs[1]);
}

static Table table_of(uint32_t database, const char *schema, const char *name)
{
    return (Table){.database = database, .schema = slice_str(schema), .name = slice_str(name),
                   .kind = TABLE_HASH, .key = SLICE("id")};
}

static Topology *topology_of(Parts *p, const Table *tables, uint32_t count)
{
    Error err = {0};
    Topology *t = topology_create(p->config, p->refs, p->map, tables, count, p->catalogs, &err);
    if (!t)
        fail_msg("%s", err.message);
    return t;
}

/* Else: one shard holds more than its part, or none. */
static void buckets_are_spread_evenly_and_in_runs(void **state)
{
    for (uint32_t shards = 1; shards <= 100; shards++) {
        ShardMap *map = shard_map_create(1024);
        uint32_t held[100] = {0};
        shard_map_spread(map, shards);
        for (uint32_t b = 0; b < 1024; b++) {
            held[map->shard_of[b]]++;
            assert_true(b == 0 || map->shard_of[b] >= map->shard_of[b - 1]);
        }
        for (uint32_t s = 0; s < shards; s++)
            assert_in_range(held[s], 1024 / shards, 1024 / shards + 1);
        shard_map_free(map);
    }
}

/* Else: keys of consecutive ids crowd on one shard. */
static void consecutive_keys_reach_all_shards(void **state)
{
    ShardMap *map = shard_map_create(1024);
    uint32_t held[4] = {0};
    shard_map_spread(map, 4);
    for (uint32_t id = 0; id < 10000; id++) {
        uint8_t bytes[4] = {0, 0, (uint8_t)(id >> 8), (uint8_t)id};
        held[map->shard_of[shard_map_bucket(map, hash_key(KEY_INT, slice_of(bytes, 4)))]]++;
    }
    for (int s = 0; s < 4; s++)
        assert_in_range(held[s], 2300, 2700);
    shard_map_free(map);
}

/* Else: a running Request reads a Config that was freed by RELOAD, or each RELOAD leaks one. */
static void parts_live_as_long_as_one_topology_needs_them(void **state)
{
    Parts p = parts_create();
    Topology *first = topology_of(&p, NULL, 0), *second = topology_of(&p, NULL, 0);
    assert_int_equal(*p.refs, 3);
    assert_int_equal(p.map->refs, 3);
    assert_int_equal(p.catalogs[1]->refs, 3);
    parts_release(&p);
    topology_destroy(&first->published);
    assert_int_equal(second->config->port, 6432);
    assert_int_equal(second->map->bucket_count, 1024);
    assert_false(second->catalogs[1]->loaded);
    topology_destroy(&second->published);
    topology_destroy(NULL);
}

/* Else: a sharded table is taken for a local one, and its rows land on the home shard. */
static void tables_are_found_by_their_whole_name(void **state)
{
    Parts p = parts_create();
    Table tables[] = {table_of(0, "public", "b"), table_of(0, "public", "a"), table_of(0, "sales", "a")};
    Topology *t = topology_of(&p, tables, 3);
    const Table *found = topology_table(t, 0, SLICE("sales"), SLICE("a"));
    assert_true(slice_is(found->schema, "sales"));
    assert_ptr_not_equal(found->schema.data, tables[2].schema.data);
    assert_null(topology_table(t, 1, SLICE("public"), SLICE("a")));
    assert_null(topology_table(t, 0, SLICE("public"), SLICE("A")));
    assert_true(topology_database_sharded(t, 0));
    assert_false(topology_database_sharded(t, 1));
    assert_true(slice_is(t->tables[0].name, "a"));
    topology_destroy(&t->published);
    parts_release(&p);
}

/* Else: of two definitions of a table one wins, by chance. */
static void a_table_twice_is_refused_without_loss(void **state)
{
    Parts p = parts_create();
    Table tables[] = {table_of(0, "public", "a"), table_of(0, "public", "a")};
    Error err = {0};
    assert_null(topology_create(p.config, p.refs, p.map, tables, 2, p.catalogs, &err));
    assert_string_equal(err.sqlstate, "42P07");
    assert_int_equal(*p.refs, 1);
    assert_int_equal(p.map->refs, 1);
    parts_release(&p);
}

/* Else: a key whose type cannot be hashed (or was dropped) is hashed all the same. */
static void the_catalog_tells_the_type_of_the_key(void **state)
{
    Parts p = parts_create();
    Catalog *c = p.catalogs[0];
    CatalogColumn keys[] = {{.name = SLICE("id"), .type_oid = 20, .deterministic = true},
                            {.name = SLICE("id"), .type_oid = 25, .deterministic = false}};
    CatalogTable facts[] = {
        {.schema = SLICE("public"), .name = SLICE("good"), .columns = &keys[0], .column_count = 1},
        {.schema = SLICE("public"), .name = SLICE("fuzzy"), .columns = &keys[1], .column_count = 1}};
    assert_true(catalog_add_table(c, &facts[0]) && catalog_add_table(c, &facts[1]));
    Table tables[] = {table_of(0, "public", "good"), table_of(0, "public", "fuzzy"),
                      table_of(0, "public", "gone"), table_of(1, "public", "unseen")};
    c->loaded = true;
    Topology *t = topology_of(&p, tables, 4);
    assert_int_equal(topology_table(t, 0, SLICE("public"), SLICE("good"))->key_type, KEY_INT);
    assert_int_equal(topology_table(t, 0, SLICE("public"), SLICE("good"))->key_oid, 20);
    assert_int_equal(topology_table(t, 0, SLICE("public"), SLICE("fuzzy"))->key_type, KEY_NONE);
    assert_int_equal(topology_table(t, 0, SLICE("public"), SLICE("gone"))->key_oid, 0);
    assert_int_equal(topology_table(t, 1, SLICE("public"), SLICE("unseen"))->key_type, KEY_NONE);
    topology_destroy(&t->published);
    parts_release(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buckets_are_spread_evenly_and_in_runs),
        cmocka_unit_test(consecutive_keys_reach_all_shards),
        cmocka_unit_test(parts_live_as_long_as_one_topology_needs_them),
        cmocka_unit_test(tables_are_found_by_their_whole_name),
        cmocka_unit_test(a_table_twice_is_refused_without_loss),
        cmocka_unit_test(the_catalog_tells_the_type_of_the_key),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    story_clean();
    return failed;
}
