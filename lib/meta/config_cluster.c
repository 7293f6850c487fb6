/*
 * config_cluster.c - what the operator's cluster is: [shard], [database] and [table] sections.
 */
#include "core/map.h"
#include "meta/config_loader.h"
#include "meta/conninfo.h"
#include "meta/identifier.h"
#include "meta/nearest.h"
#include "meta/settings.h"
#include "meta/topology.h"

#define CONFIG_SHARDS_MAX 1000
#define CONFIG_SERVERS_MAX 4000

/* ---- [shard NAME] ---- */

static bool shard_name_check(ConfigLoader *loader, const IniSection *section)
{
    static const char ALLOWED[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
    return section->name[strspn(section->name, ALLOWED)] == 0 ||
           FAIL(loader, section->line, "a shard's name has only letters, digits and _ - .");
}

static bool server_add(ConfigLoader *loader, uint32_t shard, ServerRole role, const IniEntry *entry)
{
    Config *c = loader->config;
    ShardConfig *owner = &c->shards[shard];
    Conninfo info;
    Error reason;
    if (!conninfo_read(entry->value, &c->arena, &info, &reason)) {
        FAIL(loader, entry->line, "%s", reason.message);
        error_hint(loader->err, "%s", reason.hint);
        return false;
    }
    ServerConfig *server = arena_new(&c->arena, ServerConfig);
    if (!server)
        return FAIL_MEMORY(loader);
    *server = (ServerConfig){.conninfo = info.text, .host = info.host, .port = info.port, .role = role,
                             .weight = info.weight, .zone = info.zone,
                             .patroni_host = info.patroni_host, .patroni_port = info.patroni_port, .shard = shard, .index = c->server_count};
    server->name = role == SERVER_PRIMARY
                       ? arena_printf(&c->arena, "%s/primary", owner->name)
                       : arena_printf(&c->arena, "%s/replica%u", owner->name, owner->replica_count + 1);
    if (!server->name)
        return FAIL_MEMORY(loader);
    for (uint32_t i = 0; i < c->server_count; i++) {
        if (c->servers[i]->port == info.port &&
            slice_equal_nocase(slice_str(c->servers[i]->host), slice_str(info.host)))
            return FAIL(loader, entry->line, "%.100s:%d is both %s and %s", info.host, info.port,
                        c->servers[i]->name, server->name);
    }
    c->servers[c->server_count++] = server;
    if (role == SERVER_PRIMARY)
        owner->primary = server;
    else
        owner->replicas[owner->replica_count++] = server;
    return true;
}

static bool load_shard(ConfigLoader *loader, IniSection *section, uint32_t index)
{
    Config *c = loader->config;
    ShardConfig *shard = &c->shards[index];
    if (!settings_default("shard", shard, &c->arena))
        return FAIL_MEMORY(loader);
    if (!shard_name_check(loader, section) || !section_read(loader, section, shard))
        return false;
    shard->name = arena_text(&c->arena, slice_str(section->name));
    uint32_t entries = 0;
    LIST_EACH(link, &section->entries)
        entries++;
    shard->replicas = arena_array(&c->arena, ServerConfig *, entries + 1);
    if (!shard->name || !shard->replicas)
        return FAIL_MEMORY(loader);
    const IniEntry *primary = entry_find(section, "primary");
    if (!primary)
        return FAIL(loader, section->line, "shard %s has no primary", shard->name);
    if (!server_add(loader, index, SERVER_PRIMARY, primary))
        return false;
    LIST_EACH(link, &section->entries) {
        const IniEntry *entry = list_entry(link, IniEntry, link);
        if (strcmp(entry->key, "replica") == 0 && !server_add(loader, index, SERVER_REPLICA, entry))
            return false;
    }
    return true;
}

bool load_shards(ConfigLoader *loader)
{
    Config *c = loader->config;
    uint32_t count = section_count(loader, "shard"), servers = 0;
    if (count == 0) {
        FAIL(loader, 0, "there is no [shard NAME] section");
        error_hint(loader->err, "Add [shard s0] with primary = host=... port=...");
        return false;
    }
    SECTIONS_EACH(section, loader, "shard") {
        LIST_EACH(link, &section->entries)
            servers++;
    }
    if (count > CONFIG_SHARDS_MAX || servers > CONFIG_SERVERS_MAX)
        return FAIL(loader, 0, "more than %d shards or %d servers", CONFIG_SHARDS_MAX, CONFIG_SERVERS_MAX);
    c->shards = arena_array(&c->arena, ShardConfig, count);
    c->servers = arena_array(&c->arena, ServerConfig *, servers + 1);
    if (!c->shards || !c->servers)
        return FAIL_MEMORY(loader);
    SECTIONS_EACH(section, loader, "shard") {
        if (!load_shard(loader, section, c->shard_count))
            return false;
        c->shard_count++;
    }
    return true;
}

/* ---- [database NAME] ---- */

static bool database_add_shard(ConfigLoader *loader, DatabaseConfig *database, Slice name, int line)
{
    const Config *c = loader->config;
    char wanted[CONFIG_NAME_MAX + 1] = "";
    memcpy(wanted, name.data, MIN(name.len, CONFIG_NAME_MAX));
    Nearest nearest = nearest_init(wanted);
    for (uint32_t i = 0; i < c->shard_count; i++) {
        nearest_offer(&nearest, c->shards[i].name);
        if (!slice_is(name, c->shards[i].name))
            continue;
        for (uint32_t k = 0; k < database->shard_count; k++) {
            if (database->shards[k] == i)
                return FAIL(loader, line, "shard %s is named twice", wanted);
        }
        database->shards[database->shard_count++] = i;
        return true;
    }
    FAIL(loader, line, "unknown shard \"%s\"", wanted);
    nearest_hint(&nearest, loader->err);
    return false;
}

/* `s0, s1`; without an entry all shards in the order of the file. */
static bool database_read_shards(ConfigLoader *loader, DatabaseConfig *database, const IniEntry *entry)
{
    uint32_t all = loader->config->shard_count;
    database->shards = arena_array(&loader->config->arena, uint32_t, all);
    if (!database->shards)
        return FAIL_MEMORY(loader);
    if (!entry) {
        for (uint32_t i = 0; i < all; i++)
            database->shards[i] = i;
        database->shard_count = all;
        return true;
    }
    for (const char *at = entry->value;; at++) {
        at += strspn(at, " \t");
        size_t len = strcspn(at, ","), end = len;
        while (len > 0 && (at[len - 1] == ' ' || at[len - 1] == '\t'))
            len--;
        if (!database_add_shard(loader, database, slice_of(at, len), entry->line))
            return false;
        at += end;
        if (!*at)
            return true;
    }
}

static bool load_database(ConfigLoader *loader, IniSection *section, uint32_t index)
{
    Config *c = loader->config;
    DatabaseConfig *database = &c->databases[index];
    if (!settings_default("database", database, &c->arena))
        return FAIL_MEMORY(loader);
    if (!section_read(loader, section, database) || !profile_check(loader, section) ||
        !database_read_shards(loader, database, entry_find(section, "shards")))
        return false;
    database->index = index;
    database->name = arena_text(&c->arena, slice_str(section->name));
    if (!database->name)
        return FAIL_MEMORY(loader);
    if (!database->dbname)
        database->dbname = database->name;
    if (database->server_password && !database->server_user)
        return FAIL(loader, entry_find(section, "server_password")->line,
                    "server_password needs server_user");
    return true;
}

bool load_databases(ConfigLoader *loader)
{
    Config *c = loader->config;
    uint32_t count = section_count(loader, "database");
    if (count == 0)
        return FAIL(loader, 0, "there is no [database NAME] section");
    c->databases = arena_array(&c->arena, DatabaseConfig, count);
    if (!c->databases)
        return FAIL_MEMORY(loader);
    SECTIONS_EACH(section, loader, "database") {
        if (!load_database(loader, section, c->database_count))
            return false;
        c->database_count++;
    }
    return true;
}

/* ---- [table NAME] ---- */

static const char *identifier_text(const Identifier *id, Arena *arena)
{
    return arena_text(arena, identifier_slice(id));
}

/* `orders`, `sales.orders`, `"Sales"."Orders"`. */
static bool table_read_name(ConfigLoader *loader, TableConfig *table, const IniSection *section)
{
    Arena *arena = &loader->config->arena;
    Slice rest = slice_str(section->name);
    Identifier first, second;
    bool ok = identifier_take(&rest, '.', &first);
    bool qualified = ok && rest.len > 0;
    if (qualified)
        ok = identifier_take(&rest, '.', &second);
    if (!ok || rest.len > 0 || section->name[strlen(section->name) - 1] == '.')
        return FAIL(loader, section->line, "\"%.100s\" is not a table's name", section->name);
    table->schema = qualified ? identifier_text(&first, arena) : "public";
    table->name = identifier_text(qualified ? &second : &first, arena);
    return (table->schema && table->name) || FAIL_MEMORY(loader);
}

/* `a, "B c"`: up to eight columns, put together as the store has them. */
static bool table_join_key(ConfigLoader *loader, TableConfig *table, const IniEntry *entry)
{
    Slice rest = slice_str(entry->value);
    const char *joined = "";
    Identifier key;
    int count = 0;
    while (joined && identifier_take(&rest, ',', &key) && count++ < TABLE_KEYS_MAX)
        joined = arena_printf(&loader->config->arena, "%s%s%.*s", joined,
                              count > 1 ? (char[]){TABLE_KEY_SEPARATOR, 0} : "", SLICE_FMT(identifier_slice(&key)));
    if (!joined)
        return FAIL_MEMORY(loader);
    bool one = strcmp(table->kind, "hash") != 0;
    if (rest.len || count == 0 || count > TABLE_KEYS_MAX || (one && count > 1))
        return FAIL(loader, entry->line, "key must be %s, not \"%.60s\"",
                    one ? "one column's name" : "names of one to eight columns", entry->value);
    table->key = joined;
    return true;
}

static bool table_read_key(ConfigLoader *loader, TableConfig *table, IniSection *section)
{
    const IniEntry *entry = entry_find(section, "key");
    bool keyless = strcmp(table->kind, "reference") == 0 || strcmp(table->kind, "local") == 0;
    bool other = entry_find(section, "batch") || entry_find(section, "batch_writes") ||
                 entry_find(section, "profile") || entry_find(section, "prefetch_max_age_ms") ||
                 entry_find(section, "copies");
    if (!entry && other && !entry_find(section, "kind"))
        return true; /* the section is about batching */
    if (keyless && entry)
        return FAIL(loader, entry->line, "a %s table has no key", table->kind);
    table->key = "";
    if (keyless)
        return true;
    if (entry)
        return table_join_key(loader, table, entry);
    FAIL(loader, section->line, "table %.63s has no key", table->name);
    error_hint(loader->err, "Add key = COLUMN.");
    return false;
}

/* What only some kinds have, they must have; the others must not. */
static bool table_read_places(ConfigLoader *loader, const TableConfig *table, IniSection *section)
{
    bool placed = strcmp(table->kind, "range") == 0 || strcmp(table->kind, "list") == 0;
    const struct {
        const char *key, *value;
        bool wanted;
    } KEYS[] = {{"places", table->places, placed},
                {"key_type", table->key_type, placed},
                {"shard", table->shard, strcmp(table->kind, "local") == 0}};
    for (size_t i = 0; i < ARRAY_LEN(KEYS); i++) {
        const IniEntry *entry = entry_find(section, KEYS[i].key);
        if (KEYS[i].wanted != (entry != NULL))
            return FAIL(loader, entry ? entry->line : section->line, "a %s table %s %s = ...", table->kind,
                        entry ? "has no" : "needs", KEYS[i].key);
    }
    if (!table->shard)
        return true;
    for (uint32_t i = 0; i < loader->config->shard_count; i++)
        if (strcmp(loader->config->shards[i].name, table->shard) == 0)
            return true;
    return FAIL(loader, entry_find(section, "shard")->line, "unknown shard \"%s\"", table->shard);
}

static bool table_read_database(ConfigLoader *loader, TableConfig *table, IniSection *section)
{
    const Config *c = loader->config;
    const IniEntry *entry = entry_find(section, "database");
    if (!entry && c->database_count > 1)
        return FAIL(loader, section->line, "table %.63s needs database = ..., as there are several",
                    table->name);
    if (!entry)
        table->database = c->databases[0].name;
    const DatabaseConfig *database = config_database(c, slice_str(table->database));
    if (!database) {
        Nearest nearest = nearest_init(table->database);
        for (uint32_t i = 0; i < c->database_count; i++)
            nearest_offer(&nearest, c->databases[i].name);
        FAIL(loader, entry->line, "unknown database \"%s\"", table->database);
        nearest_hint(&nearest, loader->err);
        return false;
    }
    if (table->key && database->shard_count != c->shard_count) {
        FAIL(loader, section->line, "table %.63s cannot be distributed: database %s is not on all shards",
             table->name, database->name);
        return false;
    }
    return true;
}

static bool table_equal(const void *item, const void *key)
{
    const TableConfig *a = item, *b = key;
    return strcmp(a->name, b->name) == 0 && strcmp(a->schema, b->schema) == 0 &&
           strcmp(a->database, b->database) == 0;
}

static bool load_table(ConfigLoader *loader, IniSection *section, Map *seen)
{
    Config *c = loader->config;
    TableConfig *table = &c->tables[c->table_count++];
    table->line = section->line;
    if (!settings_default("table", table, &c->arena))
        return FAIL_MEMORY(loader);
    if (!table_read_name(loader, table, section) || !section_read(loader, section, table) ||
        !profile_check(loader, section) ||
        !table_read_key(loader, table, section) || !table_read_places(loader, table, section) ||
        !table_read_database(loader, table, section))
        return false;
    c->batch_writes |= table->batch_writes;
    c->table_copies |= table->copies > 0;
    uint64_t hash = slice_hash(slice_str(table->name), slice_hash(slice_str(table->schema), 0));
    const TableConfig *first = map_get(seen, hash, table);
    if (first)
        return FAIL(loader, section->line, "table %s.%s stands here for the second time, first in line %d",
                    table->schema, table->name, first->line);
    return map_put(seen, hash, table) || FAIL_MEMORY(loader);
}

bool load_tables(ConfigLoader *loader)
{
    Config *c = loader->config;
    c->tables = arena_array(&c->arena, TableConfig, section_count(loader, "table") + 1);
    if (!c->tables)
        return FAIL_MEMORY(loader);
    Map seen;
    map_init(&seen, table_equal);
    bool ok = true;
    SECTIONS_EACH(section, loader, "table") {
        ok = load_table(loader, section, &seen);
        if (!ok)
            break;
    }
    map_finish(&seen);
    return ok;
}

const TableConfig *config_table(const Config *config, const char *database, Slice schema, Slice name)
{
    for (uint32_t i = 0; i < config->table_count; i++) {
        const TableConfig *table = &config->tables[i];
        if (slice_is(name, table->name) && slice_is(schema, table->schema) &&
            strcmp(table->database, database) == 0)
            return table;
    }
    return NULL;
}

const DatabaseConfig *config_database(const Config *config, Slice name)
{
    for (uint32_t i = 0; i < config->database_count; i++) {
        if (slice_is(name, config->databases[i].name))
            return &config->databases[i];
    }
    return NULL;
}
