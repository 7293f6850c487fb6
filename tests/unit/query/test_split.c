/*
 * What is done with a SELECT that needs several shards. A user would lose rows, get rows twice, or sums
 * of one shard, if a statement were pushed that must not be.
 *
 *     users(id*, name, age, org)   orders(user_id*, id, amount, note)   items(sku*, name, price): other keys
 *     countries(code, title): on every shard    notes(id, body): on the home shard       * key
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "query/split.h"

#define TEXT(t) {(const uint8_t *)(t), sizeof(t) - 1}
static const SplitColumn USERS[] = {{TEXT("id"), 20}, {TEXT("name"), 25}, {TEXT("age"), 23}, {TEXT("org"), 23}};
static const SplitColumn ORDERS[] = {{TEXT("user_id"), 20}, {TEXT("id"), 20}, {TEXT("amount"), 1700}, {TEXT("note"), 25}};
static const SplitColumn ITEMS[] = {{TEXT("sku"), 25}, {TEXT("name"), 25}, {TEXT("price"), 701}};
static const SplitColumn COUNTRIES[] = {{TEXT("code"), 25}, {TEXT("title"), 25}};
static const SplitColumn NOTES[] = {{TEXT("id"), 23}, {TEXT("body"), 25}};
static const Slice ID = TEXT("id"), USER_ID = TEXT("user_id"), SKU = TEXT("sku");

static SplitTable table_of(Slice name)
{
    if (slice_is(name, "users"))
        return (SplitTable){SPLIT_PLACE_SPREAD, USERS, 4, &ID, 1, 1, SLICE("id")};
    if (slice_is(name, "orders"))
        return (SplitTable){SPLIT_PLACE_SPREAD, ORDERS, 4, &USER_ID, 1, 1, {0}};
    if (slice_is(name, "items"))
        return (SplitTable){SPLIT_PLACE_SPREAD, ITEMS, 3, &SKU, 1, 2, SLICE("sku")};
    if (slice_is(name, "countries"))
        return (SplitTable){.place = SPLIT_PLACE_EVERY, .columns = COUNTRIES, .column_count = 2};
    if (slice_is(name, "pg_class"))
        return (SplitTable){.place = SPLIT_PLACE_SYSTEM};
    return (SplitTable){.place = SPLIT_PLACE_HOME, .columns = NOTES, .column_count = 2};
}

static SplitFunction function_of(const void *context, const ShapeName *name)
{
    static const struct {
        const char *name, *kinds; /* kind, volatility, s: sets */
    } KNOWN[] = {{"count", "ai"}, {"sum", "ai"}, {"avg", "ai"}, {"min", "ai"}, {"max", "ai"},
                 {"bool_or", "ai"}, {"bit_and", "ai"}, {"stddev", "ai"}, {"string_agg", "ai"},
                 {"array_agg", "ai"}, {"percentile_cont", "ai"}, {"rank", "wi"}, {"row_number", "wi"},
                 {"lower", "fi"}, {"abs", "fi"}, {"random", "fv"}, {"nextval", "fv"}, {"now", "fs"}, {"upper", "fi"},
                 {"generate_series", "fis"}, {"unnest", "fis"}, {"row_to_json", "fs"}, {"date_trunc", "fs"}};
    (void)context;
    for (size_t i = 0; i < ARRAY_LEN(KNOWN); i++)
        if (slice_is(name->name, KNOWN[i].name))
            return (SplitFunction){.known = true, .system = true, .kind = KNOWN[i].kinds[0],
                                   .volatility = KNOWN[i].kinds[1],
                                   .set_returning = KNOWN[i].kinds[2] == 's'};
    return (SplitFunction){.kind = 'f'};
}

typedef struct Story {
    ShapeCache shapes;
    Arena arena;
} Story;

static int setup(void **state)
{
    Story *s = calloc(1, sizeof *s);
    shape_cache_init(&s->shapes, 1000, 1 << 24);
    arena_init(&s->arena, 4096);
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    Story *s = *state;
    shape_cache_finish(&s->shapes);
    arena_finish(&s->arena);
    free(s);
    return 0;
}

static void put_number(FILE *out, const char *name, SplitNumber number)
{
    if (number.kind == SPLIT_NUMBER_CONST)
        fprintf(out, " %s=%lld", name, (long long)number.value);
    if (number.kind == SPLIT_NUMBER_PARAM)
        fprintf(out, " %s=$%u", name, number.param);
}

/* One line a form: kind, what the router does, legs, final. */
static void form_print(FILE *out, const SplitForm *form)
{
    fprintf(out, "%s", split_kind_name(form->kind));
    if (form->kind == SPLIT_NONE)
        fprintf(out, ": %s", form->reason);
    if (form->kind == SPLIT_CONCAT || form->kind == SPLIT_ORDERED) {
        for (uint32_t i = 0; i < form->sort_count; i++)
            fprintf(out, " %u%s%s", form->sorts[i].type_oid, form->sorts[i].descending ? "v" : "^",
                    form->sorts[i].nulls_first ? "0" : "");
        put_number(out, "limit", form->limit);
        put_number(out, "offset", form->offset);
        fprintf(out, "| %.*s", SLICE_FMT(form->leg));
    }
    for (uint32_t i = 0; i < form->relation_count; i++)
        fprintf(out, "| %s%s%.*s: %.*s", form->relations[i].name, form->relations[i].primary.len ? "*" : "",
                SLICE_FMT(form->relations[i].primary), SLICE_FMT(form->relations[i].leg));
    if (form->final.len)
        fprintf(out, "| %.*s", SLICE_FMT(form->final));
}

typedef struct Row {
    const char *sql, *form;
} Row;

static char *form_of(Story *s, const char *sql, bool whole)
{
    ShapeReading reading;
    SplitForm form;
    char *text = NULL;
    size_t size;
    assert_true(shape_read(&s->shapes, slice_str(sql), true, true, &s->arena, &reading));
    SplitTable *tables = arena_array(&s->arena, SplitTable, reading.shape->table_count + 1);
    for (uint32_t i = 0; i < reading.shape->table_count; i++)
        tables[i] = table_of(reading.shape->tables[i].name.name);
    SplitInput input = {.shape = reading.shape, .text = slice_str(sql), .tables = tables,
                        .function = function_of, .now = SLICE("2026-01-02 03:04:05.678+00"),
                        .whole = whole, .arena = &s->arena};
    assert_true(split_make(&input, &form));
    FILE *out = open_memstream(&text, &size);
    form_print(out, &form);
    if (form.kind == SPLIT_PARTIAL) {
        const char *types[32];
        for (size_t i = 0; i < ARRAY_LEN(types); i++)
            types[i] = "numeric";
        Slice final = split_final(&form, types, form.column_count, &s->arena);
        assert_true(final.len > 0);
        assert_null(memmem(final.data, final.len, "shoal_0_type_", 13));
    }
    fclose(out);
    shape_release(&s->shapes, reading.shape);
    return text;
}

static void check(Story *s, const Row *rows, size_t n)
{
    size_t wrong = 0;
    for (size_t i = 0; i < n; i++) {
        char *got = form_of(s, rows[i].sql, false);
        if (strcmp(got, rows[i].form) != 0) {
            print_error("    {\"%s\",\n     \"%s\"},\n", rows[i].sql, got);
            wrong++;
        }
        free(got);
    }
    assert_int_equal(wrong, 0);
}

#include "split_rows.h"

/* Else rows are lost, doubled or out of order. */
static void rows_follow_one_another(void **state) { check(*state, CONCAT, ARRAY_LEN(CONCAT)); }
static void sorted_rows_are_merged(void **state) { check(*state, ORDERED, ARRAY_LEN(ORDERED)); }
/* Else a sum is that of one shard, or a count a numeric. */
static void aggregates_are_finished(void **state) { check(*state, PARTIAL, ARRAY_LEN(PARTIAL)); }
/* Else a join, a window or a distinct count sees one shard's rows. */
static void the_rest_is_gathered(void **state) { check(*state, GATHER, ARRAY_LEN(GATHER)); }
/* Else something runs once for each shard. */
static void what_cannot_be_is_refused(void **state) { check(*state, REFUSED, ARRAY_LEN(REFUSED)); }

/* Else a statement that the merge server cannot sort has no other way left. */
static void everything_can_be_gathered(void **state)
{
    const struct { const Row *rows; size_t n; } ALL[] = {{CONCAT, ARRAY_LEN(CONCAT)},
                                                         {ORDERED, ARRAY_LEN(ORDERED)},
                                                         {PARTIAL, ARRAY_LEN(PARTIAL)}};
    for (size_t k = 0; k < ARRAY_LEN(ALL); k++)
        for (size_t i = 0; i < ALL[k].n; i++) {
            char *got = form_of(*state, ALL[k].rows[i].sql, true);
            if (strncmp(got, "gather", 6) != 0 && !strstr(ALL[k].rows[i].sql, "for update"))
                fail_msg("%s: %s", ALL[k].rows[i].sql, got);
            free(got);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(rows_follow_one_another, setup, teardown),
        cmocka_unit_test_setup_teardown(sorted_rows_are_merged, setup, teardown),
        cmocka_unit_test_setup_teardown(aggregates_are_finished, setup, teardown),
        cmocka_unit_test_setup_teardown(the_rest_is_gathered, setup, teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(everything_can_be_gathered, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
