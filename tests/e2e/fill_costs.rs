//! What each tier of docs/fills.md costs and leaves, in one run on one machine: the figures there are made by
//! `cargo test --test e2e fill_costs -- --ignored --nocapture`. Ratios within a run mean something; the rest depends on the machine.

use crate::support::{Db, Setup, World};
use pgevict::flow::tombstones::Tombstones;
use pgevict::sink::fill::SCRIPT;
use rand::Rng as _;
use redis::Commands as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const ITEMS: usize = 200;
const SCHEMA: &str = "
CREATE TABLE items (id int PRIMARY KEY, v bigint NOT NULL DEFAULT 0);
INSERT INTO items SELECT n, 0 FROM generate_series(0, 199) n;
";
const TIERS: [(&str, &str); 4] = [
    ("nothing", ""),
    ("repeat_after = \"500ms\"", "repeat_after = \"500ms\""),
    ("repeat_after = \"2s\"", "repeat_after = \"2s\""),
    ("guard_fills = true", "guard_fills = true"),
];
const RUN: Duration = Duration::from_secs(12);
const WRITERS: usize = 2;
const READERS: usize = 8;
/// Between two writes of a writer.
const WRITE_PACE: Duration = Duration::from_millis(10);
/// Between two reads of a reader.
const READ_PACE: Duration = Duration::from_millis(4);
/// One fill in so many takes long, up to [`SLOW`] ms.
const SLOW_ONE_IN: u32 = 50;
const SLOW: u64 = 1_000;
/// A value that was replaced longer ago than this counts as stale: no eviction takes so long here.
const GRACE: Duration = Duration::from_millis(400);

#[derive(Default)]
struct Counts {
    writes: AtomicU64,
    reads: AtomicU64,
    hits: AtomicU64,
    stale: AtomicU64,
    fills: AtomicU64,
    refused: AtomicU64,
}

struct Load {
    guarded: bool,
    stop: AtomicBool,
    /// Per item: the last version whose COMMIT has returned, and when.
    committed: Vec<Mutex<(i64, Instant)>>,
    counts: Counts,
}

impl Load {
    fn write(&self, db: &Db, writer: usize) {
        while !self.stop.load(Ordering::Relaxed) {
            // Each item has one writer, so that its versions are committed in order.
            let id = rand::rng().random_range(0..ITEMS / WRITERS) * WRITERS + writer;
            let rows = db.sql(&format!("UPDATE items SET v = v + 1 WHERE id = {id} RETURNING v"));
            let version = rows[0][0].as_deref().unwrap().parse().unwrap();
            *self.committed[id].lock().unwrap() = (version, Instant::now());
            self.counts.writes.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(WRITE_PACE);
        }
    }

    fn read(&self, db: &Db, redis: &mut redis::Connection) {
        while !self.stop.load(Ordering::Relaxed) {
            let id = rand::rng().random_range(0..ITEMS);
            let key = format!("item:{id}");
            let truth = *self.committed[id].lock().unwrap();
            let replaced_long_ago = truth.1.elapsed() > GRACE;
            self.counts.reads.fetch_add(1, Ordering::Relaxed);
            match redis.get::<_, Option<i64>>(&key).unwrap() {
                Some(cached) => {
                    self.counts.hits.fetch_add(1, Ordering::Relaxed);
                    self.counts.stale.fetch_add(u64::from(replaced_long_ago && cached < truth.0), Ordering::Relaxed);
                }
                None => self.fill(db, redis, &key, id),
            }
            std::thread::sleep(READ_PACE);
        }
    }

    fn fill(&self, db: &Db, redis: &mut redis::Connection, key: &str, id: usize) {
        let row = db.sql(&format!("SELECT v, pgevict.token() FROM items WHERE id = {id}")).remove(0);
        if rand::rng().random_range(0..SLOW_ONE_IN) == 0 {
            std::thread::sleep(Duration::from_millis(rand::rng().random_range(0..SLOW)));
        }
        self.counts.fills.fetch_add(1, Ordering::Relaxed);
        let value = row[0].as_deref().unwrap();
        if !self.guarded {
            return redis.set(key, value).unwrap();
        }
        let said = fill(redis, key, row[1].as_deref().unwrap_or_default(), value);
        self.counts.refused.fetch_add(u64::from(said != "stored"), Ordering::Relaxed);
    }
}

fn fill(redis: &mut redis::Connection, key: &str, token: &str, value: &str) -> String {
    let mut call = redis::cmd("EVAL");
    call.arg(SCRIPT)
        .arg(2)
        .arg("{pgevict}:position")
        .arg(key)
        .arg(token)
        .arg(600_000)
        .arg(value)
        .arg("")
        .arg("item")
        .arg("");
    call.query(redis).unwrap()
}

fn world(setting: &str) -> World {
    let config = format!("[cache.item]\nkey = \"item:{{id}}\"\n{setting}\n[table.items]\nevict = [\"item\"]");
    let w = World::new(&Setup { config: &config, schema: SCHEMA, ..Setup::default() });
    w.apply();
    w.start_with(&["--adopt"]);
    w
}

#[test]
#[ignore = "a measurement of a minute; docs/fills.md has its figures"]
fn hit_rate_and_stale_reads_of_each_tier() {
    println!("| tier | writes/s | reads/s | hit rate | misses, as a multiple | stale reads | fills refused |");
    let mut first = None;
    for (name, setting) in TIERS {
        let w = world(setting);
        let url = w.pg.url(&w.database);
        let now = Instant::now();
        let load = Load {
            guarded: setting.starts_with("guard"),
            stop: AtomicBool::new(false),
            committed: (0..ITEMS).map(|_| Mutex::new((0, now))).collect(),
            counts: Counts::default(),
        };
        std::thread::scope(|scope| {
            for n in 0..WRITERS {
                let db = Db::connect(&url);
                let load = &load;
                scope.spawn(move || load.write(&db, n));
            }
            for _ in 0..READERS {
                let (db, mut redis) = (Db::connect(&url), w.redis());
                let load = &load;
                scope.spawn(move || load.read(&db, &mut redis));
            }
            std::thread::sleep(RUN);
            load.stop.store(true, Ordering::Relaxed);
        });
        let n = |c: &AtomicU64| c.load(Ordering::Relaxed) as f64;
        let c = &load.counts;
        let miss = 1.0 - n(&c.hits) / n(&c.reads);
        let seconds = RUN.as_secs_f64();
        println!(
            "| `{name}` | {:.0} | {:.0} | {:.1} % | {:.2} | {} of {} | {:.2} % |",
            n(&c.writes) / seconds,
            n(&c.reads) / seconds,
            100.0 * (1.0 - miss),
            miss / *first.get_or_insert(miss),
            n(&c.stale),
            n(&c.reads),
            100.0 * n(&c.refused) / n(&c.fills),
        );
        if load.guarded {
            assert_eq!(n(&c.stale), 0.0);
        }
    }
}

#[test]
#[ignore = "a measurement; docs/fills.md has its figures"]
fn what_a_fill_and_a_tombstone_cost() {
    let w = world("guard_fills = true");
    let mut redis = w.redis();
    let token = w.value("SELECT pgevict.token()");
    for scripted in [false, true] {
        let begun = Instant::now();
        for n in 0..5_000 {
            let key = format!("item:{}", n % 100);
            if scripted {
                assert_eq!(fill(&mut redis, &key, &token, "value"), "stored");
            } else {
                let _: () = redis.pset_ex(&key, "value", 600_000).unwrap();
            }
        }
        let what = if scripted { "the script" } else { "SET PX" };
        println!("{what}: {:.0} µs", begun.elapsed().as_secs_f64() * 1e6 / 5_000.0);
    }
    // In the server, where one statement calls it often: what a round trip costs would drown it.
    let db = w.connect();
    for (what, call) in [("nothing", "n"), ("pgevict.token()", "pgevict.token()")] {
        let begun = Instant::now();
        db.sql(&format!("SELECT count({call}) FROM generate_series(1, 20000) n"));
        println!("{what}: {:.1} µs a call", begun.elapsed().as_secs_f64() * 1e6 / 20_000.0);
    }
    w.stop();
    let mut tombstones = Tombstones::default();
    tombstones.begin("10:10:".parse().unwrap());
    for batch in 0..100_u64 {
        tombstones.read_by(&format!("{0}:{0}:", 11 + batch).parse().unwrap());
        (0..1_000).for_each(|n| {
            tombstones.bury(format!("app:v3:user_dashboard:{:07}", batch * 1_000 + n).as_bytes(), Instant::now())
        });
        while !tombstones.is_settled() {
            let writes = tombstones.next(1_000);
            let _: () = redis.hset_multiple("measured", &writes.set).unwrap();
        }
    }
    let fields: usize = redis.hlen("measured").unwrap();
    let bytes: usize = redis::cmd("MEMORY").arg(&["USAGE", "measured", "SAMPLES", "0"]).query(&mut redis).unwrap();
    println!("{fields} fields for 100 000 tombstones of keys of 30 bytes: {bytes} bytes, {} each", bytes / 100_000);
}
