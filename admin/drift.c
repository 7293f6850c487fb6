/*
 * drift.c - each shard lists its objects in one order, a line each; two lists are compared by one walk.
 *
 *     kind        object               definition
 *     column      public.users.mail    text NOT NULL
 *     constraint  public.users.k       PRIMARY KEY (id)
 *
 * Left out: what differs by right (where a sequence begins, OIDs, owners of extensions' objects), PostgreSQL's own
 * schemas and Shoal's.
 */
#include "admin/drift.h"

#include <string.h>

#include "admin/answer.h"
#include "admin/survey.h"
#include "wire/value.h"

/* clang-format off */
#define OURS(n) n ".nspname NOT IN ('pg_catalog', 'information_schema', 'shoal') AND " n ".nspname NOT LIKE 'pg\\_toast%'" \
    " AND " n ".nspname NOT LIKE 'pg\\_temp%'"
#define NOT_OF_EXTENSION(class, id) "NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = '" class "'::regclass" \
    " AND e.objid = " id " AND e.deptype = 'e')"
#define NAMED(n, name) "pg_catalog.quote_ident(" n ".nspname) || '.' || pg_catalog.quote_ident(" name ")"

static const char LIST_SQL[] =
    "SELECT kind, object, definition FROM ("
    "SELECT 'schema' AS kind, pg_catalog.quote_ident(n.nspname) AS object, '' AS definition FROM pg_namespace n"
    " WHERE " OURS("n")
    " UNION ALL SELECT CASE c.relkind WHEN 'S' THEN 'sequence' WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view'"
    "   WHEN 'f' THEN 'foreign table' ELSE 'table' END, " NAMED("n", "c.relname") ","
    "  CASE WHEN c.relkind IN ('v', 'm') THEN pg_catalog.pg_get_viewdef(c.oid)"
    "   ELSE c.relkind::text || c.relpersistence::text || CASE WHEN c.relrowsecurity THEN ' row security' ELSE '' END"
    "    || coalesce(' ' || pg_catalog.pg_get_partkeydef(c.oid), '')"
    "    || coalesce(' ' || pg_catalog.pg_get_expr(c.relpartbound, c.oid), '') END"
    "  || coalesce(' ' || (SELECT pg_catalog.string_agg(a::text, ', ' ORDER BY a::text) FROM"
    "      pg_catalog.unnest(c.relacl) a), '')"
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND " OURS("n") " AND " NOT_OF_EXTENSION("pg_class", "c.oid")
    " UNION ALL SELECT 'column', " NAMED("n", "c.relname") " || '.' || pg_catalog.quote_ident(a.attname),"
    "  pg_catalog.format_type(a.atttypid, a.atttypmod) || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END"
    "  || coalesce(' DEFAULT ' || pg_catalog.pg_get_expr(d.adbin, d.adrelid), '')"
    "  || CASE a.attidentity WHEN '' THEN '' ELSE ' IDENTITY ' || a.attidentity::text END"
    "  || CASE a.attgenerated WHEN '' THEN '' ELSE ' STORED' END"
    "  || coalesce(' COLLATE ' || pg_catalog.quote_ident(l.collname), '')"
    " FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
    " LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum"
    " LEFT JOIN pg_type t ON t.oid = a.atttypid"
    " LEFT JOIN pg_collation l ON l.oid = a.attcollation AND a.attcollation <> t.typcollation"
    " WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'f') AND " OURS("n")
    "  AND " NOT_OF_EXTENSION("pg_class", "c.oid")
    " UNION ALL SELECT 'index', " NAMED("n", "c.relname") ", pg_catalog.pg_get_indexdef(i.indexrelid)"
    "  || CASE WHEN i.indisvalid THEN '' ELSE ' INVALID' END"
    " FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE " OURS("n") " AND " NOT_OF_EXTENSION("pg_class", "i.indrelid")
    " UNION ALL SELECT 'constraint', " NAMED("n", "c.relname") " || '.' || pg_catalog.quote_ident(k.conname),"
    "  pg_catalog.pg_get_constraintdef(k.oid)"
    " FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE " OURS("n") " AND " NOT_OF_EXTENSION("pg_class", "c.oid")
    " UNION ALL SELECT 'trigger', " NAMED("n", "c.relname") " || '.' || pg_catalog.quote_ident(g.tgname),"
    "  pg_catalog.pg_get_triggerdef(g.oid) || ' ' || g.tgenabled::text"
    " FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE NOT g.tgisinternal AND " OURS("n") " AND g.tgname NOT LIKE 'shoal\\_%'"
    " UNION ALL SELECT 'policy', " NAMED("n", "c.relname") " || '.' || pg_catalog.quote_ident(p.polname),"
    "  p.polcmd::text || ' ' || coalesce(pg_catalog.pg_get_expr(p.polqual, p.polrelid), '') || ' '"
    "  || coalesce(pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid), '')"
    " FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE " OURS("n")
    " UNION ALL SELECT CASE p.prokind WHEN 'a' THEN 'aggregate' WHEN 'p' THEN 'procedure' ELSE 'function' END,"
    "  " NAMED("n", "p.proname") " || '(' || pg_catalog.pg_get_function_identity_arguments(p.oid) || ')',"
    "  CASE WHEN p.prokind = 'a' THEN pg_catalog.format_type(p.prorettype, NULL)"
    "   ELSE pg_catalog.pg_get_functiondef(p.oid) END"
    " FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
    " WHERE " OURS("n") " AND " NOT_OF_EXTENSION("pg_proc", "p.oid")
    " UNION ALL SELECT 'type', " NAMED("n", "t.typname") ", CASE t.typtype"
    "  WHEN 'e' THEN 'enum ' || (SELECT pg_catalog.string_agg(pg_catalog.quote_literal(v.enumlabel), ', '"
    "    ORDER BY v.enumsortorder) FROM pg_enum v WHERE v.enumtypid = t.oid)"
    "  WHEN 'd' THEN 'domain ' || pg_catalog.format_type(t.typbasetype, t.typtypmod)"
    "    || CASE WHEN t.typnotnull THEN ' NOT NULL' ELSE '' END || coalesce(' DEFAULT ' || t.typdefault, '')"
    "    || coalesce((SELECT pg_catalog.string_agg(' ' || pg_catalog.pg_get_constraintdef(k.oid), '' ORDER BY k.conname)"
    "    FROM pg_constraint k WHERE k.contypid = t.oid), '')"
    "  WHEN 'c' THEN 'composite ' || coalesce((SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname) || ' '"
    "    || pg_catalog.format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum) FROM pg_attribute a"
    "    WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped), '')"
    "  ELSE t.typtype::text END"
    " FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace LEFT JOIN pg_class c ON c.oid = t.typrelid"
    " WHERE t.typtype IN ('e', 'd', 'c', 'r') AND (c.oid IS NULL OR c.relkind = 'c') AND " OURS("n")
    "  AND " NOT_OF_EXTENSION("pg_type", "t.oid")
    " UNION ALL SELECT 'extension', pg_catalog.quote_ident(x.extname), x.extversion FROM pg_extension x"
    ") x ORDER BY kind COLLATE \"C\", object COLLATE \"C\", definition COLLATE \"C\"";
/* clang-format on */

static const AnswerColumn COLUMNS[] = {{"database", WIRE_OID_TEXT}, {"shard", WIRE_OID_TEXT}, {"kind", WIRE_OID_TEXT},
                                       {"object", WIRE_OID_TEXT},   {"what", WIRE_OID_TEXT},  {"here", WIRE_OID_TEXT},
                                       {"home", WIRE_OID_TEXT}};

static void tell(const Survey *survey, const SurveyAnswer *at, const char *kind, const char *object, const char *what,
                 const char *here, const char *home)
{
    const Config *config = survey->job.control->config;
    const char *cells[] = {config->databases[at->database].name, config->shards[at->shard].name, kind, object, what,
                           here, home};
    answer_row(survey->job.call, cells, ARRAY_LEN(cells));
}

/* Lists are ordered by bytes. */
static int line_order(const PGresult *a, int i, const PGresult *b, int k)
{
    if (i == PQntuples(a) || k == PQntuples(b))
        return (i == PQntuples(a)) - (k == PQntuples(b));
    int order = strcmp(PQgetvalue(a, i, 0), PQgetvalue(b, k, 0));
    return order ? order : strcmp(PQgetvalue(a, i, 1), PQgetvalue(b, k, 1));
}

static void compare(const Survey *survey, const SurveyAnswer *home, const SurveyAnswer *here)
{
    const PGresult *a = home->rows, *b = here->rows;
    for (int i = 0, k = 0; i < PQntuples(a) || k < PQntuples(b);) {
        int order = line_order(a, i, b, k);
        const char *there = order <= 0 ? PQgetvalue(a, i, 2) : NULL;
        const char *ours = order >= 0 ? PQgetvalue(b, k, 2) : NULL;
        const PGresult *named = order <= 0 ? a : b;
        int line = order <= 0 ? i : k;
        if (order != 0 || strcmp(there, ours) != 0)
            tell(survey, here, PQgetvalue(named, line, 0), PQgetvalue(named, line, 1),
                 order < 0   ? "missing"
                 : order > 0 ? "only here"
                             : "differs",
                 ours, there);
        i += order <= 0;
        k += order >= 0;
    }
}

static bool drift_on_done(Survey *survey, Error *err)
{
    const SurveyAnswer *home = NULL;
    (void)err;
    answer_columns(survey->job.call, COLUMNS, ARRAY_LEN(COLUMNS));
    for (uint32_t i = 0; i < survey->count; i++) {
        const SurveyAnswer *at = &survey->answers[i];
        if (!home || home->database != at->database)
            home = at;
        if (!at->rows)
            tell(survey, at, "shard", NULL, "unreachable", at->failed.message, NULL);
        else if (home != at && home->rows)
            compare(survey, home, at);
    }
    answer_done(survey->job.call, "SHOW");
    return true;
}

bool show_schema_drift(Control *control, Call *call, const Command *command, const CommandLine *arguments, Error *err)
{
    static const PgQuery QUERY = {.sql = LIST_SQL};
    (void)command;
    (void)arguments;
    return survey_start(control, call, UINT32_MAX, &QUERY, drift_on_done, NULL, err);
}
