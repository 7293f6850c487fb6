/*
 * stream_io.h - the system calls below a Stream: plain or TLS, one answer for both. Private to
 * stream.c.
 */
#ifndef SHOAL_CORE_STREAM_IO_H
#define SHOAL_CORE_STREAM_IO_H

#include "core/stream.h"

typedef enum IoResult {
    IO_OK,     /* bytes were moved, or the handshake is complete */
    IO_AGAIN,  /* not now: wait for readiness */
    IO_EOF,    /* the peer will send nothing more */
    IO_FAILED, /* the connection is of no more use; see *ret_errno */
} IoResult;

#define IO_ERRNO_TLS (-1) /* in place of an errno: the TLS library failed */

/* One read. With TLS: records until `size` is filled or the next record is not complete. */
IoResult stream_io_read(Stream *stream, uint8_t *bytes, size_t size, size_t *ret_n,
                        int *ret_errno) MUST_USE;
/* One write. With TLS: records until the socket takes no more, or a fair share is written. */
IoResult stream_io_write(Stream *stream, Slice bytes, size_t *ret_n, int *ret_errno) MUST_USE;
/* What a write came to that a SendRing did: bytes, or a negative errno. */
IoResult stream_io_sent(int sent, size_t *ret_n, int *ret_errno) MUST_USE;
/* One step of the server's TLS handshake. */
IoResult stream_io_handshake(Stream *stream, int *ret_errno) MUST_USE;
/* True when TLS holds bytes that no readiness will announce. */
bool stream_io_pending(const Stream *stream);

/* `doing`: "read from", "write to" ... Takes the TLS library's queued reason, if any. */
void stream_io_error(Error *err, const char *doing, int error_number);

#endif
