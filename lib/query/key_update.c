/*
 * key_update.c - the client's RETURNING list moves from the UPDATE to the statements that see the rows where they end.
 *
 * New texts are written, parsed, and given that list as nodes: so it is never cut out of a text.
 */
#include "query/key_update.h"

#include "core/text.h"
#include "query/grammar.h"
#include "query/insert_source.h"
#include "query/tree.h"

#define TEXT_MAX ((size_t)1 << 20)

typedef struct Returning {
    PgQuery__Node **list;
    size_t count;
} Returning;

static PgQuery__ParseResult *parse_one(Slice text, Arena *arena)
{
    PgQuery__ParseResult *tree;
    char *copy = text.len ? arena_text(arena, text) : NULL;
    return copy && grammar_parse(copy, arena, &tree) == GRAMMAR_OK && tree->n_stmts == 1 && tree->stmts[0]->stmt ? tree
                                                                                                                  : NULL;
}

static void put_name(Buf *text, Slice name, Arena *arena)
{
    buf_append(text, insert_quote(name, arena));
}

/* "s"."t" */
static void put_table(Buf *text, const KeyUpdateTable *table, Arena *arena)
{
    put_name(text, table->schema, arena);
    text_put(text, ".");
    put_name(text, table->name, arena);
}

/* ---- what RETURNING needs -------------------------------------------------------------------------- */

static void look(const ProtobufCMessage *message, void *context)
{
    bool *more = context;
    *more |= message->descriptor == &pg_query__param_ref__descriptor ||
             message->descriptor == &pg_query__sub_link__descriptor;
    tree_children(message, look, more);
}

static bool returns_more(const PgQuery__UpdateStmt *update)
{
    bool more = update->n_returning_list && update->n_from_clause;
    for (size_t i = 0; i < update->n_returning_list; i++)
        look(&update->returning_list[i]->base, &more);
    return more;
}

/* ---- the texts ------------------------------------------------------------------------------------- */

/* Keys, place and row of each row that was changed: what the UPDATE returns in place of the client's list. */
static bool return_rows(PgQuery__UpdateStmt *update, const KeyUpdateTable *table, Slice alias, Arena *arena)
{
    Slice name = insert_quote(alias, arena);
    Buf text;
    buf_init(&text, TEXT_MAX);
    text_put(&text, "SELECT ");
    for (uint32_t i = 0; i < table->key_count; i++) {
        buf_append(&text, name);
        text_put(&text, ".");
        put_name(&text, table->keys[i], arena);
        text_put(&text, "::pg_catalog.text, ");
    }
    buf_append(&text, name);
    text_put(&text, ".ctid::pg_catalog.text, (");
    buf_append(&text, name);
    text_put(&text, ".*)::pg_catalog.text");
    PgQuery__ParseResult *tree = parse_one(text_keep(&text, arena), arena);
    if (!tree)
        return false;
    update->returning_list = tree->stmts[0]->stmt->select_stmt->target_list;
    update->n_returning_list = tree->stmts[0]->stmt->select_stmt->n_target_list;
    return true;
}

static Slice remove_text(const KeyUpdateTable *table, Arena *arena)
{
    Buf text;
    buf_init(&text, TEXT_MAX);
    text_put(&text, "DELETE FROM ONLY ");
    put_table(&text, table, arena);
    text_put(&text, " WHERE ctid OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.tid[])");
    return text_keep(&text, arena);
}

static Slice insert_text_of(const KeyUpdateTable *table, Slice alias, bool aliased, const Returning *returning,
                            Arena *arena)
{
    Buf text;
    buf_init(&text, TEXT_MAX);
    text_put(&text, "INSERT INTO ");
    put_table(&text, table, arena);
    if (aliased) {
        text_put(&text, " AS ");
        put_name(&text, alias, arena);
    }
    for (uint32_t i = 0; i < table->column_count; i++) {
        text_put(&text, i ? ", " : " (");
        put_name(&text, table->columns[i], arena);
    }
    text_put(&text, ") OVERRIDING SYSTEM VALUE SELECT ");
    for (uint32_t i = 0; i < table->column_count; i++) {
        text_put(&text, i ? ", shoal_rows." : "shoal_rows.");
        put_name(&text, table->columns[i], arena);
    }
    text_put(&text, " FROM pg_catalog.unnest($1::");
    put_table(&text, table, arena);
    text_put(&text, "[]) AS shoal_rows");
    PgQuery__ParseResult *tree = parse_one(text_keep(&text, arena), arena);
    if (!tree)
        return (Slice){0};
    tree->stmts[0]->stmt->insert_stmt->returning_list = returning->list;
    tree->stmts[0]->stmt->insert_stmt->n_returning_list = returning->count;
    return grammar_deparse(tree, arena);
}

static Slice reread_text(const KeyUpdateTable *table, Slice alias, bool aliased, const Returning *returning,
                         Arena *arena)
{
    Buf text;
    buf_init(&text, TEXT_MAX);
    text_put(&text, "SELECT FROM ONLY ");
    put_table(&text, table, arena);
    if (aliased) {
        text_put(&text, " AS ");
        put_name(&text, alias, arena);
    }
    text_put(&text, " WHERE ");
    put_name(&text, alias, arena);
    text_put(&text, ".ctid OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.tid[])");
    PgQuery__ParseResult *tree = parse_one(text_keep(&text, arena), arena);
    if (!tree)
        return (Slice){0};
    tree->stmts[0]->stmt->select_stmt->target_list = returning->list;
    tree->stmts[0]->stmt->select_stmt->n_target_list = returning->count;
    return grammar_deparse(tree, arena);
}

bool key_update_read(Slice text, const KeyUpdateTable *table, Arena *arena, KeyUpdate *ret)
{
    PgQuery__ParseResult *tree = parse_one(text, arena);
    *ret = (KeyUpdate){0};
    if (!tree || tree->stmts[0]->stmt->node_case != PG_QUERY__NODE__NODE_UPDATE_STMT || !table->column_count)
        return false;
    PgQuery__UpdateStmt *update = tree->stmts[0]->stmt->update_stmt;
    const Returning returning = {update->returning_list, update->n_returning_list};
    bool aliased = update->relation->alias != NULL;
    Slice alias = slice_str(aliased ? update->relation->alias->aliasname : update->relation->relname);
    ret->returning = returning.count > 0;
    ret->returns_more = returns_more(update);
    ret->remove = remove_text(table, arena);
    ret->insert = insert_text_of(table, alias, aliased, &returning, arena);
    if (ret->returning)
        ret->reread = reread_text(table, alias, aliased, &returning, arena);
    if (!return_rows(update, table, alias, arena))
        return false;
    ret->update = grammar_deparse(tree, arena);
    return ret->update.len && ret->remove.len && ret->insert.len && (!ret->returning || ret->reread.len);
}
