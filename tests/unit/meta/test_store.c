/* The store: what it took it keeps, and what it cannot trust it refuses to open. */
#include "story.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "core/failpoint.h"
#include "meta/store.h"
#include "meta/store_moves.h"
#include "meta/store_pins.h"

static Config *config;

#define TABLE(NAME, KEY, GROUP) \
    {.database = "app", .schema = "public", .name = NAME, .key = KEY, .colocation = GROUP}

/* A fresh path per test: "a.db", "b.db" ... */
static const char *fresh_path(void)
{
    static char name[16] = "`.db", path[160];
    name[0]++;
    snprintf(path, sizeof path, "%s", story_path(name));
    return path;
}

static Store *open_store(const char *path)
{
    Error err = {0};
    Store *store = store_open(path, 256, config, &err);
    if (!store)
        fail_msg("%s: %s", err.sqlstate, err.message);
    return store;
}

static const char *made_store(void)
{
    const char *path = fresh_path();
    store_close(open_store(path));
    return path;
}

static void refused(const char *path, const char *sqlstate, const char *reason)
{
    Error err = {0};
    Store *store = store_open(path, 256, config, &err);
    if (store)
        fail_msg("opened, not refused with: %s", reason);
    if (strcmp(err.sqlstate, sqlstate) != 0 || !strstr(err.message, reason) || !strstr(err.message, path))
        fail_msg("got %s: %s", err.sqlstate, err.message);
    assert_true(err.hint[0] != 0);
}

static void tamper(const char *path, const char *sql)
{
    sqlite3 *db;
    char *message = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    sqlite3_exec(db, sql, NULL, NULL, &message);
    if (message)
        fail_msg("%s", message);
    sqlite3_close(db);
}

/* Else: after a restart queries go to other shards than before. */
static void a_new_store_keeps_its_map_and_identity(void **state)
{
    Error err = {0};
    const char *path = fresh_path();
    Store *store = open_store(path);
    char id[64];
    snprintf(id, sizeof id, "%s", store_cluster_id(store));
    assert_int_equal(strlen(id), 16);
    store_close(store);
    store = store_open(path, 1024, config, &err); /* the file's own count stays */
    assert_string_equal(store_cluster_id(store), id);
    ShardMap *map = store_load_map(store, config, &err);
    assert_int_equal(map->bucket_count, 256);
    assert_int_equal(map->version, 1);
    assert_int_equal(map->shard_of[0], 0);
    assert_int_equal(map->shard_of[127], 0);
    assert_int_equal(map->shard_of[128], 1);
    shard_map_free(map);
    store_close(store);
}

/* Else: names of transactions are used twice, and recovery decides one by the other's row. */
static void each_start_has_an_epoch_of_its_own(void **state)
{
    Error err = {0};
    char first[STORE_ROUTER_ID_SIZE], again[STORE_ROUTER_ID_SIZE];
    uint64_t epoch = 0;
    const char *path = made_store();
    for (uint64_t start = 1; start <= 3; start++) {
        Store *store = open_store(path);
        assert_true(store_next_epoch(store, start == 1 ? first : again, &epoch, &err));
        assert_int_equal(epoch, start);
        store_close(store);
    }
    assert_int_equal(strlen(first), 8);
    assert_string_equal(first, again);
#ifdef SHOAL_FAILPOINTS
    /* Where nothing can be written, the identity is told all the same: recovery needs it. */
    Store *full = open_store(path);
    assert_true(failpoints_arm("store_commit:enospc", &err));
    snprintf(again, sizeof again, "0");
    assert_false(store_next_epoch(full, again, &epoch, &err));
    assert_string_equal(first, again);
    failpoints_armed = false;
    store_close(full);
#endif
    tamper(path, "UPDATE fact SET value = '1' WHERE name = 'router_epoch'");
    refused(path, "XX001", "checksum");
}

/* Else: sections in another order, or a shard less, silently send rows elsewhere. */
static void the_map_follows_names_not_positions(void **state)
{
    Error err = {0};
    Store *store = open_store(made_store());
    Config *turned = story_config(TRUST "[shard s1]\nprimary=host=b\n[shard s0]\nprimary=host=a\n[database app]\n");
    ShardMap *map = store_load_map(store, turned, &err);
    assert_int_equal(map->shard_of[0], 1);
    assert_int_equal(map->shard_of[255], 0);
    shard_map_free(map);
    config_free(turned);
    Config *less = story_config(TRUST "[shard s0]\nprimary=host=a\n[database app]\n");
    assert_null(store_load_map(store, less, &err));
    assert_string_equal(err.sqlstate, SQLSTATE_CONFIG_FILE);
    assert_non_null(strstr(err.message, "shard \"s1\" is missing"));
    assert_non_null(strstr(err.hint, "Put [shard s1] back"));
    config_free(less);
    store_close(store);
}

/* Else: a table distributed yesterday is local today. */
static void tables_survive_and_do_not_change_their_key(void **state)
{
    Error err = {0};
    Arena arena;
    StoreTable *tables;
    uint32_t count;
    const char *path = made_store();
    StoreTable orders = TABLE("orders", "id", "g"), items = TABLE("Items", "id", "g");
    StoreTable other = TABLE("orders", "customer", "g");
    Store *store = open_store(path);
    assert_true(store_add_table(store, &orders, &err) && store_add_table(store, &items, &err));
    assert_true(store_add_table(store, &orders, &err));
    assert_false(store_add_table(store, &other, &err));
    assert_string_equal(err.sqlstate, "42P07");
    store_close(store);
    store = open_store(path);
    arena_init(&arena, 1024);
    assert_true(store_load_tables(store, &arena, &tables, &count, &err));
    assert_int_equal(count, 2);
    assert_string_equal(tables[1].name, "orders");
    assert_string_equal(tables[1].key, "id");
    assert_true(store_remove_table(store, &orders, &err));
    assert_false(store_remove_table(store, &orders, &err));
    assert_string_equal(err.sqlstate, SQLSTATE_UNDEFINED_OBJECT);
    assert_true(store_load_tables(store, &arena, &tables, &count, &err));
    assert_int_equal(count, 1);
    arena_finish(&arena);
    store_close(store);
    store_close(open_store(path));
}

/* As version 1 summed a row of `table` with these columns, and sealed a table of one row. */
static void sums_of_version_1(const char *const columns[5], char sum[static 24], char seal[static 48])
{
    uint64_t hash = hash_bytes_extended((const uint8_t *)"distributed_table", 17, 1);
    for (int i = 0; i < 5; i++)
        hash = hash_bytes_extended((const uint8_t *)columns[i], strlen(columns[i]), hash);
    snprintf(sum, 24, "%" PRId64, (int64_t)hash);
    snprintf(seal, 48, "1 %016" PRIx64, hash_combine64(0, hash));
}

/* Puts the file back to what version 1 made of one table; the seal's own row gets its sum, too. */
static void make_version_1(const char *path)
{
    static const char *const COLUMNS[5] = {"app", "public", "orders", "id", "g"};
    char sum[24], seal[48], sql[1000];
    sums_of_version_1(COLUMNS, sum, seal);
    uint64_t fact = hash_bytes_extended((const uint8_t *)"fact", 4, 1);
    fact = hash_bytes_extended((const uint8_t *)"seal_distributed_table", 22, fact);
    fact = hash_bytes_extended((const uint8_t *)seal, strlen(seal), fact);
    snprintf(sql, sizeof sql,
             "DROP TABLE move; DROP TABLE member; DROP TABLE pin;"
                 "DELETE FROM fact WHERE name IN ('seal_move', 'seal_member', 'seal_pin');"
             "ALTER TABLE distributed_table DROP COLUMN kind; ALTER TABLE distributed_table DROP COLUMN placement;"
             "UPDATE distributed_table SET sum = %s;"
             "UPDATE fact SET value = '%s', sum = %" PRId64 " WHERE name = 'seal_distributed_table';"
             "PRAGMA user_version = 1", sum, seal, (int64_t)fact);
    tamper(path, sql);
}

/* What version 2 had: the places, and no moves yet. */
static void make_version_2(const char *path)
{
    tamper(path, "DROP TABLE move; DROP TABLE member; DROP TABLE pin;"
                 "DELETE FROM fact WHERE name IN ('seal_move', 'seal_member', 'seal_pin');"
                 "PRAGMA user_version = 2");
}

/* Moves and members can be kept; `had`: since an earlier call. */
static void takes_moves(Store *store, Arena *arena, bool had)
{
    static const char *const SHARDS[] = {"s0", "s1"};
    Error err = {0};
    StoreMove *moves, move = {.id = 1, .source = "s0", .target = "s1", .buckets = "0-3", .state = "planned",
                              .step = "", .reason = "", .created_wall_us = 1, .changed_wall_us = 1};
    const char **names;
    uint32_t count;
    assert_true(store_load_moves(store, arena, &moves, &count, &err));
    assert_int_equal(count, had ? 1 : 0);
    assert_true(store_load_members(store, arena, &names, &count, &err));
    assert_int_equal(count, had ? 2 : 0);
    assert_true(store_put_move(store, &move, &err) && store_put_members(store, SHARDS, 2, &err));
}

/* Else: an operator who upgrades loses what was pinned, or a move that is under way is forgotten. */
static void a_store_of_version_2_is_taken_over(void **state)
{
    Error err = {0};
    Arena arena;
    StoreTable *tables, orders = TABLE("orders", "id", "g");
    uint32_t count;
    const char *path = made_store();
    Store *store = open_store(path);
    orders.placement = "05@s1";
    assert_true(store_add_table(store, &orders, &err));
    store_close(store);
    make_version_2(path);
    for (int i = 0; i < 2; i++) {
        store = open_store(path);
        arena_init(&arena, 1024);
        assert_true(store_load_tables(store, &arena, &tables, &count, &err));
        assert_int_equal(count, 1);
        assert_string_equal(tables[0].placement, "05@s1");
        takes_moves(store, &arena, i > 0);
        arena_finish(&arena);
        store_close(store);
    }
}

/* Its tables, as they were made; to be freed. */
static char *schema_of(const char *path)
{
    sqlite3 *db;
    sqlite3_stmt *statement;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT group_concat(sql, ';') FROM (SELECT sql FROM sqlite_master WHERE "
                                            "sql IS NOT NULL ORDER BY name)", -1, &statement, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    char *text = strdup((const char *)sqlite3_column_text(statement, 0));
    assert_non_null(text);
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return text;
}

/* Else: a store that was taken over differs from a new one (store_schema_3.sql and 4 from store_schema.sql), and fails later. */
static void a_store_that_was_taken_over_is_like_a_new_one(void **state)
{
    const char *path = made_store();
    char *made = schema_of(path);
    make_version_2(path);
    store_close(open_store(path));
    char *taken_over = schema_of(path);
    assert_non_null(strstr(made, "CREATE TABLE move"));
    assert_string_equal(made, taken_over);
    free(made);
    free(taken_over);
}

/* Else: an operator who upgrades finds no tables, or a changed file taken for a good one. */
static void a_store_of_version_1_is_taken_over(void **state)
{
    Error err = {0};
    Arena arena;
    StoreTable *tables, orders = TABLE("orders", "id", "g");
    uint32_t count;
    const char *path = made_store();
    Store *store = open_store(path);
    assert_true(store_add_table(store, &orders, &err));
    store_close(store);
    make_version_1(path);
    for (int i = 0; i < 2; i++) {
        store = open_store(path);
        arena_init(&arena, 1024);
        assert_true(store_load_tables(store, &arena, &tables, &count, &err));
        assert_int_equal(count, 1);
        assert_string_equal(tables[0].key, "id");
        assert_string_equal(tables[0].kind, "hash");
        assert_string_equal(tables[0].placement, "");
        takes_moves(store, &arena, i > 0);
        arena_finish(&arena);
        store_close(store);
    }
    make_version_1(path);
    tamper(path, "UPDATE distributed_table SET key_column = 'ix'");
    refused(path, SQLSTATE_DATA_CORRUPTED, "distributed_table");
}

/* Else: after a restart a tenant is looked for where it was before, or its bucket number is lost for ever. */
static void a_pinned_value_is_kept_with_its_move(void **state)
{
    Error err = {0};
    Arena arena;
    StoreMove *moves, move = {.id = 1, .source = "s0", .target = "s1", .buckets = "256", .state = "planned",
                              .step = "", .reason = "", .created_wall_us = 1, .changed_wall_us = 1};
    uint32_t count;
    Pin pin = {.database = "app", .colocation = "g", .type = "text", .value = SLICE("de")};
    const char *path = made_store();
    Store *store = open_store(path);
    arena_init(&arena, 1024);
    assert_true(store_add_pin(store, 256, &pin, "s0", &move, &err));
    store_close(store);
    store = open_store(path);
    assert_true(store_load_moves(store, &arena, &moves, &count, &err));
    assert_int_equal(count, 1);
    ShardMap *map = store_load_map(store, config, &err);
    assert_non_null(map);
    assert_int_equal(map->bucket_count, 257);
    assert_true(bucket_in_use(map, 256) && slice_is(pin_of_bucket(map, 256)->value, "de"));
    assert_int_equal(map->shard_of[256], 0);
    shard_map_free(map);

    BucketSet set;
    assert_true(bucket_set_init(&set, 257, &arena));
    bucket_set_add(&set, 256);
    assert_false(store_switch_owner(store, &move, &set, "s1", "s0", &err)); /* it does not live there */
    assert_true(store_switch_owner(store, &move, &set, "s0", "s1", &err));
    store_close(store);
    store = open_store(path);
    map = store_load_map(store, config, &err);
    assert_int_equal(map->shard_of[256], 1);
    shard_map_free(map);
    assert_true(store_remove_pin(store, 256, &err));
    store_close(store);
    store = open_store(path);
    map = store_load_map(store, config, &err);
    assert_int_equal(map->bucket_count, 257); /* free, for the next one */
    assert_false(bucket_in_use(map, 256));
    shard_map_free(map);
    store_close(store);
    tamper(path, "UPDATE pin SET shard = 's1'");
    refused(path, SQLSTATE_DATA_CORRUPTED, "pin");
    arena_finish(&arena);
}

/* Else: the diary of the cluster is in the wrong order or endless. */
static void events_are_kept_newest_first(void **state)
{
    Error err = {0};
    Arena arena;
    StoreEvent *events;
    uint32_t count;
    Store *store = open_store(made_store());
    assert_true(store_add_event(store, "start", "one", &err) && store_add_event(store, "move", "two", &err));
    arena_init(&arena, 1024);
    assert_true(store_load_events(store, &arena, 1, &events, &count, &err));
    assert_int_equal(count, 1);
    assert_string_equal(events[0].text, "two");
    assert_true(events[0].at_wall_us > 1600000000ULL * 1000000);
    assert_true(store_load_events(store, &arena, 100, &events, &count, &err));
    assert_int_equal(count, 2);
    arena_finish(&arena);
    store_close(store);
}

/* Else: a wrong path, an empty or a foreign file becomes a guessed map, or is overwritten. */
static void files_that_are_no_store_are_refused(void **state)
{
    refused(story_file("empty.db", ""), SQLSTATE_DATA_CORRUPTED, "empty");
    refused(story_path(""), SQLSTATE_IO_ERROR, "not a regular file");
    refused("/nowhere/shoal.db", SQLSTATE_IO_ERROR, "unable to open");
    refused(story_file("text.db", "this is a text, and a long one, but not a database of any kind......"
                                  "......................................................."),
            SQLSTATE_DATA_CORRUPTED, "not a store");
    const char *path = fresh_path();
    tamper(path, "CREATE TABLE photos (id INTEGER)");
    refused(path, SQLSTATE_DATA_CORRUPTED, "another program");
    tamper(path, "INSERT INTO photos VALUES (1)");
    path = fresh_path();
    char wal[200];
    snprintf(wal, sizeof wal, "%s-wal", path);
    assert_int_equal(close(open(wal, O_CREAT | O_WRONLY, 0600)), 0);
    refused(path, SQLSTATE_DATA_CORRUPTED, "journal (-wal) is there");
}

/* Else: an older program writes into a newer store. */
static void a_newer_store_is_refused(void **state)
{
    const char *path = made_store();
    tamper(path, "PRAGMA user_version=5");
    refused(path, SQLSTATE_FEATURE_NOT_SUPPORTED, "newer Shoal (version 5");
}

/* Else: whatever changed a row behind our back decides where queries go. */
static void rows_changed_by_others_are_seen(void **state)
{
    static const char *const CHANGES[][2] = {
        {"UPDATE bucket SET shard='s1' WHERE bucket=17", "row \"17\" of bucket does not match"},
        {"DELETE FROM bucket WHERE bucket=17", "bucket 17 of 256 is missing"},
        {"DELETE FROM bucket WHERE bucket=255", "rows of bucket are not those"},
        {"UPDATE fact SET value='512' WHERE name='bucket_count'", "row \"bucket_count\" of fact"},
        {"DELETE FROM fact WHERE name='cluster_id'", "fact \"cluster_id\" is missing"},
        {"DELETE FROM distributed_table", "rows of distributed_table are not those"},
        {"UPDATE distributed_table SET key_column='x'", "of distributed_table does not match"},
    };
    for (size_t i = 0; i < ARRAY_LEN(CHANGES); i++) {
        Error err = {0};
        const char *path = fresh_path();
        Store *store = open_store(path);
        StoreTable orders = TABLE("orders", "id", "");
        assert_true(store_add_table(store, &orders, &err));
        store_close(store);
        tamper(path, CHANGES[i][0]);
        refused(path, SQLSTATE_DATA_CORRUPTED, CHANGES[i][1]);
    }
}

/* Flips one bit of one byte; false behind the end of the file. */
static bool flip_bit(const char *path, long offset)
{
    FILE *file = fopen(path, "r+");
    assert_non_null(file);
    bool inside = fseek(file, offset, SEEK_SET) == 0;
    int byte = inside ? fgetc(file) : EOF;
    if (byte != EOF) {
        assert_int_equal(fseek(file, offset, SEEK_SET), 0);
        fputc(byte ^ 1, file);
    }
    fclose(file);
    return byte != EOF;
}

/* Else: a flipped bit on the disk gives another map than the one that was written (H68). */
static void flipped_bits_never_change_the_map(void **state)
{
    Error err = {0};
    const char *path = made_store();
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    int found = 0, tried = 0;
    for (long at = 100; at < st.st_size; at += 37, tried++) {
        assert_true(flip_bit(path, at));
        Store *store = store_open(path, 256, config, &err);
        found += store == NULL;
        if (store) {
            ShardMap *map = store_load_map(store, config, &err);
            assert_non_null(map);
            for (uint32_t b = 0; b < 256; b++)
                assert_int_equal(map->shard_of[b], b / 128);
            shard_map_free(map);
            store_close(store);
        }
        assert_true(flip_bit(path, at));
    }
    assert_true(found > tried / 10);
    store_close(open_store(path));
}

/* Else: two routers write one store. */
static void a_store_belongs_to_one_router(void **state)
{
    const char *path = made_store();
    Store *store = open_store(path);
    refused(path, SQLSTATE_OBJECT_IN_USE, "in use by another router");
    pid_t child = fork(); /* another process: POSIX locks hold between those */
    if (child == 0) {
        Error err = {0};
        Store *second = store_open(path, 256, config, &err);
        _exit(!second && strcmp(err.sqlstate, SQLSTATE_OBJECT_IN_USE) == 0 ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    store_close(store);
    store_close(open_store(path));
}

/* Else: after a failed commit the router goes on as if it knew what the disk holds (H67). */
static void after_a_failed_commit_nothing_is_written(void **state)
{
    Error err = {0};
    Arena arena;
    StoreTable orders = TABLE("orders", "id", ""), *tables;
    uint32_t count;
    const char *path = made_store();
    Store *store = open_store(path);
    struct rlimit old, full = {1, 1};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    full.rlim_max = old.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &full), 0);
    bool added = store_add_table(store, &orders, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_false(added);
    assert_non_null(strstr(err.detail, "unknown whether"));
    assert_false(store_add_event(store, "a", "b", &err));
    assert_string_equal(err.sqlstate, SQLSTATE_IO_ERROR);
    assert_non_null(strstr(err.message, "read-only since a failed commit"));
    store_close(store);
    store = open_store(path);
    arena_init(&arena, 1024);
    assert_true(store_load_tables(store, &arena, &tables, &count, &err));
    assert_true(store_add_table(store, &orders, &err));
    arena_finish(&arena);
    store_close(store);
}

static int start(void **state)
{
    config = story_config(TRUST CLUSTER);
    return 0;
}

static int stop(void **state)
{
    config_free(config);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_store_keeps_its_map_and_identity),
        cmocka_unit_test(each_start_has_an_epoch_of_its_own),
        cmocka_unit_test(the_map_follows_names_not_positions),
        cmocka_unit_test(tables_survive_and_do_not_change_their_key),
        cmocka_unit_test(a_store_of_version_1_is_taken_over),
        cmocka_unit_test(a_store_of_version_2_is_taken_over),
        cmocka_unit_test(a_store_that_was_taken_over_is_like_a_new_one),
        cmocka_unit_test(a_pinned_value_is_kept_with_its_move),
        cmocka_unit_test(events_are_kept_newest_first),
        cmocka_unit_test(files_that_are_no_store_are_refused),
        cmocka_unit_test(a_newer_store_is_refused),
        cmocka_unit_test(rows_changed_by_others_are_seen),
        cmocka_unit_test(flipped_bits_never_change_the_map),
        cmocka_unit_test(a_store_belongs_to_one_router),
        cmocka_unit_test(after_a_failed_commit_nothing_is_written),
    };
    int failed = cmocka_run_group_tests(tests, start, stop);
    story_clean();
    return failed;
}
