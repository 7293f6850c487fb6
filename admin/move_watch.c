/*
 * move_watch.c - the keys, in a map; their SQL.
 *
 * A key that is written again loses its round, so what was said about it does not count. That is why the watch is read
 * before the source is asked and again after the target was: a write in between is seen by the second reading.
 */
#include "admin/move_watch.h"

#include <inttypes.h>
#include <stdlib.h>

#include "admin/control_state.h"
#include "admin/move_sql.h"

typedef struct KeyName {
    uint32_t table;
    Slice text;
} KeyName;

static bool key_equal(const void *item, const void *key)
{
    const WatchKey *a = item;
    const KeyName *b = key;
    return a->table == b->table && slice_equal(slice_of(a->text, a->len), b->text);
}

static uint64_t name_hash(const KeyName *name)
{
    return slice_hash(name->text, 1 + name->table);
}

/* ---- birth and death ------------------------------------------------------------------------- */

bool watch_begin(MoveLeg *leg)
{
    MoveWatch *watch = &leg->watch;
    watch_end(leg);
    watch->tables = calloc(leg->table_count + 1, sizeof *watch->tables);
    if (!watch->tables)
        return false;
    map_init(&watch->keys, key_equal);
    for (uint32_t t = 0; t < leg->table_count; t++)
        watch->tables[t] = (ChangeTable){
            .schema = leg->tables[t].schema, .name = leg->tables[t].name, .column = leg->tables[t].keys[0].column};
    watch->on = true;
    return true;
}

void watch_end(MoveLeg *leg)
{
    MoveWatch *watch = &leg->watch;
    size_t cursor = 0;
    for (WatchKey *key; watch->keys.slots && (key = map_next(&watch->keys, &cursor));)
        free(key);
    map_finish(&watch->keys);
    free(watch->tables);
    *watch = (MoveWatch){0};
}

/* Everything is compared inside the fence, then. */
static void watch_give_up(MoveLeg *leg, const char *why)
{
    log_line(LOG_INFO, "move", "move %" PRIu64 ": %s: all its rows are compared in the pause", leg->move->id, why);
    watch_end(leg);
}

/* ---- what was written ------------------------------------------------------------------------- */

const char *watch_sql_create(MoveLeg *leg)
{
    const char *slot = move_sql_watch_slot(leg);
    return slot ? arena_printf(&leg->move->scratch,
                               "SELECT pg_create_logical_replication_slot('%s', 'pgoutput', true)", slot)
                : NULL;
}

const char *watch_sql_read(MoveLeg *leg)
{
    const char *slot = move_sql_watch_slot(leg), *publication = move_sql_publication(leg);
    return slot && publication
               ? arena_printf(&leg->move->scratch,
                              "SELECT data FROM pg_logical_slot_get_binary_changes('%s', NULL, %d, 'proto_version', "
                              "'1', 'publication_names', '%s')", slot, WATCH_CHANGES, publication)
               : NULL;
}

static bool key_add(MoveLeg *leg, uint32_t table, Slice text)
{
    MoveWatch *watch = &leg->watch;
    KeyName name = {table, text};
    uint64_t hash = name_hash(&name);
    WatchKey *key = map_get(&watch->keys, hash, &name);
    if (key) {
        key->round = 0;
        return true;
    }
    key = malloc(sizeof *key + text.len + 1);
    if (!key)
        return false;
    *key = (WatchKey){.table = table, .len = (uint32_t)text.len};
    memcpy(key->text, text.data, text.len);
    if (map_put(&watch->keys, hash, key))
        return true;
    free(key);
    return false;
}

bool watch_read(MoveLeg *leg, const PGresult *rows, Error *err)
{
    MoveWatch *watch = &leg->watch;
    ChangeReader reader = {watch->tables, leg->table_count};
    for (uint32_t t = 0; t < leg->table_count; t++)
        watch->tables[t].oid = 0; /* each reading announces them anew */
    bool ok = true;
    for (int i = 0; ok && i < PQntuples(rows); i++) {
        size_t len;
        unsigned char *bytes = PQunescapeBytea((const unsigned char *)PQgetvalue(rows, i, 0), &len);
        Change change = {0};
        ok = bytes && change_read(&reader, slice_of(bytes, len), &change, err) == WIRE_OK;
        for (uint32_t k = 0; ok && k < change.count; k++)
            ok = key_add(leg, change.table, change.values[k]);
        PQfreemem(bytes);
    }
    watch->more = PQntuples(rows) >= WATCH_CHANGES;
    if (!ok)
        watch_give_up(leg, "the changes of its rows cannot be followed");
    else if (watch->keys.count > WATCH_KEYS_MAX)
        watch_give_up(leg, "too many of its rows are written");
    return true;
}

/* ---- rounds ------------------------------------------------------------------------------------ */

void watch_round(MoveLeg *leg)
{
    MoveWatch *watch = &leg->watch;
    size_t cursor = 0;
    uint32_t chosen = 0;
    watch->round++;
    watch->lsn = 0;
    watch->passed = false;
    for (WatchKey *key; chosen < WATCH_ROUND_KEYS && (key = map_next(&watch->keys, &cursor)); chosen++) {
        key->round = watch->round;
        key->said[0] = key->said[1] = 0;
    }
}

uint32_t watch_count(const MoveLeg *leg, uint32_t table, bool all)
{
    size_t cursor = 0;
    uint32_t count = 0;
    for (const WatchKey *key; (key = map_next(&leg->watch.keys, &cursor));)
        count += key->table == table && (all || key->round == leg->watch.round);
    return count;
}

static const char *array_type(uint32_t oid)
{
    static const struct {
        uint32_t oid;
        const char *name;
    } TYPES[] = {{16, "bool"}, {17, "bytea"}, {20, "int8"}, {21, "int2"}, {23, "int4"}, {25, "text"}, {1042, "bpchar"},
                 {1043, "varchar"}, {1082, "date"}, {1114, "timestamp"}, {1184, "timestamptz"}, {2950, "uuid"}};
    for (size_t i = 0; i < ARRAY_LEN(TYPES); i++)
        if (TYPES[i].oid == oid)
            return TYPES[i].name;
    return NULL;
}

/* ARRAY['a', 'b']::type[] */
static const char *keys_array(const MoveLeg *leg, uint32_t table, bool all)
{
    Arena *arena = &leg->move->scratch;
    const char *type = array_type(leg->tables[table].keys[0].oid);
    size_t cursor = 0;
    bool ok = type != NULL;
    Buf text;
    buf_init(&text, (size_t)1 << 28);
    buf_append(&text, SLICE("ARRAY["));
    bool first = true;
    for (const WatchKey *key; ok && (key = map_next(&leg->watch.keys, &cursor));) {
        if (key->table != table || (!all && key->round != leg->watch.round))
            continue;
        const char *literal = sql_quote_literal(arena, slice_of(key->text, key->len));
        ok = literal && buf_append(&text, first ? SLICE("") : SLICE(",")) && buf_append(&text, slice_str(literal));
        first = false;
    }
    const char *list = ok ? arena_text(arena, buf_bytes(&text)) : NULL;
    buf_finish(&text);
    return list ? arena_printf(arena, "%s]::pg_catalog.%s[]", list, type) : NULL;
}

const char *watch_sql_keys(const MoveLeg *leg, uint32_t index, bool all)
{
    Arena *arena = &leg->move->scratch;
    const Table *table = &leg->tables[index];
    const char *name = sql_table_rows(arena, table), *keys = keys_array(leg, index, all);
    const char *key = sql_quote_identifier(arena, table->keys[0].column);
    /* Rows with the same first column may lie in other buckets, and are not ours. */
    const char *ours = table->key_count == 1 ? "true" : bucket_sql_table_filter(arena, table, "t.", &leg->move->buckets);
    if (!name || !key || !keys || !ours)
        return NULL;
    return arena_printf(arena,
                        "SELECT %u, %s%s%s, count(*), sum(hashtextextended((t.*)::text, 0)::numeric) FROM %s t WHERE "
                        "t.%s = ANY (%s) AND %s%s", index, all ? "0" : "t.", all ? "" : key, all ? "" : "::text", name, key,
                        keys, ours, all ? "" : " GROUP BY 2");
}

void watch_said(MoveLeg *leg, int side, const PGresult *rows)
{
    for (int i = 0; i < PQntuples(rows); i++) {
        KeyName name = {(uint32_t)pg_u64(rows, i, 0), pg_slice(rows, i, 1)};
        WatchKey *key = map_get(&leg->watch.keys, name_hash(&name), &name);
        if (key)
            key->said[side] = slice_hash(pg_slice(rows, i, 3), slice_hash(pg_slice(rows, i, 2), 1) | 1) | 1;
    }
}

void watch_settle(MoveLeg *leg)
{
    MoveWatch *watch = &leg->watch;
    size_t cursor = 0;
    for (WatchKey *key; (key = map_next(&watch->keys, &cursor));) {
        if (key->round != watch->round || key->said[0] != key->said[1])
            continue;
        KeyName name = {key->table, slice_of(key->text, key->len)};
        map_remove(&watch->keys, name_hash(&name), &name);
        watch->proven++;
        free(key);
    }
}
