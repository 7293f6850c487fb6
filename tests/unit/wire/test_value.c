#include "wire/value.h"

#include "wire_test.h"

static Arena arena;

static int setup(void **state)
{
    arena_init(&arena, 4096);
    return 0;
}

static int teardown(void **state)
{
    arena_finish(&arena);
    return 0;
}

static void same(uint32_t type_oid, const char *text, Slice canonical)
{
    Slice ret;
    if (value_canonical(type_oid, FORMAT_TEXT, slice_str(text), &arena, &ret) != VALUE_OK)
        fail_msg("'%s' of type %u was not understood", text, type_oid);
    assert_bytes(ret, canonical);
}

static void refused(uint32_t type_oid, Slice text, ValueResult expected)
{
    Slice ret;
    if (value_canonical(type_oid, FORMAT_TEXT, text, &arena, &ret) != expected)
        fail_msg("'%.*s' of type %u", SLICE_FMT(text), type_oid);
}

static void opaque(uint32_t type_oid, const char *text)
{
    refused(type_oid, slice_str(text), VALUE_OPAQUE);
}

static void binary(uint32_t type_oid, Slice value, ValueResult expected)
{
    Slice ret;
    assert_int_equal(value_canonical(type_oid, FORMAT_BINARY, value, &arena, &ret), expected);
}

static void an_integer_keeps_its_sign_in_every_width(void **state)
{
    /* Lost otherwise: a key found in one column is another one in a column of another width. */
    int64_t number;
    assert_true(value_integer(SLICE("\xff\xfe"), &number) && number == -2);
    assert_true(value_integer(SLICE("\x80\0\0\0"), &number) && number == INT32_MIN);
    assert_true(value_integer(SLICE("\0\0\0\0\xff\xff\xff\xff"), &number) && number == UINT32_MAX);
    assert_false(value_integer(SLICE("\0\0\7"), &number));
    assert_false(value_integer(SLICE(""), &number));
}

static void integers_are_read_as_postgresql_reads_them(void **state)
{
    /* Lost otherwise: ' 7' and '7' live on two shards (cases 87-89, 118). */
    same(WIRE_OID_INT4, "7", SLICE("\0\0\0\7"));
    same(WIRE_OID_INT4, " \t\n\v\f\r+7 \n", SLICE("\0\0\0\7"));
    same(WIRE_OID_INT4, "-0", SLICE("\0\0\0\0"));
    same(WIRE_OID_INT4, "0000000000000000000000000000000001", SLICE("\0\0\0\1"));
    same(WIRE_OID_INT2, "-32768", SLICE("\x80\0"));
    same(WIRE_OID_INT4, "2147483647", SLICE("\x7f\xff\xff\xff"));
    same(WIRE_OID_INT8, "-9223372036854775808", SLICE("\x80\0\0\0\0\0\0\0"));
    same(WIRE_OID_INT8, "9223372036854775807", SLICE("\x7f\xff\xff\xff\xff\xff\xff\xff"));
    same(WIRE_OID_OID, "4294967295", SLICE("\xff\xff\xff\xff"));
    const char *others[] = {"",    " ",   "+",   "- 1", "--1",      "1_000", "0x1",
                            "1.0", "1e0", "1 2", "abc", "\xd9\xa1", "7\xa0"};
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        opaque(WIRE_OID_INT4, others[i]);
    refused(WIRE_OID_INT4, SLICE("7\0"), VALUE_OPAQUE);
    opaque(WIRE_OID_OID, "-1");
}

static void integers_out_of_range_are_told(void **state)
{
    /* Lost otherwise: an overflow wraps around and finds somebody else's row. */
    refused(WIRE_OID_INT2, SLICE("32768"), VALUE_OUT_OF_RANGE);
    refused(WIRE_OID_INT4, SLICE("2147483648"), VALUE_OUT_OF_RANGE);
    refused(WIRE_OID_INT4, SLICE("-2147483649"), VALUE_OUT_OF_RANGE);
    refused(WIRE_OID_INT8, SLICE("9223372036854775808"), VALUE_OUT_OF_RANGE);
    refused(WIRE_OID_INT8, SLICE("-9223372036854775809"), VALUE_OUT_OF_RANGE);
    refused(WIRE_OID_INT8, SLICE("99999999999999999999999"), VALUE_OUT_OF_RANGE);
    refused(WIRE_OID_OID, SLICE("4294967296"), VALUE_OUT_OF_RANGE);
    refused(WIRE_OID_INT4, SLICE("99999999999x"), VALUE_OPAQUE);
}

static void binary_values_must_have_their_length(void **state)
{
    /* Lost otherwise: three bytes of an int4 route somewhere (case 87). */
    binary(WIRE_OID_INT4, SLICE("\0\0\0\7"), VALUE_OK);
    binary(WIRE_OID_INT4, SLICE("\0\0\7"), VALUE_OPAQUE);
    binary(WIRE_OID_INT8, SLICE("\0\0\0\7"), VALUE_OPAQUE);
    binary(WIRE_OID_UUID, SLICE("0123456789abcde"), VALUE_OPAQUE);
    binary(WIRE_OID_DATE, SLICE("\x7f\xff\xff\xfe"), VALUE_OUT_OF_RANGE);
    binary(WIRE_OID_DATE, SLICE("\x7f\xff\xff\xff"), VALUE_OK); /* infinity */
    binary(WIRE_OID_TIMESTAMP, SLICE("\x7f\xff\xff\xff\xff\xff\xff\xfe"), VALUE_OUT_OF_RANGE);
    binary(WIRE_OID_FLOAT8, SLICE("\0\0\0\0\0\0\0\0"), VALUE_OPAQUE);
    binary(WIRE_OID_BYTEA, SLICE(""), VALUE_OK);
    Slice ret;
    assert_int_equal(value_canonical(WIRE_OID_INT4, 7, SLICE("1"), &arena, &ret), VALUE_OPAQUE);
    assert_int_equal(value_canonical(WIRE_OID_BOOL, FORMAT_BINARY, SLICE("\x2a"), &arena, &ret),
                     VALUE_OK);
    assert_bytes(ret, SLICE("\1")); /* any byte but 0 is true */
}

static void a_uuid_has_many_spellings(void **state)
{
    /* Lost otherwise: drivers that write capitals or braces miss their rows. */
    Slice bytes = SLICE("\xa0\xee\xbc\x99\x9c\x0b\x4e\xf8\xbb\x6d\x6b\xb9\xbd\x38\x0a\x11");
    same(WIRE_OID_UUID, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", bytes);
    same(WIRE_OID_UUID, "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", bytes);
    same(WIRE_OID_UUID, "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}", bytes);
    same(WIRE_OID_UUID, "a0eebc999c0b4ef8bb6d6bb9bd380a11", bytes);
    same(WIRE_OID_UUID, "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11", bytes);
    opaque(WIRE_OID_UUID, "a0-eebc999c0b4ef8bb6d6bb9bd380a11");
    opaque(WIRE_OID_UUID, "{a0eebc999c0b4ef8bb6d6bb9bd380a11");
    opaque(WIRE_OID_UUID, "a0eebc999c0b4ef8bb6d6bb9bd380a11-");
    opaque(WIRE_OID_UUID, " a0eebc999c0b4ef8bb6d6bb9bd380a11");
    opaque(WIRE_OID_UUID, "a0eebc999c0b4ef8bb6d6bb9bd380a1g");
    opaque(WIRE_OID_UUID, "");
}

static void booleans_have_many_spellings(void **state)
{
    /* Lost otherwise: 'yes' and 't' are two keys. */
    const char *yes[] = {"t", "tRu", "true", "Y", "yes", "on", " 1 "};
    const char *no[] = {"f", "FALSE", "n", "No", "of", "off", "0\n"};
    for (size_t i = 0; i < ARRAY_LEN(yes); i++)
        same(WIRE_OID_BOOL, yes[i], SLICE("\1"));
    for (size_t i = 0; i < ARRAY_LEN(no); i++)
        same(WIRE_OID_BOOL, no[i], SLICE("\0"));
    opaque(WIRE_OID_BOOL, "o");
    opaque(WIRE_OID_BOOL, "truer");
    opaque(WIRE_OID_BOOL, "");
    opaque(WIRE_OID_BOOL, "10");
}

static void bytea_has_two_spellings(void **state)
{
    /* Lost otherwise: hex and escape forms of one key are two keys. */
    same(WIRE_OID_BYTEA, "\\x00fF 7a", SLICE("\0\xffz"));
    same(WIRE_OID_BYTEA, "\\000\\377z\\\\", SLICE("\0\xffz\\"));
    same(WIRE_OID_BYTEA, "", SLICE(""));
    same(WIRE_OID_BYTEA, "\\x", SLICE(""));
    const char *others[] = {"\\x0", "\\x0 0", "\\xzz", "\\400", "\\12", "\\", "\\X00", "\xc3\xa9"};
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        opaque(WIRE_OID_BYTEA, others[i]);
}

static void dates_are_understood_only_when_nobody_can_differ(void **state)
{
    /* Lost otherwise: 02/03/2024 is in February for one client and in March for another. */
    same(WIRE_OID_DATE, "2000-01-01", SLICE("\0\0\0\0"));
    same(WIRE_OID_DATE, "1999-12-31", SLICE("\xff\xff\xff\xff"));
    same(WIRE_OID_DATE, "2024-02-29", SLICE("\0\0\x22\x79"));
    same(WIRE_OID_DATE, "0001-01-01", SLICE("\xff\xf4\xdb\xf9"));
    same(WIRE_OID_TIMESTAMP, "2000-01-01 00:00:01.5", SLICE("\0\0\0\0\0\x16\xe3\x60"));
    same(WIRE_OID_TIMESTAMP, "1999-12-31T23:59:59.999999",
         SLICE("\xff\xff\xff\xff\xff\xff\xff\xff"));
    same(WIRE_OID_TIMESTAMPTZ, "2000-01-01 02:00:01+02", SLICE("\0\0\0\0\0\x0f\x42\x40"));
    same(WIRE_OID_TIMESTAMPTZ, "1999-12-31 18:30:01-05:30", SLICE("\0\0\0\0\0\x0f\x42\x40"));
    same(WIRE_OID_TIMESTAMPTZ, "2000-01-01T00:00:01Z", SLICE("\0\0\0\0\0\x0f\x42\x40"));
    const char *dates[] = {"02/03/2024",  "2024-2-3",    "24-02-03",      "2023-02-29",
                           "2024-13-01",  "2024-00-01",  "2024-01-00",    "0000-01-01",
                           "infinity",    "today",       "2024-02-03 BC", "20240203",
                           "2024-02-03 ", "12024-01-01", "2024-04-31"};
    for (size_t i = 0; i < ARRAY_LEN(dates); i++)
        opaque(WIRE_OID_DATE, dates[i]);
    const char *stamps[] = {"2024-02-03",
                            "2024-02-03 24:00:00",
                            "2024-02-03 23:59:60",
                            "2024-02-03 00:00:00.1234567",
                            "2024-02-03 00:00:00+02",
                            "2024-02-03 00:00",
                            "2024-02-03 00:00:00.",
                            "now"};
    for (size_t i = 0; i < ARRAY_LEN(stamps); i++)
        opaque(WIRE_OID_TIMESTAMP, stamps[i]);
    opaque(WIRE_OID_TIMESTAMPTZ, "2024-02-03 00:00:00");
    opaque(WIRE_OID_TIMESTAMPTZ, "2024-02-03 00:00:00 Europe/Berlin");
    opaque(WIRE_OID_TIMESTAMPTZ, "2024-02-03 00:00:00+16");
    opaque(WIRE_OID_TIMESTAMPTZ, "2024-02-03 00:00:00+02:");
}

static void texts_are_their_bytes(void **state)
{
    /* Lost otherwise: trailing spaces of char(n), and names that PostgreSQL would cut. */
    same(WIRE_OID_TEXT, " a ", SLICE(" a "));
    same(WIRE_OID_VARCHAR, "", SLICE(""));
    same(WIRE_OID_BPCHAR, "ab  ", SLICE("ab"));
    same(WIRE_OID_BPCHAR, "  ", SLICE(""));
    same(WIRE_OID_NAME, "abc", SLICE("abc"));
    opaque(WIRE_OID_NAME, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    refused(WIRE_OID_TEXT, SLICE("a\0b"), VALUE_OPAQUE);
    binary(WIRE_OID_TEXT, SLICE("a\0b"), VALUE_OPAQUE);
    opaque(WIRE_OID_UNKNOWN, "7");
    opaque(WIRE_OID_NUMERIC, "7");
    opaque(0, "7");
}

static void printed(uint32_t type_oid, Slice canonical, const char *text)
{
    Buf buf;
    buf_init(&buf, 100);
    assert_true(value_text(type_oid, canonical, &buf));
    assert_slice(buf_bytes(&buf), text);
    buf_finish(&buf);
}

static void values_print_as_postgresql_prints_them(void **state)
{
    /* Lost otherwise: keys in text arrays, and in messages to people. */
    printed(WIRE_OID_INT2, SLICE("\x80\0"), "-32768");
    printed(WIRE_OID_INT4, SLICE("\xff\xff\xff\xff"), "-1");
    printed(WIRE_OID_INT8, SLICE("\x80\0\0\0\0\0\0\0"), "-9223372036854775808");
    printed(WIRE_OID_OID, SLICE("\xff\xff\xff\xff"), "4294967295");
    printed(WIRE_OID_BOOL, SLICE("\1"), "t");
    printed(WIRE_OID_TEXT, SLICE("ann"), "ann");
    printed(WIRE_OID_BYTEA, SLICE("\0\xff"), "\\x00ff");
    printed(WIRE_OID_UUID,
            SLICE("\xa0\xee\xbc\x99\x9c\x0b\x4e\xf8\xbb\x6d\x6b\xb9\xbd\x38\x0a\x11"),
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11");
    Buf buf;
    buf_init(&buf, 100);
    assert_false(value_text(WIRE_OID_INT4, SLICE("\1"), &buf));
    assert_false(value_text(WIRE_OID_DATE, SLICE("\0\0\0\0"), &buf));
    assert_int_equal(buf_len(&buf), 0);
    assert_int_equal(value_array_oid(WIRE_OID_INT4), 1007);
    assert_int_equal(value_array_oid(WIRE_OID_NUMERIC), 0);
}

int main(void)
{
#define STORY(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        STORY(an_integer_keeps_its_sign_in_every_width),
        STORY(integers_are_read_as_postgresql_reads_them),
        STORY(integers_out_of_range_are_told),
        STORY(binary_values_must_have_their_length),
        STORY(a_uuid_has_many_spellings),
        STORY(booleans_have_many_spellings),
        STORY(bytea_has_two_spellings),
        STORY(dates_are_understood_only_when_nobody_can_differ),
        STORY(texts_are_their_bytes),
        STORY(values_print_as_postgresql_prints_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
