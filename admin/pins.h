/*
 * pins.h - one key's rows leave their bucket: MOVE TENANT, SHOW PINS.
 *
 *     MOVE TENANT ──> pin + planned move, stored at once ──> the move of that bucket ──> it stays there
 *                     (the value has a bucket of its own,       (like any other)        until it is moved again
 *                      which lives where its rows do)
 *
 * A pin is over when a move of it ends where the value's hash would have its rows: it was cancelled, rolled back, or
 * brought it home. Owner: the control thread.
 */
#ifndef SHOAL_ADMIN_PINS_H
#define SHOAL_ADMIN_PINS_H

#include "admin/command.h"
#include "admin/moves.h"

/* TENANT table key [IN database] TO shard. The move begins by itself; *ret_id is its number. 0A000 for keys that cannot
 * be pinned, 55006 while the bucket travels, 54000 when there are too many, else as moves_add. */
bool pins_move(Control *control, Arena *arena, const CommandLine *arguments, uint64_t *ret_id, Error *err) MUST_USE;
bool console_show_pins(Control *control, Call *call, const Command *command, const CommandLine *arguments,
                       Error *err) MUST_USE;
/* The move is over. */
void pins_settle(Control *control, const Move *move);

#endif
