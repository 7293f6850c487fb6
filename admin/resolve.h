/*
 * resolve.h - "the decider's COMMIT was not answered: how does the transaction stand?", and an operator's
 * RESOLVE, which asks the same before it acts.
 *
 *     Call RESOLVE ──> decider: tombstone unless there is a row; what stands? ──> COMMITTED or ABORTED
 *            └──────── no answer: again each 200 ms, until its deadline ─────────> UNKNOWN
 *
 * The question makes its own answer lasting: where no row stands an abort is written, so a COMMIT that is
 * still on its way to the decider fails on the key. The INSERT waits for one that is being carried out.
 */
#ifndef SHOAL_ADMIN_RESOLVE_H
#define SHOAL_ADMIN_RESOLVE_H

#include "admin/command.h"
#include "admin/control.h"

/* Takes the call over. */
void resolve_call(Control *control, Call *call);

/* SHOW TRANSACTIONS, SHOW RECOVERY, RESOLVE 'gid' COMMIT|ROLLBACK [FORCE]. */
bool show_transactions(Control *control, Call *call, const Command *command, const CommandLine *arguments,
                       Error *err);
bool show_recovery(Control *control, Call *call, const Command *command, const CommandLine *arguments,
                   Error *err);
bool run_resolve(Control *control, Call *call, const Command *command, const CommandLine *arguments,
                 Error *err);

#endif
