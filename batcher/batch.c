/*
 * batch.c - members become one statement.
 *
 *     group.queue   [7] [42] [7] [9]                    four members, three keys
 *                    |    |   |   |
 *     slots          0    1   0   2                     equal keys share a slot
 *     request        Bind  $1 = {7,42,9}  $2 = what all members have in common
 *     steps          BIND  DESCRIBE portal  EXECUTE  SYNC
 *
 * The portal is described each time (some bytes per batch, not per member): so a result whose shape
 * has changed is seen before anything goes to anybody. A batch of one is rewritten only in tier A and when its member
 * came as text: PostgreSQL would parse and plan that, and the group's statement is prepared (a tenth less of its CPU;
 * no plan is worth thinking about where a unique key decides). Else the member runs by its own steps, and the batch
 * holds the slot until that is done.
 */
#include "batcher/batcher_internal.h"

#include <stdlib.h>

#include "wire/array.h"
#include "wire/writer.h"

#define FREE_BATCHES_MAX 64
#define KEEP_BYTES       ((size_t)1024 * 1024) /* a reused batch keeps buffers up to this size */

static const char DESCRIBE_PORTAL[] = {'D', 0, 0, 0, 6, 'P', 0};
static const char EXECUTE[] = {'E', 0, 0, 0, 9, 0, 0, 0, 0, 0};

/* ---- life ------------------------------------------------------------------------------------ */

Batch *batch_take(Batcher *batcher)
{
    Batch *batch = NULL;
    List *link = list_pop(&batcher->free_batches);
    if (link) {
        batcher->free_batch_count--;
        batch = list_entry(link, Batch, link);
    } else {
        batch = calloc(1, sizeof(*batch));
        if (!batch)
            return NULL;
        list_init(&batch->link);
        list_init(&batch->members);
        buf_init(&batch->request, LARGE_BODY_MAX);
        buf_init(&batch->keys, LARGE_BODY_MAX);
        buf_init(&batch->rows, SIZE_MAX / 2);
    }
    batch->sink.ops = &SPLIT_OPS;
    batch->batcher = batcher;
    batch->bytes_max = batcher->bytes_max;
    batch->state = BATCH_COLLECTING;
    return batch;
}

static void batch_destroy(Batch *batch)
{
    buf_finish(&batch->request);
    buf_finish(&batch->keys);
    buf_finish(&batch->rows);
    free(batch->entries);
    free(batch->slots);
    free(batch->table);
    free(batch);
}

void batch_free(Batcher *batcher, Batch *batch)
{
    assert(list_empty(&batch->members));
    proof_free(batch->proof);
    batch->proof = NULL;
    bool large =
        batch->rows.cap + batch->request.cap + batch->keys.cap + sizeof(RowEntry) * batch->entry_cap > KEEP_BYTES;
    if (large || batcher->free_batch_count >= FREE_BATCHES_MAX) {
        batch_destroy(batch);
        return;
    }
    Batch kept = {.request = batch->request,
                  .keys = batch->keys,
                  .rows = batch->rows,
                  .entries = batch->entries,
                  .entry_cap = batch->entry_cap,
                  .slots = batch->slots,
                  .slot_cap = batch->slot_cap,
                  .table = batch->table,
                  .table_size = batch->table_size};
    *batch = kept;
    buf_reset(&batch->request);
    buf_reset(&batch->keys);
    buf_reset(&batch->rows);
    list_init(&batch->members);
    list_init(&batch->link);
    list_push(&batcher->free_batches, &batch->link);
    batcher->free_batch_count++;
}

void batch_release_slot(Batch *batch)
{
    if (!batch->slot_held)
        return;
    batch->slot_held = false;
    batch->group->inflight--;
    batch->group->looks = batch->member_count > 1 ? LOOKS_MAX : 0;
    batch->group->seen = 0;
    if (batch->group->queued)
        group_due(batch->batcher, batch->group);
}

bool batch_take_late(Group *group, Member *member)
{
    LIST_EACH (it, &group->batches) {
        Batch *batch = list_entry(it, Batch, link);
        uint32_t slot = batch->state == BATCH_SENT ? batch_find_slot(batch, member->key) : UINT32_MAX;
        if (slot == UINT32_MAX)
            continue;
        member->batch = batch;
        member->state = MEMBER_BATCHED;
        member->slot = slot;
        list_push(&batch->members, &member->link);
        batch->member_count++;
        return true;
    }
    return false;
}

void batch_observe(Batch *batch)
{
    uint64_t now_us = batch->batcher->loop->now_us;
    TunerBatch seen = {.members = batch->member_count,
                       .service_us = now_us - batch->sent_us,
                       .alone = batch->uncrowded,
                       .waiting = batch->left_some || !list_empty(&batch->group->queue)};
    if (!batch->proof && batch->member_count > 1) /* a proof takes much longer; one alone says nothing of size */
        tuner_observe(&batch->group->template->tuner, seen, now_us);
}

/* Nothing of it is under way any more. */
void batch_end(Batch *batch)
{
    Batcher *batcher = batch->batcher;
    Group *group = batch->group;
    bool ahead = batch->prefetch != NULL; /* then what it cost, and what failed, is not the group's */
    if (ahead && prefetch_keep(batch))
        return;
    uint64_t service_us = batcher->loop->now_us - batch->sent_us;
    if (!ahead)
        histogram_add(&batcher->stats.service_us, service_us);
    if (!ahead && group->template->figures)
        spread_add(&group->template->figures->service_us, service_us);
    if (!ahead && batch->retrying && batch->blamed && !batch->retry_failed)
        template_strike(batcher, group->template);
    batch_release_slot(batch);
    batch->state = BATCH_DONE;
    list_remove(&batch->link);
    list_push(&batcher->gone_batches, &batch->link);
    group->batch_count--;
    group_free_if_done(batcher, group);
}

void batch_member_left(Batch *batch, bool alone_failed)
{
    batch->member_count--;
    batch->retry_failed |= alone_failed;
    if (batch->member_count > 0 || batch->state == BATCH_SPLITTING || batch->state == BATCH_DONE)
        return;
    /* The last one has gone while the statement runs: nobody wants its answer. */
    if (batch->state == BATCH_SENT)
        task_abandon(&batch->task);
    batch_end(batch);
}

/* ---- slots ----------------------------------------------------------------------------------- */

/* Room for `count` slots and a table at most half full. */
bool batch_slots_prepare(Batch *batch, uint32_t count)
{
    if (batch->slot_cap < count) {
        Slot *slots = realloc(batch->slots, sizeof(Slot) * count);
        if (!slots)
            return false;
        batch->slots = slots;
        batch->slot_cap = count;
    }
    uint32_t size = 16;
    while (size < count * 2)
        size *= 2;
    if (batch->table_size < size) {
        uint32_t *table = realloc(batch->table, sizeof(uint32_t) * size);
        if (!table)
            return false;
        batch->table = table;
        batch->table_size = size;
    }
    memset(batch->table, 0, sizeof(uint32_t) * batch->table_size);
    batch->slot_count = 0;
    return true;
}

static Slice slot_key(const Batch *batch, const Slot *slot)
{
    return slot->key.data ? slot->key
                          : slice_of(buf_bytes(&batch->request).data + slot->offset, slot->len);
}

/* Where this key is, or the free place in the table where it belongs. */
static uint32_t *slot_place(const Batch *batch, Slice key, uint64_t hash)
{
    uint32_t mask = batch->table_size - 1;
    for (uint32_t at = (uint32_t)hash & mask;; at = (at + 1) & mask) {
        uint32_t number = batch->table[at];
        if (number == 0)
            return &batch->table[at];
        const Slot *slot = &batch->slots[number - 1];
        if (slot->hash == hash && slice_equal(slot_key(batch, slot), key))
            return &batch->table[at];
    }
}

uint32_t batch_find_slot(const Batch *batch, Slice key)
{
    return *slot_place(batch, key, slice_hash(key, 0)) - 1;
}

uint32_t batch_slot_join(Batch *batch, Slice key)
{
    uint64_t hash = slice_hash(key, 0);
    uint32_t *place = slot_place(batch, key, hash);
    if (*place == 0) {
        batch->slots[batch->slot_count] = (Slot){.key = key, .hash = hash};
        *place = ++batch->slot_count;
    }
    return *place - 1;
}

static void slot_join(Batch *batch, Member *member)
{
    member->slot = batch_slot_join(batch, member->key);
}

/* ---- the statement --------------------------------------------------------------------------- */

/* The value of key `k` in a member's key: each is an int32 length and its bytes. */
static Slice key_part(Slice key, uint32_t k)
{
    const uint8_t *at = key.data;
    for (;; k--) {
        uint32_t len = (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
        if (k == 0)
            return slice_of(at + 4, len);
        at += 4 + len;
    }
}

static void put_array(Batch *batch, const KeyPlan *plan, uint32_t k)
{
    Buf *buf = &batch->request;
    ArrayWriter array;
    size_t value = writer_begin_value(buf);
    array_begin(&array, buf, FORMAT_BINARY, plan->type->oid);
    for (uint32_t i = 0; i < batch->slot_count; i++) {
        Slot *slot = &batch->slots[i];
        slot->offset = (uint32_t)buf_len(buf);
        array_add(&array, key_part(slot->key, k));
        slot->len = (uint32_t)buf_len(buf) - slot->offset;
    }
    array_end(&array);
    writer_end_value(buf, value);
}

static const KeyPlan *array_at(const Template *template, uint32_t param, uint32_t *ret_k)
{
    for (uint32_t k = 0; k < template->key_count; k++)
        if (template->keys[k].array_param == param) {
            *ret_k = k;
            return &template->keys[k];
        }
    return NULL;
}

bool batch_write_bind(Batch *batch)
{
    const Group *group = batch->group;
    const Template *template = group->template;
    uint8_t codes[2 * (PARAMS_MAX + KEY_COUNT_MAX)] = {0};
    uint16_t format;
    uint32_t count = template->sql->oid_count, k;
    for (uint32_t i = 0; i < count; i++) {
        format = FORMAT_BINARY;
        if (!array_at(template, i + 1, &k))
            group_param(group, i, &format);
        codes[2 * i] = (uint8_t)(format >> 8);
        codes[2 * i + 1] = (uint8_t)format;
    }
    WireFormats formats = {slice_of(codes, 2 * (size_t)count), (uint16_t)count};
    size_t mark = frontend_bind_begin(&batch->request, SLICE(""), SLICE(""), formats, count);
    for (uint32_t i = 0; i < count; i++) {
        const KeyPlan *plan = array_at(template, i + 1, &k);
        if (plan) {
            put_array(batch, plan, k);
            continue;
        }
        BindParam param = group_param(group, i, &format);
        if (param.is_null)
            frontend_bind_null(&batch->request);
        else
            frontend_bind_value(&batch->request, param.value);
    }
    frontend_bind_end(&batch->request, mark, group->formats);
    for (uint32_t i = 0; i < batch->slot_count && buf_len(&batch->keys) == 0; i++)
        batch->slots[i].key = (Slice){0};
    return !batch->request.failed;
}

/* ---- sending --------------------------------------------------------------------------------- */

static bool proof_is_due(Batcher *batcher)
{
    if (batcher->proof_every == 0 || --batcher->proof_due > 0)
        return false;
    batcher->proof_due = batcher->proof_every;
    return true;
}

void batch_send(Batch *batch)
{
    Prepared *sql = batch->group->template->sql;
    uint32_t count = 0;
    if (batch->held)
        batch->steps[count++] = PREFETCH_SAVEPOINT;
    batch->steps[count++] =
        (TaskStep){.op = TASK_BIND, .prepared = sql, .frame = buf_bytes(&batch->request)};
    batch->steps[count++] = (TaskStep){
        .op = TASK_DESCRIBE_PORTAL, .frame = slice_of(DESCRIBE_PORTAL, sizeof(DESCRIBE_PORTAL))};
    batch->steps[count++] =
        (TaskStep){.op = TASK_EXECUTE, .frame = slice_of(EXECUTE, sizeof(EXECUTE))};
    batch->steps[count++] = (TaskStep){.op = TASK_SYNC};
    if (batch->held)
        batch->steps[count++] = PREFETCH_UNDO;
    const TaskStep *steps = batch->steps;
    if (!batch->prefetch && proof_is_due(batch->batcher))
        batch->proof = proof_make(batch, batch->steps, count);
    if (batch->proof)
        steps = proof_steps(batch->proof, &count);
    task_init(&batch->task, &batch->sink, (TaskStep *)(uintptr_t)steps, count);
    batch->task.gucs = (GucVector *)(uintptr_t)batch->group->template->judgement->key.gucs;
    if (batch->held) {
        batch->task.holder = list_entry(batch->members.next, Member, link)->task->holder;
        batch->state = BATCH_SENT;
        backend_run(batch->held, &batch->task);
        return;
    }
    batch->task.read_only = true;
    batch->state = BATCH_SENT;
    pool_submit(batch->group->pool, &batch->task);
}

static void count_batch(Batch *batch)
{
    Batcher *batcher = batch->batcher;
    Template *template = batch->group->template;
    TemplateFigures *figures = template->figures;
    BatcherStats *stats = &batcher->stats;
    histogram_add(&stats->size, batch->member_count);
    if (figures) {
        spread_add(&figures->size, batch->member_count);
        rate_add(&figures->rate, batch->member_count, batcher->loop->now_us);
    }
    if (batch->member_count == 1) {
        counter_add(&stats->alone, 1);
        template->alone++;
        return;
    }
    counter_add(&stats->batches, 1);
    counter_add(&stats->keys, batch->slot_count);
    counter_add(&stats->members, batch->member_count);
    template->batches++;
    template->members += batch->member_count;
    template->key_values += batch->slot_count;
    template->size_max = MAX(template->size_max, batch->member_count);
}

/* The one behind it in the same client's pipeline; else who came first; NULL: nobody may leave. */
static Member *next_member(Group *group, const Member *last)
{
    Member *member = last ? member_follower(last) : NULL;
    List *link = member ? NULL : list_pop(&group->queue);
    return link ? list_entry(link, Member, link) : member;
}

static void collect(Batch *batch, uint32_t max)
{
    Batcher *batcher = batch->batcher;
    Group *group = batch->group;
    TemplateFigures *figures = group->template->figures;
    Member *member = NULL;
    while (batch->member_count < max && (member = next_member(group, member))) {
        batch->member_count++;
        group->queued--;
        member->batch = batch;
        member->state = MEMBER_BATCHED;
        list_push(&batch->members, &member->link);
        uint64_t wait_us = batcher->loop->now_us - member->added_us;
        histogram_add(&batcher->stats.wait_us, wait_us);
        if (figures)
            spread_add(&figures->wait_us, wait_us);
    }
}

/* No memory: those who wait are told (53200), and nobody waits for ever. */
static void refuse_queue(Group *group)
{
    Error err;
    List *link;
    error_set(&err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    while ((link = list_first(&group->queue))) {
        group->queued--;
        member_lose(list_entry(link, Member, link), &err, false);
    }
}

static bool is_better_prepared(const Batch *batch)
{
    const Member *first = list_entry(batch->members.next, Member, link);
    return batch->group->template->tier == BATCH_TIER_KEYS && first->task->steps[0].op == TASK_QUERY;
}

void batch_close(Batcher *batcher, Group *group)
{
    Batch *batch = batch_take(batcher);
    if (!batch) {
        refuse_queue(group);
        return;
    }
    batch->group = group;
    if (!group->template->figures) /* without memory for them there are none */
        group->template->figures = calloc(1, sizeof(TemplateFigures));
    collect(batch, MIN(MAX(tuner_batch_max(&group->template->tuner), 1), group->queued));
    batch->sent_us = batcher->loop->now_us;
    batch->slot_held = true;
    group->inflight++;
    group->batch_count++;
    batch->uncrowded = group->inflight == 1;
    batch->left_some = !list_empty(&group->queue);
    list_push(&group->batches, &batch->link);
    bool together = (batch->member_count > 1 || is_better_prepared(batch)) && group->template->state == TEMPLATE_READY &&
                    batch_slots_prepare(batch, batch->member_count);
    if (together) {
        LIST_EACH (it, &batch->members)
            slot_join(batch, list_entry(it, Member, link));
        together = batch_write_bind(batch);
    }
    count_batch(batch);
    if (together)
        batch_send(batch);
    else
        batch_run_singly(batch);
}

/* May be a batch of one, or a retry: then each is an ordinary statement, and the group goes on. */
void batch_run_singly(Batch *batch)
{
    Batcher *batcher = batch->batcher;
    if (batch->state != BATCH_COLLECTING) {
        batch->retrying = true;
        counter_add(&batcher->stats.retried, batch->member_count);
        batch->group->template->retried += batch->member_count;
        batch_release_slot(batch);
    }
    batch->state = BATCH_SINGLY;
    LIST_EACH_SAFE (it, &batch->members)
        member_run_alone(list_entry(it, Member, link));
}
