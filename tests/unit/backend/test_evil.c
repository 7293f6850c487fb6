/*
 * test_evil.c - servers that lie, in a thread: a right greeting, then bytes from a table.
 *
 * bad-input 138, H87, H88: such a server must lose its connection and nothing else.
 */
#include <pthread.h>

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/log.h"
#include "world.h"

typedef enum Manner {
    ANSWERS,       /* the table's bytes to the first message */
    LEAVES,        /* the same, then closes */
    SPEAKS_FIRST,  /* the bytes right behind the greeting */
    CHATTERS,      /* a right answer between much that nobody asked for */
    REFUSES_LOGIN, /* an ErrorResponse instead of a greeting */
    SAYS_NOTHING
} Manner;

typedef struct Evil {
    Manner manner;
    Slice bytes;
    int listener, port;
    pthread_t thread;
} Evil;

static void evil_send(int fd, Slice bytes)
{
    while (bytes.len) {
        ssize_t n = send(fd, bytes.data, bytes.len, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        bytes = slice_from(bytes, (size_t)n);
    }
}

static void evil_greet(Buf *out)
{
    backend_put_authentication(out, AUTH_OK, SLICE(""));
    backend_put_parameter_status(out, SLICE("server_version"), SLICE("15.0"));
    backend_put_key_data(out, 4711, 42);
    backend_put_ready(out, TX_IDLE);
}

static void evil_chatter(Buf *out)
{
    Error notice;
    error_set(&notice, "01000", "psst");
    FieldDescription field = {.name = SLICE("a"), .type_oid = 25, .type_len = -1, .typmod = -1};
    Column column = {.value = SLICE("x")};
    for (int i = 0; i < 1000; i++) {
        backend_put_parameter_status(out, SLICE("flood"), SLICE("x"));
        backend_put_notice(out, SEVERITY_NOTICE, &notice);
        backend_put_notification(out, 1, SLICE("chan"), SLICE("payload"));
        if (i == 300)
            backend_put_row_description(out, &field, 1);
        if (i == 600)
            backend_put_data_row(out, &column, 1);
    }
    backend_put_command_complete(out, SLICE("SELECT 1"));
    backend_put_ready(out, TX_IDLE);
}

static void evil_serve(const Evil *evil, int fd)
{
    uint8_t in[4096];
    Buf out;
    Error err;
    buf_init(&out, 1 << 20);
    error_set(&err, "28000", "secret words before the login");
    if (recv(fd, in, sizeof(in), 0) > 0 && evil->manner != SAYS_NOTHING) {
        if (evil->manner == REFUSES_LOGIN)
            backend_put_error(&out, SEVERITY_FATAL, &err);
        else
            evil_greet(&out);
        evil_send(fd, buf_bytes(&out));
        buf_reset(&out);
        if (evil->manner == SPEAKS_FIRST) {
            usleep(50000);
            evil_send(fd, evil->bytes);
        }
        if ((evil->manner == ANSWERS || evil->manner == LEAVES) && recv(fd, in, sizeof(in), 0) > 0)
            evil_send(fd, evil->bytes);
        if (evil->manner == CHATTERS && recv(fd, in, sizeof(in), 0) > 0) {
            evil_chatter(&out);
            evil_send(fd, buf_bytes(&out));
        }
    }
    if (evil->manner != LEAVES)
        while (recv(fd, in, sizeof(in), 0) > 0) {
        }
    buf_finish(&out);
    close(fd);
}

static void *evil_main(void *arg)
{
    Evil *evil = arg;
    for (int fd; (fd = accept(evil->listener, NULL, NULL)) >= 0;)
        evil_serve(evil, fd);
    return NULL;
}

static World *evil_open(Evil *evil, Manner manner, Slice bytes)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    evil->manner = manner;
    evil->bytes = bytes;
    evil->listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(evil->listener, (struct sockaddr *)&address, len), 0);
    assert_int_equal(getsockname(evil->listener, (struct sockaddr *)&address, &len), 0);
    assert_int_equal(listen(evil->listener, 8), 0);
    evil->port = ntohs(address.sin_port);
    assert_int_equal(pthread_create(&evil->thread, NULL, evil_main, evil), 0);
    World *w = world_open(evil->port);
    snprintf(w->conninfo, sizeof(w->conninfo), "host=127.0.0.1 port=%d sslmode=disable",
             evil->port);
    w->config.server_connect_timeout_ms = 300;
    world_adopt(w);
    return w;
}

static void evil_close(Evil *evil, World *w)
{
    world_close(w);
    shutdown(evil->listener, SHUT_RDWR);
    pthread_join(evil->thread, NULL);
    close(evil->listener);
}

#define BYTES(text) SLICE(text)
#define ROW1        "T\0\0\0\x1a\0\1a\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0"

static void lies_cost_the_liar_its_connection(void **state)
{
    /* A broken server would feed clients with somebody's bytes, or take the process with it. */
    const struct {
        Slice bytes;
        const char *heard;
    } LIES[] = {
        {BYTES("Z\0\0\0\3"), "lost(08006,yes)"},                        /* length below 4 */
        {BYTES("Z\xff\xff\xff\xff"), "lost(08006,yes)"},                /* negative */
        {BYTES("?\0\0\0\4"), "lost(08006,yes)"},                        /* unknown type */
        {BYTES("Z\0\0\0\5I"), "lost(08006,yes)"},                       /* Z and nothing before */
        {BYTES("Z\0\0\0\5X"), "lost(08006,yes)"},                       /* no such status */
        {BYTES("C\0\0\0\6OK"), "lost(08006,yes)"},                      /* tag without NUL */
        {BYTES("C\0\0\0\7OK\0Z\0\0\0\4"), "C(OK) lost(08006,yes)"},     /* Z without status */
        {BYTES("C\0\0\0\7OK\0D\0\0\0\6\0\0"), "C(OK) lost(08006,yes)"}, /* rows from nowhere */
        {BYTES("T\0\0\0\6\xff\xff"), "lost(08006,yes)"},    /* 65,535 columns, none there */
        {BYTES(ROW1 "D\0\0\0\6\0\0"), "T lost(08006,yes)"}, /* columns != T's */
        {BYTES(ROW1 "D\0\0\0\n\0\1\xff\xff\xff\xfe"), "T lost(08006,yes)"}, /* length -2 */
        {BYTES(ROW1 "D\0\0\0\n\0\1\x7f\xff\xff\xff"), "T lost(08006,yes)"}, /* beyond the end */
        {BYTES(ROW1 "Z\0\0\0\5I"), "T lost(08006,yes)"},                    /* no CommandComplete */
        {BYTES("E\0\0\0\13SERROR\0"), "lost(08006,yes)"}, /* no SQLSTATE, no end */
        {BYTES("E\0\0\0\5\0"), "lost(08006,yes)"},        /* an empty error */
        {BYTES("K\0\0\0\14abcdefgh"), "lost(08006,yes)"}, /* a key in mid session */
        {BYTES("R\0\0\0\10\0\0\0\0"), "lost(08006,yes)"}, /* welcome again */
        {BYTES("v\0\0\0\14\0\0\0\0\0\0\0\0"), "lost(08006,yes)"},
        {BYTES("W\0\0\0\7\0\0\0"), "lost(08006,yes)"}, /* CopyBoth */
        {BYTES("1\0\0\0\4"), "lost(08006,yes)"},       /* to a Query */
        {BYTES("d\0\0\0\5x"), "lost(08006,yes)"},      /* copy data without copy */
        {BYTES("S\0\0\0\6ab"), "lost(08006,yes)"},     /* strings without end */
        {BYTES("A\0\0\0\4"), "lost(08006,yes)"},
        {BYTES("N\0\0\0\6xx"), "lost(08006,yes)"},
        {BYTES("D\x3f\0\0\0"), "lost(54000,yes)"}, /* a row of 1 GB: not buffered */
        {BYTES("Z\x3f\0\0\0"), "lost(08006,yes)"}, /* but no Z is that long */
    };
    for (size_t i = 0; i < ARRAY_LEN(LIES); i++) {
        Evil evil;
        World *w = evil_open(&evil, ANSWERS, LIES[i].bytes);
        query(w, "select 1", LIES[i].heard);
        assert_int_equal(counter_get(&pool_stats(w->pool)->losses), 1);
        query(w, "select 1", LIES[i].heard); /* another connection, another lie */
        evil_close(&evil, w);
    }
}

static void an_end_in_mid_message_is_a_loss(void **state)
{
    /* Half a message would be waited for, or taken for a whole one. */
    Evil evil;
    World *w = evil_open(&evil, LEAVES, BYTES(ROW1 "D\0\0\0\50\0\1"));
    query(w, "select 1", "T lost(08006,yes)");
    evil_close(&evil, w);
}

static void a_second_ready_is_nobodys_answer(void **state)
{
    /* H10: it would end the next client's statement before it has begun. */
    Evil evil;
    World *w = evil_open(&evil, ANSWERS, BYTES("C\0\0\0\7OK\0Z\0\0\0\5IZ\0\0\0\5I"));
    query(w, "select 1", "C(OK) Z(I)");
    query(w, "select 1", "C(OK) Z(I)");
    assert_int_equal(counter_get(&pool_stats(w->pool)->losses), 2);
    evil_close(&evil, w);
}

static void unasked_words_to_an_idle_connection_close_it(void **state)
{
    /* H14: they would be the answer to the next client's question. */
    Evil evil;
    World *w = evil_open(&evil, SPEAKS_FIRST, BYTES("C\0\0\0\7OK\0Z\0\0\0\5I"));
    Talk *t = talk(w);
    t->task.open = true; /* opens the connection, says nothing */
    say_flush(t);
    submit_held(t);
    finish(t);
    hear(t, "lost(08006,yes)");
    evil_close(&evil, w);
}

static void chatter_is_passed_on_but_not_believed(void **state)
{
    /* A flood of reports would fill memory, or shift the answers. */
    Evil evil;
    World *w = evil_open(&evil, CHATTERS, BYTES(""));
    Talk *t = talk(w);
    say_query(t, "select 1");
    submit(t);
    finish(t);
    assert_int_equal(t->rows, 1);
    assert_null(strchr(t->heard, 'A')); /* nobody listens to channels here */
    talk_free(t);
    evil_close(&evil, w);
}

static void words_before_the_login_reach_no_client(void **state)
{
    /* H88: whoever sits at that address could speak in PostgreSQL's name. */
    Evil evil;
    World *w = evil_open(&evil, REFUSES_LOGIN, BYTES(""));
    Talk *t = talk(w);
    say_query(t, "select 1");
    submit(t);
    finish(t);
    assert_null(strstr(t->err.message, "secret"));
    assert_null(strstr(t->err.detail, "secret"));
    hear(t, "lost(08001,no)");
    evil_close(&evil, w);
}

static void a_silent_server_is_given_up(void **state)
{
    /* A client would wait for a login that never ends. */
    Evil evil;
    World *w = evil_open(&evil, SAYS_NOTHING, BYTES(""));
    query(w, "select 1", "lost(08001,no)");
    evil_close(&evil, w);
}

int main(void)
{
    log_level_set(LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lies_cost_the_liar_its_connection),
        cmocka_unit_test(an_end_in_mid_message_is_a_loss),
        cmocka_unit_test(a_second_ready_is_nobodys_answer),
        cmocka_unit_test(unasked_words_to_an_idle_connection_close_it),
        cmocka_unit_test(chatter_is_passed_on_but_not_believed),
        cmocka_unit_test(words_before_the_login_reach_no_client),
        cmocka_unit_test(a_silent_server_is_given_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
