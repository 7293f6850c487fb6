/*
 * identity.c - why this file exists: the machine that came back answers on the old primary's address,
 * takes every write, and all of them are lost.
 */
#include "backend/identity.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The timeline of a primary is in the name of the file it writes (pg_control is behind after a promotion). */
const char IDENTITY_SQL[] =
    "SELECT pg_is_in_recovery(), (SELECT system_identifier FROM pg_control_system()),"
    " CASE WHEN pg_is_in_recovery() THEN 0"
    " ELSE ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int END";

ServerIdentity identity_of(const Topology *topology, const ServerConfig *server)
{
    uint32_t shard = server->shard;
    bool primary = topology->primaries[shard] == server->index || topology->leaving[shard] == server->index;
    return (ServerIdentity){.watched = topology->config->shards[shard].replica_count > 0,
                            .primary = primary,
                            .system_id = topology->stamps[shard].system_id,
                            .timeline = topology->stamps[shard].timeline};
}

static bool refuse(char ret_why[static 200], const char *text, uint64_t is, uint64_t should)
{
    snprintf(ret_why, 200, text, is, should);
    return false;
}

bool identity_check(const ServerIdentity *expected, const PGresult *answer, char ret_why[static 200])
{
    if (PQresultStatus(answer) != PGRES_TUPLES_OK || PQntuples(answer) != 1) {
        const char *text = PQresultErrorMessage(answer);
        snprintf(ret_why, 200, "it cannot say who it is: %.*s", (int)MIN(strcspn(text, "\n"), 140), text);
        return false;
    }
    bool recovery = PQgetvalue(answer, 0, 0)[0] == 't';
    uint64_t system_id = strtoull(PQgetvalue(answer, 0, 1), NULL, 10);
    uint64_t timeline = strtoull(PQgetvalue(answer, 0, 2), NULL, 10);
    if (expected->system_id && system_id != expected->system_id)
        return refuse(ret_why, "it has the system identifier %" PRIu64 ", the shard has %" PRIu64, system_id,
                      expected->system_id);
    if (expected->primary && recovery)
        return refuse(ret_why, "it is in recovery, and not the primary any more", 0, 0);
    if (!expected->primary && !recovery)
        return refuse(ret_why, "it takes writes on timeline %" PRIu64 ", and is not the primary of timeline %" PRIu64,
                      timeline, expected->timeline);
    if (!recovery && expected->timeline && timeline != expected->timeline)
        return refuse(ret_why, "it takes writes on timeline %" PRIu64 ", the shard is on %" PRIu64, timeline,
                      expected->timeline);
    return true;
}
