/*
 * null_server.c - the ceiling of a benchmark: what the load generator itself can do.
 *
 * Speaks just enough of protocol v3: whoever connects is let in, every statement is answered with one
 * canned row, at once. Simple and extended protocol; nothing is parsed, nothing is stored.
 *
 *     client bytes -> buffer -> one answer per message -> out, written once per read
 *
 * Usage: null_server PORT
 */
#include <arpa/inet.h>
#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER_BYTES (256 * 1024)
#define ANSWER_MAX 128 /* bytes of the longest canned answer */

#define SSL_REQUEST 80877103u
#define GSS_REQUEST 80877104u

#define BYTES(literal) (literal), sizeof(literal) - 1

#define READY "Z\0\0\0\5I"
#define ROW "D\0\0\0\13\0\1\0\0\0\1" "0"
#define COMPLETE "C\0\0\0\15SELECT 1\0"
/* abalance int4, as pgbench -S asks for it */
#define COLUMNS "T\0\0\0\41\0\1abalance\0\0\0\0\0\0\0\0\0\0\27\0\4\377\377\377\377\0\0"
#define WELCOME "R\0\0\0\10\0\0\0\0" "S\0\0\0\30server_version\00015.0\0" \
                "S\0\0\0\31client_encoding\0UTF8\0" "S\0\0\0\43standard_conforming_strings\0on\0" \
                "K\0\0\0\14\0\0\0\1\0\0\0\2" READY

typedef struct Client {
    ev_io reader;
    int fd;
    bool started; /* the startup packet has been seen */
    size_t in_len, out_len;
    char in[BUFFER_BYTES], out[BUFFER_BYTES];
} Client;

static void client_close(struct ev_loop *loop, Client *client)
{
    ev_io_stop(loop, &client->reader);
    close(client->fd);
    free(client);
}

static bool client_flush(Client *client)
{
    size_t at = 0;
    while (at < client->out_len) {
        ssize_t wrote = write(client->fd, client->out + at, client->out_len - at);
        if (wrote < 0 && (errno == EAGAIN || errno == EINTR))
            continue; /* a client of a benchmark reads what it asked for */
        if (wrote < 0)
            return false;
        at += (size_t)wrote;
    }
    client->out_len = 0;
    return true;
}

static void answer(Client *client, const char *bytes, size_t len)
{
    memcpy(client->out + client->out_len, bytes, len);
    client->out_len += len;
}

static void answer_message(Client *client, char type)
{
    switch (type) {
    case 'Q':
        answer(client, BYTES(COLUMNS ROW COMPLETE READY));
        break;
    case 'P':
        answer(client, BYTES("1\0\0\0\4"));
        break;
    case 'B':
        answer(client, BYTES("2\0\0\0\4"));
        break;
    case 'D':
        answer(client, BYTES(COLUMNS));
        break;
    case 'E':
        answer(client, BYTES(ROW COMPLETE));
        break;
    case 'C':
        answer(client, BYTES("3\0\0\0\4"));
        break;
    case 'S':
        answer(client, BYTES(READY));
        break;
    default:
        break;
    }
}

static uint32_t read_u32(const char *bytes)
{
    uint32_t value;
    memcpy(&value, bytes, sizeof value);
    return ntohl(value);
}

/* Bytes used of a message at `at`; 0: not whole yet. */
static size_t take_message(Client *client, size_t at)
{
    size_t left = client->in_len - at;
    size_t head = client->started ? 1 : 0;
    if (left < head + 4)
        return 0;
    size_t size = read_u32(client->in + at + head) + head;
    if (left < size || size < head + 4)
        return 0;
    if (client->started) {
        answer_message(client, client->in[at]);
        return size;
    }
    uint32_t code = size >= 8 ? read_u32(client->in + at + 4) : 0;
    if (code == SSL_REQUEST || code == GSS_REQUEST) {
        answer(client, "N", 1);
    } else {
        client->started = true;
        answer(client, BYTES(WELCOME));
    }
    return size;
}

static void client_on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
    Client *client = watcher->data;
    (void)events;
    ssize_t got = read(client->fd, client->in + client->in_len, sizeof client->in - client->in_len);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        client_close(loop, client);
        return;
    }
    client->in_len += (size_t)got;
    size_t at = 0, used;
    while ((used = take_message(client, at)) > 0) {
        at += used;
        if (client->out_len > sizeof client->out - 2 * ANSWER_MAX && !client_flush(client))
            break;
    }
    memmove(client->in, client->in + at, client->in_len - at);
    client->in_len -= at;
    if (!client_flush(client))
        client_close(loop, client);
}

static void listener_on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
    (void)events;
    int fd = accept(watcher->fd, NULL, NULL);
    if (fd < 0)
        return;
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    Client *client = calloc(1, sizeof *client);
    if (client == NULL) {
        close(fd);
        return;
    }
    client->fd = fd;
    ev_io_init(&client->reader, client_on_readable, fd, EV_READ);
    client->reader.data = client;
    ev_io_start(loop, &client->reader);
}

static int listen_on(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 1024) != 0) {
        perror("null_server: listen");
        exit(1);
    }
    return fd;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: null_server PORT\n");
        return 2;
    }
    struct ev_loop *loop = ev_default_loop(0);
    ev_io listener;
    ev_io_init(&listener, listener_on_readable, listen_on(atoi(argv[1])), EV_READ);
    ev_io_start(loop, &listener);
    ev_run(loop, 0);
    return 0;
}
