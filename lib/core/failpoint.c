/*
 * failpoint.c - which failpoints there are, and what is armed.
 *
 * A crash between two messages cannot be met by a test that only looks from outside; it can be met by
 * one that stops the program at that place. Names are looked up among the few that are armed, so a
 * place costs one load of a constant when nothing is, and nothing in a program built without them.
 */
#include "core/failpoint.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ARMED_MAX 8

#ifdef SHOAL_FAILPOINTS

static const struct {
    const char *name, *help;
} POINTS[] = {
    /* moves, in their order (admin/move_steps.c) */
    {"plan_written", ""}, {"target_ddl", ""}, {"target_empty_check", ""},
    {"slot_or_trigger_created", ""}, {"snapshot_exported", ""}, {"copy_first_row", ""},
    {"copy_mid", ""}, {"copy_last_row", ""}, {"copy_verified", ""}, {"catchup_start", ""},
    {"catchup_mid", ""}, {"fence_source_sent", ""}, {"fence_acked", ""}, {"final_catchup_done", ""},
    {"diff_done", ""}, {"map_tx_begin", ""}, {"map_tx_committed", ""},
    {"routers_notified_one_of_two", ""}, {"unfence", ""}, {"source_delete_start", ""},
    {"source_delete_mid", ""}, {"slot_dropped", ""}, {"done", ""},
    /* commits over several shards (router/commit.c): the points a-o */
    {"commit_received", "COMMIT over several shards was read, nothing was sent (a)"},
    {"commit_named", "writers are counted and the gid is made, nothing was sent (b)"},
    {"commit_before_prepare", "the PREPAREs are about to be written (c)"},
    {"commit_prepare_sent", "the PREPAREs have left, no answer was read (d)"},
    {"commit_prepared_one", "one PREPARE was answered, others were not (e)"},
    {"commit_prepare_failed", "a PREPARE was answered by an error or by the tag ROLLBACK (f, g)"},
    {"commit_prepared", "all are prepared, the decision is not written (h)"},
    {"commit_decision_sent", "decision and COMMIT have left for the decider, no answer was read (i)"},
    {"commit_decided", "the decider has committed, no COMMIT PREPARED was written (j)"},
    {"commit_second_sent", "COMMIT PREPARED has left, no answer was read (k)"},
    {"commit_second_one", "one COMMIT PREPARED was answered, others were not (l)"},
    {"commit_second_failed", "a COMMIT PREPARED was answered by an error (m)"},
    {"commit_done", "all have committed, the client has not been told (n)"},
    {"commit_told", "the answer is written to the client's buffer (o)"},
    /* recovery (admin/recovery.c) and the store */
    {"recovery_look", "recovery is about to ask the shards for prepared transactions"},
    {"recovery_tombstone", "recovery is about to write an abort tombstone"},
    {"recovery_tombstone_done", "the tombstone is written, nothing was rolled back"},
    {"recovery_finish", "recovery is about to send COMMIT PREPARED or ROLLBACK PREPARED"},
    {"recovery_forget", "recovery is about to delete decision rows"},
    {"fill_copied", "a table's rows are copied, nothing is prepared"},
    {"fill_prepared", "they are prepared on all shards, the store does not say so"},
    {"fill_stored", "the store says that the table is distributed, nothing was committed"},
    {"fill_half", "one shard has committed, others have not"},
    {"store_commit", "a change of the metadata store is about to be committed"},
};


typedef enum ArmedDo { ARMED_PANIC, ARMED_SLEEP, ARMED_ERROR, ARMED_ENOSPC } ArmedDo;

typedef struct Armed {
    char name[48];
    ArmedDo what;
    unsigned long number; /* sleep: ms; error, enospc: how many times, 0 always */
    unsigned long only;   /* at this hit only; 0: at each */
    atomic_ulong hits;
} Armed;

static const char *const ACTIONS[] = {[ARMED_PANIC] = "panic",
                                      [ARMED_SLEEP] = "sleep",
                                      [ARMED_ERROR] = "error",
                                      [ARMED_ENOSPC] = "enospc"};

bool failpoints_armed;
static Armed armed[ARMED_MAX];
static size_t armed_count;

static void sleep_ms(unsigned long ms)
{
    struct timespec left = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        ;
}

static FailAction act(Armed *point, unsigned long hit)
{
    bool due = point->number == 0 || point->only || hit <= point->number;
    fprintf(stderr, "failpoint %s: %s (hit %lu)\n", point->name, ACTIONS[point->what], hit);
    fflush(stderr);
    switch (point->what) {
    case ARMED_PANIC:
        kill(getpid(), SIGKILL);
        return FAIL_NONE;
    case ARMED_SLEEP:
        if (hit == 1 || point->only)
            sleep_ms(point->number);
        return FAIL_NONE;
    case ARMED_ERROR:
        return due ? FAIL_ERROR : FAIL_NONE;
    case ARMED_ENOSPC:
        return due ? FAIL_ENOSPC : FAIL_NONE;
    }
    return FAIL_NONE;
}

FailAction failpoint_hit(const char *name)
{
    for (size_t i = 0; i < armed_count; i++) {
        Armed *point = &armed[i];
        if (strcmp(point->name, name) != 0)
            continue;
        unsigned long hit = atomic_fetch_add(&point->hits, 1) + 1;
        if (point->only == 0 || point->only == hit)
            return act(point, hit);
    }
    return FAIL_NONE;
}

static bool is_registered(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(POINTS); i++)
        if (strcmp(POINTS[i].name, name) == 0)
            return true;
    return false;
}

/* panic, sleep:1500, error, error:2, enospc. */
static bool read_action(Armed *point, char *text)
{
    char *colon = strchr(text, ':'), *end;
    if (colon) {
        *colon = '\0';
        point->number = strtoul(colon + 1, &end, 10);
        if (end == colon + 1 || *end || point->number == 0)
            return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(ACTIONS); i++) {
        point->what = (ArmedDo)i;
        if (strcmp(text, ACTIONS[i]) == 0)
            return i == ARMED_SLEEP ? colon != NULL : i != ARMED_PANIC || !colon;
    }
    return false;
}

/* name[@hit]:action */
static bool read_word(Armed *point, char *word)
{
    char *colon = strchr(word, ':');
    if (!colon)
        return false;
    *colon = '\0';
    char *at = strchr(word, '@');
    if (at) {
        char *end;
        *at = '\0';
        point->only = strtoul(at + 1, &end, 10);
        if (end == at + 1 || *end || point->only == 0)
            return false;
    }
    if (strlen(word) >= sizeof point->name || !is_registered(word))
        return false;
    memcpy(point->name, word, strlen(word) + 1);
    return read_action(point, colon + 1);
}

bool failpoints_arm(const char *words, Error *err)
{
    char *copy = strdup(words), *rest = copy;
    armed_count = 0;
    bool ok = copy != NULL;
    for (char *word; ok && (word = strsep(&rest, ","));) {
        char told[64];
        memccpy(told, word, '\0', sizeof told);
        told[sizeof told - 1] = '\0';
        ok = armed_count < ARMED_MAX;
        if (ok) {
            Armed *point = &armed[armed_count];
            *point = (Armed){0};
            ok = read_word(point, word);
        }
        if (!ok) {
            error_set(err, SQLSTATE_INVALID_PARAMETER, "SHOAL_FAILPOINT: \"%s\" is no failpoint", told);
            error_hint(err, "NAME[@HIT]:panic|sleep:MS|error|enospc; shoald --failpoints lists the names.");
        }
        armed_count += ok;
    }
    free(copy);
    failpoints_armed = ok && armed_count > 0;
    return ok;
}

void failpoints_list(FILE *out)
{
    for (size_t i = 0; i < ARRAY_LEN(POINTS); i++)
        fprintf(out, *POINTS[i].help ? "%-28s %s\n" : "%s\n", POINTS[i].name, POINTS[i].help);
}

#else

bool failpoints_arm(const char *words, Error *err)
{
    error_set(err, SQLSTATE_INVALID_PARAMETER, "SHOAL_FAILPOINT is set, but this program has no failpoints");
    error_hint(err, "Build it with -Dfailpoints=true, or take the variable out of the environment.");
    return false;
}

void failpoints_list(FILE *out)
{
    (void)out;
}

#endif

void failpoint_error(FailAction action, const char *name, Error *err)
{
    assert(action != FAIL_NONE);
    error_set(err, action == FAIL_ENOSPC ? "53100" : SQLSTATE_IO_ERROR, "failpoint %s", name);
}

