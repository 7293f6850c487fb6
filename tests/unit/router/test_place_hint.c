/* A statement that Shoal cannot look into runs where its comment says, and nowhere by a comment half understood. */
#include "router/place_hint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static PlaceHint hint;

static bool says(const char *text)
{
    return place_hint_read(slice_str(text), &hint);
}

static void test_a_shard_or_a_row_is_said(void **state)
{
    assert_true(says(" shard = s1 ") && !hint.bad && slice_is(hint.shard, "s1") && !hint.table.len);
    assert_true(says("key=-42;table=a.orders") && !hint.bad && slice_is(hint.key, "-42") && !hint.quoted);
    assert_true(slice_is(hint.schema, "a") && slice_is(hint.table, "orders"));
    assert_true(says("copies = 2, TABLE=t,key = 'a b, = c'") && !hint.bad && hint.quoted && slice_is(hint.key, "a b, = c"));
    assert_true(says("table = t key = ''") && !hint.bad && hint.has_key && hint.key.len == 0);
}

static void test_other_words_say_nothing_about_a_place(void **state)
{
    assert_false(says(""));
    assert_false(says(" copies = 2, max_lag = 200ms batch=off"));
    assert_false(says("shard s1 table key"));
}

static void test_half_a_place_is_bad(void **state)
{
    static const char *const BAD[] = {"table = t", "key = 1", "shard = a shard = b", "shard = s1, table = t, key = 1",
                                      "table = t, key = 'x", "table = t, key = 'it''s'", "shard =", "key = 1, key = 2, table = t"};
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++)
        assert_true(says(BAD[i]) && hint.bad);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_shard_or_a_row_is_said),
        cmocka_unit_test(test_other_words_say_nothing_about_a_place),
        cmocka_unit_test(test_half_a_place_is_bad),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
