/*
 * scram.c - RFC 5802/7677 key derivation, done once when the configuration is loaded.
 *
 *     salted    = PBKDF2-HMAC-SHA-256(SASLprep(password), salt, 4096)
 *     StoredKey = SHA-256(HMAC(salted, "Client Key"))      ServerKey = HMAC(salted, "Server Key")
 *
 * Thousands of hash rounds have no place in a worker's turn; with the verifier a login costs four.
 */
#include "meta/scram.h"

#include <gsasl.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <stdio.h>

#define SCRAM_PREFIX "SCRAM-SHA-256$"
#define SCRAM_BASE64_LEN 44 /* characters of a SHA-256 */

static bool derive(const char *password, Slice salt, unsigned iterations,
                   uint8_t ret_stored[SHA256_DIGEST_LENGTH], uint8_t ret_server[SHA256_DIGEST_LENGTH])
{
    uint8_t salted[SHA256_DIGEST_LENGTH], client[SHA256_DIGEST_LENGTH];
    bool ok = PKCS5_PBKDF2_HMAC(password, (int)strlen(password), salt.data, (int)salt.len,
                                (int)iterations, EVP_sha256(), sizeof salted, salted) == 1 &&
              HMAC(EVP_sha256(), salted, sizeof salted, (const uint8_t *)"Client Key", 10, client,
                   NULL) &&
              HMAC(EVP_sha256(), salted, sizeof salted, (const uint8_t *)"Server Key", 10,
                   ret_server, NULL) &&
              SHA256(client, sizeof client, ret_stored);
    OPENSSL_cleanse(salted, sizeof salted);
    OPENSSL_cleanse(client, sizeof client);
    return ok;
}

const char *scram_verifier_salted(const char *password, Slice salt, unsigned iterations,
                                  Arena *arena)
{
    uint8_t stored[SHA256_DIGEST_LENGTH], server[SHA256_DIGEST_LENGTH];
    /* A password that SASLprep refuses (not UTF-8, forbidden characters) is used as it is, as
     * PostgreSQL and libpq do. */
    char *prepared = NULL;
    bool is_prepared = gsasl_saslprep(password, 0, &prepared, NULL) == GSASL_OK && prepared;
    bool ok = derive(is_prepared ? prepared : password, salt, iterations, stored, server);
    if (prepared) {
        OPENSSL_cleanse(prepared, strlen(prepared));
        gsasl_free(prepared);
    }
    if (!ok || salt.len > 64)
        return NULL;
    uint8_t salt64[90], stored64[SCRAM_BASE64_LEN + 1], server64[SCRAM_BASE64_LEN + 1];
    EVP_EncodeBlock(salt64, salt.data, (int)salt.len);
    EVP_EncodeBlock(stored64, stored, sizeof stored);
    EVP_EncodeBlock(server64, server, sizeof server);
    return arena_printf(arena, SCRAM_PREFIX "%u:%s$%s:%s", iterations, (char *)salt64,
                        (char *)stored64, (char *)server64);
}

const char *scram_verifier(const char *password, Arena *arena)
{
    uint8_t salt[SCRAM_SALT_LEN];
    if (RAND_bytes(salt, sizeof salt) != 1)
        return NULL;
    return scram_verifier_salted(password, slice_of(salt, sizeof salt), SCRAM_ITERATIONS, arena);
}

/* Length of the base64 text at `p` that ends at `end` (or the text's end); 0 when it is none. */
static size_t base64_span(const char *p, char end)
{
    static const char ALPHABET[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n = strspn(p, ALPHABET);
    while (p[n] == '=')
        n++;
    return p[n] == end && n % 4 == 0 ? n : 0;
}

bool scram_is_verifier(const char *text)
{
    if (strncmp(text, SCRAM_PREFIX, sizeof SCRAM_PREFIX - 1) != 0)
        return false;
    const char *p = text + sizeof SCRAM_PREFIX - 1;
    size_t digits = strspn(p, "0123456789");
    if (digits == 0 || digits > 9 || *p == '0' || p[digits] != ':')
        return false;
    p += digits + 1;
    size_t salt = base64_span(p, '$');
    if (salt == 0)
        return false;
    p += salt + 1;
    if (base64_span(p, ':') != SCRAM_BASE64_LEN)
        return false;
    p += SCRAM_BASE64_LEN + 1;
    return base64_span(p, 0) == SCRAM_BASE64_LEN;
}
