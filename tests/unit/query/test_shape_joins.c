/* test_shape_joins.c - joins and query levels. */
#include "shape_print.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const ShapeRow joins[] = {
    {"select * from a, b where a.x = b.y",
     "SELECT +join +star t:a t:b j:a.x<b.y j:b.y<a.x"},
    {"select * from a join b on a.x = b.y",
     "SELECT +join +star t:a t:b j:a.x<b.y j:b.y<a.x"},
    {"select * from a join b on b.y = a.x and a.k = 5",
     "SELECT +join +star t:a t:b e:a.k=#0 j:b.y<a.x j:a.x<b.y"},
    {"select * from a join b on x = y",
     "SELECT +join +star t:a t:b j:?0.x<?0.y j:?0.y<?0.x"},
    {"select * from a left join b on a.x = b.y",
     "SELECT +join +outer +star t:a t:b j:b.y<a.x"},
    {"select * from a left join b on a.x = b.y and b.k = 5 and a.j = 6",
     "SELECT +join +outer +star t:a t:b e:b.k=#0 j:b.y<a.x"},
    {"select * from a left join b on a.x = b.y where a.k = 5",
     "SELECT +join +outer +star t:a t:b e:a.k=#0 j:b.y<a.x"},
    {"select * from a left join b on a.x = b.y where b.k = 5",
     "SELECT +join +outer +star t:a t:b e:b.k=#0 j:b.y<a.x"},
    {"select * from a right join b on a.x = b.y and a.k = 5 and b.j = 6",
     "SELECT +join +outer +star t:a t:b e:a.k=#0 j:a.x<b.y"},
    {"select * from a full join b on a.x = b.y and a.k = 5",
     "SELECT +join +outer +star t:a t:b"},
    {"select * from a full join b on a.x = b.y where a.k = 5",
     "SELECT +join +outer +star t:a t:b e:a.k=#0"},
    {"select * from a left join b on x = 5",
     "SELECT +join +outer +star t:a t:b"},
    {"select * from a cross join b where a.x = b.y",
     "SELECT +join +star t:a t:b j:a.x<b.y j:b.y<a.x"},
    {"select * from a natural join b where id = 5",
     "SELECT +join +star t:a t:b"}, /* merged perhaps: only the catalog knows */
    {"select * from a join b using (id)",
     "SELECT +join +star t:a t:b j:a.id<b.id j:b.id<a.id"},
    {"select * from a join b using (id) where id = 5",
     "SELECT +join +star t:a t:b e:a.id=#0 j:a.id<b.id j:b.id<a.id"},
    {"select * from a join b using (id) join c using (id) where id = 5",
     "SELECT +join +star t:a t:b t:c e:a.id=#0 j:a.id<b.id j:b.id<a.id j:a.id<c.id "
     "j:c.id<a.id"},
    {"select * from a left join b using (id) where id = 5",
     "SELECT +join +outer +star t:a t:b e:a.id=#0 j:b.id<a.id"},
    {"select * from a right join b using (id) where id = 5",
     "SELECT +join +outer +star t:a t:b e:b.id=#0 j:a.id<b.id"},
    {"select * from a full join b using (id) where id = 5",
     "SELECT +join +outer +star t:a t:b"},
    {"select * from a join b on a.x = b.y join c on c.z = b.y where c.k = $1",
     "SELECT +join +star t:a t:b t:c e:c.k=$1 j:a.x<b.y j:b.y<a.x j:c.z<b.y j:b.y<c.z"},
    {"select * from a join (b left join c on b.x = c.x) on a.x = b.x and c.k = 5",
     "SELECT +join +outer +star t:a t:b t:c e:c.k=#0 j:c.x<b.x j:a.x<b.x j:b.x<a.x"},
    {"select * from a left join (b join c on b.x = c.x and c.k = 5) on a.x = b.x",
     "SELECT +join +outer +star t:a t:b t:c e:c.k=#0 j:b.x<c.x j:c.x<b.x j:b.x<a.x"},
    {"select * from a left join b on a.x = b.x join c on c.x = b.x",
     "SELECT +join +outer +star t:a t:b t:c j:b.x<a.x j:c.x<b.x j:b.x<c.x"},
    {"select * from (a join b on a.x = b.x) as j where j.x = 5",
     "SELECT +join +star t:a t:b j:a.x<b.x j:b.x<a.x"},
    {"select * from (a join b on a.x = b.x) as j where a.x = 5",
     "SELECT +join +star t:a t:b j:a.x<b.x j:b.x<a.x"},
    {"select * from a a1, a a2 where a1.x = a2.x",
     "SELECT +join +star t:a/a1 t:a/a2 j:a1.x<a2.x j:a2.x<a1.x"},
    {"select * from a where a.x = a.y",
     "SELECT +star t:a"},
    {"select * from a, b where (a.x, a.y) = (b.x, b.y)",
     "SELECT +join +star t:a t:b j:a.x<b.x j:b.x<a.x j:a.y<b.y j:b.y<a.y"},
    {"select * from a, b where a.x = b.x or a.y = b.y",
     "SELECT +join +star t:a t:b"},
    {"select * from a, b where a.x::int = b.x",
     "SELECT +join +star t:a t:b y:pg_catalog.int4"},
};

static const ShapeRow levels[] = {
    {"select * from (select * from users where id = 5) s",
     "SELECT +subquery +star t:users@1 e:users.id=#0"},
    {"select * from (select * from users) s where s.id = 5",
     "SELECT +subquery +star t:users@1"},
    {"select * from users where exists (select 1 from orders where orders.user_id = "
     "users.id)",
     "SELECT +subquery +star t:users t:orders@1 j:orders.user_id<users.id"},
    {"select * from users where exists (select 1 from orders o where o.user_id = 5)",
     "SELECT +subquery +star t:users t:orders/o@1 e:o.user_id=#1"},
    {"select * from users where not exists (select 1 from orders o where o.user_id = "
     "users.id and users.id = 5)",
     "SELECT +subquery +star t:users t:orders/o@1 j:o.user_id<users.id"},
    {"select * from users where id in (select user_id from orders where orders.k = 5)",
     "SELECT +subquery +star t:users t:orders@1 e:orders.k=#0"},
    {"select * from users where id = (select max(user_id) from orders where k = 7)",
     "SELECT +subquery +star t:users t:orders@1 e:orders.k=#0 f:max"},
    {"select (select name from users u where u.id = o.user_id) from orders o where o.id = "
     "3",
     "SELECT +subquery t:orders/o t:users/u@1 e:o.id=#0 j:u.id<o.user_id"},
    {"select * from users u, lateral (select * from orders o where o.user_id = u.id) s",
     "SELECT +subquery +join +star t:users/u t:orders/o@1 j:o.user_id<u.id"},
    {"select * from users u, (select * from orders o where o.user_id = u.id) s",
     "SELECT +subquery +join +star t:users/u t:orders/o@1"},
    {"select * from users u left join lateral (select * from orders o where o.user_id = "
     "u.id limit 3) s on true where u.id = $1",
     "SELECT +subquery +limit +join +outer +star t:users/u t:orders/o@1 e:u.id=$1 "
     "j:o.user_id<u.id"},
    {"with w as (select * from users where id = 5) select * from w where w.id = 5",
     "SELECT +cte +star t:users@1 e:users.id=#0"},
    {"with w as (select * from users) select * from w, users where w.id = users.id and "
     "users.k = 1",
     "SELECT +cte +join +star t:users@1 t:users e:users.k=#0"},
    {"with users as (select 1) select * from users",
     "SELECT +cte +star"},
    {"with users as (select * from users where id = 1) select * from users",
     "SELECT +cte +star t:users@1 e:users.id=#0"},
    {"with users as (select 1) select * from public.users",
     "SELECT +cte +star t:public.users"},
    {"with recursive t as (select 1 union all select * from t) select * from t",
     "SELECT +cte +setop +star"},
    {"with a as (select * from b), b as (select * from a) select * from b",
     "SELECT +cte +star t:b@1"},
    {"with a as (select 1) select * from (select * from a, (with a as (select 2) select * "
     "from a) x) y, a",
     "SELECT +cte +subquery +join +star"},
    {"select * from users where id = 1 union select * from old_users where id = 1",
     "SELECT +setop +star t:users@1 t:old_users@2 e:users.id=#0 e:old_users.id=#1"},
    {"select * from users where id = 1 union all (select * from b where k = 2 intersect "
     "select * from c where k = 3) order by 1",
     "SELECT +setop +order +star t:users@1 t:b@3 t:c@4 e:users.id=#0 e:b.k=#1 e:c.k=#2"},
    {"values (1, 'a'), (2, 'b')",
     "SELECT"},
    {"table users",
     "SELECT +star t:users"},
    {"select * from only users where id = 1",
     "SELECT +star t:users e:users.id=#0"},
    {"select * from users tablesample bernoulli (10) where id = 1",
     "SELECT +sample +star t:users e:users.id=#1"},
    {"select * from generate_series(1, 10) g where g = 5",
     "SELECT +function +star f:generate_series"},
    {"select * from users, unnest(users.tags) t where users.id = 1",
     "SELECT +join +function +star t:users e:users.id=#0 f:unnest"},
    {"select 1 from users group by id having id = 5",
     "SELECT +group t:users"},
    {"select id, count(*) from users where id = 5 group by id having count(*) = 2",
     "SELECT +group t:users e:users.id=#0 f:count"},
    {"select * from users where id = 1 for update of users",
     "SELECT +locking +star t:users e:users.id=#0"},
};

static const ShapeRow writes[] = {
    {"update users set name = 'x' where id = 5",
     "UPDATE t:!users e:users.id=#1 a:name"},
    {"update users u set name = 'x', age = age + 1 where u.id = $1 returning *",
     "UPDATE +returning +star t:!users/u e:u.id=$1 o:+ a:name a:age"},
    {"update users set (a, b) = (1, 2) where id = 5",
     "UPDATE t:!users e:users.id=#2 a:a a:b"},
    {"update users set name = o.name from orders o where o.user_id = users.id and "
     "users.id = 5",
     "UPDATE +join t:!users t:orders/o e:users.id=#0 j:o.user_id<users.id "
     "j:users.id<o.user_id a:name"},
    {"update users set name = 'x'",
     "UPDATE t:!users a:name"},
    {"delete from users where id = 5",
     "DELETE t:!users e:users.id=#0"},
    {"delete from users u using orders o where u.id = o.user_id and o.id = 7",
     "DELETE +join t:!users/u t:orders/o e:o.id=#0 j:u.id<o.user_id j:o.user_id<u.id"},
    {"delete from users where current of c",
     "DELETE t:!users n:c"},
    {"delete from only users where id = 5",
     "DELETE t:!users e:users.id=#0"},
    {"merge into users u using staging s on u.id = s.id and u.k = 5 when matched then "
     "update set name = s.name when not matched then insert (id, name) values (s.id, "
     "s.name)",
     "MERGE +join t:!users/u t:staging/s j:u.id<s.id a:name"},
    {"insert into users values (1, 'a')",
     "INSERT t:!users v:#0,#1"},
    {"insert into users (id, name) values ($1, $2), (-3, default), (null, now())",
     "INSERT t:!users f:now c:id,name v:$1,$2;-#0,default;null,?"},
    {"insert into users (id, name) values ($1::bigint, 'a'::text) on conflict (id) do "
     "update set name = excluded.name where users.id = 5 returning id",
     "INSERT +conflict +returning t:!users y:pg_catalog.int8 y:text c:id,name "
     "v:$1::pg_catalog.int8,#0::text a:name"},
    {"insert into users (id) values (1), (2, 3)",
     "INSERT t:!users c:id"},
    {"insert into users default values",
     "INSERT t:!users v:"},
    {"insert into users select * from staging where id = 5",
     "INSERT +star t:!users t:staging@1 e:staging.id=#0"},
    {"insert into users (id) select 5",
     "INSERT t:!users c:id"},
    {"insert into users values (1) limit 1",
     "INSERT +limit t:!users"},
    {"insert into users (id, tags[1]) values (1, 2)",
     "INSERT t:!users c:id,tags v:#1,#2"},
    {"insert into users as u (id) values ((select max(id) from other))",
     "INSERT +subquery t:!users/u t:other@2 f:max c:id v:?"},
    {"with w as (insert into log values (1) returning id) insert into users (id) values "
     "(2)",
     "INSERT +cte +modifying +returning t:!log@1 t:!users c:id v:#1"},
    {"with gone as (delete from users where id = 5 returning *) insert into archive "
     "select * from gone",
     "INSERT +cte +modifying +returning +star t:!users@1 t:!archive e:users.id=#0"},
    {"with w as (update users set a = 1 where id = 2 returning *) select * from w",
     "SELECT +cte +modifying +returning +star t:!users@1 e:users.id=#1 a:a"},
};

/* Lost: rows of an outer join vanish, or a colocated join is not seen as one. */
static void test_joins(void **state)
{
    SHAPE_ROWS_CHECK(joins);
}

/* Lost: a condition of a subquery is taken for one of the query around it. */
static void test_levels(void **state)
{
    SHAPE_ROWS_CHECK(levels);
}

/* Lost: an INSERT goes to the wrong shard, or an UPDATE of a key is not noticed. */
static void test_writes(void **state)
{
    SHAPE_ROWS_CHECK(writes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_joins),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_writes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
