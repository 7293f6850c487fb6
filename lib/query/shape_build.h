/*
 * shape_build.h - a Shape under construction; private to lib/query.
 *
 *     shape_statement.c   which statement is it: kind, names (shape_ddl.c, shape_setting.c: of DDL, of SET)
 *        shape_query.c    SELECT, INSERT, UPDATE, DELETE, MERGE: their clauses, one Level each
 *           shape_level.c  FROM items of a Level, and what WHERE and ON say about their columns
 *           shape_facts.c  whatever stands in expressions: functions, operators, types, traits
 *              shape_value.c  constants and parameters, and where they stand in the text
 *
 *     shape_structure.c   before all that: which literals are values at all
 *
 * Arrows go down, but for sublinks and subqueries, which lead back to shape_query.c.
 */
#ifndef SHOAL_QUERY_SHAPE_BUILD_H
#define SHOAL_QUERY_SHAPE_BUILD_H

#include "query/lexer.h"
#include "query/shape.h"
#include "query/tree.h"

/* The name of a WITH query, visible from here outwards. */
typedef struct CteName {
    Slice name;
    const struct CteName *up;
} CteName;

typedef struct Build {
    Shape *shape;
    Arena *arena;   /* the shape's (its parent's, for a part of SHAPE_MULTI) */
    Arena *scratch; /* lives until the statement is read */
    Slice text;
    const Token *tokens; /* of the whole text, TOKEN_END excluded */
    uint32_t token_count;
    const ShapeLiteral *literals; /* those cut out of the template */
    uint32_t literal_count;
    bool places;          /* places in tokens are wanted: a single SELECT */
    const CteName *ctes;  /* innermost first */
    uint32_t level_count; /* levels seen */
    bool failed;          /* memory is out; sticky, looked at once at the end */
    bool overflowed;      /* more tables or levels than a Shape can number; sticky */
} Build;

/* One FROM item, as columns see it. */
typedef struct FromItem {
    Slice alias;   /* alias, or the table's name */
    Slice schema;  /* with which the table was named, when it has no alias */
    int16_t table; /* index in shape->tables; -1 for subqueries, functions, CTEs */
    bool hidden;   /* under an alias of its join */
} FromItem;

/* A column that JOIN ... USING made one of two. */
typedef struct Merged {
    Slice column;
    int16_t table; /* the table reference it is equal to; -1: none that is certain */
    uint32_t first, end; /* the items joined */
} Merged;

/* One SELECT or DML: the names that its expressions may use. */
typedef struct Level {
    uint16_t number;
    const struct Level *up; /* whose names may be used as well; NULL outermost */
    FromItem *items;
    uint32_t item_count, leaf_count; /* leaves: items without the aliases of joins */
    Merged *merged;
    uint32_t merged_count;
    bool natural; /* some join is NATURAL: which columns it merged, the catalog knows alone */
} Level;

/* A run of FROM items. */
typedef struct FromRange {
    uint32_t first, end;
} FromRange;

/* --- shape_statement.c --- */
/* Fills build->shape from one statement. */
void statement_read(Build *build, const PgQuery__Node *stmt);
/* Statements in which literals are values; in all others they stay in the template. */
bool statement_has_values(const PgQuery__Node *stmt);

/* --- shape_structure.c --- */
/* The literals which must stay in the template, ascending; in scratch. False when memory is out. */
bool structure_read(const Build *build, const PgQuery__ParseResult *tree, uint32_t **ret_kept,
                    uint32_t *ret_kept_count) MUST_USE;

/* --- shape_query.c --- */
/* A SELECT or DML statement, in a level of its own below `up`. Others are walked for facts. */
void query_read(Build *build, const Level *up, const PgQuery__Node *node);
void select_read(Build *build, const Level *up, const PgQuery__SelectStmt *select);

/* --- shape_level.c --- */
void level_begin(Build *build, Level *level, const Level *up);
void level_from(Build *build, Level *level, PgQuery__Node *const *items, size_t n);
/* Adds a table reference that is no FROM item for columns to name. */
ShapeTable *table_add(Build *build, const Level *level, const PgQuery__RangeVar *range, bool target);
/* A table reference which is a FROM item too. */
void level_table(Build *build, Level *level, const PgQuery__RangeVar *range, bool target);
/* AND-terms of a WHERE: equals and joins of this level. */
void level_where(Build *build, Level *level, const PgQuery__Node *where);
/* Only the joins, and only those of the items in `range`, from an ON. */
void level_joins(Build *build, Level *level, const PgQuery__Node *on, FromRange range);

/* --- shape_ddl.c, shape_setting.c: rows of shape_statement.c's table --- */
typedef PgQuery__Node Node;
/* Everything below is looked at; the tables named are what the statement works on. */
void utility_read(Build *build, const Node *node);
void rename_read(Build *build, const Node *node);
void new_schema_read(Build *build, const Node *node);
void create_read(Build *build, const Node *node);
void alone_read(Build *build, const Node *node);
void index_read(Build *build, const Node *node);
void drop_read(Build *build, const Node *node);
void alter_table_read(Build *build, const Node *node);
void alter_database_read(Build *build, const Node *node);
void vacuum_read(Build *build, const Node *node);
void cluster_read(Build *build, const Node *node);
void maintenance_read(Build *build, const Node *node);
void function_create_read(Build *build, const Node *node);
void set_read(Build *build, const Node *node);
void set_constraints_read(Build *build, const Node *node);
void show_read(Build *build, const Node *node);
void discard_read(Build *build, const Node *node);
/* BEGIN ISOLATION LEVEL x READ ONLY; the same of SET TRANSACTION (a level set there is its `setting`). */
void transaction_options(Build *build, PgQuery__Node *const *options, size_t n);

/* --- shape_facts.c --- */
/* Everything at and below `message`, which stands in `level`. NULL is fine. */
void facts_read(Build *build, const Level *level, const ProtobufCMessage *message);
void facts_nodes(Build *build, const Level *level, PgQuery__Node *const *nodes, size_t n);
void facts_node(Build *build, const Level *level, const PgQuery__Node *node);
/* Does calling this function leave or need state of the server session? */
bool function_keeps_state(ShapeName name);
bool schema_is_temporary(Slice schema);

/* --- shape_value.c --- */
ShapeValue value_read(Build *build, const PgQuery__Node *node);
/* A constant or parameter that is an array, perhaps cast: the cast is the type of its elements. */
ShapeValue array_value_read(Build *build, const PgQuery__Node *node);
/* Index of the token that starts at `location` in the text; UINT32_MAX when there is none. */
uint32_t token_at(const Build *build, int32_t location);
/* The literal of a constant at `location`, in front of which minus signs may stand. */
bool literal_at(const Build *build, int32_t location, uint32_t *ret_index, bool *ret_negative,
                uint32_t *ret_token_end);
uint16_t token_place(const Build *build, uint32_t token);
/* Schema and name from a list of names; borrowed from the tree. */
ShapeName name_borrow(PgQuery__Node *const *names, size_t n);

/* --- memory, names; here because everybody needs them --- */
static inline Slice build_slice(Build *build, Slice text)
{
    Slice copy = slice_of(NULL, 0);
    if (text.len == 0)
        return copy;
    copy = arena_dup(build->arena, text);
    build->failed = build->failed || !copy.data;
    return copy;
}
static inline Slice build_text(Build *build, const char *text)
{
    return build_slice(build, slice_str(text));
}
static inline ShapeName build_name(Build *build, ShapeName name)
{
    return (ShapeName){build_slice(build, name.schema), build_slice(build, name.name)};
}

static inline void kind_set(Build *build, ShapeKind kind) { build->shape->kind = kind; }

static inline void build_trait(Build *build, uint32_t traits) { build->shape->traits |= traits; }

/* Room for one more in a list that grows by doubling; NULL when memory is out. `list` points to the
 * list's pointer. */
void *build_add(Build *build, Arena *arena, void *list, uint32_t *count, size_t size);
/* Adds a copy to functions, operators or types, unless it stands among the first ones already. */
void build_add_name(Build *build, ShapeName **list, uint32_t *count, ShapeName name);

#endif
