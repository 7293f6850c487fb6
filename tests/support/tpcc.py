"""TPC-C in small: nine tables by warehouse, and its five transactions as a terminal would send them.

A Terminal runs on any connection and depends on its random numbers alone, so that two of them with the same seed say the
same. What each statement answered is in `heard`.
"""
import random

# table: shard key (None: reference table), DDL
TABLES = {
    'warehouse': ('w_id', 'w_id int PRIMARY KEY, w_name text, w_tax numeric(4,4), w_ytd numeric(12,2)'),
    'district': ('d_w_id', 'd_w_id int, d_id int, d_tax numeric(4,4), d_ytd numeric(12,2), d_next_o_id int, PRIMARY KEY (d_w_id, d_id)'),
    'customer': ('c_w_id', 'c_w_id int, c_d_id int, c_id int, c_last text, c_first text, c_credit char(2), c_discount numeric(4,4), '
                 'c_balance numeric(12,2), c_ytd_payment numeric(12,2), c_payment_cnt int, c_delivery_cnt int, c_data text, '
                 'PRIMARY KEY (c_w_id, c_d_id, c_id)'),
    'history': ('h_c_w_id', 'h_c_w_id int, h_c_d_id int, h_c_id int, h_w_id int, h_d_id int, h_amount numeric(6,2), h_data text'),
    'orders': ('o_w_id', 'o_w_id int, o_d_id int, o_id int, o_c_id int, o_carrier_id int, o_ol_cnt int, o_all_local int, '
               'PRIMARY KEY (o_w_id, o_d_id, o_id)'),
    'new_order': ('no_w_id', 'no_w_id int, no_d_id int, no_o_id int, PRIMARY KEY (no_w_id, no_d_id, no_o_id)'),
    'order_line': ('ol_w_id', 'ol_w_id int, ol_d_id int, ol_o_id int, ol_number int, ol_i_id int, ol_supply_w_id int, ol_delivered bool, '
                   'ol_quantity int, ol_amount numeric(6,2), PRIMARY KEY (ol_w_id, ol_d_id, ol_o_id, ol_number)'),
    'stock': ('s_w_id', 's_w_id int, s_i_id int, s_quantity int, s_ytd int, s_order_cnt int, s_remote_cnt int, PRIMARY KEY (s_w_id, s_i_id)'),
    'item': (None, 'i_id int PRIMARY KEY, i_name text, i_price numeric(5,2)'),
}
WAREHOUSES, DISTRICTS, CUSTOMERS, ITEMS = 6, 3, 12, 30
LAST = 'BAR OUGHT ABLE PRI'.split()


def load():
    """Statements that fill the empty tables, the larger ones by INSERT ... SELECT."""
    yield f"INSERT INTO item SELECT i, 'item ' || i, 1 + i / 4.0 FROM generate_series(1, {ITEMS}) i"
    yield f"INSERT INTO warehouse SELECT w, 'w' || w, w / 100.0, 300000 FROM generate_series(1, {WAREHOUSES}) w"
    yield f'INSERT INTO district SELECT w_id, d, d / 50.0, 100000, 1 FROM warehouse, generate_series(1, {DISTRICTS}) d'
    yield (f"INSERT INTO customer SELECT d_w_id, d_id, c, split_part('BAR OUGHT ABLE PRI', ' ', 1 + c % 4), 'f' || c, "
           f"CASE c % 5 WHEN 0 THEN 'BC' ELSE 'GC' END, c / 100.0, -10, 10, 1, 0, 'data' FROM district, generate_series(1, {CUSTOMERS}) c")
    yield 'INSERT INTO stock SELECT w_id, i_id, 10 + (w_id * 7 + i_id) % 90, 0, 0, 0 FROM warehouse CROSS JOIN item'


class Terminal:
    def __init__(self, conn, seed):
        self.conn, self.rng, self.heard = conn, random.Random(seed), []

    def ask(self, sql, *values):
        rows = self.conn.execute(sql, [str(value) for value in values]) if values else self.conn.query(sql)
        self.heard.append((sql, values, rows))
        return rows

    def place(self):
        return self.rng.randint(1, WAREHOUSES), self.rng.randint(1, DISTRICTS)

    def elsewhere(self, w):
        return self.rng.choice([other for other in range(1, WAREHOUSES + 1) if other != w])

    def customer(self, w, d):
        """By number, or the one in the middle of those of that name."""
        if self.rng.random() < 0.4:
            return self.rng.randint(1, CUSTOMERS)
        rows = self.ask('SELECT c_id FROM customer WHERE c_w_id = $1 AND c_d_id = $2 AND c_last = $3 ORDER BY c_first', w, d, self.rng.choice(LAST))
        return int(rows[(len(rows) - 1) // 2][0])

    def new_order(self):
        w, d = self.place()
        c = self.rng.randint(1, CUSTOMERS)
        wrong = self.rng.random() < 0.1  # an item that does not exist: everything is undone
        lines = [(i, self.elsewhere(w) if self.rng.random() < 0.2 else w, self.rng.randint(1, 10))
                 for i in self.rng.sample(range(1, ITEMS + 1), self.rng.randint(3, 8))]
        self.ask('BEGIN')
        self.ask('SELECT c_discount, c_last, c_credit, w_tax FROM customer JOIN warehouse ON w_id = c_w_id WHERE c_w_id = $1 AND c_d_id = $2 AND c_id = $3', w, d, c)
        o = int(self.ask('UPDATE district SET d_next_o_id = d_next_o_id + 1 WHERE d_w_id = $1 AND d_id = $2 RETURNING d_next_o_id - 1', w, d)[0][0])
        self.ask('INSERT INTO orders VALUES ($1, $2, $3, $4, NULL, $5, $6)', w, d, o, c, len(lines), int(all(s == w for _, s, _ in lines)))
        self.ask('INSERT INTO new_order VALUES ($1, $2, $3)', w, d, o)
        for number, (i, supplier, quantity) in enumerate(lines, 1):
            found = self.ask('SELECT i_price, i_name FROM item WHERE i_id = $1', ITEMS + 1 if wrong and number == len(lines) else i)
            if not found:
                self.ask('ROLLBACK')
                return
            self.ask('UPDATE stock SET s_quantity = CASE WHEN s_quantity >= $3::int + 10 THEN s_quantity - $3 ELSE s_quantity - $3 + 91 END, '
                     's_ytd = s_ytd + $3, s_order_cnt = s_order_cnt + 1, s_remote_cnt = s_remote_cnt + $4 '
                     'WHERE s_w_id = $1 AND s_i_id = $2 RETURNING s_quantity', supplier, i, quantity, int(supplier != w))
            self.ask('INSERT INTO order_line VALUES ($1, $2, $3, $4, $5, $6, false, $7, $8)', w, d, o, number, i, supplier, quantity,
                     f'{quantity * float(found[0][0]):.2f}')
        self.ask('COMMIT')

    def payment(self):
        w, d = self.place()
        cw, cd = (self.elsewhere(w), self.rng.randint(1, DISTRICTS)) if self.rng.random() < 0.3 else (w, d)
        amount = f'{self.rng.randint(100, 500000) / 100:.2f}'
        self.ask('BEGIN')
        self.ask('UPDATE warehouse SET w_ytd = w_ytd + $2 WHERE w_id = $1 RETURNING w_name', w, amount)
        self.ask('UPDATE district SET d_ytd = d_ytd + $3 WHERE d_w_id = $1 AND d_id = $2', w, d, amount)
        c = self.customer(cw, cd)
        self.ask("UPDATE customer SET c_balance = c_balance - $4, c_ytd_payment = c_ytd_payment + $4, c_payment_cnt = c_payment_cnt + 1, "
                 "c_data = CASE c_credit WHEN 'BC' THEN left(c_id || ' ' || c_data, 100) ELSE c_data END "
                 'WHERE c_w_id = $1 AND c_d_id = $2 AND c_id = $3 RETURNING c_balance, c_credit, c_data', cw, cd, c, amount)
        self.ask("INSERT INTO history VALUES ($1, $2, $3, $4, $5, $6, 'paid')", cw, cd, c, w, d, amount)
        self.ask('COMMIT')

    def order_status(self):
        w, d = self.place()
        self.ask('BEGIN READ ONLY')
        c = self.customer(w, d)
        rows = self.ask('SELECT o_id, o_carrier_id FROM orders WHERE o_w_id = $1 AND o_d_id = $2 AND o_c_id = $3 ORDER BY o_id DESC LIMIT 1', w, d, c)
        if rows:
            self.ask('SELECT ol_i_id, ol_supply_w_id, ol_quantity, ol_amount, ol_delivered FROM order_line '
                     'WHERE ol_w_id = $1 AND ol_d_id = $2 AND ol_o_id = $3 ORDER BY ol_number', w, d, rows[0][0])
        self.ask('COMMIT')

    def delivery(self):
        w, _ = self.place()
        carrier = self.rng.randint(1, 10)
        self.ask('BEGIN')
        for d in range(1, DISTRICTS + 1):
            rows = self.ask('DELETE FROM new_order WHERE no_w_id = $1 AND no_d_id = $2 AND no_o_id = (SELECT min(no_o_id) FROM new_order '
                            'WHERE no_w_id = $1 AND no_d_id = $2) RETURNING no_o_id', w, d)
            if not rows:
                continue
            o = rows[0][0]
            c = self.ask('UPDATE orders SET o_carrier_id = $4 WHERE o_w_id = $1 AND o_d_id = $2 AND o_id = $3 RETURNING o_c_id', w, d, o, carrier)[0][0]
            self.ask('UPDATE order_line SET ol_delivered = true WHERE ol_w_id = $1 AND ol_d_id = $2 AND ol_o_id = $3', w, d, o)
            self.ask('UPDATE customer SET c_balance = c_balance + (SELECT sum(ol_amount) FROM order_line WHERE ol_w_id = $1 AND ol_d_id = $2 AND ol_o_id = $4), '
                     'c_delivery_cnt = c_delivery_cnt + 1 WHERE c_w_id = $1 AND c_d_id = $2 AND c_id = $3 RETURNING c_balance', w, d, c, o)
        self.ask('COMMIT')

    def stock_level(self):
        w, d = self.place()
        self.ask('SELECT count(DISTINCT s_i_id) FROM district JOIN order_line ON ol_w_id = d_w_id AND ol_d_id = d_id '
                 'AND ol_o_id < d_next_o_id AND ol_o_id >= d_next_o_id - 20 JOIN stock ON s_w_id = d_w_id AND s_i_id = ol_i_id '
                 'WHERE d_w_id = $1 AND d_id = $2 AND s_quantity < $3', w, d, self.rng.randint(10, 60))

    def run(self, count):
        """The specification's mix."""
        for _ in range(count):
            self.rng.choices([self.new_order, self.payment, self.order_status, self.delivery, self.stock_level], [45, 43, 4, 4, 4])[0]()


# Clause 3.3.2: each of these gives no row on a consistent database.
CONDITIONS = {
    1: 'SELECT w_id FROM warehouse JOIN district ON d_w_id = w_id GROUP BY w_id, w_ytd HAVING w_ytd <> sum(d_ytd)',
    2: 'SELECT d_w_id, d_id FROM district LEFT JOIN (SELECT o_w_id, o_d_id, max(o_id) AS last FROM orders GROUP BY 1, 2) o '
       'ON o_w_id = d_w_id AND o_d_id = d_id WHERE d_next_o_id - 1 <> coalesce(last, 0)',
    3: 'SELECT no_w_id, no_d_id FROM new_order GROUP BY 1, 2 HAVING max(no_o_id) - min(no_o_id) + 1 <> count(*)',
    4: 'SELECT * FROM (SELECT o_w_id, o_d_id, sum(o_ol_cnt) AS n FROM orders GROUP BY 1, 2) a FULL JOIN '
       '(SELECT ol_w_id, ol_d_id, count(*) AS m FROM order_line GROUP BY 1, 2) b ON o_w_id = ol_w_id AND o_d_id = ol_d_id WHERE n IS DISTINCT FROM m',
    5: 'SELECT o_w_id, o_d_id, o_id FROM orders LEFT JOIN new_order ON no_w_id = o_w_id AND no_d_id = o_d_id AND no_o_id = o_id '
       'WHERE (o_carrier_id IS NULL) <> (no_o_id IS NOT NULL)',
    6: 'SELECT o_w_id, o_d_id, o_id FROM orders LEFT JOIN order_line ON ol_w_id = o_w_id AND ol_d_id = o_d_id AND ol_o_id = o_id '
       'GROUP BY o_w_id, o_d_id, o_id HAVING count(ol_number) <> max(o_ol_cnt)',
    7: 'SELECT ol_w_id, ol_o_id FROM order_line JOIN orders ON o_w_id = ol_w_id AND o_d_id = ol_d_id AND o_id = ol_o_id '
       'WHERE ol_delivered <> (o_carrier_id IS NOT NULL)',
    8: 'SELECT w_id FROM warehouse LEFT JOIN (SELECT h_w_id, sum(h_amount) AS paid FROM history GROUP BY 1) h ON h_w_id = w_id '
       'WHERE w_ytd <> 300000 + coalesce(paid, 0)',
    12: "SELECT c_w_id, c_d_id, c_id FROM customer LEFT JOIN (SELECT o_w_id, o_d_id, o_c_id, sum(ol_amount) AS due FROM orders JOIN order_line "
        'ON ol_w_id = o_w_id AND ol_d_id = o_d_id AND ol_o_id = o_id WHERE ol_delivered GROUP BY 1, 2, 3) d ON o_w_id = c_w_id AND o_d_id = c_d_id '
        'AND o_c_id = c_id WHERE c_balance + c_ytd_payment <> coalesce(due, 0)',
}
