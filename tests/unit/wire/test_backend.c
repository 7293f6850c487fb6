#include "wire/backend.h"

#include "wire/writer.h"
#include "wire_test.h"

static Buf buf;
static Error err;

static int setup(void **state)
{
    buf_init(&buf, 1 << 20);
    return 0;
}

static int teardown(void **state)
{
    buf_finish(&buf);
    return 0;
}

/* The only message in the Buf; it must also pass the check that any message gets. */
static Frame take(char type)
{
    Frame frame = frame_take(&buf);
    assert_int_equal(frame.type, type);
    assert_int_equal(frame.whole.len, buf_len(&buf));
    assert_int_equal(backend_check(&frame, &err), WIRE_OK);
    return frame;
}

/* A server's message with this body is a lie (08P01, whatever the words). */
static void assert_lie(char type, Slice body)
{
    Frame frame = {.type = (uint8_t)type, .body = body};
    memset(&err, 0, sizeof err);
    if (backend_check(&frame, &err) != WIRE_BAD)
        fail_msg("believed a '%c' of %zu bytes", type, body.len);
    assert_string_equal(err.sqlstate, "08P01");
    assert_true(err.message[0]);
}

static void authentication_goes_both_ways(void **state)
{
    /* Lost otherwise: logins. */
    AuthenticationMessage auth;
    backend_put_authentication(&buf, AUTH_MD5, SLICE("salt"));
    assert_int_equal(backend_read_authentication(take('R').body, &auth, &err), WIRE_OK);
    assert_int_equal(auth.code, AUTH_MD5);
    assert_slice(auth.data, "salt");
    buf_reset(&buf);

    Slice mechanisms[] = {SLICE("SCRAM-SHA-256-PLUS"), SLICE("SCRAM-SHA-256")};
    backend_put_auth_sasl(&buf, mechanisms, 2);
    assert_int_equal(backend_read_authentication(take('R').body, &auth, &err), WIRE_OK);
    Slice name;
    assert_true(auth_mechanism_at(&auth, 1, &name));
    assert_slice(name, "SCRAM-SHA-256");
    assert_false(auth_mechanism_at(&auth, 2, &name));

    assert_lie('R', SLICE("\0\0"));
    assert_lie('R', SLICE("\0\0\0\0x"));
    assert_lie('R', SLICE("\0\0\0\5abc"));
    assert_lie('R', SLICE("\0\0\0\x63"));
    assert_lie('R', SLICE("\0\0\0\x0a"));
    assert_lie('R', SLICE("\0\0\0\x0a\0"));
    assert_lie('R', SLICE("\0\0\0\x0aSCRAM\0"));
    assert_lie('R', SLICE("\0\0\0\x0aSCRAM\0\0x"));
}

static void the_greeting_goes_both_ways(void **state)
{
    /* Lost otherwise: cancel keys and the settings that drivers look at. */
    KeyData key;
    backend_put_key_data(&buf, 4711, 0x80000001);
    assert_int_equal(backend_read_key_data(take('K').body, &key, &err), WIRE_OK);
    assert_int_equal(key.pid, 4711);
    assert_int_equal(key.key, 0x80000001);
    buf_reset(&buf);
    ParameterStatus status;
    backend_put_parameter_status(&buf, SLICE("TimeZone"), SLICE("UTC"));
    assert_int_equal(backend_read_parameter_status(take('S').body, &status, &err), WIRE_OK);
    assert_slice(status.name, "TimeZone");
    assert_slice(status.value, "UTC");
    buf_reset(&buf);
    Slice options[] = {SLICE("_pq_.a"), SLICE("_pq_.b")};
    NegotiateVersion version;
    backend_put_negotiate_version(&buf, PROTOCOL_3_0, options, 2);
    assert_int_equal(backend_read_negotiate_version(take('v').body, &version, &err), WIRE_OK);
    assert_int_equal(version.option_count, 2);
    assert_bytes(version.options, SLICE("_pq_.a\0_pq_.b\0"));

    uint8_t long_key[256] = {0};
    assert_lie('K', slice_of(long_key, sizeof long_key));
    assert_lie('S', SLICE("TimeZone\0UTC"));
    assert_lie('S', SLICE("TimeZone\0UTC\0x"));
    assert_lie('v', SLICE("\0\3\0\0\xff\xff\xff\xff"));
    assert_lie('v', SLICE("\0\3\0\0\0\0\0\0x\0"));
}

static void empty_answers_are_empty(void **state)
{
    /* Lost otherwise: drivers that count ParseComplete and BindComplete. */
    backend_put_parse_complete(&buf);
    backend_put_bind_complete(&buf);
    backend_put_close_complete(&buf);
    backend_put_no_data(&buf);
    backend_put_portal_suspended(&buf);
    backend_put_empty_query(&buf);
    backend_put_copy_done(&buf);
    Slice rest = buf_bytes(&buf);
    for (const char *type = "123nsIc"; *type; type++) {
        Frame frame;
        assert_int_equal(frame_next_backend(rest, 0, &frame, &err), WIRE_OK);
        assert_int_equal(frame.type, *type);
        assert_int_equal(backend_check(&frame, &err), WIRE_OK);
        assert_lie(*type, SLICE("x"));
        rest = slice_from(rest, frame.whole.len);
    }
    assert_int_equal(rest.len, 0);
}

static void ready_tells_the_transaction(void **state)
{
    /* Lost otherwise: the moment at which a server is free again. */
    char status = 0;
    backend_put_ready(&buf, TX_FAILED);
    assert_int_equal(backend_read_ready(take('Z').body, &status, &err), WIRE_OK);
    assert_int_equal(status, 'E');
    assert_lie('Z', SLICE(""));
    assert_lie('Z', SLICE("X"));
    assert_lie('Z', SLICE("II"));
}

#define KEY  ((FieldDescription){SLICE("k"), 16384, 1, 23, 4, -1, 0})
#define NAME ((FieldDescription){SLICE("name"), 16384, 2, 1043, -1, 36, 0})

static void row_descriptions_go_both_ways(void **state)
{
    /* Lost otherwise: names and types of every column. */
    FieldDescription fields[] = {KEY, NAME}, field;
    RowDescription row;
    size_t cursor = 0;
    backend_put_row_description(&buf, fields, 2);
    assert_int_equal(backend_read_row_description(take('T').body, &row, &err), WIRE_OK);
    assert_int_equal(row.count, 2);
    assert_true(row_description_next(&row, &cursor, &field));
    assert_slice(field.name, "k");
    assert_int_equal(field.type_oid, 23);
    assert_true(row_description_next(&row, &cursor, &field));
    assert_slice(field.name, "name");
    assert_int_equal(field.table_oid, 16384);
    assert_int_equal(field.attnum, 2);
    assert_int_equal(field.type_len, -1);
    assert_int_equal(field.typmod, 36);
    assert_false(row_description_next(&row, &cursor, &field));
}

static void a_batchs_key_column_can_be_taken_away(void **state)
{
    /* Lost otherwise: clients see a column that they did not ask for. */
    FieldDescription fields[] = {KEY, NAME}, field;
    RowDescription row;
    DataRow data;
    size_t cursor = 0;
    Buf out;
    buf_init(&out, 1000);
    backend_put_row_description(&buf, fields, 2);
    assert_int_equal(backend_read_row_description(take('T').body, &row, &err), WIRE_OK);
    backend_put_row_description_after(&out, &row, 1);
    assert_int_equal(backend_read_row_description(frame_take(&out).body, &row, &err), WIRE_OK);
    assert_int_equal(row.count, 1);
    assert_true(row_description_next(&row, &cursor, &field));
    assert_slice(field.name, "name");

    Column columns[] = {{SLICE("7"), false}, {SLICE("ann"), false}};
    buf_reset(&buf);
    buf_reset(&out);
    backend_put_data_row(&buf, columns, 2);
    assert_int_equal(backend_read_data_row(take('D').body, 2, &data, &err), WIRE_OK);
    backend_put_data_row_after(&out, &data, 1);
    assert_bytes(buf_bytes(&out), SLICE("D\0\0\0\x0d\0\1\0\0\0\3ann"));
    buf_finish(&out);
}

static void described_formats_follow_the_bind(void **state)
{
    /* Lost otherwise: a driver reads binary values as text, from a description we replayed. */
    FieldDescription fields[] = {KEY, NAME}, field;
    RowDescription row;
    size_t cursor = 0;
    Buf out;
    buf_init(&out, 1000);
    backend_put_row_description(&buf, fields, 2);
    assert_int_equal(backend_read_row_description(take('T').body, &row, &err), WIRE_OK);
    WireFormats formats = {SLICE("\0\0\0\1"), 2}, three = {SLICE("\0\0\0\1\0\1"), 3};
    assert_false(backend_put_row_description_formats(&out, &row, three));
    assert_int_equal(buf_len(&out), 0);
    assert_true(backend_put_row_description_formats(&out, &row, formats));
    assert_int_equal(backend_read_row_description(frame_take(&out).body, &row, &err), WIRE_OK);
    assert_true(row_description_next(&row, &cursor, &field));
    assert_int_equal(field.format, FORMAT_TEXT);
    assert_true(row_description_next(&row, &cursor, &field));
    assert_int_equal(field.format, FORMAT_BINARY);
    buf_finish(&out);
}

static void descriptions_that_lie_are_refused(void **state)
{
    /* Lost otherwise: the process, to one evil server (H87, case 138). */
    assert_lie('T', SLICE("\0"));
    assert_lie('T', SLICE("\xff\xff"));
    assert_lie('T', SLICE("\0\1a\0\0\0\0\0\0\0\0\0\0\0\0\4\0\0\0\0\0"));
    assert_lie('T', SLICE("\0\1a\0\0\0\0\0\0\0\0\0\0\0\0\4\0\0\0\0\0\2"));
    assert_lie('T', SLICE("\0\1abc"));
    assert_lie('T', SLICE("\0\0x"));
    assert_lie('t', SLICE("\0\2\0\0\0\1"));
    assert_lie('t', SLICE("\0\0x"));
}

static void rows_go_both_ways(void **state)
{
    /* Lost otherwise: the answers. */
    Column columns[] = {{SLICE("7"), false}, {SLICE(""), true}, {SLICE(""), false}}, column;
    DataRow row;
    size_t cursor = 0;
    backend_put_data_row(&buf, columns, 3);
    assert_int_equal(backend_read_data_row(take('D').body, 3, &row, &err), WIRE_OK);
    assert_true(data_row_next(&row, &cursor, &column));
    assert_slice(column.value, "7");
    assert_true(data_row_next(&row, &cursor, &column));
    assert_true(column.is_null);
    assert_true(data_row_next(&row, &cursor, &column));
    assert_false(column.is_null);
    assert_false(data_row_next(&row, &cursor, &column));
    assert_slice(data_row_at(&row, 0).value, "7");
    assert_true(data_row_at(&row, 1).is_null);
}

static void rows_that_lie_are_refused(void **state)
{
    /* Lost otherwise: reads beyond the message, or a row split wrongly (case 138). */
    DataRow row;
    assert_lie('D', SLICE(""));
    assert_lie('D', SLICE("\0\1"));
    assert_lie('D', SLICE("\0\1\xff\xff\xff\xfe"));
    assert_lie('D', SLICE("\0\1\0\0\0\5abc"));
    assert_lie('D', SLICE("\0\1\x7f\xff\xff\xff"));
    assert_lie('D', SLICE("\0\0x"));
    assert_lie('D', SLICE("\xff\xff\0\0\0\0"));
    assert_bad(backend_read_data_row(SLICE("\0\1\0\0\0\0"), 2, &row, &err), &err, "08P01",
               "server sent a row with another number of columns than it described");
}

static void parameter_descriptions_go_both_ways(void **state)
{
    /* Lost otherwise: drivers that ask for parameter types (H06). */
    uint32_t oids[] = {23, 4000000000u};
    ParameterDescription params;
    backend_put_parameter_description(&buf, oids, 2);
    assert_int_equal(backend_read_parameter_description(take('t').body, &params, &err), WIRE_OK);
    assert_int_equal(params.count, 2);
    assert_int_equal(parameter_description_at(&params, 1), 4000000000u);
}

static void tags_carry_row_counts(void **state)
{
    /* Lost otherwise: "rows affected", summed over shards. */
    Slice tag;
    uint64_t rows = 0;
    backend_put_command_rows(&buf, SLICE("INSERT"), 12);
    assert_int_equal(backend_read_command_complete(take('C').body, &tag, &err), WIRE_OK);
    assert_slice(tag, "INSERT 0 12");
    assert_true(command_tag_rows(tag, &rows));
    assert_int_equal(rows, 12);
    buf_reset(&buf);
    backend_put_command_rows(&buf, SLICE("SELECT"), 0);
    assert_int_equal(backend_read_command_complete(take('C').body, &tag, &err), WIRE_OK);
    assert_slice(tag, "SELECT 0");
    assert_false(command_tag_rows(SLICE("BEGIN"), &rows));
    assert_false(command_tag_rows(SLICE("7"), &rows));
    assert_false(command_tag_rows(SLICE(""), &rows));
    assert_false(command_tag_rows(SLICE("SELECT 99999999999999999999"), &rows));
    assert_lie('C', SLICE("SELECT 1"));
    assert_lie('C', SLICE("SELECT 1\0x"));
}

static void function_results_and_copy_go_both_ways(void **state)
{
    /* Lost otherwise: COPY, and large objects of old drivers. */
    FunctionResult result = {.is_null = true};
    backend_put_function_result(&buf, &result);
    assert_int_equal(backend_read_function_result(take('V').body, &result, &err), WIRE_OK);
    assert_true(result.is_null);
    buf_reset(&buf);
    CopyResponse copy = {FORMAT_TEXT, {SLICE("\0\0\0\0"), 2}};
    for (const char *type = "GHW"; *type; type++) {
        backend_put_copy_response(&buf, *type, &copy);
        assert_int_equal(backend_read_copy_response(take(*type).body, &copy, &err), WIRE_OK);
        assert_int_equal(copy.columns.count, 2);
        buf_reset(&buf);
        copy.columns.raw = SLICE("\0\0\0\0");
    }
    backend_put_copy_data(&buf, SLICE("row\n"));
    assert_slice(take('d').body, "row\n");
    assert_lie('H', SLICE("\2\0\0"));
    assert_lie('H', SLICE("\0\0\2\0\0"));
    assert_lie('H', SLICE("\0\0\1\0\2"));
    assert_lie('V', SLICE("\0\0\0\2a"));
}

static void our_errors_say_who_speaks(void **state)
{
    /* Lost otherwise: nobody can tell the router's errors from PostgreSQL's. */
    Error sent, copied;
    ErrorResponse response;
    Slice field;
    error_set(&sent, "0A000", "not across shards");
    error_detail(&sent, "Shards s0 and s1.");
    error_hint(&sent, "Add the key.");
    backend_put_error(&buf, SEVERITY_FATAL, &sent);
    assert_int_equal(backend_read_error(take('E').body, &response, &err), WIRE_OK);
    assert_slice(response.severity, "FATAL");
    assert_slice(response.sqlstate, "0A000");
    assert_slice(response.message, "not across shards");
    assert_true(error_response_field(&response, FIELD_ROUTINE, &field));
    assert_slice(field, "router");
    assert_true(error_response_field(&response, FIELD_SEVERITY, &field));
    assert_slice(field, "FATAL");
    assert_false(error_response_field(&response, FIELD_POSITION, &field));
    error_response_copy(&response, &copied);
    assert_string_equal(copied.detail, "Shards s0 and s1.");
    assert_string_equal(copied.hint, "Add the key.");
    buf_reset(&buf);
    backend_put_notice(&buf, SEVERITY_WARNING, &sent);
    take('N');
}

static void errors_without_their_fields_are_refused(void **state)
{
    /* Lost otherwise: drivers crash on an error without SQLSTATE (H87). */
    assert_lie('E', SLICE(""));
    assert_lie('E', SLICE("\0"));
    assert_lie('E', SLICE("SERROR\0C42601\0Mx\0"));
    assert_lie('E', SLICE("SERROR\0Mx\0\0"));
    assert_lie('E', SLICE("SERROR\0C4260\0Mx\0\0"));
    assert_lie('E', SLICE("SERROR\0C4260\n\0Mx\0\0"));
    assert_lie('E', SLICE("SERROR\0C42601\0\0"));
    assert_lie('E', SLICE("SERROR\0C42601\0Mx\0\0junk"));
    ErrorResponse response;
    assert_int_equal(backend_read_error(SLICE("SFEHLER\0C42601\0Mx\0\0"), &response, &err),
                     WIRE_OK);
    assert_slice(response.severity, "FEHLER");
}

static void notifications_go_both_ways(void **state)
{
    /* Lost otherwise: LISTEN. */
    NotificationMessage note;
    backend_put_notification(&buf, 99, SLICE("jobs"), SLICE("42"));
    assert_int_equal(backend_read_notification(take('A').body, &note, &err), WIRE_OK);
    assert_int_equal(note.pid, 99);
    assert_slice(note.channel, "jobs");
    assert_slice(note.payload, "42");
    assert_lie('A', SLICE("\0\0\0\1jobs\0"));
    assert_lie('!', SLICE(""));
}

int main(void)
{
#define STORY(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        STORY(authentication_goes_both_ways),
        STORY(the_greeting_goes_both_ways),
        STORY(empty_answers_are_empty),
        STORY(ready_tells_the_transaction),
        STORY(row_descriptions_go_both_ways),
        STORY(a_batchs_key_column_can_be_taken_away),
        STORY(described_formats_follow_the_bind),
        STORY(descriptions_that_lie_are_refused),
        STORY(rows_go_both_ways),
        STORY(rows_that_lie_are_refused),
        STORY(parameter_descriptions_go_both_ways),
        STORY(tags_carry_row_counts),
        STORY(function_results_and_copy_go_both_ways),
        STORY(our_errors_say_who_speaks),
        STORY(errors_without_their_fields_are_refused),
        STORY(notifications_go_both_ways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
