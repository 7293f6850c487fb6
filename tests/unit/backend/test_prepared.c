/* test_prepared.c - statement texts, what connections know of them, and setting vectors. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "backend/guc.h"
#include "backend/known.h"

static void equal_texts_share_one_statement(void **state)
{
    /* A thousand clients with one statement would cost the servers a thousand of them. */
    PreparedSet set;
    prepared_set_init(&set);
    uint32_t int4 = 23, int8 = 20;
    Prepared *a = prepared_intern(&set, SLICE("select $1"), &int4, 1);
    Prepared *b = prepared_intern(&set, SLICE("select $1"), &int4, 1);
    Prepared *c = prepared_intern(&set, SLICE("select $1"), &int8, 1);
    Prepared *d = prepared_intern(&set, SLICE("select $1"), NULL, 0);
    assert_ptr_equal(a, b);
    assert_ptr_not_equal(a, c); /* H20 */
    assert_ptr_not_equal(a, d);
    assert_string_not_equal(a->name, c->name);
    assert_int_equal(set.bytes, 27);
    prepared_release(&set, a);
    assert_int_equal(set.by_text.count, 3);
    prepared_release(&set, b);
    prepared_release(&set, c);
    prepared_release(&set, d);
    prepared_release(&set, NULL);
    assert_int_equal(set.by_text.count, 0); /* H21 */
    assert_int_equal(set.bytes, 0);
    Prepared *again = prepared_intern(&set, SLICE("select $1"), &int4, 1);
    assert_string_equal(strrchr(again->name, '_'), "_4"); /* a name is never used twice */
    assert_int_equal(strncmp(again->name, "shoal_", 6), 0); /* and is no client's "s4" */
    prepared_release(&set, again);
    prepared_set_finish(&set);
}

static void the_least_recently_used_is_closed_first(void **state)
{
    /* The busiest statement would be parsed again and again. */
    PreparedSet set;
    KnownSet known;
    prepared_set_init(&set);
    known_init(&known, &set);
    Prepared *p[3];
    const char *texts[] = {"a", "b", "c"};
    for (int i = 0; i < 3; i++) {
        p[i] = prepared_intern(&set, slice_str(texts[i]), NULL, 0);
        assert_false(known_touch(&known, p[i]));
        assert_true(known_add(&known, p[i]));
        prepared_release(&set, p[i]); /* known keeps its own */
    }
    assert_true(known_touch(&known, p[0]));
    known_close_later(&known, p[2]);
    assert_false(known_touch(&known, p[2]));
    assert_ptr_equal(known_take_closing(&known, 1), p[2]); /* stale ones first */
    assert_ptr_equal(known_take_closing(&known, 1), p[1]);
    assert_null(known_take_closing(&known, 1));
    prepared_release(&set, p[1]);
    prepared_release(&set, p[2]);
    known_set_unnamed(&known, p[0]);
    known_remove(&known, p[0]);
    assert_int_equal(known_count(&known), 0);
    known_finish(&known);
    prepared_set_finish(&set);
}

static GucSet gucs;

static GucVector *vector(const GucVector *base, const char *name, const char *value)
{
    bool ok = false;
    GucVector *made = guc_with(&gucs, base, slice_str(name), slice_str(value), &ok);
    assert_true(ok);
    return made;
}

static void transition(const GucVector *from, const GucVector *to, const char *sql)
{
    Buf buf;
    buf_init(&buf, 4096);
    assert_true(guc_transition(from, to, &buf));
    assert_true(slice_is(buf_bytes(&buf), sql));
    buf_finish(&buf);
}

static void equal_settings_are_one_vector(void **state)
{
    /* Connections would be switched for nothing, or two clients' settings be taken for equal. */
    bool ok;
    guc_set_init(&gucs);
    GucVector *a = vector(NULL, "timezone", "'UTC'"), *b = vector(a, "datestyle", "iso");
    GucVector *c = vector(NULL, "datestyle", "iso"), *d = vector(c, "timezone", "'UTC'");
    assert_ptr_equal(b, d);
    GucVector *e = vector(d, "timezone", "'Asia/Tokyo'");
    assert_ptr_not_equal(d, e);
    assert_int_equal(e->count, 2);
    GucVector *f = guc_without(&gucs, e, SLICE("timezone"), &ok);
    assert_ptr_equal(f, c);
    assert_null(guc_without(&gucs, c, SLICE("datestyle"), &ok));
    assert_null(guc_without(&gucs, NULL, SLICE("datestyle"), &ok));
    assert_true(slice_is(guc_find(e, SLICE("timezone"))->value, "'Asia/Tokyo'"));
    assert_null(guc_find(NULL, SLICE("timezone")));
    GucVector *all[] = {a, b, c, d, e, f, guc_retain(NULL)};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        guc_release(&gucs, all[i]);
    guc_set_finish(&gucs);
}

static void the_way_between_two_vectors(void **state)
{
    /* P4: a setting of the last client stays on the connection. */
    guc_set_init(&gucs);
    GucVector *iso = vector(NULL, "datestyle", "iso, dmy");
    GucVector *bob = vector(iso, "role", "bob");
    GucVector *app = vector(bob, "app.user\"id", "'42'");
    GucVector *plain = vector(NULL, "app.user\"id", "'42'");
    GucVector *sesame = vector(bob, "session_authorization", "'eve'");
    transition(NULL, NULL, "");
    transition(iso, iso, "");
    transition(NULL, iso, "SET \"datestyle\" TO iso, dmy");
    transition(iso, NULL, "RESET \"datestyle\"");
    transition(NULL, bob, "SET \"datestyle\" TO iso, dmy; SET \"role\" TO bob");
    transition(bob, app, "RESET \"role\"; SET \"app\".\"user\"\"id\" TO '42'; SET \"role\" TO bob");
    transition(app, plain, "RESET \"role\"; RESET \"datestyle\"");
    transition(sesame, bob, "RESET \"role\"; RESET \"session_authorization\"; SET \"role\" TO bob");
    transition(NULL, sesame,
               "SET \"datestyle\" TO iso, dmy; "
               "SET \"session_authorization\" TO 'eve'; SET \"role\" TO bob");
    GucVector *all[] = {iso, bob, app, plain, sesame};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        guc_release(&gucs, all[i]);
    guc_set_finish(&gucs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_texts_share_one_statement),
        cmocka_unit_test(the_least_recently_used_is_closed_first),
        cmocka_unit_test(equal_settings_are_one_vector),
        cmocka_unit_test(the_way_between_two_vectors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
