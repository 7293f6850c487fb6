/* shards.ini as operators really write it: whole, half, twice, on the wrong machine. */
#include "story.h"

/* The error of a file, which must begin with its path and (line > 0) that line. */
static Error wrong_file(const char *path, int line)
{
    Error err = {0};
    char start[256];
    Config *config = config_load(path, &err);
    if (config)
        fail_msg("the file was accepted");
    assert_string_equal(err.sqlstate, SQLSTATE_CONFIG_FILE);
    if (line > 0)
        snprintf(start, sizeof start, "%s:%d: ", path, line);
    else
        snprintf(start, sizeof start, "%s: ", path);
    if (strncmp(err.message, start, strlen(start)) != 0)
        fail_msg("\"%s\" does not begin with \"%s\"", err.message, start);
    return err;
}

static void wrong(const char *text, int line, const char *reason, const char *hint)
{
    Error err = wrong_file(story_file("shards.ini", text), line);
    if (!strstr(err.message, reason) || (hint && !strstr(err.hint, hint)))
        fail_msg("got \"%s\", hint \"%s\"", err.message, err.hint);
}

/* Else: Patroni is asked nowhere, or on a machine that was not meant, and a failover is believed too early. */
static void patroni_is_written_as_name_or_address(void **state)
{
    static const struct {
        const char *url, *host;
        int port;
    } GOOD[] = {{"http://10.0.0.2", "10.0.0.2", 8008},        {"http://10.0.0.2:8009/", "10.0.0.2", 8009},
                {"http://db-2.example.org:1", "db-2.example.org", 1}, {"http://localhost/", "localhost", 8008},
                {"http://[::1]:8010", "::1", 8010},           {"http://[fd00::2]", "fd00::2", 8008}};
    static const char *const BAD[] = {"https://db2:8008", "http://", "http://:8008", "http://10.0.0.300", "http://1.2",
                                      "http://[::1", "http://[10.0.0.1]", "http://[db2]:1", "http://::1:8008",
                                      "http://db2:0", "http://db2:8008/path", "http://db2/path", "http://db 2",
                                      "http://db2:65536", "http://[::1]x"};
    char text[200];
    for (size_t i = 0; i < sizeof GOOD / sizeof *GOOD; i++) {
        snprintf(text, sizeof text, "[shoal]\nauth = trust\n[shard s0]\nprimary = host=a patroni=%s\n[database app]\nshards = s0\n", GOOD[i].url);
        Config *c = story_config(text);
        assert_string_equal(c->servers[0]->patroni_host, GOOD[i].host);
        assert_int_equal(c->servers[0]->patroni_port, GOOD[i].port);
        config_free(c);
    }
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        snprintf(text, sizeof text, "[shard s0]\nprimary = host=a patroni='%s'\n", BAD[i]);
        wrong(text, 2, "patroni must be like http://10.0.0.2:8008", "in brackets");
    }
}

/* Else: a cluster is not the one that was written down. */
static void a_whole_file_becomes_a_cluster(void **state)
{
    Config *c = story_config("; a comment\n[shoal]\nlisten = *\nport = 7000 ; inline\nauth = trust\n"
                             "store = data/shoal.db\n\n"
                             "[shard s0]\nprimary = host=10.0.0.1 port=5433 sslmode=require\n"
                             "replica = host='10.0.0.2'\n  replica = host = 10.0.0.3 port = 5434\n"
                             "[shard s1]\nprimary = hostaddr=10.0.1.1\n"
                             "[database app]\nshards = s1 , s0\nserver_user = app\nbatch = off\n"
                             "[database logs]\nshards = s1\ndbname = logs_2024\n"
                             "[table Orders]\ndatabase = app\nkey = \"Customer\"\n"
                             "[table \"Sales\".\"Items\"]\ndatabase = app\nkey = Id\n");
    assert_string_equal(c->listen, "*");
    assert_int_equal(c->port, 7000);
    assert_string_equal(c->store, story_path("data/shoal.db"));
    assert_int_equal(c->shard_count, 2);
    assert_int_equal(c->server_count, 4);
    assert_string_equal(c->servers[2]->name, "s0/replica2");
    assert_string_equal(c->servers[2]->host, "10.0.0.3");
    assert_int_equal(c->servers[1]->port, 5432);
    assert_int_equal(c->servers[3]->shard, 1);
    assert_int_equal(c->servers[3]->role, SERVER_PRIMARY);
    assert_string_equal(c->shards[0].primary->conninfo, "host=10.0.0.1 port=5433 sslmode=require");
    const DatabaseConfig *app = config_database(c, SLICE("app"));
    assert_int_equal(app->shards[0], 1);
    assert_false(app->batch);
    assert_string_equal(app->dbname, "app");
    const DatabaseConfig *logs = config_database(c, SLICE("logs"));
    assert_string_equal(logs->dbname, "logs_2024");
    assert_int_equal(logs->shard_count, 1);
    assert_null(config_database(c, SLICE("other")));
    assert_string_equal(c->tables[0].name, "orders");
    assert_string_equal(c->tables[0].schema, "public");
    assert_string_equal(c->tables[0].key, "Customer");
    assert_string_equal(c->tables[1].schema, "Sales");
    assert_string_equal(c->tables[1].key, "id");
    config_free(c);
}

/* Else: a file saved on Windows, or without a last newline, does not start. */
static void bom_crlf_and_no_last_newline_are_fine(void **state)
{
    Config *c = story_config("\xEF\xBB\xBF[shoal]\r\nport=7001\r\nauth=trust\r\n[shard s0]\r\n"
                             "primary=host=a\r\n[database app]\r\npool_size=7");
    assert_int_equal(c->port, 7001);
    assert_int_equal(c->databases[0].pool_size, 7);
    config_free(c);
}

/* Else: the wrong file gives a riddle, a hang, or gigabytes of memory. */
static void files_that_are_none_are_refused(void **state)
{
    wrong_file("/nowhere/shards.ini", 0);
    wrong_file("/tmp", 0);
    assert_non_null(strstr(wrong_file(story_path(""), 0).message, "directory"));
    wrong("", 0, "no [shard NAME] section", "Add [shard s0]");
    assert_non_null(strstr(wrong_file(story_file_bytes("nul", "[shoal]\npo\0rt", 12), 2).message,
                           "zero byte"));
    const char *huge = story_file("huge", "");
    assert_int_equal(truncate(huge, 1LL << 30), 0);
    assert_non_null(strstr(wrong_file(huge, 0).message, "bigger than"));
    wrong_file("/dev/zero", 0);
}

/* Else: a line longer than a buffer becomes two settings. */
static void long_lines_are_refused_or_whole(void **state)
{
    char *text = calloc(1, 1 << 20);
    strcpy(text, "[shoal]\nlisten=");
    memset(text + strlen(text), 'x', 900000);
    wrong(text, 2, "longer than 4000 bytes", NULL);
    snprintf(text, 1 << 20, TRUST "store=%03500d\n" CLUSTER, 7);
    Config *c = story_config(text);
    assert_int_equal(strlen(strrchr(c->store, '/') + 1), 3500);
    config_free(c);
    free(text);
}

/* Else: a misspelled key is ignored, and its default is in force. */
static void unknown_words_name_the_nearest(void **state)
{
    wrong("[shoal]\nprot=5\n", 2, "unknown key \"prot\" in [shoal]", "Did you mean \"port\"?");
    wrong("[shoal]\nlogin_timeout_ms=5s\n", 2, "unknown key", "Did you mean \"login_timeout\"?");
    wrong("[shoal]\npool_size=5\n", 2, "unknown key", "\"pool_size\" belongs into [database].");
    wrong("[shoal]\nzzzzzzzz=5\n", 2, "unknown key \"zzzzzzzz\"", "");
    wrong(TRUST CLUSTER "poolsize=5\n", 8, "unknown key", "Did you mean \"pool_size\"?");
    wrong("[shoal]\n[databse app]\n", 2, "unknown section [databse]", "Did you mean \"database\"?");
    wrong(TRUST CLUSTER "shards=s0,s11\n", 8, "unknown shard \"s11\"", "Did you mean \"s1\"?");
    wrong(TRUST CLUSTER "[table t]\ndatabase=apps\nkey=id\n", 9, "unknown database \"apps\"",
          "Did you mean \"app\"?");
}

/* Else: of two settings one wins, and nobody knows which. */
static void what_is_written_twice_is_refused(void **state)
{
    wrong("[shoal]\nport=1\nlisten=a\nport=1\n", 4, "\"port\" is set for the second time, first in line 2", NULL);
    wrong("[shoal]\n[shoal]\n", 2, "second time, first in line 1", NULL);
    wrong("[shard s0]\nprimary=host=a\n[shard s0]\nprimary=host=b\n", 3, "[shard s0] stands here for the second", NULL);
    wrong(TRUST CLUSTER "[database app]\n", 8, "second time", NULL);
    wrong(TRUST CLUSTER "shards=s0,s0\n", 8, "shard s0 is named twice", NULL);
    wrong(TRUST CLUSTER "[table t]\nkey=a\n[table public.T]\nkey=b\n", 10, "table public.t stands here for the second time", NULL);
    wrong("[shard s0]\nprimary=host=a\nreplica=host=A port=5432\n", 3, "A:5432 is both s0/primary and s0/replica1", NULL);
    wrong("[shard s0]\nprimary=host=a\n[shard s1]\nprimary=host=a\n", 4, "both s0/primary and s1/primary", NULL);
}

/* Else: a line that is no setting is skipped, or the parser guesses. */
static void lines_of_no_sense_are_refused(void **state)
{
    wrong("port=1\n", 1, "below a section header", NULL);
    wrong("[shoal]\nport\nlisten=a\n", 2, "expected \"key = value\"", NULL);
    wrong("[shoal]\nlisten=a\nport", 3, "expected \"key = value\"", NULL);
    wrong("[shoal\nport=1\n", 1, "[kind name]", NULL);
    wrong("[shoal] port=1\n", 1, "[kind name]", NULL);
    wrong("[]\n", 1, "[kind name]", NULL);
    wrong("[shoal x]\n", 1, "[shoal] has no name", NULL);
    wrong("[shard]\n", 1, "[shard NAME] needs a name", NULL);
    wrong("[shard s/0]\nprimary=host=a\n", 1, "only letters, digits", NULL);
}

/* Else: a cluster with a hole in it starts, and fails at the first query. */
static void incomplete_clusters_are_refused(void **state)
{
    wrong(TRUST "[shard s0]\n[database app]\n", 3, "shard s0 has no primary", NULL);
    wrong(TRUST "[shard s0]\nprimary=host=a\n", 0, "no [database NAME] section", NULL);
    wrong(TRUST CLUSTER "server_password=x\n", 8, "server_password needs server_user", NULL);
    wrong(TRUST CLUSTER "[table t]\n", 8, "table t has no key", "Add key = COLUMN.");
    wrong(TRUST CLUSTER "[table a.b.c]\nkey=id\n", 8, "not a table's name", NULL);
    wrong(TRUST CLUSTER "[table \"a]\nkey=id\n", 8, "not a table's name", NULL);
    wrong(TRUST CLUSTER "[table t]\nkey=a,b,c,d,e,f,g,h,i\n", 9, "one to eight columns", NULL);
    wrong(TRUST CLUSTER "[table t]\nkey=a b\n", 9, "one to eight columns", NULL);
    wrong(TRUST CLUSTER "[table t]\nkind=list\nkey=a,b\n", 10, "one column's name", NULL);
    wrong(TRUST CLUSTER "[table t]\nkind=list\nkey=a\n", 8, "a list table needs places", NULL);
    wrong(TRUST CLUSTER "[table t]\nkind=reference\nkey=a\n", 10, "a reference table has no key", NULL);
    wrong(TRUST CLUSTER "[table t]\nkind=local\n", 8, "a local table needs shard", NULL);
    wrong(TRUST CLUSTER "[table t]\nkind=local\nshard=s9\n", 10, "unknown shard", NULL);
    wrong(TRUST CLUSTER "[table t]\nkey=a\nshard=s0\n", 10, "a hash table has no shard", NULL);
    wrong(TRUST CLUSTER "[database b]\n[table t]\nkey=id\n", 9, "needs database", NULL);
    wrong(TRUST CLUSTER "shards=s0\n[table t]\nkey=id\n", 9, "not on all shards", NULL);
    wrong("[shoal]\nauth=trust\ntls_cert=a\n" CLUSTER, 3, "tls_cert and tls_key go together", NULL);
    wrong("[shoal]\nauth=trust\ntls_required=on\n" CLUSTER, 3, "tls_required needs", NULL);
}

/* Else: a typo in a server's line is found by the first client. */
static void server_lines_are_checked(void **state)
{
    wrong("[shard s0]\nprimary=port=5\n", 2, "needs a host", NULL);
    wrong("[shard s0]\nprimary=127.0.0.1:5432\n", 2, "expected host=", NULL);
    wrong("[shard s0]\nprimary=host=a prot=5\n", 2, "unknown connection keyword \"prot\"", "Did you mean \"port\"?");
    wrong("[shard s0]\nprimary=host=a port=65536\n", 2, "between 1 and 65535", NULL);
    wrong("[shard s0]\nprimary=host=a,b\n", 2, "not a list", NULL);
    wrong("[shard s0]\nprimary=host='a\n", 2, "no closing quote", NULL);
    wrong("[shard s0]\nprimary=host=a dbname=x\n", 2, "must not have \"dbname\"", "[database NAME]");
}

/* Else: the file of the quickstart, the first thing anybody tries, is wrong. */
static void the_shipped_file_loads(void **state)
{
    Error err = {0};
    Config *c = config_load(story_source("shards.ini"), &err);
    if (!c)
        fail_msg("%s", err.message);
    assert_int_equal(c->shard_count, 2);
    assert_int_equal(c->shards[0].replica_count, 1);
    assert_int_equal(c->auth, AUTH_TRUST);
    assert_non_null(config_database(c, SLICE("app")));
    config_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patroni_is_written_as_name_or_address),
        cmocka_unit_test(a_whole_file_becomes_a_cluster),
        cmocka_unit_test(bom_crlf_and_no_last_newline_are_fine),
        cmocka_unit_test(files_that_are_none_are_refused),
        cmocka_unit_test(long_lines_are_refused_or_whole),
        cmocka_unit_test(unknown_words_name_the_nearest),
        cmocka_unit_test(what_is_written_twice_is_refused),
        cmocka_unit_test(lines_of_no_sense_are_refused),
        cmocka_unit_test(incomplete_clusters_are_refused),
        cmocka_unit_test(server_lines_are_checked),
        cmocka_unit_test(the_shipped_file_loads),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    story_clean();
    return failed;
}
