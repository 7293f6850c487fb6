/*
 * fuzz_shape.c - any text becomes a Shape, and the same one when it comes again.
 *
 * Literals lie inside the text, in order; a value's literal exists; nesting that was let through is
 * bounded (the stack of libFuzzer's main thread is smaller than a worker's).
 */
#include <stdlib.h>

#include "query/shape.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void value_check(const ShapeReading *reading, const ShapeValue *value)
{
    if (value->kind == SHAPE_VALUE_LITERAL)
        require(value->index < reading->shape->literal_count);
}

static void shape_check(const ShapeReading *reading, const Shape *shape)
{
    for (uint32_t i = 0; i < shape->equal_count; i++) {
        const ShapeEqual *equal = &shape->equals[i];
        require(equal->table < (int64_t)shape->table_count && equal->column.len > 0);
        value_check(reading, &equal->value);
    }
    for (uint32_t i = 0; i < shape->join_count; i++)
        require(shape->joins[i].table < (int64_t)shape->table_count &&
                shape->joins[i].other < (int64_t)shape->table_count);
    for (uint32_t i = 0; i < shape->insert.rows * shape->insert.column_count; i++)
        value_check(reading, &shape->insert.values[i]);
    for (uint32_t i = 0; i < shape->part_count; i++)
        shape_check(reading, shape->parts[i]);
    (void)shape_is_read(shape);
    require(shape_kind_name(shape->kind) != NULL);
}

static void literals_check(const ShapeReading *reading, size_t size)
{
    size_t end = 0;
    for (uint32_t i = 0; i < reading->shape->literal_count; i++) {
        const ShapeLiteral *literal = &reading->literals[i];
        require(literal->offset >= end && literal->len > 0);
        end = (size_t)literal->offset + literal->len;
        require(end <= size);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static ShapeCache cache;
    static bool ready;
    if (!ready)
        shape_cache_init(&cache, 100, 1 << 20);
    ready = true;
    if (size < 1)
        return 0;
    bool standard = data[0] & 1, vary = data[0] & 2;
    Slice text = slice_of(data + 1, size - 1);
    Arena arena;
    ShapeReading reading, again;
    arena_init(&arena, 1024);
    require(shape_read(&cache, text, standard, vary, &arena, &reading));
    literals_check(&reading, text.len);
    shape_check(&reading, reading.shape);
    require(shape_read(&cache, text, standard, vary, &arena, &again));
    require(again.shape == reading.shape || !reading.shape->cached);
    shape_release(&cache, reading.shape);
    shape_release(&cache, again.shape);
    arena_finish(&arena);
    return 0;
}
