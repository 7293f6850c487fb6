/*
 * console_moves.h - the console's commands about moves: handlers of rows in console.c's table.
 *
 *     MOVE 0-15,40 TO s1 · MOVE KEY app.orders 42 TO s1 · SHOW MOVES
 *     REBALANCE PLAN|START [BY COUNT|BYTES|LOAD] [DRAIN s0] · PAUSE · RESUME · CANCEL [id] · ROLLBACK [id] · FINISH [id]
 */
#ifndef SHOAL_ADMIN_CONSOLE_MOVES_H
#define SHOAL_ADMIN_CONSOLE_MOVES_H

#include "admin/command.h"

bool console_show_moves(Control *control, Call *call, const Command *command, const CommandLine *arguments,
                        Error *err);
bool console_move(Control *control, Call *call, const Command *command, const CommandLine *arguments, Error *err);
/* command->detail: RebalanceVerb. */
bool console_rebalance(Control *control, Call *call, const Command *command, const CommandLine *arguments,
                       Error *err);

typedef enum RebalanceVerb {
    REBALANCE_PLAN,
    REBALANCE_START,
    REBALANCE_PAUSE,
    REBALANCE_RESUME,
    REBALANCE_CANCEL,
    REBALANCE_ROLLBACK,
    REBALANCE_FINISH
} RebalanceVerb;

#endif
