#include "story.h"

#include "core/stats.h"

/* Else: a dashboard shows 1 ms where users wait for 2. */
static void quantiles_are_at_most_six_percent_off(void **state)
{
    static Histogram h;
    const double qs[] = {0.01, 0.5, 0.9, 0.99, 0.999};
    for (uint64_t v = 1; v <= 100000; v++)
        histogram_add(&h, v);
    for (size_t i = 0; i < ARRAY_LEN(qs); i++) {
        double exact = qs[i] * 100000;
        assert_true((double)histogram_quantile(&h, qs[i]) >= exact);
        assert_true((double)histogram_quantile(&h, qs[i]) <= exact * 1.0625 + 1);
    }
    assert_int_equal(histogram_quantile(&h, 1), 100000);
    assert_int_equal(counter_get(&h.count), 100000);
}

/* Else: small and absurd values fall between the buckets, or behind the last. */
static void edges_have_a_bucket(void **state)
{
    const uint64_t values[] = {0, 1, 15, 16, 17, 31, 32, 33, 1ull << 34, 1ull << 35, UINT64_MAX};
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        Histogram h = {0};
        histogram_add(&h, values[i]);
        uint64_t told = histogram_quantile(&h, 0.5);
        if (values[i] > 0)
            assert_true(told == values[i]); /* one value: its bucket's edge, cut by the maximum */
    }
    Histogram empty = {0};
    assert_int_equal(histogram_quantile(&empty, 0.5), 0);
}

/* Else: SHOW sums over workers and loses some. */
static void merged_histograms_are_the_sum(void **state)
{
    static Histogram a, b, sum;
    for (uint64_t v = 0; v < 1000; v++)
        histogram_add(v % 3 ? &a : &b, v);
    histogram_merge(&sum, &a);
    histogram_merge(&sum, &b);
    assert_int_equal(counter_get(&sum.count), 1000);
    assert_int_equal(counter_get(&sum.sum), 999 * 1000 / 2);
    assert_int_equal(counter_get(&sum.max), 999);
    assert_in_range(histogram_quantile(&sum, 0.5), 499, 540);
}

/* Else: a minute ago and now are one figure, and a bad minute hides behind a good day. */
static void what_happened_since_is_the_difference(void **state)
{
    static Histogram now, earlier;
    for (uint64_t v = 0; v < 1000; v++)
        histogram_add(&now, 10);
    histogram_merge(&earlier, &now);
    for (uint64_t v = 0; v < 100; v++)
        histogram_add(&now, 1000);
    histogram_subtract(&now, &earlier);
    assert_int_equal(counter_get(&now.count), 100);
    assert_in_range(histogram_quantile(&now, 0.01), 1000, 1063);
    assert_int_equal(histogram_count_upto(&now, 1023), 100);
    assert_int_equal(histogram_count_upto(&now, 511), 0);
}

/* Else: SHOW says so many a second, and it is not so. */
static void a_rate_is_that_of_the_last_seconds(void **state)
{
    Rate rate = {0};
    uint64_t us = 5000000;
    for (int i = 0; i < 60 * 100; i++)
        rate_add(&rate, 2, us += 10000);
    assert_in_range((uint64_t)rate_get(&rate, us), 195, 205);
    assert_in_range((uint64_t)rate_get(&rate, us + 10000000), 65, 80);
    assert_int_equal((uint64_t)rate_get(&rate, us + 300000000), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantiles_are_at_most_six_percent_off),
        cmocka_unit_test(edges_have_a_bucket),
        cmocka_unit_test(merged_histograms_are_the_sum),
        cmocka_unit_test(what_happened_since_is_the_difference),
        cmocka_unit_test(a_rate_is_that_of_the_last_seconds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
