/*
 * shoal.js - asks /api, draws. No library, no state but what the last two answers differ by.
 *
 *   fast, every 2 s     stats health latency history shards pools
 *   slow, every 10 s    statements batches batch_reasons events map version process, and every SHOW
 *                       that this page does not know: those are tables below, drawn when opened
 *
 * Texts come from clients (an application_name may be a script): they go into the page by
 * textContent alone, never as HTML.
 */
'use strict';

/* ---- small tools ---------------------------------------------------------------------------- */

const SVG = 'http://www.w3.org/2000/svg';
const $ = (id) => document.getElementById(id);

/* el('td', {class: 'n'}, 'text', child ...) */
function el(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}
function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}
function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
  for (const child of children) if (child !== null && child !== undefined) node.append(child);
  return node;
}
function put(node, ...children) {
  node.replaceChildren(...children.filter((c) => c !== null && c !== undefined));
}
const body = (id) => $(id).querySelector('.body');

function count(n) {
  if (n === null || n === undefined) return '-';
  for (const [limit, unit] of [[1e9, 'G'], [1e6, 'M'], [1e4, 'k']])
    if (n >= limit) return (n / (unit === 'k' ? 1e3 : limit)).toPrecision(3).replace(/\.?0+$/, (s) => s.includes('.') ? '' : s) + ' ' + unit;
  return n >= 100 || Number.isInteger(n) ? Math.round(n).toLocaleString('en') : n.toFixed(1);
}
function time(us) {
  if (us === null || us === undefined) return '-';
  if (us >= 1e6) return (us / 1e6).toPrecision(3) + ' s';
  if (us >= 1e3) return (us / 1e3).toPrecision(3) + ' ms';
  return Math.round(us) + ' µs';
}
function bytes(n) {
  if (n === null || n === undefined) return '-';
  for (const [limit, unit] of [[1 << 30, 'GiB'], [1 << 20, 'MiB'], [1 << 10, 'KiB']])
    if (n >= limit) return (n / limit).toPrecision(3) + ' ' + unit;
  return n + ' B';
}
const percent = (x) => (100 * x).toFixed(x < 0.1 ? 1 : 0) + ' %';
const pairs = (rows) => Object.fromEntries(rows.map((r) => [r.name, r.value]));

/* A column's name says what its numbers are. */
function cell(name, value) {
  if (value === null) return '';
  if (typeof value !== 'number') return String(value);
  if (name.endsWith('_us')) return time(value);
  if (name.endsWith('_ms')) return time(value * 1000);
  if (name.endsWith('_s') && name !== 'per_s' && !name.endsWith('_per_s')) return time(value * 1e6);
  if (name.endsWith('bytes') || name.startsWith('bytes')) return bytes(value);
  return value.toLocaleString('en');
}

/* columns: [{name, title, type, show(row)}] */
function table(columns, rows) {
  const isNumber = (c) => c.type === 'number';
  const head = el('tr', {}, ...columns.map((c) => el('th', isNumber(c) ? {class: 'n'} : {}, c.title ?? c.name.replaceAll('_', ' '))));
  const lines = rows.map((row) => el('tr', {}, ...columns.map((c) => {
    const shown = c.show ? c.show(row) : cell(c.name, row[c.name]);
    return el('td', {class: c.class ?? (isNumber(c) ? 'n' : '')}, shown);
  })));
  return el('div', {class: 'scroll'}, el('table', {}, el('thead', {}, head), el('tbody', {}, ...lines)));
}
const none = (text) => el('p', {class: 'none'}, text);

/* ---- asking ---------------------------------------------------------------------------------- */

const seen = {};    /* name -> the newest answer */
const before = {};  /* name -> the one before it */

async function ask(name) {
  const answer = await fetch(`/api/${name}.json`, {cache: 'no-store'});
  if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
  before[name] = seen[name];
  seen[name] = await answer.json();
  return seen[name];
}

/* How much a figure of SHOW STATS has grown per second between the last two answers. */
function rate(name) {
  if (!before.stats) return null;
  const now = pairs(seen.stats.rows), then = pairs(before.stats.rows);
  const seconds = seen.stats.at_s - before.stats.at_s;
  return seconds > 0 && now[name] >= then[name] ? (now[name] - then[name]) / seconds : null;
}

/* ---- at a glance ------------------------------------------------------------------------------ */

function drawVerdict() {
  const wrong = seen.health.rows.filter((r) => r.state !== 'ok');
  const level = wrong.some((r) => r.state === 'bad') ? 'bad' : wrong.length ? 'warning' : 'ok';
  const box = $('verdict');
  box.className = 'verdict ' + level;
  box.querySelector('strong').textContent =
    {ok: 'Everything is well.', warning: 'Look at this.', bad: 'Something is wrong.'}[level];
  put(box.querySelector('ul'), ...wrong.map((r) => el('li', {}, el('b', {}, r.check + ': '), r.what ?? '')));
  document.title = level === 'ok' ? 'Shoal' : `Shoal: ${level}`;
}

function tile(value, name, level) {
  return el('div', {class: 'tile ' + (level ?? '')}, el('b', {}, value), el('span', {}, name));
}

function totalOfMinute() {
  const rows = seen.latency.rows.filter((r) => r.stage === 'total' && r.path !== 'local' && r.minute_p50_us !== null);
  return rows.sort((a, b) => b.count - a.count)[0];
}

function drawTiles() {
  const stats = pairs(seen.stats.rows);
  const total = totalOfMinute(), statements = rate('statements'), saved = rate('statements_saved');
  const batched = rate('batched_statements'), batches = rate('batches'), errors = rate('errors');
  const waiting = seen.pools.rows.reduce((sum, r) => sum + r.waiting, 0);
  put($('tiles'),
    tile(statements === null ? '-' : count(statements), 'statements/s'),
    tile(total ? time(total.minute_p50_us) : '-', 'p50, 1 minute'),
    tile(total ? time(total.minute_p99_us) : '-', 'p99, 1 minute'),
    tile(batches ? (batched / batches).toFixed(1) : '-', 'per batch'),
    tile(saved === null ? '-' : statements > 0 ? percent(Math.min(saved / statements, 1)) : '0 %', 'saved'),
    tile(count(stats.statements_saved), 'saved in all'),
    tile(count(stats.clients), 'clients'),
    tile(count(waiting), 'waiting', waiting > 20 ? 'warning' : ''),
    tile(errors === null ? '-' : count(errors), 'errors/s', errors > 0 && errors > statements / 10 ? 'bad' : ''));
}

/* ---- curves ----------------------------------------------------------------------------------- */

const WIDTH = 400, HEIGHT = 110, LEFT = 46, BOTTOM = 16;

function niceTop(max) {
  if (!(max > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(max));
  return [1, 2, 5, 10].map((m) => m * power).find((t) => t >= max);
}

/* series: arrays of numbers or null, oldest first, one every five seconds. */
function drawChart(id, series, label, minutes) {
  const chart = $(id), length = Math.max(...series.map((s) => s.length), 2);
  const top = niceTop(Math.max(...series.flat().map((v) => v ?? 0)));
  const x = (i, n) => LEFT + (WIDTH - LEFT - 4) * (i + length - n) / (length - 1);
  const y = (v) => 6 + (HEIGHT - BOTTOM - 6) * (1 - v / top);
  const parts = [];
  for (const share of [0, 0.5, 1]) {
    parts.push(svg('line', {class: 'grid', x1: LEFT, x2: WIDTH - 4, y1: y(top * share), y2: y(top * share)}));
    parts.push(svg('text', {x: LEFT - 6, y: y(top * share) + 3, 'text-anchor': 'end'}, label(top * share)));
  }
  parts.push(svg('text', {x: LEFT, y: HEIGHT - 3}, `${minutes} min ago`));
  parts.push(svg('text', {x: WIDTH - 4, y: HEIGHT - 3, 'text-anchor': 'end'}, 'now'));
  series.forEach((values, k) => {
    const points = values.map((v, i) => v === null ? null : [x(i, values.length), y(v)]);
    let path = '', pen = false;
    for (const p of points) {
      if (p) path += `${pen ? 'L' : 'M'}${p[0].toFixed(1)} ${p[1].toFixed(1)}`;
      pen = p !== null;
    }
    const drawn = points.filter((p) => p);
    if (series.length === 1 && drawn.length > 1)
      parts.push(svg('path', {class: 'area', d: `M${drawn[0][0]} ${y(0)}` + drawn.map((p) => `L${p[0].toFixed(1)} ${p[1].toFixed(1)}`).join('') +
        `L${drawn.at(-1)[0]} ${y(0)}Z`}));
    if (path) parts.push(svg('path', {class: 'line' + (k ? ' second' : ''), d: path}));
  });
  chart.setAttribute('viewBox', `0 0 ${WIDTH} ${HEIGHT}`);
  put(chart, ...parts);
}

function drawCurves() {
  const rows = [...seen.history.rows].reverse();
  const minutes = Math.max(1, Math.round(rows.length * 5 / 60));
  drawChart('chart-rate', [rows.map((r) => r.statements_per_s)], count, minutes);
  drawChart('chart-latency', [rows.map((r) => r.p50_us), rows.map((r) => r.p99_us)], time, minutes);
  drawChart('chart-batch', [rows.map((r) => r.batches_per_s ? r.batched_per_s / r.batches_per_s : null)],
    (v) => Number.isInteger(v) ? String(v) : v.toFixed(1), minutes);
}

/* ---- latency, batches -------------------------------------------------------------------------- */

const STAGES = {read: 'in the kernel, decoding', order: 'behind own earlier ones', plan: 'parsing, planning',
  queue: 'collecting a batch, waiting for a connection', server: 'PostgreSQL and the way there',
  split: 'dealing out the rows', write: 'until the client has it', total: 'all together'};

function bar(name, title, strong, soft, top, text) {
  const width = (v) => `width:${Math.max(0, Math.min(100, 100 * v / top))}%`;
  const i = (cls, v) => { const node = el('i', {class: cls}); node.style.cssText = width(v); return node; };
  return el('div', {class: 'bar', title}, el('span', {}, name),
    el('span', {class: 'track'}, i('', soft), i('strong', strong)), el('span', {class: 'n'}, ...text));
}

function drawLatency() {
  const parts = [];
  for (const path of ['batched', 'direct', 'scatter']) {
    const rows = seen.latency.rows.filter((r) => r.path === path && r.minute_p50_us !== null);
    const total = rows.find((r) => r.stage === 'total');
    if (!total) continue;
    parts.push(el('p', {class: 'quiet'}, `${path}, p50 and p99, ${count(total.count)} requests since the start`));
    for (const r of rows)
      if (r.minute_p99_us > 0)
        parts.push(bar(r.stage, STAGES[r.stage] ?? '', r.minute_p50_us, r.minute_p99_us, total.minute_p99_us,
          [el('b', {}, time(r.minute_p50_us)), ' ', time(r.minute_p99_us)]));
  }
  put(body('latency'), ...(parts.length ? parts : [none('No requests in the last minute.')]));
}

/* "1:20 2-3:7" of all templates, added up. */
function drawSizes() {
  const sum = new Map();
  for (const row of seen.batches.rows)
    for (const part of (row.sizes ?? '').split(' ').filter((p) => p)) {
      const [range, n] = part.split(':');
      sum.set(range, (sum.get(range) ?? 0) + Number(n));
    }
  const rows = [...sum].sort((a, b) => parseInt(a[0]) - parseInt(b[0]));
  if (!rows.length) return put(body('sizes'), none('Nothing was batched yet.'));
  const top = Math.max(...rows.map((r) => r[1])), all = rows.reduce((s, r) => s + r[1], 0);
  put(body('sizes'), el('p', {class: 'quiet'}, 'statements that travelled together'),
    ...rows.map(([range, n]) => bar(range === '1' ? 'alone' : range, '', n, n, top, [el('b', {}, count(n)), ' ', percent(n / all)])));
}

/* ---- shards, servers, pools ---------------------------------------------------------------------- */

/* "0-340, 682-700" as rectangles on a line of all buckets. */
function bucketLine(map) {
  const total = map[0]?.bucket_count || 1;
  const line = svg('svg', {viewBox: `0 0 ${total} 10`, preserveAspectRatio: 'none', role: 'img', 'aria-label': 'buckets by shard'});
  map.forEach((row, i) => {
    for (const run of (row.ranges ?? '').split(', ')) {
      const [from, to] = run.split('-').map(Number);
      if (Number.isFinite(from) && Number.isFinite(to))
        line.append(svg('rect', {class: 'c' + i % 8, x: from, y: 0, width: to - from + 1, height: 10}));
    }
  });
  return el('div', {class: 'buckets'}, line);
}

function drawShards() {
  const parts = [], map = seen.map?.rows ?? [];
  if (map.length) {
    parts.push(bucketLine(map));
    parts.push(el('div', {class: 'legend'}, ...map.map((row, i) =>
      el('span', {}, el('i', {class: 'c' + i % 8}), `${row.shard}: ${count(row.buckets)} buckets`))));
  }
  const known = seen.shards.columns.map((c) => c.name);
  const lag = known.filter((n) => n.includes('lag'));
  parts.push(table([
    {name: 'server', show: (r) => el('span', {}, el('i', {class: 'dot ' + r.state}), r.server)},
    {name: 'role'},
    {name: 'state', show: (r) => r.why ? el('span', {class: 'why'}, `${r.state}: ${r.why}`) : r.state},
    {name: 'latency_us', title: 'probe', type: 'number'},
    ...lag.map((name) => ({name, type: 'number'})),
  ], seen.shards.rows));
  put(body('shards'), ...parts);
}

function drawPools() {
  const rows = seen.pools.rows;
  if (!rows.length) return put(body('pools'), none('No server connections yet.'));
  const n = (name, title) => ({name, title, type: 'number'});
  put(body('pools'), table([{name: 'server'}, {name: 'database'}, {name: 'user'}, n('active'), n('held'), n('idle'), n('waiting'),
    {name: 'wait', title: 'mean wait', type: 'number', show: (r) => r.waits ? time(r.wait_us / r.waits) : '-'}, n('losses')], rows));
}

/* ---- statements ------------------------------------------------------------------------------------ */

function drawSlow() {
  const rows = [...seen.statements.rows].sort((a, b) => b.total_us - a.total_us).slice(0, 15);
  if (!rows.length) return put(body('slow'), none('No statements yet.'));
  const all = seen.statements.rows.reduce((sum, r) => sum + r.total_us, 0) || 1;
  put(body('slow'), table([
    {name: 'statement', class: 'sql'}, {name: 'database'}, {name: 'per_s', title: 'per s', type: 'number'},
    {name: 'calls', type: 'number', show: (r) => count(r.calls)},
    {name: 'share', title: 'of time', type: 'number', show: (r) => percent(r.total_us / all)},
    {name: 'p50_us', title: 'p50', type: 'number'}, {name: 'p99_us', title: 'p99', type: 'number'},
    {name: 'errors', type: 'number'},
    {name: 'batched', type: 'number', show: (r) => percent(r.batched / r.calls)},
    {name: 'not_batched', title: 'why not', show: (r) => r.batched < r.calls ? (r.not_batched ?? '').replaceAll('_', ' ') : ''},
  ], rows));
}

function drawReasons() {
  const rows = [...seen.batch_reasons.rows].sort((a, b) => b.statements - a.statements);
  put(body('reasons'), rows.length ? table([
    {name: 'reason', show: (r) => r.reason.replaceAll('_', ' ')}, {name: 'statements', type: 'number', show: (r) => count(r.statements)},
    {name: 'help', title: 'what it means', class: 'text'}], rows) : none('All that came was batched.'));
}

function drawEvents() {
  const rows = seen.events.rows.slice(0, 12);
  put(body('events'), rows.length ? table([{name: 'at', show: (r) => r.at.replace(/\.\d+ UTC$/, ' UTC')}, {name: 'kind'},
    {name: 'event', class: 'text'}], rows) : none('Nothing has happened.'));
}

function drawVersion() {
  const row = seen.version.rows[0], process = pairs(seen.process?.rows ?? []);
  $('version').textContent = row ? `${row.version.replace('Shoal ', '')}, ${row.workers} worker${row.workers === 1 ? '' : 's'}, ` +
    `since ${row.started.replace(/\.\d+ UTC$/, ' UTC')}, ${bytes(process.resident_bytes)}` : '';
}

/* ---- what this page does not know: a table, asked for when it is opened --------------------------- */

const KNOWN = new Set(['stats', 'health', 'latency', 'latency_buckets', 'history', 'shards', 'servers_health', 'pools', 'map',
  'statements', 'batch_reasons', 'events', 'version', 'process', 'help']);
/* Shown by themselves as soon as they have rows. */
const URGENT = /doubt|move|replica|commit|transactions|locks|lag/;

function drawOther(details) {
  const answer = seen[details.dataset.name];
  put(details.querySelector('.body'), answer.rows.length
    ? table(answer.columns.map((c) => ({name: c.name, type: c.type})), answer.rows.slice(0, 200)) : none('No rows.'));
}

async function openOther(details) {
  try {
    await ask(details.dataset.name);
    drawOther(details);
  } catch (error) {
    put(details.querySelector('.body'), none(String(error.message)));
  }
}

async function findOthers() {
  const index = await (await fetch('/api/index.json', {cache: 'no-store'})).json();
  for (const {name, help} of index.shows) {
    if (KNOWN.has(name) || $('show-' + name)) continue;
    const details = el('details', {class: 'card', id: 'show-' + name, 'data-name': name},
      el('summary', {}, el('h2', {}, name.replaceAll('_', ' ')), ' ', el('small', {}, help)), el('div', {class: 'body'}));
    details.addEventListener('toggle', () => { if (details.open) openOther(details); });
    $('more').append(details);
  }
}

async function refreshOthers() {
  for (const details of $('more').children) {
    const urgent = URGENT.test(details.dataset.name);
    if (urgent && !details.open && !details.dataset.closed) {
      const answer = await ask(details.dataset.name);
      if (answer.rows.length) { details.dataset.closed = 'once'; details.open = true; }
    } else if (details.open) {
      await openOther(details);
    }
  }
}

/* ---- the rounds ----------------------------------------------------------------------------------- */

async function fast() {
  await Promise.all(['stats', 'health', 'latency', 'history', 'shards', 'pools'].map(ask));
  drawVerdict(); drawTiles(); drawCurves(); drawLatency(); drawShards(); drawPools();
}
async function slow() {
  await Promise.all(['statements', 'batches', 'batch_reasons', 'events', 'map', 'version', 'process'].map(ask));
  drawSizes(); drawSlow(); drawReasons(); drawEvents(); drawVersion(); drawShards();
  await findOthers();
  await refreshOthers();
}

async function round(work, everyMs) {
  if (!document.hidden) {
    try {
      await work();
      $('pulse').textContent = new Date().toLocaleTimeString();
      $('pulse').className = 'quiet';
    } catch (error) {
      $('pulse').textContent = 'no answer: ' + error.message;
      $('pulse').className = 'lost';
      $('verdict').className = 'verdict bad';
      $('verdict').querySelector('strong').textContent = 'Shoal does not answer; these figures are old.';
    }
  }
  setTimeout(() => round(work, everyMs), everyMs);
}

round(fast, 2000).then(() => round(slow, 10000));
