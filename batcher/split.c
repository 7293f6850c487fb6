/*
 * split.c - one answer becomes many: the sink of a batch's task.
 *
 *     from the server                 rows (first column off)      to the members, in their order
 *     2  T
 *     D | 1 | alice |     slot 0  ->  | D alice |                  client 1:  T  D alice  C  Z
 *     D | 2 | bob   |     slot 1  ->  | D bob   |                  client 2:  T  D bob    C  Z
 *     C SELECT 2  Z                                                client 3:  T  D alice  C  Z
 *
 * Nothing goes to anybody before the whole answer is here and is what we expect (rule 14): the
 * columns that the template has, no error, no notice. Otherwise it is thrown away and each member
 * runs alone, so that only the guilty one fails, with its own words.
 */
#include "batcher/batcher_internal.h"

#include <stdlib.h>

#include "batcher/without.h"
#include "wire/backend.h"
#include "wire/writer.h"

/* ---- trouble --------------------------------------------------------------------------------- */

/* The answer will not be used. The first reason stands; rows are not kept any more. */
static void refuse_answer(Batch *batch, BatchReason reason, bool blamed)
{
    if (batch->trouble)
        return;
    batch->trouble = reason;
    batch->blamed = blamed;
    buf_reset(&batch->rows);
    counter_add(&batch->batcher->stats.reasons[reason], batch->member_count);
}

/* The statement as a whole has come to look different: ask again. */
static void refuse_shape(Batch *batch)
{
    template_distrust(batch->batcher, batch->group->template, RELEARN_US, "its result changed");
    refuse_answer(batch, BATCH_RESULT_SHAPE, true);
}

static void on_error(Batch *batch, const Frame *frame)
{
    ErrorResponse response;
    Error err;
    bool known = backend_read_error(frame->body, &response, &err) == WIRE_OK;
    bool schema = known && (memcmp(response.sqlstate.data, "42", 2) == 0 ||
                            slice_is(response.sqlstate, SQLSTATE_FEATURE_NOT_SUPPORTED));
    if (schema)
        template_distrust(batch->batcher, batch->group->template, RELEARN_US, "its tables changed");
    refuse_answer(batch, BATCH_DISTRUSTED, true);
}

/* ---- description ----------------------------------------------------------------------------- */

/* The batch's columns behind the first one are the original's. Only at the first batch. */
static bool same_columns(const Template *template, Slice body)
{
    RowDescription ours, theirs;
    FieldDescription a, b;
    Error err;
    size_t at_ours = 0, at_theirs = 0;
    if (backend_read_row_description(body, &ours, &err) != WIRE_OK ||
        backend_read_row_description(slice_from(template->row_frame, 5), &theirs, &err) !=
            WIRE_OK ||
        ours.count != theirs.count + 1 || !row_description_next(&ours, &at_ours, &a))
        return false;
    while (row_description_next(&theirs, &at_theirs, &b)) {
        if (!row_description_next(&ours, &at_ours, &a) || a.type_oid != b.type_oid ||
            a.typmod != b.typmod || a.type_len != b.type_len || !slice_equal(a.name, b.name))
            return false;
    }
    return true;
}

static void on_description(Batch *batch, const Frame *frame)
{
    Group *group = batch->group;
    batch->described = true;
    if (group->expected.data) {
        if (!slice_equal(group->expected, frame->body))
            refuse_shape(batch);
        return;
    }
    uint8_t *copy = malloc(frame->body.len);
    if (!copy || !same_columns(group->template, frame->body)) {
        free(copy);
        refuse_shape(batch);
        return;
    }
    memcpy(copy, frame->body.data, frame->body.len);
    group->expected = slice_of(copy, frame->body.len);
}

/* ---- rows ------------------------------------------------------------------------------------ */

static uint32_t read_u32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* Tier A with integers: the column may be wider or narrower than the array's elements. */
static uint32_t find_integer(const Batch *batch, const KeyPlan *plan, Slice value)
{
    uint32_t width = plan->type->oid == WIRE_OID_INT2   ? 2
                     : plan->type->oid == WIRE_OID_INT4 ? 4
                                                        : 8;
    uint8_t key[12] = {0, 0, 0, (uint8_t)width};
    if (value.len != 2 && value.len != 4 && value.len != 8)
        return UINT32_MAX;
    uint8_t sign = value.data[0] & 0x80 ? 0xff : 0;
    for (uint32_t i = 0; i < width; i++) {
        size_t behind = width - i; /* this byte, counted from the end */
        key[4 + i] = behind > value.len ? sign : value.data[value.len - behind];
    }
    for (size_t i = 0; i + width < value.len; i++)
        if (value.data[i] != sign)
            return UINT32_MAX;
    return batch_find_slot(batch, slice_of(key, 4 + width));
}

/* Whose row is it? `column`: int32 length and bytes of the first column. */
static uint32_t find_slot(const Batch *batch, Slice column)
{
    const Template *template = batch->group->template;
    Slice value = slice_from(column, 4);
    if (template->tier == BATCH_TIER_ORDINAL) {
        uint32_t high = value.len == 8 ? read_u32(value.data) : 1;
        uint32_t ordinal = value.len == 8 ? read_u32(value.data + 4) : 0;
        return high == 0 && ordinal >= 1 && ordinal <= batch->slot_count ? ordinal - 1 : UINT32_MAX;
    }
    const KeyPlan *plan = &template->keys[0];
    return plan->type->integer ? find_integer(batch, plan, value) : batch_find_slot(batch, column);
}

static RowEntry *entry_add(Batch *batch)
{
    if (batch->entry_count == batch->entry_cap) {
        uint32_t cap = batch->entry_cap ? batch->entry_cap * 2 : 256;
        RowEntry *entries = realloc(batch->entries, sizeof(RowEntry) * cap);
        if (!entries)
            return NULL;
        batch->entries = entries;
        batch->entry_cap = cap;
    }
    return &batch->entries[batch->entry_count++];
}

/* Too much for a batch: stop the server, and let each member have its own, streamed. */
static void refuse_size(Batch *batch)
{
    refuse_answer(batch, BATCH_LIMIT, true);
    task_cancel(&batch->task);
}

static void keep_row(Batch *batch, uint32_t number, uint16_t columns, Slice rest)
{
    Batcher *batcher = batch->batcher;
    uint8_t header[7] = {BACKEND_DATA_ROW};
    uint32_t len = (uint32_t)(6 + rest.len);
    for (int i = 0; i < 4; i++)
        header[1 + i] = (uint8_t)(len >> (24 - 8 * i));
    header[5] = (uint8_t)(columns >> 8);
    header[6] = (uint8_t)columns;
    size_t offset = buf_len(&batch->rows);
    bool fits = without_rule(18) ||
                (offset + len + 1 <= MIN(batch->bytes_max, (uint64_t)UINT32_MAX) &&
                 batch->entry_count < batcher->rows_max);
    RowEntry *entry = fits ? entry_add(batch) : NULL;
    if (!entry) {
        refuse_size(batch);
        return;
    }
    writer_bytes(&batch->rows, slice_of(header, sizeof(header)));
    writer_bytes(&batch->rows, rest);
    if (batch->rows.failed) {
        refuse_size(batch);
        return;
    }
    *entry = (RowEntry){.offset = (uint32_t)offset, .len = len + 1};
    Slot *slot = &batch->slots[number];
    if (slot->rows++ == 0)
        slot->first = batch->entry_count;
    else
        batch->entries[slot->last - 1].next = batch->entry_count;
    slot->last = batch->entry_count;
}

static void on_row(Batch *batch, const Frame *frame)
{
    Slice body = frame->body;
    uint16_t columns = batch->group->template->column_count;
    if (batch->trouble)
        return;
    uint32_t len = body.len >= 6 ? read_u32(body.data + 2) : UINT32_MAX;
    bool good = batch->described && len <= body.len - 6 &&
                (body.data[0] << 8 | body.data[1]) == columns + 1;
    uint32_t slot = good ? find_slot(batch, slice_of(body.data + 2, 4 + (size_t)len)) : UINT32_MAX;
    if (slot == UINT32_MAX)
        refuse_shape(batch);
    else
        keep_row(batch, slot, columns, slice_from(body, 6 + (size_t)len));
}

static void split_on_frame(Sink *sink, Task *task, const Frame *frame)
{
    (void)task;
    Batch *batch = container_of(sink, Batch, sink);
    if (batch->proof && batch->proven) {
        proof_on_frame(batch->proof, batch, frame);
        return;
    }
    switch (frame->type) {
    case BACKEND_BIND_COMPLETE:
        break;
    case BACKEND_ROW_DESCRIPTION:
        on_description(batch, frame);
        break;
    case BACKEND_DATA_ROW:
        on_row(batch, frame);
        break;
    case BACKEND_COMMAND_COMPLETE:
        batch->completed = true;
        break;
    case BACKEND_ERROR:
        on_error(batch, frame);
        break;
    case BACKEND_NOTIFICATION:
        break; /* nobody listens on a shared connection */
    case BACKEND_NOTICE:
    case BACKEND_PARAMETER_STATUS: /* whose is it? (rule 17) */
        if (without_rule(17))
            break;
        template_distrust(batch->batcher, batch->group->template, DISTRUST_US,
                          "a notice or parameter change came that belongs to nobody");
        refuse_answer(batch, BATCH_DISTRUSTED, false);
        break;
    default:
        refuse_shape(batch);
        break;
    }
}

/* ---- dealing out ----------------------------------------------------------------------------- */

static const char PARSE_COMPLETE[] = {'1', 0, 0, 0, 4};
static const char BIND_COMPLETE[] = {'2', 0, 0, 0, 4};
static const char CLOSE_COMPLETE[] = {'3', 0, 0, 0, 4};

static void emit_whole(Member *member, const char *bytes, size_t len)
{
    member_emit(member, (uint8_t)bytes[0], slice_of(bytes, len));
}

/* "SELECT <rows>", written from its end; printf would cost more than all the rest. */
static void emit_tag(Member *member, uint32_t rows)
{
    static const char head[] = {BACKEND_COMMAND_COMPLETE, 0, 0, 0, 0, 'S', 'E', 'L', 'E', 'C', 'T', ' '};
    char tag[sizeof(head) + 11], digits[10];
    size_t count = 0, len = sizeof(head);
    do
        digits[count++] = (char)('0' + rows % 10);
    while ((rows /= 10) != 0);
    memcpy(tag, head, sizeof(head));
    while (count > 0)
        tag[len++] = digits[--count];
    tag[len++] = '\0';
    tag[4] = (char)(len - 1);
    emit_whole(member, tag, len);
}

static void emit_rows(Member *member, const Batch *batch)
{
    const Slot *slot = &batch->slots[member->slot];
    const uint8_t *rows = buf_bytes(&batch->rows).data;
    for (uint32_t number = slot->first; number && member->task;) {
        const RowEntry *entry = &batch->entries[number - 1];
        member_emit(member, BACKEND_DATA_ROW, slice_of(rows + entry->offset, entry->len));
        number = entry->next;
    }
    emit_tag(member, without_rule(13) ? batch->entry_count : slot->rows);
    if (without_rule(20))
        ((Slot *)(uintptr_t)slot)->first = ((Slot *)(uintptr_t)slot)->rows = 0;
}

/* What PostgreSQL would have answered to this step of the member. */
static void emit_step(Member *member, const Batch *batch, const TaskStep *step)
{
    const Group *group = batch->group;
    const Template *template = group->template;
    switch (step->op) {
    case TASK_QUERY:
        member_emit(member, BACKEND_ROW_DESCRIPTION, group->portal_frame);
        emit_rows(member, batch);
        break;
    case TASK_PARSE:
        emit_whole(member, PARSE_COMPLETE, sizeof(PARSE_COMPLETE));
        break;
    case TASK_BIND:
        emit_whole(member, BIND_COMPLETE, sizeof(BIND_COMPLETE));
        break;
    case TASK_DESCRIBE_STATEMENT:
        member_emit(member, BACKEND_PARAMETER_DESCRIPTION, template->parameter_frame);
        member_emit(member, BACKEND_ROW_DESCRIPTION, template->row_frame);
        break;
    case TASK_DESCRIBE_PORTAL:
        member_emit(member, BACKEND_ROW_DESCRIPTION, group->portal_frame);
        break;
    case TASK_EXECUTE:
        emit_rows(member, batch);
        break;
    case TASK_CLOSE_STATEMENT:
    case TASK_CLOSE_PORTAL:
        emit_whole(member, CLOSE_COMPLETE, sizeof(CLOSE_COMPLETE));
        break;
    default:
        break;
    }
}

void split_deal(Member *member, const Batch *batch)
{
    Task *task = member->task;
    task->sent = true;
    task->sent_us = MAX(batch->sent_us, member->added_us); /* it may have been fetched before */
    const TaskStep *steps = task->steps;
    uint32_t count = task->step_count;
    for (uint32_t i = 0; i < count && member->task; i++)
        if (!steps[i].hidden)
            emit_step(member, batch, &steps[i]);
    member_finish(member, batch->held ? TX_BLOCK : TX_IDLE);
}

/* The slot is free before anybody hears: what they send next may travel at this turn's end. */
static void split(Batch *batch)
{
    Batcher *batcher = batch->batcher;
    batch->state = BATCH_SPLITTING;
    batch_observe(batch);
    counter_add(&batcher->stats.statements, batch->member_count);
    batch->group->template->statements += batch->member_count;
    batch_release_slot(batch);
    List *link;
    while ((link = list_pop(&batch->members)))
        split_deal(list_entry(link, Member, link), batch);
    batch_end(batch);
}

/* What rule 14 forbids: one member's error for all of them. */
static void fail_all(Batch *batch)
{
    Error err;
    error_set(&err, SQLSTATE_CONNECTION_FAILURE, "the batch failed");
    batch->state = BATCH_SPLITTING;
    List *link;
    while ((link = list_pop(&batch->members)))
        member_lose(list_entry(link, Member, link), &err, false);
    batch_end(batch);
}

static void split_on_ready(Sink *sink, Task *task, char tx_status, bool last)
{
    (void)task;
    Batch *batch = container_of(sink, Batch, sink);
    if (batch->proof && !last) { /* the batch's own, or an original's */
        batch->proven = true;
        proof_next(batch->proof, batch);
        return;
    }
    if (!last)
        return; /* what is said behind it, inside a transaction, is still to come */
    char expected = batch->held ? TX_BLOCK : TX_IDLE;
    if (!batch->trouble && (!batch->described || !batch->completed || tx_status != expected))
        refuse_shape(batch);
    if (!batch->trouble && batch->proof && !proof_holds(batch->proof, batch)) {
        refuse_answer(batch, BATCH_MISMATCH, false);
        template_disprove(batch->group->template);
    }
    if (batch->trouble && without_rule(14))
        fail_all(batch);
    else if (batch->trouble && batch->held)
        prefetch_refused(batch);
    else if (batch->trouble)
        batch_run_singly(batch);
    else
        split(batch);
}

/* Reads only, and nobody has heard anything: each may try again by itself (P10). When no connection
 * could be had at all, that is the answer for everybody. */
static void split_on_lost(Sink *sink, Task *task, const Error *err, bool maybe_executed)
{
    (void)task;
    Batch *batch = container_of(sink, Batch, sink);
    if (maybe_executed && !batch->held && !without_rule(19)) {
        batch_run_singly(batch);
        return;
    }
    batch->state = BATCH_SPLITTING;
    List *link;
    while ((link = list_pop(&batch->members)))
        member_lose(list_entry(link, Member, link), err, maybe_executed);
    batch_end(batch);
}

const SinkOps SPLIT_OPS = {split_on_frame, split_on_ready, split_on_lost};
