/*
 * listener.c - one listening socket per worker on the same port (SO_REUSEPORT): the kernel spreads
 * new connections, no thread hands anything to another.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/log.h"
#include "router/worker_state.h"

#define ACCEPTS_PER_TURN 64
#define BACKLOG          1024

static void peer_text(const struct sockaddr_storage *address, char *ret, size_t size)
{
    char host[INET6_ADDRSTRLEN] = "?";
    unsigned port = 0;
    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)address;
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
        port = ntohs(in->sin_port);
    } else if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)address;
        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
        port = ntohs(in6->sin6_port);
    }
    snprintf(ret, size, "%.39s:%u", host, port);
}

static void listener_on_accept(struct ev_loop *ev, ev_io *watcher, int events)
{
    Worker *worker = watcher->data;
    (void)ev;
    (void)events;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        struct sockaddr_storage address;
        socklen_t len = sizeof address;
        int fd = accept4(worker->listen_fd, (struct sockaddr *)&address, &len,
                         SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
                log_line(LOG_WARNING, worker->who, "accept: %s", strerror(errno));
            return;
        }
        char peer[48];
        peer_text(&address, peer, sizeof peer);
        counter_add(&worker->stats.connections, 1);
        session_create(worker, fd, peer);
    }
}

static bool fail(Error *err, const Config *config, const char *what)
{
    error_set(err, SQLSTATE_IO_ERROR, "cannot listen on %s:%d: %s: %s", config->listen, config->port,
              what, strerror(errno));
    if (errno == EADDRINUSE)
        error_hint(err, "Is another shoald running? Change \"port\" in [shoal].");
    return false;
}

static int open_socket(const struct addrinfo *info)
{
    int on = 1;
    int off = 0;
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (info->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0 &&
        bind(fd, info->ai_addr, info->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

/* "*" is every address of both families: one IPv6 socket takes IPv4 too, where there is IPv6. */
static int open_any(const struct addrinfo *infos)
{
    for (const struct addrinfo *info = infos; info; info = info->ai_next)
        if (info->ai_family == AF_INET6) {
            int fd = open_socket(info);
            if (fd >= 0)
                return fd;
        }
    return open_socket(infos);
}

bool listener_open(Worker *worker, Error *err)
{
    const Config *config = worker_config(worker);
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *infos;
    char port[8];
    const char *host = strcmp(config->listen, "*") == 0 ? NULL : config->listen;
    snprintf(port, sizeof port, "%d", config->port);
    int code = getaddrinfo(host, port, &hints, &infos);
    if (code) {
        error_set(err, SQLSTATE_IO_ERROR, "cannot listen on %s: %s", config->listen,
                  gai_strerror(code));
        return false;
    }
    worker->listen_fd = host ? open_socket(infos) : open_any(infos);
    freeaddrinfo(infos);
    if (worker->listen_fd < 0)
        return fail(err, config, "bind");
    ev_io_init(&worker->acceptor, listener_on_accept, worker->listen_fd, EV_READ);
    worker->acceptor.data = worker;
    ev_io_start(worker->loop.ev, &worker->acceptor);
    return true;
}

void listener_close(Worker *worker)
{
    if (worker->listen_fd < 0)
        return;
    ev_io_stop(worker->loop.ev, &worker->acceptor);
    close(worker->listen_fd);
    worker->listen_fd = -1;
}
