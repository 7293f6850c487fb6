/*
 * n1_book.h - the N+1 loops that a worker has seen: which statement follows which, from which column.
 *
 *     N1Parent   (database, SELECT .. FROM posts)
 *       └ N1Pattern  SELECT .. FROM users WHERE id = ?    links: value 0 <- column 2    confirmed: 2
 *
 * A pattern is written down when some session repeats a statement (a suspicion, from counting alone); from
 * then on its parent's results are remembered, and the pattern is confirmed when two loops in a row took
 * their values from those rows. Workers share nothing: each learns by itself, SHOW N1 adds them up.
 * Bounded by n1_patterns_max: the parent not seen for longest makes room, with its patterns.
 */
#ifndef SHOAL_ROUTER_N1_BOOK_H
#define SHOAL_ROUTER_N1_BOOK_H

#include "batcher/prefetch.h"
#include "core/list.h"
#include "core/map.h"

#define N1_CONFIRMATIONS 2 /* loops in a row */

/* Why the last loop of a pattern was not, or not wholly, answered ahead. */
typedef enum N1Why {
    N1_WHY_NONE, /* it was */
    N1_WHY_UNCONFIRMED, /* not seen often enough */
    N1_WHY_PROVENANCE, /* the values are not those of the rows, in order */
    N1_WHY_LARGE, /* the parent's result is larger than n1_rows_max or n1_bytes_max */
    N1_WHY_MEMORY, /* n1_memory_max */
    N1_WHY_OFF, /* [batch] prefetch */
    N1_WHY_READ_COMMITTED, /* prefetch_max_age_ms is 0 */
    N1_WHY_ISOLATION, /* SERIALIZABLE, or it cannot be known */
    N1_WHY_TRANSACTION, /* DDL, a portal left open, or an error in this transaction */
    N1_WHY_SHARDED, /* rows of a distributed table lie on several shards */
    N1_WHY_CLOCK, /* statement_timestamp() is not the same for all */
    N1_WHY_FAILED, /* an error, or slower than prefetch_wait */
    N1_WHY_WASTED, /* most of what was fetched ahead was not asked for */
    N1_WHY_BATCH, /* the batcher's reason: SHOW BATCH_REASONS */
    N1_WHY_COUNT
} N1Why;

typedef struct N1Parent N1Parent;

typedef struct N1Pattern {
    List link; /* parent->patterns */
    N1Parent *parent;
    uint64_t hash; /* of the child's shape */
    char *text; /* owned, for people */
    struct {
        PrefetchLink value; /* of the child */
        uint8_t column; /* of the parent, from 0 */
    } links[PREFETCH_LINKS_MAX];
    uint32_t link_count;
    uint32_t confirmed; /* loops in a row */
    N1Why why;
    BatchReason reason; /* N1_WHY_BATCH */
    uint64_t paused_until_us;
    uint32_t wasteful, failures; /* in a row */
    uint64_t alone_us; /* what one takes that is not answered ahead; a mean that forgets */
    uint64_t loops, statements, statements_max, spent_us;
    uint64_t prefetches, fetched, saved; /* batches, keys in them, statements answered from them */
} N1Pattern;

struct N1Parent {
    List lru; /* book->lru, longest unused first */
    char *database; /* owned */
    char *text; /* owned; NULL until it is seen again */
    uint64_t hash; /* of its shape */
    List patterns;
    uint32_t refs; /* sessions that follow its loop */
    uint32_t fruitless; /* results remembered in a row that no loop took its values from */
    uint64_t quiet_until_us; /* not remembered until then */
};

typedef struct N1Book {
    Map parents;
    List lru;
    uint64_t bloom[4]; /* of parents' hashes: most statements are none */
    uint32_t pattern_count, patterns_max;
    uint64_t memory; /* bytes that sessions hold for loops */
} N1Book;

void n1_book_init(N1Book *book);
void n1_book_finish(N1Book *book);

static inline bool n1_book_may_know(const N1Book *book, uint64_t hash)
{
    return book->bloom[hash >> 62] >> (hash >> 56 & 63) & 1;
}
/* NULL: no statement that a loop follows. */
N1Parent *n1_book_parent(N1Book *book, const char *database, uint64_t hash);
N1Pattern *n1_parent_pattern(N1Parent *parent, uint64_t hash);
/* The pattern of these, written down when it is new. NULL: no room, or no memory. */
N1Pattern *n1_book_suspect(N1Book *book, const char *database, uint64_t parent, uint64_t child,
                           Slice child_text);
/* Iteration for SHOW N1; start with NULLs. NULL at the end. */
N1Pattern *n1_book_next(N1Book *book, N1Pattern *after);

const char *n1_why_text(N1Why why);

#endif
