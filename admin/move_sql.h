/*
 * move_sql.h - the SQL that a move says to its servers.
 *
 * Names, in each database:  shoal_<cluster>_<move>        publication and subscription towards the target
 *                           shoal_<cluster>_<move>_<leg>  its slot (slots are named per server)
 *                           the same with _r              the stream back
 *                           shoal.move_guard_<move>()     and triggers shoal_guard_<move>_w, _d
 * All texts are in the move's scratch arena; NULL only when memory is out.
 */
#ifndef SHOAL_ADMIN_MOVE_SQL_H
#define SHOAL_ADMIN_MOVE_SQL_H

#include "admin/move.h"

/* ---- streams. `back`: from the target to the source ---- */

/* A publication of the buckets' rows; in the transaction that holds `lock`. 55P03 when that cannot be had in less than
 * a second. */
const char *move_sql_lock(const MoveLeg *leg, const char *mode);
const char *move_sql_create_publication(const MoveLeg *leg, bool back);
/* Names: of the watch's slot (move_watch.h) and of the publication towards the target. */
const char *move_sql_watch_slot(const MoveLeg *leg);
const char *move_sql_publication(const MoveLeg *leg);
const char *move_sql_create_slot_command(const MoveLeg *leg); /* for the walsender: exports a snapshot */
const char *move_sql_create_slot(const MoveLeg *leg, bool back);
const char *move_sql_create_subscription(const MoveLeg *leg, bool back, const PgLogin *publisher);
/* The same where there is none yet. */
const char *move_sql_ensure_subscription(const MoveLeg *leg, bool back, const PgLogin *publisher);
const char *move_sql_disable_subscription(const MoveLeg *leg, bool back);
const char *move_sql_stop_worker(const MoveLeg *leg, bool back);
/* Is it enabled, is its worker running; no row when it is not there. */
const char *move_sql_subscription_state(const MoveLeg *leg, bool back);
/* confirmed_flush_lsn - current insert lsn in bytes; whether the slot is there. */
const char *move_sql_lag(const MoveLeg *leg, bool back);
const char *move_sql_mark(const MoveLeg *leg);
const char *move_sql_passed(const MoveLeg *leg, bool back);
const char *move_sql_advance(const MoveLeg *leg, bool back);

/* ---- rows ---- */

MoveCopyTable move_sql_copy(const MoveLeg *leg, uint32_t table);
/* The forms of their rows (row_form.h): one row each. */
const char *move_sql_columns(const MoveLeg *leg);
const char *tables_sql_columns(Arena *arena, const Table *tables, uint32_t count);
const char *move_sql_analyze(const MoveLeg *leg, uint32_t table);
/* Rows: table number, bucket, count, sum. */
const char *move_sql_digest(const MoveLeg *leg, uint32_t table);
/* One cell: everything about the tables that must be equal on both sides. */
const char *move_sql_facts(const MoveLeg *leg);
const char *tables_sql_facts(Arena *arena, const Table *tables, uint32_t count);
const char *tables_sql_drop_leftover(Arena *arena, const char *kind, const char *name);
/* What a move cannot do without, as (problem, remedy): no row is good news. */
const char *move_sql_requirements(const MoveLeg *leg);
const char *tables_sql_requirements(Arena *arena, const Table *tables, uint32_t count);
/* One cell: true when transactions that say nothing are READ COMMITTED, for everybody. */
const char *move_sql_usual_isolation(const MoveLeg *leg);
/* Of a table that bucket_sql_knows not: why, and what to do. */
const char *tables_why_unmovable(const Table *table);
/* Sum of `function` (pg_relation_size ...) over the table and its partitions. */
const char *sql_table_size(Arena *arena, const Table *table, const char *function);
/* Bytes and rows of the buckets, estimated. */
const char *move_sql_sizes(const MoveLeg *leg);
/* Is there any row of the buckets? One row per table that has some. */
const char *move_sql_any_rows(const MoveLeg *leg);
/* Pages of the largest table, at least 1. */
const char *move_sql_pages(const MoveLeg *leg);
/* Deletes the rows of the buckets in these pages. */
const char *move_sql_delete_pages(const MoveLeg *leg, uint32_t table, uint64_t first, uint64_t behind);
/* Deletes up to `limit` rows of the buckets; the tag tells how many. */
const char *move_sql_delete(const MoveLeg *leg, uint32_t table, uint32_t limit);
/* Values of sequences that belong to columns of the tables; and raising ours to theirs. */
const char *move_sql_sequences(const MoveLeg *leg);
const char *move_sql_raise_sequence(const MoveLeg *leg, const char *schema, const char *name, const char *value);

/* ---- guard: rows of these buckets are refused, except from the streams ---- */

const char *move_sql_guard_function(const MoveLeg *leg, const char *new_owner);
/* Of one table, in a transaction of its own that waits for its lock so long. */
const char *move_sql_guard(const MoveLeg *leg, uint32_t table, uint32_t lock_ms);
/* All of them, in one go: whoever makes them holds everybody up. */
const char *move_sql_guards(const MoveLeg *leg);
const char *move_sql_guard_count(const MoveLeg *leg);

/* ---- taking everything away that has the move's name; each is fine when nothing is there ---- */

/* Of one table, as move_sql_guard; without its lock when there is none. Then what is left of them. */
const char *move_sql_drop_guard(const MoveLeg *leg, uint32_t table, uint32_t lock_ms);
const char *move_sql_drop_guards(const MoveLeg *leg);
const char *move_sql_drop_subscription(const MoveLeg *leg, bool back);
/* Slot and publication of one direction; raises 55006 while the slot is in use. */
const char *move_sql_drop_stream(const MoveLeg *leg, bool back);
const char *move_sql_drop_subscriptions(const MoveLeg *leg);
/* Ends their walsenders and drops slots nobody uses; rows: those that are still in use. */
const char *move_sql_stop_slots(const MoveLeg *leg);
const char *move_sql_drop_slots(const MoveLeg *leg);
const char *move_sql_drop_publications(const MoveLeg *leg);
/* Names of what is left. */
const char *move_sql_leftovers(const MoveLeg *leg);

#endif
