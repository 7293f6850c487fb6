/* test_lexer.c - the same tokens as PostgreSQL's scanner. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#include "scan_compare.h"

/* Tokens of a text in letters: i q n(umeric) d(igits) s o(ther string) p(aram) + (operator)
 * , (punctuation) ! (bad). */
static const char *kinds(const char *text, bool standard_strings)
{
    static char out[256];
    static const char letters[] = ".iqdnsop+,!";
    Lexer lexer;
    size_t n = 0;
    lexer_init(&lexer, slice_str(text), standard_strings);
    for (;;) {
        Token token = lexer_next(&lexer);
        if (token.kind == TOKEN_END || n + 1 == sizeof(out))
            break;
        out[n++] = letters[token.kind];
        if (token.kind == TOKEN_BAD)
            break;
    }
    out[n] = '\0';
    return out;
}

static const struct {
    const char *text, *kinds;
} rows[] = {
    {"", ""},
    {" \t\r\n\f", ""},
    {"select a.b, \"c\" from t", "ii,i,qii"},
    {"1 12345678901234567890 9223372036854775807 9223372036854775808", "dndn"},
    {"007 1.5 1. .5 1e5 1.e5 .5e-3 1E+2", "dnnnnnnn"},
    {"1..2", "d,d"},
    {"1...2", "d,n"},
    {"1.5.5", "nn"},
    {"1.a", "!"},
    {"1e", "!"},
    {"1e+", "!"},
    {"123abc", "!"},
    {"1_000", "!"},
    {"0x1F", "!"},
    {"'a' 'b'", "ss"},
    {"'a'\n'b'", "o"},
    {"'a' -- c\n  'b'", "o"},
    {"'a' /* c */ \n 'b'", "ss"},
    {"'a'\n--c\n'b'", "o"},
    {"'a'--c", "s"},
    {"'a' - 'b'", "s+s"},
    {"'it''s' ''", "ss"},
    {"'a\\' 'b'", "ss"},
    {"E'a\\'b' e'\\\\' E''", "ooo"},
    {"b'01' B'' x'1F' X'1''2'", "oooos"},
    {"n'a' N'a''b'", "oo"},
    {"u&'\\0041' U&\"\\0041\" u & 'a'", "oqi+s"},
    {"u&a U&", "i+ii+"},
    {"e b x n u", "iiiii"},
    {"be'x'", "is"},
    {"$1 $12 $0 $2147483647", "pppp"},
    {"$2147483648", "!"},
    {"$99999999999", "!"},
    {"$1a", "!"},
    {"$ 1", "!"},
    {"a$1 $1$2", "ipp"},
    {"$$a$$ $a$ $b$ $$ $a$ $_x1$'$_x1$", "ooo"},
    {"$a$ $A$", "!"},
    {"$1a$ x $1a$", "!"},
    {"a$$b$$", "i"},
    {"\"a\"\"b\" \"\"\"\"", "qq"},
    {"\"\"", "!"},
    {"\"open", "!"},
    {"'open", "!"},
    {"/* open", "!"},
    {"/* /* nested */ open", "!"},
    {"/* /* nested */ */ a /**/ /***/ /*/ */ b", "ii"},
    {"-- c\na --", "i"},
    {"--\r1", "d"},
    {"a+-b a*-b a@-b", "i++ii++ii+i"},
    {"+- -+ *-+ ~- @-+", "+++++++++"},
    {"a<>-1 <-- c", "i++d+"},
    {"a+/* c */b */* c */ c", "i+i+i"},
    {":: := : :x => >= <= <> != ->> .. .", "++,,i++++++,,"},
    {":::", "+,"},
    {"a::int", "i+i"},
    {"? ?| ?& #> ^ ` |", "+++++++"},
    {"\\d", "!"},
    {"{", "!"},
    {"\x01", "!"},
    {"\xc3\xa4\xff a\x80", "ii"},
    {"a[1:2](;,)", "i,d,d,,,,,"},
    {"- -1--2", "++d"},
};

/* Lost: a literal is taken from the wrong place, or a comment for SQL. */
static void test_kinds(void **state)
{
    unsigned wrong = 0;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *is = kinds(rows[i].text, true);
        if (strcmp(is, rows[i].kinds) != 0) {
            print_error("%s: is %s, expected %s\n", rows[i].text, is, rows[i].kinds);
            wrong++;
        }
    }
    assert_int_equal(wrong, 0);
}

/* Lost: the router reads another statement than PostgreSQL does. */
static void test_same_as_postgresql(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (scan_compare(rows[i].text) >= 0)
            print_error("%s: differs from PostgreSQL's scanner\n", rows[i].text);
        assert_true(scan_compare(rows[i].text) < 0);
    }
}

/* Lost: pieces that are harmless alone are cut differently side by side. */
static void test_pairs_same_as_postgresql(void **state)
{
    char text[256];
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        for (size_t k = 0; k < ARRAY_LEN(rows); k++) {
            snprintf(text, sizeof(text), "%s%s%s", rows[i].text, (i + k) % 2 ? " " : "", rows[k].text);
            int64_t differs = scan_compare(text);
            if (differs >= 0)
                print_error("%s: differs at byte %d\n", text, (int)differs);
            assert_true(differs < 0);
        }
}

/* Lost: with standard_conforming_strings off, '\'' ends too early (hazard H44). */
static void test_backslashes_escape(void **state)
{
    assert_string_equal(kinds("'a\\'b' c", false), "oi");
    assert_string_equal(kinds("'a' n'\\''", false), "so");
    assert_string_equal(kinds("u&'a'", false), "!");
    assert_string_equal(kinds("u&\"a\"", false), "q");
    assert_string_equal(kinds("'a\\", false), "!");
}

/* Lost: a caller that asks once more runs past the end. */
static void test_end_and_bad_stay(void **state)
{
    Lexer lexer;
    lexer_init(&lexer, SLICE("a 'x"), true);
    assert_int_equal(lexer_next(&lexer).kind, TOKEN_IDENT);
    for (int i = 0; i < 3; i++) {
        Token token = lexer_next(&lexer);
        assert_int_equal(token.kind, TOKEN_BAD);
        assert_int_equal(token.offset, 2);
        assert_int_equal(token.len, 2);
    }
    lexer_init(&lexer, SLICE("a "), true);
    lexer_next(&lexer);
    assert_int_equal(lexer_next(&lexer).kind, TOKEN_END);
    assert_int_equal(lexer_next(&lexer).kind, TOKEN_END);
}

/* Lost: bytes behind the slice decide what is in it. */
static void test_text_ends_with_slice(void **state)
{
    static const char *const texts[] = {"a'", "1.5", "$1", "/* */", "e'x'", "u&\"x\"", "::", "--x", "$a$x$a$", "1e5"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        for (size_t len = 0; len <= strlen(texts[i]); len++) {
            char copy[16]; /* the sanitizer watches its end */
            memcpy(copy, texts[i], len);
            char *tight = test_malloc(len + 1);
            memcpy(tight, copy, len);
            Lexer lexer;
            Token token;
            lexer_init(&lexer, slice_of(tight, len), true);
            do {
                token = lexer_next(&lexer);
                assert_true((size_t)token.offset + token.len <= len);
            } while (token.kind != TOKEN_END && token.kind != TOKEN_BAD);
            test_free(tight);
        }
}

/* Lost: a hint from inside the statement or from a string is obeyed. */
static void test_leading_comment(void **state)
{
    static const struct {
        const char *text, *comment;
    } leading[] = {
        {"/* one */ /* two */ select 1", " one "},
        {"-- line\nselect 1", " line"},
        {"select /* in */ 1", ""},
        {"select '/* x */'", ""},
        {"/**/ select", ""},
        {"/* a /* b */ c */ select", " a /* b */ c "},
    };
    for (size_t i = 0; i < ARRAY_LEN(leading); i++) {
        Lexer lexer;
        lexer_init(&lexer, slice_str(leading[i].text), true);
        while (lexer_next(&lexer).kind != TOKEN_END)
            ;
        assert_true(slice_is(lexer.leading_comment, leading[i].comment));
    }
}

/* Lost: keywords in capitals are not seen. */
static void test_token_is(void **state)
{
    Slice text = SLICE("SeLeCt \"select\" selects");
    Lexer lexer;
    lexer_init(&lexer, text, true);
    assert_true(token_is(text, lexer_next(&lexer), "select"));
    assert_false(token_is(text, lexer_next(&lexer), "select"));
    assert_false(token_is(text, lexer_next(&lexer), "select"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_same_as_postgresql),
        cmocka_unit_test(test_pairs_same_as_postgresql),
        cmocka_unit_test(test_backslashes_escape),
        cmocka_unit_test(test_end_and_bad_stay),
        cmocka_unit_test(test_text_ends_with_slice),
        cmocka_unit_test(test_leading_comment),
        cmocka_unit_test(test_token_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
