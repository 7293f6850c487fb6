/*
 * Changes as logical replication tells them. Were one overlooked, a row that differs after a move would never be
 * compared, and the wrong one would stay.
 */
#include "wire/changes.h"

#include "wire_test.h"

#define S(bytes) slice_of(bytes, sizeof(bytes) - 1)

typedef struct Story {
    ChangeTable tables[2];
    ChangeReader reader;
} Story;

static const char RELATION[] = "R\0\0\0\7public\0users\0d\0\2\0name\0\0\0\0\x19\xff\xff\xff\xff\1id\0\0\0\0\x14\xff\xff\xff\xff";

static Story story_make(void)
{
    Story s = {.tables = {{.schema = SLICE("other"), .name = SLICE("users"), .column = SLICE("id")},
                          {.schema = SLICE("public"), .name = SLICE("users"), .column = SLICE("id")}}};
    return s;
}

static WireResult read_one(Story *s, Slice message, Change *change)
{
    Error err;
    s->reader = (ChangeReader){s->tables, 2};
    uint8_t *copy = malloc(message.len + 1); /* so that AddressSanitizer sees a look beyond it */
    memcpy(copy, message.data, message.len);
    copy = realloc(copy, MAX(message.len, (size_t)1));
    WireResult result = change_read(&s->reader, slice_of(copy, message.len), change, &err);
    for (uint32_t i = 0; i < change->count; i++) /* into the message that the test owns */
        change->values[i] = slice_of(message.data + (change->values[i].data - copy), change->values[i].len);
    free(copy);
    return result;
}

static void each_kind_of_change_tells_its_key(void **state)
{
    Story s = story_make();
    Change change;
    assert_int_equal(read_one(&s, S(RELATION), &change), WIRE_OK);
    assert_int_equal(change.count, 0);
    assert_int_equal(read_one(&s, S("I\0\0\0\7N\0\2t\0\0\0\1at\0\0\0\2""42"), &change), WIRE_OK);
    assert_true(change.table == 1 && change.count == 1 && slice_is(change.values[0], "42"));
    assert_int_equal(read_one(&s, S("U\0\0\0\7N\0\2ut\0\0\0\1""7"), &change), WIRE_OK); /* a TOASTed name stays */
    assert_true(change.count == 1 && slice_is(change.values[0], "7"));
    assert_int_equal(read_one(&s, S("U\0\0\0\7K\0\2nt\0\0\0\1""7N\0\2nt\0\0\0\1""8"), &change), WIRE_OK);
    assert_true(change.count == 2 && slice_is(change.values[0], "7") && slice_is(change.values[1], "8"));
    assert_int_equal(read_one(&s, S("D\0\0\0\7K\0\2nt\0\0\0\1""9"), &change), WIRE_OK);
    assert_true(change.count == 1 && slice_is(change.values[0], "9"));
    assert_int_equal(read_one(&s, S("B12345678"), &change), WIRE_OK);
    assert_int_equal(change.count, 0);
}

static void what_is_not_understood_is_said(void **state)
{
    Story s = story_make();
    Change change;
    assert_int_equal(read_one(&s, S("I\0\0\0\7N\0\1t\0\0\0\2""42"), &change), WIRE_BAD); /* no R before it */
    assert_int_equal(read_one(&s, S(RELATION), &change), WIRE_OK);
    assert_int_equal(read_one(&s, S("T\0\0\0\1\0\0\0\0\7"), &change), WIRE_BAD);
    assert_int_equal(read_one(&s, S(""), &change), WIRE_BAD);
    assert_int_equal(read_one(&s, S("D\0\0\0\7K\0\2nn"), &change), WIRE_BAD); /* no key */
    for (size_t len = 0; len < sizeof RELATION - 1; len++)
        assert_int_equal(read_one(&s, slice_of(RELATION, len), &change), WIRE_BAD);
    static const char ROW[] = "U\0\0\0\7N\0\2t\0\0\0\1at\0\0\0\1""7";
    for (size_t len = 0; len < sizeof ROW - 1; len++)
        assert_int_equal(read_one(&s, slice_of(ROW, len), &change), WIRE_BAD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_of_change_tells_its_key),
        cmocka_unit_test(what_is_not_understood_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
