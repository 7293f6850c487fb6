/* tls.c - certificate and key of [shoal] as an SSL_CTX: TLS 1.2 or newer, no renegotiation. */
#include "bin/tls.h"

#include <openssl/err.h>

static bool tls_error(Error *err, const char *what, const char *path)
{
    char reason[256];
    ERR_error_string_n(ERR_get_error(), reason, sizeof reason);
    error_set(err, SQLSTATE_CONFIG_FILE, "%s %s cannot be used", what, path);
    error_detail(err, "%s", reason);
    return false;
}

bool tls_context_make(const Config *config, SSL_CTX **ret, Error *err)
{
    *ret = NULL;
    if (!config->tls_cert)
        return true;
    const char *key = config->tls_key ? config->tls_key : config->tls_cert;
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (!ctx)
        return tls_error(err, "TLS with", config->tls_cert);
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                 SSL_OP_NO_COMPRESSION);
    /* A connection lives long; tickets would only be keys to lose. */
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(ctx, 0);
    bool ok = true;
    if (SSL_CTX_use_certificate_chain_file(ctx, config->tls_cert) != 1)
        ok = tls_error(err, "certificate", config->tls_cert);
    else if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
        ok = tls_error(err, "key", key);
    else if (SSL_CTX_check_private_key(ctx) != 1)
        ok = tls_error(err, "key (it does not belong to the certificate)", key);
    if (!ok) {
        SSL_CTX_free(ctx);
        return false;
    }
    *ret = ctx;
    return true;
}
