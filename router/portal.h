/*
 * portal.h - results that a client fetches in parts, and where each of them lives.
 *
 *     lives    made by                                        on
 *     BOUND    Bind that nobody has executed yet              nowhere: its statement needs several shards, or writes
 *     SHARD    a statement of one shard                       the transaction's connection there
 *     OWN      a SELECT over several shards (portal_open.h)   a connection of its own to a merge server, whose
 *                                                             temporary tables hold the rows
 *
 * SQL's cursors (DECLARE, FETCH, MOVE, CLOSE) and the protocol's portals (Bind, Execute with a row limit) have the same
 * names, as in PostgreSQL. What lives on a connection of its own is fetched by the client's own words: PostgreSQL
 * scrolls, counts and refuses.
 *
 * They end with the transaction, with ROLLBACK TO a savepoint that is older, and with CLOSE; WITH HOLD, with the session.
 */
#ifndef SHOAL_ROUTER_PORTAL_H
#define SHOAL_ROUTER_PORTAL_H

#include "router/request.h"

typedef enum PortalPlace { PORTAL_BOUND, PORTAL_SHARD, PORTAL_OWN } PortalPlace;

typedef struct Portal {
    Holder holder; /* first member */
    List link;     /* session.portals */
    Session *session;
    PortalPlace place;
    uint32_t shard;  /* SHARD, OWN */
    uint32_t depth;  /* entries of the script when it was made: ROLLBACK TO an older savepoint ends it */
    bool declared;   /* by DECLARE */
    bool hold;       /* WITH HOLD */
    bool fresh;      /* ... and made in the transaction that is open: a ROLLBACK ends it */
    Backend *backend; /* OWN: held, or at work for `request`; NULL before it is made, or when it was lost */
    Request *request; /* OWN: that fetches from it now */
    Sink sink;
    Statement *statement; /* BOUND: a reference */
    Buf bind;             /* BOUND: the whole frame */
    Buf description;      /* OWN: whole T of the client's statement, as text */
    Slice name;           /* owned, behind the struct */
} Portal;

Portal *portal_find(const Session *session, Slice name);
/* NULL when memory is out, or there are too many (`err`). The name is free. */
Portal *portal_create(Session *session, Slice name, PortalPlace place, Error *err) MUST_USE;
/* Its connection goes back, cleaned. Not while it is at work. */
void portal_destroy(Portal *portal);

/* A request that is only described, of a plan that is not one shard's: what it has bound is kept, for the Execute that
 * may come; its steps name the unnamed portal instead. False when memory is out. */
bool portal_bind_later(Request *request) MUST_USE;
/* Execute of a portal that was bound so: its statement, as if it were bound now. NULL: there is none. */
Portal *portal_recall(const Session *session, Slice name);

/* What the request closes, and what it replaces (the unnamed portal), ends here. */
void portal_note_closed(Request *request);
/* True: a portal or cursor that it makes has the name of one that is open elsewhere; the request has ended with 42P03. */
bool portal_refuse_name(Request *request);
/* True: it fetches from, describes or closes what lives on a connection of its own, and is on its way, or answered. */
bool portal_run(Request *request);
/* The shard of the portal or cursor that the request goes on with; false: not one of one shard. */
bool portal_shard(const Request *request, uint32_t *ret);

/* The request has succeeded on that shard: portals it has left there. */
void portal_follow(Request *request, uint32_t shard);
/* The transaction is over; it was rolled back to a savepoint, or one was released; a series ended outside of one. */
void portals_transaction_over(Session *session, bool committed);
void portals_rolled_back(Session *session);
void portals_released(Session *session);
void portals_series_over(Session *session);
void portals_drop(Session *session);
/* The connection died with nothing in flight. */
void portal_on_held_lost(Portal *portal);

#endif
