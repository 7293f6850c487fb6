/*
 * shape_ddl.c - DDL of which more is known than its kind: which columns change, what is to be unique, and what
 * cannot run inside a transaction block.
 */
#include "query/shape_build.h"

void utility_read(Build *build, const Node *node)
{
    Level level;
    level_begin(build, &level, NULL);
    facts_node(build, &level, node);
}

/* --- DDL that a distributed table cannot bear ------------------------------------------------- */

static void column_changed(Build *build, const char *name)
{
    Shape *shape = build->shape;
    Slice *column =
        build_add(build, build->arena, &shape->assigned, &shape->assigned_count, sizeof(Slice));
    if (column)
        *column = build_text(build, name);
}

void rename_read(Build *build, const Node *node)
{
    const PgQuery__RenameStmt *rename = node->rename_stmt;
    kind_set(build, SHAPE_DDL);
    switch (rename->rename_type) {
    case PG_QUERY__OBJECT_TYPE__OBJECT_TABLE:
    case PG_QUERY__OBJECT_TYPE__OBJECT_VIEW: /* ALTER VIEW and ALTER INDEX may name a table, too */
    case PG_QUERY__OBJECT_TYPE__OBJECT_INDEX:
    case PG_QUERY__OBJECT_TYPE__OBJECT_SEQUENCE:
    case PG_QUERY__OBJECT_TYPE__OBJECT_MATVIEW:
        build_trait(build, SHAPE_MOVES_TABLE);
        break;
    case PG_QUERY__OBJECT_TYPE__OBJECT_SCHEMA:
        build_trait(build, SHAPE_MOVES_TABLE);
        build->shape->statement = build_text(build, rename->subname);
        break;
    case PG_QUERY__OBJECT_TYPE__OBJECT_COLUMN:
        column_changed(build, rename->subname);
        break;
    default:
        break;
    }
    utility_read(build, node);
}

void new_schema_read(Build *build, const Node *node)
{
    kind_set(build, SHAPE_DDL);
    build_trait(build, SHAPE_MOVES_TABLE);
    utility_read(build, node);
}

/* The names of a list, each with a separator behind it. */
static void unique_add(Build *build, PgQuery__Node *const *names, size_t n)
{
    Shape *shape = build->shape;
    size_t len = 0;
    for (size_t i = 0; i < n; i++)
        len += tree_string(names[i]).len + 1;
    uint8_t *text = arena_alloc(build->arena, len + 1);
    Slice *unique = text ? build_add(build, build->arena, &shape->uniques, &shape->unique_count, sizeof(Slice)) : NULL;
    build->failed |= !text;
    if (!unique)
        return;
    *unique = slice_of(text, len);
    for (size_t i = 0; i < n; i++) {
        Slice name = tree_string(names[i]);
        if (name.len)
            memcpy(text, name.data, name.len);
        text[name.len] = SHAPE_UNIQUE_SEPARATOR;
        text += name.len + 1;
    }
}

/* EXCLUDE (x WITH =): rows of different x do not exclude one another. */
static bool excludes_equal(const PgQuery__List *pair)
{
    const Node *name = pair->n_items > 1 ? pair->items[1] : NULL;
    return name && name->node_case == PG_QUERY__NODE__NODE_LIST && name->list->n_items &&
           slice_is(tree_string(name->list->items[name->list->n_items - 1]), "=");
}

/* Index elements: `name`, or an expression without one. */
static void unique_add_elements(Build *build, PgQuery__Node *const *elements, size_t n)
{
    PgQuery__Node **names = arena_array(build->arena, PgQuery__Node *, n + 1);
    PgQuery__Node *nodes = arena_array(build->arena, PgQuery__Node, n + 1);
    PgQuery__String *strings = arena_array(build->arena, PgQuery__String, n + 1);
    build->failed |= !names || !nodes || !strings;
    for (size_t i = 0; !build->failed && i < n; i++) {
        const Node *element = elements[i];
        bool equal = true;
        if (element->node_case == PG_QUERY__NODE__NODE_LIST && element->list->n_items) { /* EXCLUDE: (element, operator) */
            equal = excludes_equal(element->list);
            element = element->list->items[0];
        }
        bool named = equal && element->node_case == PG_QUERY__NODE__NODE_INDEX_ELEM;
        pg_query__string__init(&strings[i]);
        pg_query__node__init(&nodes[i]);
        strings[i].sval = named ? element->index_elem->name : (char *)(uintptr_t)"";
        nodes[i].node_case = PG_QUERY__NODE__NODE_STRING;
        nodes[i].string = &strings[i];
        names[i] = &nodes[i];
    }
    if (!build->failed)
        unique_add(build, names, n);
}

/* `column`: of a column's own constraint; NULL: the constraint names its columns. */
static void unique_read(Build *build, const Node *node, const char *column)
{
    if (node->node_case != PG_QUERY__NODE__NODE_CONSTRAINT)
        return;
    const PgQuery__Constraint *constraint = node->constraint;
    bool unique = constraint->contype == PG_QUERY__CONSTR_TYPE__CONSTR_UNIQUE ||
                  constraint->contype == PG_QUERY__CONSTR_TYPE__CONSTR_PRIMARY;
    if (constraint->contype == PG_QUERY__CONSTR_TYPE__CONSTR_EXCLUSION)
        unique_add_elements(build, constraint->exclusions, constraint->n_exclusions);
    if (!unique || (constraint->indexname && *constraint->indexname)) /* USING INDEX: it was looked at before */
        return;
    PgQuery__String string = PG_QUERY__STRING__INIT;
    PgQuery__Node own = PG_QUERY__NODE__INIT, *owns[] = {&own};
    own.node_case = PG_QUERY__NODE__NODE_STRING;
    own.string = &string;
    string.sval = (char *)(uintptr_t)(column ? column : "");
    if (column)
        unique_add(build, owns, 1);
    else
        unique_add(build, constraint->keys, constraint->n_keys);
}

static void column_uniques_read(Build *build, const Node *node)
{
    if (node->node_case != PG_QUERY__NODE__NODE_COLUMN_DEF)
        return;
    const PgQuery__ColumnDef *column = node->column_def;
    for (size_t i = 0; i < column->n_constraints; i++)
        unique_read(build, column->constraints[i], column->colname);
}

void create_read(Build *build, const Node *node)
{
    const PgQuery__CreateStmt *create = node->create_stmt;
    kind_set(build, SHAPE_DDL);
    for (size_t i = 0; i < create->n_table_elts; i++) {
        unique_read(build, create->table_elts[i], NULL);
        column_uniques_read(build, create->table_elts[i]);
    }
    build->shape->makes_table = true;
    build->shape->makes_partition = create->n_inh_relations && create->partbound;
    if (create->n_inh_relations && !create->partbound)
        build_trait(build, SHAPE_MOVES_TABLE);
    utility_read(build, node);
}

static void alter_facts(Build *build, const PgQuery__AlterTableStmt *alter)
{
    for (size_t i = 0; i < alter->n_cmds; i++) {
        if (alter->cmds[i]->node_case != PG_QUERY__NODE__NODE_ALTER_TABLE_CMD)
            continue;
        const PgQuery__AlterTableCmd *cmd = alter->cmds[i]->alter_table_cmd;
        switch (cmd->subtype) {
        case PG_QUERY__ALTER_TABLE_TYPE__AT_DropColumn:
        case PG_QUERY__ALTER_TABLE_TYPE__AT_AlterColumnType:
            column_changed(build, cmd->name);
            break;
        case PG_QUERY__ALTER_TABLE_TYPE__AT_AddInherit:
        case PG_QUERY__ALTER_TABLE_TYPE__AT_DropInherit:
        case PG_QUERY__ALTER_TABLE_TYPE__AT_AttachPartition: /* with rows that are elsewhere */
        case PG_QUERY__ALTER_TABLE_TYPE__AT_DetachPartition:
            build_trait(build, SHAPE_MOVES_TABLE);
            break;
        case PG_QUERY__ALTER_TABLE_TYPE__AT_AddConstraint:
            if (cmd->def)
                unique_read(build, cmd->def, NULL);
            break;
        case PG_QUERY__ALTER_TABLE_TYPE__AT_AddColumn:
            if (cmd->def)
                column_uniques_read(build, cmd->def);
            break;
        default:
            break;
        }
    }
}

/* --- DDL that cannot run inside a transaction block ---------------------------------------- */

static void alone_if(Build *build, const Node *node, bool alone)
{
    kind_set(build, alone ? SHAPE_DDL_ALONE : SHAPE_DDL);
    utility_read(build, node);
}
void alone_read(Build *build, const Node *node) { alone_if(build, node, true); }
void index_read(Build *build, const Node *node)
{
    const PgQuery__IndexStmt *index = node->index_stmt;
    alone_if(build, node, index->concurrent);
    if (index->unique)
        unique_add_elements(build, index->index_params, index->n_index_params);
    if (index->concurrent && index->if_not_exists)
        build->shape->statement = build_text(build, index->idxname);
}

void drop_read(Build *build, const Node *node)
{
    const PgQuery__DropStmt *drop = node->drop_stmt;
    kind_set(build, drop->concurrent ? SHAPE_DDL_ALONE : SHAPE_DDL);
    bool tables = drop->remove_type == PG_QUERY__OBJECT_TYPE__OBJECT_TABLE ||
                  drop->remove_type == PG_QUERY__OBJECT_TYPE__OBJECT_VIEW ||
                  drop->remove_type == PG_QUERY__OBJECT_TYPE__OBJECT_MATVIEW ||
                  drop->remove_type == PG_QUERY__OBJECT_TYPE__OBJECT_FOREIGN_TABLE;
    build->shape->drops_tables = tables;
    for (size_t i = 0; tables && i < drop->n_objects; i++) {
        if (drop->objects[i]->node_case != PG_QUERY__NODE__NODE_LIST)
            continue;
        const PgQuery__List *names = drop->objects[i]->list;
        size_t n = names->n_items;
        PgQuery__RangeVar range = {
            .relname = n > 0 ? names->items[n - 1]->string->sval : NULL,
            .schemaname = n > 1 ? names->items[n - 2]->string->sval : NULL,
        };
        table_add(build, NULL, &range, true);
    }
}

void alter_table_read(Build *build, const Node *node)
{
    const PgQuery__AlterTableStmt *alter = node->alter_table_stmt;
    bool alone = false;
    alter_facts(build, alter);
    for (size_t i = 0; i < alter->n_cmds; i++) {
        const Node *def = alter->cmds[i]->alter_table_cmd->def;
        alone = alone || (def && def->node_case == PG_QUERY__NODE__NODE_PARTITION_CMD &&
                          def->partition_cmd->concurrent);
    }
    alone_if(build, node, alone);
}

/* ALTER DATABASE x SET TABLESPACE. */
void alter_database_read(Build *build, const Node *node)
{
    const PgQuery__AlterDatabaseStmt *alter = node->alter_database_stmt;
    bool alone = false;
    for (size_t i = 0; i < alter->n_options; i++)
        alone = alone || slice_is(slice_str(alter->options[i]->def_elem->defname), "tablespace");
    alone_if(build, node, alone);
}

void vacuum_read(Build *build, const Node *node)
{
    utility_read(build, node);
    kind_set(build, node->vacuum_stmt->is_vacuumcmd ? SHAPE_DDL_ALONE : SHAPE_MAINTENANCE);
}
void cluster_read(Build *build, const Node *node)
{
    utility_read(build, node);
    kind_set(build, node->cluster_stmt->relation ? SHAPE_MAINTENANCE : SHAPE_DDL_ALONE);
}
void maintenance_read(Build *build, const Node *node)
{
    kind_set(build, SHAPE_MAINTENANCE);
    utility_read(build, node);
}
void function_create_read(Build *build, const Node *node)
{
    const PgQuery__CreateFunctionStmt *create = node->create_function_stmt;
    kind_set(build, SHAPE_DDL);
    if (create->n_funcname > 1 && slice_is(tree_string(create->funcname[0]), "pg_temp"))
        build_trait(build, SHAPE_HAS_TEMP | SHAPE_LEAVES_STATE);
    utility_read(build, node);
}
