/*
 * stream.c - when a Stream reads, when it writes, and how it ends.
 *
 * Reading. All streams of a loop read into the loop's one scratch memory, which is lent to `in`
 * while on_bytes runs. What the owner leaves is copied into memory of the stream's own; mostly that
 * is nothing, so an idle stream holds no buffer and a busy one needs no malloc:
 *
 *     scratch   | left over, <= 4 KiB | fresh bytes ......... |
 *                 ^ copied in front     ^ one read(2)
 *     on_bytes  |xxxxxxxxxx consumed xxxxxxxxxxxxx| left over |  -> in's own memory
 *
 * When more than that is left over (half of a long message) the bytes stay in in's own memory and
 * the read goes behind them.
 *
 * Writing. stream_touch puts the stream into loop->dirty; stream_flush_all writes each once at the
 * turn's end, or all of them by one system call (send_ring.h). When the kernel takes less, `write_blocked` is set and the write watcher goes on; the
 * stream then stays out of the dirty list until the watcher has emptied `out`.
 *
 * Ending. on_gone comes from a read event, a write event or the flush, never from inside a call of
 * the owner's. After a failed write the stream reads on first: a server that shuts down says why
 * before it closes, and we may notice the close by writing.
 */
#include "core/stream.h"

#include <errno.h>
#include <openssl/err.h>
#include <unistd.h>

#include "core/stream_io.h"

#define STREAM_CARRY_MAX ((size_t)4 * 1024)

static void stream_on_readable(struct ev_loop *ev, ev_io *watcher, int revents);
static void stream_on_writable(struct ev_loop *ev, ev_io *watcher, int revents);
static bool stream_reads(const Stream *stream);
static bool stream_read(Stream *stream);
static bool stream_lend_room(Stream *stream, size_t want);
static void stream_return_room(Stream *stream);
static void stream_offer(Stream *stream);
static void stream_handshake(Stream *stream);
static void stream_flush(Stream *stream);
static void stream_after_write(Stream *stream);
static void stream_watch_writer(Stream *stream);
static void stream_wake_reader(Stream *stream);
static void stream_gone(Stream *stream, const Error *err);

void stream_init(Stream *stream, Loop *loop, const StreamEvents *events, void *ctx,
                 StreamLimits limits)
{
    assert(limits.in_max > 0 && limits.out_max > 0);
    *stream = (Stream){
        .state = STREAM_CLOSED,
        .fd = -1,
        .sent = SEND_NOT_TRIED,
        .loop = loop,
        .events = events,
        .ctx = ctx,
        .out_high = limits.out_high ? limits.out_high : limits.out_max,
        .read_size = STREAM_READ_SIZE,
    };
    buf_init(&stream->in, limits.in_max);
    buf_init(&stream->out, limits.out_max);
    list_init(&stream->dirty_link);
    ev_init(&stream->reader, stream_on_readable);
    ev_init(&stream->writer, stream_on_writable);
    stream->reader.data = stream->writer.data = stream;
}

void stream_open(Stream *stream, int fd, bool fd_owned)
{
    assert(stream->state == STREAM_CLOSED && !stream->calling);
    assert(fd >= 0);
    stream->fd = fd;
    stream->fd_owned = fd_owned;
    stream->ssl = NULL;
    stream->ssl_owned = stream->ssl_wants_write = false;
    stream->paused = stream->choked = stream->write_blocked = false;
    stream->write_errno = 0;
    stream->bytes_in = stream->bytes_out = 0;
    stream->state = STREAM_OPEN;
    ev_io_set(&stream->reader, fd, EV_READ);
    ev_io_set(&stream->writer, fd, EV_WRITE);
    ev_io_start(stream->loop->ev, &stream->reader);
}

void stream_adopt_tls(Stream *stream, SSL *ssl)
{
    assert(stream->state == STREAM_OPEN && !stream->ssl);
    SSL_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                          SSL_MODE_RELEASE_BUFFERS);
    stream->ssl = ssl;
    stream->ssl_owned = false;
    if (SSL_pending(ssl) > 0)
        stream_wake_reader(stream);
}

bool stream_accept_tls(Stream *stream, SSL_CTX *ctx, Error *err)
{
    assert(stream->state == STREAM_OPEN && !stream->ssl);
    if (buf_len(&stream->in) > 0) {
        error_set(err, SQLSTATE_PROTOCOL_VIOLATION, "received unencrypted data after SSL request");
        error_detail(err, "This could be either a client-software bug or evidence of an "
                          "attempted man-in-the-middle attack.");
        return false;
    }
    if (buf_len(&stream->out) > 0)
        stream_flush(stream);
    if (buf_len(&stream->out) > 0) {
        error_set(err, SQLSTATE_CONNECTION_FAILURE, "could not answer the SSL request");
        return false;
    }
    SSL *ssl = SSL_new(ctx);
    if (!ssl || SSL_set_fd(ssl, stream->fd) != 1) {
        SSL_free(ssl);
        ERR_clear_error();
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "could not start TLS: out of memory");
        return false;
    }
    SSL_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                          SSL_MODE_RELEASE_BUFFERS);
    (void)SSL_set_max_send_fragment(ssl, 8192); /* H13 */
    stream->ssl = ssl;
    stream->ssl_owned = true;
    stream->state = STREAM_HANDSHAKE;
    return true;
}

void stream_close(Stream *stream)
{
    if (stream->state == STREAM_CLOSED)
        return;
    ev_io_stop(stream->loop->ev, &stream->reader);
    ev_io_stop(stream->loop->ev, &stream->writer);
    list_remove(&stream->dirty_link);
    if (stream->ssl_owned) {
        /* One attempt to say goodbye; nobody waits for the answer. */
        if (stream->state == STREAM_OPEN && stream->write_errno == 0)
            (void)SSL_shutdown(stream->ssl);
        SSL_free(stream->ssl);
        ERR_clear_error();
    }
    stream->ssl = NULL;
    stream->ssl_owned = false;
    if (stream->fd_owned)
        (void)close(stream->fd);
    stream->fd = -1;
    stream->state = STREAM_CLOSED;
    stream->choked = stream->write_blocked = false;
    buf_finish(&stream->out);
    if (!stream->calling) /* else the owner is still looking at the bytes */
        buf_finish(&stream->in);
}

/* ---- reading ------------------------------------------------------------------------------- */

static void stream_on_readable(struct ev_loop *ev, ev_io *watcher, int revents)
{
    Stream *stream = watcher->data;
    if (stream->state == STREAM_HANDSHAKE) {
        stream_handshake(stream);
        return;
    }
    bool woken = (revents & EV_CUSTOM) != 0;
    if (woken && !stream->paused && buf_len(&stream->in) > 0)
        stream_offer(stream);
    while (stream_reads(stream) && stream_read(stream))
        if (!stream->write_errno && !stream_io_pending(stream))
            break;
    if (stream->state != STREAM_OPEN)
        return;
    if (stream->write_errno) {
        Error err;
        stream_io_error(&err, "write to", stream->write_errno);
        stream_gone(stream, &err);
        return;
    }
    if (stream->ssl && stream->write_blocked) {
        stream_flush(stream); /* TLS may have waited for this read */
        stream_after_write(stream);
    }
}

static bool stream_reads(const Stream *stream)
{
    return stream->state == STREAM_OPEN && !stream->paused &&
           buf_len(&stream->in) < stream->in.limit;
}

/* One read, offered to the owner. False when nothing came. */
static bool stream_read(Stream *stream)
{
    size_t want = MIN(stream->read_size, stream->in.limit - buf_len(&stream->in));
    if (!stream_lend_room(stream, want))
        return false;
    size_t n = 0;
    int error_number = 0;
    IoResult result = stream_io_read(stream, stream->in.data + stream->in.tail, want, &n,
                                     &error_number);
    if (result == IO_OK) {
        buf_commit(&stream->in, n);
        stream->bytes_in += n;
        stream_offer(stream);
        return true;
    }
    stream_return_room(stream);
    if (result == IO_AGAIN) {
        if (stream->ssl_wants_write)
            stream_watch_writer(stream);
    } else if (result == IO_EOF) {
        stream_gone(stream, NULL);
    } else if (stream->write_errno == 0) {
        Error err;
        stream_io_error(&err, "read from", error_number);
        stream_gone(stream, &err);
    }
    return false;
}

/* Room for `want` bytes behind in's tail: in the scratch memory, unless too much is left over. */
static bool stream_lend_room(Stream *stream, size_t want)
{
    Loop *loop = stream->loop;
    size_t left = buf_len(&stream->in);
    if (left <= STREAM_CARRY_MAX && left + want <= LOOP_SCRATCH_SIZE) {
        MEM_UNPOISON(loop->scratch, LOOP_SCRATCH_SIZE);
        buf_lend(&stream->in, loop->scratch, LOOP_SCRATCH_SIZE);
        return true;
    }
    if (buf_reserve(&stream->in, want))
        return true;
    Error err;
    error_set(&err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    error_detail(&err, "Failed to keep %zu bytes received.", left);
    stream_gone(stream, &err);
    return false;
}

/* The scratch memory goes back to the loop; what is left over moves into in's own memory. */
static void stream_return_room(Stream *stream)
{
    bool kept = true;
    if (stream->in.lent) {
        kept = buf_keep(&stream->in);
        MEM_POISON(stream->loop->scratch, LOOP_SCRATCH_SIZE);
    }
    if (stream->state == STREAM_CLOSED) {
        buf_finish(&stream->in);
        return;
    }
    if (buf_len(&stream->in) <= STREAM_CARRY_MAX)
        buf_trim(&stream->in);
    if (!kept && stream->state == STREAM_OPEN) {
        Error err;
        error_set(&err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        error_detail(&err, "Failed to keep the bytes of an unfinished message.");
        stream_gone(stream, &err);
    }
}

static void stream_offer(Stream *stream)
{
    assert(!stream->calling);
    stream->calling = true;
    stream->events->on_bytes(stream);
    stream->calling = false;
    stream_return_room(stream);
    /* Full, and the owner did not say so: level-triggered readiness would spin. */
    if (stream->state == STREAM_OPEN && buf_len(&stream->in) >= stream->in.limit)
        stream_pause(stream);
}

void stream_pause(Stream *stream)
{
    stream->paused = true;
    if (stream->state != STREAM_OPEN)
        return; /* a handshake goes on */
    ev_io_stop(stream->loop->ev, &stream->reader);
    if (stream->write_errno)
        stream_wake_reader(stream); /* stopping took the wake-up away that leads to on_gone */
}

void stream_resume(Stream *stream)
{
    stream->paused = false;
    if (stream->state != STREAM_OPEN)
        return;
    ev_io_start(stream->loop->ev, &stream->reader);
    /* Bytes in `in` or inside TLS are announced by nobody but us. */
    if (buf_len(&stream->in) > 0 || stream_io_pending(stream))
        stream_wake_reader(stream);
}

/* Runs stream_on_readable soon, in this turn if its events are not over. */
static void stream_wake_reader(Stream *stream)
{
    ev_feed_event(stream->loop->ev, &stream->reader, EV_CUSTOM);
    if (stream->loop->in_hooks)
        loop_again(stream->loop);
}

static void stream_handshake(Stream *stream)
{
    int error_number = 0;
    stream->ssl_wants_write = false;
    IoResult result = stream_io_handshake(stream, &error_number);
    if (result == IO_AGAIN) {
        if (stream->ssl_wants_write)
            stream_watch_writer(stream);
        return;
    }
    if (result == IO_OK) {
        stream->state = STREAM_OPEN;
        if (buf_len(&stream->out) > 0)
            stream_touch(stream);
        if (stream->paused)
            ev_io_stop(stream->loop->ev, &stream->reader);
        else if (stream_io_pending(stream))
            stream_wake_reader(stream);
        return;
    }
    Error err;
    if (result == IO_FAILED)
        stream_io_error(&err, "complete the TLS handshake with", error_number);
    else
        error_set(&err, SQLSTATE_CONNECTION_FAILURE,
                  "the peer closed the connection during the TLS handshake");
    stream_gone(stream, &err);
}

/* ---- writing ------------------------------------------------------------------------------- */

void stream_touch(Stream *stream)
{
    if (stream->state != STREAM_OPEN && stream->state != STREAM_HANDSHAKE) {
        buf_reset(&stream->out); /* nobody will read it */
        buf_trim(&stream->out);
        return;
    }
    if (buf_len(&stream->out) > stream->out_high)
        stream->choked = true;
    /* A blocked stream waits for its watcher, except to die of an overflow. */
    if (!list_linked(&stream->dirty_link) && (!stream->write_blocked || stream->out.failed))
        list_push(&stream->loop->dirty, &stream->dirty_link);
}

bool stream_write(Stream *stream, Slice bytes)
{
    if (stream->state != STREAM_OPEN && stream->state != STREAM_HANDSHAKE)
        return false;
    bool ok = buf_append(&stream->out, bytes);
    stream_touch(stream);
    return ok;
}

/* Has output that a plain write takes. */
static bool stream_may_write(const Stream *stream)
{
    return stream->state == STREAM_OPEN && !stream->ssl && !stream->write_blocked && !stream->out.failed &&
           !stream->held && !stream->write_errno && buf_len(&stream->out) > 0;
}

static bool enough_to_send(const Loop *loop, const List *turn)
{
    uint32_t count = 0;
    LIST_EACH (link, turn)
        if (stream_may_write(list_entry(link, Stream, dirty_link)) && ++count >= loop->sends_min)
            return true;
    return false;
}

/* Writes what the streams of this turn have, by one system call for all (send_ring.h), before any owner hears of
 * it. What it could not try is written by the streams themselves. */
static void send_together(Loop *loop, const List *turn)
{
    bool good = true;
    LIST_EACH (link, turn) {
        Stream *stream = list_entry(link, Stream, dirty_link);
        if (!good || !stream_may_write(stream))
            continue;
        if (send_ring_add(loop->sends, stream->fd, buf_bytes(&stream->out), &stream->sent))
            continue;
        good = send_ring_submit(loop->sends) &&
               send_ring_add(loop->sends, stream->fd, buf_bytes(&stream->out), &stream->sent);
    }
    good = good && send_ring_submit(loop->sends);
    LIST_EACH (link, turn) {
        Stream *stream = list_entry(link, Stream, dirty_link);
        if (stream->sent != SEND_NOT_TRIED)
            stream_flush(stream);
    }
    if (good)
        return;
    send_ring_destroy(loop->sends);
    loop->sends = NULL;
}

void stream_flush_all(Loop *loop)
{
    List turn; /* what callbacks make dirty again waits for the next turn */
    list_init(&turn);
    list_splice(&turn, &loop->dirty);
    if (loop->sends && enough_to_send(loop, &turn))
        send_together(loop, &turn);
    for (List *link = list_pop(&turn); link; link = list_pop(&turn)) {
        Stream *stream = list_entry(link, Stream, dirty_link);
        if (stream->out.failed) {
            Error err;
            error_set(&err, SQLSTATE_LIMIT_EXCEEDED, "too much output waits for the peer");
            error_detail(&err, "%zu bytes wait; the limit is %zu bytes.", buf_len(&stream->out),
                         stream->out.limit);
            stream_gone(stream, &err);
        } else if (stream->state == STREAM_OPEN && !stream->write_blocked) {
            stream_flush(stream);
            stream_after_write(stream);
        }
    }
}

static void stream_on_writable(struct ev_loop *ev, ev_io *watcher, int revents)
{
    Stream *stream = watcher->data;
    if (stream->state == STREAM_HANDSHAKE) {
        ev_io_stop(ev, watcher);
        stream_handshake(stream);
        return;
    }
    ev_io_stop(ev, watcher);
    if (stream->ssl_wants_write) {
        stream->ssl_wants_write = false;
        stream_wake_reader(stream);
    }
    stream->write_blocked = false;
    stream_flush(stream);
    stream_after_write(stream);
}

/* One write of what waits in `out`, unless that has been done. */
static void stream_flush(Stream *stream)
{
    if (buf_len(&stream->out) == 0 || stream->write_errno || stream->held)
        return;
    size_t n = 0;
    int sent = stream->sent;
    stream->sent = SEND_NOT_TRIED;
    IoResult result = sent == SEND_NOT_TRIED
                          ? stream_io_write(stream, buf_bytes(&stream->out), &n, &stream->write_errno)
                          : stream_io_sent(sent, &n, &stream->write_errno);
    if (result == IO_FAILED) {
        /* on_gone follows when what the peer has said is read. */
        if (stream->write_errno == IO_ERRNO_TLS)
            ERR_clear_error();
        buf_reset(&stream->out);
        buf_trim(&stream->out);
        stream_wake_reader(stream);
        return;
    }
    buf_consume(&stream->out, n);
    stream->bytes_out += n;
    stream->write_blocked = buf_len(&stream->out) > 0;
    if (stream->write_blocked)
        stream_watch_writer(stream);
    else
        buf_trim(&stream->out);
}

/* Tells the owner when the choke opened. */
static void stream_after_write(Stream *stream)
{
    if (!stream->choked || stream->state != STREAM_OPEN || stream->write_errno ||
        buf_len(&stream->out) >= MAX(stream->out_high / 2, 1))
        return;
    stream->choked = false;
    if (stream->events->on_drained)
        stream->events->on_drained(stream);
}

static void stream_watch_writer(Stream *stream)
{
    ev_io_start(stream->loop->ev, &stream->writer);
}

/* ---- the end ------------------------------------------------------------------------------- */

static void stream_gone(Stream *stream, const Error *err)
{
    assert(stream->state == STREAM_OPEN || stream->state == STREAM_HANDSHAKE);
    stream->state = STREAM_GONE;
    ev_io_stop(stream->loop->ev, &stream->reader);
    ev_io_stop(stream->loop->ev, &stream->writer);
    list_remove(&stream->dirty_link);
    buf_reset(&stream->out);
    buf_trim(&stream->out);
    stream->events->on_gone(stream, err);
}
