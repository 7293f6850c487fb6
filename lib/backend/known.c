/* known.c - an LRU list with an index; entries are allocated once per Parse, never per use. */
#include "backend/known.h"

#include <stdlib.h>

static bool known_equal(const void *item, const void *key);
static Known *known_find(const KnownSet *set, const Prepared *prepared);
static Prepared *known_detach(KnownSet *set, Known *known);
static void known_forget(KnownSet *set, Known *known);

void known_init(KnownSet *set, PreparedSet *prepared)
{
    *set = (KnownSet){.prepared = prepared};
    map_init(&set->by_prepared, known_equal);
    list_init(&set->used);
    list_init(&set->closing);
}

void known_finish(KnownSet *set)
{
    known_clear(set);
    map_finish(&set->by_prepared);
}

bool known_touch(KnownSet *set, const Prepared *prepared)
{
    Known *known = known_find(set, prepared);
    if (!known)
        return false;
    list_remove(&known->link);
    list_push(&set->used, &known->link);
    return true;
}

bool known_add(KnownSet *set, Prepared *prepared)
{
    assert(!known_find(set, prepared));
    Known *known = malloc(sizeof(*known));
    if (!known || !map_put(&set->by_prepared, prepared->id, known)) {
        free(known);
        return false;
    }
    known->prepared = prepared_retain(prepared);
    list_init(&known->link);
    list_push(&set->used, &known->link);
    return true;
}

void known_remove(KnownSet *set, const Prepared *prepared)
{
    Known *known = known_find(set, prepared);
    if (known)
        known_forget(set, known);
}

void known_close_later(KnownSet *set, const Prepared *prepared)
{
    Known *known = known_find(set, prepared);
    if (!known)
        return;
    (void)map_remove(&set->by_prepared, prepared->id, prepared);
    list_remove(&known->link);
    list_push(&set->closing, &known->link);
}

Prepared *known_take_closing(KnownSet *set, uint32_t max)
{
    List *link = list_first(&set->closing);
    if (!link && known_count(set) > max)
        link = list_first(&set->used);
    return link ? known_detach(set, list_entry(link, Known, link)) : NULL;
}

void known_set_unnamed(KnownSet *set, Prepared *prepared)
{
    if (set->unnamed == prepared)
        return;
    prepared_release(set->prepared, set->unnamed);
    set->unnamed = prepared ? prepared_retain(prepared) : NULL;
}

void known_clear(KnownSet *set)
{
    LIST_EACH_SAFE (link, &set->used)
        known_forget(set, list_entry(link, Known, link));
    LIST_EACH_SAFE (link, &set->closing)
        known_forget(set, list_entry(link, Known, link));
    known_set_unnamed(set, NULL);
}

static void known_forget(KnownSet *set, Known *known)
{
    prepared_release(set->prepared, known_detach(set, known));
}

/* The entry goes, its reference stays. */
static Prepared *known_detach(KnownSet *set, Known *known)
{
    Prepared *prepared = known->prepared;
    if (known_find(set, prepared) == known) /* not when closing */
        (void)map_remove(&set->by_prepared, prepared->id, prepared);
    list_remove(&known->link);
    free(known);
    return prepared;
}

static Known *known_find(const KnownSet *set, const Prepared *prepared)
{
    return map_get(&set->by_prepared, prepared->id, prepared);
}

static bool known_equal(const void *item, const void *key)
{
    return ((const Known *)item)->prepared == key;
}
