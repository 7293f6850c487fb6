/*
 * name_lookup.h - the addresses of a host name, found without keeping the loop waiting.
 *
 *     name_lookup_start ──> a thread of its own: getaddrinfo, which may take half a minute
 *     name_lookup_done  <── each time the owner looks: is it over?
 *
 * Owner: the control thread. Whoever loses interest drops it; the thread ends by itself and frees what is left.
 */
#ifndef SHOAL_ADMIN_NAME_LOOKUP_H
#define SHOAL_ADMIN_NAME_LOOKUP_H

#include <sys/socket.h>

#include "core/base.h"

#define NAME_ADDRESSES_MAX 4
#define NAME_LOOKUPS_MAX   64

typedef struct NameAddress {
    struct sockaddr_storage address; /* with its port */
    socklen_t len;
} NameAddress;

typedef struct NameAddresses {
    NameAddress list[NAME_ADDRESSES_MAX]; /* as the resolver prefers them */
    uint32_t count; /* 0: nobody has that name, or nobody could be asked */
} NameAddresses;

typedef struct NameLookup NameLookup;

/* A literal IPv4 or IPv6 address needs no lookup. False: it is a name. */
bool name_is_address(const char *host, int port, NameAddress *ret);
/* NULL: no memory, no thread, or NAME_LOOKUPS_MAX are under way (of those that were dropped, too). */
NameLookup *name_lookup_start(const char *host, int port) MUST_USE;
/* False: not yet. */
bool name_lookup_done(const NameLookup *lookup, NameAddresses *ret) MUST_USE;
/* NULL is fine. */
void name_lookup_drop(NameLookup *lookup);

#endif
