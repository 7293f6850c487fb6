/*
 * lexer.c - PostgreSQL's scan.l once more, by hand.
 *
 * scan.l is a table machine of flex inside libpg_query: exact, but it allocates, looks up keywords
 * and copies each string, which costs microseconds. Here one table says what a byte may begin, and
 * a short function per kind of token finds its end:
 *
 *     select a.b ->> 'it''s' -- why          IDENT IDENT . IDENT OPERATOR STRING END
 *     ^blank      ^word  ^operator ^quoted
 *
 * What surprises, and is the same in PostgreSQL 15:
 *   - 'a' <newline> 'b' is one string; a comment may stand before the newline.
 *   - an operator ends before a comment start in it, and cannot end in + or - unless it holds one
 *     of ~ ! @ # ^ & | ` ? %.
 *   - 1..2 is 1 .. 2;  1.e5 is a number;  123abc and $1abc are errors.
 *   - a$1 is an identifier; $a$1 begins a dollar quote only if another $ closes the tag.
 *   - b'' '' : doubled quotes do not exist in bit strings, so a second string begins.
 */
#include "query/lexer.h"

/* What a byte can be. START says what a token that begins with it is. */
enum {
    BYTE_SPACE = 1 << 0,
    BYTE_WORD_START = 1 << 1, /* letters, _ and everything >= 0x80 */
    BYTE_DIGIT = 1 << 2,
    BYTE_DOLLAR = 1 << 3,
    BYTE_OPERATOR = 1 << 4, /* ~ ! @ # ^ & | ` ? + - * / % < > = */
    BYTE_RICH = 1 << 5,     /* those that let an operator end in + or - */
    BYTE_PUNCT = 1 << 6,
    BYTE_PREFIX = 1 << 7, /* letters that may announce a quoted thing: b e n u x */
    BYTE_WORD = BYTE_WORD_START | BYTE_DIGIT | BYTE_DOLLAR
};

#define Z 0
#define S BYTE_SPACE
#define L BYTE_WORD_START
#define P (BYTE_WORD_START | BYTE_PREFIX)
#define D BYTE_DIGIT
#define C BYTE_DOLLAR
#define O BYTE_OPERATOR
#define R (BYTE_OPERATOR | BYTE_RICH)
#define T BYTE_PUNCT
static const uint8_t byte_table[256] = {
    Z, Z, Z, Z, Z, Z, Z, Z, Z, S, S, Z, S, S, Z, Z,
    Z, Z, Z, Z, Z, Z, Z, Z, Z, Z, Z, Z, Z, Z, Z, Z,
    S, R, Z, R, C, R, R, Z, T, T, O, O, T, O, T, O, /* ! " # $ % & ' ( ) * + , - . / */
    D, D, D, D, D, D, D, D, D, D, T, T, O, O, O, R, /* 0-9 : ; < = > ? */
    R, L, P, L, L, P, L, L, L, L, L, L, L, L, P, L, /* @ A-O */
    L, L, L, L, L, P, L, L, P, L, L, T, Z, T, R, L, /* P-Z [ \ ] ^ _ */
    R, L, P, L, L, P, L, L, L, L, L, L, L, L, P, L, /* ` a-o */
    L, L, L, L, L, P, L, L, P, L, L, Z, R, Z, R, Z, /* p-z { | } ~ */
    L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L,
    L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L,
    L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L,
    L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L,
    L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L,
    L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L,
    L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L,
    L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L,
};
#undef Z
#undef S
#undef L
#undef P
#undef D
#undef C
#undef O
#undef R
#undef T

/* NAMEDATALEN: PostgreSQL refuses longer operators and cuts longer names. */
#define OPERATOR_LEN_MAX 63

typedef enum QuoteStyle {
    QUOTE_PLAIN,   /* '' stands for ' */
    QUOTE_ESCAPES, /* also \' */
    QUOTE_BITS     /* neither */
} QuoteStyle;

/* Inlined into lexer_next they would cost it registers, and so each word and comma. */
#define OUT_OF_LINE __attribute__((noinline))
static bool blanks_skip(Lexer *lexer) OUT_OF_LINE;
static bool comment_skip(Lexer *lexer);
static Token prefixed_token(Lexer *lexer) OUT_OF_LINE;
static Token number_token(Lexer *lexer) OUT_OF_LINE;
static Token dotted_token(Lexer *lexer) OUT_OF_LINE;
static Token other_token(Lexer *lexer, uint8_t class) OUT_OF_LINE;
static Token dollar_token(Lexer *lexer) OUT_OF_LINE;
static Token string_token(Lexer *lexer, size_t quote, QuoteStyle style, TokenKind kind) OUT_OF_LINE;
static Token quoted_token(Lexer *lexer, size_t quote) OUT_OF_LINE;
static Token operator_token(Lexer *lexer);

static inline uint8_t byte_at(const Lexer *lexer, size_t at)
{
    return at < lexer->text.len ? lexer->text.data[at] : 0;
}
static inline uint8_t class_at(const Lexer *lexer, size_t at)
{
    return at < lexer->text.len ? byte_table[lexer->text.data[at]] : 0;
}

/* The token from lexer->at to `end`; the lexer goes on behind it. */
static inline Token token_take(Lexer *lexer, TokenKind kind, size_t end)
{
    Token token = {.kind = kind, .offset = (uint32_t)lexer->at, .len = (uint32_t)(end - lexer->at)};
    lexer->at = end;
    return token;
}

/* The lexer stays where it is: the next call finds the same. */
static inline Token token_bad(const Lexer *lexer)
{
    return (Token){.kind = TOKEN_BAD,
                   .offset = (uint32_t)lexer->at,
                   .len = (uint32_t)(lexer->text.len - lexer->at)};
}

void lexer_init(Lexer *lexer, Slice text, bool standard_strings)
{
    assert(text.len < UINT32_MAX);
    *lexer = (Lexer){.text = text, .standard_strings = standard_strings};
}

/* The common tokens are found right here; whatever needs more thought is called, out of line. */
Token lexer_next(Lexer *lexer)
{
    const uint8_t *data = lexer->text.data, *end = data + lexer->text.len, *p = data + lexer->at;
    while (p < end && byte_table[*p] & BYTE_SPACE)
        p++;
    if (p + 1 < end && ((p[0] == '-' && p[1] == '-') || (p[0] == '/' && p[1] == '*'))) {
        lexer->at = (size_t)(p - data);
        if (!blanks_skip(lexer))
            return token_bad(lexer);
        p = data + lexer->at;
    }
    lexer->at = (size_t)(p - data);
    lexer->begun = true;
    if (p >= end)
        return token_take(lexer, TOKEN_END, lexer->at);
    uint8_t class = byte_table[*p];
    if (class & BYTE_WORD_START) {
        if (class & BYTE_PREFIX && p + 1 < end && (p[1] == '\'' || p[1] == '&'))
            return prefixed_token(lexer);
        do
            p++;
        while (p < end && byte_table[*p] & BYTE_WORD);
        return token_take(lexer, TOKEN_IDENT, (size_t)(p - data));
    }
    if (class & BYTE_PUNCT)
        return *p == '.' || *p == ':' ? dotted_token(lexer)
                                      : token_take(lexer, TOKEN_PUNCT, lexer->at + 1);
    if (class & BYTE_DIGIT)
        return number_token(lexer);
    return other_token(lexer, class);
}

/* Operators, quotes, dollars, and what cannot begin a token. */
static Token other_token(Lexer *lexer, uint8_t class)
{
    uint8_t c = lexer->text.data[lexer->at];
    if (class & BYTE_OPERATOR)
        return operator_token(lexer);
    if (c == '\'')
        return string_token(lexer, lexer->at,
                            lexer->standard_strings ? QUOTE_PLAIN : QUOTE_ESCAPES, TOKEN_STRING);
    if (c == '"')
        return quoted_token(lexer, lexer->at);
    if (class & BYTE_DOLLAR)
        return dollar_token(lexer);
    return token_bad(lexer);
}

bool token_is(Slice text, Token token, const char *keyword)
{
    return token.kind == TOKEN_IDENT && slice_equal_nocase(token_text(text, token), slice_str(keyword));
}

/* --- blanks -------------------------------------------------------------------------------- */

/* False at a comment that does not end; the lexer then stands at its start. */
static bool blanks_skip(Lexer *lexer)
{
    for (;;) {
        while (class_at(lexer, lexer->at) & BYTE_SPACE)
            lexer->at++;
        uint8_t c = byte_at(lexer, lexer->at), next = byte_at(lexer, lexer->at + 1);
        if (!((c == '-' && next == '-') || (c == '/' && next == '*')))
            return true;
        if (!comment_skip(lexer))
            return false;
    }
}

static size_t line_end(const Lexer *lexer, size_t at)
{
    while (at < lexer->text.len && lexer->text.data[at] != '\n' && lexer->text.data[at] != '\r')
        at++;
    return at;
}

/* Comments in slash-star nest. */
static bool comment_skip(Lexer *lexer)
{
    const uint8_t *data = lexer->text.data;
    size_t start = lexer->at + 2, at = start, stop;
    if (data[lexer->at] == '-') {
        stop = at = line_end(lexer, start);
    } else {
        for (unsigned open = 1; open > 0;) {
            if (at + 1 >= lexer->text.len)
                return false;
            bool begins = data[at] == '/' && data[at + 1] == '*';
            bool ends = data[at] == '*' && data[at + 1] == '/';
            open += begins ? 1 : 0;
            open -= ends ? 1 : 0;
            at += begins || ends ? 2 : 1;
        }
        stop = at - 2;
    }
    if (!lexer->begun && !lexer->leading_comment.data)
        lexer->leading_comment = slice_of(data + start, stop - start);
    lexer->at = at;
    return true;
}

/* --- words --------------------------------------------------------------------------------- */

/* A string or identifier announced by its first letter: e'' b'' x'' n'' u&'' u&""; else a word. */
static Token prefixed_token(Lexer *lexer)
{
    uint8_t letter = byte_at(lexer, lexer->at) | 0x20, next = byte_at(lexer, lexer->at + 1);
    if (next == '\'') {
        QuoteStyle style = letter == 'e' ? QUOTE_ESCAPES
                           : letter == 'b' || letter == 'x' ? QUOTE_BITS
                           : lexer->standard_strings ? QUOTE_PLAIN : QUOTE_ESCAPES;
        if (letter != 'u')
            return string_token(lexer, lexer->at + 1, style, TOKEN_STRING_OTHER);
    }
    if (letter == 'u' && next == '&') {
        uint8_t quote = byte_at(lexer, lexer->at + 2);
        if (quote == '"')
            return quoted_token(lexer, lexer->at + 2);
        /* PostgreSQL refuses U&'' as unsafe where backslashes escape. */
        if (quote == '\'')
            return lexer->standard_strings
                       ? string_token(lexer, lexer->at + 2, QUOTE_PLAIN, TOKEN_STRING_OTHER)
                       : token_bad(lexer);
    }
    size_t end = lexer->at;
    while (class_at(lexer, end) & BYTE_WORD)
        end++;
    return token_take(lexer, TOKEN_IDENT, end);
}

/* --- numbers and parameters ---------------------------------------------------------------- */

static size_t digits_end(const Lexer *lexer, size_t at)
{
    while (class_at(lexer, at) & BYTE_DIGIT)
        at++;
    return at;
}

/* Does the decimal number fit? Leading zeros are welcome. */
static bool digits_fit(Slice digits, uint64_t max, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (size_t i = 0; i < digits.len; i++) {
        uint64_t digit = digits.data[i] - (uint64_t)'0';
        if (value > (max - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *ret_value = value;
    return true;
}

static Token number_token(Lexer *lexer)
{
    size_t end = digits_end(lexer, lexer->at);
    uint64_t value;
    bool integer = true;
    /* "1.." is the integer 1 and two dots, but only while no fraction was seen. */
    bool dots = byte_at(lexer, end) == '.' && byte_at(lexer, end + 1) == '.' && end > lexer->at;
    if (byte_at(lexer, end) == '.' && !dots) {
        end = digits_end(lexer, end + 1);
        integer = false;
    }
    if ((byte_at(lexer, end) | 0x20) == 'e') {
        size_t sign = end + 1;
        sign += byte_at(lexer, sign) == '+' || byte_at(lexer, sign) == '-' ? 1 : 0;
        if (!(class_at(lexer, sign) & BYTE_DIGIT))
            return token_bad(lexer);
        end = digits_end(lexer, sign);
        integer = false;
    }
    if (class_at(lexer, end) & BYTE_WORD_START)
        return token_bad(lexer); /* "trailing junk after numeric literal" */
    integer = integer && digits_fit(slice_of(lexer->text.data + lexer->at, end - lexer->at),
                                    INT64_MAX, &value);
    return token_take(lexer, integer ? TOKEN_INTEGER : TOKEN_NUMERIC, end);
}

/* $1, or $tag$ ... $tag$. */
static Token dollar_token(Lexer *lexer)
{
    size_t at = lexer->at + 1;
    if (class_at(lexer, at) & BYTE_DIGIT) {
        size_t end = digits_end(lexer, at);
        uint64_t number;
        if (class_at(lexer, end) & BYTE_WORD_START ||
            !digits_fit(slice_of(lexer->text.data + at, end - at), INT32_MAX, &number))
            return token_bad(lexer);
        Token token = token_take(lexer, TOKEN_PARAM, end);
        token.param = (uint32_t)number;
        return token;
    }
    while (class_at(lexer, at) & (BYTE_WORD_START | BYTE_DIGIT))
        at++;
    if (byte_at(lexer, at) != '$')
        return token_bad(lexer);
    at++;
    const uint8_t *tag = lexer->text.data + lexer->at;
    size_t tag_len = at - lexer->at;
    const uint8_t *close = memmem(lexer->text.data + at, lexer->text.len - at, tag, tag_len);
    if (!close)
        return token_bad(lexer);
    return token_take(lexer, TOKEN_STRING_OTHER, (size_t)(close - lexer->text.data) + tag_len);
}

/* --- quotes -------------------------------------------------------------------------------- */

/* Behind a closing quote: the place behind the next opening quote when only blanks with at least
 * one newline lie between, else 0. Comments of two dashes count as blanks. */
static size_t string_continues(const Lexer *lexer, size_t at)
{
    bool newline = false;
    for (;;) {
        uint8_t c = byte_at(lexer, at);
        if (c == '\'')
            return newline ? at + 1 : 0;
        if (c == '-' && byte_at(lexer, at + 1) == '-') {
            at = line_end(lexer, at);
        } else if (class_at(lexer, at) & BYTE_SPACE) {
            newline = newline || c == '\n' || c == '\r';
            at++;
        } else {
            return 0;
        }
    }
}

static Token string_token(Lexer *lexer, size_t quote, QuoteStyle style, TokenKind kind)
{
    const uint8_t *data = lexer->text.data;
    size_t len = lexer->text.len, at = quote + 1;
    for (;;) {
        while (at < len && data[at] != '\'' && data[at] != '\\')
            at++;
        if (at >= len)
            return token_bad(lexer);
        if (data[at] == '\\' && style != QUOTE_ESCAPES) {
            at++; /* means itself */
        } else if (data[at] == '\\') {
            kind = TOKEN_STRING_OTHER;
            at += 2;
        } else if (style != QUOTE_BITS && at + 1 < len && data[at + 1] == '\'') {
            at += 2;
        } else {
            size_t more = string_continues(lexer, at + 1);
            if (!more)
                return token_take(lexer, kind, at + 1);
            kind = TOKEN_STRING_OTHER;
            at = more;
        }
    }
}

/* "identifier"; an empty one is an error. */
static Token quoted_token(Lexer *lexer, size_t quote)
{
    const uint8_t *data = lexer->text.data;
    size_t len = lexer->text.len, at = quote + 1;
    for (;;) {
        while (at < len && data[at] != '"')
            at++;
        if (at >= len)
            return token_bad(lexer);
        if (at + 1 >= len || data[at + 1] != '"')
            break;
        at += 2;
    }
    return at == quote + 1 ? token_bad(lexer) : token_take(lexer, TOKEN_QUOTED, at + 1);
}

/* --- operators and punctuation ------------------------------------------------------------- */

static Token operator_token(Lexer *lexer)
{
    const uint8_t *data = lexer->text.data;
    size_t start = lexer->at, end = start;
    bool rich = false;
    for (; class_at(lexer, end) & BYTE_OPERATOR; end++) {
        uint8_t next = byte_at(lexer, end + 1);
        if (end > start && ((data[end] == '/' && next == '*') || (data[end] == '-' && next == '-')))
            break; /* a comment begins */
        rich = rich || byte_table[data[end]] & BYTE_RICH;
    }
    while (!rich && end - start > 1 && (data[end - 1] == '+' || data[end - 1] == '-'))
        end--;
    if (end - start > OPERATOR_LEN_MAX)
        return token_bad(lexer);
    return token_take(lexer, TOKEN_OPERATOR, end);
}

/* . .. .5 : :: := */
static Token dotted_token(Lexer *lexer)
{
    uint8_t c = byte_at(lexer, lexer->at), next = byte_at(lexer, lexer->at + 1);
    if (c == ':' && (next == ':' || next == '='))
        return token_take(lexer, TOKEN_OPERATOR, lexer->at + 2);
    if (c == '.' && byte_table[next] & BYTE_DIGIT)
        return number_token(lexer);
    if (c == '.' && next == '.')
        return token_take(lexer, TOKEN_PUNCT, lexer->at + 2);
    return token_take(lexer, TOKEN_PUNCT, lexer->at + 1);
}
