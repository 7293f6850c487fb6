/*
 * identifier.c - reads lists of SQL identifiers, as search_path holds them.
 *
 *     ` "$user" , Public`      ->  $user  ->  public
 *     `'$user', 'Public'`     ->  $user  ->  Public      as SET writes it
 */
#include "meta/identifier.h"

static bool is_blank(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static void skip_blanks(Slice *rest)
{
    while (rest->len > 0 && is_blank(rest->data[0]))
        *rest = slice_from(*rest, 1);
}

/* Keeps what fits and never half a character of UTF-8. */
static void identifier_add(Identifier *id, uint8_t byte, bool *full)
{
    if (*full)
        return;
    if (id->len < IDENTIFIER_MAX) {
        id->bytes[id->len++] = byte;
        return;
    }
    *full = true;
    if ((byte & 0xC0) == 0x80) {
        while (id->len > 0 && (id->bytes[id->len - 1] & 0xC0) == 0x80)
            id->len--;
        if (id->len > 0)
            id->len--;
    }
}

static bool take_quoted(Slice *rest, Identifier *id)
{
    uint8_t quote = rest->data[0];
    bool full = false;
    *rest = slice_from(*rest, 1);
    while (rest->len > 0) {
        uint8_t c = rest->data[0];
        *rest = slice_from(*rest, 1);
        if (c == quote) {
            if (rest->len == 0 || rest->data[0] != quote)
                return id->len > 0;
            *rest = slice_from(*rest, 1);
        }
        identifier_add(id, c, &full);
    }
    return false;
}

static bool take_plain(Slice *rest, char separator, Identifier *id)
{
    bool full = false;
    while (rest->len > 0) {
        uint8_t c = rest->data[0];
        if (is_blank(c) || c == (uint8_t)separator || c == '"')
            break;
        identifier_add(id, c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c, &full);
        *rest = slice_from(*rest, 1);
    }
    return id->len > 0;
}

bool identifier_take(Slice *rest, char separator, Identifier *ret_id)
{
    skip_blanks(rest);
    if (rest->len == 0)
        return false;
    ret_id->len = 0;
    bool quoted = rest->data[0] == '"' || rest->data[0] == '\'';
    bool ok = quoted ? take_quoted(rest, ret_id) : take_plain(rest, separator, ret_id);
    if (!ok)
        return false;
    ret_id->bytes[ret_id->len] = 0;
    skip_blanks(rest);
    if (rest->len == 0)
        return true;
    if (rest->data[0] != (uint8_t)separator)
        return false;
    *rest = slice_from(*rest, 1);
    return true;
}
