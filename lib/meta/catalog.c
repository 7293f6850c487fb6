/*
 * catalog.c - names to facts: tables, functions and types of one database, and search_path.
 *
 *     tables, types:   (schema, name) -> fact
 *     functions:       (schema, name) -> the worst of its overloads
 *                      ("",     name) -> the worst over all schemas
 *
 * PostgreSQL picks a function by its arguments among the candidates of *all* schemas of the path,
 * not by the first schema that has the name. Argument types are not known here, so a name that
 * stands in more than one schema of the path is answered with the entry of the empty schema.
 */
#include "meta/catalog.h"

#include <stdlib.h>

#include "meta/identifier.h"

#define CATALOG_BLOCK_SIZE (32 * 1024)

/* How CatalogTable, CatalogFunction and CatalogType begin, and what is asked for. */
typedef struct CatalogName {
    Slice schema, name;
} CatalogName;

static_assert(offsetof(CatalogTable, name) == offsetof(CatalogName, name), "common head");
static_assert(offsetof(CatalogFunction, name) == offsetof(CatalogName, name), "common head");
static_assert(offsetof(CatalogType, name) == offsetof(CatalogName, name), "common head");

static uint64_t name_hash(const CatalogName *name)
{
    return slice_hash(name->name, slice_hash(name->schema, 0));
}

static bool name_equal(const void *item, const void *key)
{
    const CatalogName *a = item, *b = key;
    return slice_equal(a->name, b->name) && slice_equal(a->schema, b->schema);
}

Catalog *catalog_create(void)
{
    Catalog *catalog = calloc(1, sizeof *catalog);
    if (!catalog)
        return NULL;
    arena_init(&catalog->arena, CATALOG_BLOCK_SIZE);
    map_init(&catalog->tables, name_equal);
    map_init(&catalog->functions, name_equal);
    map_init(&catalog->types, name_equal);
    catalog->refs = 1;
    return catalog;
}

Catalog *catalog_retain(Catalog *catalog)
{
    assert(catalog->refs > 0);
    catalog->refs++;
    return catalog;
}

void catalog_free(Catalog *catalog)
{
    if (!catalog || --catalog->refs > 0)
        return;
    map_finish(&catalog->tables);
    map_finish(&catalog->functions);
    map_finish(&catalog->types);
    arena_finish(&catalog->arena);
    free(catalog);
}

static const void *name_find(const Map *map, Slice schema, Slice name)
{
    CatalogName key = {schema, name};
    return map_get(map, name_hash(&key), &key);
}

/* A newer fact of the same name takes the place of the older one. */
static bool name_put(Map *map, void *item)
{
    uint64_t hash = name_hash(item);
    map_remove(map, hash, item);
    return map_put(map, hash, item);
}

bool catalog_add_table(Catalog *catalog, CatalogTable *table)
{
    return name_put(&catalog->tables, table);
}

bool catalog_add_type(Catalog *catalog, CatalogType *type)
{
    return name_put(&catalog->types, type);
}

static int volatility_rank(char volatility)
{
    return volatility == 'i' ? 0 : volatility == 's' ? 1 : 2;
}

static int kind_rank(char kind)
{
    return kind == 'f' ? 0 : kind == 'a' ? 1 : kind == 'w' ? 2 : 3;
}

static void function_worsen(CatalogFunction *into, const CatalogFunction *from)
{
    if (volatility_rank(from->volatility) > volatility_rank(into->volatility))
        into->volatility = from->volatility;
    if (kind_rank(from->kind) > kind_rank(into->kind))
        into->kind = from->kind;
    into->set_returning |= from->set_returning;
    into->runs_statements |= from->runs_statements;
}

bool catalog_add_function(Catalog *catalog, CatalogFunction *function)
{
    CatalogName everywhere = {SLICE(""), function->name};
    CatalogFunction *worst = map_get(&catalog->functions, name_hash(&everywhere), &everywhere);
    if (worst) {
        function_worsen(worst, function);
    } else {
        worst = arena_new(&catalog->arena, CatalogFunction);
        if (!worst)
            return false;
        *worst = *function;
        worst->schema = SLICE("");
        if (!map_put(&catalog->functions, name_hash(&everywhere), worst))
            return false;
    }
    CatalogName own = {function->schema, function->name};
    CatalogFunction *before = map_get(&catalog->functions, name_hash(&own), &own);
    if (before) {
        function_worsen(before, function);
        return true;
    }
    return map_put(&catalog->functions, name_hash(&own), function);
}

const CatalogTable *catalog_table_by_oid(const Catalog *catalog, uint32_t oid)
{
    uint32_t low = 0, high = catalog->by_oid_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (catalog->by_oid[middle]->oid < oid)
            low = middle + 1;
        else
            high = middle;
    }
    return low < catalog->by_oid_count && catalog->by_oid[low]->oid == oid ? catalog->by_oid[low] : NULL;
}

const CatalogType *catalog_type_by_oid(const Catalog *catalog, uint32_t oid)
{
    size_t cursor = 0;
    const CatalogType *type = map_next(&catalog->types, &cursor);
    while (type && type->oid != oid)
        type = map_next(&catalog->types, &cursor);
    return type;
}

const CatalogTable *catalog_table(const Catalog *catalog, Slice schema, Slice name)
{
    return name_find(&catalog->tables, schema, name);
}

const CatalogFunction *catalog_function(const Catalog *catalog, Slice schema, Slice name)
{
    return schema.len ? name_find(&catalog->functions, schema, name) : NULL;
}

const CatalogType *catalog_type(const Catalog *catalog, Slice schema, Slice name)
{
    return name_find(&catalog->types, schema, name);
}

const CatalogColumn *catalog_column(const CatalogTable *table, Slice name)
{
    for (uint32_t i = 0; i < table->column_count; i++) {
        if (slice_equal(table->columns[i].name, name))
            return &table->columns[i];
    }
    return NULL;
}

/*
 * Walks the schemas of a search_path in the order PostgreSQL looks into them: pg_catalog first
 * unless it is named. "$user" is the user's own schema; pg_temp has nothing that is known here.
 * Schemas that the user has no USAGE on are not left out, because grants are not known either.
 */
typedef struct PathWalk {
    Slice rest, user;
    bool catalog_due; /* pg_catalog goes first and has not gone yet */
    Identifier current;
} PathWalk;

static bool path_names_catalog(Slice path)
{
    Identifier id;
    while (identifier_take(&path, ',', &id)) {
        if (slice_is(identifier_slice(&id), "pg_catalog"))
            return true;
    }
    return false;
}

static PathWalk path_walk(Slice path, Slice user)
{
    return (PathWalk){.rest = path, .user = user, .catalog_due = !path_names_catalog(path)};
}

static bool path_next(PathWalk *walk, Slice *ret_schema)
{
    if (walk->catalog_due) {
        walk->catalog_due = false;
        *ret_schema = SLICE("pg_catalog");
        return true;
    }
    while (identifier_take(&walk->rest, ',', &walk->current)) {
        Slice schema = identifier_slice(&walk->current);
        if (slice_is(schema, "pg_temp"))
            continue;
        *ret_schema = slice_is(schema, "$user") ? walk->user : schema;
        return true;
    }
    return false;
}

const CatalogTable *catalog_resolve_table(const Catalog *catalog, Slice schema, Slice name,
                                          Slice path, Slice user)
{
    if (schema.len)
        return catalog_table(catalog, schema, name);
    PathWalk walk = path_walk(path, user);
    for (Slice s; path_next(&walk, &s);) {
        const CatalogTable *table = catalog_table(catalog, s, name);
        if (table)
            return table;
    }
    return NULL;
}

const CatalogFunction *catalog_resolve_function(const Catalog *catalog, Slice schema, Slice name,
                                                Slice path, Slice user)
{
    if (schema.len)
        return catalog_function(catalog, schema, name);
    const CatalogFunction *found = NULL;
    PathWalk walk = path_walk(path, user);
    for (Slice s; path_next(&walk, &s);) {
        const CatalogFunction *function = catalog_function(catalog, s, name);
        if (function && found && function != found)
            return name_find(&catalog->functions, SLICE(""), name);
        if (function)
            found = function;
    }
    return found;
}

Slice catalog_default_path(const Catalog *catalog, Slice user)
{
    for (uint32_t i = 0; i < catalog->role_path_count; i++) {
        if (slice_equal(catalog->role_paths[i].role, user))
            return catalog->role_paths[i].search_path;
    }
    return catalog->search_path;
}
