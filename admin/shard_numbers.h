/*
 * shard_numbers.h - a new shard's own share of the numbers that sequences of distributed tables give.
 *
 *     s0 gives 1, 65, 129 ...   s1: 2, 66, 130 ...   s2, which joins, was dumped from s0: 3, 67, 131 ...
 *
 * Each shard counts by SEQUENCE_STRIDE from its own begin (distribute.c). The new one gets a begin that no shard has,
 * above all that was given: a shard that has left may have had it. Owner: the control thread.
 */
#ifndef SHOAL_ADMIN_SHARD_NUMBERS_H
#define SHOAL_ADMIN_SHARD_NUMBERS_H

#include "admin/control_state.h"

#define SEQUENCE_STRIDE 64

typedef struct ShardNumbers ShardNumbers;

/* A shard's conversation; the last one is the new shard's. */
typedef struct NumbersAsk {
    ShardNumbers *numbers;
    PgClient client;
    PgQuery query;
} NumbersAsk;

struct ShardNumbers {
    NumbersAsk *asks; /* owned */
    uint32_t ask_count, pending;
    Arena *arena; /* borrowed */
    PgLogin login; /* of the new shard; what it points to lives as long as the run */
    const char **sequences; /* [sequence_count] as SQL names them */
    uint32_t sequence_count;
    uint64_t *taken;   /* [sequence_count] a bit for each begin that some shard has */
    uint64_t *highest; /* [sequence_count] */
    uint8_t *strided;  /* [sequence_count] it counts by SEQUENCE_STRIDE on some shard */
    bool setting;      /* the new shard is being told */
    bool failed;
    Error err;
    /* Over; last act. */
    void (*on_done)(ShardNumbers *numbers, const Error *err);
    void *ctx;
};

/* The begin: free of `taken`, above `highest`; 0: none is free. */
uint64_t numbers_begin(uint64_t taken, uint64_t highest);
/* For one database, whose index in the configuration in force is `database`. on_done may be called from inside. */
void numbers_run(ShardNumbers *numbers, Control *control, uint32_t database, const PgLogin *new, Arena *arena,
                 void (*on_done)(ShardNumbers *numbers, const Error *err), void *ctx);
void numbers_close(ShardNumbers *numbers);

#endif
