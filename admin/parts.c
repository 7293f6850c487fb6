/*
 * parts.c - what a Topology is made of, and the making of it.
 *
 *     shards.ini ──> Config ─┐
 *     store ──> ShardMap ────┤
 *     store ──> Tables ──────┼──> control_publish ──> Topology ──> workers
 *     shards ──> Catalogs ───┤
 *     moves, recovery ───────┘    fences, who may prepare a transaction
 *
 * RELOAD replaces all of them together, or none.
 */
#include <stdlib.h>

#include "admin/control_state.h"
#include "admin/moves.h"
#include "admin/places.h"

bool control_out_of_memory(Error *err)
{
    error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory while building the topology");
    return false;
}

static bool table_declare(Store *store, const Config *config, const TableConfig *t, Arena *arena, Error *err)
{
    StoreTable table = {.database = t->database, .schema = t->schema, .name = t->name, .key = t->key,
                        .kind = t->kind, .placement = "", .colocation = t->colocate_with};
    TableKind kind = TABLE_HASH;
    Place *places = NULL;
    uint32_t count = 0;
    if (!table_kind_read(slice_str(t->kind), &kind))
        return false;
    if (kind == TABLE_LOCAL) {
        places = arena_new(arena, Place);
        count = 1;
        if (!places || !place_shard_read(slice_str(t->shard), config, &places->shard, err))
            return false;
    } else if (t->places) {
        uint32_t oid = key_type_oid(slice_str(t->key_type));
        if (!places_read(slice_str(t->places), kind, oid, config, arena, &places, &count, err))
            return false;
    }
    if (count && !(table.placement = placement_write(places, count, config, arena)))
        return control_out_of_memory(err);
    if (!table.colocation)
        table.colocation = colocation_default(kind, t->schema, t->name, arena);
    return table.colocation ? store_add_table(store, &table, err) : control_out_of_memory(err);
}

/* [table] sections are tables to begin with: once in the store they stay, whatever becomes of the
 * section, because rows may be spread already. */
static bool tables_declare(Store *store, const Config *config, Error *err)
{
    for (uint32_t i = 0; i < config->table_count; i++) {
        const TableConfig *t = &config->tables[i];
        if (!t->key)
            continue; /* it is about batching */
        Arena arena;
        arena_init(&arena, 1024);
        bool ok = table_declare(store, config, t, &arena, err);
        arena_finish(&arena);
        if (ok)
            continue;
        error_detail(err, "%s:%d: [table %s]", config->path, t->line, t->name);
        return false;
    }
    return true;
}

/* The catalog in force for the same database on the same servers, or an empty one. */
static Catalog *catalog_carry_over(const Control *control, const Config *config, uint32_t i)
{
    const DatabaseConfig *new = &config->databases[i];
    const DatabaseConfig *old =
        control->config ? config_database(control->config, slice_str(new->name)) : NULL;
    if (!old || strcmp(old->dbname, new->dbname) != 0)
        return catalog_create();
    const ServerConfig *old_home = control->config->shards[old->shards[0]].primary;
    const ServerConfig *new_home = config->shards[new->shards[0]].primary;
    if (strcmp(old_home->conninfo, new_home->conninfo) != 0)
        return catalog_create();
    return catalog_retain(control->catalogs[old->index]);
}

static LogLevel log_level_of(const char *name)
{
    static const char *const NAMES[] = {"debug", "info", "warning", "error"};
    for (size_t i = 0; name && i < ARRAY_LEN(NAMES); i++) {
        if (strcmp(name, NAMES[i]) == 0)
            return (LogLevel)i;
    }
    return LOG_INFO;
}

/* What RELOAD replaces as a whole. */
typedef struct Parts {
    Config *config;
    uint32_t *config_refs;
    ShardMap *map;
    Catalog **catalogs;
} Parts;

static Parts parts_of(const Control *control)
{
    return (Parts){control->config, control->config_refs, control->map, control->catalogs};
}

static void parts_put(Control *control, Parts parts)
{
    control->config = parts.config;
    control->config_refs = parts.config_refs;
    control->map = parts.map;
    control->catalogs = parts.catalogs;
}

static void parts_free(Parts parts)
{
    for (uint32_t i = 0; parts.catalogs && i < parts.config->database_count; i++)
        catalog_free(parts.catalogs[i]);
    free(parts.catalogs);
    shard_map_free(parts.map);
    if (parts.config_refs)
        topology_release_config(parts.config, parts.config_refs);
    else
        config_free(parts.config);
}

/* A move knows the tables that it began with: a new one's rows would stay behind. */
static bool tables_may_grow(const Control *control, const Config *config, Error *err)
{
    for (uint32_t i = 0; i < config->table_count && moves_any(control); i++) {
        const TableConfig *t = &config->tables[i];
        const DatabaseConfig *database = t->key ? config_database(control->config, slice_str(t->database)) : NULL;
        if (!t->key || (database && topology_table(control->topology, database->index, slice_str(t->schema),
                                                   slice_str(t->name))))
            continue;
        error_set(err, SQLSTATE_OBJECT_IN_USE, "buckets are being moved: table \"%.100s\" cannot be distributed now", t->name);
        error_hint(err, "Try again when SHOW MOVES says that they are done, or REBALANCE FINISH.");
        return false;
    }
    return true;
}

static bool parts_make(const Control *control, Parts *parts, Error *err)
{
    const Config *config = parts->config;
    parts->config_refs = malloc(sizeof *parts->config_refs);
    parts->catalogs = calloc(MAX(config->database_count, 1), sizeof(Catalog *));
    if (!parts->config_refs || !parts->catalogs)
        return control_out_of_memory(err);
    *parts->config_refs = 1;
    for (uint32_t i = 0; i < config->database_count; i++) {
        parts->catalogs[i] = catalog_carry_over(control, config, i);
        if (!parts->catalogs[i])
            return control_out_of_memory(err);
    }
    parts->map = store_load_map(control->store, config, err);
    return parts->map && tables_may_grow(control, config, err) && tables_declare(control->store, config, err);
}

bool control_load_parts(Control *control, Config *config, Error *err)
{
    Parts old = parts_of(control), new = {.config = config};
    if (!parts_make(control, &new, err)) {
        parts_free(new);
        return false;
    }
    parts_put(control, new);
    if (control_load_tables(control, err) && control_publish(control, err)) {
        parts_free(old);
        log_level_set(log_level_of(config->log_level));
        return true;
    }
    parts_put(control, old);
    parts_free(new);
    Error again;
    if (old.config && !control_load_tables(control, &again))
        log_error("control", &again);
    return false;
}

bool control_load_tables(Control *control, Error *err)
{
    Arena arena;
    arena_init(&arena, 4096);
    StoreTable *stored;
    uint32_t stored_count;
    Table *tables = NULL;
    uint32_t count = 0;
    bool ok = store_load_tables(control->store, &arena, &stored, &stored_count, err);
    if (ok) {
        tables = arena_array(&arena, Table, MAX(stored_count, 1));
        ok = tables || control_out_of_memory(err);
    }
    for (uint32_t i = 0; ok && i < stored_count; i++) {
        const DatabaseConfig *database =
            config_database(control->config, slice_str(stored[i].database));
        if (!database) {
            log_line(LOG_WARNING, "control",
                     "table %s.%s is distributed in database %s, which is not in %s",
                     stored[i].schema, stored[i].name, stored[i].database, control->config->path);
            continue;
        }
        Table *table = &tables[count++];
        *table = (Table){.database = database->index,
                         .schema = slice_str(stored[i].schema),
                         .name = slice_str(stored[i].name),
                         .key = slice_str(stored[i].key),
                         .colocation = slice_str(stored[i].colocation)};
        ok = table_kind_read(slice_str(stored[i].kind), &table->kind);
        if (!ok)
            error_set(err, SQLSTATE_DATA_CORRUPTED, "table %s.%s is of an unknown kind, \"%.20s\"",
                      stored[i].schema, stored[i].name, stored[i].kind);
        ok = ok &&
             placement_read(slice_str(stored[i].placement), control->config, &arena, &table->places,
                            &table->place_count, err);
    }
    if (!ok) {
        arena_finish(&arena);
        return false;
    }
    arena_finish(&control->tables_arena);
    control->tables_arena = arena;
    control->tables = tables;
    control->table_count = count;
    return true;
}

/* A fence of no bucket, on all shards: there is none while moves are under way (shard_add.c). */
static bool topology_add_joining(const Control *control, Topology *topology)
{
    uint32_t shards = topology->config->shard_count;
    if (!control->joining_since)
        return true;
    uint64_t *since = arena_array(&topology->arena, uint64_t, shards);
    topology->fenced = arena_zalloc(&topology->arena, topology->map->bucket_count);
    for (uint32_t s = 0; since && s < shards; s++)
        since[s] = control->joining_since;
    topology->fence_since = topology->gain_since = since;
    topology->joining = true;
    return since && topology->fenced;
}

/* What the moves of this moment ask of the data path. */
static bool topology_add_moves(Control *control, Topology *topology, Error *err)
{
    if (moves_fence(control, topology) && moves_foreign(control, topology) && topology_add_joining(control, topology))
        return true;
    return control_out_of_memory(err);
}

/* What recovery has found out about the shards; a RELOAD changes neither shards nor databases. */
static bool control_add_two_phase(Control *control, Topology *topology, Error *err)
{
    Arena arena;
    if (!control->recovery.control)
        return true;
    arena_init(&arena, 1024);
    const char *const *why = recovery_two_phase_why(&control->recovery, &arena);
    bool ok = why ? topology_set_two_phase(topology, why, err) : control_out_of_memory(err);
    arena_finish(&arena);
    return ok;
}

bool control_publish(Control *control, Error *err)
{
    Topology *topology =
        topology_create(control->config, control->config_refs, control->map, control->tables,
                        control->table_count, control->catalogs, err);
    if (!topology)
        return false;
    topology->standings = control->standings;
    failover_fill(control, topology);
    if (!topology_add_moves(control, topology, err) || !control_add_two_phase(control, topology, err) ||
        !oid_book_fill(&control->oids, topology, err)) {
        topology_destroy(&topology->published);
        return false;
    }
    control->topology = topology;
    published_set(control->options.topologies, &topology->published);
    for (uint32_t i = 0; i < control->worker_count && !control->stop_told; i++)
        worker_wake(control->workers[i]);
    published_collect(control->options.topologies);
    return true;
}

void control_free_parts(Control *control)
{
    parts_free(parts_of(control));
}
