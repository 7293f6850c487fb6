/*
 * move_load.c - a look each second at the source's load, while the move copies or catches up; and at the target's lag.
 */
#include "admin/move_load.h"

#include <inttypes.h>
#include <stdio.h>

#include "admin/control_state.h"
#include "admin/move_steps.h"

#define LOOK_MS 1000
#define ASK_MS  10000

static const char RUNNING[] = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND backend_type = 'client "
                              "backend' AND application_name <> 'shoal control' AND pid <> pg_backend_pid()";

static bool look_on_result(PgClient *client, uint32_t index, const PGresult *rows, Error *err);
static void look_on_done(PgClient *client, const Error *err);
static void load_on_time(Timer *timer);

static const PgClientEvents EVENTS = {.on_result = look_on_result, .on_done = look_on_done};

bool move_load_judge(uint64_t running, uint64_t max, bool high)
{
    if (max == 0)
        return false;
    return running > (high ? max - max / 4 : max);
}

bool move_load_holds(const Move *move)
{
    return move->load.high || move->load.behind || (move->control->config->move_load_max > 0 && !move->load.looked);
}

void move_load_start(Move *move)
{
    MoveLoad *load = &move->load;
    if (!load->timer.loop) {
        timer_init(&load->timer, &move->control->loop, load_on_time, move);
        pg_client_init(&load->client, &move->control->loop, &EVENTS, move);
    }
    load->high = load->looked = load->behind = false;
    timer_start_ms(&load->timer, 0);
}

void move_load_stop(Move *move)
{
    MoveLoad *load = &move->load;
    if (!load->timer.loop)
        return;
    timer_stop(&load->timer);
    pg_client_close(&load->client);
    load->high = false;
}

static void judge(Move *move)
{
    MoveLoad *load = &move->load;
    uint32_t max = move->control->config->move_load_max;
    bool high = move_load_judge(load->running, max, load->high);
    char text[200];
    if (high == load->high)
        return;
    load->high = high;
    snprintf(text, sizeof text, "move %" PRIu64 " %s: %" PRIu64 " statements run on %s (move_load_max is %u)", move->id,
             high ? "pauses" : "goes on", load->running, move->source, max);
    control_event(move->control, LOG_INFO, "move", text);
    for (uint32_t i = 0; i < move->leg_count; i++)
        move_copy_hold(&move->legs[i].copy, high);
}

/* It has what it needs: the target, which goes on applying. Only the pause of everybody else would be too long. */
void move_lag_look(Move *move, uint64_t lag)
{
    MoveLoad *load = &move->load;
    uint64_t max = move->control->config->move_lag_max;
    bool behind = move_load_judge(lag, max, load->behind);
    char text[200];
    load->lag = lag;
    if (behind == load->behind)
        return;
    load->behind = behind;
    snprintf(text, sizeof text, "move %" PRIu64 " %s: %s is %.1f MB of log behind (move_lag_max is %.1f MB)", move->id,
             behind ? "pauses" : "goes on", move->target, (double)lag / 1e6, (double)max / 1e6);
    control_event(move->control, LOG_INFO, "move", text);
}

static void load_on_time(Timer *timer)
{
    Move *move = timer->ctx;
    MoveLoad *load = &move->load;
    PgLogin source;
    if (move->state != MOVE_MOVING && move->state != MOVE_PLANNED) {
        move_load_stop(move);
        return;
    }
    if (move->control->config->move_load_max == 0 || move->leg_count == 0 || !move_login(&move->legs[0], SIDE_SOURCE, &source)) {
        load->running = 0;
        judge(move);
        timer_start_ms(timer, LOOK_MS);
        return;
    }
    load->query.sql = RUNNING;
    pg_client_run(&load->client, &source, &load->query, 1, ASK_MS);
}

static bool look_on_result(PgClient *client, uint32_t index, const PGresult *rows, Error *err)
{
    Move *move = client->ctx;
    move->load.running = PQntuples(rows) ? pg_u64(rows, 0, 0) : 0;
    return true;
}

/* A server that does not answer is the steps' business. */
static void look_on_done(PgClient *client, const Error *err)
{
    Move *move = client->ctx;
    move->load.looked = true;
    if (!err)
        judge(move);
    timer_start_ms(&move->load.timer, LOOK_MS);
}
