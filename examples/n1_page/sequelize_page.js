// The page as a Node application writes it: unmodified Sequelize.
//     node sequelize_page.js PORT autocommit|repeatable-read
'use strict';
const crypto = require('node:crypto');
const readline = require('node:readline');
const { Sequelize, DataTypes, Transaction } = require('sequelize');

const WARM = 5, PAGES = 20;
const [port, mode] = process.argv.slice(2);
const sequelize = new Sequelize('blog', 'app', '', {
  dialect: 'postgres', host: '127.0.0.1', port: Number(port), logging: false, pool: { max: 1, min: 1 } });

const Author = sequelize.define('author', { name: DataTypes.TEXT, bio: DataTypes.TEXT }, { timestamps: false });
const Post = sequelize.define('post', { title: DataTypes.TEXT }, { timestamps: false });
Post.belongsTo(Author, { foreignKey: 'author_id' });

async function read(options) {
  const lines = [];
  for (const post of await Post.findAll({ order: ['id'], limit: 100, ...options })) {
    const author = await post.getAuthor(options);
    lines.push(`${post.title} by ${author.name}`);
  }
  return lines.join('\n');
}

function page() {
  if (mode !== 'repeatable-read')
    return read({});
  return sequelize.transaction({ isolationLevel: Transaction.ISOLATION_LEVELS.REPEATABLE_READ },
    (transaction) => read({ transaction }));
}

async function main() {
  let text;
  for (let i = 0; i < WARM; i++)
    text = await page();
  const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  console.log('warm');
  await lines.next();
  const times = [];
  for (let i = 0; i < PAGES; i++) {
    const started = process.hrtime.bigint();
    const again = await page();
    times.push(Number(process.hrtime.bigint() - started) / 1e6);
    if (again !== text)
      throw new Error('another page');
  }
  times.sort((a, b) => a - b);
  console.log(JSON.stringify({ pages: PAGES, ms: Number(times[PAGES / 2].toFixed(2)),
    digest: crypto.createHash('sha256').update(text).digest('hex') }));
  await sequelize.close();
  process.exit(0);
}

main().catch((err) => { console.error(err); process.exit(1); });
