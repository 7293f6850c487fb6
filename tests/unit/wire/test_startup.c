#include "wire/startup.h"

#include "wire/frontend.h"
#include "wire/backend.h"
#include "wire/writer.h"
#include "wire_test.h"

static Arena arena;
static Buf buf;
static StartupPacket packet;
static Error err;

static int setup(void **state)
{
    arena_init(&arena, 4096);
    buf_init(&buf, 1 << 20);
    return 0;
}

static int teardown(void **state)
{
    arena_finish(&arena);
    buf_finish(&buf);
    return 0;
}

/* A startup message of the given version and raw body behind it. */
static WireResult read_raw(uint32_t version, Slice body)
{
    buf_reset(&buf);
    writer_u32(&buf, (uint32_t)(8 + body.len));
    writer_u32(&buf, version);
    writer_bytes(&buf, body);
    return startup_next(buf_bytes(&buf), &packet, &arena, &err);
}

static WireResult read_body(Slice body)
{
    return read_raw(PROTOCOL_3_0, body);
}

#define LAYOUT "invalid startup packet layout: expected terminator as last byte"

static void a_login_names_user_database_and_settings(void **state)
{
    /* Lost otherwise: nobody gets in. */
    StartupParam params[] = {{SLICE("user"), SLICE("ann")},
                             {SLICE("application_name"), SLICE("one")},
                             {SLICE("database"), SLICE("shop")},
                             {SLICE("options"), SLICE("-c a=b")},
                             {SLICE("application_name"), SLICE("two")}};
    frontend_put_startup(&buf, PROTOCOL_3_0, params, ARRAY_LEN(params));
    assert_int_equal(startup_next(buf_bytes(&buf), &packet, &arena, &err), WIRE_OK);
    assert_int_equal(packet.kind, STARTUP_MESSAGE);
    assert_int_equal(packet.whole.len, buf_len(&buf));
    assert_slice(packet.user, "ann");
    assert_slice(packet.database, "shop");
    assert_slice(packet.options, "-c a=b");
    assert_int_equal(packet.param_count, 2);
    Slice name;
    assert_true(startup_param(&packet, SLICE("Application_Name"), &name));
    assert_slice(name, "two");
    assert_false(startup_param(&packet, SLICE("DateStyle"), &name));
    assert_false(startup_must_negotiate(&packet));
}

static void a_login_may_arrive_byte_by_byte(void **state)
{
    /* Lost otherwise: clients behind slow lines; or a look beyond what has arrived. */
    StartupParam params[] = {{SLICE("user"), SLICE("ann")}};
    frontend_put_startup(&buf, PROTOCOL_3_0, params, 1);
    Slice all = buf_bytes(&buf);
    for (size_t n = 0; n < all.len; n++) {
        uint8_t *copy = malloc(n ? n : 1);
        assert_non_null(copy);
        memcpy(copy, all.data, n);
        assert_int_equal(startup_next(slice_of(copy, n), &packet, &arena, &err), WIRE_MORE);
        free(copy);
    }
    assert_int_equal(startup_next(all, &packet, &arena, &err), WIRE_OK);
}

static void the_database_defaults_to_the_user(void **state)
{
    /* Lost otherwise: `psql` without arguments. */
    assert_int_equal(read_body(SLICE("user\0ann\0\0")), WIRE_OK);
    assert_slice(packet.database, "ann");
    assert_int_equal(read_body(SLICE("user\0ann\0database\0\0\0")), WIRE_OK);
    assert_slice(packet.database, "ann");
}

static void lengths_are_limited_before_anything_is_kept(void **state)
{
    /* Lost otherwise: memory, to strangers (cases 1-7). */
    Slice lies[] = {SLICE("\0\0\0\0"),   SLICE("\0\0\0\3"),        SLICE("\0\0\0\4"),
                    SLICE("\0\0\0\7"),   SLICE("\0\0\x27\x15"),    SLICE("\x7f\xff\xff\xff"),
                    SLICE("\x80\0\0\0"), SLICE("\xff\xff\xff\xff")};
    for (size_t i = 0; i < ARRAY_LEN(lies); i++)
        assert_bad(startup_next(lies[i], &packet, &arena, &err), &err, "08P01",
                   "invalid length of startup packet");
    assert_int_equal(startup_next(SLICE("\0\0\x27\x14"), &packet, &arena, &err), WIRE_MORE);
    assert_int_equal(arena.total, 0);
}

static void broken_layouts_are_refused(void **state)
{
    /* Lost otherwise: two readers of one packet see two users (cases 4, 16-18). */
    Slice bodies[] = {SLICE(""),       SLICE("user\0ann\0"), SLICE("user\0ann\0\0junk\0\0"),
                      SLICE("user\0"), SLICE("user\0\0"),    SLICE("user\0ann"),
                      SLICE("user")};
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++)
        assert_bad(read_body(bodies[i]), &err, "08P01", LAYOUT);
}

static void a_user_is_needed(void **state)
{
    /* Lost otherwise: PostgreSQL's own words for a client that forgot it (case 19). */
    const char *words = "no PostgreSQL user name specified in startup packet";
    assert_bad(read_body(SLICE("\0")), &err, "28000", words);
    assert_bad(read_body(SLICE("user\0\0\0")), &err, "28000", words);
    assert_bad(read_body(SLICE("database\0shop\0\0")), &err, "28000", words);
}

static void a_name_given_twice_is_refused(void **state)
{
    /* Lost otherwise: authenticated as one user, forwarded as another (cases 20, 21). */
    assert_bad(read_body(SLICE("user\0ann\0user\0root\0\0")), &err, "08P01",
               "invalid startup packet: parameter \"user\" is given twice");
    assert_bad(read_body(SLICE("user\0ann\0database\0a\0database\0a\0\0")), &err, "08P01",
               "invalid startup packet: parameter \"database\" is given twice");
    assert_bad(read_body(SLICE("user\0ann\0options\0\0options\0-c a=b\0\0")), &err, "08P01",
               "invalid startup packet: parameter \"options\" is given twice");
}

static void long_names_are_refused_not_cut(void **state)
{
    /* Lost otherwise: PostgreSQL would cut the name and meet another role (case 22). */
    char body[200] = "user";
    memset(body + 5, 'a', 64);
    assert_bad(read_body(slice_of(body, 5 + 64 + 2)), &err, "28000",
               "role \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\" "
               "does not exist");
    body[5 + 63] = '\0';
    assert_int_equal(read_body(slice_of(body, 5 + 63 + 2)), WIRE_OK);
    assert_int_equal(packet.user.len, 63);
}

static void other_versions_are_refused_or_negotiated(void **state)
{
    /* Lost otherwise: new drivers that ask for 3.2 or send grease (cases 12-15). */
    Slice body = SLICE("user\0ann\0\0");
    assert_bad(read_raw(PROTOCOL_VERSION(2, 0), body), &err, "0A000",
               "unsupported frontend protocol 2.0: server supports 3.0 to 3.0");
    assert_bad(read_raw(PROTOCOL_VERSION(4, 0), body), &err, "0A000",
               "unsupported frontend protocol 4.0: server supports 3.0 to 3.0");
    assert_int_equal(read_raw(PROTOCOL_VERSION(3, 9999), body), WIRE_OK);
    assert_int_equal(packet.minor, 9999);
    assert_true(startup_must_negotiate(&packet));

    assert_int_equal(read_body(SLICE("_pq_.foo\0"
                                     "1\0user\0ann\0\0")),
                     WIRE_OK);
    assert_true(startup_must_negotiate(&packet));
    assert_int_equal(packet.param_count, 0);
    Buf answer;
    buf_init(&answer, 100);
    startup_put_negotiate(&answer, &packet);
    assert_bytes(buf_bytes(&answer), SLICE("v\0\0\0\x15\0\3\0\0\0\0\0\1_pq_.foo\0"));
    buf_finish(&answer);
}

static void requests_without_login_are_told_apart(void **state)
{
    /* Lost otherwise: TLS, Kerberos clients' fallback, and Ctrl-C in psql. */
    frontend_put_ssl_request(&buf);
    assert_int_equal(startup_next(buf_bytes(&buf), &packet, &arena, &err), WIRE_OK);
    assert_int_equal(packet.kind, STARTUP_SSL_REQUEST);
    assert_int_equal(packet.whole.len, 8);
    buf_reset(&buf);
    frontend_put_gss_request(&buf);
    assert_int_equal(startup_next(buf_bytes(&buf), &packet, &arena, &err), WIRE_OK);
    assert_int_equal(packet.kind, STARTUP_GSS_REQUEST);
    buf_reset(&buf);
    frontend_put_cancel(&buf, 7, 0xfedcba98);
    assert_int_equal(startup_next(buf_bytes(&buf), &packet, &arena, &err), WIRE_OK);
    assert_int_equal(packet.kind, STARTUP_CANCEL);
    assert_int_equal(packet.cancel_pid, 7);
    assert_int_equal(packet.cancel_key, 0xfedcba98);
}

static void a_cancel_of_wrong_length_is_known_as_such(void **state)
{
    /* Lost otherwise: the count of broken cancels; they get no answer (case 38). */
    assert_int_equal(read_raw(PROTOCOL_CANCEL, SLICE("\0\0\0\7")), WIRE_OK);
    assert_int_equal(packet.kind, STARTUP_CANCEL_BAD);
    assert_int_equal(read_raw(PROTOCOL_CANCEL, SLICE("\0\0\0\7\0\0\0\1\0\0\0\1")), WIRE_OK);
    assert_int_equal(packet.kind, STARTUP_CANCEL_BAD);
}

static void strangers_are_recognised(void **state)
{
    /* Lost otherwise: the operator's hint that a probe speaks HTTP or TLS to us (10, 11). */
    assert_int_equal(startup_next(SLICE("GET / HTTP/1.1\r\n"), &packet, &arena, &err), WIRE_OK);
    assert_int_equal(packet.kind, STARTUP_HTTP);
    assert_int_equal(packet.whole.len, 0);
    assert_int_equal(startup_next(SLICE("\x16\3\1\2"), &packet, &arena, &err), WIRE_OK);
    assert_int_equal(packet.kind, STARTUP_TLS_HELLO);
}

static void replication_is_recognised(void **state)
{
    /* Lost otherwise: a clear refusal instead of a stream that nobody serves (26, 27). */
    assert_int_equal(read_body(SLICE("user\0ann\0replication\0database\0\0")), WIRE_OK);
    assert_int_equal(packet.replication, STARTUP_REPLICATION_DATABASE);
    assert_int_equal(read_body(SLICE("user\0ann\0replication\0TRUE\0\0")), WIRE_OK);
    assert_int_equal(packet.replication, STARTUP_REPLICATION_PHYSICAL);
    assert_int_equal(read_body(SLICE("user\0ann\0replication\0off\0\0")), WIRE_OK);
    assert_int_equal(packet.replication, STARTUP_REPLICATION_OFF);
    assert_bad(read_body(SLICE("user\0ann\0replication\0banana\0\0")), &err, "22023",
               "invalid value for parameter \"replication\": \"banana\"");
    assert_string_equal(err.hint, "Valid values are: \"false\", 0, \"true\", 1, \"database\".");
}

static void options_are_split_as_postgresql_does(void **state)
{
    /* Lost otherwise: PGOPTIONS and every driver's `options=` (cases 31, 32). */
    StartupParam *params;
    size_t count;
    Slice text = SLICE("  -c geqo=off -cwork_mem=4MB --search-path=a\\ b\\\\c -c  x.y=\\  --z=");
    assert_true(startup_options_parse(text, &arena, &params, &count, &err));
    assert_int_equal(count, 5);
    assert_slice(params[0].name, "geqo");
    assert_slice(params[0].value, "off");
    assert_slice(params[1].name, "work_mem");
    assert_slice(params[1].value, "4MB");
    assert_slice(params[2].name, "search_path");
    assert_slice(params[2].value, "a b\\c");
    assert_slice(params[3].name, "x.y");
    assert_slice(params[3].value, " ");
    assert_slice(params[4].value, "");
    assert_true(startup_options_parse(SLICE(" \t"), &arena, &params, &count, &err));
    assert_int_equal(count, 0);
}

static void options_without_value_or_of_other_kinds_are_refused(void **state)
{
    /* Lost otherwise: an option that silently does nothing. */
    StartupParam *params;
    size_t count;
    struct {
        const char *text, *sqlstate, *message;
    } cases[] = {{"-c a", "42601", "-c a requires a value"},
                 {"--b-c", "42601", "--b-c requires a value"},
                 {"-c", "0A000", "startup option \"-c\" is not supported"},
                 {"-e", "0A000", "startup option \"-e\" is not supported"},
                 {"-c a=b banana", "0A000", "startup option \"banana\" is not supported"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_false(
            startup_options_parse(slice_str(cases[i].text), &arena, &params, &count, &err));
        assert_string_equal(err.sqlstate, cases[i].sqlstate);
        assert_string_equal(err.message, cases[i].message);
    }
}

static void options_survive_a_round_trip(void **state)
{
    /* Lost otherwise: settings with spaces on their way to a server. */
    StartupParam *params;
    size_t count;
    startup_options_put(&buf, SLICE("a"), SLICE("x \\ y\t"));
    startup_options_put(&buf, SLICE("b"), SLICE(""));
    assert_true(startup_options_parse(buf_bytes(&buf), &arena, &params, &count, &err));
    assert_int_equal(count, 2);
    assert_slice(params[0].value, "x \\ y\t");
    assert_slice(params[1].name, "b");
}

int main(void)
{
#define STORY(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        STORY(a_login_names_user_database_and_settings),
        STORY(a_login_may_arrive_byte_by_byte),
        STORY(the_database_defaults_to_the_user),
        STORY(lengths_are_limited_before_anything_is_kept),
        STORY(broken_layouts_are_refused),
        STORY(a_user_is_needed),
        STORY(a_name_given_twice_is_refused),
        STORY(long_names_are_refused_not_cut),
        STORY(other_versions_are_refused_or_negotiated),
        STORY(requests_without_login_are_told_apart),
        STORY(a_cancel_of_wrong_length_is_known_as_such),
        STORY(strangers_are_recognised),
        STORY(replication_is_recognised),
        STORY(options_are_split_as_postgresql_does),
        STORY(options_without_value_or_of_other_kinds_are_refused),
        STORY(options_survive_a_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
