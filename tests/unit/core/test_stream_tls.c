/* TLS: our server side against an OpenSSL client in a thread, with a certificate made here. */
#include "wire_tap.h"

#include <openssl/err.h>
#include <openssl/x509.h>
#include <poll.h>
#include <pthread.h>

static SSL_CTX *server_ctx, *client_ctx;

static int contexts_setup(void **state)
{
    EVP_PKEY *key = EVP_RSA_gen(2048);
    X509 *cert = X509_new();
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), 0);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    X509_NAME *name = X509_get_subject_name(cert);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"shoal", -1, -1, 0);
    X509_set_issuer_name(cert, name);
    X509_sign(cert, key, EVP_sha256());
    server_ctx = SSL_CTX_new(TLS_server_method());
    client_ctx = SSL_CTX_new(TLS_client_method());
    bool ok = SSL_CTX_use_certificate(server_ctx, cert) == 1 &&
              SSL_CTX_use_PrivateKey(server_ctx, key) == 1;
    X509_free(cert);
    EVP_PKEY_free(key);
    return ok ? 0 : -1;
}

static int contexts_teardown(void **state)
{
    SSL_CTX_free(server_ctx);
    SSL_CTX_free(client_ctx);
    return 0;
}

/* The client thread: handshake, then sends `n` bytes in pieces and reads as many back. */
typedef struct Client {
    int fd;
    size_t n, piece;
    bool tls12, polite; /* polite: says goodbye with close_notify */
    Buf got;
    bool ok;
    pthread_t thread;
} Client;

static bool client_wait(SSL *ssl, int fd, int result)
{
    struct pollfd fds = {.fd = fd};
    switch (SSL_get_error(ssl, result)) {
    case SSL_ERROR_WANT_READ:
        fds.events = POLLIN;
        break;
    case SSL_ERROR_WANT_WRITE:
        fds.events = POLLOUT;
        break;
    default:
        return false;
    }
    return poll(&fds, 1, 5000) == 1;
}

static bool client_talk(Client *client, SSL *ssl)
{
    int r;
    while ((r = SSL_connect(ssl)) != 1)
        if (!client_wait(ssl, client->fd, r))
            return false;
    uint8_t *bytes = malloc(client->n), part[5000];
    for (size_t i = 0; i < client->n; i++)
        bytes[i] = pattern_at(i);
    size_t sent = 0;
    bool ok = true;
    while (ok && (sent < client->n || buf_len(&client->got) < client->n)) {
        bool moved = false;
        if (sent < client->n) {
            r = SSL_write(ssl, bytes + sent, (int)MIN(client->piece, client->n - sent));
            sent += r > 0 ? (size_t)r : 0;
            moved = r > 0;
        }
        int read = SSL_read(ssl, part, sizeof(part));
        if (read > 0)
            ok = buf_append(&client->got, slice_of(part, (size_t)read));
        else if (!moved)
            ok = client_wait(ssl, client->fd, read);
    }
    free(bytes);
    if (client->polite)
        SSL_shutdown(ssl);
    return ok;
}

static void *client_run(void *ctx)
{
    Client *client = ctx;
    SSL *ssl = SSL_new(client_ctx);
    SSL_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (client->tls12)
        SSL_set_max_proto_version(ssl, TLS1_2_VERSION);
    SSL_set_fd(ssl, client->fd);
    client->ok = client_talk(client, ssl);
    SSL_free(ssl);
    close(client->fd);
    return NULL;
}

static void client_start(Client *client, Tap *tap)
{
    client->fd = tap->far;
    tap->far = -1;
    buf_init(&client->got, 16 << 20);
    assert_int_equal(pthread_create(&client->thread, NULL, client_run, client), 0);
}

static void client_join(Client *client)
{
    pthread_join(client->thread, NULL);
    assert_true(client->ok);
    assert_pattern(&client->got, client->n);
    buf_finish(&client->got);
}

static void echo_through_tls(size_t n, size_t piece, size_t read_size, bool tls12)
{
    Tap *tap = tap_open(TAP_LIMITS);
    Client client = {.n = n, .piece = piece, .tls12 = tls12, .polite = n % 2 == 0};
    Error err;
    tap->raw = tap->echo = true;
    tap->stream.read_size = read_size;
    assert_true(stream_accept_tls(&tap->stream, server_ctx, &err));
    client_start(&client, tap);
    TAP_UNTIL(tap, tap->gone == 1);
    client_join(&client);
    assert_false(tap->gone_by_error);
    assert_pattern(&tap->got, n);
    assert_int_equal(tap->stream.bytes_out, n);
    tap_close(tap);
}

/* Else: clients with sslmode=require cannot work, or hang on large answers (H13). */
static void an_openssl_client_gets_every_byte_back(void **state)
{
    echo_through_tls(1, 1, STREAM_READ_SIZE, false);
    echo_through_tls(300, 3, STREAM_READ_SIZE, false);
    echo_through_tls(3 << 20, 1 << 20, STREAM_READ_SIZE, false);
    echo_through_tls((3 << 20) + 1, 1 << 20, STREAM_READ_SIZE, true);
}

/* Else: bytes that TLS has decrypted stay there until the client sends more: a hang. */
static void decrypted_bytes_never_stay_behind(void **state)
{
    echo_through_tls(200001, 16384, 100, false);
    echo_through_tls(200001, 16384, 1, true);
}

/* Else: a paused stream forgets what TLS had decrypted when it goes on. */
static void pausing_keeps_decrypted_bytes(void **state)
{
    Tap *tap = tap_open((StreamLimits){.in_max = 1000, .out_max = 1 << 20, .out_high = 1 << 16});
    Client client = {.n = 100001, .piece = 16384};
    Error err;
    tap->raw = tap->echo = true;
    tap->hold = true;
    assert_true(stream_accept_tls(&tap->stream, server_ctx, &err));
    client_start(&client, tap);
    TAP_UNTIL(tap, tap->stream.paused); /* full after 1000 of a record's 16384 bytes */
    tap->hold = false;
    stream_resume(&tap->stream);
    TAP_UNTIL(tap, tap->gone == 1);
    client_join(&client);
    assert_pattern(&tap->got, 100001);
    tap_close(tap);
}

/* Else: the answer 'S' is encrypted, and no client ever gets past the SSLRequest. */
static void what_waits_is_sent_in_the_clear_before_tls(void **state)
{
    Tap *tap = tap_open(TAP_LIMITS);
    Client client = {.n = 10, .piece = 10};
    Error err;
    char answer = 0;
    tap->raw = tap->echo = true;
    assert_true(stream_write(&tap->stream, SLICE("S")));
    assert_true(stream_accept_tls(&tap->stream, server_ctx, &err));
    assert_int_equal(recv(tap->far, &answer, 1, 0), 1);
    assert_int_equal(answer, 'S');
    client_start(&client, tap);
    TAP_UNTIL(tap, tap->gone == 1);
    client_join(&client);
    tap_close(tap);
}

/* Else: a man in the middle puts statements before the encrypted ones (H83). */
static void bytes_before_the_handshake_are_refused(void **state)
{
    Tap *tap = tap_open(TAP_LIMITS);
    Error err;
    tap->hold = true;
    far_send(tap, SLICE("SELECT evil()"));
    tap_turns(tap, 2);
    assert_false(stream_accept_tls(&tap->stream, server_ctx, &err));
    assert_true(error_is(&err, SQLSTATE_PROTOCOL_VIOLATION));
    tap_close(tap);
}

/* Else: garbage in place of a handshake crashes or hangs the worker. */
static void a_failed_handshake_is_an_error_told_once(void **state)
{
    const char *const greetings[] = {"GET / HTTP/1.0\r\n\r\n\r\n", "\x16\x03\x01", ""};
    for (size_t i = 0; i < ARRAY_LEN(greetings); i++) {
        Tap *tap = tap_open(TAP_LIMITS);
        Error err;
        assert_true(stream_accept_tls(&tap->stream, server_ctx, &err));
        far_send(tap, slice_str(greetings[i]));
        tap_turns(tap, 3);
        close(tap->far);
        tap->far = -1;
        TAP_UNTIL(tap, tap->gone == 1);
        assert_true(tap->gone_by_error);
        assert_true(error_is(&tap->gone_err, SQLSTATE_CONNECTION_FAILURE));
        assert_int_equal(tap->offers, 0);
        tap_turns(tap, 3);
        assert_int_equal(tap->gone, 1);
        tap_close(tap);
    }
}

/* Else: servers that demand TLS cannot be used: their SSL object is libpq's, not ours. */
static void a_borrowed_connection_is_used_and_left_alive(void **state)
{
    Tap *server = tap_open(TAP_LIMITS), *client = tap_open(TAP_LIMITS);
    int fd = server->far;
    Error err;
    server->far = -1;
    SSL *ssl = SSL_new(client_ctx);
    SSL_set_fd(ssl, fd);
    SSL_set_connect_state(ssl);
    server->raw = server->echo = client->raw = true;
    assert_true(stream_accept_tls(&server->stream, server_ctx, &err));
    TAP_UNTIL(server, SSL_do_handshake(ssl) == 1);

    stream_close(&client->stream);
    stream_open(&client->stream, fd, false);
    stream_adopt_tls(&client->stream, ssl);
    uint8_t *bytes = pattern(500000);
    assert_true(stream_write(&client->stream, slice_of(bytes, 500000)));
    TAP_UNTIL(server, (loop_turn(&client->loop, false), buf_len(&client->got) == 500000));
    assert_pattern(&client->got, 500000);
    stream_close(&client->stream);
    assert_int_equal(SSL_write(ssl, "x", 1), 1); /* still the lender's to use */
    SSL_free(ssl);
    close(fd);
    free(bytes);
    tap_close(client);
    tap_close(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_openssl_client_gets_every_byte_back),
        cmocka_unit_test(decrypted_bytes_never_stay_behind),
        cmocka_unit_test(pausing_keeps_decrypted_bytes),
        cmocka_unit_test(what_waits_is_sent_in_the_clear_before_tls),
        cmocka_unit_test(bytes_before_the_handshake_are_refused),
        cmocka_unit_test(a_failed_handshake_is_an_error_told_once),
        cmocka_unit_test(a_borrowed_connection_is_used_and_left_alive),
    };
    return cmocka_run_group_tests(tests, contexts_setup, contexts_teardown);
}
