/*
 * config.c - shards.ini to a Config: sections in, cross-checked structs out.
 *
 *     IniFile --[shoal] [batch]--> fields of Config
 *             --[shard s0] ...---> ShardConfig, ServerConfig      servers numbered in file order
 *             --[database app]---> DatabaseConfig                 names shards: after them
 *             --[user alice]-----> UserConfig <-- user_list file  sorted by name
 *             --[table orders]---> TableConfig                    names a database: after them
 *             --[profile night]--> ProfileConfig                  named by all of these: before them
 *
 * What each key means stands in settings.c; what spans several keys or sections stands here and in
 * config_cluster.c (shards, databases, tables) and config_users.c. The first thing that is wrong ends the load, with its line; there is no half-loaded Config.
 */
#include "meta/config.h"

#include <arpa/inet.h>
#include <openssl/crypto.h>
#include <stdlib.h>

#include "core/map.h"
#include "meta/config_loader.h"
#include "meta/nearest.h"
#include "meta/settings.h"

#define CONFIG_BLOCK_SIZE (16 * 1024)

static const char *const SECTION_KINDS[] = {"shoal", "batch", "replicas", "shard", "database",
                                            "user",  "table", "profile", "application"};

/* ---- sections and keys in general ---- */

static bool section_known(ConfigLoader *loader, const IniSection *section)
{
    Nearest nearest = nearest_init(section->kind);
    for (size_t i = 0; i < ARRAY_LEN(SECTION_KINDS); i++) {
        if (strcmp(SECTION_KINDS[i], section->kind) != 0) {
            nearest_offer(&nearest, SECTION_KINDS[i]);
            continue;
        }
        bool named = i >= 3;
        if (named && !*section->name)
            return FAIL(loader, section->line, "[%s NAME] needs a name", section->kind);
        if (!named && *section->name)
            return FAIL(loader, section->line, "[%s] has no name", section->kind);
        if (strcmp(section->kind, "table") != 0 && strlen(section->name) > CONFIG_NAME_MAX)
            return FAIL(loader, section->line, "the name is longer than %d bytes", CONFIG_NAME_MAX);
        return true;
    }
    FAIL(loader, section->line, "unknown section [%.60s]", section->kind);
    nearest_hint(&nearest, loader->err);
    return false;
}

static bool section_equal(const void *item, const void *key)
{
    const IniSection *a = item, *b = key;
    return strcmp(a->kind, b->kind) == 0 && strcmp(a->name, b->name) == 0;
}

static bool sections_check(ConfigLoader *loader)
{
    Map seen;
    map_init(&seen, section_equal);
    bool ok = true;
    LIST_EACH(link, &loader->ini.sections) {
        IniSection *section = list_entry(link, IniSection, link);
        uint64_t hash = slice_hash(slice_str(section->name), slice_hash(slice_str(section->kind), 0));
        const IniSection *first = map_get(&seen, hash, section);
        if (first)
            ok = FAIL(loader, section->line, "[%s%s%.63s] stands here for the second time, first in line %d",
                      section->kind, *section->name ? " " : "", section->name, first->line);
        else
            ok = section_known(loader, section) &&
                 (map_put(&seen, hash, section) || FAIL_MEMORY(loader));
        if (!ok)
            break;
    }
    map_finish(&seen);
    return ok;
}

IniSection *section_next(ConfigLoader *loader, List *link, const char *kind)
{
    for (link = link->next; link != &loader->ini.sections; link = link->next) {
        IniSection *section = list_entry(link, IniSection, link);
        if (strcmp(section->kind, kind) == 0)
            return section;
    }
    return NULL;
}

uint32_t section_count(ConfigLoader *loader, const char *kind)
{
    uint32_t count = 0;
    SECTIONS_EACH(section, loader, kind)
        count++;
    return count;
}

IniEntry *entry_find(IniSection *section, const char *key)
{
    LIST_EACH(link, &section->entries) {
        IniEntry *entry = list_entry(link, IniEntry, link);
        if (strcmp(entry->key, key) == 0)
            return entry;
    }
    return NULL;
}

static bool entry_unknown(ConfigLoader *loader, const IniSection *section, const IniEntry *entry)
{
    size_t count;
    const Setting *rows = config_settings(&count);
    const char *elsewhere = NULL;
    Nearest nearest = nearest_init(entry->key);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(rows[i].section, section->kind) == 0)
            nearest_offer(&nearest, rows[i].key);
        else if (strcmp(rows[i].key, entry->key) == 0)
            elsewhere = rows[i].section;
    }
    FAIL(loader, entry->line, "unknown key \"%.60s\" in [%s]", entry->key, section->kind);
    nearest_hint(&nearest, loader->err);
    if (elsewhere && !nearest.best)
        error_hint(loader->err, "\"%s\" belongs into [%s].", entry->key, elsewhere);
    return false;
}

bool section_read(ConfigLoader *loader, IniSection *section, void *base)
{
    char reason[256];
    LIST_EACH(link, &section->entries) {
        IniEntry *entry = list_entry(link, IniEntry, link);
        const Setting *setting = setting_find(section->kind, entry->key);
        if (!setting)
            return entry_unknown(loader, section, entry);
        const IniEntry *first = entry_find(section, entry->key);
        if (first != entry && strcmp(entry->key, "replica") != 0)
            return FAIL(loader, entry->line, "\"%s\" is set for the second time, first in line %d",
                        entry->key, first->line);
        if (setting->secret && !text_file_keeps_secret(&loader->ini.text, entry->line, loader->err))
            return false;
        if (!setting_store(setting, base, entry->value, &loader->config->arena, reason))
            return FAIL(loader, entry->line, "%s", reason);
        if (setting->secret)
            OPENSSL_cleanse(entry->value, strlen(entry->value));
        if (base == loader->config) {
            size_t count;
            loader->lines[setting - config_settings(&count)] = entry->line;
        }
    }
    return true;
}

/* ---- [shoal], [batch] ---- */

int config_line_of(ConfigLoader *loader, const char *key)
{
    size_t count;
    return loader->lines[setting_find("shoal", key) - config_settings(&count)];
}

/* Paths start at the directory of shards.ini, wherever the program was started. */
static bool path_resolve(ConfigLoader *loader, const char **path)
{
    const char *slash = strrchr(loader->config->path, '/');
    if (!*path || **path == '/' || !slash)
        return true;
    *path = arena_printf(&loader->config->arena, "%.*s%s", (int)(slash - loader->config->path) + 1,
                         loader->config->path, *path);
    return *path || FAIL_MEMORY(loader);
}

/* Whom only programs of this machine can reach. A name may mean anything, but for localhost. */
static bool address_is_loopback(const char *address)
{
    struct in_addr four;
    struct in6_addr six;
    if (inet_pton(AF_INET, address, &four) == 1)
        return ntohl(four.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, address, &six) == 1)
        return IN6_IS_ADDR_LOOPBACK(&six);
    return strcmp(address, "localhost") == 0;
}

static bool load_shoal(ConfigLoader *loader)
{
    Config *c = loader->config;
    SECTIONS_EACH(section, loader, "shoal") {
        if (!section_read(loader, section, c))
            return false;
    }
    SECTIONS_EACH(section, loader, "batch") {
        if (!section_read(loader, section, c))
            return false; /* its profile is checked when the profiles are known */
    }
    SECTIONS_EACH(section, loader, "replicas") {
        if (!section_read(loader, section, c))
            return false;
    }
    if (c->buckets & (c->buckets - 1))
        return FAIL(loader, config_line_of(loader, "buckets"),
                    "buckets must be a power of two between 64 and 16384, not %u", c->buckets);
    if (!c->tls_cert != !c->tls_key)
        return FAIL(loader, config_line_of(loader, c->tls_cert ? "tls_cert" : "tls_key"),
                    "tls_cert and tls_key go together");
    if (c->tls_required && !c->tls_cert)
        return FAIL(loader, config_line_of(loader, "tls_required"), "tls_required needs tls_cert and tls_key");
    if (c->http_port && !c->http_password && !address_is_loopback(c->http_listen))
        return FAIL(loader, config_line_of(loader, "http_listen"),
                    "http_listen = %s can be reached from outside: set http_password too", c->http_listen);
    return path_resolve(loader, &c->store) && path_resolve(loader, &c->user_list) &&
           path_resolve(loader, &c->tls_cert) && path_resolve(loader, &c->tls_key);
}

static bool any_prefetch_age(const Config *c)
{
    bool any = false;
    for (uint32_t i = 0; i < c->database_count; i++)
        any |= c->databases[i].prefetch_max_age_ms > 0;
    for (uint32_t i = 0; i < c->user_count; i++)
        any |= c->users[i].prefetch_max_age_ms > 0;
    for (uint32_t i = 0; i < c->table_count; i++)
        any |= c->tables[i].prefetch_max_age_ms > 0;
    return any;
}

/* ---- the whole ---- */

static bool config_fill(ConfigLoader *loader, const char *path)
{
    Config *c = loader->config;
    size_t rows;
    (void)config_settings(&rows);
    loader->ini.text.path = path;
    c->path = arena_text(&c->arena, slice_str(path));
    loader->lines = arena_array(&loader->arena, int, rows);
    if (!c->path || !loader->lines || !settings_default("shoal", c, &c->arena) ||
        !settings_default("batch", c, &c->arena) || !settings_default("replicas", c, &c->arena))
        return FAIL_MEMORY(loader);
    if (!ini_file_open(&loader->ini, path, &loader->arena, loader->err))
        return false;
    bool ok = sections_check(loader) && load_shoal(loader) && load_profiles(loader) &&
              load_applications(loader) && load_shards(loader) &&
              load_databases(loader) && load_users(loader) && load_tables(loader);
    ini_file_close(&loader->ini);
    c->prefetch_stale = ok && any_prefetch_age(c);
    return ok;
}

Config *config_load(const char *path, Error *err)
{
    ConfigLoader loader = {.config = calloc(1, sizeof(Config)), .err = err};
    if (!loader.config) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory while reading %s", path);
        return NULL;
    }
    arena_init(&loader.config->arena, CONFIG_BLOCK_SIZE);
    arena_init(&loader.arena, CONFIG_BLOCK_SIZE);
    bool ok = config_fill(&loader, path);
    arena_finish(&loader.arena);
    if (ok)
        return loader.config;
    config_free(loader.config);
    return NULL;
}

static void secret_wipe(const char *secret)
{
    if (secret)
        OPENSSL_cleanse((char *)(uintptr_t)secret, strlen(secret));
}

void config_free(Config *config)
{
    if (!config)
        return;
    for (uint32_t i = 0; i < config->user_count; i++) {
        secret_wipe(config->users[i].password);
        secret_wipe(config->users[i].verifier);
    }
    secret_wipe(config->control_password);
    secret_wipe(config->http_password);
    for (uint32_t i = 0; i < config->database_count; i++)
        secret_wipe(config->databases[i].server_password);
    arena_finish(&config->arena);
    free(config);
}
