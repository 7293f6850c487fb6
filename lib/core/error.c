/* error.c - filling an Error: texts are formatted into fixed memory and cut between characters. */
#include "core/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A cut text must stay valid UTF-8: clients refuse an ErrorResponse that ends in half a character.
 *      ... a b c E2 82 | AC      ->      ... a b c
 */
static void text_cut(char *text, size_t len)
{
    size_t start = len;
    while (start > 0 && len - start < 3 && ((unsigned char)text[start - 1] & 0xC0) == 0x80)
        start--;
    if (start == 0)
        return;
    unsigned char lead = (unsigned char)text[start - 1];
    size_t need = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
    if (len - (start - 1) < need)
        text[start - 1] = '\0';
}

static void text_format(char *text, size_t size, const char *fmt, va_list args)
{
    int n = vsnprintf(text, size, fmt, args);
    if (n < 0)
        text[0] = '\0';
    else if ((size_t)n >= size)
        text_cut(text, size - 1);
}

void error_set(Error *err, const char *sqlstate, const char *fmt, ...)
{
    assert(strlen(sqlstate) == 5);
    memcpy(err->sqlstate, sqlstate, sizeof(err->sqlstate));
    va_list args;
    va_start(args, fmt);
    text_format(err->message, sizeof(err->message), fmt, args);
    va_end(args);
    err->detail[0] = err->hint[0] = '\0';
}

void error_detail(Error *err, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    text_format(err->detail, sizeof(err->detail), fmt, args);
    va_end(args);
}

void error_hint(Error *err, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    text_format(err->hint, sizeof(err->hint), fmt, args);
    va_end(args);
}
