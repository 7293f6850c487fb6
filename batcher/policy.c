/*
 * policy.c - why this file exists: to answer "may this statement travel with others?" from the
 * parse tree and the catalog alone, so that the answer can be tested as a table.
 *
 *     request   what differs from request to request: transaction, session state, encoding, hint
 *       |
 *     statement SELECT, no clause that rewriting could disturb
 *       |
 *     tables    every one known, permanent, without row security
 *       |
 *     names     every function, operator and type known and harmless
 *       |
 *     keys      which `column = value` terms become array elements, and does an index serve them
 *       |
 *     tier      A for one unique key with a plain select list, B for everything else
 *
 * The first rule that says no gives the reason. What cannot be decided says no.
 */
#include "batcher/hint.h"
#include "batcher/key.h"
#include "batcher/names.h"
#include "batcher/policy_judge.h"
#include "batcher/without.h"

#define LOOK_THROUGH_MAX 8 /* views upon views */

/* ---- what differs from request to request ---------------------------------------------------- */

BatchReason policy_request(const PolicyInput *in)
{
    const Config *config = in->topology->config;
    if (!config->batch || !config->databases[in->database].batch ||
        (in->hint.len && hint_read(in->hint).batch_off))
        return BATCH_OFF;
    if (!in->autocommit)
        return BATCH_IN_TRANSACTION;
    if (in->session_state && !without_rule(6))
        return BATCH_SESSION_STATE;
    if (!in->values_may_vary)
        return BATCH_ENCODING;
    return BATCH_OK;
}

BatchReason judge_request(Judge *judge)
{
    return policy_request(judge->in);
}

/* ---- the session's settings ------------------------------------------------------------------ */

static bool contains_nocase(Slice text, const char *word)
{
    size_t len = strlen(word);
    for (size_t at = 0; at + len <= text.len; at++)
        if (slice_equal_nocase(slice_of(text.data + at, len), slice_of(word, len)))
            return true;
    return false;
}

BatchReason judge_isolation(Judge *judge)
{
    if (without_rule(3))
        return BATCH_OK;
    static const char *const names[] = {"transaction_isolation", "default_transaction_isolation"};
    bool set = false;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const GucEntry *entry = guc_find(judge->in->gucs, slice_str(names[i]));
        if (entry && contains_nocase(entry->value, "serializable"))
            return BATCH_ISOLATION;
        set |= entry != NULL;
    }
    /* What a session starts with is asked when the statement is learned, but of one connection only:
     * those made before and after an ALTER ROLE ... SET differ. */
    return !set && judge->catalog && judge->catalog->isolation_unusual ? BATCH_ISOLATION : BATCH_OK;
}

/* A value like 'alice' or "alice" or alice. False when it is more difficult than that. */
static bool unquote_role(Slice value, Slice *ret)
{
    if (value.len >= 2 && (value.data[0] == '\'' || value.data[0] == '"') &&
        value.data[value.len - 1] == value.data[0])
        value = slice_of(value.data + 1, value.len - 2);
    for (size_t i = 0; i < value.len; i++)
        if (value.data[i] == '\'' || value.data[i] == '"' || value.data[i] == '\\')
            return false;
    *ret = value;
    return value.len > 0;
}

/* "$user" in a search_path is the current role, which SET ROLE changes. */
BatchReason judge_role(Judge *judge)
{
    static const char *const names[] = {"session_authorization", "role"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const GucEntry *entry = guc_find(judge->in->gucs, slice_str(names[i]));
        if (!entry || slice_equal_nocase(entry->value, SLICE("none")))
            continue;
        if (!unquote_role(entry->value, &judge->user))
            return BATCH_SESSION_STATE;
    }
    return BATCH_OK;
}

/* Literals were cut out by the standard's rules only. */
BatchReason judge_strings(Judge *judge)
{
    const GucEntry *entry = guc_find(judge->in->gucs, SLICE("standard_conforming_strings"));
    return entry && !contains_nocase(entry->value, "on") ? BATCH_ENCODING : BATCH_OK;
}

/* ---- the statement --------------------------------------------------------------------------- */

static BatchReason check_select(Judge *judge)
{
    return judge->shape->kind == SHAPE_SELECT && !judge->shape->shoal_call ? BATCH_OK
                                                                           : BATCH_NOT_SELECT;
}

static BatchReason check_traits(Judge *judge)
{
    uint32_t traits = judge->shape->traits;
    if ((traits & SHAPE_HAS_LOCKING) && !without_rule(8))
        return BATCH_LOCKING;
    if (traits & (SHAPE_HAS_INTO | SHAPE_HAS_CTE | SHAPE_HAS_MODIFYING_CTE | SHAPE_HAS_SAMPLE |
                  SHAPE_HAS_SETOP))
        return BATCH_UNSUPPORTED_CLAUSE;
    if (traits & (SHAPE_HAS_TEMP | SHAPE_LEAVES_STATE))
        return BATCH_SESSION_STATE;
    return BATCH_OK;
}

/* A plain read: nothing is locked, made or left behind. */
static BatchReason check_reads(Judge *judge)
{
    const Shape *shape = judge->shape;
    if (shape->kind != SHAPE_SELECT || shape->shoal_call)
        return BATCH_NOT_SELECT;
    if (shape->traits & (SHAPE_HAS_LOCKING | SHAPE_HAS_INTO | SHAPE_HAS_MODIFYING_CTE))
        return BATCH_LOCKING;
    if (shape->traits & (SHAPE_HAS_TEMP | SHAPE_LEAVES_STATE | SHAPE_READS_STATE))
        return BATCH_SESSION_STATE;
    return BATCH_OK;
}

/* ---- tables ---------------------------------------------------------------------------------- */

BatchReason judge_catalog(Judge *judge)
{
    return judge->catalog && judge->catalog->loaded ? BATCH_OK : BATCH_CATALOG;
}

static BatchReason look_through(Judge *judge, const CatalogTable *table, BatchReason no, int depth);

static BatchReason check_table(Judge *judge, const CatalogTable *table, int depth)
{
    if (!table)
        return BATCH_UNKNOWN_TABLE;
    bool kind = table->kind == 'r' || table->kind == 'p' || table->kind == 'm' || table->kind == 'v';
    bool persistent = table->persistence == 'p' || table->persistence == 'u';
    /* Children of plain inheritance may be foreign tables, and no unique index spans them. */
    bool children = table->has_children && table->kind == 'r';
    if (!kind || !persistent || children)
        return BATCH_TABLE_KIND;
    const Config *config = judge->in->topology->config;
    const TableConfig *section = config_table(config, config->databases[judge->in->database].name,
                                              table->schema, table->name);
    if (section && !section->batch)
        return BATCH_OFF;
    if (table->kind == 'v')
        return look_through(judge, table, BATCH_TABLE_KIND, depth);
    return table->row_security ? look_through(judge, table, BATCH_ROW_SECURITY, depth) : BATCH_OK;
}

/* Stable functions of a view or policy, as those of the statement itself. */
static bool stable_functions_good(Slice names)
{
    while (names.len) {
        const uint8_t *comma = memchr(names.data, ',', names.len);
        size_t len = comma ? (size_t)(comma - names.data) : names.len;
        if (!names_stable_function(slice_of(names.data, len)))
            return false;
        names = slice_from(names, len + 1);
    }
    return true;
}

/* A view's query, and what it reads; a table's policies, and what they read. */
static BatchReason look_through(Judge *judge, const CatalogTable *table, BatchReason no, int depth)
{
    const CatalogReads *reads = table->reads;
    judge->looked_through = true;
    if (without_rule(7))
        return BATCH_OK;
    if (!reads || reads->is_volatile || !stable_functions_good(reads->stable) ||
        depth >= LOOK_THROUGH_MAX)
        return no;
    for (uint32_t i = 0; i < reads->table_count; i++)
        if (check_table(judge, catalog_table_by_oid(judge->catalog, reads->tables[i]), depth + 1))
            return no;
    return BATCH_OK;
}

BatchReason judge_tables(Judge *judge)
{
    const Shape *shape = judge->shape;
    if (shape->table_count > POLICY_TABLES_MAX)
        return BATCH_UNSUPPORTED_CLAUSE;
    for (uint32_t i = 0; i < shape->table_count; i++) {
        ShapeName name = shape->tables[i].name;
        judge->tables[i] = catalog_resolve_table(judge->catalog, name.schema, name.name,
                                                 judge->in->search_path, judge->user);
        BatchReason reason = check_table(judge, judge->tables[i], 0);
        if (reason)
            return reason;
    }
    return BATCH_OK;
}

static BatchReason check_some_table(Judge *judge)
{
    return judge->shape->table_count ? BATCH_OK : BATCH_NO_TABLE;
}

/* ---- names ----------------------------------------------------------------------------------- */

/* With pg_catalog somewhere behind in the path, user's operators and types may come before it. */
BatchReason judge_path(Judge *judge)
{
    Slice path = judge->in->search_path;
    return contains_nocase(slice_from(path, 1), "pg_catalog") ? BATCH_FUNCTION : BATCH_OK;
}

static BatchReason check_functions(Judge *judge)
{
    const Shape *shape = judge->shape;
    for (uint32_t i = 0; i < shape->function_count; i++) {
        ShapeName name = shape->functions[i];
        const CatalogFunction *function = catalog_resolve_function(
            judge->catalog, name.schema, name.name, judge->in->search_path, judge->user);
        if (!function || function->set_returning || function->kind == 'p')
            return BATCH_FUNCTION;
        if (without_rule(9))
            continue;
        bool stable = function->volatility == 's' && slice_is(function->schema, "pg_catalog") &&
                      names_stable_function(function->name);
        if (function->volatility != 'i' && !stable)
            return BATCH_FUNCTION;
        judge->aggregates |= function->kind != 'f';
    }
    return BATCH_OK;
}

/* Immutable and stable ones write nothing and lock nothing. */
static BatchReason check_nothing_volatile(Judge *judge)
{
    const Shape *shape = judge->shape;
    for (uint32_t i = 0; i < shape->function_count; i++) {
        ShapeName name = shape->functions[i];
        const CatalogFunction *function = catalog_resolve_function(
            judge->catalog, name.schema, name.name, judge->in->search_path, judge->user);
        if (!function || function->kind == 'p' || function->volatility == 'v')
            return BATCH_FUNCTION;
    }
    return BATCH_OK;
}

static bool builtin_schema(Slice schema)
{
    return schema.len == 0 || slice_is(schema, "pg_catalog");
}

BatchReason judge_operators(Judge *judge)
{
    const Shape *shape = judge->shape;
    for (uint32_t i = 0; i < shape->operator_count; i++)
        if (!builtin_schema(shape->operators[i].schema) ||
            !names_builtin_operator(shape->operators[i].name))
            return BATCH_FUNCTION;
    return BATCH_OK;
}

BatchReason judge_types(Judge *judge)
{
    const Shape *shape = judge->shape;
    for (uint32_t i = 0; i < shape->type_count; i++) {
        if (!builtin_schema(shape->types[i].schema))
            return BATCH_FUNCTION;
        const CatalogType *type =
            catalog_type(judge->catalog, SLICE("pg_catalog"), shape->types[i].name);
        if (!type || !type->plain)
            return BATCH_FUNCTION;
    }
    return BATCH_OK;
}

/* ---- keys ------------------------------------------------------------------------------------ */

/* The table and column that an equality speaks of; NULL when the catalog cannot tell. */
static const CatalogColumn *resolve_column(const Judge *judge, const ShapeEqual *equal,
                                           const CatalogTable **ret_table)
{
    const Shape *shape = judge->shape;
    const CatalogColumn *found = NULL;
    for (uint32_t i = 0; i < shape->table_count; i++) {
        bool meant = equal->table >= 0 ? i == (uint32_t)equal->table
                                       : shape->tables[i].level == equal->level &&
                                             i >= equal->from && i < equal->to &&
                                             !shape->tables[i].renamed;
        const CatalogColumn *column =
            meant ? catalog_column(judge->tables[i], equal->column) : NULL;
        if (column && found)
            return NULL;
        if (column) {
            found = column;
            *ret_table = judge->tables[i];
        }
    }
    return found;
}

/* How this column's values could become array elements: as they are, or through text. */
static bool key_possible(const CatalogColumn *column, const ShapeValue *value)
{
    bool known = column->plain_type && key_type(column->type_oid);
    return known ? key_cast_allowed(column->type_oid, value->cast)
                 : column->text_key && value->cast.name.len == 0;
}

static bool same_value(const ShapeValue *a, const ShapeValue *b)
{
    return a->kind == b->kind && a->index == b->index;
}

typedef struct Candidate {
    uint16_t equal;
    const CatalogTable *table;
    const CatalogColumn *column;
} Candidate;

/* Equalities whose values could become array elements. `*ret_typed` tells whether some value was
 * there at all, so that the reason can say what is missing. */
static uint32_t find_candidates(const Judge *judge, Candidate *ret, uint32_t max, bool *ret_value)
{
    const Shape *shape = judge->shape;
    uint32_t count = 0;
    for (uint32_t i = 0; i < shape->equal_count && i < UINT16_MAX && count < max; i++) {
        const ShapeEqual *equal = &shape->equals[i];
        const ShapeValue *value = &equal->value;
        if (value->kind != SHAPE_VALUE_PARAM && value->kind != SHAPE_VALUE_LITERAL)
            continue;
        *ret_value = true;
        Candidate c = {.equal = (uint16_t)i};
        c.column = resolve_column(judge, equal, &c.table);
        if (!equal->plain || value->token == UINT16_MAX || !c.column || !key_possible(c.column, value))
            continue;
        bool known = false;
        for (uint32_t k = 0; k < count; k++)
            known |= same_value(&shape->equals[ret[k].equal].value, value);
        if (!known)
            ret[count++] = c;
    }
    return count;
}

static void take_key(Judge *judge, const Candidate *candidate)
{
    PolicyVerdict *verdict = judge->verdict;
    if (verdict->key_count == 0)
        verdict->table = candidate->table;
    const CatalogColumn *column = candidate->column;
    if (!column->plain_type || !key_type(column->type_oid))
        verdict->key_casts[verdict->key_count] =
            catalog_type_by_oid(judge->catalog, column->type_oid);
    verdict->keys[verdict->key_count] = candidate->equal;
    verdict->key_oids[verdict->key_count++] = candidate->column->type_oid;
}

/*
 * With a unique column among them, that one and the integers beside it (a tenant's number) are
 * keys; other values stay part of the text or of the group: they are constants as a rule ('User',
 * 'f'). Without one all of them are, as in (tenant_id, id), and an index must begin with one.
 */
static BatchReason check_keys(Judge *judge)
{
    Candidate candidates[ARRAY_LEN(judge->verdict->keys)];
    bool value = false;
    uint32_t count = find_candidates(judge, candidates, ARRAY_LEN(candidates), &value);
    if (count == 0)
        return value ? BATCH_KEY_TYPE : BATCH_NO_KEY;
    uint32_t best = 0;
    for (uint32_t i = 0; i < count; i++) {
        const CatalogColumn *a = candidates[i].column, *b = candidates[best].column;
        if ((a->unique_alone && !b->unique_alone) ||
            (a->indexed_alone && !b->indexed_alone && !b->unique_alone))
            best = i;
    }
    const CatalogColumn *first = candidates[best].column;
    for (uint32_t i = 0; i < count && !first->indexed_alone && !first->unique_alone; i++)
        if (candidates[i].table->kind == 'v')
            judge->verdict->prove_index = true; /* none here, but there may be one below it */
    if (!first->unique_alone && !first->indexed_alone && !judge->verdict->prove_index)
        return BATCH_NO_INDEX;
    judge->verdict->prove_index |= judge->looked_through;
    take_key(judge, &candidates[best]);
    for (uint32_t i = 0; i < count; i++)
        if (i != best &&
            (!first->unique_alone || key_type_is_integer(candidates[i].column->type_oid)))
            take_key(judge, &candidates[i]);
    return BATCH_OK;
}

/* ---- tier ------------------------------------------------------------------------------------ */

static BatchReason choose_tier(Judge *judge)
{
    const Shape *shape = judge->shape;
    PolicyVerdict *verdict = judge->verdict;
    const uint32_t complex = SHAPE_HAS_SUBQUERY | SHAPE_HAS_GROUP | SHAPE_HAS_DISTINCT |
                             SHAPE_HAS_ORDER | SHAPE_HAS_LIMIT | SHAPE_HAS_OFFSET |
                             SHAPE_HAS_WINDOW | SHAPE_HAS_JOIN | SHAPE_HAS_OUTER_JOIN |
                             SHAPE_HAS_FUNCTION_IN_FROM;
    const uint32_t order = without_rule(12) ? SHAPE_HAS_ORDER | SHAPE_HAS_LIMIT : 0;
    const ShapeEqual *equal = &shape->equals[verdict->keys[0]];
    const CatalogColumn *column = catalog_column(verdict->table, equal->column);
    bool keys = verdict->key_count == 1 && shape->table_count == 1 && !verdict->key_casts[0] && !(shape->traits & complex & ~order) &&
                !judge->aggregates && shape->select_list_token > 0 &&
                equal->value.cast.name.len == 0 && column->unique_alone && column->equal_image &&
                column->deterministic && key_type(column->type_oid)->same_bytes;
    verdict->tier = keys ? BATCH_TIER_KEYS : BATCH_TIER_ORDINAL;
    return BATCH_OK;
}

/* ---- the table ------------------------------------------------------------------------------- */

static const PolicyRule RULES[] = {
    {2, judge_request}, {3, judge_isolation}, {4, judge_role},       {5, judge_strings},
    {8, check_select},  {8, check_traits},    {7, judge_catalog},    {7, check_some_table},
    {7, judge_tables},  {9, judge_path},      {9, check_functions},  {9, judge_operators},
    {9, judge_types},   {10, check_keys},     {0, choose_tier},
};

/* Tier C changes nothing about a statement, so only what it does to others counts: it must not write,
 * lock, or run what could (rule 9), because it may be run a second time when the one before it is slow. */
static const PolicyRule PIPELINE_RULES[] = {
    {2, judge_request},    {4, judge_role}, {8, check_reads},           {7, judge_catalog}, {7, judge_tables},
    {9, judge_path}, {9, check_nothing_volatile}, {9, judge_operators}, {9, judge_types},
};

BatchReason judge_by(Judge *judge, const PolicyRule *rules, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        BatchReason reason = rules[i].check(judge);
        if (reason)
            return reason;
    }
    return BATCH_OK;
}

/* ---- profile --------------------------------------------------------------------------------- */

static const char *table_profile(const Judge *judge)
{
    const Config *config = judge->in->topology->config;
    for (uint32_t i = 0; i < judge->shape->table_count && i < POLICY_TABLES_MAX; i++) {
        const CatalogTable *table = judge->tables[i];
        const TableConfig *section =
            table ? config_table(config, config->databases[judge->in->database].name, table->schema,
                                 table->name)
                  : NULL;
        if (section && section->profile)
            return section->profile;
    }
    return NULL;
}

static const char *application_profile(const Judge *judge)
{
    const GucEntry *entry = guc_find(judge->in->gucs, SLICE("application_name"));
    Slice name;
    if (!entry || !unquote_role(entry->value, &name))
        return NULL;
    const ApplicationConfig *application =
        config_application(judge->in->topology->config, name);
    return application ? application->profile : NULL;
}

static void choose_profile(const Judge *judge, PolicyVerdict *verdict)
{
    const Config *config = judge->in->topology->config;
    const UserConfig *user = config_user(config, judge->in->user);
    Slice hinted = judge->in->hint.len ? hint_read(judge->in->hint).profile : (Slice){0};
    const char *names[] = {table_profile(judge), application_profile(judge),
                           user ? user->profile : NULL,
                           config->databases[judge->in->database].profile, config->profile};
    const ProfileConfig *profile = hinted.len ? config_profile(config, hinted) : NULL;
    for (size_t i = 0; i < ARRAY_LEN(names) && !profile; i++)
        profile = names[i] ? config_profile(config, slice_str(names[i])) : NULL;
    /* Without one (a Config made by hand): what [batch] says, untuned. */
    verdict->profile = profile ? *profile
                               : (ProfileConfig){.batch = true,
                                                 .batch_max = config->batch_max,
                                                 .inflight_max = config->batch_inflight_max};
    verdict->profile_name = profile ? profile->name : "";
    verdict->profile.name = NULL;
}

PolicyVerdict policy_judge(const PolicyInput *input)
{
    PolicyVerdict verdict = {.reason = BATCH_OK, .tier = BATCH_TIER_NONE};
    Judge judge = {.in = input,
                   .shape = input->shape,
                   .catalog = input->topology->catalogs[input->database],
                   .user = input->user,
                   .verdict = &verdict};
    verdict.reason = judge_by(&judge, RULES, ARRAY_LEN(RULES));
    if (verdict.reason)
        verdict = (PolicyVerdict){.reason = verdict.reason};
    verdict.pipelined = judge_by(&judge, PIPELINE_RULES, ARRAY_LEN(PIPELINE_RULES)) == BATCH_OK;
    choose_profile(&judge, &verdict);
    if (!verdict.profile.batch) {
        verdict.reason = verdict.reason ? verdict.reason : BATCH_OFF;
        verdict.pipelined = false;
    }
    return verdict;
}

/* ---- reasons --------------------------------------------------------------------------------- */

static const BatchReasonText REASONS[BATCH_REASON_COUNT] = {
    [BATCH_OK] = {"ok", 0, "The statement travels with others."},
    [BATCH_OFF] = {"off", 0,
                   "Batching is off: [batch] batch, the database's batch setting, or a "
                   "/* shoal: batch=off */ comment. Switch it on there."},
    [BATCH_IN_TRANSACTION] = {"in_transaction", 2,
                              "The statement runs inside a transaction block, or shares its Sync "
                              "with others; only autocommit statements travel together."},
    [BATCH_PROTOCOL] = {"protocol", 2,
                        "The messages between two Syncs are not one Parse/Bind/Describe/Execute "
                        "of one statement without row limit and named portal."},
    [BATCH_ISOLATION] = {"isolation", 3,
                         "The session's isolation level is SERIALIZABLE, or some role or database starts "
                         "with it and the session set none: SET default_transaction_isolation to "
                         "READ COMMITTED or REPEATABLE READ."},
    [BATCH_SESSION_STATE] = {"session_state", 5,
                             "The session left state on a server connection (temporary table, "
                             "LISTEN, set_config ...); DISCARD ALL ends that."},
    [BATCH_ENCODING] = {"encoding", 5,
                        "Literals cannot be told apart safely: standard_conforming_strings is off "
                        "or the client encoding is one like SJIS, BIG5, GBK. Use UTF8."},
    [BATCH_NOT_SELECT] = {"not_select", 8, "Only SELECT statements are batched."},
    [BATCH_LOCKING] = {"locking", 8, "FOR UPDATE/SHARE locks rows for one client only."},
    [BATCH_UNSUPPORTED_CLAUSE] = {"unsupported_clause", 8,
                                  "INTO, WITH, TABLESAMPLE, UNION/INTERSECT/EXCEPT, or more than "
                                  "16 tables: sent as it is."},
    [BATCH_NO_TABLE] = {"no_table", 8, "The statement reads no table, so there is no key."},
    [BATCH_UNKNOWN_TABLE] = {"unknown_table", 7,
                             "A table is not in the catalog that Shoal has loaded (new, or not "
                             "visible by search_path); seen at the next catalog poll."},
    [BATCH_TABLE_KIND] = {"table_kind", 7,
                          "Foreign and temporary tables and parents of inheritance are not batched, nor "
                          "views that read them or call functions that are not harmless."},
    [BATCH_ROW_SECURITY] = {"row_security", 9,
                            "A policy of row security calls a function that is volatile or not known "
                            "to be harmless, or reads a table that is not batched."},
    [BATCH_FUNCTION] = {"function", 9,
                        "A function is volatile, returns sets or is not on the list of stable "
                        "functions known to be safe; or an operator or type is not PostgreSQL's "
                        "own."},
    [BATCH_NO_KEY] = {"no_key", 10,
                      "No term `column = value` is ANDed in WHERE, so nothing can become a key."},
    [BATCH_KEY_TYPE] = {"key_type", 10,
                        "The key column's type, or the parameter's type beside it, is not one "
                        "whose values Shoal can put into an array exactly."},
    [BATCH_KEY_VALUE] = {"key_value", 10,
                         "The key is NULL, out of its type's range, or written in a way that only "
                         "PostgreSQL may interpret; that statement ran alone."},
    [BATCH_NO_INDEX] = {"no_index", 0,
                        "No valid index begins with a key column, or PostgreSQL would not use it through "
                        "the view or policy: many lookups at once would be many sequential scans."},
    [BATCH_RESULT_SHAPE] = {"result_shape", 11,
                            "The result formats that were asked for do not fit the columns."},
    [BATCH_LEARNING] = {"learning", 11,
                        "The statement is new (or the catalog changed): its result is being "
                        "described; the next ones will travel together."},
    [BATCH_DISTRUSTED] = {"distrusted", 14,
                          "Its batches failed or brought notices that belong to nobody; tried "
                          "again after a pause. SHOW BATCHES and the log tell more."},
    [BATCH_LIMIT] = {"limit", 18,
                     "A key, the parameters or the answer were too large for a batch (batch_bytes_"
                     "max, batch_rows_max); the members ran alone."},
    [BATCH_MISMATCH] = {"mismatch", 14,
                        "A batch and its originals, run in one snapshot to prove it, gave different "
                        "bytes: the statement is not batched until the catalog changes. Please report "
                        "it with the statement from SHOW BATCHES."},
    [BATCH_WRITE] = {"write", 8,
                     "Writes share a commit only on tables with batch_writes = on: a single row, found "
                     "by a unique column, without triggers, rules, row security and volatile functions."},
    [BATCH_ORDER] = {"order", 21,
                     "The same client's lookup before it, of another kind or another shard, is not "
                     "answered yet: it waits for that."},
    [BATCH_CATALOG] = {"catalog", 7, "The database's catalog has not been loaded yet."},
};

const BatchReasonText *batch_reason_text(BatchReason reason)
{
    assert(reason >= 0 && reason < BATCH_REASON_COUNT);
    return &REASONS[reason];
}
