#include "story.h"

#include "core/slice.h"

/* Else: SHOW POOLS and show pools would be different commands, and a\0b would equal a. */
static void slices_compare_by_bytes_and_length(void **state)
{
    assert_true(slice_equal(SLICE("abc"), slice_str("abc")));
    assert_false(slice_equal(SLICE("abc"), SLICE("abcd")));
    assert_false(slice_equal(SLICE("a\0b"), SLICE("a\0c")));
    assert_true(slice_equal(slice_of(NULL, 0), SLICE("")));
    assert_true(slice_equal_nocase(SLICE("Show Pools"), SLICE("sHOW pOOLS")));
    assert_false(slice_equal_nocase(SLICE("[]"), SLICE("{}"))); /* 0x20 apart, no letters */
    assert_int_equal(slice_from(SLICE("abc"), 5).len, 0);
}

/* Else: a wrong password of the right length would be let in, or a right one refused. */
static void secrets_compare_equal_only_when_equal(void **state)
{
    assert_true(slice_equal_secret(SLICE("secret"), SLICE("secret")));
    assert_false(slice_equal_secret(SLICE("secret"), SLICE("sEcret")));
    assert_false(slice_equal_secret(SLICE("secret"), SLICE("secre")));
    assert_true(slice_equal_secret(SLICE(""), slice_of(NULL, 0)));
}

/* Else: tables degenerate to lists, and a router with 10,000 statements crawls. */
static void every_bit_of_the_input_changes_half_of_the_hash(void **state)
{
    uint8_t bytes[70];
    uint64_t changed = 0, pairs = 0;
    memset(bytes, 'x', sizeof(bytes));
    for (size_t len = 1; len <= sizeof(bytes); len++) {
        uint64_t before = slice_hash(slice_of(bytes, len), 7);
        for (size_t bit = 0; bit < len * 8; bit++) {
            bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            uint64_t after = slice_hash(slice_of(bytes, len), 7);
            bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_true(before != after);
            changed += (uint64_t)__builtin_popcountll(before ^ after);
            pairs++;
        }
    }
    assert_in_range(changed * 100 / pairs, 31 * 100, 33 * 100);
}

/* Else: "a" and "a\0" or permuted words collide, which any client could exploit. */
static void length_order_and_seed_enter_the_hash(void **state)
{
    const char zeros[64] = {0};
    for (size_t a = 0; a < sizeof(zeros); a++)
        for (size_t b = a + 1; b < sizeof(zeros); b++)
            assert_true(slice_hash(slice_of(zeros, a), 1) != slice_hash(slice_of(zeros, b), 1));
    assert_true(slice_hash(SLICE("11111111222222223"), 1) !=
                slice_hash(SLICE("22222222111111113"), 1));
    uint64_t words[5] = {1, 0xd6e8feb86659fd93u, 1, 0x9e3779b97f4a7c15u, 5};
    uint64_t before = slice_hash(slice_of(words, sizeof(words)), 0);
    words[0] = words[2] = 2; /* beside the hash's own constants they count as everywhere */
    assert_true(slice_hash(slice_of(words, sizeof(words)), 0) != before);
    assert_true(slice_hash(SLICE("abc"), 1) != slice_hash(SLICE("abc"), 2));
    assert_true(slice_hash(SLICE("abc"), 0) == slice_hash(SLICE("abc"), 0));
    assert_true(slice_hash(SLICE("abc"), 0) != slice_hash(SLICE("abc"), 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices_compare_by_bytes_and_length),
        cmocka_unit_test(secrets_compare_equal_only_when_equal),
        cmocka_unit_test(every_bit_of_the_input_changes_half_of_the_hash),
        cmocka_unit_test(length_order_and_seed_enter_the_hash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
