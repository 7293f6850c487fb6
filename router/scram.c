/* scram.c - proof and signature; every secret is compared in constant time (H91). */
#include "router/scram.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define MESSAGE_MAX 4096 /* bytes of all messages together */

static uint8_t secret[SCRAM_KEY_LEN];

static void make_secret(void)
{
    if (RAND_bytes(secret, sizeof secret) != 1)
        abort(); /* without randomness there is no authentication at all */
}

/* The same for all workers: a name has the same salt wherever its client arrives. */
static const uint8_t *process_secret(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_secret);
    return secret;
}

static void hmac(const uint8_t key[SCRAM_KEY_LEN], Slice message, uint8_t ret[SCRAM_KEY_LEN])
{
    unsigned len = SCRAM_KEY_LEN;
    HMAC(EVP_sha256(), key, SCRAM_KEY_LEN, message.data, message.len, ret, &len);
}

/* Decodes exactly `len` bytes of base64 text. */
static bool base64_exact(Slice text, uint8_t *ret, size_t len)
{
    uint8_t bytes[128];
    if (text.len != 4 * ((len + 2) / 3) || text.len > sizeof bytes)
        return false;
    int n = EVP_DecodeBlock(bytes, text.data, (int)text.len);
    if (n < (int)len)
        return false;
    memcpy(ret, bytes, len);
    return true;
}

static void mock(Scram *scram, Slice user)
{
    uint8_t digest[SCRAM_KEY_LEN];
    hmac(process_secret(), user, digest);
    EVP_EncodeBlock((unsigned char *)scram->salt, digest, 16);
    scram->iterations = 4096;
    memcpy(scram->stored_key, digest, SCRAM_KEY_LEN);
    memcpy(scram->server_key, digest, SCRAM_KEY_LEN);
    scram->doomed = true;
}

static bool read_verifier(Scram *scram, const char *verifier)
{
    char stored[64], server[64];
    if (!verifier || sscanf(verifier, "SCRAM-SHA-256$%u:%63[^$]$%63[^:]:%63s", &scram->iterations,
                            scram->salt, stored, server) != 4)
        return false;
    return base64_exact(slice_str(stored), scram->stored_key, SCRAM_KEY_LEN) &&
           base64_exact(slice_str(server), scram->server_key, SCRAM_KEY_LEN);
}

void scram_init(Scram *scram, const char *verifier, Slice user)
{
    *scram = (Scram){0};
    buf_init(&scram->auth_message, MESSAGE_MAX);
    if (!read_verifier(scram, verifier))
        mock(scram, user);
}

void scram_finish(Scram *scram)
{
    buf_finish(&scram->auth_message);
    OPENSSL_cleanse(scram, sizeof *scram);
}

static bool malformed(Error *err, const char *detail)
{
    error_set(err, SQLSTATE_PROTOCOL_VIOLATION, "malformed SCRAM message");
    error_detail(err, "%s", detail);
    return false;
}

/* Takes "<name>=<value>," or the last "<name>=<value>" off the head. */
static bool attribute(Slice *message, char name, Slice *ret)
{
    if (message->len < 2 || message->data[0] != (uint8_t)name || message->data[1] != '=')
        return false;
    const uint8_t *comma = memchr(message->data, ',', message->len);
    size_t len = comma ? (size_t)(comma - message->data) : message->len;
    *ret = slice_of(message->data + 2, len - 2);
    *message = slice_from(*message, comma ? len + 1 : len);
    return true;
}

static bool read_gs2(Scram *scram, Slice *message, bool tls, Error *err)
{
    if (message->len == 0 || memchr(message->data, 0, message->len))
        return malformed(err, "The message is empty or its length does not match its text.");
    switch (message->data[0]) {
    case 'n':
    case 'y':
        scram->gs2_header = (char)message->data[0];
        break;
    case 'p':
        error_set(err, SQLSTATE_PROTOCOL_VIOLATION,
                  "client selected SCRAM-SHA-256 without channel binding, but the SCRAM message "
                  "includes channel binding data");
        error_detail(err, tls ? "Shoal does not offer channel binding."
                              : "The connection does not use TLS.");
        return false;
    default:
        return malformed(err, "Unexpected channel-binding flag.");
    }
    if (message->len < 3 || message->data[1] != ',')
        return malformed(err, "Comma expected after the channel-binding flag.");
    if (message->data[2] == 'a') {
        error_set(err, SQLSTATE_FEATURE_NOT_SUPPORTED,
                  "client uses authorization identity, but it is not supported");
        return false;
    }
    if (message->data[2] != ',')
        return malformed(err, "Unexpected attribute in the GS2 header.");
    *message = slice_from(*message, 3);
    return true;
}

static bool nonce_printable(Slice nonce)
{
    for (size_t i = 0; i < nonce.len; i++)
        if (nonce.data[i] < 0x21 || nonce.data[i] > 0x7e)
            return false;
    return nonce.len > 0;
}

static bool make_nonce(Scram *scram, Slice client)
{
    uint8_t raw[SCRAM_NONCE_LEN * 3 / 4];
    if (RAND_bytes(raw, sizeof raw) != 1)
        return false;
    memcpy(scram->nonce, client.data, client.len);
    EVP_EncodeBlock((unsigned char *)scram->nonce + client.len, raw, sizeof raw);
    scram->client_nonce_len = client.len;
    return true;
}

bool scram_first(Scram *scram, Slice message, bool tls, Buf *out, Error *err)
{
    Slice user, nonce;
    if (!read_gs2(scram, &message, tls, err))
        return false;
    Slice bare = message;
    if (message.len && message.data[0] == 'm') {
        error_set(err, SQLSTATE_PROTOCOL_VIOLATION, "client requires an unsupported SCRAM extension");
        return false;
    }
    if (!attribute(&message, 'n', &user)) /* the startup message's user counts, as in PostgreSQL */
        return malformed(err, "Attribute \"n\" expected.");
    if (!attribute(&message, 'r', &nonce))
        return malformed(err, "Attribute \"r\" expected.");
    if (!nonce_printable(nonce)) {
        error_set(err, SQLSTATE_PROTOCOL_VIOLATION, "non-printable characters in SCRAM nonce");
        return false;
    }
    if (nonce.len > sizeof scram->nonce - SCRAM_NONCE_LEN - 1)
        return malformed(err, "The nonce is too long.");
    if (!make_nonce(scram, nonce)) {
        error_set(err, SQLSTATE_INTERNAL, "could not generate random nonce");
        return false;
    }
    char first[512];
    int len = snprintf(first, sizeof first, "r=%s,s=%s,i=%u", scram->nonce, scram->salt,
                       scram->iterations);
    buf_append(&scram->auth_message, bare);
    buf_append(&scram->auth_message, SLICE(","));
    buf_append(&scram->auth_message, slice_of(first, (size_t)len));
    buf_append(out, slice_of(first, (size_t)len));
    if (scram->auth_message.failed)
        return malformed(err, "The message is too long.");
    return true;
}

/* ClientKey = proof XOR HMAC(StoredKey, AuthMessage) must hash to StoredKey. */
static bool proof_right(const Scram *scram, const uint8_t proof[SCRAM_KEY_LEN])
{
    uint8_t signature[SCRAM_KEY_LEN], key[SCRAM_KEY_LEN], digest[SCRAM_KEY_LEN];
    hmac(scram->stored_key, buf_bytes(&scram->auth_message), signature);
    for (size_t i = 0; i < SCRAM_KEY_LEN; i++)
        key[i] = proof[i] ^ signature[i];
    SHA256(key, SCRAM_KEY_LEN, digest);
    bool right = CRYPTO_memcmp(digest, scram->stored_key, SCRAM_KEY_LEN) == 0;
    OPENSSL_cleanse(key, sizeof key);
    return right && !scram->doomed;
}

bool scram_final(Scram *scram, Slice message, Buf *out, Error *err)
{
    Slice rest = message, binding, nonce, proof_text, ignored;
    uint8_t proof[SCRAM_KEY_LEN];
    if (message.len == 0 || memchr(message.data, 0, message.len))
        return malformed(err, "The message is empty or its length does not match its text.");
    if (!attribute(&rest, 'c', &binding))
        return malformed(err, "Attribute \"c\" expected.");
    if (!slice_is(binding, scram->gs2_header == 'n' ? "biws" : "eSws")) {
        error_set(err, SQLSTATE_PROTOCOL_VIOLATION,
                  "unexpected SCRAM channel-binding attribute in client-final-message");
        return false;
    }
    if (!attribute(&rest, 'r', &nonce))
        return malformed(err, "Attribute \"r\" expected.");
    while (rest.len && rest.data[0] != 'p') /* extensions are passed over */
        if (!attribute(&rest, (char)rest.data[0], &ignored))
            return malformed(err, "Attribute expected.");
    size_t without_proof = message.len - rest.len - (rest.len ? 1 : 0);
    if (!attribute(&rest, 'p', &proof_text) || rest.len)
        return malformed(err, "Attribute \"p\" expected at the end.");
    if (!base64_exact(proof_text, proof, SCRAM_KEY_LEN))
        return malformed(err, "Malformed proof in client-final-message.");
    if (!slice_equal_secret(nonce, slice_str(scram->nonce))) {
        error_set(err, SQLSTATE_PROTOCOL_VIOLATION, "invalid SCRAM response");
        error_detail(err, "Nonce does not match.");
        return false;
    }
    buf_append(&scram->auth_message, SLICE(","));
    buf_append(&scram->auth_message, slice_of(message.data, without_proof));
    if (scram->auth_message.failed)
        return malformed(err, "The message is too long.");
    if (!proof_right(scram, proof)) {
        error_set(err, SQLSTATE_INVALID_PASSWORD, "password authentication failed");
        return false;
    }
    uint8_t signature[SCRAM_KEY_LEN];
    char text[4 + 4 * ((SCRAM_KEY_LEN + 2) / 3)] = "v=";
    hmac(scram->server_key, buf_bytes(&scram->auth_message), signature);
    EVP_EncodeBlock((unsigned char *)text + 2, signature, SCRAM_KEY_LEN);
    buf_append(out, slice_str(text));
    return true;
}
