/* test_shape_equals.c - `column = value`: what sends a statement to one shard. */
#include "shape_print.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const ShapeRow equals[] = {
    {"select * from users where id = 42",
     "SELECT +star t:users e:users.id=#0"},
    {"select * from users where id = $1",
     "SELECT +star t:users e:users.id=$1"},
    {"select * from users where id = -5",
     "SELECT +star t:users e:users.id=-#0"},
    {"select * from users where id = - 5",
     "SELECT +star t:users e:users.id=-#0"},
    {"select * from users where id = -(5)",
     "SELECT +star t:users e:users.id=-#0"},
    {"select * from users where id = +5",
     "SELECT +star t:users o:+"},
    {"select * from users where id = 5.5",
     "SELECT +star t:users"},
    {"select * from users where id = 99999999999999999999",
     "SELECT +star t:users"},
    {"select * from users where id = 9223372036854775807",
     "SELECT +star t:users e:users.id=#0"},
    {"select * from users where id = '42'",
     "SELECT +star t:users e:users.id=#0"},
    {"select * from users where id = E'42'",
     "SELECT +star t:users"},
    {"select * from users where id = 'it''s'",
     "SELECT +star t:users e:users.id=#0"},
    {"select * from users where id = null",
     "SELECT +star t:users e:users.id=null"},
    {"select * from users where id = true",
     "SELECT +star t:users"},
    {"select * from users where id = now()",
     "SELECT +star t:users f:now"},
    {"select * from users where id = 1 + 1",
     "SELECT +star t:users o:+"},
    {"select * from users where 42 = id",
     "SELECT +star t:users e:users.id=#0~"},
    {"select * from users where id = $1 and name = 'x' and age > 5",
     "SELECT +star t:users e:users.id=$1 e:users.name=#0 o:>"},
    {"select * from users where (id = $1 and name = 'x') and (age = 5)",
     "SELECT +star t:users e:users.id=$1 e:users.name=#0 e:users.age=#1"},
    {"select * from users where id = 1 and id = 2",
     "SELECT +star t:users e:users.id=#0 e:users.id=#1"},
    {"select * from users where id = 1 or id = 3",
     "SELECT +star t:users"},
    {"select * from users where (id = 1 or id = 3) and name = 'a'",
     "SELECT +star t:users e:users.name=#2"},
    {"select * from users where not id = 1",
     "SELECT +star t:users"},
    {"select * from users where not (id = 1 and name = 'a')",
     "SELECT +star t:users"},
    {"select * from users where id in (1, 3)",
     "SELECT +star t:users"},
    {"select * from users where id in (1)",
     "SELECT +star t:users"},
    {"select * from users where id = any ($1)",
     "SELECT +star t:users"},
    {"select * from users where id = any (array[1, 3])",
     "SELECT +star t:users"},
    {"select * from users where id between 1 and 2",
     "SELECT +star t:users o:>= o:<="},
    {"select * from users where id is not distinct from 5",
     "SELECT +star t:users"},
    {"select * from users where id is null",
     "SELECT +star +nulltest t:users"},
    {"select * from users where id is null or name = 'x'",
     "SELECT +star t:users"},
    {"select * from users where id <> 5",
     "SELECT +star t:users o:<>"},
    {"select * from users where (id = 5) is true",
     "SELECT +star t:users"},
    {"select * from users where coalesce(id, 5) = 5",
     "SELECT +star t:users"},
    {"select * from users where lower(name) = 'x'",
     "SELECT +star t:users f:lower"},
    {"select * from users where case when id = 5 then true end",
     "SELECT +star t:users"},
    {"select * from users where id::text = '1'",
     "SELECT +star t:users y:text"},
    {"select * from users where id operator(pg_catalog.=) 5",
     "SELECT +star t:users e:users.id=#0~ o:pg_catalog.="},
    {"select * from users where id operator(my.=) 5",
     "SELECT +star t:users o:my.="},
    {"select * from users where (id, name) = (1, 'x')",
     "SELECT +star t:users e:users.id=#0~ e:users.name=#1~"},
    {"select * from users where (id, name) = ($1, lower($2))",
     "SELECT +star t:users e:users.id=$1~ f:lower"},
    {"select * from users where row(id, name) = row(1, 'x')",
     "SELECT +star t:users e:users.id=#0~ e:users.name=#1~"},
    {"select * from users where (id, name) = (select 1, 2)",
     "SELECT +subquery +star t:users"},
    {"select * from users where (id, name) in ((1, 'x'))",
     "SELECT +star t:users"},
    {"select * from users where id = (5)",
     "SELECT +star t:users e:users.id=#0"},
    {"select * from users where ((id)) = ((5))",
     "SELECT +star t:users e:users.id=#0"},
};

static const ShapeRow casts[] = {
    {"select * from users where id = $1::bigint",
     "SELECT +star t:users e:users.id=$1::pg_catalog.int8 y:pg_catalog.int8"},
    {"select * from users where id = $1::int8::text",
     "SELECT +star t:users y:int8 y:text"},
    {"select * from users where id = '42'::uuid",
     "SELECT +star t:users e:users.id=#0::uuid y:uuid"},
    {"select * from users where id = cast($1 as bigint)",
     "SELECT +star t:users e:users.id=$1::pg_catalog.int8 y:pg_catalog.int8"},
    {"select * from users where id = bigint '5'",
     "SELECT +star t:users e:users.id=#0::pg_catalog.int8 y:pg_catalog.int8"},
    {"select * from users where id = int8(5)",
     "SELECT +star t:users f:int8"},
    {"select * from users where id = '5'::my.kind",
     "SELECT +star t:users e:users.id=#0::my.kind y:my.kind"},
    {"select * from users where id = 'x'::varchar(3)",
     "SELECT +star t:users y:pg_catalog.varchar"},
    {"select * from users where id = 'x'::char",
     "SELECT +star t:users y:pg_catalog.bpchar"},
    {"select * from users where id = '{1}'::int[]",
     "SELECT +star t:users y:pg_catalog.int4"},
    {"select * from users where id = -5::int",
     "SELECT +star t:users o:- y:pg_catalog.int4"},
    {"select * from users where id = (-5)::int",
     "SELECT +star t:users e:users.id=-#0::pg_catalog.int4 y:pg_catalog.int4"},
    {"select * from users where id = null::int",
     "SELECT +star t:users e:users.id=null::pg_catalog.int4 y:pg_catalog.int4"},
    {"select * from users where ts = timestamp with time zone '2020-01-01'",
     "SELECT +star t:users e:users.ts=#0::pg_catalog.timestamptz y:pg_catalog.timestamptz"},
    {"select * from users where d = interval '1' day",
     "SELECT +star t:users y:pg_catalog.interval"},
};

static const ShapeRow names[] = {
    {"select * from public.users where id = 1",
     "SELECT +star t:public.users e:users.id=#0"},
    {"select * from public.users where users.id = 1",
     "SELECT +star t:public.users e:users.id=#0"},
    {"select * from public.users where public.users.id = 1",
     "SELECT +star t:public.users e:users.id=#0"},
    {"select * from public.users where other.users.id = 1",
     "SELECT +star t:public.users"},
    {"select * from public.users u where u.id = 1",
     "SELECT +star t:public.users/u e:u.id=#0"},
    {"select * from public.users u where users.id = 1",
     "SELECT +star t:public.users/u"},
    {"select * from public.users u where public.users.id = 1",
     "SELECT +star t:public.users/u"},
    {"select * from Users as U where U.ID = 1",
     "SELECT +star t:users/u e:u.id=#0"},
    {"select * from \"Users\" where \"Id\" = 1",
     "SELECT +star t:Users e:Users.Id=#0"},
    {"select * from users where \"users.id\" = 1",
     "SELECT +star t:users e:users.users.id=#0"},
    {"select * from users, orders where id = 1",
     "SELECT +join +star t:users t:orders e:?0.id=#0"},
    {"select * from users u, orders o where u.id = 1 and o.user_id = 1",
     "SELECT +join +star t:users/u t:orders/o e:u.id=#0 e:o.user_id=#1"},
    {"select * from users where (users).id = 1",
     "SELECT +star t:users"},
    {"select * from a where b.x = 1",
     "SELECT +star t:a"},
    {"select * from db.public.users where db.public.users.id = 1",
     "SELECT +star t:public.users"},
};

/* Lost: an equality taken from under OR, NOT or a function answers from one shard alone. */
static void test_equals(void **state)
{
    SHAPE_ROWS_CHECK(equals);
}

/* Lost: a value cast to another type is hashed as the wrong key. */
static void test_casts(void **state)
{
    SHAPE_ROWS_CHECK(casts);
}

/* Lost: the equality of one table is taken for another one of the same name. */
static void test_names(void **state)
{
    SHAPE_ROWS_CHECK(names);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals),
        cmocka_unit_test(test_casts),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
