/*
 * shape.c - from text to Shape: a look-up almost always, the parser once per template.
 *
 *     text --template_read--> key --map--> Shape                               the hot path
 *                                  |
 *                                  `-> stub: "literals 1 and 3 stay" -> second key --map--> Shape
 *                                  |
 *                                  `-> nothing: measure, parse, read the tree, remember
 *
 * The hot path takes no memory but the caller's list of literals. What is made on the way lies in
 * cache->scratch, which each reading begins by emptying.
 */
#include <stdlib.h>

#include "query/complexity.h"
#include "query/grammar.h"
#include "query/shape_build.h"
#include "query/shape_cache.h"
#include "query/template.h"

enum {
    TEMPLATE_TEXT_MAX = 1024,
    FINGERPRINT_TEXT_MAX = 64 * 1024, /* longer ones would pay for a second parse */
};

static const char reason_long[] = "longer than Shoal parses";
static const char reason_complex[] = "more deeply nested than Shoal parses";
static const char reason_lexer[] = "not made of PostgreSQL's tokens";
static const char reason_strings[] = "backslashes in strings while standard_conforming_strings is off";
static const char reason_grammar[] = "not in PostgreSQL 15's grammar";

/* A statement not met before, on its way to a Shape. */
typedef struct Reading {
    ShapeCache *cache;
    Slice text;
    bool standard_strings;
    Template template;
    const char *reason; /* why the tree is missing */
    PgQuery__ParseResult *tree;
    Build build;
} Reading;

static bool shape_find(ShapeCache *cache, Slice text, Template *template, Shape **ret);
static Shape *shape_make(ShapeCache *cache, Slice text, bool standard_strings, Template *template);
static bool reading_parse(Reading *reading);
static bool reading_settle_literals(Reading *reading);
static Shape *reading_build(Reading *reading);
static Shape *unparsed_make(Template *template, const char *reason, bool too_complex);
static Slice hint_of(Slice comment);

bool shape_read(ShapeCache *cache, Slice text, bool standard_strings, bool values_may_vary,
                Arena *arena, ShapeReading *ret)
{
    arena_reset(&cache->scratch);
    Template template = {0};
    Shape *shape;
    if (text.len > cache->text_max) {
        shape = unparsed_make(&template, reason_long, true);
    } else {
        if (!template_read(&cache->scratch, text, standard_strings, values_may_vary, &template) ||
            !shape_find(cache, text, &template, &shape))
            return false;
        if (!shape)
            shape = shape_make(cache, text, standard_strings, &template);
    }
    if (!shape)
        return false;
    ShapeReading reading = {.shape = shape, .hint = hint_of(template.leading_comment)};
    size_t bytes = template.literal_count * sizeof(ShapeLiteral);
    if (bytes) {
        reading.literals = arena_alloc(arena, bytes);
        if (!reading.literals) {
            cache_drop_unused(cache, shape);
            return false;
        }
        memcpy(reading.literals, template.literals, bytes);
    }
    shape_retain(shape);
    *ret = reading;
    return true;
}

/* Looks the template up, following a stub to the second one. *ret is NULL when it is new. False
 * when memory is out. */
static bool shape_find(ShapeCache *cache, Slice text, Template *template, Shape **ret)
{
    Shape *shape = cache_get(cache, template->key, template->hash);
    if (shape && shape->stub) {
        if (!template_keep(&cache->scratch, text, template, shape->kept, shape->kept_count))
            return false;
        shape = cache_get(cache, template->key, template->hash);
    }
    if (shape)
        cache->hits++;
    else
        cache->misses++;
    *ret = shape;
    return true;
}

/* --- a new template ------------------------------------------------------------------------ */

static Shape *shape_make(ShapeCache *cache, Slice text, bool standard_strings, Template *template)
{
    Reading reading = {.cache = cache,
                       .text = text,
                       .standard_strings = standard_strings,
                       .template = *template};
    if (!reading_parse(&reading))
        return NULL;
    Shape *shape;
    if (reading.reason) {
        bool much = reading.reason == reason_complex || reading.reason == reason_long;
        shape = unparsed_make(&reading.template, reading.reason, much);
    } else {
        if (!reading_settle_literals(&reading))
            return NULL;
        *template = reading.template;
        /* The second template may be known although the stub was dropped. */
        shape = cache_get(cache, template->key, template->hash);
        if (shape)
            return shape;
        shape = reading_build(&reading);
    }
    if (shape)
        cache_add(cache, shape);
    return shape;
}

static bool tokens_read(Reading *reading)
{
    uint32_t n = reading->template.token_count;
    Token *tokens = arena_alloc(&reading->cache->scratch, MAX(n, 1) * sizeof(Token));
    if (!tokens)
        return false;
    Lexer lexer;
    lexer_init(&lexer, reading->text, reading->standard_strings);
    for (uint32_t i = 0; i < n; i++)
        tokens[i] = lexer_next(&lexer);
    reading->build.tokens = tokens;
    reading->build.token_count = n;
    return true;
}

/* The tree, or the reason why there is none. False when memory is out. */
static bool reading_parse(Reading *reading)
{
    ShapeCache *cache = reading->cache;
    Slice text = reading->text;
    if (reading->template.token_count > cache->tokens_max) {
        reading->reason = reason_long;
        return true;
    }
    Complexity complexity = complexity_measure(text, reading->standard_strings);
    if (reading->template.bad || (text.len && memchr(text.data, '\0', text.len)))
        reading->reason = reason_lexer;
    else if (reading->template.escapes)
        reading->reason = reason_strings;
    else if (complexity.depth > MIN(cache->depth_max, COMPLEXITY_DEPTH_MAX) ||
             complexity.terms > cache->terms_max)
        reading->reason = reason_complex;
    if (reading->reason)
        return true;
    const char *terminated = arena_text(&cache->scratch, text);
    if (!terminated || !tokens_read(reading))
        return false;
    GrammarResult result = grammar_parse(terminated, &cache->scratch, &reading->tree);
    if (result == GRAMMAR_REFUSED) {
        reading->reason = reason_grammar;
        cache->parse_errors++;
    }
    reading->build = (Build){.scratch = &cache->scratch,
                             .text = slice_of(terminated, text.len),
                             .tokens = reading->build.tokens,
                             .token_count = reading->build.token_count};
    return result != GRAMMAR_NO_MEMORY;
}

/* A stub in the cache says for the next time which literals stay. */
static bool stub_add(Reading *reading, const uint32_t *kept, uint32_t kept_count)
{
    Shape *stub = shape_new();
    if (!stub)
        return false;
    stub->stub = true;
    stub->kept = arena_array(&stub->arena, uint32_t, kept_count);
    stub->kept_count = kept_count;
    stub->key = arena_dup(&stub->arena, reading->template.key);
    stub->hash = reading->template.hash;
    if (!stub->kept || !stub->key.data) {
        shape_destroy(stub);
        return false;
    }
    memcpy(stub->kept, kept, kept_count * sizeof(uint32_t));
    cache_add(reading->cache, stub);
    cache_drop_unused(reading->cache, stub);
    return true;
}

/* Literals that are structure go back into the template. */
static bool reading_settle_literals(Reading *reading)
{
    reading->build.literals = reading->template.literals;
    reading->build.literal_count = reading->template.literal_count;
    if (reading->template.settled || !reading->template.literal_count)
        return true;
    uint32_t *kept, kept_count;
    if (!structure_read(&reading->build, reading->tree, &kept, &kept_count))
        return false;
    if (!kept_count)
        return true;
    if (!stub_add(reading, kept, kept_count))
        return false;
    if (!template_keep(&reading->cache->scratch, reading->text, &reading->template, kept, kept_count))
        return false;
    reading->build.literal_count = reading->template.literal_count;
    return true;
}

/* Key and description; false when memory is out. */
static bool shape_name(Shape *shape, const Template *template)
{
    shape->key = arena_dup(&shape->arena, template->key);
    shape->hash = template->hash;
    shape->literal_count = template->literal_count;
    shape->template_text = template_describe(&shape->arena, shape->key, TEMPLATE_TEXT_MAX);
    return shape->key.data && shape->template_text.data;
}

static Shape *unparsed_make(Template *template, const char *reason, bool too_complex)
{
    Shape *shape = shape_new();
    if (!shape)
        return NULL;
    shape->kind = SHAPE_UNPARSED;
    shape->reason = reason;
    shape->too_complex = too_complex;
    if (template->key.len && !shape_name(shape, template)) {
        shape_destroy(shape);
        return NULL;
    }
    return shape;
}

static bool parts_build(Reading *reading, Shape *shape)
{
    const PgQuery__ParseResult *tree = reading->tree;
    shape->kind = SHAPE_MULTI;
    shape->parts = arena_array(&shape->arena, Shape *, tree->n_stmts);
    if (!shape->parts)
        return false;
    shape->part_count = (uint32_t)tree->n_stmts;
    for (size_t i = 0; i < tree->n_stmts && !reading->build.failed; i++) {
        Shape *part = arena_new(&shape->arena, Shape);
        if (!part)
            return false;
        list_init(&part->lru);
        shape->parts[i] = part;
        reading->build.shape = part;
        reading->build.level_count = 0;
        reading->build.ctes = NULL;
        statement_read(&reading->build, tree->stmts[i]->stmt);
        shape->traits |= part->traits;
        shape->param_max = MAX(shape->param_max, part->param_max);
    }
    return true;
}

static bool reading_fill(Reading *reading, Shape *shape)
{
    const PgQuery__ParseResult *tree = reading->tree;
    Build *build = &reading->build;
    build->arena = &shape->arena;
    build->shape = shape;
    if (!shape_name(shape, &reading->template))
        return false;
    if (tree->n_stmts == 0) {
        shape->kind = SHAPE_EMPTY;
        return true;
    }
    if (reading->text.len <= FINGERPRINT_TEXT_MAX)
        shape->fingerprint = grammar_fingerprint((const char *)build->text.data);
    if (tree->n_stmts > 1)
        return parts_build(reading, shape) && !build->failed;
    const PgQuery__Node *stmt = tree->stmts[0]->stmt;
    build->places = stmt->node_case == PG_QUERY__NODE__NODE_SELECT_STMT;
    statement_read(build, stmt);
    return !build->failed;
}

static Shape *reading_build(Reading *reading)
{
    Shape *shape = shape_new();
    if (!shape)
        return NULL;
    if (!reading_fill(reading, shape)) {
        shape_destroy(shape);
        return NULL;
    }
    if (!reading->build.overflowed)
        return shape;
    shape_destroy(shape);
    return unparsed_make(&reading->template, reason_complex, true);
}

/* The comment before the statement, when it speaks to us: "shoal: ...". */
static Slice hint_of(Slice comment)
{
    static const char mark[] = "shoal:";
    while (comment.len && (comment.data[0] == ' ' || comment.data[0] == '\t'))
        comment = slice_from(comment, 1);
    if (comment.len < sizeof(mark) - 1 || memcmp(comment.data, mark, sizeof(mark) - 1) != 0)
        return slice_of(NULL, 0);
    comment = slice_from(comment, sizeof(mark) - 1);
    while (comment.len && (comment.data[0] == ' ' || comment.data[0] == '\t'))
        comment = slice_from(comment, 1);
    while (comment.len && strchr(" \t\r\n", comment.data[comment.len - 1]))
        comment.len--;
    return comment;
}

/* --- small questions ----------------------------------------------------------------------- */

Slice shape_literal_value(Slice text, const ShapeLiteral *literal, Arena *arena)
{
    const uint8_t *data = text.data + literal->offset;
    if (literal->class != SHAPE_LITERAL_STRING)
        return slice_of(data, literal->len);
    Slice inside = slice_of(data + 1, literal->len - 2);
    if (!literal->doubled)
        return inside;
    uint8_t *out = arena_alloc(arena, inside.len);
    size_t n = 0;
    for (size_t i = 0; out && i < inside.len; i++) {
        out[n++] = inside.data[i];
        i += inside.data[i] == '\'' ? 1 : 0; /* of a pair the first is taken */
    }
    return slice_of(out, n);
}

const char *shape_kind_name(ShapeKind kind)
{
    static const char *const names[SHAPE_KIND_COUNT] = {
        [SHAPE_EMPTY] = "EMPTY",
        [SHAPE_UNPARSED] = "UNPARSED",
        [SHAPE_MULTI] = "MULTI",
        [SHAPE_SELECT] = "SELECT",
        [SHAPE_INSERT] = "INSERT",
        [SHAPE_UPDATE] = "UPDATE",
        [SHAPE_DELETE] = "DELETE",
        [SHAPE_MERGE] = "MERGE",
        [SHAPE_BEGIN] = "BEGIN",
        [SHAPE_COMMIT] = "COMMIT",
        [SHAPE_ROLLBACK] = "ROLLBACK",
        [SHAPE_SAVEPOINT] = "SAVEPOINT",
        [SHAPE_RELEASE] = "RELEASE",
        [SHAPE_ROLLBACK_TO] = "ROLLBACK TO",
        [SHAPE_PREPARE_TRANSACTION] = "PREPARE TRANSACTION",
        [SHAPE_COMMIT_PREPARED] = "COMMIT PREPARED",
        [SHAPE_SET] = "SET",
        [SHAPE_SET_LOCAL] = "SET LOCAL",
        [SHAPE_RESET] = "RESET",
        [SHAPE_RESET_ALL] = "RESET ALL",
        [SHAPE_SHOW] = "SHOW",
        [SHAPE_DISCARD] = "DISCARD",
        [SHAPE_PREPARE] = "PREPARE",
        [SHAPE_EXECUTE] = "EXECUTE",
        [SHAPE_DEALLOCATE] = "DEALLOCATE",
        [SHAPE_DECLARE] = "DECLARE",
        [SHAPE_FETCH] = "FETCH",
        [SHAPE_CLOSE] = "CLOSE",
        [SHAPE_COPY_IN] = "COPY FROM STDIN",
        [SHAPE_COPY_OUT] = "COPY TO STDOUT",
        [SHAPE_COPY_SERVER] = "COPY",
        [SHAPE_EXPLAIN] = "EXPLAIN",
        [SHAPE_LISTEN] = "LISTEN",
        [SHAPE_NOTIFY] = "NOTIFY",
        [SHAPE_LOCK] = "LOCK",
        [SHAPE_CALL] = "CALL",
        [SHAPE_DO] = "DO",
        [SHAPE_DDL] = "DDL",
        [SHAPE_DDL_ALONE] = "DDL ALONE",
        [SHAPE_MAINTENANCE] = "MAINTENANCE",
    };
    assert(kind < SHAPE_KIND_COUNT);
    return names[kind];
}

static bool targets_none(const Shape *shape)
{
    for (uint32_t i = 0; i < shape->table_count; i++)
        if (shape->tables[i].target)
            return false;
    return true;
}

bool shape_is_read(const Shape *shape)
{
    uint32_t writes = SHAPE_HAS_LOCKING | SHAPE_HAS_INTO | SHAPE_HAS_MODIFYING_CTE;
    switch (shape->kind) {
    case SHAPE_EMPTY:
    case SHAPE_SHOW:
        return true;
    case SHAPE_SELECT:
    case SHAPE_COPY_OUT:
        return !(shape->traits & writes);
    case SHAPE_EXPLAIN:
        return !(shape->traits & SHAPE_HAS_ANALYZE) ||
               (!(shape->traits & writes) && targets_none(shape));
    case SHAPE_MULTI:
        for (uint32_t i = 0; i < shape->part_count; i++)
            if (!shape_is_read(shape->parts[i]))
                return false;
        return true;
    default:
        return false;
    }
}
