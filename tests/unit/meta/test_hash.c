/* The row hash: a bucket that differs from PostgreSQL's is a row that nobody finds again. */
#include "story.h"

#include "meta/hash.h"

static Slice be(int64_t value, size_t len, uint8_t bytes[static 8])
{
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)((uint64_t)value >> (8 * (len - 1 - i)));
    return slice_of(bytes, len);
}

static uint64_t hash_int(int64_t value, size_t len)
{
    uint8_t bytes[8];
    return hash_key(KEY_INT, be(value, len, bytes));
}

static Slice uuid_bytes(const char *text, uint8_t bytes[static 16])
{
    for (int i = 0; i < 16; text++) {
        if (*text == '-')
            continue;
        unsigned byte;
        assert_int_equal(sscanf(text, "%2x", &byte), 1);
        bytes[i++] = (uint8_t)byte;
        text++;
    }
    return slice_of(bytes, 16);
}

static uint64_t hash_line(const char *type, const char *value)
{
    uint8_t bytes[16];
    if (strcmp(type, "int8") == 0)
        return hash_int(strtoll(value, NULL, 10), 8);
    if (strcmp(type, "uuid") == 0)
        return hash_key(KEY_UUID, uuid_bytes(value, bytes));
    assert_string_equal(type, "text");
    return hash_key(KEY_TEXT, slice_str(value));
}

/* Else: rows are sent to another shard than hash partitioning and satisfies_hash_partition say. */
static void vectors_of_postgres_agree(void **state)
{
    FILE *file = fopen(story_source("tests/unit/meta/hash.tsv"), "r");
    assert_non_null(file);
    char line[512];
    int lines = 0;
    while (fgets(line, sizeof line, file)) {
        if (line[0] == '#')
            continue;
        char *value = strchr(line, '\t'), *bucket = value ? strchr(value + 1, '\t') : NULL;
        assert_non_null(bucket);
        *value++ = 0, *bucket++ = 0;
        if ((hash_line(line, value) & 1023) != strtoul(bucket, NULL, 10))
            fail_msg("%s \"%s\" is not in bucket %s", line, value, bucket);
        lines++;
    }
    fclose(file);
    assert_true(lines >= 15);
}

/* Else: the same id, sent once as int4 and once as int8, lies on two shards. */
static void integers_of_all_widths_agree(void **state)
{
    static const int64_t VALUES[] = {0, 1, -1, 42, -42, 32767, -32768};
    for (size_t i = 0; i < ARRAY_LEN(VALUES); i++) {
        assert_int_equal(hash_int(VALUES[i], 2), hash_int(VALUES[i], 8));
        assert_int_equal(hash_int(VALUES[i], 4), hash_int(VALUES[i], 8));
    }
}

/* Else: a char(10) key is found only by those who type the blanks. */
static void bpchar_hashes_as_its_trimmed_text(void **state)
{
    assert_int_equal(hash_key(KEY_BPCHAR, SLICE("ab   ")), hash_key(KEY_TEXT, SLICE("ab")));
    assert_int_not_equal(hash_key(KEY_TEXT, SLICE("ab   ")), hash_key(KEY_TEXT, SLICE("ab")));
    assert_int_equal(hash_key(KEY_BPCHAR, SLICE("   ")), hash_key(KEY_TEXT, SLICE("")));
}

/* Else: long texts, or those that end within a round, hash by bytes that are not theirs. */
static void each_byte_of_a_text_counts_and_none_behind_it(void **state)
{
    uint8_t bytes[40];
    for (size_t len = 1; len < 38; len++) {
        memset(bytes, 7, sizeof bytes);
        uint64_t hash = hash_bytes_extended(bytes, len, 1);
        bytes[len] = 9;
        assert_int_equal(hash_bytes_extended(bytes, len, 1), hash);
        for (size_t i = 0; i < len; i++) {
            bytes[i] ^= 1;
            assert_int_not_equal(hash_bytes_extended(bytes, len, 1), hash);
            bytes[i] ^= 1;
        }
    }
}

/* Else: a float key (0.0 = -0.0, NaNs) or an enum (hashed by OID) is accepted and rows get lost. */
static void types_without_one_hash_are_no_keys(void **state)
{
    static const uint32_t REFUSED[] = {0, 700, 701, 1700, 114, 3802, 16384, 1186, 1266};
    for (size_t i = 0; i < ARRAY_LEN(REFUSED); i++)
        assert_int_equal(key_type_of(REFUSED[i]), KEY_NONE);
    assert_int_equal(key_type_of(20), KEY_INT);
    assert_int_equal(key_type_of(1043), KEY_TEXT);
    assert_string_equal(key_type_name(key_type_of(2950)), "uuid");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_of_postgres_agree),
        cmocka_unit_test(integers_of_all_widths_agree),
        cmocka_unit_test(bpchar_hashes_as_its_trimmed_text),
        cmocka_unit_test(each_byte_of_a_text_counts_and_none_behind_it),
        cmocka_unit_test(types_without_one_hash_are_no_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
