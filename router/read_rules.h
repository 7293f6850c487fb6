/*
 * read_rules.h - may this statement be answered by a replica at all? Pure: tree and catalog.
 *
 * Only a SELECT of which nothing can write, lock, draw from a sequence, or mean something else on
 * another server. What cannot be decided says no: it goes to the primary, as without replicas.
 */
#ifndef SHOAL_ROUTER_READ_RULES_H
#define SHOAL_ROUTER_READ_RULES_H

#include "meta/topology.h"
#include "query/shape.h"

typedef enum ReadRule {
    READ_MAY_GO,
    READ_RULE_KIND,      /* no SELECT */
    READ_RULE_LOCKING,   /* FOR UPDATE ... */
    READ_RULE_CLAUSE,    /* INTO, a CTE that writes */
    READ_RULE_STATE,     /* leaves or reads state on the server session, temporary objects */
    READ_RULE_CATALOG,   /* not loaded */
    READ_RULE_TABLE,     /* unknown, a view of which nothing is known, foreign, unlogged, temporary, a sequence */
    READ_RULE_SECURITY,  /* row security whose policies are not known */
    READ_RULE_FUNCTION,  /* volatile, unknown, or about the server itself */
    READ_RULE_COUNT
} ReadRule;

typedef struct ReadRuleInput {
    const Shape *shape;
    const Catalog *catalog;
    Slice search_path, user;
    bool path_unknown; /* names may mean anything */
} ReadRuleInput;

ReadRule read_rule(const ReadRuleInput *input);
/* A transaction that says READ ONLY itself, and that a standby can run: not SERIALIZABLE. */
bool read_rule_begin(const Shape *shape, Slice default_isolation);
const char *read_rule_text(ReadRule rule); /* for SHOW: "a view" ... */

#endif
