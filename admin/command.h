/*
 * command.h - a console statement's words, and the table they are looked up in. Pure.
 *
 *     "show  pools -- now" or "SHOW pools;"   ->   SHOW POOLS   ->   its row of the table, or 42601
 * with a hint
 *
 * Words are folded to lower case; "quoted" and 'quoted' words are taken as they are; comments and
 * trailing semicolons are skipped. Anything behind a semicolon is refused.
 */
#ifndef SHOAL_ADMIN_COMMAND_H
#define SHOAL_ADMIN_COMMAND_H

#include "core/arena.h"
#include "core/error.h"
#include "router/call.h"

typedef struct Control Control;
typedef struct Command Command;

#define COMMAND_WORDS_MAX 14 /* MOVE KEY t v1 ... v8 TO s1 */

typedef struct CommandLine {
    const char *words[COMMAND_WORDS_MAX]; /* in the arena */
    bool literal[COMMAND_WORDS_MAX];      /* in 'quotes': an argument, never a command's word */
    uint32_t count;                       /* 0: an empty statement */
} CommandLine;

typedef enum CommandRight {
    COMMAND_FOR_NOBODY, /* what a row without a right gets: deny by default (H86) */
    COMMAND_FOR_MONITORS,
    COMMAND_FOR_ADMINS
} CommandRight;

struct Command {
    const char *words; /* "show pools": lower case, single blanks */
    CommandRight right;
    const char *arguments; /* for HELP: "[WAIT seconds]"; "" when none are taken */
    const char *help;
    int detail; /* the handler's: which report, ... */
    /* Answers the call now or starts a Job that will. False and err: not done. `arguments` are the
     * words behind the command's own. */
    bool (*run)(Control *control, Call *call, const Command *command, const CommandLine *arguments,
                Error *err);
};

bool command_line_read(Slice text, Arena *arena, CommandLine *ret, Error *err) MUST_USE;
/* The command that the line begins with; the rest goes to *ret_arguments. NULL and 42601 when there
 * is none, with the nearest one as hint. Commands without arguments take none. */
const Command *command_find(const Command *commands, size_t count, const CommandLine *line,
                            CommandLine *ret_arguments, Error *err) MUST_USE;
bool command_allowed(const Command *command, const Call *call, Error *err) MUST_USE;

#endif
