"""TPC-H in small: its eight tables, rows for them from a seed, and its 22 queries with the validation values.

The words are few and the rows lean towards what the queries ask for, so that each of them has an answer. Text of
names and comments is made up here; the queries are those of the specification (revision 3), with thresholds that fit.
"""
import datetime
import random

# table: shard key (None: reference table), DDL
TABLES = {
    'region': (None, 'r_regionkey bigint PRIMARY KEY, r_name char(25), r_comment varchar(152)'),
    'nation': (None, 'n_nationkey bigint PRIMARY KEY, n_name char(25), n_regionkey bigint NOT NULL, n_comment varchar(152)'),
    'supplier': ('s_suppkey', 's_suppkey bigint PRIMARY KEY, s_name char(25), s_address varchar(40), s_nationkey bigint NOT NULL, '
                 's_phone char(15), s_acctbal numeric(15,2), s_comment varchar(101)'),
    'part': ('p_partkey', 'p_partkey bigint PRIMARY KEY, p_name varchar(55), p_mfgr char(25), p_brand char(10), p_type varchar(25), '
             'p_size int, p_container char(10), p_retailprice numeric(15,2), p_comment varchar(23)'),
    'partsupp': ('ps_partkey', 'ps_partkey bigint NOT NULL, ps_suppkey bigint NOT NULL, ps_availqty int, ps_supplycost numeric(15,2), '
                 'ps_comment varchar(199), PRIMARY KEY (ps_partkey, ps_suppkey)'),
    'customer': ('c_custkey', 'c_custkey bigint PRIMARY KEY, c_name varchar(25), c_address varchar(40), c_nationkey bigint NOT NULL, '
                 'c_phone char(15), c_acctbal numeric(15,2), c_mktsegment char(10), c_comment varchar(117)'),
    'orders': ('o_orderkey', 'o_orderkey bigint PRIMARY KEY, o_custkey bigint NOT NULL, o_orderstatus char(1), o_totalprice numeric(15,2), '
               'o_orderdate date, o_orderpriority char(15), o_clerk char(15), o_shippriority int, o_comment varchar(79)'),
    'lineitem': ('l_orderkey', 'l_orderkey bigint NOT NULL, l_partkey bigint NOT NULL, l_suppkey bigint NOT NULL, l_linenumber int, '
                 'l_quantity numeric(15,2), l_extendedprice numeric(15,2), l_discount numeric(15,2), l_tax numeric(15,2), '
                 'l_returnflag char(1), l_linestatus char(1), l_shipdate date, l_commitdate date, l_receiptdate date, '
                 'l_shipinstruct char(25), l_shipmode char(10), l_comment varchar(44), PRIMARY KEY (l_orderkey, l_linenumber)'),
}
SUPPLIERS, CUSTOMERS, PARTS, ORDERS = 40, 150, 200, 900
REGIONS = ['AFRICA', 'AMERICA', 'ASIA', 'EUROPE', 'MIDDLE EAST']
NATIONS = [('ALGERIA', 0), ('ARGENTINA', 1), ('BRAZIL', 1), ('CANADA', 1), ('EGYPT', 4), ('ETHIOPIA', 0), ('FRANCE', 3), ('GERMANY', 3),
           ('INDIA', 2), ('INDONESIA', 2), ('IRAN', 4), ('IRAQ', 4), ('JAPAN', 2), ('JORDAN', 4), ('KENYA', 0), ('MOROCCO', 0),
           ('MOZAMBIQUE', 0), ('PERU', 1), ('CHINA', 2), ('ROMANIA', 3), ('SAUDI ARABIA', 4), ('VIETNAM', 2), ('RUSSIA', 3),
           ('UNITED KINGDOM', 3), ('UNITED STATES', 1)]
COLOURS = ['green', 'forest', 'almond', 'blue', 'ivory', 'red']
START = datetime.date(1992, 1, 1)


def comment(rng):
    words = ['carefully', 'final', 'special', 'quick', 'requests', 'deposits', 'Customer', 'slyly', 'Complaints', 'packages', 'furiously']
    return ' '.join(rng.choice(words) for _ in range(rng.randint(2, 5)))


def phone(rng, nation):
    return f'{nation + 10}-{rng.randint(100, 999)}-{rng.randint(100, 999)}-{rng.randint(1000, 9999)}'


def money(rng, low, high):
    return f'{rng.randint(low * 100, high * 100) / 100:.2f}'


def order_rows(rng, key):
    """One order and its lines."""
    placed = START + datetime.timedelta(days=rng.randint(0, 2400))
    lines, total = [], 0
    for number in range(1, rng.randint(1, 7) + 1):
        quantity, part = rng.randint(1, 50), rng.randint(1, PARTS)
        price = quantity * (90000 + part * 10) // 100
        shipped = placed + datetime.timedelta(days=rng.randint(1, 121))
        due = placed + datetime.timedelta(days=rng.randint(30, 90))
        received = shipped + datetime.timedelta(days=rng.randint(1, 30))
        total += price
        lines.append([key, part, (part + number * 7) % SUPPLIERS + 1, number, quantity, price, f'0.{rng.randint(0, 10):02}', f'0.0{rng.randint(0, 8)}',
                      rng.choice('RAN'), 'F' if shipped < datetime.date(1995, 6, 17) else 'O', shipped, due, received,
                      rng.choice(['DELIVER IN PERSON', 'COLLECT COD', 'NONE']), rng.choice(['AIR', 'AIR REG', 'MAIL', 'SHIP', 'RAIL', 'TRUCK']),
                      comment(rng)[:44]])
    states = {line[9] for line in lines}
    order = [key, rng.choice([c for c in range(1, CUSTOMERS + 1) if c % 3]), states.pop() if len(states) == 1 else 'P', total, placed,
             rng.choice(['1-URGENT', '2-HIGH', '3-MEDIUM', '4-NOT SPECI', '5-LOW']), f'Clerk#{rng.randint(1, 9):09}', 0, comment(rng)]
    return order, lines


def rows(seed):
    """{table: its rows}, the same for the same seed."""
    rng = random.Random(f'tpch {seed}')
    made = {name: [] for name in TABLES}
    made['region'] = [[n, name, comment(rng)] for n, name in enumerate(REGIONS)]
    made['nation'] = [[n, name, region, comment(rng)] for n, (name, region) in enumerate(NATIONS)]
    for key in range(1, SUPPLIERS + 1):
        nation = rng.choice([3, 6, 7, 20, rng.randint(0, 24)])
        made['supplier'].append([key, f'Supplier#{key:09}', f'{comment(rng)[:30]} {key}', nation, phone(rng, nation), money(rng, -999, 9999), comment(rng)])
    kinds = [f'{a} {b} {c}' for a in ('STANDARD', 'MEDIUM', 'ECONOMY', 'PROMO') for b in ('ANODIZED', 'POLISHED', 'BRUSHED') for c in ('STEEL', 'BRASS', 'TIN')]
    boxes = ['MED BOX', 'SM CASE', 'SM BOX', 'MED BAG', 'LG CASE', 'LG PKG']
    for key in range(1, PARTS + 1):
        asked = key % 8 == 0  # by queries 8, 17 and 19
        made['part'].append([key, ' '.join(rng.sample(COLOURS, 3)), f'Manufacturer#{key % 5 + 1}',
                             f'Brand#{rng.choice([12, 23, 34, 45])}' if not asked else 'Brand#23', 'ECONOMY ANODIZED STEEL' if asked else rng.choice(kinds),
                             rng.choice([1, 3, 5, 9, 14, 15, 19, 23, 36, 45, 49]), 'MED BOX' if asked else rng.choice(boxes),
                             f'{900 + key / 10:.2f}', comment(rng)[:23]])
        for n in range(4):
            made['partsupp'].append([key, (key + n * 7) % SUPPLIERS + 1, rng.randint(1, 9999), money(rng, 1, 1000), comment(rng)])
    for key in range(1, CUSTOMERS + 1):
        nation = rng.choice([3, 6, 7, 8, 12, rng.randint(0, 24)])
        made['customer'].append([key, f'Customer#{key:09}', f'{comment(rng)[:30]} {key}', nation, phone(rng, nation), money(rng, -999, 9999),
                                 rng.choice(['BUILDING', 'AUTOMOBILE', 'MACHINERY']), comment(rng)])
    for key in range(1, ORDERS + 1):
        order, lines = order_rows(rng, key)
        made['orders'].append(order)
        made['lineitem'] += lines
    return made


def copy_text(table_rows):
    return ''.join('\t'.join(str(value) for value in row) + '\n' for row in table_rows).encode()


# Each ORDER BY leaves no two rows in doubt: where the specification's does, a key is added.
QUERIES = {
    1: """select l_returnflag, l_linestatus, sum(l_quantity) as sum_qty, sum(l_extendedprice) as sum_base_price,
        sum(l_extendedprice * (1 - l_discount)) as sum_disc_price, sum(l_extendedprice * (1 - l_discount) * (1 + l_tax)) as sum_charge,
        avg(l_quantity) as avg_qty, avg(l_extendedprice) as avg_price, avg(l_discount) as avg_disc, count(*) as count_order
        from lineitem where l_shipdate <= date '1998-12-01' - interval '90' day
        group by l_returnflag, l_linestatus order by l_returnflag, l_linestatus""",
    2: """select s_acctbal, s_name, n_name, p_partkey, p_mfgr, s_address, s_phone, s_comment
        from part, supplier, partsupp, nation, region
        where p_partkey = ps_partkey and s_suppkey = ps_suppkey and p_size = 15 and p_type like '%BRASS'
        and s_nationkey = n_nationkey and n_regionkey = r_regionkey and r_name = 'EUROPE'
        and ps_supplycost = (select min(ps_supplycost) from partsupp, supplier, nation, region
            where p_partkey = ps_partkey and s_suppkey = ps_suppkey and s_nationkey = n_nationkey
            and n_regionkey = r_regionkey and r_name = 'EUROPE')
        order by s_acctbal desc, n_name, s_name, p_partkey limit 100""",
    3: """select l_orderkey, sum(l_extendedprice * (1 - l_discount)) as revenue, o_orderdate, o_shippriority
        from customer, orders, lineitem
        where c_mktsegment = 'BUILDING' and c_custkey = o_custkey and l_orderkey = o_orderkey
        and o_orderdate < date '1995-03-15' and l_shipdate > date '1995-03-15'
        group by l_orderkey, o_orderdate, o_shippriority order by revenue desc, o_orderdate, l_orderkey limit 10""",
    4: """select o_orderpriority, count(*) as order_count from orders
        where o_orderdate >= date '1993-07-01' and o_orderdate < date '1993-07-01' + interval '3' month
        and exists (select * from lineitem where l_orderkey = o_orderkey and l_commitdate < l_receiptdate)
        group by o_orderpriority order by o_orderpriority""",
    5: """select n_name, sum(l_extendedprice * (1 - l_discount)) as revenue
        from customer, orders, lineitem, supplier, nation, region
        where c_custkey = o_custkey and l_orderkey = o_orderkey and l_suppkey = s_suppkey
        and c_nationkey = s_nationkey and s_nationkey = n_nationkey and n_regionkey = r_regionkey
        and r_name = 'EUROPE' and o_orderdate >= date '1994-01-01' and o_orderdate < date '1994-01-01' + interval '1' year
        group by n_name order by revenue desc""",
    6: """select sum(l_extendedprice * l_discount) as revenue from lineitem
        where l_shipdate >= date '1994-01-01' and l_shipdate < date '1994-01-01' + interval '1' year
        and l_discount between 0.06 - 0.01 and 0.06 + 0.01 and l_quantity < 24""",
    7: """select supp_nation, cust_nation, l_year, sum(volume) as revenue from (
            select n1.n_name as supp_nation, n2.n_name as cust_nation, extract(year from l_shipdate) as l_year,
            l_extendedprice * (1 - l_discount) as volume
            from supplier, lineitem, orders, customer, nation n1, nation n2
            where s_suppkey = l_suppkey and o_orderkey = l_orderkey and c_custkey = o_custkey
            and s_nationkey = n1.n_nationkey and c_nationkey = n2.n_nationkey
            and ((n1.n_name = 'FRANCE' and n2.n_name = 'GERMANY') or (n1.n_name = 'GERMANY' and n2.n_name = 'FRANCE'))
            and l_shipdate between date '1995-01-01' and date '1996-12-31') as shipping
        group by supp_nation, cust_nation, l_year order by supp_nation, cust_nation, l_year""",
    8: """select o_year, sum(case when nation = 'CANADA' then volume else 0 end) / sum(volume) as mkt_share from (
            select extract(year from o_orderdate) as o_year, l_extendedprice * (1 - l_discount) as volume, n2.n_name as nation
            from part, supplier, lineitem, orders, customer, nation n1, nation n2, region
            where p_partkey = l_partkey and s_suppkey = l_suppkey and l_orderkey = o_orderkey and o_custkey = c_custkey
            and c_nationkey = n1.n_nationkey and n1.n_regionkey = r_regionkey and r_name = 'AMERICA'
            and s_nationkey = n2.n_nationkey and o_orderdate between date '1995-01-01' and date '1996-12-31'
            and p_type = 'ECONOMY ANODIZED STEEL') as all_nations
        group by o_year order by o_year""",
    9: """select nation, o_year, sum(amount) as sum_profit from (
            select n_name as nation, extract(year from o_orderdate) as o_year,
            l_extendedprice * (1 - l_discount) - ps_supplycost * l_quantity as amount
            from part, supplier, lineitem, partsupp, orders, nation
            where s_suppkey = l_suppkey and ps_suppkey = l_suppkey and ps_partkey = l_partkey and p_partkey = l_partkey
            and o_orderkey = l_orderkey and s_nationkey = n_nationkey and p_name like '%green%') as profit
        group by nation, o_year order by nation, o_year desc""",
    10: """select c_custkey, c_name, sum(l_extendedprice * (1 - l_discount)) as revenue, c_acctbal, n_name, c_address, c_phone, c_comment
        from customer, orders, lineitem, nation
        where c_custkey = o_custkey and l_orderkey = o_orderkey and o_orderdate >= date '1993-10-01'
        and o_orderdate < date '1993-10-01' + interval '3' month and l_returnflag = 'R' and c_nationkey = n_nationkey
        group by c_custkey, c_name, c_acctbal, c_phone, n_name, c_address, c_comment order by revenue desc, c_custkey limit 20""",
    11: """select ps_partkey, sum(ps_supplycost * ps_availqty) as value from partsupp, supplier, nation
        where ps_suppkey = s_suppkey and s_nationkey = n_nationkey and n_name = 'GERMANY'
        group by ps_partkey having sum(ps_supplycost * ps_availqty) > (
            select sum(ps_supplycost * ps_availqty) * 0.01 from partsupp, supplier, nation
            where ps_suppkey = s_suppkey and s_nationkey = n_nationkey and n_name = 'GERMANY')
        order by value desc, ps_partkey""",
    12: """select l_shipmode, sum(case when o_orderpriority = '1-URGENT' or o_orderpriority = '2-HIGH' then 1 else 0 end) as high_line_count,
        sum(case when o_orderpriority <> '1-URGENT' and o_orderpriority <> '2-HIGH' then 1 else 0 end) as low_line_count
        from orders, lineitem where o_orderkey = l_orderkey and l_shipmode in ('MAIL', 'SHIP')
        and l_commitdate < l_receiptdate and l_shipdate < l_commitdate and l_receiptdate >= date '1994-01-01'
        and l_receiptdate < date '1994-01-01' + interval '1' year group by l_shipmode order by l_shipmode""",
    13: """select c_count, count(*) as custdist from (
            select c_custkey, count(o_orderkey) from customer left outer join orders
            on c_custkey = o_custkey and o_comment not like '%special%requests%' group by c_custkey) as c_orders (c_custkey, c_count)
        group by c_count order by custdist desc, c_count desc""",
    14: """select 100.00 * sum(case when p_type like 'PROMO%' then l_extendedprice * (1 - l_discount) else 0 end)
        / sum(l_extendedprice * (1 - l_discount)) as promo_revenue from lineitem, part
        where l_partkey = p_partkey and l_shipdate >= date '1995-09-01' and l_shipdate < date '1995-09-01' + interval '1' month""",
    15: """with revenue (supplier_no, total_revenue) as (
            select l_suppkey, sum(l_extendedprice * (1 - l_discount)) from lineitem
            where l_shipdate >= date '1996-01-01' and l_shipdate < date '1996-01-01' + interval '3' month group by l_suppkey)
        select s_suppkey, s_name, s_address, s_phone, total_revenue from supplier, revenue
        where s_suppkey = supplier_no and total_revenue = (select max(total_revenue) from revenue) order by s_suppkey""",
    16: """select p_brand, p_type, p_size, count(distinct ps_suppkey) as supplier_cnt from partsupp, part
        where p_partkey = ps_partkey and p_brand <> 'Brand#45' and p_type not like 'MEDIUM POLISHED%'
        and p_size in (49, 14, 23, 45, 19, 3, 36, 9) and ps_suppkey not in (
            select s_suppkey from supplier where s_comment like '%Customer%Complaints%')
        group by p_brand, p_type, p_size order by supplier_cnt desc, p_brand, p_type, p_size""",
    17: """select sum(l_extendedprice) / 7.0 as avg_yearly from lineitem, part
        where p_partkey = l_partkey and p_brand = 'Brand#23' and p_container = 'MED BOX'
        and l_quantity < (select 0.7 * avg(l_quantity) from lineitem where l_partkey = p_partkey)""",
    18: """select c_name, c_custkey, o_orderkey, o_orderdate, o_totalprice, sum(l_quantity) from customer, orders, lineitem
        where o_orderkey in (select l_orderkey from lineitem group by l_orderkey having sum(l_quantity) > 200)
        and c_custkey = o_custkey and o_orderkey = l_orderkey
        group by c_name, c_custkey, o_orderkey, o_orderdate, o_totalprice
        order by o_totalprice desc, o_orderdate, o_orderkey limit 100""",
    19: """select sum(l_extendedprice * (1 - l_discount)) as revenue from lineitem, part
        where (p_partkey = l_partkey and p_brand = 'Brand#12' and p_container in ('SM CASE', 'SM BOX', 'SM PACK', 'SM PKG')
            and l_quantity >= 1 and l_quantity <= 31 and p_size between 1 and 25 and l_shipmode in ('AIR', 'AIR REG')
            and l_shipinstruct = 'DELIVER IN PERSON')
        or (p_partkey = l_partkey and p_brand = 'Brand#23' and p_container in ('MED BAG', 'MED BOX', 'MED PKG', 'MED PACK')
            and l_quantity >= 10 and l_quantity <= 40 and p_size between 1 and 30 and l_shipmode in ('AIR', 'AIR REG')
            and l_shipinstruct = 'DELIVER IN PERSON')
        or (p_partkey = l_partkey and p_brand = 'Brand#34' and p_container in ('LG CASE', 'LG BOX', 'LG PACK', 'LG PKG')
            and l_quantity >= 20 and l_quantity <= 50 and p_size between 1 and 45 and l_shipmode in ('AIR', 'AIR REG')
            and l_shipinstruct = 'DELIVER IN PERSON')""",
    20: """select s_name, s_address from supplier, nation
        where s_suppkey in (select ps_suppkey from partsupp
            where ps_partkey in (select p_partkey from part where p_name like 'forest%')
            and ps_availqty > (select 0.5 * sum(l_quantity) from lineitem
                where l_partkey = ps_partkey and l_suppkey = ps_suppkey
                and l_shipdate >= date '1994-01-01' and l_shipdate < date '1994-01-01' + interval '1' year))
        and s_nationkey = n_nationkey and n_name = 'CANADA' order by s_name""",
    21: """select s_name, count(*) as numwait from supplier, lineitem l1, orders, nation
        where s_suppkey = l1.l_suppkey and o_orderkey = l1.l_orderkey and o_orderstatus = 'F' and l1.l_receiptdate > l1.l_commitdate
        and exists (select * from lineitem l2 where l2.l_orderkey = l1.l_orderkey and l2.l_suppkey <> l1.l_suppkey)
        and not exists (select * from lineitem l3 where l3.l_orderkey = l1.l_orderkey and l3.l_suppkey <> l1.l_suppkey
            and l3.l_receiptdate > l3.l_commitdate)
        and s_nationkey = n_nationkey and n_name = 'SAUDI ARABIA' group by s_name order by numwait desc, s_name limit 100""",
    22: """select cntrycode, count(*) as numcust, sum(c_acctbal) as totacctbal from (
            select substring(c_phone from 1 for 2) as cntrycode, c_acctbal from customer
            where substring(c_phone from 1 for 2) in ('13', '31', '23', '29', '30', '18', '17')
            and c_acctbal > (select avg(c_acctbal) from customer where c_acctbal > 0.00
                and substring(c_phone from 1 for 2) in ('13', '31', '23', '29', '30', '18', '17'))
            and not exists (select * from orders where o_custkey = c_custkey)) as custsale
        group by cntrycode order by cntrycode""",
}
