/*
 * standing.c - why this file exists: the data path asks "how old is that replica's data?" for each
 * read, and must not wait for the thread that knows.
 *
 *     writer   seq odd ─release─> words ─release─> seq even
 *     reader   seq (acquire), words, fence, seq again: the same and even -> one consistent reading
 */
#include "meta/standing.h"

#include <stdlib.h>
#include <string.h>

Standings *standings_create(uint32_t count)
{
    Standings *standings = calloc(1, sizeof *standings + count * sizeof(StandingCell));
    if (!standings)
        return NULL;
    standings->count = count;
    ServerStanding unknown = {.lag_bytes = UINT64_MAX};
    for (uint32_t i = 0; i < count; i++)
        standing_put(standings, i, &unknown);
    return standings;
}

void standings_destroy(Standings *standings)
{
    free(standings);
}

void standing_put(Standings *standings, uint32_t server, const ServerStanding *standing)
{
    assert(server < standings->count);
    StandingCell *cell = &standings->cells[server];
    uint64_t words[STANDING_WORDS];
    memcpy(words, standing, sizeof words);
    uint64_t seq = atomic_load_explicit(&cell->seq, memory_order_relaxed);
    atomic_store_explicit(&cell->seq, seq + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release); /* the odd number is seen before any new word is */
    for (size_t i = 0; i < STANDING_WORDS; i++)
        atomic_store_explicit(&cell->words[i], words[i], memory_order_relaxed);
    atomic_store_explicit(&cell->seq, seq + 2, memory_order_release); /* pairs with the acquire below */
}

ServerStanding standing_get(const Standings *standings, uint32_t server)
{
    ServerStanding standing = {.lag_bytes = UINT64_MAX};
    if (!standings || server >= standings->count)
        return standing;
    const StandingCell *cell = &standings->cells[server];
    uint64_t words[STANDING_WORDS], before, after;
    do {
        before = atomic_load_explicit(&cell->seq, memory_order_acquire);
        for (size_t i = 0; i < STANDING_WORDS; i++)
            words[i] = atomic_load_explicit(&cell->words[i], memory_order_relaxed);
        atomic_thread_fence(memory_order_acquire); /* the words are read before `seq` is again */
        after = atomic_load_explicit(&cell->seq, memory_order_relaxed);
    } while (before != after || (before & 1));
    memcpy(&standing, words, sizeof standing);
    return standing;
}

const char *health_state_name(int state)
{
    static const char *const NAMES[] = {"unknown", "up", "wrong", "down"};
    return NAMES[state];
}
