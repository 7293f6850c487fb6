/*
 * published.h - one immutable value, replaced as a whole by one thread, read by others without locks.
 *
 *     control: published_set(new) ------------------> current (atomic, release)
 *     worker:  published_adopt(reader) at turn's end <- current (acquire), announces it as in use
 *     control: published_collect() frees every value that no reader announces any more
 *
 * Between two adoptions a reader's value stays valid. A Request that outlives a turn holds a
 * reference of its worker (see router/worker: topologies in use), and the reader announces the
 * oldest version it still needs.
 */
#ifndef SHOAL_CORE_PUBLISHED_H
#define SHOAL_CORE_PUBLISHED_H

#include <stdatomic.h>

#include "core/list.h"

/* First member of what is published. */
typedef struct PublishedValue {
    uint64_t version; /* set by published_set: 1, 2, 3 ... */
    List link;        /* control's list of live values */
} PublishedValue;

#define PUBLISHED_READERS_MAX 64

typedef struct Published {
    _Atomic(PublishedValue *) current;
    uint64_t next_version;
    List live;                                           /* oldest first; control only */
    atomic_uint_fast64_t oldest[PUBLISHED_READERS_MAX];  /* oldest version reader i needs; 0 none yet */
    atomic_uint_fast64_t adopted[PUBLISHED_READERS_MAX]; /* newest version reader i has adopted */
    int readers;
    void (*destroy)(PublishedValue *value);
} Published;

void published_init(Published *p, void (*destroy)(PublishedValue *value));
/* Frees all values; every reader has stopped. */
void published_finish(Published *p);
/* Before the threads start. Returns the reader's number. */
int published_add_reader(Published *p);

/* Control thread. */
void published_set(Published *p, PublishedValue *value);
void published_collect(Published *p);
/* The lowest version that all readers have adopted. */
uint64_t published_adopted_by_all(const Published *p);

/* Reader thread: the newest value; announces it as adopted. `oldest_in_use` is the lowest version
 * that objects of this reader still refer to, or 0 when only the newest is used. */
PublishedValue *published_adopt(Published *p, int reader, uint64_t oldest_in_use);
/* The two halves of it, for a reader that has to act on a value before anybody may hear that it was
 * adopted. What was peeked lives until this reader announces it or a later one. */
PublishedValue *published_peek(const Published *p);
void published_announce(Published *p, int reader, PublishedValue *value, uint64_t oldest_in_use);

#endif
