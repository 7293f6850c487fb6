/*
 * gather_build.h - a Gather at work; private to gather.c and gather_legs.c.
 *
 *     gather.c       phases, what the merge server is asked, the answer
 *     gather_legs.c  what the shards are asked, their rows into COPY
 */
#ifndef SHOAL_ROUTER_GATHER_BUILD_H
#define SHOAL_ROUTER_GATHER_BUILD_H

#include "router/gather.h"
#include "router/scatter_read.h"

#define GATHER_ANALYZE_BYTES ((uint64_t)1 << 20) /* smaller tables are joined well without statistics */

typedef enum GatherPhase { GATHER_LEARN, GATHER_CREATE, GATHER_COPY, GATHER_FINAL } GatherPhase;

typedef struct GatherRelation {
    uint32_t *type_oids; /* of its columns */
    uint32_t column_count;
    bool binary;         /* its rows travel in binary: all types are PostgreSQL's own */
    uint64_t rows, bytes;
} GatherRelation;

/* What one shard answers. */
typedef struct GatherLeg {
    uint32_t *relations; /* in order; of the form */
    uint32_t count, at;  /* relations[at] is being read; count: all are */
    Buf pending;         /* rows that came before their table's turn; | length | body |, END_MARK for C */
} GatherLeg;

struct Gather {
    Holder holder; /* first member */
    Request *request;
    const Fanout *spread;
    GatherPhase phase;
    uint32_t shard; /* the merge server's */
    Sink sink;
    Task task;
    bool active;      /* the task is with a pool or a backend */
    Backend *backend; /* held, with no task */
    Backend *running_on; /* held, with the task; NULL for the first one, which a pool gave a connection */
    Buf error;        /* the merge server's first E */
    bool ended;       /* failed, or abandoned */
    bool finished;    /* the final statement has answered */
    bool legs_done;
    bool copying;     /* the merge server waits for rows of `current` */
    bool choked;      /* it does not take more at the moment */
    bool open;
    bool handed_on;   /* its connection is the portal's now */
    uint64_t offset, limit; /* what the legs' LIMIT is made of */
    uint64_t bytes, bytes_max;

    Slice description; /* whole T of the client's statement */
    uint32_t described; /* relations whose description is here */
    uint32_t *types;    /* of the parameters */
    uint32_t type_count;
    Slice final, tag;
    GatherRelation *relations; /* [form.relation_count] */
    uint32_t current;          /* relation whose turn it is */

    Scatter *scatter; /* NULL before the legs begin */
    GatherLeg *legs;
    uint32_t leg_count;
};

/* --- gather.c --- */
const PlanStatement *gather_statement(const Gather *gather);
void gather_fail(Gather *gather, const Error *err);
void gather_on_legs_done(Gather *gather);
void gather_on_end(Gather *gather);
void gather_on_scatter_free(Gather *gather);

/* --- gather_legs.c --- */
/* From a whole T; false when memory is out. */
bool gather_relation_describe(GatherRelation *relation, Slice description, Arena *arena) MUST_USE;
/* The COPY of `current` has begun: its header. */
bool gather_copy_begin(Gather *gather) MUST_USE;
bool gather_legs_start(Gather *gather) MUST_USE;
/* Another table's turn: what waited is sent on. */
void gather_legs_go_on(Gather *gather);
void gather_legs_free(Gather *gather);

#endif
