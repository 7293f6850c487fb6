/*
 * move_clean.h - taking away what a move has left (internal to admin's move files).
 *
 *   withdraw   streams only: nothing had been copied, so rows on the target are not ours to delete
 *   undo       streams, then the copied rows on the target, then guards
 *   finish     streams, then the old rows on the source, then guards
 *
 * Each looks again until nothing is left, and is repeated for ever while a server is away.
 */
#ifndef SHOAL_ADMIN_MOVE_CLEAN_H
#define SHOAL_ADMIN_MOVE_CLEAN_H

#include "admin/move_steps.h"

const MoveStep *move_step_withdraw(void);

#endif
