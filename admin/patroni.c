/*
 * patroni.c - why this file exists: PostgreSQL says who could take writes, Patroni who may. A server that somebody
 * promoted by hand beside a living leader must not become the primary.
 */
#include "admin/patroni.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/clock.h"

#define TIMEOUT_MS   1000
#define COUNTS_US    ((uint64_t)4 * 1000 * 1000)
#define LOOK_SOON_US ((uint64_t)1000 * 1000)       /* a name that was not found, or whose addresses do not answer */
#define LOOK_US      ((uint64_t)30 * 1000 * 1000)

static const char QUESTION[] = "GET /primary HTTP/1.0\r\nConnection: close\r\n\r\n";

/* "HTTP/1.1 200 OK" */
bool patroni_read(Slice answer, PatroniWord *ret)
{
    static const char START[] = "HTTP/1.";
    size_t known = MIN(answer.len, sizeof START - 1);
    *ret = PATRONI_SILENT;
    if (memcmp(answer.data, START, known) != 0)
        return true; /* not HTTP: no more is needed to know that */
    if (answer.len < 12)
        return false;
    if (answer.data[8] != ' ')
        return true;
    Slice status = slice_of(answer.data + 9, 3);
    *ret = slice_is(status, "200") ? PATRONI_LEADER : slice_is(status, "503") ? PATRONI_FOLLOWER : PATRONI_SILENT;
    return true;
}

static void patroni_end(Patroni *patroni)
{
    if (patroni->fd < 0)
        return;
    ev_io_stop(patroni->loop->ev, &patroni->io);
    timer_stop(&patroni->timer);
    close(patroni->fd);
    patroni->fd = -1;
    if (patroni->word_us != patroni->asked_us)
        patroni->turn++; /* nothing came from there */
}

static void patroni_on_timeout(Timer *timer)
{
    patroni_end(timer->ctx);
}

static void watch(Patroni *patroni, int events)
{
    ev_io_stop(patroni->loop->ev, &patroni->io);
    ev_io_set(&patroni->io, patroni->fd, events);
    ev_io_start(patroni->loop->ev, &patroni->io);
}

static void send_question(Patroni *patroni)
{
    size_t len = sizeof QUESTION - 1;
    ssize_t n = send(patroni->fd, QUESTION + patroni->sent, len - patroni->sent, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        patroni_end(patroni);
        return;
    }
    patroni->sent += n > 0 ? (size_t)n : 0;
    if (patroni->sent == len)
        watch(patroni, EV_READ);
}

static void receive_answer(Patroni *patroni)
{
    bool known = patroni->word_us == patroni->asked_us;
    char rest[4096]; /* what follows is read and forgotten: Patroni logs connections that are reset */
    char *to = known ? rest : patroni->answer + patroni->answer_len;
    ssize_t n = recv(patroni->fd, to, known ? sizeof rest : sizeof patroni->answer - patroni->answer_len, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        patroni_end(patroni);
        return;
    }
    PatroniWord word;
    patroni->answer_len += known ? 0 : (size_t)n;
    if (!known && patroni_read(slice_of(patroni->answer, patroni->answer_len), &word)) {
        patroni->word = word;
        patroni->word_us = patroni->asked_us;
    }
}

static void patroni_on_io(struct ev_loop *ev, ev_io *io, int revents)
{
    (void)ev;
    Patroni *patroni = io->data;
    if (revents & EV_WRITE)
        send_question(patroni);
    else
        receive_answer(patroni);
}

void patroni_init(Patroni *patroni, Loop *loop, const char *host, int port)
{
    *patroni = (Patroni){.loop = loop, .host = host, .port = port, .fd = -1};
    timer_init(&patroni->timer, loop, patroni_on_timeout, patroni);
    ev_init(&patroni->io, patroni_on_io);
    patroni->io.data = patroni;
    patroni->literal = host && name_is_address(host, port, &patroni->known.list[0]);
    patroni->known.count = patroni->literal;
}

void patroni_finish(Patroni *patroni)
{
    patroni_end(patroni);
    name_lookup_drop(patroni->lookup);
    patroni->lookup = NULL;
}

/* What a lookup has brought, and another one if it is time. */
static void patroni_look(Patroni *patroni, uint64_t now_us)
{
    NameAddresses found;
    if (patroni->literal)
        return;
    if (patroni->lookup && name_lookup_done(patroni->lookup, &found)) {
        if (found.count)
            patroni->known = found;
        name_lookup_drop(patroni->lookup);
        patroni->lookup = NULL;
    }
    bool answers = patroni->known.count && patroni_word(patroni, now_us) != PATRONI_SILENT;
    if (patroni->lookup || (patroni->looked_us && now_us - patroni->looked_us < (answers ? LOOK_US : LOOK_SOON_US)))
        return;
    patroni->looked_us = now_us;
    patroni->lookup = name_lookup_start(patroni->host, patroni->port);
}

void patroni_ask(Patroni *patroni)
{
    if (!patroni->host)
        return;
    uint64_t now_us = clock_now_us();
    patroni_look(patroni, now_us);
    if (patroni->fd >= 0 || !patroni->known.count)
        return;
    const NameAddress *to = &patroni->known.list[patroni->turn % patroni->known.count];
    patroni->fd = socket(to->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (patroni->fd < 0) {
        patroni->turn++; /* a machine without IPv6 */
        return;
    }
    patroni->answer_len = patroni->sent = 0;
    patroni->asked_us = now_us;
    if (connect(patroni->fd, (const struct sockaddr *)&to->address, to->len) != 0 && errno != EINPROGRESS) {
        close(patroni->fd);
        patroni->fd = -1;
        patroni->turn++;
        return;
    }
    timer_start_ms(&patroni->timer, TIMEOUT_MS);
    watch(patroni, EV_WRITE);
}

PatroniWord patroni_word(const Patroni *patroni, uint64_t now_us)
{
    return patroni->word_us && now_us - patroni->word_us < COUNTS_US ? patroni->word : PATRONI_SILENT;
}
