/*
 * gid.c - making and reading the names of transactions over several shards.
 */
#include "meta/gid.h"

#include <ctype.h>
#include <inttypes.h>
#include <openssl/rand.h>
#include <stdio.h>

#define RANDOM_DIGITS 8

void gid_prefix_init(GidPrefix *prefix, const char *cluster_id, const char *router_id, uint64_t epoch)
{
    snprintf(prefix->text, sizeof prefix->text, "shoal_%s_%s_", cluster_id, router_id);
    prefix->epoch = epoch;
}

/* Bytes that mean nothing in a string literal of any setting or encoding. */
static bool is_plain(Slice text)
{
    for (size_t i = 0; i < text.len; i++)
        if (!isalnum(text.data[i]) && !memchr("_-.", text.data[i], 3))
            return false;
    return text.len > 0;
}

bool gid_make(const GidPrefix *prefix, uint64_t n, const char *decider_shard,
              char ret_gid[static GID_SIZE], Error *err)
{
    uint32_t random;
    char gid[GID_SIZE + 1];
    if (prefix->epoch == 0) {
        error_set(err, SQLSTATE_OBJECT_NOT_READY, "this router has no epoch yet");
        error_hint(err, "The metadata store could not be written at start; SHOW EVENTS has the reason.");
        return false;
    }
    if (RAND_bytes((unsigned char *)&random, sizeof random) != 1) {
        error_set(err, SQLSTATE_INTERNAL, "no random numbers");
        return false;
    }
    int len = snprintf(gid, sizeof gid, "%s%" PRIu64 "_%" PRIu64 "-%08" PRIx32 "_%s", prefix->text,
                       prefix->epoch, n, random, decider_shard);
    if (len >= GID_SIZE || !is_plain(slice_str(decider_shard))) {
        error_set(err, SQLSTATE_LIMIT_EXCEEDED, "shard name \"%.80s\" cannot be part of a transaction's name",
                  decider_shard);
        error_hint(err, "Use letters, digits and _ - . for shards, and not more than 60 of them.");
        return false;
    }
    memcpy(ret_gid, gid, (size_t)len + 1);
    return true;
}

static bool take_prefix(Slice *text, Slice prefix)
{
    if (text->len < prefix.len || memcmp(text->data, prefix.data, prefix.len) != 0)
        return false;
    *text = slice_from(*text, prefix.len);
    return true;
}

/* Digits up to `end`, which is taken, too. */
static bool take_number(Slice *text, char end, uint64_t *ret_number)
{
    size_t i = 0;
    uint64_t number = 0;
    for (; i < text->len && i < 20 && isdigit(text->data[i]); i++)
        number = number * 10 + (uint64_t)(text->data[i] - '0');
    if (i == 0 || i == text->len || text->data[i] != (uint8_t)end)
        return false;
    *text = slice_from(*text, i + 1);
    *ret_number = number;
    return true;
}

static bool take_random(Slice *text)
{
    size_t i = 0;
    while (i < RANDOM_DIGITS && i < text->len && isxdigit(text->data[i]))
        i++;
    if (i != RANDOM_DIGITS || text->len == i || text->data[i] != '_')
        return false;
    *text = slice_from(*text, i + 1);
    return true;
}

GidParts gid_read(const GidPrefix *own, Slice gid)
{
    GidParts parts = {.owner = GID_FOREIGN};
    Slice rest = gid;
    Slice prefix = slice_str(own->text);
    /* "shoal_<cluster>_": up to the second underline. */
    const uint8_t *router = memchr(prefix.data + 6, '_', prefix.len - 6);
    Slice cluster = slice_of(prefix.data, (size_t)(router - prefix.data) + 1);
    if (take_prefix(&rest, prefix)) {
        uint64_t epoch, n;
        if (take_number(&rest, '_', &epoch) && take_number(&rest, '-', &n) && take_random(&rest) &&
            is_plain(rest) && gid.len < GID_SIZE)
            parts = (GidParts){.owner = GID_OWN, .epoch = epoch, .shard = rest};
        return parts;
    }
    if (take_prefix(&rest, cluster))
        parts.owner = GID_OTHER;
    return parts;
}
