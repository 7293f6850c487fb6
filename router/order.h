/*
 * order.h - which of two values comes first, exactly as PostgreSQL's B-tree order says.
 *
 * Values in the binary form of their type. Only types whose order depends on nothing but the value: no
 * collation, no catalog. Pure.
 */
#ifndef SHOAL_ROUTER_ORDER_H
#define SHOAL_ROUTER_ORDER_H

#include "core/slice.h"

/* Is the order of this type known here? */
bool order_known(uint32_t type_oid);
/* False: not a value of the type; *ret stays as it was. Else *ret is <0, 0 or >0. */
bool order_compare(uint32_t type_oid, Slice a, Slice b, int *ret) MUST_USE;

#endif
