/*
 * without.h - a rule of docs/batching.md taken out, so that its test can be seen to fail without it.
 *
 *     SHOAL_WITHOUT_RULE=14 shoald shards.ini       only in programs built with -Dfailpoints=true
 *
 * For the suite batch-rules. Elsewhere every rule holds, as a constant.
 */
#ifndef SHOAL_BATCHER_WITHOUT_H
#define SHOAL_BATCHER_WITHOUT_H

#include "core/base.h"

#ifdef SHOAL_FAILPOINTS
bool without_rule(int rule);
#else
static inline bool without_rule(int rule)
{
    (void)rule;
    return false;
}
#endif

#endif
