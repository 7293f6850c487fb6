/*
 * Where statements go. A user would lose everything if this were wrong: a row that is written on a
 * shard where nobody looks for it, or an answer from one shard for a question about all of them.
 *
 * Two shards; buckets 0..511 on s0, 512..1023 on s1. Of bigint keys 0, 2 and -42 live on s0; 1, 42
 * and -1 on s1 (vectors of the shard function).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "meta/bucket_sql.h"
#include "router/planner.h"
#include "wire/value.h"

typedef struct Story {
    Config *config;
    uint32_t *refs;
    ShardMap *map;
    Catalog *catalog;
    Topology *topology;
    ShapeCache shapes;
    Arena arena;
} Story;

static CatalogTable *add_table(Catalog *catalog, const char *name, char kind)
{
    CatalogTable *table = arena_new(&catalog->arena, CatalogTable);
    *table = (CatalogTable){.schema = SLICE("public"), .name = slice_str(name), .kind = kind,
                            .persistence = 'p'};
    assert_true(catalog_add_table(catalog, table));
    return table;
}

static void add_columns(Catalog *catalog, CatalogTable *table, const char *key, uint32_t oid)
{
    static const char *const OTHERS[] = {"name", "amount"};
    table->column_count = 3;
    table->columns = arena_array(&catalog->arena, CatalogColumn, 3);
    table->columns[0] = (CatalogColumn){.name = slice_str(key), .type_oid = oid, .number = 1,
                                        .plain_type = true, .deterministic = true};
    for (int i = 0; i < 2; i++)
        table->columns[i + 1] = (CatalogColumn){.name = slice_str(OTHERS[i]), .type_oid = WIRE_OID_TEXT,
                                                .number = (int16_t)(i + 2), .plain_type = true,
                                                .deterministic = true};
}

static Config *load_config(void)
{
    char path[] = "/tmp/shoal-planner-XXXXXX";
    Error err;
    int fd = mkstemp(path);
    static const char TEXT[] = "[shoal]\nauth = trust\n"
                               "[shard s0]\nprimary = host=127.0.0.1 port=6001\n"
                               "[shard s1]\nprimary = host=127.0.0.1 port=6002\n[database app]\n";
    assert_int_equal(write(fd, TEXT, sizeof TEXT - 1), sizeof TEXT - 1);
    close(fd);
    Config *config = config_load(path, &err);
    unlink(path);
    if (!config)
        fail_msg("%s", err.message);
    return config;
}

static int setup(void **state)
{
    Story *s = calloc(1, sizeof *s);
    Error err;
    s->config = load_config();
    s->refs = malloc(sizeof *s->refs);
    *s->refs = 1;
    s->map = shard_map_create(1024);
    shard_map_spread(s->map, 2);
    s->catalog = catalog_create();
    add_columns(s->catalog, add_table(s->catalog, "users", 'r'), "id", WIRE_OID_INT8);
    add_columns(s->catalog, add_table(s->catalog, "orders", 'r'), "user_id", WIRE_OID_INT8);
    add_columns(s->catalog, add_table(s->catalog, "things", 'r'), "id", WIRE_OID_UUID);
    add_columns(s->catalog, add_table(s->catalog, "words", 'r'), "word", WIRE_OID_TEXT);
    add_columns(s->catalog, add_table(s->catalog, "notes", 'r'), "id", WIRE_OID_INT4);
    add_columns(s->catalog, add_table(s->catalog, "countries", 'r'), "code", WIRE_OID_TEXT);
    add_columns(s->catalog, add_table(s->catalog, "settings", 'r'), "id", WIRE_OID_INT4);
    add_columns(s->catalog, add_table(s->catalog, "pairs", 'r'), "id", WIRE_OID_INT8);
    add_columns(s->catalog, add_table(s->catalog, "days", 'r'), "id", WIRE_OID_INT4);
    add_columns(s->catalog, add_table(s->catalog, "shops", 'r'), "land", WIRE_OID_TEXT);
    add_table(s->catalog, "report", 'v');
    CatalogFunction *reader = arena_new(&s->catalog->arena, CatalogFunction);
    *reader = (CatalogFunction){.schema = SLICE("public"), .name = SLICE("reader"), .volatility = 's',
                                .kind = 'f', .runs_statements = true};
    assert_true(catalog_add_function(s->catalog, reader));
    s->catalog->search_path = SLICE("\"$user\", public");
    s->catalog->loaded = true;
    Table tables[] = {
        {.schema = SLICE("public"), .name = SLICE("users"), .key = SLICE("id")},
        {.schema = SLICE("public"), .name = SLICE("orders"), .key = SLICE("user_id")},
        {.schema = SLICE("public"), .name = SLICE("things"), .key = SLICE("id")},
        {.schema = SLICE("public"), .name = SLICE("words"), .key = SLICE("word")},
        {.schema = SLICE("public"), .name = SLICE("countries"), .kind = TABLE_REFERENCE},
        {.schema = SLICE("public"), .name = SLICE("settings"), .kind = TABLE_LOCAL,
         .places = (Place[]){{.shard = 1}}, .place_count = 1},
        {.schema = SLICE("public"), .name = SLICE("pairs"), .key = SLICE("id\x1f" "name")},
        {.schema = SLICE("public"), .name = SLICE("days"), .kind = TABLE_RANGE, .key = SLICE("id"),
         .places = (Place[]){{.value = SLICE("\0\0\0\0\0\0\0\1")},
                             {.value = SLICE("\0\0\0\0\0\0\0\x0a"), .shard = 1}}, .place_count = 2},
        {.schema = SLICE("public"), .name = SLICE("shops"), .kind = TABLE_LIST, .key = SLICE("land"),
         .places = (Place[]){{.value = SLICE("de")}, {.value = SLICE("us"), .shard = 1}}, .place_count = 2},
    };
    s->topology = topology_create(s->config, s->refs, s->map, tables, ARRAY_LEN(tables), &s->catalog, &err);
    assert_non_null(s->topology);
    shape_cache_init(&s->shapes, 1000, 1 << 24);
    arena_init(&s->arena, 4096);
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    Story *s = *state;
    topology_destroy(&s->topology->published);
    topology_release_config(s->config, s->refs);
    shard_map_free(s->map);
    catalog_free(s->catalog);
    shape_cache_finish(&s->shapes);
    arena_finish(&s->arena);
    free(s);
    return 0;
}

static Plan plan_of(Story *s, const char *sql, const BindMessage *bind, const uint32_t *oids,
                    uint32_t oid_count, bool in_transaction)
{
    ShapeReading reading;
    assert_true(shape_read(&s->shapes, slice_str(sql), true, true, &s->arena, &reading));
    PlanInput input = {.topology = s->topology, .user = SLICE("alice"),
                       .search_path = s->catalog->search_path, .same_encoding = true,
                       .in_transaction = in_transaction, .arena = &s->arena,
                       .keep = s->topology->foreign ? &s->arena : NULL};
    PlanStatement statement = {.shape = reading.shape, .text = slice_str(sql),
                               .literals = reading.literals, .bind = bind, .param_oids = oids,
                               .param_oid_count = oid_count};
    Plan plan = plan_make(&input, &statement);
    shape_release(&s->shapes, reading.shape);
    return plan;
}

static void expect(Story *s, const char *sql, const char *where)
{
    Plan plan = plan_of(s, sql, NULL, NULL, 0, false);
    char got[64];
    switch (plan.kind) {
    case PLAN_DIRECT:
        snprintf(got, sizeof got, "%s", plan.any_shard ? "any" : plan.shard ? "s1" : "s0");
        break;
    case PLAN_DDL:
        snprintf(got, sizeof got, "all");
        break;
    case PLAN_WRITE:
        snprintf(got, sizeof got, "%s %u", plan.rekeys ? "moves" : "writes", plan.shard_count);
        break;
    case PLAN_INSERT:
        snprintf(got, sizeof got, "split");
        break;
    case PLAN_MERGE:
        snprintf(got, sizeof got, "dealt");
        break;
    case PLAN_INSERT_SELECT:
        snprintf(got, sizeof got, "made");
        break;
    case PLAN_COPY_IN:
        snprintf(got, sizeof got, "in");
        break;
    case PLAN_COPY_OUT:
        snprintf(got, sizeof got, "out");
        break;
    case PLAN_LOCAL:
        snprintf(got, sizeof got, "shoal");
        break;
    case PLAN_PROBE:
        snprintf(got, sizeof got, "probe");
        break;
    default:
        snprintf(got, sizeof got, "%s", plan.error.sqlstate);
        assert_true(plan.error.message[0] != 0);
        break;
    }
    if (strcmp(got, where) != 0)
        fail_msg("%s\n  expected %s, got %s (%s)", sql, where, got, plan.error.message);
}

/* Else: a lookup by key is answered by a shard that does not have the row. */
static void a_key_fixed_by_equality_decides(void **state)
{
    Story *s = *state;
    expect(s, "SELECT * FROM users WHERE id = 1", "s1");
    expect(s, "SELECT * FROM users WHERE id = 2", "s0");
    expect(s, "SELECT * FROM users WHERE 42 = id", "s1");
    expect(s, "SELECT * FROM users WHERE id = -42", "s0");
    expect(s, "SELECT * FROM users WHERE id = '2'", "s0");
    expect(s, "SELECT * FROM users WHERE id = 2::int", "s0");
    expect(s, "SELECT * FROM users WHERE id = CAST('2' AS bigint)", "s0");
    expect(s, "SELECT * FROM users u WHERE u.id = 2 AND name = 'x' ORDER BY amount LIMIT 3", "s0");
    expect(s, "SELECT count(*) FROM public.users WHERE users.id = 1 AND amount > 5", "s1");
    expect(s, "UPDATE users SET name = 'y' WHERE id = 1", "s1");
    expect(s, "DELETE FROM users WHERE id = 2", "s0");
    expect(s, "EXPLAIN SELECT * FROM users WHERE id = 2", "s0");
    expect(s, "SELECT * FROM users WHERE id IN (1, 42, -1)", "s1");
    expect(s, "SELECT * FROM users u JOIN orders o ON o.user_id = u.id WHERE u.id = ANY ('{1, 42}')", "s1");
    expect(s, "SELECT * FROM users WHERE id IN (1, 2)", "0A000");
    expect(s, "SELECT * FROM users WHERE id IN (1, 1 + 1)", "0A000");
    expect(s, "SELECT * FROM users WHERE id IN (1, 42) OR name = 'x'", "0A000");
    expect(s, "SELECT * FROM users WHERE id NOT IN (1, 42)", "0A000");
    expect(s, "SELECT * FROM users u LEFT JOIN orders o ON o.user_id = u.id AND u.id IN (1, 42)", "0A000");
    expect(s, "UPDATE users SET name = 'y' WHERE id IN (1, 42)", "s1");
    expect(s, "DELETE FROM users WHERE id IN (1, 2)", "writes 2");
}

/* Else: the same uuid or text, spelt in another way, is looked for on another shard (H52). */
static void spellings_of_one_value_agree(void **state)
{
    Story *s = *state;
    const char *a = "SELECT * FROM things WHERE id = 'f47ac10b-58cc-4372-a567-0e02b2c3d479'"; /* 362 */
    expect(s, a, "s0");
    expect(s, "SELECT * FROM things WHERE id = 'F47AC10B58CC4372A5670E02B2C3D479'", "s0");
    expect(s, "SELECT * FROM things WHERE id = '{f47ac10b-58cc-4372-a567-0e02b2c3d479}'", "s0");
    expect(s, "SELECT * FROM things WHERE id = 'nonsense'", "any"); /* an error wherever it runs */
    expect(s, "SELECT * FROM users WHERE id = '99999999999999999999'", "any");
    expect(s, "SELECT count(*) FROM users WHERE id = NULL", "any");
    expect(s, "SELECT * FROM users u JOIN orders o ON o.user_id = 1 WHERE u.id = NULL", "s1");
    expect(s, "SELECT * FROM words WHERE word = 'user-1'", "s0"); /* 245 */
    expect(s, "SELECT * FROM words WHERE word = 'a'", "s1");      /* 862 */
    expect(s, "SELECT * FROM words WHERE word = 'a'::varchar", "0A000");
}

/* Else: a join with a small table that is everywhere is refused, or answered without its rows. */
static void reference_tables_go_wherever_the_others_are(void **state)
{
    Story *s = *state;
    expect(s, "SELECT * FROM countries", "any");
    expect(s, "SELECT * FROM countries WHERE code = 'de'", "any");
    expect(s, "SELECT * FROM users u JOIN countries c ON c.code = u.name WHERE u.id = 1", "s1");
    expect(s, "SELECT * FROM users u JOIN countries c ON c.code = u.name", "0A000");
    expect(s, "SELECT * FROM countries c, notes n", "s0");
    expect(s, "SELECT * FROM countries FOR UPDATE", "s0");
    expect(s, "COPY countries TO STDOUT", "any");
    expect(s, "INSERT INTO countries VALUES ('de')", "writes 2");
    expect(s, "UPDATE countries SET name = 'x'", "writes 2");
    expect(s, "DELETE FROM countries WHERE code = 'de' RETURNING name", "writes 2");
    expect(s, "UPDATE countries SET name = reader()", "0A000");
    expect(s, "UPDATE countries SET name = CURRENT_TIMESTAMP", "0A000");
    expect(s, "DELETE FROM countries WHERE code IN (SELECT name FROM notes)", "0A000");
    expect(s, "DELETE FROM countries WHERE code IN (SELECT code FROM countries LIMIT 1)", "0A000");
    expect(s, "INSERT INTO countries SELECT name FROM users WHERE id = 1", "made");
    expect(s, "COPY countries FROM STDIN", "in");
    expect(s, "ALTER TABLE countries RENAME TO lands", "0A000");
}

/* Else: a dump has the rows of one shard, or a load puts them all there (H54). */
static void copy_works_on_all_shards(void **state)
{
    Story *s = *state;
    expect(s, "COPY users TO STDOUT", "out");
    expect(s, "COPY public.users (id, name) TO STDOUT (FORMAT csv)", "out");
    expect(s, "COPY (SELECT * FROM users WHERE id = 1) TO STDOUT", "s1");
    expect(s, "COPY (SELECT id, name FROM users WHERE name = 'x') TO STDOUT", "out");
    expect(s, "COPY (SELECT * FROM users u JOIN orders o ON o.user_id = u.id) TO STDOUT", "out");
    expect(s, "COPY users FROM STDIN", "in");
    expect(s, "COPY notes FROM STDIN", "s0");
    expect(s, "COPY notes TO STDOUT", "s0");
    expect(s, "COPY settings FROM STDIN", "s1");
}

/* Else: a table that was put on a shard is looked for on the first one. */
static void a_local_table_is_on_its_own_shard(void **state)
{
    Story *s = *state;
    expect(s, "SELECT * FROM settings", "s1");
    expect(s, "UPDATE settings SET name = 'x'", "s1");
    expect(s, "INSERT INTO settings (id) VALUES (1)", "s1");
    expect(s, "SELECT * FROM settings, users WHERE users.id = 1", "s1");
    expect(s, "SELECT * FROM settings, users WHERE users.id = 2", "0A000");
    expect(s, "SELECT * FROM settings, notes", "0A000");
}

/* Else: a row of a composite key is looked for by half of it. */
static void a_key_of_two_columns_needs_both(void **state)
{
    Story *s = *state;
    expect(s, "SELECT * FROM pairs WHERE id = 1", "0A000");
    expect(s, "SELECT * FROM pairs WHERE name = 'a'", "0A000");
    expect(s, "SELECT * FROM pairs WHERE id = 2 AND name = 'a'", "s0");
    expect(s, "SELECT * FROM pairs WHERE id = 2 AND name = 'user-1'", "s1");
    expect(s, "SELECT * FROM pairs WHERE id = 3 AND name = 'b'", "s0");
    expect(s, "INSERT INTO pairs (name, id) VALUES ('a', 3)", "s1");
    expect(s, "INSERT INTO pairs (id) VALUES (3)", "0A000");
    expect(s, "SELECT * FROM pairs a JOIN pairs b ON a.id = b.id AND b.name = a.name WHERE a.id = 3 AND b.name = 'b'",
           "s0");
    expect(s, "SELECT * FROM pairs a JOIN pairs b ON a.id = b.id WHERE a.id = 3 AND b.name = 'b'", "0A000");
    expect(s, "UPDATE pairs SET name = 'c' WHERE id = 3 AND name = 'b'", "moves 1");
}

/* Else: a value without a place is written somewhere (H53). */
static void ranges_and_lists_decide_by_value(void **state)
{
    Story *s = *state;
    expect(s, "SELECT * FROM days WHERE id = 5", "s0");
    expect(s, "SELECT * FROM days WHERE id = 10", "s1");
    expect(s, "SELECT * FROM days WHERE id = 0", "any");
    expect(s, "INSERT INTO days (id) VALUES (9)", "s0");
    expect(s, "INSERT INTO days (id) VALUES (0)", "23514");
    expect(s, "SELECT * FROM shops WHERE land = 'us'", "s1");
    expect(s, "SELECT * FROM shops WHERE land = 'fr'", "any");
    expect(s, "INSERT INTO shops (land) VALUES ('fr')", "23514");
    expect(s, "INSERT INTO shops (land) VALUES ('de'), ('us')", "split");
    expect(s, "SELECT * FROM shops s JOIN users u ON u.name = s.name WHERE s.land = 'us' AND u.id = 1", "s1");
    expect(s, "SELECT * FROM shops", "0A000");
}

/* Else: one shard's part is taken for the whole (H46, bad-input 119, 120). */
static void what_needs_more_than_one_shard_is_refused(void **state)
{
    Story *s = *state;
    static const char *const TEXTS[] = {
        "SELECT * FROM users",
        "SELECT count(*) FROM users",
        "SELECT * FROM users WHERE id IN (1, 3)",
        "SELECT * FROM users WHERE id = 1 OR id = 2",
        "SELECT * FROM users WHERE id BETWEEN 1 AND 2",
        "SELECT * FROM users WHERE id > 1",
        "SELECT * FROM users WHERE NOT id = 1",
        "SELECT * FROM users WHERE id = 1 + 0",
        "SELECT * FROM users WHERE id = (SELECT 1)",
        "SELECT * FROM users WHERE id::text = '1'",
        "SELECT * FROM users WHERE id = 1.0",
        "SELECT * FROM users WHERE name = '1'",
        "SELECT * FROM users WHERE coalesce(id, 0) = 1",
        "SELECT * FROM users WHERE EXISTS (SELECT 1 FROM orders WHERE user_id = 1)",
        "SELECT * FROM users WHERE id = 1 UNION SELECT * FROM users",
        "SELECT * FROM users a, users b WHERE a.id = 1",
        "SELECT * FROM users a LEFT JOIN orders o ON a.id = 1",
        "WITH w AS (SELECT * FROM users) SELECT * FROM w WHERE id = 1",
        "SELECT * FROM users WHERE id = 1 AND EXISTS (SELECT 1 FROM orders WHERE amount = '1')",
        "UPDATE users SET name = 'x' FROM orders",
        "DELETE FROM users USING notes",
        "DELETE FROM users WHERE id IN (SELECT user_id FROM orders)",
        "SELECT * FROM report",
        "SELECT reader()",
        "SELECT * FROM users WHERE id = 1 AND amount = public.reader()",
        "SELECT query_to_xml('select * from users', true, true, '')",
        "COPY (SELECT count(*) FROM users) TO STDOUT",
        "COPY (SELECT * FROM users ORDER BY id) TO STDOUT",
        "COPY (SELECT * FROM users u JOIN orders o ON o.name = u.name) TO STDOUT",
    };
    for (size_t i = 0; i < ARRAY_LEN(TEXTS); i++)
        expect(s, TEXTS[i], "0A000");
}

/* Else: a join is answered from half of its rows. */
static void joins_stay_on_one_shard_or_are_refused(void **state)
{
    Story *s = *state;
    expect(s, "SELECT * FROM users u JOIN orders o ON o.user_id = u.id WHERE u.id = 1", "s1");
    expect(s, "SELECT * FROM users u, orders o WHERE o.user_id = u.id AND o.user_id = 2", "s0");
    expect(s, "SELECT * FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE u.id = 2", "s0");
    expect(s, "SELECT * FROM users u JOIN orders o ON o.amount = u.amount WHERE u.id = 1", "0A000");
    expect(s, "SELECT * FROM users u JOIN orders o ON o.user_id = 2 WHERE u.id = 1", "0A000");
    expect(s, "SELECT * FROM users u JOIN orders o ON o.user_id = 42 WHERE u.id = 1", "s1");
    expect(s, "SELECT * FROM users u JOIN notes n ON n.id = u.id WHERE u.id = 2", "s0"); /* home */
    expect(s, "SELECT * FROM users u JOIN notes n ON n.id = u.id WHERE u.id = 1", "0A000");
    expect(s, "SELECT * FROM users WHERE id = 1 AND EXISTS (SELECT 1 FROM orders WHERE user_id = users.id)",
           "s1");
    expect(s, "WITH w AS (SELECT * FROM users WHERE id = 1) SELECT * FROM w", "s1");
}

/* Else: a row is written where nobody looks for it (H51, bad-input 121). */
static void writes_say_the_key_or_move_its_rows(void **state)
{
    Story *s = *state;
    expect(s, "INSERT INTO users VALUES (1, 'a', 'b')", "s1");
    expect(s, "INSERT INTO users (name, id) VALUES ('a', 2)", "s0");
    expect(s, "INSERT INTO users (id) VALUES (1), (42), (-1) RETURNING id", "s1");
    expect(s, "INSERT INTO users (id) VALUES (1), (2)", "split");
    expect(s, "INSERT INTO users (id, name) VALUES (1, 'a'), (2, (SELECT name FROM notes))", "0A000");
    expect(s, "INSERT INTO users (name) VALUES ('a')", "0A000");
    expect(s, "INSERT INTO users (id) VALUES (NULL)", "made");
    expect(s, "INSERT INTO users (id) VALUES (DEFAULT)", "made");
    expect(s, "INSERT INTO users DEFAULT VALUES", "0A000");
    expect(s, "INSERT INTO users SELECT * FROM users WHERE id = 1", "made");
    expect(s, "INSERT INTO users (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET name = 'x'", "s1");
    expect(s, "INSERT INTO users (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET id = 2", "0A000");
    expect(s, "UPDATE users SET id = 2 WHERE id = 1", "moves 1");
    expect(s, "EXPLAIN UPDATE users SET id = 2 WHERE id = 1", "0A000");
    expect(s, "UPDATE users SET id = 2 WHERE id = NULL", "any");
    expect(s, "UPDATE users SET id = 2 FROM notes n WHERE n.id = 7", "0A000");
    expect(s, "WITH w AS (UPDATE users SET id = 2 WHERE id = 1 RETURNING id) SELECT * FROM w", "0A000");
    expect(s, "UPDATE users SET (id, name) = (2, 'x') WHERE id = 1", "moves 1");
    expect(s, "INSERT INTO users (id) VALUES (abs(-5)), (2)", "made");
    expect(s, "INSERT INTO notes SELECT id, name FROM users", "made");
    expect(s, "INSERT INTO notes SELECT id, name FROM users WHERE id = 2", "s0");
    expect(s, "WITH w AS (DELETE FROM notes RETURNING id) INSERT INTO users (id) SELECT id FROM w", "0A000");
    expect(s, "INSERT INTO notes (id) VALUES (5)", "s0");
    expect(s, "INSERT INTO users (id) VALUES (99999999999999999999)", "made");
}

/* Else: MERGE inserts a row where nobody looks for it, or on every shard. */
static void a_merge_runs_where_the_keys_meet(void **state)
{
    Story *s = *state;
    expect(s, "MERGE INTO users u USING orders o ON u.id = o.user_id WHEN MATCHED THEN DELETE", "writes 2");
    expect(s, "MERGE INTO users u USING orders o ON u.id = o.user_id WHEN MATCHED THEN UPDATE SET name = 'x' "
              "WHEN NOT MATCHED THEN INSERT (name, id) VALUES ('n', o.user_id)", "writes 2");
    expect(s, "MERGE INTO users u USING orders o ON o.user_id = u.id WHEN NOT MATCHED THEN INSERT VALUES (user_id, 'n')", "writes 2");
    expect(s, "MERGE INTO users u USING orders o ON u.id = o.user_id WHEN NOT MATCHED THEN INSERT (id) VALUES (7)", "0A000");
    expect(s, "MERGE INTO users u USING orders o ON u.id = o.user_id WHEN NOT MATCHED THEN INSERT (id) VALUES (o.user_id + 1)", "0A000");
    expect(s, "MERGE INTO users u USING orders o ON u.id = o.user_id WHEN NOT MATCHED THEN INSERT (name) VALUES ('n')", "0A000");
    expect(s, "MERGE INTO users u USING orders o ON u.id = o.user_id WHEN MATCHED THEN UPDATE SET id = 5", "0A000");
    expect(s, "MERGE INTO users u USING orders o ON u.name = 'x' WHEN MATCHED THEN DELETE", "dealt");
    expect(s, "MERGE INTO users u USING countries c ON u.name = c.code WHEN MATCHED THEN DELETE", "writes 2");
    expect(s, "MERGE INTO users u USING countries c ON u.name = c.code WHEN NOT MATCHED THEN INSERT (id) VALUES (c.id)", "0A000");
    expect(s, "MERGE INTO users u USING (SELECT 1 AS id) o ON u.id = o.id WHEN MATCHED THEN DELETE", "s1");
    expect(s, "MERGE INTO users u USING (VALUES (1), (1)) o (id) ON u.id = o.id WHEN NOT MATCHED THEN INSERT VALUES (o.id)", "s1");
    expect(s, "MERGE INTO users u USING (VALUES (1), (2), (3), (4), (5)) o (id) ON u.id = o.id WHEN MATCHED THEN DELETE", "dealt");
    expect(s, "MERGE INTO users u USING (VALUES (1.0)) o (id) ON u.id = o.id WHEN MATCHED THEN DELETE", "dealt");
    expect(s, "MERGE INTO users u USING (VALUES (NULL)) o (id) ON u.id = o.id WHEN MATCHED THEN DELETE", "dealt");
    expect(s, "MERGE INTO users u USING (VALUES ('1')) o (id) ON u.id = o.id WHEN MATCHED THEN DELETE", "dealt"); /* a text */
    expect(s, "MERGE INTO users u USING (VALUES (1)) o (id) ON u.id = o.id WHEN NOT MATCHED THEN INSERT (id) VALUES (2)", "0A000");
    expect(s, "MERGE INTO users u USING (VALUES (1)) o (id) ON u.id = o.id WHEN MATCHED THEN UPDATE SET name = (SELECT name FROM notes)", "0A000");
    expect(s, "MERGE INTO users u USING notes n ON u.id = n.id WHEN MATCHED THEN DELETE", "dealt");
    expect(s, "MERGE INTO notes n USING users u ON u.id = n.id WHEN MATCHED THEN DELETE", "dealt");
    expect(s, "MERGE INTO countries c USING users u ON u.id = c.id WHEN MATCHED THEN DELETE", "0A000");
}

/* Else: WITH writes to a table whose key nobody has looked at. */
static void writes_inside_with_count(void **state)
{
    Story *s = *state;
    expect(s, "WITH w AS (INSERT INTO users (id) SELECT 99) INSERT INTO notes (id) VALUES (2)", "0A000");
    expect(s, "WITH w AS (INSERT INTO notes VALUES (1)) INSERT INTO users (id) VALUES (2)", "s0");
    expect(s, "WITH a AS (UPDATE notes SET name = 'x'), b AS (UPDATE users SET id = 1 WHERE id = 2)"
              " SELECT 1", "0A000");
    expect(s, "INSERT INTO users (id) OVERRIDING USER VALUE VALUES (2)", "made");
}

/* Else: a column is taken for the key that is another one's, or another table's. */
static void names_of_columns_are_postgresqls(void **state)
{
    Story *s = *state;
    expect(s, "SELECT * FROM users AS u(a, id) WHERE u.id = '2'", "0A000");
    expect(s, "SELECT * FROM users AS u(a, id) WHERE id = '2'", "0A000");
    expect(s, "SELECT * FROM (users u JOIN notes n ON true) AS j(a, id) WHERE id = '2'", "0A000");
    expect(s, "SELECT * FROM (users u JOIN notes n ON true) AS j WHERE id = 2", "0A000");
    expect(s, "SELECT * FROM users, (orders o JOIN (SELECT 2 AS id) s ON id = 2 AND o.user_id = 2)", "0A000");
    expect(s, "SELECT * FROM (SELECT 2 AS id) s NATURAL JOIN users WHERE id = 2", "0A000");
    expect(s, "SELECT * FROM users JOIN orders ON user_id = id WHERE id = 2", "s0");
    expect(s, "SELECT * FROM users JOIN orders ON user_id = 2 AND id = 2", "s0");
}

/* Else: a renamed table is found on the home shard, with the rows that are there. */
static void a_distributed_table_keeps_its_names(void **state)
{
    Story *s = *state;
    expect(s, "ALTER TABLE users RENAME TO people", "0A000");
    expect(s, "ALTER TABLE users SET SCHEMA old", "0A000");
    expect(s, "ALTER TABLE users RENAME COLUMN id TO number", "0A000");
    expect(s, "ALTER TABLE users DROP COLUMN id", "0A000");
    expect(s, "ALTER TABLE users ALTER COLUMN id TYPE text", "0A000");
    expect(s, "ALTER SCHEMA public RENAME TO old", "0A000");
    expect(s, "CREATE TABLE child () INHERITS (users)", "0A000");
    expect(s, "ALTER TABLE notes ATTACH PARTITION users DEFAULT", "0A000");
    expect(s, "ALTER TABLE users RENAME COLUMN name TO label", "all");
    expect(s, "ALTER TABLE users ADD COLUMN more int", "all");
    expect(s, "ALTER TABLE notes RENAME TO remarks", "all");
    expect(s, "ALTER SCHEMA other RENAME TO old", "all");
    expect(s, "CREATE TABLE copy (LIKE users)", "all");
}

/* Else: psql does not start, or a schema differs between shards. */
static void statements_without_rows(void **state)
{
    Story *s = *state;
    expect(s, "SELECT 1", "any");
    expect(s, "SHOW server_version", "any");
    expect(s, "SELECT relname FROM pg_catalog.pg_class", "any");
    expect(s, "SET work_mem = '1MB'", "any");
    expect(s, "", "any");
    expect(s, "CREATE TABLE t (id int)", "all");
    expect(s, "DROP TABLE users", "all");
    expect(s, "TRUNCATE users", "all");
    expect(s, "CREATE INDEX CONCURRENTLY i ON users (name)", "all");
    expect(s, "VACUUM users", "all");
    expect(s, "SELECT shoal.distribute_table('users', 'id')", "shoal");
    expect(s, "SELEC 1", "probe");
    expect(s, "CREATE TABLE t AS SELECT * FROM notes", "0A000");
    assert_int_equal(plan_of(s, "CREATE TABLE t (id int)", NULL, NULL, 0, true).kind, PLAN_DDL);
    assert_int_equal(plan_of(s, "VACUUM users", NULL, NULL, 0, true).kind, PLAN_DIRECT); /* 25001 */
}

/* Else: the rows of one shard are changed, and the client believes that all are. */
static void writes_without_a_key_go_to_every_shard(void **state)
{
    Story *s = *state;
    expect(s, "UPDATE users SET name = 'x'", "writes 2");
    expect(s, "DELETE FROM users WHERE name = 'x'", "writes 2");
    expect(s, "UPDATE users SET name = 'x' FROM orders o WHERE o.user_id = users.id AND o.amount = '1'", "writes 2");
    expect(s, "DELETE FROM users WHERE EXISTS (SELECT 1 FROM orders o WHERE o.user_id = users.id)", "writes 2");
    expect(s, "UPDATE users SET id = 3", "moves 2");
    expect(s, "UPDATE users SET id = 3 WHERE id IN (1, 42)", "moves 1");
}

/* Else: two statements of one Query run on two shards as if they were one transaction. */
static void statements_of_one_query_agree(void **state)
{
    Story *s = *state;
    expect(s, "SELECT * FROM users WHERE id = 1; SELECT * FROM orders WHERE user_id = 42", "s1");
    expect(s, "BEGIN; UPDATE users SET name = 'x' WHERE id = 2; COMMIT", "s0");
    expect(s, "SELECT * FROM users WHERE id = 1; SELECT * FROM users WHERE id = 2", "0A000");
    expect(s, "SELECT 1; CREATE TABLE t (id int)", "0A000");
}

static Plan bound(Story *s, uint32_t declared, bool binary, Slice value)
{
    uint8_t params[64];
    uint32_t len = (uint32_t)value.len;
    params[0] = (uint8_t)(len >> 24), params[1] = (uint8_t)(len >> 16);
    params[2] = (uint8_t)(len >> 8), params[3] = (uint8_t)len;
    memcpy(params + 4, value.data, value.len);
    BindMessage bind = {.formats = binary ? WIRE_FORMATS_BINARY : WIRE_FORMATS_NONE, .param_count = 1,
                        .params = slice_of(params, value.len + 4)};
    return plan_of(s, "SELECT * FROM users WHERE id = $1", &bind, &declared, 1, false);
}

/* Else: a driver that binds in binary reads other rows than one that binds text. */
static void parameters_in_text_and_binary(void **state)
{
    Story *s = *state;
    static const uint8_t TWO8[] = {0, 0, 0, 0, 0, 0, 0, 2}, TWO4[] = {0, 0, 0, 2};
    assert_int_equal(bound(s, 0, false, SLICE("2")).shard, 0);
    assert_int_equal(bound(s, 0, false, SLICE("1")).shard, 1);
    assert_int_equal(bound(s, WIRE_OID_INT8, true, slice_of(TWO8, 8)).shard, 0);
    assert_int_equal(bound(s, WIRE_OID_INT4, true, slice_of(TWO4, 4)).shard, 0);
    assert_int_equal(bound(s, 0, true, slice_of(TWO8, 8)).shard, 0);
    assert_int_equal(bound(s, WIRE_OID_TEXT, false, SLICE("2")).kind, PLAN_REJECT);
    assert_int_equal(bound(s, 0, true, slice_of(TWO4, 3)).any_shard, true);
    assert_int_equal(bound(s, 0, false, SLICE("two")).any_shard, true);
}

static bool is_fenced(Story *s, const char *sql)
{
    return plan_of(s, sql, NULL, NULL, 0, false).fenced;
}

/* Else: a row is written to, or looked for on, the shard that its bucket is leaving. */
static void a_fenced_bucket_is_noticed_wherever_a_row_is_placed(void **state)
{
    Story *s = *state;
    uint8_t fenced[1024] = {0};
    int64_t key = 7;
    Slice value = slice_of(&(uint64_t){__builtin_bswap64((uint64_t)key)}, 8);
    const Table *users = topology_table(s->topology, 0, SLICE("public"), SLICE("users"));
    fenced[shard_map_bucket(s->map, table_row_hash(users, &value))] = 1;
    s->topology->fenced = fenced;
    assert_true(is_fenced(s, "SELECT * FROM users WHERE id = 7"));
    assert_true(is_fenced(s, "SELECT * FROM users u JOIN orders o ON o.user_id = u.id WHERE u.id = 7"));
    assert_true(is_fenced(s, "UPDATE users SET name = 'x' WHERE id = 7"));
    assert_true(is_fenced(s, "INSERT INTO users(id) VALUES (7)"));
    assert_true(is_fenced(s, "SELECT 1; DELETE FROM users WHERE id = 7"));
    assert_false(is_fenced(s, "SELECT * FROM users WHERE id = 8"));
    assert_false(is_fenced(s, "INSERT INTO users(id) VALUES (8)"));
    assert_false(is_fenced(s, "SELECT * FROM days WHERE id = 7")); /* by range: it has no buckets */
    assert_true(is_fenced(s, "UPDATE users SET name = 'x'")); /* all shards */
    s->topology->fenced = NULL;
}

/* Else: a driver asks the second shard for an OID that it has read on the first. */
static void the_catalog_is_asked_at_home(void **state)
{
    static const char *const ASKS[] = {
        "SELECT relname FROM pg_catalog.pg_class WHERE oid = 16400", "SELECT 'users'::regclass::oid",
        "SELECT format_type(16400, -1)", "SELECT has_table_privilege('users', 'select')",
        "PREPARE q(oid) AS SELECT relname FROM pg_catalog.pg_class WHERE oid = $1", "EXECUTE q(16400)"};
    static const char *const OTHERS[] = {"SELECT 1", "SELECT pg_backend_pid()", "SELECT * FROM pg_catalog.pg_locks"};
    for (size_t i = 0; i < ARRAY_LEN(ASKS); i++)
        assert_true(plan_of(*state, ASKS[i], NULL, NULL, 0, true).catalog);
    for (size_t i = 0; i < ARRAY_LEN(OTHERS); i++)
        assert_false(plan_of(*state, OTHERS[i], NULL, NULL, 0, true).catalog);
    expect(*state, "PREPARE q AS SELECT * FROM users", "0A000");
    expect(*state, "PREPARE q AS DELETE FROM pg_catalog.pg_class", "0A000");
    expect(*state, "SELECT * FROM users u, pg_catalog.pg_class c WHERE u.id = 1", "0A000"); /* s1; gathered at home */
    expect(*state, "SELECT * FROM users u, pg_catalog.pg_class c WHERE u.id = 2", "s0");
    expect(*state, "SELECT pg_export_snapshot()", "0A000");
}

/* Else: rows that lie on two shards at this moment are changed, read or copied twice. */
static void copies_on_a_shard_that_does_not_own_them_are_passed_over(void **state)
{
    static const char *const SQL[] = {"UPDATE users SET name = 'x'", "DELETE FROM users u WHERE name = 'x'",
                                      "COPY users TO STDOUT", "COPY (SELECT name FROM users) TO STDOUT"};
    Story *s = *state;
    BucketSet foreign[8] = {0};
    for (size_t i = 0; i < ARRAY_LEN(foreign); i++)
        assert_true(bucket_set_init(&foreign[i], s->map->bucket_count, &s->arena));
    bucket_set_add(&foreign[1], 5);
    s->topology->foreign = foreign;
    for (size_t i = 0; i < ARRAY_LEN(SQL); i++) {
        Plan plan = plan_of(s, SQL[i], NULL, NULL, 0, false);
        assert_int_not_equal(plan.kind, PLAN_REJECT);
        assert_non_null(plan.texts);
        assert_true(slice_equal(plan.texts[0], slice_str(SQL[i])));
        assert_non_null(memmem(plan.texts[1].data, plan.texts[1].len, "{5}", 3));
    }
    assert_null(plan_of(s, "UPDATE days SET id = id", NULL, NULL, 0, false).texts); /* by range: never moved */
    s->topology->foreign = NULL;
    assert_null(plan_of(s, SQL[0], NULL, NULL, 0, false).texts);
}

/* Else: a table changes its shape while it is copied, and the move fails after an hour. */
static void tables_keep_their_shape_while_rows_are_copied(void **state)
{
    Story *s = *state;
    s->topology->copying = true;
    Plan plan = plan_of(s, "ALTER TABLE users ADD COLUMN late int", NULL, NULL, 0, false);
    assert_int_equal(plan.kind, PLAN_REJECT);
    assert_string_equal(plan.error.sqlstate, "55006");
    assert_true(plan.error.hint[0]);
    assert_int_equal(plan_of(s, "ANALYZE users", NULL, NULL, 0, false).kind, PLAN_DDL);
    assert_int_not_equal(plan_of(s, "INSERT INTO users(id) VALUES (1), (2), (3), (4)", NULL, NULL, 0, false).kind,
                         PLAN_REJECT);
    s->topology->copying = false;
    assert_int_equal(plan_of(s, "ALTER TABLE users ADD COLUMN late int", NULL, NULL, 0, false).kind, PLAN_DDL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_fixed_by_equality_decides),
        cmocka_unit_test(spellings_of_one_value_agree),
        cmocka_unit_test(what_needs_more_than_one_shard_is_refused),
        cmocka_unit_test(joins_stay_on_one_shard_or_are_refused),
        cmocka_unit_test(writes_say_the_key_or_move_its_rows),
        cmocka_unit_test(a_merge_runs_where_the_keys_meet),
        cmocka_unit_test(writes_inside_with_count),
        cmocka_unit_test(names_of_columns_are_postgresqls),
        cmocka_unit_test(a_distributed_table_keeps_its_names),
        cmocka_unit_test(statements_without_rows),
        cmocka_unit_test(writes_without_a_key_go_to_every_shard),
        cmocka_unit_test(statements_of_one_query_agree),
        cmocka_unit_test(parameters_in_text_and_binary),
        cmocka_unit_test(reference_tables_go_wherever_the_others_are),
        cmocka_unit_test(copy_works_on_all_shards),
        cmocka_unit_test(a_local_table_is_on_its_own_shard),
        cmocka_unit_test(a_key_of_two_columns_needs_both),
        cmocka_unit_test(ranges_and_lists_decide_by_value),
        cmocka_unit_test(a_fenced_bucket_is_noticed_wherever_a_row_is_placed),
        cmocka_unit_test(copies_on_a_shard_that_does_not_own_them_are_passed_over),
        cmocka_unit_test(tables_keep_their_shape_while_rows_are_copied),
        cmocka_unit_test(the_catalog_is_asked_at_home),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
