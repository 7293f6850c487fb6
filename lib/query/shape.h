/*
 * shape.h - what a statement is, apart from the values in it.
 *
 *     "SELECT name FROM users WHERE id = 42"     ┐ one Shape: SELECT, table users,
 *     "select name from users where id=7"        ┘ users.id = literal 0
 *      (two templates here - the text differs -, but each is parsed only once)
 *
 * A Shape is read from the parse tree (libpg_query) once per template and found again by the
 * template's bytes afterwards. The template is the text with INTEGER and plain STRING literals cut
 * out; their classes stay. Names are folded and cut to 63 bytes as PostgreSQL does. A Shape knows
 * no catalog: it says `users`, never which table that is.
 *
 * Literals whose value the tree depends on (varchar(10), ORDER BY 1, SET and DDL altogether) stay in
 * the template.
 *
 * A Shape is immutable and reference counted; one cache per worker, no sharing between threads.
 */
#ifndef SHOAL_QUERY_SHAPE_H
#define SHOAL_QUERY_SHAPE_H

#include "core/arena.h"
#include "core/error.h"
#include "core/list.h"
#include "core/map.h"

typedef enum ShapeKind {
    SHAPE_EMPTY,    /* nothing, ';' or comments only */
    SHAPE_UNPARSED, /* libpg_query could not or must not parse it; `reason` says why (H94, H43) */
    SHAPE_MULTI,    /* several statements in one Query: `parts` */
    SHAPE_SELECT,   /* also VALUES and TABLE */
    SHAPE_INSERT,
    SHAPE_UPDATE,
    SHAPE_DELETE,
    SHAPE_MERGE,
    SHAPE_BEGIN, /* also START TRANSACTION; its isolation level is `setting` */
    SHAPE_COMMIT, /* also END */
    SHAPE_ROLLBACK, /* also ABORT */
    SHAPE_SAVEPOINT,
    SHAPE_RELEASE,
    SHAPE_ROLLBACK_TO,
    SHAPE_PREPARE_TRANSACTION,
    SHAPE_COMMIT_PREPARED, /* also ROLLBACK PREPARED; `statement` is the gid */
    SHAPE_SET,       /* SET [SESSION] name = value, SET name TO DEFAULT: `setting` */
    SHAPE_SET_LOCAL, /* SET LOCAL, SET TRANSACTION, SET CONSTRAINTS: end with the transaction */
    SHAPE_RESET,     /* RESET name */
    SHAPE_RESET_ALL,
    SHAPE_SHOW, /* SHOW name */
    SHAPE_DISCARD, /* DISCARD ALL and its parts: SHAPE_HAS_DISCARD_ALL */
    SHAPE_PREPARE, /* SQL-level PREPARE */
    SHAPE_EXECUTE,
    SHAPE_DEALLOCATE,
    SHAPE_DECLARE, /* cursor */
    SHAPE_FETCH,   /* also MOVE */
    SHAPE_CLOSE,
    SHAPE_COPY_IN,  /* COPY ... FROM STDIN */
    SHAPE_COPY_OUT, /* COPY ... TO STDOUT */
    SHAPE_COPY_SERVER, /* from or to a file or program of the server */
    SHAPE_EXPLAIN,  /* the explained statement's tables and predicates are reported */
    SHAPE_LISTEN,   /* also UNLISTEN */
    SHAPE_NOTIFY,
    SHAPE_LOCK,
    SHAPE_CALL,
    SHAPE_DO,
    SHAPE_DDL,            /* can run inside a transaction block */
    SHAPE_DDL_ALONE,      /* cannot: CREATE INDEX CONCURRENTLY, VACUUM, CREATE DATABASE, REINDEX ... */
    SHAPE_MAINTENANCE,    /* ANALYZE, CHECKPOINT, CLUSTER, REFRESH ... */
    SHAPE_KIND_COUNT
} ShapeKind;

/* Traits: facts of the whole statement, subqueries included. */
typedef enum ShapeTrait {
    SHAPE_HAS_LOCKING = 1 << 0,      /* FOR UPDATE / SHARE ... */
    SHAPE_HAS_INTO = 1 << 1,         /* SELECT INTO, CREATE TABLE AS */
    SHAPE_HAS_CTE = 1 << 2,
    SHAPE_HAS_MODIFYING_CTE = 1 << 3, /* also COPY (INSERT ... RETURNING ...) TO */
    SHAPE_HAS_SAMPLE = 1 << 4,       /* TABLESAMPLE */
    SHAPE_HAS_SUBQUERY = 1 << 5,     /* in FROM or in an expression */
    SHAPE_HAS_SETOP = 1 << 6,        /* UNION, INTERSECT, EXCEPT */
    SHAPE_HAS_GROUP = 1 << 7,        /* GROUP BY, HAVING */
    SHAPE_HAS_DISTINCT = 1 << 8,
    SHAPE_HAS_ORDER = 1 << 9,
    SHAPE_HAS_LIMIT = 1 << 10,       /* LIMIT, FETCH FIRST */
    SHAPE_HAS_OFFSET = 1 << 11,
    SHAPE_HAS_WINDOW = 1 << 12,
    SHAPE_HAS_JOIN = 1 << 13,        /* more than one FROM item at some level */
    SHAPE_HAS_OUTER_JOIN = 1 << 14,
    SHAPE_HAS_FUNCTION_IN_FROM = 1 << 15,
    SHAPE_HAS_TIME_VALUE = 1 << 16,  /* CURRENT_DATE, LOCALTIME ...; stable */
    SHAPE_HAS_ROLE_VALUE = 1 << 17,  /* CURRENT_USER, SESSION_USER, CURRENT_SCHEMA ... */
    SHAPE_HAS_TEMP = 1 << 18,        /* creates or names temporary objects */
    SHAPE_HAS_ON_CONFLICT = 1 << 19,
    SHAPE_HAS_RETURNING = 1 << 20,
    SHAPE_HAS_STAR = 1 << 21,        /* * in a select list */
    SHAPE_HAS_HOLD = 1 << 22,        /* DECLARE ... WITH HOLD */
    SHAPE_HAS_ANALYZE = 1 << 23,     /* EXPLAIN ANALYZE */
    SHAPE_HAS_CHAIN = 1 << 24,       /* COMMIT/ROLLBACK AND CHAIN */
    SHAPE_HAS_DISCARD_ALL = 1 << 25,
    SHAPE_HAS_READ_ONLY = 1 << 26,   /* BEGIN READ ONLY */
    /* Leaves state on the server session that Shoal cannot carry to another one: LISTEN, temporary
     * objects, advisory session locks, WITH HOLD, SQL PREPARE, set_config(), LOAD, DO ... */
    SHAPE_LEAVES_STATE = 1 << 27,
    SHAPE_HAS_NULL_KEY_TEST = 1 << 28, /* `column IS NULL` is an AND-term somewhere */
    /* DDL that gives a table another name, schema or place in a tree of inheritance. A column renamed,
     * dropped or of another type is among `assigned`; a schema renamed is `statement`. */
    SHAPE_MOVES_TABLE = 1 << 30,
    SHAPE_READS_STATE = 1 << 29      /* currval(), lastval(): what nextval() left on this session */
} ShapeTrait;

typedef struct ShapeName {
    Slice schema; /* empty: by search_path */
    Slice name;
} ShapeName;

/* A table reference; the same table twice is two references. CTE names are not among them. */
typedef struct ShapeTable {
    ShapeName name;
    Slice alias;    /* the name by which columns may call it */
    uint16_t level; /* number of the SELECT/DML level it stands in; 0 is the outermost. A set
                       operation is a level without tables, its branches are others */
    bool aliased;   /* `alias` was written */
    bool only;      /* ONLY t */
    uint8_t token_count; /* of its name: name, schema . name ... */
    uint32_t token; /* the first of them, counted in the whole text; UINT32_MAX: not known */
    bool target;    /* of INSERT, UPDATE, DELETE, MERGE, COPY, TRUNCATE, LOCK, DDL */
    bool renamed;   /* AS x(a, b), here or around its join: its columns have other names there, and
                       no unqualified column is its */
} ShapeTable;

typedef enum ShapeValueKind {
    SHAPE_VALUE_OPAQUE,  /* an expression: only PostgreSQL knows its value */
    SHAPE_VALUE_PARAM,   /* $index (from 1) */
    SHAPE_VALUE_LITERAL, /* the statement's literal number `index` (from 0), see ShapeLiteral */
    SHAPE_VALUE_NULL,
    SHAPE_VALUE_DEFAULT
} ShapeValueKind;

typedef struct ShapeValue {
    ShapeValueKind kind;
    uint32_t index;
    bool negative;  /* a minus sign stands before the integer literal */
    ShapeName cast; /* type name as written or folded (pg_catalog.int8 for bigint), empty when none;
                       a cast with a length ('x'::varchar(3)) makes the value OPAQUE */
    uint16_t token, token_count; /* where the value stands, in tokens, cast and sign included;
                                    UINT16_MAX when too far away */
} ShapeValue;

/* `table.column = value`, an AND-term that every row read or written by that table reference obeys:
 * it may read these rows only, and the result stays the same. From WHERE at any level and from ON
 * where that holds. Values are parameters, literals or NULL, perhaps cast; never OPAQUE. */
typedef struct ShapeEqual {
    int16_t table; /* index in tables; -1: the column is unqualified and its level has several tables */
    uint16_t level; /* when table is -1: the column is looked up among the tables of this level ... */
    uint16_t from, to; /* ... with an index from..to-1, those which its ON can name */
    Slice column;
    ShapeValue value;
    /* The operator is spelt `=` (not OPERATOR(x.=)), the column stands on its left. Where the
     * column's and the operator's tokens stand, for rewriting. */
    bool plain;
    uint16_t column_token, column_token_count, operator_token;
} ShapeEqual;

/* `table.column IN (values)` or `= ANY (one value that is an array)`, under the same conditions as a ShapeEqual:
 * every row read or written by that reference has one of the values. */
typedef struct ShapeAny {
    int16_t table;
    uint16_t level, from, to;
    Slice column;
    bool array; /* values[0] is an array; its cast is the type of the elements */
    ShapeValue *values; /* never DEFAULT; OPAQUE where only PostgreSQL knows */
    uint32_t value_count;
} ShapeAny;

/* `a.x = b.y`: rows of table `a` read here obey it, given b's. Both directions are listed where
 * both hold. Same meaning of -1, from and to as in ShapeEqual. */
typedef struct ShapeJoin {
    int16_t table, other;
    uint16_t level, other_level;
    uint16_t from, to; /* for both sides */
    Slice column, other_column;
} ShapeJoin;

/* INSERT ... VALUES: `values[row * column_count + i]`. columns is NULL when the list was left out:
 * then value i is for the table's i-th column. rows is 0 for INSERT ... SELECT. */
typedef struct ShapeInsert {
    Slice *columns;
    uint32_t column_count;
    uint32_t rows;
    ShapeValue *values;
} ShapeInsert;

/* An option of COPY: FORMAT csv, HEADER ... */
typedef struct ShapeOption {
    Slice name;  /* in lower case */
    Slice value; /* as written, numbers in digits; empty when none was given or for lists */
} ShapeOption;

#define SHAPE_UNIQUE_SEPARATOR '\x1f'

typedef struct Shape Shape;
struct Shape {
    ShapeKind kind;
    uint32_t traits; /* ShapeTrait bits */
    uint64_t fingerprint; /* libpg_query's: the same for the same statement in other spellings; 0 for
                             unparsed, empty and very long ones */
    Slice template_text;  /* for people: literals as ?, cut at 1 KiB */
    const char *reason;   /* SHAPE_UNPARSED: why, a constant text */
    bool too_complex;     /* SHAPE_UNPARSED because of nesting or size: 54001 where it matters */

    ShapeTable *tables;
    uint32_t table_count;
    ShapeEqual *equals;
    uint32_t equal_count;
    ShapeAny *anys;
    uint32_t any_count;
    ShapeJoin *joins;
    uint32_t join_count;
    ShapeName *functions; /* every function called, aggregates and window functions included */
    uint32_t function_count;
    ShapeName *operators; /* names of operators used; schema when written with OPERATOR() */
    uint32_t operator_count;
    ShapeName *types; /* types cast to */
    uint32_t type_count;
    ShapeInsert insert; /* of the outermost INSERT; COPY of a table: its columns, and no rows */
    Slice *assigned; /* columns assigned by UPDATE SET, ON CONFLICT DO UPDATE, MERGE ... UPDATE */
    uint32_t assigned_count;
    /* DDL: the columns of each unique or exclusion constraint that it makes, joined by SHAPE_UNIQUE_SEPARATOR; an
     * expression is an empty name. */
    Slice *uniques;
    uint32_t unique_count;
    bool drops_tables;    /* DROP TABLE, VIEW ... */
    bool makes_table;     /* CREATE TABLE ... */
    bool makes_partition; /* ... PARTITION OF */

    uint32_t literal_count; /* literals cut out of the template */
    uint32_t param_max;     /* highest $n; 0 when none */
    uint8_t *param_uses; /* how often $(i + 1) stands in the statement, counted up to 255 */
    uint32_t param_use_count; /* of them; those of parameters beyond are not known */
    uint16_t select_list_token; /* SELECT: the first token of the outermost select list; 0 unknown */

    Slice setting;       /* SET, RESET, SHOW: the parameter's name in lower case. SET ROLE is `role`,
                            SET SESSION AUTHORIZATION `session_authorization`, SET NAMES
                            `client_encoding`, SET TIME ZONE `timezone`. BEGIN ISOLATION LEVEL:
                            `transaction_isolation` */
    Slice setting_value; /* SET: the value list as SQL text fit for replay as SET name TO ...
                            ('a', 'b' or 5); empty for DEFAULT */
    Slice statement;     /* PREPARE, EXECUTE, DEALLOCATE: its name (empty: ALL); SAVEPOINT...: its name;
                            PREPARE TRANSACTION, COMMIT PREPARED: the gid; cursors: the cursor;
                            LISTEN, NOTIFY: the channel; CREATE INDEX CONCURRENTLY IF NOT EXISTS: the index;
                            UPDATE, DELETE ... WHERE CURRENT OF: the cursor */
    ShapeOption *options; /* COPY */
    uint32_t option_count;
    /* SELECT shoal.name(args...) and nothing else: a call that Shoal answers. Arguments that are no
     * literals or parameters are OPAQUE. The name is functions[0]. */
    bool shoal_call;
    /* The same with one of Citus's names, bare or in pg_catalog: ours where Shoal shards. */
    bool citus_call;
    ShapeValue *call_args;
    Slice *call_names; /* of arguments given as name => value; empty: by position */
    uint32_t call_arg_count;

    /* SHAPE_MULTI. They live and die with this Shape (not to be retained); their literals are
     * numbered through the whole text, their places in tokens are unknown. */
    Shape **parts;
    uint32_t part_count;

    /* Owner's: the cache. */
    uint32_t refs;
    bool cached; /* in by_key; in lru too while refs is 0 */
    bool stub;   /* stands for a template of which the literals `kept` must stay; never handed out */
    uint32_t *kept;
    uint32_t kept_count;
    Arena arena;
    size_t bytes;  /* counted in the cache */
    Slice key;     /* template bytes with classes: what the cache compares */
    uint64_t hash; /* of key */
    List lru;
};

typedef enum ShapeLiteralClass {
    SHAPE_LITERAL_INT4, /* digits that fit int4 */
    SHAPE_LITERAL_INT8, /* digits that fit int8 only */
    SHAPE_LITERAL_STRING /* plain '...' */
} ShapeLiteralClass;

/* A literal cut out of a given text; the i-th belongs to SHAPE_VALUE_LITERAL index i. */
typedef struct ShapeLiteral {
    ShapeLiteralClass class;
    uint32_t offset, len; /* bytes in that text, quotes included */
    bool doubled;         /* holds '' inside: value needs unquoting */
} ShapeLiteral;

/* A read statement: its Shape (one reference, give it back with shape_release) and the places of
 * the values in this very text. */
typedef struct ShapeReading {
    Shape *shape;
    ShapeLiteral *literals; /* in the caller's arena; shape->literal_count of them */
    Slice hint;             /* body of the leading comment when it starts with "shoal:", else empty */
} ShapeReading;

typedef struct ShapeCache {
    Map by_key;
    List lru; /* cached shapes without references, least recently used first: may be dropped */
    size_t count, count_max;
    size_t bytes, bytes_max;
    /* What the parser is asked at most, else SHAPE_UNPARSED. The defaults of shape_cache_init need
     * less than 4 MiB of stack (measured; see README.md). */
    size_t text_max;     /* bytes */
    uint32_t tokens_max; /* the parser takes about 1.5 us for each, and the worker waits for it */
    uint32_t depth_max; /* parentheses open at once (complexity.h) */
    uint32_t terms_max; /* steps under one another in the tree (complexity.h) */
    uint64_t hits, misses, parse_errors;
    Arena scratch; /* for the template under construction */
} ShapeCache;

void shape_cache_init(ShapeCache *cache, size_t count_max, size_t bytes_max);
void shape_cache_finish(ShapeCache *cache);

/* Reads a statement. Never fails for bad SQL (SHAPE_UNPARSED); false only when memory is out.
 * `values_may_vary`: false keeps literals in the template, where they are OPAQUE (encodings of H44;
 * with standard_strings off it is so anyway). */
bool shape_read(ShapeCache *cache, Slice text, bool standard_strings, bool values_may_vary,
                Arena *arena, ShapeReading *ret) MUST_USE;
Shape *shape_retain(Shape *shape);
void shape_release(ShapeCache *cache, Shape *shape);

/* The value of a plain literal: digits, or the string without its quotes ('' folded into the arena). */
Slice shape_literal_value(Slice text, const ShapeLiteral *literal, Arena *arena);

const char *shape_kind_name(ShapeKind kind);
/* Reads only: no writes, no locks, as far as the tree tells (functions are the catalog's business). */
bool shape_is_read(const Shape *shape);

#endif
