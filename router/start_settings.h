/*
 * start_settings.h - settings of the startup message become what the session's server connections start with.
 *
 *     options=-c statement_timeout=5s     ┐                     shoal.* ones: the session's own (read_setting.h)
 *     application_name=psql               ┴> in this order ─<
 *                                                               others: session->gucs_base, values quoted for SET
 */
#ifndef SHOAL_ROUTER_START_SETTINGS_H
#define SHOAL_ROUTER_START_SETTINGS_H

#include "router/session.h"
#include "wire/startup.h"

/* False: a name that cannot be one (42704), a bad value of one of ours, broken options, or no memory (53200).
 * `arena`: scratch of the login. */
bool start_settings_take(Session *session, const StartupPacket *startup, Arena *arena, Error *err) MUST_USE;

#endif
