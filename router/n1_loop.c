/*
 * n1_loop.c - turn by turn: what was seen becomes what will be asked.
 *
 *     rows        7  9  9  NULL  4  5  ...
 *     turns       ^  ^           ^             suspects: value 0 <- column 1, at row 4
 *     guess                         5  ...     from there on
 */
#include "router/n1_loop.h"

#include <stdlib.h>

#include "core/clock.h"

#define WASTEFUL_MAX 2 /* in a row: then the pattern pauses */
#define WORTH        8 /* a statement alone costs PostgreSQL as much as so many keys of a batch */
#define FAILURES_MAX 3
#define PAUSE_US     ((uint64_t)30 * 1000 * 1000)
#define FRUITLESS_MAX 16
#define QUIET_US      ((uint64_t)10 * 1000 * 1000)

N1Loop *n1_loop_create(void)
{
    N1Loop *loop = calloc(1, sizeof *loop);
    if (loop)
        parent_rows_init(&loop->rows);
    return loop;
}

void n1_loop_account(N1Loop *loop, N1Book *book)
{
    uint64_t now = sizeof *loop + parent_rows_memory(&loop->rows);
    for (uint32_t i = 0; i < loop->track_count; i++)
        now += loop->tracks[i].ahead ? prefetch_bytes(loop->tracks[i].ahead) : 0;
    book->memory = book->memory - loop->charged + now;
    loop->charged = now;
}

static void pause_when(N1Pattern *pattern, bool bad, uint32_t *in_a_row, uint32_t max)
{
    *in_a_row = bad ? *in_a_row + 1 : 0;
    if (*in_a_row >= max)
        pattern->paused_until_us = clock_now_us() + PAUSE_US;
}

void n1_track_throw(N1Loop *loop, N1Track *track, N1Book *book)
{
    if (!track->ahead)
        return;
    N1Pattern *pattern = track->pattern;
    bool failed = prefetch_state(track->ahead) == PREFETCH_OVER;
    pause_when(pattern, failed, &pattern->failures, FAILURES_MAX);
    if (!failed)
        pause_when(pattern, track->hits * WORTH < prefetch_keys(track->ahead), &pattern->wasteful, WASTEFUL_MAX);
    if (failed) {
        pattern->why = N1_WHY_FAILED;
        track->tried = true;
    }
    prefetch_drop(track->ahead);
    track->ahead = NULL;
    track->hits = 0;
    n1_loop_account(loop, book);
}

bool n1_loop_keeps(const N1Loop *loop)
{
    for (uint32_t i = 0; i < loop->track_count; i++)
        if (loop->tracks[i].ahead)
            return true;
    return false;
}

void n1_loop_throw(N1Loop *loop, N1Book *book)
{
    for (uint32_t i = 0; i < loop->track_count; i++)
        n1_track_throw(loop, &loop->tracks[i], book);
}

/* Results that no loop follows are not copied for ever: statements that only happen to follow one another
 * look like a loop now and then. */
static void weigh(N1Loop *loop)
{
    N1Parent *parent = loop->parent;
    bool fruit = false;
    for (uint32_t i = 0; i < loop->track_count; i++)
        fruit |= loop->tracks[i].from.turns > 1 && loop->tracks[i].from.suspect_count > 0;
    parent->fruitless = fruit ? 0 : parent->fruitless + 1;
    if (parent->fruitless < FRUITLESS_MAX)
        return;
    parent->fruitless = 0;
    parent->quiet_until_us = clock_now_us() + QUIET_US;
}

static void let_go(N1Loop *loop, N1Book *book)
{
    n1_loop_throw(loop, book);
    if (loop->remembered)
        weigh(loop);
    loop->track_count = 0;
    loop->remembered = false;
    loop->lack = N1_WHY_NONE;
    if (loop->parent)
        loop->parent->refs--;
    loop->parent = NULL;
}

void n1_loop_free(N1Loop *loop, N1Book *book)
{
    if (!loop)
        return;
    let_go(loop, book);
    parent_rows_finish(&loop->rows);
    book->memory -= loop->charged;
    free(loop);
}

void n1_loop_begin(N1Loop *loop, N1Book *book, N1Parent *parent)
{
    parent->refs++;
    let_go(loop, book);
    loop->parent = parent;
}

void n1_loop_suspect(N1Loop *loop, N1Book *book, N1Pattern *pattern, uint32_t statements)
{
    if (loop->parent != pattern->parent)
        n1_loop_begin(loop, book, pattern->parent);
    N1Track *track = n1_loop_track(loop, pattern);
    if (!track || track->counted)
        return;
    track->statements = statements;
    track->counted = true;
    pattern->loops++;
    pattern->statements += statements;
    pattern->statements_max = MAX(pattern->statements_max, statements);
}

void n1_loop_remembered(N1Loop *loop, bool failed)
{
    if (loop->rows.overflow)
        loop->lack = N1_WHY_LARGE;
    loop->remembered = !failed && !loop->rows.overflow && loop->rows.count > 0;
}

N1Track *n1_loop_track(N1Loop *loop, N1Pattern *pattern)
{
    for (uint32_t i = 0; i < loop->track_count; i++)
        if (loop->tracks[i].pattern == pattern)
            return &loop->tracks[i];
    if (loop->track_count == N1_TRACKS_MAX)
        return NULL;
    N1Track *track = &loop->tracks[loop->track_count++];
    *track = (N1Track){.pattern = pattern};
    return track;
}

/* ---- confirming ------------------------------------------------------------------------------ */

static bool same_link(const N1Pattern *pattern, uint32_t i, const N1Track *track, const Suspect *suspect)
{
    const PrefetchLink *value = &track->values[suspect->value];
    return pattern->links[i].column == suspect->column && pattern->links[i].value.kind == value->kind &&
           pattern->links[i].value.index == value->index;
}

static bool keeps_links(const N1Pattern *pattern, const N1Track *track)
{
    for (uint32_t i = 0; i < pattern->link_count; i++) {
        bool found = false;
        for (uint32_t s = 0; s < track->from.suspect_count && !found; s++)
            found = same_link(pattern, i, track, &track->from.suspects[s]);
        if (!found)
            return false;
    }
    return pattern->link_count > 0;
}

static void confirm(N1Pattern *pattern, const N1Track *track)
{
    Suspect links[PREFETCH_LINKS_MAX];
    if (keeps_links(pattern, track)) {
        pattern->confirmed += pattern->confirmed < UINT32_MAX;
        return;
    }
    uint32_t count = provenance_links(&track->from, links, PREFETCH_LINKS_MAX);
    pattern->confirmed = count > 0;
    pattern->link_count = count;
    for (uint32_t i = 0; i < count; i++) {
        pattern->links[i].value = track->values[links[i].value];
        pattern->links[i].column = links[i].column;
    }
}

/* The loop is as long as one must be: did its values come from the rows? */
static void count_loop(N1Loop *loop, N1Track *track, const Config *config)
{
    N1Pattern *pattern = track->pattern;
    track->counted = true;
    pattern->loops++;
    pattern->statements += track->statements;
    if (!loop->remembered) {
        pattern->why = loop->lack ? loop->lack : N1_WHY_UNCONFIRMED;
        return;
    }
    if (track->from.turns >= config->n1_loop_min - 1 && track->from.suspect_count) {
        confirm(pattern, track);
        if (pattern->confirmed < N1_CONFIRMATIONS)
            pattern->why = N1_WHY_UNCONFIRMED;
    } else {
        pattern->confirmed = 0;
        pattern->why = N1_WHY_PROVENANCE;
    }
}

void n1_loop_turn(N1Loop *loop, N1Track *track, const uint64_t *hashes, uint32_t count, const Config *config)
{
    N1Pattern *pattern = track->pattern;
    track->statements++;
    if (loop->remembered)
        provenance_step(&track->from, &loop->rows, hashes, count);
    if (track->counted)
        pattern->statements++;
    else if (track->statements >= config->n1_loop_min)
        count_loop(loop, track, config);
    if (track->counted)
        pattern->statements_max = MAX(pattern->statements_max, track->statements);
}

/* ---- guessing -------------------------------------------------------------------------------- */

/* The row that the loop has come to by this link; UINT32_MAX: this statement is not of the loop. */
static uint32_t row_of(const N1Track *track, uint32_t link)
{
    for (uint32_t s = 0; s < track->from.suspect_count; s++)
        if (same_link(track->pattern, link, track, &track->from.suspects[s]))
            return track->from.suspects[s].row;
    return UINT32_MAX;
}

static bool take_row(const N1Loop *loop, const N1Pattern *pattern, uint32_t row, PrefetchValue *ret)
{
    for (uint32_t l = 0; l < pattern->link_count; l++)
        if (!parent_rows_value(&loop->rows, row, pattern->links[l].column, &ret[l].bytes, &ret[l].format))
            return false;
    return true;
}

bool n1_loop_guess(const N1Loop *loop, const N1Track *track, Arena *arena, uint32_t rows_max,
                   PrefetchInput *ret)
{
    const N1Pattern *pattern = track->pattern;
    uint32_t from = 0;
    if (!loop->remembered || track->tried || track->from.broken || track->from.turns == 0 ||
        pattern->confirmed < N1_CONFIRMATIONS)
        return false;
    for (uint32_t l = 0; l < pattern->link_count; l++) {
        uint32_t row = row_of(track, l);
        if (row == UINT32_MAX)
            return false;
        from = MAX(from, row);
        ret->links[l] = pattern->links[l].value;
    }
    uint32_t rows = MIN(loop->rows.count - from, rows_max);
    PrefetchValue *values = arena_array(arena, PrefetchValue, (size_t)rows * pattern->link_count);
    if (!values)
        return false;
    ret->link_count = pattern->link_count;
    ret->values = values;
    for (uint32_t row = from + 1; row < loop->rows.count && ret->row_count < rows; row++)
        ret->row_count += take_row(loop, pattern, row, &values[(size_t)ret->row_count * pattern->link_count]);
    return ret->row_count > 0;
}
