/* Failpoints: a test that believes it broke something must have broken it. */
#include "story.h"

#include "core/failpoint.h"

#ifdef SHOAL_FAILPOINTS

static void arm(const char *words)
{
    Error err = {0};
    if (!failpoints_arm(words, &err))
        fail_msg("%s: %s", words, err.message);
}

/* Else: a crash test passes because nothing crashed. */
static void an_armed_point_acts_and_others_do_not(void **state)
{
    Error err = {0};
    assert_int_equal(FAILPOINT("commit_prepared"), FAIL_NONE);
    arm("commit_prepared:error,store_commit:enospc");
    assert_int_equal(FAILPOINT("commit_prepared"), FAIL_ERROR);
    assert_int_equal(FAILPOINT("commit_done"), FAIL_NONE);
    assert_true(FAILPOINT_FAILS("store_commit", &err));
    assert_string_equal(err.sqlstate, "53100");
}

/* Else: every transaction of a load stops, not the one that was meant. */
static void a_point_acts_at_the_hit_that_was_asked_for(void **state)
{
    arm("commit_decided@3:error");
    assert_int_equal(FAILPOINT("commit_decided"), FAIL_NONE);
    assert_int_equal(FAILPOINT("commit_decided"), FAIL_NONE);
    assert_int_equal(FAILPOINT("commit_decided"), FAIL_ERROR);
    assert_int_equal(FAILPOINT("commit_decided"), FAIL_NONE);
}

/* Else: a retry is never seen to succeed. */
static void a_point_may_fail_a_few_times_only(void **state)
{
    arm("copy_mid:error:2");
    assert_int_equal(FAILPOINT("copy_mid"), FAIL_ERROR);
    assert_int_equal(FAILPOINT("copy_mid"), FAIL_ERROR);
    assert_int_equal(FAILPOINT("copy_mid"), FAIL_NONE);
}

/* Else: a misspelt name tests nothing, for ever. */
static void wrong_words_are_refused(void **state)
{
    static const char *const WRONG[] = {"", "commit_prepared", "commit_prepared:", "no_such_point:panic",
        "commit_prepared:explode", "commit_prepared:panic:1", "commit_prepared:error:0", "commit_prepared:sleep", "commit_prepared:sleep:", "commit_prepared:sleep:1x",
        "commit_prepared@0:error", "commit_prepared@:error", "commit_prepared:error,"};
    for (size_t i = 0; i < ARRAY_LEN(WRONG); i++) {
        Error err = {0};
        if (failpoints_arm(WRONG[i], &err))
            fail_msg("taken: \"%s\"", WRONG[i]);
        assert_true(err.hint[0] != '\0');
        assert_false(failpoints_armed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_armed_point_acts_and_others_do_not),
        cmocka_unit_test(a_point_acts_at_the_hit_that_was_asked_for),
        cmocka_unit_test(a_point_may_fail_a_few_times_only),
        cmocka_unit_test(wrong_words_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

/* Else: a variable left over in the environment of a production machine stops the router. */
static void a_program_without_failpoints_says_so(void **state)
{
    Error err;
    assert_false(failpoints_arm("commit_prepared:panic", &err));
    assert_int_equal(FAILPOINT("commit_prepared"), FAIL_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_program_without_failpoints_says_so)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
