/* child.c - posix_spawn, a pipe for its complaints, and a thread that reads them until the end. */
#include "admin/child.h"

#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* Ours with the additions before it: getenv finds the first. NULL when memory is out. */
static char **environment(char *const *more)
{
    size_t own = 0, added = 0, at = 0;
    while (environ[own])
        own++;
    while (more && more[added])
        added++;
    char **env = calloc(own + added + 1, sizeof *env);
    for (size_t i = 0; env && i < added; i++)
        env[at++] = more[i];
    for (size_t i = 0; env && i < own; i++)
        env[at++] = environ[i];
    return env;
}

/* Keeps the end: what a tool says last is why it stopped. */
static void keep(Child *child, const char *bytes, size_t len)
{
    size_t room = sizeof child->output - 1, have = strlen(child->output);
    if (len > room) {
        bytes += len - room;
        len = room;
    }
    if (have + len > room) {
        size_t drop = have + len - room;
        memmove(child->output, child->output + drop, have - drop);
        have -= drop;
    }
    memcpy(child->output + have, bytes, len);
    child->output[have + len] = '\0';
    for (char *c = child->output; *c; c++)
        *c = (unsigned char)*c < ' ' ? ' ' : *c;
}

static int run(Child *child)
{
    int pipes[2], status = -1;
    pid_t pid;
    char **env = environment(child->env);
    posix_spawn_file_actions_t actions;
    if (!env || pipe2(pipes, O_CLOEXEC) != 0) {
        free(env);
        return -1;
    }
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, pipes[1], 2);
    int failed = posix_spawnp(&pid, child->argv[0], &actions, NULL, child->argv, env);
    posix_spawn_file_actions_destroy(&actions);
    close(pipes[1]);
    free(env);
    char bytes[512];
    ssize_t n;
    while (!failed && (n = read(pipes[0], bytes, sizeof bytes)) > 0)
        keep(child, bytes, (size_t)n);
    close(pipes[0]);
    if (failed || waitpid(pid, &status, 0) != pid)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void on_delivery(Mail *mail, void *owner)
{
    Child *child = container_of(mail, Child, mail);
    (void)owner;
    child->on_end(child);
}

static void *child_main(void *arg)
{
    Child *child = arg;
    child->status = run(child);
    child->mail.on_delivery = on_delivery;
    inbox_send(child->reply, &child->mail);
    return NULL;
}

bool child_run(Child *child)
{
    pthread_t thread;
    child->output[0] = '\0';
    if (pthread_create(&thread, NULL, child_main, child) != 0)
        return false;
    pthread_detach(thread);
    return true;
}
