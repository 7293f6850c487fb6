/*
 * scram.h - the server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677) as PostgreSQL speaks it.
 *
 *      client-first   n,,n=,r=<nonce>
 *      server-first   r=<nonce><ours>,s=<salt>,i=<iterations>
 *      client-final   c=biws,r=<both nonces>,p=<proof>
 *      server-final   v=<server signature>
 *
 * Works from a verifier (StoredKey, ServerKey): no password, no key derivation on the loop (H29).
 * An unknown user meets a mock exchange that cannot be told from a wrong password (H93).
 * Our own and not GNU SASL's, because that one refuses the empty user name which libpq sends.
 */
#ifndef SHOAL_ROUTER_SCRAM_H
#define SHOAL_ROUTER_SCRAM_H

#include "core/buf.h"
#include "core/error.h"

#define SCRAM_KEY_LEN   32
#define SCRAM_NONCE_LEN 24 /* of ours, in base64 characters */

typedef struct Scram {
    char salt[64]; /* base64, NUL-terminated */
    unsigned iterations;
    uint8_t stored_key[SCRAM_KEY_LEN], server_key[SCRAM_KEY_LEN];
    bool doomed; /* mock exchange: fails at the end, whatever the proof */
    char gs2_header; /* 'n' or 'y' */
    char nonce[256 + SCRAM_NONCE_LEN + 1]; /* client's and ours */
    size_t client_nonce_len;
    Buf auth_message; /* client-first-bare,server-first[,client-final-without-proof] */
} Scram;

/* `verifier` as in pg_authid: SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>; NULL or not
 * readable: a mock exchange, whose salt is always the same for the same `user`. */
void scram_init(Scram *scram, const char *verifier, Slice user);
void scram_finish(Scram *scram);
/* client-first in, server-first appended to `out`. Errors as PostgreSQL's (auth-scram.c). */
bool scram_first(Scram *scram, Slice message, bool tls, Buf *out, Error *err) MUST_USE;
/* client-final in, server-final appended. False with 28P01 when the proof is wrong; the caller
 * words that error, it knows the user's name. */
bool scram_final(Scram *scram, Slice message, Buf *out, Error *err) MUST_USE;

#endif
