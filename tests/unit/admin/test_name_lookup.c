/* A name is looked up beside the caller, who may lose interest at any time. */
#include "admin/name_lookup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>
#include <netinet/in.h>

#include <cmocka.h>

static NameAddresses wait_for(const char *host, int port)
{
    NameAddresses found;
    NameLookup *lookup = name_lookup_start(host, port);
    assert_non_null(lookup);
    for (int i = 0; i < 6000 && !name_lookup_done(lookup, &found); i++)
        nanosleep(&(struct timespec){.tv_nsec = 10 * 1000 * 1000}, NULL);
    assert_true(name_lookup_done(lookup, &found));
    name_lookup_drop(lookup);
    return found;
}

/* Else: a Patroni that is configured by name is never asked. */
static void test_a_name_has_addresses_with_the_port(void **state)
{
    (void)state;
    NameAddresses found = wait_for("localhost", 8008);
    assert_in_range(found.count, 1, NAME_ADDRESSES_MAX);
    for (uint32_t i = 0; i < found.count; i++) {
        const struct sockaddr_storage *at = &found.list[i].address;
        int port = at->ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)at)->sin6_port
                                             : ((const struct sockaddr_in *)at)->sin_port;
        assert_int_equal(ntohs((uint16_t)port), 8008);
    }
}

/* Else: the control thread waits for a resolver although there is nothing to ask. */
static void test_an_address_needs_no_lookup(void **state)
{
    (void)state;
    NameAddress address;
    assert_true(name_is_address("127.0.0.1", 1, &address));
    assert_int_equal(address.address.ss_family, AF_INET);
    assert_true(name_is_address("::1", 1, &address));
    assert_int_equal(address.address.ss_family, AF_INET6);
    assert_false(name_is_address("localhost", 1, &address));
}

/* Else: RELOAD while a lookup runs frees what its thread still uses (ASan), or leaks it (LSan). */
static void test_one_that_nobody_waits_for_ends_by_itself(void **state)
{
    (void)state;
    for (int i = 0; i < 200; i++)
        name_lookup_drop(name_lookup_start("localhost", 1 + i)); /* NULL when too many are under way */
    name_lookup_drop(NULL);
    NameLookup *lookup = NULL;
    for (int i = 0; i < 6000 && !lookup; i++) { /* their places come back */
        lookup = name_lookup_start("localhost", 1);
        nanosleep(&(struct timespec){.tv_nsec = 10 * 1000 * 1000}, NULL);
    }
    assert_non_null(lookup);
    name_lookup_drop(lookup);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_name_has_addresses_with_the_port),
        cmocka_unit_test(test_an_address_needs_no_lookup),
        cmocka_unit_test(test_one_that_nobody_waits_for_ends_by_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
