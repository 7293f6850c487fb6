/*
 * verdict.c - from the mail to the client's error.
 */
#include "router/verdict.h"

#include <stdlib.h>

#include "router/worker_state.h"
#include "wire/backend.h"

typedef struct VerdictMail {
    Mail mail;
    uint64_t session_id, statement_total;
    Error err;
} VerdictMail;

struct Verdict {
    Buf frame; /* the E that the client will hear */
};

static void verdict_keep(Session *session, const Error *err)
{
    if (session->verdict)
        return;
    session->verdict = calloc(1, sizeof *session->verdict);
    if (!session->verdict)
        return;
    buf_init(&session->verdict->frame, 8192);
    backend_put_error(&session->verdict->frame, SEVERITY_ERROR, err);
    session_cancel(session);
}

static void verdict_on_delivery(Mail *mail, void *owner)
{
    VerdictMail *verdict = container_of(mail, VerdictMail, mail);
    Worker *worker = owner;
    LIST_EACH(link, &worker->sessions) {
        Session *session = list_entry(link, Session, link);
        if (session->id != verdict->session_id)
            continue;
        if (session->running && session->statement_total == verdict->statement_total)
            verdict_keep(session, &verdict->err);
        break;
    }
    free(verdict);
}

void verdict_send(Worker *worker, uint64_t session_id, uint64_t statement_total, const Error *err)
{
    VerdictMail *verdict = calloc(1, sizeof *verdict);
    if (!verdict)
        return;
    *verdict = (VerdictMail){.session_id = session_id, .statement_total = statement_total, .err = *err};
    verdict->mail.on_delivery = verdict_on_delivery;
    inbox_send(worker_inbox(worker), &verdict->mail);
}

bool verdict_replaces(const Session *session, const Frame *error, Frame *ret)
{
    ErrorResponse response;
    Error err;
    if (!session->verdict || backend_read_error(error->body, &response, &err) != WIRE_OK ||
        !slice_is(response.sqlstate, SQLSTATE_QUERY_CANCELED))
        return false;
    Slice whole = buf_bytes(&session->verdict->frame);
    *ret = (Frame){.type = BACKEND_ERROR, .whole = whole, .body = slice_from(whole, 5)};
    return true;
}

void verdict_drop(Session *session)
{
    if (!session->verdict)
        return;
    buf_finish(&session->verdict->frame);
    free(session->verdict);
    session->verdict = NULL;
}
