/*
 * inbox.c - a stack that many push and one empties.
 *
 *     senders    push: next = head, head = mail (compare and swap, release)     newest first
 *     receiver   take: head = NULL (exchange, acquire), then turn the chain round
 *
 * Only the sender that finds the stack empty wakes the loop: one eventfd write for a burst.
 */
#include "core/inbox.h"

static void inbox_on_wake(struct ev_loop *ev, ev_async *watcher, int revents);
static void inbox_deliver(Inbox *inbox);

void inbox_open(Inbox *inbox, Loop *loop, void *owner)
{
    atomic_init(&inbox->head, NULL);
    atomic_init(&inbox->closed, false);
    inbox->loop = loop;
    inbox->owner = owner;
    ev_async_init(&inbox->wake, inbox_on_wake);
    inbox->wake.data = inbox;
    ev_async_start(loop->ev, &inbox->wake);
}

void inbox_close(Inbox *inbox)
{
    if (atomic_load(&inbox->closed))
        return;
    /* Mail may bring more mail to the same inbox. */
    while (atomic_load_explicit(&inbox->head, memory_order_relaxed))
        inbox_deliver(inbox);
    atomic_store(&inbox->closed, true);
    ev_async_stop(inbox->loop->ev, &inbox->wake);
}

void inbox_send(Inbox *inbox, Mail *mail)
{
    assert(mail->on_delivery);
    assert(!atomic_load_explicit(&inbox->closed, memory_order_relaxed));
    Mail *head = atomic_load_explicit(&inbox->head, memory_order_relaxed);
    do
        mail->next = head;
    while (!atomic_compare_exchange_weak_explicit(&inbox->head, &head, mail, memory_order_release,
                                                  memory_order_relaxed));
    /* From here on `mail` may already be delivered and gone. */
    if (!head)
        ev_async_send(inbox->loop->ev, &inbox->wake);
}

static void inbox_on_wake(struct ev_loop *ev, ev_async *watcher, int revents)
{
    inbox_deliver(watcher->data);
}

static void inbox_deliver(Inbox *inbox)
{
    /* Pairs with the release in inbox_send: what the sender wrote into its mail is visible. */
    Mail *newest = atomic_exchange_explicit(&inbox->head, NULL, memory_order_acquire);
    Mail *oldest = NULL;
    while (newest) {
        Mail *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest) {
        Mail *mail = oldest;
        oldest = mail->next;
        mail->next = NULL;
        mail->on_delivery(mail, inbox->owner); /* may free it */
    }
}
