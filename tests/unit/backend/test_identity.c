/* Who is behind a new connection: the wrong one is never written to. */
#include "backend/identity.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static PGresult *answer(const char *recovery, const char *system_id, const char *timeline)
{
    const char *cells[] = {recovery, system_id, timeline};
    PGresAttDesc columns[3] = {{.name = (char[]){"a"}}, {.name = (char[]){"b"}}, {.name = (char[]){"c"}}};
    PGresult *result = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    assert_true(PQsetResultAttrs(result, 3, columns));
    for (int i = 0; i < 3; i++)
        assert_true(PQsetvalue(result, 0, i, (char *)(uintptr_t)cells[i], (int)strlen(cells[i])));
    return result;
}

static bool right(ServerIdentity expected, const char *recovery, const char *system_id, const char *timeline)
{
    char why[200];
    PGresult *result = answer(recovery, system_id, timeline);
    bool ok = identity_check(&expected, result, why);
    PQclear(result);
    return ok;
}

static const ServerIdentity PRIMARY = {.watched = true, .primary = true, .system_id = 7, .timeline = 3};
static const ServerIdentity REPLICA = {.watched = true, .system_id = 7, .timeline = 3};

/* Else: writes go to the machine that came back, or to one that is no primary at all. */
static void test_a_primary_is_on_the_shards_timeline(void **state)
{
    (void)state;
    assert_true(right(PRIMARY, "f", "7", "3"));
    assert_false(right(PRIMARY, "f", "7", "2"));
    assert_false(right(PRIMARY, "f", "7", "4"));
    assert_false(right(PRIMARY, "t", "7", "0"));
}

/* Else: reads come from a server that was promoted, or has left the shard. */
static void test_a_replica_is_in_recovery(void **state)
{
    (void)state;
    assert_true(right(REPLICA, "t", "7", "0"));
    assert_false(right(REPLICA, "f", "7", "3"));
    assert_false(right(REPLICA, "f", "7", "4"));
}

/* N5. Else: an address that was reused answers with somebody else's rows. */
static void test_another_cluster_is_refused(void **state)
{
    (void)state;
    assert_false(right(PRIMARY, "f", "8", "3"));
    assert_false(right(REPLICA, "t", "8", "0"));
}

static void test_what_is_not_known_yet_is_not_held_against_anybody(void **state)
{
    (void)state;
    ServerIdentity fresh = {.watched = true, .primary = true};
    assert_true(right(fresh, "f", "123456", "9"));
    assert_false(right(fresh, "t", "123456", "0"));
}

/* Else: a server that cannot say who it is would be trusted. */
static void test_an_error_is_no_identity(void **state)
{
    (void)state;
    char why[200];
    PGresult *failed = PQmakeEmptyPGresult(NULL, PGRES_FATAL_ERROR);
    assert_false(identity_check(&PRIMARY, failed, why));
    assert_false(identity_check(&PRIMARY, NULL, why));
    PQclear(failed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_primary_is_on_the_shards_timeline),
        cmocka_unit_test(test_a_replica_is_in_recovery),
        cmocka_unit_test(test_another_cluster_is_refused),
        cmocka_unit_test(test_what_is_not_known_yet_is_not_held_against_anybody),
        cmocka_unit_test(test_an_error_is_no_identity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
