/*
 * console.h - the operators' database: SHOW, RELOAD, SHUTDOWN.
 *
 * One table of commands with rights, help and handlers; whoever is not named in a row may not.
 */
#ifndef SHOAL_ADMIN_CONSOLE_H
#define SHOAL_ADMIN_CONSOLE_H

#include "admin/command.h"

const Command *console_commands(size_t *ret_count);
/* Answers the call, now or later. */
void console_run(Control *control, Call *call);

#endif
