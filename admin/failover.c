/*
 * failover.c - why this file exists: between "another server is the primary" and "the workers write
 * there" stands an order of steps, and each protects somebody's committed rows.
 */
#include "admin/failover.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "admin/control_state.h"

/* What a shard that joined made too small. Topologies of before read it until they are given back. */
struct FailoverPast {
    FailoverPast *before;
    Standings *standings;
    RoleMemory *roles;
    uint32_t *primaries, *leaving;
};

static void past_free(FailoverPast *past)
{
    standings_destroy(past->standings);
    free(past->roles);
    free(past->primaries);
    free(past->leaving);
}

bool failover_init(Control *control, const Config *config, Error *err)
{
    uint32_t shards = MAX(config->shard_count, 1);
    control->standings = standings_create(config->server_count);
    control->roles = calloc(shards, sizeof *control->roles);
    control->primaries = calloc(shards, sizeof *control->primaries);
    control->leaving = calloc(shards, sizeof *control->leaving);
    if (!control->standings || !control->roles || !control->primaries || !control->leaving) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory while starting");
        return false;
    }
    for (uint32_t i = 0; i < config->shard_count; i++) {
        const ShardConfig *shard = &config->shards[i];
        StorePrimary known;
        if (!store_load_primary(control->store, shard->name, &known, err))
            return false;
        uint32_t server = shard->primary->index;
        for (uint32_t k = 0; k < shard->replica_count; k++)
            if (strcmp(shard->replicas[k]->name, known.server) == 0)
                server = shard->replicas[k]->index;
        control->roles[i] = (RoleMemory){server, known.timeline, known.system_id};
        control->primaries[i] = server;
        control->leaving[i] = NO_PRIMARY;
    }
    return true;
}

/* The same server in another Config; NO_PRIMARY stays what it is. */
static uint32_t server_of(const Config *old, uint32_t server, const Config *new)
{
    for (uint32_t i = 0; server != NO_PRIMARY && i < new->server_count; i++)
        if (strcmp(new->servers[i]->name, old->servers[server]->name) == 0)
            return i;
    return server == NO_PRIMARY ? NO_PRIMARY : new->shards[old->servers[server]->shard].primary->index;
}

bool failover_grow(Control *control, const Config *config, Error *err)
{
    Control old = {.standings = control->standings, .roles = control->roles, .primaries = control->primaries,
                   .leaving = control->leaving};
    FailoverPast *past = calloc(1, sizeof *past);
    const Config *before = control->config;
    if (!past || !failover_init(control, config, err)) {
        if (!past)
            error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        else
            past_free(&(FailoverPast){NULL, control->standings, control->roles, control->primaries, control->leaving});
        control->standings = old.standings;
        control->roles = old.roles;
        control->primaries = old.primaries;
        control->leaving = old.leaving;
        free(past);
        return false;
    }
    for (uint32_t i = 0; i < before->shard_count; i++) {
        control->roles[i] = old.roles[i];
        control->roles[i].primary = server_of(before, old.roles[i].primary, config);
        control->primaries[i] = server_of(before, old.primaries[i], config);
        control->leaving[i] = server_of(before, old.leaving[i], config);
    }
    for (uint32_t i = 0; i < before->server_count; i++) {
        ServerStanding standing = standing_get(old.standings, i);
        standing_put(control->standings, server_of(before, i, config), &standing);
    }
    *past = (FailoverPast){control->failover_past, old.standings, old.roles, old.primaries, old.leaving};
    control->failover_past = past;
    return true;
}

void failover_finish(Control *control)
{
    past_free(&(FailoverPast){NULL, control->standings, control->roles, control->primaries, control->leaving});
    while (control->failover_past) {
        FailoverPast *past = control->failover_past;
        control->failover_past = past->before;
        past_free(past);
        free(past);
    }
}

void failover_fill(const Control *control, Topology *topology)
{
    for (uint32_t i = 0; i < control->config->shard_count; i++) {
        topology->primaries[i] = control->primaries[i];
        topology->leaving[i] = control->leaving[i];
        topology->stamps[i] = (RoleStamp){control->roles[i].system_id, control->roles[i].timeline};
        topology->vacant |= control->primaries[i] == NO_PRIMARY;
    }
}

const ServerConfig *control_primary(const Control *control, uint32_t shard)
{
    uint32_t server = control->primaries[shard] != NO_PRIMARY ? control->primaries[shard] : control->leaving[shard];
    return server == NO_PRIMARY ? control->config->shards[shard].primary
                                : control->config->servers[server];
}

/* ---- the change --------------------------------------------------------------------------------- */

typedef struct Handover {
    Job job;
    uint32_t shard;
} Handover;

static void handover_free(Job *job)
{
    free(container_of(job, Handover, job));
}

static void publish(Control *control)
{
    Error err;
    if (!control_publish(control, &err))
        log_error("control", &err); /* the next change, or the next catalog, publishes again */
}

/* Every worker has let go of the old primary. What the shard's role is by now counts, not what it was
 * when this began. */
static void handover_on_adopted(Job *job)
{
    Handover *handover = container_of(job, Handover, job);
    Control *control = job->control;
    uint32_t shard = handover->shard;
    control->primaries[shard] = control->roles[shard].primary;
    if (control->primaries[shard] != NO_PRIMARY)
        publish(control);
    job_end(job, NULL);
}

static void handover_start(Control *control, uint32_t shard)
{
    bool vacant = control->primaries[shard] == NO_PRIMARY && control->leaving[shard] == NO_PRIMARY;
    control->primaries[shard] = control->leaving[shard] = NO_PRIMARY;
    if (!vacant)
        publish(control);
    Handover *handover = calloc(1, sizeof *handover);
    if (!handover) {
        log_line(LOG_ERROR, "control", "out of memory: shard %s stays without a primary",
                 control->config->shards[shard].name);
        return;
    }
    handover->shard = shard;
    job_start(&handover->job, control, NULL, handover_free);
    job_wait_adoption(&handover->job, handover_on_adopted);
}

static void remember(Control *control, uint32_t shard)
{
    const RoleMemory *role = &control->roles[shard];
    Error err;
    StorePrimary known = {.timeline = role->timeline, .system_id = role->system_id};
    snprintf(known.server, sizeof known.server, "%s", control->config->servers[role->primary]->name);
    if (!store_save_primary(control->store, control->config->shards[shard].name, &known, &err))
        log_error("store", &err);
}

static void tell(Control *control, uint32_t shard, uint32_t before)
{
    const RoleMemory *role = &control->roles[shard];
    const char *name = control->config->shards[shard].name;
    char text[300];
    if (role->primary == NO_PRIMARY)
        snprintf(text, sizeof text, "shard %s has no primary: %s is a standby now", name,
                 before == NO_PRIMARY ? "it" : control->config->servers[before]->name);
    else
        snprintf(text, sizeof text, "shard %s: %s is the primary now, on timeline %" PRIu64, name,
                 control->config->servers[role->primary]->name, role->timeline);
    control_event(control, LOG_WARNING, "failover", text);
}

void failover_on_primary(void *ctx, uint32_t shard, uint32_t server, uint64_t timeline,
                         uint64_t system_id)
{
    Control *control = ctx;
    RoleMemory *role = &control->roles[shard];
    uint32_t before = role->primary;
    *role = (RoleMemory){server, timeline, system_id};
    if (server != NO_PRIMARY)
        remember(control, shard);
    if (server == before) {
        publish(control); /* its timeline was learned: new connections are held against it */
        return;
    }
    tell(control, shard, before);
    handover_start(control, shard);
}

/* ---- a pause --------------------------------------------------------------------------------------- */

bool failover_pause(Control *control, uint32_t shard, Error *err)
{
    assert(control->primaries[shard] != NO_PRIMARY);
    control->leaving[shard] = control->primaries[shard];
    control->primaries[shard] = NO_PRIMARY;
    if (control_publish(control, err))
        return true;
    control->primaries[shard] = control->leaving[shard];
    control->leaving[shard] = NO_PRIMARY;
    return false;
}

void failover_resume(Control *control, uint32_t shard)
{
    if (control->leaving[shard] == NO_PRIMARY)
        return; /* another one has taken its place, or nobody has it: failover_on_primary saw to that */
    control->primaries[shard] = control->leaving[shard];
    control->leaving[shard] = NO_PRIMARY;
    publish(control);
}
