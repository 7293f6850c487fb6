/*
 * expect.c - a ring of expectations and the grammar of their answers.
 *
 *     ring   [ ][P][B][E][S][ ][ ][ ]
 *               ^head      ^head + count
 *
 * expect_match is the whole grammar of a server's side: one small function per kind of step, each a
 * switch over the message's letter. What is not in a switch is refused.
 */
#include "backend/expect.h"

#include <stdlib.h>

#include "wire/protocol.h"

#define EXPECT_RING_MIN 16u

static Expect *expect_at(const ExpectQueue *queue, uint32_t i);
static bool expect_grow(ExpectQueue *queue);
static Expect expect_pop(ExpectQueue *queue);
static void expect_drop_markers(ExpectQueue *queue);
static bool owes_ready(const Expect *expect);
static ExpectVerdict match_describe(ExpectQueue *queue, uint8_t type, int columns);
static ExpectVerdict match_execute(ExpectQueue *queue, uint8_t type, int columns);
static ExpectVerdict match_query(ExpectQueue *queue, uint8_t type, int columns);
static ExpectVerdict match_copy(ExpectQueue *queue, uint8_t type);
static ExpectVerdict match_error(ExpectQueue *queue, Expect *ret);
static void swallow_syncs(ExpectQueue *queue);
static void forget_copy_end(ExpectQueue *queue);
static void expect_take_out(ExpectQueue *queue, uint32_t at);
static ExpectVerdict answered_if(bool right);
static ExpectVerdict go_on(ExpectQueue *queue, ExpectPhase phase);

void expect_init(ExpectQueue *queue)
{
    *queue = (ExpectQueue){.columns = -1, .described = -1};
}

void expect_finish(ExpectQueue *queue)
{
    free(queue->ring);
    expect_init(queue);
}

bool expect_push(ExpectQueue *queue, Expect expect)
{
    assert(!expect_would_skip(queue, expect.kind));
    if (queue->count == queue->size && !expect_grow(queue))
        return false;
    if (expect.kind == EXPECT_SYNC)
        queue->skipping = false;
    queue->readies += owes_ready(&expect);
    queue->count++;
    *expect_at(queue, queue->count - 1) = expect;
    return true;
}

const Expect *expect_head(ExpectQueue *queue)
{
    expect_drop_markers(queue);
    return queue->count ? expect_at(queue, 0) : NULL;
}

/* ---- matching ------------------------------------------------------------------------------- */

ExpectVerdict expect_match(ExpectQueue *queue, uint8_t type, int columns, Expect *ret)
{
    const Expect *head = expect_head(queue);
    if (!head)
        return EXPECT_REFUSED;
    *ret = *head;
    if (type == BACKEND_ERROR)
        return match_error(queue, ret);
    ExpectVerdict verdict = EXPECT_REFUSED;
    switch ((ExpectKind)head->kind) {
    case EXPECT_PARSE:
        verdict = answered_if(type == BACKEND_PARSE_COMPLETE);
        break;
    case EXPECT_BIND:
        verdict = answered_if(type == BACKEND_BIND_COMPLETE);
        break;
    case EXPECT_CLOSE:
        verdict = answered_if(type == BACKEND_CLOSE_COMPLETE);
        break;
    case EXPECT_DESCRIBE_STATEMENT:
    case EXPECT_DESCRIBE_PORTAL:
        verdict = match_describe(queue, type, columns);
        break;
    case EXPECT_EXECUTE:
        verdict = match_execute(queue, type, columns);
        break;
    case EXPECT_QUERY:
        verdict = match_query(queue, type, columns);
        break;
    case EXPECT_FUNCTION:
        if (type == BACKEND_FUNCTION_RESULT && queue->phase == PHASE_START)
            verdict = go_on(queue, PHASE_RESULT);
        else if (type == BACKEND_READY && queue->phase != PHASE_START)
            verdict = EXPECT_READY;
        break;
    case EXPECT_SYNC:
        if (type == BACKEND_READY)
            verdict = EXPECT_READY;
        break;
    case EXPECT_SYNTHETIC: /* to be taken out before anything is matched */
    case EXPECT_COPY_END:
        break;
    }
    if (verdict == EXPECT_ANSWERED || verdict == EXPECT_READY)
        (void)expect_pop(queue);
    return verdict;
}

static ExpectVerdict match_describe(ExpectQueue *queue, uint8_t type, int columns)
{
    bool of_portal = expect_at(queue, 0)->kind == EXPECT_DESCRIBE_PORTAL;
    if (!of_portal && queue->phase == PHASE_START)
        return type == BACKEND_PARAMETER_DESCRIPTION ? go_on(queue, PHASE_TYPES) : EXPECT_REFUSED;
    if (of_portal)
        queue->described = type == BACKEND_NO_DATA ? 0 : columns;
    return answered_if(type == BACKEND_ROW_DESCRIPTION || type == BACKEND_NO_DATA);
}

static ExpectVerdict match_execute(ExpectQueue *queue, uint8_t type, int columns)
{
    switch (queue->phase) {
    case PHASE_START:
        queue->columns = expect_at(queue, 0)->described ? queue->described : -1;
        break;
    case PHASE_ROWS:
        break;
    default:
        return type == BACKEND_COMMAND_COMPLETE && queue->phase != PHASE_COPY_OUT
                   ? EXPECT_ANSWERED
                   : match_copy(queue, type);
    }
    switch (type) {
    case BACKEND_DATA_ROW:
        if (queue->columns < 0)
            queue->columns = columns;
        return queue->columns == columns ? go_on(queue, PHASE_ROWS) : EXPECT_REFUSED;
    case BACKEND_COMMAND_COMPLETE:
    case BACKEND_PORTAL_SUSPENDED:
        return EXPECT_ANSWERED;
    case BACKEND_EMPTY_QUERY:
        return answered_if(queue->phase == PHASE_START);
    default:
        return queue->phase == PHASE_START ? match_copy(queue, type) : EXPECT_REFUSED;
    }
}

static ExpectVerdict match_query(ExpectQueue *queue, uint8_t type, int columns)
{
    switch (queue->phase) {
    case PHASE_ROWS:
        if (type == BACKEND_DATA_ROW && columns == queue->columns)
            return EXPECT_GOES_ON;
        return type == BACKEND_COMMAND_COMPLETE ? go_on(queue, PHASE_RESULT) : EXPECT_REFUSED;
    case PHASE_COPY_IN:
    case PHASE_COPY_DONE:
        if (type == BACKEND_COMMAND_COMPLETE)
            return go_on(queue, PHASE_RESULT);
        return match_copy(queue, type);
    case PHASE_COPY_OUT:
        return match_copy(queue, type);
    case PHASE_FAILED:
        return type == BACKEND_READY ? EXPECT_READY : EXPECT_REFUSED;
    case PHASE_START:
    case PHASE_TYPES:
    case PHASE_RESULT:
        break;
    }
    switch (type) {
    case BACKEND_ROW_DESCRIPTION:
        queue->columns = columns;
        return go_on(queue, PHASE_ROWS);
    case BACKEND_COMMAND_COMPLETE:
    case BACKEND_EMPTY_QUERY:
        return go_on(queue, PHASE_RESULT);
    case BACKEND_READY:
        return queue->phase == PHASE_RESULT ? EXPECT_READY : EXPECT_REFUSED;
    default:
        return match_copy(queue, type);
    }
}

static ExpectVerdict match_copy(ExpectQueue *queue, uint8_t type)
{
    bool begins = queue->phase == PHASE_START || queue->phase == PHASE_RESULT;
    if (type == BACKEND_COPY_IN && begins) {
        if (queue->phase == PHASE_RESULT)
            forget_copy_end(queue);
        swallow_syncs(queue);
        return go_on(queue, PHASE_COPY_IN);
    }
    if (type == BACKEND_COPY_OUT && begins)
        return go_on(queue, PHASE_COPY_OUT);
    if (type == BACKEND_COPY_DATA && queue->phase == PHASE_COPY_OUT)
        return EXPECT_GOES_ON;
    if (type == BACKEND_COPY_DONE && queue->phase == PHASE_COPY_OUT)
        return go_on(queue, PHASE_COPY_DONE);
    return EXPECT_REFUSED;
}

/* Syncs that were sent with the COPY, before its end, are read by the server as part of it; also those
 * behind an answer of our own, for which nothing was sent. */
static void swallow_syncs(ExpectQueue *queue)
{
    queue->swallowed = 0;
    for (uint32_t at = 1; at < queue->count;) {
        ExpectKind kind = (ExpectKind)expect_at(queue, at)->kind;
        if (kind == EXPECT_SYNTHETIC) {
            at++;
        } else if (kind == EXPECT_SYNC) {
            expect_take_out(queue, at);
            queue->readies--;
            queue->swallowed++;
        } else {
            return;
        }
    }
}

/* The end of an earlier COPY of the same Query says nothing about the one that begins. */
static void forget_copy_end(ExpectQueue *queue)
{
    if (queue->count > 1 && expect_at(queue, 1)->kind == EXPECT_COPY_END)
        expect_take_out(queue, 1);
}

/* What stands before it takes its place. */
static void expect_take_out(ExpectQueue *queue, uint32_t at)
{
    for (uint32_t i = at; i > 0; i--)
        *expect_at(queue, i) = *expect_at(queue, i - 1);
    queue->head = (queue->head + 1) & (queue->size - 1);
    queue->count--;
}

bool expect_awaits_parse(const ExpectQueue *queue, const Prepared *prepared)
{
    for (uint32_t i = 0; i < queue->count; i++)
        if (expect_at(queue, i)->kind == EXPECT_PARSE && expect_at(queue, i)->prepared == prepared)
            return true;
    return false;
}

bool expect_ignores_sync(const ExpectQueue *queue)
{
    if (!expect_copy_in(queue))
        return false;
    for (uint32_t i = 1; i < queue->count; i++)
        if (expect_at(queue, i)->kind == EXPECT_COPY_END)
            return false;
    return true;
}

/* ---- errors --------------------------------------------------------------------------------- */

static ExpectVerdict match_error(ExpectQueue *queue, Expect *ret)
{
    if (queue->phase == PHASE_FAILED)
        return EXPECT_REFUSED;
    if (ret->kind == EXPECT_SYNTHETIC)
        return EXPECT_REFUSED;
    if (owes_ready(ret))
        queue->phase = PHASE_FAILED;
    else
        (void)expect_pop(queue);
    return EXPECT_FAILED;
}

bool expect_skip(ExpectQueue *queue, Expect *ret)
{
    if (queue->phase == PHASE_FAILED)
        return false;
    if (queue->count == 0) {
        queue->skipping = true;
        return false;
    }
    return expect_at(queue, 0)->kind != EXPECT_SYNC && expect_drop(queue, ret);
}

bool expect_drop(ExpectQueue *queue, Expect *ret)
{
    if (queue->count == 0)
        return false;
    *ret = expect_pop(queue);
    return true;
}

bool expect_take_synthetic(ExpectQueue *queue, Expect *ret)
{
    const Expect *head = expect_head(queue);
    return head && head->kind == EXPECT_SYNTHETIC && expect_drop(queue, ret);
}

/* ---- the ring ------------------------------------------------------------------------------- */

static Expect *expect_at(const ExpectQueue *queue, uint32_t i)
{
    assert(i < queue->count);
    return &queue->ring[(queue->head + i) & (queue->size - 1)];
}

static Expect expect_pop(ExpectQueue *queue)
{
    Expect head = *expect_at(queue, 0);
    queue->head = (queue->head + 1) & (queue->size - 1);
    queue->count--;
    queue->readies -= owes_ready(&head);
    queue->phase = PHASE_START;
    return head;
}

static void expect_drop_markers(ExpectQueue *queue)
{
    while (queue->count && expect_at(queue, 0)->kind == EXPECT_COPY_END)
        (void)expect_pop(queue);
}

static bool expect_grow(ExpectQueue *queue)
{
    uint32_t size = queue->size ? queue->size * 2 : EXPECT_RING_MIN;
    Expect *ring = malloc(sizeof(*ring) * size);
    if (!ring)
        return false;
    for (uint32_t i = 0; i < queue->count; i++)
        ring[i] = *expect_at(queue, i);
    free(queue->ring);
    queue->ring = ring;
    queue->size = size;
    queue->head = 0;
    return true;
}

static bool owes_ready(const Expect *expect)
{
    return expect->kind == EXPECT_SYNC || expect->kind == EXPECT_QUERY ||
           expect->kind == EXPECT_FUNCTION;
}

static ExpectVerdict answered_if(bool right)
{
    return right ? EXPECT_ANSWERED : EXPECT_REFUSED;
}

static ExpectVerdict go_on(ExpectQueue *queue, ExpectPhase phase)
{
    queue->phase = phase;
    return EXPECT_GOES_ON;
}
