/*
 * n1_book.c - parents by (database, hash), each with the few statements that follow it.
 *
 *     lru:  [posts: users, comments]  [orders: lines]  ...      the first one nobody follows makes room
 */
#include "router/n1_book.h"

#include <stdlib.h>

#define EVICT_TRIES 32

typedef struct ParentKey {
    const char *database;
    uint64_t hash;
} ParentKey;

static bool parent_equal(const void *item, const void *key)
{
    const N1Parent *parent = item;
    const ParentKey *wanted = key;
    return parent->hash == wanted->hash && strcmp(parent->database, wanted->database) == 0;
}

static uint64_t parent_hash(const ParentKey *key)
{
    return key->hash ^ slice_hash(slice_str(key->database), 0);
}

void n1_book_init(N1Book *book)
{
    *book = (N1Book){.patterns_max = UINT32_MAX};
    map_init(&book->parents, parent_equal);
    list_init(&book->lru);
}

static void parent_free(N1Book *book, N1Parent *parent)
{
    List *link;
    ParentKey key = {parent->database, parent->hash};
    assert(parent->refs == 0);
    map_remove(&book->parents, parent_hash(&key), &key);
    list_remove(&parent->lru);
    while ((link = list_pop(&parent->patterns))) {
        N1Pattern *pattern = list_entry(link, N1Pattern, link);
        book->pattern_count--;
        free(pattern->text);
        free(pattern);
    }
    free(parent->database);
    free(parent->text);
    free(parent);
}

void n1_book_finish(N1Book *book)
{
    List *link;
    while ((link = list_first(&book->lru)))
        parent_free(book, list_entry(link, N1Parent, lru));
    map_finish(&book->parents);
}

static void bloom_add(N1Book *book, uint64_t hash)
{
    book->bloom[hash >> 62] |= (uint64_t)1 << (hash >> 56 & 63);
}

/* Those that have gone leave their bits behind. */
static void bloom_rebuild(N1Book *book)
{
    memset(book->bloom, 0, sizeof book->bloom);
    LIST_EACH(link, &book->lru)
        bloom_add(book, list_entry(link, N1Parent, lru)->hash);
}

static bool make_room(N1Book *book)
{
    int tries = EVICT_TRIES;
    bool evicted = false;
    LIST_EACH_SAFE(link, &book->lru) {
        N1Parent *parent = list_entry(link, N1Parent, lru);
        if (book->pattern_count < book->patterns_max || tries-- == 0)
            break;
        if (parent->refs)
            continue;
        parent_free(book, parent);
        evicted = true;
    }
    if (evicted)
        bloom_rebuild(book);
    return book->pattern_count < book->patterns_max;
}

N1Parent *n1_book_parent(N1Book *book, const char *database, uint64_t hash)
{
    ParentKey key = {database, hash};
    N1Parent *parent = map_get(&book->parents, parent_hash(&key), &key);
    if (parent && parent->lru.next != &book->lru) {
        list_remove(&parent->lru);
        list_push(&book->lru, &parent->lru);
    }
    return parent;
}

N1Pattern *n1_parent_pattern(N1Parent *parent, uint64_t hash)
{
    LIST_EACH(link, &parent->patterns) {
        N1Pattern *pattern = list_entry(link, N1Pattern, link);
        if (pattern->hash == hash)
            return pattern;
    }
    return NULL;
}

static N1Parent *parent_create(N1Book *book, const char *database, uint64_t hash)
{
    ParentKey key = {database, hash};
    N1Parent *parent = calloc(1, sizeof *parent);
    if (!parent)
        return NULL;
    list_init(&parent->lru);
    list_init(&parent->patterns);
    parent->hash = hash;
    parent->database = strdup(database);
    if (!parent->database || !map_put(&book->parents, parent_hash(&key), parent)) {
        free(parent->database);
        free(parent);
        return NULL;
    }
    list_push(&book->lru, &parent->lru);
    bloom_add(book, hash);
    return parent;
}

N1Pattern *n1_book_suspect(N1Book *book, const char *database, uint64_t hash, uint64_t child,
                           Slice child_text)
{
    N1Parent *parent = n1_book_parent(book, database, hash);
    N1Pattern *pattern = parent ? n1_parent_pattern(parent, child) : NULL;
    if (pattern)
        return pattern;
    if (parent)
        parent->refs++; /* not to be evicted for its own child */
    bool room = make_room(book);
    if (parent)
        parent->refs--;
    else if (room)
        parent = parent_create(book, database, hash);
    pattern = room && parent ? calloc(1, sizeof *pattern) : NULL;
    if (!pattern)
        return NULL;
    pattern->text = malloc(child_text.len + 1);
    if (!pattern->text) {
        free(pattern);
        return NULL;
    }
    if (child_text.len)
        memcpy(pattern->text, child_text.data, child_text.len);
    pattern->text[child_text.len] = '\0';
    pattern->hash = child;
    pattern->parent = parent;
    pattern->why = N1_WHY_UNCONFIRMED;
    list_init(&pattern->link);
    list_push(&parent->patterns, &pattern->link);
    book->pattern_count++;
    return pattern;
}

N1Pattern *n1_book_next(N1Book *book, N1Pattern *after)
{
    List *link = after ? after->link.next : NULL;
    N1Parent *parent = after ? after->parent : NULL;
    while (!parent || link == &parent->patterns) {
        List *next = parent ? parent->lru.next : book->lru.next;
        if (next == &book->lru)
            return NULL;
        parent = list_entry(next, N1Parent, lru);
        link = parent->patterns.next;
    }
    return list_entry(link, N1Pattern, link);
}

const char *n1_why_text(N1Why why)
{
    static const char *const TEXTS[N1_WHY_COUNT] = {
        [N1_WHY_NONE] = NULL,
        [N1_WHY_UNCONFIRMED] = "not confirmed yet: two loops in a row must take their values from the rows",
        [N1_WHY_PROVENANCE] = "its values are not those of the parent's rows, in order",
        [N1_WHY_LARGE] = "the parent's result is larger than n1_rows_max or n1_bytes_max",
        [N1_WHY_MEMORY] = "n1_memory_max is reached",
        [N1_WHY_OFF] = "prefetch = off",
        [N1_WHY_READ_COMMITTED] = "READ COMMITTED: set prefetch_max_age_ms for its database, user or table, "
                                  "or read in a REPEATABLE READ transaction",
        [N1_WHY_ISOLATION] = "SERIALIZABLE, or an isolation level that is not known",
        [N1_WHY_TRANSACTION] = "its transaction had an error, DDL, an open portal or a changed search_path",
        [N1_WHY_SHARDED] = "its table is distributed: the rows lie on several shards",
        [N1_WHY_CLOCK] = "statement_timestamp() differs from statement to statement",
        [N1_WHY_FAILED] = "fetching ahead failed, or took longer than prefetch_wait",
        [N1_WHY_WASTED] = "most of what was fetched ahead was not asked for, or was thrown away by a write",
        [N1_WHY_BATCH] = "cannot be batched",
    };
    return TEXTS[why];
}
