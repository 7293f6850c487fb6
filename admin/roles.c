/*
 * roles.c - why this file exists: what must never happen (two primaries, an old one that takes writes
 * again) is decided here, from facts alone, so that all of it can be tested as a table.
 *
 *     the primary does not answer         it stays the primary: writes wait, a promotion may come
 *     it answers as a standby             nobody is, until somebody was promoted
 *     another one on a higher timeline    that one is, the old one is fenced
 */
#include "admin/roles.h"

/* While somebody has the role, only a promotion takes it from him. */
static bool is_candidate(const RoleMemory *memory, const RoleFact *fact, uint32_t i)
{
    if (!fact->known || fact->recovery || fact->refused || fact->system_id != memory->system_id)
        return false;
    bool taken = memory->timeline && memory->primary != ROLES_NONE && memory->primary != i;
    return taken ? fact->timeline > memory->timeline : fact->timeline >= memory->timeline;
}

/* The system identifier of a shard is its primary's. Only when that one is known not to answer, the others
 * say it, and only when they agree: else a stranger that answers first would name the shard. */
static void learn_system(RoleMemory *memory, const RoleFact *facts, uint32_t count)
{
    if (memory->system_id)
        return;
    if (memory->primary < count && facts[memory->primary].known) {
        memory->system_id = facts[memory->primary].system_id;
        return;
    }
    uint64_t system_id = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (!facts[i].asked || (facts[i].known && system_id && facts[i].system_id != system_id))
            return;
        system_id = facts[i].known ? facts[i].system_id : system_id;
    }
    memory->system_id = system_id;
}

/* The highest timeline wins; of equals the one that had the role, else nobody. */
static uint32_t find_primary(const RoleMemory *memory, const RoleFact *facts, uint32_t count)
{
    uint32_t best = ROLES_NONE;
    bool tie = false;
    for (uint32_t i = 0; i < count; i++) {
        if (!is_candidate(memory, &facts[i], i))
            continue;
        if (best == ROLES_NONE || facts[i].timeline > facts[best].timeline) {
            best = i;
            tie = false;
        } else if (facts[i].timeline == facts[best].timeline) {
            tie = best != memory->primary;
            if (i == memory->primary) {
                best = i;
                tie = false;
            }
        }
    }
    return tie ? ROLES_NONE : best;
}

static RoleVerdict verdict_of(const RoleMemory *memory, const RoleFact *fact, uint32_t i)
{
    if (!fact->known)
        return ROLE_UNKNOWN;
    if (memory->system_id && fact->system_id != memory->system_id)
        return ROLE_FOREIGN;
    if (i == memory->primary && !fact->recovery)
        return ROLE_PRIMARY;
    if (!fact->recovery && fact->refused)
        return ROLE_REFUSED;
    if (!fact->recovery)
        return ROLE_FENCED;
    return memory->timeline && fact->timeline != memory->timeline ? ROLE_BEHIND : ROLE_STANDBY;
}

bool roles_decide(RoleMemory *memory, const RoleFact *facts, uint32_t count,
                  RoleVerdict *ret_verdicts)
{
    uint32_t before = memory->primary;
    learn_system(memory, facts, count);
    uint32_t found = find_primary(memory, facts, count);
    bool gone = before < count && facts[before].known &&
                !is_candidate(memory, &facts[before], before); /* it answers, and is none any more */
    if (found != ROLES_NONE) {
        memory->primary = found;
        memory->timeline = facts[found].timeline;
    } else if (gone) {
        memory->primary = ROLES_NONE;
    }
    for (uint32_t i = 0; i < count; i++)
        ret_verdicts[i] = verdict_of(memory, &facts[i], i);
    return memory->primary != before;
}
