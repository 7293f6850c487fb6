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

#define ARMED_MAX 8

static const struct {
    const char *name, *help;
} POINTS[] = {
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
    {"recovery_look", "recovery is about to ask the shards for prepared transactions"},
    {"recovery_tombstone", "recovery is about to write an abort tombstone"},
    {"recovery_tombstone_done", "the tombstone is written, nothing was rolled back"},
    {"recovery_finish", "recovery is about to send COMMIT PREPARED or ROLLBACK PREPARED"},
    {"recovery_forget", "recovery is about to delete decision rows"},
    {"store_commit", "a change of the metadata store is about to be committed"},
};

#ifdef SHOAL_FAILPOINTS

typedef enum ArmedDo { ARMED_PANIC, ARMED_SLEEP, ARMED_ERROR, ARMED_ENOSPC } ArmedDo;

typedef struct Armed {
    char name[48];
    ArmedDo what;
    unsigned long sleep_ms;
    unsigned long only; /* at this hit only; 0: at each */
    atomic_ulong hits;
} Armed;

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
    fprintf(stderr, "failpoint %s: hit %lu\n", point->name, hit);
    fflush(stderr);
    switch (point->what) {
    case ARMED_PANIC:
        raise(SIGKILL);
        return FAIL_NONE;
    case ARMED_SLEEP:
        sleep_ms(point->sleep_ms);
        return FAIL_NONE;
    case ARMED_ERROR:
        return FAIL_ERROR;
    case ARMED_ENOSPC:
        return FAIL_ENOSPC;
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

/* sleep:1500, panic, error, enospc. */
static bool read_action(Armed *point, const char *text)
{
    static const char *const NAMES[] = {[ARMED_PANIC] = "panic", [ARMED_ERROR] = "error",
                                        [ARMED_ENOSPC] = "enospc"};
    if (strncmp(text, "sleep:", 6) == 0) {
        char *end;
        point->what = ARMED_SLEEP;
        point->sleep_ms = strtoul(text + 6, &end, 10);
        return end != text + 6 && !*end;
    }
    for (size_t i = 0; i < ARRAY_LEN(NAMES); i++) {
        if (NAMES[i] && strcmp(text, NAMES[i]) == 0) {
            point->what = (ArmedDo)i;
            return true;
        }
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

#else

bool failpoints_arm(const char *words, Error *err)
{
    error_set(err, SQLSTATE_INVALID_PARAMETER, "SHOAL_FAILPOINT is set, but this program has no failpoints");
    error_hint(err, "Build it with -Dfailpoints=true, or take the variable out of the environment.");
    return false;
}

#endif

void failpoints_list(FILE *out)
{
    for (size_t i = 0; i < ARRAY_LEN(POINTS); i++)
        fprintf(out, "%-24s %s\n", POINTS[i].name, POINTS[i].help);
}
