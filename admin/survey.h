/*
 * survey.h - one question to every shard of a database (or of all), and all answers together.
 *
 *     survey_start ──> shard s0 ─┐
 *                  ──> shard s1 ─┼──> on_done: an answer, or why there is none, for each
 *                  ──> shard s2 ─┘
 *
 * A Job: it answers its Call in the end. The control thread's.
 */
#ifndef SHOAL_ADMIN_SURVEY_H
#define SHOAL_ADMIN_SURVEY_H

#include "admin/control_state.h"

typedef struct Survey Survey;

typedef struct SurveyAnswer {
    Survey *survey;
    PgClient client;
    uint32_t database, shard; /* indices in the configuration; those of one database follow one another, home first */
    PGresult *rows;           /* NULL: it did not answer, `failed` says why */
    Error failed;
} SurveyAnswer;

struct Survey {
    Job job; /* its call is the arena of what is answered */
    PgQuery query;
    SurveyAnswer *answers;
    uint32_t count, pending;
    /* Writes the answer into job.call; false: err instead. The survey is over when it returns. */
    bool (*on_done)(Survey *survey, Error *err);
    void *ctx; /* in the call's arena */
};

/* Takes the call over. `database` UINT32_MAX: all that lie on several shards. `query` is copied, what it points to lives as
 * long as the call. */
bool survey_start(Control *control, Call *call, uint32_t database, const PgQuery *query,
                  bool (*on_done)(Survey *survey, Error *err), void *ctx, Error *err) MUST_USE;

#endif
