/* cancel.c - finding the session that a cancel request means. */
#include "router/cancel.h"

#include <openssl/rand.h>
#include <stdlib.h>

#include "router/worker_state.h"

#define NUMBER_BITS 22
#define NUMBER_MASK ((1u << NUMBER_BITS) - 1)
#define PID_MARK    (1u << 30) /* positive as an int32, far above real process ids */

typedef struct CancelMail {
    Mail mail;
    uint32_t pid, key;
} CancelMail;

static uint64_t pid_hash(uint32_t pid)
{
    return slice_hash(slice_of(&pid, sizeof pid), 1);
}

static bool pid_equal(const void *item, const void *key)
{
    return ((const Session *)item)->cancel_pid == *(const uint32_t *)key;
}

void cancel_init(Worker *worker)
{
    map_init(&worker->cancel_keys, pid_equal);
}

void cancel_finish(Worker *worker)
{
    map_finish(&worker->cancel_keys);
}

void cancel_register(Worker *worker, Session *session)
{
    uint32_t key, pid;
    do {
        worker->next_cancel_pid = (worker->next_cancel_pid + 1) & NUMBER_MASK;
        pid = PID_MARK | worker->options.index << NUMBER_BITS | worker->next_cancel_pid;
    } while (map_get(&worker->cancel_keys, pid_hash(pid), &pid));
    /* Without randomness there is no safe key: the session works, but cannot be cancelled. */
    if (RAND_bytes((unsigned char *)&key, sizeof key) != 1)
        return;
    session->cancel_pid = pid;
    session->cancel_key = key;
    if (!map_put(&worker->cancel_keys, pid_hash(pid), session))
        session->cancel_pid = 0;
}

void cancel_unregister(Worker *worker, Session *session)
{
    if (session->cancel_pid)
        map_remove(&worker->cancel_keys, pid_hash(session->cancel_pid), &session->cancel_pid);
    session->cancel_pid = 0;
}

static void cancel_here(Worker *worker, uint32_t pid, uint32_t key)
{
    Session *session = map_get(&worker->cancel_keys, pid_hash(pid), &pid);
    bool right = session && slice_equal_secret(slice_of(&key, sizeof key),
                                               slice_of(&session->cancel_key, sizeof key));
    if (right)
        session_cancel(session);
    else
        counter_add(&worker->stats.cancels_unknown, 1);
}

static void cancel_on_delivery(Mail *mail, void *owner)
{
    CancelMail *cancel = container_of(mail, CancelMail, mail);
    cancel_here(owner, cancel->pid, cancel->key);
    free(cancel);
}

void cancel_route(Worker *worker, uint32_t pid, uint32_t key)
{
    uint32_t index = (pid & ~PID_MARK) >> NUMBER_BITS;
    if (!(pid & PID_MARK) || index >= worker->options.count) {
        counter_add(&worker->stats.cancels_unknown, 1);
        return;
    }
    if (index == worker->options.index) {
        cancel_here(worker, pid, key);
        return;
    }
    CancelMail *cancel = calloc(1, sizeof *cancel);
    if (!cancel)
        return;
    *cancel = (CancelMail){.mail = {.on_delivery = cancel_on_delivery}, .pid = pid, .key = key};
    inbox_send(worker_inbox(worker->options.all[index]), &cancel->mail);
}
