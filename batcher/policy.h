/*
 * policy.h - may this statement travel with others, and in which tier? Pure.
 *
 * The 21 rules of docs/batching.md, each a row of one table with its number, its reason code and the
 * text that SHOW BATCH_REASONS prints. A rule that cannot be decided from the parse tree and the
 * catalog says no. Depends on nothing but its input: table-tested.
 */
#ifndef SHOAL_BATCHER_POLICY_H
#define SHOAL_BATCHER_POLICY_H

#include "backend/guc.h"
#include "meta/topology.h"
#include "query/shape.h"

typedef enum BatchTier {
    BATCH_TIER_NONE,
    BATCH_TIER_KEYS,
    BATCH_TIER_ORDINAL,
    BATCH_TIER_ORIGINALS, /* behind each other on one connection */
    BATCH_TIER_WRITES     /* behind each other, with one commit */
} BatchTier; /* -, A, B, C, W */

typedef enum BatchReason {
    BATCH_OK,
    BATCH_OFF, /* setting of server, database, or hint */
    BATCH_IN_TRANSACTION, /* rule 2 */
    BATCH_PROTOCOL, /* rule 2: several statements, row limit, portal kept, Flush */
    BATCH_ISOLATION, /* rule 3 */
    BATCH_SESSION_STATE, /* rules 5, 6: the session left state on a server connection */
    BATCH_ENCODING, /* rules 5, H44 */
    BATCH_NOT_SELECT, /* rule 8 */
    BATCH_LOCKING, /* rule 8 */
    BATCH_UNSUPPORTED_CLAUSE, /* rule 8: INTO, modifying CTE, TABLESAMPLE, set operation ... */
    BATCH_NO_TABLE, /* nothing to look up */
    BATCH_UNKNOWN_TABLE, /* rule 7: not in the catalog */
    BATCH_TABLE_KIND, /* rule 7: view, foreign table ... */
    BATCH_ROW_SECURITY, /* rule 9 */
    BATCH_FUNCTION, /* rule 9: volatile or unknown function, operator or type */
    BATCH_NO_KEY, /* no column = value term */
    BATCH_KEY_TYPE, /* rule 10 */
    BATCH_KEY_VALUE, /* rule 10: NULL, out of range, other literal class */
    BATCH_NO_INDEX, /* planner facts: no index serves the key */
    BATCH_RESULT_SHAPE, /* rule 11 */
    BATCH_LEARNING, /* the original's description is being asked for */
    BATCH_DISTRUSTED, /* rules 14, 17: failed before as a batch, or notices appeared */
    BATCH_LIMIT, /* rule 18 */
    BATCH_CATALOG, /* catalog not loaded */
    BATCH_MISMATCH, /* a proof found other bytes than the original's: off until the catalog changes */
    BATCH_WRITE, /* this write does not share its commit */
    BATCH_ORDER, /* rule 21: it waits for the one before it */
    BATCH_REASON_COUNT
} BatchReason;

typedef struct PolicyInput {
    const Shape *shape;
    const Topology *topology;
    uint32_t database; /* index in config->databases */
    Slice user;
    Slice search_path; /* of the session; the default when it set none */
    const GucVector *gucs;
    Slice hint; /* leading "shoal:" comment */
    bool autocommit; /* rule 2: status I, one Execute (or one simple statement) before the Sync */
    bool session_state; /* the session is pinned: state was left on a server session */
    bool values_may_vary; /* H44 */
} PolicyInput;

typedef struct PolicyVerdict {
    BatchReason reason; /* BATCH_OK or the first rule that says no */
    BatchTier tier;
    /* The keys: equals of the shape whose values become array elements. Tier A has exactly one. */
    uint16_t keys[8];
    uint32_t key_count;
    /* Type of each key: the column's, by the catalog. */
    uint32_t key_oids[8];
    const CatalogTable *table; /* of the keys; valid as long as the topology */
    /* Types that only PostgreSQL reads: the key travels as text and is cast to this one. NULL: of
     * those that key.h knows. Valid as long as the topology. */
    const CatalogType *key_casts[8];
    /* The catalog does not tell whether an index serves the keys (a view, row security): PostgreSQL
     * is asked for the plan. */
    bool prove_index;
    /* Whatever `reason` says: the statement only reads and runs nothing volatile, so that others may
     * be sent behind it on one connection, and it may be run a second time (tier C). */
    bool pipelined;
    ProfileConfig profile; /* by value: the most particular one that is assigned; its name is NULL */
    const char *profile_name; /* only to be shown; valid as long as the configuration */
} PolicyVerdict;

/* A single-row write that may share a commit (docs/batching.md, Writes). */
typedef struct WriteVerdict {
    BatchReason reason;
    uint32_t table_oid;
    /* What writes of one commit are sorted by: the row's value of a unique column. */
    ShapeValue key; /* LITERAL, PARAM; OPAQUE: an INSERT that leaves the column to the server */
    uint32_t key_oid;
} WriteVerdict;

PolicyVerdict policy_judge(const PolicyInput *input);
/* For INSERT, UPDATE and DELETE: the rules are others, see policy_write.c. */
WriteVerdict policy_judge_write(const PolicyInput *input);
/* The part of it that may change from request to request of the same statement: its other rules
 * may be remembered for (shape, gucs, pool, catalog version), these must be asked each time. */
BatchReason policy_request(const PolicyInput *input);

typedef struct BatchReasonText {
    const char *code; /* snake_case, stable */
    int rule; /* of docs/batching.md; 0: none */
    const char *help; /* one sentence for an operator: what it means and what would change it */
} BatchReasonText;
const BatchReasonText *batch_reason_text(BatchReason reason);

#endif
