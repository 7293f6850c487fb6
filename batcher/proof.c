/*
 * proof.c - one in so many batches is run together with its originals, and compared byte for byte.
 *
 *     BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY
 *     the batch              its rows are kept by key, as always
 *     the original of key 1  ┐
 *     the original of key 2  ├ each row is held against what the batch had for that key
 *     ...                    ┘
 *     COMMIT                 now the members are answered
 *
 * One snapshot, so any difference is the batcher's fault. The members then run alone, the template is
 * not batched any more, and a counter and the log say so. Without ORDER BY rows may come in any order.
 */
#include "batcher/batcher_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/log.h"
#include "wire/backend.h"
#include "wire/frontend.h"

typedef struct ProofSlot {
    const Member *member; /* whose original stands for this key; NULL: nobody's */
    uint32_t step, step_count;
} ProofSlot;

struct Proof {
    TaskStep *steps; /* owned */
    uint32_t step_count;
    ProofSlot *slots; /* owned; as many as the batch has */
    Buf begin, commit;
    uint32_t current;    /* slot whose original is answered; 0 is the batch itself, then slot + 1 */
    uint32_t next;       /* entry + 1 that must come next */
    uint32_t rows;       /* of the original, so far */
    uint64_t ours, theirs; /* sums of the rows' hashes */
    bool ordered;        /* rows came in the batch's order */
    bool differs, unsure;
    char what[64];
};

void proof_free(Proof *proof)
{
    if (!proof)
        return;
    buf_finish(&proof->begin);
    buf_finish(&proof->commit);
    free(proof->steps);
    free(proof->slots);
    free(proof);
}

/* ---- making ---------------------------------------------------------------------------------- */

static bool put_queries(Proof *proof)
{
    buf_init(&proof->begin, 256);
    buf_init(&proof->commit, 256);
    frontend_put_query(&proof->begin, SLICE("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"));
    frontend_put_query(&proof->commit, SLICE("COMMIT"));
    return !proof->begin.failed && !proof->commit.failed;
}

static void put_originals(Proof *proof, const Batch *batch)
{
    LIST_EACH (it, &batch->members) {
        const Member *member = list_entry(it, Member, link);
        ProofSlot *slot = &proof->slots[member->slot];
        if (slot->member)
            continue;
        *slot = (ProofSlot){.member = member};
    }
    for (uint32_t i = 0; i < batch->slot_count; i++) {
        ProofSlot *slot = &proof->slots[i];
        const Task *task = slot->member->task;
        slot->step = proof->step_count;
        slot->step_count = task->step_count;
        memcpy(proof->steps + slot->step, task->steps, sizeof(TaskStep) * task->step_count);
        proof->step_count += task->step_count;
    }
}

Proof *proof_make(const Batch *batch, const TaskStep *steps, uint32_t count)
{
    Proof *proof = calloc(1, sizeof(*proof));
    size_t room = count + 2;
    LIST_EACH (it, &batch->members)
        room += list_entry(it, Member, link)->task->step_count;
    if (proof) {
        proof->steps = calloc(room, sizeof(TaskStep));
        proof->slots = calloc(batch->slot_count, sizeof(ProofSlot));
    }
    if (!proof || !put_queries(proof) || !proof->steps || !proof->slots) {
        proof_free(proof);
        return NULL;
    }
    proof->steps[proof->step_count++] =
        (TaskStep){.op = TASK_QUERY, .frame = buf_bytes(&proof->begin), .hidden = true};
    memcpy(proof->steps + proof->step_count, steps, sizeof(TaskStep) * count);
    proof->step_count += count;
    put_originals(proof, batch);
    proof->steps[proof->step_count++] =
        (TaskStep){.op = TASK_QUERY, .frame = buf_bytes(&proof->commit), .hidden = true};
    return proof;
}

const TaskStep *proof_steps(const Proof *proof, uint32_t *ret_count)
{
    *ret_count = proof->step_count;
    return proof->steps;
}

/* Its messages go with it: what has not been written must not be read any more. */
void proof_forget(Proof *proof, const Batch *batch, const Member *member)
{
    ProofSlot *slot = &proof->slots[member->slot];
    if (slot->member != member || batch->task.sent_us != 0)
        return;
    for (uint32_t i = 0; i < slot->step_count; i++)
        proof->steps[slot->step + i] = (TaskStep){.op = TASK_FLUSH};
    slot->member = NULL;
}

/* ---- comparing ------------------------------------------------------------------------------- */

static void differ(Proof *proof, const char *what)
{
    if (!proof->differs)
        snprintf(proof->what, sizeof(proof->what), "%s", what);
    proof->differs = true;
}

static void begin_slot(Proof *proof, const Batch *batch)
{
    while (proof->current <= batch->slot_count && !proof->slots[proof->current - 1].member)
        proof->current++;
    proof->rows = 0;
    proof->ours = proof->theirs = 0;
    proof->ordered = true;
    proof->next = proof->current <= batch->slot_count ? batch->slots[proof->current - 1].first : 0;
}

void proof_next(Proof *proof, const Batch *batch)
{
    proof->current++;
    begin_slot(proof, batch);
}

static void on_row(Proof *proof, const Batch *batch, const Frame *frame)
{
    proof->rows++;
    proof->theirs += slice_hash(frame->whole, 1);
    if (!proof->next)
        return;
    const RowEntry *entry = &batch->entries[proof->next - 1];
    Slice row = slice_of(buf_bytes(&batch->rows).data + entry->offset, entry->len);
    proof->ours += slice_hash(row, 1);
    proof->ordered &= slice_equal(row, frame->whole);
    proof->next = entry->next;
}

static void on_complete(Proof *proof, const Batch *batch)
{
    bool ordered = batch->group->template->judgement->key.shape->traits & SHAPE_HAS_ORDER;
    if (proof->rows != batch->slots[proof->current - 1].rows)
        differ(proof, "the number of rows");
    else if (proof->ours != proof->theirs)
        differ(proof, "a row");
    else if (ordered && !proof->ordered)
        differ(proof, "the order of rows");
}

/* An original that fails where its batch did not: unless the server or a limit stopped it. */
static void on_error(Proof *proof, const Frame *frame)
{
    static const char *const OTHERS[] = {"08", "25", "40", "53", "55", "57", "58", "XX"};
    ErrorResponse response;
    Error err;
    bool other = backend_read_error(frame->body, &response, &err) != WIRE_OK;
    for (size_t i = 0; i < ARRAY_LEN(OTHERS) && !other; i++)
        other = memcmp(response.sqlstate.data, OTHERS[i], 2) == 0;
    proof->unsure |= other;
    if (!other)
        differ(proof, "an error");
}

void proof_on_frame(Proof *proof, const Batch *batch, const Frame *frame)
{
    const Group *group = batch->group;
    if (proof->unsure || batch->trouble || proof->current > batch->slot_count)
        return;
    switch (frame->type) {
    case BACKEND_ROW_DESCRIPTION:
        if (!slice_equal(frame->whole, group->portal_frame) &&
            !slice_equal(frame->whole, group->template->row_frame))
            differ(proof, "the description of rows");
        break;
    case BACKEND_DATA_ROW:
        on_row(proof, batch, frame);
        break;
    case BACKEND_COMMAND_COMPLETE:
        on_complete(proof, batch);
        break;
    case BACKEND_ERROR:
        on_error(proof, frame);
        break;
    default:
        break;
    }
}

bool proof_holds(const Proof *proof, Batch *batch)
{
    Batcher *batcher = batch->batcher;
    Template *template = batch->group->template;
    if (proof->unsure)
        return true;
    counter_add(&batcher->stats.proofs, 1);
    template->proofs++;
    if (!proof->differs)
        return true;
    counter_add(&batcher->stats.mismatches, 1);
    template->disproved = true;
    log_line(LOG_ERROR, "batcher",
             "a batch and its originals differ in %s; not batched any more: %.*s", proof->what,
             SLICE_FMT(template->judgement->key.shape->template_text));
    return false;
}
