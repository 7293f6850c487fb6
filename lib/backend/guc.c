/*
 * guc.c - vectors of settings, interned, and the SQL between two of them.
 *
 *     from   datestyle=ISO   role=alice                to   role=bob   search_path=a, b
 *     SQL    RESET role; RESET datestyle; SET search_path TO a, b; SET role TO bob
 *
 * Who the session is decides what it may set, so role and session_authorization come off before
 * anything is changed and go on after it; PostgreSQL also resets the role when
 * session_authorization changes. The whole is one simple Query: one implicit transaction, all or
 * nothing. One block of memory per vector; the empty vector is NULL and needs none.
 */
#include "backend/guc.h"

#include <stdlib.h>

typedef struct GucKey {
    const GucEntry *entries;
    uint32_t count;
} GucKey;

static bool guc_equal(const void *item, const void *key);
static GucVector *guc_intern(GucSet *set, const GucEntry *entries, uint32_t count, bool *ret_ok);
static GucVector *guc_create(const GucEntry *entries, uint32_t count, uint64_t hash);
static uint64_t guc_hash(const GucEntry *entries, uint32_t count);
static int guc_compare(Slice a, Slice b);
static bool guc_is_identity(Slice name);
static void put_text(Buf *sql, const char *text);
static void put_name(Buf *sql, Slice name);
static void put_reset(Buf *sql, Slice name);
static void put_set(Buf *sql, const GucEntry *entry);

void guc_set_init(GucSet *set)
{
    map_init(&set->vectors, guc_equal);
}

void guc_set_finish(GucSet *set)
{
    assert(set->vectors.count == 0); /* a reference that nobody gave back */
    map_finish(&set->vectors);
}

/* ---- vectors -------------------------------------------------------------------------------- */

GucVector *guc_with(GucSet *set, const GucVector *base, Slice name, Slice value, bool *ret_ok)
{
    assert(name.len > 0 && value.len > 0);
    uint32_t old_count = base ? base->count : 0, count = 0;
    GucEntry *entries = malloc(sizeof(*entries) * (old_count + 1));
    *ret_ok = entries != NULL;
    if (!entries)
        return NULL;
    bool placed = false;
    for (uint32_t i = 0; i < old_count; i++) {
        int order = guc_compare(base->entries[i].name, name);
        if (order >= 0 && !placed) {
            entries[count++] = (GucEntry){name, value};
            placed = true;
        }
        if (order != 0)
            entries[count++] = base->entries[i];
    }
    if (!placed)
        entries[count++] = (GucEntry){name, value};
    GucVector *vector = guc_intern(set, entries, count, ret_ok);
    free(entries);
    return vector;
}

GucVector *guc_without(GucSet *set, const GucVector *base, Slice name, bool *ret_ok)
{
    *ret_ok = true;
    uint32_t old_count = base ? base->count : 0, count = 0;
    if (old_count == 0)
        return NULL;
    GucEntry *entries = malloc(sizeof(*entries) * old_count);
    *ret_ok = entries != NULL;
    if (!entries)
        return NULL;
    for (uint32_t i = 0; i < old_count; i++)
        if (!slice_equal(base->entries[i].name, name))
            entries[count++] = base->entries[i];
    GucVector *vector = guc_intern(set, entries, count, ret_ok);
    free(entries);
    return vector;
}

GucVector *guc_retain(GucVector *vector)
{
    if (vector)
        vector->refs++;
    return vector;
}

void guc_release(GucSet *set, GucVector *vector)
{
    if (!vector)
        return;
    assert(vector->refs > 0);
    if (--vector->refs > 0)
        return;
    GucKey key = {vector->entries, vector->count};
    void *gone = map_remove(&set->vectors, vector->hash, &key);
    assert(gone == vector);
    (void)gone;
    free(vector);
}

const GucEntry *guc_find(const GucVector *vector, Slice name)
{
    for (uint32_t i = 0; vector && i < vector->count; i++)
        if (slice_equal(vector->entries[i].name, name))
            return &vector->entries[i];
    return NULL;
}

static GucVector *guc_intern(GucSet *set, const GucEntry *entries, uint32_t count, bool *ret_ok)
{
    if (count == 0)
        return NULL;
    GucKey key = {entries, count};
    uint64_t hash = guc_hash(entries, count);
    GucVector *found = map_get(&set->vectors, hash, &key);
    if (found)
        return guc_retain(found);
    GucVector *fresh = guc_create(entries, count, hash);
    *ret_ok = fresh && map_put(&set->vectors, hash, fresh);
    if (!*ret_ok) {
        free(fresh);
        return NULL;
    }
    return fresh;
}

static GucVector *guc_create(const GucEntry *entries, uint32_t count, uint64_t hash)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < count; i++)
        bytes += entries[i].name.len + entries[i].value.len;
    GucVector *vector = malloc(sizeof(*vector) + sizeof(GucEntry) * count + bytes);
    if (!vector)
        return NULL;
    GucEntry *copies = (GucEntry *)(vector + 1);
    uint8_t *text = (uint8_t *)(copies + count);
    for (uint32_t i = 0; i < count; i++) {
        memcpy(text, entries[i].name.data, entries[i].name.len);
        copies[i].name = slice_of(text, entries[i].name.len);
        text += entries[i].name.len;
        memcpy(text, entries[i].value.data, entries[i].value.len);
        copies[i].value = slice_of(text, entries[i].value.len);
        text += entries[i].value.len;
    }
    *vector = (GucVector){.entries = copies, .count = count, .hash = hash, .refs = 1};
    return vector;
}

static uint64_t guc_hash(const GucEntry *entries, uint32_t count)
{
    uint64_t hash = count;
    for (uint32_t i = 0; i < count; i++)
        hash = (hash * 31 + slice_hash(entries[i].name, 0)) * 31 + slice_hash(entries[i].value, 0);
    return hash;
}

static bool guc_equal(const void *item, const void *wanted)
{
    const GucVector *vector = item;
    const GucKey *key = wanted;
    if (vector->count != key->count)
        return false;
    for (uint32_t i = 0; i < key->count; i++)
        if (!slice_equal(vector->entries[i].name, key->entries[i].name) ||
            !slice_equal(vector->entries[i].value, key->entries[i].value))
            return false;
    return true;
}

static int guc_compare(Slice a, Slice b)
{
    int order = memcmp(a.data, b.data, MIN(a.len, b.len));
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

/* ---- the way from one to another ------------------------------------------------------------ */

static const char *const IDENTITY[] = {"session_authorization", "role"};

bool guc_transition(const GucVector *from, const GucVector *to, Buf *ret_sql)
{
    if (from == to)
        return !ret_sql->failed;
    for (size_t i = ARRAY_LEN(IDENTITY); i-- > 0;)
        if (guc_find(from, slice_str(IDENTITY[i])))
            put_reset(ret_sql, slice_str(IDENTITY[i]));
    for (uint32_t i = 0; from && i < from->count; i++)
        if (!guc_is_identity(from->entries[i].name) && !guc_find(to, from->entries[i].name))
            put_reset(ret_sql, from->entries[i].name);
    for (uint32_t i = 0; to && i < to->count; i++) {
        const GucEntry *old = guc_find(from, to->entries[i].name);
        if (!guc_is_identity(to->entries[i].name) &&
            (!old || !slice_equal(old->value, to->entries[i].value)))
            put_set(ret_sql, &to->entries[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(IDENTITY); i++) {
        const GucEntry *entry = guc_find(to, slice_str(IDENTITY[i]));
        if (entry)
            put_set(ret_sql, entry);
    }
    return !ret_sql->failed;
}

static bool guc_is_identity(Slice name)
{
    for (size_t i = 0; i < ARRAY_LEN(IDENTITY); i++)
        if (slice_is(name, IDENTITY[i]))
            return true;
    return false;
}

static void put_reset(Buf *sql, Slice name)
{
    put_text(sql, buf_len(sql) ? "; RESET " : "RESET ");
    put_name(sql, name);
}

static void put_set(Buf *sql, const GucEntry *entry)
{
    put_text(sql, buf_len(sql) ? "; SET " : "SET ");
    put_name(sql, entry->name);
    put_text(sql, " TO ");
    buf_append(sql, entry->value);
}

/* Quoted part by part ("app"."user_id"), so that a name can be nothing but a name. */
static void put_name(Buf *sql, Slice name)
{
    put_text(sql, "\"");
    for (size_t i = 0; i < name.len; i++) {
        if (name.data[i] == '.')
            put_text(sql, "\".\"");
        else if (name.data[i] == '"')
            put_text(sql, "\"\"");
        else
            buf_append(sql, slice_of(&name.data[i], 1));
    }
    put_text(sql, "\"");
}

static void put_text(Buf *sql, const char *text)
{
    buf_append(sql, slice_str(text));
}
