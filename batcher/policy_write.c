/*
 * policy_write.c - may this write share a commit with others? Opt-in per table (batch_writes = on).
 *
 *     UPDATE accounts SET n = n + $1 WHERE id = $2      one row, found by a unique column: yes
 *     INSERT INTO log (id, text) VALUES ($1, $2)        one row: yes
 *     DELETE FROM accounts WHERE owner = $1             how many rows? no
 *
 * Each runs as its client wrote it; only the commit is shared. So what must hold is that one member
 * cannot notice another: no triggers or rules (they may NOTIFY, or count per transaction), no function
 * that tells transactions apart, nothing that outlives a rollback and would happen twice, when after
 * an error each runs alone.
 */
#include "batcher/key.h"
#include "batcher/policy_judge.h"

/* Volatile, and yet harmless: what they gave is simply not used when the commit fails. */
static bool harmless(const CatalogFunction *function)
{
    static const char *const NAMES[] = {"nextval", "random", "gen_random_uuid", "clock_timestamp"};
    if (function->volatility != 'v')
        return true;
    bool found = false;
    for (size_t i = 0; i < ARRAY_LEN(NAMES); i++)
        found |= slice_is(function->name, NAMES[i]);
    return found && slice_is(function->schema, "pg_catalog");
}

static BatchReason check_kind(Judge *judge)
{
    const Shape *shape = judge->shape;
    const uint32_t complex = SHAPE_HAS_CTE | SHAPE_HAS_MODIFYING_CTE | SHAPE_HAS_SUBQUERY |
                             SHAPE_HAS_SETOP | SHAPE_HAS_TEMP | SHAPE_LEAVES_STATE |
                             SHAPE_READS_STATE | SHAPE_HAS_LOCKING | SHAPE_HAS_SAMPLE;
    bool write = shape->kind == SHAPE_INSERT || shape->kind == SHAPE_UPDATE ||
                 shape->kind == SHAPE_DELETE;
    if (!write || shape->table_count != 1 || !shape->tables[0].target || (shape->traits & complex))
        return BATCH_WRITE;
    return shape->kind != SHAPE_INSERT || shape->insert.rows == 1 ? BATCH_OK : BATCH_WRITE;
}

static BatchReason check_opted_in(Judge *judge)
{
    const Config *config = judge->in->topology->config;
    const CatalogTable *table = judge->tables[0];
    const TableConfig *section = config_table(config, config->databases[judge->in->database].name,
                                              table->schema, table->name);
    bool good = section && section->batch_writes && !table->has_rules_or_triggers &&
                (table->kind == 'r' || table->kind == 'p') && table->persistence == 'p';
    return good ? BATCH_OK : BATCH_WRITE;
}

static BatchReason check_functions(Judge *judge)
{
    const Shape *shape = judge->shape;
    for (uint32_t i = 0; i < shape->function_count; i++) {
        ShapeName name = shape->functions[i];
        const CatalogFunction *function = catalog_resolve_function(
            judge->catalog, name.schema, name.name, judge->in->search_path, judge->user);
        bool transaction = function && slice_is(function->schema, "pg_catalog") &&
                           (memmem(function->name.data, function->name.len, "txid", 4) ||
                            memmem(function->name.data, function->name.len, "xact", 4) ||
                            memmem(function->name.data, function->name.len, "snapshot", 8));
        if (!function || function->kind == 'p' || transaction || !harmless(function))
            return BATCH_FUNCTION;
    }
    return BATCH_OK;
}

static bool value_known(const ShapeValue *value)
{
    return value->kind == SHAPE_VALUE_LITERAL || value->kind == SHAPE_VALUE_PARAM;
}

static const CatalogColumn *unique_column(const CatalogTable *table, Slice name)
{
    const CatalogColumn *column = catalog_column(table, name);
    bool good = column && column->unique_alone && column->plain_type &&
                key_type(column->type_oid) && column->deterministic;
    return good ? column : NULL;
}

static bool assigns(const Shape *shape, Slice column)
{
    for (uint32_t i = 0; i < shape->assigned_count; i++)
        if (slice_equal(shape->assigned[i], column))
            return true;
    return false;
}

/* The row's value of the unique column that stands first in the table: the same column for all writes
 * to the table, so that two commits under way take their rows in the same order. */
static bool find_key(const Judge *judge, const CatalogColumn *column, WriteVerdict *verdict)
{
    const Shape *shape = judge->shape;
    const ShapeInsert *insert = &shape->insert;
    for (uint32_t i = 0; shape->kind == SHAPE_INSERT && i < insert->column_count; i++) {
        bool meant = insert->columns ? slice_equal(insert->columns[i], column->name)
                                     : i < judge->tables[0]->column_count &&
                                           &judge->tables[0]->columns[i] == column;
        if (meant)
            verdict->key = insert->values[i];
    }
    for (uint32_t i = 0; shape->kind != SHAPE_INSERT && i < shape->equal_count; i++) {
        const ShapeEqual *equal = &shape->equals[i];
        if (equal->plain && equal->table == 0 && slice_equal(equal->column, column->name) &&
            value_known(&equal->value))
            verdict->key = equal->value;
    }
    verdict->key_oid = column->type_oid;
    bool cast = verdict->key.cast.name.len > 0;
    if (shape->kind == SHAPE_INSERT)
        return !cast && !(insert->columns == NULL && insert->column_count == 0) &&
               (value_known(&verdict->key) || verdict->key.kind == SHAPE_VALUE_DEFAULT ||
                verdict->key.kind == SHAPE_VALUE_OPAQUE);
    return !cast && value_known(&verdict->key) && !assigns(shape, column->name);
}

static bool choose_key(const Judge *judge, WriteVerdict *verdict)
{
    const CatalogTable *table = judge->tables[0];
    verdict->key = (ShapeValue){.kind = SHAPE_VALUE_OPAQUE};
    for (uint32_t i = 0; i < table->column_count; i++) {
        const CatalogColumn *column = unique_column(table, table->columns[i].name);
        if (column)
            return find_key(judge, column, verdict);
    }
    return judge->shape->kind == SHAPE_INSERT; /* nothing that two of them could collide on */
}

static const PolicyRule WRITE_RULES[] = {
    {2, judge_request},  {3, judge_isolation}, {4, judge_role},      {5, judge_strings},
    {8, check_kind},     {7, judge_catalog},   {7, judge_tables},    {8, check_opted_in},
    {9, judge_path},     {9, check_functions}, {9, judge_operators},
    {9, judge_types},
};

WriteVerdict policy_judge_write(const PolicyInput *input)
{
    WriteVerdict verdict = {.reason = BATCH_OK};
    Judge judge = {.in = input,
                   .shape = input->shape,
                   .catalog = input->topology->catalogs[input->database],
                   .user = input->user};
    verdict.reason = judge_by(&judge, WRITE_RULES, ARRAY_LEN(WRITE_RULES));
    if (verdict.reason == BATCH_OK && !choose_key(&judge, &verdict))
        verdict.reason = BATCH_WRITE;
    if (verdict.reason == BATCH_OK)
        verdict.table_oid = judge.tables[0]->oid;
    return verdict;
}
