/* http_listen.c - the listening socket of http.c: as the address says, with errno in the message. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "admin/http_state.h"

#define BACKLOG 64

static int open_one(const struct addrinfo *info)
{
    int on = 1, off = 0;
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (info->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, info->ai_addr, info->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

int http_listen(const Config *config, Error *err)
{
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *infos;
    bool any = strcmp(config->http_listen, "*") == 0;
    char port[8];
    snprintf(port, sizeof port, "%d", config->http_port);
    int code = getaddrinfo(any ? NULL : config->http_listen, port, &hints, &infos);
    if (code) {
        error_set(err, SQLSTATE_IO_ERROR, "cannot serve HTTP on %s: %s", config->http_listen,
                  gai_strerror(code));
        return -1;
    }
    int fd = -1;
    for (const struct addrinfo *i = infos; any && i && fd < 0; i = i->ai_next)
        if (i->ai_family == AF_INET6) /* takes IPv4 too */
            fd = open_one(i);
    if (fd < 0)
        fd = open_one(infos);
    if (fd < 0)
        error_set(err, SQLSTATE_IO_ERROR, "cannot serve HTTP on %s:%d: %s; it is tried again",
                  config->http_listen, config->http_port, strerror(errno));
    freeaddrinfo(infos);
    return fd;
}
