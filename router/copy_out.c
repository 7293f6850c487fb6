/*
 * copy_out.c - one beginning, all rows, one end.
 */
#include "router/copy_out.h"

#include "router/composer.h"
#include "router/copy_layout.h"
#include "router/dispatch.h"
#include "router/local.h"
#include "router/worker_state.h"
#include "wire/backend.h"

#define PREAMBLE_LEN 19 /* signature, flags, no extension: what PostgreSQL writes */

typedef struct CopyOut {
    SumComposer sum; /* first: COMPOSER_SUM's own */
    CopyLayout layout;
    bool open, begun;   /* CopyOutResponse; header or preamble */
    bool *leg_begun;    /* per leg: its header or preamble has come */
} CopyOut;

static void put_data(Request *request, Slice body)
{
    if (body.len)
        backend_put_copy_data(request_out(request), body);
    request_touch(request);
}

/* The first data of a leg: what stands before its rows is the client's only once. */
static Slice without_begin(CopyOut *out, Slice body)
{
    bool wanted = !out->begun;
    out->begun = true;
    if (out->layout.format == COPY_BINARY)
        return wanted ? body : slice_from(body, PREAMBLE_LEN);
    return wanted || !out->layout.header ? body : (Slice){0};
}

static void out_data(Scatter *scatter, Leg *leg, const Frame *frame)
{
    CopyOut *out = scatter->composer;
    Slice body = frame->body;
    bool binary = out->layout.format == COPY_BINARY, first = !out->leg_begun[leg->index];
    Slice row = binary && first ? slice_from(body, PREAMBLE_LEN) : body;
    bool trailer = binary && slice_equal(row, copy_trailer(COPY_BINARY));
    if (!first && !trailer) {
        buf_append(request_out(scatter->request), frame->whole);
        request_touch(scatter->request);
        return;
    }
    if (trailer) /* ours comes at the end of all */
        body.len -= row.len;
    out->leg_begun[leg->index] = true;
    put_data(scatter->request, first ? without_begin(out, body) : body);
}

static void out_on_frame(Scatter *scatter, Leg *leg, const Frame *frame)
{
    CopyOut *out = scatter->composer;
    switch (frame->type) {
    case BACKEND_COPY_OUT:
        if (!out->open) {
            local_open(scatter->request, (Slice){0});
            buf_append(request_out(scatter->request), frame->whole);
            request_touch(scatter->request);
        }
        out->open = true;
        break;
    case BACKEND_COPY_DATA:
        out_data(scatter, leg, frame);
        break;
    case BACKEND_COMMAND_COMPLETE:
        COMPOSER_SUM.on_frame(scatter, leg, frame);
        break;
    default:
        break;
    }
}

static void out_on_end(Scatter *scatter)
{
    CopyOut *out = scatter->composer;
    put_data(scatter->request, copy_trailer(out->layout.format));
    backend_put_copy_done(request_out(scatter->request));
    COMPOSER_SUM.on_end(scatter);
}

static const ComposerOps COMPOSER_COPY_OUT = {.on_frame = out_on_frame, .on_end = out_on_end};

static bool legs_make(Request *request, ScatterLeg *legs, const Plan *plan)
{
    const DatabaseConfig *database = session_database(request->session, request->session->worker->topology);
    for (uint32_t i = 0; legs && i < database->shard_count; i++) {
        TaskStep *steps = NULL;
        uint32_t count = 0;
        scatter_query_steps(request, plan->texts ? plan->texts[i] : request->planned[0].text, &steps, &count);
        if (!steps)
            return false;
        legs[i] = (ScatterLeg){.shard = database->shards[i], .steps = steps, .step_count = count};
    }
    return legs != NULL;
}

void copy_out_start(Request *request, const Plan *plan)
{
    Session *session = request->session;
    const DatabaseConfig *database = session_database(session, session->worker->topology);
    const PlanStatement *statement = &request->planned[0];
    ScatterLeg *legs = arena_array(&request->arena, ScatterLeg, database->shard_count);
    CopyOut *out = arena_new(&request->arena, CopyOut);
    bool *begun = arena_array(&request->arena, bool, database->shard_count);
    bool forced, made = legs_make(request, legs, plan);
    Error err;
    if (!made || !out || !begun) {
        error_set(&err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        session_fatal(session, &err);
        return;
    }
    if (!copy_options_read(statement->shape, &out->layout, &forced, &err)) {
        dispatch_error(request, &err);
        return;
    }
    out->leg_begun = begun;
    scatter_start(request, &(ScatterSpec){.legs = legs, .leg_count = database->shard_count,
                                          .ops = &COMPOSER_COPY_OUT, .composer = out});
}
