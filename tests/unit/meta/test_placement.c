/* Places of values: a row must be looked for where it was put, in every kind of table. */
#include "story.h"

#include "meta/bucket_sql.h"
#include "meta/pin.h"
#include "meta/topology.h"

static Config *config;

static Slice int8(int64_t value, uint8_t space[static 8])
{
    for (int i = 7; i >= 0; i--, value >>= 8)
        space[i] = (uint8_t)value;
    return slice_of(space, 8);
}

static Place *places_of(const char *text, Arena *arena, uint32_t *ret_count)
{
    Place *places;
    Error err;
    if (!placement_read(slice_str(text), config, arena, &places, ret_count, &err))
        fail_msg("%s", err.message);
    return places;
}

/* Else: after a restart a range begins elsewhere. */
static void what_is_written_is_read_again(void **state)
{
    (void)state;
    static const char *const TEXTS[] = {"", "*@s0", "*@s1 0000000000000005@s0", "@s0", "6465@s1 @s0 *@s0"};
    Arena arena;
    arena_init(&arena, 1024);
    for (size_t i = 0; i < ARRAY_LEN(TEXTS); i++) {
        uint32_t count;
        Place *places = places_of(TEXTS[i], &arena, &count);
        assert_string_equal(placement_write(places, count, config, &arena), TEXTS[i]);
    }
    arena_finish(&arena);
}

/* Else: a damaged or foreign text is taken for a map. */
static void what_was_not_written_by_us_is_refused(void **state)
{
    (void)state;
    static const char *const TEXTS[] = {"5", "5@s0", "xx@s0", "05@s9", "05", "*s0"};
    Arena arena;
    arena_init(&arena, 1024);
    for (size_t i = 0; i < ARRAY_LEN(TEXTS); i++) {
        uint32_t count;
        Place *places;
        Error err;
        assert_false(placement_read(slice_str(TEXTS[i]), config, &arena, &places, &count, &err));
    }
    arena_finish(&arena);
}

/* Else: negative numbers come after positive ones, and an int4 is not found among int8. */
static void numbers_are_compared_as_numbers(void **state)
{
    (void)state;
    uint8_t a[8], b[8], space[8];
    assert_true(key_compare(KEY_INT, int8(-1, a), int8(1, b)) < 0);
    assert_true(key_compare(KEY_INT, int8(-2, a), int8(-1, b)) < 0);
    assert_true(key_compare(KEY_INT, SLICE("\0\0\0\5"), int8(5, b)) == 0);
    assert_true(key_compare(KEY_INT, SLICE("\xff\xff"), int8(-1, b)) == 0);
    assert_true(key_compare(KEY_UUID, SLICE("\x80"), SLICE("\x7f")) > 0);
    assert_true(slice_equal(key_normal(KEY_INT, SLICE("\xff\xfe"), space), int8(-2, b)));
    assert_true(slice_is(key_normal(KEY_BPCHAR, SLICE("a  "), space), "a"));
}

/* Else: a row at the very edge of a range is written to the one and read from the other. */
static void ranges_begin_with_their_value(void **state)
{
    (void)state;
    Arena arena;
    uint32_t count;
    uint8_t space[8];
    arena_init(&arena, 1024);
    Place *places = places_of("fffffffffffffff6@s1 0000000000000000@s0 000000000000000a@s1", &arena, &count);
    static const struct {
        int64_t value;
        int shard;
    } CASES[] = {{-11, -1}, {-10, 1}, {-1, 1}, {0, 0}, {9, 0}, {10, 1}, {INT64_MAX, 1}, {INT64_MIN, -1}};
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        const Place *place =
            placement_find(TABLE_RANGE, KEY_INT, places, count, int8(CASES[i].value, space));
        assert_int_equal(place ? place->shard : -1, CASES[i].shard);
    }
    places = places_of("*@s0 0000000000000000@s1", &arena, &count);
    assert_int_equal(placement_find(TABLE_RANGE, KEY_INT, places, count, int8(INT64_MIN, space))->shard, 0);
    arena_finish(&arena);
}

/* Else: a value without a place goes to whatever shard comes first (H53). */
static void lists_know_their_values_only(void **state)
{
    (void)state;
    Arena arena;
    uint32_t count;
    arena_init(&arena, 1024);
    Place *places = places_of("6465@s1 @s0", &arena, &count);
    assert_int_equal(placement_find(TABLE_LIST, KEY_TEXT, places, count, SLICE("de"))->shard, 1);
    assert_int_equal(placement_find(TABLE_LIST, KEY_TEXT, places, count, SLICE(""))->shard, 0);
    assert_null(placement_find(TABLE_LIST, KEY_TEXT, places, count, SLICE("us")));
    places = places_of("6465@s1 *@s0", &arena, &count);
    assert_int_equal(placement_find(TABLE_LIST, KEY_TEXT, places, count, SLICE("us"))->shard, 0);
    arena_finish(&arena);
}

/* Else: a pinned tenant's rows are looked for in its bucket; a row of two keys in the bucket of one. */
static void hash_tables_have_pins_and_several_keys(void **state)
{
    (void)state;
    uint8_t space[8];
    Arena arena;
    uint32_t shard;
    arena_init(&arena, 1024);
    ShardMap *map = shard_map_create(1024);
    shard_map_spread(map, 2);
    assert_true(shard_map_add_pins(map, 2));
    map->pins[0] = (Pin){.database = "", .colocation = "", .type = ""};
    map->pins[1] = (Pin){.database = "app", .colocation = "g", .type = "integer", .value = int8(2, space)};
    map->shard_of[1025] = 1;
    Topology topology = {.config = config, .map = map};
    Table table = {.kind = TABLE_HASH, .key_count = 1, .colocation = SLICE("g")};
    table.keys[0] = (TableKey){.oid = 23, .type = KEY_INT};
    table.keys[1].type = KEY_INT;
    Slice values[2] = {SLICE("\0\0\0\2"), SLICE("\0\0\0\7")};
    assert_true(topology_place(&topology, &table, values, &shard));
    assert_int_equal(shard, 0); /* bucket 378 */
    assert_true(pins_fill(&table, map, "app", &arena));
    assert_int_equal(table.place_count, 1);
    assert_true(topology_place(&topology, &table, values, &shard));
    assert_int_equal(shard, 1);
    assert_int_equal(topology_bucket(map, &table, values), 1025);
    assert_int_equal(pin_home(map, &map->pins[1]), 378);
    assert_int_equal(topology_bucket(map, &table, values + 1), shard_map_bucket(map, hash_key(KEY_INT, values[1])));
    table.key_count = 2;
    assert_true(pins_fill(&table, map, "app", &arena));
    assert_int_equal(table.place_count, 0);
    uint64_t hash = hash_combine64(hash_key(KEY_INT, values[0]), hash_value_extended(KEY_INT, values[1]));
    assert_true(table_row_hash(&table, values) == hash);
    shard_map_free(map);
    arena_finish(&arena);
}

/* How many values this table has a bucket for. */
static uint32_t pins_of(const ShardMap *map, const char *database, const char *group, uint32_t oid, Arena *arena)
{
    Table table = {.kind = TABLE_HASH, .key_count = 1, .colocation = slice_str(group)};
    table.keys[0] = (TableKey){.oid = oid, .type = key_type_of(oid)};
    assert_true(pins_fill(&table, map, database, arena));
    return table.place_count;
}

/* Else: isolating customer 42 takes rows of a table along that has nothing to do with it, or leaves some behind. */
static void a_pin_is_its_groups_and_its_types(void **state)
{
    (void)state;
    uint8_t space[8];
    Arena arena;
    arena_init(&arena, 1024);
    ShardMap *map = shard_map_create(64);
    assert_true(shard_map_add_pins(map, 2));
    map->pins[0] = (Pin){.database = "app", .colocation = "g", .type = "integer", .value = int8(42, space)};
    map->pins[1] = (Pin){.database = "app", .colocation = "g", .type = "text", .value = SLICE("de")};
    assert_int_equal(pins_of(map, "app", "g", 20, &arena), 1);
    assert_int_equal(pins_of(map, "app", "g", 21, &arena), 1);
    assert_int_equal(pins_of(map, "app", "g", 1043, &arena), 1);
    assert_int_equal(pins_of(map, "app", "g", 17, &arena), 0);   /* bytea: hashed alike, written otherwise */
    assert_int_equal(pins_of(map, "app", "g", 1114, &arena), 0); /* timestamp: 8 bytes, too */
    assert_int_equal(pins_of(map, "app", "h", 20, &arena), 0);
    assert_int_equal(pins_of(map, "other", "g", 20, &arena), 0);
    shard_map_free(map);
    arena_finish(&arena);
}

/* Else: a publication sends a pinned value's rows with its bucket's, or sends none of them. */
static void sql_says_a_pinned_values_bucket(void **state)
{
    (void)state;
    Arena arena;
    arena_init(&arena, 1024);
    Place pins[2] = {{.value = SLICE("it's"), .bucket = 1024}, {.value = SLICE("a\\b"), .bucket = 1025}};
    Table table = {.kind = TABLE_HASH, .key_count = 1, .places = pins, .place_count = 2};
    table.keys[0] = (TableKey){.column = SLICE("k"), .oid = 25, .type = KEY_TEXT};
    const char *sql = bucket_sql_table(&arena, &table, "t.", 1026);
    assert_non_null(strstr(sql, "(CASE WHEN t.\"k\" = 'it''s'::pg_catalog.text THEN 1024"));
    assert_non_null(strstr(sql, " WHEN t.\"k\" =  E'a\\\\b'::pg_catalog.text THEN 1025 ELSE "));
    assert_non_null(strstr(sql, "hashtextextended(t.\"k\", 8816678312871386365) & 1023)"));
    uint8_t space[8];
    TableKey number = {.oid = 21, .type = KEY_INT}, bytes = {.oid = 17, .type = KEY_TEXT};
    assert_string_equal(pin_value_sql(&arena, &number, int8(-7, space)), "'-7'::pg_catalog.int8");
    assert_string_equal(pin_value_sql(&arena, &bytes, SLICE("\1\377")), "E'\\\\x01ff'::pg_catalog.bytea");
    arena_finish(&arena);
}

/* Else: a key of eight columns is given a bucket in SQL that overflows bigint, and a move loses rows. */
static void too_many_columns_for_bigint_are_known(void **state)
{
    (void)state;
    Table table = {.kind = TABLE_HASH};
    for (uint32_t i = 0; i < TABLE_KEYS_MAX; i++)
        table.keys[i] = (TableKey){.column = SLICE("k"), .oid = 20, .type = KEY_INT};
    table.key_count = 8;
    assert_false(bucket_sql_knows(&table, 16384)); /* 14 bits and 7 for each column behind the first: 63 */
    assert_false(bucket_sql_knows(&table, 16384 + 5));
    assert_true(bucket_sql_knows(&table, 8192));
    table.key_count = 7;
    assert_true(bucket_sql_knows(&table, 16384));
    table.kind = TABLE_LIST;
    assert_false(bucket_sql_knows(&table, 1024));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_again),
        cmocka_unit_test(what_was_not_written_by_us_is_refused),
        cmocka_unit_test(numbers_are_compared_as_numbers),
        cmocka_unit_test(ranges_begin_with_their_value),
        cmocka_unit_test(lists_know_their_values_only),
        cmocka_unit_test(hash_tables_have_pins_and_several_keys),
        cmocka_unit_test(a_pin_is_its_groups_and_its_types),
        cmocka_unit_test(sql_says_a_pinned_values_bucket),
        cmocka_unit_test(too_many_columns_for_bigint_are_known),
    };
    config = story_config(TRUST CLUSTER);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    config_free(config);
    story_clean();
    return failed;
}
