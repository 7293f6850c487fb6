/* The 21 rules as a table: each row differs from a statement that may travel by one thing. */
#include "sketch.h"

#define PLAIN "select name from users where id = 1"

typedef struct Row {
    const char *sql;
    BatchReason reason;
    BatchTier tier;
    uint32_t keys;
} Row;

static const Row ROWS[] = {
    {PLAIN, BATCH_OK, BATCH_TIER_KEYS, 1},
    {"select name from users where id = $1", BATCH_OK, BATCH_TIER_KEYS, 1},
    {"select name from users u where u.uid = 'x' and name like 'a%'", BATCH_OK, BATCH_TIER_KEYS, 1},
    {"select name from users where mail = 'x'", BATCH_OK, BATCH_TIER_KEYS, 1},
    /* tier B: anything but a plain list by one unique key */
    {"select name from users where id = 1 limit 1", BATCH_OK, BATCH_TIER_ORDINAL, 1},
    {"select name from users where id = 1 order by 1", BATCH_OK, BATCH_TIER_ORDINAL, 1},
    {"select distinct name from users where id = 1", BATCH_OK, BATCH_TIER_ORDINAL, 1},
    {"select count(*) from users where id = 1", BATCH_OK, BATCH_TIER_ORDINAL, 1},
    {"select name from users where org = 1", BATCH_OK, BATCH_TIER_ORDINAL, 1},
    {"select name from users where code = 'x'", BATCH_OK, BATCH_TIER_ORDINAL, 1},
    {"select 1 from users u, posts p where p.user_id = u.id and u.id = 1", BATCH_OK,
     BATCH_TIER_ORDINAL, 1},
    {"select id from users where id = '1'::int", BATCH_OK, BATCH_TIER_ORDINAL, 1},
    /* which values are keys */
    {"select 1 from tenants where tenant = 1 and id = 2", BATCH_OK, BATCH_TIER_ORDINAL, 2},
    {"select name from users where id = 1 and org = 5", BATCH_OK, BATCH_TIER_ORDINAL, 2},
    {"select name from users where id = 1 and name = 'x'", BATCH_OK, BATCH_TIER_KEYS, 1},
    {"select name from users where org = $1 and id = $1", BATCH_OK, BATCH_TIER_ORDINAL, 1},
    /* rule 8 */
    {"update users set name = 'x' where id = 1", BATCH_NOT_SELECT, 0, 0},
    {"select name from users where id = 1 for share", BATCH_LOCKING, 0, 0},
    {"with a as (select 1) select name from users where id = 1", BATCH_UNSUPPORTED_CLAUSE, 0, 0},
    {"select name from users where id = 1 union select 'x'", BATCH_UNSUPPORTED_CLAUSE, 0, 0},
    {"select name from users tablesample system (10) where id = 1", BATCH_UNSUPPORTED_CLAUSE, 0, 0},
    {"select 1 where 1 = 1", BATCH_NO_TABLE, 0, 0},
    /* rule 7 */
    {"select name from nobody where id = 1", BATCH_UNKNOWN_TABLE, 0, 0},
    {"select name from other.users where id = 1", BATCH_UNKNOWN_TABLE, 0, 0},
    {"select 1 from aview where id = 1", BATCH_TABLE_KIND, 0, 0},
    {"select 1 from foreign_one where id = 1", BATCH_TABLE_KIND, 0, 0},
    {"select 1 from parent where id = 1", BATCH_TABLE_KIND, 0, 0},
    {"select 1 from temporary where id = 1", BATCH_TABLE_KIND, 0, 0},
    {"select 1 from users where id = 1 and exists (select 1 from aview)", BATCH_TABLE_KIND, 0, 0},
    /* rule 9 */
    {"select 1 from secret where id = 1", BATCH_ROW_SECURITY, 0, 0},
    {"select upper(name) from users where id = 1", BATCH_OK, BATCH_TIER_KEYS, 1},
    {"select now() from users where id = 1", BATCH_OK, BATCH_TIER_KEYS, 1},
    {"select pg_backend_pid() from users where id = 1", BATCH_FUNCTION, 0, 0},
    {"select random() from users where id = 1", BATCH_FUNCTION, 0, 0},
    {"select unknown(1) from users where id = 1", BATCH_FUNCTION, 0, 0},
    {"select unnest('{1}'::int4[]) from users where id = 1", BATCH_FUNCTION, 0, 0},
    {"select name from users where id = 1 and name ~~~ 'x'", BATCH_FUNCTION, 0, 0},
    {"select name from users where id = 1 and name operator(public.=) 'x'", BATCH_FUNCTION, 0, 0},
    {"select 'x'::fancy from users where id = 1", BATCH_FUNCTION, 0, 0},
    /* rule 10 */
    {"select name from users where id > 1", BATCH_NO_KEY, 0, 0},
    {"select name from users where id = 1 or id = 2", BATCH_NO_KEY, 0, 0},
    {"select name from users where id = 5.5", BATCH_NO_KEY, 0, 0},
    {"select name from users where id = null", BATCH_NO_KEY, 0, 0},
    {"select name from users where balance = '1'", BATCH_KEY_TYPE, 0, 0},
    {"select name from users where fancy = 'x'", BATCH_KEY_TYPE, 0, 0},
    {"select name from users where uid = 'x'::text", BATCH_KEY_TYPE, 0, 0},
    {"select name from users where id operator(pg_catalog.=) 1", BATCH_KEY_TYPE, 0, 0},
    {"select name from users where name = 'x'", BATCH_NO_INDEX, 0, 0},
    {"/* shoal: batch = off */ " PLAIN, BATCH_OFF, 0, 0},
};

/* A statement that must run alone would share another one's snapshot, locks or functions. */
static void test_statements(void **state)
{
    Sketch *s = *state;
    for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
        sketch_read(s, ROWS[i].sql);
        PolicyVerdict verdict = policy_judge(&s->input);
        if (verdict.reason != ROWS[i].reason || verdict.tier != ROWS[i].tier ||
            verdict.key_count != ROWS[i].keys)
            fail_msg("%s: %s, tier %d, %u keys", ROWS[i].sql,
                     batch_reason_text(verdict.reason)->code, verdict.tier, verdict.key_count);
    }
}

/* The session's side: one bit each. */
static void test_requests(void **state)
{
    Sketch *s = *state;
    sketch_read(s, PLAIN);
    PolicyInput good = s->input;
    s->input.autocommit = false;
    assert_int_equal(policy_judge(&s->input).reason, BATCH_IN_TRANSACTION);
    s->input = good;
    s->input.session_state = true;
    assert_int_equal(policy_judge(&s->input).reason, BATCH_SESSION_STATE);
    s->input = good;
    s->input.values_may_vary = false;
    assert_int_equal(policy_judge(&s->input).reason, BATCH_ENCODING);
    s->input = good;
    s->input.search_path = SLICE("public, pg_catalog");
    assert_int_equal(policy_judge(&s->input).reason, BATCH_FUNCTION);
    s->input = good;
    s->database.batch = false;
    assert_int_equal(policy_judge(&s->input).reason, BATCH_OFF);
    s->database.batch = true;
    s->config.batch = false;
    assert_int_equal(policy_judge(&s->input).reason, BATCH_OFF);
    s->config.batch = true;
    s->catalog->loaded = false;
    assert_int_equal(policy_judge(&s->input).reason, BATCH_CATALOG);
}

/* SET on the session decides, too. */
static void test_settings(void **state)
{
    static const struct {
        const char *name, *value;
        BatchReason reason;
    } rows[] = {
        {"app.tenant", "'7'", BATCH_OK},
        {"default_transaction_isolation", "'repeatable read'", BATCH_OK},
        {"default_transaction_isolation", "'SERIALIZABLE'", BATCH_ISOLATION},
        {"transaction_isolation", "serializable", BATCH_ISOLATION},
        {"standard_conforming_strings", "off", BATCH_ENCODING},
        {"role", "'bob'", BATCH_OK},
        {"role", "none", BATCH_OK},
        {"role", "'o''brien'", BATCH_SESSION_STATE},
    };
    Sketch *s = *state;
    sketch_read(s, PLAIN);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        bool good;
        GucVector *gucs =
            guc_with(&s->gucs, NULL, slice_str(rows[i].name), slice_str(rows[i].value), &good);
        s->input.gucs = gucs;
        assert_int_equal(policy_judge(&s->input).reason, rows[i].reason);
        guc_release(&s->gucs, gucs);
    }
}

/* With SET ROLE bob, "$user" is bob's schema: alice's table would be judged for bob's. */
static void test_role_moves_the_search_path(void **state)
{
    Sketch *s = *state;
    CatalogTable *table = arena_new(&s->catalog->arena, CatalogTable);
    *table = (CatalogTable){
        .schema = SLICE("bob"), .name = SLICE("users"), .kind = 'v', .persistence = 'p'};
    assert_true(catalog_add_table(s->catalog, table));
    sketch_read(s, PLAIN);
    assert_int_equal(policy_judge(&s->input).reason, BATCH_OK);
    bool good;
    s->input.gucs = guc_with(&s->gucs, NULL, SLICE("role"), SLICE("bob"), &good);
    assert_int_equal(policy_judge(&s->input).reason, BATCH_TABLE_KIND);
    guc_release(&s->gucs, (GucVector *)(uintptr_t)s->input.gucs);
}

/* An operator would be left without an explanation. */
static void test_each_reason_has_a_text(void **state)
{
    (void)state;
    for (int i = 0; i < BATCH_REASON_COUNT; i++) {
        const BatchReasonText *text = batch_reason_text((BatchReason)i);
        assert_non_null(text->code);
        assert_true(strlen(text->help) > 20);
        for (int k = 0; k < i; k++)
            assert_string_not_equal(text->code, batch_reason_text((BatchReason)k)->code);
    }
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, sketch_open, sketch_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(test_statements),
        STORY(test_requests),
        STORY(test_settings),
        STORY(test_role_moves_the_search_path),
        STORY(test_each_reason_has_a_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
