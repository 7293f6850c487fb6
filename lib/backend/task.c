/* task.c - the one gate through which a task's state moves. */
#include "backend/task.h"

#include <stdlib.h>

#include "core/fsm.h"

static const char *const TASK_STATE_NAMES[] = {
    [TASK_NEW] = "new",           [TASK_MEMBER] = "member", [TASK_WAITING] = "waiting",
    [TASK_INFLIGHT] = "inflight", [TASK_DONE] = "done",
};

/* A waiting task ends as DONE when it is refused or abandoned; a batch's member likewise, and a
 * member that is run alone goes to the pool by itself. */
static const FsmTable TASK_FSM = {
    .type = "task",
    .names = TASK_STATE_NAMES,
    .to =
        {
            [TASK_NEW] = FSM_TO(TASK_MEMBER) | FSM_TO(TASK_WAITING) | FSM_TO(TASK_INFLIGHT) |
                         FSM_TO(TASK_DONE),
            [TASK_MEMBER] = FSM_TO(TASK_WAITING) | FSM_TO(TASK_INFLIGHT) | FSM_TO(TASK_DONE),
            [TASK_WAITING] = FSM_TO(TASK_INFLIGHT) | FSM_TO(TASK_DONE),
            [TASK_INFLIGHT] = FSM_TO(TASK_DONE),
            [TASK_DONE] = FSM_TO(TASK_MEMBER) | FSM_TO(TASK_WAITING) | FSM_TO(TASK_INFLIGHT),
        },
};

void task_init(Task *task, Sink *sink, TaskStep *steps, uint32_t step_count)
{
    *task = (Task){.state = TASK_NEW, .sink = sink, .steps = steps, .step_count = step_count};
    list_init(&task->link);
}

void task_move(Task *task, TaskState to)
{
    fsm_move(&TASK_FSM, &task->state, to, "task");
    if (to == TASK_DONE) {
        free(task->fed);
        task->fed = NULL;
        task->fed_count = 0;
    }
}
