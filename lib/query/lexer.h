/*
 * lexer.h - SQL text cut into PostgreSQL's own tokens, without parsing it.
 *
 * Same answers as PostgreSQL's scanner (scan.l; fuzzed against pg_query_scan), at a fraction of the
 * price: this runs for each simple Query. It finds literals and parameters, so that statements
 * which differ in values alone share one Shape. (What a parser may be asked is bounded in
 * complexity.h, which reads the same tokens.)
 * Pure: reads text, writes tokens. Bytes >= 0x80 are identifier bytes, as in scan.l; the caller
 * does not ask for literals in encodings whose trail bytes look like ASCII (H44).
 */
#ifndef SHOAL_QUERY_LEXER_H
#define SHOAL_QUERY_LEXER_H

#include "core/slice.h"

typedef enum TokenKind {
    TOKEN_END,
    TOKEN_IDENT,    /* keyword or identifier, unquoted */
    TOKEN_QUOTED,   /* "identifier" or U&"..." */
    TOKEN_INTEGER,  /* digits only */
    TOKEN_NUMERIC,  /* 1.5, 1e3, or digits that pass int8 */
    TOKEN_STRING,   /* '...' without escapes and continuation: its value is the bytes between,
                       with '' standing for ' */
    TOKEN_STRING_OTHER, /* E'', U&'', B'', X'', N'', $tag$, continued strings: never a parameter */
    TOKEN_PARAM,    /* $1; `param` holds the number */
    TOKEN_OPERATOR, /* + <= -> and so on, also := and => and :: */
    TOKEN_PUNCT,    /* one of ( ) [ ] , ; . : and the pair .. */
    TOKEN_BAD       /* unterminated, not lexable, or $n past int4: goes to PostgreSQL as it is */
} TokenKind;

typedef struct Token {
    TokenKind kind;
    uint32_t offset, len; /* bytes in the text; BAD ends where the text ends */
    uint32_t param;       /* TOKEN_PARAM */
} Token;

typedef struct Lexer {
    Slice text;
    size_t at;
    bool standard_strings; /* standard_conforming_strings is on */
    bool begun;            /* a token was seen: comments are not leading any more */
    /* First comment before any token, without its marks: where hints live. Empty when none. */
    Slice leading_comment;
} Lexer;

/* The text is borrowed, shorter than 4 GiB, and ends where the slice ends (NUL is a bad byte). */
void lexer_init(Lexer *lexer, Slice text, bool standard_strings);
/* White space and comments are passed over. After TOKEN_BAD or TOKEN_END the same comes again. */
Token lexer_next(Lexer *lexer);

static inline Slice token_text(Slice text, Token token)
{
    return slice_of(text.data + token.offset, token.len);
}
/* Case-insensitive comparison with a keyword in lower case; only for TOKEN_IDENT. */
bool token_is(Slice text, Token token, const char *keyword);

#endif
