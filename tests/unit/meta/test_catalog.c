/* Names, resolved as PostgreSQL resolves them: a wrong table is a wrong decision. */
#include "story.h"

#include "meta/catalog.h"
#include "meta/identifier.h"

static CatalogTable *add_table(Catalog *c, const char *schema, const char *name)
{
    CatalogTable *table = arena_new(&c->arena, CatalogTable);
    table->schema = slice_str(schema);
    table->name = slice_str(name);
    assert_true(catalog_add_table(c, table));
    return table;
}

static void add_function(Catalog *c, const char *schema, const char *name, char volatility, char kind)
{
    CatalogFunction *function = arena_new(&c->arena, CatalogFunction);
    *function = (CatalogFunction){slice_str(schema), slice_str(name), volatility, kind, kind == 'p',
                                    false};
    assert_true(catalog_add_function(c, function));
}

static const CatalogTable *resolve(Catalog *c, const char *name, const char *path)
{
    return catalog_resolve_table(c, SLICE(""), slice_str(name), slice_str(path), SLICE("alice"));
}

/* Else: a query is planned for the table of another schema. */
static void the_path_decides_in_its_order(void **state)
{
    Catalog *c = catalog_create();
    CatalogTable *own = add_table(c, "alice", "t"), *public = add_table(c, "public", "t");
    CatalogTable *quoted = add_table(c, "My, \"Schema\"", "t"), *upper = add_table(c, "Sales", "t");
    assert_ptr_equal(resolve(c, "t", "\"$user\", public"), own);
    assert_ptr_equal(resolve(c, "t", "$user,public"), own);
    assert_ptr_equal(resolve(c, "t", "public, \"$user\""), public);
    assert_ptr_equal(resolve(c, "t", "  PUBLIC  "), public);
    assert_ptr_equal(resolve(c, "t", "nowhere,\"My, \"\"Schema\"\"\""), quoted);
    assert_ptr_equal(resolve(c, "t", "\"Sales\""), upper);
    assert_null(resolve(c, "t", "Sales"));
    assert_null(resolve(c, "t", ""));
    assert_null(resolve(c, "T", "public"));
    assert_ptr_equal(catalog_resolve_table(c, SLICE("public"), SLICE("t"), SLICE("alice"), SLICE("alice")), public);
    assert_null(catalog_resolve_table(c, SLICE("none"), SLICE("t"), SLICE("alice"), SLICE("alice")));
    catalog_free(c);
}

/* Else: a user's table called pg_class is taken for the system's, or the other way round. */
static void pg_catalog_comes_first_unless_named(void **state)
{
    Catalog *c = catalog_create();
    CatalogTable *system = add_table(c, "pg_catalog", "pg_class"), *own = add_table(c, "public", "pg_class");
    assert_ptr_equal(resolve(c, "pg_class", "public"), system);
    assert_ptr_equal(resolve(c, "pg_class", "public, pg_catalog"), own);
    assert_ptr_equal(resolve(c, "pg_class", "pg_temp, public, \"pg_catalog\""), own);
    catalog_free(c);
}

/* Else: a volatile overload, or one in another schema, is batched as if it were immutable. */
static void functions_are_as_bad_as_their_worst(void **state)
{
    Catalog *c = catalog_create();
    add_function(c, "pg_catalog", "f", 'i', 'f');
    add_function(c, "pg_catalog", "f", 's', 'f');
    add_function(c, "public", "f", 'v', 'f');
    add_function(c, "public", "p", 'i', 'a');
    add_function(c, "public", "p", 'v', 'p');
    Slice none = SLICE(""), f = SLICE("f"), p = SLICE("p"), user = SLICE("alice");
    assert_int_equal(catalog_resolve_function(c, none, f, SLICE("nowhere"), user)->volatility, 's');
    assert_int_equal(catalog_resolve_function(c, none, f, SLICE("public"), user)->volatility, 'v');
    assert_int_equal(catalog_resolve_function(c, SLICE("pg_catalog"), f, none, user)->volatility, 's');
    const CatalogFunction *worst = catalog_resolve_function(c, none, p, SLICE("public,public"), user);
    assert_int_equal(worst->kind, 'p');
    assert_true(worst->set_returning);
    assert_null(catalog_resolve_function(c, none, p, SLICE("nowhere"), user));
    assert_null(catalog_function(c, none, p));
    catalog_free(c);
}

/* Else: after ALTER TABLE the old columns decide. */
static void a_newer_fact_replaces_the_older(void **state)
{
    Catalog *c = catalog_create();
    add_table(c, "public", "t");
    CatalogTable *newer = add_table(c, "public", "t");
    CatalogColumn columns[] = {{.name = SLICE("id")}, {.name = SLICE("Name")}};
    newer->columns = columns;
    newer->column_count = 2;
    assert_ptr_equal(catalog_table(c, SLICE("public"), SLICE("t")), newer);
    assert_ptr_equal(catalog_column(newer, SLICE("Name")), &columns[1]);
    assert_null(catalog_column(newer, SLICE("name")));
    catalog_free(c);
}

/* Else: a role with a search_path of its own sees the tables of others. */
static void a_role_begins_with_its_own_path(void **state)
{
    Catalog *c = catalog_create();
    CatalogRolePath roles[] = {{SLICE("alice"), SLICE("sales")}};
    c->search_path = SLICE("public");
    c->role_paths = roles;
    c->role_path_count = 1;
    assert_true(slice_is(catalog_default_path(c, SLICE("alice")), "sales"));
    assert_true(slice_is(catalog_default_path(c, SLICE("bob")), "public"));
    catalog_free(c);
}

/* Else: a long name is not found, or found by half a character. */
static void identifiers_are_cut_as_postgres_cuts_them(void **state)
{
    char text[200];
    Identifier id;
    memset(text, 'A', 100);
    text[100] = 0;
    Slice rest = slice_str(text);
    assert_true(identifier_take(&rest, ',', &id));
    assert_int_equal(id.len, 63);
    assert_int_equal(id.bytes[0], 'a');
    memcpy(text + 62, "\xC3\xA9", 2);
    rest = slice_str(text);
    assert_true(identifier_take(&rest, ',', &id));
    assert_int_equal(id.len, 62);
    static const char *const WRONG[] = {"", " ", ",a", "\"", "\"\"", "\"a", "a b", "\"a\"b", "a\"b"};
    for (size_t i = 0; i < ARRAY_LEN(WRONG); i++) {
        rest = slice_str(WRONG[i]);
        assert_false(identifier_take(&rest, ',', &id));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_path_decides_in_its_order),
        cmocka_unit_test(pg_catalog_comes_first_unless_named),
        cmocka_unit_test(functions_are_as_bad_as_their_worst),
        cmocka_unit_test(a_newer_fact_replaces_the_older),
        cmocka_unit_test(a_role_begins_with_its_own_path),
        cmocka_unit_test(identifiers_are_cut_as_postgres_cuts_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
