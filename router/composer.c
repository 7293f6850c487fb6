/*
 * composer.c - FIRST passes on what the first leg says; SUM adds; SAME compares.
 */
#include "router/composer.h"

#include <stdio.h>
#include <string.h>

#include "router/local.h"
#include "router/worker_state.h"
#include "wire/backend.h"

/* ---- FIRST ------------------------------------------------------------------------------------------ */

static void first_on_frame(Scatter *scatter, Leg *leg, const Frame *frame)
{
    Request *request = scatter->request;
    if (leg->index != 0)
        return;
    switch (frame->type) {
    case BACKEND_ROW_DESCRIPTION:
        local_open(request, frame->whole);
        break;
    case BACKEND_DATA_ROW:
        buf_append(request_out(request), frame->whole);
        request_touch(request);
        break;
    case BACKEND_COMMAND_COMPLETE:
    case BACKEND_EMPTY_QUERY:
        scatter->composer = arena_new(&request->arena, Slice);
        if (scatter->composer)
            *(Slice *)scatter->composer = arena_dup(&request->arena, frame->whole);
        break;
    default:
        break;
    }
}

static void first_on_end(Scatter *scatter)
{
    Slice *tag = scatter->composer;
    local_close(scatter->request, tag ? *tag : (Slice){0});
}

const ComposerOps COMPOSER_FIRST = {.on_frame = first_on_frame, .on_end = first_on_end};

/* ---- SUM -------------------------------------------------------------------------------------------- */

static void sum_tag(Scatter *scatter, const Frame *frame)
{
    SumComposer *sum = scatter->composer;
    Slice tag;
    Error err;
    uint64_t rows;
    if (backend_read_command_complete(frame->body, &tag, &err) != WIRE_OK)
        return;
    if (!command_tag_rows(tag, &rows)) {
        sum->tag = arena_dup(&scatter->request->arena, frame->whole);
        return;
    }
    const uint8_t *space = memchr(tag.data, ' ', tag.len);
    snprintf(sum->verb, sizeof sum->verb, "%.*s", space ? (int)(space - tag.data) : 0,
             (const char *)tag.data);
    sum->rows += rows;
}

static void sum_on_frame(Scatter *scatter, Leg *leg, const Frame *frame)
{
    SumComposer *sum = scatter->composer;
    Request *request = scatter->request;
    (void)leg;
    switch (frame->type) {
    case BACKEND_PARAMETER_DESCRIPTION:
        if (!request->parameter_description.len)
            request->parameter_description = arena_dup(&request->arena, frame->whole);
        break;
    case BACKEND_ROW_DESCRIPTION:
        if (!sum->open)
            local_open(request, frame->whole);
        sum->open = true;
        break;
    case BACKEND_DATA_ROW:
        buf_append(request_out(request), frame->whole);
        request_touch(request);
        break;
    case BACKEND_COMMAND_COMPLETE:
        sum_tag(scatter, frame);
        break;
    default:
        break;
    }
}

static void sum_on_end(Scatter *scatter)
{
    SumComposer *sum = scatter->composer;
    Buf frame;
    buf_init(&frame, 256);
    if (sum->verb[0])
        backend_put_command_rows(&frame, slice_str(sum->verb), sum->rows);
    else
        buf_append(&frame, sum->tag);
    local_close(scatter->request, buf_bytes(&frame));
    buf_finish(&frame);
}

const ComposerOps COMPOSER_SUM = {.on_frame = sum_on_frame, .on_end = sum_on_end};

/* ---- SAME ------------------------------------------------------------------------------------------- */

static void same_tag(Scatter *scatter, Leg *leg, const Frame *frame)
{
    const SumComposer *sum = scatter->composer;
    Error err, ignored;
    Slice tag;
    uint64_t rows = 0;
    if (backend_read_command_complete(frame->body, &tag, &ignored) != WIRE_OK || !command_tag_rows(tag, &rows) ||
        rows == sum->rows)
        return;
    error_set(&err, SQLSTATE_DATA_CORRUPTED, "the copies of a reference table differ");
    error_detail(&err, "The first shard counts %llu rows, shard %s counts %llu.", (unsigned long long)sum->rows,
                 worker_config(scatter->worker)->shards[leg->shard].name, (unsigned long long)rows);
    error_hint(&err, "Nothing was changed. Compare the table on the shards, and mend it there.");
    scatter_fail(scatter, &err);
}

static void same_on_frame(Scatter *scatter, Leg *leg, const Frame *frame)
{
    if (leg->index == 0)
        sum_on_frame(scatter, leg, frame);
    else if (frame->type == BACKEND_COMMAND_COMPLETE)
        same_tag(scatter, leg, frame);
}

const ComposerOps COMPOSER_SAME = {.on_frame = same_on_frame, .on_end = sum_on_end};
