/* If this failed, an operator who asks where the hour of a move went would be told of the wrong step. */
#include "admin/move_times.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

static void steps_add_up_in_their_order(void **state)
{
    MoveTimes times;
    char text[100];
    move_times_reset(&times);
    move_times_add(&times, "copy", 5210000);
    move_times_add(&times, "written", 400000);
    move_times_add(&times, "pass", 20000);
    move_times_add(&times, "written", 350000);
    move_times_text(&times, text, sizeof text);
    assert_string_equal(text, "copy 5.2, written 0.8");
}

static void a_short_text_is_cut_between_steps(void **state)
{
    MoveTimes times;
    char text[12];
    move_times_reset(&times);
    move_times_add(&times, "copy", 1000000);
    move_times_add(&times, "verify", 1000000);
    move_times_text(&times, text, sizeof text);
    assert_string_equal(text, "copy 1.0");
}

static void more_steps_than_it_knows_are_left_out(void **state)
{
    static char names[MOVE_TIMES_MAX + 3][8];
    MoveTimes times;
    move_times_reset(&times);
    for (int i = 0; i < MOVE_TIMES_MAX + 3; i++) {
        snprintf(names[i], sizeof names[i], "s%d", i);
        move_times_add(&times, names[i], 1000000);
    }
    assert_int_equal(times.count, MOVE_TIMES_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_add_up_in_their_order),
        cmocka_unit_test(a_short_text_is_cut_between_steps),
        cmocka_unit_test(more_steps_than_it_knows_are_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
