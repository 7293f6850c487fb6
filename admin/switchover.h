/*
 * switchover.h - PAUSE, RESUME and SWITCHOVER: another server takes a shard's writes, and no client hears of it.
 *
 *     PAUSE s0       nothing new goes to the primary of s0: statements wait (up to failover_wait); answered
 *                    when what ran there has ended. Over by RESUME, or when another primary is found.
 *     SWITCHOVER s0 TO s0/replica1
 *         1 DRAINING     as PAUSE
 *         2 ASKING       the old primary: how far has it written?
 *         3 CATCHING_UP  the target has replayed all of that
 *         4 PROMOTING    pg_promote() there: the only point of no return
 *         5 FINDING      probes see the new timeline, failover.h does the rest, what waited goes on there
 *
 * Up to 3 any trouble ends with everything as it was. After 4 nobody knows what the target will do: the
 * shard stays without a primary until one is found, or RESUME says that it is the old one. The old primary
 * is not stopped (SQL cannot do that): it is fenced by its timeline, and the operator makes a standby of it.
 *
 * Owner: the control thread.
 */
#ifndef SHOAL_ADMIN_SWITCHOVER_H
#define SHOAL_ADMIN_SWITCHOVER_H

#include "admin/command.h"

bool console_pause(Control *control, Call *call, const Command *command, const CommandLine *arguments, Error *err);
bool console_resume(Control *control, Call *call, const Command *command, const CommandLine *arguments, Error *err);
bool console_switchover(Control *control, Call *call, const Command *command, const CommandLine *arguments,
                        Error *err);

#endif
