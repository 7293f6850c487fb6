/*
 * sizes.c - one number of each shard, added up.
 */
#include "admin/sizes.h"

#include <inttypes.h>
#include <string.h>

#include "admin/answer.h"
#include "admin/move_sql.h"
#include "admin/survey.h"
#include "wire/value.h"

/* $1 is the table, as SQL names it; $2 the user. NULL: the user may not know. */
static const struct {
    const char *function, *sql;
    bool rows; /* of which a reference table has each only once */
} QUESTIONS[] = {
    {"table_size", "SELECT pg_catalog.pg_table_size($1::pg_catalog.regclass) + 0 * pg_catalog.length($2)", false},
    {"total_size", "SELECT pg_catalog.pg_total_relation_size($1::pg_catalog.regclass) + 0 * pg_catalog.length($2)", false},
    {"row_estimate",
     "SELECT greatest(reltuples, 0)::pg_catalog.int8 + 0 * pg_catalog.length($2) FROM pg_catalog.pg_class"
     " WHERE oid = $1::pg_catalog.regclass", true},
    {"row_count",
     "SELECT CASE WHEN pg_catalog.has_table_privilege($2::pg_catalog.name, $1::pg_catalog.regclass, 'SELECT')"
     " THEN (SELECT pg_catalog.count(*) FROM ONLY %s) END", true},
    {"database_size", "SELECT pg_catalog.pg_database_size(pg_catalog.current_database())", false},
};

typedef struct Size {
    const char *name; /* of the function: the column's */
    bool once;        /* the home shard alone counts */
} Size;

static bool size_on_done(Survey *survey, Error *err)
{
    const Size *size = survey->ctx;
    const Config *config = survey->job.control->config;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < survey->count; i++) {
        const SurveyAnswer *at = &survey->answers[i];
        if (!at->rows) {
            *err = at->failed;
            error_detail(err, "Shard %s: %s.", config->shards[at->shard].name, at->client.why);
            return false;
        }
        if (PQntuples(at->rows) == 0 || PQgetisnull(at->rows, 0, 0)) {
            error_set(err, "42501", "permission denied for the table");
            return false;
        }
        sum += i == 0 || !size->once ? pg_u64(at->rows, 0, 0) : 0;
    }
    char *text = arena_printf(&survey->job.call->arena, "%" PRIu64, sum);
    const char *cell = text;
    AnswerColumn column = {size->name, WIRE_OID_INT8};
    answer_columns(survey->job.call, &column, 1);
    answer_row(survey->job.call, &cell, 1);
    answer_done(survey->job.call, "SELECT 1");
    return true;
}

static bool out_of_memory(Error *err)
{
    error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    return false;
}

/* What is asked about the table that the call names. */
static bool table_question(const Topology *topology, uint32_t database, Call *call, bool rows, PgQuery *query,
                           Size *size, Error *err)
{
    const char *schema, *name;
    const char **values = arena_array(&call->arena, const char *, 2);
    if (!call->args[0].data) {
        error_set(err, SQLSTATE_INVALID_PARAMETER, "the table must not be NULL");
        return false;
    }
    if (!values || !table_name_read(call->args[0], &call->arena, &schema, &name, err))
        return values ? false : out_of_memory(err);
    const Table *table = topology_table(topology, database, slice_str(schema), slice_str(name));
    const Table named = {.schema = slice_str(schema), .name = slice_str(name)};
    values[0] = sql_table_name(&call->arena, &named);
    values[1] = call->user;
    query->sql = values[0] ? arena_printf(&call->arena, query->sql, values[0]) : NULL;
    query->values = values;
    query->value_count = 2;
    size->once = rows && (!table || table->kind == TABLE_REFERENCE);
    return query->sql || out_of_memory(err);
}

bool sizes_run(Control *control, Call *call, const Function *function, Error *err)
{
    const DatabaseConfig *database = config_database(control->config, slice_str(call->database));
    Size *size = arena_new(&call->arena, Size);
    PgQuery query = {0};
    bool rows = false;
    if (!database) {
        error_set(err, SQLSTATE_INVALID_DATABASE, "database \"%s\" does not exist", call->database);
        return false;
    }
    if (!size)
        return out_of_memory(err);
    size->name = function->name;
    for (size_t i = 0; i < ARRAY_LEN(QUESTIONS); i++)
        if (strcmp(QUESTIONS[i].function, function->name) == 0) {
            query.sql = QUESTIONS[i].sql;
            rows = QUESTIONS[i].rows;
        }
    if (call->arg_count &&
        !table_question(control->topology, database->index, call, rows, &query, size, err))
        return false;
    return survey_start(control, call, database->index, &query, size_on_done, size, err);
}
