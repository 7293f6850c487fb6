/* Names of transactions: made so that recovery can tell its own from everybody else's. */
#include "story.h"

#include "meta/gid.h"

static GidPrefix own;

static const char *made(uint64_t n, const char *shard)
{
    static char gid[GID_SIZE];
    Error err = {0};
    if (!gid_make(&own, n, shard, gid, &err))
        fail_msg("%s: %s", err.sqlstate, err.message);
    return gid;
}

static GidOwner owner_of(const char *gid)
{
    return gid_read(&own, slice_str(gid)).owner;
}

/* Else: recovery asks the wrong shard how a transaction was decided (H58). */
static void a_name_tells_its_decider_and_epoch(void **state)
{
    GidParts parts = gid_read(&own, slice_str(made(17, "eu_west-1.a")));
    assert_int_equal(parts.owner, GID_OWN);
    assert_int_equal(parts.epoch, 3);
    assert_true(slice_is(parts.shard, "eu_west-1.a"));
}

/* Else: somebody who may call shoal.decide() decides other clients' transactions. */
static void names_cannot_be_guessed(void **state)
{
    char first[GID_SIZE];
    snprintf(first, sizeof first, "%s", made(1, "s0"));
    assert_string_not_equal(first, made(1, "s0"));
}

/* Else: prepared transactions of other applications, clusters and routers are ended by us (H61). */
static void what_is_not_ours_is_told_apart(void **state)
{
    assert_int_equal(owner_of(made(1, "s0")), GID_OWN);
    assert_int_equal(owner_of("shoal_0123456789abcdef_bbbbbbbb_3_1-01234567_s0"), GID_OTHER);
    static const char *const FOREIGN[] = {"", "x", "shoal_", "shoal_0123456789abcdef",
        "shoal_fffffffffffffff0_aaaaaaaa_3_1-01234567_s0", "shoal_0123456789abcdef_aaaaaaaa_",
        "shoal_0123456789abcdef_aaaaaaaa_3_1_s0", "shoal_0123456789abcdef_aaaaaaaa_3_1-0123456_s0",
        "shoal_0123456789abcdef_aaaaaaaa_3_1-01234567_", "shoal_0123456789abcdef_aaaaaaaa_x_1-01234567_s0",
        "shoal_0123456789abcdef_aaaaaaaa_3_1-01234567_s'0", "my own transaction", "citus_0_1_2_3"};
    for (size_t i = 0; i < ARRAY_LEN(FOREIGN); i++)
        if (owner_of(FOREIGN[i]) != GID_FOREIGN)
            fail_msg("taken for ours: %s", FOREIGN[i]);
}

/* Else: PREPARE fails with 22023 after the statements have run, or a quote ends the literal. */
static void a_shard_name_that_does_not_fit_is_refused(void **state)
{
    char gid[GID_SIZE], name[GID_SIZE];
    Error err;
    memset(name, 'x', sizeof name);
    name[63] = '\0';
    assert_true(gid_make(&own, UINT64_MAX, name, gid, &err));
    assert_true(strlen(gid) < 200);
    name[63] = 'x';
    name[GID_SIZE - 1] = '\0';
    assert_false(gid_make(&own, 1, name, gid, &err));
    assert_string_equal(err.sqlstate, "54000");
    assert_false(gid_make(&own, 1, "a'b", gid, &err));
    assert_false(gid_make(&own, 1, "", gid, &err));
}

/* Else: after a start with a broken store names of an earlier start are used again. */
static void without_an_epoch_there_are_no_names(void **state)
{
    GidPrefix none;
    char gid[GID_SIZE];
    Error err;
    gid_prefix_init(&none, "0123456789abcdef", "aaaaaaaa", 0);
    assert_false(gid_make(&none, 1, "s0", gid, &err));
    assert_string_equal(err.sqlstate, "55000");
    assert_true(err.hint[0] != '\0');
}

int main(void)
{
    gid_prefix_init(&own, "0123456789abcdef", "aaaaaaaa", 3);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_tells_its_decider_and_epoch),
        cmocka_unit_test(names_cannot_be_guessed),
        cmocka_unit_test(what_is_not_ours_is_told_apart),
        cmocka_unit_test(a_shard_name_that_does_not_fit_is_refused),
        cmocka_unit_test(without_an_epoch_there_are_no_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
