/*
 * template.h - a statement's text with its values cut out, and the values.
 *
 *     select *  from t where id = 42 and n = 'x'   -- why
 *     select * from t where id = <int4> and n = <string>          the key
 *
 * One pass of the lexer. Blanks between tokens become one space and comments vanish, so that trace
 * ids in comments do not make each statement a new one. Two texts with the same key have the same
 * tokens but for the values of the literals cut out.
 */
#ifndef SHOAL_QUERY_TEMPLATE_H
#define SHOAL_QUERY_TEMPLATE_H

#include "query/shape.h"

typedef struct Template {
    Slice key;     /* in the arena that was given */
    uint64_t hash; /* of key */
    ShapeLiteral *literals; /* those cut out; in the arena */
    uint32_t *marks;        /* where each of them is missing in the key; in the arena */
    uint32_t literal_count;
    uint32_t token_count; /* TOKEN_END not counted */
    Slice leading_comment;
    bool settled; /* template_keep was called: what is cut out now are values */
    bool bad;     /* met TOKEN_BAD: the rest of the text is in the key as it is */
    bool escapes; /* a plain '...' holds a backslash while standard_conforming_strings is off */
} Template;

/* Literals are cut out only when values may vary, and never with standard_strings off. False when
 * memory is out. */
bool template_read(Arena *arena, Slice text, bool standard_strings, bool values_may_vary,
                   Template *ret) MUST_USE;
/* Puts some literals back: `kept` are their numbers, ascending. The others are numbered anew. */
bool template_keep(Arena *arena, Slice text, Template *template, const uint32_t *kept,
                   uint32_t kept_count) MUST_USE;
/* The key as people read it: literals as ?, cut at `len_max` bytes. */
Slice template_describe(Arena *arena, Slice key, size_t len_max) MUST_USE;

#endif
