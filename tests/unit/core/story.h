/* story.h - what every unit test of this folder includes, in the order cmocka wants it. */
#ifndef SHOAL_TESTS_UNIT_CORE_STORY_H
#define SHOAL_TESTS_UNIT_CORE_STORY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base.h"

/* A small generator: the same story on every machine. */
static inline uint64_t story_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

#endif
