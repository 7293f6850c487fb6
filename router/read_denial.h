/*
 * read_denial.h - what a client is told of a read that failed on a replica and was not tried again: the server's own
 * error, and beside it how often it was asked, and which setting allows more.
 */
#ifndef SHOAL_ROUTER_READ_DENIAL_H
#define SHOAL_ROUTER_READ_DENIAL_H

#include "core/buf.h"
#include "wire/frame.h"

typedef enum ReadDenialReason {
    READ_NOT_DENIED,
    READ_DENIED_BUDGET,    /* retry_max percent of reads have run again */
    READ_DENIED_NO_SERVER, /* all that may answer it were asked */
} ReadDenialReason;

typedef struct ReadDenial {
    ReadDenialReason reason;
    uint32_t asked;         /* servers that were asked, one after the other or together */
    const char *server;     /* the last one; borrowed */
    uint32_t retry_percent; /* retry_max */
} ReadDenial;

/* Adds DETAIL and HINT; what *err said before stays in front. Nothing for READ_NOT_DENIED. */
void read_denial_add(const ReadDenial *denial, Error *err);
/* The same for a server's ErrorResponse: *ret is put into `buf` and lives as long. False: *error is to be passed on as
 * it came. */
bool read_denial_put(const ReadDenial *denial, const Frame *error, Buf *buf, Frame *ret);

#endif
