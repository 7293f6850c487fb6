/*
 * catalog_rows.c - PostgreSQL's catalog asked for the facts of meta/catalog.h, and nothing else.
 *
 * Every fact that decides about right or wrong results is asked so that doubt says no: equal_image
 * needs PostgreSQL's own support function by name, an index counts only when it is valid, whole and
 * of the column's own collation, a plain type only when it came with PostgreSQL.
 */
#include "admin/catalog_rows.h"

/* SQL keeps its own lines. */
/* clang-format off */

/* Namespaces that no client statement means. */
#define SESSION_SCHEMAS "n.nspname !~ '^pg_(toast|temp_|toast_temp_)'"
#define TABLE_KINDS "'r', 'p', 'v', 'm', 'f', 'S'"
#define HASH_ROWS(oid) "count(*), sum(pg_catalog.hashint8extended((" oid ")::int8, xmin::text::int8))"

/*
 * The poll: any committed DDL changes the row version (xmin) of some row here. VACUUM and ANALYZE do
 * not: they update pg_class in place. Rows of temporary objects are left out where they are many.
 * Built-in relations are left out: nobody alters them.
 */
static const char DIGEST_SQL[] =
    "WITH n AS MATERIALIZED (SELECT n.oid FROM pg_namespace n WHERE " SESSION_SCHEMAS "),"
    " c AS MATERIALIZED (SELECT c.oid, c.xmin FROM pg_class c JOIN n ON n.oid = c.relnamespace"
    "   WHERE c.oid >= 16384 AND c.relpersistence <> 't') "
    "SELECT pg_catalog.hashtextextended(pg_catalog.concat_ws('|',"
    " (SELECT (" HASH_ROWS("oid") ")::text FROM c),"
    " (SELECT (count(*), sum(pg_catalog.hashint8extended(a.attrelid::int8 * 2048 + a.attnum,"
    "    a.xmin::text::int8)))::text FROM pg_attribute a JOIN c ON c.oid = a.attrelid),"
    " (SELECT (" HASH_ROWS("oid") ")::text FROM pg_namespace n WHERE " SESSION_SCHEMAS "),"
    " (SELECT (count(*), sum(pg_catalog.hashint8extended(i.indexrelid::int8,"
    "    i.xmin::text::int8)))::text FROM pg_index i JOIN c ON c.oid = i.indrelid),"
    " (SELECT (" HASH_ROWS("oid") ")::text FROM pg_proc),"
    " (SELECT (" HASH_ROWS("oid") ")::text FROM pg_policy),"
    " (SELECT (" HASH_ROWS("oid") ")::text FROM pg_rewrite WHERE oid >= 16384),"
    " (SELECT (" HASH_ROWS("oid") ")::text FROM pg_trigger),"
    " (SELECT (" HASH_ROWS("inhrelid") ")::text FROM pg_inherits),"
    " (SELECT (" HASH_ROWS("oid") ")::text FROM pg_collation),"
    " (SELECT (count(*), sum(pg_catalog.hashint8extended(t.oid::int8, t.xmin::text::int8)))::text"
    "    FROM pg_type t JOIN n ON n.oid = t.typnamespace),"
    " (SELECT (count(*), sum(pg_catalog.hashint8extended((setdatabase::int8 << 32) | setrole::int8,"
    "    xmin::text::int8)))::text FROM pg_db_role_setting),"
    " (SELECT pg_catalog.string_agg(oid || rolname || rolsuper::text, ',' ORDER BY oid) FROM pg_roles"
    "    WHERE oid >= 16384),"
    " (SELECT (count(*), sum(pg_catalog.hashint8extended((roleid::int8 << 32) | member::int8, xmin::text::int8)))::text"
    "    FROM pg_auth_members WHERE member >= 16384),"
    " (SELECT pg_catalog.string_agg(name || '=' || reset_val, ',' ORDER BY name) FROM pg_settings"
    "    WHERE name IN ('search_path', 'default_transaction_isolation', 'server_version_num'))"
    "), 0)";

/*
 * The search_path that a role without settings of its own starts with: the database's, else that of
 * ALTER ROLE ALL, else the server's. The server's is what our own session would reset to, unless our
 * role has its own; then PostgreSQL's built-in default must do.
 * Isolation: serializable for anybody here is reported; who is affected is not known.
 */
static const char SETTINGS_SQL[] =
    "WITH s AS (SELECT d.setdatabase, d.setrole, v FROM pg_db_role_setting d, unnest(d.setconfig) v"
    "   WHERE d.setdatabase IN (0, (SELECT oid FROM pg_database"
    "                               WHERE datname = pg_catalog.current_database()))) "
    "SELECT pg_catalog.current_setting('server_version_num'),"
    " pg_catalog.current_setting('server_encoding'),"
    " coalesce("
    "  (SELECT substr(v, 13) FROM s WHERE setrole = 0 AND v LIKE 'search\\_path=%'"
    "     ORDER BY setdatabase DESC LIMIT 1),"
    "  CASE WHEN EXISTS (SELECT FROM s JOIN pg_roles r ON r.oid = s.setrole"
    "     WHERE r.rolname = session_user AND v LIKE 'search\\_path=%') THEN '\"$user\", public'"
    "  ELSE (SELECT reset_val FROM pg_settings WHERE name = 'search_path') END),"
    " (SELECT reset_val FROM pg_settings WHERE name = 'default_transaction_isolation')"
    "    = 'serializable' OR EXISTS (SELECT FROM s"
    "       WHERE v ILIKE 'default\\_transaction\\_isolation=serializable')";

static const char ROLE_PATHS_SQL[] =
    "SELECT DISTINCT ON (r.rolname) r.rolname, substr(v, 13)"
    " FROM pg_db_role_setting d JOIN pg_roles r ON r.oid = d.setrole, unnest(d.setconfig) v"
    " WHERE v LIKE 'search\\_path=%' AND d.setdatabase IN (0, (SELECT oid FROM pg_database"
    "   WHERE datname = pg_catalog.current_database()))"
    " ORDER BY r.rolname, d.setdatabase DESC";

static const char RELATIONS_SQL[] =
    "SELECT n.nspname, c.relname, c.oid, c.relkind, c.relpersistence, c.relrowsecurity,"
    " EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.rulename <> '_RETURN')"
    "  OR EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal"
    "   AND t.tgname !~ '^shoal_guard_[0-9]+_[wd]$')," /* a move's own; it lets pass what belongs there */
    " EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid),"
    " EXISTS (SELECT FROM pg_constraint k WHERE k.confrelid = c.oid AND k.contype = 'f'"
    "   AND (k.confdeltype NOT IN ('a', 'r') OR k.confupdtype NOT IN ('a', 'r'))),"
    " CASE WHEN c.relispartition THEN coalesce(pg_catalog.pg_partition_root(c.oid)::oid, 0) ELSE 0 END"
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE c.relkind IN (" TABLE_KINDS ") AND c.relpersistence <> 't' AND " SESSION_SCHEMAS
    " ORDER BY c.oid";

/*
 * image:  types whose default btree operator class has support function 4 (equalimage)
 * keys:   per column and collation, the whole, valid, immediate indexes that begin with it
 * varchar has no operator class of its own and uses text's; char without a length keeps trailing
 * blanks that = ignores.
 * A default is volatile when a volatile function's OID stands in its expression tree; the
 * dependencies of pg_depend leave built-in functions out.
 */
static const char COLUMNS_SQL[] =
    "WITH image AS (SELECT o.opcintype AS type, p.amproc::oid AS proc FROM pg_opclass o"
    "   JOIN pg_am m ON m.oid = o.opcmethod AND m.amname = 'btree'"
    "   JOIN pg_amproc p ON p.amprocfamily = o.opcfamily AND p.amproclefttype = o.opcintype"
    "    AND p.amprocrighttype = o.opcintype AND p.amprocnum = 4 WHERE o.opcdefault),"
    " keys AS (SELECT i.indrelid, i.indkey[0] AS attnum, i.indcollation[0] AS collation,"
    "   bool_or(i.indisunique AND i.indimmediate AND i.indnkeyatts = 1 AND o.opcdefault) AS alone"
    "   FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid"
    "   JOIN pg_am m ON m.oid = x.relam JOIN pg_opclass o ON o.oid = i.indclass[0]"
    "   WHERE i.indisvalid AND i.indisready AND i.indislive AND i.indpred IS NULL"
    "    AND m.amname IN ('btree', 'hash') GROUP BY 1, 2, 3),"
    " equal AS (SELECT o.opcintype AS type FROM pg_opclass o"
    "   JOIN pg_am m ON m.oid = o.opcmethod AND m.amname = 'btree'"
    "   JOIN pg_amop x ON x.amopfamily = o.opcfamily AND x.amoplefttype = o.opcintype"
    "    AND x.amoprighttype = o.opcintype AND x.amopstrategy = 3"
    "   JOIN pg_operator e ON e.oid = x.amopopr JOIN pg_proc p ON p.oid = e.oprcode"
    "   WHERE o.opcdefault AND p.provolatile = 'i'),"
    " volatile AS (SELECT d.adrelid, d.adnum FROM pg_attrdef d"
    "   WHERE EXISTS (SELECT FROM pg_catalog.regexp_matches(d.adbin::text,"
    "     ':(?:funcid|opfuncid) (\\d+)', 'g') AS f(id)"
    "     JOIN pg_proc p ON p.oid = f.id[1]::oid WHERE p.provolatile = 'v')),"
    " varying AS (SELECT d.adrelid, d.adnum FROM pg_attrdef d"
    "   WHERE d.adbin::text ~ '\\{SQLVALUEFUNCTION' OR EXISTS (SELECT FROM pg_catalog.regexp_matches("
    "     d.adbin::text, ':(?:funcid|opfuncid) (\\d+)', 'g') AS f(id)"
    "     JOIN pg_proc p ON p.oid = f.id[1]::oid WHERE p.provolatile <> 'i')),"
    " sequences AS (SELECT d.refobjid, d.refobjsubid, pg_catalog.min(pg_catalog.quote_ident(n.nspname) || '.'"
    "     || pg_catalog.quote_ident(s.relname)) AS name"
    "   FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'"
    "   JOIN pg_namespace n ON n.oid = s.relnamespace"
    "   WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass"
    "     AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0 GROUP BY 1, 2) "
    "SELECT a.attrelid, a.attname, a.atttypid, a.atttypmod, a.attnum, a.attnotnull,"
    " CASE g.proc WHEN 'btequalimage'::regproc THEN true"
    "   WHEN 'btvarstrequalimage'::regproc THEN coalesce(l.collisdeterministic, true)"
    "    AND (a.atttypid <> 'bpchar'::regtype OR a.atttypmod > 0)"
    "   ELSE false END,"
    " coalesce(l.collisdeterministic, true),"
    " k.indrelid IS NOT NULL, coalesce(k.alone, false),"
    " t.typtype = 'b' AND t.typnamespace = 'pg_catalog'::regnamespace AND t.oid < 16384,"
    " v.adrelid IS NOT NULL OR a.attidentity <> '',"
    " y.adrelid IS NOT NULL OR a.attidentity <> '', a.attgenerated <> '', a.attidentity, q.name,"
    " (t.typtype = 'e' OR (t.typtype = 'b' AND (t.oid IN (SELECT type FROM equal)"
    "    OR (t.typcategory = 'A' AND t.typelem IN (SELECT type FROM equal)))))"
    "  AND (SELECT p.provolatile <> 'v' FROM pg_proc p WHERE p.oid = t.typinput)"
    "  AND NOT EXISTS (SELECT FROM pg_cast f WHERE f.castsource = 'text'::regtype"
    "    AND f.casttarget = t.oid AND f.castmethod = 'f'),"
    " EXISTS (SELECT FROM pg_constraint f WHERE f.conrelid = a.attrelid AND f.contype = 'f'"
    "    AND a.attnum = ANY (f.conkey))"
    " FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
    " JOIN pg_namespace n ON n.oid = c.relnamespace"
    " JOIN pg_type t ON t.oid = a.atttypid"
    " LEFT JOIN pg_collation l ON l.oid = a.attcollation"
    " LEFT JOIN image g ON g.type = CASE a.atttypid WHEN 'varchar'::regtype THEN 'text'::regtype"
    "   ELSE a.atttypid END"
    " LEFT JOIN keys k ON k.indrelid = a.attrelid AND k.attnum = a.attnum"
    "   AND k.collation = a.attcollation"
    " LEFT JOIN volatile v ON v.adrelid = a.attrelid AND v.adnum = a.attnum"
    " LEFT JOIN varying y ON y.adrelid = a.attrelid AND y.adnum = a.attnum"
    " LEFT JOIN sequences q ON q.refobjid = a.attrelid AND q.refobjsubid = a.attnum"
    " WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN (" TABLE_KINDS ")"
    " AND c.relpersistence <> 't' AND " SESSION_SCHEMAS " ORDER BY a.attrelid, a.attnum";

/*
 * A view's query and a table's policies, as the trees that PostgreSQL keeps: which functions stand in
 * them, by themselves or behind operators, and which relations.
 */
static const char READS_SQL[] =
    "WITH tree AS (SELECT r.ev_class AS relation, r.ev_action::text AS tree FROM pg_rewrite r"
    "   JOIN pg_class c ON c.oid = r.ev_class AND c.relkind = 'v'"
    "   WHERE r.rulename = '_RETURN' AND c.oid >= 16384"
    "  UNION ALL SELECT p.polrelid, p.polqual::text FROM pg_policy p"
    "   WHERE p.polcmd IN ('r', '*') AND p.polqual IS NOT NULL"
    "  UNION ALL SELECT c.oid, '' FROM pg_class c WHERE c.relrowsecurity),"
    " named AS (SELECT relation, m[1] AS kind, m[2]::oid AS id FROM tree, LATERAL"
    "   pg_catalog.regexp_matches(tree,"
    "   ':(funcid|opfuncid|opno|aggfnoid|winfnoid|eqop|sortop|relid) (\\d+)', 'g') m),"
    " called AS (SELECT n.relation, p.provolatile, s.nspname, p.proname FROM named n"
    "   LEFT JOIN pg_operator o ON n.kind IN ('opno', 'eqop', 'sortop') AND o.oid = n.id"
    "   JOIN pg_proc p ON p.oid = coalesce(o.oprcode::oid, n.id) JOIN pg_namespace s ON s.oid = p.pronamespace"
    "   WHERE n.kind <> 'relid' AND n.id <> 0) "
    "SELECT t.relation,"
    " bool_or(t.tree ~ ':(hasForUpdate|hasModifyingCTE) true' OR t.tree ~ 'TABLESAMPLE')"
    "  OR coalesce((SELECT bool_or(provolatile = 'v') FROM called c WHERE c.relation = t.relation), false),"
    " (SELECT pg_catalog.string_agg(DISTINCT CASE nspname WHEN 'pg_catalog' THEN '' ELSE nspname || '.' END"
    "    || proname, ',') FROM called c WHERE c.relation = t.relation AND provolatile = 's'),"
    " (SELECT pg_catalog.string_agg(DISTINCT id::text, ',') FROM named n WHERE n.relation = t.relation"
    "    AND n.kind = 'relid' AND n.id <> t.relation AND n.id <> 0)"
    " FROM tree t GROUP BY 1 ORDER BY 1";

static const char FUNCTIONS_SQL[] =
    "SELECT n.nspname, p.proname,"
    " CASE max(CASE p.provolatile WHEN 'v' THEN 2 WHEN 's' THEN 1 ELSE 0 END)"
    "   WHEN 2 THEN 'v' WHEN 1 THEN 's' ELSE 'i' END,"
    " CASE max(CASE p.prokind WHEN 'p' THEN 3 WHEN 'w' THEN 2 WHEN 'a' THEN 1 ELSE 0 END)"
    "   WHEN 3 THEN 'p' WHEN 2 THEN 'w' WHEN 1 THEN 'a' ELSE 'f' END,"
    " bool_or(p.proretset), bool_or(l.lanname NOT IN ('c', 'internal') AND p.provolatile <> 'i')"
    " FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
    " JOIN pg_language l ON l.oid = p.prolang WHERE " SESSION_SCHEMAS
    " GROUP BY 1, 2"
    " UNION ALL SELECT DISTINCT n.nspname, o.oprname, 'v', 'f', false, true" /* operators, by their functions */
    " FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace JOIN pg_proc p ON p.oid = o.oprcode"
    " JOIN pg_language l ON l.oid = p.prolang WHERE o.oid >= 16384 AND l.lanname NOT IN ('c', 'internal')"
    " AND p.provolatile <> 'i'";

/* Row types of tables and their arrays are left out: no literal is written with them. */
static const char TYPES_SQL[] =
    "SELECT n.nspname, t.typname, t.oid,"
    " t.typtype = 'b' AND t.typnamespace = 'pg_catalog'::regnamespace AND t.oid < 16384"
    " FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace"
    " LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'"
    " LEFT JOIN pg_class c ON c.oid = coalesce(nullif(t.typrelid, 0), e.typrelid)"
    " WHERE (c.oid IS NULL OR c.relkind = 'c') AND " SESSION_SCHEMAS;

/* Views and what they may read; roles by name, because clients log in by name. */
static const char VIEWS_SQL[] =
    "WITH named AS MATERIALIZED (SELECT DISTINCT r.ev_class AS view, d.refobjid AS relation FROM pg_rewrite r"
    "   JOIN pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid"
    "    AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid <> r.ev_class"
    "   JOIN pg_class t ON t.oid = d.refobjid AND t.relkind IN ('r', 'p', 'v', 'm', 'f')"
    "   WHERE r.rulename = '_RETURN' AND r.ev_class >= 16384),"
    " facts AS (SELECT v.oid, bool_and(pg_catalog.has_table_privilege(v.relowner, t.oid, 'SELECT')"
    "      OR pg_catalog.has_any_column_privilege(v.relowner, t.oid, 'SELECT')) AS reads,"
    "   bool_or(t.relrowsecurity) AS policies FROM pg_class v JOIN named n ON n.view = v.oid"
    "   JOIN pg_class t ON t.oid = n.relation GROUP BY 1),"
    /* A column of a plain view of one table that is called like a column of that table is that column. */
    " plain AS (SELECT r.ev_class AS oid, max(t.oid::int8) AS base FROM pg_rewrite r JOIN named n ON n.view = r.ev_class"
    "   JOIN pg_class t ON t.oid = n.relation AND t.relkind IN ('r', 'p') JOIN (SELECT view FROM named GROUP BY 1 HAVING count(*) = 1) o"
    "    ON o.view = r.ev_class WHERE r.rulename = '_RETURN' AND r.ev_action::text !~ '\\{SUBLINK'"
    "    AND pg_catalog.pg_relation_is_updatable(r.ev_class, false) & 28 = 28"
    "    AND NOT EXISTS (SELECT FROM pg_catalog.regexp_matches(r.ev_action::text,"
    "      ':resname (\\S+) :ressortgroupref \\d+ :resorigtbl (\\d+) :resorigcol (\\d+)', 'g') m"
    "      JOIN pg_attribute a ON a.attrelid = t.oid AND a.attname = m[1]"
    "      WHERE m[2] <> t.oid::text OR m[3] <> a.attnum::text)"
    "    AND NOT EXISTS (SELECT FROM pg_catalog.regexp_matches(r.ev_action::text, ':(?:funcid|opfuncid) (\\d+)', 'g') m"
    "      JOIN pg_proc p ON p.oid = m[1]::oid JOIN pg_language l ON l.oid = p.prolang"
    "      WHERE l.lanname NOT IN ('c', 'internal') AND p.provolatile <> 'i') GROUP BY 1) "
    "SELECT c.oid, pg_catalog.rtrim(pg_catalog.pg_get_viewdef(c.oid), '; '),"
    " coalesce(o.options @> '{security_barrier=true}', false), coalesce(o.options @> '{security_invoker=true}', false),"
    " coalesce(f.reads, true), coalesce(f.policies, false),"
    " (SELECT pg_catalog.string_agg(E'\\x1f' || r.rolname || E'\\x1f', '') FROM pg_roles r"
    "   WHERE pg_catalog.has_table_privilege(r.oid, c.oid, 'SELECT')), coalesce(b.base, 0)"
    " FROM pg_class c LEFT JOIN facts f ON f.oid = c.oid LEFT JOIN plain b ON b.oid = c.oid, LATERAL (SELECT pg_catalog.array_agg(pg_catalog.replace("
    "   pg_catalog.replace(pg_catalog.lower(x), '=on', '=true'), '=1', '=true')) AS options FROM pg_catalog.unnest(c.reloptions) x) o"
    " WHERE c.relkind = 'v' AND c.relpersistence <> 't' AND c.oid >= 16384";

/* clang-format on */

const PgQuery CATALOG_QUERIES[CATALOG_QUESTION_COUNT] = {
    [CATALOG_ASK_BEGIN] = {.sql = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"},
    [CATALOG_ASK_DIGEST] = {.sql = DIGEST_SQL},
    [CATALOG_ASK_SETTINGS] = {.sql = SETTINGS_SQL},
    [CATALOG_ASK_ROLE_PATHS] = {.sql = ROLE_PATHS_SQL},
    [CATALOG_ASK_RELATIONS] = {.sql = RELATIONS_SQL},
    [CATALOG_ASK_COLUMNS] = {.sql = COLUMNS_SQL},
    [CATALOG_ASK_READS] = {.sql = READS_SQL},
    [CATALOG_ASK_FUNCTIONS] = {.sql = FUNCTIONS_SQL},
    [CATALOG_ASK_TYPES] = {.sql = TYPES_SQL},
    [CATALOG_ASK_NO_PATH] = {.sql = "SET LOCAL search_path = ''"},
    [CATALOG_ASK_VIEWS] = {.sql = VIEWS_SQL},
    [CATALOG_ASK_END] = {.sql = "COMMIT"},
};

/* A copy of a cell; *ok turns false when memory is out. */
static Slice cell_keep(Catalog *catalog, const PGresult *rows, int row, int column, bool *ok)
{
    Slice copy = arena_dup(&catalog->arena, pg_slice(rows, row, column));
    if (!copy.data && PQgetlength(rows, row, column) > 0)
        *ok = false;
    return copy;
}

static bool take_settings(Catalog *catalog, const PGresult *rows)
{
    bool ok = PQntuples(rows) == 1;
    if (!ok)
        return false;
    catalog->server_version = (int)pg_u64(rows, 0, 0);
    catalog->encoding = cell_keep(catalog, rows, 0, 1, &ok);
    catalog->search_path = cell_keep(catalog, rows, 0, 2, &ok);
    catalog->isolation_unusual = pg_bool(rows, 0, 3);
    return ok;
}

static bool take_role_paths(Catalog *catalog, const PGresult *rows)
{
    int count = PQntuples(rows);
    bool ok = true;
    catalog->role_paths = arena_array(&catalog->arena, CatalogRolePath, MAX(count, 1));
    if (!catalog->role_paths)
        return false;
    for (int i = 0; i < count; i++) {
        catalog->role_paths[i].role = cell_keep(catalog, rows, i, 0, &ok);
        catalog->role_paths[i].search_path = cell_keep(catalog, rows, i, 1, &ok);
    }
    catalog->role_path_count = (uint32_t)count;
    return ok;
}

static bool take_relations(CatalogLoader *loader, const PGresult *rows)
{
    Catalog *catalog = loader->next;
    int count = PQntuples(rows);
    bool ok = true;
    loader->by_oid = arena_array(&catalog->arena, CatalogTable *, MAX(count, 1));
    CatalogTable *tables = arena_array(&catalog->arena, CatalogTable, MAX(count, 1));
    if (!loader->by_oid || !tables)
        return false;
    for (int i = 0; i < count && ok; i++) {
        CatalogTable *table = &tables[i];
        table->schema = cell_keep(catalog, rows, i, 0, &ok);
        table->name = cell_keep(catalog, rows, i, 1, &ok);
        table->oid = (uint32_t)pg_u64(rows, i, 2);
        table->kind = *PQgetvalue(rows, i, 3);
        table->persistence = *PQgetvalue(rows, i, 4);
        table->row_security = pg_bool(rows, i, 5);
        table->has_rules_or_triggers = pg_bool(rows, i, 6);
        table->has_children = pg_bool(rows, i, 7);
        table->cascades = pg_bool(rows, i, 8);
        table->root = (uint32_t)pg_u64(rows, i, 9);
        ok = ok && catalog_add_table(catalog, table);
        loader->by_oid[i] = table;
    }
    loader->by_oid_count = (uint32_t)count;
    catalog->by_oid = loader->by_oid;
    catalog->by_oid_count = loader->by_oid_count;
    return ok;
}

/* "16384,16390" */
static bool take_oids(Catalog *catalog, Slice text, CatalogReads *reads)
{
    reads->tables = arena_array(&catalog->arena, uint32_t, text.len / 2 + 1);
    if (!reads->tables)
        return false;
    uint32_t oid = 0;
    for (size_t i = 0; i <= text.len && text.len; i++) {
        if (i < text.len && text.data[i] != ',') {
            oid = oid * 10 + (uint32_t)(text.data[i] - '0');
            continue;
        }
        reads->tables[reads->table_count++] = oid;
        oid = 0;
    }
    return true;
}

static bool take_reads(Catalog *catalog, const PGresult *rows)
{
    int count = PQntuples(rows);
    bool ok = true;
    CatalogReads *all = arena_array(&catalog->arena, CatalogReads, MAX(count, 1));
    for (int i = 0; all && i < count && ok; i++) {
        CatalogTable *table =
            (CatalogTable *)(uintptr_t)catalog_table_by_oid(catalog, (uint32_t)pg_u64(rows, i, 0));
        CatalogReads *reads = &all[i];
        reads->is_volatile = pg_bool(rows, i, 1);
        reads->stable = cell_keep(catalog, rows, i, 2, &ok);
        ok = ok && take_oids(catalog, pg_slice(rows, i, 3), reads);
        if (table)
            table->reads = reads;
    }
    return all && ok;
}

static void take_column(CatalogColumn *column, Catalog *catalog, const PGresult *rows, int i,
                        bool *ok)
{
    column->name = cell_keep(catalog, rows, i, 1, ok);
    column->type_oid = (uint32_t)pg_u64(rows, i, 2);
    column->typmod = (int32_t)pg_u64(rows, i, 3);
    column->number = (int16_t)pg_u64(rows, i, 4);
    column->not_null = pg_bool(rows, i, 5);
    column->equal_image = pg_bool(rows, i, 6);
    column->deterministic = pg_bool(rows, i, 7);
    column->indexed_alone = pg_bool(rows, i, 8);
    column->unique_alone = pg_bool(rows, i, 9);
    column->plain_type = pg_bool(rows, i, 10);
    column->volatile_default = pg_bool(rows, i, 11);
    column->varying_default = pg_bool(rows, i, 12);
    column->generated = pg_bool(rows, i, 13);
    column->identity = *PQgetvalue(rows, i, 14);
    if (!PQgetisnull(rows, i, 15))
        column->sequence = cell_keep(catalog, rows, i, 15, ok);
    column->text_key = pg_bool(rows, i, 16);
    column->refers = pg_bool(rows, i, 17);
}

/* Both answers are in the order of the relation's oid: one walk through both. */
static bool take_columns(CatalogLoader *loader, const PGresult *rows)
{
    Catalog *catalog = loader->next;
    int count = PQntuples(rows);
    bool ok = true;
    CatalogColumn *columns = arena_array(&catalog->arena, CatalogColumn, MAX(count, 1));
    if (!columns)
        return false;
    uint32_t t = 0;
    for (int i = 0; i < count && ok; i++) {
        uint32_t oid = (uint32_t)pg_u64(rows, i, 0);
        take_column(&columns[i], catalog, rows, i, &ok);
        while (t < loader->by_oid_count && loader->by_oid[t]->oid < oid)
            t++;
        if (t == loader->by_oid_count || loader->by_oid[t]->oid != oid)
            continue;
        CatalogTable *table = loader->by_oid[t];
        if (table->column_count++ == 0)
            table->columns = &columns[i];
    }
    return ok;
}

static bool is_operator(Slice name)
{
    return name.len && strchr("+-*/<>=~!@#%^&|`?", name.data[0]);
}

static bool take_functions(Catalog *catalog, const PGresult *rows)
{
    int count = PQntuples(rows);
    bool ok = true;
    CatalogFunction *functions = arena_array(&catalog->arena, CatalogFunction, MAX(count, 1));
    if (!functions)
        return false;
    for (int i = 0; i < count && ok; i++) {
        functions[i].schema = cell_keep(catalog, rows, i, 0, &ok);
        functions[i].name = cell_keep(catalog, rows, i, 1, &ok);
        functions[i].volatility = *PQgetvalue(rows, i, 2);
        functions[i].kind = *PQgetvalue(rows, i, 3);
        functions[i].set_returning = pg_bool(rows, i, 4);
        functions[i].runs_statements = pg_bool(rows, i, 5);
        catalog->operators_run |= functions[i].runs_statements && is_operator(functions[i].name);
        ok = ok && catalog_add_function(catalog, &functions[i]);
    }
    return ok;
}

static bool take_views(Catalog *catalog, const PGresult *rows)
{
    int count = PQntuples(rows);
    bool ok = true;
    CatalogView *all = arena_array(&catalog->arena, CatalogView, MAX(count, 1));
    for (int i = 0; all && i < count && ok; i++) {
        CatalogTable *table =
            (CatalogTable *)(uintptr_t)catalog_table_by_oid(catalog, (uint32_t)pg_u64(rows, i, 0));
        all[i] = (CatalogView){.definition = cell_keep(catalog, rows, i, 1, &ok),
                               .barrier = pg_bool(rows, i, 2),
                               .invoker = pg_bool(rows, i, 3),
                               .owner_reads = pg_bool(rows, i, 4),
                               .policies = pg_bool(rows, i, 5),
                               .readers = cell_keep(catalog, rows, i, 6, &ok),
                               .base = (uint32_t)pg_u64(rows, i, 7)};
        if (table)
            table->view = &all[i];
    }
    return all && ok;
}

static bool take_types(Catalog *catalog, const PGresult *rows)
{
    int count = PQntuples(rows);
    bool ok = true;
    CatalogType *types = arena_array(&catalog->arena, CatalogType, MAX(count, 1));
    if (!types)
        return false;
    for (int i = 0; i < count && ok; i++) {
        types[i].schema = cell_keep(catalog, rows, i, 0, &ok);
        types[i].name = cell_keep(catalog, rows, i, 1, &ok);
        types[i].oid = (uint32_t)pg_u64(rows, i, 2);
        types[i].plain = pg_bool(rows, i, 3);
        ok = ok && catalog_add_type(catalog, &types[i]);
    }
    return ok;
}

bool catalog_rows_take(CatalogLoader *loader, CatalogQuestion question, const PGresult *rows,
                       Error *err)
{
    bool ok = true;
    switch (question) {
    case CATALOG_ASK_DIGEST:
        loader->next->digest = pg_u64(rows, 0, 0);
        break;
    case CATALOG_ASK_SETTINGS:
        ok = take_settings(loader->next, rows);
        break;
    case CATALOG_ASK_ROLE_PATHS:
        ok = take_role_paths(loader->next, rows);
        break;
    case CATALOG_ASK_RELATIONS:
        ok = take_relations(loader, rows);
        break;
    case CATALOG_ASK_COLUMNS:
        ok = take_columns(loader, rows);
        break;
    case CATALOG_ASK_READS:
        ok = take_reads(loader->next, rows);
        break;
    case CATALOG_ASK_FUNCTIONS:
        ok = take_functions(loader->next, rows);
        break;
    case CATALOG_ASK_TYPES:
        ok = take_types(loader->next, rows);
        break;
    case CATALOG_ASK_VIEWS:
        ok = take_views(loader->next, rows);
        break;
    case CATALOG_ASK_BEGIN:
    case CATALOG_ASK_NO_PATH:
    case CATALOG_ASK_END:
    case CATALOG_QUESTION_COUNT:
        break;
    }
    if (!ok)
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory while reading the catalog");
    return ok;
}
