/* test_conversation.c - stories told to a real PostgreSQL, and what the sinks hear. */
#include "tests/support/pg_cluster.h"
#include "world.h"

static PgCluster pg;

static int start(void **state)
{
    pg_cluster_start(&pg, "");
    return pg_sql(&pg, "create table t (id int primary key, v text); "
                       "insert into t select i, 'v' || i from generate_series(1, 100) i; "
                       "create table c (id int); create role bob; "
                       "create table d (id int unique deferrable initially deferred)")
               ? 0
               : -1;
}

static int stop(void **state)
{
    pg_cluster_finish(&pg);
    return 0;
}

static void a_query_and_its_answer(void **state)
{
    /* Without this, nothing works. */
    World *w = world_open(pg.port);
    query(w, "select 1", "T D(1) C(SELECT 1) Z(I)");
    query(w, "", "I Z(I)");
    query(w, "select 1; select 2", "T D(1) C(SELECT 1) T D(2) C(SELECT 1) Z(I)");
    query(w, "select 1/0", "E(22012) Z(I)");
    query(w, "insert into d values (1), (1)", "E(23505) Z(I)");
    assert_string_equal(w->seen, "22012 23505 ");
    world_close(w);
}

static void a_statement_is_parsed_once_per_connection(void **state)
{
    /* Prepared statements would cost a parse per request, or fail with "already exists". */
    World *w = world_open(pg.port);
    Prepared *p = prepare(w, "select v from t where id = $1::int");
    for (int i = 0; i < 2; i++) {
        Talk *t = talk(w);
        say_parse(t, p);
        say_describe(t, p);
        say_bind(t, p, "7");
        say_execute(t);
        say_sync(t);
        submit(t);
        hear(t, "1 t T 2 D(v7) C(SELECT 1) Z(I)");
    }
    assert_int_equal(counter_get(&pool_stats(w->pool)->parses), 1);
    prepared_release(&w->prepared, p);
    world_close(w);
}

static void a_bind_alone_finds_its_statement_on_any_connection(void **state)
{
    /* A client prepares on one connection and executes on another one. */
    World *w = world_open(pg.port);
    Prepared *p = prepare(w, "select $1::int + 1");
    Talk *t = talk(w);
    say_bind(t, p, "41");
    say_describe_portal(t);
    say_execute(t);
    say_sync(t);
    submit(t);
    hear(t, "2 T D(42) C(SELECT 1) Z(I)");
    t = talk(w);
    say_describe(t, p);
    say_sync(t);
    submit(t);
    hear(t, "t T Z(I)");
    prepared_release(&w->prepared, p);
    world_close(w);
}

static void a_hidden_parse_that_fails_is_the_clients_error(void **state)
{
    /* The client would wait for ever, or see an answer to a message it did not send. H16. */
    World *w = world_open(pg.port);
    Prepared *p = prepare(w, "select * from nowhere");
    for (int i = 0; i < 2; i++) {
        Talk *t = talk(w);
        say_bind(t, p, NULL);
        say_execute(t);
        say_sync(t);
        submit(t);
        hear(t, "E(42P01) Z(I)");
    }
    prepared_release(&w->prepared, p);
    world_close(w);
}

static void an_error_skips_to_sync_and_unlearns_later_parses(void **state)
{
    /* H04, H16: a statement thought to be on the server is not: 26000 for the next client. */
    World *w = world_open(pg.port);
    Prepared *bad = prepare(w, "select * from nowhere"), *good = prepare(w, "select 'good'"),
             *old = prepare(w, "select 'old'");
    Talk *t = talk(w);
    say_parse(t, old);
    say_sync(t);
    submit(t);
    hear(t, "1 Z(I)");
    t = talk(w);
    say_parse(t, bad);
    say_parse(t, old); /* would be answered by Shoal */
    say_parse(t, good);
    say_bind(t, good, NULL);
    say_close(t);
    say_execute(t);
    say_sync(t);
    submit(t);
    hear(t, "E(42P01) Z(I)");
    t = talk(w);
    say_bind(t, good, NULL);
    say_execute(t);
    say_sync(t);
    submit(t);
    hear(t, "2 D(good) C(SELECT 1) Z(I)");
    prepared_release(&w->prepared, bad);
    prepared_release(&w->prepared, good);
    prepared_release(&w->prepared, old);
    world_close(w);
}

static void answers_of_our_own_come_in_order(void **state)
{
    /* H03: a ParseComplete out of order is taken for the answer to something else. */
    World *w = world_open(pg.port);
    Prepared *a = prepare(w, "select 'a'"), *b = prepare(w, "select 'b'");
    query(w, "select 0", "T D(0) C(SELECT 1) Z(I)");
    Talk *t = talk(w);
    say_parse(t, a);
    say_bind(t, a, NULL);
    say_execute(t);
    say_close(t);
    say_parse(t, b);
    say_parse(t, a); /* known by now */
    say_bind(t, b, NULL);
    say_execute(t);
    say_sync(t);
    submit(t);
    hear(t, "1 2 D(a) C(SELECT 1) 3 1 1 2 D(b) C(SELECT 1) Z(I)");
    prepared_release(&w->prepared, a);
    prepared_release(&w->prepared, b);
    world_close(w);
}

static void a_known_parse_with_flush_only_is_answered(void **state)
{
    /* H05: asyncpg sends Parse and Flush, and waits; the server has nothing to answer. */
    World *w = world_open(pg.port);
    Prepared *p = prepare(w, "select 'flushed'");
    for (int i = 0; i < 2; i++) {
        Talk *t = talk(w);
        t->task.open = true;
        say_parse(t, p);
        say_flush(t);
        submit(t);
        listen_for(t, "1");
        assert_false(t->over);
        say_bind(t, p, NULL);
        say_execute(t);
        say_flush(t);
        feed(t);
        listen_for(t, "C(");
        say_sync(t);
        feed(t);
        hear(t, "1 2 D(flushed) C(SELECT 1) Z(I)");
    }
    prepared_release(&w->prepared, p);
    world_close(w);
}

static void an_open_task_that_failed_skips_what_is_fed(void **state)
{
    /* Flush without Sync and an error: what comes before the Sync must not be answered. */
    World *w = world_open(pg.port);
    Prepared *bad = prepare(w, "select * from nowhere"), *good = prepare(w, "select 1");
    Talk *t = talk(w);
    t->task.open = true;
    say_parse(t, bad);
    say_flush(t);
    submit(t);
    listen_for(t, "E(");
    say_parse(t, good);
    say_bind(t, good, NULL);
    say_query(t, "select 2");
    t->count--; /* a Query would end the series for the client: not here */
    say_execute(t);
    say_flush(t);
    feed(t);
    world_wait_ms(w, 50);
    say_sync(t);
    feed(t);
    hear(t, "E(42P01) Z(I)");
    query(w, "select 3", "T D(3) C(SELECT 1) Z(I)");
    prepared_release(&w->prepared, bad);
    prepared_release(&w->prepared, good);
    world_close(w);
}

static void steps_fed_before_the_task_is_at_work_are_not_lost(void **state)
{
    /* The client's second packet comes while the first still waits for a connection. */
    World *w = world_open(pg.port);
    Prepared *p = prepare(w, "select 'late'");
    Talk *t = talk(w);
    t->task.open = true;
    say_parse(t, p);
    say_flush(t);
    submit(t);
    say_bind(t, p, NULL);
    say_execute(t);
    feed(t);
    say_sync(t);
    feed(t);
    hear(t, "1 2 D(late) C(SELECT 1) Z(I)");
    prepared_release(&w->prepared, p);
    world_close(w);
}

static void unnamed_statements_do_not_collide(void **state)
{
    /* H07: two clients' unnamed statements share one slot on the server; a Query empties it. */
    World *w = world_open(pg.port);
    Prepared *a = prepare(w, "select 'a'"), *b = prepare(w, "select 'b'");
    Prepared *order[] = {a, b, a, a};
    const char *heard[] = {"2 D(a) C(SELECT 1) Z(I)", "2 D(b) C(SELECT 1) Z(I)",
                           "2 D(a) C(SELECT 1) Z(I)", "2 D(a) C(SELECT 1) Z(I)"};
    for (int i = 0; i < 4; i++) {
        if (i == 3)
            query(w, "select 1", "T D(1) C(SELECT 1) Z(I)");
        Talk *t = talk(w);
        say_bind_unnamed(t, order[i], NULL);
        say_execute(t);
        say_sync(t);
        submit(t);
        hear(t, heard[i]);
    }
    Talk *t = talk(w);
    say_parse_unnamed(t, a);
    say_parse_unnamed(t, b);
    say_bind_unnamed(t, b, NULL);
    say_execute(t);
    say_query(t, "select 'q'");
    say_bind_unnamed(t, a, NULL);
    say_execute(t);
    say_sync(t);
    submit(t);
    hear(t, "1 1 2 D(b) C(SELECT 1) T D(q) C(SELECT 1) Z(I) 2 D(a) C(SELECT 1) Z(I)");
    prepared_release(&w->prepared, a);
    prepared_release(&w->prepared, b);
    world_close(w);
}

static void a_query_inside_an_extended_series_owes_its_own_ready(void **state)
{
    /* H01, H02, bad-input 104: counting only Syncs shifts every later answer by one. */
    World *w = world_open(pg.port);
    Prepared *p = prepare(w, "select 'p'"), *bad = prepare(w, "select * from nowhere");
    Talk *t = talk(w);
    say_parse(t, p);
    say_bind(t, p, NULL);
    say_execute(t);
    say_query(t, "select 'q'");
    say_sync(t);
    submit(t);
    hear(t, "1 2 D(p) C(SELECT 1) T D(q) C(SELECT 1) Z(I) Z(I)");
    t = talk(w);
    say_parse(t, bad);
    say_query(t, "select 'skipped'");
    say_sync(t);
    submit(t);
    hear(t, "E(42P01) Z(I)");
    query(w, "select 4", "T D(4) C(SELECT 1) Z(I)");
    prepared_release(&w->prepared, p);
    prepared_release(&w->prepared, bad);
    world_close(w);
}

static void copy_in_and_out_by_simple_query(void **state)
{
    /* COPY would hang or lose rows. */
    World *w = world_open(pg.port);
    Talk *t = talk(w);
    say_query(t, "copy c from stdin");
    submit(t);
    listen_for(t, "G");
    copy_in(t, "1\n2\n");
    copy_in(t, "3\n");
    copy_done(t);
    hear(t, "G C(COPY 3) Z(I)");
    query(w, "copy (select id from c order by id) to stdout", "H d(1) d(2) d(3) c C(COPY 3) Z(I)");
    query(w, "truncate c", "C(TRUNCATE TABLE) Z(I)");
    world_close(w);
}

static void copy_in_by_execute_ends_with_a_second_sync(void **state)
{
    /* libpq sends Execute and Sync; PostgreSQL reads that Sync as part of the COPY. */
    World *w = world_open(pg.port);
    Prepared *p = prepare(w, "copy c from stdin");
    Talk *t = talk(w);
    say_parse(t, p);
    say_bind(t, p, NULL);
    say_execute(t);
    say_sync(t);
    submit(t);
    listen_for(t, "G");
    assert_true(t->task.open);
    say_sync(t); /* ignored, as PostgreSQL ignores it */
    feed(t);
    assert_true(t->task.open);
    copy_in(t, "5\n");
    copy_done(t);
    say_sync(t);
    feed(t);
    hear(t, "1 2 G C(COPY 1) Z(I)");
    query(w, "truncate c", "C(TRUNCATE TABLE) Z(I)");
    prepared_release(&w->prepared, p);
    world_close(w);
}

static void late_copy_data_after_an_error_harms_nobody(void **state)
{
    /* H09: leftovers of a failed COPY poison the connection for the next client. */
    World *w = world_open(pg.port);
    Talk *t = talk(w);
    say_query(t, "copy c from stdin");
    submit(t);
    listen_for(t, "G");
    copy_in(t, "not a number\n");
    listen_for(t, "E(");
    copy_in(t, "6\n");
    copy_done(t);
    finish(t);
    copy_in(t, "7\n");
    hear(t, "G E(22P02) Z(I)");

    Prepared *p = prepare(w, "copy c from stdin");
    t = talk(w);
    t->task.open = true;
    say_parse(t, p);
    say_bind(t, p, NULL);
    say_execute(t);
    say_flush(t);
    submit(t);
    listen_for(t, "G");
    copy_in(t, "not a number\n");
    listen_for(t, "E(");
    copy_in(t, "6\n");
    copy_done(t);
    say_sync(t);
    feed(t);
    hear(t, "1 2 G E(22P02) Z(I)");
    query(w, "select count(*) from c", "T D(0) C(SELECT 1) Z(I)");
    prepared_release(&w->prepared, p);
    world_close(w);
}

static void settings_go_with_the_task(void **state)
{
    /* P4: one client's settings would be seen by another one, or a client's own be lost. */
    World *w = world_open(pg.port);
    bool ok;
    GucVector *iso = guc_with(&w->gucs, NULL, SLICE("work_mem"), SLICE("'7MB'"), &ok);
    GucVector *bob = guc_with(&w->gucs, iso, SLICE("role"), SLICE("bob"), &ok);
    GucVector *mine = guc_with(&w->gucs, bob, SLICE("app.user_id"), SLICE("'42'"), &ok);
    GucVector *order[] = {iso, NULL, bob, mine, iso};
    const char *heard[] = {"T D(7MB none -) C(SELECT 1) Z(I)", "T D(4MB none -) C(SELECT 1) Z(I)",
                           "T D(7MB bob -) C(SELECT 1) Z(I)", "T D(7MB bob 42) C(SELECT 1) Z(I)",
                           "T D(7MB none -) C(SELECT 1) Z(I)"};
    for (int i = 0; i < 5; i++) {
        Talk *t = talk(w);
        say_query(t, "select current_setting('work_mem') || ' ' || current_setting('role') || ' ' "
                     "|| coalesce(nullif(current_setting('app.user_id', true), ''), '-')");
        t->task.gucs = order[i];
        submit(t);
        hear(t, heard[i]);
    }
    assert_int_equal(counter_get(&pool_stats(w->pool)->connects), 1);
    guc_release(&w->gucs, iso);
    guc_release(&w->gucs, bob);
    guc_release(&w->gucs, mine);
    world_close(w);
}

static void a_setting_that_cannot_be_made_stops_the_statement(void **state)
{
    /* A statement would run under somebody else's settings. */
    World *w = world_open(pg.port);
    bool ok;
    GucVector *bad = guc_with(&w->gucs, NULL, SLICE("role"), SLICE("nobody_we_know"), &ok);
    Prepared *p = prepare(w, "insert into c values (99) returning id");
    Talk *t = talk(w);
    say_parse(t, p);
    say_bind(t, p, NULL);
    say_execute(t);
    say_sync(t);
    t->task.gucs = bad;
    submit(t);
    finish(t);
    assert_non_null(strstr(t->err.message, "nobody_we_know"));
    hear(t, "lost(22023,no)");
    query(w, "select count(*) from c", "T D(0) C(SELECT 1) Z(I)");
    t = talk(w);
    say_bind(t, p, NULL); /* was never parsed */
    say_execute(t);
    say_sync(t);
    submit(t);
    hear(t, "2 D(99) C(INSERT 0 1) Z(I)");
    query(w, "truncate c", "C(TRUNCATE TABLE) Z(I)");
    assert_int_equal(counter_get(&pool_stats(w->pool)->connects), 1);
    guc_release(&w->gucs, bad);
    prepared_release(&w->prepared, p);
    world_close(w);
}

static void a_timeout_that_hits_our_own_set_is_nobodys(void **state)
{
    /* A client would be told of a timeout that hit a SET of ours: often it is the one of the session before, which
     * cannot be made to happen at will; here it is the client's own. */
    World *w = world_open(pg.port);
    bool ok;
    GucVector *hasty = guc_with(&w->gucs, NULL, SLICE("statement_timeout"), SLICE("'100ms'"), &ok);
    GucVector *calm = guc_with(&w->gucs, hasty, SLICE("default_text_search_config"), SLICE("'pg_catalog.german'"), &ok);
    Talk *t = talk(w);
    say_query(t, "select 1");
    t->task.gucs = hasty;
    submit(t);
    hear(t, "T D(1) C(SELECT 1) Z(I)");
    World *other = world_open(pg.port);
    Talk *lock = talk(other);
    say_query(lock, "begin; lock table pg_catalog.pg_ts_config in access exclusive mode");
    submit_held(lock);
    hear(lock, "C(BEGIN) C(LOCK TABLE) Z(T)");
    t = talk(w);
    say_query(t, "select current_setting('default_text_search_config'), current_setting('statement_timeout')");
    t->task.gucs = calm;
    submit(t);
    world_wait_ms(w, 350); /* our SET waits for the lock, and is ended, three times */
    assert_false(t->over);
    world_close(other);
    hear(t, "T D(pg_catalog.german) C(SELECT 1) Z(I)");
    guc_release(&w->gucs, hasty);
    guc_release(&w->gucs, calm);
    world_close(w);
}

static void reports_of_hidden_settings_stay_hidden(void **state)
{
    /* A client would be told of a TimeZone it never set. */
    World *w = world_open(pg.port);
    bool ok;
    GucVector *zone = guc_with(&w->gucs, NULL, SLICE("timezone"), SLICE("'Asia/Tokyo'"), &ok);
    Talk *t = talk(w);
    say_query(t, "select 1");
    t->task.gucs = zone;
    submit(t);
    hear(t, "T D(1) C(SELECT 1) Z(I)");
    t = talk(w);
    say_query(t, "set timezone to 'UTC'"); /* one's own is told */
    t->task.gucs = zone;
    submit(t);
    hear(t, "C(SET) S(TimeZone) Z(I)");
    guc_release(&w->gucs, zone);
    world_close(w);
}

static void a_transaction_keeps_its_connection(void **state)
{
    /* The statements of a transaction would go to different sessions. */
    World *w = world_open(pg.port);
    Talk *begin = talk(w);
    say_query(begin, "begin; insert into c values (1)");
    submit_held(begin);
    finish(begin);
    Backend *backend = begin->task.backend;
    assert_int_equal(backend_state(backend), BACKEND_HELD);
    query(w, "select count(*) from c", "T D(0) C(SELECT 1) Z(I)"); /* another connection */
    Talk *one = talk(w), *two = talk(w);
    say_query(one, "select count(*) from c");
    say_query(two, "commit");
    run_on(one, backend);
    run_on(two, backend); /* waits behind the first */
    hear(one, "T D(1) C(SELECT 1) Z(T)");
    hear(two, "C(COMMIT) Z(I)");
    hear(begin, "C(BEGIN) C(INSERT 0 1) Z(T)");
    assert_int_equal(backend_state(backend), BACKEND_IDLE);
    query(w, "truncate c", "C(TRUNCATE TABLE) Z(I)");
    world_close(w);
}

static Talk *next_talk;
static void run_next(Talk *talk)
{
    if (next_talk)
        run_on(next_talk, talk->task.backend);
    next_talk = NULL;
}

static void submit_next(Talk *talk)
{
    submit(next_talk);
}

static void a_sink_may_go_on_inside_its_last_call(void **state)
{
    /* Reentrancy: a session sends its next request as soon as the last one has ended. */
    World *w = world_open(pg.port);
    Talk *first = talk(w), *second = talk(w), *third = talk(w);
    say_query(first, "begin");
    say_query(second, "commit");
    say_query(third, "select 3");
    next_talk = second;
    first->on_over = run_next;
    submit_held(first);
    hear(second, "C(COMMIT) Z(I)");
    hear(first, "C(BEGIN) Z(T)");
    Talk *fourth = talk(w);
    say_query(fourth, "select 4");
    next_talk = third;
    fourth->on_over = submit_next;
    submit(fourth);
    hear(third, "T D(3) C(SELECT 1) Z(I)");
    hear(fourth, "T D(4) C(SELECT 1) Z(I)");
    assert_int_equal(counter_get(&pool_stats(w->pool)->connects), 1);
    next_talk = NULL;
    world_close(w);
}

static void session_state_is_held_on_request_and_cleaned_at_release(void **state)
{
    /* A temporary table would be gone for its client, or be seen by the next one (P4, H24). */
    World *w = world_open(pg.port);
    w->database.pool_size = 1;
    world_adopt(w);
    Prepared *p = prepare(w, "select 'p'");
    Talk *t = talk(w);
    say_query(t, "create temp table mine (x int)");
    t->keep = true;
    submit_held(t);
    finish(t);
    Backend *backend = t->task.backend;
    hear(t, "C(CREATE TABLE) Z(I)");
    assert_int_equal(backend_state(backend), BACKEND_HELD);
    t = talk(w);
    say_bind(t, p, NULL);
    say_execute(t);
    say_sync(t);
    say_query(t, "select count(*) from mine");
    t->keep = true;
    run_on(t, backend);
    hear(t, "2 D(p) C(SELECT 1) Z(I) T D(0) C(SELECT 1) Z(I)");
    backend_release(backend, true);
    query(w, "select count(*) from mine", "E(42P01) Z(I)");
    t = talk(w);
    say_bind(t, p, NULL); /* DISCARD ALL took it: parsed again */
    say_execute(t);
    say_sync(t);
    submit(t);
    hear(t, "2 D(p) C(SELECT 1) Z(I)");
    assert_int_equal(counter_get(&pool_stats(w->pool)->parses), 2);
    prepared_release(&w->prepared, p);
    world_close(w);
}

static void an_abandoned_transaction_is_rolled_back(void **state)
{
    /* A client that dies in its transaction would leave locks, or its work to the next one. */
    World *w = world_open(pg.port);
    w->database.pool_size = 1;
    world_adopt(w);
    Talk *t = talk(w);
    say_query(t, "begin; insert into c values (1)");
    submit_held(t);
    finish(t);
    backend_release(t->task.backend, false);
    hear(t, "C(BEGIN) C(INSERT 0 1) Z(T)");
    query(w, "select count(*) from c", "T D(0) C(SELECT 1) Z(I)");
    assert_int_equal(counter_get(&pool_stats(w->pool)->connects), 1);
    world_close(w);
}

static void statements_above_the_limit_are_closed_at_a_tasks_head(void **state)
{
    /* H17, H21: server memory grows for ever, or a statement vanishes under a Bind. */
    World *w = world_open(pg.port);
    w->config.server_statements_max = 3;
    world_adopt(w);
    char sql[32];
    Prepared *p[6];
    Talk *t = talk(w);
    for (int i = 0; i < 6; i++) {
        snprintf(sql, sizeof(sql), "select %d", i);
        p[i] = prepare(w, sql);
        say_bind(t, p[i], NULL);
        say_execute(t);
    }
    say_sync(t);
    submit(t);
    hear(t, "2 D(0) C(SELECT 1) 2 D(1) C(SELECT 1) 2 D(2) C(SELECT 1) 2 D(3) C(SELECT 1) "
            "2 D(4) C(SELECT 1) 2 D(5) C(SELECT 1) Z(I)");
    query(w, "select count(*) from pg_prepared_statements", "T D(3) C(SELECT 1) Z(I)");
    t = talk(w);
    say_bind(t, p[0], NULL);
    say_execute(t);
    say_sync(t);
    submit(t);
    hear(t, "2 D(0) C(SELECT 1) Z(I)");
    query(w, "select count(*) from pg_prepared_statements", "T D(3) C(SELECT 1) Z(I)");
    for (int i = 0; i < 6; i++)
        prepared_release(&w->prepared, p[i]);
    world_close(w);
}

static void a_stale_plan_is_parsed_again_by_its_next_use(void **state)
{
    /* H19: after ALTER TABLE every later use on that connection would fail. */
    World *w = world_open(pg.port);
    query(w, "create table s (a int)", "C(CREATE TABLE) Z(I)");
    Prepared *p = prepare(w, "select * from s");
    const char *heard[] = {"2 C(SELECT 0) Z(I)", "E(0A000) Z(I)", "2 C(SELECT 0) Z(I)"};
    for (int i = 0; i < 3; i++) {
        if (i == 1)
            query(w, "alter table s add b int", "C(ALTER TABLE) Z(I)");
        Talk *t = talk(w);
        say_bind(t, p, NULL);
        say_execute(t);
        say_sync(t);
        submit(t);
        hear(t, heard[i]);
    }
    query(w, "drop table s", "C(DROP TABLE) Z(I)");
    prepared_release(&w->prepared, p);
    world_close(w);
}

static void who_prepares_after_ddl_gets_the_new_table(void **state)
{
    /* H19: clients would be told "cached plan must not change result type" by a fresh statement. */
    World *w = world_open(pg.port);
    query(w, "create table s as select 1 as a", "C(SELECT 1) Z(I)");
    Prepared *old = prepare(w, "select * from s"), *again = prepare(w, "select * from s");
    assert_ptr_equal(old, again);
    Talk *t = talk(w);
    say_parse(t, old);
    say_bind(t, old, NULL);
    say_execute(t);
    say_sync(t);
    submit(t);
    hear(t, "1 2 D(1) C(SELECT 1) Z(I)");
    Talk *ddl = talk(w);
    say_query(ddl, "begin; alter table s add b int");
    submit_held(ddl);
    finish(ddl);
    Prepared *before = prepare(w, "select * from s"); /* not committed yet */
    assert_ptr_equal(old, before);
    Talk *commit = talk(w);
    say_query(commit, "commit");
    run_on(commit, ddl->task.backend);
    hear(commit, "C(COMMIT) Z(I)");
    talk_free(ddl);
    Prepared *fresh = prepare(w, "select * from s");
    assert_ptr_not_equal(old, fresh);
    t = talk(w);
    say_parse(t, fresh);
    say_bind(t, fresh, NULL);
    say_execute(t);
    say_sync(t);
    submit(t);
    hear(t, "1 2 D(1) C(SELECT 1) Z(I)");
    query(w, "drop table s", "C(DROP TABLE) Z(I)");
    Prepared *all[] = {old, again, before, fresh};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        prepared_release(&w->prepared, all[i]);
    world_close(w);
}

static void deallocate_all_is_noticed(void **state)
{
    /* H18: a client's DEALLOCATE ALL would make other clients' statements fail with 26000. */
    World *w = world_open(pg.port);
    Prepared *p = prepare(w, "select 'p'"), *later = prepare(w, "select 'later'");
    Talk *t = talk(w);
    say_parse(t, p);
    say_sync(t);
    say_query(t, "deallocate all");
    say_parse(t, later);
    say_sync(t);
    submit(t);
    hear(t, "1 Z(I) C(DEALLOCATE ALL) Z(I) 1 Z(I)");
    t = talk(w);
    say_bind(t, p, NULL);
    say_execute(t);
    say_bind(t, later, NULL);
    say_execute(t);
    say_sync(t);
    submit(t);
    hear(t, "2 D(p) C(SELECT 1) 2 D(later) C(SELECT 1) Z(I)");
    prepared_release(&w->prepared, p);
    prepared_release(&w->prepared, later);
    world_close(w);
}

static void search_path_belongs_to_the_session_not_to_the_statement(void **state)
{
    /* H20: one statement text under two search_paths must see two tables. */
    World *w = world_open(pg.port);
    query(w,
          "create schema x; create table x.pt as select 'x' as v; "
          "create table pt as select 'public' as v",
          "C(CREATE SCHEMA) C(SELECT 1) C(SELECT 1) Z(I)");
    bool ok;
    GucVector *x = guc_with(&w->gucs, NULL, SLICE("search_path"), SLICE("x"), &ok);
    Prepared *p = prepare(w, "select v from pt");
    const char *heard[] = {"2 D(public) C(SELECT 1) Z(I)", "2 D(x) C(SELECT 1) Z(I)",
                           "2 D(public) C(SELECT 1) Z(I)"};
    for (int i = 0; i < 3; i++) {
        Talk *t = talk(w);
        say_bind(t, p, NULL);
        say_execute(t);
        say_sync(t);
        t->task.gucs = i == 1 ? x : NULL;
        submit(t);
        hear(t, heard[i]);
    }
    query(w, "drop schema x cascade; drop table pt", "N C(DROP SCHEMA) C(DROP TABLE) Z(I)");
    guc_release(&w->gucs, x);
    prepared_release(&w->prepared, p);
    world_close(w);
}

static void pause_on_hear(Talk *t, const Frame *frame)
{
    if (t->rows == 10)
        backend_pause(t->task.backend);
}

static bool has_ten_rows(void *ctx)
{
    return ((Talk *)ctx)->rows == 10;
}

static void a_slow_client_stops_the_server(void **state)
{
    /* P7: a client that does not read would fill our memory with its result. */
    World *w = world_open(pg.port);
    Talk *t = talk(w);
    t->quiet = true;
    t->on_hear = pause_on_hear;
    say_query(t, "select repeat('x', 10000) from generate_series(1, 2000)");
    submit(t);
    assert_true(world_until(w, has_ten_rows, t));
    world_wait_ms(w, 300); /* and no more */
    assert_int_equal(t->rows, 10);
    assert_false(t->over);
    t->on_hear = NULL;
    backend_resume(t->task.backend);
    finish(t);
    assert_int_equal(t->rows, 2000);
    talk_free(t);
    world_close(w);
}

static bool has_drained(void *ctx)
{
    return ((World *)ctx)->drained > 0;
}

static void a_choked_copy_waits_for_the_server(void **state)
{
    /* P7: COPY data for a server that does not read would pile up here. */
    World *w = world_open(pg.port);
    Talk *lock = talk(w);
    say_query(lock, "begin; lock table c");
    submit_held(lock);
    finish(lock);
    Talk *t = talk(w);
    say_query(t, "copy t from stdin");
    t->task.holder = w;
    submit(t);
    listen_for(t, "G");
    char *line = malloc(100001);
    memset(line, 'x', 100000);
    line[0] = '#';
    memcpy(line + 1, "\t", 1);
    line[99999] = '\n';
    line[100000] = '\0';
    bool took = true;
    for (int i = 0; i < 100 && took; i++) {
        snprintf(line, 16, "%d", 1000 + i);
        line[strlen(line)] = '\t';
        took = copy_in(t, line);
    }
    assert_false(took);
    assert_true(world_until(w, has_drained, w));
    copy_done(t);
    finish(t);
    free(line);
    talk_free(t);
    backend_release(lock->task.backend, false);
    talk_free(lock);
    world_close(w);
}

static bool was_notified(void *ctx)
{
    return ((World *)ctx)->held[0] != '\0';
}

static void notices_and_notifications_reach_whom_they_concern(void **state)
{
    /* LISTEN would be deaf, or another client be woken. */
    World *w = world_open(pg.port);
    query(w, "do $$ begin raise notice 'hello'; end $$", "N C(DO) Z(I)");
    Talk *t = talk(w);
    say_query(t, "listen chan");
    t->keep = true;
    submit_held(t);
    finish(t);
    Backend *backend = t->task.backend;
    hear(t, "C(LISTEN) Z(I)");
    query(w, "notify chan", "C(NOTIFY) Z(I)");
    assert_true(world_until(w, was_notified, w));
    assert_string_equal(w->held, "A");
    backend_release(backend, true);
    world_close(w);
}

static void values_for_the_greeting_are_as_postgresql_reports_them(void **state)
{
    /* Drivers decide by server_version and client_encoding what to send. */
    World *w = world_open(pg.port);
    const char *const *names, *const *values;
    assert_int_equal(pool_parameters(w->pool, &names, &values), 0);
    query(w, "set timezone to 'Asia/Tokyo'", "C(SET) S(TimeZone) Z(I)");
    assert_int_equal(pool_parameters(w->pool, &names, &values), 13);
    assert_string_equal(names[0], "application_name");
    assert_string_equal(names[12], "TimeZone");
    assert_string_not_equal(values[12], "Asia/Tokyo");
    assert_string_equal(values[1], "UTF8");
    world_close(w);
}

static void hidden_steps_stay_hidden(void **state)
{
    /* The router's own BEGIN before a client's statement would be answered to the client. */
    World *w = world_open(pg.port);
    Talk *t = talk(w);
    say_query(t, "begin");
    t->steps[0].hidden = true;
    say_query(t, "select 1");
    submit_held(t);
    finish(t);
    backend_release(t->task.backend, false);
    hear(t, "T D(1) C(SELECT 1) Z(T)");
    world_close(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_query_and_its_answer),
        cmocka_unit_test(a_statement_is_parsed_once_per_connection),
        cmocka_unit_test(a_bind_alone_finds_its_statement_on_any_connection),
        cmocka_unit_test(a_hidden_parse_that_fails_is_the_clients_error),
        cmocka_unit_test(an_error_skips_to_sync_and_unlearns_later_parses),
        cmocka_unit_test(answers_of_our_own_come_in_order),
        cmocka_unit_test(a_known_parse_with_flush_only_is_answered),
        cmocka_unit_test(an_open_task_that_failed_skips_what_is_fed),
        cmocka_unit_test(steps_fed_before_the_task_is_at_work_are_not_lost),
        cmocka_unit_test(unnamed_statements_do_not_collide),
        cmocka_unit_test(a_query_inside_an_extended_series_owes_its_own_ready),
        cmocka_unit_test(copy_in_and_out_by_simple_query),
        cmocka_unit_test(copy_in_by_execute_ends_with_a_second_sync),
        cmocka_unit_test(late_copy_data_after_an_error_harms_nobody),
        cmocka_unit_test(settings_go_with_the_task),
        cmocka_unit_test(a_setting_that_cannot_be_made_stops_the_statement),
        cmocka_unit_test(a_timeout_that_hits_our_own_set_is_nobodys),
        cmocka_unit_test(reports_of_hidden_settings_stay_hidden),
        cmocka_unit_test(a_transaction_keeps_its_connection),
        cmocka_unit_test(a_sink_may_go_on_inside_its_last_call),
        cmocka_unit_test(session_state_is_held_on_request_and_cleaned_at_release),
        cmocka_unit_test(an_abandoned_transaction_is_rolled_back),
        cmocka_unit_test(statements_above_the_limit_are_closed_at_a_tasks_head),
        cmocka_unit_test(a_stale_plan_is_parsed_again_by_its_next_use),
        cmocka_unit_test(who_prepares_after_ddl_gets_the_new_table),
        cmocka_unit_test(deallocate_all_is_noticed),
        cmocka_unit_test(search_path_belongs_to_the_session_not_to_the_statement),
        cmocka_unit_test(a_slow_client_stops_the_server),
        cmocka_unit_test(a_choked_copy_waits_for_the_server),
        cmocka_unit_test(notices_and_notifications_reach_whom_they_concern),
        cmocka_unit_test(values_for_the_greeting_are_as_postgresql_reports_them),
        cmocka_unit_test(hidden_steps_stay_hidden),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
