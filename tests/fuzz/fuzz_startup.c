/*
 * fuzz_startup.c - what a stranger says first, and the `options` inside.
 *
 * What is accepted must be whole, within its limits, and mean the same when written and read again.
 */
#include <stdlib.h>

#include "wire/frontend.h"
#include "wire/startup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool truth)
{
    if (!truth)
        abort();
}

/* Parsed, written and parsed again: the same settings. */
static void options_try(Slice options, Arena *arena)
{
    StartupParam *params, *again;
    size_t count, count_again;
    Error err;
    if (!startup_options_parse(options, arena, &params, &count, &err))
        return;
    Buf buf;
    buf_init(&buf, 1 << 20);
    for (size_t i = 0; i < count; i++)
        startup_options_put(&buf, params[i].name, params[i].value);
    require(!buf.failed);
    require(startup_options_parse(buf_bytes(&buf), arena, &again, &count_again, &err));
    require(count == count_again);
    for (size_t i = 0; i < count; i++)
        require(slice_equal(params[i].name, again[i].name) &&
                slice_equal(params[i].value, again[i].value));
    buf_finish(&buf);
}

static void message_try(const StartupPacket *packet, Arena *arena)
{
    require(packet->major == 3);
    require(packet->user.len >= 1 && packet->user.len <= IDENTIFIER_BYTES_MAX);
    require(packet->database.len <= IDENTIFIER_BYTES_MAX);
    require(packet->database.len > 0 || packet->replication == STARTUP_REPLICATION_PHYSICAL);

    StartupParam *params = arena_array(arena, StartupParam, packet->param_count + 2);
    require(params != NULL);
    params[0] = (StartupParam){SLICE("user"), packet->user};
    params[1] = (StartupParam){SLICE("options"), packet->options};
    for (size_t i = 0; i < packet->param_count; i++)
        params[2 + i] = packet->params[i];

    Buf buf;
    StartupPacket again;
    Error err;
    buf_init(&buf, 1 << 20);
    frontend_put_startup(&buf, PROTOCOL_3_0, params, packet->param_count + 2);
    if (buf_len(&buf) <= STARTUP_BODY_MAX + 4) {
        require(startup_next(buf_bytes(&buf), &again, arena, &err) == WIRE_OK);
        require(slice_equal(again.user, packet->user));
        require(slice_equal(again.options, packet->options));
        require(again.param_count == packet->param_count);
    }
    buf_finish(&buf);
    options_try(packet->options, arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Arena arena;
    StartupPacket packet;
    Error err;
    Slice in = slice_of(data, size);
    arena_init(&arena, 4096);
    switch (startup_next(in, &packet, &arena, &err)) {
    case WIRE_OK:
        require(packet.whole.len <= size && packet.whole.len <= STARTUP_BODY_MAX + 4);
        if (packet.kind == STARTUP_MESSAGE)
            message_try(&packet, &arena);
        break;
    case WIRE_BAD:
        require(strlen(err.sqlstate) == 5 && err.message[0]);
        break;
    case WIRE_MORE:
        require(size < STARTUP_BODY_MAX + 4);
        break;
    }
    options_try(in, &arena);
    arena_finish(&arena);
    return 0;
}
