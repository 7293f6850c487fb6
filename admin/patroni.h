/*
 * patroni.h - does a server's Patroni say that it holds the leader's lock? Asked over HTTP, never blocking.
 *
 *     shards.ini   replica = host=10.0.0.2 port=5432 patroni=http://10.0.0.2:8008
 *     GET /primary ──> 200: it runs as the primary and holds the lock     503: it does not
 *                      anything else, or nothing in time: nobody knows, and what PostgreSQL says is all there is
 *
 * Only the status counts: that is what Patroni's documentation promises to load balancers. HTTP/1.0, plain, one
 * connection per question. A Patroni answers for its own server only, so each line names its own.
 * A host name is looked up beside the control thread (name_lookup.h), again from time to time; an address that does not
 * answer gives way to the name's next one, and addresses that were known stay when nobody can be asked for the name.
 * Owner: the control thread.
 */
#ifndef SHOAL_ADMIN_PATRONI_H
#define SHOAL_ADMIN_PATRONI_H

#include "admin/name_lookup.h"
#include "core/loop.h"
#include "core/slice.h"

typedef enum PatroniWord { PATRONI_SILENT, PATRONI_LEADER, PATRONI_FOLLOWER } PatroniWord;

typedef struct Patroni {
    Loop *loop;
    const char *host; /* name or address; borrowed from the Config in force; NULL: not configured */
    int port;
    bool literal; /* an address: `known` is it */
    NameAddresses known; /* of the name, by the last lookup that found some */
    NameLookup *lookup;  /* under way; NULL none */
    uint64_t looked_us;  /* when the last one began; 0 never */
    uint32_t turn;       /* which of `known` is asked, modulo their count */
    int fd; /* -1: nothing is asked */
    ev_io io;
    Timer timer;
    char answer[64]; /* its beginning */
    size_t answer_len, sent;
    PatroniWord word;    /* of the last answer */
    uint64_t asked_us, word_us; /* when the running question, and the one that was answered, was asked */
} Patroni;

void patroni_init(Patroni *patroni, Loop *loop, const char *host, int port);
void patroni_finish(Patroni *patroni);
/* Asks, unless it is not configured or a question is on its way. */
void patroni_ask(Patroni *patroni);
/* What it says now; what is older than some seconds does not count. */
PatroniWord patroni_word(const Patroni *patroni, uint64_t now_us);
/* Pure: the beginning of an HTTP answer. False: more is needed. */
bool patroni_read(Slice answer, PatroniWord *ret);

#endif
