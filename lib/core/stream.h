/*
 * stream.h - a connected socket with bytes waiting in both directions, plain or TLS.
 *
 *     kernel -> in (Buf) -> owner consumes          owner appends -> out (Buf) -> flush -> kernel
 *
 * One read(2) per readiness, one write(2) per turn: `stream_flush_all` runs in the turn-end hook
 * of the worker. Nothing is freed in a callback; the owner closes at the end of the turn.
 * Back-pressure: while `out` is above `out_high` the owner is asked to stop producing
 * (stream_choked) and told with on_drained when it fell below half of it. While paused nothing is
 * read, so that the peer is slowed by TCP itself.
 * Owner: one loop. `ssl` may be borrowed (a libpq connection's) or owned (a client's).
 */
#ifndef SHOAL_CORE_STREAM_H
#define SHOAL_CORE_STREAM_H

#include <openssl/ssl.h>

#include "core/buf.h"
#include "core/error.h"
#include "core/loop.h"

typedef struct Stream Stream;

typedef struct StreamEvents {
    /* New bytes are in `in`. The owner consumes what it can; what it leaves stays and is offered
     * again with the bytes that follow. Pointers into `in` are valid until on_bytes returns: the
     * bytes lie in the loop's scratch memory, and what is left over is moved (see stream.c). */
    void (*on_bytes)(Stream *stream);
    /* `out` fell below out_high / 2 after having been above out_high. May be NULL. */
    void (*on_drained)(Stream *stream);
    /* The peer closed (err NULL), or reading/writing failed. Called once; `in` may still hold
     * bytes that came before. The stream reads and writes no more; the owner closes it later. */
    void (*on_gone)(Stream *stream, const Error *err);
} StreamEvents;

typedef enum StreamState {
    STREAM_CLOSED,    /* no descriptor; before open and after close */
    STREAM_HANDSHAKE, /* TLS handshake going on; `in`/`out` carry nothing yet */
    STREAM_OPEN,
    STREAM_GONE /* on_gone was called; waits for stream_close */
} StreamState;

struct Stream {
    StreamState state;
    int fd;
    SSL *ssl;
    bool ssl_owned;
    bool fd_owned;
    bool paused;       /* the owner wants no bytes now */
    bool held;         /* the owner wants nothing written now: `out` grows, up to its limit */
    bool choked;       /* out passed out_high and has not yet fallen below half of it */
    int sent;           /* what a write by the loop's SendRing came to; SEND_NOT_TRIED but inside the flush */
    bool write_blocked; /* the kernel (or TLS) took less than we had; the write watcher is on */
    bool ssl_wants_write; /* TLS needs to write before it can read */
    bool calling;    /* inside on_bytes: a close leaves `in` alone until it returns */
    int write_errno; /* writing failed; what the peer said before is still read, then on_gone */
    Buf in, out;
    size_t out_high; /* bytes */
    size_t read_size; /* bytes asked per read; STREAM_READ_SIZE unless the owner changes it */
    Loop *loop;
    ev_io reader, writer;
    List dirty_link; /* in loop->dirty while out has bytes to flush */
    const StreamEvents *events;
    void *ctx;
    uint64_t bytes_in, bytes_out;
};

#define STREAM_READ_SIZE ((size_t)32 * 1024)

typedef struct StreamLimits {
    size_t in_max;   /* bytes that may wait unread by the owner; when full, the stream pauses */
    size_t out_max;  /* bytes; above it the peer is gone with 54000 */
    size_t out_high; /* bytes; above it the stream is choked */
} StreamLimits;

/* Makes it inert (CLOSED). */
void stream_init(Stream *stream, Loop *loop, const StreamEvents *events, void *ctx,
                 StreamLimits limits);
/* Starts watching a connected, non-blocking socket. With fd_owned, stream_close closes it. */
void stream_open(Stream *stream, int fd, bool fd_owned);
/* Speaks TLS from now on with an established SSL object (borrowed, libpq's). */
void stream_adopt_tls(Stream *stream, SSL *ssl);
/* Server side handshake on an open stream; fails when `in` is not empty (H83). What waits in `out`
 * (the 'S') is sent in the clear first. on_bytes or on_gone follow. Records are capped at 8 KiB
 * (H13). */
bool stream_accept_tls(Stream *stream, SSL_CTX *ctx, Error *err) MUST_USE;
/* Safe in every callback and twice. What `out` still holds is dropped. */
void stream_close(Stream *stream);

/* Bytes were appended to `out`: flush at the end of the turn. */
void stream_touch(Stream *stream);
/* Convenience: append and touch. False when out_max is passed; on_gone follows at the turn's end. */
bool stream_write(Stream *stream, Slice bytes);
/* Writes all dirty streams of this loop once. To be called from a turn-end hook. */
void stream_flush_all(Loop *loop);

void stream_pause(Stream *stream);
/* Reads again; bytes left in `in` are offered again by on_bytes in this or the next turn. */
void stream_resume(Stream *stream);
static inline bool stream_choked(const Stream *stream) { return stream->choked; }

/* Socket options of every connection: TCP_NODELAY, keepalive, TCP_USER_TIMEOUT (H34). */
void socket_tune(int fd, unsigned user_timeout_ms);

#endif
