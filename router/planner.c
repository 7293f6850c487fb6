/*
 * planner.c - proves that one shard can answer, or says why not.
 *
 *   1  every table reference is looked up: distributed, local to the home shard, or the system's
 *   2  every distributed reference must be fixed: some term `key = value` of its level gives the
 *      shard, or a join term hands on the value of a reference that is fixed already
 *   3  all of them, and the home shard if local tables take part, must be the same shard
 *
 *      SELECT * FROM users u JOIN orders o ON o.user_id = u.id WHERE u.id = 7
 *               users.id = 7          -> bucket 610 -> s1
 *               orders.user_id = u.id -> the same value -> s1            DIRECT s1
 *
 * Nothing is guessed: an opaque value, a column that cannot be told apart, a view: REJECT.
 */
#include "router/planner.h"

#include <stdio.h>

#include "router/fanout.h"
#include "router/foreign.h"
#include "router/planner_state.h"

Plan plan_direct(uint32_t shard, bool any)
{
    return (Plan){.kind = PLAN_DIRECT, .shard = shard, .any_shard = any};
}

Plan plan_reject(const char *sqlstate, const char *message, const char *detail, const char *hint)
{
    Plan plan = {.kind = PLAN_REJECT};
    error_set(&plan.error, sqlstate, "%s", message);
    if (detail)
        error_detail(&plan.error, "%s", detail);
    if (hint)
        error_hint(&plan.error, "%s", hint);
    return plan;
}

Plan plan_reject_shards(const char *detail)
{
    return plan_reject(SQLSTATE_FEATURE_NOT_SUPPORTED,
                  "this statement needs more than one shard, which is not supported yet", detail,
                  "Fix the shard key of every distributed table with key = value.");
}

Plan plan_reject_temporary(void)
{
    return plan_reject(SQLSTATE_FEATURE_NOT_SUPPORTED, "which table is meant cannot be known",
                  "The session has temporary tables; one of them may have that name.",
                  "Write schema and table, or drop the temporary tables and DISCARD ALL.");
}

/* ---- step 3: one shard for all --------------------------------------------------------------- */

uint32_t planner_home(const Planner *p)
{
    return p->database->shards[0];
}

static const char *shard_name(const Planner *p, uint32_t shard)
{
    return p->in->topology->config->shards[shard].name;
}

static Plan not_fixed(const Planner *p, const Ref *ref)
{
    char detail[256];
    snprintf(detail, sizeof detail,
             "Table \"%.*s\" is distributed by \"%.*s\", and the statement does not fix that key to one value.",
             SLICE_FMT(ref->table->name), SLICE_FMT(ref->table->key));
    return plan_reject_shards(detail);
}

/* Rows of a reference table are locked on the home shard, so that those who lock them meet. */
static bool is_locked(const Planner *p, const Ref *ref)
{
    return ref->kind == REF_REFERENCE && (p->shape->traits & SHAPE_HAS_LOCKING);
}

Plan plan_agree(const Planner *p)
{
    uint32_t shard = SHARD_NONE;
    char detail[256];
    for (uint32_t i = 0; i < p->shape->table_count; i++) {
        const Ref *ref = &p->refs[i];
        bool here_only = (ref->kind != REF_SYSTEM && ref->kind != REF_REFERENCE) || is_locked(p, ref);
        uint32_t here = here_only ? ref->shard : SHARD_NONE;
        if (ref->kind == REF_DISTRIBUTED && here == SHARD_NONE)
            return not_fixed(p, ref);
        if (ref->kind == REF_VIEW && topology_database_sharded(p->in->topology, p->in->database))
            return plan_reject_shards("The statement reads a view, which may read distributed tables.");
        if (here == SHARD_NONE || here == SHARD_EVERY)
            continue;
        if (p->in->temporary && ref->bare && here != planner_home(p))
            return plan_reject(SQLSTATE_FEATURE_NOT_SUPPORTED,
                          "which table is meant cannot be known",
                          "The session has temporary tables, on another shard than these rows; one "
                          "of them may have that name.",
                          "Write schema and table, or drop the temporary tables and DISCARD ALL.");
        if (shard != SHARD_NONE && shard != here) {
            snprintf(detail, sizeof detail, "It reads rows of shard %s and of shard %s (\"%.*s\").",
                     shard_name(p, shard), shard_name(p, here),
                     SLICE_FMT(p->shape->tables[i].name.name));
            return plan_reject_shards(detail);
        }
        shard = here;
    }
    Plan plan = shard == SHARD_NONE ? plan_direct(planner_home(p), true) : plan_direct(shard, false);
    plan.catalog = plan.any_shard && planner_asks_catalog(p);
    return plan;
}

/* ---- all kinds ------------------------------------------------------------------------------- */

/* A SELECT that no shard can answer alone (fanout.h). */
static Plan plan_spread(Planner *p)
{
    FanoutRef *refs = arena_array(p->in->arena, FanoutRef, p->shape->table_count + 1);
    Plan plan = {.kind = PLAN_SCATTER};
    if (!refs)
        return plan_reject(SQLSTATE_OUT_OF_MEMORY, "out of memory", NULL, NULL);
    if (!refs_spread(p, refs))
        return p->plan;
    plan.spread = fanout_make(p->in, p->statement, refs, planner_asks_catalog(p), p->in->keep, &plan.error);
    if (!plan.spread)
        plan.kind = PLAN_REJECT;
    return plan;
}

static Plan plan_rows(Planner *p)
{
    if (plan_hides_tables(p) || planner_exports_snapshot(p))
        return p->plan;
    if (p->shape->statement.len && (p->shape->kind == SHAPE_UPDATE || p->shape->kind == SHAPE_DELETE))
        return plan_at_cursor(p);
    if (plan_moves_rows(p))
        return ref_target(p) >= 0 && p->refs[ref_target(p)].through ? p->plan : plan_rekey(p);
    if (p->reference_count && plan_writes_reference(p))
        return plan_reference_write(p);
    if (p->distributed_count == 0)
        return plan_agree(p);
    refs_fix_by_values(p);
    if (p->shape->kind == SHAPE_INSERT) {
        Plan plan = plan_insert(p);
        return plan;
    }
    refs_fix_by_joins(p);
    Plan plan;
    refs_place(p);
    if (plan_write(p, &plan))
        return plan;
    plan = plan_agree(p);
    if (plan.kind == PLAN_DIRECT && !plan.any_shard && plan.shard != planner_home(p) && planner_names_system(p) &&
        p->shape->kind == SHAPE_SELECT)
        plan = plan_reject_shards("It reads rows of another shard than the one that answers for the catalog.");
    if (plan.kind == PLAN_REJECT && p->shape->kind == SHAPE_SELECT && p->in->keep)
        return plan_spread(p);
    return plan;
}

/* ---- COPY, LOCK ------------------------------------------------------------------------------ */

static bool calls_aggregate(const Planner *p)
{
    for (uint32_t i = 0; i < p->shape->function_count; i++) {
        const ShapeName *name = &p->shape->functions[i];
        const CatalogFunction *function = catalog_resolve_function(
            p->catalog, name->schema, name->name, p->in->search_path, p->in->user);
        if (!function || function->kind != 'f')
            return true;
    }
    return false;
}

/* COPY (SELECT ...): each shard answers for its rows when no row depends on those of another shard. */
static bool query_splits(Planner *p, int *ret_first)
{
    static const uint32_t WHOLE = SHAPE_HAS_LOCKING | SHAPE_HAS_CTE | SHAPE_HAS_SAMPLE | SHAPE_HAS_SUBQUERY |
                                  SHAPE_HAS_SETOP | SHAPE_HAS_GROUP | SHAPE_HAS_DISTINCT | SHAPE_HAS_ORDER |
                                  SHAPE_HAS_LIMIT | SHAPE_HAS_OFFSET | SHAPE_HAS_WINDOW | SHAPE_HAS_OUTER_JOIN |
                                  SHAPE_HAS_MODIFYING_CTE | SHAPE_HAS_FUNCTION_IN_FROM;
    int first = -1;
    if (p->shape->traits & WHOLE || calls_aggregate(p))
        return false;
    for (uint32_t i = 0; i < p->shape->table_count && first < 0; i++)
        if (p->refs[i].kind == REF_DISTRIBUTED)
            first = (int)i;
    *ret_first = first;
    return first >= 0 && refs_all_joined(p, first);
}

/* What COPY of a whole table copies: generated columns are left out. NULL: not known, or memory is out. */
static const char *copied_columns(const Planner *p, const CatalogTable *table)
{
    const char *list = NULL;
    for (uint32_t i = 0; table && p->in->keep && i < table->column_count; i++) {
        if (table->columns[i].generated)
            continue;
        const char *name = sql_quote_identifier(p->in->keep, table->columns[i].name);
        list = name ? arena_printf(p->in->keep, "%s%s%s", list ? list : "", list ? ", " : "", name) : NULL;
        if (!list)
            return NULL;
    }
    return list;
}

static Plan plan_copy_out(const Planner *p, int reference)
{
    Plan plan = {.kind = PLAN_COPY_OUT, .table = p->refs[reference].table};
    if (plan.table->partitioned && p->shape->tables[reference].target) /* the shards refuse it, as PostgreSQL does */
        return plan;
    plan_pass_over_foreign(p, &plan, reference, copied_columns(p, p->refs[reference].catalog));
    return plan;
}

static Plan plan_copy(Planner *p)
{
    int target = ref_target(p);
    const Ref *ref = target < 0 ? NULL : &p->refs[target];
    bool in = p->shape->kind == SHAPE_COPY_IN;
    bool whole = ref && (ref->kind == REF_DISTRIBUTED || (in && ref->kind == REF_REFERENCE));
    if (plan_hides_tables(p))
        return p->plan;
    if (whole && ref->bare && p->in->temporary)
        return plan_reject_temporary();
    if (whole && in && !table_is_ready(ref->table))
        return plan_reject_shards("The type of its key is not known, or cannot be a key.");
    if (whole && in)
        return (Plan){.kind = PLAN_COPY_IN, .table = ref->table, .same_encoding = p->in->same_encoding};
    if (whole)
        return plan_copy_out(p, target);
    refs_fix_by_values(p);
    refs_fix_by_joins(p);
    refs_place(p);
    Plan plan = plan_agree(p);
    int first;
    if (plan.kind == PLAN_REJECT && !in && !ref && p->distributed_count && query_splits(p, &first))
        return p->in->temporary ? plan_reject_temporary() : plan_copy_out(p, first);
    return plan;
}

/* A table on several shards is locked on all of them, always in the same order. */
static Plan plan_lock(Planner *p)
{
    if (p->distributed_count + p->reference_count == 0 || !p->in->in_transaction)
        return p->distributed_count ? plan_direct(planner_home(p), true) /* PostgreSQL says 25P01 */ : plan_agree(p);
    if (p->in->temporary)
        return plan_reject_temporary();
    return (Plan){.kind = PLAN_WRITE, .same = true, .shards = p->database->shards,
                  .shard_count = p->database->shard_count};
}

static Plan plan_unparsed(const Planner *p)
{
    if (p->shape->too_complex)
        return plan_reject(SQLSTATE_STATEMENT_TOO_COMPLEX, "statement is too complex to be routed",
                      p->shape->reason, "Split the statement, or send it to one shard directly.");
    return (Plan){.kind = PLAN_PROBE, .shard = planner_home(p)};
}

/* Under another name it would be taken for a table of the home shard, with a part of its rows. */
static bool moves_table(const Planner *p)
{
    const Topology *t = p->in->topology;
    if (!(p->shape->traits & SHAPE_MOVES_TABLE))
        return false;
    for (uint32_t i = 0; p->shape->statement.len && i < t->table_count; i++)
        if (t->tables[i].database == p->in->database &&
            slice_equal(t->tables[i].schema, p->shape->statement))
            return true;
    for (uint32_t i = 0; i < p->shape->table_count; i++)
        if (p->refs[i].table)
            return true;
    return false;
}

/* On the home shard, also when the transaction is at work elsewhere. */
static Plan plan_home(const Planner *p)
{
    Plan plan = plan_direct(planner_home(p), true);
    plan.catalog = true;
    return plan;
}

static Plan plan_unsupported(const Planner *p)
{
    char message[128];
    snprintf(message, sizeof message, "%s is not supported on a sharded database yet",
             shape_kind_name(p->shape->kind));
    return plan_reject(SQLSTATE_FEATURE_NOT_SUPPORTED, message, "Its shard cannot be known.",
                  "Send the statements themselves, with the shard key fixed.");
}

/* SQL's PREPARE, of questions about the catalog: pg_dump asks so. */
static Plan plan_prepare(Planner *p)
{
    if (!planner_prepares_catalog(p))
        return plan_unsupported(p);
    return plan_hides_tables(p) ? p->plan : plan_home(p);
}

/* A name without schema may be a temporary table's, which exists on the home shard alone: on the others the statement
 * would find, and drop, a table of all. True: `p->plan` says what becomes of it. */
static bool names_temporary(Planner *p)
{
    bool known = false, target = false;
    for (uint32_t i = 0; p->in->temporary && i < p->shape->table_count; i++) {
        const Ref *ref = &p->refs[i];
        if (!p->shape->tables[i].target || !ref->bare)
            continue;
        target = true;
        known |= ref->catalog || ref->kind == REF_DISTRIBUTED || ref->kind == REF_REFERENCE;
    }
    if (known)
        p->plan = plan_reject_temporary();
    else if (target && p->shape->drops_tables)
        p->plan = plan_direct(planner_home(p), false);
    return known || (target && p->shape->drops_tables);
}

static Plan plan_sharded(Planner *p)
{
    switch (p->shape->kind) {
    case SHAPE_UNPARSED:
        return plan_unparsed(p);
    case SHAPE_SELECT:
    case SHAPE_INSERT:
    case SHAPE_UPDATE:
    case SHAPE_DELETE:
    case SHAPE_EXPLAIN:
    case SHAPE_DECLARE:
        if (p->shape->traits & SHAPE_HAS_INTO)
            return plan_reject(SQLSTATE_FEATURE_NOT_SUPPORTED,
                          "creating a table from a query is not supported on a sharded database yet",
                          "The table has to be made on every shard.", "Create the table first, then insert its rows.");
        return plan_rows(p);
    case SHAPE_COPY_IN:
    case SHAPE_COPY_OUT:
        return plan_copy(p);
    case SHAPE_LOCK:
        return plan_lock(p);
    case SHAPE_MERGE:
        if (plan_moves_rows(p) || plan_hides_tables(p))
            return p->plan;
        return p->distributed_count ? plan_merge_into(p) : plan_rows(p);
    case SHAPE_COPY_SERVER:
        if (p->distributed_count)
            return plan_reject_shards("COPY from and to files works on whole distributed tables.");
        return plan_rows(p);
    case SHAPE_DDL:
    case SHAPE_DDL_ALONE:
    case SHAPE_MAINTENANCE:
        if (p->shape->traits & SHAPE_HAS_TEMP)
            return plan_makes_temporary(p) ? p->plan : plan_direct(planner_home(p), false);
        if (names_temporary(p))
            return p->plan;
        if (p->shape->traits & SHAPE_HAS_INTO)
            return plan_reject(SQLSTATE_FEATURE_NOT_SUPPORTED,
                          "creating a table from a query is not supported on a sharded database yet",
                          "The table has to be made on every shard.", "Create the table first, then insert its rows.");
        if (moves_table(p) || plan_moves_rows(p))
            return plan_reject(SQLSTATE_FEATURE_NOT_SUPPORTED,
                          "a distributed table keeps its name, its schema and its key",
                          "Shoal finds its rows by them; inheritance is not followed, and partitions are neither attached nor detached.",
                          "shoal.undistribute_table() first, or make a new table or partition.");
        if (plan_breaks_unique(p))
            return p->plan;
        if (p->in->in_transaction && p->shape->kind == SHAPE_DDL_ALONE)
            return plan_direct(planner_home(p), true); /* PostgreSQL says 25001 */
        return (Plan){.kind = PLAN_DDL, .alone = p->shape->kind != SHAPE_DDL && !p->in->in_transaction};
    case SHAPE_EXECUTE: /* of what plan_prepare has let pass */
        return plan_home(p);
    case SHAPE_PREPARE:
        return plan_prepare(p);
    case SHAPE_CALL:
    case SHAPE_DO:
        return plan_reject(SQLSTATE_FEATURE_NOT_SUPPORTED, "what this statement does cannot be seen on a sharded database",
                           "Its body may read and write any table.",
                           "Say where it runs: /* shoal: shard = NAME */ or /* shoal: table = NAME, key = VALUE */ before it.");
    case SHAPE_PREPARE_TRANSACTION:
    case SHAPE_COMMIT_PREPARED:
        return plan_unsupported(p);
    default:
        return plan_direct(planner_home(p), true);
    }
}

static Plan plan_parts(const PlanInput *input, const PlanStatement *statement)
{
    const Shape *shape = statement->shape;
    Plan *plans = arena_array(input->arena, Plan, shape->part_count);
    if (!plans)
        return plan_reject(SQLSTATE_OUT_OF_MEMORY, "out of memory", NULL, NULL);
    PlanInput inside = *input;
    for (uint32_t i = 0; i < shape->part_count; i++) {
        PlanStatement part = *statement;
        part.shape = shape->parts[i];
        part.hint = (Slice){0}; /* which of them it was meant for is not known */
        inside.in_transaction = true; /* several statements in one Query are one transaction */
        plans[i] = plan_make(&inside, &part);
        inside.path_unknown |= plan_sets_path(part.shape);
        if (plans[i].kind == PLAN_LOCAL)
            return plan_reject(SQLSTATE_FEATURE_NOT_SUPPORTED,
                          "shoal functions cannot be called among other statements",
                          "They are answered by Shoal, not by a shard.",
                          "Send the call alone.");
    }
    return plan_merge(input, plans, shape->part_count);
}

/* True when the statement names a distributed table, by any schema: a move relies on its shape. */
static bool names_distributed(const PlanInput *input, const Shape *shape)
{
    const Topology *topology = input->topology;
    for (uint32_t i = 0; i < shape->table_count; i++)
        for (uint32_t t = 0; t < topology->table_count; t++)
            if (topology->tables[t].database == input->database &&
                slice_equal(topology->tables[t].name, shape->tables[i].name.name))
                return true;
    return shape->table_count == 0;
}

/* While rows are copied, their tables must stay as they are. VACUUM and the like change none. */
static Plan while_copying(const PlanInput *input, Plan plan, const Shape *shape)
{
    if (shape->kind == SHAPE_MAINTENANCE || !names_distributed(input, shape))
        return plan;
    return plan_reject(SQLSTATE_OBJECT_IN_USE, "a distributed table cannot be changed while its rows are copied",
                  "A move relies on equal tables on both shards until it has switched.",
                  "SHOW MOVES tells how far it is; try again then, or REBALANCE CANCEL it.");
}

/* While a shard joins: what is written on more than one shard, or would be if there were a second one. */
static bool waits_for_shard(const PlanInput *input, const Plan *plan, const Shape *shape)
{
    bool alone = input->topology->config->databases[input->database].shard_count == 1;
    if (shape->kind == SHAPE_SELECT)
        return !shape_is_read(shape) && plan->kind != PLAN_DIRECT;
    bool writes = shape->kind == SHAPE_INSERT || shape->kind == SHAPE_UPDATE || shape->kind == SHAPE_DELETE ||
                  shape->kind == SHAPE_MERGE || plan->kind == PLAN_DDL || shape->kind == SHAPE_COPY_IN || (alone && shape->kind == SHAPE_DDL);
    return plan->kind == PLAN_WRITE || (writes && (alone || plan->kind != PLAN_DIRECT));
}

/* Of one shard, or rows of several: when a bucket it needs is fenced. Of all shards: when any is. */
static Plan with_fence(const PlanInput *input, Plan plan, const Shape *shape, bool fenced)
{
    plan.looked = plan.kind == PLAN_REJECT && !input->keep;
    bool all = plan.looked || plan.kind == PLAN_SCATTER || (plan.kind == PLAN_WRITE && !plan.same) || plan.kind == PLAN_DDL ||
               plan.kind == PLAN_COPY_IN || plan.kind == PLAN_COPY_OUT || plan.kind == PLAN_INSERT_SELECT || plan.kind == PLAN_MERGE ||
               shape->kind == SHAPE_DECLARE; /* which rows it reads is planned when it is opened */
    plan.fenced = input->topology->joining ? waits_for_shard(input, &plan, shape)
                                           : fenced || (all && input->topology->fenced);
    return plan.kind == PLAN_DDL && input->topology->copying ? while_copying(input, plan, shape) : plan;
}

Planner planner_of(const PlanInput *input, const PlanStatement *statement, ParamMemo *memo, bool *fenced)
{
    return (Planner){.memo = memo,
                     .fenced = fenced,
                     .in = input,
                     .statement = statement,
                     .shape = statement->shape,
                     .database = &input->topology->config->databases[input->database],
                     .catalog = input->topology->catalogs[input->database]};
}

/* Nothing to decide, and nothing of a Planner (kilobytes) to make. */
static Plan plan_unsharded(const PlanInput *input, const PlanStatement *statement)
{
    Plan alone = plan_direct(input->topology->config->databases[input->database].shards[0], true);
    alone.fenced = input->topology->joining && waits_for_shard(input, &alone, statement->shape);
    return alone;
}

Plan plan_make(const PlanInput *input, const PlanStatement *statement)
{
    const Shape *shape = statement->shape;
    if (shape->shoal_call)
        return (Plan){.kind = PLAN_LOCAL};
    if (input->topology->config->databases[input->database].shard_count == 1)
        return plan_unsharded(input, statement);
    if (shape->citus_call)
        return (Plan){.kind = PLAN_LOCAL};
    if (shape->kind == SHAPE_MULTI)
        return plan_parts(input, statement);
    ParamMemo memo = {0};
    bool fenced = false;
    Planner planner = planner_of(input, statement, &memo, &fenced);
    if (!refs_resolve(&planner) || plan_names_unseen(&planner))
        return planner.plan;
    Plan plan = plan_sharded(&planner);
    if (plan.kind == PLAN_REJECT && (planner.hidden || shape->kind == SHAPE_CALL || shape->kind == SHAPE_DO))
        plan = plan_declared(&planner, plan);
    return with_fence(input, plan, shape, fenced);
}

static Plan merge(const PlanInput *input, const Plan *plans, uint32_t count)
{
    const Config *config = input->topology->config;
    Plan merged = plan_direct(config->databases[input->database].shards[0], true);
    for (uint32_t i = 0; i < count; i++) {
        const Plan *plan = &plans[i];
        if (plan->kind != PLAN_DIRECT)
            return count == 1 || plan->kind == PLAN_REJECT || plan->kind == PLAN_PROBE
                       ? *plan
                       : plan_reject(SQLSTATE_FEATURE_NOT_SUPPORTED,
                                "DDL on a sharded database cannot travel with other statements yet",
                                "It has to run on every shard.", "Send it alone.");
        if (plan->any_shard)
            continue;
        if (!merged.any_shard && merged.shard != plan->shard) {
            char detail[160];
            snprintf(detail, sizeof detail, "Its statements need shard %s and shard %s.",
                     config->shards[merged.shard].name, config->shards[plan->shard].name);
            return plan_reject_shards(detail);
        }
        merged = *plan;
    }
    return merged;
}

Plan plan_merge(const PlanInput *input, const Plan *plans, uint32_t count)
{
    Plan merged = merge(input, plans, count);
    for (uint32_t i = 0; i < count; i++)
        merged.fenced |= plans[i].fenced;
    merged.looked |= merged.kind == PLAN_REJECT && !input->keep;
    return merged;
}
