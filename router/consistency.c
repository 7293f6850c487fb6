/*
 * consistency.c - why this file exists: whether a read may be answered elsewhere than on the primary
 * is a promise to somebody. It is one pure function of figures, so that every line of it can be tested.
 */
#include "router/consistency.h"

#include <stdlib.h>
#include <string.h>

const char *read_refusal_text(ReadRefusal refusal)
{
    static const char *const TEXTS[READ_REFUSAL_COUNT] = {
        [READ_ALLOWED] = "in use",
        [READ_NOT_UP] = "not up",
        [READ_NO_STANDBY] = "not a standby",
        [READ_STALE] = "not measured lately",
        [READ_LAGS] = "lags by more than max_lag",
        [READ_LAGS_BYTES] = "lags by more than max_lag_bytes",
        [READ_BEFORE_WRITE] = "may lack what the session wrote",
        [READ_BEFORE_SEEN] = "may lack what the session saw",
        [READ_BEFORE_MOVE] = "may lack rows that were moved to its shard",
        [READ_BROKEN] = "breaker is open",
    };
    return TEXTS[refusal];
}

static ReadRefusal check_bounded(const ReadPromise *promise, const ServerStanding *standing,
                                 uint64_t now_us, uint64_t stale_us)
{
    if (!standing->fresh_us || standing->fresh_us + promise->max_lag_us < now_us)
        return READ_LAGS;
    if (!promise->max_lag_bytes)
        return READ_ALLOWED;
    if (standing->lag_bytes == UINT64_MAX || standing->measured_us + stale_us < now_us)
        return READ_STALE;
    return standing->lag_bytes > promise->max_lag_bytes ? READ_LAGS_BYTES : READ_ALLOWED;
}

/* A server that answered the last read goes on from there: replay never goes back while it stands. */
static ReadRefusal check_session(const ReadPromise *promise, const ServerStanding *standing, uint32_t server)
{
    if (standing->fresh_us < promise->floor_us || standing->lsn < promise->floor_lsn)
        return READ_BEFORE_WRITE;
    bool same = server == promise->seen_server && standing->since_us < promise->seen_us;
    return same || standing->fresh_us >= promise->seen_us ? READ_ALLOWED : READ_BEFORE_SEEN;
}

ReadRefusal consistency_check(const ReadPromise *promise, const ServerStanding *standing,
                              uint32_t server, uint64_t now_us, uint64_t stale_us)
{
    if (standing->state != HEALTH_UP)
        return READ_NOT_UP;
    if (!standing->in_recovery)
        return READ_NO_STANDBY;
    if (standing->fresh_us < promise->map_us)
        return READ_BEFORE_MOVE;
    switch (promise->consistency) {
    case READ_BOUNDED:
        return check_bounded(promise, standing, now_us, stale_us);
    case READ_SESSION:
        return check_session(promise, standing, server);
    case READ_EVENTUAL:
        return READ_ALLOWED;
    default:
        return READ_NO_STANDBY; /* strong: the primary */
    }
}

/* ---- what people write --------------------------------------------------------------------------- */

bool consistency_read(Slice text, ReadConsistency *ret)
{
    for (int i = 0; READ_CONSISTENCY_NAMES[i]; i++)
        if (slice_equal_nocase(text, slice_str(READ_CONSISTENCY_NAMES[i]))) {
            *ret = (ReadConsistency)i;
            return true;
        }
    return false;
}

bool consistency_read_lag(Slice text, uint32_t *ret_ms)
{
    static const struct {
        const char *name;
        uint64_t factor;
    } UNITS[] = {{"", 1}, {"ms", 1}, {"s", 1000}, {"min", 60000}, {"h", 3600000}};
    uint64_t number = 0;
    size_t i = 0;
    for (; i < text.len && text.data[i] >= '0' && text.data[i] <= '9'; i++) {
        number = number * 10 + (text.data[i] - '0');
        if (number > UINT32_MAX)
            return false;
    }
    if (i == 0)
        return false;
    while (i < text.len && text.data[i] == ' ')
        i++;
    for (size_t u = 0; u < ARRAY_LEN(UNITS); u++)
        if (slice_is(slice_from(text, i), UNITS[u].name) && number * UNITS[u].factor <= UINT32_MAX) {
            *ret_ms = (uint32_t)(number * UNITS[u].factor);
            return true;
        }
    return false;
}

bool consistency_read_copies(Slice text, uint32_t *ret)
{
    uint8_t digit = text.len == 1 ? text.data[0] : 0;
    if (digit < '0' || digit > '0' + READ_COPIES_MAX)
        return false;
    *ret = (uint32_t)(digit - '0');
    return true;
}

bool consistency_read_deadline(Slice text, ReadWish *ret)
{
    static const char STALE[] = " stale";
    ReadWish said = *ret;
    size_t tail = sizeof STALE - 1;
    said.deadline_ms = said.deadline_percent = 0;
    said.late_stale = text.len > tail && memcmp(text.data + text.len - tail, STALE, tail) == 0;
    if (said.late_stale)
        text.len -= tail;
    bool percent = text.len > 1 && (text.data[0] == 'p' || text.data[0] == 'P');
    if (slice_equal_nocase(text, SLICE("off"))) {
        if (said.late_stale)
            return false;
    } else if (!consistency_read_lag(percent ? slice_from(text, 1) : text,
                                     percent ? &said.deadline_percent : &said.deadline_ms)) {
        return false;
    }
    if (percent && (said.deadline_percent < 50 || said.deadline_percent > 99))
        return false;
    *ret = said;
    return true;
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == ',' || c == ';';
}

static bool is_word(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static Slice take_word(Slice *rest)
{
    size_t start = 0, end;
    while (start < rest->len && is_blank(rest->data[start]))
        start++;
    for (end = start; end < rest->len && is_word(rest->data[end]); end++) {
    }
    Slice word = slice_of(rest->data + start, end - start);
    *rest = slice_from(*rest, end);
    return word;
}

static void wish_take(ReadWish *wish, Slice key, Slice value)
{
    ReadWish said = *wish;
    uint32_t copies;
    if (slice_equal_nocase(key, SLICE("read_consistency"))) {
        if (consistency_read(value, &said.consistency))
            *wish = said;
    } else if (slice_equal_nocase(key, SLICE("max_lag"))) {
        if (consistency_read_lag(value, &said.max_lag_ms))
            *wish = said;
    } else if (slice_equal_nocase(key, SLICE("deadline"))) {
        if (consistency_read_deadline(value, &said))
            *wish = said;
    } else if (slice_equal_nocase(key, SLICE("late"))) {
        wish->late_stale = slice_equal_nocase(value, SLICE("stale"));
    } else if (slice_equal_nocase(key, SLICE("copies"))) {
        if (consistency_read_copies(value, &copies))
            wish->copies = copies;
    }
}

ReadWish consistency_read_hint(Slice hint)
{
    ReadWish wish = {0};
    Slice key = {0};
    while (hint.len) {
        Slice word = take_word(&hint);
        while (hint.len && is_blank(hint.data[0]))
            hint = slice_from(hint, 1);
        if (hint.len && hint.data[0] == '=' && word.len) {
            key = word;
        } else {
            if (key.len && word.len)
                wish_take(&wish, key, word);
            key = (Slice){0};
        }
        if (hint.len && !is_word(hint.data[0]))
            hint = slice_from(hint, 1);
    }
    return wish;
}
