/* row_form.c - one question to a catalog; its answer is SQL. Names of types would follow search_path: they are OIDs. */
#include "admin/row_form.h"

#include "admin/pg_client.h"

/* bool bytea "char" name int8 int2 int4 text oid varchar date time timestamp timestamptz uuid. Text is hashed by its
 * bytes, whatever its collation holds to be equal. Not: enums (their hash is the OID's), bpchar, numeric, floats. */
#define EXACT "16, 17, 18, 19, 20, 21, 23, 25, 26, 1043, 1082, 1083, 1114, 1184, 2950"
/* And json, jsonb, floats, macaddr, inet, cidr, bpchar, interval, timetz, bit, varbit, numeric. */
#define PLAIN EXACT ", 114, 3802, 700, 701, 829, 869, 650, 1042, 1186, 1266, 1560, 1562, 1700"

const char *row_form_sql(Arena *arena, const char *tables)
{
    return arena_printf(
        arena,
        "SELECT x.n, string_agg(x.name, ', ' ORDER BY x.attnum) FILTER (WHERE x.copied),"
        " bool_and(x.plain) FILTER (WHERE x.copied),"
        " 'pg_catalog.hash_record_extended(ROW(' || concat_ws(', ',"
        " string_agg('t.' || x.name || CASE WHEN x.collated THEN '::pg_catalog.text COLLATE pg_catalog.\"C\"' ELSE '' END, ', '"
        " ORDER BY x.attnum) FILTER (WHERE x.exact),"
        " 'ROW(' || string_agg('t.' || x.name, ', ' ORDER BY x.attnum) FILTER (WHERE NOT x.exact) || ')::text') || '), 0)'"
        " FROM (SELECT t.n, a.attnum, quote_ident(a.attname) AS name, a.attgenerated = '' AS copied,"
        " a.attcollation <> 0 AS collated, a.atttypid IN (" EXACT ") AS exact,"
        " y.typtype = 'e' OR a.atttypid IN (" PLAIN ") OR (y.typcategory = 'A' AND y.typelem IN (" PLAIN ")) AS plain"
        " FROM %s JOIN pg_attribute a ON a.attrelid = t.rel AND a.attnum > 0 AND NOT a.attisdropped"
        " JOIN pg_type y ON y.oid = a.atttypid) x GROUP BY x.n ORDER BY x.n", tables);
}

bool row_forms_read(Arena *arena, const PGresult *rows, uint32_t count, RowForm **ret, Error *err)
{
    RowForm *forms = arena_array(arena, RowForm, count + 1);
    bool ok = forms != NULL;
    for (int i = 0; ok && i < PQntuples(rows); i++) {
        RowForm *form = &forms[pg_u64(rows, i, 0) - 1];
        *form = (RowForm){.columns = arena_text(arena, pg_slice(rows, i, 1)),
                          .binary = pg_bool(rows, i, 2),
                          .hash = arena_text(arena, pg_slice(rows, i, 3))};
        ok = form->columns && form->hash;
    }
    if (!ok) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        return false;
    }
    *ret = forms;
    return true;
}
