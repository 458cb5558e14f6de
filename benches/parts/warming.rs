//! What warming costs those who do not wait for it, and how soon what was evicted is back.

use crate::numbers::{factor, figure, median, median_ratio, ms, percentile};
use crate::report::Section;
use crate::stage::{Db, Resp, Site, address, postgres, redis};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const USERS: i32 = 200_000;
const FLUSHED: i32 = 100_000;
const ROUNDS: usize = 5;
/// Of one slice.
const LASTS: Duration = Duration::from_secs(5);
/// 200 changes a second.
const PACE: Duration = Duration::from_millis(5);
const DASHBOARDS: i32 = 300;
/// Keys that may be there when a flush counts as over: what is warmed again while the rest still goes.
const SPARE: i64 = 500;
/// Keys that wait after a flush, and how long they take at fifty a second.
const QUEUE: u32 = 300;
const BACK: Duration = Duration::from_secs(7);

fn schema() -> String {
    format!(
        "CREATE TABLE users (id int PRIMARY KEY, name text NOT NULL);
         INSERT INTO users SELECT g, 'name ' || g FROM generate_series(1, {USERS}) g;
         CREATE TABLE posts (id int PRIMARY KEY, user_id int);"
    )
}

fn config(prefix: &str, warm: &str) -> String {
    format!(
        "[warm]\nqueue = {QUEUE}\n[cache.user]\nkey = \"{prefix}:{{id}}\"\nttl = \"1h\"\n{warm}\n\
         [table.users]\nevict = [\"user\"]\n[table.posts]\nevict = [{{ cache = \"user\", with = {{ id = \"user_id\" }} }}]\n"
    )
}

/// Evictions at their pace; from the commit to the key being gone, in milliseconds.
fn evict(site: &Site, redis: &mut Resp, prefix: &str, next: &mut i32) -> Vec<f64> {
    let change = site.db.prepare("UPDATE users SET name = name || '.' WHERE id = $1");
    let (begun, mut took, mut n) = (Instant::now(), Vec::new(), 0);
    while begun.elapsed() < LASTS {
        *next = 1 + *next % USERS;
        let key = format!("{prefix}:{next}");
        redis.watch(&key);
        site.db.commit(&change, &[&*next]);
        let committed = Instant::now();
        let gone = redis.gone(&[key]);
        took.push(ms(gone - committed));
        n += 1;
        std::thread::sleep((begun + PACE * n).saturating_duration_since(Instant::now()));
    }
    took
}

/// The most queries of warming that ran at the same time, looked for while `during` runs.
fn at_once<T>(url: &str, during: impl FnOnce() -> T) -> (T, f64) {
    let stop = Arc::new(AtomicBool::new(false));
    let (told, url) = (Arc::clone(&stop), url.to_owned());
    let looking = std::thread::spawn(move || {
        let (db, mut most) = (Db::connect(&url), 0.0_f64);
        while !told.load(Ordering::Relaxed) {
            let now = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(0.3)%' AND pid <> pg_backend_pid()";
            most = most.max(db.number(now));
            std::thread::sleep(Duration::from_millis(20));
        }
        most
    });
    let out = during();
    stop.store(true, Ordering::Relaxed);
    (out, looking.join().expect("the onlooker lives"))
}

/// Processor time that Redis has taken, in milliseconds.
fn cpu(redis: &mut Resp) -> f64 {
    let mut of = |field: &str| redis.info("cpu", field).parse::<f64>().unwrap_or(f64::NAN);
    (of("used_cpu_user") + of("used_cpu_sys")) * 1000.0
}

/// A flush of many keys: until all but a few are gone, those that are warmed again meanwhile apart; and what Redis worked for it.
fn flush(site: &Site, redis: &mut Resp, prefix: &str) -> (f64, f64) {
    let key = |n: i32| vec!["SET".into(), format!("{prefix}:{n}"), "cached".into(), "PX".into(), "3600000".into()];
    let before = redis.size();
    redis.pipeline((1..=FLUSHED).map(key));
    let (spent, begun) = (cpu(redis), Instant::now());
    site.db.sql("TRUNCATE posts");
    redis.wait_size(before + SPARE, Duration::from_secs(60)).expect("the cache is flushed");
    (ms(begun.elapsed()), cpu(redis) - spent)
}

pub(super) fn run() -> Section {
    let (postgres, server) = (postgres(), redis());
    let slow = "warm.sql = \"SELECT name, pg_sleep(0.3)::text AS slept FROM users WHERE id = :id\"";
    let quick = "warm.sql = \"SELECT name FROM users WHERE id = :id\"";
    let mut sites = [("plain", ""), ("slow", slow), ("quick", quick)]
        .map(|(name, warm)| Site::new(&postgres, &server, name, &schema(), &config(name, warm)));
    for site in &mut sites {
        site.db.sql("GRANT SELECT ON users TO pgevict");
        site.settle();
    }
    let [plain, slow, quick] = &sites;
    let mut redis = Resp::connect(&address(&server));
    redis.hear();
    let mut section = Section::default();

    let (mut without, mut with, mut most, mut next) = (Vec::new(), Vec::new(), 0.0_f64, 0);
    for _ in 0..ROUNDS {
        without.push(percentile(&evict(plain, &mut redis, "plain", &mut next), 0.99));
        let (took, busy) = at_once(&postgres.url("slow"), || evict(slow, &mut redis, "slow", &mut next));
        with.push(percentile(&took, 0.99));
        most = most.max(busy);
    }
    let ratio = median_ratio(&with, &without);
    section.goal(
        "p99 of evictions, 200 a second, each of a key whose query takes 300 ms",
        format!("{} ms", figure(median(&with))),
        format!("{} the same without warming ({} ms)", factor(ratio), figure(median(&without))),
        "≤ 1.2 ×",
        ratio <= 1.2,
    );
    let limit = "warm.concurrency = 4, max_per_second = 50";
    section.goal("queries of warming at the same time", figure(most), limit.into(), "≤ 4", most <= 4.0);

    let change = quick.db.prepare("UPDATE users SET name = name || '.' WHERE id = $1");
    let mut back = Vec::new();
    for id in 1..=DASHBOARDS {
        let key = format!("quick:{}", FLUSHED + id);
        redis.watch(&key);
        std::thread::sleep(Duration::from_millis(25));
        quick.db.commit(&change, &[&(FLUSHED + id)]);
        let committed = Instant::now();
        redis.gone(std::slice::from_ref(&key));
        while redis.ask(&["EXISTS", &key]).int() == 0 {
            std::thread::sleep(Duration::from_micros(200));
        }
        back.push(ms(committed.elapsed()));
    }
    let p50 = percentile(&back, 0.5);
    section.goal(
        "from the commit to the new value being there, p50",
        format!("{} ms", figure(p50)),
        format!("p99 {} ms; {DASHBOARDS} samples, idle", figure(percentile(&back, 0.99))),
        "≤ 50 ms",
        p50 <= 50.0,
    );

    redis.ask(&["CONFIG", "SET", "slowlog-log-slower-than", "1000"]);
    redis.ask(&["CONFIG", "SET", "slowlog-max-len", "100000"]);
    let (mut without, mut with, mut commands, mut worked) = (Vec::new(), Vec::new(), [0, 0], [vec![], vec![]]);
    for _ in 0..ROUNDS {
        for (site, prefix, took, which) in [(plain, "plain", &mut without, 0), (quick, "quick", &mut with, 1)] {
            redis.ask(&["SLOWLOG", "RESET"]);
            let (wall, cpu) = flush(site, &mut redis, prefix);
            took.push(wall);
            worked[which].push(cpu);
            commands[which] += redis.ask(&["SLOWLOG", "LEN"]).int();
            if which == 1 {
                std::thread::sleep(BACK);
            }
        }
    }
    let ratio = median_ratio(&worked[1], &worked[0]);
    section.step(
        "processor time of Redis for a flush of 100 000 keys, each asked for its use before it goes",
        format!("{} ms", figure(median(&worked[1]))),
        format!("{} the same without warming ({} ms)", factor(ratio), figure(median(&worked[0]))),
    );
    let ratio = median_ratio(&with, &without);
    section.goal(
        "the same flush, by the clock",
        format!("{} ms", figure(median(&with))),
        format!(
            "{} the same without warming ({} ms); commands over 1 ms: {}, without {}",
            factor(ratio),
            figure(median(&without)),
            commands[1],
            commands[0]
        ),
        "≤ 1.3 ×",
        ratio <= 1.3,
    );
    section.note(format!(
        "Three databases in one cluster, one Redis; with and without warming in turns, {ROUNDS} rounds of {} s. Ratios are medians of the rounds' ratios. The flush is a `TRUNCATE` \
         that evicts a whole cache, until all of its keys but 500 are gone.",
        LASTS.as_secs()
    ));
    section
}
