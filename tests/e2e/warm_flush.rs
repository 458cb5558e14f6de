//! What goes in great numbers comes back by use: the hottest first, inside the limits, and not what a reader has filled meanwhile.

use crate::support::{Setup, World};
use crate::warm::{GATE, closed_gate, metrics, open_gate, wait_at_gate};
use redis::Commands as _;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const SCHEMA: &str = "
CREATE TABLE users (id int PRIMARY KEY, name text);
CREATE TABLE posts (id int PRIMARY KEY, user_id int);
INSERT INTO users SELECT n, 'name ' || n FROM generate_series(1, 100) n;
INSERT INTO posts SELECT n, n FROM generate_series(1, 100) n;
";

const CONFIG: &str = r#"
[limits]
max_keys_per_change = 1000000
[cache.user]
key = "user:{id}"
ttl = "10m"
warm.sql = "SELECT :id::int || ' of the database'"
warm.format = "text"
[cache.top]
key = "top"
ttl = "10m"
warm.sql = "SELECT count(*) FROM users"
[cache.post]
key = "post:{id}"
[table.posts]
evict = [{ cache = "user", with = { id = "user_id" } }, "top", "post"]
[table.users]
evict = ["post"]
"#;

fn world(config: &str, redis: &[(&str, &str)]) -> World {
    let w = World::running(&Setup { config, schema: SCHEMA, redis, ..Setup::default() });
    w.wait_position();
    w
}

/// As an application does, which no event tells from a warm-up but the test: it listens later.
fn fill(w: &World, keys: impl Iterator<Item = String>) {
    let keys: Vec<String> = keys.collect();
    let mut redis = w.redis();
    for chunk in keys.chunks(10_000) {
        let mut pipeline = redis::pipe();
        chunk.iter().for_each(|key| _ = pipeline.cmd("SET").arg(key).arg("of the application").ignore());
        pipeline.exec(&mut redis).unwrap();
    }
}

/// What is stored from now on, in order and with its time, until `enough` keys are. Events are read while `begin` is under way: read
/// behind it, they would all seem to have come at once.
fn stored(w: &World, enough: usize, begin: impl FnOnce()) -> Vec<(String, Duration)> {
    let mut listener = w.redis();
    listener.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    let (subscribed, ready) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let listens = scope.spawn(move || {
            let mut events = listener.as_pubsub();
            events.subscribe("__keyevent@0__:set").unwrap();
            let (began, mut out) = (Instant::now(), Vec::new());
            subscribed.send(()).unwrap();
            while out.len() < enough {
                let key: String = events.get_message().expect("no more is stored").get_payload().unwrap();
                if key.starts_with("user:") || key == "top" {
                    out.push((key, began.elapsed()));
                }
            }
            out
        });
        ready.recv().expect("a listener");
        begin();
        listens.join().unwrap()
    })
}

/// Redis counts idleness in whole seconds, and the daemon may hear of it late: what is read after this is hotter than what was stored
/// before.
fn let_it_cool() {
    std::thread::sleep(Duration::from_millis(5_100));
}

#[test]
fn a_flush_of_a_hundred_thousand_keys_warms_inside_the_budget_the_hottest_first_and_delays_no_eviction() {
    // Keys that go over more than ten seconds are not kept until the last of them is known: a slow machine has fewer.
    assert!([100_000, 25_000, 6_000].into_iter().any(the_hottest_come_first), "6000 keys took ten seconds");
}

/// False if the flush took too long to tell.
fn the_hottest_come_first(keys: u32) -> bool {
    const HOT: u32 = 40;
    const WATCHED: usize = 140;
    let w = world(&format!("[warm]\nconcurrency = 2\nmax_per_second = 20\nqueue = 1000\n{CONFIG}"), &[]);
    fill(&w, (1..=keys).map(|n| format!("user:{n}")));
    let_it_cool();
    let hot: BTreeSet<String> = (0..HOT).map(|n| format!("user:{}", 123 + n * (keys / HOT))).collect();
    for key in &hot {
        let _: String = w.redis().get(key).unwrap();
    }
    let mark = w.mark();
    let mut longest = Duration::ZERO;
    let back = stored(&w, WATCHED, || {
        w.sql("TRUNCATE posts");
        // While the cache goes, and while the queue is full.
        for id in 1..=20 {
            let key = format!("post:{id}");
            let _: () = w.redis().set(&key, "cached").unwrap();
            let began = Instant::now();
            w.sql(&format!("UPDATE users SET name = 'new' WHERE id = {id}"));
            w.wait_gone(&[&key]);
            longest = longest.max(began.elapsed());
        }
    });
    let line = w.wait_line(mark, &["evict posts.truncate", "user:*"]);
    println!("{line}");
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    if line["took_ms"].as_u64().unwrap() > 9_000 {
        return false;
    }
    // Two queries run at once, so the last of the hot ones may be overtaken by the first that is not.
    let first: BTreeSet<String> = back[..=HOT as usize].iter().map(|(key, _)| key.clone()).collect();
    let late: Vec<_> = hot.difference(&first).collect();
    assert!(late.is_empty(), "read lately, but not warmed among the first {HOT}: {late:?}");
    // At twenty a second, the first twenty of which may begin at once, they take 6 s; 2 s are for a moment without a core.
    let took = back[WATCHED - 1].1 - back[0].1;
    assert!(took >= Duration::from_secs(4), "{WATCHED} keys were warmed within {took:?}");
    // What waits in the queue takes 50 s.
    assert!(longest < Duration::from_secs(10), "an eviction took {longest:?}");
    let value: String = w.redis().get(&back[0].0).unwrap();
    assert!(value.ends_with("of the database"), "{value}");
    let dropped = metrics(&w, "pgevict_warms_total", "dropped");
    assert!((f64::from(keys) - 1_100.0..f64::from(keys)).contains(&dropped), "{dropped} were dropped");
    w.wait_line(mark, &["warm user: ", "of the keys that went at once do not fit in the queue"]);
    println!(
        "the longest of 20 evictions meanwhile took {longest:?}; hot keys were back after {:?}",
        back[HOT as usize - 1].1
    );
    true
}

#[test]
fn what_was_cached_before_a_cache_was_proven_comes_back_and_what_was_not_stays_absent() {
    let w = World::new(&Setup { config: CONFIG, schema: SCHEMA, ..Setup::default() });
    w.apply();
    fill(&w, ["user:1", "user:2", "user:a:b", "top", "users:7"].map(str::to_owned).into_iter());
    let back = stored(&w, 3, || w.start());
    let keys: BTreeSet<&str> = back.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["top", "user:1", "user:2"].into(), "after the first flush");
    assert_eq!(w.redis().get::<_, String>("top").unwrap(), "100");
    assert_eq!(w.redis().get::<_, Option<String>>("users:7").unwrap().as_deref(), Some("of the application"));
    assert_eq!(w.redis().get::<_, Option<String>>("user:3").unwrap(), None);
}

#[test]
fn where_redis_does_not_tell_the_use_of_keys_they_come_back_all_the_same() {
    let w = World::new(&Setup { config: CONFIG, schema: SCHEMA, ..Setup::default() });
    w.apply();
    redis::cmd("ACL").arg(&["SETUSER", "default", "-object"]).exec(&mut w.redis()).unwrap();
    fill(&w, (1..=5).map(|n| format!("user:{n}")));
    let back = stored(&w, 5, || w.start());
    assert_eq!(back.len(), 5);
}

#[test]
fn under_an_lfu_policy_what_is_read_often_comes_back_first() {
    let limits = "[warm]\nconcurrency = 1\nmax_per_second = 1000\n";
    let w = world(&format!("{limits}{CONFIG}"), &[("maxmemory-policy", "allkeys-lfu"), ("lfu-decay-time", "0")]);
    fill(&w, (1..=50).map(|n| format!("user:{n}")));
    let hot = ["user:13", "user:31", "user:42"];
    for key in hot.iter().cycle().take(3 * 300) {
        let _: String = w.redis().get(key).unwrap();
    }
    let back = stored(&w, 50, || _ = w.sql("TRUNCATE posts"));
    let first: BTreeSet<&str> = back[..3].iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(first, hot.into());
}

#[test]
fn what_a_reader_has_filled_while_it_waited_is_not_asked_for_again() {
    let config = CONFIG.replace(
        "SELECT :id::int || ' of the database'",
        &format!("SELECT :id::int || ' of the database' FROM {GATE} AS g(x) WHERE x IS NOT NULL"),
    );
    let w = world(&format!("[warm]\nconcurrency = 1\nstatement_timeout = \"5m\"\n{config}"), &[]);
    let gate = closed_gate(&w);
    fill(&w, (1..=10).map(|n| format!("user:{n}")));
    w.sql("TRUNCATE posts");
    wait_at_gate(&w, 1);
    // One is being asked for; readers are faster with all others.
    fill(&w, (1..=10).map(|n| format!("user:{n}")));
    open_gate(&gate);
    let deadline = Instant::now() + crate::support::PATIENCE;
    while metrics(&w, "pgevict_warms_total{cache=\"user\"", "present") < 9.0 {
        assert!(Instant::now() < deadline, "keys that are there were not passed over");
        std::thread::yield_now();
    }
    assert!(metrics(&w, "pgevict_warms_total{cache=\"user\"", "stored") <= 1.0);
}

/// As `what_is_read_is_read_anew_before_it_expires_and_what_is_not_read_expires`, where Redis counts how often keys are read instead.
#[test]
fn under_an_lfu_policy_what_is_read_is_read_anew_too() {
    let w = World::running(&Setup {
        config: r#"
[cache.user]
key = "user:{id}"
ttl = "12s"
warm.sql = "SELECT name FROM users WHERE id = :id"
warm.on = ["refresh"]
warm.refresh_at = 0.5
[table.posts]
evict = [{ cache = "user", with = { id = "user_id" } }]
"#,
        schema: SCHEMA,
        redis: &[("maxmemory-policy", "allkeys-lfu"), ("lfu-decay-time", "0")],
        ..Setup::default()
    });
    w.wait_position();
    w.sql("UPDATE users SET name = 'new' WHERE id IN (1, 2)");
    let times = [12, 6].map(Duration::from_secs);
    crate::warm::refreshes(&w, ["user:1", "user:2"], "new", times, Duration::from_millis(5));
}
