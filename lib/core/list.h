/* list.h - intrusive doubly linked lists: an object sits in at most one list per List member. */
#ifndef SHOAL_CORE_LIST_H
#define SHOAL_CORE_LIST_H

#include "core/base.h"

/* A head, or the link inside an object. A link that is in no list points to itself. */
typedef struct List {
    struct List *prev, *next;
} List;

static inline void list_init(List *l) { l->prev = l->next = l; }
static inline bool list_empty(const List *head) { return head->next == head; }
/* True while this link is in some list. */
static inline bool list_linked(const List *link) { return link->next != link; }
static inline void list_insert_(List *prev, List *link)
{
    assert(!list_linked(link));
    link->prev = prev;
    link->next = prev->next;
    prev->next->prev = link;
    prev->next = link;
}
static inline void list_push(List *head, List *link) { list_insert_(head->prev, link); } /* tail */
static inline void list_push_front(List *head, List *link) { list_insert_(head, link); }
/* Harmless when in no list. */
static inline void list_remove(List *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
    list_init(link);
}
static inline List *list_first(List *head) { return list_empty(head) ? NULL : head->next; }
static inline List *list_pop(List *head)
{
    List *first = list_first(head);
    if (first)
        list_remove(first);
    return first;
}
/* Moves all of `from` behind the tail of `to`; `from` is empty afterwards. */
static inline void list_splice(List *to, List *from)
{
    if (list_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}

#define list_entry(link, type, member) container_of(link, type, member)
#define LIST_EACH(it, head) for (List *it = (head)->next; it != (head); it = it->next)
/* The current link may be removed in the body. */
#define LIST_EACH_SAFE(it, head)                                                                   \
    for (List *it = (head)->next, *it##_next = it->next; it != (head);                             \
         it = it##_next, it##_next = it->next)

#endif
