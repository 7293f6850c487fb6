/*
 * config_members.c - the shards of a Config, put into the order in which the store knows them.
 *
 *     shards.ini: s2 s0 s1     members: s0 s1     ->  s0 s1       (s2 has no schema yet: left out)
 *                              ... and `joining` s2  ->  s0 s1 s2
 *
 * A shard's index never changes while the program runs: new ones come behind the old ones, wherever
 * their section stands in the file.
 */
#include "meta/config.h"

typedef struct Arrangement {
    Config *config;
    uint32_t *place; /* [old shard index]: the new one, or UINT32_MAX */
    uint32_t count;
} Arrangement;

static void arrange_one(Arrangement *a, const char *name)
{
    for (uint32_t i = 0; i < a->config->shard_count; i++) {
        if (a->place[i] == UINT32_MAX && strcmp(a->config->shards[i].name, name) == 0)
            a->place[i] = a->count++;
    }
}

/* A database that lies on all shards has them in the members' order; any other in its own. */
static void arrange_database(const Arrangement *a, DatabaseConfig *database)
{
    uint32_t count = 0;
    bool all = database->shard_count == a->config->shard_count;
    for (uint32_t i = 0; i < database->shard_count; i++)
        all &= database->shards[i] == i;
    for (uint32_t i = 0; i < database->shard_count; i++) {
        uint32_t place = a->place[database->shards[i]];
        if (place != UINT32_MAX)
            database->shards[count++] = place;
    }
    for (uint32_t i = 0; all && i < count; i++)
        database->shards[i] = i;
    database->shard_count = count;
}

static void servers_number(Config *config)
{
    config->server_count = 0;
    for (uint32_t s = 0; s < config->shard_count; s++) {
        ShardConfig *shard = &config->shards[s];
        for (uint32_t r = 0; r <= shard->replica_count; r++) {
            ServerConfig *server = r == 0 ? shard->primary : shard->replicas[r - 1];
            server->shard = s;
            server->index = config->server_count;
            config->servers[config->server_count++] = server;
        }
    }
}

bool config_arrange(Config *config, const char *const *members, uint32_t member_count, const char *joining,
                    Error *err)
{
    Arrangement a = {.config = config, .place = arena_array(&config->arena, uint32_t, config->shard_count)};
    ShardConfig *shards = arena_array(&config->arena, ShardConfig, config->shard_count);
    if (!a.place || !shards) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory while reading %.200s", config->path);
        return false;
    }
    memset(a.place, 0xff, config->shard_count * sizeof *a.place);
    for (uint32_t i = 0; i < member_count; i++)
        arrange_one(&a, members[i]);
    if (joining)
        arrange_one(&a, joining);
    for (uint32_t i = 0; i < config->shard_count; i++) {
        if (a.place[i] != UINT32_MAX)
            shards[a.place[i]] = config->shards[i];
    }
    for (uint32_t d = 0; d < config->database_count; d++) {
        arrange_database(&a, &config->databases[d]);
        if (config->databases[d].shard_count > 0)
            continue;
        error_set(err, SQLSTATE_CONFIG_FILE, "%.200s: database %s lies on no shard that has joined", config->path,
                  config->databases[d].name);
        error_hint(err, "A new shard joins by SHARD ADD; until then databases stay where they are.");
        return false;
    }
    config->shards = shards;
    config->shard_count = a.count;
    servers_number(config);
    return true;
}
