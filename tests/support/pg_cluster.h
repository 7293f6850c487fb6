/*
 * pg_cluster.h - a PostgreSQL of a test's own: made in a temporary directory, gone with the test,
 * even when the test is killed.
 *
 * Runs as user postgres (or nobody) when the test runs as root, listens on 127.0.0.1 and on a unix
 * socket in its directory, on a port that was free. Trust for everybody. The postmaster is a child
 * of the test and is spoken to by its pid.
 */
#ifndef SHOAL_SUPPORT_PG_CLUSTER_H
#define SHOAL_SUPPORT_PG_CLUSTER_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define PG_BIN "/usr/lib/postgresql/15/bin"

typedef struct PgCluster {
    char dir[64];
    int port;
    pid_t pid; /* of the postmaster, our child; 0 while it is down */
} PgCluster;

/* PostgreSQL refuses to run as root. */
static inline bool pg_drop_root(void)
{
    if (geteuid() != 0)
        return true;
    struct passwd *user = getpwnam("postgres");
    if (!user)
        user = getpwnam("nobody");
    return user && setgroups(0, NULL) == 0 && setgid(user->pw_gid) == 0 &&
           setuid(user->pw_uid) == 0 && chdir("/") == 0;
}

/* A shell command as the unprivileged user. True when it exits with 0. */
static inline bool pg_run(const char *fmt, ...)
{
    char command[2048];
    va_list args;
    va_start(args, fmt);
    vsnprintf(command, sizeof(command), fmt, args);
    va_end(args);
    pid_t pid = fork();
    if (pid == 0) {
        if (!pg_drop_root())
            _exit(126);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    int status = 0;
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
           WEXITSTATUS(status) == 0;
}

/* A port that nobody listens on now. */
static inline int pg_free_port(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int port = 0;
    if (fd >= 0 && bind(fd, (struct sockaddr *)&address, len) == 0 &&
        getsockname(fd, (struct sockaddr *)&address, &len) == 0)
        port = ntohs(address.sin_port);
    close(fd);
    return port;
}

/* Starts the postmaster as our own child, which dies with us, and waits until it answers. */
static inline bool pg_cluster_up(PgCluster *pg)
{
    char data[80], log[80];
    snprintf(data, sizeof(data), "%s/data", pg->dir);
    snprintf(log, sizeof(log), "%s/log", pg->dir);
    pid_t parent = getpid();
    pg->pid = fork();
    if (pg->pid == 0) {
        int fd = pg_drop_root() ? open(log, O_CREAT | O_APPEND | O_WRONLY, 0600) : -1;
        if (fd < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0 || prctl(PR_SET_PDEATHSIG, SIGQUIT) != 0 ||
            getppid() != parent)
            _exit(126);
        execl(PG_BIN "/postgres", "postgres", "-D", data, (char *)NULL);
        _exit(127);
    }
    for (int i = 0; pg->pid > 0 && i < 600; i++) {
        if (pg_run("exec " PG_BIN "/pg_isready -q -h %s -p %d", pg->dir, pg->port))
            return true;
        if (waitpid(pg->pid, NULL, WNOHANG) == pg->pid)
            break;
        usleep(50000);
    }
    return false;
}

/* mode: smart, fast or immediate (as a crash). */
static inline bool pg_cluster_down(PgCluster *pg, const char *mode)
{
    int number = strcmp(mode, "smart") == 0  ? SIGTERM
                 : strcmp(mode, "fast") == 0 ? SIGINT
                                             : SIGQUIT;
    bool ok = pg->pid > 0 && kill(pg->pid, number) == 0 && waitpid(pg->pid, NULL, 0) == pg->pid;
    pg->pid = 0;
    return ok;
}

/* `settings`: lines for postgresql.conf. */
static inline bool pg_cluster_start(PgCluster *pg, const char *settings)
{
    strcpy(pg->dir, "/tmp/shoal-pg-XXXXXX");
    if (!mkdtemp(pg->dir))
        return false;
    if (geteuid() == 0) {
        struct passwd *user = getpwnam("postgres");
        if (!user)
            user = getpwnam("nobody");
        if (!user || chown(pg->dir, user->pw_uid, user->pw_gid) != 0)
            return false;
    }
    pg->port = pg_free_port();
    return pg_run(PG_BIN "/initdb -D %s/data -U postgres -A trust -E UTF8 --locale=C --no-sync "
                         ">%s/initdb.log 2>&1",
                  pg->dir, pg->dir) &&
           pg_run("printf \"port=%d\\nlisten_addresses='127.0.0.1'\\n"
                  "unix_socket_directories='%s'\\nfsync=off\\nmax_connections=40\\n%s\\n\" "
                  ">> %s/data/postgresql.conf",
                  pg->port, pg->dir, settings ? settings : "", pg->dir) &&
           pg_cluster_up(pg);
}

static inline void pg_cluster_finish(PgCluster *pg)
{
    if (!pg->dir[0])
        return;
    (void)pg_cluster_down(pg, "immediate");
    (void)pg_run("rm -rf %s/data", pg->dir);
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", pg->dir);
    if (system(command) != 0)
        fprintf(stderr, "could not remove %s\n", pg->dir);
    pg->dir[0] = '\0';
}

/* SQL by psql, for preparing and for looking from outside. */
static inline bool pg_sql(const PgCluster *pg, const char *sql)
{
    return pg_run("exec " PG_BIN
                  "/psql -X -q -h %s -p %d -U postgres -d postgres -v ON_ERROR_STOP=1 "
                  "-c \"%s\" >/dev/null",
                  pg->dir, pg->port, sql);
}

#endif
