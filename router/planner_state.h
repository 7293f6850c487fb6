/*
 * planner_state.h - what the parts of the planner share while one statement is planned. Theirs alone.
 *
 *   planner_ref      names      -> Refs: which table each name of the statement means
 *   planner_key      values     -> keys: which shard each Ref is fixed to
 *   planner_write    rows       -> INSERT, UPDATE and DELETE: where what is written belongs
 *   planner_merge    MERGE: where its source and its target meet
 *   planner_catalog  questions about the catalog, which one shard answers
 *   planner_hidden   what is read or written without being named
 *   planner          all that   -> a Plan
 */
#ifndef SHOAL_ROUTER_PLANNER_STATE_H
#define SHOAL_ROUTER_PLANNER_STATE_H

#include "router/fanout.h"
#include "router/planner.h"

#define SHARD_NONE    UINT32_MAX       /* not fixed */
#define SHARD_EVERY   (UINT32_MAX - 1) /* key = NULL, or a value that PostgreSQL will refuse: every
                                          shard gives the same answer */
#define TABLES_MAX    64 /* references in one statement that are looked at; more: REJECT */

typedef enum RefKind {
    REF_SYSTEM,      /* pg_catalog, information_schema: alike on every shard */
    REF_LOCAL,       /* whole on one shard: the home shard, or the one it was put on */
    REF_REFERENCE,   /* whole on every shard */
    REF_DISTRIBUTED, /* by its key: hash, range, list */
    REF_VIEW         /* materialized or not; may name anything: only where nothing is distributed */
} RefKind;

typedef enum KeyKnown {
    KEY_UNKNOWN,  /* only PostgreSQL can know */
    KEY_KNOWN,
    KEY_NO_ROW    /* NULL equals nothing; or not a value of the type: an error on whatever shard */
} KeyKnown;

/* What the statement says about one key column of a reference. */
typedef struct RefKey {
    KeyKnown known;
    Slice value; /* KEY_KNOWN: canonical */
} RefKey;

typedef struct Ref {
    RefKind kind;
    const Table *table;          /* it is in the topology: distributed, reference, placed by hand */
    const CatalogTable *catalog; /* NULL when the catalog does not know it */
    RefKey *keys;                /* REF_DISTRIBUTED: one per key column of the table */
    uint32_t shard;              /* SHARD_NONE while not fixed */
    bool *some; /* [shards of the configuration]: IN, ANY: its rows are on these; NULL: nothing is known */
    bool bare;                   /* named without a schema */
    bool through;                /* `catalog` is a view, through which `table` is written */
} Ref;

/* What was found out about a parameter last: a long INSERT may give it in each row. */
typedef struct ParamMemo {
    uint32_t param, oid;
    bool good;
} ParamMemo;

typedef struct Planner {
    const PlanInput *in;
    const PlanStatement *statement;
    const Shape *shape;
    const DatabaseConfig *database;
    const Catalog *catalog;
    Ref refs[TABLES_MAX];
    uint32_t distributed_count, local_count, reference_count;
    ParamMemo *memo;
    bool hidden;  /* what refuses it is a body that Shoal cannot look into */
    bool *fenced; /* a bucket that it needs is moving at this moment */
    Plan plan;
} Planner;

/* ---- planner.c: answers ------------------------------------------------------------------------------- */

Plan plan_direct(uint32_t shard, bool any);
Plan plan_reject(const char *sqlstate, const char *message, const char *detail, const char *hint);
Plan plan_reject_shards(const char *detail);
Plan plan_reject_temporary(void);
/* One shard for all references, or why there is none. */
Plan plan_agree(const Planner *p);
uint32_t planner_home(const Planner *p);
/* A planner at its begin. */
Planner planner_of(const PlanInput *input, const PlanStatement *statement, ParamMemo *memo, bool *fenced);

/* ---- planner_hidden.c: what is read and written without being named ------------------------------------- */

/* A function's body may read distributed tables, and would see one shard's rows: p->plan refuses it. */
bool plan_hides_tables(Planner *p);
/* It makes a temporary object of rows that are not all on the home shard: p->plan refuses it. */
bool plan_makes_temporary(Planner *p);
/* It names what this transaction may have made, a partition of a distributed table: p->plan refuses it. */
bool plan_names_unseen(Planner *p);
/* UPDATE, DELETE ... WHERE CURRENT OF. */
Plan plan_at_cursor(Planner *p);

/* ---- planner_ref.c: what the names mean ----------------------------------------------------------------- */

bool schema_is_system(Slice schema);
/* Fills refs and the counts. False: p->plan says why not. */
bool refs_resolve(Planner *p) MUST_USE;
/* What the outermost statement writes to; those in WITH stand in levels of their own. -1: nothing. */
int ref_target(const Planner *p);
/* Which reference an unqualified column belongs to: the only one of its level that has it, among
 * those which the condition can name. -1: none, or it cannot be told. */
int ref_of_column(const Planner *p, int16_t table, uint16_t level, uint16_t from, uint16_t to, Slice column);

/* ---- planner_key.c: which shard they are fixed to -------------------------------------------------------- */

/* Values of these types compare and hash alike. */
bool key_types_agree(uint32_t value_oid, uint32_t key_oid);
/* The canonical bytes of a value compared with, or written to, a key column. */
KeyKnown key_value(const Planner *p, const ShapeValue *value, const TableKey *key, Slice *ret);
/* The same of a constant that is no literal of the Shape; `integer`: it stands without quotes. */
KeyKnown key_text(const Planner *p, Slice text, bool integer, const ShapeName *cast, const TableKey *key, Slice *ret);
/* The shard of the row with these key values; false when it has none. Takes note of a fenced bucket. */
bool key_place(const Planner *p, const Table *table, const Slice *values, uint32_t *ret_shard);
/* Which of the table's key columns it is; -1: none. */
int key_index(const Table *table, Slice column);
/* The type of the i-th column that INSERT writes; 0 when it cannot be told. */
uint32_t insert_column_type(const Planner *p, uint32_t at);
/* By `key = value`, and by IN and ANY the shards that may have such rows. */
void refs_fix_by_values(Planner *p);
void refs_fix_by_joins(Planner *p);
/* Each reference whose key columns are all known gets its shard. */
void refs_place(Planner *p);
/* Every distributed reference is joined to `target` on its key, and there are no tables of one shard (reference tables that are only read may be there): each
 * shard can do its part by itself. */
bool refs_all_joined(const Planner *p, int target);
/* Equal keys of both tables are on the same shard. */
bool tables_colocated(const Table *a, const Table *b);
/* The join is on the keys of both, and rows with equal keys are together. */
bool keys_meet(const Planner *p, const ShapeJoin *join, int a, int b);
/* The references in fanout.h's words. False: p->plan says why not. */
bool refs_spread(Planner *p, FanoutRef *refs) MUST_USE;

/* ---- planner_catalog.c: what is asked of the catalog ------------------------------------------------------ */

/* Names a table of the catalog that is not about the server session itself. */
bool planner_names_system(const Planner *p);
/* Names tables of the catalog and no others: what it is will not change when a table is distributed. */
bool planner_prepares_catalog(const Planner *p);
/* Calls pg_export_snapshot(): p->plan refuses it. */
bool planner_exports_snapshot(Planner *p);
/* That, or functions and casts that look into the catalog: only the home shard may say. */
bool planner_asks_catalog(const Planner *p);

/* ---- planner_write.c: where rows are written -------------------------------------------------------------- */

Plan plan_insert(Planner *p);
/* The key of a row would change: p->plan refuses it. */
bool plan_moves_rows(Planner *p);
/* UPDATE of the key, after plan_moves_rows: where the rows are that may move, or why not. */
Plan plan_rekey(Planner *p);
bool plan_writes_reference(const Planner *p);
/* The rows of this INSERT are made by a query or by a default: it goes by INSERT_SELECT. */
Plan plan_insert_select(const Planner *p);
Plan plan_reference_write(Planner *p);
/* Shards that hold rows of others (foreign.h) are asked for their own; `columns`: see term_add. */
void plan_pass_over_foreign(const Planner *p, Plan *plan, int reference, const char *columns);
/* DDL makes a unique constraint that shards cannot keep: p->plan refuses it. */
bool plan_breaks_unique(Planner *p);
/* UPDATE and DELETE that no key restricts to one shard. False: it is not such a one. */
bool plan_write(Planner *p, Plan *ret) MUST_USE;

/* ---- planner_declared.c -------------------------------------------------------------------------------------- */

/* It is `refused` for what Shoal cannot look into: where its client says that it runs; else as it was. */
Plan plan_declared(Planner *p, Plan refused);

/* ---- planner_merge.c ---------------------------------------------------------------------------------------- */

/* MERGE that names a distributed table. */
Plan plan_merge_into(Planner *p);

#endif
