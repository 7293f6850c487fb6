/* The batch statements, word for word. */
#include "sketch.h"

#include "batcher/rewrite.h"

static const char *const NO_CASTS[KEY_COUNT_MAX];

#define B(arrays, names, original)                                                                 \
    "SELECT \"_shoal_k\".\"_shoal_o\", \"_shoal_s\".* FROM ROWS FROM (" arrays                     \
    ") WITH ORDINALITY AS \"_shoal_k\"(" names ", \"_shoal_o\") CROSS JOIN LATERAL (" original     \
    "\nOFFSET 0) AS \"_shoal_s\""
#define ONE(type) "pg_catalog.unnest($1::pg_catalog." type "[])"
#define K1        " \"_shoal_k\".\"_shoal_a1\""
#define K2        " \"_shoal_k\".\"_shoal_a2\""

static const struct {
    const char *sql, *a, *b; /* NULL: cannot be rewritten in this tier */
} ROWS[] = {
    {"SELECT name FROM users WHERE id = 42",
     "SELECT id AS \"_shoal_key\", name FROM users WHERE id = ANY($1::pg_catalog.int4[])",
     B(ONE("int4"), "\"_shoal_a1\"", "SELECT name FROM users WHERE id = " K1)},
    {"select u.name from users u where u.id = -5 and true;; -- bye",
     "select u.id AS \"_shoal_key\", u.name from users u where u.id = ANY($1::pg_catalog.int4[])"
     " and true",
     B(ONE("int4"), "\"_shoal_a1\"", "select u.name from users u where u.id = " K1 " and true")},
    {"select name from users where uid = 'x' /* c */",
     "select uid AS \"_shoal_key\", name from users where uid = ANY($1::pg_catalog.uuid[])",
     B(ONE("uuid"), "\"_shoal_a1\"", "select name from users where uid = " K1)},
    {"select name from users where uid = 'x'::uuid -- c\n and name > 'y'", NULL,
     B(ONE("uuid"), "\"_shoal_a1\"",
       "select name from users where uid = " K1 "::uuid -- c\n and name > 'y'")},
    {"select name from users where uid = uuid 'x'", NULL, NULL},
    {"select name from users where id = cast(5 as int)", NULL,
     B(ONE("int4"), "\"_shoal_a1\"", "select name from users where id = cast(" K1 " as int)")},
    {"select name, 5 from users where \"id\" = 5 limit 5 offset 2",
     "select \"id\" AS \"_shoal_key\", name, 5 from users where \"id\" = ANY($1::pg_catalog.int4[])"
     " limit 5 offset 2",
     B(ONE("int4"), "\"_shoal_a1\"",
       "SELECT \"_shoal_q\".* FROM (select name, 5 from users where \"id\" = " K1
       " limit 5 offset 2\n) AS \"_shoal_q\"")},
    {"select from users where id = 5", NULL,
     B(ONE("int4"), "\"_shoal_a1\"", "select from users where id = " K1)},
    {"select 1 from tenants where tenant = 5 and id = '6'", NULL,
     B(ONE("int4") ", pg_catalog.unnest($2::pg_catalog.int4[])", "\"_shoal_a1\", \"_shoal_a2\"",
       "select 1 from tenants where tenant = " K1 " and id = " K2)},
    {"select name, $1 + 1, $2 from users where id = $1", NULL,
     B(ONE("int4"), "\"_shoal_a1\"", "select name, " K1 " + 1, $2 from users where id = " K1)},
    {"select name from users where id = $1 and name = $2",
     "select id AS \"_shoal_key\", name from users where id = ANY($1::pg_catalog.int4[])"
     " and name = $2",
     B(ONE("int4"), "\"_shoal_a1\"", "select name from users where id = " K1 " and name = $2")},
    {"select name from users where id = $1 and org = 7", NULL,
     B(ONE("int4") ", pg_catalog.unnest($2::pg_catalog.int4[])", "\"_shoal_a1\", \"_shoal_a2\"",
       "select name from users where id = " K1 " and org = " K2)},
};

static void check(Sketch *s, size_t row, bool (*rewrite)(const RewriteInput *, Buf *),
                  const char *want)
{
    KeyPlan keys[KEY_COUNT_MAX];
    uint32_t oids[2] = {WIRE_OID_INT4, WIRE_OID_TEXT};
    PolicyVerdict verdict = policy_judge(&s->input);
    assert_int_equal(verdict.reason, BATCH_OK);
    assert_int_equal(key_plan_make(s->input.shape, &verdict, NO_CASTS, s->reading.literals, oids,
                                   s->input.shape->param_max, keys),
                     BATCH_OK);
    RewriteInput input = {slice_str(ROWS[row].sql), s->input.shape, keys, verdict.key_count};
    Buf sql;
    buf_init(&sql, 1 << 16);
    bool good = rewrite(&input, &sql);
    if (good != (want != NULL) || (want && !slice_is(buf_bytes(&sql), want)))
        fail_msg("%s\n  gave %.*s\n  want %s", ROWS[row].sql, SLICE_FMT(buf_bytes(&sql)),
                 want ? want : "nothing");
    if (!good)
        assert_int_equal(buf_len(&sql), 0);
    buf_finish(&sql);
}

/* A wrong text is a wrong answer for everybody in the batch. */
static void test_texts(void **state)
{
    Sketch *s = *state;
    for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
        sketch_read(s, ROWS[i].sql);
        check(s, i, rewrite_keys, ROWS[i].a);
        check(s, i, rewrite_ordinal, ROWS[i].b);
    }
}

/* A text that is not the shape's own must not be cut at the shape's places. */
static void test_foreign_texts_are_refused(void **state)
{
    static const char *const texts[] = {"",
                                        ";",
                                        "select 1",
                                        "select name from users where id = 'x",
                                        "select name from users where id = x",
                                        "select name from users where id = 1; select 2"};
    Sketch *s = *state;
    KeyPlan keys[KEY_COUNT_MAX];
    sketch_read(s, "select name from users where id = 1");
    PolicyVerdict verdict = policy_judge(&s->input);
    assert_int_equal(key_plan_make(s->input.shape, &verdict, NO_CASTS, s->reading.literals, NULL, 0, keys),
                     BATCH_OK);
    Buf sql;
    buf_init(&sql, 1 << 16);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        RewriteInput input = {slice_str(texts[i]), s->input.shape, keys, 1};
        assert_false(rewrite_ordinal(&input, &sql));
        assert_int_equal(buf_len(&sql), 0);
    }
    buf_finish(&sql);
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, sketch_open, sketch_close)

int main(void)
{
    const struct CMUnitTest tests[] = {STORY(test_texts), STORY(test_foreign_texts_are_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
