/*
 * commit_client.c - the client's own COMMIT or ROLLBACK, and what reports see of commits.
 */
#include <stdio.h>
#include <string.h>

#include "router/commit_state.h"
#include "router/effect.h"
#include "router/local.h"
#include "router/worker_state.h"
#include "wire/backend.h"

/* ---- the client's own -------------------------------------------------------------------------------------- */

typedef struct ClientCommit {
    Request *request;
    bool chain;
} ClientCommit;

/* AND CHAIN: the next transaction has the characteristics of this one, and no participants yet. */
static void next_of_chain(Session *session, Script *begin)
{
    session->script = *begin;
    session->gucs_tx = guc_retain(session->gucs);
    session->spread = true;
    session->tx = TX_BLOCK;
}

static void on_client_commit(void *ctx, CommitResult result, Slice error)
{
    ClientCommit *client = ctx;
    Request *request = client->request;
    Session *session = request->session;
    bool committed = result == COMMIT_COMMITTED;
    bool good = committed || result == COMMIT_ROLLED_BACK;
    bool ddl = session->tx_ddl && (committed || result == COMMIT_UNKNOWN);
    Script begin = {0};
    if (good && client->chain) {
        script_chain(&session->script);
        begin = session->script;
        session->script = (Script){0};
    }
    effect_transaction_over(session, committed);
    session->tx_ddl = false;
    if (good && client->chain)
        next_of_chain(session, &begin);
    if (good) {
        Buf tag;
        buf_init(&tag, 64);
        backend_put_command_complete(&tag, committed ? SLICE("COMMIT") : SLICE("ROLLBACK"));
        local_close(request, buf_bytes(&tag));
        buf_finish(&tag);
    } else {
        local_close(request, error);
    }
    if (!ddl || session->tx != TX_IDLE || !local_read_catalog(request))
        request_end(request, session->tx);
}

void commit_transaction(Request *request, CommitWhat what, bool chain)
{
    Session *session = request->session;
    ClientCommit *client = arena_new(&request->arena, ClientCommit);
    request_cut(request); /* what comes behind a Flush is another question */
    if (!client) {
        Error err;
        error_set(&err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        session_fatal(session, &err);
        return;
    }
    *client = (ClientCommit){request, chain};
    if (session->tx_set_undone && what == COMMIT_DO && session->part_count)
        session->parts[0].state = true; /* what it has set, nobody knows: it stays there */
    commit_start(session, what, on_client_commit, client);
}

/* ---- for reports -------------------------------------------------------------------------------------------- */

Commit *commit_next(Worker *worker, Commit *before)
{
    List *next = before ? before->link.next : worker->commits.next;
    return next == &worker->commits ? NULL : list_entry(next, Commit, link);
}

const char *commit_gid(const Commit *commit)
{
    return commit->gid;
}

uint64_t commit_session_id(const Commit *commit)
{
    return commit->session_id;
}

const char *commit_database(const Commit *commit)
{
    return commit->database;
}

const char *commit_phase(const Commit *commit)
{
    static const char *const NAMES[] = {
        [PHASE_PREPARE] = "preparing", [PHASE_DECIDE] = "deciding", [PHASE_ASK] = "asking the decider",
        [PHASE_FINISH] = "committing", [PHASE_UNDO] = "rolling back"};
    return NAMES[commit->phase];
}

const char *commit_shards(const Commit *commit, Arena *arena)
{
    char names[256] = "";
    for (uint32_t i = 0; i < commit->leg_count; i++) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i ? "," : "", commit_leg_shard(commit, &commit->legs[i]));
    }
    return arena_text(arena, slice_str(names));
}

uint64_t commit_age_ms(const Commit *commit)
{
    return (commit->worker->loop.now_us - commit->begun_us) / 1000;
}
