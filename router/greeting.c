/* greeting.c - one entry per (pool, startup settings), dropped as a whole when the topology changes. */
#include "router/greeting.h"

#include <stdlib.h>

#include "router/worker_state.h"
#include "wire/backend.h"

#define FRAMES_MAX 65536 /* bytes of one greeting */

typedef struct Greeting {
    uint64_t hash;
    uint64_t pool;   /* pool_id */
    GucVector *gucs; /* reference held */
    Slice frames;    /* owned */
} Greeting;

static bool greeting_equal(const void *item, const void *key)
{
    const Greeting *a = item, *b = key;
    return a->pool == b->pool && a->gucs == b->gucs;
}

static uint64_t hash_of(uint64_t pool, const GucVector *gucs)
{
    uint64_t key[2] = {pool, (uint64_t)(uintptr_t)gucs};
    return slice_hash(slice_of(key, sizeof key), 1);
}

void greetings_init(Worker *worker)
{
    map_init(&worker->greetings, greeting_equal);
}

void greetings_forget(Worker *worker)
{
    size_t cursor = 0;
    Greeting *greeting;
    while ((greeting = map_next(&worker->greetings, &cursor))) {
        map_remove(&worker->greetings, greeting->hash, greeting);
        guc_release(&worker->gucs, greeting->gucs);
        free((void *)(uintptr_t)greeting->frames.data);
        free(greeting);
    }
}

void greetings_finish(Worker *worker)
{
    greetings_forget(worker);
    map_finish(&worker->greetings);
}

Slice greeting_find(Worker *worker, const Pool *pool, const GucVector *gucs)
{
    Greeting key = {.pool = pool_id(pool), .gucs = (GucVector *)(uintptr_t)gucs};
    const Greeting *found = map_get(&worker->greetings, hash_of(key.pool, gucs), &key);
    return found ? found->frames : (Slice){0};
}

/* The session's own value where one was reported while its settings were tried. */
static void take_override(Slice statuses, Slice name, Slice *value)
{
    Frame frame;
    ParameterStatus status;
    Error err;
    while (frame_next(statuses, SIZE_MAX, &frame, &err) == WIRE_OK) {
        if (backend_read_parameter_status(frame.body, &status, &err) == WIRE_OK &&
            slice_equal(status.name, name))
            *value = status.value;
        statuses = slice_from(statuses, frame.whole.len);
    }
}

static void compose(const Pool *pool, Slice statuses, Buf *out)
{
    const char *const *names, *const *values;
    uint32_t count = pool_parameters(pool, &names, &values);
    for (uint32_t i = 0; i < count; i++) {
        Slice name = slice_str(names[i]), value = slice_str(values[i]);
        if (slice_is(name, "application_name"))
            value = SLICE(""); /* Shoal's own name is for the server's log only */
        take_override(statuses, name, &value);
        backend_put_parameter_status(out, name, value);
    }
}

static bool remember(Worker *worker, const Pool *pool, GucVector *gucs, Slice frames)
{
    Greeting *greeting = calloc(1, sizeof *greeting);
    if (!greeting)
        return false;
    greeting->pool = pool_id(pool);
    greeting->hash = hash_of(greeting->pool, gucs);
    greeting->frames = frames;
    if (!map_put(&worker->greetings, greeting->hash, greeting)) {
        free(greeting);
        return false;
    }
    greeting->gucs = guc_retain(gucs);
    return true;
}

Slice greeting_make(Worker *worker, const Pool *pool, GucVector *gucs, Slice statuses)
{
    Slice known = greeting_find(worker, pool, gucs);
    if (known.len)
        return known;
    if (worker->greetings.count >= GREETINGS_MAX)
        greetings_forget(worker);
    Buf frames;
    buf_init(&frames, FRAMES_MAX);
    compose(pool, statuses, &frames);
    uint8_t *bytes = frames.failed ? NULL : malloc(buf_len(&frames) + 1);
    Slice copy = slice_of(bytes, bytes ? buf_len(&frames) : 0);
    if (bytes)
        memcpy(bytes, buf_bytes(&frames).data, copy.len);
    buf_finish(&frames);
    if (bytes && remember(worker, pool, gucs, copy))
        return copy;
    free(bytes);
    return (Slice){0};
}
