/* watch.h - shoalctl --watch: moves as bars, once a second, until all are over. */
#ifndef SHOAL_BIN_WATCH_H
#define SHOAL_BIN_WATCH_H

#include <libpq-fe.h>
#include <stdbool.h>

/* False when the connection is lost or the console refuses. *ret_failed: a move has failed. */
bool watch_moves(PGconn *conn, bool *ret_failed);

#endif
