/* test_pool.c - who gets a connection, what happens when servers die, and whom a cancel hits. */
#include "tests/support/pg_cluster.h"
#include "world.h"

static PgCluster pg;

static int start(void **state)
{
    pg_cluster_start(&pg, "");
    return pg_sql(&pg, "create table c (id int); create role mary login") ? 0 : -1;
}

static int stop(void **state)
{
    pg_cluster_finish(&pg);
    return 0;
}

static bool is_idle(void *ctx)
{
    World *w = ctx;
    const PoolStats *stats = pool_stats(w->pool);
    return counter_get(&stats->active) == 0 && counter_get(&stats->held) == 0;
}

static bool held_is_gone(void *ctx)
{
    return strchr(((World *)ctx)->held, '!') != NULL;
}

static bool is_empty(void *ctx)
{
    return is_idle(ctx) && counter_get(&pool_stats(((World *)ctx)->pool)->idle) == 0;
}

static char order[64];
static void write_down(Talk *t)
{
    strcat(order, t->ctx);
}

static void the_longest_waiter_is_served_first(void **state)
{
    /* H31: under load some clients would wait for ever. */
    World *w = world_open(pg.port);
    w->database.pool_size = 1;
    world_adopt(w);
    Talk *t[8];
    const char *names[] = {"0", "1", "2", "3", "4", "5", "6", "7"};
    order[0] = '\0';
    for (int i = 0; i < 8; i++) {
        t[i] = talk(w);
        t[i]->ctx = (void *)(uintptr_t)names[i];
        t[i]->on_over = write_down;
        say_query(t[i], "select 1");
        submit(t[i]);
    }
    for (int i = 0; i < 8; i++)
        hear(t[i], "T D(1) C(SELECT 1) Z(I)");
    assert_string_equal(order, "01234567");
    assert_int_equal(counter_get(&pool_stats(w->pool)->connects), 1);
    world_close(w);
}

static void the_pool_opens_no_more_than_it_may(void **state)
{
    /* P7: PostgreSQL would run out of connections. The share of one worker is rounded up. */
    World *w = world_open(pg.port);
    Talk *t[20];
    for (int i = 0; i < 20; i++) {
        t[i] = talk(w);
        say_query(t[i], "select pg_sleep(0.02)");
        submit(t[i]);
    }
    for (int i = 0; i < 20; i++)
        hear(t[i], "T D() C(SELECT 1) Z(I)");
    assert_int_equal(pool_size(w->pool), 4);
    assert_in_range(counter_get(&pool_stats(w->pool)->connects), 1, 4);
    world_close(w);
}

static void a_wait_that_is_too_long_is_told(void **state)
{
    /* A client would hang behind somebody's forgotten transaction. */
    World *w = world_open(pg.port);
    w->database.pool_size = 1;
    w->config.query_wait_timeout_ms = 200;
    world_adopt(w);
    Talk *holder = talk(w), *waiter = talk(w);
    say_query(holder, "begin");
    submit_held(holder);
    finish(holder);
    say_query(waiter, "select 1");
    submit(waiter);
    finish(waiter);
    assert_non_null(strstr(waiter->err.detail, "s0/primary"));
    hear(waiter, "lost(53300,no)");
    backend_release(holder->task.backend, false);
    query(w, "select 2", "T D(2) C(SELECT 1) Z(I)");
    talk_free(holder);
    world_close(w);
}

static void a_server_that_is_not_there_is_told_at_once_and_found_again(void **state)
{
    /* P9: clients would hang while a server is down, or find it down long after it is back. */
    World *w = world_open(pg.port);
    query(w, "select 1", "T D(1) C(SELECT 1) Z(I)");
    assert_true(pg_cluster_down(&pg, "fast"));
    world_wait_ms(w, 50);
    for (int i = 0; i < 20; i++) {
        Talk *t = talk(w);
        uint64_t start_us = clock_now_us();
        say_query(t, "select 1");
        submit(t);
        finish(t);
        assert_true(clock_now_us() - start_us < 10 * 1000000);
        assert_non_null(strstr(t->err.message, "s0/primary"));
        assert_null(strstr(t->err.detail, "refused")); /* H88: libpq's words stay in the log */
        hear(t, "lost(08001,no)");
    }
    assert_in_range(counter_get(&pool_stats(w->pool)->connect_failures), 1, 4); /* not 20 */
    assert_true(pg_cluster_up(&pg));
    bool back = false;
    for (int i = 0; i < 600 && !back; i++) {
        Talk *t = talk(w);
        say_query(t, "select 1");
        submit(t);
        finish(t);
        back = strcmp(t->heard, "T D(1) C(SELECT 1) Z(I)") == 0;
        talk_free(t);
        world_wait_ms(w, 100);
    }
    assert_true(back);
    world_close(w);
}

static void a_killed_server_loses_what_runs_and_says_so(void **state)
{
    /* P6: a write whose fate is unknown would be told as failed, or as done. */
    World *w = world_open(pg.port);
    Talk *held = talk(w), *t = talk(w), *waiting = talk(w);
    say_query(held, "begin");
    submit_held(held);
    finish(held);
    say_query(t, "insert into c select 1 from pg_sleep(10)");
    submit(t);
    world_until_asleep(w, &pg);
    Backend *backend = t->task.backend;
    assert_non_null(backend);
    kill(backend_server_pid(backend), SIGKILL); /* takes all sessions of the server with it */
    say_query(waiting, "select 1");
    finish(t);
    assert_non_null(strstr(t->err.detail, "127.0.0.1 port"));
    hear(t, "lost(08006,yes)");
    assert_true(world_until(w, held_is_gone, w));
    assert_string_equal(w->held, "N!"); /* PostgreSQL warns of the crash before it closes */
    hear(held, "C(BEGIN) Z(T)");
    talk_free(waiting);
    bool back = false;
    for (int i = 0; i < 600 && !back; i++) {
        Talk *again = talk(w);
        say_query(again, "select count(*) from c");
        submit(again);
        finish(again);
        back = strcmp(again->heard, "T D(0) C(SELECT 1) Z(I)") == 0;
        talk_free(again);
        world_wait_ms(w, 100);
    }
    assert_true(back);
    world_close(w);
}

static void the_servers_last_words_are_told(void **state)
{
    /* An operator's pg_terminate_backend would look like a network failure. */
    World *w = world_open(pg.port);
    query(w, "select pg_terminate_backend(pg_backend_pid())", "T D(t) lost(08006,yes)");
    Talk *t = talk(w);
    say_query(t, "select pg_terminate_backend(pg_backend_pid())");
    submit(t);
    finish(t);
    assert_non_null(strstr(t->err.detail, "57P01"));
    talk_free(t);
    query(w, "select 1", "T D(1) C(SELECT 1) Z(I)");
    world_close(w);
}

static void an_idle_connection_that_died_is_not_handed_out(void **state)
{
    /* H14: the first statement after a server's restart would fail. */
    World *w = world_open(pg.port);
    query(w, "select 1", "T D(1) C(SELECT 1) Z(I)");
    assert_true(pg_sql(&pg, "select pg_terminate_backend(pid, 60000) from pg_stat_activity "
                            "where application_name = 'shoal'"));
    w->loop.now_us = clock_now_us(); /* the reader has not run: it is seen by peeking */
    query(w, "select 2", "T D(2) C(SELECT 1) Z(I)");
    assert_int_equal(counter_get(&pool_stats(w->pool)->connects), 2);
    world_close(w);
}

static void idle_and_old_connections_go(void **state)
{
    /* PostgreSQL's memory would stay at the highest load of the day. */
    World *w = world_open(pg.port);
    w->config.server_idle_timeout_ms = 100;
    world_adopt(w);
    query(w, "select 1", "T D(1) C(SELECT 1) Z(I)");
    assert_true(world_until(w, is_empty, w));
    w->config.server_idle_timeout_ms = 0;
    w->config.server_lifetime_ms = 200;
    world_adopt(w);
    query(w, "select 1", "T D(1) C(SELECT 1) Z(I)");
    assert_true(world_until(w, is_empty, w));
    world_close(w);
}

static void another_address_replaces_the_connections(void **state)
{
    /* After a reload statements would go on to the old server. */
    World *w = world_open(pg.port);
    query(w, "select 1", "T D(1) C(SELECT 1) Z(I)");
    world_adopt(w); /* nothing changed: they stay */
    query(w, "select 1", "T D(1) C(SELECT 1) Z(I)");
    assert_int_equal(counter_get(&pool_stats(w->pool)->connects), 1);
    snprintf(w->conninfo, sizeof(w->conninfo), "host=%s port=%d", pg.dir, pg.port);
    world_adopt(w);
    world_wait_ms(w, 200);
    query(w, "select inet_server_addr() is null", "T D(t) C(SELECT 1) Z(I)");
    assert_int_equal(counter_get(&pool_stats(w->pool)->connects), 2);
    world_close(w);
}

static void pools_are_per_user(void **state)
{
    /* P4: a client would work with another user's rights. */
    World *w = world_open(pg.port);
    Pool *mary = pool_get(w->set, &w->server, &w->database, NULL, SLICE("mary"));
    assert_ptr_not_equal(mary, w->pool);
    assert_ptr_equal(mary, pool_get(w->set, &w->server, &w->database, NULL, SLICE("mary")));
    assert_string_equal(pool_name(mary), "s0/primary app/mary");
    Talk *t = talk(w);
    say_query(t, "select current_user");
    t->task.step_count = 1;
    pool_submit(mary, &t->task);
    hear(t, "T D(mary) C(SELECT 1) Z(I)");
    world_close(w);
}

static int warm_answers;
static char warm_state[8];
static void on_warm(PoolWaiter *waiter, Pool *pool, const Error *err)
{
    warm_answers++;
    strcpy(warm_state, err ? err->sqlstate : "ok");
}

static bool warm_done(void *ctx)
{
    return warm_answers >= *(int *)ctx;
}

static void logins_wait_for_the_first_connection(void **state)
{
    /* A client would be greeted without server_version, or wait for ever. */
    World *w = world_open(pg.port);
    PoolWaiter a = {.on_warm = on_warm}, b = {.on_warm = on_warm}, gone = {.on_warm = on_warm};
    int wanted = 2;
    warm_answers = 0;
    pool_warm(w->pool, &a);
    pool_warm(w->pool, &b);
    pool_warm(w->pool, &gone);
    pool_warm_cancel(&gone);
    assert_true(world_until(w, warm_done, &wanted));
    assert_string_equal(warm_state, "ok");
    assert_int_equal(counter_get(&pool_stats(w->pool)->connects), 1);
    w->database.name = "nowhere";
    w->database.dbname = "nowhere";
    Pool *bad = pool_get(w->set, &w->server, &w->database, NULL, SLICE("postgres"));
    wanted = 3;
    pool_warm(bad, &a);
    assert_true(world_until(w, warm_done, &wanted));
    assert_string_equal(warm_state, "08001");
    world_close(w);
}

/* ---- cancel --------------------------------------------------------------------------------- */

/* Just sent, not yet answered. */
static void send_off(Talk *t)
{
    if (counter_get(&pool_stats(t->world->pool)->connects) == 0)
        query(t->world, "select 1", "T D(1) C(SELECT 1) Z(I)");
    assert_true(world_until(t->world, is_idle, t->world));
    submit(t);
    world_turn_end(t->world);
    assert_int_equal(t->task.state, TASK_INFLIGHT);
}

static void a_cancel_stops_its_statement(void **state)
{
    /* Ctrl-C would do nothing. */
    World *w = world_open(pg.port);
    Talk *t = talk(w);
    say_query(t, "select pg_sleep(10)");
    submit(t);
    world_until_asleep(w, &pg);
    task_cancel(&t->task);
    finish(t);
    hear(t, "T E(57014) Z(I)");
    query(w, "select 1", "T D(1) C(SELECT 1) Z(I)");
    world_close(w);
}

static void a_cancel_that_comes_late_hits_nobody(void **state)
{
    /* H30: the next client's statement would fail with 57014. */
    World *w = world_open(pg.port);
    w->database.pool_size = 1;
    world_adopt(w);
    for (int i = 0; i < 300; i++) {
        Talk *t = talk(w), *next = talk(w);
        say_query(t, "select 1");
        say_query(next, "select count(*) from generate_series(1, 3000)");
        send_off(t);
        submit(next);
        usleep((useconds_t)(i % 10) * 50); /* the answer may be here, unread */
        task_cancel(&t->task);
        finish(t);
        hear(next, "T D(3000) C(SELECT 1) Z(I)");
        talk_free(t);
    }
    assert_true(counter_get(&pool_stats(w->pool)->cancels) > 100);
    assert_int_equal(counter_get(&pool_stats(w->pool)->connects), 1);
    world_close(w);
}

static void a_late_cancel_leaves_the_next_statement_of_a_transaction_alone(void **state)
{
    /* H30 inside one's own transaction: it would be aborted by a cancel of an earlier statement. */
    World *w = world_open(pg.port);
    Talk *begin = talk(w);
    say_query(begin, "begin");
    submit_held(begin);
    finish(begin);
    Backend *backend = begin->task.backend;
    for (int i = 0; i < 100; i++) {
        Talk *one = talk(w), *two = talk(w);
        say_query(one, "savepoint a");
        say_query(two, "rollback to a");
        run_on(one, backend);
        run_on(two, backend);
        world_turn_end(w);
        usleep((useconds_t)(i % 10) * 50);
        task_cancel(&one->task);
        finish(one);
        hear(two, "C(ROLLBACK) Z(T)");
        talk_free(one);
    }
    backend_release(backend, false);
    talk_free(begin);
    world_close(w);
}

static void a_waiting_task_can_be_cancelled(void **state)
{
    /* A client that gives up would still be waited for. */
    World *w = world_open(pg.port);
    Talk *a = talk(w), *b = talk(w), *c = talk(w);
    say_query(a, "select 1");
    say_query(b, "select 2");
    say_query(c, "select 3");
    submit(a);
    submit(b);
    submit(c);
    task_cancel(&a->task);
    task_abandon(&b->task);
    assert_int_equal(b->task.state, TASK_DONE);
    assert_false(a->over); /* never from inside the call */
    hear(a, "lost(57014,no)");
    hear(c, "T D(3) C(SELECT 1) Z(I)");
    assert_int_equal(b->len, 0);
    talk_free(b);
    assert_int_equal(counter_get(&pool_stats(w->pool)->waiting), 0);
    world_close(w);
}

static void the_server_dies_while_a_cancel_is_under_way(void **state)
{
    /* The canceller's thread would use freed memory. */
    World *w = world_open(pg.port);
    Talk *t = talk(w);
    say_query(t, "select pg_terminate_backend(pg_backend_pid()), pg_sleep(10)");
    send_off(t);
    task_cancel(&t->task);
    finish(t);
    talk_free(t);
    query(w, "select 1", "T D(1) C(SELECT 1) Z(I)");
    world_close(w);
}

/* ---- abandon -------------------------------------------------------------------------------- */

/* Abandons what was just begun and looks whether the connection comes back clean. */
static void abandon(World *w, Talk *t)
{
    task_abandon(&t->task);
    assert_int_equal(t->task.state, TASK_DONE);
    size_t len = t->len;
    assert_true(world_until(w, is_idle, w));
    assert_int_equal(t->len, len); /* not a word more */
    talk_free(t);
    query(w, "select count(*) from c", "T D(0) C(SELECT 1) Z(I)");
    assert_int_equal(counter_get(&pool_stats(w->pool)->connects), 1);
}

static void what_a_dead_client_left_is_cleaned_up(void **state)
{
    /* A client dies at any moment: its statement would run on, its locks stay, its state leak. */
    World *w = world_open(pg.port);
    w->database.pool_size = 1;
    world_adopt(w);
    Prepared *p = prepare(w, "select pg_sleep(10)"), *copy = prepare(w, "copy c from stdin");

    Talk *t = talk(w); /* in mid query, in a transaction of its own */
    say_query(t, "begin; insert into c values (1); select pg_sleep(10)");
    submit_held(t);
    world_until_asleep(w, &pg);
    abandon(w, t);

    t = talk(w); /* before anything was answered */
    say_query(t, "set work_mem to '9MB'; select pg_sleep(10)");
    send_off(t);
    abandon(w, t);
    query(w, "show work_mem", "T D(4MB) C(SHOW) Z(I)");

    t = talk(w); /* Flush without Sync */
    t->task.open = true;
    say_bind(t, p, NULL);
    say_flush(t);
    submit(t);
    world_wait_ms(w, 100);
    abandon(w, t);

    t = talk(w); /* in the middle of COPY */
    say_query(t, "copy c from stdin");
    submit(t);
    listen_for(t, "G");
    copy_in(t, "1\n");
    abandon(w, t);

    t = talk(w); /* of COPY by Execute, whose Sync was swallowed */
    say_bind(t, copy, NULL);
    say_execute(t);
    say_sync(t);
    submit(t);
    listen_for(t, "G");
    copy_in(t, "1\n");
    abandon(w, t);

    t = talk(w); /* of COPY that has not even begun */
    say_query(t, "copy c from stdin");
    send_off(t);
    abandon(w, t);

    t = talk(w); /* while its settings are made */
    bool ok;
    GucVector *gucs = guc_with(&w->gucs, NULL, SLICE("work_mem"), SLICE("'5MB'"), &ok);
    t->task.gucs = gucs;
    say_bind(t, p, NULL);
    say_execute(t);
    say_sync(t);
    send_off(t);
    abandon(w, t);
    guc_release(&w->gucs, gucs);
    prepared_release(&w->prepared, p);
    prepared_release(&w->prepared, copy);
    world_close(w);
}

static void an_abandoned_statement_of_a_transaction_keeps_the_hold(void **state)
{
    /* A gather gives up one shard's answer; the transaction there is still the session's. */
    World *w = world_open(pg.port);
    Talk *begin = talk(w);
    say_query(begin, "begin");
    submit_held(begin);
    finish(begin);
    Backend *backend = begin->task.backend;
    Talk *t = talk(w);
    say_query(t, "select pg_sleep(10)");
    run_on(t, backend);
    world_until_asleep(w, &pg);
    task_abandon(&t->task);
    Talk *next = talk(w);
    say_query(next, "rollback");
    run_on(next, backend);
    hear(next, "C(ROLLBACK) Z(I)");
    talk_free(t);
    talk_free(begin);
    world_close(w);
}

static void a_rollback_by_us_forgets_settings_made_inside(void **state)
{
    /* P4: we would believe in a setting that the rollback has undone. */
    World *w = world_open(pg.port);
    bool ok;
    GucVector *gucs = guc_with(&w->gucs, NULL, SLICE("work_mem"), SLICE("'5MB'"), &ok);
    Talk *t = talk(w);
    say_query(t, "begin; set work_mem to '5MB'");
    submit_held(t);
    finish(t);
    backend_set_gucs(t->task.backend, gucs);
    backend_release(t->task.backend, false);
    talk_free(t);
    assert_true(world_until(w, is_idle, w));
    t = talk(w);
    say_query(t, "show work_mem");
    t->task.gucs = gucs;
    submit(t);
    hear(t, "T D(5MB) C(SHOW) Z(I)");
    query(w, "show work_mem", "T D(4MB) C(SHOW) Z(I)");
    guc_release(&w->gucs, gucs);
    world_close(w);
}

static void tasks_in_flight_at_the_end_are_told(void **state)
{
    /* Shutdown would leak, or leave a client without a word. */
    World *w = world_open(pg.port);
    Talk *a = talk(w), *b = talk(w);
    say_query(a, "select pg_sleep(10)");
    say_query(b, "select 2");
    submit(a);
    world_until_asleep(w, &pg);
    submit(b);
    world_close(w);
    assert_string_equal(a->heard, "lost(08006,yes)");
    assert_string_equal(b->heard, "lost(57P01,no)");
    talk_free(a);
    talk_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_longest_waiter_is_served_first),
        cmocka_unit_test(the_pool_opens_no_more_than_it_may),
        cmocka_unit_test(a_wait_that_is_too_long_is_told),
        cmocka_unit_test(a_server_that_is_not_there_is_told_at_once_and_found_again),
        cmocka_unit_test(a_killed_server_loses_what_runs_and_says_so),
        cmocka_unit_test(the_servers_last_words_are_told),
        cmocka_unit_test(an_idle_connection_that_died_is_not_handed_out),
        cmocka_unit_test(idle_and_old_connections_go),
        cmocka_unit_test(another_address_replaces_the_connections),
        cmocka_unit_test(pools_are_per_user),
        cmocka_unit_test(logins_wait_for_the_first_connection),
        cmocka_unit_test(a_cancel_stops_its_statement),
        cmocka_unit_test(a_cancel_that_comes_late_hits_nobody),
        cmocka_unit_test(a_late_cancel_leaves_the_next_statement_of_a_transaction_alone),
        cmocka_unit_test(a_waiting_task_can_be_cancelled),
        cmocka_unit_test(the_server_dies_while_a_cancel_is_under_way),
        cmocka_unit_test(what_a_dead_client_left_is_cleaned_up),
        cmocka_unit_test(an_abandoned_statement_of_a_transaction_keeps_the_hold),
        cmocka_unit_test(a_rollback_by_us_forgets_settings_made_inside),
        cmocka_unit_test(tasks_in_flight_at_the_end_are_told),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
