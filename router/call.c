/* call.c - making and freeing what travels to the control thread. */
#include "router/call.h"

#include <stdlib.h>

#define ANSWER_MAX ((size_t)64 << 20) /* bytes of one console answer */

Call *call_create(CallKind kind)
{
    Call *call = calloc(1, sizeof *call);
    if (!call)
        return NULL;
    call->kind = kind;
    arena_init(&call->arena, 1024);
    buf_init(&call->answer, ANSWER_MAX);
    return call;
}

void call_free(Call *call)
{
    if (!call)
        return;
    arena_finish(&call->arena);
    buf_finish(&call->answer);
    free(call);
}
