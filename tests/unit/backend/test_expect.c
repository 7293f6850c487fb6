/* test_expect.c - what a server may answer, and when it has lied. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "backend/expect.h"

static ExpectQueue queue;

/* Steps by their letters: P B D(escribe portal) d(escribe statement) E C Q F S, 1 3 (ours), c (copy
 * ends). */
static void owe(const char *steps)
{
    static const struct {
        char letter;
        Expect expect;
    } KINDS[] = {
        {'P', {.kind = EXPECT_PARSE}},
        {'B', {.kind = EXPECT_BIND}},
        {'D', {.kind = EXPECT_DESCRIBE_PORTAL}},
        {'d', {.kind = EXPECT_DESCRIBE_STATEMENT}},
        {'E', {.kind = EXPECT_EXECUTE, .described = true}},
        {'C', {.kind = EXPECT_CLOSE}},
        {'Q', {.kind = EXPECT_QUERY}},
        {'F', {.kind = EXPECT_FUNCTION}},
        {'S', {.kind = EXPECT_SYNC}},
        {'1', {.kind = EXPECT_SYNTHETIC, .answer = '1'}},
        {'c', {.kind = EXPECT_COPY_END}},
    };
    for (; *steps; steps++)
        for (size_t i = 0; i < ARRAY_LEN(KINDS); i++)
            if (KINDS[i].letter == *steps)
                assert_true(expect_push(&queue, KINDS[i].expect));
}

/* Feeds answers; returns how many were accepted. Rows have two columns, "x" is a row of three. */
static size_t answer(const char *types)
{
    Expect ret;
    for (size_t i = 0; types[i]; i++) {
        while (expect_take_synthetic(&queue, &ret)) {
        }
        char type = types[i] == 'x' ? 'D' : types[i];
        ExpectVerdict verdict = expect_match(&queue, (uint8_t)type, types[i] == 'x' ? 3 : 2, &ret);
        if (verdict == EXPECT_REFUSED)
            return i;
        if (verdict == EXPECT_FAILED)
            while (expect_skip(&queue, &ret)) {
            }
    }
    return strlen(types);
}

static void accepts(const char *steps, const char *types)
{
    expect_init(&queue);
    owe(steps);
    assert_int_equal(answer(types), strlen(types));
    assert_null(expect_head(&queue));
    assert_int_equal(queue.readies, 0);
    expect_finish(&queue);
}

/* All but the last message are right. */
static void refuses(const char *steps, const char *types)
{
    expect_init(&queue);
    owe(steps);
    assert_int_equal(answer(types), strlen(types) - 1);
    expect_finish(&queue);
}

static void right_answers_are_accepted(void **state)
{
    /* A healthy server's connection would be closed. */
    accepts("Q", "TDDCZ");
    accepts("Q", "IZ");
    accepts("Q", "CTDCCZ");
    accepts("PBDES", "12TDDCZ");
    accepts("PdBES", "1tn2CZ");
    accepts("PdS", "1tTZ");
    accepts("BESBES", "2DsZ2DCZ");
    accepts("BDES", "2nCZ");
    accepts("BECS", "2I3Z");
    accepts("FS", "VZZ");
    accepts("BES", "2HddcCZ");
    accepts("Q", "HdcCTDCZ");
    accepts("Q", "TCEZ");
    accepts("SSS", "ZZZ");
    accepts("S", "EZ");
    accepts("1P1S", "1Z");
}

static void an_error_settles_what_the_server_skips(void **state)
{
    /* H04: answers would be waited for that never come. */
    accepts("PBDES", "EZ");
    accepts("P1BES", "EZ");
    accepts("PBQFS", "1EZ");
    accepts("PBESQ", "1EZTCZ");
    accepts("QS", "EZZ");
    accepts("F", "EZ");
    accepts("BES", "2DDEZ");
    accepts("BEcS", "2GEZ");
    accepts("Q", "TDEZ");
}

static void lies_are_refused(void **state)
{
    /* bad-input 138: a broken server's words would be taken for an answer. */
    refuses("", "Z");
    refuses("Q", "Z");
    refuses("Q", "D");
    refuses("Q", "Tx");
    refuses("Q", "TZ");
    refuses("Q", "TT");
    refuses("Q", "1");
    refuses("Q", "d");
    refuses("Q", "G1");
    refuses("Q", "Hdd1");
    refuses("Q", "HC");
    refuses("Q", "W");
    refuses("Q", "EE");
    refuses("Q", "EC");
    refuses("P", "2");
    refuses("PS", "Z");
    refuses("PS", "1ZZ");
    refuses("d", "T");
    refuses("BE", "2T");
    refuses("BE", "2Dx");
    refuses("BDE", "2Tx");
    refuses("BE", "2DI");
    refuses("BE", "2K");
    refuses("F", "VV");
    refuses("F", "Z");
}

/* Else: a connection waits for ever for a ReadyForQuery, and so does its client: a Close that we answer
 * ourselves hid the Sync behind it, which PostgreSQL has read as part of the COPY. */
static void a_sync_behind_our_own_answer_is_read_by_a_copy_too(void **state)
{
    expect_init(&queue);
    owe("Q1S");
    assert_int_equal(answer("G"), 1);
    assert_int_equal(queue.swallowed, 1);
    assert_int_equal(queue.readies, 1);
    owe("c");
    assert_int_equal(answer("EZ"), 2);
    assert_int_equal(queue.readies, 0);
    expect_finish(&queue);

    expect_init(&queue);
    owe("E1S1SP");
    assert_int_equal(answer("G"), 1);
    assert_int_equal(queue.swallowed, 2);
    assert_int_equal(queue.readies, 0);
    assert_int_equal(queue.count, 4);
    expect_finish(&queue);
}

/* Else: a client that dies in the second COPY of a Query leaves a server waiting for data for ever. */
static void the_end_of_one_copy_is_not_the_end_of_the_next(void **state)
{
    expect_init(&queue);
    owe("Q");
    assert_int_equal(answer("G"), 1);
    owe("c");
    assert_int_equal(answer("CG"), 2);
    assert_true(expect_ignores_sync(&queue));
    owe("c");
    assert_false(expect_ignores_sync(&queue));
    assert_int_equal(answer("CZ"), 2);
    assert_null(expect_head(&queue));
    expect_finish(&queue);
}

static void syncs_inside_a_copy_are_read_by_it(void **state)
{
    /* bad-input 99: we would wait for a ReadyForQuery that never comes. */
    expect_init(&queue);
    owe("BESS");
    assert_int_equal(answer("2G"), 2);
    assert_int_equal(queue.swallowed, 2);
    assert_int_equal(queue.readies, 0);
    assert_true(expect_ignores_sync(&queue));
    owe("cS");
    assert_false(expect_ignores_sync(&queue));
    assert_int_equal(answer("CZ"), 2);
    owe("QcS");
    assert_int_equal(answer("GCZZ"), 4);
    assert_null(expect_head(&queue));
    expect_finish(&queue);
}

static void a_failed_series_without_sync_skips_what_follows(void **state)
{
    /* H05: steps fed after the error would be expected to be answered. */
    expect_init(&queue);
    owe("PB");
    assert_int_equal(answer("E"), 1);
    assert_true(expect_would_skip(&queue, EXPECT_BIND));
    assert_true(expect_would_skip(&queue, EXPECT_QUERY));
    assert_false(expect_would_skip(&queue, EXPECT_SYNC));
    owe("SP");
    assert_int_equal(answer("Z1"), 2);
    expect_finish(&queue);
}

static void a_long_pipeline_grows_the_ring(void **state)
{
    /* H10: answers shifted by one after the ring has turned. */
    expect_init(&queue);
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < round * 3; i++)
            owe("BE");
        owe("S");
        for (int i = 0; i < round * 3; i++)
            assert_int_equal(answer("2DC"), 3);
        assert_int_equal(answer("Z"), 1);
    }
    assert_null(expect_head(&queue));
    expect_finish(&queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(right_answers_are_accepted),
        cmocka_unit_test(an_error_settles_what_the_server_skips),
        cmocka_unit_test(lies_are_refused),
        cmocka_unit_test(syncs_inside_a_copy_are_read_by_it),
        cmocka_unit_test(the_end_of_one_copy_is_not_the_end_of_the_next),
        cmocka_unit_test(a_sync_behind_our_own_answer_is_read_by_a_copy_too),
        cmocka_unit_test(a_failed_series_without_sync_skips_what_follows),
        cmocka_unit_test(a_long_pipeline_grows_the_ring),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
