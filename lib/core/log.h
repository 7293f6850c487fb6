/*
 * log.h - one line per event on stderr: time, level, who, what.
 *
 * Only edges log (sessions, backends, main, the control loop); low folders return errors. Control
 * bytes in a line are escaped, so that nobody writes our log but us. Safe from every thread: each
 * line is one write(2).
 */
#ifndef SHOAL_CORE_LOG_H
#define SHOAL_CORE_LOG_H

#include "core/base.h"
#include "core/error.h"

typedef enum LogLevel { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR } LogLevel;

/* Lines below this level are not written. Default LOG_INFO. Takes effect in all threads. */
void log_level_set(LogLevel level);
bool log_enabled(LogLevel level);

/* `who` is the prefix of the session, backend or thread, e.g. "client 17" or "server s0/primary". */
void log_line(LogLevel level, const char *who, const char *fmt, ...) PRINTF_LIKE(3, 4);
void log_error(const char *who, const Error *err);

#endif
