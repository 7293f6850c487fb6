/*
 * fuzz_split.c - any SELECT is cut for several shards, or refused with a reason; INSERT and MERGE are taken apart.
 *
 * The first byte says where the tables are; all have the same columns. Every form is complete: texts where its kind has
 * some, places of sort keys and parameters within bounds.
 */
#include <stdlib.h>

#include "query/insert_source.h"
#include "query/merge_actions.h"
#include "query/merge_source.h"
#include "query/split.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

#define TEXT(t) {(const uint8_t *)(t), sizeof(t) - 1}
static const SplitColumn COLUMNS[] = {{TEXT("id"), 20}, {TEXT("name"), 25}, {TEXT("age"), 23}, {TEXT("x"), 1700}};
static const Slice KEY = TEXT("id");

static SplitFunction function_of(const void *context, const ShapeName *name)
{
    (void)context;
    char first = name->name.len ? (char)name->name.data[0] : 0;
    return (SplitFunction){.known = first != 'z', .system = true, .kind = first == 'c' || first == 's' ? 'a' : first == 'r' ? 'w' : 'f',
                           .volatility = first == 'n' ? 'v' : 'i', .set_returning = first == 'g'};
}

static void form_check(const SplitForm *form)
{
    require(split_kind_name(form->kind) != NULL);
    switch (form->kind) {
    case SPLIT_NONE:
        require(form->reason != NULL);
        break;
    case SPLIT_CONCAT:
    case SPLIT_ORDERED:
        require(form->leg.len > 0 && (form->kind == SPLIT_CONCAT || form->sort_count > 0));
        break;
    case SPLIT_PARTIAL:
    case SPLIT_GATHER:
        require(form->relation_count > 0 && (form->kind == SPLIT_PARTIAL || form->final.len > 0));
        for (uint32_t i = 0; i < form->relation_count; i++)
            require(form->relations[i].leg.len > 0 && form->relations[i].name[0]);
        break;
    }
}

static void select_split(const Shape *shape, Slice text, uint8_t where, Arena *arena)
{
    SplitTable *tables = arena_array(arena, SplitTable, shape->table_count + 1);
    SplitForm form;
    require(tables != NULL);
    for (uint32_t i = 0; i < shape->table_count; i++) {
        SplitPlace place = (SplitPlace)((where >> (i % 4 * 2)) & 3);
        tables[i] = (SplitTable){.place = place, .columns = COLUMNS, .column_count = 4};
        if (place == SPLIT_PLACE_SPREAD) {
            tables[i].keys = &KEY;
            tables[i].key_count = tables[i].group = 1;
            tables[i].primary = KEY;
        }
    }
    SplitInput input = {.shape = shape, .text = text, .tables = tables, .function = function_of, .arena = arena,
                        .now = SLICE("2024-01-01 00:00:00+00"), .fetch_every = where & 1, .whole = where >= 0xC0};
    require(split_make(&input, &form));
    form_check(&form);
}

static const Slice *columns_of(void *context, Slice schema, Slice name, uint32_t *ret_count)
{
    static const Slice NAMES[] = {TEXT("id"), TEXT("name")};
    *ret_count = 2;
    return name.len > 1 ? NAMES : NULL;
}

static void merge_cut(const Shape *shape, Slice text, Arena *arena)
{
    static const uint32_t FIRST = 0;
    const MergeTables tables = {.keys = &KEY, .positions = &FIRST, .key_count = 1, .columns = columns_of};
    MergeSource source;
    const char *why = NULL;
    if (!merge_source_read(text, &tables, MIN(shape->param_max, 100), arena, &source, &why)) {
        require(why != NULL);
        return;
    }
    require(source.text.len > 0 && source.column_count > 0 && source.at[0] < source.column_count);
    Slice *types = arena_array(arena, Slice, source.column_count);
    for (uint32_t i = 0; types && i < source.column_count; i++)
        types[i] = SLICE("text");
    require(merge_query_text(&source, 1, source.text, arena).len > 0);
    (void)merge_rows_text(text, &source, types, 1, arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static ShapeCache cache;
    static bool ready;
    if (!ready)
        shape_cache_init(&cache, 100, 1 << 20);
    ready = true;
    if (size < 2 || memchr(data, 0, size))
        return 0;
    Arena arena;
    ShapeReading reading;
    InsertSource source;
    MergeActions actions;
    Slice text = slice_of(data + 1, size - 1);
    arena_init(&arena, 64 * 1024);
    require(shape_read(&cache, text, true, true, &arena, &reading));
    if (reading.shape->kind == SHAPE_SELECT)
        select_split(reading.shape, text, data[0], &arena);
    if (reading.shape->kind == SHAPE_INSERT && insert_source_read(text, &arena, &source))
        require(source.probe.len > 0 && (source.plain || source.text.len > 0));
    if (reading.shape->kind == SHAPE_MERGE && merge_actions_read(text, KEY, 0, &arena, &actions))
        require(!actions.inserts || !actions.alike || actions.key.name.len > 0);
    if (reading.shape->kind == SHAPE_MERGE)
        merge_cut(reading.shape, text, &arena);
    shape_release(&cache, reading.shape);
    arena_finish(&arena);
    return 0;
}
