/*
 * rewrite.c - why by tokens: the original's text is what PostgreSQL must read, comments, quoting
 * and all. So the text is copied from token to token, and only the value's own tokens are
 * exchanged. Where the tokens are not exactly those that the shape tells, we do not rewrite.
 *
 *     | SELECT | name | FROM | users | WHERE | id | = | 42 | AND | live | ;  -- a comment
 *                                                      ^^                 ^ cut here
 */
#include "batcher/rewrite.h"

#include <stdio.h>

#include "query/lexer.h"
#include "wire/writer.h"

#define REWRITE_TOKENS_MAX 8192

/* ---- the statement's end --------------------------------------------------------------------- */

/* Walks all tokens: where the last one but semicolons ends, and how often each key's parameter
 * occurs. False when the text is not one that we understand. */
static bool survey(const RewriteInput *in, size_t *ret_end, uint32_t occurrences[KEY_COUNT_MAX])
{
    Lexer lexer;
    lexer_init(&lexer, in->text, true);
    memset(occurrences, 0, sizeof(uint32_t) * KEY_COUNT_MAX);
    *ret_end = 0;
    bool ended = false;
    for (uint32_t i = 0; i < REWRITE_TOKENS_MAX; i++) {
        Token token = lexer_next(&lexer);
        if (token.kind == TOKEN_END)
            return *ret_end > 0;
        if (token.kind == TOKEN_BAD)
            return false;
        if (token.kind == TOKEN_PUNCT && in->text.data[token.offset] == ';') {
            ended = true;
            continue;
        }
        if (ended)
            return false; /* a second statement */
        *ret_end = token.offset + token.len;
        for (uint32_t k = 0; token.kind == TOKEN_PARAM && k < in->key_count; k++)
            occurrences[k] +=
                in->keys[k].source == KEY_FROM_PARAM && in->keys[k].array_param == token.param;
    }
    return false;
}

/* ---- tier A ---------------------------------------------------------------------------------- */

/* Fills `ret` with the text of `count` tokens from token `from` on, white space included. */
static bool token_span(Slice text, uint32_t from, uint32_t count, Slice *ret)
{
    Lexer lexer;
    lexer_init(&lexer, text, true);
    size_t start = 0;
    for (uint32_t i = 0; i < from + count; i++) {
        Token token = lexer_next(&lexer);
        if (token.kind == TOKEN_END || token.kind == TOKEN_BAD)
            return false;
        if (i == from)
            start = token.offset;
        if (i + 1 == from + count)
            *ret = slice_of(text.data + start, token.offset + token.len - start);
    }
    return count > 0;
}

/* `id`, `users.id`, "Users"."id": names and dots only, so that no comment sneaks in between. */
static bool plain_reference(Slice text)
{
    Lexer lexer;
    lexer_init(&lexer, text, true);
    size_t at = 0;
    for (bool name = true;; name = !name) {
        Token token = lexer_next(&lexer);
        if (token.kind == TOKEN_END)
            return !name;
        bool is_name = token.kind == TOKEN_IDENT || token.kind == TOKEN_QUOTED;
        bool is_dot = token.kind == TOKEN_PUNCT && text.data[token.offset] == '.';
        if (token.offset != at || (name ? !is_name : !is_dot))
            return false;
        at = token.offset + token.len;
    }
}

bool rewrite_keys(const RewriteInput *in, Buf *sql)
{
    const KeyPlan *key = &in->keys[0];
    const ShapeEqual *equal = &in->shape->equals[key->equal];
    const ShapeValue *value = &equal->value;
    uint32_t select = in->shape->select_list_token;
    size_t end;
    uint32_t occurrences[KEY_COUNT_MAX];
    Slice column, first, value_text;
    if (in->key_count != 1 || select == 0 || value->token != equal->operator_token + 1 ||
        value->token_count != (value->negative ? 2 : 1) || !survey(in, &end, occurrences) ||
        (key->source == KEY_FROM_PARAM && occurrences[0] != 1) ||
        !token_span(in->text, equal->column_token, equal->column_token_count, &column) ||
        !plain_reference(column) || !token_span(in->text, select, 1, &first) ||
        !token_span(in->text, value->token, value->token_count, &value_text))
        return false;
    /* An empty list: FROM follows at once. */
    if (slice_equal_nocase(first, SLICE("from")) || first.data >= value_text.data)
        return false;
    size_t mark = buf_len(sql);
    char array[64];
    snprintf(array, sizeof(array), "ANY($%u::pg_catalog.%s[])", key->array_param, key->type->name);
    const uint8_t *start = in->text.data;
    writer_bytes(sql, slice_of(start, (size_t)(first.data - start)));
    writer_bytes(sql, column);
    writer_bytes(sql, SLICE(" AS \"_shoal_key\", "));
    writer_bytes(sql, slice_of(first.data, (size_t)(value_text.data - first.data)));
    writer_bytes(sql, slice_str(array));
    const uint8_t *rest = value_text.data + value_text.len;
    writer_bytes(sql, slice_of(rest, (size_t)(start + end - rest)));
    if (sql->failed)
        sql->tail = sql->head + mark;
    return !sql->failed;
}

/* ---- tier B ---------------------------------------------------------------------------------- */

/* The reference that stands for key `k` inside the original. */
static void put_reference(Buf *sql, uint32_t k, const char *cast)
{
    char text[48];
    int len = snprintf(text, sizeof(text), "\"_shoal_k\".\"_shoal_a%u\"", k + 1);
    writer_bytes(sql, cast ? SLICE("(") : SLICE(""));
    writer_bytes(sql, slice_of(text, (size_t)len));
    writer_bytes(sql, cast ? SLICE("::") : SLICE(""));
    writer_bytes(sql, slice_str(cast));
    writer_bytes(sql, cast ? SLICE(")") : SLICE(""));
}

static bool is_minus(Slice text, Token token)
{
    return token.kind == TOKEN_OPERATOR && token.len == 1 && text.data[token.offset] == '-';
}

/* Which key does this token belong to? `*ret_skip`: it is the sign of the literal behind it. A
 * literal that is typed by the word before it (date '...') is none that we can exchange. */
static int key_at(const RewriteInput *in, uint32_t number, Token token, Token before,
                  bool *ret_skip)
{
    *ret_skip = false;
    for (uint32_t k = 0; k < in->key_count; k++) {
        const KeyPlan *key = &in->keys[k];
        const ShapeValue *value = &in->shape->equals[key->equal].value;
        if (key->source == KEY_FROM_PARAM) {
            if (token.kind == TOKEN_PARAM && token.param == key->array_param)
                return (int)k;
            continue;
        }
        if (number < value->token || number >= (uint32_t)value->token + value->token_count)
            continue;
        if (key->negative && number == value->token && is_minus(in->text, token)) {
            *ret_skip = true;
            return (int)k;
        }
        bool typed =
            number > value->token && (before.kind == TOKEN_IDENT || before.kind == TOKEN_QUOTED);
        if (token.kind == (key->source == KEY_FROM_INTEGER ? TOKEN_INTEGER : TOKEN_STRING) &&
            !typed)
            return (int)k;
    }
    return -1;
}

/* The original with its keys' values exchanged. False when some key was not found where it should
 * stand, or a literal's place holds more than one. */
static bool put_original(const RewriteInput *in, size_t end, Buf *sql)
{
    Lexer lexer;
    lexer_init(&lexer, in->text, true);
    uint32_t found[KEY_COUNT_MAX] = {0}, signs[KEY_COUNT_MAX] = {0};
    size_t copied = 0;
    Token token = {.kind = TOKEN_END}, before;
    for (uint32_t number = 0;; number++) {
        before = token;
        token = lexer_next(&lexer);
        if (token.kind == TOKEN_END || token.offset >= end)
            break;
        bool sign;
        int key = key_at(in, number, token, before, &sign);
        if (key < 0)
            continue;
        writer_bytes(sql, slice_of(in->text.data + copied, token.offset - copied));
        copied = token.offset + token.len;
        if (sign) {
            signs[key]++;
            continue;
        }
        writer_u8(sql, ' ');
        put_reference(sql, (uint32_t)key, in->keys[key].cast);
        found[key]++;
    }
    writer_bytes(sql, slice_of(in->text.data + copied, end - copied));
    for (uint32_t k = 0; k < in->key_count; k++) {
        bool param = in->keys[k].source == KEY_FROM_PARAM;
        if (param ? found[k] == 0 : found[k] != 1 || signs[k] != in->keys[k].negative)
            return false;
    }
    return true;
}

static void put_keys(const RewriteInput *in, Buf *sql)
{
    char text[96];
    writer_bytes(sql, SLICE("SELECT \"_shoal_k\".\"_shoal_o\", \"_shoal_s\".* FROM ROWS FROM ("));
    for (uint32_t k = 0; k < in->key_count; k++) {
        int len = snprintf(text, sizeof(text), "%spg_catalog.unnest($%u::pg_catalog.%s[])",
                           k ? ", " : "", in->keys[k].array_param, in->keys[k].type->name);
        writer_bytes(sql, slice_of(text, (size_t)len));
    }
    writer_bytes(sql, SLICE(") WITH ORDINALITY AS \"_shoal_k\"("));
    for (uint32_t k = 0; k < in->key_count; k++) {
        int len = snprintf(text, sizeof(text), "\"_shoal_a%u\", ", k + 1);
        writer_bytes(sql, slice_of(text, (size_t)len));
    }
    writer_bytes(sql, SLICE("\"_shoal_o\") CROSS JOIN LATERAL ("));
}

/*
 * OFFSET 0 keeps the planner from pulling the original apart: it then runs once per key, on the
 * key's index. An original that may have an OFFSET of its own gets one level more around it.
 */
bool rewrite_ordinal(const RewriteInput *in, Buf *sql)
{
    size_t end, mark = buf_len(sql);
    uint32_t occurrences[KEY_COUNT_MAX];
    if (in->key_count == 0 || !survey(in, &end, occurrences))
        return false;
    bool wrap = in->shape->traits & SHAPE_HAS_OFFSET;
    put_keys(in, sql);
    if (wrap)
        writer_bytes(sql, SLICE("SELECT \"_shoal_q\".* FROM ("));
    bool good = put_original(in, end, sql);
    if (wrap)
        writer_bytes(sql, SLICE("\n) AS \"_shoal_q\""));
    writer_bytes(sql, SLICE("\nOFFSET 0) AS \"_shoal_s\""));
    if (!good || sql->failed)
        sql->tail = sql->head + mark;
    return good && !sql->failed;
}
