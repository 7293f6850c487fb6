/*
 * config_show.c - a Config compared and shown: SHOW CONFIG, and what RELOAD could not apply.
 */
#include "meta/settings.h"

bool setting_is_global(const Setting *setting)
{
    static const char *const SECTIONS[] = {"shoal", "batch", "replicas"};
    for (size_t i = 0; i < ARRAY_LEN(SECTIONS); i++)
        if (strcmp(setting->section, SECTIONS[i]) == 0)
            return true;
    return false;
}

const char *config_show(const Config *config, const Setting *setting, Arena *arena)
{
    assert(setting_is_global(setting));
    return setting_show(setting, config, arena);
}

/* Server indexes number pools and counters, so a server must keep its place and address. */
static bool servers_equal(const Config *a, const Config *b)
{
    if (a->server_count != b->server_count || a->shard_count != b->shard_count)
        return false;
    for (uint32_t i = 0; i < a->server_count; i++) {
        if (strcmp(a->servers[i]->name, b->servers[i]->name) != 0 ||
            strcmp(a->servers[i]->conninfo, b->servers[i]->conninfo) != 0)
            return false;
    }
    return true;
}

static bool databases_equal(const Config *a, const Config *b)
{
    if (a->database_count != b->database_count)
        return false;
    for (uint32_t i = 0; i < a->database_count; i++) {
        const DatabaseConfig *x = &a->databases[i], *y = &b->databases[i];
        if (strcmp(x->name, y->name) != 0 || strcmp(x->dbname, y->dbname) != 0 ||
            x->shard_count != y->shard_count ||
            memcmp(x->shards, y->shards, x->shard_count * sizeof *x->shards) != 0)
            return false;
    }
    return true;
}

static const char *joined(const char *list, const char *word, Arena *arena)
{
    const char *longer = list ? arena_printf(arena, "%s, %s", list, word) : word;
    return longer ? longer : list;
}

const char *config_restart_needed(const Config *old, const Config *new, Arena *arena)
{
    const char *names = NULL;
    size_t count;
    const Setting *rows = config_settings(&count);
    for (size_t i = 0; i < count; i++) {
        if (rows[i].reload || !setting_is_global(&rows[i]))
            continue;
        const char *before = setting_show(&rows[i], old, arena);
        const char *after = setting_show(&rows[i], new, arena);
        if (!before || !after || strcmp(before, after) != 0)
            names = joined(names, rows[i].key, arena);
    }
    if (!servers_equal(old, new))
        names = joined(names, "[shard]", arena);
    if (!databases_equal(old, new))
        names = joined(names, "[database]", arena);
    return names;
}
