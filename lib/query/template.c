/*
 * template.c - from text to key, in one pass.
 *
 *     key:  [flags] tokens as they stand, one space where blanks stood, MARK_x for a literal
 *
 * A mark is one byte (1, 2, 3) which cannot begin a token of its own (lexer: TOKEN_BAD), so no two
 * different statements share a key. Bytes between two changes are copied in one piece.
 */
#include "query/template.h"

#include "query/lexer.h"

enum {
    KEY_STANDARD_STRINGS = 1 << 0,
    KEY_VALUES_VARY = 1 << 1,
    KEY_SOME_KEPT = 1 << 2,
    KEY_BASE = 0x40 /* so that a key never looks empty */
};

enum { MARK_FIRST = 1, MARK_LAST = MARK_FIRST + SHAPE_LITERAL_STRING };

#define LITERALS_FIRST 16

typedef struct Writer {
    Arena *arena;
    const TemplateRule *rule;
    Slice text;
    uint8_t *out; /* where the next byte of the key goes */
    size_t run;   /* text[run..end of the last token) is not yet in the key */
    uint32_t could_go; /* literals seen that the rule's flags would cut */
    uint32_t kept_at;  /* how many of rule->kept are behind us */
    uint32_t literal_max;
    Template *template;
} Writer;

static bool literal_cut(Writer *w, Token token);
static ShapeLiteralClass literal_class(Slice text, Token token);

static inline void run_flush(Writer *w, size_t end)
{
    if (end == w->run)
        return;
    memcpy(w->out, w->text.data + w->run, end - w->run);
    w->out += end - w->run;
}

/* Blanks before `token`: one space is left in place, anything else becomes one. */
static inline void gap_close(Writer *w, size_t end, size_t start)
{
    if (start - end == 1 && w->text.data[end] == ' ')
        return;
    run_flush(w, end);
    *w->out++ = ' ';
    w->run = start;
}

static inline bool literal_varies(Writer *w, Token token)
{
    if (token.kind != TOKEN_INTEGER && token.kind != TOKEN_STRING)
        return false;
    if (!w->rule->values_may_vary || !w->rule->standard_strings)
        return false;
    uint32_t ordinal = w->could_go++;
    if (w->kept_at < w->rule->kept_count && w->rule->kept[w->kept_at] == ordinal) {
        w->kept_at++;
        return false;
    }
    return true;
}

bool template_read(Arena *arena, Slice text, const TemplateRule *rule, Template *ret)
{
    Lexer lexer;
    lexer_init(&lexer, text, rule->standard_strings);
    /* A mark is never longer than its literal, a space never than its blanks: +1 for the flags. */
    uint8_t *key = arena_alloc(arena, text.len + 1);
    if (!key)
        return false;
    *ret = (Template){0};
    Writer w = {.arena = arena, .rule = rule, .text = text, .out = key, .template = ret};
    *w.out++ = (uint8_t)(KEY_BASE | (rule->standard_strings ? KEY_STANDARD_STRINGS : 0) |
                         (rule->values_may_vary ? KEY_VALUES_VARY : 0) |
                         (rule->kept_count ? KEY_SOME_KEPT : 0));
    size_t end = 0; /* of the token before */
    for (;;) {
        Token token = lexer_next(&lexer);
        if (token.kind == TOKEN_END)
            break;
        if (end == 0)
            w.run = token.offset;
        else if (token.offset != end)
            gap_close(&w, end, token.offset);
        end = (size_t)token.offset + token.len;
        if (token.kind == TOKEN_BAD) {
            ret->bad = true;
            break;
        }
        ret->token_count++;
        if (literal_varies(&w, token) && !literal_cut(&w, token))
            return false;
        if (token.kind == TOKEN_STRING_OTHER && !rule->standard_strings &&
            text.data[token.offset] == '\'' && memchr(text.data + token.offset, '\\', token.len))
            ret->escapes = true;
    }
    run_flush(&w, MAX(end, w.run));
    ret->key = slice_of(key, (size_t)(w.out - key));
    ret->hash = slice_hash(ret->key, 0);
    ret->leading_comment = lexer.leading_comment;
    return true;
}

/* The literal's mark goes into the key, its place into the list. */
static bool literal_cut(Writer *w, Token token)
{
    Template *template = w->template;
    if (template->literal_count == w->literal_max) {
        w->literal_max = MAX(w->literal_max * 2, LITERALS_FIRST);
        ShapeLiteral *more = arena_alloc(w->arena, w->literal_max * sizeof(ShapeLiteral));
        if (!more)
            return false;
        if (template->literal_count)
            memcpy(more, template->literals, template->literal_count * sizeof(ShapeLiteral));
        template->literals = more;
    }
    ShapeLiteral *literal = &template->literals[template->literal_count++];
    *literal = (ShapeLiteral){.class = literal_class(w->text, token),
                              .offset = token.offset,
                              .len = token.len};
    if (literal->class == SHAPE_LITERAL_STRING)
        literal->doubled = token.len > 2 &&
                           memchr(w->text.data + token.offset + 1, '\'', token.len - 2) != NULL;
    run_flush(w, token.offset);
    *w->out++ = (uint8_t)(MARK_FIRST + literal->class);
    w->run = (size_t)token.offset + token.len;
    return true;
}

static ShapeLiteralClass literal_class(Slice text, Token token)
{
    if (token.kind == TOKEN_STRING)
        return SHAPE_LITERAL_STRING;
    if (token.len < 10)
        return SHAPE_LITERAL_INT4;
    uint64_t value = 0; /* TOKEN_INTEGER fits int8 */
    for (uint32_t i = 0; i < token.len; i++)
        value = value * 10 + (uint64_t)(text.data[token.offset + i] - '0');
    return value <= INT32_MAX ? SHAPE_LITERAL_INT4 : SHAPE_LITERAL_INT8;
}

Slice template_describe(Arena *arena, Slice key, size_t len_max)
{
    Slice body = slice_from(key, 1);
    size_t len = MIN(body.len, len_max);
    uint8_t *bytes = arena_alloc(arena, len);
    if (!bytes)
        return slice_of(NULL, 0);
    for (size_t i = 0; i < len; i++) {
        bool mark = body.data[i] >= MARK_FIRST && body.data[i] <= MARK_LAST;
        bytes[i] = mark ? '?' : body.data[i];
    }
    return slice_of(bytes, len);
}
