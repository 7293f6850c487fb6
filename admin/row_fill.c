/*
 * row_fill.c - copies, statements and counts; the order of things is distribute.c's.
 *
 * The client's role moves the rows, because its transaction holds the locks. Triggers must not fire for rows that only change
 * their place: a superuser runs as a replica; for others a table with triggers is refused, and foreign keys are checked.
 */
#include "admin/row_fill.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "admin/control_state.h"
#include "core/clock.h"
#include "core/failpoint.h"
#include "meta/bucket_sql.h"
#include "meta/pin.h"

#define STAGE_TIMEOUT_MS 20000

static void stage_on_done(PgClient *client, const Error *err);
static void fill_on_next(Timer *timer);
static void fill_on_rows(MoveCopy *copy, const Error *err);

static const PgClientEvents STAGE_EVENTS = {.on_done = stage_on_done};

static const char QUIET_SQL[] =
    "DO $shoal$ BEGIN PERFORM pg_catalog.set_config('session_replication_role', 'replica', true);"
    " EXCEPTION WHEN insufficient_privilege THEN"
    " IF EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE (tgrelid = %s::regclass OR"
    " tgrelid IN (SELECT relid FROM pg_catalog.pg_partition_tree(%s))) AND NOT tgisinternal AND tgenabled <> 'D') THEN"
    " RAISE EXCEPTION 'the table has triggers, which would fire for each row' USING ERRCODE = '0A000',"
    " HINT = 'Let a superuser distribute it, or disable its triggers meanwhile.';"
    " END IF; END $shoal$";

/* Behind the last value that home has given, each shard its own share of the numbers (distribute.c). */
static const char NUMBERS_SQL[] =
    "DO $shoal$ DECLARE s record; BEGIN FOR s IN SELECT d.objid::regclass AS name, (n.value::text)::bigint AS last"
    "   FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_sequence q ON q.seqrelid = d.objid"
    "   JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid"
    "   JOIN pg_catalog.json_each_text(%s) n ON n.key = a.attname"
    "   WHERE d.classid = 'pg_class'::regclass AND d.refobjid = %s::regclass AND d.deptype IN ('a', 'i') AND q.seqincrement = 64 LOOP"
    "  EXECUTE pg_catalog.format('ALTER SEQUENCE %%s RESTART WITH %%s', s.name, (s.last / 64) * 64 + 64 + %u);"
    " END LOOP; END $shoal$";

static bool out_of_memory(Error *err)
{
    error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    return false;
}

static const DatabaseConfig *database_of(const RowFill *fill)
{
    return &fill->control->config->databases[fill->plan->database];
}

static PgLogin login_of(const RowFill *fill, uint32_t index)
{
    const DatabaseConfig *database = database_of(fill);
    return control_login(fill->control->config, database, control_primary(fill->control, database->shards[index]));
}

/* ---- which rows go where ---------------------------------------------------------------------------------- */

static const char *columns_of(const RowFill *fill)
{
    const Catalog *catalog = fill->control->catalogs[fill->plan->database];
    const CatalogTable *table = catalog_table(catalog, slice_str(fill->plan->schema), slice_str(fill->plan->name));
    const char *list = NULL;
    for (uint32_t i = 0; table && i < table->column_count; i++) {
        if (table->columns[i].generated)
            continue;
        const char *name = sql_quote_identifier(fill->arena, table->columns[i].name);
        list = name ? arena_printf(fill->arena, "%s%s%s", list ? list : "", list ? ", " : "", name) : NULL;
        if (!list)
            return NULL;
    }
    return list;
}

/* True for the rows of the buckets that shard `index` has. */
static const char *filter_of(const RowFill *fill, uint32_t index)
{
    const ShardMap *map = fill->control->map;
    BucketSet set;
    Table table = {.kind = TABLE_HASH, .key_count = 1, .colocation = slice_str(fill->plan->colocation)};
    table.keys[0] = fill->plan->keys[0];
    if (!pins_fill(&table, map, database_of(fill)->name, fill->arena) ||
        !bucket_set_init(&set, map->bucket_count, fill->arena))
        return NULL;
    for (uint32_t bucket = 0; bucket < map->bucket_count; bucket++)
        if (map->shard_of[bucket] == database_of(fill)->shards[index])
            bucket_set_add(&set, bucket);
    return set.count ? bucket_sql_table_filter(fill->arena, &table, "", &set) : "false";
}

static void move_add(RowFill *fill, uint32_t from, uint32_t to, const char *filter)
{
    fill->moves[fill->move_count++] = (RowFillMove){.from = from, .to = to, .filter = filter, .first = !fill->shards[to].takes};
    fill->shards[to].takes = true;
    fill->shards[from].gives = fill->plan->kind != TABLE_REFERENCE;
}

static bool moves_make(RowFill *fill, const bool *holds, Error *err)
{
    const DistributePlan *plan = fill->plan;
    const DatabaseConfig *database = database_of(fill);
    for (uint32_t i = 0; i < fill->shard_count; i++) {
        const char *filter = NULL;
        bool other = i > 0;
        if (plan->undo) {
            if (other && holds[i])
                move_add(fill, i, 0, NULL);
            continue;
        }
        if (plan->kind == TABLE_HASH && other) {
            filter = filter_of(fill, i);
            if (!filter)
                return out_of_memory(err);
        }
        bool takes = other && (plan->kind != TABLE_LOCAL || plan->places->shard == database->shards[i]);
        if (takes)
            move_add(fill, 0, i, filter);
    }
    return true;
}

static bool may_be_filled(const RowFill *fill, Error *err)
{
    const DistributePlan *plan = fill->plan;
    bool one_key = plan->key_count == 1 && plan->keys[0].type != KEY_NONE;
    if (plan->undo || plan->kind == TABLE_REFERENCE || plan->kind == TABLE_LOCAL || (plan->kind == TABLE_HASH && one_key))
        return true;
    error_set(err, SQLSTATE_OBJECT_NOT_READY, "table \"%s.%s\" holds rows", plan->schema, plan->name);
    error_detail(err, "Rows can be taken along to tables distributed by a hash of one column, to reference and to local tables.");
    error_hint(err, "Copy them out, empty the table, distribute it, and load them through Shoal.");
    return false;
}

bool row_fill_init(RowFill *fill, Control *control, const DistributePlan *plan, const bool *holds, const char *role, Arena *arena,
               Error *err)
{
    *fill = (RowFill){.control = control, .plan = plan, .arena = arena, .role = role};
    fill->shard_count = control->config->databases[plan->database].shard_count;
    timer_init(&fill->next, &control->loop, fill_on_next, fill);
    pg_client_init(&fill->stage, &control->loop, &STAGE_EVENTS, fill);
    move_copy_init(&fill->copy, &control->loop, fill);
    fill->copy.on_done = fill_on_rows;
    if (!may_be_filled(fill, err))
        return false;
    char *schema = sql_quote_identifier(arena, slice_str(plan->schema)), *name = sql_quote_identifier(arena, slice_str(plan->name));
    fill->table = schema && name ? arena_printf(arena, "%s.%s", schema, name) : NULL;
    fill->rows = fill->table ? arena_printf(arena, "%s%s", plan->partitioned ? "" : "ONLY ", fill->table) : NULL;
    fill->columns = columns_of(fill);
    fill->moves = arena_array(arena, RowFillMove, fill->shard_count + 1);
    fill->shards = arena_array(arena, RowFillShard, fill->shard_count + 1);
    if (!fill->table || !fill->rows || !fill->columns || !fill->moves || !fill->shards)
        return out_of_memory(err);
    return moves_make(fill, holds, err);
}

/* ---- copying, one pair of shards after the other ----------------------------------------------------------- */

static void fill_tell(const RowFill *fill, const RowFillMove *move)
{
    char text[256];
    const DatabaseConfig *database = database_of(fill);
    const Config *config = fill->control->config;
    snprintf(text, sizeof text, "table %s: %" PRIu64 " rows copied from %s to %s", fill->table, move->copied,
             config->shards[database->shards[move->from]].name, config->shards[database->shards[move->to]].name);
    control_event(fill->control, LOG_INFO, "table", text);
}

static void fill_fail(RowFill *fill, const char *sqlstate, const char *text)
{
    Error err;
    error_set(&err, sqlstate, "%s", text);
    fill->on_copied(fill, &err);
}

static void stage_make(RowFill *fill, const RowFillMove *move)
{
    PgLogin login = login_of(fill, move->to);
    const char *role = sql_quote_identifier(fill->arena, slice_str(fill->role));
    const char *make = arena_printf(fill->arena, "CREATE UNLOGGED TABLE " FILL_STAGE " (LIKE %s)", fill->table);
    const char *grant = role ? arena_printf(fill->arena, "GRANT SELECT ON " FILL_STAGE " TO %s", role) : NULL;
    if (!make || !grant) {
        fill_fail(fill, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        return;
    }
    fill->stage_queries[0] = (PgQuery){.sql = "DROP TABLE IF EXISTS " FILL_STAGE};
    fill->stage_queries[1] = (PgQuery){.sql = make};
    fill->stage_queries[2] = (PgQuery){.sql = grant};
    pg_client_close(&fill->stage);
    pg_client_run(&fill->stage, &login, fill->stage_queries, 3, STAGE_TIMEOUT_MS);
}

static void rows_copy(RowFill *fill)
{
    const RowFillMove *move = &fill->moves[fill->at];
    PgLogin source = login_of(fill, move->from), target = login_of(fill, move->to);
    MoveCopyTable table = {
        .out = arena_printf(fill->arena, "COPY (SELECT %s FROM %s%s%s) TO STDOUT", fill->columns, fill->rows,
                            move->filter ? " WHERE " : "", move->filter ? move->filter : ""),
        .in = arena_printf(fill->arena, "COPY " FILL_STAGE " (%s) FROM STDIN", fill->columns)};
    if (!table.out || !table.in) {
        fill_fail(fill, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        return;
    }
    move_copy_close(&fill->copy);
    move_copy_run(&fill->copy, &source, &target, "SELECT 1", &table, 1, 0);
}

static void stage_on_done(PgClient *client, const Error *err)
{
    RowFill *fill = client->ctx;
    if (err)
        fill->on_copied(fill, err);
    else
        rows_copy(fill);
}

static void fill_on_rows(MoveCopy *copy, const Error *err)
{
    RowFill *fill = copy->ctx;
    RowFillMove *move = &fill->moves[fill->at];
    if (err) {
        fill->on_copied(fill, err);
        return;
    }
    move->copied = copy->rows;
    fill_tell(fill, move);
    fill->at++;
    timer_start_ms(&fill->next, 0);
}

static void fill_on_next(Timer *timer)
{
    RowFill *fill = timer->ctx;
    Error failed;
    if (fill->at == fill->move_count) {
        bool fails = FAILPOINT_FAILS("fill_copied", &failed);
        fill->on_copied(fill, fails ? &failed : NULL);
    } else if (fill->moves[fill->at].first) {
        stage_make(fill, &fill->moves[fill->at]);
    } else {
        rows_copy(fill);
    }
}

void row_fill_copy(RowFill *fill)
{
    timer_start_ms(&fill->next, 0);
}

/* ---- in the open transactions ------------------------------------------------------------------------------- */

static bool query_add(RowFillShard *shard, const char *sql)
{
    if (!sql)
        return false;
    assert(shard->query_count < FILL_QUERIES_MAX);
    shard->queries[shard->query_count++] = (PgQuery){.sql = sql};
    return true;
}

static bool deletion_add(RowFill *fill, RowFillShard *shard, uint32_t index)
{
    const char *own = !fill->plan->undo && fill->plan->kind == TABLE_HASH ? filter_of(fill, index) : "false";
    const char *count = arena_printf(fill->arena, "SELECT count(*) FROM %s", fill->rows);
    shard->held_at = (int)shard->query_count;
    if (!own || !query_add(shard, count))
        return false;
    if (!shard->gives)
        return true;
    shard->removed_at = (int)shard->query_count;
    return query_add(shard, arena_printf(fill->arena, "DELETE FROM %s WHERE NOT COALESCE(%s, false)", fill->rows, own));
}

bool row_fill_moves_make(RowFill *fill, uint32_t index)
{
    RowFillShard *shard = &fill->shards[index];
    const char *name = sql_quote_literal(fill->arena, slice_str(fill->table));
    shard->query_count = 0;
    shard->held_at = shard->removed_at = shard->added_at = -1;
    if (!name || !query_add(shard, arena_printf(fill->arena, QUIET_SQL, name, name)))
        return false;
    bool source = shard->gives || (index == 0 && !fill->plan->undo);
    if (source && !deletion_add(fill, shard, index))
        return false;
    shard->added_at = shard->takes ? (int)shard->query_count : -1;
    if (shard->takes &&
        !query_add(shard, arena_printf(fill->arena, "INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM " FILL_STAGE,
                                       fill->table, fill->columns, fill->columns)))
        return false;
    if (fill->plan->undo || !fill->plan->key_count || !fill->last_ids)
        return true;
    const char *ids = sql_quote_literal(fill->arena, slice_str(fill->last_ids));
    return ids && query_add(shard, arena_printf(fill->arena, NUMBERS_SQL, ids, name, index + 1));
}

void row_fill_take(RowFill *fill, uint32_t index, uint32_t query, const PGresult *result)
{
    RowFillShard *shard = &fill->shards[index];
    PGresult *mutable = (PGresult *)(uintptr_t)result;
    if ((int)query == shard->held_at)
        shard->held = pg_u64(result, 0, 0);
    if ((int)query == shard->removed_at)
        shard->removed = strtoull(PQcmdTuples(mutable), NULL, 10);
    if ((int)query == shard->added_at)
        shard->added = strtoull(PQcmdTuples(mutable), NULL, 10);
}

bool row_fill_agrees(const RowFill *fill, Error *err)
{
    uint64_t copied = 0, added = 0, removed = 0;
    bool same = true;
    for (uint32_t i = 0; i < fill->move_count; i++)
        copied += fill->moves[i].copied;
    for (uint32_t i = 0; i < fill->shard_count; i++) {
        added += fill->shards[i].added;
        removed += fill->shards[i].removed;
        same &= fill->plan->kind != TABLE_REFERENCE || i == 0 || fill->shards[i].added == fill->shards[0].held;
    }
    if (same && copied == added && (fill->plan->kind == TABLE_REFERENCE || removed == added))
        return true;
    error_set(err, SQLSTATE_OBJECT_NOT_READY, "not every row of table \"%s\" has a shard", fill->plan->name);
    error_detail(err, "%" PRIu64 " rows belong elsewhere, %" PRIu64 " were copied, %" PRIu64 " were taken.", removed, copied, added);
    error_hint(err, "Rows whose key is NULL have none: give them one, or delete them. Nothing was changed.");
    return false;
}

bool row_fill_begin_end(RowFill *fill, Error *err)
{
    StoreFill *pending = &fill->pending;
    const DistributePlan *plan = fill->plan;
    snprintf(pending->gid, sizeof pending->gid, "shoal-rows %s %" PRIu64, store_cluster_id(fill->control->store), clock_wall_us());
    snprintf(pending->database, sizeof pending->database, "%s", database_of(fill)->name);
    snprintf(pending->schema, sizeof pending->schema, "%s", plan->schema);
    snprintf(pending->name, sizeof pending->name, "%s", plan->name);
    pending->when = plan->undo ? '-' : '+';
    return store_save_fill(fill->control->store, pending, err);
}

bool row_fill_prepare_make(RowFill *fill, uint32_t index)
{
    RowFillShard *shard = &fill->shards[index];
    shard->query_count = 0;
    shard->held_at = shard->removed_at = shard->added_at = -1;
    return query_add(shard, arena_printf(fill->arena, "LOCK TABLE %s IN ACCESS EXCLUSIVE MODE", fill->rows)) &&
           query_add(shard, arena_printf(fill->arena, "PREPARE TRANSACTION '%s'", fill->pending.gid));
}

void row_fill_finish(RowFill *fill)
{
    if (!fill->control)
        return;
    timer_stop(&fill->next);
    pg_client_close(&fill->stage);
    move_copy_close(&fill->copy);
}
