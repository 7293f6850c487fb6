/* What happens when malloc says no, at whichever call (the linker puts our malloc before libc's). */
#include "story.h"

#include "meta/store.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);

static int allocations_left = -1; /* -1: as many as you like; 0: none from now on */

static bool allocation_fails(void)
{
    if (allocations_left > 0)
        allocations_left--;
    return allocations_left == 0;
}
void *__wrap_malloc(size_t size)
{
    return allocation_fails() ? NULL : __real_malloc(size);
}
void *__wrap_calloc(size_t n, size_t size)
{
    return allocation_fails() ? NULL : __real_calloc(n, size);
}

#define FILE_TEXT                                                                                  \
    "[shoal]\nuser_list=users.txt\nstore=s.db\n" CLUSTER                                           \
    "[user alice]\npassword=secret\n[table a.b]\nkey=id\n[table c]\nkey=id\n"

/* Else: RELOAD under memory pressure takes the router down instead of keeping the old configuration. */
static void a_config_is_whole_or_none(void **state)
{
    char path[256];
    story_file("users.txt", "\"zoe\" \"a\"\n");
    snprintf(path, sizeof path, "%s", story_file("shards.ini", FILE_TEXT));
    Config *config = NULL;
    int calls = 0;
    while (!config) {
        Error err = {0};
        allocations_left = ++calls;
        config = config_load(path, &err);
        allocations_left = -1;
        if (!config)
            assert_non_null(strstr(err.message, "memory"));
        assert_true(calls < 1000);
    }
    assert_true(calls > 4);
    assert_int_equal(config->table_count, 2);
    config_free(config);
}

/* Else: a failed publication leaks the old parts, or gives a topology without them. */
static void a_topology_is_whole_or_none(void **state)
{
    Config *config = story_config(TRUST CLUSTER);
    uint32_t *refs = malloc(sizeof *refs);
    ShardMap *map = shard_map_create(64);
    Catalog *catalog = catalog_create();
    Table table = {.schema = SLICE("public"), .name = SLICE("t"), .key = SLICE("id")};
    Topology *topology = NULL;
    int calls = 0;
    *refs = 1;
    while (!topology) {
        Error err = {0};
        allocations_left = ++calls;
        topology = topology_create(config, refs, map, &table, 1, &catalog, &err);
        allocations_left = -1;
        if (!topology)
            assert_string_equal(err.sqlstate, SQLSTATE_OUT_OF_MEMORY);
        assert_int_equal(*refs, topology ? 2 : 1);
        assert_int_equal(catalog->refs, topology ? 2 : 1);
        assert_true(calls < 100);
    }
    assert_true(calls > 2);
    topology_release_config(config, refs);
    shard_map_free(map);
    catalog_free(catalog);
    topology_destroy(&topology->published);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_config_is_whole_or_none),
        cmocka_unit_test(a_topology_is_whole_or_none),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    story_clean();
    return failed;
}
