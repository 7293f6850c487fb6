/*
 * identity.h - is the server behind a new connection the one it is taken for? Pure, but for its question.
 *
 *     connected ──IDENTITY_SQL──> system identifier, timeline, in recovery ──> used, or closed: 08001
 *
 * An address may have been given to another server, a primary that was replaced may have come back, a
 * standby may have been promoted a moment ago: what the control thread knows is up to a lag_check old,
 * the connection itself is asked now. Only servers of shards with replicas are.
 */
#ifndef SHOAL_BACKEND_IDENTITY_H
#define SHOAL_BACKEND_IDENTITY_H

#include <libpq-fe.h>

#include "meta/topology.h"

/* What a server should be, by the topology in force. */
typedef struct ServerIdentity {
    bool watched; /* its shard has replicas: it is asked */
    bool primary; /* it takes the shard's writes, or did until now (Topology.leaving) */
    uint64_t system_id, timeline; /* of the shard; 0: not known */
} ServerIdentity;

extern const char IDENTITY_SQL[];

ServerIdentity identity_of(const Topology *topology, const ServerConfig *server);
/* False: it is not, and in an operator's words why. */
bool identity_check(const ServerIdentity *expected, const PGresult *answer, char ret_why[static 200]) MUST_USE;

#endif
