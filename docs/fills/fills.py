"""Guarded fills for redis-py and psycopg 3: the contract of docs/fills.md. Put it beside fill.lua and make it yours."""

import secrets
import time
from pathlib import Path

SCRIPT = Path(__file__).with_name("fill.lua").read_text()
# One statement reads the value and what it was read by.
TOKEN = "(SELECT pgevict.token())"


def escape(value, in_class=False):
    """A value as it stands in a rendered pattern. `in_class`: the template itself holds a `[`."""
    special = "*?[]^-\\" if in_class else "*?[]\\"
    return "".join("\\" + c if c in special else c for c in str(value))


class Fills:
    def __init__(self, redis, state="{pgevict}"):
        self.redis = redis
        self.position = state + ":position"
        self.script = redis.register_script(SCRIPT)

    def store(self, key, value, token, ttl_ms, caches, lease=None):
        """Stores `value` unless a change since has overtaken it. Returns the script's word: count them.

        `caches`: every cache of pgevict's configuration that holds the key, {name: rendered template}; the template is
        None where the cache is a `key`. `lease`: (key, id).
        """
        keys, args = [self.position, key], [token or "", ttl_ms, value, ""]
        if lease:
            keys.append(lease[0])
            args[3] = lease[1]
        for name, template in caches.items():
            args += [name, template or ""]
        word = self.script(keys=keys, args=args)
        return word.decode() if isinstance(word, bytes) else word

    def release(self, key, caches, lease):
        """Gives the lease back without storing anything: a fill without a token is always refused."""
        self.store(key, "", None, 1, caches, lease)

    def get(self, key, read, ttl_ms, caches, lease_ms=3000):
        """The cached value, or what `read()` says, a pair of value and token; one of many readers asks the database.

        Bytes from the cache, whatever `read` returns otherwise. Without a lease after `lease_ms` it asks all the same.
        """
        lease, until = ("lease:" + key, secrets.token_hex(8)), time.monotonic() + lease_ms / 1000
        while (value := self.redis.get(key)) is None:
            mine = self.redis.set(*lease, nx=True, px=lease_ms)
            # Somebody may have stored and given the lease back since we looked.
            if mine and (value := self.redis.get(key)) is not None:
                self.release(key, caches, lease)
                break
            if mine or time.monotonic() > until:
                value, token = read()
                if value is not None:
                    self.store(key, value, token, ttl_ms, caches, lease if mine else None)
                elif mine:
                    self.release(key, caches, lease)
                break
            time.sleep(0.005)
        return value
