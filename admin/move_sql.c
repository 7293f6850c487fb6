/*
 * move_sql.c - PostgreSQL's words for each thing that a move does.
 *
 * Sessions of the control thread have search_path = pg_catalog: every name of the user's is
 * qualified. Only built-in functions stand in row filters and trigger conditions.
 */
#include "admin/move_sql.h"

#include <inttypes.h>

#include "admin/control_state.h"
#include "admin/row_form.h"

#define A(leg) (&(leg)->move->scratch)

/* shoal_<cluster>_<move>: unique in a server even when clusters share it. */
static const char *stem(const MoveLeg *leg)
{
    return arena_printf(A(leg), "shoal_%.8s_%" PRIu64, store_cluster_id(leg->move->control->store),
                        leg->move->id);
}

static const char *object_name(const MoveLeg *leg, bool back)
{
    return arena_printf(A(leg), "%s%s", stem(leg), back ? "_r" : "");
}

static const char *slot_name(const MoveLeg *leg, bool back)
{
    return arena_printf(A(leg), "%s_%u%s", stem(leg), leg->number, back ? "_r" : "");
}

/* LIKE patterns for everything of this move: `_` stands for any character, which is wide enough. */
static const char *slot_pattern(const MoveLeg *leg)
{
    return arena_printf(A(leg), "^%s_[0-9]+(_r)?$", stem(leg));
}

static const char *name_pattern(const MoveLeg *leg)
{
    return arena_printf(A(leg), "^%s(_r)?$", stem(leg));
}

static const char *filter_of(const MoveLeg *leg, const Table *table, const char *alias)
{
    return bucket_sql_table_filter(A(leg), table, alias, &leg->move->buckets);
}

/* "a, b, c": of all tables, each made by `one`; NULL when memory is out. */
static const char *join_tables(const MoveLeg *leg, const char *(*one)(const MoveLeg *, const Table *))
{
    const char *text = "";
    for (uint32_t i = 0; text && i < leg->table_count; i++) {
        const char *item = one(leg, &leg->tables[i]);
        text = item ? arena_printf(A(leg), "%s%s%s", text, i ? ", " : "", item) : NULL;
    }
    return text;
}

static const char *one_name(const MoveLeg *leg, const Table *table)
{
    return sql_table_name(A(leg), table);
}

static const char *one_rows(const MoveLeg *leg, const Table *table)
{
    return sql_table_rows(A(leg), table);
}

static const char *one_filtered(const MoveLeg *leg, const Table *table)
{
    const char *name = one_rows(leg, table), *filter = filter_of(leg, table, "");
    return name && filter ? arena_printf(A(leg), "TABLE %s WHERE (%s)", name, filter) : NULL;
}

/* ---- streams --------------------------------------------------------------------------------- */

/* All tables or none, and never long: what waits for the second while it holds the first stands in the way of a
 * client that holds a row for which another one waits, and that makes a circle. PostgreSQL ends the circle by ending one of
 * them, who may be a client that had waited before. So each try is far shorter than deadlock_timeout, lets go of
 * everything, and lets the clients pass before the next. They grow, because what writes all the time holds locks as
 * long as its transactions are. */
const char *move_sql_lock(const MoveLeg *leg, const char *mode)
{
    const char *names = join_tables(leg, one_rows);
    return names && leg->table_count ? arena_printf(
        A(leg),
        "DO $shoal$DECLARE slice int := 50; BEGIN LOOP BEGIN PERFORM set_config('lock_timeout', slice / %u + 10 || 'ms', true);"
        " LOCK TABLE %s IN %s MODE; RETURN; EXCEPTION WHEN lock_not_available THEN IF slice >= 400 THEN RAISE; END IF; END;"
        " slice := slice * 2; PERFORM pg_sleep(0.02); END LOOP; END$shoal$", leg->table_count, names, mode)
                                     : "SELECT 1";
}

/* Rows of a partitioned table travel as its own: the other side finds their partitions by itself. */
const char *move_sql_create_publication(const MoveLeg *leg, bool back)
{
    const char *name = object_name(leg, back), *tables = join_tables(leg, one_filtered);
    return name && tables ? arena_printf(A(leg),
                                         "CREATE PUBLICATION %s FOR %s WITH (publish = 'insert, update, "
                                         "delete', publish_via_partition_root = true)", name, tables)
                          : NULL;
}

const char *move_sql_watch_slot(const MoveLeg *leg)
{
    return arena_printf(A(leg), "%s_%u_w", stem(leg), leg->number);
}

const char *move_sql_publication(const MoveLeg *leg)
{
    return object_name(leg, false);
}

const char *move_sql_create_slot_command(const MoveLeg *leg)
{
    const char *name = slot_name(leg, false);
    return name ? arena_printf(A(leg), "CREATE_REPLICATION_SLOT %s LOGICAL pgoutput (SNAPSHOT 'export')",
                               name)
                : NULL;
}

const char *move_sql_create_slot(const MoveLeg *leg, bool back)
{
    const char *name = slot_name(leg, back);
    return name ? arena_printf(A(leg), "SELECT pg_create_logical_replication_slot('%s', 'pgoutput') WHERE "
                                       "NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '%s')",
                               name, name)
                : NULL;
}

/* A value of a connection string: 'it''s' within it is 'it\'s'. */
static const char *conninfo_value(Arena *arena, const char *value)
{
    char *out = arena_alloc(arena, strlen(value) * 2 + 3), *at = out;
    if (!out)
        return NULL;
    *at++ = '\'';
    for (; *value; value++) {
        if (*value == '\'' || *value == '\\')
            *at++ = '\\';
        *at++ = *value;
    }
    *at++ = '\'';
    *at = '\0';
    return out;
}

static const char *publisher_conninfo(const MoveLeg *leg, const PgLogin *login)
{
    Arena *arena = A(leg);
    const char *dbname = conninfo_value(arena, login->dbname);
    const char *user = conninfo_value(arena, login->user);
    const char *password = login->password ? conninfo_value(arena, login->password) : "";
    if (!dbname || !user || !password)
        return NULL;
    return arena_printf(arena, "%s dbname=%s user=%s%s%s", login->conninfo, dbname, user,
                        login->password ? " password=" : "", password);
}

/* The slot exists, the rows are copied: nothing is to be created there, nothing to be copied. An
 * error stops it, so that it is seen instead of being tried for ever. */
const char *move_sql_create_subscription(const MoveLeg *leg, bool back, const PgLogin *publisher)
{
    const char *conninfo = publisher_conninfo(leg, publisher);
    const char *literal = conninfo ? sql_quote_literal(A(leg), slice_str(conninfo)) : NULL;
    const char *name = object_name(leg, back), *slot = slot_name(leg, back);
    return literal && name && slot
               ? arena_printf(A(leg),
                              "CREATE SUBSCRIPTION %s CONNECTION %s PUBLICATION %s WITH (create_slot = false, "
                              "slot_name = '%s', copy_data = false, enabled = true, disable_on_error = "
                              "true, synchronous_commit = 'local')", name, literal, name, slot)
               : NULL;
}

const char *move_sql_ensure_subscription(const MoveLeg *leg, bool back, const PgLogin *publisher)
{
    const char *create = move_sql_create_subscription(leg, back, publisher), *name = object_name(leg, back);
    const char *literal = create ? sql_quote_literal(A(leg), slice_str(create)) : NULL;
    return literal && name
               ? arena_printf(A(leg),
                              "DO $shoal$BEGIN IF NOT EXISTS (SELECT FROM pg_subscription WHERE subname = '%s' AND "
                              "subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())) THEN "
                              "EXECUTE %s; END IF; END$shoal$", name, literal)
               : NULL;
}

const char *move_sql_disable_subscription(const MoveLeg *leg, bool back)
{
    const char *name = object_name(leg, back);
    return name ? arena_printf(A(leg), "ALTER SUBSCRIPTION %s DISABLE", name) : NULL;
}

/* The worker would look at its subscription within a second; within the fence that is long. */
const char *move_sql_stop_worker(const MoveLeg *leg, bool back)
{
    const char *name = object_name(leg, back);
    return name ? arena_printf(A(leg), "SELECT pg_terminate_backend(t.pid) FROM pg_stat_subscription t WHERE "
                                       "t.subname = '%s' AND t.pid IS NOT NULL", name)
                : NULL;
}

const char *move_sql_subscription_state(const MoveLeg *leg, bool back)
{
    const char *name = object_name(leg, back);
    return name ? arena_printf(A(leg),
                               "SELECT s.subenabled, EXISTS (SELECT FROM pg_stat_subscription t WHERE "
                               "t.subid = s.oid AND t.pid IS NOT NULL) FROM pg_subscription s WHERE "
                               "s.subname = '%s' AND s.subdbid = (SELECT oid FROM pg_database WHERE "
                               "datname = current_database())", name)
                : NULL;
}

const char *move_sql_lag(const MoveLeg *leg, bool back)
{
    const char *name = slot_name(leg, back);
    return name ? arena_printf(A(leg),
                               "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), confirmed_flush_lsn)"
                               "::int8, active, wal_status FROM pg_replication_slots WHERE slot_name = '%s'",
                               name)
                : NULL;
}

/* A commit of our own behind everything that was committed, and where the log stands behind it: the
 * insert position, because the flush position may be short of it. */
const char *move_sql_mark(const MoveLeg *leg)
{
    return "SELECT pg_logical_emit_message(true, 'shoal', 'drain')";
}

const char *move_sql_passed(const MoveLeg *leg, bool back)
{
    const char *name = slot_name(leg, back);
    return name ? arena_printf(A(leg), "SELECT confirmed_flush_lsn >= '0/0'::pg_lsn + %" PRIu64
                                       " FROM pg_replication_slots WHERE slot_name = '%s'",
                               leg->drain_lsn, name)
                : NULL;
}

const char *move_sql_advance(const MoveLeg *leg, bool back)
{
    const char *name = slot_name(leg, back);
    return name ? arena_printf(A(leg), "SELECT pg_replication_slot_advance('%s', pg_current_wal_insert_lsn())",
                               name)
                : NULL;
}

/* ---- rows ------------------------------------------------------------------------------------ */

MoveCopyTable move_sql_copy(const MoveLeg *leg, uint32_t index)
{
    const Table *table = &leg->tables[index];
    const RowForm *form = &leg->forms[index];
    const char *name = one_name(leg, table), *rows = one_rows(leg, table), *filter = filter_of(leg, table, "");
    const char *binary = form->binary ? " (FORMAT binary)" : "";
    MoveCopyTable copy = {NULL, NULL};
    if (!name || !rows || !filter)
        return copy;
    copy.out = arena_printf(A(leg), "COPY (SELECT %s FROM %s WHERE %s) TO STDOUT%s", form->columns, rows, filter, binary);
    copy.in = arena_printf(A(leg), "COPY %s (%s) FROM STDIN%s", name, form->columns, binary);
    return copy;
}

/* unnest(ARRAY['a'::regclass, ...]) with a number for each: one question about all tables. */
static const char *tables_array(Arena *arena, const Table *tables, uint32_t count)
{
    const char *list = "";
    for (uint32_t i = 0; list && i < count; i++) {
        char *name = sql_table_name(arena, &tables[i]);
        char *literal = name ? sql_quote_literal(arena, slice_str(name)) : NULL;
        list = literal ? arena_printf(arena, "%s%s%s", list, i ? ", " : "", literal) : NULL;
    }
    return list ? arena_printf(arena, "pg_catalog.unnest(ARRAY[%s]::regclass[]) WITH ORDINALITY AS t(rel, n)", list)
                : NULL;
}

static const char *table_array(const MoveLeg *leg)
{
    return tables_array(A(leg), leg->tables, leg->table_count);
}

const char *move_sql_columns(const MoveLeg *leg)
{
    return tables_sql_columns(A(leg), leg->tables, leg->table_count);
}

const char *tables_sql_columns(Arena *arena, const Table *list, uint32_t count)
{
    const char *tables = tables_array(arena, list, count);
    return tables ? row_form_sql(arena, tables) : NULL;
}

const char *move_sql_analyze(const MoveLeg *leg, uint32_t table)
{
    const char *name = one_name(leg, &leg->tables[table]);
    return name ? arena_printf(A(leg), "ANALYZE %s", name) : NULL;
}

/* Hashed before they are grouped (OFFSET 0 keeps it so): a sort would carry whole rows. On the way back the tables may
 * not be those that were asked about. */
const char *move_sql_digest(const MoveLeg *leg, uint32_t index)
{
    const Table *table = &leg->tables[index];
    const char *name = one_rows(leg, table), *filter = filter_of(leg, table, "t.");
    const char *hash = leg->forms && !leg->move->backwards ? leg->forms[index].hash : ROW_HASH_OF_TEXT;
    char *bucket = bucket_sql_table(A(leg), table, "t.", leg->move->buckets.bucket_count);
    if (!name || !filter || !bucket)
        return NULL;
    return arena_printf(A(leg),
                        "SELECT %u, x.bucket, count(*), sum(x.hash) FROM (SELECT %s AS bucket, %s AS hash FROM %s t "
                        "WHERE %s OFFSET 0) x GROUP BY 2 ORDER BY 2", index, bucket, hash, name, filter);
}

const char *move_sql_facts(const MoveLeg *leg)
{
    return tables_sql_facts(A(leg), leg->tables, leg->table_count);
}

const char *tables_sql_facts(Arena *arena, const Table *list, uint32_t count)
{
    const char *tables = tables_array(arena, list, count);
    if (!tables)
        return NULL;
    return arena_printf(
        arena,
        "SELECT string_agg(x.fact, E'\\n' ORDER BY x.fact COLLATE \"C\") FROM %s JOIN pg_class c ON c.oid = t.rel"
        " CROSS JOIN LATERAL ("
        "SELECT format('%%s column %%s %%s %%s %%s %%s', t.n, a.attname, format_type(a.atttypid, a.atttypmod),"
        " a.attnotnull, a.attgenerated, (SELECT collname FROM pg_collation l WHERE l.oid = a.attcollation))"
        " AS fact FROM pg_attribute a WHERE a.attrelid = t.rel AND a.attnum > 0 AND NOT a.attisdropped"
        " UNION ALL SELECT format('%%s order %%s', t.n, string_agg(a.attname, ',' ORDER BY a.attnum)) FROM"
        " pg_attribute a WHERE a.attrelid = t.rel AND a.attnum > 0 AND NOT a.attisdropped"
        " UNION ALL SELECT format('%%s constraint %%s %%s', t.n, k.conname, pg_get_constraintdef(k.oid)) FROM"
        " pg_constraint k WHERE k.conrelid = t.rel AND k.contype <> 'n'"
        " UNION ALL SELECT format('%%s index %%s %%s', t.n, i.indexrelid::regclass::text,"
        " pg_get_indexdef(i.indexrelid)) FROM pg_index i WHERE i.indrelid = t.rel AND i.indisvalid"
        " UNION ALL SELECT format('%%s identity %%s', t.n, c.relreplident)"
        " UNION ALL SELECT format('%%s partition %%s of %%s %%s %%s %%s', t.n, p.relid, p.parentrelid, l.relreplident,"
        " pg_get_expr(l.relpartbound, l.oid), pg_get_partkeydef(l.oid)) FROM pg_partition_tree(t.rel) p JOIN pg_class l"
        " ON l.oid = p.relid"
        " UNION ALL SELECT format('%%s partition %%s index %%s', t.n, p.relid, pg_get_indexdef(i.indexrelid)) FROM"
        " pg_partition_tree(t.rel) p JOIN pg_index i ON i.indrelid = p.relid AND i.indisunique AND i.indisvalid"
        " WHERE p.relid <> t.rel) AS x",
        tables);
}

const char *move_sql_requirements(const MoveLeg *leg)
{
    return tables_sql_requirements(A(leg), leg->tables, leg->table_count);
}

/* (1, 'a'), (1, 'b'), (2, 'id'): the tables' key columns, numbered like tables_array. */
static const char *key_columns(Arena *arena, const Table *tables, uint32_t count)
{
    const char *text = "(0, NULL)";
    for (uint32_t t = 0; t < count; t++) {
        for (uint32_t i = 0; text && i < tables[t].key_count; i++) {
            char *name = sql_quote_literal(arena, tables[t].keys[i].column);
            text = name ? arena_printf(arena, "%s, (%u, %s)", text, t + 1, name) : NULL;
        }
    }
    return text;
}

const char *tables_sql_requirements(Arena *arena, const Table *list, uint32_t count)
{
    const char *tables = tables_array(arena, list, count);
    const char *keys = key_columns(arena, list, count);
    if (!tables || !keys)
        return NULL;
    return arena_printf(
        arena,
        "SELECT problem, remedy FROM ("
        "SELECT 'wal_level is ' || current_setting('wal_level') AS problem,"
        " 'Set wal_level = logical and restart the server.' AS remedy WHERE current_setting('wal_level') <> 'logical'"
        " UNION ALL SELECT 'the server is a replica', 'Moves go from primary to primary.' WHERE pg_is_in_recovery()"
        " UNION ALL SELECT format('role %%I is not a superuser', current_user),"
        " 'Set control_user to a superuser: subscriptions need one.'"
        " WHERE NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)"
        " UNION ALL SELECT 'no replication slot is free', 'Raise max_replication_slots and restart the server.'"
        " WHERE (SELECT count(*) FROM pg_replication_slots) + 2 > current_setting('max_replication_slots')::int"
        " UNION ALL SELECT 'no walsender is free', 'Raise max_wal_senders and restart the server.'"
        " WHERE (SELECT count(*) FROM pg_stat_replication) + 2 > current_setting('max_wal_senders')::int"
        " UNION ALL SELECT 'no logical replication worker is free', 'Raise max_logical_replication_workers and"
        " max_worker_processes and restart the server.' WHERE (SELECT count(*) FROM pg_stat_subscription WHERE pid"
        " IS NOT NULL) + 1 > current_setting('max_logical_replication_workers')::int"
        " UNION ALL SELECT format('transaction %%L has been prepared since %%s', gid, prepared::timestamptz(0)),"
        " 'COMMIT PREPARED or ROLLBACK PREPARED it: a replication slot cannot be made before.' FROM"
        " pg_prepared_xacts WHERE prepared < now() - interval '1min'"
        " UNION ALL SELECT format('table %%s is unlogged', c.oid::regclass), 'ALTER TABLE ... SET LOGGED.' FROM %s"
        " LEFT JOIN LATERAL pg_partition_tree(t.rel) p ON true JOIN pg_class c ON c.oid = coalesce(p.relid, t.rel)"
        " WHERE c.relpersistence = 'u'"
        " UNION ALL SELECT format('table %%s is not an ordinary table', c.oid::regclass), 'Only ordinary tables can"
        " be moved, and partitioned ones of such.' FROM %s LEFT JOIN LATERAL pg_partition_tree(t.rel) p ON true JOIN"
        " pg_class c ON c.oid = coalesce(p.relid, t.rel) WHERE c.relkind NOT IN ('r', 'p')"
        " UNION ALL SELECT format('partition %%s of table %%s has another replica identity than the whole', l.oid::regclass,"
        " c.oid::regclass), 'ALTER TABLE ... REPLICA IDENTITY DEFAULT, or FULL, on the table and on each partition.' FROM %s"
        " JOIN pg_class c ON c.oid = t.rel JOIN LATERAL pg_partition_tree(t.rel) p ON p.isleaf JOIN pg_class l ON l.oid ="
        " p.relid WHERE c.relkind = 'p' AND (l.relreplident <> c.relreplident OR l.relreplident NOT IN ('d', 'f'))"
        " UNION ALL SELECT format('the replica identity of table %%s does not contain the key', c.oid::regclass),"
        " 'Add a primary key with the key column, or ALTER TABLE ... REPLICA IDENTITY FULL.' FROM %s JOIN pg_class c"
        " ON c.oid = t.rel WHERE c.relreplident <> 'f' AND EXISTS (SELECT FROM (VALUES %s) k(n, name) WHERE k.n = t.n AND"
        " NOT EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON"
        " a.attrelid = c.oid AND a.attnum = ANY (i.indkey::int2[]) WHERE i.indrelid = c.oid AND a.attname ="
        " k.name AND CASE c.relreplident WHEN 'd' THEN i.indisprimary ELSE i.indisreplident END))"
        ") x", tables, tables, tables, tables, keys);
}

const char *tables_why_unmovable(const Table *table)
{
    if (!table_is_ready(table))
        return "Its key is not known yet: try again.";
    return "Its key has too many columns for so many buckets: undistribute it, and distribute it by fewer of them.";
}

const char *sql_table_size(Arena *arena, const Table *table, const char *function)
{
    const char *name = sql_table_name(arena, table);
    const char *literal = name ? sql_quote_literal(arena, slice_str(name)) : NULL;
    if (!literal)
        return NULL;
    return table->partitioned
               ? arena_printf(arena, "(SELECT sum(%s(p.relid)) FROM pg_partition_tree(%s) p)", function, literal)
               : arena_printf(arena, "%s(%s::regclass)", function, literal);
}

/* The share of the shard's buckets, of its bytes and rows: exact enough for a plan. */
const char *move_sql_sizes(const MoveLeg *leg)
{
    const Move *move = leg->move;
    const ShardMap *map = move->control->map;
    uint32_t owned = 0;
    for (uint32_t b = 0; b < map->bucket_count; b++)
        owned += strcmp(move->control->config->shards[map->shard_of[b]].name, move->source) == 0;
    const char *tables = table_array(leg);
    return tables ? arena_printf(A(leg),
                                 "SELECT (sum(pg_table_size(c.oid)) * %u / %u)::int8, (sum(greatest(c.reltuples, 0)) "
                                 "FILTER (WHERE c.relkind <> 'p') * %u / %u)::int8 FROM %s LEFT JOIN LATERAL "
                                 "pg_partition_tree(t.rel) p ON true JOIN pg_class c ON c.oid = coalesce(p.relid, t.rel)", move->buckets.count,
                                 MAX(owned, 1), move->buckets.count, MAX(owned, 1), tables)
                  : NULL;
}

const char *move_sql_usual_isolation(const MoveLeg *leg)
{
    return "SELECT reset_val = 'read committed' AND NOT EXISTS (SELECT FROM pg_db_role_setting s, unnest(s.setconfig) c "
           "WHERE c ~* '^default_transaction_isolation=' AND c !~* '=read committed$') FROM pg_settings WHERE name = "
           "'default_transaction_isolation'";
}

const char *move_sql_any_rows(const MoveLeg *leg)
{
    const char *text = NULL;
    for (uint32_t i = 0; i < leg->table_count; i++) {
        const char *name = one_rows(leg, &leg->tables[i]);
        const char *filter = filter_of(leg, &leg->tables[i], "");
        if (!name || !filter)
            return NULL;
        text = arena_printf(A(leg), "%s%sSELECT %u WHERE EXISTS (SELECT FROM %s WHERE %s)", text ? text : "",
                            text ? " UNION ALL " : "", i, name, filter);
        if (!text)
            return NULL;
    }
    return text;
}

const char *move_sql_pages(const MoveLeg *leg)
{
    const char *tables = table_array(leg);
    return tables ? arena_printf(A(leg),
                                 "SELECT greatest(max(pg_relation_size(coalesce(p.relid, t.rel)) / current_setting('block_size')"
                                 "::int8), 1) FROM %s LEFT JOIN LATERAL pg_partition_tree(t.rel) p ON true", tables)
                  : NULL;
}

const char *move_sql_delete_pages(const MoveLeg *leg, uint32_t index, uint64_t first, uint64_t behind)
{
    const Table *table = &leg->tables[index];
    const char *name = one_rows(leg, table), *filter = filter_of(leg, table, "");
    return name && filter ? arena_printf(A(leg),
                                         "DELETE FROM %s WHERE ctid >= '(%" PRIu64 ",0)'::tid AND ctid < '(%" PRIu64
                                         ",0)'::tid AND (%s)", name, first, behind, filter)
                          : NULL;
}

const char *move_sql_delete(const MoveLeg *leg, uint32_t index, uint32_t limit)
{
    const Table *table = &leg->tables[index];
    const char *name = one_rows(leg, table), *filter = filter_of(leg, table, "");
    const char *sql = table->partitioned /* each partition counts its ctids from 0 */
                          ? "DELETE FROM %s WHERE (tableoid, ctid) IN (SELECT tableoid, ctid FROM %s WHERE %s LIMIT %u)"
                          : "DELETE FROM %s WHERE ctid = ANY (ARRAY(SELECT ctid FROM %s WHERE %s LIMIT %u))";
    return name && filter ? arena_printf(A(leg), sql, name, name, filter, limit) : NULL;
}

const char *move_sql_sequences(const MoveLeg *leg)
{
    const char *tables = table_array(leg);
    return tables ? arena_printf(A(leg),
                                 "SELECT DISTINCT n.nspname, s.relname, v.last FROM %s JOIN"
                                 " pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = t.rel AND "
                                 "d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') JOIN pg_class s "
                                 "ON s.oid = d.objid AND s.relkind = 'S' JOIN pg_namespace n ON n.oid = "
                                 "s.relnamespace CROSS JOIN LATERAL (SELECT CASE s.relkind WHEN 'S' THEN "
                                 "pg_sequence_last_value(s.oid) END AS last) v WHERE v.last IS NOT NULL", tables)
                  : NULL;
}

const char *move_sql_raise_sequence(const MoveLeg *leg, const char *schema, const char *name, const char *value)
{
    char *quoted_schema = sql_quote_identifier(A(leg), slice_str(schema));
    char *quoted_name = sql_quote_identifier(A(leg), slice_str(name));
    if (!quoted_schema || !quoted_name)
        return NULL;
    char *full = arena_printf(A(leg), "%s.%s", quoted_schema, quoted_name);
    char *literal = full ? sql_quote_literal(A(leg), slice_str(full)) : NULL;
    /* Each shard counts by a step from its own begin: to a value of its own, not to one of the source's. */
    return literal ? arena_printf(A(leg),
                                  "SELECT setval(%s::regclass, %s + mod(mod(s.last_value - %s, q.step) + q.step, q.step)) "
                                  "FROM %s s, (SELECT greatest(abs(seqincrement), 1) AS step FROM pg_sequence WHERE "
                                  "seqrelid = %s::regclass) q WHERE coalesce(pg_sequence_last_value(%s::regclass), "
                                  "-9223372036854775808) < %s", literal, value, value, full, literal, literal, value)
                   : NULL;
}

/* ---- guard ----------------------------------------------------------------------------------- */

const char *move_sql_guard_function(const MoveLeg *leg, const char *new_owner)
{
    const char *text = arena_printf(A(leg), "rows of this bucket live on shard %s now", new_owner);
    const char *literal = text ? sql_quote_literal(A(leg), slice_str(text)) : NULL;
    return literal ? arena_printf(A(leg),
                                  "CREATE OR REPLACE FUNCTION shoal.move_guard_%" PRIu64 "() RETURNS trigger "
                                  "LANGUAGE plpgsql SET search_path = pg_catalog AS $$BEGIN RAISE EXCEPTION "
                                  "USING ERRCODE = '40001', MESSAGE = %s, HINT = 'The router that sent this "
                                  "knows an old map. Try again.'; END$$", leg->move->id, literal)
                   : NULL;
}

/* `which`: 0 writes (INSERT, UPDATE), 1 DELETE. */
static const char *guard_trigger(const MoveLeg *leg, uint32_t index, int which)
{
    const Table *table = &leg->tables[index];
    const char *name = one_name(leg, table);
    const char *filter = filter_of(leg, table, which ? "OLD." : "NEW.");
    return name && filter ? arena_printf(A(leg),
                                         "CREATE OR REPLACE TRIGGER shoal_guard_%" PRIu64 "_%s BEFORE %s ON %s FOR "
                                         "EACH ROW WHEN (%s) EXECUTE FUNCTION shoal.move_guard_%" PRIu64 "()",
                                         leg->move->id, which ? "d" : "w", which ? "DELETE" : "INSERT OR UPDATE",
                                         name, filter, leg->move->id)
                          : NULL;
}

const char *move_sql_guards(const MoveLeg *leg)
{
    const char *text = "";
    for (uint32_t t = 0; text && t < leg->table_count; t++) {
        const char *writes = guard_trigger(leg, t, 0), *deletes = guard_trigger(leg, t, 1);
        text = writes && deletes ? arena_printf(A(leg), "%s%s; %s; ", text, writes, deletes) : NULL;
    }
    return text ? arena_printf(A(leg), "DO $shoal$BEGIN %sEND$shoal$", text) : NULL;
}

const char *move_sql_guard_count(const MoveLeg *leg)
{
    const char *tables = table_array(leg);
    return tables ? arena_printf(A(leg),
                                 "SELECT count(*) FROM %s JOIN pg_trigger g ON g.tgrelid = t.rel AND g.tgname IN "
                                 "('shoal_guard_%" PRIu64 "_w', 'shoal_guard_%" PRIu64 "_d')", tables, leg->move->id,
                                 leg->move->id)
                  : NULL;
}

/* ---- taking it away -------------------------------------------------------------------------- */

/* Each is a transaction of its own: whoever holds a table's lock waits for no other one. */
static const char *alone(const MoveLeg *leg, uint32_t lock_ms, const char *first, const char *second)
{
    return first && second ? arena_printf(A(leg), "DO $shoal$BEGIN PERFORM set_config('lock_timeout', '%ums', true); %s; %s; END$shoal$",
                                          lock_ms, first, second)
                           : NULL;
}

const char *move_sql_guard(const MoveLeg *leg, uint32_t index, uint32_t lock_ms)
{
    return alone(leg, lock_ms, guard_trigger(leg, index, 0), guard_trigger(leg, index, 1));
}

static const char *drop_trigger(const MoveLeg *leg, const char *table, const char *which)
{
    return table ? arena_printf(A(leg), "DROP TRIGGER IF EXISTS shoal_guard_%" PRIu64 "_%s ON %s", leg->move->id, which, table) : NULL;
}

const char *move_sql_drop_guard(const MoveLeg *leg, uint32_t index, uint32_t lock_ms)
{
    const char *name = one_name(leg, &leg->tables[index]);
    return alone(leg, lock_ms, drop_trigger(leg, name, "w"), drop_trigger(leg, name, "d"));
}

const char *move_sql_drop_guards(const MoveLeg *leg)
{
    /* One table after the other: who waits for one of them holds none (move_sql_lock). */
    return arena_printf(A(leg),
                        "DO $shoal$DECLARE t record; BEGIN FOR t IN SELECT tgname, tgrelid::regclass AS rel FROM pg_trigger"
                        " WHERE tgname IN ('shoal_guard_%" PRIu64 "_w', 'shoal_guard_%" PRIu64 "_d') AND tgparentid = 0"
                        " ORDER BY 2, 1 LOOP EXECUTE format('DROP TRIGGER IF EXISTS %%I ON %%s', t.tgname, t.rel); COMMIT;"
                        " END LOOP; DROP FUNCTION IF EXISTS shoal.move_guard_%" PRIu64 "() CASCADE; END$shoal$",
                        leg->move->id, leg->move->id, leg->move->id);
}

/* Detached from its slot first: the other server may be gone, and the slot is dropped over there. */
static const char *drop_subscriptions(const MoveLeg *leg, const char *pattern)
{
    return pattern ? arena_printf(A(leg),
                                  "DO $$DECLARE s text; BEGIN FOR s IN SELECT subname FROM pg_subscription WHERE "
                                  "subname ~ '%s' AND subdbid = (SELECT oid FROM pg_database WHERE datname = "
                                  "current_database()) LOOP "
                                  "EXECUTE format('ALTER SUBSCRIPTION %%I DISABLE', s); "
                                  "EXECUTE format('ALTER SUBSCRIPTION %%I SET (slot_name = NONE)', s); "
                                  "EXECUTE format('DROP SUBSCRIPTION %%I', s); END LOOP; END$$", pattern)
                   : NULL;
}

const char *move_sql_drop_subscriptions(const MoveLeg *leg)
{
    return drop_subscriptions(leg, name_pattern(leg));
}

const char *move_sql_drop_subscription(const MoveLeg *leg, bool back)
{
    const char *name = object_name(leg, back);
    return name ? drop_subscriptions(leg, arena_printf(A(leg), "^%s$", name)) : NULL;
}

const char *move_sql_drop_stream(const MoveLeg *leg, bool back)
{
    const char *name = object_name(leg, back), *slot = slot_name(leg, back);
    return name && slot ? arena_printf(A(leg),
                                       "DO $$BEGIN PERFORM pg_terminate_backend(active_pid) FROM pg_replication_slots "
                                       "WHERE slot_name = '%s' AND active_pid IS NOT NULL; PERFORM "
                                       "pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name "
                                       "= '%s'; EXECUTE 'DROP PUBLICATION IF EXISTS %s'; END$$", slot, slot, name)
                        : NULL;
}

const char *move_sql_stop_slots(const MoveLeg *leg)
{
    const char *pattern = slot_pattern(leg);
    return pattern ? arena_printf(A(leg),
                                  "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name "
                                  "~ '%s' AND database = current_database() AND active_pid IS NOT NULL", pattern)
                   : NULL;
}

const char *move_sql_drop_slots(const MoveLeg *leg)
{
    const char *pattern = slot_pattern(leg);
    return pattern ? arena_printf(A(leg),
                                  "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE "
                                  "slot_name ~ '%s' AND database = current_database() AND active_pid IS NULL",
                                  pattern)
                   : NULL;
}

const char *move_sql_drop_publications(const MoveLeg *leg)
{
    const char *pattern = name_pattern(leg);
    return pattern ? arena_printf(A(leg),
                                  "DO $$DECLARE p text; BEGIN FOR p IN SELECT pubname FROM pg_publication WHERE "
                                  "pubname ~ '%s' LOOP EXECUTE format('DROP PUBLICATION %%I', p); END LOOP; END$$",
                                  pattern)
                   : NULL;
}

const char *move_sql_leftovers(const MoveLeg *leg)
{
    const char *slots = slot_pattern(leg), *names = name_pattern(leg);
    return slots && names
               ? arena_printf(A(leg),
                              "SELECT 'slot ' || slot_name FROM pg_replication_slots WHERE slot_name ~ '%s' AND "
                              "database = current_database() UNION ALL SELECT 'subscription ' || subname FROM "
                              "pg_subscription WHERE subname ~ '%s' AND subdbid = (SELECT oid FROM pg_database "
                              "WHERE datname = current_database()) UNION ALL SELECT 'publication ' || pubname "
                              "FROM pg_publication WHERE pubname ~ '%s' UNION ALL SELECT 'guard ' || proname FROM "
                              "pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'shoal' "
                              "AND proname = 'move_guard_%" PRIu64 "'", slots, names, names, leg->move->id)
               : NULL;
}

/* Of FSCK: one statement of a DO block for one object. */
const char *tables_sql_drop_leftover(Arena *arena, const char *kind, const char *name)
{
    char *quoted = sql_quote_identifier(arena, slice_str(name));
    if (!quoted)
        return NULL;
    if (strcmp(kind, "slot") == 0)
        return arena_printf(arena, "PERFORM pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name "
                                   "= '%s' AND active_pid IS NOT NULL; PERFORM pg_drop_replication_slot('%s'); ", name, name);
    if (strcmp(kind, "subscription") == 0)
        return arena_printf(arena, "EXECUTE 'ALTER SUBSCRIPTION %s DISABLE'; EXECUTE 'ALTER SUBSCRIPTION %s SET "
                                   "(slot_name = NONE)'; EXECUTE 'DROP SUBSCRIPTION %s'; ", quoted, quoted, quoted);
    if (strcmp(kind, "publication") == 0)
        return arena_printf(arena, "EXECUTE 'DROP PUBLICATION IF EXISTS %s'; ", quoted);
    return arena_printf(arena, "EXECUTE 'DROP FUNCTION IF EXISTS shoal.%s() CASCADE'; ", quoted);
}
