/* shape_print.c - see shape_print.h. */
#include "shape_print.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <cmocka.h>

typedef struct Out {
    char *at, *end;
} Out;

static void out(Out *o, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void out(Out *o, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(o->at, (size_t)(o->end - o->at), fmt, args);
    va_end(args);
    o->at += MIN(n, (int)(o->end - o->at) - 1);
}

static const char *const trait_names[] = {
    "locking", "into", "cte", "modifying", "sample", "subquery", "setop", "group", "distinct", "order",
    "limit", "offset", "window", "join", "outer", "function", "time", "role", "temp", "conflict",
    "returning", "star", "hold", "analyze", "chain", "all", "readonly", "state", "nulltest", "readsstate",
};

static void out_name(Out *o, ShapeName name)
{
    if (name.schema.len)
        out(o, "%.*s.", SLICE_FMT(name.schema));
    out(o, "%.*s", SLICE_FMT(name.name));
}

static void out_names(Out *o, char mark, const ShapeName *names, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (mark == 'o' && slice_is(names[i].name, "=") && !names[i].schema.len)
            continue;
        out(o, " %c:", mark);
        out_name(o, names[i]);
    }
}

static void out_value(Out *o, ShapeValue value)
{
    if (value.negative)
        out(o, "-");
    switch (value.kind) {
    case SHAPE_VALUE_OPAQUE:
        out(o, "?");
        break;
    case SHAPE_VALUE_PARAM:
        out(o, "$%u", value.index);
        break;
    case SHAPE_VALUE_LITERAL:
        out(o, "#%u", value.index);
        break;
    case SHAPE_VALUE_NULL:
        out(o, "null");
        break;
    case SHAPE_VALUE_DEFAULT:
        out(o, "default");
        break;
    }
    if (value.cast.name.len) {
        out(o, "::");
        out_name(o, value.cast);
    }
}

static void out_column(Out *o, const Shape *shape, int table, unsigned level, Slice column)
{
    if (table >= 0)
        out(o, "%.*s.", SLICE_FMT(shape->tables[table].alias));
    else
        out(o, "?%u.", level);
    out(o, "%.*s", SLICE_FMT(column));
}

static void out_tables(Out *o, const Shape *shape)
{
    for (uint32_t i = 0; i < shape->table_count; i++) {
        const ShapeTable *table = &shape->tables[i];
        out(o, " t:%s", table->target ? "!" : "");
        out_name(o, table->name);
        if (!slice_equal(table->alias, table->name.name))
            out(o, "/%.*s", SLICE_FMT(table->alias));
        if (table->level)
            out(o, "@%u", table->level);
    }
}

static void out_predicates(Out *o, const Shape *shape)
{
    for (uint32_t i = 0; i < shape->equal_count; i++) {
        const ShapeEqual *equal = &shape->equals[i];
        out(o, " e:");
        out_column(o, shape, equal->table, equal->level, equal->column);
        out(o, "=");
        out_value(o, equal->value);
        out(o, "%s", equal->plain ? "" : "~");
    }
    for (uint32_t i = 0; i < shape->join_count; i++) {
        const ShapeJoin *join = &shape->joins[i];
        out(o, " j:");
        out_column(o, shape, join->table, join->level, join->column);
        out(o, "<");
        out_column(o, shape, join->other, join->other_level, join->other_column);
    }
}

static void out_insert(Out *o, const ShapeInsert *insert)
{
    for (uint32_t i = 0; insert->columns && i < insert->column_count; i++)
        out(o, "%s%.*s", i ? "," : " c:", SLICE_FMT(insert->columns[i]));
    for (uint32_t i = 0; i < insert->rows * insert->column_count; i++) {
        out(o, "%s", i == 0 ? " v:" : i % insert->column_count ? "," : ";");
        out_value(o, insert->values[i]);
    }
    if (insert->rows && !insert->column_count)
        out(o, " v:");
}

static void out_shape(Out *o, const Shape *shape)
{
    out(o, "%s", shape_kind_name(shape->kind));
    for (unsigned i = 0; i < ARRAY_LEN(trait_names); i++)
        if (shape->traits & 1u << i)
            out(o, " +%s", trait_names[i]);
    out_tables(o, shape);
    out_predicates(o, shape);
    out_names(o, 'f', shape->functions, shape->function_count);
    out_names(o, 'o', shape->operators, shape->operator_count);
    out_names(o, 'y', shape->types, shape->type_count);
    out_insert(o, &shape->insert);
    for (uint32_t i = 0; i < shape->assigned_count; i++)
        out(o, " a:%.*s", SLICE_FMT(shape->assigned[i]));
    if (shape->setting.len)
        out(o, " s:%.*s=%.*s", SLICE_FMT(shape->setting), SLICE_FMT(shape->setting_value));
    if (shape->statement.len)
        out(o, " n:%.*s", SLICE_FMT(shape->statement));
    for (uint32_t i = 0; i < shape->option_count; i++)
        out(o, " p:%.*s=%.*s", SLICE_FMT(shape->options[i].name), SLICE_FMT(shape->options[i].value));
    if (shape->shoal_call) {
        out(o, " call(");
        for (uint32_t i = 0; i < shape->call_arg_count; i++) {
            out(o, "%s", i ? "," : "");
            out_value(o, shape->call_args[i]);
        }
        out(o, ")");
    }
    if (shape->reason)
        out(o, " r:%s", shape->reason);
    for (uint32_t i = 0; i < shape->part_count; i++) {
        out(o, " | ");
        out_shape(o, shape->parts[i]);
    }
}

const char *shape_print(const Shape *shape, char *text, size_t size)
{
    Out o = {text, text + size};
    out_shape(&o, shape);
    return text;
}

void shape_rows_check(const ShapeRow *rows, size_t n)
{
    unsigned wrong = 0;
    for (size_t i = 0; i < n; i++) {
        ShapeCache cache;
        Arena arena;
        ShapeReading reading;
        char text[4096];
        shape_cache_init(&cache, 10, 1 << 20);
        arena_init(&arena, 1024);
        assert_true(shape_read(&cache, slice_str(rows[i].sql), true, true, &arena, &reading));
        shape_print(reading.shape, text, sizeof(text));
        if (strcmp(text, rows[i].expected) != 0) {
            print_error("%s\n  is       %s\n  expected %s\n", rows[i].sql, text, rows[i].expected);
            wrong++;
        }
        shape_release(&cache, reading.shape);
        shape_cache_finish(&cache);
        arena_finish(&arena);
    }
    assert_int_equal(wrong, 0);
}
