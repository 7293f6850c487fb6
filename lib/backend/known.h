/*
 * known.h - the statements that one server connection has prepared, least recently used first.
 *
 * Each entry holds a reference on its Prepared: as long as a server knows a name, the name keeps
 * its meaning. What is to be closed on the server waits here until the head of the next task: a
 * Close in mid pipeline would kill a Bind behind it (H17).
 * Owner: a Backend.
 */
#ifndef SHOAL_BACKEND_KNOWN_H
#define SHOAL_BACKEND_KNOWN_H

#include "backend/prepared.h"
#include "core/list.h"

typedef struct Known {
    List link;          /* in used or closing */
    Prepared *prepared; /* one reference */
} Known;

typedef struct KnownSet {
    PreparedSet *prepared; /* borrowed; where references go back to */
    Map by_prepared;       /* those in `used` */
    List used;             /* least recently used first */
    List closing;          /* on the server still, but not to be used any more */
    Prepared *unnamed; /* what the server's unnamed statement is; one reference; NULL: unknown */
} KnownSet;

void known_init(KnownSet *set, PreparedSet *prepared);
void known_finish(KnownSet *set);

/* True when the server has it; it becomes the most recently used. */
bool known_touch(KnownSet *set, const Prepared *prepared);
/* A Parse of it was written. False when memory is out. */
bool known_add(KnownSet *set, Prepared *prepared) MUST_USE;
/* The Parse failed or was skipped (H16): the server does not have it. */
void known_remove(KnownSet *set, const Prepared *prepared);
/* Its plan is stale (0A000 "cached plan", H19): to be closed, and parsed again by the next use. */
void known_close_later(KnownSet *set, const Prepared *prepared);
/* The next one to be closed: a stale one, or the least recently used above `max`. One reference
 * goes to the caller; NULL when there is none. */
Prepared *known_take_closing(KnownSet *set, uint32_t max);
void known_set_unnamed(KnownSet *set, Prepared *prepared); /* NULL: none, or unknown */
/* The server forgot everything: DISCARD ALL, DEALLOCATE ALL (H18). */
void known_clear(KnownSet *set);
static inline size_t known_count(const KnownSet *set)
{
    return set->by_prepared.count;
}

#endif
