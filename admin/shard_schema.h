/*
 * shard_schema.h - schema `shoal` in each shard's database, and whether the shard can take part in a
 * commit over several shards.
 *
 *     facts ──version older──> migrations (sql/shard_schema*.sql, in order) ──> facts again ──> ready, or why not
 *
 * Pure: questions as PgQuery, answers as PGresult; recovery.c asks them with its connections.
 */
#ifndef SHOAL_ADMIN_SHARD_SCHEMA_H
#define SHOAL_ADMIN_SHARD_SCHEMA_H

#include "admin/pg_client.h"
#include "meta/config.h"

typedef struct ShardFacts {
    bool known;
    uint64_t prepared_max;  /* max_prepared_transactions */
    bool superuser;         /* the control user is one */
    bool in_recovery;       /* nothing can be written there */
    uint32_t version;       /* of schema shoal; 0: none */
    char user[64];          /* as whom we are logged in */
    char migration_why[200]; /* the last attempt to create the schema failed; "" otherwise */
} ShardFacts;

extern const PgQuery SHARD_FACTS_QUERY;
/* Answer of that query; migration_why stays. */
void shard_facts_take(ShardFacts *facts, const PGresult *rows);
/* The schema has all that this program asks of it. */
bool shard_schema_ready(const ShardFacts *facts);
/* The steps from the facts' version to this program's; NULL when there are none to do. */
const PgQuery *shard_migrations(const ShardFacts *facts, uint32_t *ret_count);
/* Why this shard cannot take part for this database, for a DETAIL; false when it can. */
bool shard_facts_judge(const ShardFacts *facts, const DatabaseConfig *database,
                       const ServerConfig *server, char *ret_why, size_t size);

#endif
