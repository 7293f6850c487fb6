/* Batches on a real PostgreSQL: every answer is compared with the direct one, byte for byte. */
#include "harbour.h"

static PgCluster pg;
static Harbour *h;

static const char SCHEMA[] =
    "create table users (id int primary key, name text not null, age int, org int,"
    " uid uuid unique, mail varchar(80) unique, born date, balance numeric(10,2), code char(5),"
    " big int8 unique, small int2, live bool);"
    " create index on users (org, age); create index on users (code); create index on users (born);"
    " insert into users select i, 'name ' || i, i % 50, i % 10, md5(i::text)::uuid,"
    "   'u' || i || '@example.org', date '2000-01-01' + i, i * 1.5, 'c' || i % 7, i * 10000000000,"
    "   i % 100, i % 2 = 0 from generate_series(1, 1000) i;"
    " create table posts (id int primary key, user_id int not null, title text);"
    " create index on posts (user_id);"
    " insert into posts select i, i % 100, 'post ' || i from generate_series(1, 2000) i;"
    " create table fat (id int primary key, body text);"
    " insert into fat select i, repeat('x', i * 100000) from generate_series(1, 8) i;"
    " create table tenants (tenant int, id int, v text, primary key (tenant, id));"
    " insert into tenants select i % 5, i, 'v' || i from generate_series(1, 100) i;"
    " create function noisy(int) returns int immutable language plpgsql as"
    "   'begin raise notice ''psst''; return \\$1; end';"
    " analyze;";

static int start(void **state)
{
    (void)state;
    return pg_cluster_start(&pg, "") && pg_sql(&pg, SCHEMA) ? 0 : -1;
}
static int stop(void **state)
{
    (void)state;
    pg_cluster_finish(&pg);
    return 0;
}
static int open_harbour(void **state)
{
    (void)state;
    h = harbour_open(&pg);
    return 0;
}
static int close_harbour(void **state)
{
    (void)state;
    harbour_close(h);
    return 0;
}

#define CLIENTS_MAX 64
typedef struct Crowd {
    Client *clients[CLIENTS_MAX];
    char sql[CLIENTS_MAX][512];
    int count;
} Crowd;

static Crowd crowd;

/* One client per number; %d in the text is the number. */
static void gather(const char *sql, const int *keys, int count)
{
    crowd.count = count;
    for (int i = 0; i < count; i++) {
        snprintf(crowd.sql[i], sizeof(crowd.sql[i]), sql, keys[i], keys[i]);
        crowd.clients[i] = client(h, crowd.sql[i]);
    }
}

static void send_all(void)
{
    for (int i = 0; i < crowd.count; i++)
        go(crowd.clients[i]);
    for (int i = 0; i < crowd.count; i++)
        finish(crowd.clients[i]);
}

static void compare_all(void)
{
    for (int i = 0; i < crowd.count; i++)
        assert_heard_as_direct(crowd.clients[i]);
}

static void dismiss(void)
{
    for (int i = 0; i < crowd.count; i++)
        client_free(crowd.clients[i]);
    crowd.count = 0;
}

/* Statements go their own way until the server has described the template. */
static void learn(const char *sql, int key)
{
    BatchReason reason = BATCH_LEARNING;
    for (int i = 0; i < 1000 && reason == BATCH_LEARNING; i++) {
        gather(sql, &key, 1);
        send_all();
        reason = crowd.clients[0]->reason;
        dismiss();
        wait_ms(h, 5);
    }
    assert_int_not_equal(reason, BATCH_LEARNING);
}

/* Nobody reads the table until this is given back: what was sent stays on its way. */
static PGconn *lock_table(const char *table)
{
    char sql[128];
    PGconn *conn = harbour_connect(h->pg);
    snprintf(sql, sizeof(sql), "begin; lock table %s in access exclusive mode", table);
    PQclear(PQexec(conn, sql));
    assert_int_equal(PQtransactionStatus(conn), PQTRANS_INTRANS);
    return conn;
}

static bool somebody_waits(void *ctx)
{
    PGresult *r = ask(ctx, "select count(*) > 0 from pg_locks where not granted");
    bool waits = yes(r, 0, 0);
    PQclear(r);
    return waits;
}

/* Until the batch has reached the server. */
static void until_sent(PGconn *lock)
{
    assert_true(harbour_until(h, somebody_waits, lock));
}

static const int KEYS[] = {1, 7, 42, 7, 999, 5000, 3, 0, 12, 1, 500};
#define KEY_N ((int)ARRAY_LEN(KEYS))

/* Runs the crowd through one batch and compares. */
static void together(const char *sql)
{
    learn(sql, 2);
    uint64_t before = batched(h);
    gather(sql, KEYS, KEY_N);
    send_all();
    if (batched(h) != before + KEY_N)
        fail_msg("not batched (%s): %s", batch_reason_text(crowd.clients[0]->reason)->code, sql);
    compare_all();
    dismiss();
}

/* ... but nobody travels together. */
static void apart(const char *sql, BatchReason reason)
{
    learn(sql, 2);
    uint64_t before = batched(h);
    gather(sql, KEYS, KEY_N);
    send_all();
    assert_int_equal(batched(h), before);
    if (crowd.clients[0]->reason != reason)
        fail_msg("%s instead of %s: %s", batch_reason_text(crowd.clients[0]->reason)->code,
                 batch_reason_text(reason)->code, sql);
    compare_all();
    dismiss();
}

/* A lookup through Shoal would show other rows, columns or tags than PostgreSQL itself. */
static void test_answers_equal_the_direct_ones(void **state)
{
    (void)state;
    static const char *const statements[] = {
        "select name from users where id = %d",
        "SELECT * FROM users WHERE id = %d",
        "select u.name, u.id from users u where u.id = '%d'",
        "select id, balance, code, born, live from users where id=%d and age < 40;",
        "select id from users where id = %d -- the end",
        "/* x */ select /* y */ id, 5, 'a' as b from users where /* z */ id = %d ; -- the end",
        "select name from users where big = '%d0000000000'",
        "select name from users where big = 9%d0000000000",
        "select name from users where mail = 'u%d@example.org'",
        "select mail, mail, id from users where users.mail = 'u%d@example.org' limit 1",
        "select count(*) from users where org = %d",
        "select count(*), max(name) from users where id = %d",
        "select id, name from users where org = %d order by age desc, id limit 3",
        "select id, name from users where org = %d order by age desc, id limit 3 offset 2",
        "select id from users where org = %d order by id fetch first 2 rows only",
        "select age, count(*) as n from users where org = %d group by age order by age",
        "select distinct age from users where org = %d order by 1",
        "select p.title, u.name from posts p join users u on u.id = p.user_id"
        " where p.user_id = %d order by p.id",
        "select u.name, (select count(*) from posts p where p.user_id = u.id) from users u"
        " where u.id = %d",
        "select name from users u where id = %d and exists (select 1 from posts where user_id = "
        "u.id)",
        "select id from users where born = '2000-01-02' and org = %d order by id",
        "select id from users where id = -%d",
        "select v from tenants where tenant = 2 and id = %d",
        "select v, tenant from tenants where tenant = %d and id = %d",
        "select upper(name), now() is null from users where id = %d",
        "select row_number() over (order by id), id from users where org = %d order by id limit 4",
        "select from users where id = %d",
        "select id, null, 'x'::text, 1.5 from users where id = %d",
        "(select name from users where id = %d)",
        "select id from users where code = 'c%d' order by id limit 4",
        "select id::text || 'x', name like 'n%%' from users where id = %d",
        "select case when age > 20 then 'old' else 'young' end from users where id = %d::int4",
        "select id from users where id = cast(%d as int)",
        "select small from users where small = %d and org = 1 order by id",
    };
    for (size_t i = 0; i < ARRAY_LEN(statements); i++)
        together(statements[i]);
}

/* Statements that must not share a server's statement would share one. */
static void test_some_run_alone(void **state)
{
    (void)state;
    apart("select random() < 2 from users where id = %d", BATCH_FUNCTION);
    apart("select id from users where id = %d for update", BATCH_LOCKING);
    apart("select id from users where live = true and name = 'x%d'", BATCH_NO_INDEX);
    apart("select 1 where 1 = %d", BATCH_NO_TABLE);
    apart("select id from users where id = %d.0", BATCH_NO_KEY);
    apart("select id from users where id > %d order by id limit 1", BATCH_NO_KEY);
    apart("select count(*) from pg_class where oid = %d", BATCH_UNKNOWN_TABLE);
    apart("with a as (select 1) select id from users where id = %d", BATCH_UNSUPPORTED_CLAUSE);
    apart("select id from users where id = %d union select 3 order by 1", BATCH_UNSUPPORTED_CLAUSE);
    apart("/* shoal: batch=off */ select id from users where id = %d", BATCH_OFF);
    apart("select id from users where id = %d99999999999999999999", BATCH_NO_KEY);
    apart("select id from users where id = 'x%d'", BATCH_DISTRUSTED);
    apart("select nothing from users where id = %d", BATCH_DISTRUSTED);
    apart("select name from users where id = $1 and org = %d", BATCH_PROTOCOL);
}

/* Values that PostgreSQL alone may interpret would be looked up wrongly. */
static void test_odd_keys_run_alone(void **state)
{
    (void)state;
    learn("select name from users where id = '%d'", 3);
    static const char *const odd[] = {
        "select name from users where id = '0x1'",
        "select name from users where id = '99999999999'",
        "select name from users where id = ''",
    };
    for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
        Client *c = client(h, odd[i]);
        assert_int_equal(go(c), BATCH_KEY_VALUE);
        finish(c);
        assert_heard_as_direct(c);
        client_free(c);
    }
}

/* One statement at a time would wait for company that never comes. */
static void test_a_lone_statement_is_sent_unmodified(void **state)
{
    (void)state;
    learn("select name from users where id = %d", 1);
    uint64_t alone = counter_get(&batcher_stats(h->batcher)->alone);
    Client *c = client(h, "select name from users where id = 77");
    assert_int_equal(go(c), BATCH_OK);
    finish(c);
    assert_heard_as_direct(c);
    assert_int_equal(counter_get(&batcher_stats(h->batcher)->alone), alone + 1);
    client_free(c);
}

/* An error would hit bystanders, or the guilty one would get another error than PostgreSQL's. */
static void test_only_the_guilty_one_fails(void **state)
{
    (void)state;
    const char *sql = "select 10 / age as x from users where id = %d";
    learn(sql, 1);
    int keys[] = {1, 50, 2, 3}; /* age of 50 is 0 */
    gather(sql, keys, 4);
    send_all();
    assert_string_equal(heard_error(crowd.clients[0]), "");
    assert_string_equal(heard_error(crowd.clients[1]), "22012");
    assert_int_equal(counter_get(&batcher_stats(h->batcher)->retried), 4);
    compare_all();
    dismiss();
    together("select name from users where id = %d"); /* and others go on */
}

/* A fat key would fill the router's memory, or the cap would answer empty results (H40). */
static void test_fat_answers_run_alone(void **state)
{
    (void)state;
    const char *sql = "select body from fat where id = %d";
    learn(sql, 1);
    int keys[] = {8, 7, 1, 6};
    gather(sql, keys, 4);
    send_all();
    assert_int_equal(refused(h, BATCH_LIMIT), 4);
    compare_all();
    dismiss();
}

/* A notice would be lost, or shown to the wrong client (rule 17). */
static void test_notices_end_batching(void **state)
{
    (void)state;
    const char *sql = "select noisy(id) from users where id = %d";
    learn(sql, 1);
    int keys[] = {8, 7, 1, 6};
    gather(sql, keys, 4);
    send_all();
    compare_all();
    dismiss();
    apart(sql, BATCH_DISTRUSTED);
}

/* ---- extended protocol ------------------------------------------------------------------------- */

static void run_extended(const char *sql, const char *steps, Param (*params)[2], size_t param_count,
                         int count, WireFormats results)
{
    crowd.count = count;
    for (int i = 0; i < count; i++) {
        crowd.clients[i] = client(h, sql);
        say_extended(crowd.clients[i], steps, params[i], param_count, results);
    }
    send_all();
}

static void learn_extended(const char *sql, const char *steps, Param (*params)[2],
                           size_t param_count, WireFormats results)
{
    BatchReason reason = BATCH_LEARNING;
    for (int i = 0; i < 1000 && reason == BATCH_LEARNING; i++) {
        run_extended(sql, steps, params, param_count, 1, results);
        reason = crowd.clients[0]->reason;
        dismiss();
        wait_ms(h, 5);
    }
    assert_int_not_equal(reason, BATCH_LEARNING);
}

/* Drivers would get other messages than they asked for, or in other formats. */
static void test_extended_answers_equal_the_direct_ones(void **state)
{
    (void)state;
    static const uint8_t seven[] = {0, 0, 0, 7};
    Param params[4][2] = {{TEXT("1"), TEXT("2")},
                          {{seven, 4, true}, TEXT("2")},
                          {TEXT(" 42 "), TEXT("2")},
                          {TEXT("5000"), TEXT("2")}};
    static const struct {
        const char *sql, *steps;
        size_t count;
    } cases[] = {
        {"select id, name from users where id = $1", "PBDES", 1},
        {"select id, name, born from users where id = $1", "PsBES", 1},
        {"select id, name from users where id = $1", "BES", 1},
        {"select id, name from users where org = $1 order by id limit $2", "PBDES", 2},
        {"select id, $1::int + 1 from users where id = $1", "PBDES", 1},
        {"select id from users where id = $1::bigint", "PBDES", 1},
        {"select id, $2::text from users where id = $1", "PBDES", 2},
    };
    WireFormats formats[] = {WIRE_FORMATS_NONE, WIRE_FORMATS_BINARY};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        for (size_t f = 0; f < 2; f++) {
            bool wide = strstr(cases[i].sql, "bigint");
            int n = 4;
            Param mine[4][2];
            memcpy(mine, params, sizeof(mine));
            if (wide)
                mine[1][0] = TEXT("7");
            learn_extended(cases[i].sql, cases[i].steps, mine, cases[i].count, formats[f]);
            uint64_t before = batched(h);
            run_extended(cases[i].sql, cases[i].steps, mine, cases[i].count, n, formats[f]);
            if (batched(h) != before + (uint64_t)n)
                fail_msg("not batched (%s): %s", batch_reason_text(crowd.clients[0]->reason)->code,
                         cases[i].sql);
            compare_all();
            dismiss();
        }
}

/* NULL is no key, another format list than the columns need is the client's own error. */
static void test_extended_odd_ones_run_alone(void **state)
{
    (void)state;
    const char *sql = "select id, name from users where id = $1";
    Param one[1][2] = {{TEXT("1")}}, null[1][2] = {{{NULL, 0, false}}};
    learn_extended(sql, "PBDES", one, 1, WIRE_FORMATS_NONE);
    run_extended(sql, "PBDES", null, 1, 1, WIRE_FORMATS_NONE);
    assert_int_equal(crowd.clients[0]->reason, BATCH_KEY_VALUE);
    compare_all();
    dismiss();
    run_extended(sql, "PBDES", one, 1, 1, (WireFormats){SLICE("\0\0\0\0\0\0"), 3});
    assert_int_equal(crowd.clients[0]->reason, BATCH_RESULT_SHAPE);
    compare_all();
    dismiss();
    run_extended(sql, "PBES", one, 0, 1, WIRE_FORMATS_NONE);
    assert_int_equal(crowd.clients[0]->reason, BATCH_PROTOCOL);
    compare_all();
    dismiss();
}

/* ---- going away -------------------------------------------------------------------------------- */

/* A cancelled client would wait, or others of its batch would be cancelled with it. */
static void test_cancel_hits_one_member(void **state)
{
    (void)state;
    const char *sql = "select name from users where id = %d";
    learn(sql, 1);
    gather(sql, KEYS, KEY_N);
    PGconn *lock = lock_table("users");
    for (int i = 0; i < KEY_N; i++)
        go(crowd.clients[i]);
    batcher_cancel(h->batcher, &crowd.clients[0]->task); /* still in the queue */
    assert_true(crowd.clients[0]->over);
    until_sent(lock);
    batcher_cancel(h->batcher, &crowd.clients[1]->task);
    assert_true(crowd.clients[1]->over);
    batcher_abandon(h->batcher, &crowd.clients[2]->task);
    PQfinish(lock);
    for (int i = 3; i < KEY_N; i++) {
        finish(crowd.clients[i]);
        assert_heard_as_direct(crowd.clients[i]);
    }
    assert_string_equal(heard_error(crowd.clients[0]), "57014");
    assert_string_equal(heard_error(crowd.clients[1]), "57014");
    assert_int_equal(crowd.clients[2]->task.state, TASK_DONE);
    assert_string_equal(heard_types(crowd.clients[2]), "");
    dismiss();
}

/* When all have gone, the server would go on working for nobody, and the group would be stuck. */
static void test_the_last_one_gone_ends_the_batch(void **state)
{
    (void)state;
    const char *sql = "select name from users where id = %d";
    learn(sql, 1);
    gather(sql, KEYS, KEY_N);
    PGconn *lock = lock_table("users");
    for (int i = 0; i < KEY_N; i++)
        go(crowd.clients[i]);
    until_sent(lock);
    for (int i = 0; i < KEY_N; i++)
        batcher_abandon(h->batcher, &crowd.clients[i]->task);
    dismiss();
    PQfinish(lock);
    together(sql);
}

static void leave_others(Client *c, const Frame *frame)
{
    (void)frame;
    int *rows = c->ctx;
    if (++*rows != 1)
        return;
    for (int i = 0; i < crowd.count; i += 2) /* itself, too */
        batcher_abandon(h->batcher, &crowd.clients[i]->task);
}

/* A session that closes while its answer is dealt out would crash the worker. */
static void test_going_away_while_answers_are_dealt_out(void **state)
{
    (void)state;
    const char *sql = "select name from users where id = %d";
    int calls = 0;
    learn(sql, 1);
    gather(sql, KEYS, KEY_N);
    crowd.clients[0]->on_hear = leave_others;
    crowd.clients[0]->ctx = &calls;
    for (int i = 0; i < KEY_N; i++)
        go(crowd.clients[i]);
    for (int i = 1; i < KEY_N; i += 2) {
        finish(crowd.clients[i]);
        assert_heard_as_direct(crowd.clients[i]);
    }
    assert_int_equal(calls, 1);
    dismiss();
}

/* A server that dies in mid-batch would cost every member an error for a mere read. */
static void test_a_lost_connection_is_survived(void **state)
{
    (void)state;
    const char *lookup = "select count(*) from posts where user_id = %d";
    learn(lookup, 1);
    gather(lookup, KEYS, KEY_N);
    PGconn *lock = lock_table("posts");
    for (int i = 0; i < KEY_N; i++)
        go(crowd.clients[i]);
    until_sent(lock);
    PQclear(ask(lock, "select pg_terminate_backend(pid) from pg_locks where not granted"));
    PQfinish(lock);
    for (int i = 0; i < KEY_N; i++) {
        finish(crowd.clients[i]);
        assert_false(crowd.clients[i]->lost);
    }
    assert_int_equal(counter_get(&batcher_stats(h->batcher)->retried), KEY_N);
    compare_all();
    dismiss();
}

/* ---- who asks again ---------------------------------------------------------------------------- */

static Timer soon;
static bool asked_again;

static void ask_again(Timer *timer)
{
    assert_int_equal(go(timer->ctx), BATCH_OK);
}

/* One in the turn in which answers come, one in the next. */
static void two_more_ask(Client *c, const Frame *frame)
{
    (void)frame;
    if (asked_again)
        return;
    asked_again = true;
    assert_int_equal(go(crowd.clients[2]), BATCH_OK);
    timer_init(&soon, &c->harbour->loop, ask_again, crowd.clients[3]);
    timer_start_ms(&soon, 0);
}

/* Those who ask again at once would meet nobody: each batch would hold half of what it could. */
static void test_who_asks_again_at_once_travels_along(void **state)
{
    (void)state;
    const char *sql = "select name from users where id = %d";
    learn(sql, 1);
    gather(sql, KEYS, 4);
    asked_again = false;
    crowd.clients[0]->on_hear = two_more_ask;
    uint64_t batches = counter_get(&batcher_stats(h->batcher)->batches);
    for (int i = 0; i < 2; i++)
        go(crowd.clients[i]);
    for (int i = 0; i < 4; i++)
        finish(crowd.clients[i]);
    assert_int_equal(counter_get(&batcher_stats(h->batcher)->batches), batches + 2);
    compare_all();
    dismiss();
}

/* ---- one client's pipeline --------------------------------------------------------------------- */

/* Whoever is asked behind another waits for his answer (rule 21). */
static void send_pipeline(void)
{
    for (int i = 0; i < crowd.count; i++) {
        crowd.clients[i]->before = i ? &crowd.clients[i - 1]->task : NULL;
        if (i)
            assert_true(batcher_may_follow(crowd.clients[i]->before));
        assert_int_equal(go(crowd.clients[i]), BATCH_OK);
    }
}

static void those_before_are_over(Client *c, const Frame *frame)
{
    (void)frame;
    for (int i = 0; i < crowd.count && crowd.clients[i] != c; i++)
        assert_true(crowd.clients[i]->over);
}

/* After the error of one they would run side by side, and a later one could see less than the one before it. */
static void test_a_pipeline_runs_alone_in_its_order(void **state)
{
    (void)state;
    const char *sql = "select 10 / age as x from users where id = %d";
    learn(sql, 1);
    int keys[] = {1, 50, 2, 3, 4, 5}; /* age of 50 is 0 */
    gather(sql, keys, 6);
    for (int i = 0; i < 6; i++)
        crowd.clients[i]->on_hear = those_before_are_over;
    send_pipeline();
    for (int i = 0; i < 6; i++)
        finish(crowd.clients[i]);
    assert_string_equal(heard_error(crowd.clients[1]), "22012");
    compare_all();
    dismiss();
}

/* Who follows one that is on its way, or of another kind, would overtake it. */
static void test_nobody_follows_what_is_sent_or_of_another_kind(void **state)
{
    (void)state;
    const char *lookup = "select name from users where id = %d", *other = "select age from users where id = %d";
    learn(lookup, 1);
    learn(other, 1);
    gather(lookup, KEYS, 3);
    PGconn *lock = lock_table("users");
    send_pipeline();
    Client *behind = client(h, "select age from users where id = 1");
    behind->before = &crowd.clients[2]->task;
    assert_int_equal(go(behind), BATCH_ORDER); /* the harbour runs it by itself then */
    until_sent(lock);
    assert_false(batcher_may_follow(&crowd.clients[2]->task));
    PQfinish(lock);
    for (int i = 0; i < 3; i++)
        finish(crowd.clients[i]);
    finish(behind);
    client_free(behind);
    compare_all();
    dismiss();
}

/* Those behind one that went away would wait for ever, or twice be sent. */
static void test_some_of_a_pipeline_go_away(void **state)
{
    (void)state;
    const char *sql = "select name from users where id = %d";
    learn(sql, 1);
    gather(sql, KEYS, KEY_N);
    PGconn *lock = lock_table("users");
    send_pipeline();
    batcher_cancel(h->batcher, &crowd.clients[4]->task); /* still in the queue */
    batcher_cancel(h->batcher, &crowd.clients[0]->task);
    until_sent(lock);
    batcher_cancel(h->batcher, &crowd.clients[1]->task);
    batcher_abandon(h->batcher, &crowd.clients[6]->task);
    PQclear(ask(lock, "select pg_terminate_backend(pid, 30000) from pg_locks where not granted"));
    until_sent(lock); /* the batch is lost: the first of those left runs alone, and waits */
    batcher_cancel(h->batcher, &crowd.clients[7]->task); /* which waits for those before it */
    assert_true(crowd.clients[7]->over);
    PQfinish(lock);
    for (int i = 0; i < KEY_N; i++) {
        if (i == 6)
            continue;
        finish(crowd.clients[i]);
        if (i == 0 || i == 1 || i == 4 || i == 7)
            assert_string_equal(heard_error(crowd.clients[i]), "57014");
        else
            assert_heard_as_direct(crowd.clients[i]);
    }
    dismiss();
}

/* The end of the router would wait for one who waits for another. */
static void test_the_end_comes_in_mid_pipeline(void **state)
{
    (void)state;
    const char *sql = "select name from users where id = %d";
    learn(sql, 1);
    gather(sql, KEYS, KEY_N);
    PGconn *lock = lock_table("users");
    send_pipeline();
    until_sent(lock);
    PQclear(ask(lock, "select pg_terminate_backend(pid, 30000) from pg_locks where not granted"));
    until_sent(lock);
    batcher_destroy(h->batcher);
    h->batcher = NULL;
    for (int i = 0; i < KEY_N; i++)
        assert_true(crowd.clients[i]->lost);
    PQfinish(lock);
    dismiss();
}

/* ---- change ------------------------------------------------------------------------------------ */

/* After DDL a client would be told of columns that the rows do not have. */
static void test_ddl_before_the_catalog_is_read_again(void **state)
{
    (void)state;
    assert_true(pg_sql(&pg, "create table changing (id int primary key, a int);"
                            " insert into changing select i, i from generate_series(0, 600) i"));
    harbour_reload(h);
    const char *sql = "select * from changing where id = %d";
    together(sql);
    assert_true(pg_sql(&pg, "alter table changing add column b text default 'new'"));
    gather(sql, KEYS, KEY_N);
    send_all();
    compare_all();
    dismiss();
    wait_ms(h, 1100);
    together(sql);
    assert_true(pg_sql(&pg, "alter table changing alter column a type text"));
    gather(sql, KEYS, KEY_N);
    send_all();
    compare_all();
    dismiss();
    harbour_reload(h);
    together(sql);
    assert_true(pg_sql(&pg, "drop table changing"));
}

/* A server whose default is SERIALIZABLE would lose its conflict detection. */
static void test_serializable_is_never_batched(void **state)
{
    (void)state;
    bool good;
    GucVector *gucs = guc_with(&h->gucs, NULL, SLICE("default_transaction_isolation"),
                               SLICE("'serializable'"), &good);
    const char *sql = "select name from users where id = 3";
    Client *c = client(h, sql);
    c->gucs = gucs;
    assert_int_equal(go(c), BATCH_ISOLATION);
    finish(c);
    client_free(c);
    guc_release(&h->gucs, gucs);

    assert_true(
        pg_sql(&pg, "alter role postgres set default_transaction_isolation = serializable"));
    Harbour *other = harbour_open(&pg);
    BatchReason reason = BATCH_LEARNING;
    for (int i = 0; i < 1000 && reason != BATCH_ISOLATION; i++) {
        c = client(other, sql);
        reason = go(c);
        assert_int_not_equal(reason, BATCH_OK);
        finish(c);
        client_free(c);
        wait_ms(other, 5);
    }
    assert_int_equal(reason, BATCH_ISOLATION);
    harbour_close(other);
    assert_true(pg_sql(&pg, "alter role postgres reset default_transaction_isolation"));
}

/* SHOW BATCHES would be empty. */
static void test_templates_are_shown(void **state)
{
    (void)state;
    together("select name from users where id = %d");
    apart("select random() < 2 from users where id = %d", BATCH_FUNCTION);
    BatchTemplateInfo info;
    size_t cursor = 0;
    int good = 0, bad = 0;
    while (batcher_next_template(h->batcher, &cursor, &info)) {
        good += info.reason == BATCH_OK && info.tier == BATCH_TIER_KEYS && info.size_max == KEY_N &&
                info.keys == 9;
        bad += info.reason == BATCH_FUNCTION;
    }
    assert_int_equal(good, 1);
    assert_int_equal(bad, 1);
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, open_harbour, close_harbour)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(test_answers_equal_the_direct_ones),
        STORY(test_some_run_alone),
        STORY(test_odd_keys_run_alone),
        STORY(test_a_lone_statement_is_sent_unmodified),
        STORY(test_only_the_guilty_one_fails),
        STORY(test_fat_answers_run_alone),
        STORY(test_notices_end_batching),
        STORY(test_extended_answers_equal_the_direct_ones),
        STORY(test_extended_odd_ones_run_alone),
        STORY(test_cancel_hits_one_member),
        STORY(test_the_last_one_gone_ends_the_batch),
        STORY(test_going_away_while_answers_are_dealt_out),
        STORY(test_a_lost_connection_is_survived),
        STORY(test_who_asks_again_at_once_travels_along),
        STORY(test_a_pipeline_runs_alone_in_its_order),
        STORY(test_nobody_follows_what_is_sent_or_of_another_kind),
        STORY(test_some_of_a_pipeline_go_away),
        STORY(test_the_end_comes_in_mid_pipeline),
        STORY(test_ddl_before_the_catalog_is_read_again),
        STORY(test_serializable_is_never_batched),
        STORY(test_templates_are_shown),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
