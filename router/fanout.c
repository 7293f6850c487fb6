/*
 * fanout.c - what the catalog and the shard map say, put in split.h's words.
 */
#include "router/fanout.h"

#include <stdlib.h>

#include "router/foreign.h"

typedef struct FunctionLookup {
    const Catalog *catalog;
    Slice search_path, user;
} FunctionLookup;

static SplitFunction function_look(const void *context, const ShapeName *name)
{
    const FunctionLookup *in = context;
    const CatalogFunction *function =
        catalog_resolve_function(in->catalog, name->schema, name->name, in->search_path, in->user);
    if (!function)
        return (SplitFunction){.kind = 'f'};
    return (SplitFunction){.known = true,
                           .system = slice_is(function->schema, "pg_catalog"),
                           .kind = function->kind,
                           .volatility = function->volatility,
                           .set_returning = function->set_returning};
}

/* ---- tables -------------------------------------------------------------------------------------- */

static bool is_key(const Table *table, Slice column)
{
    return slice_equal(table->key, column);
}

/* Unique over all shards: the key, or any column of a table that is whole somewhere. */
static Slice primary_of(const FanoutRef *ref)
{
    for (uint32_t i = 0; ref->catalog && i < ref->catalog->column_count; i++) {
        const CatalogColumn *column = &ref->catalog->columns[i];
        if (column->unique_alone && column->not_null &&
            (ref->place != SPLIT_PLACE_SPREAD || is_key(ref->table, column->name)))
            return column->name;
    }
    return slice_of(NULL, 0);
}

/* Equal keys of these tables are on one shard: one map, values that hash alike, and the same ones pinned. */
static bool same_placement(const Table *a, const Table *b)
{
    if (a->key_type == KEY_NONE || b->key_type == KEY_NONE)
        return a == b;
    if ((a->place_count || b->place_count) && !slice_equal(a->colocation, b->colocation))
        return false;
    return a->key_type == b->key_type && (a->key_oid == b->key_oid || a->key_type == KEY_INT);
}

static bool columns_fill(const FanoutRef *ref, SplitTable *table, Arena *arena)
{
    const CatalogTable *from = ref->catalog;
    if (!from)
        return true;
    SplitColumn *columns = arena_array(arena, SplitColumn, from->column_count + 1);
    if (!columns)
        return false;
    for (uint32_t i = 0; i < from->column_count; i++)
        columns[i] = (SplitColumn){from->columns[i].name, from->columns[i].type_oid};
    table->columns = columns;
    table->column_count = from->column_count;
    return true;
}

static SplitTable *tables_fill(const FanoutRef *refs, uint32_t count, Arena *arena)
{
    SplitTable *tables = arena_array(arena, SplitTable, count + 1);
    for (uint32_t i = 0; tables && i < count; i++) {
        tables[i] = (SplitTable){.place = refs[i].place, .primary = primary_of(&refs[i])};
        if (!columns_fill(&refs[i], &tables[i], arena))
            return NULL;
        if (refs[i].place != SPLIT_PLACE_SPREAD)
            continue;
        tables[i].keys = &refs[i].table->key;
        tables[i].key_count = 1;
        tables[i].group = i + 1;
        for (uint32_t j = 0; j < i; j++)
            if (refs[j].place == SPLIT_PLACE_SPREAD && same_placement(refs[i].table, refs[j].table)) {
                tables[i].group = tables[j].group;
                break;
            }
    }
    return tables;
}

/* ---- shards --------------------------------------------------------------------------------------- */

static int shard_order(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static FanoutLegs legs_of(const bool *wanted, const DatabaseConfig *database, Arena *arena)
{
    uint32_t *shards = arena_array(arena, uint32_t, database->shard_count);
    FanoutLegs legs = {.shards = shards};
    for (uint32_t i = 0; shards && i < database->shard_count; i++)
        if (wanted[i])
            shards[legs.count++] = database->shards[i];
    if (shards && legs.count == 0) /* no row counts, but somebody must say so */
        shards[legs.count++] = database->shards[0];
    if (shards)
        qsort(shards, legs.count, sizeof *shards, shard_order);
    return legs;
}

static void want(bool *wanted, const FanoutRef *ref, const DatabaseConfig *database)
{
    bool home = !ref->known_shard && ref->place != SPLIT_PLACE_SPREAD;
    for (uint32_t i = 0; i < database->shard_count; i++)
        wanted[i] |= ref->known_shard ? database->shards[i] == ref->shard
                     : home           ? i == 0
                                      : !ref->some || ref->some[database->shards[i]];
}

/* The shards of one relation: those of all references to that table, because they are not told apart. */
static bool relation_legs(const Fanout *spread, const DatabaseConfig *database, uint32_t relation,
                          Arena *arena)
{
    const Shape *shape = spread->input.shape;
    const ShapeName *name = &shape->tables[spread->form.relations[relation].table].name;
    bool *wanted = arena_array(arena, bool, database->shard_count);
    for (uint32_t i = 0; wanted && i < shape->table_count; i++)
        if (slice_equal(shape->tables[i].name.name, name->name) &&
            slice_equal(shape->tables[i].name.schema, name->schema))
            want(wanted, &spread->refs[i], database);
    if (wanted)
        spread->relations[relation] = legs_of(wanted, database, arena);
    return wanted && spread->relations[relation].shards;
}

static bool legs_fill(Fanout *spread, const DatabaseConfig *database, Arena *arena)
{
    SplitForm *form = &spread->form;
    if (form->kind != SPLIT_GATHER) {
        bool *wanted = arena_array(arena, bool, database->shard_count);
        if (!wanted)
            return false;
        want(wanted, &spread->refs[form->anchor], database);
        spread->legs = legs_of(wanted, database, arena);
        return spread->legs.shards != NULL;
    }
    spread->relations = arena_array(arena, FanoutLegs, form->relation_count);
    for (uint32_t i = 0; spread->relations && i < form->relation_count; i++)
        if (!relation_legs(spread, database, i, arena))
            return false;
    return spread->relations != NULL;
}

/* What each shard is asked: the same, but for those that hold rows of others. */
static bool texts_fill(const Fanout *spread, const Topology *topology, FanoutLegs *legs, int at, Slice text, bool named,
                       Arena *arena)
{
    const ShapeTable *table = &spread->input.shape->tables[at];
    const Table *spread_table = spread->refs[at].place == SPLIT_PLACE_SPREAD ? spread->refs[at].table : NULL;
    Slice alias = named ? table->alias : slice_of(NULL, 0); /* the only table of its leg */
    legs->texts = foreign_texts(topology, spread_table, legs->shards, legs->count, alias, text, NULL, arena);
    return legs->texts != NULL;
}

static bool all_texts_fill(Fanout *spread, const Topology *topology, Arena *arena)
{
    const SplitForm *form = &spread->form;
    const ShapeTable *tables = spread->input.shape->tables;
    if (form->kind != SPLIT_GATHER)
        return (!topology->foreign || !tables[form->anchor].renamed) &&
               texts_fill(spread, topology, &spread->legs, (int)form->anchor,
                          form->kind == SPLIT_PARTIAL ? form->relations[0].leg : form->leg, true, arena);
    for (uint32_t i = 0; i < form->relation_count; i++) {
        int at = form->relations[i].table;
        if (!texts_fill(spread, topology, &spread->relations[i], at, form->relations[i].leg, false, arena))
            return false;
    }
    return true;
}

/* What stays valid when the catalog is read anew: names that the form borrows from it. */
static bool form_keep(SplitForm *form, Arena *arena)
{
    for (uint32_t i = 0; i < form->relation_count; i++) {
        Slice *primary = &form->relations[i].primary;
        if (primary->len && !(*primary = arena_dup(arena, *primary)).data)
            return false;
    }
    return true;
}

static const Fanout *fanout_fill(Fanout *spread, const Topology *topology, uint32_t database,
                                 Arena *arena, Error *err)
{
    if (!split_make(&spread->input, &spread->form) || !form_keep(&spread->form, arena) ||
        (spread->form.kind != SPLIT_NONE &&
         !legs_fill(spread, &topology->config->databases[database], arena))) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        return NULL;
    }
    if (spread->form.kind != SPLIT_NONE) {
        if (all_texts_fill(spread, topology, arena))
            return spread;
        if (!spread->input.whole && !spread->form.locks) { /* each table alone can be asked */
            spread->input.whole = true;
            return fanout_fill(spread, topology, database, arena, err);
        }
        foreign_error(err);
        return NULL;
    }
    error_set(err, SQLSTATE_FEATURE_NOT_SUPPORTED, "this statement cannot be run over several shards");
    error_detail(err, "Not possible: %s.", spread->form.reason);
    error_hint(err, "Fix the shard key of every distributed table with key = value, or write it "
                    "otherwise (docs/sql.md).");
    return NULL;
}

const Fanout *fanout_make(const PlanInput *input, const PlanStatement *statement, const FanoutRef *refs,
                          bool catalog, Arena *arena, Error *err)
{
    Fanout *spread = arena_new(arena, Fanout);
    FunctionLookup *lookup = arena_new(arena, FunctionLookup);
    uint32_t count = statement->shape->table_count;
    SplitTable *tables = tables_fill(refs, count, arena);
    if (!spread || !lookup || !tables) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        return NULL;
    }
    *lookup = (FunctionLookup){input->topology->catalogs[input->database], input->search_path, input->user};
    spread->refs = refs;
    spread->input = (SplitInput){.shape = statement->shape,
                                 .text = statement->text,
                                 .tables = tables,
                                 .function = function_look,
                                 .context = lookup,
                                 .now = input->now,
                                 .fetch_every = input->in_transaction,
                                 .whole = input->whole || catalog,
                                 .home = catalog,
                                 .arena = arena};
    return fanout_fill(spread, input->topology, input->database, arena, err);
}

/* Nothing is fetched but one row, to have a beginning. */
Fanout *fanout_alone(bool system, uint32_t home, Slice source, Arena *arena)
{
    Fanout *fanout = arena_new(arena, Fanout);
    SplitRelation *relation = arena_new(arena, SplitRelation);
    FanoutLegs *legs = arena_new(arena, FanoutLegs);
    uint32_t *shard = arena_new(arena, uint32_t);
    Slice *text = arena_new(arena, Slice);
    if (!fanout || !relation || !legs || !shard || !text)
        return NULL;
    *shard = home;
    *text = SLICE("SELECT 1 AS one");
    *legs = (FanoutLegs){.shards = shard, .count = 1, .texts = text};
    *relation = (SplitRelation){.table = -1, .name = "shoal_1", .leg = *text};
    fanout->form = (SplitForm){.kind = SPLIT_GATHER, .relations = relation, .relation_count = 1, .final = source,
                               .system = system, .reason = "the statement's rows are made on one server"};
    fanout->relations = legs;
    return fanout;
}
