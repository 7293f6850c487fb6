/*
 * shard_numbers.c - asks all shards where they are, and tells the new one where to begin.
 */
#include "admin/shard_numbers.h"

#include <inttypes.h>
#include <stdlib.h>

#include "meta/bucket_sql.h"

#define ASK_MS 20000

static bool ask_on_result(PgClient *client, uint32_t index, const PGresult *rows, Error *err);
static void ask_on_done(PgClient *client, const Error *err);

static const PgClientEvents ASK_EVENTS = {.on_result = ask_on_result, .on_done = ask_on_done};

uint64_t numbers_begin(uint64_t taken, uint64_t highest)
{
    for (uint64_t phase = 1; phase <= SEQUENCE_STRIDE; phase++) {
        if (taken & UINT64_C(1) << phase % SEQUENCE_STRIDE)
            continue;
        uint64_t begin = highest / SEQUENCE_STRIDE * SEQUENCE_STRIDE + phase;
        return begin > highest ? begin : begin + SEQUENCE_STRIDE;
    }
    return 0;
}

void numbers_close(ShardNumbers *numbers)
{
    for (uint32_t i = 0; i < numbers->ask_count; i++)
        pg_client_close(&numbers->asks[i].client);
    free(numbers->asks);
    numbers->asks = NULL;
    numbers->ask_count = 0;
}

static void numbers_end(ShardNumbers *numbers)
{
    numbers->on_done(numbers, numbers->failed ? &numbers->err : NULL);
}

static void end_oom(ShardNumbers *numbers)
{
    error_set(&numbers->err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    numbers->failed = true;
    numbers_end(numbers);
}

/* ---- which sequences ------------------------------------------------------------------------------- */

static bool is_numbered(const Table *table, uint32_t database)
{
    return table->database == database && table->key_count > 0;
}

/* False: memory is out. */
static bool sequences_collect(ShardNumbers *numbers, const Control *control, uint32_t database)
{
    const Topology *topology = control->topology;
    uint32_t most = 0;
    for (uint32_t i = 0; i < topology->table_count; i++) {
        const Table *table = &topology->tables[i];
        const CatalogTable *facts = is_numbered(table, database)
                                        ? catalog_table(topology->catalogs[database], table->schema, table->name)
                                        : NULL;
        most += facts ? facts->column_count : 0;
    }
    numbers->sequences = arena_array(numbers->arena, const char *, most + 1);
    numbers->taken = arena_array(numbers->arena, uint64_t, most + 1);
    numbers->highest = arena_array(numbers->arena, uint64_t, most + 1);
    numbers->strided = arena_zalloc(numbers->arena, most + 1);
    bool ok = numbers->sequences && numbers->taken && numbers->highest && numbers->strided;
    for (uint32_t i = 0; ok && i < topology->table_count; i++) {
        const Table *table = &topology->tables[i];
        const CatalogTable *facts = is_numbered(table, database)
                                        ? catalog_table(topology->catalogs[database], table->schema, table->name)
                                        : NULL;
        for (uint32_t c = 0; ok && facts && c < facts->column_count; c++) {
            if (facts->columns[c].sequence.len == 0)
                continue;
            const char *name = arena_text(numbers->arena, facts->columns[c].sequence);
            numbers->sequences[numbers->sequence_count++] = name;
            ok = name != NULL;
        }
    }
    return ok;
}

/* Rows: number of the sequence, its last value, its step. */
static const char *question(const ShardNumbers *numbers)
{
    const char *text = "";
    for (uint32_t i = 0; text && i < numbers->sequence_count; i++) {
        const char *name = numbers->sequences[i], *literal = sql_quote_literal(numbers->arena, slice_str(name));
        text = literal ? arena_printf(numbers->arena, "%s%sSELECT %u, s.last_value, q.seqincrement FROM %s s, pg_sequence q "
                                                      "WHERE q.seqrelid = %s::regclass", text, i ? " UNION ALL " : "", i,
                                      name, literal)
                       : NULL;
    }
    return text;
}

void numbers_run(ShardNumbers *numbers, Control *control, uint32_t database, const PgLogin *new, Arena *arena,
                 void (*on_done)(ShardNumbers *numbers, const Error *err), void *ctx)
{
    const DatabaseConfig *config = &control->config->databases[database];
    *numbers = (ShardNumbers){.arena = arena, .login = *new, .on_done = on_done, .ctx = ctx};
    numbers->asks = calloc(config->shard_count + 1, sizeof *numbers->asks);
    const char *sql = numbers->asks && sequences_collect(numbers, control, database) ? question(numbers) : NULL;
    if (!sql) {
        end_oom(numbers);
        return;
    }
    numbers->ask_count = config->shard_count + 1;
    for (uint32_t i = 0; i < numbers->ask_count; i++) {
        NumbersAsk *ask = &numbers->asks[i];
        *ask = (NumbersAsk){.numbers = numbers, .query = {.sql = sql}};
        pg_client_init(&ask->client, &control->loop, &ASK_EVENTS, ask);
    }
    if (numbers->sequence_count == 0) {
        numbers_end(numbers);
        return;
    }
    numbers->pending = numbers->ask_count;
    for (uint32_t i = 0; i < numbers->ask_count; i++) {
        PgLogin login = i < config->shard_count
                            ? control_login(control->config, config, control_primary(control, config->shards[i]))
                            : *new;
        pg_client_run(&numbers->asks[i].client, &login, &numbers->asks[i].query, 1, ASK_MS);
    }
}

/* ---- the new shard --------------------------------------------------------------------------------- */

/* One text of all of them; "": there is nothing to tell. NULL: memory is out. */
static const char *setting(const ShardNumbers *numbers)
{
    const char *text = "";
    for (uint32_t i = 0; text && i < numbers->sequence_count; i++) {
        uint64_t begin = numbers_begin(numbers->taken[i], numbers->highest[i]);
        if (!numbers->strided[i])
            continue;
        if (begin == 0) {
            log_line(LOG_WARNING, "shard", "sequence %s: each of %d begins belongs to some shard already; ids may come twice",
                     numbers->sequences[i], SEQUENCE_STRIDE);
            continue;
        }
        text = arena_printf(numbers->arena, "%sALTER SEQUENCE %s RESTART WITH %" PRIu64 "; ", text, numbers->sequences[i],
                            begin);
    }
    return text && *text ? arena_printf(numbers->arena, "DO $shoal$BEGIN %sEND$shoal$", text) : text;
}

static void asked(ShardNumbers *numbers)
{
    NumbersAsk *new = &numbers->asks[numbers->ask_count - 1];
    const char *sql = setting(numbers);
    if (!sql) {
        end_oom(numbers);
    } else if (!*sql) {
        numbers_end(numbers);
    } else {
        numbers->setting = true;
        numbers->pending = 1;
        new->query.sql = sql;
        pg_client_run(&new->client, &numbers->login, &new->query, 1, ASK_MS);
    }
}

static bool ask_on_result(PgClient *client, uint32_t index, const PGresult *rows, Error *err)
{
    NumbersAsk *ask = client->ctx;
    ShardNumbers *numbers = ask->numbers;
    bool member = ask != &numbers->asks[numbers->ask_count - 1];
    for (int i = 0; !numbers->setting && member && i < PQntuples(rows); i++) {
        uint64_t at = pg_u64(rows, i, 0), last = pg_u64(rows, i, 1);
        if (at >= numbers->sequence_count || pg_u64(rows, i, 2) != SEQUENCE_STRIDE)
            continue;
        numbers->strided[at] = 1;
        numbers->taken[at] |= UINT64_C(1) << last % SEQUENCE_STRIDE;
        numbers->highest[at] = MAX(numbers->highest[at], last);
    }
    return true;
}

static void ask_on_done(PgClient *client, const Error *err)
{
    NumbersAsk *ask = client->ctx;
    ShardNumbers *numbers = ask->numbers;
    if (err && !numbers->failed) {
        numbers->failed = true;
        numbers->err = *err;
        error_detail(&numbers->err, "Sequences: %s", client->why);
    }
    if (--numbers->pending > 0)
        return;
    if (numbers->failed || numbers->setting)
        numbers_end(numbers);
    else
        asked(numbers);
}
