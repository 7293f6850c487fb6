/*
 * call.h - what a session asks of the control thread: a console command, a shoal.*() function,
 * "the catalog may have changed", or how a transaction ended. Travels by mail, comes back by mail with the answer's bytes.
 *
 *     session (worker) -- Call --> control -- same Call, answer filled --> session
 *
 * The session may die meanwhile: it then forgets the call (call->session = NULL) and the worker frees
 * it when it returns.
 */
#ifndef SHOAL_ROUTER_CALL_H
#define SHOAL_ROUTER_CALL_H

#include "core/arena.h"
#include "core/buf.h"
#include "core/inbox.h"

typedef enum CallKind {
    CALL_CONSOLE,  /* a statement of the console database */
    CALL_FUNCTION, /* SELECT shoal.name(args) in a user database */
    CALL_CATALOG,  /* DDL went through: read the catalog again and publish before answering */
    CALL_RESOLVE   /* the decider's COMMIT was not answered: how does the transaction `gid` stand? */
} CallKind;

/* What CALL_RESOLVE found. It answers within `deadline_ms`; what is UNKNOWN then is brought to an end
 * by recovery as soon as the decider can be asked. ABORTED: a tombstone stands at the decider, or the
 * transaction it was to commit in is over without the row; it can never commit any more. */
typedef enum CallOutcome { CALL_UNKNOWN, CALL_COMMITTED, CALL_ABORTED } CallOutcome;

typedef struct Call {
    Mail mail;
    CallKind kind;
    Arena arena;
    Slice text;       /* CONSOLE: one statement, in the arena */
    Slice function;   /* FUNCTION: its name */
    Slice *args;      /* FUNCTION: text values; data NULL = SQL NULL */
    Slice *arg_names; /* FUNCTION: empty where an argument was given by position */
    uint32_t arg_count;
    const char *database; /* client's, NUL-terminated */
    const char *user;
    bool admin, monitor;  /* the user's rights on the console */
    Slice gid;            /* RESOLVE: in the arena */
    uint32_t deadline_ms; /* RESOLVE */
    CallOutcome outcome;  /* RESOLVE: the answer */
    uint64_t session_id;
    /* The answer: RowDescription, DataRows, CommandComplete or ErrorResponse; no ReadyForQuery. */
    Buf answer;
    bool failed; /* the answer is an error */
    Inbox *reply; /* the worker's */
    void (*on_reply)(Mail *mail, void *owner);
    void *session; /* the Request that waits; NULL: it was abandoned. Worker only */
} Call;

Call *call_create(CallKind kind) MUST_USE;
void call_free(Call *call);

#endif
