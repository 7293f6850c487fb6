/*
 * recovery_forget.c - when the decision of a transaction may be forgotten.
 *
 * A decision that nobody holds prepared any more has done its work, if each part was committed. PostgreSQL
 * does not lose what it has prepared; but a standby that is promoted may never have got it, and then "not
 * prepared any more" and "never came" look alike. So each part on a shard with standbys leaves a row of its own
 * in shoal.branch, seen once it is committed, and the decision names the shards where to look:
 *
 *     BRANCHES  rows of shoal.branch that are a minute old                   ┐ read in this order: a row
 *     DECISIONS rows of shoal.decision                                       ┘ whose decision is not in the later
 *     PREPARED  ...                                                            list outlives it for nothing
 *     PROOF     each shard: which of these parts have you? ── one is missing ──> it is torn
 *     FORGET    decisions that are whole; torn ones are told of first (lost_part, damage)
 *               rows of shoal.branch that outlive their decision
 *
 * Branches go when they are a minute old and a later round finds no decision: a decider's own standby, promoted
 * with a decision that was forgotten just before, still finds its evidence. One that lags by more than that, and
 * brings back an old decision, is told as a lost part although nothing is lost.
 */
#include <stdio.h>

#include "admin/control_state.h"
#include "admin/recovery_round.h"
#include "core/failpoint.h"

static const char PROOF_SQL[] = "SELECT gid FROM shoal.branch WHERE gid = ANY ($1::text[])";
static const char TORN_SQL[] = "SELECT 1 FROM shoal.decision WHERE gid = $1";
static const char FORGET_SQL[] =
    "DELETE FROM shoal.decision WHERE gid = ANY ($1::text[])"
    " AND (commit OR decided_at < now() - interval '1 day')";
static const char SWEEP_SQL[] = "DELETE FROM shoal.branch WHERE gid = ANY ($1::text[])";

/* A part that a shard must have committed. */
struct Part {
    Part *next;
    DecisionRow *decision;
};

static bool text_equal(const void *item, const void *key)
{
    return strcmp(item, key) == 0;
}

static uint64_t text_hash(const char *text)
{
    return slice_hash(slice_str(text), 0);
}

/* ---- a list of names as one parameter -------------------------------------------------------------------- */

typedef struct NameList {
    Buf text; /* '{gid,gid' */
    uint64_t count;
} NameList;

static void names_init(NameList *names)
{
    buf_init(&names->text, (size_t)16 << 20);
    names->count = 0;
}

static void names_add(NameList *names, const char *gid)
{
    buf_append(&names->text, names->count++ ? SLICE(",") : SLICE("{"));
    buf_append(&names->text, slice_str(gid));
}

/* The list becomes work of the shard, unless it is empty. False: no memory. */
static bool names_work(NameList *names, ShardLook *look, int kind, const char *sql)
{
    buf_append(&names->text, SLICE("}"));
    Work *work = names->count && !names->text.failed ? recovery_work_add(look, kind, "") : NULL;
    char *param = work ? arena_text(&look->recovery->arena, buf_bytes(&names->text)) : NULL;
    if (param) {
        work->param = param;
        work->queries[0] = (PgQuery){sql, &work->param, 1};
        work->query_count = 1;
    }
    buf_finish(&names->text);
    return param || !names->count;
}

/* ---- which decisions have done their work ---------------------------------------------------------------- */

/* All shards of this database have answered all questions of this round. */
static bool all_reached(const Recovery *recovery, uint32_t database)
{
    for (uint32_t i = 0; i < recovery->look_count; i++)
        if (recovery->looks[i].database == database && !recovery->looks[i].reached)
            return false;
    return true;
}

/* All names that any shard of this database holds prepared. */
static bool collect_holders(const Recovery *recovery, uint32_t database, Map *holders)
{
    for (uint32_t i = 0; i < recovery->look_count; i++) {
        const ShardLook *look = &recovery->looks[i];
        for (PreparedRow *row = look->database == database ? look->rows : NULL; row; row = row->next) {
            uint64_t hash = text_hash(row->gid);
            if (!map_get(holders, hash, row->gid) && !map_put(holders, hash, (char *)(uintptr_t)row->gid))
                return false;
        }
    }
    return true;
}

static void expect_part(ShardLook *decider, DecisionRow *decision, Slice shard)
{
    ShardLook *at = recovery_look(decider->recovery, decider->database, shard);
    Part *part = at ? arena_new(&decider->recovery->arena, Part) : NULL;
    if (at && !part)
        decision->over = false;
    if (!part)
        return; /* a shard that is not of the database any more has nothing to show */
    *part = (Part){.next = at->parts, .decision = decision};
    at->parts = part;
}

static void expect_parts(ShardLook *decider, DecisionRow *decision)
{
    for (const char *name = decision->branches; *name;) {
        size_t len = strcspn(name, ",");
        expect_part(decider, decision, slice_of(name, len));
        name += len + (name[len] == ',');
    }
}

static void mark_over(ShardLook *decider, const Map *holders)
{
    for (DecisionRow *row = decider->decisions; row; row = row->next) {
        row->over = !row->active && (row->commit || row->old) && !map_get(holders, text_hash(row->gid), row->gid);
        if (row->over && row->commit)
            expect_parts(decider, row);
    }
}

void recovery_plan_proof(Recovery *recovery)
{
    for (uint32_t i = 0; i < recovery->look_count; i++) {
        ShardLook *look = &recovery->looks[i];
        Map holders;
        map_init(&holders, text_equal);
        if (look->decisions && all_reached(recovery, look->database) &&
            collect_holders(recovery, look->database, &holders))
            mark_over(look, &holders);
        map_finish(&holders);
    }
    for (uint32_t i = 0; i < recovery->look_count; i++) {
        NameList names;
        names_init(&names);
        for (const Part *part = recovery->looks[i].parts; part; part = part->next)
            names_add(&names, part->decision->gid);
        recovery->looks[i].reached &= names_work(&names, &recovery->looks[i], WORK_PROOF, PROOF_SQL);
    }
}

void recovery_judge_proof(ShardLook *look, const PGresult *rows)
{
    Map found;
    bool ok = true;
    map_init(&found, text_equal);
    for (int i = 0; ok && i < PQntuples(rows); i++) {
        char *gid = PQgetvalue(rows, i, 0);
        ok = map_put(&found, text_hash(gid), gid);
    }
    look->reached &= ok;
    for (Part *part = look->parts; ok && part; part = part->next)
        if (!map_get(&found, text_hash(part->decision->gid), part->decision->gid))
            part->decision->torn_at = look;
    map_finish(&found);
}

/* ---- forgetting ------------------------------------------------------------------------------------------ */

/* Another recoverer may have found it whole and forgotten it, a while ago: is it still there? */
static void check_torn(ShardLook *decider, DecisionRow *decision)
{
    Work *work = recovery_work_add(decider, WORK_TORN, decision->gid);
    if (!work)
        return;
    work->decision = decision;
    work->queries[0] = (PgQuery){TORN_SQL, &work->param, 1};
    work->query_count = 1;
}

void recovery_tell_torn(ShardLook *decider, const Work *work)
{
    Recovery *recovery = decider->recovery;
    const Config *config = recovery->control->config;
    char text[GID_SIZE + 300];
    recovery->stats.damage++;
    snprintf(text, sizeof text, "transaction %s is committed, but shard %s does not have its part: what it wrote there"
             " is lost (a standby that was promoted may have lacked it, or somebody has rolled it back)",
             work->gid, config->shards[work->decision->torn_at->shard].name);
    control_event(recovery->control, LOG_ERROR, "lost_part", text);
    NameList names;
    names_init(&names);
    names_add(&names, work->gid);
    (void)names_work(&names, decider, WORK_FORGET, FORGET_SQL);
}

static void plan_forget_of(ShardLook *look)
{
    NameList names;
    names_init(&names);
    for (DecisionRow *row = look->decisions; row; row = row->next) {
        if (row->over && row->torn_at)
            check_torn(look, row);
        else if (row->over)
            names_add(&names, row->gid);
    }
    (void)names_work(&names, look, WORK_FORGET, FORGET_SQL);
}

/* Rows of one shard that outlive their decisions of one decider. */
static void add_leftovers(NameList *names, const ShardLook *look, const ShardLook *decider, const Map *decisions)
{
    const Recovery *recovery = look->recovery;
    const char *name = recovery->control->config->shards[decider->shard].name;
    for (const BranchRow *row = look->branches; row; row = row->next) {
        GidParts parts = gid_read(&recovery->control->gid, slice_str(row->gid));
        if (parts.owner == GID_OWN && slice_is(parts.shard, name) &&
            !map_get(decisions, text_hash(row->gid), row->gid))
            names_add(names, row->gid);
    }
}

static void plan_sweep_of(ShardLook *look)
{
    Recovery *recovery = look->recovery;
    NameList names;
    names_init(&names);
    for (uint32_t i = 0; i < recovery->look_count; i++) {
        const ShardLook *decider = &recovery->looks[i];
        if (decider->database != look->database || !decider->reached || !decider->decisions_known)
            continue;
        Map decisions;
        bool ok = true;
        map_init(&decisions, text_equal);
        for (const DecisionRow *row = decider->decisions; ok && row; row = row->next)
            ok = map_put(&decisions, text_hash(row->gid), (char *)(uintptr_t)row->gid);
        if (ok)
            add_leftovers(&names, look, decider, &decisions);
        map_finish(&decisions);
    }
    (void)names_work(&names, look, WORK_SWEEP, SWEEP_SQL);
}

void recovery_plan_forget(Recovery *recovery)
{
    (void)FAILPOINT("recovery_forget");
    for (uint32_t i = 0; i < recovery->look_count; i++) {
        ShardLook *look = &recovery->looks[i];
        if (look->decisions && all_reached(recovery, look->database))
            plan_forget_of(look);
        if (look->branches && look->reached)
            plan_sweep_of(look);
    }
}
