/* Who takes the writes of a shard: never two, never one of an older timeline. */
#include "admin/roles.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define SYSTEM 7

static RoleMemory memory;
static RoleVerdict verdicts[4];

static RoleFact primary_on(uint64_t timeline) { return (RoleFact){true, false, timeline, SYSTEM, true, false}; }
static RoleFact standby_on(uint64_t timeline) { return (RoleFact){true, true, timeline, SYSTEM, true, false}; }
static RoleFact silent(void) { return (RoleFact){.asked = true}; }

static bool decide(RoleFact a, RoleFact b, RoleFact c)
{
    RoleFact facts[] = {a, b, c};
    return roles_decide(&memory, facts, 3, verdicts);
}

static void begin(uint32_t primary, uint64_t timeline)
{
    memory = (RoleMemory){primary, timeline, timeline ? SYSTEM : 0};
}

static void test_a_healthy_shard_keeps_its_primary(void **state)
{
    (void)state;
    begin(0, 0);
    assert_false(decide(primary_on(1), standby_on(1), silent()));
    assert_int_equal(memory.primary, 0);
    assert_int_equal(memory.timeline, 1);
    assert_int_equal(verdicts[0], ROLE_PRIMARY);
    assert_int_equal(verdicts[1], ROLE_STANDBY);
    assert_int_equal(verdicts[2], ROLE_UNKNOWN);
}

/* Else: after a failover somebody must edit shards.ini before anybody can write. */
static void test_a_promoted_standby_is_found(void **state)
{
    (void)state;
    begin(0, 1);
    assert_false(decide(silent(), standby_on(1), standby_on(1)));
    assert_int_equal(memory.primary, 0);
    assert_true(decide(silent(), primary_on(2), standby_on(1)));
    assert_int_equal(memory.primary, 1);
    assert_int_equal(verdicts[2], ROLE_BEHIND);
}

/* S5. Else: writes go to the machine that came back, and are lost. */
static void test_the_old_primary_is_fenced_when_it_comes_back(void **state)
{
    (void)state;
    begin(1, 2);
    assert_false(decide(primary_on(1), primary_on(2), standby_on(2)));
    assert_int_equal(memory.primary, 1);
    assert_int_equal(verdicts[0], ROLE_FENCED);
    assert_false(decide(primary_on(1), silent(), silent()));
    assert_int_equal(memory.primary, 1);
    assert_int_equal(verdicts[0], ROLE_FENCED);
}

/* Else: a router that started after the failover takes the old primary for the right one. */
static void test_a_remembered_timeline_fences_from_the_first_moment(void **state)
{
    (void)state;
    begin(ROLES_NONE, 2);
    assert_false(decide(primary_on(1), silent(), silent()));
    assert_int_equal(memory.primary, ROLES_NONE);
    assert_int_equal(verdicts[0], ROLE_FENCED);
}

/* Else: a copy started without standby.signal gets half of the writes. */
static void test_two_on_one_timeline_are_not_chosen_from(void **state)
{
    (void)state;
    begin(0, 1);
    decide(primary_on(1), primary_on(1), silent());
    assert_int_equal(memory.primary, 0);
    assert_int_equal(verdicts[1], ROLE_FENCED);
    decide(silent(), primary_on(1), silent());
    assert_int_equal(memory.primary, 0);
    begin(ROLES_NONE, 1);
    decide(primary_on(1), primary_on(1), silent());
    assert_int_equal(memory.primary, ROLES_NONE);
}

/* Else: writes are sent to a standby and fail one by one instead of waiting for the promotion. */
static void test_a_demoted_primary_leaves_the_role_empty(void **state)
{
    (void)state;
    begin(0, 1);
    assert_true(decide(standby_on(1), standby_on(1), silent()));
    assert_int_equal(memory.primary, ROLES_NONE);
    assert_true(decide(standby_on(1), primary_on(2), silent()));
    assert_int_equal(memory.primary, 1);
}

/* N5. Else: a server of another cluster on a reused port gets the writes. */
static void test_another_cluster_is_foreign(void **state)
{
    (void)state;
    begin(0, 1);
    RoleFact other = {true, false, 9, SYSTEM + 1, true, false};
    assert_false(decide(silent(), other, standby_on(1)));
    assert_int_equal(memory.primary, 0);
    assert_int_equal(verdicts[1], ROLE_FOREIGN);
}

/* Else: a standby that was promoted by mistake takes the writes beside a living leader. */
static void test_who_may_not_by_patroni_is_no_primary(void **state)
{
    (void)state;
    begin(0, 1);
    RoleFact promoted = primary_on(2);
    promoted.refused = true;
    assert_false(decide(primary_on(1), promoted, standby_on(1)));
    assert_int_equal(memory.primary, 0);
    assert_int_equal(verdicts[1], ROLE_REFUSED);
    RoleFact old = primary_on(1);
    old.refused = true; /* the lock has gone to the other one */
    assert_true(decide(old, primary_on(2), standby_on(1)));
    assert_int_equal(memory.primary, 1);
}

/* Else: a leader that has lost its lock is written to until another one is there. */
static void test_a_leader_without_its_lock_is_left(void **state)
{
    (void)state;
    begin(0, 1);
    RoleFact old = primary_on(1);
    old.refused = true;
    assert_true(decide(old, standby_on(1), silent()));
    assert_int_equal(memory.primary, ROLES_NONE);
    assert_true(decide(primary_on(1), standby_on(1), silent())); /* it has it again */
    assert_int_equal(memory.primary, 0);
}

/* Else: on the first start a server of another cluster that answers first becomes the primary. */
static void test_who_answers_first_does_not_name_the_shard(void **state)
{
    (void)state;
    begin(0, 0);
    RoleFact stranger = {true, false, 9, SYSTEM + 1, true, false}, not_yet = {0};
    assert_false(decide(not_yet, not_yet, stranger));
    assert_int_equal(memory.system_id, 0);
    assert_false(decide(not_yet, standby_on(1), stranger));
    assert_false(decide(silent(), standby_on(1), stranger)); /* they do not agree */
    assert_int_equal(memory.system_id, 0);
    assert_false(decide(primary_on(1), standby_on(1), stranger));
    assert_int_equal(memory.system_id, SYSTEM);
    assert_int_equal(memory.primary, 0);
    assert_int_equal(verdicts[2], ROLE_FOREIGN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_healthy_shard_keeps_its_primary),
        cmocka_unit_test(test_a_promoted_standby_is_found),
        cmocka_unit_test(test_the_old_primary_is_fenced_when_it_comes_back),
        cmocka_unit_test(test_a_remembered_timeline_fences_from_the_first_moment),
        cmocka_unit_test(test_two_on_one_timeline_are_not_chosen_from),
        cmocka_unit_test(test_a_demoted_primary_leaves_the_role_empty),
        cmocka_unit_test(test_another_cluster_is_foreign),
        cmocka_unit_test(test_who_may_not_by_patroni_is_no_primary),
        cmocka_unit_test(test_a_leader_without_its_lock_is_left),
        cmocka_unit_test(test_who_answers_first_does_not_name_the_shard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
