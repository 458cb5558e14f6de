"""What docs/fills/fills.py must do, against a running pgevict: the scenario of tests/e2e/snippets.rs."""

import os
import sys
import threading
import time

import psycopg
import redis

sys.path.insert(0, os.environ["SNIPPETS"])
from fills import TOKEN, Fills, escape  # noqa: E402

cache = redis.Redis.from_url(os.environ["REDIS_URL"])
db, writer = (psycopg.connect(os.environ["PG_URL"], autocommit=True) for _ in range(2))
fills = Fills(cache)


def read(name):
    row = db.execute(f"SELECT v, {TOKEN} FROM named WHERE name = %s", [name]).fetchone()
    return (str(row[0]), row[1])


def change(name):
    writer.execute("UPDATE named SET v = v + 1 WHERE name = %s", [name])
    for key in (f"named:{name}", f"lists:{name}:a"):
        until = time.monotonic() + 30
        while cache.exists(key):
            assert time.monotonic() < until, f"{key} did not go"
            time.sleep(0.002)


for name in ["7", "x*[y]\\?"]:
    caches = {f"named:{name}": {"named": None}, f"lists:{name}:a": {"lists": f"lists:{escape(name)}:*"}}
    before = read(name)
    for key, cached_in in caches.items():
        assert fills.store(key, *before, 60_000, cached_in) == "stored", key
    change(name)
    after = read(name)
    assert after[0] != before[0]
    for key, cached_in in caches.items():
        assert fills.store(key, *before, 60_000, cached_in) == "evicted", key
        assert fills.store(key, *after, 60_000, cached_in) == "stored", key
        assert cache.get(key).decode() == after[0], key
assert escape("a-b^c", in_class=True) == "a\\-b\\^c"

with db.transaction(force_rollback=True):
    db.execute("UPDATE named SET v = 1000 WHERE name = '7'")
    value, token = read("7")
    assert (value, token) == ("1000", None)
    assert fills.store("named:7", value, token, 60_000, {"named": None}) == "no-token"

cache.delete("named:7")
asked, found, lock = [], [], threading.Lock()


def slowly():
    with lock:
        asked.append(1)
        row = read("7")
    time.sleep(0.1)
    return row


readers = [
    threading.Thread(target=lambda: found.append(fills.get("named:7", slowly, 60_000, {"named": None}))) for _ in range(8)
]
[r.start() for r in readers]
[r.join() for r in readers]
values = {v.decode() if isinstance(v, bytes) else v for v in found}
assert len(asked) == 1 and len(found) == 8 and values == {read("7")[0]}, (asked, found)
assert not cache.exists("lease:named:7")
assert fills.get("named:none", lambda: (None, None), 60_000, {"named": None}) is None
assert not cache.exists("lease:named:none")
print("all of it")
