/*
 * value_time.c - why it exists: `2024-02-03` is a key only if it is 3 February for everybody. A
 * year of four digits in front decides the order of the fields in every DateStyle; whatever else
 * PostgreSQL reads (day names, 24:00:00, leap seconds, rounding, zones by name) is left to it.
 */
#include "wire/value_time.h"

#define DAYS_1970_TO_2000 10957
#define US_PER_SECOND     INT64_C(1000000)
#define SECONDS_PER_DAY   86400

/* Exactly `n` digits at the head of the text. */
static bool digits_take(Slice *text, size_t n, int *ret)
{
    if (text->len < n)
        return false;
    int value = 0;
    for (size_t i = 0; i < n; i++) {
        if (text->data[i] < '0' || text->data[i] > '9')
            return false;
        value = value * 10 + (text->data[i] - '0');
    }
    *text = slice_from(*text, n);
    *ret = value;
    return true;
}

static bool byte_take(Slice *text, uint8_t byte)
{
    if (text->len == 0 || text->data[0] != byte)
        return false;
    *text = slice_from(*text, 1);
    return true;
}

static int month_days(int year, int month)
{
    static const int DAYS[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return DAYS[month - 1] + (month == 2 && leap);
}

/* Days since 2000-01-01 in the Gregorian calendar; years are counted from March, so that the leap
 * day is the last of its year. */
static int32_t days_of(int year, int month, int day)
{
    int y = year - (month <= 2);
    int era = y / 400;
    int year_of_era = y - era * 400;
    int day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468 - DAYS_1970_TO_2000;
}

static bool date_take(Slice *text, int32_t *ret_days)
{
    int year, month, day;
    if (!digits_take(text, 4, &year) || !byte_take(text, '-') || !digits_take(text, 2, &month) ||
        !byte_take(text, '-') || !digits_take(text, 2, &day))
        return false;
    if (year == 0 || month < 1 || month > 12 || day < 1 || day > month_days(year, month))
        return false;
    *ret_days = days_of(year, month, day);
    return true;
}

bool time_read_date(Slice text, int32_t *ret_days)
{
    return date_take(&text, ret_days) && text.len == 0;
}

/* .f to .ffffff; more digits would be rounded. */
static bool fraction_take(Slice *text, int64_t *ret_us)
{
    *ret_us = 0;
    if (!byte_take(text, '.'))
        return true;
    int digit, n = 0;
    for (int64_t unit = US_PER_SECOND / 10; n < 6 && digits_take(text, 1, &digit); n++, unit /= 10)
        *ret_us += digit * unit;
    return n > 0;
}

static bool clock_take(Slice *text, int64_t *ret_us)
{
    int hour, minute, second;
    if (!digits_take(text, 2, &hour) || !byte_take(text, ':') || !digits_take(text, 2, &minute) ||
        !byte_take(text, ':') || !digits_take(text, 2, &second) || !fraction_take(text, ret_us))
        return false;
    if (hour > 23 || minute > 59 || second > 59)
        return false;
    *ret_us += (hour * 3600 + minute * 60 + second) * US_PER_SECOND;
    return true;
}

/* Z, +HH or +HH:MM; east of Greenwich is positive. */
static bool zone_take(Slice *text, int64_t *ret_us)
{
    int hour, minute = 0;
    *ret_us = 0;
    if (byte_take(text, 'Z'))
        return true;
    bool west = text->len && text->data[0] == '-';
    if (!west && !(text->len && text->data[0] == '+'))
        return false;
    *text = slice_from(*text, 1);
    if (!digits_take(text, 2, &hour) || (byte_take(text, ':') && !digits_take(text, 2, &minute)))
        return false;
    if (hour > 15 || minute > 59)
        return false;
    *ret_us = (hour * 3600 + minute * 60) * US_PER_SECOND * (west ? -1 : 1);
    return true;
}

bool time_read_timestamp(Slice text, bool with_zone, int64_t *ret_us)
{
    int32_t days;
    int64_t clock, zone = 0;
    if (!date_take(&text, &days) || !(byte_take(&text, ' ') || byte_take(&text, 'T')) ||
        !clock_take(&text, &clock) || (with_zone && !zone_take(&text, &zone)) || text.len)
        return false;
    *ret_us = (int64_t)days * SECONDS_PER_DAY * US_PER_SECOND + clock - zone;
    return true;
}

/* PostgreSQL counts from 24 November 4714 BC; the infinities are the ends of the integers. */
bool time_date_in_range(int32_t days)
{
    const int32_t least = -2451545, end = 2147483494 - 2451545;
    return days == INT32_MIN || days == INT32_MAX || (days >= least && days < end);
}

bool time_timestamp_in_range(int64_t us)
{
    const int64_t least = INT64_C(-211813488000000000), end = INT64_C(9223371331200000000);
    return us == INT64_MIN || us == INT64_MAX || (us >= least && us < end);
}
