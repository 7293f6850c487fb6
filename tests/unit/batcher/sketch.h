/*
 * sketch.h - a small catalog by hand, for tests of what is pure.
 *
 *     users  (id int4 unique, name text, mail varchar unique, uid uuid unique, org int8 indexed,
 *             code bpchar indexed, born date, balance numeric, fancy (an enum))
 *     posts  (id int4 unique, user_id int4 indexed)
 *     tenants(tenant int4 indexed, id int4)
 *     aview, foreign_one, secret (row security), parent (has children), temporary
 */
#ifndef SHOAL_TESTS_BATCHER_SKETCH_H
#define SHOAL_TESTS_BATCHER_SKETCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "batcher/key.h"
#include "batcher/policy.h"

typedef struct Sketch {
    Config config;
    DatabaseConfig database;
    Topology topology;
    Catalog *catalog;
    ShapeCache shapes;
    GucSet gucs;
    Arena arena;
    ShapeReading reading;
    PolicyInput input;
} Sketch;

static inline CatalogTable *sketch_table(Sketch *s, const char *name, uint32_t columns)
{
    CatalogTable *table = arena_new(&s->catalog->arena, CatalogTable);
    *table = (CatalogTable){
        .schema = SLICE("public"), .name = slice_str(name), .kind = 'r', .persistence = 'p'};
    table->columns = arena_array(&s->catalog->arena, CatalogColumn, columns);
    assert_true(catalog_add_table(s->catalog, table));
    return table;
}

static inline CatalogColumn *sketch_column(CatalogTable *table, const char *name, uint32_t oid,
                                           bool indexed, bool unique)
{
    bool image = oid != WIRE_OID_BPCHAR && oid != WIRE_OID_NUMERIC;
    table->columns[table->column_count] =
        (CatalogColumn){.name = slice_str(name),
                        .type_oid = oid,
                        .typmod = -1,
                        .number = (int16_t)(table->column_count + 1),
                        .equal_image = image,
                        .deterministic = true,
                        .indexed_alone = indexed,
                        .unique_alone = unique,
                        .plain_type = true};
    return &table->columns[table->column_count++];
}

static inline void sketch_function(Sketch *s, const char *name, char volatility, char kind,
                                   bool set)
{
    CatalogFunction *f = arena_new(&s->catalog->arena, CatalogFunction);
    *f = (CatalogFunction){.schema = SLICE("pg_catalog"),
                           .name = slice_str(name),
                           .volatility = volatility,
                           .kind = kind,
                           .set_returning = set};
    assert_true(catalog_add_function(s->catalog, f));
}

static inline void sketch_type(Sketch *s, const char *schema, const char *name, bool plain)
{
    CatalogType *t = arena_new(&s->catalog->arena, CatalogType);
    *t = (CatalogType){.schema = slice_str(schema), .name = slice_str(name), .plain = plain};
    assert_true(catalog_add_type(s->catalog, t));
}

static inline void sketch_tables(Sketch *s)
{
    CatalogTable *users = sketch_table(s, "users", 10);
    sketch_column(users, "id", WIRE_OID_INT4, true, true);
    sketch_column(users, "name", WIRE_OID_TEXT, false, false);
    sketch_column(users, "mail", WIRE_OID_VARCHAR, true, true);
    sketch_column(users, "uid", WIRE_OID_UUID, true, true);
    sketch_column(users, "org", WIRE_OID_INT8, true, false);
    sketch_column(users, "code", WIRE_OID_BPCHAR, true, false);
    sketch_column(users, "born", WIRE_OID_DATE, false, false);
    sketch_column(users, "balance", WIRE_OID_NUMERIC, true, true);
    sketch_column(users, "fancy", 99999, true, false)->plain_type = false;
    CatalogTable *posts = sketch_table(s, "posts", 2);
    sketch_column(posts, "id", WIRE_OID_INT4, true, true);
    sketch_column(posts, "user_id", WIRE_OID_INT4, true, false);
    CatalogTable *tenants = sketch_table(s, "tenants", 2);
    sketch_column(tenants, "tenant", WIRE_OID_INT4, true, false);
    sketch_column(tenants, "id", WIRE_OID_INT4, false, false);
    static const char *const others[] = {"aview", "foreign_one", "secret", "parent", "temporary"};
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        CatalogTable *table = sketch_table(s, others[i], 1);
        sketch_column(table, "id", WIRE_OID_INT4, true, true);
        table->kind = i == 0 ? 'v' : i == 1 ? 'f' : 'r';
        table->row_security = i == 2;
        table->has_children = i == 3;
        table->persistence = i == 4 ? 't' : 'p';
    }
}

static inline int sketch_open(void **state)
{
    Sketch *s = calloc(1, sizeof(*s));
    s->database = (DatabaseConfig){.name = "app", .batch = true};
    s->config = (Config){.databases = &s->database, .database_count = 1, .batch = true};
    s->catalog = catalog_create();
    s->catalog->loaded = true;
    s->topology = (Topology){.config = &s->config, .catalogs = &s->catalog};
    sketch_tables(s);
    sketch_function(s, "upper", 'i', 'f', false);
    sketch_function(s, "now", 's', 'f', false);
    sketch_function(s, "pg_backend_pid", 's', 'f', false);
    sketch_function(s, "random", 'v', 'f', false);
    sketch_function(s, "count", 'i', 'a', false);
    sketch_function(s, "unnest", 'i', 'f', true);
    sketch_type(s, "pg_catalog", "int4", true);
    sketch_type(s, "pg_catalog", "int8", true);
    sketch_type(s, "pg_catalog", "text", true);
    sketch_type(s, "pg_catalog", "uuid", true);
    sketch_type(s, "public", "fancy", false);
    shape_cache_init(&s->shapes, 100, 1 << 20);
    guc_set_init(&s->gucs);
    arena_init(&s->arena, 4096);
    *state = s;
    return 0;
}

static inline int sketch_close(void **state)
{
    Sketch *s = *state;
    if (s->reading.shape)
        shape_release(&s->shapes, s->reading.shape);
    shape_cache_finish(&s->shapes);
    guc_set_finish(&s->gucs);
    catalog_free(s->catalog);
    arena_finish(&s->arena);
    free(s);
    return 0;
}

/* Reads a statement and fills `input` with an ordinary request for it. */
static inline void sketch_read(Sketch *s, const char *sql)
{
    if (s->reading.shape)
        shape_release(&s->shapes, s->reading.shape);
    assert_true(shape_read(&s->shapes, slice_str(sql), true, true, &s->arena, &s->reading));
    s->input = (PolicyInput){.shape = s->reading.shape,
                             .topology = &s->topology,
                             .user = SLICE("alice"),
                             .search_path = SLICE("\"$user\", public"),
                             .hint = s->reading.hint,
                             .autocommit = true,
                             .values_may_vary = true};
}

#endif
