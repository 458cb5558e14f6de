//! Two daemons that are frozen, killed and cut in turn while writers write and fillers store blindly; at the end every
//! cached value is compared with the database.

use crate::support::{Daemon, Db, Setup, World};
use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use redis::Commands as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const ITEMS: u32 = 60;
const SCHEMA: &str = "
CREATE TABLE items (id int PRIMARY KEY, v bigint NOT NULL DEFAULT 0);
INSERT INTO items SELECT n, 0 FROM generate_series(1, 60) n;
CREATE TABLE last (id int PRIMARY KEY);
";
/// A fill here takes at most half a second, so a second delete after a second catches every stale one. That of the last change comes
/// late enough for a test that waits for a core to store its key anew before.
const CONFIG: &str = r#"
[cache.item]
key = "item:{id}"
repeat_after = "1s"
[cache.last]
key = "last:{id}"
repeat_after = "5s"
[table.items]
evict = ["item"]
[table.last]
evict = ["last"]
"#;
const LONGEST_FILL: u64 = 500_000;
/// Stores unless it is too late by Redis' own clock: the filler may get no core between a look at its own and the SET.
const FILL: &str = "local now = redis.call('TIME') if now[1] * 1000000 + now[2] > tonumber(ARGV[2]) then return 0 end \
                    redis.call('SET', KEYS[1], ARGV[1]) return 1";
/// Some three takeovers.
const STORM: Duration = Duration::from_secs(15);

fn truth(db: &Db, id: u32) -> Option<String> {
    db.try_sql(&format!("SELECT v FROM items WHERE id = {id}")).ok()?[0][0].clone()
}

/// Runs `work` until `stop`, with connections that are made anew when they break.
fn going(w: &(String, String), stop: &AtomicBool, mut work: impl FnMut(&Db, &mut redis::Connection) -> Option<()>) {
    while !stop.load(Ordering::Relaxed) {
        let Ok(db) = Db::try_connect(&w.0) else { continue };
        let Ok(mut cache) = redis::Client::open(w.1.as_str()).unwrap().get_connection() else { continue };
        while !stop.load(Ordering::Relaxed) && work(&db, &mut cache).is_some() {}
    }
}

#[test]
fn a_storm_with_two_daemons_leaves_no_stale_value() {
    let seed = std::env::var("TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random::<u64>);
    eprintln!("seed: TEST_SEED={seed}");
    let w = World::running(&Setup { config: CONFIG, schema: SCHEMA, ..Setup::default() });
    w.wait_position();
    let urls = (w.pg.url(&w.database), w.redis.borrow().url(0));
    let socket = w.config_path().with_file_name("second.sock");
    let another = || w.spawn(&[], &[("PGEVICT_ADMIN__SOCKET", socket.to_str().unwrap())]);
    let mut second: Daemon = another();
    let stops = [AtomicBool::new(false), AtomicBool::new(false)];
    let (writes, fills) = (AtomicU64::new(0), AtomicU64::new(0));
    let (mut faults, mut leaders, mut stale) = (Vec::new(), Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&stops);
        for n in 0..2_u64 {
            let (urls, stops, writes, fills) = (&urls, &stops, &writes, &fills);
            scope.spawn(move || {
                let mut rng = StdRng::seed_from_u64(seed ^ n);
                going(urls, &stops[0], |db, _| {
                    let id = rng.random_range(1..=ITEMS);
                    db.try_sql(&format!("UPDATE items SET v = v + 1 WHERE id = {id}; SELECT pg_sleep(0.002)")).ok()?;
                    writes.fetch_add(1, Ordering::Relaxed);
                    Some(())
                });
            });
            scope.spawn(move || {
                let mut rng = StdRng::seed_from_u64(seed ^ (n + 100));
                going(urls, &stops[1], |db, cache| {
                    let id = rng.random_range(1..=ITEMS);
                    let key = format!("item:{id}");
                    if cache.get::<_, Option<String>>(&key).ok()?.is_none() {
                        let (second, micros): (u64, u64) = redis::cmd("TIME").query(cache).ok()?;
                        let value = truth(db, id)?;
                        let mut eval = redis::cmd("EVAL");
                        eval.arg(FILL).arg(1).arg(&key).arg(value).arg(second * 1_000_000 + micros + LONGEST_FILL);
                        fills.fetch_add(eval.query(cache).ok()?, Ordering::Relaxed);
                    }
                    Some(())
                });
            });
        }

        let mut rng = StdRng::seed_from_u64(seed);
        let begun = Instant::now();
        let enough = |leaders: &[String]| {
            let done = [&writes, &fills].iter().all(|n| n.load(Ordering::Relaxed) > 100);
            done && leaders.iter().any(|by| by != &leaders[0])
        };
        // A machine that is slow, or dice that hit who does not lead, have a longer storm.
        while begun.elapsed() < STORM || (!enough(&leaders) && begun.elapsed() < 4 * STORM) {
            let (first, fault) = (rng.random_bool(0.5), rng.random_range(0..3));
            let pause = Duration::from_millis(rng.random_range(500..4500));
            faults.push((["freeze", "kill", "terminate"][fault], if first { 1 } else { 2 }, pause));
            match (fault, first) {
                (0, true) => {
                    w.daemon(|d| d.signal(Signal::SIGSTOP));
                    std::thread::sleep(pause);
                    w.daemon(|d| d.signal(Signal::SIGCONT));
                }
                (0, false) => {
                    second.signal(Signal::SIGSTOP);
                    std::thread::sleep(pause);
                    second.signal(Signal::SIGCONT);
                }
                (1, true) => {
                    w.kill9();
                    w.start_unready(&[]);
                }
                (1, false) => {
                    second.signal(Signal::SIGKILL);
                    second = another();
                }
                _ => drop(w.sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                     WHERE application_name = 'pgevict' AND datname = current_database()",
                )),
            }
            let record: String = w.redis().hget("{pgevict}:position", "rec").unwrap();
            let record: serde_json::Value = serde_json::from_str(&record).unwrap();
            leaders.push(record["by"].as_str().unwrap_or_default().to_owned());
        }
        stops[0].store(true, Ordering::Relaxed);
        // The second delete of a last change comes after all earlier ones; the fillers go on until then.
        let mut redis = w.redis();
        redis.set::<_, _, ()>("last:1", "x").unwrap();
        w.sql("INSERT INTO last VALUES (1)");
        w.wait_gone(&["last:1"]);
        redis.set::<_, _, ()>("last:1", "x").unwrap();
        w.wait_gone(&["last:1"]);
        let keys: Vec<String> = (1..=ITEMS).map(|id| format!("item:{id}")).collect();
        w.wait_keys("every key to be cached", |r| r.exists::<_, usize>(&keys).unwrap_or(0) == keys.len());
        stops[1].store(true, Ordering::Relaxed);
        let db = w.connect();
        for id in 1..=ITEMS {
            let (cached, is) = (redis.get::<_, Option<String>>(format!("item:{id}")).unwrap(), truth(&db, id));
            if cached.is_some() && cached != is {
                stale.push((id, cached, is));
            }
        }
    });
    leaders.dedup();
    let (writes, fills) = (writes.into_inner(), fills.into_inner());
    eprintln!("{writes} writes, {fills} fills, {} leaders, faults: {faults:?}", leaders.len());
    assert!(stale.is_empty(), "TEST_SEED={seed}: {} stale: {stale:?}\n{faults:?}", stale.len());
    assert!(writes > 100 && fills > 100 && leaders.len() > 1, "a storm in which nothing happened proves nothing");
}

struct StopOnDrop<'a>(&'a [AtomicBool; 2]);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|stop| stop.store(true, Ordering::Relaxed));
    }
}
