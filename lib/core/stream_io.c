/*
 * stream_io.c - read, write and handshake on a non-blocking socket.
 *
 * TLS may want the opposite direction: a read that must write first (key update) sets
 * ssl_wants_write, and stream.c turns the write watcher on. A write that must read first is tried
 * again whenever the socket was readable.
 */
#include "core/stream_io.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <sys/socket.h>

/* Bytes that one TLS stream may write per turn, so that a big result does not hold up the rest. */
#define TLS_WRITE_SHARE ((size_t)256 * 1024)

static IoResult plain_result(int error_number, int *ret_errno);
static IoResult tls_result(Stream *stream, int n, int *ret_errno);
static IoResult tls_read(Stream *stream, uint8_t *bytes, size_t size, size_t *ret_n,
                         int *ret_errno);
static IoResult tls_write(Stream *stream, Slice bytes, size_t *ret_n, int *ret_errno);

IoResult stream_io_read(Stream *stream, uint8_t *bytes, size_t size, size_t *ret_n, int *ret_errno)
{
    assert(size > 0);
    if (stream->ssl)
        return tls_read(stream, bytes, size, ret_n, ret_errno);
    ssize_t n;
    do
        n = recv(stream->fd, bytes, size, 0);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return plain_result(errno, ret_errno);
    *ret_n = (size_t)n;
    return n == 0 ? IO_EOF : IO_OK;
}

IoResult stream_io_write(Stream *stream, Slice bytes, size_t *ret_n, int *ret_errno)
{
    assert(bytes.len > 0);
    if (stream->ssl)
        return tls_write(stream, bytes, ret_n, ret_errno);
    ssize_t n;
    do
        n = send(stream->fd, bytes.data, bytes.len, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return plain_result(errno, ret_errno);
    *ret_n = (size_t)n;
    return IO_OK;
}

IoResult stream_io_sent(int sent, size_t *ret_n, int *ret_errno)
{
    if (sent == -EINTR)
        return IO_AGAIN;
    if (sent < 0)
        return plain_result(-sent, ret_errno);
    *ret_n = (size_t)sent;
    return IO_OK;
}

IoResult stream_io_handshake(Stream *stream, int *ret_errno)
{
    ERR_clear_error();
    errno = 0;
    int n = SSL_accept(stream->ssl);
    return n == 1 ? IO_OK : tls_result(stream, n, ret_errno);
}

bool stream_io_pending(const Stream *stream)
{
    return stream->ssl && SSL_pending(stream->ssl) > 0;
}

void stream_io_error(Error *err, const char *doing, int error_number)
{
    if (error_number != IO_ERRNO_TLS) {
        char text[128];
        error_set(err, SQLSTATE_CONNECTION_FAILURE, "could not %s the peer: %s", doing,
                  strerror_r(error_number, text, sizeof(text)));
        return;
    }
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    error_set(err, SQLSTATE_CONNECTION_FAILURE, "could not %s the peer: TLS: %s", doing,
              reason ? reason : "protocol error");
    ERR_clear_error();
}

void socket_tune(int fd, unsigned user_timeout_ms)
{
    /* Best effort: a Unix socket knows none of these, and needs none. */
    const struct {
        int level, name, value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, 30},  /* seconds of silence before the first probe */
        {IPPROTO_TCP, TCP_KEEPINTVL, 10}, /* seconds between probes */
        {IPPROTO_TCP, TCP_KEEPCNT, 3},
        {IPPROTO_TCP, TCP_USER_TIMEOUT, (int)MIN(user_timeout_ms, (unsigned)INT32_MAX)},
    };
    for (size_t i = 0; i < ARRAY_LEN(options); i++)
        (void)setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(int));
}

static IoResult tls_read(Stream *stream, uint8_t *bytes, size_t size, size_t *ret_n,
                         int *ret_errno)
{
    size_t total = 0;
    stream->ssl_wants_write = false;
    /* SSL_read answers one record at most; the rest of what is decrypted must not stay behind. */
    do {
        ERR_clear_error();
        errno = 0;
        int n = SSL_read(stream->ssl, bytes + total, (int)MIN(size - total, (size_t)INT32_MAX));
        if (n <= 0) {
            if (total > 0)
                break; /* the next read tells */
            return tls_result(stream, n, ret_errno);
        }
        total += (size_t)n;
    } while (total < size && SSL_pending(stream->ssl) > 0);
    *ret_n = total;
    return IO_OK;
}

static IoResult tls_write(Stream *stream, Slice bytes, size_t *ret_n, int *ret_errno)
{
    size_t total = 0, share = MIN(bytes.len, TLS_WRITE_SHARE);
    while (total < share) {
        ERR_clear_error();
        errno = 0;
        /* The rest, not the share: a retried SSL_write must not be offered less than before. */
        size_t rest = MIN(bytes.len - total, (size_t)INT32_MAX);
        int n = SSL_write(stream->ssl, bytes.data + total, (int)rest);
        if (n <= 0) {
            if (total > 0)
                break;
            bool reading_waits = stream->ssl_wants_write;
            IoResult result = tls_result(stream, n, ret_errno);
            stream->ssl_wants_write = reading_waits;
            return result;
        }
        total += (size_t)n;
    }
    *ret_n = total;
    return IO_OK;
}

/* What a call that moved nothing means. */
static IoResult tls_result(Stream *stream, int n, int *ret_errno)
{
    int saved_errno = errno;
    switch (SSL_get_error(stream->ssl, n)) {
    case SSL_ERROR_WANT_READ:
        return IO_AGAIN;
    case SSL_ERROR_WANT_WRITE:
        stream->ssl_wants_write = true;
        return IO_AGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return IO_EOF;
    case SSL_ERROR_SYSCALL:
        if (saved_errno == 0)
            return IO_EOF;
        return plain_result(saved_errno, ret_errno);
    default:
#ifdef SSL_R_UNEXPECTED_EOF_WHILE_READING
        /* Closed without close_notify. The protocol above says where messages end; libpq does it. */
        if (ERR_GET_REASON(ERR_peek_last_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
            return IO_EOF;
#endif
        *ret_errno = IO_ERRNO_TLS;
        return IO_FAILED;
    }
}

static IoResult plain_result(int error_number, int *ret_errno)
{
    if (error_number == EAGAIN || error_number == EWOULDBLOCK)
        return IO_AGAIN;
    *ret_errno = error_number;
    return IO_FAILED;
}
