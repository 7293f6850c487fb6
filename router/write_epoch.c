/*
 * write_epoch.c - from a statement to the counters it moves.
 *
 *     INSERT INTO t                                       t, all
 *     DELETE FROM t, which others refer to ON CASCADE      unknown, all
 *     writes a view, a partition's parent, has triggers    unknown, all
 *     DDL, CALL, DO, SELECT f() with f volatile            unknown, all
 *     SELECT FROM t depends on                            t, unknown
 *     SELECT FROM partitioned depends on                  all
 *
 * Names are told apart by database and name, not by schema: what a search_path finds may change.
 */
#include "router/write_epoch.h"

static const DatabaseConfig *database_of(const WriteScope *scope)
{
    return &scope->topology->config->databases[scope->database];
}

/* Databases of one name on the servers are one, however clients call them. */
static uint16_t slot_of(const WriteScope *scope, Slice table)
{
    uint64_t hash = slice_hash(table, slice_hash(slice_str(database_of(scope)->dbname), 0) | 1);
    return (uint16_t)(hash % WRITE_EPOCH_SLOTS);
}

static void add_slot(WriteSet *set, uint16_t slot)
{
    for (uint8_t i = 0; i < set->count; i++)
        if (set->slots[i] == slot)
            return;
    if (set->count < WRITE_SET_MAX)
        set->slots[set->count++] = slot;
    else
        set->full = true;
}

/* No table has a name like these. */
static void add_unknown(WriteSet *set, const WriteScope *scope)
{
    add_slot(set, slot_of(scope, SLICE("\1unknown")));
}

static void add_any(WriteSet *set, const WriteScope *scope)
{
    add_slot(set, slot_of(scope, SLICE("\1any")));
}

static const CatalogTable *table_of(const WriteScope *scope, const ShapeTable *table)
{
    const Catalog *catalog = scope->topology->catalogs[scope->database];
    if (!catalog->loaded || scope->names_unsure)
        return NULL;
    return catalog_resolve_table(catalog, table->name.schema, table->name.name, scope->search_path,
                                 scope->user);
}

bool write_scope_calls_unknown(const WriteScope *scope, const Shape *shape)
{
    const Catalog *catalog = scope->topology->catalogs[scope->database];
    for (uint32_t i = 0; i < shape->function_count; i++) {
        const ShapeName *name = &shape->functions[i];
        const CatalogFunction *function =
            catalog->loaded && !scope->names_unsure
                ? catalog_resolve_function(catalog, name->schema, name->name, scope->search_path,
                                           scope->user)
                : NULL;
        if (!function || (function->volatility == 'v' && !slice_is(function->schema, "pg_catalog")))
            return true;
    }
    return false;
}

/* ---- writes ---------------------------------------------------------------------------------- */

static bool target_is_plain(const Shape *shape, const CatalogTable *table)
{
    bool cascades = table && table->cascades && shape->kind != SHAPE_INSERT && shape->kind != SHAPE_COPY_IN;
    return table && table->kind == 'r' && !table->has_children && !table->has_rules_or_triggers && !cascades;
}

static void add_targets(WriteSet *set, const WriteScope *scope, const Shape *shape)
{
    uint32_t targets = 0;
    bool plain = !(shape->traits & SHAPE_HAS_INTO) && !write_scope_calls_unknown(scope, shape);
    if (shape->traits & SHAPE_HAS_MODIFYING_CTE)
        plain = false; /* another statement inside this one; which of them cascades? */
    for (uint32_t i = 0; i < shape->table_count && plain; i++) {
        if (!shape->tables[i].target)
            continue;
        targets++;
        plain = target_is_plain(shape, table_of(scope, &shape->tables[i]));
        if (plain)
            add_slot(set, slot_of(scope, shape->tables[i].name.name));
    }
    if (!plain || targets == 0)
        add_unknown(set, scope);
    add_any(set, scope);
}

static void add_unknown_write(WriteSet *set, const WriteScope *scope)
{
    add_unknown(set, scope);
    add_any(set, scope);
}

void write_set_add_writes(WriteSet *set, const WriteScope *scope, const Shape *shape)
{
    switch (shape->kind) {
    case SHAPE_MULTI:
        for (uint32_t i = 0; i < shape->part_count; i++)
            write_set_add_writes(set, scope, shape->parts[i]);
        break;
    case SHAPE_INSERT:
    case SHAPE_UPDATE:
    case SHAPE_DELETE:
    case SHAPE_MERGE:
    case SHAPE_COPY_IN:
        add_targets(set, scope, shape);
        break;
    case SHAPE_SELECT:
    case SHAPE_DECLARE:
    case SHAPE_COPY_OUT:
    case SHAPE_EXPLAIN: {
        uint32_t writes = SHAPE_HAS_INTO | SHAPE_HAS_MODIFYING_CTE | SHAPE_HAS_ANALYZE;
        if ((shape->traits & writes) || shape->shoal_call || write_scope_calls_unknown(scope, shape))
            add_unknown_write(set, scope);
        break;
    }
    case SHAPE_EMPTY:
    case SHAPE_BEGIN:
    case SHAPE_COMMIT:
    case SHAPE_ROLLBACK:
    case SHAPE_SAVEPOINT:
    case SHAPE_RELEASE:
    case SHAPE_ROLLBACK_TO:
    case SHAPE_PREPARE_TRANSACTION: /* COMMIT PREPARED is what makes it seen */
    case SHAPE_SET:
    case SHAPE_SET_LOCAL:
    case SHAPE_RESET:
    case SHAPE_RESET_ALL:
    case SHAPE_SHOW:
    case SHAPE_DISCARD:
    case SHAPE_PREPARE:
    case SHAPE_DEALLOCATE:
    case SHAPE_FETCH:
    case SHAPE_CLOSE:
    case SHAPE_LISTEN:
    case SHAPE_NOTIFY:
    case SHAPE_LOCK:
        break;
    default:
        add_unknown_write(set, scope);
        break;
    }
}

/* ---- reads ----------------------------------------------------------------------------------- */

bool write_set_add_reads(WriteSet *set, const WriteScope *scope, const Shape *shape)
{
    for (uint32_t i = 0; i < shape->table_count; i++) {
        const CatalogTable *table = table_of(scope, &shape->tables[i]);
        if (!table)
            return false;
        if (table->kind != 'r' || table->has_children)
            add_any(set, scope); /* what is written may have another name */
        else
            add_slot(set, slot_of(scope, shape->tables[i].name.name));
    }
    add_unknown(set, scope);
    return !set->full;
}

/* ---- the counters ---------------------------------------------------------------------------- */

void write_epochs_increase(WriteEpochs *epochs, const WriteSet *set)
{
    for (uint32_t i = 0; i < (set->full ? WRITE_EPOCH_SLOTS : set->count); i++)
        atomic_fetch_add_explicit(&epochs->slots[set->full ? i : set->slots[i]], 1,
                                  memory_order_seq_cst);
}

uint64_t write_epochs_sum(const WriteEpochs *epochs, const WriteSet *set)
{
    uint64_t sum = 0;
    for (uint8_t i = 0; i < set->count; i++)
        sum += atomic_load_explicit(&epochs->slots[set->slots[i]], memory_order_seq_cst);
    return sum;
}
