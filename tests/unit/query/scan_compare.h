/*
 * scan_compare.h - our lexer against PostgreSQL's scanner (libpg_query), token by token.
 *
 * For the unit test's list of odd texts and for the fuzz target. Where the scanner raises an error
 * there is nothing to compare with: then our lexer only has to come to an end.
 */
#ifndef SHOAL_TESTS_QUERY_SCAN_COMPARE_H
#define SHOAL_TESTS_QUERY_SCAN_COMPARE_H

#include <pg_query.h>
#include <pg_query/pg_query.pb-c.h>

#include "query/lexer.h"

/* What the scanner calls a token of this kind. */
static bool scan_kind_fits(const PgQuery__ScanToken *scanned, Token token, uint8_t first)
{
    bool keyword = scanned->keyword_kind != PG_QUERY__KEYWORD_KIND__NO_KEYWORD;
    switch (token.kind) {
    case TOKEN_IDENT:
        return keyword || scanned->token == PG_QUERY__TOKEN__IDENT;
    case TOKEN_QUOTED:
        return scanned->token == PG_QUERY__TOKEN__IDENT || scanned->token == PG_QUERY__TOKEN__UIDENT;
    case TOKEN_INTEGER:
        return scanned->token == PG_QUERY__TOKEN__ICONST || scanned->token == PG_QUERY__TOKEN__FCONST;
    case TOKEN_NUMERIC:
        return scanned->token == PG_QUERY__TOKEN__FCONST;
    case TOKEN_STRING:
        return scanned->token == PG_QUERY__TOKEN__SCONST;
    case TOKEN_STRING_OTHER:
        return scanned->token == PG_QUERY__TOKEN__SCONST || scanned->token == PG_QUERY__TOKEN__USCONST ||
               scanned->token == PG_QUERY__TOKEN__BCONST || scanned->token == PG_QUERY__TOKEN__XCONST ||
               scanned->token == PG_QUERY__TOKEN__NCHAR;
    case TOKEN_PARAM:
        return scanned->token == PG_QUERY__TOKEN__PARAM;
    case TOKEN_OPERATOR:
        return scanned->token == PG_QUERY__TOKEN__Op || (int)scanned->token == first ||
               (scanned->token >= PG_QUERY__TOKEN__TYPECAST &&
                scanned->token <= PG_QUERY__TOKEN__NOT_EQUALS);
    case TOKEN_PUNCT:
        return (int)scanned->token == first || scanned->token == PG_QUERY__TOKEN__DOT_DOT;
    case TOKEN_END:
    case TOKEN_BAD:
        return false;
    }
    return false;
}

/* Those whose end the scanner reports as it is (it reports too little for U&'' and U&""). */
static bool scan_end_known(const PgQuery__ScanToken *scanned)
{
    return scanned->token != PG_QUERY__TOKEN__USCONST && scanned->token != PG_QUERY__TOKEN__UIDENT;
}

/* Is it right to call this bad although the scanner goes on? A byte that no grammar takes, or a
 * parameter's number that PostgreSQL 15 wraps around. */
static bool scan_bad_excused(const PgQuery__ScanToken *scanned, Slice text)
{
    if (scanned->token == PG_QUERY__TOKEN__PARAM)
        return scanned->end - scanned->start > 10;
    uint8_t c = text.data[scanned->start];
    return scanned->end - scanned->start <= 1 && !strchr("()[],;.:+-*/%^<>=", c);
}

/* libpg_query's own change of the scanner (it reports comments) makes 'a' --c <newline> 'b' two
 * strings; for PostgreSQL it is one, and for us. */
static bool scan_end_excused(const PgQuery__ScanToken *scanned, Token token, Slice text)
{
    return token.kind == TOKEN_STRING_OTHER && (uint32_t)scanned->end < token.offset + token.len &&
           memmem(text.data + scanned->end, token.offset + token.len - (uint32_t)scanned->end, "--", 2);
}

static const PgQuery__ScanToken *scan_next(const PgQuery__ScanResult *scan, size_t *at)
{
    while (*at < scan->n_tokens) {
        const PgQuery__ScanToken *scanned = scan->tokens[(*at)++];
        if (scanned->token != PG_QUERY__TOKEN__SQL_COMMENT &&
            scanned->token != PG_QUERY__TOKEN__C_COMMENT)
            return scanned;
    }
    return NULL;
}

/* Where the two differ: a byte in the text; -1 when they agree. */
static int64_t scan_compare_tokens(Slice text, const PgQuery__ScanResult *scan)
{
    Lexer lexer;
    size_t at = 0;
    lexer_init(&lexer, text, true);
    for (;;) {
        Token token = lexer_next(&lexer);
        const PgQuery__ScanToken *scanned = scan_next(scan, &at);
        if (token.kind == TOKEN_END)
            return scanned ? (int64_t)token.offset : -1;
        if (!scanned)
            return token.offset;
        if (token.kind == TOKEN_BAD)
            return scan_bad_excused(scanned, text) ? -1 : (int64_t)token.offset;
        if ((uint32_t)scanned->start != token.offset ||
            !scan_kind_fits(scanned, token, text.data[token.offset]))
            return token.offset;
        if (scanned->token == PG_QUERY__TOKEN__NCHAR && token.kind == TOKEN_STRING_OTHER)
            scanned = scan_next(scan, &at); /* n'...' is two tokens there */
        if (scanned && scan_end_excused(scanned, token, text))
            return -1;
        if (!scanned || (scan_end_known(scanned) &&
                         (uint32_t)scanned->end != token.offset + token.len))
            return token.offset;
    }
}

/* `text` ends with NUL. Where the two differ: a byte in the text; -1 when they agree. */
static int64_t scan_compare(const char *text)
{
    Slice slice = slice_str(text);
    PgQueryScanResult result = pg_query_scan(text);
    int64_t differs = -1;
    if (result.error) {
        Lexer lexer;
        Token token;
        lexer_init(&lexer, slice, true);
        do
            token = lexer_next(&lexer);
        while (token.kind != TOKEN_END && token.kind != TOKEN_BAD);
    } else {
        PgQuery__ScanResult *scan = pg_query__scan_result__unpack(
            NULL, result.pbuf.len, (const uint8_t *)result.pbuf.data);
        differs = scan ? scan_compare_tokens(slice, scan) : 0;
        pg_query__scan_result__free_unpacked(scan, NULL);
    }
    pg_query_free_scan_result(result);
    return differs;
}

#endif
