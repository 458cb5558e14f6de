//! `user_stats:{id}:*` with millions of keys in Redis.

use crate::baselines::{Baseline, row_trigger};
use crate::numbers::{factor, figure, median, median_ratio, ms, percentile};
use crate::report::Section;
use crate::stage::{Db, Resp, Site, address, postgres, process, redis};
use pgevict::cli::demo::servers::{Postgres, Redis};
use std::time::{Duration, Instant};

/// Keys of one user.
const EACH: u32 = 5;
/// Users of one storm; the small Redis has no others.
const STORM: u32 = 20_000;
const ROUNDS: u32 = 5;
const SAMPLES: u32 = 200;

pub(super) const CONFIG: &str = "[limits]\nindex_memory = \"1GB\"\n
     [cache.stats]\npattern = \"user_stats:{id}:*\"\n[cache.item]\nkey = \"item:{id}\"\n
     [table.users]\nevict = [\"stats\"]\n[table.items]\nevict = [\"item\"]\n";

pub(super) fn schema(users: u32) -> String {
    format!(
        "CREATE TABLE users (id int PRIMARY KEY, n int NOT NULL); INSERT INTO users SELECT g, 0 FROM generate_series(1, {users}) g;
         CREATE TABLE items (id int PRIMARY KEY, n int NOT NULL); INSERT INTO items SELECT g, 0 FROM generate_series(1, 1000) g"
    )
}

/// Keys that are present: 2 M unless the environment says otherwise.
fn keys() -> u32 {
    std::env::var("BENCH_PATTERN_KEYS").ok().and_then(|n| n.parse().ok()).unwrap_or(2_000_000)
}

/// One Redis with a site whose index is live.
struct Place {
    site: Site,
    server: Redis,
    redis: Resp,
    live_after: Duration,
    exact: Vec<f64>,
    single: Vec<f64>,
    storms: Vec<f64>,
}

impl Place {
    fn new(postgres: &Postgres, name: &str, users: u32) -> Self {
        let server = redis();
        let mut redis = Resp::connect(&address(&server));
        let mut site = Site::new(postgres, &server, name, &schema(users), CONFIG);
        site.settle();
        site.stop();
        fill(&mut redis, 1, users);
        let begun = Instant::now();
        site.start();
        site.wait_line("the key index is live");
        redis.hear();
        let live_after = begun.elapsed();
        Self { site, server, redis, live_after, exact: vec![], single: vec![], storms: vec![] }
    }

    /// One pattern of an idle daemon, and one exact key.
    fn sample(&mut self, n: u32, change: &[tokio_postgres::Statement; 2]) {
        let id = i32::try_from(n).expect("small");
        let keys: Vec<String> = (0..EACH).map(|k| format!("user_stats:{n}:{k}")).collect();
        for (which, keys) in [(0, keys), (1, vec![format!("item:{n}")])] {
            keys.iter().for_each(|key| self.redis.watch(key));
            std::thread::sleep(Duration::from_millis(45));
            self.site.db.commit(&change[which], &[&id]);
            let committed = Instant::now();
            let took = ms(self.redis.gone(&keys) - committed);
            if which == 0 { self.single.push(took) } else { self.exact.push(took) }
        }
    }

    /// Patterns a second: one statement changes many users, all of whose keys are there.
    fn storm(&mut self, from: u32) {
        let to = from + STORM - 1;
        fill(&mut self.redis, from, to);
        let full = self.redis.size();
        self.site.db.sql(&format!("UPDATE users SET n = n + 1 WHERE id BETWEEN {from} AND {to}"));
        let committed = Instant::now();
        let left = full - i64::from(STORM * EACH);
        let end = self.redis.wait_size(left, Duration::from_secs(60)).expect("the keys go");
        self.storms.push(f64::from(STORM) / (end - committed).as_secs_f64());
    }
}

/// Redis makes the keys itself, five of each user: some milliseconds for ten thousand users.
pub(super) fn fill(redis: &mut Resp, from: u32, to: u32) {
    let script = format!(
        "for u = tonumber(ARGV[1]), tonumber(ARGV[2]) do for k = 0, {} do redis.call('SET', 'user_stats:' .. u .. ':' .. k, 'cached') end end",
        EACH - 1
    );
    for first in (from..=to).step_by(10_000) {
        redis.ask(&["EVAL", &script, "0", &first.to_string(), &(first + 9_999).min(to).to_string()]);
    }
}

pub(super) fn run() -> Section {
    let postgres = postgres();
    let users = (keys() / EACH).max(STORM * (ROUNDS + 1));
    let mut large = Place::new(&postgres, "large", users);
    let mut small = Place::new(&postgres, "small", STORM);
    for place in [&mut large, &mut small] {
        let change =
            ["users", "items"].map(|t| place.site.db.prepare(&format!("UPDATE {t} SET n = n + 1 WHERE id = $1")));
        for n in 1..=10 {
            place.sample(n, &change);
        }
        place.exact.clear();
        place.single.clear();
    }
    let changes = [&large, &small]
        .map(|p| ["users", "items"].map(|t| p.site.db.prepare(&format!("UPDATE {t} SET n = n + 1 WHERE id = $1"))));
    for n in 1..=SAMPLES {
        large.sample(n, &changes[0]);
        small.sample(n, &changes[1]);
    }
    for round in 0..ROUNDS {
        large.storm(round * STORM + 1);
        small.storm(1);
    }
    let resident = process::resident(large.site.pid()).1;
    let scan = scan_per_event(&postgres, &mut large, users);

    let mut section = Section::default();
    let present = figure(f64::from(users * EACH));
    section.step(
        &format!("SCAN MATCH per event, {present} keys present"),
        format!("{} patterns a second", figure(scan)),
        "1".into(),
    );
    let rate = median(&large.storms);
    section.goal(
        &format!("pgevict, {present} keys present"),
        format!("{} patterns a second", figure(rate)),
        format!("{} keys a second; {} × SCAN per event", figure(rate * f64::from(EACH)), figure(rate / scan)),
        "≥ 10 000 a second",
        rate >= 10_000.0,
    );
    let few = figure(f64::from(STORM * EACH));
    section.step(
        &format!("the same with {few} keys present"),
        format!("{} patterns a second", figure(median(&small.storms))),
        format!("{} {few} keys", factor(median_ratio(&large.storms, &small.storms))),
    );
    let (single, exact) = (median(&large.single), median(&large.exact));
    section.goal(
        "one pattern, idle, p50",
        format!("{} ms", figure(single)),
        format!("{} an exact key ({} ms)", factor(single / exact), figure(exact)),
        "≤ 2 × an exact key",
        single <= 2.0 * exact,
    );
    section.step(
        "one pattern, idle, p99",
        format!("{} ms", figure(percentile(&large.single, 0.99))),
        format!("p50 with {few} keys present {} ms", figure(median(&small.single))),
    );
    section.step(
        "from start until the index is live",
        format!("{} ms", figure(ms(large.live_after))),
        format!("resident at its highest {} MB", figure(resident)),
    );
    section.note(format!(
        "{EACH} keys a user. A storm is one `UPDATE` of {STORM} users, from its commit until {} keys are gone; {ROUNDS} rounds, large and small Redis in turn, \
         {SAMPLES} single samples. `BENCH_PATTERN_KEYS=10000000` measures with 10 M keys.",
        figure(f64::from(STORM * EACH))
    ));
    section
}

/// The common design on the large Redis, whose pgevict is stopped: it would hear of every delete.
fn scan_per_event(postgres: &Postgres, large: &mut Place, users: u32) -> f64 {
    large.site.stop();
    let db = Db::create(postgres, "common", &schema(users));
    db.sql(&row_trigger("users", &["id", "n"]));
    let daemon =
        Baseline::start("common", &[&postgres.url("common"), &large.server.url(0), "scan", "user_stats:{id}:*"]);
    fill(&mut large.redis, 1, 100);
    let full = large.redis.size();
    let events = 4;
    db.sql(&format!("UPDATE users SET n = n + 1 WHERE id <= {events}"));
    let committed = Instant::now();
    let left = full - i64::from(events * EACH);
    let end = large.redis.wait_size(left, Duration::from_secs(60)).unwrap_or_else(Instant::now);
    // Where time was up, what was done until then.
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let done = (full - large.redis.size()) as f64 / f64::from(EACH);
    drop(daemon);
    done / (end - committed).as_secs_f64()
}
