/*
 * startup.h - the first message of a connection: SSL or GSS request, cancel, or startup proper.
 *
 *     length(4) code(4) body        at most 10,004 bytes; nothing is allocated by a declared length
 *
 * Every answer that PostgreSQL gives to a malformed one is kept, with FATAL to be used as severity;
 * stricter where a second reading would be possible: `user`, `database`, `options` or
 * `replication` given twice, and names longer than an identifier, are refused, never cut.
 */
#ifndef SHOAL_WIRE_STARTUP_H
#define SHOAL_WIRE_STARTUP_H

#include "core/arena.h"
#include "core/buf.h"
#include "wire/frame.h"

typedef enum StartupKind {
    STARTUP_SSL_REQUEST, /* answer one byte 'S' or 'N' */
    STARTUP_GSS_REQUEST, /* answer one byte 'N' */
    STARTUP_CANCEL,      /* no answer, ever: close */
    STARTUP_CANCEL_BAD,  /* a cancel request of a wrong length: count it, close, no answer */
    STARTUP_MESSAGE,     /* log in */
    STARTUP_TLS_HELLO,   /* a TLS ClientHello without SSLRequest; `whole` is empty: not consumed */
    STARTUP_HTTP         /* somebody speaks HTTP to us; `whole` is empty: close */
} StartupKind;

typedef enum StartupReplication {
    STARTUP_REPLICATION_OFF,
    STARTUP_REPLICATION_PHYSICAL, /* replication=true */
    STARTUP_REPLICATION_DATABASE  /* replication=database */
} StartupReplication;

typedef struct StartupParam {
    Slice name,
        value; /* of startup_next: borrowed from `in`; of startup_options_parse: the arena */
} StartupParam;

typedef struct StartupPacket {
    StartupKind kind;
    Slice whole; /* bytes to consume; borrowed from `in`, as all Slices here */

    /* STARTUP_CANCEL */
    uint32_t cancel_pid, cancel_key;

    /* STARTUP_MESSAGE */
    uint16_t major, minor; /* major is 3; minor is what the client asked for */
    Slice user;            /* 1..63 bytes */
    Slice database; /* 1..63 bytes; the user when not given; empty for physical replication */
    Slice options;  /* command line options, see startup_options_parse; may be empty */
    StartupReplication replication;
    const StartupParam *params; /* all others, in order, duplicates kept (the last wins) */
    size_t param_count;
    const StartupParam *extensions; /* names with `_pq_.`, none of which we know */
    size_t extension_count;
} StartupPacket;

/* Reads the first message at the head of `in`; the lists are allocated from the arena. */
WireResult startup_next(Slice in, StartupPacket *ret, Arena *arena, Error *err) MUST_USE;

/* The recognisers that startup_next uses; four bytes are enough. */
bool startup_looks_like_http(Slice in);
bool startup_looks_like_tls(Slice in);

/* Last value of an ordinary parameter; false when it was not given. */
bool startup_param(const StartupPacket *packet, Slice name, Slice *ret);

/* True when NegotiateProtocolVersion must be sent (once, before the authentication request). */
static inline bool startup_must_negotiate(const StartupPacket *packet)
{
    return packet->minor > 0 || packet->extension_count > 0;
}
/* 'v': we speak 3.0 and know none of the client's extensions. */
void startup_put_negotiate(Buf *buf, const StartupPacket *packet);

/* Splits the text of `options` as PostgreSQL does (spaces separate, backslash escapes) into
 * settings: `-c name=value`, `-cname=value`, `--name=value`; dashes in a name become underscores.
 * Other switches are refused with 0A000. */
bool startup_options_parse(Slice options, Arena *arena, StartupParam **ret, size_t *ret_count,
                           Error *err) MUST_USE;
/* The opposite: appends ` -c name=value` with what needs it escaped, for a server's `options`. */
void startup_options_put(Buf *buf, Slice name, Slice value);

#endif
