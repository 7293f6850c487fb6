/*
 * text.h - a text under construction: words put into a Buf, kept in an arena in the end.
 */
#ifndef SHOAL_CORE_TEXT_H
#define SHOAL_CORE_TEXT_H

#include "core/arena.h"
#include "core/buf.h"

static inline void text_put(Buf *text, const char *words)
{
    buf_append(text, slice_str(words));
}

/* Ends the Buf. Empty when it has failed, or memory is out. */
static inline Slice text_keep(Buf *text, Arena *arena)
{
    Slice kept = text->failed ? (Slice){0} : arena_dup(arena, buf_bytes(text));
    buf_finish(text);
    return kept;
}

#endif
