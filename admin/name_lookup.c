/*
 * name_lookup.c - why this file exists: a Patroni is configured by name in most places, and a resolver that does not
 * answer must not keep the control thread from noticing a failover.
 */
#include "admin/name_lookup.h"

#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Atomic int lookups_running;

struct NameLookup {
    _Atomic int owners; /* who asked, and the thread */
    _Atomic bool done;  /* `found` is there */
    NameAddresses found;
    char port[12];
    char host[];
};

static void addresses_take(NameAddresses *addresses, const struct addrinfo *infos)
{
    for (const struct addrinfo *info = infos; info && addresses->count < NAME_ADDRESSES_MAX; info = info->ai_next) {
        NameAddress *address = &addresses->list[addresses->count];
        if (info->ai_addrlen > sizeof address->address)
            continue;
        memcpy(&address->address, info->ai_addr, info->ai_addrlen);
        address->len = info->ai_addrlen;
        addresses->count++;
    }
}

static void addresses_find(const char *host, const char *port, int flags, NameAddresses *ret)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV};
    struct addrinfo *infos = NULL;
    *ret = (NameAddresses){0};
    if (getaddrinfo(host, port, &hints, &infos) != 0)
        return;
    addresses_take(ret, infos);
    freeaddrinfo(infos);
}

bool name_is_address(const char *host, int port, NameAddress *ret)
{
    NameAddresses found;
    char text[12];
    snprintf(text, sizeof text, "%d", port);
    addresses_find(host, text, AI_NUMERICHOST, &found); /* asks nobody */
    if (found.count)
        *ret = found.list[0];
    return found.count > 0;
}

static void *lookup_run(void *arg)
{
    NameLookup *lookup = arg;
    addresses_find(lookup->host, lookup->port, 0, &lookup->found);
    atomic_store_explicit(&lookup->done, true, memory_order_release); /* pairs with the load in name_lookup_done */
    name_lookup_drop(lookup);
    atomic_fetch_sub(&lookups_running, 1);
    return NULL;
}

/* Signals are for those who wait for them. */
static bool thread_start(NameLookup *lookup)
{
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all, before;
    if (pthread_attr_init(&attr) != 0)
        return false;
    sigfillset(&all);
    bool ok = pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED) == 0 &&
              pthread_sigmask(SIG_SETMASK, &all, &before) == 0;
    if (ok) {
        ok = pthread_create(&thread, &attr, lookup_run, lookup) == 0;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    pthread_attr_destroy(&attr);
    return ok;
}

NameLookup *name_lookup_start(const char *host, int port)
{
    size_t size = strlen(host) + 1;
    NameLookup *lookup = calloc(1, sizeof *lookup + size);
    if (!lookup)
        return NULL;
    memcpy(lookup->host, host, size);
    snprintf(lookup->port, sizeof lookup->port, "%d", port);
    atomic_store(&lookup->owners, 2);
    if (atomic_fetch_add(&lookups_running, 1) < NAME_LOOKUPS_MAX && thread_start(lookup))
        return lookup;
    atomic_fetch_sub(&lookups_running, 1);
    free(lookup);
    return NULL;
}

bool name_lookup_done(const NameLookup *lookup, NameAddresses *ret)
{
    if (!atomic_load_explicit(&lookup->done, memory_order_acquire))
        return false;
    *ret = lookup->found;
    return true;
}

void name_lookup_drop(NameLookup *lookup)
{
    if (lookup && atomic_fetch_sub(&lookup->owners, 1) == 1)
        free(lookup);
}
