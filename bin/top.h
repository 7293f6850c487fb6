/* top.h - shoalctl top: the router at work, on one screen, again and again. */
#ifndef SHOAL_BIN_TOP_H
#define SHOAL_BIN_TOP_H

#include <libpq-fe.h>
#include <stdbool.h>

/* Every `interval_s` seconds, `rounds` times (0: until interrupted). False when the console refused
 * or the connection broke: PQerrorMessage tells. */
bool top_run(PGconn *conn, double interval_s, unsigned rounds);

#endif
