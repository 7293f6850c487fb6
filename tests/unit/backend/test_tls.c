/* test_tls.c - the seam to libpq where it is not plain: TLS and SCRAM, then our own bytes. */
#include "tests/support/pg_cluster.h"
#include "world.h"

static PgCluster pg;

/* A server that takes nothing but TLS with SCRAM. */
static int start(void **state)
{
    pg_cluster_start(&pg, "");
    return pg_sql(&pg, "create role carol superuser login password 'secret'") &&
                   pg_run("cd %s/data && openssl req -x509 -newkey rsa:2048 -nodes -days 2 "
                          "-subj /CN=localhost -keyout server.key -out server.crt >/dev/null 2>&1 "
                          "&& chmod 600 server.key && echo ssl=on >> postgresql.conf && "
                          "echo 'hostssl all all 127.0.0.1/32 scram-sha-256' > pg_hba.conf",
                          pg.dir) &&
                   pg_cluster_down(&pg, "fast") && pg_cluster_up(&pg)
               ? 0
               : -1;
}

static int stop(void **state)
{
    pg_cluster_finish(&pg);
    return 0;
}

static World *open_tls(const char *password)
{
    static UserConfig carol;
    World *w = world_open(pg.port);
    carol = (UserConfig){.name = "carol", .password = password};
    snprintf(w->conninfo, sizeof(w->conninfo), "host=127.0.0.1 port=%d sslmode=require", pg.port);
    world_adopt(w);
    w->pool = pool_get(w->set, &w->server, &w->database, &carol, SLICE("carol"));
    return w;
}

static void statements_travel_inside_tls(void **state)
{
    /* Passwords and rows would cross the network in the clear, or not at all. */
    World *w = open_tls("secret");
    query(w, "select ssl from pg_stat_ssl where pid = pg_backend_pid()",
          "T D(t) C(SELECT 1) Z(I)");
    for (int i = 0; i < 3; i++) {
        Talk *t = talk(w);
        t->quiet = true;
        say_query(t, "select repeat('x', 20000) from generate_series(1, 1000)");
        submit(t);
        finish(t);
        assert_int_equal(t->rows, 1000);
        talk_free(t);
        world_wait_ms(w, 20); /* handed out again after peeking */
    }
    assert_int_equal(counter_get(&pool_stats(w->pool)->connects), 1);
    world_close(w);
}

static void a_large_copy_travels_inside_tls(void **state)
{
    /* H13: large writes stall between TLS records. */
    World *w = open_tls("secret");
    query(w, "create table big (v text)", "C(CREATE TABLE) Z(I)");
    Talk *t = talk(w);
    say_query(t, "copy big from stdin");
    t->task.holder = w;
    submit(t);
    listen_for(t, "G");
    char *line = malloc(100001);
    memset(line, 'x', 100000);
    line[99999] = '\n';
    line[100000] = '\0';
    for (int i = 0; i < 100; i++)
        if (!copy_in(t, line))
            world_wait_ms(w, 5);
    copy_done(t);
    hear(t, "G C(COPY 100) Z(I)");
    free(line);
    query(w, "select sum(length(v)) from big", "T D(9999900) C(SELECT 1) Z(I)");
    world_close(w);
}

static void a_cancel_works_beside_tls(void **state)
{
    /* PQgetCancel is all that libpq still does after the login. */
    World *w = open_tls("secret");
    Talk *t = talk(w);
    say_query(t, "select pg_sleep(10)");
    submit(t);
    query(w, "do $$ begin while not exists (select from pg_stat_activity where query = 'select pg_sleep(10)'"
             " and wait_event = 'PgSleep') loop perform pg_stat_clear_snapshot(), pg_sleep(0.05); end loop; end $$",
          "C(DO) Z(I)"); /* a cancel before that has another answer */
    task_cancel(&t->task);
    hear(t, "T E(57014) Z(I)");
    query(w, "select 1", "T D(1) C(SELECT 1) Z(I)");
    world_close(w);
}

static void a_wrong_password_is_told_without_details(void **state)
{
    /* H88, H89. */
    World *w = open_tls("wrong");
    Talk *t = talk(w);
    say_query(t, "select 1");
    submit(t);
    finish(t);
    assert_null(strstr(t->err.detail, "wrong"));
    hear(t, "lost(08001,no)");
    world_close(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statements_travel_inside_tls),
        cmocka_unit_test(a_large_copy_travels_inside_tls),
        cmocka_unit_test(a_cancel_works_beside_tls),
        cmocka_unit_test(a_wrong_password_is_told_without_details),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
