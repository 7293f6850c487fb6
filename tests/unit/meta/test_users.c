/* Users, passwords and verifiers: who gets in, and what must never get out. */
#include "story.h"

#include "meta/scram.h"

#define VERIFIER                                                                                   \
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"     \
    "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

static Error wrong(const char *text, int mode)
{
    Error err = {0};
    const char *path = story_file("shards.ini", text);
    assert_int_equal(chmod(path, (mode_t)mode), 0);
    assert_null(config_load(path, &err));
    assert_string_equal(err.sqlstate, SQLSTATE_CONFIG_FILE);
    return err;
}

/* Else: clients with the right password are turned away. (RFC 7677's own example.) */
static void a_verifier_is_what_the_rfc_says(void **state)
{
    Arena arena;
    arena_init(&arena, 1024);
    const uint8_t salt[] = {0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e,
                            0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36, 0xfa, 0x81};
    assert_string_equal(scram_verifier_salted("pencil", slice_of(salt, sizeof salt), 4096, &arena),
                        VERIFIER);
    const char *one = scram_verifier("pencil", &arena), *two = scram_verifier("pencil", &arena);
    assert_true(scram_is_verifier(one));
    assert_string_not_equal(one, two);
    arena_finish(&arena);
}

/* Else: a password typed on another keyboard (RFC 4013: soft hyphen, ligature) is a wrong one. */
static void passwords_are_prepared_as_clients_do(void **state)
{
    Arena arena;
    arena_init(&arena, 1024);
    Slice salt = SLICE("0123456789abcdef");
    const char *plain = scram_verifier_salted("IX", salt, 4096, &arena);
    assert_string_equal(scram_verifier_salted("I\xC2\xAD" "X", salt, 4096, &arena), plain);
    assert_string_equal(scram_verifier_salted("\xE2\x85\xA8", salt, 4096, &arena), plain);
    assert_true(scram_is_verifier(scram_verifier_salted("\xFF not UTF-8", salt, 4096, &arena)));
    arena_finish(&arena);
}

/* Else: a damaged verifier is taken for a (very long) password, or a password for a verifier. */
static void only_whole_verifiers_are_verifiers(void **state)
{
    assert_true(scram_is_verifier(VERIFIER));
    char cut[sizeof VERIFIER];
    for (size_t len = 0; len < sizeof VERIFIER - 1; len++) {
        memcpy(cut, VERIFIER, sizeof cut);
        cut[len] = 0;
        assert_false(scram_is_verifier(cut));
    }
    assert_false(scram_is_verifier(VERIFIER "x"));
}

/* Else: some users of the list, or the rights of a section, are lost. */
static void sections_and_list_become_one(void **state)
{
    story_file("users.txt", "; people\n\"zoe\" \"pa\"\"ss\"\n\n\"bob\" \"" VERIFIER "\"\r\n\"nobody\" \"\"\n");
    Config *c = story_config("[shoal]\nuser_list=users.txt\n" CLUSTER
                             "[user alice]\npassword=secret\nadmin=on\n[user zoe]\nmonitor=on\n");
    assert_int_equal(c->user_count, 4);
    const UserConfig *alice = config_user(c, SLICE("alice")), *bob = config_user(c, SLICE("bob"));
    assert_true(alice->admin);
    assert_string_equal(alice->password, "secret");
    assert_true(scram_is_verifier(alice->verifier));
    assert_null(bob->password);
    assert_string_equal(bob->verifier, VERIFIER);
    assert_false(bob->admin);
    const UserConfig *zoe = config_user(c, SLICE("zoe"));
    assert_string_equal(zoe->password, "pa\"ss");
    assert_true(zoe->monitor);
    assert_null(config_user(c, SLICE("nobody"))->verifier);
    assert_null(config_user(c, SLICE("mallory")));
    assert_null(config_user(c, slice_of("bob\0x", 5)));
    config_free(c);
}

/* Else: everybody on the machine reads the password, or the log tells it. */
static void secrets_stay_secret(void **state)
{
    Error err = wrong(CLUSTER "[user alice]\npassword=hunter2\n", 0644);
    assert_non_null(strstr(err.message, "shards.ini:7: "));
    assert_non_null(strstr(err.hint, "chmod 600"));
    assert_null(strstr(err.message, "hunter2"));
    char text[4000] = CLUSTER "[user alice]\npassword=";
    memset(text + strlen(text), 'q', 1500);
    err = wrong(text, 0600);
    assert_non_null(strstr(err.message, "bytes"));
    assert_null(strstr(err.message, "qqq"));
    err = wrong(TRUST CLUSTER "server_password=hunter2\n", 0600);
    assert_null(strstr(err.message, "hunter2"));
    const char *list = story_file("users.txt", "\"zoe\" \"hunter2\"\n");
    assert_int_equal(chmod(list, 0644), 0);
    err = wrong("[shoal]\nuser_list=users.txt\n" CLUSTER, 0644);
    assert_non_null(strstr(err.message, "users.txt:1: "));
    assert_int_equal(chmod(story_file("shards.ini", TRUST CLUSTER), 0644), 0);
    Config *c = config_load(story_path("shards.ini"), &err);
    assert_non_null(c);
    config_free(c);
}

/* Else: two passwords of one user, or a hash taken for a password, decide who gets in. */
static void confusing_users_are_refused(void **state)
{
    static const char *const LISTS[][2] = {
        {"\"zoe\" \"a\"\n\"bob\" \"a\"\n\"zoe\" \"b\"\n", "users.txt:3: user \"zoe\" has a password already"},
        {"\"alice\" \"a\"\n", "users.txt:1: user \"alice\" has a password already in its [user NAME]"},
        {"zoe a\n", "users.txt:1: expected"},
        {"\"zoe\" \"a\" \"b\"\n", "users.txt:1: expected"},
        {"\"zoe\" \"a\n", "users.txt:1: expected"},
        {"\"\" \"a\"\n", "users.txt:1: a user's name"},
        {"\"zoe\" \"md5c3fcd3d76192e4007dfb496cca67e13b\"\n", "users.txt:1: MD5"},
        {"\"zoe\" \"SCRAM-SHA-256$4096:abc\"\n", "users.txt:1: the SCRAM verifier is damaged"},
    };
    for (size_t i = 0; i < ARRAY_LEN(LISTS); i++) {
        story_file("users.txt", LISTS[i][0]);
        Error err = wrong("[shoal]\nuser_list=users.txt\n" CLUSTER "[user alice]\npassword=x\n", 0600);
        if (!strstr(err.message, LISTS[i][1]))
            fail_msg("got \"%s\", not \"%s\"", err.message, LISTS[i][1]);
    }
    Error err = wrong("[shoal]\nuser_list=missing.txt\n" CLUSTER, 0600);
    assert_non_null(strstr(err.message, "missing.txt: cannot open"));
}

/* Else: a router that nobody can log in to starts without a word. */
static void scram_without_users_is_refused(void **state)
{
    Error err = wrong(CLUSTER, 0600);
    assert_non_null(strstr(err.message, "no user has a password"));
    assert_non_null(strstr(err.hint, "[user NAME]"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_verifier_is_what_the_rfc_says),
        cmocka_unit_test(passwords_are_prepared_as_clients_do),
        cmocka_unit_test(only_whole_verifiers_are_verifiers),
        cmocka_unit_test(sections_and_list_become_one),
        cmocka_unit_test(secrets_stay_secret),
        cmocka_unit_test(confusing_users_are_refused),
        cmocka_unit_test(scram_without_users_is_refused),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    story_clean();
    return failed;
}
