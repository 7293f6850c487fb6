/*
 * control_state.h - Control from inside, for the files of admin/ only.
 *
 * A Job is a Call that cannot be answered at once: it waits for a round of a catalog loader, for
 * the workers to adopt a topology, for servers, for a report. Every Job is in control->jobs and
 * ends by job_end, which answers its Call; at shutdown all are ended with 57P01.
 */
#ifndef SHOAL_ADMIN_CONTROL_STATE_H
#define SHOAL_ADMIN_CONTROL_STATE_H

#include "admin/catalog_loader.h"
#include "admin/control.h"
#include "admin/failover.h"
#include "admin/moves.h"
#include "admin/deadlock.h"
#include "admin/bucket_load.h"
#include "admin/history.h"
#include "admin/http.h"
#include "admin/oid_book.h"
#include "admin/probes.h"
#include "admin/recovery.h"
#include "meta/store.h"

typedef struct Job Job;

struct Job {
    List link; /* in control->jobs */
    Control *control;
    Call *call; /* owned until answered; NULL: nobody asked by mail (SIGHUP) */
    /* Waits for round `round` of the loader of `database`; NULL: does not. `err`: it failed. */
    void (*on_round)(Job *job, const Error *err);
    uint32_t database;
    uint64_t round;
    /* Waits until all workers have adopted `version`; NULL: does not. */
    void (*on_adopted)(Job *job);
    uint64_t version, waiting_since_us;
    bool slow_told;
    /* Waits for the end of round `looked` of the recovery; NULL: does not. */
    void (*on_looked)(Job *job);
    uint64_t looked;
    /* Waits for the end of look `locked` at who waits for whom; NULL: does not. */
    void (*on_locked)(Job *job);
    uint64_t locked;
    /* Gives back what the Job holds besides itself, then itself. */
    void (*on_free)(Job *job);
};

struct Control {
    Loop loop;
    Inbox inbox;
    ControlOptions options;
    Worker *const *workers; /* borrowed */
    uint32_t worker_count;
    uint64_t started_wall_us;

    Config *config;
    uint32_t *config_refs;
    Store *store;
    GidPrefix gid; /* of this start; epoch 0 when the store could not be written */
    ShardMap *map;
    Arena tables_arena; /* what the store says about tables: texts of `tables` */
    Table *tables;
    uint32_t table_count;
    Catalog **catalogs;       /* [config->database_count], owned references */
    CatalogLoader *loaders;   /* [loader_count] */
    OidBook oids;             /* what the shards call what the home shard has */
    uint32_t loader_count;    /* config->database_count while they run, else 0 */
    const Topology *topology; /* the newest; owned by options.topologies */
    Probes probes;
    History history;
    BucketLoad bucket_load;
    Http *http;            /* NULL: off, or the port cannot be had (now) */
    Timer http_timer;      /* tries the port again */
    bool http_complained;
    uint64_t store_errors; /* events that could not be written */
    Standings *standings;  /* by server index; owned, shared with the workers */
    RoleMemory *roles;     /* by shard index; `primary` is a server index or NO_PRIMARY */
    uint32_t *primaries;   /* by shard index, as published; NO_PRIMARY while there is none */
    uint32_t *leaving;     /* the same: where open transactions go on while nothing new does (switchover.h) */
    List switches;         /* Switchover.link: those under way, and pauses */
    struct FailoverPast *failover_past; /* the same, of when there were fewer shards; owned */
    Recovery recovery;
    Deadlock deadlock;

    List jobs;
    Timer adoption_timer; /* runs while some Job waits for adoption */
    Timer collect_timer;
    Timer ready_timer; /* on_ready at the latest */
    bool ready;
    Moves moves;
    bool shard_joining; /* SHARD ADD is at work */
    struct RowFillEnd *fill_end; /* ends what a fill has prepared (row_fill_end.h), or NULL */
    uint64_t joining_since; /* the first topology in which what writes to several shards waits for it; 0: nothing does */
    Job *distribute; /* the one running distribute or undistribute, or NULL */

    uint32_t reports; /* Reports on their way through the workers */
    bool stopping;    /* no new Calls */
    bool stop_told;   /* on_stop was called */
    bool ended;       /* the workers are gone: nobody can be answered */
    uint32_t grace_ms;
    Mail *parked; /* Calls that came when workers were stopping already; freed at the end */
};

/* on_ready, when all that is asked at the start was answered, well or not. */
void control_try_ready(Control *control);
/* Sends the Call back. */
void control_answer(Control *control, Call *call);
/* Makes a Topology of the parts in force, publishes it and wakes the workers. */
bool control_publish(Control *control, Error *err) MUST_USE;
/* Replaces config, map, tables and catalogs by those of `config` and publishes; on failure nothing
 * has changed and the config is freed. */
bool control_load_parts(Control *control, Config *config, Error *err) MUST_USE;
/* At the end. */
void control_free_parts(Control *control);
/* False, with the error set. */
bool control_out_of_memory(Error *err);
/* A Config with one shard more, whose schema stands: takes it over, also on failure. */
bool control_adopt_shard(Control *control, Config *config, Error *err) MUST_USE;
/* Reads control->tables from the store again. */
bool control_load_tables(Control *control, Error *err) MUST_USE;
/* To the log, and to SHOW EVENTS. */
void control_event(void *ctx, LogLevel level, const char *kind, const char *text);

/* A Report came back, or the stop was asked for. */
void control_stop_if_due(Control *control);

/* Takes the call over. */
void job_start(Job *job, Control *control, Call *call, void (*on_free)(Job *job));
void job_wait_round(Job *job, uint32_t database, void (*on_round)(Job *job, const Error *err));
/* For a look at all lock waits that begins after this moment. */
void job_wait_locks(Job *job, void (*on_locked)(Job *job));
/* For a look at all prepared transactions that begins after this moment. */
void job_wait_look(Job *job, void (*on_looked)(Job *job));
/* For the topology that is the newest now. */
void job_wait_adoption(Job *job, void (*on_adopted)(Job *job));
/* Answers the call (with the error, or what was put into it) and frees the Job. */
void job_end(Job *job, const Error *err);

/* For control.c: what Jobs wait for has happened. */
void jobs_on_round(Control *control, uint32_t database, uint64_t round, const Error *err);
void jobs_on_locks(Control *control, uint64_t look);
void jobs_on_recovery(Control *control, uint64_t round);
void jobs_on_adoption_time(Timer *timer);
void jobs_end_all(Control *control, const Error *err);

#endif
