// An application of the pg driver: pool, prepared statements, transactions, errors, many concurrent lookups.
// Prints `ok` at the end; any surprise ends it with a stack trace and status 1.
'use strict';
const assert = require('node:assert');
const { Pool, Client } = require('pg');

const config = { host: '127.0.0.1', port: Number(process.argv[2]), user: 'app', database: process.argv[3] };

async function main() {
  const pool = new Pool({ ...config, max: 32 });

  await pool.query('DROP TABLE IF EXISTS node_people');
  await pool.query('CREATE TABLE node_people (id int PRIMARY KEY, name text, born date, tags text[], doc jsonb)');
  for (let i = 1; i <= 100; i++)
    await pool.query('INSERT INTO node_people VALUES ($1, $2, $3, $4, $5)',
      [i, `name ${i}`, '2000-01-02', ['a', 'b'], { n: i }]);

  const one = await pool.query('SELECT * FROM node_people WHERE id = $1', [7]);
  assert.strictEqual(one.rowCount, 1);
  assert.strictEqual(one.rows[0].name, 'name 7');
  assert.deepStrictEqual(one.rows[0].tags, ['a', 'b']);
  assert.deepStrictEqual(one.rows[0].doc, { n: 7 });

  // Many at once: what a web server's handlers do, and what Shoal batches.
  const answers = await Promise.all(Array.from({ length: 1000 }, (_, n) =>
    pool.query('SELECT id, name FROM node_people WHERE id = $1', [n % 110 + 1])));
  answers.forEach((answer, n) => {
    const id = n % 110 + 1;
    assert.deepStrictEqual(answer.rows, id <= 100 ? [{ id, name: `name ${id}` }] : []);
  });

  // Named prepared statements wander over the pool's connections.
  const named = await Promise.all(Array.from({ length: 300 }, (_, n) =>
    pool.query({ name: 'by-id', text: 'SELECT name FROM node_people WHERE id = $1', values: [n % 100 + 1] })));
  named.forEach((answer, n) => assert.strictEqual(answer.rows[0].name, `name ${n % 100 + 1}`));

  const client = await pool.connect();
  await client.query('BEGIN');
  await client.query('UPDATE node_people SET name = $1 WHERE id = 1', ['changed']);
  await client.query('ROLLBACK');
  assert.strictEqual((await client.query('SELECT name FROM node_people WHERE id = 1')).rows[0].name, 'name 1');
  client.release();

  await assert.rejects(pool.query('SELECT * FROM no_such_table'), { code: '42P01' });
  await assert.rejects(pool.query('SELECT name FROM node_people WHERE id = $1', ['abc']), { code: '22P02' });
  await assert.rejects(pool.query('SELECT 1/0'), { code: '22012' });
  assert.strictEqual((await pool.query('SELECT 5 AS five')).rows[0].five, 5);

  const single = new Client(config);
  await single.connect();
  const order = await Promise.all(Array.from({ length: 50 }, (_, n) => single.query('SELECT $1::int AS n', [n])));
  order.forEach((answer, n) => assert.strictEqual(answer.rows[0].n, n));
  await single.end();

  await pool.query('DROP TABLE node_people');
  await pool.end();
  console.log('ok');
}

main().catch((err) => { console.error(err); process.exit(1); });
