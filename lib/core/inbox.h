/*
 * inbox.h - mail from any thread to one loop, without a lock.
 *
 * Sending pushes onto an atomic stack (release) and wakes the loop; the loop takes the whole stack
 * at once (acquire) and delivers in the order of sending per sender. A Mail is embedded in what it
 * carries and belongs to the receiver from inbox_send on.
 */
#ifndef SHOAL_CORE_INBOX_H
#define SHOAL_CORE_INBOX_H

#include <stdatomic.h>

#include "core/loop.h"

typedef struct Mail Mail;
typedef struct Inbox Inbox;

struct Mail {
    Mail *next;
    /* Runs in the receiver's thread; `owner` is the inbox's. */
    void (*on_delivery)(Mail *mail, void *owner);
};

struct Inbox {
    _Atomic(Mail *) head;
    ev_async wake;
    Loop *loop;
    void *owner;
    atomic_bool closed;
};

void inbox_open(Inbox *inbox, Loop *loop, void *owner);
/* Delivers what is left, then stops listening. Senders must have stopped. */
void inbox_close(Inbox *inbox);
void inbox_send(Inbox *inbox, Mail *mail);

#endif
