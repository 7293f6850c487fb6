/*
 * member.c - a client's Task while it is ours.
 *
 *     client's sink  <── up ── Member ── place ──> task->sink (so a Task leads back to its Member)
 *                                └ alone: a Task of ours with the same steps, for running singly
 *
 * The client's Task stays in state MEMBER from batcher_add to DONE, whatever we do with it, so that
 * cancel and abandon have one door. The Member itself is freed at the end of the turn, because its
 * last call may have come from inside its own task's sink.
 *
 *     a client that pipelines:   m1 <── ahead ── m2 <── ahead ── m3      only m1 is in a queue
 *
 * What m2 sees must not be older than what m1 has seen, as PostgreSQL would have run them one by one. So m2
 * travels in m1's batch, or leaves when m1 is answered.
 */
#include "batcher/batcher_internal.h"

#include <stdlib.h>

#include "wire/backend.h"

/* Never called: the task is not in any pool while this stands in its place. */
static void place_on_frame(Sink *sink, Task *task, const Frame *frame)
{
    (void)sink, (void)task, (void)frame;
    assert(!"a member's task was run by itself");
}
static void place_on_ready(Sink *sink, Task *task, char tx_status, bool last)
{
    (void)sink, (void)task, (void)tx_status, (void)last;
    assert(!"a member's task was run by itself");
}
static void place_on_lost(Sink *sink, Task *task, const Error *err, bool maybe_executed)
{
    (void)sink, (void)task, (void)err, (void)maybe_executed;
    assert(!"a member's task was run by itself");
}
static const SinkOps PLACE_OPS = {place_on_frame, place_on_ready, place_on_lost};

Member *member_create(Batcher *batcher, Group *group, Lane *lane)
{
    Member *member = slab_take(&batcher->members);
    if (!member)
        return NULL;
    member->place.ops = &PLACE_OPS;
    list_init(&member->link);
    member->state = MEMBER_QUEUED;
    member->batcher = batcher;
    member->group = group;
    member->lane = lane;
    member->added_us = batcher->loop->now_us;
    return member;
}

void member_adopt(Member *member, Task *task)
{
    member->task = task;
    member->up = task->sink;
    task->sink = &member->place;
    task->queued_us = member->added_us;
    task_move(task, TASK_MEMBER);
}

Member *member_of(Task *task)
{
    return task->sink->ops == &PLACE_OPS ? container_of(task->sink, Member, place) : NULL;
}

/* ---- one client's, in order ------------------------------------------------------------------ */

static void put_in_queue(Member *member)
{
    if (member->lane) {
        list_push(&member->lane->queue, &member->link);
        lane_due(member->lane, member->batcher);
    } else {
        list_push(&member->group->queue, &member->link);
        group_due(member->batcher, member->group);
    }
}

void member_follow(Member *member, Member *ahead)
{
    member->ahead = ahead;
    if (ahead)
        ahead->behind = member;
}

void member_queue(Member *member, Member *ahead)
{
    *(member->lane ? &member->lane->queued : &member->group->queued) += 1;
    member_follow(member, ahead);
    if (!member->ahead)
        put_in_queue(member);
}

Member *member_follower(const Member *member)
{
    Member *next = member->behind;
    return next && next->state == MEMBER_QUEUED ? next : NULL;
}

/* It is answered, or given up: the one behind it may go. */
static void unfollow(Member *member)
{
    Member *ahead = member->ahead, *behind = member->behind;
    member->ahead = member->behind = NULL;
    if (ahead)
        ahead->behind = behind;
    if (!behind)
        return;
    behind->ahead = ahead;
    if (ahead)
        return;
    if (behind->state == MEMBER_WAITING)
        member_run_alone(behind);
    else if (behind->state == MEMBER_QUEUED)
        put_in_queue(behind);
}

/* ---- the client's side ----------------------------------------------------------------------- */

void member_emit(Member *member, uint8_t type, Slice whole)
{
    if (!member->task)
        return;
    Frame frame = {.type = type, .body = slice_from(whole, 5), .whole = whole};
    member->task->answered = true;
    member->up->ops->on_frame(member->up, member->task, &frame);
}

/* Lets go of the client's task; NULL when the client has gone before. */
static Task *detach(Member *member)
{
    Task *task = member->task;
    member->task = NULL;
    if (member->state != MEMBER_GONE) {
        list_remove(&member->link);
        member->state = MEMBER_GONE;
        list_push(&member->batcher->gone_members, &member->link);
        unfollow(member);
    }
    if (task) {
        task->sink = member->up;
        task->backend = NULL;
        task->done_us = member->batcher->loop->now_us;
        task_move(task, TASK_DONE);
    }
    return task;
}

void member_finish(Member *member, char tx_status)
{
    Sink *up = member->up;
    Task *task = detach(member);
    if (task)
        up->ops->on_ready(up, task, tx_status, true);
}

void member_lose(Member *member, const Error *err, bool maybe_executed)
{
    Sink *up = member->up;
    Task *task = detach(member);
    if (task)
        up->ops->on_lost(up, task, err, maybe_executed);
}

void member_forget(Member *member)
{
    detach(member);
}

void member_cancelled(Member *member)
{
    uint8_t memory[512];
    Buf buf;
    Error err;
    buf_init(&buf, sizeof(memory));
    buf_lend(&buf, memory, sizeof(memory));
    error_set(&err, SQLSTATE_QUERY_CANCELED, "canceling statement due to user request");
    backend_put_error(&buf, SEVERITY_ERROR, &err);
    /* Off its list first: the batch must not see it again whatever the client does now. */
    list_remove(&member->link);
    member_emit(member, BACKEND_ERROR, buf_bytes(&buf));
    member_finish(member, TX_IDLE);
    buf_finish(&buf);
}

/* One who ran alone is served. */
static void left(Member *member, bool failed)
{
    list_remove(&member->link);
    if (member->lane)
        lane_member_left(member, failed);
    else
        batch_member_left(member->batch, failed);
}

/* ---- running alone --------------------------------------------------------------------------- */

static void alone_on_frame(Sink *sink, Task *task, const Frame *frame)
{
    Member *member = container_of(sink, Member, sink);
    member->failed |= frame->type == BACKEND_ERROR;
    member->forwarded += frame->whole.len;
    /* A large answer to a slow client must not hold up those who wait for the same statement. */
    if (member->batch && member->forwarded > member->batcher->bytes_max / 16)
        batch_release_slot(member->batch);
    if (!member->task)
        return;
    member->task->backend = task->backend;
    member->task->sent = member->task->answered = true;
    member->up->ops->on_frame(member->up, member->task, frame);
}

static void alone_on_ready(Sink *sink, Task *task, char tx_status, bool last)
{
    (void)task;
    Member *member = container_of(sink, Member, sink);
    bool failed = member->failed;
    assert(last);
    if (member->task)
        member->task->sent_us = member->alone.sent_us;
    /* The batch first: what the client sends next may travel at the end of this turn. */
    left(member, failed);
    member_finish(member, tx_status);
}

static void alone_on_lost(Sink *sink, Task *task, const Error *err, bool maybe_executed)
{
    (void)task;
    Member *member = container_of(sink, Member, sink);
    left(member, true);
    member_lose(member, err, maybe_executed);
}

static const SinkOps ALONE_OPS = {alone_on_frame, alone_on_ready, alone_on_lost};

void member_run_alone(Member *member)
{
    Task *task = member->task;
    member->state = member->ahead ? MEMBER_WAITING : MEMBER_ALONE;
    if (member->ahead)
        return;
    member->sink.ops = &ALONE_OPS;
    member->failed = false;
    task_init(&member->alone, &member->sink, task->steps, task->step_count);
    member->alone.gucs = task->gucs;
    member->alone.read_only = task->read_only;
    pool_submit(member->lane ? member->lane->pool : member->group->pool, &member->alone);
}

void member_free(Batcher *batcher, Member *member)
{
    if (!member)
        return;
    free(member->big);
    if (member->judgement)
        judgement_release(batcher, member->judgement);
    slab_give(&batcher->members, member);
}
