/*
 * login.h - from the first byte to ReadyForQuery.
 *
 *   FIRST   SSLRequest (once), GSSENCRequest (once), cancel, startup      -> SASL or CHECK
 *   SASL    SCRAM-SHA-256: first, final                                   -> CHECK
 *   CHECK   the startup's settings are tried on a server connection, once per worker and set of
 *           values; ParameterStatus comes from there                      -> session_activate
 *
 * Until the login is done the session has nothing but this struct, one timer and a timeout.
 */
#ifndef SHOAL_ROUTER_LOGIN_H
#define SHOAL_ROUTER_LOGIN_H

#include "router/session.h"

bool login_begin(Session *session) MUST_USE;
/* Bytes came. */
void login_run(Session *session);
/* Gives back session->login; NULL is fine. */
void login_finish(Session *session);

#endif
