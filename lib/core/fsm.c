/* fsm.c - one gate for every change of state, so that a debug log tells each object's life. */
#include "core/fsm.h"

#include "core/log.h"

const char *fsm_name(const FsmTable *table, int state)
{
    return state >= 0 && state < FSM_STATES_MAX && table->names[state] ? table->names[state] : "?";
}

void fsm_move_(const FsmTable *table, int *state, int to, const char *who)
{
    int from = *state;
    assert(from >= 0 && from < FSM_STATES_MAX);
    assert(to >= 0 && to < FSM_STATES_MAX);
    bool allowed = (table->to[from] & FSM_TO(to)) != 0;
    if (!allowed)
        log_line(LOG_ERROR, who, "bug: %s moves from %s to %s", table->type, fsm_name(table, from),
                 fsm_name(table, to));
    else if (log_enabled(LOG_DEBUG))
        log_line(LOG_DEBUG, who, "%s: %s -> %s", table->type, fsm_name(table, from),
                 fsm_name(table, to));
    assert(allowed);
    *state = to;
}
