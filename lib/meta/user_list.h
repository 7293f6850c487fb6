/*
 * user_list.h - a file of users and their passwords or verifiers (internal to meta).
 *
 *     ; a comment
 *     "alice" "secret"
 *     "bob"   "SCRAM-SHA-256$4096:...$...:..."
 *
 * PgBouncer's format, without its MD5 hashes: those prove nothing to a SCRAM client.
 */
#ifndef SHOAL_META_USER_LIST_H
#define SHOAL_META_USER_LIST_H

#include "meta/config.h"

#define USER_LIST_SIZE_MAX (16 * 1024 * 1024)

typedef struct UserLine {
    const char *name, *secret; /* in the caller's arena */
    int line;
} UserLine;

/* An array in the arena; false with err ("path:line: reason") at the first wrong line. */
bool user_list_read(const char *path, Arena *arena, UserLine **ret_users, uint32_t *ret_count,
                    Error *err) MUST_USE;

#endif
