/*
 * roles.h - who of a shard's servers is the primary? Pure: facts in, a decision out.
 *
 * A server that is not in recovery could take writes. The one on the highest timeline is the primary:
 * each promotion begins a new timeline, so an old primary that comes back is on a lower one. The
 * highest timeline ever seen is remembered (and stored): below it nobody is the primary, even when
 * nobody else is there. Two servers on the same timeline that both take writes are never chosen from:
 * the one that had the role keeps it, otherwise there is none until somebody looks.
 */
#ifndef SHOAL_ADMIN_ROLES_H
#define SHOAL_ADMIN_ROLES_H

#include "core/base.h"

#define ROLES_NONE UINT32_MAX

/* What one server said last. `i` below is its place in the array. */
typedef struct RoleFact {
    bool known;    /* it answers */
    bool recovery; /* it is a standby */
    uint64_t timeline;
    uint64_t system_id;
    bool asked;   /* it has answered, or was found not to */
    bool refused; /* its Patroni says that it does not hold the leader's lock */
} RoleFact;

typedef enum RoleVerdict {
    ROLE_UNKNOWN, /* does not answer */
    ROLE_PRIMARY,
    ROLE_STANDBY, /* of the primary's timeline: may be read */
    ROLE_BEHIND,  /* a standby that has not followed to the primary's timeline: not read */
    ROLE_FENCED,  /* takes writes on an older timeline, or on the same as another: never used */
    ROLE_FOREIGN, /* of another cluster */
    ROLE_REFUSED  /* takes writes, and must not by its Patroni's word: not used until it may */
} RoleVerdict;

/* What is remembered from decision to decision. */
typedef struct RoleMemory {
    uint32_t primary;   /* ROLES_NONE: nobody */
    uint64_t timeline;  /* highest seen of a primary; 0: none yet */
    uint64_t system_id; /* of the shard; 0: not known yet */
} RoleMemory;

/* Decides, and brings `memory` up to date. True: the primary is another one than before. */
bool roles_decide(RoleMemory *memory, const RoleFact *facts, uint32_t count,
                  RoleVerdict *ret_verdicts);

#endif
