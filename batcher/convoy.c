/*
 * convoy.c - several clients' originals behind each other on one connection: the sink of their task.
 *
 *     reads     [ m1 ][ m2 ][ m3 ]                 answers go straight to whose turn it is
 *     writes    BEGIN [ m1 ][ m2 ][ m3 ] COMMIT    answers are kept until COMMIT is answered
 *                 Z     Z     Z     Z      Z
 *
 * Reads: nobody waits for long behind a slow one. Those who do are run elsewhere and the answers in
 * their places are thrown away; that is why only statements travel here that may run twice.
 *
 * Writes: what is acknowledged is durable. After any error nothing has happened (PostgreSQL rolls all
 * of it back), and each runs alone, so that only the guilty one fails. A lock that is not had at once
 * counts as an error: whoever waits for it waits alone. Rows are taken in the order of their keys.
 */
#include "batcher/batcher_internal.h"

#include <stdlib.h>

#include "wire/backend.h"

static void convoy_on_frame(Sink *sink, Task *task, const Frame *frame);
static void convoy_on_ready(Sink *sink, Task *task, char tx_status, bool last);
static void convoy_on_lost(Sink *sink, Task *task, const Error *err, bool maybe_executed);
static void convoy_end(Convoy *convoy);

static const SinkOps CONVOY_OPS = {convoy_on_frame, convoy_on_ready, convoy_on_lost};

bool convoy_begun(const Convoy *convoy)
{
    return convoy->task.sent_us != 0;
}

/* Writes under one commit; a lone write is an ordinary statement. */
static bool shares_commit(const Convoy *convoy)
{
    return convoy->lane->key.table_oid != 0 && convoy->place_count > 1;
}

/* Whose answers now come; NULL behind the last one (COMMIT's). */
static ConvoyPlace *convoy_place(Convoy *convoy)
{
    while (convoy->current < convoy->place_count && convoy->places[convoy->current].skipped)
        convoy->current++;
    return convoy->current < convoy->place_count ? &convoy->places[convoy->current] : NULL;
}

/* ---- sending --------------------------------------------------------------------------------- */

void convoy_free(Convoy *convoy)
{
    buf_finish(&convoy->answers);
    free(convoy->steps);
    free(convoy->places);
    free(convoy);
}

static int place_order(const void *left, const void *right)
{
    const ConvoyPlace *a = left, *b = right;
    Slice x = a->member->key, y = b->member->key;
    size_t len = MIN(x.len, y.len);
    int order = len ? memcmp(x.data, y.data, len) : 0;
    if (order == 0)
        order = (x.len > y.len) - (x.len < y.len);
    return order ? order : (a->step > b->step) - (a->step < b->step);
}

/* `heads` of those who wait, and whom they have behind them, up to `count` in all. */
static void collect(Convoy *convoy, uint32_t heads, uint32_t count)
{
    Lane *lane = convoy->lane;
    Member *member = NULL;
    uint32_t i = 0;
    for (; i < count; i++) {
        member = member ? member_follower(member) : NULL;
        if (!member && (heads-- == 0 || list_empty(&lane->queue)))
            break;
        if (!member)
            member = list_entry(list_pop(&lane->queue), Member, link);
        lane->queued--;
        lane->travelling++;
        member->convoy = convoy;
        member->state = MEMBER_BATCHED;
        convoy->places[i] = (ConvoyPlace){.member = member, .step = i};
        histogram_add(&convoy->batcher->stats.wait_us, convoy->sent_us - member->added_us);
    }
    convoy->place_count = convoy->left = i;
    if (lane->key.table_oid)
        qsort(convoy->places, i, sizeof(*convoy->places), place_order);
}

static void put_frame(Convoy *convoy, Slice frame, bool hidden)
{
    convoy->steps[convoy->step_count++] =
        (TaskStep){.op = TASK_QUERY, .frame = frame, .hidden = hidden};
}

static bool put_steps(Convoy *convoy)
{
    size_t count = 2;
    for (uint32_t i = 0; i < convoy->place_count; i++)
        count += convoy->places[i].member->task->step_count;
    convoy->steps = calloc(count, sizeof(TaskStep));
    if (!convoy->steps)
        return false;
    if (shares_commit(convoy))
        put_frame(convoy, buf_bytes(&convoy->batcher->begin), true);
    for (uint32_t i = 0; i < convoy->place_count; i++) {
        ConvoyPlace *place = &convoy->places[i];
        const Task *task = place->member->task;
        place->member->slot = i;
        place->step = convoy->step_count;
        place->step_count = task->step_count;
        memcpy(convoy->steps + place->step, task->steps, sizeof(TaskStep) * task->step_count);
        convoy->step_count += task->step_count;
    }
    if (shares_commit(convoy))
        put_frame(convoy, buf_bytes(&convoy->batcher->commit), false);
    return true;
}

static void count_convoy(Convoy *convoy)
{
    BatcherStats *stats = &convoy->batcher->stats;
    uint32_t count = convoy->place_count;
    histogram_add(&stats->size, count);
    if (count == 1) {
        counter_add(&stats->alone, 1);
        return;
    }
    bool writes = convoy->lane->key.table_oid != 0;
    counter_add(writes ? &stats->writes : &stats->piped, count);
    counter_add(writes ? &stats->commits : &stats->convoys, 1);
    for (uint32_t i = 0; i < count; i++) {
        Judgement *judgement = convoy->places[i].member->judgement;
        judgement->piped++;
        bool first = true; /* of its kind: the others have counted this convoy already */
        for (uint32_t k = 0; k < i && first; k++)
            first = convoy->places[k].member->judgement != judgement;
        judgement->convoys += first;
    }
}

/* No memory: those who wait are told. */
static void refuse(Lane *lane, Convoy *convoy)
{
    Error err;
    List *link;
    error_set(&err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    for (uint32_t i = 0; convoy && i < convoy->place_count; i++) {
        lane->travelling--;
        member_lose(convoy->places[i].member, &err, false);
    }
    while ((link = list_first(&lane->queue))) {
        lane->queued--;
        member_lose(list_entry(link, Member, link), &err, false);
    }
    if (convoy)
        convoy_free(convoy);
}

void convoy_send(Batcher *batcher, Lane *lane, uint32_t max)
{
    uint32_t count = MIN(lane->key.table_oid ? max : MAX(max, batcher->pipeline_max), lane->queued);
    Convoy *convoy = calloc(1, sizeof(*convoy));
    if (convoy) {
        convoy->batcher = batcher;
        convoy->lane = lane;
        convoy->sent_us = batcher->loop->now_us;
        list_init(&convoy->link);
        buf_init(&convoy->answers, batcher->bytes_max);
        convoy->places = calloc(count, sizeof(ConvoyPlace));
        convoy->sink.ops = &CONVOY_OPS;
    }
    if (convoy && convoy->places)
        collect(convoy, max, count);
    if (!convoy || !convoy->places || !put_steps(convoy)) {
        refuse(lane, convoy);
        return;
    }
    lane->inflight++;
    list_push(&batcher->convoys, &convoy->link);
    count_convoy(convoy);
    task_init(&convoy->task, &convoy->sink, convoy->steps, convoy->step_count);
    convoy->task.gucs = (GucVector *)(uintptr_t)lane->key.gucs;
    convoy->task.read_only = lane->key.table_oid == 0;
    pool_submit(lane->pool, &convoy->task);
    if (convoy->place_count > 1 && !timer_armed(&batcher->rescue))
        timer_start_ms(&batcher->rescue, RESCUE_MS);
}

/* ---- leaving --------------------------------------------------------------------------------- */

/* The place is free. What has not been written yet never will be: Flush stands for nothing. */
static void place_clear(Convoy *convoy, ConvoyPlace *place)
{
    place->member->convoy = NULL;
    place->member = NULL;
    convoy->left--;
    if (convoy_begun(convoy))
        return;
    for (uint32_t i = 0; i < place->step_count; i++)
        convoy->steps[place->step + i] = (TaskStep){.op = TASK_FLUSH};
    place->skipped = true;
}

void convoy_leave(Convoy *convoy, Member *member)
{
    ConvoyPlace *place = &convoy->places[member->slot];
    assert(place->member == member);
    bool current = place == convoy_place(convoy);
    place_clear(convoy, place);
    /* A slow reader may have stopped the connection. */
    if (current && convoy_begun(convoy) && convoy->task.state == TASK_INFLIGHT)
        backend_resume(convoy->task.backend);
    if (convoy->left == 0 && !convoy->over && !(shares_commit(convoy) && convoy_begun(convoy)))
        convoy_end(convoy);
}

/* Nothing of it matters to anybody any more. */
static void convoy_end(Convoy *convoy)
{
    Lane *lane = convoy->lane;
    if (convoy->over)
        return;
    convoy->over = true;
    if (convoy->task.state == TASK_WAITING || convoy->task.state == TASK_INFLIGHT)
        task_abandon(&convoy->task);
    lane->inflight--;
    lane_due(lane, convoy->batcher);
    list_remove(&convoy->link);
    list_push(&convoy->batcher->gone_convoys, &convoy->link);
}

static void run_elsewhere(Convoy *convoy, ConvoyPlace *place)
{
    Member *member = place->member;
    place_clear(convoy, place);
    if (member->task->cancelled) {
        convoy->lane->travelling--;
        member_cancelled(member);
        return;
    }
    counter_add(&convoy->batcher->stats.retried, 1);
    member->judgement->rescued++;
    list_remove(&member->link);
    list_push(&convoy->lane->alone, &member->link);
    member_run_alone(member);
}

/* All behind the one whose answer is due. */
static void shed(Convoy *convoy)
{
    for (uint32_t i = convoy->current + 1; i < convoy->place_count; i++)
        if (convoy->places[i].member)
            run_elsewhere(convoy, &convoy->places[i]);
}

void convoy_shut(Convoy *convoy, const Error *err)
{
    for (uint32_t i = 0; i < convoy->place_count; i++) {
        Member *member = convoy->places[i].member;
        if (!member)
            continue;
        convoy->lane->travelling--;
        place_clear(convoy, &convoy->places[i]);
        member_lose(member, err, true);
    }
    convoy_end(convoy);
}

void convoy_stop(Convoy *convoy)
{
    shed(convoy);
    convoy_end(convoy);
}

void convoy_rescue(Timer *timer)
{
    Batcher *batcher = timer->ctx;
    bool more = false;
    LIST_EACH_SAFE (it, &batcher->convoys) {
        Convoy *convoy = list_entry(it, Convoy, link);
        ConvoyPlace *place = convoy_place(convoy);
        more |= convoy->left > 1;
        if (!place || !convoy_begun(convoy) || shares_commit(convoy) ||
            (convoy->left == 1 && place->member))
            continue;
        uint64_t took_us = batcher->loop->now_us - MAX(convoy->turn_us, convoy->task.sent_us);
        if (took_us < RESCUE_MS * 1000)
            continue;
        if (place->member) /* it is not sent in front of others again, for a while */
            place->member->judgement->cost_us = MAX(place->member->judgement->cost_us, took_us);
        shed(convoy);
        if (convoy->left == 0)
            convoy_end(convoy);
    }
    if (more)
        timer_start_ms(timer, RESCUE_MS);
}

/* ---- answers --------------------------------------------------------------------------------- */

static void forward(Convoy *convoy, Member *member, const Frame *frame)
{
    Task *task = member->task;
    member->failed |= frame->type == BACKEND_ERROR;
    member->complete |= frame->type == BACKEND_ERROR || frame->type == BACKEND_COMMAND_COMPLETE;
    member->forwarded += frame->whole.len;
    task->backend = convoy->task.backend;
    task->sent = task->answered = true;
    member->up->ops->on_frame(member->up, task, frame);
}

/* Kept until the commit. What comes behind an error, but ReadyForQuery, shows that the error was
 * BEGIN's: then each has run in a transaction of its own. */
static void keep(Convoy *convoy, ConvoyPlace *place, const Frame *frame)
{
    if (place->failed) {
        place->len = 0;
        place->failed = false;
    }
    size_t at = buf_len(&convoy->answers);
    if (place->len == 0)
        place->offset = at;
    place->failed = frame->type == BACKEND_ERROR;
    convoy->failed |= place->failed;
    if (buf_append(&convoy->answers, frame->whole))
        place->len += frame->whole.len;
    else
        place->lost = true;
}

static void convoy_on_frame(Sink *sink, Task *task, const Frame *frame)
{
    (void)task;
    Convoy *convoy = container_of(sink, Convoy, sink);
    ConvoyPlace *place = convoy_place(convoy);
    if (place && shares_commit(convoy))
        keep(convoy, place, frame);
    else if (place && place->member)
        forward(convoy, place->member, frame);
    else if (!place && frame->type == BACKEND_COMMAND_COMPLETE)
        convoy->committed = frame->body.len >= 6 && memcmp(frame->body.data, "COMMIT", 6) == 0;
    else if (!place && frame->type == BACKEND_ERROR)
        convoy->failed = true;
}

/* Its own ReadyForQuery: it is served. */
static void serve(Convoy *convoy, Member *member, char tx_status, bool last)
{
    bool failed = member->failed;
    list_remove(&member->link);
    if (member->task)
        member->task->sent_us = convoy->task.sent_us;
    convoy->over |= last; /* so that it is not abandoned */
    lane_member_left(member, failed);
    convoy->over &= !last;
    member_finish(member, tx_status);
}

/* ---- writes: the commit ---------------------------------------------------------------------- */

static void deal(Convoy *convoy, const ConvoyPlace *place, Member *member)
{
    Slice in = slice_of(buf_bytes(&convoy->answers).data + place->offset, place->len);
    Frame frame;
    Error err;
    if (place->lost) {
        error_set(&err, SQLSTATE_LIMIT_EXCEEDED, "the answer of a committed write was too large");
        error_hint(&err, "Raise batch_bytes_max, or switch batch_writes off for this table.");
        member_lose(member, &err, true);
        return;
    }
    member->task->sent = true;
    member->task->sent_us = convoy->task.sent_us;
    while (member->task && frame_next_backend(in, LARGE_BODY_MAX, &frame, &err) == WIRE_OK) {
        member_emit(member, frame.type, frame.whole);
        in = slice_from(in, frame.whole.len);
    }
    member_finish(member, TX_IDLE);
}

/* More when it went well, half of it when it did not. */
static void adapt(Convoy *convoy, bool good)
{
    Lane *lane = convoy->lane;
    uint32_t max = convoy->batcher->writes_max;
    if (good)
        lane->writes_max = MIN(lane->writes_max + 1, max);
    else
        lane->writes_max = MAX(lane->writes_max / 2, 1);
}

static void settle_writes(Convoy *convoy)
{
    bool good = convoy->committed && !convoy->failed;
    adapt(convoy, good);
    if (!good)
        counter_add(&convoy->batcher->stats.write_failures, 1);
    /* The lane is free before anybody hears: what they send next may leave in this turn. */
    convoy->over = true;
    convoy->lane->inflight--;
    lane_due(convoy->lane, convoy->batcher);
    for (uint32_t i = 0; i < convoy->place_count; i++) {
        ConvoyPlace *place = &convoy->places[i];
        Member *member = place->member;
        if (!member)
            continue;
        if (!good && !place->final) {
            run_elsewhere(convoy, place);
            continue;
        }
        convoy->lane->travelling--;
        place_clear(convoy, place);
        deal(convoy, place, member);
    }
    list_remove(&convoy->link);
    list_push(&convoy->batcher->gone_convoys, &convoy->link);
}

static void convoy_on_ready(Sink *sink, Task *task, char tx_status, bool last)
{
    (void)task;
    Convoy *convoy = container_of(sink, Convoy, sink);
    ConvoyPlace *place = convoy_place(convoy);
    Member *member = place ? place->member : NULL;
    uint64_t now_us = convoy->batcher->loop->now_us;
    if (place && shares_commit(convoy)) {
        place->final = tx_status == TX_IDLE; /* no BEGIN before it: its outcome is its own */
        place->failed = false;
        convoy->current++;
        return;
    }
    if (shares_commit(convoy)) {
        settle_writes(convoy);
        return;
    }
    if (member)
        serve(convoy, member, tx_status, last);
    convoy->current++;
    convoy->turn_us = now_us;
    if (last)
        convoy_end(convoy);
}

/* Reads that nobody has heard anything of may try again by themselves (P10). Of writes nobody knows. */
static void convoy_on_lost(Sink *sink, Task *task, const Error *err, bool maybe_executed)
{
    (void)task;
    Convoy *convoy = container_of(sink, Convoy, sink);
    bool again = convoy->lane->key.table_oid == 0 &&
                 (maybe_executed || error_is(err, SQLSTATE_CONNECTION_FAILURE));
    convoy->over = true;
    convoy->lane->inflight--;
    lane_due(convoy->lane, convoy->batcher);
    for (uint32_t i = 0; i < convoy->place_count; i++) {
        ConvoyPlace *place = &convoy->places[i];
        Member *member = place->member;
        if (member && again && member->forwarded == 0) {
            run_elsewhere(convoy, place);
        } else if (member) {
            convoy->lane->travelling--;
            place_clear(convoy, place);
            member_lose(member, err, maybe_executed);
        }
    }
    list_remove(&convoy->link);
    list_push(&convoy->batcher->gone_convoys, &convoy->link);
}
