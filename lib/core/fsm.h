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
    const char *const *names;
    uint32_t to[FSM_STATES_MAX]; /* bit set of states reachable from state i */
} FsmTable;

/* A forbidden move is a bug: logged with both names, then asserted. */
void fsm_move(const FsmTable *table, int *state, int to, const char *who);

#endif
