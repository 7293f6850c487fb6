/* The compact distribution: what a thousand statements are measured with. */
#include "story.h"

#include "core/spread.h"

/* Else: a slow statement looks fast, or the other way round. */
static void quantiles_are_at_most_a_quarter_off(void **state)
{
    Spread s = {0};
    const double qs[] = {0.01, 0.5, 0.9, 0.99, 0.999, 1};
    for (uint64_t v = 1; v <= 100000; v++)
        spread_add(&s, v);
    for (size_t i = 0; i < ARRAY_LEN(qs); i++) {
        double exact = qs[i] * 100000;
        assert_true((double)spread_quantile(&s, qs[i]) >= exact);
        assert_true((double)spread_quantile(&s, qs[i]) <= exact * 1.25 + 1);
    }
    assert_int_equal(spread_count(&s), 100000);
}

/* Else: a statement that ran for a day writes behind the last bucket. */
static void edges_have_a_bucket(void **state)
{
    const uint64_t values[] = {0, 1, 3, 4, 5, 7, 8, 1ull << 31, UINT64_MAX};
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        Spread s = {0};
        spread_add(&s, values[i]);
        assert_int_equal(spread_count(&s), 1);
        assert_true(spread_quantile(&s, 1) >= MIN(values[i], (1u << 31) - 1));
    }
    Spread empty = {0};
    assert_int_equal(spread_quantile(&empty, 0.5), 0);
}

/* Else: figures of several workers do not add up, because the text loses something on the way. */
static void the_text_is_the_whole_spread(void **state)
{
    Spread a = {0}, b = {0};
    Arena arena;
    uint64_t seed = 7;
    arena_init(&arena, 1024);
    for (int i = 0; i < 5000; i++)
        spread_add(&a, story_random(&seed) >> (story_random(&seed) & 63));
    assert_true(spread_add_text(&b, spread_text(&a, &arena)));
    assert_memory_equal(&a, &b, sizeof a);
    assert_true(spread_add_text(&b, spread_text(&a, &arena)));
    spread_merge(&a, &a);
    assert_memory_equal(&a, &b, sizeof a);
    assert_string_equal(spread_text(&(Spread){0}, &arena), "");
    arena_finish(&arena);
}

/* Else: a number out of another cell is taken for a distribution. */
static void other_texts_are_refused(void **state)
{
    const char *texts[] = {"1", "1:", ":1", "x", "120:1", "1:1,2:2", "1:1x", "-1:1"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        Spread s = {0};
        assert_false(spread_add_text(&s, texts[i]));
    }
}

/* Else: SHOW BATCHES tells of sizes that no batch had. */
static void octaves_are_for_people(void **state)
{
    Spread s = {0};
    Arena arena;
    const uint64_t sizes[] = {1, 1, 2, 3, 5, 64, 100};
    arena_init(&arena, 1024);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
        spread_add(&s, sizes[i]);
    assert_string_equal(spread_octaves(&s, &arena), "1:2 2-3:2 4-7:1 64-127:2");
    arena_finish(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantiles_are_at_most_a_quarter_off),
        cmocka_unit_test(edges_have_a_bucket),
        cmocka_unit_test(the_text_is_the_whole_spread),
        cmocka_unit_test(other_texts_are_refused),
        cmocka_unit_test(octaves_are_for_people),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
