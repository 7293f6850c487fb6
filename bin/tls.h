/* tls.h - the server side TLS context that all workers share, made once at start. */
#ifndef SHOAL_BIN_TLS_H
#define SHOAL_BIN_TLS_H

#include <openssl/ssl.h>

#include "meta/config.h"

/* *ret is NULL when no certificate is configured. False and err (F0000) when it cannot be used. */
bool tls_context_make(const Config *config, SSL_CTX **ret, Error *err) MUST_USE;

#endif
