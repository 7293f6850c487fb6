/*
 * failover.h - who takes the writes of each shard, told to the workers so that never two do.
 *
 *     probes: "s0/replica1 is the primary, timeline 2"
 *        1  remembered in the store (below timeline 2 nobody is the primary any more)
 *        2  published: s0 has no primary    workers let go of the old one's connections; writes wait
 *        3  every worker has adopted that
 *        4  published: s0/replica1          writes go on
 *
 * Owner: the control thread.
 */
#ifndef SHOAL_ADMIN_FAILOVER_H
#define SHOAL_ADMIN_FAILOVER_H

#include "admin/roles.h"
#include "meta/topology.h"

typedef struct Control Control;
typedef struct FailoverPast FailoverPast;

/* Standings, roles as the store remembers them, primaries to begin with. Before the first topology. */
bool failover_init(Control *control, const Config *config, Error *err) MUST_USE;
/* `config` has a shard more, behind the others. What is known of them stays, and so does the memory that
 * topologies and probes of before still read; begin the probes anew. False: nothing has changed. */
bool failover_grow(Control *control, const Config *config, Error *err) MUST_USE;
void failover_finish(Control *control);
/* For control_publish: who takes the writes of each shard, and who that is. */
void failover_fill(const Control *control, Topology *topology);
/* The shard has no primary for anything new; what runs on the one it had may end there. Published. */
bool failover_pause(Control *control, uint32_t shard, Error *err) MUST_USE;
/* ... it has it again, unless another one was found meanwhile. */
void failover_resume(Control *control, uint32_t shard);
/* ProbeEvents.on_primary. */
void failover_on_primary(void *ctx, uint32_t shard, uint32_t server, uint64_t timeline,
                         uint64_t system_id);
/* Who takes the writes of a shard, for the control thread's own connections; never NULL: the last
 * one known while there is none. */
const ServerConfig *control_primary(const Control *control, uint32_t shard);

#endif
