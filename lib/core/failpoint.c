/*
 * failpoint.c - the table of failpoints, and what SHOAL_FAILPOINT says about them.
 *
 * The variable is read at each hit: hits are rare, and nothing must be set up before the first one.
 */
#include "core/failpoint.h"

#include <stdio.h>

#ifdef SHOAL_FAILPOINTS

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const NAMES[] = {
    /* moves, in their order (admin/move_steps.c) */
    "plan_written", "target_ddl", "target_empty_check", "slot_or_trigger_created",
    "snapshot_exported", "copy_first_row", "copy_mid", "copy_last_row", "copy_verified",
    "catchup_start", "catchup_mid", "fence_source_sent", "fence_acked", "final_catchup_done",
    "diff_done", "map_tx_begin", "map_tx_committed", "routers_notified_one_of_two", "unfence",
    "source_delete_start", "source_delete_mid", "slot_dropped", "done",
};

static atomic_uint hits[sizeof NAMES / sizeof *NAMES];

static size_t name_index(const char *name)
{
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        if (strcmp(NAMES[i], name) == 0)
            return i;
    }
    assert(!"a failpoint that is not in the table");
    return 0;
}

/* "name:" at the start of a comma-separated item: what stands behind it. */
static const char *action_of(const char *name)
{
    const char *at = getenv("SHOAL_FAILPOINT");
    size_t len = strlen(name);
    while (at && *at) {
        if (strncmp(at, name, len) == 0 && at[len] == ':')
            return at + len + 1;
        at = strchr(at, ',');
        at = at ? at + 1 : NULL;
    }
    return NULL;
}

static bool action_is(const char *action, const char *word)
{
    size_t len = strlen(word);
    return strncmp(action, word, len) == 0 && (!action[len] || strchr(":,", action[len]));
}

static void sleep_ms(unsigned long ms)
{
    struct timespec left = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    while (nanosleep(&left, &left) != 0)
        ;
}

FailAction failpoint_hit(const char *name)
{
    size_t index = name_index(name);
    const char *action = action_of(name);
    if (!action)
        return FAIL_NONE;
    unsigned count = atomic_fetch_add(&hits[index], 1) + 1;
    const char *argument = action + strcspn(action, ":,");
    unsigned long number = *argument == ':' ? strtoul(argument + 1, NULL, 10) : 0;
    bool due = number == 0 || count <= number;
    fprintf(stderr, "failpoint %s: %.*s\n", name, (int)strcspn(action, ","), action);
    if (action_is(action, "panic"))
        kill(getpid(), SIGKILL);
    if (action_is(action, "sleep") && count == 1)
        sleep_ms(number);
    if (action_is(action, "error") && due)
        return FAIL_ERROR;
    return action_is(action, "enospc") && due ? FAIL_ENOSPC : FAIL_NONE;
}

const char *failpoint_name(size_t index)
{
    return index < sizeof NAMES / sizeof *NAMES ? NAMES[index] : NULL;
}

#else

const char *failpoint_name(size_t index)
{
    (void)index;
    return NULL;
}

#endif

void failpoint_error(FailAction action, const char *name, Error *err)
{
    assert(action != FAIL_NONE);
    error_set(err, action == FAIL_ENOSPC ? "53100" : SQLSTATE_IO_ERROR, "failpoint %s", name);
}
