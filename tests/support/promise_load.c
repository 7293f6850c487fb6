/*
 * promise_load.c - a million reads through Shoal, each held against a version oracle: none is older than its promise.
 *
 *     writers   ── UPDATE versions SET n = <next> WHERE id = k ──> history[k]: (acknowledged at, version) ...
 *     bounded   ── SELECT id, n ... WHERE id = k, sent at t  ────> n >= newest acknowledged before t - max_lag
 *     session   ── writes a row of its own, reads it and others ─> own: what it wrote; others: never back
 *     eventual  ── SELECT ...                                ────> no version that nobody has asked for
 *
 * One thread, one clock, raw protocol, pipelined; a million checked answers need no more than a core's minute. Every
 * answer carries the id that was asked for, so that answers which were swapped are found too (H10).
 *
 *     promise_load --port 6432 --reads 1000000 [--bounded 8 --session 2 --eventual 2 --writers 2 --pipeline 25
 *                  --keys 20 --max-lag-ms 600]
 *     SIGUSR1: count from now      "done" on stdout: so many bounded reads since      SIGTERM: end, one line of JSON
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <arpa/inet.h>
#include <time.h>
#include <unistd.h>

#define HISTORY      65536 /* acknowledged versions kept per key: minutes of writing */
#define KEYS_MAX     256
#define PIPELINE_MAX 256
#define CONNS_MAX    256
#define BUFFER       (256 * 1024)
#define SHOWN_MAX    5

typedef enum Role { WRITER, BOUNDED, SESSION, EVENTUAL } Role;
static const char *const ROLE_NAMES[] = {"writer", "bounded", "session", "eventual"};

typedef struct Asked { /* one statement on its way */
    int key;
    bool write;
    uint64_t sent_us, version, least; /* of a write; of a read: what its session has seen */
    int rows;
    uint64_t got;
    int got_key;
    char state[6];
} Asked;

typedef struct Conn {
    int fd;
    Role role;
    int own; /* key of its own; -1 none */
    Asked asked[PIPELINE_MAX];
    int head, count;
    uint64_t seen[KEYS_MAX]; /* session */
    uint64_t next_us;        /* does nothing before */
    unsigned turn;
    char in[BUFFER];
    size_t in_len;
    char out[BUFFER];
    size_t out_len;
} Conn;

typedef struct Key {
    uint64_t asked, acked;
    struct { uint64_t at_us, version; } history[HISTORY];
    uint64_t count;
} Key;

static struct { int port, bounded, session, eventual, writers, pipeline, keys, max_lag_ms; uint64_t reads; } options = {
    0, 8, 2, 2, 2, 25, 20, 600, 0};
static Key keys[KEYS_MAX];
static Conn *conns[CONNS_MAX];
static int conn_count, shown;
static uint64_t answered[4], writes, session_writes, violations, errors, counted_from;
static char violation[SHOWN_MAX][200], error_state[32][6];
static uint64_t error_count[32];
static volatile sig_atomic_t stop, mark;

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void die(const char *what)
{
    fprintf(stderr, "promise_load: %s: %s\n", what, strerror(errno));
    exit(2);
}

/* ---- the oracle ------------------------------------------------------------------------------- */

static void note_ack(Key *key, uint64_t version)
{
    key->acked = version;
    key->history[key->count % HISTORY].at_us = now_us();
    key->history[key->count++ % HISTORY].version = version;
}

/* The newest version acknowledged at that time or before; of versions older than the history nothing is asked. */
static uint64_t due(const Key *key, uint64_t before_us)
{
    uint64_t low = key->count > HISTORY ? key->count - HISTORY : 0, high = key->count;
    while (low < high) {
        uint64_t middle = (low + high) / 2;
        if (key->history[middle % HISTORY].at_us <= before_us)
            low = middle + 1;
        else
            high = middle;
    }
    bool kept = low && low > (key->count > HISTORY ? key->count - HISTORY : 0);
    return kept ? key->history[(low - 1) % HISTORY].version : 0;
}

static void violate(const Conn *conn, const Asked *asked, const char *what, uint64_t least)
{
    violations++;
    if (shown < SHOWN_MAX)
        snprintf(violation[shown++], sizeof violation[0], "%s: key %d has version %llu, %s %llu, asked for %llu",
                 ROLE_NAMES[conn->role], asked->key, (unsigned long long)asked->got, what, (unsigned long long)least,
                 (unsigned long long)keys[asked->key].asked);
}

static void note_error(const Asked *asked)
{
    errors++;
    for (int i = 0; i < 32; i++)
        if (!error_count[i] || strcmp(error_state[i], asked->state) == 0) {
            memcpy(error_state[i], asked->state, sizeof asked->state);
            error_count[i]++;
            return;
        }
}

static void judge_read(Conn *conn, const Asked *asked)
{
    const Key *key = &keys[asked->key];
    if (asked->rows != 1 || asked->got_key != asked->key || asked->got > key->asked) {
        violate(conn, asked, asked->rows != 1 ? "rows other than one:" : "another answer, of key", (uint64_t)asked->got_key);
        return;
    }
    if (conn->role == BOUNDED) {
        uint64_t lag_us = (uint64_t)options.max_lag_ms * 1000;
        uint64_t least = due(key, asked->sent_us > lag_us ? asked->sent_us - lag_us : 0);
        if (asked->got < least)
            violate(conn, asked, "must have", least);
    } else if (conn->role == SESSION) {
        if (asked->got < asked->least)
            violate(conn, asked, asked->key == conn->own ? "wrote" : "has seen", asked->least);
        if (asked->got > conn->seen[asked->key])
            conn->seen[asked->key] = asked->got;
    }
}

static void judge(Conn *conn, const Asked *asked)
{
    if (asked->state[0]) {
        note_error(asked);
    } else if (asked->write) {
        note_ack(&keys[asked->key], asked->version);
        conn->seen[asked->key] = asked->version;
        writes += conn->role == WRITER;
        session_writes += conn->role == SESSION;
    } else {
        judge_read(conn, asked);
        answered[conn->role]++;
    }
}

/* ---- the protocol ------------------------------------------------------------------------------- */

static uint32_t u32(const char *at)
{
    uint32_t value;
    memcpy(&value, at, 4);
    return ntohl(value);
}

static void put_query(Conn *conn, const char *sql)
{
    uint32_t len = htonl((uint32_t)strlen(sql) + 5);
    conn->out[conn->out_len++] = 'Q';
    memcpy(conn->out + conn->out_len, &len, 4);
    memcpy(conn->out + conn->out_len + 4, sql, strlen(sql) + 1);
    conn->out_len += strlen(sql) + 5;
}

static void read_row(Asked *asked, const char *body)
{
    char text[24];
    long long cells[2] = {-1, -1};
    const char *at = body + 2;
    for (int i = 0; i < 2; i++) {
        int len = (int)u32(at);
        if (len < 0 || len >= (int)sizeof text)
            break;
        memcpy(text, at + 4, (size_t)len);
        text[len] = 0;
        cells[i] = atoll(text);
        at += 4 + len;
    }
    asked->rows++;
    asked->got_key = (int)cells[0];
    asked->got = (uint64_t)cells[1];
}

static void read_error(Asked *asked, const char *body, uint32_t len)
{
    for (const char *at = body; at < body + len && *at; at += strlen(at) + 1)
        if (*at == 'C')
            snprintf(asked->state, sizeof asked->state, "%.5s", at + 1);
}

static void take_message(Conn *conn, char type, const char *body, uint32_t len)
{
    Asked *asked = &conn->asked[conn->head];
    if (!conn->count) {
        if (type == 'E') {
            fprintf(stderr, "promise_load: unasked error: %.*s\n", (int)len, body);
            exit(2);
        }
        return;
    }
    if (type == 'D')
        read_row(asked, body);
    else if (type == 'E')
        read_error(asked, body, len);
    else if (type == 'Z') {
        judge(conn, asked);
        conn->head = (conn->head + 1) % PIPELINE_MAX;
        conn->count--;
    }
}

static void take_bytes(Conn *conn)
{
    size_t at = 0;
    while (conn->in_len - at >= 5) {
        uint32_t len = u32(conn->in + at + 1);
        if (conn->in_len - at < len + 1)
            break;
        take_message(conn, conn->in[at], conn->in + at + 5, len - 4);
        at += len + 1;
    }
    memmove(conn->in, conn->in + at, conn->in_len - at);
    conn->in_len -= at;
}

static void flush(Conn *conn)
{
    while (conn->out_len) {
        ssize_t n = send(conn->fd, conn->out, conn->out_len, MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0)
            die("send");
        memmove(conn->out, conn->out + n, conn->out_len - (size_t)n);
        conn->out_len -= (size_t)n;
    }
}

static void on_readable(Conn *conn)
{
    ssize_t n = recv(conn->fd, conn->in + conn->in_len, sizeof conn->in - conn->in_len, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0)
        die("Shoal closed a connection");
    conn->in_len += (size_t)n;
    take_bytes(conn);
}

/* ---- what each of them does ---------------------------------------------------------------------- */

static Asked *ask(Conn *conn, int key)
{
    Asked *asked = &conn->asked[(conn->head + conn->count++) % PIPELINE_MAX];
    memset(asked, 0, sizeof *asked);
    asked->key = key;
    asked->sent_us = now_us();
    return asked;
}

static void ask_read(Conn *conn, int key)
{
    char sql[100];
    ask(conn, key)->least = key == conn->own ? keys[key].acked : conn->seen[key];
    snprintf(sql, sizeof sql, "SELECT id, n FROM versions WHERE id = %d", key);
    put_query(conn, sql);
}

static void ask_write(Conn *conn, int key)
{
    char sql[100];
    Asked *asked = ask(conn, key);
    asked->write = true;
    asked->version = ++keys[key].asked;
    snprintf(sql, sizeof sql, "UPDATE versions SET n = %llu WHERE id = %d", (unsigned long long)asked->version, key);
    put_query(conn, sql);
}

/* Writes its own row and reads it back at once; then waits until replicas may come into play, and reads a lot. */
static void go_session(Conn *conn)
{
    unsigned step = conn->turn++ % 44;
    if (step == 0) {
        ask_write(conn, conn->own);
        return;
    }
    ask_read(conn, conn->own);
    ask_read(conn, (int)(conn->turn * 7 % (unsigned)options.keys));
    if (step == 4)
        conn->next_us = now_us() + 250000;
}

static void go_on(Conn *conn, uint64_t now)
{
    if (conn->next_us > now)
        return;
    switch (conn->role) {
    case WRITER:
        if (!conn->count) { /* each writer has its own keys */
            int key = conn->own + (int)(conn->turn++ * (unsigned)options.writers) % options.keys;
            ask_write(conn, key % options.keys);
            conn->next_us = now + 2000;
        }
        break;
    case SESSION:
        if (!conn->count)
            go_session(conn);
        break;
    default:
        while (conn->count < options.pipeline)
            ask_read(conn, (int)(conn->turn++ * 7 % (unsigned)options.keys));
    }
    flush(conn);
}

/* ---- life ------------------------------------------------------------------------------------------ */

static void say(Conn *conn, const char *sql)
{
    ask(conn, 0)->write = true;
    put_query(conn, sql);
    flush(conn);
    while (conn->count) {
        ssize_t n = recv(conn->fd, conn->in + conn->in_len, sizeof conn->in - conn->in_len, 0);
        if (n <= 0)
            die(sql);
        conn->in_len += (size_t)n;
        size_t at = 0;
        while (conn->in_len - at >= 5 && conn->in_len - at >= u32(conn->in + at + 1) + 1) {
            if (conn->in[at] == 'E')
                die(sql);
            if (conn->in[at] == 'Z')
                conn->count = 0;
            at += u32(conn->in + at + 1) + 1;
        }
        memmove(conn->in, conn->in + at, conn->in_len - at);
        conn->in_len -= at;
    }
    conn->head = 0;
}

static void log_in(Conn *conn)
{
    static const char PAIRS[] = "user\0app\0database\0app\0";
    char message[8 + sizeof PAIRS];
    uint32_t len = htonl(sizeof message), version = htonl(196608);
    memcpy(message, &len, 4);
    memcpy(message + 4, &version, 4);
    memcpy(message + 8, PAIRS, sizeof PAIRS);
    if (send(conn->fd, message, sizeof message, MSG_NOSIGNAL) != (ssize_t)sizeof message)
        die("login");
    for (bool ready = false; !ready;) {
        ssize_t n = recv(conn->fd, conn->in + conn->in_len, sizeof conn->in - conn->in_len, 0);
        if (n <= 0)
            die("login");
        conn->in_len += (size_t)n;
        size_t at = 0;
        while (conn->in_len - at >= 5 && conn->in_len - at >= u32(conn->in + at + 1) + 1) {
            ready |= conn->in[at] == 'Z';
            at += u32(conn->in + at + 1) + 1;
        }
        memmove(conn->in, conn->in + at, conn->in_len - at);
        conn->in_len -= at;
    }
}

static void conn_open(Role role, int own, int epoll)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    Conn *conn = calloc(1, sizeof *conn);
    int one = 1;
    char sql[100];
    if (!conn || conn_count == CONNS_MAX)
        die("too many connections");
    conn->role = role;
    conn->own = own;
    conn->turn = (unsigned)conn_count;
    conn->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (conn->fd < 0 || connect(conn->fd, (struct sockaddr *)&address, sizeof address) != 0)
        die("connect");
    setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    log_in(conn);
    if (role != WRITER) {
        snprintf(sql, sizeof sql, "SET shoal.read_consistency = '%s'", ROLE_NAMES[role]);
        say(conn, sql);
        snprintf(sql, sizeof sql, "SET shoal.max_lag = '%dms'", options.max_lag_ms);
        say(conn, sql);
    }
    fcntl(conn->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = conn};
    epoll_ctl(epoll, EPOLL_CTL_ADD, conn->fd, &event);
    conns[conn_count++] = conn;
}

static void on_signal(int number)
{
    if (number == SIGUSR1)
        mark = 1;
    else
        stop = 1;
}

static void report(void)
{
    printf("{\"bounded\": %llu, \"session\": %llu, \"eventual\": %llu, \"writes\": %llu, \"session_writes\": %llu, "
           "\"violations\": %llu, \"errors\": {",
           (unsigned long long)answered[BOUNDED], (unsigned long long)answered[SESSION],
           (unsigned long long)answered[EVENTUAL], (unsigned long long)writes, (unsigned long long)session_writes,
           (unsigned long long)violations);
    for (int i = 0; i < 32 && error_count[i]; i++)
        printf("%s\"%s\": %llu", i ? ", " : "", error_state[i], (unsigned long long)error_count[i]);
    printf("}, \"shown\": [");
    for (int i = 0; i < shown; i++)
        printf("%s\"%s\"", i ? ", " : "", violation[i]);
    printf("]}\n");
}

static void run(int epoll)
{
    bool told = false, marked = false;
    struct epoll_event events[CONNS_MAX];
    while (!stop) {
        int n = epoll_wait(epoll, events, CONNS_MAX, 1);
        for (int i = 0; i < n; i++)
            on_readable(events[i].data.ptr);
        uint64_t now = now_us();
        for (int i = 0; i < conn_count; i++)
            go_on(conns[i], now);
        if (mark && !marked) {
            marked = true;
            counted_from = answered[BOUNDED];
        }
        if (marked && !told && answered[BOUNDED] - counted_from >= options.reads) {
            told = true;
            puts("done");
            fflush(stdout);
        }
    }
}

static void read_options(int argc, char **argv)
{
    static const struct option LONG[] = {
        {"port", 1, NULL, 'p'},    {"reads", 1, NULL, 'r'},    {"bounded", 1, NULL, 'b'},  {"session", 1, NULL, 's'},
        {"eventual", 1, NULL, 'e'}, {"writers", 1, NULL, 'w'}, {"pipeline", 1, NULL, 'i'}, {"keys", 1, NULL, 'k'},
        {"max-lag-ms", 1, NULL, 'l'}, {NULL, 0, NULL, 0}};
    for (int c; (c = getopt_long(argc, argv, "", LONG, NULL)) != -1;) {
        int value = optarg ? atoi(optarg) : 0;
        switch (c) {
        case 'p': options.port = value; break;
        case 'r': options.reads = (uint64_t)value; break;
        case 'b': options.bounded = value; break;
        case 's': options.session = value; break;
        case 'e': options.eventual = value; break;
        case 'w': options.writers = value; break;
        case 'i': options.pipeline = value; break;
        case 'k': options.keys = value; break;
        case 'l': options.max_lag_ms = value; break;
        default: exit(2);
        }
    }
    if (!options.port || options.keys + options.session >= KEYS_MAX || options.pipeline >= PIPELINE_MAX ||
        options.writers > options.keys || options.keys % options.writers) {
        fprintf(stderr, "promise_load: wrong options\n");
        exit(2);
    }
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    signal(SIGUSR1, on_signal);
    signal(SIGTERM, on_signal);
    int epoll = epoll_create1(0);
    for (int i = 0; i < options.writers; i++)
        conn_open(WRITER, i, epoll);
    for (int i = 0; i < options.bounded; i++)
        conn_open(BOUNDED, -1, epoll);
    for (int i = 0; i < options.session; i++)
        conn_open(SESSION, options.keys + i, epoll);
    for (int i = 0; i < options.eventual; i++)
        conn_open(EVENTUAL, -1, epoll);
    puts("ready");
    fflush(stdout);
    run(epoll);
    report();
    return violations ? 1 : 0;
}
