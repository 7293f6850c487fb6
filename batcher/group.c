/*
 * group.c - who may share one statement: equal in everything but the keys.
 *
 *     key   | judgement | literals that are no keys | parameters that are no keys | result formats |
 *           |<---- the template is found by this -->|                                              |
 *           |<------------------------- the group is found by this -------------------------------->|
 */
#include "batcher/batcher_internal.h"

#include <stdlib.h>

#include "batcher/without.h"
#include "wire/backend.h"
#include "wire/writer.h"


/* ---- the key --------------------------------------------------------------------------------- */

static bool is_key(const Judgement *judgement, ShapeValueKind kind, uint32_t index)
{
    for (uint32_t i = 0; i < judgement->verdict.key_count; i++) {
        const ShapeValue *value = &judgement->key.shape->equals[judgement->verdict.keys[i]].value;
        if (value->kind == kind && value->index == index)
            return true;
    }
    return false;
}

static void put_literals(Buf *key, const Judgement *judgement, const BatchCandidate *c)
{
    for (uint32_t i = 0; i < judgement->key.shape->literal_count; i++)
        if (!is_key(judgement, SHAPE_VALUE_LITERAL, i))
            writer_value(key, slice_of(c->text.data + c->literals[i].offset, c->literals[i].len));
}

/* The key's place is kept, empty, so that parameter i is found by counting. */
static void put_params(Buf *key, const Judgement *judgement, const BindMessage *bind)
{
    writer_u16(key, bind->param_count);
    for (uint32_t i = 0; i < bind->param_count; i++) {
        bool skip = is_key(judgement, SHAPE_VALUE_PARAM, i + 1);
        BindParam param = bind_param_at(bind, i);
        writer_u16(key, skip ? 0 : bind_param_format(bind, i));
        if (skip || param.is_null)
            writer_null(key);
        else
            writer_value(key, param.value);
    }
}

BatchReason group_key(Batcher *batcher, const Judgement *judgement, const BatchCandidate *c,
                      size_t *ret_template_len)
{
    Buf *key = &batcher->key;
    buf_reset(key);
    writer_bytes(key, slice_of(&judgement, sizeof(judgement)));
    put_literals(key, judgement, c);
    *ret_template_len = buf_len(key);
    if (c->bind) {
        const BindMessage *bind = c->bind;
        bool formats_fit = bind->formats.count <= 1 || bind->formats.count == bind->param_count;
        if (!formats_fit)
            return BATCH_PROTOCOL;
        if (bind->param_count > PARAMS_MAX)
            return BATCH_LIMIT;
        put_params(key, judgement, bind);
        if (!without_rule(11)) {
            writer_u16(key, bind->result_formats.count);
            writer_bytes(key, bind->result_formats.raw);
        }
    }
    return key->failed ? BATCH_LIMIT : BATCH_OK;
}

BindParam group_param(const Group *group, uint32_t index, uint16_t *ret_format)
{
    const uint8_t *at = group->key.data + group->template->key.len + 2;
    for (uint32_t i = 0;; i++) {
        uint16_t format = (uint16_t)(at[0] << 8 | at[1]);
        int32_t len =
            (int32_t)((uint32_t)at[2] << 24 | (uint32_t)at[3] << 16 | (uint32_t)at[4] << 8 | at[5]);
        if (i == index) {
            *ret_format = format;
            return (BindParam){.value = slice_of(at + 6, len < 0 ? 0 : (size_t)len),
                               .is_null = len < 0};
        }
        at += 6 + (len < 0 ? 0 : len);
    }
}

/* ---- life ------------------------------------------------------------------------------------ */

bool group_equal(const void *item, const void *key)
{
    return slice_equal(((const Group *)item)->key, *(const Slice *)key);
}

Group *group_find(Batcher *batcher)
{
    Slice key = buf_bytes(&batcher->key);
    Group *group = map_get(&batcher->groups, slice_hash(key, 0), &key);
    if (group && group->lru.next != &batcher->groups_lru) {
        list_remove(&group->lru);
        list_push(&batcher->groups_lru, &group->lru);
    }
    return group;
}

/* What the batch asks for: binary for its own first column, then what each member asked for. */
static bool make_formats(Group *group, const BindMessage *bind)
{
    WireFormats asked = bind ? bind->result_formats : WIRE_FORMATS_NONE;
    uint16_t n = group->template->column_count;
    uint8_t *codes = arena_zalloc(&group->arena, 2 * ((size_t)n + 1));
    if (!codes)
        return false;
    codes[1] = FORMAT_BINARY;
    for (uint16_t i = 0; i < n; i++)
        codes[2 * (i + 1) + 1] = (uint8_t)formats_of(asked, i);
    group->formats = (WireFormats){slice_of(codes, 2 * ((size_t)n + 1)), (uint16_t)(n + 1)};
    return true;
}

static BatchReason check_formats(const Template *template, const BindMessage *bind)
{
    if (!bind)
        return BATCH_OK;
    if (bind->param_count != template->param_count)
        return BATCH_PROTOCOL;
    WireFormats formats = bind->result_formats;
    if (formats.count > 1 && formats.count != template->column_count)
        return BATCH_RESULT_SHAPE;
    for (uint16_t i = 0; i < formats.count; i++)
        if (formats_raw_at(formats, i) > FORMAT_BINARY)
            return BATCH_RESULT_SHAPE;
    return BATCH_OK;
}

static bool make_portal_frame(Group *group, const BindMessage *bind)
{
    RowDescription row;
    Error err;
    Buf buf;
    if (!bind) {
        group->portal_frame = group->template->row_frame;
        return true;
    }
    buf_init(&buf, SIZE_MAX / 2);
    bool good = backend_read_row_description(slice_from(group->template->row_frame, 5), &row,
                                             &err) == WIRE_OK &&
                backend_put_row_description_formats(&buf, &row, bind->result_formats) &&
                !buf.failed;
    if (good)
        group->portal_frame = arena_dup(&group->arena, buf_bytes(&buf));
    buf_finish(&buf);
    return good && group->portal_frame.data;
}

static void group_free(Batcher *batcher, Group *group)
{
    Template *template = group->template;
    list_remove(&group->lru);
    list_remove(&group->due);
    free((void *)(uintptr_t)group->expected.data);
    arena_finish(&group->arena);
    free(group);
    template_unref_group(batcher, template);
}

void group_free_if_done(Batcher *batcher, Group *group)
{
    if (group->retired && group->queued == 0 && group->batch_count == 0)
        group_free(batcher, group);
}

void group_retire(Batcher *batcher, Group *group)
{
    if (group->retired)
        return;
    map_remove(&batcher->groups, group->hash, &group->key);
    list_remove(&group->lru);
    list_remove(&group->sibling);
    list_push(&batcher->retired, &group->lru);
    group->retired = true;
    group_free_if_done(batcher, group);
}

static void groups_make_room(Batcher *batcher)
{
    while (batcher->groups.count >= 2 * (size_t)batcher->templates_max)
        group_retire(batcher, list_entry(list_first(&batcher->groups_lru), Group, lru));
}

Group *group_make(Batcher *batcher, Template *template, const BatchCandidate *candidate,
                  BatchReason *ret_reason)
{
    *ret_reason = check_formats(template, candidate->bind);
    if (*ret_reason)
        return NULL;
    *ret_reason = BATCH_LIMIT;
    groups_make_room(batcher);
    Group *group = calloc(1, sizeof(*group));
    if (!group)
        return NULL;
    arena_init(&group->arena, 512);
    list_init(&group->lru);
    list_init(&group->sibling);
    list_init(&group->due);
    list_init(&group->queue);
    list_init(&group->batches);
    group->template = template;
    group->pool = candidate->pool;
    group->key = arena_dup(&group->arena, buf_bytes(&batcher->key));
    group->hash = group->key.data ? slice_hash(group->key, 0) : 0;
    if (!group->key.data || !make_formats(group, candidate->bind) ||
        !make_portal_frame(group, candidate->bind) ||
        !map_put(&batcher->groups, group->hash, group)) {
        arena_finish(&group->arena);
        free(group);
        return NULL;
    }
    template->groups++;
    list_push(&template->children, &group->sibling);
    list_push(&batcher->groups_lru, &group->lru);
    *ret_reason = BATCH_OK;
    return group;
}

void group_due(Batcher *batcher, Group *group)
{
    if (!list_linked(&group->due))
        list_push(&batcher->due, &group->due);
}
