/* The settings table: defaults, units, ranges, SHOW CONFIG, RELOAD's report and the documentation. */
#include "story.h"

#include "meta/settings.h"

/* Else: a row whose default its own parser refuses stops every start. */
static void each_row_accepts_its_default(void **state)
{
    size_t count;
    const Setting *rows = config_settings(&count);
    uint8_t base[sizeof(Config) + sizeof(DatabaseConfig)];
    Arena arena;
    char reason[256];
    arena_init(&arena, 1024);
    for (size_t i = 0; i < count; i++) {
        assert_true(strlen(rows[i].help) > 10);
        if (rows[i].def && !setting_store(&rows[i], base, rows[i].def, &arena, reason))
            fail_msg("%s: %s", rows[i].key, reason);
    }
    arena_finish(&arena);
}

/* Else: an operator's file works, but not as docs/configuration.md says. */
static void defaults_are_the_documented_ones(void **state)
{
    Config *c = story_config(TRUST CLUSTER);
    assert_string_equal(c->listen, "127.0.0.1");
    assert_int_equal(c->port, 6432);
    assert_int_equal(c->buckets, 1024);
    assert_int_equal(c->client_max, 10000);
    assert_int_equal(c->login_timeout_ms, 15000);
    assert_int_equal(c->server_idle_timeout_ms, 600000);
    assert_int_equal(c->message_max, 256 << 20);
    assert_int_equal(c->server_message_max, 1 << 30);
    assert_int_equal(c->shape_cache_bytes, 64 << 20);
    assert_true(c->batch);
    assert_int_equal(c->batch_inflight_max, 4);
    assert_int_equal(c->databases[0].pool_size, 20);
    assert_null(c->user_list);
    config_free(c);
}

/* Else: 5min is taken for 5 ms, or 1GB for one byte. */
static void units_are_understood(void **state)
{
    Config *c = story_config("[shoal]\nauth=trust\nlogin_timeout=2 min\nquery_wait_timeout=0\n"
                             "catalog_poll=1500ms\nserver_lifetime=1d\ntcp_user_timeout=1us\n"
                             "message_max=1048576\noutput_high=64kB\nshape_cache_bytes=2GB\n"
                             "tls_required=FALSE\n[batch]\nbatch=no\n" CLUSTER);
    assert_int_equal(c->login_timeout_ms, 120000);
    assert_int_equal(c->query_wait_timeout_ms, 0);
    assert_int_equal(c->catalog_poll_ms, 1500);
    assert_int_equal(c->server_lifetime_ms, 86400000);
    assert_int_equal(c->tcp_user_timeout_ms, 1);
    assert_int_equal(c->message_max, 1048576);
    assert_int_equal(c->output_high, 65536);
    assert_int_equal(c->shape_cache_bytes, 2ULL << 30);
    assert_false(c->batch);
    config_free(c);
}

/* Else: a wrong number is taken for another one, or the operator is not told what would be right. */
static void wrong_values_name_what_is_expected(void **state)
{
    static const char *const WRONG[][2] = {
        {"port=0", "port must be between 1 and 65535, not \"0\""},
        {"port=65536", "between 1 and 65535"},
        {"port=abc", "port must be a whole number"},
        {"port=12 34", "whole number"},
        {"port=", "whole number"},
        {"port=9999999999999999999999", "between 1 and 65535"},
        {"port=-9999999999999999999999", "between 1 and 65535"},
        {"workers=-1", "between 0 and 60"},
        {"buckets=100", "power of two between 64 and 16384"},
        {"login_timeout=-1", "duration"},
        {"login_timeout=-1s", "between 1s and 1h"},
        {"login_timeout=1000000000d", "between 1s and 1h"},
        {"login_timeout=9223372036854775807d", "between 1s and 1h"},
        {"login_timeout=5 parsecs", "a duration such as"},
        {"login_timeout=5", "a duration such as"},
        {"message_max=5 parsecs", "a size such as"},
        {"tls_required=maybe", "on or off, not \"maybe\""},
        {"auth=md5", "one of trust, scram-sha-256; not \"md5\""},
        {"log_level=loud", "one of debug, info, warning, error"},
        {"listen=", "between 1 and 255 bytes"},
    };
    for (size_t i = 0; i < ARRAY_LEN(WRONG); i++) {
        char text[512];
        Error err = {0};
        snprintf(text, sizeof text, "[shoal]\n%s\n" CLUSTER, WRONG[i][0]);
        assert_null(config_load(story_file("shards.ini", text), &err));
        assert_string_equal(err.sqlstate, SQLSTATE_CONFIG_FILE);
        const char *line = strstr(err.message, "shards.ini:2: ");
        if (!line || !strstr(err.message, WRONG[i][1]))
            fail_msg("%s gave: %s", WRONG[i][0], err.message);
    }
}

/* Else: SHOW CONFIG tells something else than what is in force, or tells a secret. */
static void show_writes_what_the_file_could_hold(void **state)
{
    Config *c = story_config("[shoal]\nauth=trust\nlogin_timeout=90s\noutput_high=1536kB\n" CLUSTER);
    static const char *const SHOWN[][2] = {
        {"login_timeout", "90s"}, {"output_high", "1536kB"}, {"auth", "trust"}, {"log_level", "info"},
        {"server_lifetime", "1h"}, {"idle_in_transaction_timeout", "0"}, {"tls_cert", ""},
        {"tls_required", "off"}, {"port", "6432"},
    };
    Arena arena;
    arena_init(&arena, 1024);
    for (size_t i = 0; i < ARRAY_LEN(SHOWN); i++)
        assert_string_equal(config_show(c, setting_find("shoal", SHOWN[i][0]), &arena), SHOWN[i][1]);
    DatabaseConfig database = {.server_password = "hunter2"};
    assert_string_equal(setting_show(setting_find("database", "server_password"), &database, &arena),
                        "********");
    arena_finish(&arena);
    config_free(c);
}

/* Else: RELOAD says it applied a port that nobody listens on. */
static void reload_names_what_needs_a_restart(void **state)
{
    Config *old = story_config(TRUST CLUSTER);
    Config *same = story_config("[shoal]\nauth=trust\nlogin_timeout=1min\n" CLUSTER);
    Config *other = story_config("[shoal]\nauth=trust\nport=7000\nworkers=3\n[shard s0]\n"
                                 "primary=host=a port=1\n[database app]\n");
    Arena arena;
    arena_init(&arena, 1024);
    assert_null(config_restart_needed(old, same, &arena));
    assert_string_equal(config_restart_needed(old, other, &arena), "port, workers, [shard], [database]");
    arena_finish(&arena);
    config_free(old);
    config_free(same);
    config_free(other);
}

/* Else: the documentation tells of keys that are gone. `ninja -C build settings-doc` writes it anew. */
static void the_documentation_is_up_to_date(void **state)
{
    char *text = NULL;
    size_t len = 0;
    FILE *written = open_memstream(&text, &len);
    config_write_markdown(written);
    fclose(written);
    FILE *file = fopen(story_source("docs/configuration.md"), "r");
    assert_non_null(file);
    char *found = calloc(1, len + 2);
    size_t n = fread(found, 1, len + 1, file);
    fclose(file);
    assert_int_equal(n, len);
    assert_string_equal(found, text);
    free(found);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_row_accepts_its_default),
        cmocka_unit_test(defaults_are_the_documented_ones),
        cmocka_unit_test(units_are_understood),
        cmocka_unit_test(wrong_values_name_what_is_expected),
        cmocka_unit_test(show_writes_what_the_file_could_hold),
        cmocka_unit_test(reload_names_what_needs_a_restart),
        cmocka_unit_test(the_documentation_is_up_to_date),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    story_clean();
    return failed;
}
