#include "wire/copy.h"

#include <stdio.h>

#include "wire_test.h"

/* What a reader made of some data: "row|key[,key];..." with the header as #row. */
typedef struct Story {
    Buf text;
    bool failed;
    char sqlstate[6], message[320];
} Story;

static void tell(Story *story, const CopyLayout *layout, const CopyRow *row)
{
    buf_append(&story->text, row->every ? SLICE("#") : SLICE(""));
    buf_append(&story->text, row->bytes);
    for (uint32_t k = 0; !row->every && k < layout->key_count; k++) {
        const CopyField *key = &row->keys[k];
        buf_append(&story->text, k ? SLICE(",") : SLICE("|"));
        buf_append(&story->text, key->missing ? SLICE("<missing>")
                                 : key->null  ? SLICE("<null>")
                                              : key->value);
    }
    buf_append(&story->text, SLICE(";"));
}

static WireResult feed(CopyReader *reader, Story *story, Slice chunk, Error *err)
{
    /* A block of its own, so that AddressSanitizer sees any look beyond it. */
    uint8_t *copy = malloc(chunk.len + 1);
    assert_non_null(copy);
    memcpy(copy, chunk.data, chunk.len);
    copy = realloc(copy, MAX(chunk.len, (size_t)1));
    Slice input = slice_of(copy, chunk.len);
    CopyRow row;
    WireResult result;
    while ((result = copy_next(reader, &input, &row, err)) == WIRE_OK)
        tell(story, &reader->layout, &row);
    assert_true(result == WIRE_BAD || input.len == 0);
    free(copy);
    return result;
}

/* Reads `data` cut at `first` and then in pieces of `step`. */
static void read_cut(Story *story, const CopyLayout *layout, Slice data, size_t first, size_t step)
{
    CopyReader reader;
    Error err;
    CopyRow row;
    *story = (Story){0};
    buf_init(&story->text, 1 << 20);
    copy_reader_init(&reader, layout);
    WireResult result = WIRE_MORE;
    for (size_t at = 0, n = first; at < data.len && result != WIRE_BAD; at += n, n = step) {
        n = MIN(n, data.len - at);
        result = feed(&reader, story, slice_of(data.data + at, n), &err);
        if (n == 0)
            n = MIN(step, data.len);
    }
    if (result != WIRE_BAD && (result = copy_end(&reader, &row, &err)) == WIRE_OK)
        tell(story, layout, &row);
    story->failed = result == WIRE_BAD;
    if (story->failed) {
        memcpy(story->sqlstate, err.sqlstate, 6);
        snprintf(story->message, sizeof story->message, "%s", err.message);
    }
    copy_reader_finish(&reader);
}

static void assert_alike(Story *a, Story *b, size_t first, size_t step)
{
    if (a->failed != b->failed || strcmp(a->sqlstate, b->sqlstate) != 0 ||
        !slice_equal(buf_bytes(&a->text), buf_bytes(&b->text)))
        fail_msg("cut at %zu, then by %zu: \"%.*s\" (%s %s), not \"%.*s\"", first, step,
                 SLICE_FMT(buf_bytes(&b->text)), b->sqlstate, b->message,
                 SLICE_FMT(buf_bytes(&a->text)));
    buf_finish(&b->text);
}

/* The story of the data as one chunk, after each other way to cut it in two, and into pieces of 1, 2 and
 * 3 bytes, has told the same one. */
static Story read_all(const CopyLayout *layout, Slice data)
{
    Story whole, cut;
    read_cut(&whole, layout, data, data.len, data.len);
    for (size_t first = 1; first < data.len; first++) {
        read_cut(&cut, layout, data, first, data.len);
        assert_alike(&whole, &cut, first, data.len);
    }
    for (size_t step = 1; step <= 3; step++) {
        read_cut(&cut, layout, data, step, step);
        assert_alike(&whole, &cut, step, step);
    }
    return whole;
}

static void assert_rows(CopyLayout layout, Slice data, Slice expected)
{
    Story story = read_all(&layout, data);
    if (story.failed || !slice_equal(buf_bytes(&story.text), expected))
        fail_msg("\"%.*s\" %s, expected \"%.*s\"", SLICE_FMT(buf_bytes(&story.text)), story.message,
                 SLICE_FMT(expected));
    buf_finish(&story.text);
}

static void assert_refused(CopyLayout layout, Slice data, const char *sqlstate, const char *message)
{
    Story story = read_all(&layout, data);
    assert_true(story.failed);
    assert_string_equal(story.sqlstate, sqlstate);
    assert_string_equal(story.message, message);
    buf_finish(&story.text);
}

static CopyLayout with_key(CopyFormat format, uint16_t key)
{
    CopyLayout layout = copy_layout_of(format);
    layout.keys[0] = key;
    layout.key_count = 1;
    layout.row_max = 1000;
    return layout;
}

static void rows_of_text_are_found_with_their_keys(void **state)
{
    /* Lost otherwise: a row goes to a shard where nobody looks for it. */
    (void)state;
    assert_rows(with_key(COPY_TEXT, 0), SLICE("1\ta\n2\tb\n"), SLICE("1\ta\n|1;2\tb\n|2;"));
    assert_rows(with_key(COPY_TEXT, 1), SLICE("x\t7\ty\nx\t\\N\ty\n"), SLICE("x\t7\ty\n|7;x\t\\N\ty\n|<null>;"));
    assert_rows(with_key(COPY_TEXT, 2), SLICE("a\tb\n\na\tb\tc"), SLICE("a\tb\n|<missing>;\n|<missing>;a\tb\tc|c;"));
    assert_rows(with_key(COPY_TEXT, 1), SLICE("a\t\n"), SLICE("a\t\n|;"));
    assert_rows(with_key(COPY_TEXT, 0), SLICE(""), SLICE(""));
}

static void escapes_of_text_mean_what_postgresql_takes_them_for(void **state)
{
    /* Lost otherwise: rows are cut at an end of line that was data. */
    (void)state;
    assert_rows(with_key(COPY_TEXT, 1), SLICE("a\\\nb\tk\n"), SLICE("a\\\nb\tk\n|k;"));
    assert_rows(with_key(COPY_TEXT, 1), SLICE("a\\\tb\tk\n"), SLICE("a\\\tb\tk\n|k;"));
    assert_rows(with_key(COPY_TEXT, 0), SLICE("\\x41\\102\\q\\x\\\\\n"), SLICE("\\x41\\102\\q\\x\\\\\n|ABqx\\;"));
    assert_rows(with_key(COPY_TEXT, 0), SLICE("\\b\\t\\n\n"), SLICE("\\b\\t\\n\n|\b\t\n;"));
    assert_rows(with_key(COPY_TEXT, 0), SLICE("a\\\\\n.\n"), SLICE("a\\\\\n|a\\;.\n|.;"));
    assert_rows(with_key(COPY_TEXT, 0), SLICE("\\\\N\n"), SLICE("\\\\N\n|\\N;"));
}

static void all_lines_end_like_the_first(void **state)
{
    /* Lost otherwise: each shard sees its own first line, and takes another's end for data. */
    (void)state;
    assert_rows(with_key(COPY_TEXT, 0), SLICE("1\r\n2\r\n"), SLICE("1\r\n|1;2\r\n|2;"));
    assert_rows(with_key(COPY_TEXT, 0), SLICE("1\r2\r3"), SLICE("1\r|1;2\r|2;3|3;"));
    assert_rows(with_key(COPY_TEXT, 0), SLICE("1\r"), SLICE("1\r|1;"));
    assert_refused(with_key(COPY_TEXT, 0), SLICE("1\n2\r\n"), "22P04", "literal carriage return found in data");
    assert_refused(with_key(COPY_TEXT, 0), SLICE("1\r\n2\n"), "22P04", "literal newline found in data");
    assert_refused(with_key(COPY_CSV, 0), SLICE("1\r\n2\rx"), "22P04", "unquoted carriage return found in data");
    assert_refused(with_key(COPY_CSV, 0), SLICE("1\r2\n"), "22P04", "unquoted newline found in data");
}

static void the_end_marker_ends_the_data(void **state)
{
    /* Lost otherwise: psql's \. becomes a row, or hides the rows behind it. */
    (void)state;
    assert_rows(with_key(COPY_TEXT, 0), SLICE("1\n\\.\n2\n"), SLICE("1\n|1;"));
    assert_rows(with_key(COPY_CSV, 0), SLICE("1\n\\.\n2\n"), SLICE("1\n|1;"));
    assert_rows(with_key(COPY_TEXT, 0), SLICE("1\n\\."), SLICE("1\n|1;"));
    assert_rows(with_key(COPY_CSV, 0), SLICE("\\.x,1\na\\.\n"), SLICE("\\.x,1\n|\\.x;a\\.\n|a\\.;"));
    assert_refused(with_key(COPY_TEXT, 0), SLICE("\\.x\n"), "22P04", "end-of-copy marker corrupt");
    assert_refused(with_key(COPY_TEXT, 0), SLICE("x\\.\n"), "22P04", "end-of-copy marker corrupt");
}

static void quoted_csv_may_hold_anything(void **state)
{
    /* Lost otherwise: a comment with a line break in it splits its row (H54). */
    (void)state;
    assert_rows(with_key(COPY_CSV, 1), SLICE("\"a\nb\",1\n"), SLICE("\"a\nb\",1\n|1;"));
    assert_rows(with_key(COPY_CSV, 1), SLICE("\"a,\"\"b\",\"x\"\"y\"\n"), SLICE("\"a,\"\"b\",\"x\"\"y\"\n|x\"y;"));
    assert_rows(with_key(COPY_CSV, 0), SLICE("a\"b\"c,\n"), SLICE("a\"b\"c,\n|abc;"));
    assert_rows(with_key(COPY_CSV, 1), SLICE("1,\n1,\"\"\n"), SLICE("1,\n|<null>;1,\"\"\n|;"));
    assert_rows(with_key(COPY_CSV, 1), SLICE("\\,2\n"), SLICE("\\,2\n|2;"));
    assert_rows(with_key(COPY_CSV, 1), SLICE("\"a\r\nb\",2\r\n"), SLICE("\"a\r\nb\",2\r\n|2;"));
    assert_rows(with_key(COPY_CSV, 0), SLICE("\"1\n2\n"), SLICE("\"1\n2\n|<missing>;"));
    CopyLayout layout = with_key(COPY_CSV, 1);
    layout.escape = '\\';
    layout.delimiter = ';';
    layout.quote = '\'';
    assert_rows(layout, SLICE("'a\\'\n;\\\\';'k\\q'\n"), SLICE("'a\\'\n;\\\\';'k\\q'\n|k\\q;"));
}

static void options_of_the_statement_hold(void **state)
{
    /* Lost otherwise: the header is loaded as a row, a key 'NULL' as a value. */
    (void)state;
    CopyLayout layout = with_key(COPY_CSV, 1);
    layout.header = true;
    layout.null_text = SLICE("NULL");
    assert_rows(layout, SLICE("a,b\n1,NULL\n1,\"NULL\"\n"), SLICE("#a,b\n;1,NULL\n|<null>;1,\"NULL\"\n|NULL;"));
    layout = with_key(COPY_TEXT, 1);
    layout.delimiter = '|';
    layout.key_count = 2;
    layout.keys[0] = 2;
    layout.keys[1] = 0;
    assert_rows(layout, SLICE("a|b|c|d\n"), SLICE("a|b|c|d\n|c,a;"));
}

static void a_row_has_a_limit(void **state)
{
    /* Lost otherwise: the worker's memory, to one client that opens a quote. */
    (void)state;
    CopyLayout layout = with_key(COPY_CSV, 0);
    layout.row_max = 10;
    assert_refused(layout, SLICE("1,2\n\"45678901234567890"), "54000", "a row of COPY data is too long");
    assert_rows(layout, SLICE("123456789\n"), SLICE("123456789\n|123456789;"));
    layout.format = COPY_BINARY;
    assert_refused(layout, SLICE("PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0\0\1\0\0\0\x40xxxx"), "54000",
                   "a row of COPY data is too long");
}

#define PREAMBLE "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0"

static void binary_rows_are_counted_out(void **state)
{
    /* Lost otherwise: bytes of a value are taken for the next row. */
    (void)state;
    CopyLayout layout = with_key(COPY_BINARY, 1);
    layout.row_max = 100;
    assert_rows(layout, SLICE(PREAMBLE "\xff\xff"), SLICE("#" PREAMBLE ";"));
    assert_rows(layout, SLICE(PREAMBLE "\0\2\0\0\0\1a\0\0\0\2bc\0\2\0\0\0\1d\xff\xff\xff\xff\xff\xff"),
                SLICE("#" PREAMBLE ";\0\2\0\0\0\1a\0\0\0\2bc|bc;\0\2\0\0\0\1d\xff\xff\xff\xff|<null>;"));
    assert_rows(layout, SLICE(PREAMBLE "\0\1\0\0\0\0\0\0"), SLICE("#" PREAMBLE ";\0\1\0\0\0\0|<missing>;\0\0|<missing>;"));
    assert_rows(layout, SLICE("PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\3xyz\xff\xff"),
                SLICE("#PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\3xyz;"));
}

static void binary_data_that_is_none_is_refused(void **state)
{
    /* Lost otherwise: the answer PostgreSQL gives, 22P04 (bad-input 102). */
    (void)state;
    CopyLayout layout = with_key(COPY_BINARY, 0);
    layout.row_max = 100;
    assert_refused(layout, SLICE("1\t2\n3\t4\n5\t6\n7\t8\n9\t0\n"), "22P04", "COPY file signature not recognized");
    assert_refused(layout, SLICE("PGC"), "22P04", "COPY file signature not recognized");
    assert_refused(layout, SLICE("PGCOPY\n\377\r\n\0\0\1\0\0\0\0\0\0"), "22P04", "invalid COPY file header (WITH OIDS)");
    assert_refused(layout, SLICE("PGCOPY\n\377\r\n\0\0\2\0\0\0\0\0\0"), "22P04",
                   "unrecognized critical flags in COPY file header");
    assert_refused(layout, SLICE(PREAMBLE "\0\1\0\0"), "22P04", "unexpected EOF in COPY data");
    assert_refused(layout, SLICE(PREAMBLE "\0\1\xff\xff\xff\xfe"), "22P04", "invalid field size");
    assert_refused(layout, SLICE(PREAMBLE "\xff\xff\0"), "22P04", "received copy data after EOF marker");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_text_are_found_with_their_keys),
        cmocka_unit_test(escapes_of_text_mean_what_postgresql_takes_them_for),
        cmocka_unit_test(all_lines_end_like_the_first),
        cmocka_unit_test(the_end_marker_ends_the_data),
        cmocka_unit_test(quoted_csv_may_hold_anything),
        cmocka_unit_test(options_of_the_statement_hold),
        cmocka_unit_test(a_row_has_a_limit),
        cmocka_unit_test(binary_rows_are_counted_out),
        cmocka_unit_test(binary_data_that_is_none_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
