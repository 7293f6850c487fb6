/*
 * survey.c - a connection of its own to each shard's primary, closed with the Job.
 */
#include "admin/survey.h"

#include <stdlib.h>

#include "admin/answer.h"

#define SURVEY_TIMEOUT_MS 60000

static bool answer_on_result(PgClient *client, uint32_t index, const PGresult *rows, Error *err)
{
    SurveyAnswer *answer = client->ctx;
    (void)index;
    answer->rows = PQcopyResult(rows, PG_COPYRES_ATTRS | PG_COPYRES_TUPLES);
    if (!answer->rows)
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    return answer->rows != NULL;
}

static void answer_on_done(PgClient *client, const Error *err)
{
    SurveyAnswer *answer = client->ctx;
    Survey *survey = answer->survey;
    Error failed;
    if (err)
        answer->failed = *err;
    if (--survey->pending)
        return;
    bool ok = survey->on_done(survey, &failed);
    job_end(&survey->job, ok ? NULL : &failed);
}

static const PgClientEvents EVENTS = {.on_result = answer_on_result, .on_done = answer_on_done};

static void survey_on_free(Job *base)
{
    Survey *survey = container_of(base, Survey, job);
    for (uint32_t i = 0; i < survey->count; i++) {
        pg_client_close(&survey->answers[i].client);
        PQclear(survey->answers[i].rows);
    }
    free(survey->answers);
    free(survey);
}

static bool is_wanted(const Config *config, uint32_t database, uint32_t wanted)
{
    return wanted == UINT32_MAX ? config->databases[database].shard_count > 1 : database == wanted;
}

static void ask_all(Survey *survey)
{
    Control *control = survey->job.control;
    const Config *config = control->config;
    survey->pending = survey->count;
    for (uint32_t i = 0; i < survey->count; i++) {
        SurveyAnswer *answer = &survey->answers[i];
        PgLogin login =
            control_login(config, &config->databases[answer->database], control_primary(control, answer->shard));
        pg_client_run(&answer->client, &login, &survey->query, 1, SURVEY_TIMEOUT_MS);
    }
}

bool survey_start(Control *control, Call *call, uint32_t database, const PgQuery *query,
                  bool (*on_done)(Survey *survey, Error *err), void *ctx, Error *err)
{
    const Config *config = control->config;
    size_t most = (size_t)config->database_count * config->shard_count;
    Survey *survey = calloc(1, sizeof *survey);
    SurveyAnswer *answers = calloc(most + 1, sizeof *answers);
    if (!survey || !answers) {
        free(survey);
        free(answers);
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        return false;
    }
    *survey = (Survey){.query = *query, .answers = answers, .on_done = on_done, .ctx = ctx};
    for (uint32_t d = 0; d < config->database_count; d++)
        for (uint32_t s = 0; is_wanted(config, d, database) && s < config->databases[d].shard_count; s++) {
            SurveyAnswer *answer = &answers[survey->count++];
            *answer = (SurveyAnswer){.survey = survey, .database = d, .shard = config->databases[d].shards[s]};
            pg_client_init(&answer->client, &control->loop, &EVENTS, answer);
        }
    job_start(&survey->job, control, call, survey_on_free);
    ask_all(survey);
    if (survey->count)
        return true;
    Error failed;
    bool ok = on_done(survey, &failed);
    job_end(&survey->job, ok ? NULL : &failed);
    return true;
}
