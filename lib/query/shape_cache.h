/*
 * shape_cache.h - the cache's inner doors, for shape.c; private to lib/query.
 */
#ifndef SHOAL_QUERY_SHAPE_CACHE_H
#define SHOAL_QUERY_SHAPE_CACHE_H

#include "query/shape.h"

/* An empty Shape with an arena, without references, in no cache. NULL when memory is out. */
Shape *shape_new(void) MUST_USE;
void shape_destroy(Shape *shape);

/* Marks it as used just now. Stubs too. */
Shape *cache_get(ShapeCache *cache, Slice key, uint64_t hash);
/* Makes room and takes the shape in. When there is no room the shape stays outside, and ends with
 * its last reference. */
void cache_add(ShapeCache *cache, Shape *shape);
/* After cache_add, for a shape that nobody will retain: destroys it unless it is in the cache. */
void cache_drop_unused(ShapeCache *cache, Shape *shape);

#endif
