/*
 * move_plan.c - from the words of the command to the rows that people read.
 */
#include "admin/move_plan.h"

#include <inttypes.h>
#include <stdlib.h>

#include "admin/answer.h"
#include "admin/control_state.h"
#include "admin/plan_facts.h"
#include "admin/rebalance.h"
#include "meta/pin.h"
#include "wire/value.h"

#define THRESHOLD_PERCENT   5 /* by bytes and load nothing is ever exactly even */
#define ASSUMED_BYTES_PER_S (20 * 1000 * 1000)

typedef enum PlanBy { BY_COUNT, BY_BYTES, BY_LOAD, BY_COUNT_OF } PlanBy;

static const char *const BY_NAMES[BY_COUNT_OF] = {"count", "bytes", "load"};

typedef struct PlanJob {
    Job job;
    PlanFacts facts;
    PlanBy by;
    uint32_t drained; /* UINT32_MAX: none */
    bool start;
} PlanJob;

static bool out_of_memory(Error *err)
{
    error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    return false;
}

static const char *number(Arena *arena, uint64_t value)
{
    return arena_printf(arena, "%" PRIu64, value);
}

/* ---- the command -------------------------------------------------------------------------------- */

static bool read_shard(const Config *config, const char *name, uint32_t *ret, Error *err)
{
    for (uint32_t i = 0; i < config->shard_count; i++) {
        if (strcmp(config->shards[i].name, name) != 0)
            continue;
        *ret = i;
        return true;
    }
    error_set(err, SQLSTATE_UNDEFINED_OBJECT, "there is no shard \"%s\"", name);
    error_hint(err, "SHOW SHARDS lists them.");
    return false;
}

static bool read_by(const char *word, PlanBy *ret)
{
    for (int i = 0; i < BY_COUNT_OF; i++) {
        if (strcmp(BY_NAMES[i], word) != 0)
            continue;
        *ret = (PlanBy)i;
        return true;
    }
    return false;
}

static bool plan_read(PlanJob *job, const CommandLine *arguments, Error *err)
{
    job->drained = UINT32_MAX;
    for (uint32_t i = 0; i < arguments->count; i += 2) {
        const char *word = arguments->words[i], *value = i + 1 < arguments->count ? arguments->words[i + 1] : "";
        if (strcmp(word, "drain") == 0 && *value) {
            if (!read_shard(job->job.control->config, value, &job->drained, err))
                return false;
        } else if (strcmp(word, "by") != 0 || !read_by(value, &job->by)) {
            error_set(err, SQLSTATE_SYNTAX_ERROR, "syntax error at or near \"%.40s\"", word);
            error_hint(err, "REBALANCE %s [BY COUNT|BYTES|LOAD] [DRAIN shard]", job->start ? "START" : "PLAN");
            return false;
        }
    }
    return true;
}

/* ---- planning ----------------------------------------------------------------------------------- */

static bool costs_fill(const PlanJob *job, uint64_t *costs, Error *err)
{
    const PlanFacts *facts = &job->facts;
    if (job->by == BY_BYTES && facts->silent) {
        *err = facts->failed;
        return false;
    }
    for (uint32_t b = 0; job->by == BY_BYTES && b < facts->bucket_count; b++)
        costs[b] = facts->bytes[b] + 1; /* empty ones are spread, too */
    if (job->by == BY_LOAD && bucket_load_read(&job->job.control->bucket_load, facts->bucket_count, costs) == 0) {
        error_set(err, SQLSTATE_OBJECT_NOT_READY, "no statement has named a key since shoald was started");
        error_hint(err, "Let clients work for some minutes, or plan BY BYTES.");
        return false;
    }
    return true;
}

static bool weights_fill(const PlanJob *job, uint32_t *weights, Error *err)
{
    const Config *config = job->job.control->config;
    uint32_t sum = 0;
    for (uint32_t i = 0; i < config->shard_count; i++) {
        weights[i] = i == job->drained ? 0 : config->shards[i].weight;
        sum += weights[i];
    }
    if (sum > 0)
        return true;
    error_set(err, SQLSTATE_INVALID_PARAMETER, "no shard would be left for the rows");
    error_hint(err, "Shards that are drained, or whose weight is 0, get none.");
    return false;
}

/* A pinned value stays where somebody put it, unless that shard is emptied. */
static bool stays_pinned(const PlanJob *job, uint32_t bucket)
{
    const Control *control = job->job.control;
    uint32_t owner = control->map->shard_of[bucket];
    if (!pin_of_bucket(control->map, bucket))
        return false;
    return !bucket_in_use(control->map, bucket) || (owner != job->drained && control->config->shards[owner].weight > 0);
}

static bool make_plan(const PlanJob *job, RebalancePlan *ret, Error *err)
{
    const Control *control = job->job.control;
    Arena *arena = &job->job.call->arena;
    uint32_t *weights = arena_array(arena, uint32_t, control->config->shard_count);
    uint64_t *costs = arena_array(arena, uint64_t, control->map->bucket_count);
    uint8_t *fixed = arena_zalloc(arena, control->map->bucket_count);
    if (!weights || !costs || !fixed)
        return out_of_memory(err);
    if (!weights_fill(job, weights, err) || !costs_fill(job, costs, err))
        return false;
    for (uint32_t b = 0; b < control->map->bucket_count; b++)
        fixed[b] = moves_has_bucket(control, b) || stays_pinned(job, b);
    for (uint32_t b = 0; job->by == BY_COUNT && b < control->map->bucket_count; b++)
        costs[b] = b < buckets_hashed(control->map->bucket_count);
    RebalanceInput input = {.map = control->map,
                            .shard_count = control->config->shard_count,
                            .weights = weights,
                            .costs = costs,
                            .fixed = fixed,
                            .threshold_percent = job->by == BY_COUNT ? 0 : THRESHOLD_PERCENT};
    return rebalance_plan(&input, arena, ret) || out_of_memory(err);
}

/* ---- what a move would cost, and meet ---------------------------------------------------------------- */

static uint64_t sum_of(const RebalanceMove *move, const uint64_t *of_bucket)
{
    uint64_t sum = 0;
    for (uint32_t b = 0; b < move->buckets.bucket_count; b++)
        sum += move->buckets.has[b] ? of_bucket[b] : 0;
    return sum;
}

static uint64_t forecast_s(const PlanJob *job, uint64_t bytes, const char **ret_by)
{
    const Control *control = job->job.control;
    uint64_t speed = control->moves.bytes_per_s ? control->moves.bytes_per_s : ASSUMED_BYTES_PER_S;
    uint64_t limit = control->config->move_bytes_per_s;
    *ret_by = control->moves.bytes_per_s ? "measured" : "assumed";
    if (limit && limit < speed) {
        speed = limit;
        *ret_by = "move_speed";
    }
    *ret_by = arena_printf(&job->job.call->arena, "%.1f MB/s, %s", (double)speed / 1e6, *ret_by);
    return (bytes + speed - 1) / speed + MOVE_FIXED_US / 1000000;
}

static bool shapes_differ(const PlanFacts *facts, uint32_t database, uint32_t a, uint32_t b)
{
    const char *left = facts->shapes[database * facts->shard_count + a];
    const char *right = facts->shapes[database * facts->shard_count + b];
    return left && right && strcmp(left, right) != 0;
}

static bool buckets_meet(const BucketSet *a, const BucketSet *b)
{
    for (uint32_t i = 0; i < a->bucket_count; i++) {
        if (a->has[i] && b->has[i])
            return true;
    }
    return false;
}

/* Findings of the pair itself; those of one shard were made when it answered. */
static void find_between(PlanJob *job, const RebalanceMove *move, uint64_t bytes)
{
    PlanFacts *facts = &job->facts;
    const Config *config = job->job.control->config;
    char problem[200];
    for (uint32_t d = 0; d < facts->database_count; d++) {
        if (shapes_differ(facts, d, move->source, move->target))
            facts_find(facts, move->target, config->databases[d].name,
                       "the tables are not the same on both shards",
                       "DDL through Shoal changes all shards; FSCK compares them.");
    }
    if (buckets_meet(&move->buckets, &facts->strays[move->target]))
        facts_find(facts, move->target, "", "rows of these buckets lie there already",
                   "They are nobody's: FSCK shows them.");
    if (facts->room[move->target] < bytes) {
        snprintf(problem, sizeof problem, "%" PRIu64 " bytes are needed, %" PRIu64 " are free", bytes,
                 facts->room[move->target]);
        facts_find(facts, move->target, "", problem, "Make room, or move fewer buckets.");
    }
}

/* One line for each. NULL: nothing stands in its way. */
static const char *blocked_by(const PlanJob *job, const RebalanceMove *move)
{
    Arena *arena = &job->job.call->arena;
    const Config *config = job->job.control->config;
    const char *text = NULL;
    for (const FactsFinding *f = job->facts.findings; f; f = f->next) {
        if (f->shard != move->source && f->shard != move->target)
            continue;
        const char *line = arena_printf(arena, "%s%s%s: %s. %s", config->shards[f->shard].name,
                                        *f->database ? ", database " : "", f->database, f->problem, f->remedy);
        text = text ? arena_printf(arena, "%s\n%s", text, line) : line;
    }
    return text;
}

/* ---- the answer ----------------------------------------------------------------------------------- */

static bool row_add(PlanJob *job, const RebalanceMove *move, Error *err)
{
    Control *control = job->job.control;
    Call *call = job->job.call;
    Arena *arena = &call->arena;
    PlanFacts *facts = &job->facts;
    const char *source = control->config->shards[move->source].name;
    const char *target = control->config->shards[move->target].name, *by;
    uint64_t id = 0, bytes = sum_of(move, facts->bytes), room = facts->room[move->target];
    if (job->start && !moves_add(control, source, target, &move->buckets, &id, err))
        return false;
    find_between(job, move, bytes);
    uint64_t seconds = forecast_s(job, sum_of(move, facts->data), &by);
    const char *cells[] = {job->start ? number(arena, id) : NULL,
                           source,
                           target,
                           number(arena, move->buckets.count),
                           bucket_set_text(&move->buckets, arena),
                           number(arena, sum_of(move, facts->rows)),
                           number(arena, bytes),
                           number(arena, seconds),
                           by,
                           room == UINT64_MAX ? NULL : number(arena, room),
                           blocked_by(job, move)};
    if (room != UINT64_MAX)
        facts->room[move->target] -= MIN(room, bytes); /* for the next one that goes there */
    answer_row(call, cells, ARRAY_LEN(cells));
    return true;
}

static bool plan_answer(PlanJob *job, Error *err)
{
    static const AnswerColumn COLUMNS[] = {
        {"move", WIRE_OID_INT8},          {"source", WIRE_OID_TEXT},     {"target", WIRE_OID_TEXT},
        {"bucket_count", WIRE_OID_INT8},  {"buckets", WIRE_OID_TEXT},    {"rows", WIRE_OID_INT8},
        {"bytes", WIRE_OID_INT8},         {"seconds", WIRE_OID_INT8},    {"seconds_by", WIRE_OID_TEXT},
        {"target_free", WIRE_OID_INT8},   {"blocked_by", WIRE_OID_TEXT}};
    RebalancePlan plan;
    Call *call = job->job.call;
    if (job->job.control->config->shard_count != job->facts.shard_count ||
        job->job.control->map->bucket_count != job->facts.bucket_count) {
        error_set(err, SQLSTATE_OBJECT_IN_USE, "a shard has joined meanwhile, or a key was moved alone");
        error_hint(err, "Try again.");
        return false;
    }
    if (!make_plan(job, &plan, err))
        return false;
    answer_columns(call, COLUMNS, ARRAY_LEN(COLUMNS));
    for (uint32_t i = 0; i < plan.count; i++) {
        if (!row_add(job, &plan.moves[i], err))
            return false;
    }
    answer_done(call, "REBALANCE");
    return true;
}

static void plan_on_facts(void *ctx)
{
    PlanJob *job = ctx;
    Error err;
    bool ok = plan_answer(job, &err);
    job_end(&job->job, ok ? NULL : &err);
}

static void plan_on_free(Job *base)
{
    PlanJob *job = container_of(base, PlanJob, job);
    facts_close(&job->facts);
    free(job);
}

bool move_plan_run(Control *control, Call *call, const CommandLine *arguments, bool start, Error *err)
{
    PlanJob *job = calloc(1, sizeof *job);
    if (!job)
        return out_of_memory(err);
    job->job.control = control;
    job->start = start;
    if (!plan_read(job, arguments, err)) {
        free(job);
        return false;
    }
    job_start(&job->job, control, call, plan_on_free);
    if (!facts_ask(&job->facts, control, &call->arena, plan_on_facts, job)) {
        Error failed;
        (void)out_of_memory(&failed);
        job_end(&job->job, &failed);
    } else if (job->facts.pending == 0) {
        plan_on_facts(job);
    }
    return true;
}
