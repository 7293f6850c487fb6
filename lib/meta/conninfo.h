/*
 * conninfo.h - one server's line, `host=10.0.0.5 port=5433 sslmode=require` (internal to meta).
 *
 * libpq itself parses it again when it connects; here it is checked at load time, so that a typo is
 * an error of the file and not of the first client, and so that the same server is not named twice.
 */
#ifndef SHOAL_META_CONNINFO_H
#define SHOAL_META_CONNINFO_H

#include "core/arena.h"
#include "core/error.h"

typedef struct Conninfo {
    const char *host; /* host, or hostaddr when there is no host */
    int port;         /* 5432 when not written */
    uint32_t weight;  /* Shoal's own: share of reads; 1 when not written */
    const char *zone; /* Shoal's own; NULL when not written */
    const char *patroni_host; /* Shoal's own: a name or an address without brackets; NULL when not written */
    int patroni_port;
    const char *text; /* what libpq is given: as written, without Shoal's own */
} Conninfo;

/* On failure the reason is in err's message (without path and line) and maybe a hint. */
bool conninfo_read(const char *text, Arena *arena, Conninfo *ret_conninfo, Error *err) MUST_USE;

#endif
