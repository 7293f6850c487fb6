/* test_command.c - the console's language: what is understood, what is refused, who may. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "admin/console.h"

typedef struct Console {
    Arena arena;
    Error err;
    CommandLine line, arguments;
} Console;

static int setup(void **state)
{
    static Console console;
    console = (Console){0};
    arena_init(&console.arena, 1024);
    *state = &console;
    return 0;
}

static int teardown(void **state)
{
    Console *console = *state;
    arena_finish(&console->arena);
    return 0;
}

/* The command that a text means; NULL with console->err. */
static const Command *meant(Console *console, const char *text)
{
    size_t count;
    const Command *commands = console_commands(&count);
    if (!command_line_read(slice_str(text), &console->arena, &console->line, &console->err))
        return NULL;
    return command_find(commands, count, &console->line, &console->arguments, &console->err);
}

static void refused(Console *console, const char *text)
{
    assert_null(meant(console, text));
    assert_string_equal(console->err.sqlstate, "42601");
    assert_true(console->err.hint[0]);
}

/* psql, drivers and people write a command in many ways; all must mean it. */
static void test_ways_to_write(void **state)
{
    static const char *const TEXTS[] = {"show pools",
                                        "SHOW POOLS;",
                                        " Show\n\tPools ; ; ",
                                        "SHOW/* a */POOLS",
                                        "-- hi\nSHOW POOLS --",
                                        "show \"pools\"",
                                        "/* a /* b */ c */ show pools",
                                        ";show pools"};
    for (size_t i = 0; i < ARRAY_LEN(TEXTS); i++) {
        const Command *command = meant(*state, TEXTS[i]);
        assert_non_null(command);
        assert_string_equal(command->words, "show pools");
    }
}

/* A second statement, a literal or trailing words would be dropped silently. */
static void test_refused(void **state)
{
    static const char *const TEXTS[] = {
        "show stats; drop table x", "show 'stats'", "show stats nonsense", "frobnicate",
        "select * from pg_class",   "show",         "show \"POOLS\"",      "show pools /* x",
        "show stats, pools",        "show \"pools", "show stats (1)",      "reload now",
        "a b c d e f g h i",        "show stats\\g"};
    for (size_t i = 0; i < ARRAY_LEN(TEXTS); i++)
        refused(*state, TEXTS[i]);
}

/* A customer called O'Neil is moved under another name. */
static void test_quotes_in_words(void **state)
{
    Console *console = *state;
    assert_non_null(meant(console, "move tenant t 'it''s' to \"a\"\"B\""));
    assert_string_equal(console->arguments.words[2], "it's");
    assert_string_equal(console->arguments.words[4], "a\"B");
    assert_non_null(meant(console, "move tenant t '' to s1"));
    assert_string_equal(console->arguments.words[2], "");
    refused(console, "move tenant t 'it''s to s1");
    refused(console, "move tenant t 'x''");
}

/* A typing error at 3 a.m. should be answered with the word that was meant. */
static void test_hint(void **state)
{
    Console *console = *state;
    refused(console, "SHOW POLS");
    assert_non_null(strstr(console->err.hint, "SHOW POOLS"));
    refused(console, "relaod");
    assert_non_null(strstr(console->err.hint, "RELOAD"));
}

/* An error message that ends in half a character is refused by clients. */
static void test_excerpt_is_whole_characters(void **state)
{
    Console *console = *state;
    char text[200] = "show stats ";
    for (int i = 0; i < 60; i++)
        strcat(text, "\xc3\xa4");
    refused(console, text);
    const char *end = strrchr(console->err.message, '"');
    assert_true(((unsigned char)end[-1] & 0xC0) == 0x80);
}

/* Drivers ping with nothing. */
static void test_empty(void **state)
{
    Console *console = *state;
    static const char *const TEXTS[] = {"", " ", ";", " ; -- x", "/* */"};
    for (size_t i = 0; i < ARRAY_LEN(TEXTS); i++) {
        assert_true(
            command_line_read(slice_str(TEXTS[i]), &console->arena, &console->line, &console->err));
        assert_int_equal(console->line.count, 0);
    }
}

/* A megabyte of command is no reason to fall over. */
static void test_huge(void **state)
{
    static char text[1 << 20];
    memset(text, 'x', sizeof text - 1);
    refused(*state, text);
}

/* Anybody who can connect could stop the router. */
static void test_rights(void **state)
{
    Console *console = *state;
    size_t count;
    const Command *commands = console_commands(&count);
    Call nobody = {0}, monitor = {.monitor = true}, admin = {.admin = true};
    for (size_t i = 0; i < count; i++) {
        bool show = strncmp(commands[i].words, "show ", 5) == 0;
        assert_false(command_allowed(&commands[i], &nobody, &console->err));
        assert_string_equal(console->err.sqlstate, "42501");
        assert_int_equal(command_allowed(&commands[i], &monitor, &console->err), show);
        assert_true(command_allowed(&commands[i], &admin, &console->err));
    }
    Command forgotten = {.words = "show secrets"};
    assert_false(command_allowed(&forgotten, &admin, &console->err));
}

/* SHUTDOWN WAIT 5 must reach its handler with its number. */
static void test_arguments(void **state)
{
    Console *console = *state;
    assert_non_null(meant(console, "shutdown wait 5"));
    assert_int_equal(console->arguments.count, 2);
    assert_string_equal(console->arguments.words[1], "5");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_ways_to_write, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_quotes_in_words, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hint, setup, teardown),
        cmocka_unit_test_setup_teardown(test_excerpt_is_whole_characters, setup, teardown),
        cmocka_unit_test_setup_teardown(test_empty, setup, teardown),
        cmocka_unit_test_setup_teardown(test_huge, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rights, setup, teardown),
        cmocka_unit_test_setup_teardown(test_arguments, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
