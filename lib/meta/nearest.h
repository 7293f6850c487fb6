/*
 * nearest.h - "Did you mean ...?": of the words offered, the one that a typo is nearest to (internal).
 */
#ifndef SHOAL_META_NEAREST_H
#define SHOAL_META_NEAREST_H

#include "core/error.h"

typedef struct Nearest {
    const char *wanted;
    const char *best; /* NULL: nothing is near */
    unsigned distance;
} Nearest;
Nearest nearest_init(const char *wanted);
void nearest_offer(Nearest *nearest, const char *word);
/* Sets the hint if a word was near; leaves it alone otherwise. */
void nearest_hint(const Nearest *nearest, Error *err);

#endif
