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
    Slice text;
    uint8_t *key, *out; /* the key, and where its next byte goes */
    size_t run; /* text[run..end of the last token) is not yet in the key */
    uint32_t literal_max;
    Template *template;
} Writer;

static bool literal_cut(Writer *w, Token token);
static bool literals_grow(Writer *w);
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

bool template_read(Arena *arena, Slice text, bool standard_strings, bool values_may_vary,
                   Template *ret)
{
    Lexer lexer;
    lexer_init(&lexer, text, standard_strings);
    bool vary = values_may_vary && standard_strings;
    /* A mark is never longer than its literal, a space never than its blanks: +1 for the flags. */
    uint8_t *key = arena_alloc(arena, text.len + 1);
    if (!key)
        return false;
    *ret = (Template){0};
    Writer w = {.arena = arena, .text = text, .key = key, .out = key, .template = ret};
    *w.out++ = (uint8_t)(KEY_BASE | (standard_strings ? KEY_STANDARD_STRINGS : 0) |
                         (vary ? KEY_VALUES_VARY : 0));
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
        if (token.kind == TOKEN_INTEGER || token.kind == TOKEN_STRING) {
            if (vary && !literal_cut(&w, token))
                return false;
        } else if (token.kind == TOKEN_STRING_OTHER && !standard_strings) {
            const uint8_t *bytes = text.data + token.offset;
            ret->escapes = ret->escapes || (*bytes == '\'' && memchr(bytes, '\\', token.len));
        }
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
    if (template->literal_count == w->literal_max && !literals_grow(w))
        return false;
    ShapeLiteral *literal = &template->literals[template->literal_count];
    *literal = (ShapeLiteral){.class = literal_class(w->text, token),
                              .offset = token.offset,
                              .len = token.len};
    if (literal->class == SHAPE_LITERAL_STRING)
        literal->doubled = token.len > 2 &&
                           memchr(w->text.data + token.offset + 1, '\'', token.len - 2) != NULL;
    run_flush(w, token.offset);
    template->marks[template->literal_count++] = (uint32_t)(w->out - w->key);
    *w->out++ = (uint8_t)(MARK_FIRST + literal->class);
    w->run = (size_t)token.offset + token.len;
    return true;
}

static bool literals_grow(Writer *w)
{
    Template *template = w->template;
    uint32_t n = template->literal_count, max = MAX(w->literal_max * 2, LITERALS_FIRST);
    ShapeLiteral *literals = arena_alloc(w->arena, max * sizeof(ShapeLiteral));
    uint32_t *marks = arena_alloc(w->arena, max * sizeof(uint32_t));
    if (!literals || !marks)
        return false;
    if (n) {
        memcpy(literals, template->literals, n * sizeof(ShapeLiteral));
        memcpy(marks, template->marks, n * sizeof(uint32_t));
    }
    template->literals = literals;
    template->marks = marks;
    w->literal_max = max;
    return true;
}

bool template_keep(Arena *arena, Slice text, Template *template, const uint32_t *kept,
                   uint32_t kept_count)
{
    size_t len = template->key.len;
    for (uint32_t i = 0; i < kept_count; i++)
        len += template->literals[kept[i]].len - 1;
    uint8_t *key = arena_alloc(arena, len), *out = key;
    if (!key)
        return false;
    const uint8_t *from = template->key.data, *end = from + template->key.len;
    uint32_t left = 0, next = 0; /* literals still cut; place in `kept` */
    for (uint32_t i = 0; i < template->literal_count; i++) {
        ShapeLiteral literal = template->literals[i];
        if (next == kept_count || kept[next] != i) {
            template->literals[left++] = literal;
            continue;
        }
        next++;
        const uint8_t *mark = template->key.data + template->marks[i];
        out = mempcpy(out, from, (size_t)(mark - from));
        out = mempcpy(out, text.data + literal.offset, literal.len);
        from = mark + 1;
    }
    out = mempcpy(out, from, (size_t)(end - from));
    key[0] |= KEY_SOME_KEPT;
    template->key = slice_of(key, (size_t)(out - key));
    template->hash = slice_hash(template->key, 0);
    template->literal_count = left;
    template->marks = NULL; /* of the old key */
    template->settled = true;
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
