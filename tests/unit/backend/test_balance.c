/* Each policy points into its direction (H36): to the better server, never to the worse one. */
#include "backend/balance.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static Balancer balancer;
static BalanceCandidate servers[3];
static uint32_t got[3];

static void begin(void)
{
    balancer_init(&balancer, 42);
    for (uint32_t i = 0; i < 3; i++)
        servers[i] = (BalanceCandidate){.server = i, .weight = 1, .latency_us = 1000, .distance_us = 500};
    memset(got, 0, sizeof got);
}

static void choose(BalancePolicy policy, uint32_t times)
{
    for (uint32_t i = 0; i < times; i++)
        got[balance_choose(&balancer, policy, servers, 3, i * 7919)]++;
}

/* A read each `apart_us`; it stays in flight for its server's latency, which is noted when it ends. */
static void run_load(BalancePolicy policy, uint32_t reads, uint64_t apart_us, const uint64_t latency_us[3])
{
    static struct {
        uint64_t end_us;
        uint32_t server;
    } flying[4096];
    uint32_t last = 0;
    for (uint32_t n = 0; n < reads; n++) {
        uint64_t now_us = n * apart_us;
        for (uint32_t i = 0; i < last;) {
            if (flying[i].end_us > now_us) {
                i++;
                continue;
            }
            BalanceCandidate *s = &servers[flying[i].server];
            s->inflight--;
            s->latency_us = s->latency_us ? (7 * s->latency_us + latency_us[flying[i].server]) / 8
                                          : latency_us[flying[i].server];
            flying[i] = flying[--last];
        }
        uint32_t i = balance_choose(&balancer, policy, servers, 3, n);
        got[i]++;
        servers[i].inflight++;
        assert_true(last < 4096);
        flying[last].end_us = now_us + latency_us[i];
        flying[last++].server = i;
    }
}

static void test_round_robin_gives_each_the_same(void **state)
{
    (void)state;
    begin();
    choose(BALANCE_ROUND_ROBIN, 300);
    for (int i = 0; i < 3; i++)
        assert_int_equal(got[i], 100);
}

static void test_weighted_gives_by_weight_and_not_in_runs(void **state)
{
    (void)state;
    begin();
    servers[1].weight = 3;
    uint32_t run = 0, longest = 0;
    for (int i = 0; i < 500; i++) {
        bool heavy = balance_choose(&balancer, BALANCE_WEIGHTED, servers, 3, 0) == 1;
        got[1] += heavy;
        run = heavy ? run + 1 : 0;
        longest = MAX(longest, run);
    }
    assert_int_equal(got[1], 300);
    assert_true(longest <= 2);
}

static void test_least_connections_avoids_the_busy_one(void **state)
{
    (void)state;
    begin();
    servers[0].inflight = 10;
    servers[1].inflight = 4;
    servers[2].inflight = 4;
    servers[2].weight = 3;
    choose(BALANCE_LEAST_CONNECTIONS, 10);
    assert_int_equal(got[2], 10);
}

static void test_power_of_two_never_takes_the_busiest(void **state)
{
    (void)state;
    begin();
    servers[0].inflight = 9;
    servers[1].inflight = 1;
    choose(BALANCE_POWER_OF_TWO, 600);
    assert_int_equal(got[0], 0);
    assert_true(got[2] > got[1]);
    assert_true(got[1] > 0);
}

static void test_response_time_prefers_the_quick_one(void **state)
{
    (void)state;
    begin();
    servers[0].latency_us = 10000;
    servers[1].latency_us = 1000;
    servers[2].latency_us = 2000;
    choose(BALANCE_RESPONSE_TIME, 1600);
    assert_in_range(got[0], 60, 150);
    assert_in_range(got[1], 900, 1100);
    assert_in_range(got[2], 420, 580);
}

static void test_nearest_takes_the_zone_then_the_distance(void **state)
{
    (void)state;
    begin();
    servers[0].distance_us = 200;
    choose(BALANCE_NEAREST, 10);
    assert_int_equal(got[0], 10);
    servers[2].same_zone = true;
    choose(BALANCE_NEAREST, 10);
    assert_int_equal(got[2], 10);
}

/* Else: each read of a row goes to another server, and each of them must have it in memory. */
static void test_hash_keeps_a_key_where_it_is(void **state)
{
    (void)state;
    begin();
    uint32_t home[100];
    for (uint64_t key = 0; key < 100; key++) {
        home[key] = balance_choose(&balancer, BALANCE_HASH, servers, 3, key);
        assert_int_equal(balance_choose(&balancer, BALANCE_HASH, servers, 3, key), home[key]);
    }
    for (uint64_t key = 0; key < 100; key++) /* without server 2 only its keys move */
        if (home[key] < 2)
            assert_int_equal(balance_choose(&balancer, BALANCE_HASH, servers, 2, key), home[key]);
}

/* Else: one hot key overloads its server while the others idle. */
static void test_hash_gives_no_server_more_than_its_share(void **state)
{
    (void)state;
    begin();
    for (int i = 0; i < 300; i++)
        servers[balance_choose(&balancer, BALANCE_HASH, servers, 3, 5)].inflight++;
    for (int i = 0; i < 3; i++)
        assert_in_range(servers[i].inflight, 40, 127);
}

/* Else: each time both quick servers have a read in flight the next one waits for the slow third: p99 is its own. */
static void test_a_few_reads_in_flight_do_not_send_others_to_the_slow_one(void **state)
{
    (void)state;
    begin();
    servers[1].latency_us = 100000;
    choose(BALANCE_HOT_COLD, 500); /* nothing is in flight mostly */
    servers[0].inflight = servers[2].inflight = 1;
    choose(BALANCE_HOT_COLD, 20);
    assert_int_equal(got[1], 0);
}

/* Else: a server that stands still keeps what it gets, because it has no latency yet. */
static void test_a_server_that_never_answers_gets_few(void **state)
{
    (void)state;
    begin();
    servers[1].latency_us = 0;
    for (int i = 0; i < 1000; i++) {
        uint32_t chosen = balance_choose(&balancer, BALANCE_HOT_COLD, servers, 3, 0);
        got[chosen]++;
        servers[1].inflight += chosen == 1;
    }
    assert_true(got[1] < 20);
}

/* Else: a third of all reads waits for the slow one of three servers. */
static void test_the_default_leaves_a_slow_server_alone(void **state)
{
    (void)state;
    const uint64_t latency_us[3] = {1000, 50000, 1000};
    begin();
    for (int i = 0; i < 3; i++)
        servers[i].latency_us = 0;
    run_load(BALANCE_HOT_COLD, 20000, 200, latency_us);
    assert_true(got[1] < 200);
    assert_in_range(got[0], 8000, 12000);
}

static void test_the_default_is_even_among_equals(void **state)
{
    (void)state;
    const uint64_t latency_us[3] = {1000, 1000, 1000};
    begin();
    run_load(BALANCE_HOT_COLD, 9000, 200, latency_us);
    for (int i = 0; i < 3; i++)
        assert_in_range(got[i], 2600, 3400);
}

/* Else: a server that stalls keeps getting reads until the first of them comes back. */
static void test_the_default_sees_a_stall_before_any_latency(void **state)
{
    (void)state;
    begin();
    for (int n = 0; n < 300; n++) { /* server 0 answers nothing more; the others at once */
        uint32_t i = balance_choose(&balancer, BALANCE_HOT_COLD, servers, 3, 0);
        got[i]++;
        servers[0].inflight += i == 0;
    }
    assert_true(got[0] < 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_robin_gives_each_the_same),
        cmocka_unit_test(test_weighted_gives_by_weight_and_not_in_runs),
        cmocka_unit_test(test_least_connections_avoids_the_busy_one),
        cmocka_unit_test(test_power_of_two_never_takes_the_busiest),
        cmocka_unit_test(test_response_time_prefers_the_quick_one),
        cmocka_unit_test(test_nearest_takes_the_zone_then_the_distance),
        cmocka_unit_test(test_hash_keeps_a_key_where_it_is),
        cmocka_unit_test(test_hash_gives_no_server_more_than_its_share),
        cmocka_unit_test(test_a_few_reads_in_flight_do_not_send_others_to_the_slow_one),
        cmocka_unit_test(test_a_server_that_never_answers_gets_few),
        cmocka_unit_test(test_the_default_leaves_a_slow_server_alone),
        cmocka_unit_test(test_the_default_is_even_among_equals),
        cmocka_unit_test(test_the_default_sees_a_stall_before_any_latency),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
