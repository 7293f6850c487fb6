/*
 * place_hint.c - words, each with "=" and a value: a word, 'text', or words with dots (public.orders, -42).
 */
#include "router/place_hint.h"

typedef struct Cursor {
    Slice rest;
} Cursor;

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == ',' || c == ';';
}

static void pass_blanks(Cursor *cursor)
{
    while (cursor->rest.len && is_blank(cursor->rest.data[0]))
        cursor->rest = slice_from(cursor->rest, 1);
}

static Slice take_word(Cursor *cursor)
{
    size_t len = 0;
    pass_blanks(cursor);
    while (len < cursor->rest.len && !is_blank(cursor->rest.data[len]) && cursor->rest.data[len] != '=')
        len++;
    Slice word = slice_of(cursor->rest.data, len);
    cursor->rest = slice_from(cursor->rest, len);
    return word;
}

/* 'a b'; a quote inside is not known here. False: it does not end. */
static bool take_value(Cursor *cursor, Slice *ret, bool *ret_quoted)
{
    pass_blanks(cursor);
    *ret_quoted = cursor->rest.len && cursor->rest.data[0] == '\'';
    if (!*ret_quoted) {
        *ret = take_word(cursor);
        return ret->len > 0;
    }
    size_t end = 1;
    while (end < cursor->rest.len && cursor->rest.data[end] != '\'')
        end++;
    if (end == cursor->rest.len || (end + 1 < cursor->rest.len && cursor->rest.data[end + 1] == '\''))
        return false;
    *ret = slice_of(cursor->rest.data + 1, end - 1);
    cursor->rest = slice_from(cursor->rest, end + 1);
    return true;
}

static void table_take(PlaceHint *hint, Slice name)
{
    const uint8_t *dot = memchr(name.data, '.', name.len);
    size_t len = dot ? (size_t)(dot - name.data) : 0;
    hint->schema = slice_of(name.data, len);
    hint->table = dot ? slice_from(name, len + 1) : name;
}

static void pair_take(PlaceHint *hint, Slice word, Slice value, bool quoted)
{
    if (slice_equal_nocase(word, SLICE("shard"))) {
        hint->bad |= hint->shard.len > 0;
        hint->shard = value;
    } else if (slice_equal_nocase(word, SLICE("table"))) {
        hint->bad |= hint->table.len > 0;
        table_take(hint, value);
    } else if (slice_equal_nocase(word, SLICE("key"))) {
        hint->bad |= hint->has_key;
        hint->key = value;
        hint->has_key = true;
        hint->quoted = quoted;
    }
}

bool place_hint_read(Slice text, PlaceHint *ret)
{
    Cursor cursor = {text};
    *ret = (PlaceHint){0};
    for (;;) {
        Slice word = take_word(&cursor), value;
        bool quoted;
        pass_blanks(&cursor);
        if (!cursor.rest.len)
            break;
        if (cursor.rest.data[0] != '=')
            continue;
        cursor.rest = slice_from(cursor.rest, 1);
        if (take_value(&cursor, &value, &quoted)) {
            pair_take(ret, word, value, quoted);
            continue;
        }
        ret->bad = true;
        break;
    }
    bool row = ret->table.len || ret->has_key;
    ret->bad |= row && (!ret->table.len || !ret->has_key || ret->shard.len);
    return ret->shard.len || row || ret->bad;
}
