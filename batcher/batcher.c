/*
 * batcher.c - the front door: who comes in, when batches leave, who goes away early.
 *
 *     batcher_add ──> judgement ──> group ──> key ──> member in group.queue ──> group in `due`
 *                     (may it?)     (with     (which
 *                                    whom?)    row?)
 *     batcher_turn_end: each due group with a free slot sends what has come together
 *     a batch comes home: its slot is free, the group is due again in that same turn; the next batch looks at the
 *     sockets as often as that finds more who ask (worth_a_look)
 *
 * So there is no timer: a lone statement leaves at the end of the turn in which it came, and under
 * load a batch is as large as what arrived while the one before it was away.
 */
#include "batcher/batcher_internal.h"

#include <stdlib.h>

#include "batcher/without.h"

/* ---- life ------------------------------------------------------------------------------------ */

Batcher *batcher_create(Loop *loop, PreparedSet *prepared, GucSet *gucs, ShapeCache *shapes)
{
    Batcher *batcher = calloc(1, sizeof(*batcher));
    if (!batcher)
        return NULL;
    batcher->loop = loop;
    batcher->templates_max = 1024; /* until batcher_adopt tells */
    batcher->prepared = prepared;
    batcher->gucs = gucs;
    batcher->shapes = shapes;
    map_init(&batcher->judgements, judgement_equal);
    map_init(&batcher->templates, template_equal);
    map_init(&batcher->groups, group_equal);
    map_init(&batcher->lanes, lane_equal);
    List *lists[] = {&batcher->judgements_lru, &batcher->templates_lru, &batcher->groups_lru,
                     &batcher->lanes_lru,      &batcher->retired,       &batcher->due,
                     &batcher->lanes_due,      &batcher->convoys,       &batcher->gone_members,
                     &batcher->gone_batches,   &batcher->gone_convoys,  &batcher->free_batches,
                     &batcher->retired_templates, &batcher->served};
    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        list_init(lists[i]);
    slab_init(&batcher->members, sizeof(Member), 64);
    buf_init(&batcher->key, GROUP_KEY_MAX);
    buf_init(&batcher->begin, 256);
    buf_init(&batcher->commit, 256);
    frontend_put_query(&batcher->begin, SLICE("BEGIN; SET LOCAL lock_timeout = 20"));
    frontend_put_query(&batcher->commit, SLICE("COMMIT"));
    timer_init(&batcher->rescue, loop, convoy_rescue, batcher);
    arena_init(&batcher->scratch, 4096);
    return batcher;
}

/* Those who wait are answered, what is under way is given up, so that nobody hears of us later. */
static void group_shut(Batcher *batcher, Group *group)
{
    Error err;
    error_set(&err, SQLSTATE_ADMIN_SHUTDOWN, "terminating connection due to administrator command");
    List *link;
    while ((link = list_first(&group->batches))) {
        Batch *batch = list_entry(link, Batch, link);
        if (batch->state == BATCH_SENT)
            task_abandon(&batch->task);
        batch->state = BATCH_SPLITTING;
        while ((link = list_first(&batch->members))) {
            Member *member = list_entry(link, Member, link);
            if (member->state == MEMBER_ALONE)
                task_abandon(&member->alone);
            member_lose(member, &err, true);
        }
        list_remove(&batch->link);
        list_push(&batcher->gone_batches, &batch->link);
        group->batch_count--;
    }
    while ((link = list_first(&group->queue))) { /* and those who waited for the others */
        group->queued--;
        member_lose(list_entry(link, Member, link), &err, false);
    }
}

static void lane_shut(Batcher *batcher, Lane *lane)
{
    Error err;
    List *link;
    error_set(&err, SQLSTATE_ADMIN_SHUTDOWN, "terminating connection due to administrator command");
    LIST_EACH_SAFE (it, &batcher->convoys) {
        Convoy *convoy = list_entry(it, Convoy, link);
        if (convoy->lane == lane)
            convoy_shut(convoy, &err);
    }
    while ((link = list_first(&lane->alone))) {
        Member *member = list_entry(link, Member, link);
        if (member->state == MEMBER_ALONE)
            task_abandon(&member->alone);
        member_lose(member, &err, true);
    }
    while ((link = list_first(&lane->queue))) {
        lane->queued--;
        member_lose(list_entry(link, Member, link), &err, false);
    }
}

static void templates_shut(Batcher *batcher, List *templates)
{
    LIST_EACH_SAFE (it, templates) {
        Template *template = list_entry(it, Template, lru);
        if (template->state != TEMPLATE_LEARNING)
            continue;
        task_abandon(&template->task);
        template->state = TEMPLATE_REFUSED;
        template_free_if_done(batcher, template);
    }
}

static void reap(Batcher *batcher)
{
    List *link;
    while ((link = list_pop(&batcher->gone_members)))
        member_free(batcher, list_entry(link, Member, link));
    while ((link = list_pop(&batcher->gone_batches)))
        batch_free(batcher, list_entry(link, Batch, link));
    while ((link = list_pop(&batcher->gone_convoys)))
        convoy_free(list_entry(link, Convoy, link));
}

void batcher_destroy(Batcher *batcher)
{
    if (!batcher)
        return;
    LIST_EACH (it, &batcher->groups_lru)
        group_shut(batcher, list_entry(it, Group, lru));
    List *link;
    while ((link = list_first(&batcher->retired))) {
        Group *group = list_entry(link, Group, lru);
        group_shut(batcher, group);
        group_free_if_done(batcher, group);
    }
    timer_stop(&batcher->rescue);
    LIST_EACH (it, &batcher->lanes_lru)
        lane_shut(batcher, list_entry(it, Lane, lru));
    templates_shut(batcher, &batcher->templates_lru);
    templates_shut(batcher, &batcher->retired_templates);
    while ((link = list_first(&batcher->judgements_lru)))
        judgement_retire(batcher, list_entry(link, Judgement, lru));
    reap(batcher);
    while ((link = list_first(&batcher->lanes_lru)))
        lane_free(batcher, list_entry(link, Lane, lru));
    while ((link = list_first(&batcher->free_batches))) {
        batcher->free_batch_count = UINT32_MAX; /* none is kept any more */
        list_remove(link);
        batch_free(batcher, list_entry(link, Batch, link));
    }
    map_finish(&batcher->judgements);
    map_finish(&batcher->templates);
    map_finish(&batcher->groups);
    map_finish(&batcher->lanes);
    buf_finish(&batcher->begin);
    buf_finish(&batcher->commit);
    slab_finish(&batcher->members);
    buf_finish(&batcher->key);
    arena_finish(&batcher->scratch);
    free(batcher);
}

/* Templates of older catalogs are judged again when they are next asked for. */
void batcher_adopt(Batcher *batcher, const Topology *topology)
{
    const Config *config = topology->config;
    batcher->pipeline_max = config->batch_pipeline_max;
    batcher->writes_max = MAX(config->batch_writes_max, 1);
    if (batcher->proof_every != config->batch_proof_every)
        batcher->proof_due = config->batch_proof_every;
    batcher->proof_every = config->batch_proof_every;
    batcher->bytes_max = config->batch_bytes_max;
    batcher->rows_max = config->batch_rows_max;
    batcher->templates_max = config->batch_templates_max; /* room is made when the next one comes */
}

/* ---- in -------------------------------------------------------------------------------------- */

/* Parse* Bind [Describe] Execute Close* Sync of one statement, with the unnamed portal and no row
 * limit: then we know each message that PostgreSQL would answer. */
static bool steps_plain(const Task *task)
{
    const TaskStep *bind = NULL;
    uint32_t executes = 0;
    for (uint32_t i = 0; i + 1 < task->step_count; i++)
        if (task->steps[i].op == TASK_BIND)
            bind = bind ? NULL : &task->steps[i];
    if (!bind || task->steps[task->step_count - 1].op != TASK_SYNC)
        return false;
    for (uint32_t i = 0; i + 1 < task->step_count; i++) {
        const TaskStep *step = &task->steps[i];
        const Slice frame = step->frame;
        bool same = step->prepared == bind->prepared && step->unnamed == bind->unnamed;
        bool good = false;
        switch (step->op) {
        case TASK_PARSE:
            good = same && step < bind;
            break;
        case TASK_DESCRIBE_STATEMENT:
            good = same;
            break;
        case TASK_BIND:
            good = frame.len > 5 && frame.data[5] == 0;
            break;
        case TASK_DESCRIBE_PORTAL:
            good = step > bind && frame.len == 7;
            break;
        case TASK_EXECUTE:
            good = step > bind && executes++ == 0 && frame.len == 10 &&
                   memcmp(frame.data + 5, "\0\0\0\0", 5) == 0;
            break;
        case TASK_CLOSE_STATEMENT:
            good = executes > 0;
            break;
        case TASK_CLOSE_PORTAL:
            good = executes > 0 && frame.len == 7;
            break;
        default:
            break;
        }
        if (!good)
            return false;
    }
    return executes == 1;
}

static BatchReason protocol_reason(const BatchCandidate *c, const Task *task)
{
    bool simple = task->step_count == 1 && task->steps[0].op == TASK_QUERY &&
                  c->policy.shape->param_max == 0; /* PostgreSQL refuses $1 there */
    bool good = c->bind ? steps_plain(task) : simple;
    return good && !task->open ? BATCH_OK : BATCH_PROTOCOL;
}

static BatchReason template_reason(const Template *template)
{
    switch ((TemplateState) template->state) {
    case TEMPLATE_READY:
        return BATCH_OK;
    case TEMPLATE_REFUSED:
    case TEMPLATE_DISTRUSTED:
        return template->reason;
    case TEMPLATE_NEW:
    case TEMPLATE_LEARNING:
        break;
    }
    return BATCH_LEARNING;
}

BatchReason batcher_find_group(Batcher *batcher, const BatchCandidate *c, const Task *task,
                               Judgement **ret_judgement, Group **ret)
{
    BatchReason reason = policy_request(&c->policy);
    if (reason)
        return reason;
    Judgement *judgement = judgement_get(batcher, c);
    if (!judgement)
        return BATCH_LIMIT;
    *ret_judgement = judgement;
    if (judgement->verdict.reason) {
        judgement->seen++;
        return judgement->verdict.reason;
    }
    size_t template_len;
    reason = protocol_reason(c, task);
    reason = reason ? reason : group_key(batcher, judgement, c, &template_len);
    if (reason)
        return reason;
    *ret = group_find(batcher);
    if (*ret && (*ret)->template->state == TEMPLATE_READY) {
        template_touch(batcher, (*ret)->template);
        return BATCH_OK;
    }
    Slice key = slice_of(buf_bytes(&batcher->key).data, template_len);
    Template *template = template_get(batcher, judgement, c, key);
    if (!template)
        return BATCH_LIMIT;
    reason = template_reason(template);
    if (reason == BATCH_OK)
        *ret = group_make(batcher, template, c, &reason);
    return reason;
}

BatchReason batcher_read_keys(Batcher *batcher, const Template *template, const BatchCandidate *c,
                              Slice values[KEY_COUNT_MAX], size_t *ret_len)
{
    arena_reset(&batcher->scratch);
    *ret_len = 0;
    for (uint32_t k = 0; k < template->key_count; k++) {
        BatchReason reason = key_decode(&template->keys[k], c->text, c->literals, c->bind,
                                        &batcher->scratch, &values[k]);
        if (reason)
            return reason;
        *ret_len += 4 + values[k].len;
    }
    return BATCH_OK;
}

void batcher_put_keys(uint8_t *at, const Slice *values, uint32_t count)
{
    for (uint32_t k = 0; k < count; k++) {
        uint32_t size = __builtin_bswap32((uint32_t)values[k].len);
        memcpy(at, &size, 4);
        if (values[k].len)
            memcpy(at + 4, values[k].data, values[k].len);
        at += 4 + values[k].len;
    }
}

/* In memory of the member's own. */
bool member_take_keys(Member *member, const Slice *values, uint32_t count, size_t len)
{
    uint8_t *at = member->small;
    if (len > sizeof(member->small))
        at = member->big = malloc(len);
    if (!at)
        return false;
    member->key = slice_of(at, len);
    batcher_put_keys(at, values, count);
    return true;
}

bool batcher_may_follow(Task *task)
{
    const Member *member = task->state == TASK_MEMBER ? member_of(task) : NULL;
    return (member && member->state == MEMBER_QUEUED) || without_rule(21);
}

static BatchReason join(Batcher *batcher, Group *group, const BatchCandidate *c, Task *task)
{
    Slice values[KEY_COUNT_MAX];
    size_t len;
    Member *ahead = c->before && !without_rule(21) ? member_of(c->before) : NULL;
    if (ahead && ahead->group != group)
        return BATCH_ORDER;
    BatchReason reason = batcher_read_keys(batcher, group->template, c, values, &len);
    if (reason)
        return reason;
    Member *member = member_create(batcher, group, NULL);
    if (!member || !member_take_keys(member, values, group->template->key_count, len)) {
        member_free(batcher, member);
        return BATCH_LIMIT;
    }
    member_adopt(member, task);
    if (without_rule(1) && batch_take_late(group, member))
        return BATCH_OK;
    group->pool = c->pool;
    member_queue(member, ahead);
    return BATCH_OK;
}

/* What A and B do not take, for this reason, may still go behind others as it is. */
static BatchReason pipeline(Batcher *batcher, Judgement *judgement, const BatchCandidate *c, Task *task,
                            BatchReason reason)
{
    if (!judgement || !judgement->verdict.pipelined || batcher->pipeline_max <= 1 || protocol_reason(c, task))
        return reason;
    BatchReason other = lane_join(batcher, judgement, c, task, 0, NULL);
    return other == BATCH_OK || other == BATCH_ORDER ? other : reason;
}

BatchReason batcher_add(Batcher *batcher, const BatchCandidate *candidate, Task *task)
{
    Group *group = NULL;
    Judgement *judgement = NULL;
    BatchReason reason = batcher_find_group(batcher, candidate, task, &judgement, &group);
    if (reason == BATCH_OK)
        reason = join(batcher, group, candidate, task);
    if (reason == BATCH_OK)
        return BATCH_OK;
    counter_add(&batcher->stats.reasons[reason], 1);
    if (reason == BATCH_ORDER)
        return reason;
    return pipeline(batcher, judgement, candidate, task, reason);
}

/* ---- writes ---------------------------------------------------------------------------------- */

static BatchReason plan_sort_key(const WriteVerdict *write, const BatchCandidate *c, KeyPlan *ret)
{
    const ShapeValue *value = &write->key;
    *ret = (KeyPlan){.index = value->index,
                     .negative = value->negative,
                     .type = key_type(write->key_oid == WIRE_OID_VARCHAR ? WIRE_OID_TEXT
                                                                          : write->key_oid)};
    if (value->kind == SHAPE_VALUE_LITERAL) {
        bool string = c->literals[value->index].class == SHAPE_LITERAL_STRING;
        ret->source = string ? KEY_FROM_STRING : KEY_FROM_INTEGER;
        if (string ? value->negative : !ret->type->integer)
            return BATCH_KEY_VALUE;
        if (!string)
            ret->type = key_type(WIRE_OID_INT8);
        return BATCH_OK;
    }
    ret->source = KEY_FROM_PARAM;
    ret->index = value->index - 1;
    if (value->negative || !c->bind || ret->index >= c->bind->param_count)
        return BATCH_KEY_VALUE;
    uint32_t oid = ret->index < c->param_oid_count ? c->param_oids[ret->index] : 0;
    const KeyTypeInfo *declared = key_type(oid);
    if (oid == 0 || oid == write->key_oid)
        return BATCH_OK;
    if (!declared || !declared->integer || !ret->type->integer)
        return BATCH_KEY_TYPE;
    ret->type = declared;
    return BATCH_OK;
}

BatchReason batcher_add_write(Batcher *batcher, const BatchCandidate *candidate, Task *task)
{
    KeyPlan plan;
    BatchReason reason = policy_request(&candidate->policy);
    Judgement *judgement = reason ? NULL : judgement_get(batcher, candidate);
    if (!judgement)
        return reason ? reason : BATCH_LIMIT;
    const WriteVerdict *write = &judgement->write;
    bool value = write->key.kind == SHAPE_VALUE_LITERAL || write->key.kind == SHAPE_VALUE_PARAM;
    reason = write->reason ? write->reason : protocol_reason(candidate, task);
    if (reason == BATCH_OK && value)
        reason = plan_sort_key(write, candidate, &plan);
    if (reason == BATCH_OK)
        reason = lane_join(batcher, judgement, candidate, task, write->table_oid,
                           value ? &plan : NULL);
    if (reason)
        counter_add(&batcher->stats.reasons[reason], 1);
    return reason;
}

/* ---- out ------------------------------------------------------------------------------------- */

/* Batches that are out for long do not count fully: a slow statement must not make others wait
 * that would be answered meanwhile. */
static bool slot_free(const Batcher *batcher, const Group *group)
{
    if (group->inflight < tuner_inflight_max(&group->template->tuner))
        return true;
    if (group->inflight >= LATE_INFLIGHT_MAX || list_empty(&group->batches))
        return false;
    const Batch *newest = list_entry(group->batches.prev, Batch, link);
    return batcher->loop->now_us - newest->sent_us > LATE_US;
}

/* Who has just been answered mostly asks again at once, while we still write to his neighbours. So what follows a
 * batch looks at the sockets once more before it leaves, as long as each look finds somebody new: it never waits,
 * and batches are larger, which costs PostgreSQL less. */
static bool worth_a_look(Group *group)
{
    bool more = group->queued > group->seen && group->queued < tuner_batch_max(&group->template->tuner);
    if (!more || group->looks == 0 || group->inflight > 0) {
        group->looks = 0;
        return false;
    }
    group->looks--;
    group->seen = group->queued;
    return true;
}

void batcher_turn_end(Batcher *batcher)
{
    List due, *link;
    prefetch_deal(batcher);
    list_init(&due);
    list_splice(&due, &batcher->due);
    while ((link = list_pop(&due))) {
        Group *group = list_entry(link, Group, due);
        if (worth_a_look(group)) {
            group_due(batcher, group);
            loop_again(batcher->loop);
            continue;
        }
        while (!list_empty(&group->queue) && slot_free(batcher, group))
            batch_close(batcher, group);
    }
    lane_send_due(batcher);
    reap(batcher);
}

/* ---- away ------------------------------------------------------------------------------------ */

/* The member's place in its queue or batch is given up; what runs for it alone is told. */
static void leave(Batcher *batcher, Member *member)
{
    Group *group = member->group;
    if (member->lane) {
        lane_leave(member);
        return;
    }
    bool alone = member->state == MEMBER_ALONE;
    bool queued = member->state == MEMBER_QUEUED;
    Batch *batch = member->batch;
    list_remove(&member->link);
    if (batch && batch->proof)
        proof_forget(batch->proof, batch, member);
    if (member->state == MEMBER_SERVED)
        return;
    if (alone)
        task_abandon(&member->alone);
    if (queued) {
        group->queued--;
        group_free_if_done(batcher, group);
    } else {
        batch_member_left(batch, true);
    }
}

void batcher_cancel(Batcher *batcher, Task *task)
{
    Member *member = task->state == TASK_MEMBER ? member_of(task) : NULL;
    if (!member)
        return;
    task->cancelled = true;
    if (member->state == MEMBER_ALONE) {
        task_cancel(&member->alone); /* PostgreSQL answers, or it is too late */
        return;
    }
    if (member->state == MEMBER_SERVED)
        return; /* its answer is here: too late */
    if (member->state == MEMBER_BATCHED && member->batch && member->batch->held) {
        task_cancel(&member->batch->task); /* its transaction must fail, too */
        return;
    }
    if (member->lane) {
        lane_cancel(member);
        return;
    }
    if (without_rule(16))
        return;
    leave(batcher, member);
    member_cancelled(member);
}

void batcher_abandon(Batcher *batcher, Task *task)
{
    Member *member = task->state == TASK_MEMBER ? member_of(task) : NULL;
    if (!member)
        return;
    leave(batcher, member);
    member_forget(member);
}

/* ---- what it did ----------------------------------------------------------------------------- */

const BatcherStats *batcher_stats(const Batcher *batcher)
{
    return &batcher->stats;
}

static void describe_template(const Batcher *batcher, const Template *template,
                              BatchTemplateInfo *ret)
{
    const Judgement *judgement = template->judgement;
    BatchReason reason = template_reason(template);
    *ret = (BatchTemplateInfo){
        .text = judgement->key.shape->template_text,
        .pool = judgement->pool_name,
        .tier = reason ? BATCH_TIER_NONE : template->tier,
        .reason = reason,
        .statements = template->statements,
        .alone = template->alone,
        .batches = template->batches,
        .members = template->members,
        .keys = template->key_values,
        .retried = template->retried,
        .size_max = template->size_max,
        .profile = judgement->profile_name,
        .batch_max = tuner_batch_max(&template->tuner),
        .inflight_max = tuner_inflight_max(&template->tuner),
        .proofs = template->proofs,
        .disproved = template->disproved,
    };
    const TemplateFigures *figures = template->figures;
    if (figures) {
        ret->per_s = rate_get(&figures->rate, batcher->loop->now_us);
        ret->wait_us = &figures->wait_us;
        ret->service_us = &figures->service_us;
        ret->size = &figures->size;
    }
}

static BatchTier judgement_tier(const Judgement *judgement)
{
    if (judgement->piped == 0)
        return BATCH_TIER_NONE;
    return judgement->write.reason == BATCH_OK ? BATCH_TIER_WRITES : BATCH_TIER_ORIGINALS;
}

/* Templates first, then what the policy refused. */
bool batcher_next_template(Batcher *batcher, size_t *cursor, BatchTemplateInfo *ret)
{
    const size_t refused = (size_t)1 << (sizeof(size_t) * 8 - 1);
    if (!(*cursor & refused)) {
        const Template *template = map_next(&batcher->templates, cursor);
        if (template) {
            describe_template(batcher, template, ret);
            return true;
        }
        *cursor = refused;
    }
    size_t at = *cursor & ~refused;
    const Judgement *judgement;
    do
        judgement = map_next(&batcher->judgements, &at);
    while (judgement && judgement->verdict.reason == BATCH_OK && judgement->piped == 0);
    *cursor = at | refused;
    if (judgement)
        *ret = (BatchTemplateInfo){.text = judgement->key.shape->template_text,
                                   .pool = judgement->pool_name,
                                   .tier = judgement_tier(judgement),
                                   .reason = judgement->verdict.reason,
                                   .profile = judgement->profile_name,
                                   .statements = judgement->piped,
                                   .batches = judgement->convoys,
                                   .retried = judgement->rescued,
                                   .cost_us = judgement->cost_us,
                                   .alone = judgement->seen - MIN(judgement->seen, judgement->piped)};
    return judgement != NULL;
}
