//! A short storm: writers, fillers that store blindly, and faults drawn from a printed seed; at the end every cached
//! value is compared with the database. A long one with more faults has a home of its own.

use crate::support::{Db, Setup, World};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use redis::Commands as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const ITEMS: u32 = 120;
const GROUPS: u32 = 12;
const SCHEMA: &str = "
CREATE TABLE items (id int PRIMARY KEY, grp int NOT NULL, v bigint NOT NULL DEFAULT 0);
INSERT INTO items SELECT n, n % 12, 0 FROM generate_series(1, 120) n;
CREATE TABLE last (id int PRIMARY KEY);
";
/// A fill takes at most half a second here (see `fill`), so a second delete after a second catches every stale one.
const CONFIG: &str = r#"
[cache.item]
key = "item:{id}"
repeat_after = "1s"
[cache.sums]
pattern = "sum:{grp}:*"
repeat_after = "1s"
[cache.last]
key = "last:{id}"
repeat_after = "1s"
[table.items]
evict = ["item", "sums"]
[table.last]
evict = ["last"]
"#;
const LONGEST_FILL: Duration = Duration::from_millis(500);
const STORM: Duration = Duration::from_secs(8);

/// What the database says about a key.
fn truth(db: &Db, key: &str) -> Result<Option<String>, tokio_postgres::Error> {
    let mut parts = key.split(':');
    let sql = match (parts.next(), parts.next()) {
        (Some("item"), Some(id)) => format!("SELECT v FROM items WHERE id = {id}"),
        (Some("sum"), Some(group)) => format!("SELECT sum(v) FROM items WHERE grp = {group}"),
        _ => return Ok(None),
    };
    Ok(db.try_sql(&sql)?.into_iter().next().and_then(|row| row.into_iter().next().flatten()))
}

/// Runs `work` again and again with connections that are made anew when they break.
fn with_servers(
    urls: &(String, String),
    stop: &AtomicBool,
    mut work: impl FnMut(&Db, &mut redis::Connection) -> Option<()>,
) {
    while !stop.load(Ordering::Relaxed) {
        let Ok(db) = Db::try_connect(&urls.0) else { continue };
        let client = redis::Client::open(urls.1.as_str()).unwrap();
        let Ok(mut cache) = client.get_connection_with_timeout(Duration::from_secs(1)) else { continue };
        cache.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        while !stop.load(Ordering::Relaxed) && work(&db, &mut cache).is_some() {}
    }
}

/// A request of the application: look, ask, store blindly, as long as the answer is not too old.
fn fill(db: &Db, cache: &mut redis::Connection, key: &str, fills: &AtomicU64) -> Option<()> {
    if cache.get::<_, Option<String>>(key).ok()?.is_none() {
        let begun = Instant::now();
        let value = truth(db, key).ok()?;
        if begun.elapsed() < LONGEST_FILL {
            cache.set::<_, _, ()>(key, value?).ok()?;
            fills.fetch_add(1, Ordering::Relaxed);
        }
    }
    Some(())
}

#[test]
fn a_storm_leaves_no_stale_value() {
    let seed = std::env::var("TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random::<u64>);
    eprintln!("seed: TEST_SEED={seed}");
    let w = World::running(&Setup { config: CONFIG, schema: SCHEMA, ..Setup::default() });
    let urls = (w.pg.url(&w.database), w.redis.borrow().url(0));
    let keys: Vec<String> = (1..=ITEMS)
        .map(|n| format!("item:{n}"))
        .chain((0..GROUPS).flat_map(|g| [format!("sum:{g}:a"), format!("sum:{g}:b")]))
        .collect();
    let (writers_stop, fillers_stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let (writes, fills) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut faults = Vec::new();
    let (mut compared, mut looks, mut stale) = (0, 0, Vec::new());

    std::thread::scope(|scope| {
        // Whatever fails below, the threads end: a scope waits for them.
        let _stop = StopOnDrop([&writers_stop, &fillers_stop]);
        for n in 0..3_u64 {
            let (urls, stop, writes, fills, keys) = (&urls, [&writers_stop, &fillers_stop], &writes, &fills, &keys);
            scope.spawn(move || {
                let mut rng = StdRng::seed_from_u64(seed ^ n);
                with_servers(urls, stop[0], |db, _| {
                    let (a, b) = (rng.random_range(1..=ITEMS), rng.random_range(0..GROUPS));
                    let sql = match rng.random_range(0..5) {
                        0 => format!("UPDATE items SET grp = {b} WHERE id = {a}"),
                        1 => format!("BEGIN; UPDATE items SET v = v + 1 WHERE id = {a}; ROLLBACK"),
                        2 => format!("BEGIN; UPDATE items SET v = v + 1 WHERE id = {a}; SELECT pg_sleep(0.02); COMMIT"),
                        _ => format!("UPDATE items SET v = v + 1 WHERE id = {a}"),
                    };
                    db.try_sql(&sql).ok()?;
                    writes.fetch_add(1, Ordering::Relaxed);
                    Some(())
                });
            });
            scope.spawn(move || {
                let mut rng = StdRng::seed_from_u64(seed ^ (n + 100));
                with_servers(urls, stop[1], |db, cache| fill(db, cache, &keys[rng.random_range(0..keys.len())], fills));
            });
        }

        let mut rng = StdRng::seed_from_u64(seed);
        let begun = Instant::now();
        while begun.elapsed() < STORM {
            std::thread::sleep(Duration::from_millis(rng.random_range(200..900)));
            let fault = ["kill -9 daemon", "terminate backends", "save", "kill -9 redis", "stop daemon"]
                [rng.random_range(0..5)];
            match fault {
                "kill -9 daemon" => {
                    w.kill9();
                    w.start_unready(&[]);
                }
                "stop daemon" => {
                    w.stop();
                    w.start_unready(&[]);
                }
                "terminate backends" => {
                    w.sql(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                         WHERE datname = current_database() AND pid <> pg_backend_pid()",
                    );
                }
                "save" => redis::cmd("SAVE").exec(&mut w.redis()).unwrap(),
                _ => {
                    let mut server = w.redis.borrow_mut();
                    server.kill();
                    server.up().unwrap();
                }
            }
            faults.push(fault);
        }
        writers_stop.store(true, Ordering::Relaxed);
        w.wait_ready();
        // The second delete of a last change comes after all earlier ones; the fillers go on until then.
        let mut redis = w.redis();
        redis.set::<_, _, ()>("last:1", "x").unwrap();
        w.sql("INSERT INTO last VALUES (1)");
        w.wait_gone(&["last:1"]);
        redis.set::<_, _, ()>("last:1", "x").unwrap();
        w.wait_gone(&["last:1"]);
        // A late flush may empty the cache at any time: the fillers make it whole again, and leave alone what is there.
        let db = w.connect();
        while compared < keys.len() && looks < 20 {
            w.wait_keys("every key to be cached", |redis| redis.exists::<_, usize>(&keys).unwrap_or(0) == keys.len());
            (compared, looks) = (0, looks + 1);
            for key in &keys {
                if let Some(cached) = redis.get::<_, Option<String>>(key).unwrap() {
                    compared += 1;
                    let truth = truth(&db, key).unwrap();
                    if truth.as_ref() != Some(&cached) {
                        stale.push(format!("{key}: cached {cached}, is {truth:?}"));
                    }
                }
            }
        }
    });

    let (writes, fills) = (writes.into_inner(), fills.into_inner());
    eprintln!("{writes} writes, {fills} fills, {} faults {faults:?}, {compared} values compared", faults.len());
    assert!(stale.is_empty(), "TEST_SEED={seed}: {} stale: {stale:#?}\nfaults: {faults:?}", stale.len());
    assert!(writes > 100 && fills > 100 && compared == keys.len(), "a storm in which nothing happened proves nothing");
}

struct StopOnDrop<'a>([&'a AtomicBool; 2]);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        for stop in self.0 {
            stop.store(true, Ordering::Relaxed);
        }
    }
}
