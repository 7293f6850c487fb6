/* scram.h - a password to a SCRAM-SHA-256 verifier, as PostgreSQL stores it (internal to meta). */
#ifndef SHOAL_META_SCRAM_H
#define SHOAL_META_SCRAM_H

#include "core/arena.h"

#define SCRAM_ITERATIONS 4096
#define SCRAM_SALT_LEN 16

/* "SCRAM-SHA-256$4096:<salt>$<StoredKey>:<ServerKey>" with a fresh salt; NULL when that failed. */
const char *scram_verifier(const char *password, Arena *arena) MUST_USE;
/* The same for a given salt and count. */
const char *scram_verifier_salted(const char *password, Slice salt, unsigned iterations,
                                  Arena *arena) MUST_USE;
/* Is this text a well-formed verifier rather than a password? */
bool scram_is_verifier(const char *text);

#endif
