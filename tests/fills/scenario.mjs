// What docs/fills/fills.mjs must do, against a running pgevict: the scenario of tests/e2e/snippets.rs.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';

const require = createRequire(`${process.env.MODULES}/`);
const Redis = require('ioredis');
const pg = require('pg');
const { Fills, TOKEN, escape } = await import(pathToFileURL(`${process.env.SNIPPETS}/fills.mjs`));

const cache = new Redis(process.env.REDIS_URL);
const [db, writer] = [0, 1].map(() => new pg.Client({ connectionString: process.env.PG_URL }));
await Promise.all([db.connect(), writer.connect()]);
const fills = new Fills(cache);

async function read(name) {
  const { rows } = await db.query({ text: `SELECT v, ${TOKEN} FROM named WHERE name = $1`, values: [name], rowMode: 'array' });
  return [String(rows[0][0]), rows[0][1]];
}

async function change(name) {
  await writer.query('UPDATE named SET v = v + 1 WHERE name = $1', [name]);
  for (const key of [`named:${name}`, `lists:${name}:a`]) {
    const until = performance.now() + 30_000;
    while (await cache.exists(key)) {
      assert(performance.now() < until, `${key} did not go`);
      await sleep(2);
    }
  }
}

for (const name of ['7', 'x*[y]\\?']) {
  const keys = [[`named:${name}`, { named: null }], [`lists:${name}:a`, { lists: `lists:${escape(name)}:*` }]];
  const before = await read(name);
  for (const [key, caches] of keys) assert.equal(await fills.store(key, ...before, 60_000, caches), 'stored', key);
  await change(name);
  const after = await read(name);
  assert.notEqual(after[0], before[0]);
  for (const [key, caches] of keys) {
    assert.equal(await fills.store(key, ...before, 60_000, caches), 'evicted', key);
    assert.equal(await fills.store(key, ...after, 60_000, caches), 'stored', key);
    assert.equal(await cache.get(key), after[0], key);
  }
}
assert.equal(escape('a-b^c', true), 'a\\-b\\^c');

await db.query("BEGIN; UPDATE named SET v = 1000 WHERE name = '7'");
const own = await read('7');
assert.deepEqual(own, ['1000', null]);
assert.equal(await fills.store('named:7', ...own, 60_000, { named: null }), 'no-token');
await db.query('ROLLBACK');

await cache.del('named:7');
let asked = 0;
const slowly = async () => {
  asked += 1;
  const row = await read('7');
  await sleep(100);
  return row;
};
const found = await Promise.all(Array.from({ length: 8 }, () => fills.get('named:7', slowly, 60_000, { named: null })));
const [truth] = await read('7');
assert.equal(asked, 1);
assert.deepEqual(found, Array(8).fill(truth));
assert.equal(await cache.exists('lease:named:7'), 0);
assert.equal(await fills.get('named:none', async () => [null, null], 60_000, { named: null }), null);
assert.equal(await cache.exists('lease:named:none'), 0);
await Promise.all([db.end(), writer.end(), cache.quit()]);
console.log('all of it');
