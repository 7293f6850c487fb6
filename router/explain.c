/*
 * explain.c - cuts EXPLAIN's options off, plans the rest as if it were sent alone, asks the shards to explain their
 * parts, and writes what they say below Shoal's own lines.
 *
 *     EXPLAIN (ANALYZE, FORMAT json) SELECT ...
 *     ^ head                         ^ inner          each leg:  head + the leg's text [; the leg's text]
 */
#include "router/explain.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "query/lexer.h"
#include "router/dispatch.h"
#include "router/local.h"
#include "router/planning.h"
#include "router/scatter.h"
#include "router/scatter_read.h"
#include "router/worker_state.h"
#include "wire/backend.h"

#define LINES_MAX ((size_t)8 << 20) /* bytes of one shard's plan */

typedef enum Format { FORMAT_IS_TEXT, FORMAT_IS_JSON, FORMAT_IS_OTHER } Format;

typedef struct Head {
    Slice text;  /* EXPLAIN and its options */
    Slice inner; /* the statement */
    bool analyze;
    Format format;
} Head;

/* What one leg is asked and has said. */
typedef struct Part {
    Slice sql;
    const char *into; /* of GATHER and PARTIAL: the temporary table; NULL */
    Buf said;         /* lines, or the JSON */
    uint32_t results; /* statements that have answered */
    uint64_t rows, bytes, begun_us, time_us;
} Part;

typedef struct Explain {
    Head head;
    const char *kind, *reason; /* "concat" ...; NULL: nothing to add */
    Slice final;
    Part *parts; /* by leg */
    uint32_t part_count, shard_count;
    Slice description; /* whole T of the first leg */
} Explain;

/* ---- EXPLAIN (options) -------------------------------------------------------------------------------- */

static bool word_is(Slice text, const Token *token, const char *word)
{
    return token->kind == TOKEN_IDENT && token_is(text, *token, word);
}

static bool is_mark(Slice text, const Token *token, char mark)
{
    return token->kind == TOKEN_PUNCT && token->len == 1 && text.data[token->offset] == mark;
}

/* (ANALYZE, FORMAT json): up to the closing parenthesis. */
static void options_read(Slice text, Lexer *lexer, Head *head)
{
    bool after_format = false, after_analyze = false;
    for (Token token; (token = lexer_next(lexer)).kind != TOKEN_END && token.kind != TOKEN_BAD;) {
        if (is_mark(text, &token, ')'))
            return;
        Slice word = slice_of(text.data + token.offset, token.len);
        if (after_format)
            head->format = slice_equal_nocase(word, SLICE("json"))   ? FORMAT_IS_JSON
                           : slice_equal_nocase(word, SLICE("text")) ? FORMAT_IS_TEXT
                                                                     : FORMAT_IS_OTHER;
        if (after_analyze && (word_is(text, &token, "off") || word_is(text, &token, "false") || slice_is(word, "0")))
            head->analyze = false;
        after_analyze = word_is(text, &token, "analyze") || word_is(text, &token, "analyse");
        head->analyze |= after_analyze;
        after_format = word_is(text, &token, "format");
    }
}

static bool begins_statement(Slice text, const Token *token)
{
    static const char *const WORDS[] = {"select", "with", "values", "table", "insert", "update", "delete", "merge"};
    for (size_t i = 0; i < ARRAY_LEN(WORDS); i++)
        if (word_is(text, token, WORDS[i]))
            return true;
    return is_mark(text, token, '(');
}

/* False: it is not understood, and goes the way of all others. */
static bool head_read(Slice text, bool standard_strings, Head *head)
{
    Lexer lexer;
    lexer_init(&lexer, text, standard_strings);
    Token token = lexer_next(&lexer);
    if (!word_is(text, &token, "explain"))
        return false;
    Lexer ahead = lexer;
    token = lexer_next(&lexer);
    if (is_mark(text, &token, '(')) {
        ahead = lexer;
        Token first = lexer_next(&ahead);
        if (!begins_statement(text, &first)) {
            options_read(text, &lexer, head);
            token = lexer_next(&lexer);
        }
    }
    while (word_is(text, &token, "analyze") || word_is(text, &token, "analyse") || word_is(text, &token, "verbose")) {
        head->analyze |= !word_is(text, &token, "verbose");
        token = lexer_next(&lexer);
    }
    if (!begins_statement(text, &token))
        return false;
    head->text = slice_of(text.data, token.offset);
    head->inner = slice_from(text, token.offset);
    while (head->inner.len && (head->inner.data[head->inner.len - 1] == ';' ||
                               isspace(head->inner.data[head->inner.len - 1])))
        head->inner.len--;
    return true;
}

/* ---- what comes back ------------------------------------------------------------------------------------ */

static void part_row(Explain *explain, Part *part, Slice body)
{
    DataRow row;
    Error err;
    if (part->results) {
        part->rows++;
        part->bytes += body.len;
        return;
    }
    if (backend_read_data_row(body, -1, &row, &err) != WIRE_OK || row.count != 1)
        return;
    buf_append(&part->said, data_row_at(&row, 0).value);
    if (explain->head.format == FORMAT_IS_TEXT)
        buf_append(&part->said, SLICE("\n"));
}

static void explain_on_frame(Scatter *scatter, Leg *leg, const Frame *frame)
{
    Explain *explain = scatter->composer;
    Part *part = &explain->parts[leg->index];
    switch (frame->type) {
    case BACKEND_PARAMETER_DESCRIPTION:
        if (!scatter->request->parameter_description.len)
            scatter->request->parameter_description = arena_dup(&scatter->request->arena, frame->whole);
        break;
    case BACKEND_ROW_DESCRIPTION:
        if (!explain->description.len)
            explain->description = arena_dup(&scatter->request->arena, frame->whole);
        break;
    case BACKEND_DATA_ROW:
        part_row(explain, part, frame->body);
        break;
    case BACKEND_COMMAND_COMPLETE:
        part->time_us = clock_now_us() - part->begun_us;
        part->begun_us = clock_now_us();
        part->results++;
        break;
    default:
        break;
    }
}

static void put_text(Buf *out, const char *text)
{
    buf_append(out, slice_str(text));
}

static void put_number(Buf *out, uint64_t value)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRIu64, value);
    put_text(out, digits);
}

static void put_ms(Buf *out, uint64_t us)
{
    char text[40];
    snprintf(text, sizeof text, "%" PRIu64 ".%03u", us / 1000, (unsigned)(us % 1000));
    put_text(out, text);
}

static const char *shard_of(const Scatter *scatter, uint32_t leg)
{
    return worker_config(scatter->worker)->shards[scatter->legs[leg].shard].name;
}

/* Of what was run to be counted. */
static bool counts(const Explain *explain, const Part *part)
{
    return explain->head.analyze && part->results == 2;
}

/* ---- TEXT -------------------------------------------------------------------------------------------------- */

typedef struct Lines {
    Scatter *scatter;
    Buf line;
} Lines;

static void line_end(Lines *lines)
{
    const Column column = {.value = buf_bytes(&lines->line)};
    backend_put_data_row(request_out(lines->scatter->request), &column, 1);
    buf_reset(&lines->line);
}

static void line(Lines *lines, const char *text)
{
    put_text(&lines->line, text);
    line_end(lines);
}

/* Statements may have lines of their own. */
static void put_flat(Buf *out, Slice sql)
{
    for (size_t i = 0; i < sql.len; i++)
        buf_append(out, sql.data[i] == '\n' || sql.data[i] == '\t' ? SLICE(" ") : slice_of(&sql.data[i], 1));
}

static void part_lines(Lines *lines, const Explain *explain, uint32_t leg)
{
    const Part *part = &explain->parts[leg];
    Slice said = buf_bytes(&part->said);
    put_text(&lines->line, "  ->  Shard ");
    put_text(&lines->line, shard_of(lines->scatter, leg));
    if (part->into) {
        put_text(&lines->line, " into pg_temp.");
        put_text(&lines->line, part->into);
    }
    put_text(&lines->line, ": ");
    put_flat(&lines->line, part->sql);
    line_end(lines);
    while (said.len) {
        const uint8_t *end = memchr(said.data, '\n', said.len);
        size_t len = end ? (size_t)(end - said.data) : said.len;
        put_text(&lines->line, "        ");
        buf_append(&lines->line, slice_of(said.data, len));
        line_end(lines);
        said = slice_from(said, end ? len + 1 : len);
    }
    if (!counts(explain, part))
        return;
    put_text(&lines->line, "        Sent: rows=");
    put_number(&lines->line, part->rows);
    put_text(&lines->line, " bytes=");
    put_number(&lines->line, part->bytes);
    put_text(&lines->line, " time=");
    put_ms(&lines->line, part->time_us);
    line(lines, " ms");
}

static void put_lines(Scatter *scatter, const Explain *explain)
{
    Lines lines = {.scatter = scatter};
    char text[96];
    buf_init(&lines.line, LINES_MAX);
    snprintf(text, sizeof text, "Shoal %s over %u shard%s", explain->kind, explain->shard_count,
             explain->shard_count == 1 ? "" : "s");
    line(&lines, text);
    if (explain->reason) {
        put_text(&lines.line, "  Reason: ");
        line(&lines, explain->reason);
    }
    if (explain->final.len) {
        put_text(&lines.line, "  Final: ");
        put_flat(&lines.line, explain->final);
        line_end(&lines);
    }
    for (uint32_t i = 0; i < explain->part_count; i++)
        part_lines(&lines, explain, i);
    buf_finish(&lines.line);
}

/* ---- JSON -------------------------------------------------------------------------------------------------- */

static void put_string(Buf *out, Slice text)
{
    char escaped[8];
    put_text(out, "\"");
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];
        if (c == '"' || c == '\\' || c < 0x20) {
            snprintf(escaped, sizeof escaped, c < 0x20 ? "\\u%04x" : "\\%c", c);
            put_text(out, escaped);
        } else {
            buf_append(out, slice_of(&c, 1));
        }
    }
    put_text(out, "\"");
}

static void put_member(Buf *out, const char *name, Slice text)
{
    put_string(out, slice_str(name));
    put_text(out, ": ");
    put_string(out, text);
    put_text(out, ",\n      ");
}

static void put_count(Buf *out, const char *name, uint64_t value)
{
    put_string(out, slice_str(name));
    put_text(out, ": ");
    put_number(out, value);
    put_text(out, ",\n      ");
}

static void part_json(Buf *out, const Scatter *scatter, const Explain *explain, uint32_t leg)
{
    const Part *part = &explain->parts[leg];
    put_text(out, leg ? ",\n      {" : "{");
    put_member(out, "Node Type", SLICE("Shard"));
    put_member(out, "Shard", slice_str(shard_of(scatter, leg)));
    if (part->into)
        put_member(out, "Into", slice_str(part->into));
    put_member(out, "Statement", part->sql);
    if (counts(explain, part)) {
        put_count(out, "Sent Rows", part->rows);
        put_count(out, "Sent Bytes", part->bytes);
        put_text(out, "\"Time\": ");
        put_ms(out, part->time_us);
        put_text(out, ",\n      ");
    }
    put_text(out, "\"Explain\": ");
    buf_append(out, buf_len(&part->said) ? buf_bytes(&part->said) : SLICE("null"));
    put_text(out, "}");
}

static void put_json(Scatter *scatter, const Explain *explain)
{
    Buf out;
    buf_init(&out, LINES_MAX * (explain->part_count + 1));
    put_text(&out, "[\n  {\n    \"Plan\": {\n      ");
    put_member(&out, "Node Type", SLICE("Shoal"));
    put_member(&out, "Strategy", slice_str(explain->kind));
    put_count(&out, "Shards", explain->shard_count);
    if (explain->reason)
        put_member(&out, "Reason", slice_str(explain->reason));
    if (explain->final.len)
        put_member(&out, "Final", explain->final);
    put_text(&out, "\"Plans\": [");
    for (uint32_t i = 0; i < explain->part_count; i++)
        part_json(&out, scatter, explain, i);
    put_text(&out, "]\n    }\n  }\n]");
    const Column column = {.value = buf_bytes(&out)};
    backend_put_data_row(request_out(scatter->request), &column, 1);
    buf_finish(&out);
}

static void explain_on_end(Scatter *scatter)
{
    Explain *explain = scatter->composer;
    Buf tag;
    buf_init(&tag, 64);
    backend_put_command_complete(&tag, SLICE("EXPLAIN"));
    local_open(scatter->request, explain->description);
    if (explain->head.format == FORMAT_IS_JSON)
        put_json(scatter, explain);
    else
        put_lines(scatter, explain);
    local_close(scatter->request, buf_bytes(&tag));
    buf_finish(&tag);
}

static void explain_on_free(Scatter *scatter)
{
    Explain *explain = scatter->composer;
    for (uint32_t i = 0; i < explain->part_count; i++)
        buf_finish(&explain->parts[i].said);
}

static const ComposerOps COMPOSER_EXPLAIN = {.on_frame = explain_on_frame, .on_end = explain_on_end,
                                             .on_free = explain_on_free};

/* ---- what is asked ------------------------------------------------------------------------------------------- */

/* EXPLAIN and the part's text; with ANALYZE of a SELECT then the text itself, to be counted. */
static bool leg_steps(Request *request, const Explain *explain, Slice sql, bool again, ScatterLeg *leg)
{
    Arena *arena = &request->arena;
    char *text = arena_printf(arena, "%.*s%.*s", SLICE_FMT(explain->head.text), SLICE_FMT(sql));
    TaskStep *first = NULL, *second = NULL;
    uint32_t n = 0, m = 0;
    if (!text)
        return false;
    scatter_steps(request, slice_str(text), &first, &n);
    if (again)
        scatter_steps(request, sql, &second, &m);
    if (!first || (again && !second))
        return false;
    uint32_t keep = again && first[n - 1].op == TASK_SYNC ? n - 1 : n;
    leg->steps = arena_array(arena, TaskStep, keep + m);
    if (!leg->steps)
        return false;
    memcpy(leg->steps, first, keep * sizeof *first);
    if (m)
        memcpy(leg->steps + keep, second, m * sizeof *second);
    leg->step_count = keep + m;
    return true;
}

static ScatterLeg *room_make(Request *request, Explain *explain, uint32_t count)
{
    explain->parts = arena_array(&request->arena, Part, count + 1);
    ScatterLeg *legs = arena_array(&request->arena, ScatterLeg, count + 1);
    return explain->parts ? legs : NULL;
}

static bool add_legs(Request *request, Explain *explain, ScatterLeg *legs, Slice sql, const char *into,
                     const uint32_t *shards, uint32_t count, bool again)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = explain->part_count++;
        explain->parts[at] = (Part){.sql = sql, .into = into, .begun_us = clock_now_us()};
        buf_init(&explain->parts[at].said, LINES_MAX);
        legs[at].shard = shards[i];
        if (!leg_steps(request, explain, sql, again, &legs[at]))
            return false;
    }
    return true;
}

static uint32_t distinct_shards(const ScatterLeg *legs, uint32_t count)
{
    uint32_t distinct = 0;
    for (uint32_t i = 0; i < count; i++) {
        bool before = false;
        for (uint32_t k = 0; k < i; k++)
            before |= legs[k].shard == legs[i].shard;
        distinct += !before;
    }
    return distinct;
}

static ScatterLeg *spread_legs(Request *request, Explain *explain, const Fanout *spread)
{
    const SplitForm *form = &spread->form;
    bool again = explain->head.analyze;
    uint32_t count = form->kind == SPLIT_GATHER ? 0 : spread->legs.count;
    for (uint32_t i = 0; form->kind == SPLIT_GATHER && i < form->relation_count; i++)
        count += spread->relations[i].count;
    ScatterLeg *legs = room_make(request, explain, count);
    bool ok = legs != NULL;
    explain->kind = split_kind_name(form->kind);
    explain->reason = form->reason;
    if (form->kind == SPLIT_GATHER) /* PARTIAL's is made when the types of its parts are known */
        explain->final = form->final;
    if (form->kind == SPLIT_CONCAT || form->kind == SPLIT_ORDERED)
        return ok && add_legs(request, explain, legs, form->leg, NULL, spread->legs.shards, spread->legs.count, again)
                   ? legs
                   : NULL;
    for (uint32_t i = 0; ok && i < form->relation_count; i++) {
        const FanoutLegs *to = form->kind == SPLIT_GATHER ? &spread->relations[i] : &spread->legs;
        ok = add_legs(request, explain, legs, form->relations[i].leg, form->relations[i].name, to->shards, to->count,
                      again);
    }
    return ok ? legs : NULL;
}

static void refuse(Request *request, const char *message, const char *hint)
{
    Error err;
    error_set(&err, SQLSTATE_FEATURE_NOT_SUPPORTED, "%s", message);
    error_hint(&err, "%s", hint);
    dispatch_error(request, &err);
}

static void run(Request *request, Explain *explain, const Plan *plan)
{
    bool write = plan->kind == PLAN_WRITE;
    ScatterLeg *legs = NULL;
    if (write) {
        legs = room_make(request, explain, plan->shard_count);
        explain->kind = plan->same ? "write of every copy" : "write";
        if (legs && !add_legs(request, explain, legs, explain->head.inner, NULL, plan->shards, plan->shard_count, false))
            legs = NULL;
    } else {
        legs = spread_legs(request, explain, plan->spread);
    }
    if (!legs) {
        Error err;
        error_set(&err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        session_fatal(request->session, &err);
        return;
    }
    explain->shard_count = distinct_shards(legs, explain->part_count);
    bool writes = write && explain->head.analyze;
    scatter_start(request, &(ScatterSpec){.legs = legs, .leg_count = explain->part_count, .ops = &COMPOSER_EXPLAIN,
                                          .composer = explain, .sequential = true, .atomic = writes,
                                          .writes = writes});
}

/* Plans the inner statement as if the client had sent it. */
static bool plan_inner(Request *request, const Head *head, Plan *ret)
{
    Session *session = request->session;
    PlanStatement *statement = &request->planned[0], kept = *statement;
    ShapeReading reading;
    if (!shape_read(&session->worker->shapes, head->inner, session_standard_strings(session),
                    session_values_may_vary(session), &request->arena, &reading))
        return false;
    statement->shape = reading.shape;
    statement->text = head->inner;
    statement->literals = reading.literals;
    *ret = planning_make(request);
    *statement = kept;
    shape_release(&session->worker->shapes, reading.shape);
    return true;
}

bool explain_start(Request *request)
{
    Explain *explain = arena_new(&request->arena, Explain);
    Plan plan;
    if (!explain || !head_read(request->planned[0].text, session_standard_strings(request->session), &explain->head) ||
        !plan_inner(request, &explain->head, &plan))
        return false;
    if (plan.kind != PLAN_SCATTER && plan.kind != PLAN_WRITE)
        return false;
    if (explain->head.format == FORMAT_IS_OTHER) {
        refuse(request, "EXPLAIN over several shards knows FORMAT TEXT and FORMAT JSON", "Use one of them.");
        return true;
    }
    if (plan.kind == PLAN_SCATTER && plan.spread->form.limit_param) {
        refuse(request, "EXPLAIN over several shards does not know LIMIT with a parameter", "Write the number.");
        return true;
    }
    run(request, explain, &plan);
    return true;
}
