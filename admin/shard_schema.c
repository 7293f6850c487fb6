/*
 * shard_schema.c - what a shard must have before it may prepare a transaction.
 *
 * The schema's version is its comment, so that it can be asked for without failing where there is no
 * schema. A newer version than ours is left alone: another router was upgraded first, and migrations only
 * add.
 */
#include "admin/shard_schema.h"

#include <stdio.h>
#include <stdlib.h>

#include "sql/sql.h"

static const PgQuery MIGRATIONS[] = {{.sql = sql_shard_schema}, {.sql = sql_shard_schema_2}}; /* [n]: from version n to n + 1 */

const PgQuery SHARD_FACTS_QUERY = {
    .sql = "SELECT current_setting('max_prepared_transactions'), r.rolsuper, pg_is_in_recovery(),"
           " obj_description(to_regnamespace('shoal'), 'pg_namespace'), current_user"
           " FROM pg_roles r WHERE r.rolname = current_user"};

void shard_facts_take(ShardFacts *facts, const PGresult *rows)
{
    static const char MARK[] = "Shoal, version ";
    if (PQntuples(rows) != 1)
        return;
    const char *comment = pg_text(rows, 0, 3);
    facts->known = true;
    facts->prepared_max = pg_u64(rows, 0, 0);
    facts->superuser = pg_bool(rows, 0, 1);
    facts->in_recovery = pg_bool(rows, 0, 2);
    facts->version = comment && strncmp(comment, MARK, sizeof MARK - 1) == 0
                         ? (uint32_t)strtoul(comment + sizeof MARK - 1, NULL, 10)
                         : 0;
    snprintf(facts->user, sizeof facts->user, "%s", PQgetvalue(rows, 0, 4));
    if (shard_schema_ready(facts))
        facts->migration_why[0] = '\0';
}

bool shard_schema_ready(const ShardFacts *facts)
{
    return facts->known && facts->version >= ARRAY_LEN(MIGRATIONS);
}

const PgQuery *shard_migrations(const ShardFacts *facts, uint32_t *ret_count)
{
    if (!facts->known || facts->in_recovery || shard_schema_ready(facts))
        return NULL;
    *ret_count = (uint32_t)(ARRAY_LEN(MIGRATIONS) - facts->version);
    return &MIGRATIONS[facts->version];
}

bool shard_facts_judge(const ShardFacts *facts, const DatabaseConfig *database,
                       const ServerConfig *server, char *ret_why, size_t size)
{
    if (!facts->known) {
        snprintf(ret_why, size, "Server %s has not answered Shoal's control connection yet.", server->name);
    } else if (facts->in_recovery) {
        snprintf(ret_why, size, "Server %s is in recovery.", server->name);
    } else if (facts->prepared_max == 0) {
        snprintf(ret_why, size, "max_prepared_transactions is 0 on server %s.", server->name);
    } else if (facts->version < ARRAY_LEN(MIGRATIONS)) {
        snprintf(ret_why, size, "Schema shoal could not be made in database %s on server %s: %s",
                 database->dbname, server->name,
                 facts->migration_why[0] ? facts->migration_why : "not tried yet");
    } else if (!facts->superuser &&
               !(database->server_user && strcmp(database->server_user, facts->user) == 0)) {
        snprintf(ret_why, size,
                 "The control user %s is no superuser on server %s, so it could not finish what other users prepare.",
                 facts->user, server->name);
    } else {
        return false;
    }
    return true;
}
