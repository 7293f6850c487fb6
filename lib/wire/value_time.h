/* value_time.h - dates and timestamps of value.c: ISO texts that mean the same in every DateStyle.
 */
#ifndef SHOAL_WIRE_VALUE_TIME_H
#define SHOAL_WIRE_VALUE_TIME_H

#include "core/slice.h"

/* YYYY-MM-DD, years 0001..9999: days since 2000-01-01. False for anything else. */
bool time_read_date(Slice text, int32_t *ret_days) MUST_USE;
/* Date, space or T, HH:MM:SS[.ffffff], with_zone also Z or an offset: microseconds since 2000. */
bool time_read_timestamp(Slice text, bool with_zone, int64_t *ret_us) MUST_USE;
/* What PostgreSQL's receive functions take, infinities included. */
bool time_date_in_range(int32_t days);
bool time_timestamp_in_range(int64_t us);

#endif
