/*
 * key.h - a member's key values as array elements: decoded, range-checked, in one canonical form.
 *
 *     ... WHERE id = 42       literal     ┐
 *     ... WHERE id = '42'     literal     ├─>  00 00 00 2a   one int4[] element, and the bytes by
 *     ... WHERE id = $1       Bind value  ┘                  which members of equal keys are folded
 *
 * What this file cannot read exactly as PostgreSQL would runs alone (rule 10): NULL, a date like
 * 'today', a number that the type cannot hold, `id = 5.5`.
 */
#ifndef SHOAL_BATCHER_KEY_H
#define SHOAL_BATCHER_KEY_H

#include "batcher/policy.h"
#include "wire/frontend.h"
#include "wire/value.h"

#define KEY_COUNT_MAX 8
#define KEY_BYTES_MAX ((size_t)8192) /* of one value; longer ones run alone */

/* A type whose values may be keys. */
typedef struct KeyTypeInfo {
    uint32_t oid, array_oid;
    const char *name; /* in pg_catalog, as ShapeValue.cast gives it */
    bool integer;
    bool same_bytes; /* equal values print alike: tier A */
} KeyTypeInfo;

const KeyTypeInfo *key_type(uint32_t oid); /* NULL: no key */
bool key_type_is_integer(uint32_t oid);
/* May a value for a column of this type carry that cast? None, the column's own type, or among
 * integers any. */
bool key_cast_allowed(uint32_t column_oid, ShapeName cast);

typedef enum KeySource { KEY_FROM_INTEGER, KEY_FROM_STRING, KEY_FROM_PARAM } KeySource;

/* How one key of a template is read from its members and written into the batch. */
typedef struct KeyPlan {
    KeySource source;
    uint32_t index; /* of the literal, or the parameter counted from 0 */
    bool negative;
    uint16_t equal; /* in shape->equals */
    const KeyTypeInfo *type; /* of the elements */
    uint32_t array_param; /* $n of the batch statement that carries the array, from 1 */
    const char *cast;     /* SQL name of the column's type when the key travels as text; else NULL */
} KeyPlan;

/* Plans the keys that the policy chose. `casts`: per key, SQL name of its type or NULL; kept in the
 * plan. `param_oids`: what PostgreSQL said the parameters are.
 * BATCH_OK, BATCH_KEY_TYPE or BATCH_KEY_VALUE (the literal's class does not fit the column). */
BatchReason key_plan_make(const Shape *shape, const PolicyVerdict *verdict,
                          const char *const *casts, const ShapeLiteral *literals,
                          const uint32_t *param_oids, uint32_t param_count,
                          KeyPlan ret[KEY_COUNT_MAX]) MUST_USE;

/* The element for one member, in the element type's binary form. *ret borrows from the text, the
 * Bind message, or `scratch`. BATCH_OK, BATCH_KEY_VALUE or BATCH_LIMIT. */
BatchReason key_decode(const KeyPlan *plan, Slice text, const ShapeLiteral *literals,
                       const BindMessage *bind, Arena *scratch, Slice *ret) MUST_USE;

#endif
