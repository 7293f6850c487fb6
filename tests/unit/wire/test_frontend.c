#include "wire/frontend.h"

#include "wire/writer.h"
#include "wire_test.h"

#define NO_DATA   "insufficient data left in message"
#define NO_STRING "invalid string in message"
#define NO_FORMAT "invalid message format"

static Buf buf;
static Arena arena;
static Error err;

static int setup(void **state)
{
    buf_init(&buf, 1 << 22);
    arena_init(&arena, 4096);
    return 0;
}

static int teardown(void **state)
{
    buf_finish(&buf);
    arena_finish(&arena);
    return 0;
}

static void a_query_goes_both_ways(void **state)
{
    /* Lost otherwise: the simple protocol. */
    frontend_put_query(&buf, SLICE("select 1"));
    Frame frame = frame_take(&buf);
    QueryMessage query;
    assert_int_equal(frame.type, 'Q');
    assert_int_equal(frontend_read_query(frame.body, &query, &err), WIRE_OK);
    assert_slice(query.sql, "select 1");
}

static void nothing_hides_behind_a_querys_end(void **state)
{
    /* Lost otherwise: a second statement that only one of two readers sees (cases 67-69). */
    QueryMessage query;
    assert_bad(frontend_read_query(SLICE("select 1"), &query, &err), &err, "08P01", NO_STRING);
    assert_bad(frontend_read_query(SLICE("select 1\0select 2\0"), &query, &err), &err, "08P01",
               NO_FORMAT);
    assert_bad(frontend_read_query(SLICE(""), &query, &err), &err, "08P01", NO_STRING);
    assert_int_equal(frontend_read_query(SLICE("\0"), &query, &err), WIRE_OK);
    assert_int_equal(query.sql.len, 0);
}

static void a_parse_goes_both_ways(void **state)
{
    /* Lost otherwise: prepared statements, and their names on shared servers. */
    uint32_t oids[] = {23, 0, 0xfffffffe};
    frontend_put_parse(&buf, SLICE("s1"), SLICE("select $1"), oids, 3);
    Frame frame = frame_take(&buf);
    ParseMessage parse;
    assert_int_equal(frame.type, 'P');
    assert_int_equal(frontend_read_parse(frame.body, &parse, &err), WIRE_OK);
    assert_slice(parse.name, "s1");
    assert_slice(parse.sql, "select $1");
    assert_int_equal(parse_oid_at(&parse, 0), 23);
    assert_int_equal(parse_oid_at(&parse, 2), 0xfffffffe);
    assert_int_equal(parse_oid_at(&parse, 3), 0);

    Buf renamed;
    buf_init(&renamed, 1000);
    frontend_put_parse_renamed(&renamed, &parse, SLICE("other"));
    frame = frame_take(&renamed);
    assert_int_equal(frontend_read_parse(frame.body, &parse, &err), WIRE_OK);
    assert_slice(parse.name, "other");
    assert_int_equal(parse.oid_count, 3);
    buf_finish(&renamed);
}

static void malformed_parses_are_refused(void **state)
{
    /* Lost otherwise: reads beyond the message (cases 72-74). */
    ParseMessage parse;
    struct {
        Slice body;
        const char *message;
    } cases[] = {{SLICE(""), NO_STRING},
                 {SLICE("name"), NO_STRING},
                 {SLICE("name\0select 1"), NO_STRING},
                 {SLICE("\0select 1\0"), NO_DATA},
                 {SLICE("\0select 1\0\xff\xff"), NO_DATA},
                 {SLICE("\0select 1\0\0\5"), NO_DATA},
                 {SLICE("\0select 1\0\0\0junk"), NO_FORMAT}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_bad(frontend_read_parse(cases[i].body, &parse, &err), &err, "08P01",
                   cases[i].message);
}

/* portal "p", statement "st", formats {text, binary}, values {"abc", NULL}, results binary */
static Frame bind_example(void)
{
    size_t mark =
        frontend_bind_begin(&buf, SLICE("p"), SLICE("st"), (WireFormats){SLICE("\0\0\0\1"), 2}, 2);
    frontend_bind_value(&buf, SLICE("abc"));
    frontend_bind_null(&buf);
    frontend_bind_end(&buf, mark, WIRE_FORMATS_BINARY);
    return frame_take(&buf);
}

static void a_bind_goes_both_ways(void **state)
{
    /* Lost otherwise: every parameter. */
    Frame frame = bind_example();
    BindMessage bind;
    assert_int_equal(frame.type, 'B');
    assert_int_equal(frontend_read_bind(frame.body, &bind, &err), WIRE_OK);
    assert_slice(bind.portal, "p");
    assert_slice(bind.statement, "st");
    assert_int_equal(bind.param_count, 2);
    assert_slice(bind_param_at(&bind, 0).value, "abc");
    assert_true(bind_param_at(&bind, 1).is_null);
    assert_int_equal(bind_param_format(&bind, 0), FORMAT_TEXT);
    assert_int_equal(bind_param_format(&bind, 1), FORMAT_BINARY);
    assert_int_equal(formats_of(bind.result_formats, 5), FORMAT_BINARY);
    BindParam *params = bind_params(&bind, &arena);
    assert_slice(params[0].value, "abc");
    assert_true(params[1].is_null);
}

static void a_bind_can_be_sent_to_another_name(void **state)
{
    /* Lost otherwise: prepared statements through a pool. */
    Frame frame = bind_example();
    BindMessage bind, again;
    Buf out;
    buf_init(&out, 1000);
    assert_int_equal(frontend_read_bind(frame.body, &bind, &err), WIRE_OK);
    frontend_put_bind_renamed(&out, &bind, SLICE("shoal_12"));
    frame = frame_take(&out);
    assert_int_equal(frontend_read_bind(frame.body, &again, &err), WIRE_OK);
    assert_slice(again.portal, "p");
    assert_slice(again.statement, "shoal_12");
    assert_bytes(again.tail, bind.tail);
    buf_finish(&out);
}

static void malformed_binds_are_refused(void **state)
{
    /* Lost otherwise: reads beyond the message, or another meaning than PostgreSQL's (81-85). */
    BindMessage bind;
    struct {
        Slice body;
        const char *sqlstate, *message;
    } cases[] = {
        {SLICE(""), "08P01", NO_STRING},
        {SLICE("p\0s"), "08P01", NO_STRING},
        {SLICE("\0\0\0"), "08P01", NO_DATA},
        {SLICE("\0\0\0\3\0\0\0\0\0\0\0\1\0\0\0\1x\0\0"), "08P01",
         "bind message has 3 parameter formats but 1 parameters"},
        {SLICE("\0\0\0\1\0\7\0\1\0\0\0\1x\0\0"), "22023", "unsupported format code: 7"},
        {SLICE("\0\0\0\0\0\1\xff\xff\xff\xfe\0\0"), "08P01", NO_DATA},
        {SLICE("\0\0\0\0\0\1\x7f\xff\xff\xff\0\0"), "08P01", NO_DATA},
        {SLICE("\0\0\0\0\0\1\0\0\0\3\0\0"), "08P01", NO_DATA},
        {SLICE("\0\0\0\0\xff\xff"), "08P01", NO_DATA},
        {SLICE("\0\0\0\0\0\0"), "08P01", NO_DATA},
        {SLICE("\0\0\0\0\0\0\0\2\0\0"), "08P01", NO_DATA},
        {SLICE("\0\0\0\0\0\0\0\0\0"), "08P01", NO_FORMAT},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_bad(frontend_read_bind(cases[i].body, &bind, &err), &err, cases[i].sqlstate,
                   cases[i].message);
    /* a bad result format is the server's to refuse, behind BindComplete (case 82) */
    assert_int_equal(frontend_read_bind(SLICE("\0\0\0\0\0\0\0\1\0\7"), &bind, &err), WIRE_OK);
    assert_null(bind_params(&bind, &arena));
}

static void sixty_five_thousand_parameters_take_linear_time(void **state)
{
    /* Lost otherwise: bulk inserts; or a worker, to O(n^2) (case 86). */
    size_t mark = frontend_bind_begin(&buf, SLICE(""), SLICE(""), WIRE_FORMATS_NONE, UINT16_MAX);
    for (size_t i = 0; i < UINT16_MAX; i++)
        frontend_bind_value(&buf, SLICE("7"));
    frontend_bind_end(&buf, mark, WIRE_FORMATS_NONE);
    Frame frame;
    BindMessage bind;
    assert_int_equal(frame_next(buf_bytes(&buf), LARGE_BODY_MAX, &frame, &err), WIRE_OK);
    assert_int_equal(frontend_read_bind(frame.body, &bind, &err), WIRE_OK);
    BindParam *params = bind_params(&bind, &arena);
    assert_slice(params[UINT16_MAX - 1].value, "7");
}

static void describe_and_close_go_both_ways(void **state)
{
    /* Lost otherwise: drivers that describe, and statements that are given back. */
    TargetMessage target;
    frontend_put_describe(&buf, TARGET_STATEMENT, SLICE("s"));
    Frame frame = frame_take(&buf);
    assert_int_equal(frame.type, 'D');
    assert_int_equal(frontend_read_describe(frame.body, &target, &err), WIRE_OK);
    assert_int_equal(target.target, 'S');
    assert_slice(target.name, "s");
    frame_last(&buf, &frame);
    frontend_put_close(&buf, TARGET_PORTAL, SLICE(""));
    frame = frame_take(&buf);
    assert_int_equal(frame.type, 'C');
    assert_int_equal(frontend_read_close(frame.body, &target, &err), WIRE_OK);
    assert_int_equal(target.target, 'P');

    assert_bad(frontend_read_describe(SLICE("X\0"), &target, &err), &err, "08P01",
               "invalid DESCRIBE message subtype 88"); /* case 95 */
    assert_bad(frontend_read_close(SLICE("X\0"), &target, &err), &err, "08P01",
               "invalid CLOSE message subtype 88");
    assert_bad(frontend_read_close(SLICE(""), &target, &err), &err, "08P01",
               "no data left in message");
    assert_bad(frontend_read_close(SLICE("Sx"), &target, &err), &err, "08P01", NO_STRING);
}

static void execute_goes_both_ways(void **state)
{
    /* Lost otherwise: fetching in steps, and "all rows" written as a negative number (93). */
    ExecuteMessage execute;
    frontend_put_execute(&buf, SLICE("c1"), -5);
    Frame frame = frame_take(&buf);
    assert_int_equal(frame.type, 'E');
    assert_int_equal(frontend_read_execute(frame.body, &execute, &err), WIRE_OK);
    assert_slice(execute.portal, "c1");
    assert_int_equal(execute.max_rows, -5);
    assert_bad(frontend_read_execute(SLICE("\0\0\0\0"), &execute, &err), &err, "08P01", NO_DATA);
    assert_bad(frontend_read_execute(SLICE("\0\0\0\0\0x"), &execute, &err), &err, "08P01",
               NO_FORMAT);
}

static void sync_flush_and_terminate_are_empty(void **state)
{
    /* Lost otherwise: the end of a pipeline (case 66). */
    frontend_put_sync(&buf);
    frontend_put_flush(&buf);
    frontend_put_terminate(&buf);
    frontend_put_copy_done(&buf);
    assert_bytes(buf_bytes(&buf), SLICE("S\0\0\0\4H\0\0\0\4X\0\0\0\4c\0\0\0\4"));
    assert_int_equal(frontend_read_empty(SLICE(""), &err), WIRE_OK);
    assert_bad(frontend_read_empty(SLICE("x"), &err), &err, "08P01", NO_FORMAT);
}

static void only_passwords_are_taken_while_logging_in(void **state)
{
    /* Lost otherwise: a query before the login is done (cases 41, 50). */
    Frame frame;
    assert_bad(frame_next_auth(SLICE("Q"), "password", &frame, &err), &err, "08P01",
               "expected password response, got message type 81");
    assert_bad(frame_next_auth(SLICE("S"), "SASL", &frame, &err), &err, "08P01",
               "expected SASL response, got message type 83");
    assert_int_equal(frame_next_auth(SLICE(""), "SASL", &frame, &err), WIRE_MORE);
    assert_int_equal(frame_next_auth(SLICE("p\0\1\0\3"), "SASL", &frame, &err), WIRE_MORE);
    assert_bad(frame_next_auth(SLICE("p\0\1\0\4"), "SASL", &frame, &err), &err, "08P01",
               "invalid message length");
}

static void a_password_goes_both_ways(void **state)
{
    /* Lost otherwise: md5 and cleartext logins (cases 51, 52). */
    Slice password;
    frontend_put_password(&buf, SLICE("secret"));
    Frame frame = frame_take(&buf);
    assert_int_equal(frame.type, 'p');
    assert_int_equal(frontend_read_password(frame.body, &password, &err), WIRE_OK);
    assert_slice(password, "secret");
    const char *size = "invalid password packet size";
    assert_bad(frontend_read_password(SLICE("secret"), &password, &err), &err, "08P01", size);
    assert_bad(frontend_read_password(SLICE("sec\0ret\0"), &password, &err), &err, "08P01", size);
    assert_bad(frontend_read_password(SLICE(""), &password, &err), &err, "08P01", size);
    assert_bad(frontend_read_password(SLICE("\0"), &password, &err), &err, "28P01",
               "empty password returned by client");
}

static void sasl_goes_both_ways(void **state)
{
    /* Lost otherwise: SCRAM logins (cases 43-45). */
    SaslInitial initial;
    Slice first = SLICE("n,,n=,r=abc"), response;
    frontend_put_sasl_initial(&buf, SLICE("SCRAM-SHA-256"), &first);
    Frame frame = frame_take(&buf);
    assert_int_equal(frontend_read_sasl_initial(frame.body, &initial, &err), WIRE_OK);
    assert_slice(initial.mechanism, "SCRAM-SHA-256");
    assert_slice(initial.response, "n,,n=,r=abc");
    frame_last(&buf, &frame);
    frontend_put_sasl_initial(&buf, SLICE("M"), NULL);
    frame = frame_take(&buf);
    assert_int_equal(frontend_read_sasl_initial(frame.body, &initial, &err), WIRE_OK);
    assert_false(initial.has_response);
    frame_last(&buf, &frame);
    frontend_put_sasl_response(&buf, SLICE("c=biws"));
    frame = frame_take(&buf);
    assert_int_equal(frontend_read_sasl_response(frame.body, &response, &err), WIRE_OK);
    assert_slice(response, "c=biws");

    assert_bad(frontend_read_sasl_initial(SLICE("SCRAM"), &initial, &err), &err, "08P01",
               NO_STRING);
    Slice lies[] = {SLICE("M\0\xff\xff\xff\xfe"), SLICE("M\0\x7f\xff\xff\xff"),
                    SLICE("M\0\0\0\0\2a"), SLICE("M\0\0\0")};
    for (size_t i = 0; i < ARRAY_LEN(lies); i++)
        assert_bad(frontend_read_sasl_initial(lies[i], &initial, &err), &err, "08P01", NO_DATA);
    assert_bad(frontend_read_sasl_initial(SLICE("M\0\0\0\0\1ab"), &initial, &err), &err, "08P01",
               NO_FORMAT);
}

static void copy_goes_both_ways(void **state)
{
    /* Lost otherwise: COPY FROM STDIN. */
    Slice reason;
    frontend_put_copy_data(&buf, SLICE("1\t2\n"));
    Frame frame = frame_take(&buf);
    assert_int_equal(frame.type, 'd');
    assert_slice(frame.body, "1\t2\n");
    frame_last(&buf, &frame);
    frontend_put_copy_fail(&buf, SLICE("no more"));
    frame = frame_take(&buf);
    assert_int_equal(frontend_read_copy_fail(frame.body, &reason, &err), WIRE_OK);
    assert_slice(reason, "no more");
    assert_bad(frontend_read_copy_fail(SLICE("x"), &reason, &err), &err, "08P01", NO_STRING);
}

static void a_function_call_goes_both_ways(void **state)
{
    /* Lost otherwise: large objects of old drivers (case 103). */
    FunctionCallMessage call = {.function_oid = 957,
                                .formats = WIRE_FORMATS_BINARY,
                                .arg_count = 2,
                                .args = SLICE("\0\0\0\1x\xff\xff\xff\xff"),
                                .result_format = 1};
    frontend_put_function_call(&buf, &call);
    Frame frame = frame_take(&buf);
    FunctionCallMessage again;
    assert_int_equal(frontend_read_function_call(frame.body, &again, &err), WIRE_OK);
    assert_int_equal(again.function_oid, 957);
    assert_bytes(again.args, call.args);

    struct {
        Slice body;
        const char *message;
    } cases[] = {{SLICE("\0\0\0\1\0\2\0\0\0\0\0\1\0\0\0\0\0\0"),
                  "function call message contains 2 argument formats but 1 arguments"},
                 {SLICE("\0\0\0\1\0\0\0\1\xff\xff\xff\xfe\0\0"),
                  "invalid argument size -2 in function call message"},
                 {SLICE("\0\0\0\1\0\0\0\1\0\0\0\x10\0\0"), NO_DATA},
                 {SLICE("\0\0\0\1\0\0\0\0\0\0\0"), NO_FORMAT},
                 {SLICE("\0\0"), NO_DATA}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_bad(frontend_read_function_call(cases[i].body, &again, &err), &err, "08P01",
                   cases[i].message);
}

int main(void)
{
#define STORY(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        STORY(a_query_goes_both_ways),
        STORY(nothing_hides_behind_a_querys_end),
        STORY(a_parse_goes_both_ways),
        STORY(malformed_parses_are_refused),
        STORY(a_bind_goes_both_ways),
        STORY(a_bind_can_be_sent_to_another_name),
        STORY(malformed_binds_are_refused),
        STORY(sixty_five_thousand_parameters_take_linear_time),
        STORY(describe_and_close_go_both_ways),
        STORY(execute_goes_both_ways),
        STORY(sync_flush_and_terminate_are_empty),
        STORY(only_passwords_are_taken_while_logging_in),
        STORY(a_password_goes_both_ways),
        STORY(sasl_goes_both_ways),
        STORY(copy_goes_both_ways),
        STORY(a_function_call_goes_both_ways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
