/*
 * foreign.c - the term, and the statement with it.
 */
#include "router/foreign.h"

#include "query/term.h"

bool foreign_table(const Topology *topology, const Table *table)
{
    return topology->foreign && table && bucket_sql_knows(table, topology->map->bucket_count);
}

Slice foreign_text(const Topology *topology, const Table *table, uint32_t shard, Slice alias, Slice text,
                   const char *columns, Arena *arena)
{
    if (!foreign_table(topology, table) || topology->foreign[shard].count == 0)
        return text;
    char *name = sql_quote_identifier(arena, alias);
    char *of = name ? arena_printf(arena, "%s%s", alias.len ? name : "", alias.len ? "." : "") : NULL;
    char *filter = of ? bucket_sql_table_filter(arena, table, of, &topology->foreign[shard]) : NULL;
    char *term = filter ? arena_printf(arena, "NOT COALESCE(%s, false)", filter) : NULL;
    return term ? term_add(text, term, columns, arena) : slice_of(NULL, 0);
}

Slice *foreign_texts(const Topology *topology, const Table *table, const uint32_t *shards, uint32_t count,
                     Slice alias, Slice text, const char *columns, Arena *arena)
{
    Slice *texts = arena_array(arena, Slice, count + 1);
    for (uint32_t i = 0; texts && i < count; i++) {
        texts[i] = foreign_text(topology, table, shards[i], alias, text, columns, arena);
        if (!texts[i].len)
            return NULL;
    }
    return texts;
}

void foreign_error(Error *err)
{
    error_set(err, SQLSTATE_OBJECT_IN_USE, "this statement cannot run while buckets are moved");
    error_detail(err, "Some rows lie on two shards at this moment, and they cannot be told apart in it.");
    error_hint(err, "Name its tables without an alias of a join, or try again when SHOW MOVES says that the moves "
                    "are done.");
}
