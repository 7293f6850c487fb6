/*
 * catalog.h - what PostgreSQL's catalog says about one database, as far as decisions need it.
 *
 * Loaded by the control thread (admin/catalog_loader), published with the Topology, never asked for
 * on the data path. A name that is not here is unknown: the planner then decides on the safe side.
 */
#ifndef SHOAL_META_CATALOG_H
#define SHOAL_META_CATALOG_H

#include "core/arena.h"
#include "core/map.h"

typedef struct CatalogColumn {
    Slice name;
    uint32_t type_oid;
    int32_t typmod;
    int16_t number; /* attnum */
    bool not_null;
    /* "Equal means same bytes": the default btree operator class of the type has an equalimage
     * support function (4) that says yes, and the collation is deterministic. Tier A's condition. */
    bool equal_image;
    bool deterministic; /* collation; true for types without one */
    bool indexed_alone; /* some valid index has it as its only or first column */
    bool unique_alone;  /* a valid, non-partial, immediate unique index on this column alone */
    bool plain_type;    /* a base type of pg_catalog (not a domain, enum, extension type, composite) */
    /* Its values can be had from text: ::type reads a text as the type reads a literal, and its =
     * is immutable. Enums, extension types, arrays, numeric ... */
    bool text_key;
    bool volatile_default;
    bool varying_default; /* its default is not the same at every time on every server: now(), nextval() */
    bool generated;       /* GENERATED ALWAYS AS (...) STORED */
    bool refers;          /* part of a foreign key to another table, or to its own */
    char identity;        /* pg_attribute.attidentity: a d, or NUL */
    Slice sequence;       /* that its default (serial) or identity takes its values from; quoted as needed */
} CatalogColumn;

/* What a view's query or a table's policies for reading do, by PostgreSQL's own trees. */
typedef struct CatalogReads {
    bool is_volatile; /* it calls a volatile function, or locks rows */
    Slice stable;     /* stable functions, names of pg_catalog or schema.name, separated by commas */
    uint32_t *tables; /* OIDs of the relations it reads */
    uint32_t table_count;
} CatalogReads;

/* What decides whether a view's query may stand in its place (router/views.h). */
typedef struct CatalogView {
    Slice definition; /* SELECT ..., each name with its schema; without the semicolon */
    Slice readers;    /* roles that may SELECT from it, each between two CATALOG_ROLE_MARKs */
    bool barrier;     /* security_barrier */
    bool invoker;     /* security_invoker: its tables are read with the rights of who asks */
    bool owner_reads; /* its owner may SELECT from all that it names */
    bool policies;    /* a table that it names has row security */
    uint32_t base;    /* OID of the only table it reads, which PostgreSQL writes to in its stead, row by row; 0: none */
} CatalogView;

#define CATALOG_ROLE_MARK '\x1f'

typedef struct CatalogTable {
    Slice schema, name;
    uint32_t oid;
    char kind;        /* pg_class.relkind: r p v m f S ... */
    char persistence; /* p u t */
    bool row_security;
    bool has_rules_or_triggers; /* rules other than a view's own, or triggers that change SELECT/writes */
    bool has_children;          /* inheritance */
    uint32_t root;              /* OID of the partitioned table that it is a partition of, at whatever depth; 0: none */
    const CatalogReads *reads;  /* of a view, or one with row security; NULL: not known */
    const CatalogView *view;    /* of a view (not materialized); NULL: not known */
    bool cascades; /* a foreign key to it changes other rows when one of its rows is deleted or updated */
    CatalogColumn *columns;     /* by attnum, dropped ones left out */
    uint32_t column_count;
} CatalogTable;

typedef struct CatalogFunction {
    Slice schema, name;
    char volatility; /* worst of all overloads: v > s > i */
    char kind;       /* worst: f a w p */
    bool set_returning;
    bool runs_statements; /* written in SQL, PL/pgSQL ... and not IMMUTABLE: it may read any table */
} CatalogFunction;

/* A role's or database's own search_path, from pg_db_role_setting. */
typedef struct CatalogRolePath {
    Slice role;
    Slice search_path;
} CatalogRolePath;

typedef struct Catalog {
    bool loaded;       /* false: nothing is known yet, nothing is batched */
    uint64_t version;  /* grows with each change that was seen */
    uint64_t digest;   /* of what the poll looks at; equal digest = unchanged */
    Map tables;        /* (schema, name) -> CatalogTable */
    Map functions;     /* (schema, name) -> CatalogFunction; schema "": worst over all schemas. Operators whose functions
                        * run statements are among them, by their own names */
    bool operators_run; /* there are such */
    Map types;         /* (schema, name) -> CatalogType */
    Slice search_path; /* the database's default */
    CatalogRolePath *role_paths;
    uint32_t role_path_count;
    int server_version; /* 150018 */
    /* default_transaction_isolation is serializable for the server, this database or some role in it:
     * a session that did not set the level itself may start in it. */
    bool isolation_unusual;
    Slice encoding;     /* server_encoding */
    CatalogTable **by_oid; /* all tables, in order of oid */
    uint32_t by_oid_count;
    uint32_t refs;      /* topologies that share it; control only */
    Arena arena;
} Catalog;

typedef struct CatalogType {
    Slice schema, name;
    uint32_t oid;
    bool plain; /* base type of pg_catalog */
} CatalogType;

Catalog *catalog_create(void);
void catalog_free(Catalog *catalog); /* gives back one reference; NULL is fine */
Catalog *catalog_retain(Catalog *catalog);

/* What is added was allocated from the catalog's arena. False when memory is out. Overloads may be
 * added one by one: the worst of each fact is kept. */
bool catalog_add_table(Catalog *catalog, CatalogTable *table) MUST_USE;
bool catalog_add_function(Catalog *catalog, CatalogFunction *function) MUST_USE;
bool catalog_add_type(Catalog *catalog, CatalogType *type) MUST_USE;

const CatalogTable *catalog_table(const Catalog *catalog, Slice schema, Slice name);
const CatalogFunction *catalog_function(const Catalog *catalog, Slice schema, Slice name);
const CatalogType *catalog_type(const Catalog *catalog, Slice schema, Slice name);
const CatalogTable *catalog_table_by_oid(const Catalog *catalog, uint32_t oid);
/* By its OID; walks through all. */
const CatalogType *catalog_type_by_oid(const Catalog *catalog, uint32_t oid);
const CatalogColumn *catalog_column(const CatalogTable *table, Slice name);

/*
 * Resolves names as PostgreSQL does. `path` is a search_path setting's text ("$user", public);
 * pg_catalog is searched first unless it is named. A given schema is taken as it is.
 * NULL when no schema of the path has it. A function found in several of them is answered with the
 * worst over all schemas, because PostgreSQL would choose by arguments. Temporary tables are not known here: sessions that made
 * some are pinned and never ask.
 */
const CatalogTable *catalog_resolve_table(const Catalog *catalog, Slice schema, Slice name,
                                          Slice path, Slice user);
const CatalogFunction *catalog_resolve_function(const Catalog *catalog, Slice schema, Slice name,
                                                Slice path, Slice user);
/* The search_path a session of this user starts with. */
Slice catalog_default_path(const Catalog *catalog, Slice user);

#endif
