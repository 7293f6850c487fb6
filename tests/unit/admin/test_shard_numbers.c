/* Where a new shard's sequences begin: two shards with the same begin give every id twice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "admin/shard_numbers.h"

/* Else: its first ids are those of the home shard that it was dumped from. */
static void the_third_shard_begins_at_three(void **state)
{
    assert_int_equal(numbers_begin(1u << 1 | 1u << 2, 2), 3);
}

/* Else: ids come again that a shard gave which has left since. */
static void it_begins_above_all_that_was_given(void **state)
{
    assert_int_equal(numbers_begin(1u << 1 | 1u << 3, 641), 642);
    assert_int_equal(numbers_begin(1u << 1 | 1u << 3, 643), 706);
}

static void the_last_begin_is_the_step_itself(void **state)
{
    assert_int_equal(numbers_begin(~UINT64_C(1), 63), 64);
    assert_int_equal(numbers_begin(~UINT64_C(1), 64), 128);
}

static void no_begin_is_left(void **state)
{
    assert_int_equal(numbers_begin(~UINT64_C(0), 100), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_third_shard_begins_at_three),
        cmocka_unit_test(it_begins_above_all_that_was_given),
        cmocka_unit_test(the_last_begin_is_the_step_itself),
        cmocka_unit_test(no_begin_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
