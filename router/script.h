/*
 * script.h - what must be said on a shard that joins a transaction late: BEGIN, SET LOCAL, SAVEPOINTs.
 *
 *     BEGIN ISOLATION LEVEL REPEATABLE READ;  SET LOCAL lock_timeout = 50;  SAVEPOINT a
 *
 * A transaction on a sharded database starts nowhere. Each shard that its statements touch is told the
 * script first, in the same write as the statement, so that all participants have the same isolation,
 * the same settings and the same stack of savepoints. RELEASE and ROLLBACK TO shorten the script: a loop
 * of savepoints does not make it grow. Pure.
 */
#ifndef SHOAL_ROUTER_SCRIPT_H
#define SHOAL_ROUTER_SCRIPT_H

#include "core/buf.h"

typedef enum ScriptKind { SCRIPT_BEGIN, SCRIPT_SET, SCRIPT_SAVEPOINT } ScriptKind;

typedef struct ScriptEntry {
    ScriptKind kind;
    Slice name; /* SAVEPOINT: folded as PostgreSQL does */
    Slice text; /* SQL without a semicolon; name and text share one owned block */
} ScriptEntry;

/* Zeroed: empty. */
typedef struct Script {
    ScriptEntry *entries;
    uint32_t count, room;
    size_t bytes; /* of text in all entries */
} Script;

/* False when memory is out; nothing has changed then. */
bool script_add(Script *script, ScriptKind kind, Slice name, Slice text) MUST_USE;
bool script_has_savepoint(const Script *script, Slice name);
/* RELEASE SAVEPOINT: it and those above it are gone, settings made since stay. False: no such savepoint. */
bool script_release(Script *script, Slice name);
/* ROLLBACK TO SAVEPOINT: everything said since is gone, the savepoint stays. False: no such savepoint. */
bool script_rollback_to(Script *script, Slice name);
/* AND CHAIN: only what BEGIN and SET TRANSACTION said stays. */
void script_chain(Script *script);
/* Appends all of it, separated by ";\n" (a comment up to the line's end hides nothing). */
void script_write(const Script *script, Buf *out);
/* BEGIN and what was set, without savepoints: for a connection that only reads on the side. */
void script_write_settings(const Script *script, Buf *out);
void script_clear(Script *script);

#endif
