/*
 * recovery_round.h - between recovery.c (asking) and recovery_judge.c (deciding and acting); for those two.
 */
#ifndef SHOAL_ADMIN_RECOVERY_ROUND_H
#define SHOAL_ADMIN_RECOVERY_ROUND_H

#include "admin/recovery.h"
#include "core/map.h"

/* Something that one shard is to do: one run of its connection. */
struct Work {
    Work *next;
    enum { WORK_TOMBSTONE, WORK_FINISH, WORK_STATUS, WORK_PROOF, WORK_TORN, WORK_FORGET, WORK_SWEEP } kind;
    const char *gid;
    PreparedRow *row;   /* FINISH, STATUS */
    DecisionRow *decision; /* TORN */
    bool commit;        /* FINISH, STATUS */
    bool stands;        /* TORN: the decision is still there */
    Decision found;     /* TOMBSTONE: what stands */
    char status[16];    /* STATUS: pg_xact_status */
    PgQuery queries[2];
    const char *param;
    uint32_t query_count;
};

/* FACTS: the reasons, per shard, and their way to the workers when they have changed. */
void recovery_note_why(ShardLook *look);
void recovery_publish_why(Recovery *recovery);

/* Decision rows of live transactions stay. */
void recovery_keep_active_rows(Recovery *recovery, const Map *active);
/* '{gid,gid}' of this shard's own rows that nobody here works on; NULL: none. */
const char *recovery_doubted(ShardLook *look);

/* The shard of that name, for this database; NULL: none. */
ShardLook *recovery_look(const Recovery *recovery, uint32_t database, Slice shard);

/* Work of the steps TOMBSTONES, FINISH, PROOF and FORGET. */
void recovery_plan_tombstones(Recovery *recovery);
void recovery_plan_finish(Recovery *recovery);
void recovery_plan_proof(Recovery *recovery);
void recovery_plan_forget(Recovery *recovery);
/* Behind what the shard has to do already. NULL: no memory. `kind` as in Work. */
Work *recovery_work_add(ShardLook *look, int kind, const char *gid);
/* recovery_forget.c: which parts the shard has; a decision that still stands and is not whole. */
void recovery_judge_proof(ShardLook *look, const PGresult *rows);
void recovery_tell_torn(ShardLook *decider, const Work *work);
/* True while the shard has work: it is on its way. */
bool recovery_work_begin(ShardLook *look);
void recovery_work_result(ShardLook *look, uint32_t index, const PGresult *rows);
bool recovery_work_done(ShardLook *look, const Error *err);

/* The end of a round: gauges, events, the rows for SHOW. */
void recovery_tell(Recovery *recovery);

#endif
