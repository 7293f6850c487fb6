/*
 * views.c - texts with views replaced, as deep as views stand in views, and who may read them so.
 *
 * The text is cut where the shape says that a view is named: nothing else of it changes, parameters keep their numbers,
 * and the new text finds its own Shape in the cache. Definitions come from the catalog, names with their schemas, so that the
 * session's search_path does not count in them.
 */
#include "router/views.h"

#include <stdio.h>

#include "core/buf.h"
#include "meta/bucket_sql.h"
#include "query/lexer.h"
#include "router/worker_state.h"

#define DEPTH_MAX 8 /* views of views */
#define TEXT_MAX  ((size_t)256 << 10)
#define VIEWS_MAX 32 /* in one statement */

/* What has been replaced so far. */
typedef struct Replacing {
    Request *request;
    const PlanInput *input;
    const Catalog *catalog;
    PlanStatement statement;                /* with the text as it is now */
    const CatalogTable *views[VIEWS_MAX];
    uint32_t view_count;
    char why[192]; /* it cannot go on; empty: it can */
} Replacing;

/* ---- which views -------------------------------------------------------------------------------------- */

static const CatalogTable *view_of(const PlanInput *input, const ShapeTable *table)
{
    const CatalogTable *found = catalog_resolve_table(input->topology->catalogs[input->database], table->name.schema,
                                                      table->name.name, input->search_path, input->user);
    bool own = found && (found->kind == 'v' || found->kind == 'm') && !slice_is(found->schema, "pg_catalog") &&
               !slice_is(found->schema, "information_schema");
    return own ? found : NULL;
}

static bool names_view(const PlanInput *input, const Shape *shape)
{
    for (uint32_t i = 0; i < shape->table_count; i++)
        if (view_of(input, &shape->tables[i]))
            return true;
    return false;
}

/* NULL: its query can stand in its place. */
static const char *why_not(const PlanInput *input, const ShapeTable *table, const CatalogTable *view)
{
    bool bare = table->name.schema.len == 0;
    if (view->kind == 'm')
        return "is materialized on each shard, from the rows of that shard";
    if (table->target)
        return "is written to";
    if (!view->view || !view->view->definition.len)
        return "is not known yet";
    if (bare && (input->path_unknown || input->temporary))
        return "may be another one: search_path was set by SET LOCAL, or there are temporary tables";
    if (table->only || table->token == UINT32_MAX)
        return "is named in a way that cannot be followed";
    return NULL;
}

/* ---- texts -------------------------------------------------------------------------------------------- */

static void put(Buf *out, const char *words)
{
    buf_append(out, slice_str(words));
}

static void put_view(Buf *out, const ShapeTable *table, const CatalogTable *view, Arena *arena)
{
    put(out, "(");
    buf_append(out, view->view->definition);
    put(out, ")");
    if (table->aliased)
        return;
    const char *name = sql_quote_identifier(arena, table->name.name);
    put(out, " AS ");
    put(out, name ? name : "");
}

/* One round: the views that the text names now. */
static Slice text_replace(const Replacing *r, const CatalogTable **views, Arena *arena)
{
    const Shape *shape = r->statement.shape;
    Slice text = r->statement.text;
    Lexer lexer;
    Buf out;
    size_t copied = 0;
    buf_init(&out, TEXT_MAX);
    lexer_init(&lexer, text, true);
    for (uint32_t at = 0;; at++) {
        Token token = lexer_next(&lexer);
        if (token.kind == TOKEN_END || token.kind == TOKEN_BAD)
            break;
        for (uint32_t i = 0; i < shape->table_count; i++) {
            const ShapeTable *table = &shape->tables[i];
            if (!views[i] || table->token != at)
                continue;
            buf_append(&out, slice_of(text.data + copied, token.offset - copied));
            put_view(&out, table, views[i], arena);
            for (uint32_t more = 1; more < table->token_count; more++, at++)
                token = lexer_next(&lexer);
            copied = token.offset + token.len;
            break;
        }
    }
    buf_append(&out, slice_from(text, copied));
    Slice made = out.failed ? (Slice){0} : arena_dup(arena, buf_bytes(&out));
    buf_finish(&out);
    return made;
}

/* The Shape lives as long as the request. */
static bool statement_read(Replacing *r, Slice text)
{
    Request *request = r->request;
    Session *session = request->session;
    ShapeReading reading;
    Shape **grown = arena_array(&request->arena, Shape *, request->shape_count + 1);
    if (!grown || !shape_read(&session->worker->shapes, text, session_standard_strings(session),
                              session_values_may_vary(session), &request->arena, &reading))
        return false;
    if (request->shape_count)
        memcpy(grown, request->shapes, request->shape_count * sizeof *grown);
    grown[request->shape_count++] = reading.shape;
    request->shapes = grown;
    r->statement.text = text;
    r->statement.shape = reading.shape;
    r->statement.literals = reading.literals;
    return true;
}

static bool stuck(Replacing *r, const CatalogTable *view, const char *why)
{
    snprintf(r->why, sizeof r->why, "View \"%.*s\" %s.", SLICE_FMT(view->name), why);
    return false;
}

/* True: go on, and *ret_more says whether there was one. */
static bool round_replace(Replacing *r, bool *ret_more)
{
    const Shape *shape = r->statement.shape;
    Arena *arena = &r->request->arena;
    const CatalogTable **views = arena_array(arena, const CatalogTable *, shape->table_count + 1);
    *ret_more = false;
    for (uint32_t i = 0; views && i < shape->table_count; i++) {
        const CatalogTable *view = view_of(r->input, &shape->tables[i]);
        const char *why = view ? why_not(r->input, &shape->tables[i], view) : NULL;
        if (why)
            return stuck(r, view, why);
        if (view && r->view_count == VIEWS_MAX)
            return stuck(r, view, "is one too many");
        if (view)
            r->views[r->view_count++] = view;
        views[i] = view;
        *ret_more |= view != NULL;
    }
    if (!*ret_more)
        return true;
    Slice text = views ? text_replace(r, views, arena) : (Slice){0};
    if (!text.len || !statement_read(r, text) || r->statement.shape->kind == SHAPE_UNPARSED) {
        snprintf(r->why, sizeof r->why, "With the queries of its views in it, the statement cannot be read.");
        return false;
    }
    return true;
}

/* False: `why`. */
static bool replace_all(Replacing *r)
{
    bool more = true;
    for (int depth = 0; more; depth++) {
        if (depth > DEPTH_MAX) {
            snprintf(r->why, sizeof r->why, "Its views stand in views more than %d deep.", DEPTH_MAX);
            return false;
        }
        if (!round_replace(r, &more))
            return false;
    }
    return true;
}

/* ---- rights ------------------------------------------------------------------------------------------- */

static bool is_reader(const CatalogView *view, Slice role)
{
    for (size_t at = 0; at + role.len + 2 <= view->readers.len; at++) {
        const uint8_t *here = view->readers.data + at;
        if (here[0] == CATALOG_ROLE_MARK && here[role.len + 1] == CATALOG_ROLE_MARK &&
            memcmp(here + 1, role.data, role.len) == 0)
            return true;
    }
    return false;
}

/* Who PostgreSQL says is asking; empty: not known here. */
static Slice role_of(const Request *request, const PlanInput *input)
{
    static const char *const NAMES[] = {"session_authorization", "role"};
    const DatabaseConfig *database = &input->topology->config->databases[input->database];
    for (size_t i = 0; i < ARRAY_LEN(NAMES); i++) {
        const GucEntry *entry = guc_find(session_gucs(request->session), slice_str(NAMES[i]));
        if (entry && !slice_equal_nocase(entry->value, SLICE("none")))
            return slice_of(NULL, 0);
    }
    return database->server_user ? slice_str(database->server_user) : input->user;
}

/* Read by its query and with the client's own rights, the view gives what it would give. */
static bool may_be_read_so(Replacing *r)
{
    Slice role = role_of(r->request, r->input);
    for (uint32_t i = 0; i < r->view_count; i++) {
        const CatalogView *view = r->views[i]->view;
        if (view->barrier)
            return stuck(r, r->views[i], "is a security barrier, and rows of several shards would be filtered outside of it");
        if (view->policies && !view->invoker)
            return stuck(r, r->views[i], "reads tables with row security by the rights of its owner");
        if (!view->invoker && !view->owner_reads)
            return stuck(r, r->views[i], "reads what its owner may not read");
        if (!role.len || !is_reader(view, role))
            return stuck(r, r->views[i], "may not be read by this role, or who asks is not known (SET ROLE)");
    }
    return true;
}

/* ---- plans -------------------------------------------------------------------------------------------- */

static void refusal(const Replacing *r, Error *err)
{
    bool materialized = strstr(r->why, "materialized") != NULL;
    error_set(err, SQLSTATE_FEATURE_NOT_SUPPORTED, "this view cannot be %s over several shards",
              strstr(r->why, "written") ? "written to" : "read");
    error_detail(err, "%s", r->why);
    error_hint(err, "%s", materialized ? "Make a table of it: CREATE TABLE, then INSERT ... SELECT."
                                       : "Name the view's tables in the statement itself, with their keys fixed where they can be.");
}

static Replacing replacing_begin(Request *request, const PlanInput *input, const PlanStatement *statement)
{
    return (Replacing){.request = request,
                       .input = input,
                       .catalog = input->topology->catalogs[input->database],
                       .statement = *statement};
}

static Plan refuse(const Replacing *r)
{
    Plan plan = {.kind = PLAN_REJECT};
    refusal(r, &plan.error);
    return plan;
}

Plan views_plan(Request *request, const PlanInput *input, const PlanStatement *statement)
{
    Plan plan = plan_make(input, statement);
    if (plan.kind != PLAN_REJECT || statement->shape->kind == SHAPE_MULTI || !names_view(input, statement->shape))
        return plan;
    Replacing replacing = replacing_begin(request, input, statement);
    if (!replace_all(&replacing))
        return refuse(&replacing);
    Plan open = plan_make(input, &replacing.statement);
    bool rewritten = open.kind == PLAN_SCATTER || (open.kind == PLAN_WRITE && open.texts) ||
                     (open.kind == PLAN_COPY_OUT && open.texts);
    if (rewritten && !may_be_read_so(&replacing))
        return refuse(&replacing);
    return open;
}

bool views_replace(Request *request, const PlanInput *input, PlanStatement *statement, Error *err)
{
    if (!names_view(input, statement->shape))
        return true;
    Replacing replacing = replacing_begin(request, input, statement);
    if (!replace_all(&replacing) || !may_be_read_so(&replacing)) {
        refusal(&replacing, err);
        return false;
    }
    *statement = replacing.statement;
    return true;
}
