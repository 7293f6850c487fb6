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

/* Which literals are cut out. */
typedef struct TemplateRule {
    bool standard_strings;
    bool values_may_vary; /* false: none is cut out */
    /* Literals that stay although others go, by their order among all that could go; ascending.
     * Borrowed; NULL when empty. */
    const uint32_t *kept;
    uint32_t kept_count;
} TemplateRule;

typedef struct Template {
    Slice key;     /* in the arena that was given */
    uint64_t hash; /* of key */
    ShapeLiteral *literals; /* those cut out; in the arena */
    uint32_t literal_count;
    uint32_t token_count; /* TOKEN_END not counted */
    Slice leading_comment;
    bool bad;     /* met TOKEN_BAD: the rest of the text is in the key as it is */
    bool escapes; /* a plain '...' holds a backslash while standard_conforming_strings is off */
} Template;

/* False when memory is out. */
bool template_read(Arena *arena, Slice text, const TemplateRule *rule, Template *ret) MUST_USE;
/* The key as people read it: literals as ?, cut at `len_max` bytes. */
Slice template_describe(Arena *arena, Slice key, size_t len_max) MUST_USE;

#endif
