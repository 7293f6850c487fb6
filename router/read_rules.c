/*
 * read_rules.c - why this file exists: a replica refuses to write by itself, but it does not know that
 * an advisory lock taken there protects nobody, or that pg_is_in_recovery() was asked of the cluster.
 */
#include "router/read_rules.h"

#include <string.h>

#include "batcher/names.h"

#define DEPTH_MAX 8 /* views of views */

/* Declared STABLE or IMMUTABLE, and yet about the server or session that runs them. */
static const char *const ABOUT_THE_SERVER[] = {
    "inet_server_addr", "inet_server_port", "pg_conf_load_time", "pg_current_snapshot",
    "pg_current_xact_id_if_assigned", "pg_postmaster_start_time", "pg_snapshot_xip",
    "pg_visible_in_snapshot", "txid_current_if_assigned", "txid_current_snapshot",
    "txid_snapshot_xip", "txid_visible_in_snapshot", "pg_listening_channels", "pg_my_temp_schema",
    "pg_is_other_temp_schema", "pg_lock_status", "pg_prepared_xact", "pg_prepared_statement", "pg_cursor",
};
/* Declared VOLATILE only because they answer differently each time. */
static const char *const HARMLESS[] = {"clock_timestamp", "gen_random_uuid", "pg_sleep", "random", "timeofday"};

static bool is_among(Slice name, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (slice_is(name, list[i]))
            return true;
    return false;
}

static ReadRule check_traits(const Shape *shape)
{
    if (shape->kind != SHAPE_SELECT || shape->shoal_call)
        return READ_RULE_KIND;
    if (shape->traits & SHAPE_HAS_LOCKING)
        return READ_RULE_LOCKING;
    if (shape->traits & (SHAPE_HAS_INTO | SHAPE_HAS_MODIFYING_CTE))
        return READ_RULE_CLAUSE;
    return shape->traits & (SHAPE_HAS_TEMP | SHAPE_LEAVES_STATE | SHAPE_READS_STATE) ? READ_RULE_STATE
                                                                                    : READ_MAY_GO;
}

/* What a view's query or a policy calls: none of it is volatile, nor about the server it runs on. `names`:
 * of pg_catalog bare, of others with their schema, separated by commas. */
static bool calls_may_go(Slice names)
{
    while (names.len) {
        const uint8_t *comma = memchr(names.data, ',', names.len);
        Slice name = comma ? slice_of(names.data, (size_t)(comma - names.data)) : names;
        if (is_among(name, ABOUT_THE_SERVER, ARRAY_LEN(ABOUT_THE_SERVER)))
            return false;
        names = slice_from(names, name.len + (comma != NULL));
    }
    return true;
}

static ReadRule check_relation(const ReadRuleInput *in, const CatalogTable *table, uint32_t depth);

/* By PostgreSQL's own trees: what a view or a policy reads is held to the same rules, as deep as it goes. */
static ReadRule check_within(const ReadRuleInput *in, const CatalogTable *table, uint32_t depth)
{
    const CatalogReads *reads = table->reads;
    if (!reads || depth == DEPTH_MAX)
        return table->kind == 'v' ? READ_RULE_TABLE : READ_RULE_SECURITY;
    if (reads->is_volatile || !calls_may_go(reads->stable))
        return READ_RULE_FUNCTION;
    for (uint32_t i = 0; i < reads->table_count; i++) {
        if (reads->tables[i] == table->oid)
            continue; /* a policy that looks at its own table */
        const CatalogTable *inner = catalog_table_by_oid(in->catalog, reads->tables[i]);
        ReadRule rule = inner ? check_relation(in, inner, depth + 1) : READ_RULE_TABLE;
        if (rule != READ_MAY_GO)
            return rule;
    }
    return READ_MAY_GO;
}

static ReadRule check_relation(const ReadRuleInput *in, const CatalogTable *table, uint32_t depth)
{
    bool kind = table->kind == 'r' || table->kind == 'p' || table->kind == 'm' || table->kind == 'v';
    /* Children of plain inheritance may be foreign tables; partitions may be too. */
    bool children = table->has_children && table->kind == 'r';
    if (!kind || table->persistence != 'p' || children)
        return READ_RULE_TABLE;
    return table->kind == 'v' || table->row_security ? check_within(in, table, depth) : READ_MAY_GO;
}

static ReadRule check_tables(const ReadRuleInput *in)
{
    for (uint32_t i = 0; i < in->shape->table_count; i++) {
        ShapeName name = in->shape->tables[i].name;
        const CatalogTable *table = catalog_resolve_table(in->catalog, name.schema, name.name,
                                                          in->search_path, in->user);
        ReadRule rule = table ? check_relation(in, table, 0) : READ_RULE_TABLE;
        if (rule != READ_MAY_GO)
            return rule;
    }
    return READ_MAY_GO;
}

static bool function_may_go(const CatalogFunction *function)
{
    bool own = slice_is(function->schema, "pg_catalog");
    if (function->kind == 'p')
        return false;
    if (function->volatility == 'v')
        return own && is_among(function->name, HARMLESS, ARRAY_LEN(HARMLESS));
    return !own || !is_among(function->name, ABOUT_THE_SERVER, ARRAY_LEN(ABOUT_THE_SERVER));
}

static ReadRule check_functions(const ReadRuleInput *in)
{
    for (uint32_t i = 0; i < in->shape->function_count; i++) {
        ShapeName name = in->shape->functions[i];
        const CatalogFunction *function = catalog_resolve_function(
            in->catalog, name.schema, name.name, in->search_path, in->user);
        if (!function || !function_may_go(function))
            return READ_RULE_FUNCTION;
    }
    /* An operator of the user may be a function of any kind. */
    for (uint32_t i = 0; i < in->shape->operator_count; i++) {
        ShapeName name = in->shape->operators[i];
        if ((name.schema.len && !slice_is(name.schema, "pg_catalog")) || !names_builtin_operator(name.name))
            return READ_RULE_FUNCTION;
    }
    return READ_MAY_GO;
}

ReadRule read_rule(const ReadRuleInput *input)
{
    ReadRule rule = check_traits(input->shape);
    if (rule != READ_MAY_GO)
        return rule;
    if (!input->catalog || !input->catalog->loaded || input->path_unknown)
        return READ_RULE_CATALOG;
    rule = check_tables(input);
    return rule != READ_MAY_GO ? rule : check_functions(input);
}

static bool says_serializable(Slice text)
{
    static const char WORD[] = "serializable";
    for (size_t at = 0; at + sizeof WORD - 1 <= text.len; at++)
        if (slice_equal_nocase(slice_of(text.data + at, sizeof WORD - 1), SLICE("serializable")))
            return true;
    return false;
}

bool read_rule_begin(const Shape *shape, Slice default_isolation)
{
    if (shape->kind != SHAPE_BEGIN || !(shape->traits & SHAPE_HAS_READ_ONLY))
        return false;
    Slice isolation = shape->setting_value.len ? shape->setting_value : default_isolation;
    return !says_serializable(isolation);
}

const char *read_rule_text(ReadRule rule)
{
    static const char *const TEXTS[READ_RULE_COUNT] = {
        [READ_MAY_GO] = "replica",
        [READ_RULE_KIND] = "no_select",
        [READ_RULE_LOCKING] = "locking_clause",
        [READ_RULE_CLAUSE] = "writing_clause",
        [READ_RULE_STATE] = "session_state",
        [READ_RULE_CATALOG] = "catalog_unknown",
        [READ_RULE_TABLE] = "table_kind",
        [READ_RULE_SECURITY] = "row_security",
        [READ_RULE_FUNCTION] = "volatile_function",
    };
    return TEXTS[rule];
}
