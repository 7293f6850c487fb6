/*
 * published.c - when may an old value be freed?
 *
 *     live:   v3 ---- v4 ---- v5 ---- v6 (current)
 *              ^ reader 1 announces 3      ^ reader 0 announces 6       -> nothing yet
 *
 * A reader announces after it has loaded `current`; until then its older announcement protects all
 * later values, so there is no moment in which the value it has just loaded could be freed. A
 * reader that has announced nothing (0) protects everything.
 */
#include "core/published.h"

static uint64_t lowest(const atomic_uint_fast64_t *announced, int readers, uint64_t none);

void published_init(Published *p, void (*destroy)(PublishedValue *value))
{
    atomic_init(&p->current, NULL);
    p->next_version = 1;
    list_init(&p->live);
    for (int i = 0; i < PUBLISHED_READERS_MAX; i++) {
        atomic_init(&p->oldest[i], 0);
        atomic_init(&p->adopted[i], 0);
    }
    p->readers = 0;
    p->destroy = destroy;
}

void published_finish(Published *p)
{
    atomic_store_explicit(&p->current, NULL, memory_order_relaxed);
    for (List *link = list_pop(&p->live); link; link = list_pop(&p->live))
        p->destroy(list_entry(link, PublishedValue, link));
}

int published_add_reader(Published *p)
{
    assert(p->readers < PUBLISHED_READERS_MAX);
    return p->readers++;
}

void published_set(Published *p, PublishedValue *value)
{
    value->version = p->next_version++;
    list_init(&value->link);
    list_push(&p->live, &value->link);
    /* Publishes all of the value; pairs with the acquire in published_adopt. */
    atomic_store_explicit(&p->current, value, memory_order_release);
}

void published_collect(Published *p)
{
    PublishedValue *current = atomic_load_explicit(&p->current, memory_order_relaxed);
    if (!current)
        return;
    uint64_t needed = MIN(lowest(p->oldest, p->readers, current->version), current->version);
    for (List *link = list_first(&p->live); link; link = list_first(&p->live)) {
        PublishedValue *value = list_entry(link, PublishedValue, link);
        if (value->version >= needed)
            break;
        list_remove(link);
        p->destroy(value);
    }
}

uint64_t published_adopted_by_all(const Published *p)
{
    return lowest(p->adopted, p->readers, p->next_version - 1);
}

PublishedValue *published_peek(const Published *p)
{
    return atomic_load_explicit(&p->current, memory_order_acquire);
}

PublishedValue *published_adopt(Published *p, int reader, uint64_t oldest_in_use)
{
    PublishedValue *value = published_peek(p);
    if (value)
        published_announce(p, reader, value, oldest_in_use);
    return value;
}

void published_announce(Published *p, int reader, PublishedValue *value, uint64_t oldest_in_use)
{
    assert(reader >= 0 && reader < p->readers);
    assert(oldest_in_use <= value->version);
    /* Release: this reader's last look at older values comes before the control thread, which
     * loads with acquire, frees them. */
    uint64_t oldest = oldest_in_use ? oldest_in_use : value->version;
    atomic_store_explicit(&p->oldest[reader], oldest, memory_order_release);
    atomic_store_explicit(&p->adopted[reader], value->version, memory_order_release);
}

/* The lowest of the readers' announcements; `none` when there are no readers. */
static uint64_t lowest(const atomic_uint_fast64_t *announced, int readers, uint64_t none)
{
    uint64_t low = none;
    for (int i = 0; i < readers; i++) {
        uint64_t version = atomic_load_explicit(&announced[i], memory_order_acquire);
        low = i == 0 ? version : MIN(low, version);
    }
    return low;
}
