/*
 * What a shard is told that joins a transaction late. If it went wrong, one shard would have another
 * isolation level, other settings or another stack of savepoints than the rest: ROLLBACK TO would undo the work
 * of some shards and keep that of others.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "router/script.h"

static void says(const Script *script, const char *text)
{
    Buf out;
    buf_init(&out, 4096);
    script_write(script, &out);
    assert_int_equal(buf_len(&out), strlen(text));
    assert_memory_equal(buf_bytes(&out).data, text, strlen(text));
    buf_finish(&out);
}

static void add(Script *script, ScriptKind kind, const char *name, const char *text)
{
    assert_true(script_add(script, kind, slice_str(name), slice_str(text)));
}

/* Else: a shard that joins after RELEASE has a savepoint that the others have not. */
static void release_takes_the_savepoint_and_those_above_it(void **state)
{
    (void)state;
    Script s = {0};
    add(&s, SCRIPT_BEGIN, "", "BEGIN");
    add(&s, SCRIPT_SAVEPOINT, "a", "SAVEPOINT a");
    add(&s, SCRIPT_SET, "", "SET LOCAL x = 1");
    add(&s, SCRIPT_SAVEPOINT, "b", "SAVEPOINT b");
    assert_false(script_release(&s, SLICE("c")));
    assert_true(script_release(&s, SLICE("a")));
    says(&s, "BEGIN;\nSET LOCAL x = 1");
    script_clear(&s);
}

/* Else: settings that were rolled back hold on some shards. */
static void rollback_to_keeps_the_savepoint_and_nothing_after_it(void **state)
{
    (void)state;
    Script s = {0};
    add(&s, SCRIPT_BEGIN, "", "BEGIN");
    add(&s, SCRIPT_SAVEPOINT, "a", "SAVEPOINT a");
    add(&s, SCRIPT_SAVEPOINT, "a", "SAVEPOINT \"a\"");
    add(&s, SCRIPT_SET, "", "SET LOCAL x = 1");
    assert_true(script_rollback_to(&s, SLICE("a"))); /* the inner one of that name */
    says(&s, "BEGIN;\nSAVEPOINT a;\nSAVEPOINT \"a\"");
    script_chain(&s);
    says(&s, "BEGIN");
    script_clear(&s);
    says(&s, "");
}

/* Else: a loop with a savepoint in each round runs into the limit. */
static void a_loop_of_savepoints_does_not_grow(void **state)
{
    (void)state;
    Script s = {0};
    add(&s, SCRIPT_BEGIN, "", "BEGIN");
    for (int i = 0; i < 1000; i++) {
        add(&s, SCRIPT_SAVEPOINT, "django", "SAVEPOINT django");
        assert_true(i % 2 ? script_release(&s, SLICE("django"))
                          : script_rollback_to(&s, SLICE("django")) && script_release(&s, SLICE("django")));
    }
    assert_int_equal(s.bytes, 5);
    script_clear(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(release_takes_the_savepoint_and_those_above_it),
        cmocka_unit_test(rollback_to_keeps_the_savepoint_and_nothing_after_it),
        cmocka_unit_test(a_loop_of_savepoints_does_not_grow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
