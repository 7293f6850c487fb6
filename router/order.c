/*
 * order.c - one row for each type: how long its binary form is, and how it compares.
 *
 *     integers, date, time, timestamps   big-endian, two's complement
 *     float                              IEEE; -0 equals 0, NaN is above everything and equals itself
 *     interval                           a month is 30 days, a day 24 hours, in 128 bits
 *     numeric                            digits of base 10000, weight, sign; NaN above infinity
 *     bytea, uuid                        bytes
 */
#include "router/order.h"

#include <endian.h>

#include "wire/value.h"

#define OID_INTERVAL 1186u

typedef bool Compare(Slice a, Slice b, int *ret);
__extension__ typedef __int128 Int128;

static int sign_of(Int128 difference) { return difference < 0 ? -1 : difference > 0; }

static uint64_t unsigned_at(Slice bytes, size_t at, size_t n)
{
    uint64_t value = 0;
    for (size_t i = 0; i < n; i++)
        value = value << 8 | bytes.data[at + i];
    return value;
}

static int64_t signed_at(Slice bytes, size_t at, size_t n)
{
    uint64_t value = unsigned_at(bytes, at, n);
    unsigned shift = 64 - 8 * (unsigned)n;
    return (int64_t)(value << shift) >> shift;
}

static bool compare_signed(Slice a, Slice b, int *ret)
{
    int64_t x = signed_at(a, 0, a.len), y = signed_at(b, 0, b.len);
    *ret = (x > y) - (x < y);
    return true;
}

static bool compare_unsigned(Slice a, Slice b, int *ret)
{
    uint64_t x = unsigned_at(a, 0, a.len), y = unsigned_at(b, 0, b.len);
    *ret = (x > y) - (x < y);
    return true;
}

static bool compare_bytes(Slice a, Slice b, int *ret)
{
    size_t n = MIN(a.len, b.len);
    int order = n ? memcmp(a.data, b.data, n) : 0;
    *ret = order ? order : (a.len > b.len) - (a.len < b.len);
    return true;
}

static double float_of(Slice bytes)
{
    if (bytes.len == 4) {
        uint32_t bits = (uint32_t)unsigned_at(bytes, 0, 4);
        float value;
        memcpy(&value, &bits, sizeof value);
        return (double)value;
    }
    uint64_t bits = unsigned_at(bytes, 0, 8);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static bool compare_float(Slice a, Slice b, int *ret)
{
    double x = float_of(a), y = float_of(b);
    bool x_nan = __builtin_isnan(x), y_nan = __builtin_isnan(y);
    *ret = x_nan || y_nan ? x_nan - y_nan : (x > y) - (x < y);
    return true;
}

static Int128 interval_of(Slice bytes)
{
    Int128 days = (Int128)signed_at(bytes, 12, 4) * 30 + signed_at(bytes, 8, 4);
    return days * 86400000000LL + signed_at(bytes, 0, 8);
}

static bool compare_interval(Slice a, Slice b, int *ret)
{
    *ret = sign_of(interval_of(a) - interval_of(b));
    return true;
}

/* ---- numeric ---------------------------------------------------------------------------------- */

#define NUMERIC_NEGATIVE  0x4000u
#define NUMERIC_NAN       0xC000u
#define NUMERIC_INFINITY  0xD000u
#define NUMERIC_MINUS_INFINITY 0xF000u

typedef struct Numeric {
    uint32_t count;
    int64_t weight;
    uint32_t sign;
    Slice digits;
} Numeric;

/* Leading zeros are left out, so that weights tell. */
static bool numeric_read(Slice bytes, Numeric *ret)
{
    if (bytes.len < 8)
        return false;
    ret->count = (uint32_t)unsigned_at(bytes, 0, 2);
    ret->weight = signed_at(bytes, 2, 2);
    ret->sign = (uint32_t)unsigned_at(bytes, 4, 2);
    ret->digits = slice_from(bytes, 8);
    if (ret->digits.len != (size_t)ret->count * 2)
        return false;
    while (ret->count && unsigned_at(ret->digits, 0, 2) == 0) {
        ret->digits = slice_from(ret->digits, 2);
        ret->count--;
        ret->weight--;
    }
    return true;
}

/* NaN 3 > infinity 2 > positive 1 > 0 > negative -1 > -infinity -2 */
static int numeric_class(const Numeric *n)
{
    switch (n->sign) {
    case NUMERIC_NAN:
        return 3;
    case NUMERIC_INFINITY:
        return 2;
    case NUMERIC_MINUS_INFINITY:
        return -2;
    default:
        return n->count == 0 ? 0 : n->sign == NUMERIC_NEGATIVE ? -1 : 1;
    }
}

static int numeric_magnitude(const Numeric *a, const Numeric *b)
{
    if (a->weight != b->weight)
        return a->weight > b->weight ? 1 : -1;
    for (uint32_t i = 0; i < MAX(a->count, b->count); i++) {
        uint64_t x = i < a->count ? unsigned_at(a->digits, (size_t)i * 2, 2) : 0;
        uint64_t y = i < b->count ? unsigned_at(b->digits, (size_t)i * 2, 2) : 0;
        if (x != y)
            return x > y ? 1 : -1;
    }
    return 0;
}

static bool compare_numeric(Slice a, Slice b, int *ret)
{
    Numeric x, y;
    if (!numeric_read(a, &x) || !numeric_read(b, &y))
        return false;
    int in_x = numeric_class(&x), in_y = numeric_class(&y);
    if (in_x != in_y)
        *ret = in_x > in_y ? 1 : -1;
    else
        *ret = in_x == 1 || in_x == -1 ? in_x * numeric_magnitude(&x, &y) : 0;
    return true;
}

/* ---- the table ---------------------------------------------------------------------------------- */

static const struct OrderRow {
    uint32_t oid;
    size_t len; /* of the binary form; 0: any */
    Compare *compare;
} ORDERS[] = {
    {WIRE_OID_BOOL, 1, compare_unsigned},   {WIRE_OID_BYTEA, 0, compare_bytes},
    {WIRE_OID_CHAR, 1, compare_unsigned},   {WIRE_OID_INT2, 2, compare_signed},
    {WIRE_OID_INT4, 4, compare_signed},     {WIRE_OID_INT8, 8, compare_signed},
    {WIRE_OID_OID, 4, compare_unsigned},    {WIRE_OID_FLOAT4, 4, compare_float},
    {WIRE_OID_FLOAT8, 8, compare_float},    {WIRE_OID_DATE, 4, compare_signed},
    {WIRE_OID_TIME, 8, compare_signed},     {WIRE_OID_TIMESTAMP, 8, compare_signed},
    {WIRE_OID_TIMESTAMPTZ, 8, compare_signed}, {OID_INTERVAL, 16, compare_interval},
    {WIRE_OID_NUMERIC, 0, compare_numeric}, {WIRE_OID_UUID, 16, compare_bytes},
};

static const struct OrderRow *row_of(uint32_t oid)
{
    for (size_t i = 0; i < ARRAY_LEN(ORDERS); i++)
        if (ORDERS[i].oid == oid)
            return &ORDERS[i];
    return NULL;
}

bool order_known(uint32_t type_oid)
{
    return row_of(type_oid) != NULL;
}

bool order_compare(uint32_t type_oid, Slice a, Slice b, int *ret)
{
    const struct OrderRow *row = row_of(type_oid);
    if (!row || (row->len && (a.len != row->len || b.len != row->len)))
        return false;
    return row->compare(a, b, ret);
}
