//! `warm.sql`: what was evicted is back with the value that the database has now, whatever happens meanwhile, and never at the cost of
//! an eviction.

use crate::commands::ask;
use crate::support::pace::Pace;
use crate::support::{Db, PATIENCE, Setup, World};
use redis::Commands as _;
use std::time::{Duration, Instant};

const SCHEMA: &str = "
CREATE TABLE users (id int PRIMARY KEY, email text, name text, born date);
CREATE TABLE posts (id int PRIMARY KEY, user_id int, title text);
INSERT INTO users SELECT n, 'U' || n || '@x', 'name ' || n, '2026-11-20' FROM generate_series(1, 50) n;
INSERT INTO posts SELECT n, n, 't' FROM generate_series(1, 50) n;
";

const CONFIG: &str = r#"
[cache.user]
key = "user:{id}"
ttl = "10m"
warm.sql = "SELECT id, name FROM users WHERE id = :id"
[cache.by_mail]
key = "mail:{email|lower}"
ttl = "10m"
warm.sql = "SELECT name FROM users WHERE lower(email) = :email -- one"
warm.format = "text"
[cache.posts]
key = "posts:{user_id}"
ttl = "10m"
warm.sql = "SELECT json_agg(title ORDER BY id) FROM posts WHERE user_id = :user_id::int"
warm.always = true
[table.users]
evict = ["user", "by_mail"]
[table.posts]
evict = ["posts"]
"#;

/// A query that waits in its middle, with the snapshot of its beginning, while somebody holds the lock.
pub(crate) const GATE: &str = "(SELECT pg_advisory_xact_lock_shared(42) IS NULL OFFSET 0)";

/// The gate opens before any query is given up.
pub(crate) const PATIENT: &str = "[warm]\nstatement_timeout = \"5m\"\n";

fn world(config: &str) -> World {
    let w = World::running(&Setup { config, schema: SCHEMA, ..Setup::default() });
    w.wait_position();
    w
}

fn get(w: &World, key: &str) -> Option<String> {
    w.redis().get(key).unwrap()
}

#[track_caller]
fn wait_value(w: &World, key: &str, value: &str) {
    w.wait_keys(&format!("{key} to be {value}"), |redis| {
        redis.get::<_, Option<String>>(key).is_ok_and(|v| v.as_deref() == Some(value))
    });
}

fn cache(w: &World, keys: &[&str]) {
    for key in keys {
        let _: () = w.redis().set(key, "cached by the application").unwrap();
    }
}

/// Waits until `n` statements stand before the gate.
pub(crate) fn wait_at_gate(w: &World, n: usize) {
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 42 AND NOT granted \
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let deadline = Instant::now() + PATIENCE;
    while w.value(waiting) != n.to_string() {
        assert!(Instant::now() < deadline, "{n} queries should wait at the gate");
        std::thread::yield_now();
    }
}

pub(crate) fn closed_gate(w: &World) -> Db {
    let gate = w.connect();
    gate.sql("SELECT pg_advisory_lock(42)");
    gate
}

pub(crate) fn open_gate(gate: &Db) {
    gate.sql("SELECT pg_advisory_unlock(42)");
}

#[test]
fn what_was_there_is_back_with_the_value_that_the_database_has_now() {
    let w = world(CONFIG);
    cache(&w, &["user:1", "mail:u1@x"]);
    w.sql("UPDATE users SET name = 'it''s \"new\"' WHERE id = 1");
    wait_value(&w, "user:1", &w.value("SELECT row_to_json(u) FROM (SELECT id, name FROM users WHERE id = 1) u"));
    wait_value(&w, "mail:u1@x", "it's \"new\"");
    let left: i64 = w.redis().pttl("user:1").unwrap();
    assert!((500_000..=600_000).contains(&left), "{left} ms are left of ten minutes");
    // A row that is gone leaves nothing behind.
    let mark = w.mark();
    w.sql("DELETE FROM users WHERE id = 1");
    w.wait_line(mark, &["warm user:1: empty"]);
    assert_eq!(get(&w, "user:1"), None);
}

#[test]
fn what_was_absent_stays_absent_unless_it_is_always_wanted() {
    let w = world(CONFIG);
    w.sql("UPDATE posts SET title = 'new' WHERE id IN (2, 3); UPDATE users SET name = 'new' WHERE id = 2");
    wait_value(&w, "posts:2", r#"["new"]"#);
    wait_value(&w, "posts:3", r#"["new"]"#);
    // The users were evicted before the marker's keys, and what is wanted waits in one queue.
    cache(&w, &["user:3"]);
    w.sql("UPDATE users SET name = 'new' WHERE id = 3");
    wait_value(&w, "user:3", r#"{"id":3,"name":"new"}"#);
    assert_eq!(get(&w, "user:2"), None);
}

#[test]
fn a_value_that_a_change_has_overtaken_is_refused_and_read_again() {
    let config = CONFIG.replace(
        "SELECT id, name FROM users WHERE id = :id",
        &format!("SELECT name FROM {GATE} AS g(x), LATERAL (SELECT name FROM users WHERE id = :id AND x IS NOT NULL OFFSET 0) u"),
    );
    let w = world(&format!("{PATIENT}{config}"));
    let gate = closed_gate(&w);
    cache(&w, &["user:1"]);
    w.sql("UPDATE users SET name = 'first' WHERE id = 1");
    wait_at_gate(&w, 1);
    // The statement under way has its snapshot: it will say 'first', and the eviction of 'second' has nothing left to delete.
    let mark = w.mark();
    w.sql("UPDATE users SET name = 'second' WHERE id = 1");
    w.wait_line(mark, &["evict users.update", "user:1 absent"]);
    open_gate(&gate);
    w.wait_line(mark, &["warm user:1: stored"]);
    assert_eq!(get(&w, "user:1").as_deref(), Some("second"));
    assert!(metrics(&w, "pgevict_warms_total", r#"outcome="retried""#) >= 1.0, "it was never refused");
}

#[test]
fn a_pattern_of_another_cache_that_went_meanwhile_refuses_the_value_too() {
    let config = format!(
        r#"{PATIENT}
[cache.profile]
key = "user:{{id}}:profile"
ttl = "10m"
warm.sql = "SELECT u.name || ' ' || p.title FROM {GATE} AS g(x), LATERAL (SELECT name FROM users WHERE id = :id AND x IS NOT NULL OFFSET 0) u, LATERAL (SELECT title FROM posts WHERE user_id = :id AND x IS NOT NULL OFFSET 0) p"
[cache.all]
pattern = "user:{{id}}:*"
[table.users]
evict = ["profile"]
[table.posts]
evict = [{{ cache = "all", with = {{ id = "user_id" }} }}]
"#
    );
    let w = world(&config);
    let gate = closed_gate(&w);
    cache(&w, &["user:7:profile"]);
    w.sql("UPDATE users SET name = 'n' WHERE id = 7");
    wait_at_gate(&w, 1);
    w.sql("UPDATE posts SET title = 'new' WHERE user_id = 7");
    w.drain();
    let mark = w.mark();
    open_gate(&gate);
    w.wait_line(mark, &["warm user:7:profile: stored"]);
    assert_eq!(get(&w, "user:7:profile").as_deref(), Some("n new"));
}

#[test]
fn evictions_and_writers_go_on_while_the_warming_queries_hang() {
    let config = CONFIG.replace(
        "SELECT id, name FROM users WHERE id = :id",
        &format!("SELECT name FROM users, {GATE} AS g(x) WHERE id = :id AND x IS NOT NULL"),
    );
    let w = world(&format!("[warm]\nconcurrency = 3\nstatement_timeout = \"5m\"\n{config}"));
    let gate = closed_gate(&w);
    let keys: Vec<String> = (1..=50).map(|n| format!("user:{n}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    w.fill(&keys);
    w.sql("UPDATE users SET name = 'new'");
    wait_at_gate(&w, 3);
    for n in 1..=50 {
        let key = format!("user:{n}");
        let began = Instant::now();
        w.check(&format!("UPDATE users SET name = 'newer' WHERE id = {n}"), &[&key]);
        // The queries hang for minutes, or for as long as the gate is closed.
        assert!(began.elapsed() < Duration::from_secs(20), "an eviction waited for a warming query");
    }
    open_gate(&gate);
    for n in [1, 25, 50] {
        wait_value(&w, &format!("user:{n}"), "newer");
    }
}

#[test]
fn however_often_a_key_goes_while_it_is_asked_for_there_is_one_query_at_a_time() {
    let config = CONFIG.replace(
        "SELECT id, name FROM users WHERE id = :id",
        &format!("SELECT name FROM {GATE} AS g(x), LATERAL (SELECT name FROM users WHERE id = :id AND x IS NOT NULL OFFSET 0) u"),
    );
    let w = world(&format!("[warm]\nconcurrency = 8\nstatement_timeout = \"5m\"\n{config}"));
    let gate = closed_gate(&w);
    for n in 1..=30 {
        // A reader, or thirty of them, would fill it and lose it again.
        cache(&w, &["user:1"]);
        w.sql(&format!("UPDATE users SET name = 'name {n}' WHERE id = 1"));
        w.wait_gone(&["user:1"]);
    }
    // Behind all of these in the queue, so whatever else was begun stands before the gate by then.
    cache(&w, &["user:2"]);
    w.sql("UPDATE users SET name = 'behind' WHERE id = 2");
    wait_at_gate(&w, 2);
    open_gate(&gate);
    wait_value(&w, "user:1", "name 30");
    wait_value(&w, "user:2", "behind");
    let asked =
        ["stored", "retried", "refused"].map(|o| metrics(&w, "pgevict_warms_total", &format!("outcome=\"{o}\"")));
    assert!(asked.iter().sum::<f64>() <= 4.0, "{asked:?} queries for two keys");
}

#[test]
fn after_the_second_delete_a_warmed_key_is_warmed_again() {
    // The second delete must find the key warmed, so it does not come too soon for a slow machine.
    let config = CONFIG.replacen("ttl = \"10m\"", "ttl = \"10m\"\nrepeat_after = \"4s\"", 1);
    let w = World::new(&Setup { config: &config, schema: SCHEMA, ..Setup::default() });
    w.apply();
    // The first flush has a second one, too, which would be in the way.
    w.start_with(&["--adopt"]);
    w.wait_position();
    cache(&w, &["user:1"]);
    let mark = w.mark();
    w.sql("UPDATE users SET name = 'new' WHERE id = 1");
    let stored = |mark| w.daemon(|d| d.log().wait_for(mark, PATIENCE, |l| l.contains("warm user:1: stored")));
    let (behind_the_first, _) = stored(mark).expect("it is warmed");
    stored(behind_the_first).expect("it is warmed again");
    assert_eq!(get(&w, "user:1").as_deref(), Some(r#"{"id":1,"name":"new"}"#));
}

#[test]
fn one_query_fills_many_keys_and_a_hash_has_the_columns_as_fields() {
    let w = world(
        r#"
[cache.user]
key = "user:{id}"
ttl = "10m"
warm.sql = "SELECT id, name, NULL AS nothing FROM users WHERE id = ANY(:id)"
warm.format = "hash"
warm.always = true
warm.concurrency = 1
[table.users]
evict = ["user"]
"#,
    );
    w.sql("UPDATE users SET name = 'name' || id");
    w.wait_keys("all users to be there", |redis| redis.keys::<_, Vec<String>>("user:*").is_ok_and(|k| k.len() == 50));
    let fields: std::collections::BTreeMap<String, String> = w.redis().hgetall("user:7").unwrap();
    assert_eq!(fields, [("name".to_owned(), "name7".to_owned())].into());
    assert!(w.redis().pttl::<_, i64>("user:7").unwrap() > 500_000);
    let queries =
        w.value("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%ANY($1)%' AND pid <> pg_backend_pid()");
    assert!(queries.parse::<u32>().unwrap() <= 1, "one at a time");
}

#[test]
fn a_query_that_cannot_work_is_said_once_with_its_remedy_and_harms_nothing() {
    let w = world(&CONFIG.replace("SELECT id, name FROM users", "SELECT id, nam FROM users"));
    cache(&w, &["user:1", "mail:u1@x"]);
    let mark = w.mark();
    w.sql("UPDATE users SET name = 'new' WHERE id = 1");
    w.wait_line(mark, &["warm user:1: failed: warm.sql: column", "nam", "42703", "the next reader fills it"]);
    wait_value(&w, "mail:u1@x", "new");
    assert_eq!(get(&w, "user:1"), None);
}

/// A series of the daemon's metrics, summed over the lines that hold `label`.
pub(crate) fn metrics(w: &World, name: &str, label: &str) -> f64 {
    let text = ask(&w.config_path().with_file_name("admin.sock"), "/metrics");
    let lines = text.lines().filter(|l| l.starts_with(name) && l.contains(label));
    lines.filter_map(|l| l.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// The smallest bucket of the eviction lag, in seconds, that holds 99 of 100 of what came since `before`.
fn p99(before: &[(f64, f64)], now: &[(f64, f64)]) -> f64 {
    let grown: Vec<(f64, f64)> =
        now.iter().map(|(le, n)| (*le, n - before.iter().find(|(l, _)| l == le).map_or(0.0, |(_, n)| *n))).collect();
    let all = grown.last().map_or(0.0, |(_, n)| *n);
    assert!(all > 100.0, "too few evictions were measured: {all}");
    grown.iter().find(|(_, n)| *n >= all * 0.99).map_or(f64::INFINITY, |(le, _)| *le)
}

fn lag_buckets(w: &World) -> Vec<(f64, f64)> {
    let text = ask(&w.config_path().with_file_name("admin.sock"), "/metrics");
    let of = |line: &str| {
        let rest = line.strip_prefix("pgevict_eviction_lag_seconds_bucket{le=\"")?;
        let (le, n) = rest.split_once("\"} ")?;
        Some((if le == "+Inf" { f64::INFINITY } else { le.parse().ok()? }, n.parse().ok()?))
    };
    text.lines().filter_map(of).collect()
}

/// 200 changes a second for some seconds; returns the p99 of the eviction lag, and the most queries that ran at once.
fn burst(w: &World) -> (f64, usize) {
    const CHANGES: u32 = 800;
    let before = lag_buckets(w);
    let (watcher, mut most) = (w.connect(), 0);
    let running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%FROM (%pg_sleep(0.3)%' \
                   AND datname = current_database() AND pid <> pg_backend_pid()";
    let began = Instant::now();
    for n in 0..CHANGES {
        let id = 1 + n % 200;
        let key = format!("user:{id}");
        // Redis has the key again, as if a reader had filled it.
        let _: () = w.redis().set(&key, "cached").unwrap();
        w.sql(&format!("UPDATE users SET name = 'name {n}' WHERE id = {id}"));
        if n % 20 == 0 {
            most = most.max(watcher.sql(running)[0][0].as_ref().unwrap().parse().unwrap());
        }
        let due = began + Duration::from_millis(5) * (n + 1);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    w.drain();
    (p99(&before, &lag_buckets(w)), most)
}

/// The pace is the subject here, so the test keeps time instead of waiting for signals. Other tests share the machine, and what they do
/// while one figure is taken they need not do beside the other: the best of some rounds counts.
#[test]
fn two_hundred_evictions_a_second_of_a_slow_query_stay_inside_the_limits_and_cost_evictions_nothing() {
    const ROUNDS: u32 = 4;
    let quiet = "[cache.user]\nkey = \"user:{id}\"\nttl = \"10m\"\n[table.users]\nevict = [\"user\"]\n";
    let warm = "warm.sql = \"SELECT name, pg_sleep(0.3)::text AS slept FROM users WHERE id = :id\"\n[table.users]";
    let w = world(quiet);
    w.sql("INSERT INTO users SELECT n, 'u', 'name ' || n, NULL FROM generate_series(51, 200) n");
    let warming =
        format!("[warm]\nconcurrency = 3\nmax_per_second = 6\nqueue = 50\n{}", quiet.replace("[table.users]", warm));
    let reload = |config: &str| {
        let mark = w.mark();
        w.write_config(config);
        w.daemon(|d| d.signal(nix::sys::signal::Signal::SIGHUP));
        w.wait_line(mark, &["the new configuration is live"]);
        w.wait_ready();
    };
    let stored = || metrics(&w, "pgevict_warms_total", "stored") + metrics(&w, "pgevict_warms_total", "retried");
    for round in 1..=ROUNDS {
        let (alone, none) = burst(&w);
        assert_eq!(none, 0);
        reload(&warming);
        let (before, began) = (stored(), Instant::now());
        let (beside, most) = burst(&w);
        assert!((1..=3).contains(&most), "{most} queries at once");
        let stored = stored() - before;
        let seconds = began.elapsed().as_secs_f64();
        assert!(stored >= 6.0 && stored <= 6.0 * (seconds + 1.0), "{stored} queries in {seconds} s");
        assert!(metrics(&w, "pgevict_warms_total", "dropped") >= 100.0, "the queue is not bounded");
        assert!(metrics(&w, "pgevict_warm_queue_keys", "") <= 53.0);
        println!(
            "p99 of the lag: {alone} s alone, {beside} s beside {stored} queries in {seconds} s, at most {most} at once"
        );
        // A bucket is about twice the one before; one of difference is noise.
        if beside <= (alone * 2.5).max(0.05) {
            return;
        }
        assert!(round < ROUNDS, "p99 of the eviction lag: {alone} s alone, {beside} s beside warming");
        reload(quiet);
    }
}

/// Redis counts in whole seconds how long a key has not been used, and time is the subject: this test waits for it.
#[test]
fn what_is_read_is_read_anew_before_it_expires_and_what_is_not_read_expires() {
    let w = world(
        r#"
[cache.user]
key = "user:{id}"
ttl = "12s"
warm.sql = "SELECT name FROM users WHERE id = :id"
warm.on = ["refresh"]
warm.refresh_at = 0.5
[table.posts]
evict = [{ cache = "user", with = { id = "user_id" } }]
"#,
    );
    // No table tells of this change: only a refresh brings it.
    w.sql("UPDATE users SET name = 'new' WHERE id IN (1, 2)");
    let times = [12, 6].map(Duration::from_secs);
    refreshes(&w, ["user:1", "user:2"], "new", times, Duration::from_millis(100));
}

/// Of two entries that expire after `ttl` the one that is read every so often is read anew when `due` is over, and outlives them.
#[track_caller]
pub(crate) fn refreshes(w: &World, keys: [&str; 2], fresh: &str, [ttl, due]: [Duration; 2], every: Duration) {
    // The rest of its life is soon over where even a walk over a few keys takes long, since walks rest for nineteen times as long.
    assert!((0..4).any(|_| refreshed(w, keys, fresh, [ttl, due], every)), "the machine is too busy to tell");
}

/// False if it expired while nobody got a core.
#[track_caller]
fn refreshed(w: &World, keys: [&str; 2], fresh: &str, [ttl, due]: [Duration; 2], every: Duration) -> bool {
    let (mut redis, pace, began) = (w.redis(), Pace::watch(), Instant::now());
    for key in keys {
        let _: () = redis.pset_ex(key, "old", u64::try_from(ttl.as_millis()).unwrap()).unwrap();
    }
    let mut refreshed = None;
    while began.elapsed() < ttl * 4 / 3 {
        let value: Option<String> = redis.get(keys[0]).unwrap();
        if value.is_none() {
            assert!(pace.is_poor(), "it expired after {:?} although it was read", began.elapsed());
            return false;
        }
        if value.as_deref() == Some(fresh) {
            refreshed.get_or_insert(began.elapsed());
        }
        std::thread::sleep(every);
    }
    let after = refreshed.expect("it was never refreshed");
    // (Redis rounds what a key has left to milliseconds.)
    assert!(after >= due - Duration::from_millis(100), "refreshed after {after:?}");
    assert_eq!(get(w, keys[1]), None, "nobody read it");
    true
}
