// Guarded fills for ioredis and pg: the contract of docs/fills.md. Put it beside fill.lua and make it yours.

import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

const SCRIPT = readFileSync(new URL('./fill.lua', import.meta.url), 'utf8');
// One statement reads the value and what it was read by.
export const TOKEN = '(SELECT pgevict.token())';

/** A value as it stands in a rendered pattern. `inClass`: the template itself holds a `[`. */
export function escape(value, inClass = false) {
  return String(value).replace(inClass ? /[*?[\]^\-\\]/g : /[*?[\]\\]/g, '\\$&');
}

export class Fills {
  /** `redis` is an ioredis client; its keyPrefix must be empty, for pgevict's own keys have none. */
  constructor(redis, state = '{pgevict}') {
    this.redis = redis;
    this.position = `${state}:position`;
    if (!redis.pgevictFill) redis.defineCommand('pgevictFill', { lua: SCRIPT });
  }

  /**
   * Stores `value` unless a change since has overtaken it. Resolves to the script's word: count them.
   * `caches`: every cache of pgevict's configuration that holds the key, { name: rendered template }; the template is
   * null where the cache is a `key`. `lease`: [key, id].
   */
  store(key, value, token, ttlMs, caches, lease = null) {
    const keys = lease ? [this.position, key, lease[0]] : [this.position, key];
    const names = Object.entries(caches).flatMap(([name, template]) => [name, template ?? '']);
    return this.redis.pgevictFill(keys.length, ...keys, token ?? '', ttlMs, value, lease ? lease[1] : '', ...names);
  }

  /** Gives the lease back without storing anything: a fill without a token is always refused. */
  release(key, caches, lease) {
    return this.store(key, '', null, 1, caches, lease);
  }

  /**
   * The cached value, or what `read()` resolves to, a pair of value and token; one of many readers asks the database.
   * A string. Without a lease after `leaseMs` it asks all the same.
   */
  async get(key, read, ttlMs, caches, leaseMs = 3000) {
    const lease = [`lease:${key}`, randomBytes(8).toString('hex')];
    const until = performance.now() + leaseMs;
    for (;;) {
      const cached = await this.redis.get(key);
      if (cached !== null) return cached;
      const mine = (await this.redis.set(...lease, 'PX', leaseMs, 'NX')) !== null;
      // Somebody may have stored and given the lease back since we looked.
      const stored = mine ? await this.redis.get(key) : null;
      if (stored !== null) {
        await this.release(key, caches, lease);
        return stored;
      }
      if (mine || performance.now() > until) {
        const [value, token] = await read();
        if (value !== null) await this.store(key, value, token, ttlMs, caches, mine ? lease : null);
        else if (mine) await this.release(key, caches, lease);
        return value;
      }
      await sleep(5);
    }
  }
}
