/* without.c - reads the environment once per thread; nothing at all in programs without failpoints. */
#include "batcher/without.h"

#ifdef SHOAL_FAILPOINTS
#include <stdlib.h>

bool without_rule(int rule)
{
    static _Thread_local int taken_out = -1;
    if (taken_out < 0) {
        const char *word = getenv("SHOAL_WITHOUT_RULE");
        taken_out = word ? atoi(word) : 0;
    }
    return rule == taken_out;
}
#else
typedef int without_nothing; /* a file must not be empty */
#endif
