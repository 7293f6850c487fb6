/* Error, log, clock, fsm: what people get to read. */
#include "story.h"

#include <fcntl.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/error.h"
#include "core/fsm.h"
#include "core/log.h"

/* Runs with stderr in a file and gives what was written. */
static int saved_stderr;
static FILE *caught;

static void catch_stderr(void)
{
    caught = tmpfile();
    assert_non_null(caught);
    saved_stderr = dup(STDERR_FILENO);
    dup2(fileno(caught), STDERR_FILENO);
}

static const char *caught_text(void)
{
    static char text[16384];
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    rewind(caught);
    text[fread(text, 1, sizeof(text) - 1, caught)] = '\0';
    fclose(caught);
    return text;
}

/* Else: a client forges log lines or clears the operator's terminal with its user name. */
static void control_bytes_are_escaped(void **state)
{
    catch_stderr();
    log_line(LOG_WARNING, "client 1", "user \"%s\" unknown", "x\n2026 error: forged\x1b[2J\x7f");
    const char *text = caught_text();
    assert_non_null(strstr(text, " warning client 1: user \"x\\n2026 error: forged\\x1b[2J\\x7f\""));
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
}

/* Else: a long statement in a message runs over the stack, or its line has no end. */
static void long_lines_are_cut_and_ended(void **state)
{
    char statement[10000];
    memset(statement, '\n', sizeof(statement) - 1);
    statement[sizeof(statement) - 1] = '\0';
    catch_stderr();
    log_line(LOG_ERROR, "client 1", "%s", statement);
    const char *text = caught_text();
    assert_in_range(strlen(text), 1000, 4096);
    assert_string_equal(text + strlen(text) - 4, "...\n");
}

/* Else: debug lines fill the disk, or errors are lost. */
static void the_level_decides(void **state)
{
    Error err;
    error_set(&err, SQLSTATE_IO_ERROR, "disk is %s", "full");
    error_detail(&err, "0 bytes left");
    catch_stderr();
    log_line(LOG_DEBUG, "a", "not seen");
    log_level_set(LOG_ERROR);
    log_line(LOG_WARNING, "a", "not seen either");
    log_error("main", &err);
    log_level_set(LOG_INFO);
    const char *text = caught_text();
    assert_null(strstr(text, "not seen"));
    assert_non_null(strstr(text, " error main: disk is full (58030); detail: 0 bytes left\n"));
}

/* Else: a client that checks UTF-8 drops the connection over our own error message. */
static void long_errors_are_cut_between_characters(void **state)
{
    Error err;
    char text[1001] = "";
    for (size_t shift = 0; shift < 4; shift++) {
        size_t n = 0;
        while (n < shift)
            text[n++] = 'x';
        while (n + 3 < sizeof(text)) {
            memcpy(text + n, "\xe2\x82\xac", 3);
            n += 3;
        }
        text[n] = '\0';
        error_set(&err, SQLSTATE_INTERNAL, "%s", text);
        size_t len = strlen(err.message);
        assert_in_range(len, sizeof(err.message) - 4, sizeof(err.message) - 1);
        assert_int_equal((len - shift) % 3, 0);
        assert_string_equal(err.detail, "");
    }
    assert_true(error_is(&err, SQLSTATE_INTERNAL));
    assert_false(error_is(&err, SQLSTATE_IO_ERROR));
}

/* Else: deadlines run backwards when somebody sets the clock. */
static void time_goes_on_and_reads_well(void **state)
{
    char text[32];
    uint64_t before = clock_now_us();
    assert_true(clock_now_us() >= before);
    clock_wall_text(text);
    assert_int_equal(strlen(text), strlen("2026-01-31 12:34:56.789 UTC"));
    assert_memory_equal(text + 23, " UTC", 5);
}

typedef enum DoorState { DOOR_OPEN, DOOR_CLOSED } DoorState;

/* Else: an object's life cannot be read from a debug log. */
static void moves_follow_the_table_and_leave_a_trace(void **state)
{
    static const char *const names[] = {"open", "closed"};
    static const FsmTable table = {
        "door", names, {[DOOR_OPEN] = FSM_TO(DOOR_CLOSED), [DOOR_CLOSED] = FSM_TO(DOOR_OPEN)}};
    DoorState door = DOOR_OPEN;
    catch_stderr();
    log_level_set(LOG_DEBUG);
    fsm_move(&table, &door, DOOR_CLOSED, "house");
    log_level_set(LOG_INFO);
    const char *text = caught_text();
    assert_int_equal(door, DOOR_CLOSED);
    assert_non_null(strstr(text, " debug house: door: open -> closed\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(control_bytes_are_escaped),
        cmocka_unit_test(long_lines_are_cut_and_ended),
        cmocka_unit_test(the_level_decides),
        cmocka_unit_test(long_errors_are_cut_between_characters),
        cmocka_unit_test(time_goes_on_and_reads_well),
        cmocka_unit_test(moves_follow_the_table_and_leave_a_trace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
