/*
 * prefetch.c - why so little: a batch already holds its rows by key. This file adds keys that nobody has
 * asked for yet, and keeps the batch after it has answered, for those who ask next.
 *
 *     client's task ── Member ──┐
 *     guessed keys ─────────────┼─> Batch ──> PostgreSQL ──> split.c: the member's rows
 *                               │                └─ Batch stays, `prefetch` owns it
 *     next task ─── Member, SERVED ── slot of its key ──> split_deal, at the end of the turn
 *
 * Inside a transaction one write carries all of
 *
 *     Q SAVEPOINT   B D E S   Q ROLLBACK TO; RELEASE
 *
 * The batch only reads, so that rolling it back is right after success as well: there is no branch, and
 * no error of a guessed key can fail the client's transaction.
 */
#include "batcher/prefetch.h"

#include <stdlib.h>

#include "batcher/batcher_internal.h"
#include "wire/value.h"

struct Prefetch {
    Batcher *batcher;
    Batch *batch; /* NULL when OVER */
    int state; /* PrefetchState */
    bool dropped; /* while WAITING: freed with the batch */
    uint32_t keys;
    uint64_t asked_us;
    Timer wait;
    void (*on_refused)(Task *task);
};

/* Whole Query messages. */
static const char SAVEPOINT[] = "Q\0\0\0\x1dSAVEPOINT \"_shoal_ahead\"";
static const char UNDO[] =
    "Q\0\0\0\x4bROLLBACK TO SAVEPOINT \"_shoal_ahead\"; RELEASE SAVEPOINT \"_shoal_ahead\"";

const TaskStep PREFETCH_SAVEPOINT = {
    .op = TASK_QUERY, .hidden = true, .frame = {(const uint8_t *)SAVEPOINT, sizeof SAVEPOINT}};
const TaskStep PREFETCH_UNDO = {
    .op = TASK_QUERY, .hidden = true, .frame = {(const uint8_t *)UNDO, sizeof UNDO}};

/* ---- guessed keys ---------------------------------------------------------------------------- */

static bool decode_integer(const KeyPlan *plan, int64_t number, Arena *scratch, Slice *ret)
{
    size_t width = plan->type->oid == WIRE_OID_INT2 ? 2 : plan->type->oid == WIRE_OID_INT4 ? 4 : 8;
    unsigned unused = (unsigned)(64 - 8 * width);
    uint8_t *bytes = arena_alloc(scratch, width);
    if (!bytes || (int64_t)((uint64_t)number << unused) >> unused != number)
        return false;
    for (size_t i = 0; i < width; i++)
        bytes[i] = (uint8_t)((uint64_t)number >> (8 * (width - 1 - i)));
    *ret = slice_of(bytes, width);
    return true;
}

/* As an element of the key's type. False: the loop cannot ask for it by this statement. */
static bool decode(const KeyPlan *plan, const PrefetchValue *value, Arena *scratch, Slice *ret)
{
    int64_t number;
    if (value->bytes.len > KEY_BYTES_MAX)
        return false;
    if (value->format == FORMAT_BINARY && plan->type->integer)
        return value_integer(value->bytes, &number) && decode_integer(plan, number, scratch, ret);
    return value_canonical(plan->type->oid, value->format, value->bytes, scratch, ret) == VALUE_OK;
}

static bool find_key(const Template *template, const PrefetchLink *link, uint32_t *ret_key)
{
    for (uint32_t k = 0; k < template->key_count; k++) {
        const ShapeEqual *equal = &template->judgement->key.shape->equals[template->keys[k].equal];
        if (equal->value.kind == link->kind && equal->value.index == link->index) {
            *ret_key = k;
            return true;
        }
    }
    return false;
}

static bool key_bytes(Batcher *batcher, const Slice *values, uint32_t count, Slice *ret)
{
    size_t len = 0;
    for (uint32_t k = 0; k < count; k++)
        len += 4 + values[k].len;
    uint8_t *bytes = arena_alloc(&batcher->scratch, len);
    if (!bytes)
        return false;
    batcher_put_keys(bytes, values, count);
    *ret = slice_of(bytes, len);
    return true;
}

/* A slot for each row whose values the key's types can hold. */
static void join_guesses(Batch *batch, const PrefetchInput *in, const uint32_t *at, Slice *values)
{
    Batcher *batcher = batch->batcher;
    const Template *template = batch->group->template;
    Slice key;
    for (uint32_t row = 0; row < in->row_count; row++) {
        bool good = true;
        for (uint32_t l = 0; l < in->link_count && good; l++)
            good = decode(&template->keys[at[l]], &in->values[row * in->link_count + l],
                          &batcher->scratch, &values[at[l]]);
        if (good && key_bytes(batcher, values, template->key_count, &key))
            batch_slot_join(batch, key);
    }
}

/* The slots' keys in memory of the batch's own, where the next statements are looked up. */
static bool keep_keys(Batch *batch)
{
    size_t len = 0;
    for (uint32_t i = 0; i < batch->slot_count; i++)
        len += batch->slots[i].key.len;
    uint8_t *at = buf_reserve(&batch->keys, len);
    if (!at)
        return false;
    for (uint32_t i = 0; i < batch->slot_count; i++) {
        Slice *key = &batch->slots[i].key;
        memcpy(at, key->data, key->len);
        key->data = at;
        at += key->len;
    }
    buf_commit(&batch->keys, len);
    return true;
}

/* ---- asking ahead ---------------------------------------------------------------------------- */

/* Longer than a statement may be held up by a guess. */
static void on_wait_over(Timer *timer)
{
    Prefetch *prefetch = timer->ctx;
    Batch *batch = prefetch->batch;
    if (prefetch->state != PREFETCH_WAITING || !batch || batch->state != BATCH_SENT)
        return;
    if (batch->held) {
        task_cancel(&batch->task); /* its error brings prefetch_refused */
        return;
    }
    task_abandon(&batch->task);
    batch_run_singly(batch);
}

static Prefetch *prefetch_create(Batcher *batcher, Batch *batch, const PrefetchInput *in)
{
    Prefetch *prefetch = calloc(1, sizeof *prefetch);
    if (!prefetch)
        return NULL;
    *prefetch = (Prefetch){.batcher = batcher,
                           .batch = batch,
                           .keys = batch->slot_count - 1,
                           .asked_us = batcher->loop->now_us,
                           .on_refused = in->on_refused};
    timer_init(&prefetch->wait, batcher->loop, on_wait_over, prefetch);
    timer_start_ms(&prefetch->wait, in->wait_ms);
    return prefetch;
}

/* The Bind with the client's key and the guessed ones. */
static BatchReason write_keys(Batch *batch, const PrefetchInput *in, Member *member)
{
    Batcher *batcher = batch->batcher;
    const Template *template = batch->group->template;
    Slice values[KEY_COUNT_MAX];
    uint32_t at[PREFETCH_LINKS_MAX];
    size_t len;
    for (uint32_t l = 0; l < in->link_count; l++)
        if (!find_key(template, &in->links[l], &at[l]))
            return BATCH_NO_KEY;
    BatchReason reason = batcher_read_keys(batcher, template, in->candidate, values, &len);
    if (reason)
        return reason;
    if (!member_take_keys(member, values, template->key_count, len) ||
        !batch_slots_prepare(batch, in->row_count + 1))
        return BATCH_LIMIT;
    member->slot = batch_slot_join(batch, member->key);
    join_guesses(batch, in, at, values);
    if (batch->slot_count < 2)
        return BATCH_KEY_VALUE;
    return keep_keys(batch) && batch_write_bind(batch) ? BATCH_OK : BATCH_LIMIT;
}

static void send(Batch *batch, Member *member, Task *task)
{
    Group *group = batch->group;
    member_adopt(member, task);
    member->batch = batch;
    member->state = MEMBER_BATCHED;
    list_push(&batch->members, &member->link);
    batch->member_count = 1;
    batch->sent_us = batch->batcher->loop->now_us;
    group->batch_count++;
    list_push(&group->batches, &batch->link);
    counter_add(&batch->batcher->stats.ahead, 1);
    counter_add(&batch->batcher->stats.ahead_keys, batch->slot_count - 1);
    batch_send(batch);
}

Prefetch *prefetch_start(Batcher *batcher, const PrefetchInput *in, Task *task,
                         BatchReason *ret_reason)
{
    Group *group = NULL;
    Judgement *judgement;
    *ret_reason = batcher_find_group(batcher, in->candidate, task, &judgement, &group);
    if (*ret_reason)
        return NULL;
    *ret_reason = BATCH_LIMIT;
    Batch *batch = batch_take(batcher);
    Member *member = batch ? member_create(batcher, group, NULL) : NULL;
    Prefetch *prefetch = NULL;
    if (member) {
        batch->group = group;
        batch->held = in->held;
        batch->bytes_max = MIN(batcher->bytes_max, in->bytes_max);
        *ret_reason = write_keys(batch, in, member);
        if (*ret_reason == BATCH_OK)
            prefetch = prefetch_create(batcher, batch, in);
    }
    if (!prefetch) {
        member_free(batcher, member);
        if (batch)
            batch_free(batcher, batch);
        return NULL;
    }
    group->pool = in->candidate->pool;
    batch->prefetch = prefetch;
    send(batch, member, task);
    return prefetch;
}

/* ---- the end of the batch -------------------------------------------------------------------- */

bool prefetch_keep(Batch *batch)
{
    Prefetch *prefetch = batch->prefetch;
    bool good = batch->state == BATCH_SPLITTING && !batch->trouble && batch->completed;
    timer_stop(&prefetch->wait);
    if (good && !prefetch->dropped) {
        batch->state = BATCH_DONE;
        list_remove(&batch->link); /* counted in its group still: that must stay, too */
        prefetch->state = PREFETCH_READY;
        return true;
    }
    batch->prefetch = NULL;
    prefetch->batch = NULL;
    prefetch->state = PREFETCH_OVER;
    if (prefetch->dropped)
        free(prefetch);
    return false;
}

void prefetch_refused(Batch *batch)
{
    void (*on_refused)(Task *task) = batch->prefetch->on_refused;
    Member *member = list_entry(list_pop(&batch->members), Member, link);
    Task *task = member->task;
    batch->state = BATCH_SINGLY;
    batch->member_count--;
    member_forget(member);
    batch_end(batch);
    if (task)
        on_refused(task);
}

/* ---- answering ------------------------------------------------------------------------------- */

static bool find_kept(Prefetch *prefetch, const BatchCandidate *candidate, const Task *task,
                      uint32_t *ret_slot)
{
    Batcher *batcher = prefetch->batcher;
    Slice values[KEY_COUNT_MAX], key;
    Group *group = NULL;
    Judgement *judgement;
    size_t len;
    if (prefetch->state != PREFETCH_READY ||
        batcher_find_group(batcher, candidate, task, &judgement, &group) || group != prefetch->batch->group ||
        batcher_read_keys(batcher, group->template, candidate, values, &len) ||
        !key_bytes(batcher, values, group->template->key_count, &key))
        return false;
    *ret_slot = batch_find_slot(prefetch->batch, key);
    return *ret_slot != UINT32_MAX;
}

bool prefetch_answer(Prefetch *prefetch, const BatchCandidate *candidate, Task *task)
{
    Batcher *batcher = prefetch->batcher;
    uint32_t slot;
    if (!find_kept(prefetch, candidate, task, &slot))
        return false;
    Member *member = member_create(batcher, prefetch->batch->group, NULL);
    if (!member)
        return false;
    member_adopt(member, task);
    member->batch = prefetch->batch;
    member->slot = slot;
    member->state = MEMBER_SERVED;
    list_push(&batcher->served, &member->link);
    counter_add(&batcher->stats.ahead_hits, 1);
    if (batcher->loop->in_hooks)
        loop_again(batcher->loop);
    return true;
}

void prefetch_deal(Batcher *batcher)
{
    List *link;
    while ((link = list_pop(&batcher->served))) {
        Member *member = list_entry(link, Member, link);
        split_deal(member, member->batch);
    }
}

/* ---- owner's --------------------------------------------------------------------------------- */

/* The batch is freed at the end of the turn: some member may still be dealt from it. */
void prefetch_drop(Prefetch *prefetch)
{
    if (!prefetch)
        return;
    if (prefetch->state == PREFETCH_WAITING) {
        prefetch->dropped = true;
        return;
    }
    Batch *batch = prefetch->batch;
    if (batch) {
        Group *group = batch->group;
        batch->prefetch = NULL;
        list_push(&prefetch->batcher->gone_batches, &batch->link);
        group->batch_count--;
        group_free_if_done(prefetch->batcher, group);
    }
    free(prefetch);
}

PrefetchState prefetch_state(const Prefetch *prefetch)
{
    return (PrefetchState) prefetch->state;
}

uint64_t prefetch_asked_us(const Prefetch *prefetch)
{
    return prefetch->asked_us;
}

uint32_t prefetch_keys(const Prefetch *prefetch)
{
    return prefetch->keys;
}

size_t prefetch_bytes(const Prefetch *prefetch)
{
    const Batch *batch = prefetch->batch;
    return sizeof *prefetch +
           (batch ? sizeof *batch + batch->rows.cap + batch->request.cap + batch->keys.cap +
                        sizeof(RowEntry) * batch->entry_cap + sizeof(Slot) * batch->slot_cap +
                        sizeof(uint32_t) * batch->table_size
                  : 0);
}
