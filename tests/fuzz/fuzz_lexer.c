/*
 * fuzz_lexer.c - our lexer finds the tokens that PostgreSQL's scanner finds, whatever the text.
 *
 * Besides: with standard_conforming_strings off, and with bytes behind the end, it must come to an
 * end without reading past it.
 */
#include <stdlib.h>

#include "tests/unit/query/scan_compare.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Tokens are in order, do not overlap and stay inside the text. */
static void tokens_check(Slice text, bool standard_strings)
{
    Lexer lexer;
    size_t end = 0;
    lexer_init(&lexer, text, standard_strings);
    for (;;) {
        Token token = lexer_next(&lexer);
        if (token.offset < end || (size_t)token.offset + token.len > text.len)
            abort();
        if (token.kind == TOKEN_END || token.kind == TOKEN_BAD)
            return;
        if (token.len == 0)
            abort();
        end = (size_t)token.offset + token.len;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tokens_check(slice_of(data, size), true);
    tokens_check(slice_of(data, size), false);
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    if (scan_compare(text) >= 0)
        abort();
    free(text);
    return 0;
}
