/*
 * move_steps.h - the steps of a move, in their order (internal to admin's move files).
 *
 *   first ..   preflight publish watch slot copy verify subscribe catch_up (written ..) reverse fence lock drain prove
 *              decide
 *   switched.. guard follow rest                     (rest: the reverse stream runs, rollback is possible)
 *   return ..  return_fence return_lock return_drain return_prove return_decide
 *   undo ..    clean_streams clean_rows clean_check, on the target;    finish .. the same, on the source
 */
#ifndef SHOAL_ADMIN_MOVE_STEPS_H
#define SHOAL_ADMIN_MOVE_STEPS_H

#include "admin/move.h"

struct MoveStep {
    const char *name;
    MoveState state; /* of a move that takes it */
    /* Starts conversations (move_ask_run), in all legs; or none. */
    void (*begin)(Move *move);
    bool (*rows)(MoveLeg *leg, MoveSide side, uint32_t index, const PGresult *rows, Error *err);
    /* All have answered well: move_next, move_take, move_again (begin once more), or move_rest. */
    void (*end)(Move *move);
    bool quiet; /* not stored: who finds the move in its state does the same, in this step or the one before */
};

const MoveStep *move_step_first(void);
const MoveStep *move_step_catch_up(void);
const MoveStep *move_step_switched(void);
const MoveStep *move_step_rest(void);
const MoveStep *move_step_return(void);
/* A step from which on rows may lie on the target. */
bool move_step_copies(const char *name);
bool move_keep_sequences(MoveLeg *leg, const PGresult *rows, Error *err) MUST_USE;
void move_raise_sequences(MoveLeg *leg, MoveSide side);
const MoveStep *move_step_undo(void);
const MoveStep *move_step_finish(void);

/* move.c, for the steps */
void move_take(Move *move, const MoveStep *step);
void move_next(Move *move);
void move_note_phase(Move *move);
void move_again(Move *move, uint64_t after_ms);
void move_rest(Move *move, MoveState state);
void move_undo(Move *move);
StoreMove move_row(const Move *move);
bool move_login(const MoveLeg *leg, MoveSide side, PgLogin *ret) MUST_USE;
bool move_gives_up(const Move *move);
void move_stop_the_world(const Move *move, const Error *err) __attribute__((noreturn));

/* lock_timeout of this try, for the lock of one table; of several at once: move_sql_lock. */
uint32_t move_lock_ms(const Move *move);
/* The last try was in vain because somebody is at work there. */
bool move_waits_for_lock(const Move *move);

/* True when a failpoint says that the step fails here; then it has failed, and `end` says so by move_fail_now. */
bool move_fails_at(Move *move, const char *name);
void move_fail_now(Move *move);
/* The side that loses the buckets, and the one that gets them. */
MoveSide move_from_side(const Move *move);
MoveSide move_to_side(const Move *move);

/* move_prepare.c: what nobody waits for. */
void move_announce_begin(Move *move);
void move_announce_end(Move *move);
void move_preflight_begin(Move *move);
bool move_preflight_rows(MoveLeg *leg, MoveSide side, uint32_t index, const PGresult *rows, Error *err);
void move_preflight_end(Move *move);
void move_publish_begin(Move *move);
void move_publish_on(MoveLeg *leg, MoveSide side, bool back);
void move_slot_begin(Move *move);
bool move_slot_rows(MoveLeg *leg, MoveSide side, uint32_t index, const PGresult *rows, Error *err);
void move_slot_end(Move *move);
void move_copy_begin(Move *move);
bool move_copy_rows(MoveLeg *leg, MoveSide side, uint32_t index, const PGresult *rows, Error *err);
void move_copy_end(Move *move);
void move_watch_begin(Move *move);
void move_hold_begin(Move *move);
void move_verify_begin(Move *move);
bool move_verify_rows(MoveLeg *leg, MoveSide side, uint32_t index, const PGresult *rows, Error *err);
void move_verify_end(Move *move);
void move_analyze_begin(Move *move);
void move_analyze_end(Move *move);
bool move_keep_facts(MoveLeg *leg, MoveSide side, const PGresult *rows, Error *err) MUST_USE;
bool move_facts_equal(Move *move);
void move_digests_reset(MoveLeg *leg, MoveSide side);
bool move_digest_add(struct MoveDigest *digest, const PGresult *rows, Error *err) MUST_USE;
/* False: the move has failed. */
bool move_digests_equal(Move *move);

/* move_rounds.c: what was written meanwhile is compared, before the pause. */
void move_written_begin(Move *move);
bool move_written_rows(MoveLeg *leg, MoveSide side, uint32_t index, const PGresult *rows, Error *err);
void move_written_end(Move *move);
void move_written_source_begin(Move *move);
bool move_written_source_rows(MoveLeg *leg, MoveSide side, uint32_t index, const PGresult *rows, Error *err);
void move_written_pass_begin(Move *move);
bool move_written_pass_rows(MoveLeg *leg, MoveSide side, uint32_t index, const PGresult *rows, Error *err);
void move_written_pass_end(Move *move);
void move_written_target_begin(Move *move);
bool move_written_target_rows(MoveLeg *leg, MoveSide side, uint32_t index, const PGresult *rows, Error *err);
void move_written_target_end(Move *move);
const MoveStep *move_step_written(void);
const MoveStep *move_step_reverse(void);

/* move_pause.c: inside the fence. */
void move_lock_begin(Move *move);
void move_drain_begin(Move *move);
bool move_drain_rows(MoveLeg *leg, MoveSide side, uint32_t index, const PGresult *rows, Error *err);
void move_drain_end(Move *move);
void move_prove_begin(Move *move);
bool move_prove_rows(MoveLeg *leg, MoveSide side, uint32_t index, const PGresult *rows, Error *err);
void move_prove_end(Move *move);
void move_stop_begin(Move *move);
void move_worker_begin(Move *move);
bool move_worker_rows(MoveLeg *leg, MoveSide side, uint32_t index, const PGresult *rows, Error *err);
void move_decide_begin(Move *move);

/* Of a look at a stream that must be running. */
bool move_stream_rows(MoveLeg *leg, MoveSide side, const PGresult *rows, Error *err) MUST_USE;

/* move_fence.c: the data path's part, and the owner's change. */
/* In config->shards: that loses the buckets, or gets them, the way that the move goes now. FENCE_ANY_SHARD: gone from it. */
uint32_t move_side_shard(const Move *move, bool loser);
void move_unfence(Move *move);
void move_fence_begin(Move *move);
void move_fence_end(Move *move);
void move_decide_end(Move *move);

#endif
