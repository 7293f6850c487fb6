/*
 * wait_graph.c - a depth-first walk. Shards are asked one after the other, so edges of one look need not
 * have existed together; a circle counts when a second look finds each of its waits still going on: then
 * all of them lasted from the end of the first look to the beginning of the second.
 */
#include "admin/wait_graph.h"

#include <string.h>

#define DEPTH_MAX 1000

typedef struct Walk {
    const WaitEdge *edges;
    uint32_t count;
    uint32_t *path; /* edges from the start to here */
    uint32_t depth;
    uint8_t *seen; /* [count]: walked through already */
} Walk;

/* The same client, or the same process of the same server where it is nobody's. */
static bool leads_to(const WaitEdge *from, const WaitEdge *to)
{
    if (from->blocker >= 0 || to->waiter >= 0)
        return from->blocker == to->waiter;
    return from->shard == to->shard && from->blocker_pid == to->pid;
}

static bool over_shards(const Walk *walk, uint32_t first)
{
    for (uint32_t i = first + 1; i < walk->depth; i++)
        if (walk->edges[walk->path[i]].shard != walk->edges[walk->path[first]].shard)
            return true;
    return false;
}

/* `edge` was just put at the end of the path: does it close a circle? Where that begins, or depth. */
static uint32_t closes_at(const Walk *walk, const WaitEdge *edge)
{
    for (uint32_t i = 0; i < walk->depth; i++)
        if (leads_to(edge, &walk->edges[walk->path[i]]) && over_shards(walk, i))
            return i;
    return walk->depth;
}

static bool walk_from(Walk *walk, uint32_t edge, uint32_t *ret_first)
{
    if (walk->depth == DEPTH_MAX)
        return false;
    walk->seen[edge] = 1;
    walk->path[walk->depth++] = edge;
    *ret_first = closes_at(walk, &walk->edges[edge]);
    if (*ret_first < walk->depth)
        return true;
    for (uint32_t next = 0; next < walk->count; next++)
        if (!walk->seen[next] && leads_to(&walk->edges[edge], &walk->edges[next]) &&
            walk_from(walk, next, ret_first))
            return true;
    walk->depth--;
    return false;
}

uint32_t wait_graph_circle(const WaitEdge *edges, uint32_t count, uint32_t *ret, Arena *arena)
{
    Walk walk = {.edges = edges, .count = count};
    walk.path = arena_array(arena, uint32_t, count + 1);
    walk.seen = arena_array(arena, uint8_t, count + 1);
    for (uint32_t start = 0; walk.path && walk.seen && start < count; start++) {
        uint32_t first;
        memset(walk.seen, 0, count);
        walk.depth = 0;
        if (!walk_from(&walk, start, &first))
            continue;
        memcpy(ret, walk.path + first, (walk.depth - first) * sizeof *ret);
        return walk.depth - first;
    }
    return 0;
}

bool wait_graph_persists(const WaitEdge *circle, uint32_t count, const WaitEdge *now, uint32_t now_count)
{
    for (uint32_t i = 0; i < count; i++) {
        bool found = false;
        for (uint32_t j = 0; j < now_count && !found; j++)
            found = now[j].shard == circle[i].shard && now[j].pid == circle[i].pid &&
                    now[j].blocker_pid == circle[i].blocker_pid && strcmp(now[j].since, circle[i].since) == 0;
        if (!found)
            return false;
    }
    return true;
}
