/*
 * fsm.h - states move through one function per type, checked against a table.
 *
 *     static const FsmTable TASK_FSM = {"task", TASK_STATE_NAMES, {[TASK_NEW] = FSM_TO(TASK_WAITING) | ...}};
 *     fsm_move(&TASK_FSM, &task->state, TASK_WAITING)      asserts that the table allows it, traces it
 */
#ifndef SHOAL_CORE_FSM_H
#define SHOAL_CORE_FSM_H

#include "core/base.h"

#define FSM_STATES_MAX 24
#define FSM_TO(state) (1u << (state))

typedef struct FsmTable {
    const char *type;
    const char *const *names; /* one per state, as many as there are */
    uint32_t to[FSM_STATES_MAX]; /* bit set of states reachable from state i */
} FsmTable;

/* A forbidden move is a bug: logged with both names, then asserted. `state` points to an int or to
 * an enum of that size. */
#define fsm_move(table, state, to, who)                                                            \
    do {                                                                                           \
        _Static_assert(sizeof(*(state)) == sizeof(int), "a state is an int or an enum");           \
        fsm_move_((table), (int *)(void *)(state), (int)(to), (who));                              \
    } while (0)
void fsm_move_(const FsmTable *table, int *state, int to, const char *who);
/* For SHOW and assertions: the state's name, "?" when out of range. */
const char *fsm_name(const FsmTable *table, int state);

#endif
