/* port.c - binds the port once without SO_REUSEPORT, which fails while anybody listens on it. */
#include "bin/port.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

static int bind_once(const struct addrinfo *info)
{
    int on = 1; /* connections of an earlier run that still wind up do not matter */
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    int code = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
                       bind(fd, info->ai_addr, info->ai_addrlen) == 0
                   ? 0
                   : errno;
    close(fd);
    return code;
}

bool port_check(const Config *config, Error *err)
{
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *infos;
    char port[8];
    const char *host = strcmp(config->listen, "*") == 0 ? NULL : config->listen;
    snprintf(port, sizeof port, "%d", config->port);
    int code = getaddrinfo(host, port, &hints, &infos);
    if (code) {
        error_set(err, SQLSTATE_CONFIG_FILE, "cannot listen on %s: %s", config->listen,
                  gai_strerror(code));
        return false;
    }
    code = bind_once(infos);
    freeaddrinfo(infos);
    if (code == 0)
        return true;
    error_set(err, SQLSTATE_CANNOT_CONNECT, "cannot listen on %s:%d: %s", config->listen,
              config->port, strerror(code));
    if (code == EADDRINUSE)
        error_hint(err, "Is another shoald running? Change \"port\" in [shoal].");
    return false;
}
