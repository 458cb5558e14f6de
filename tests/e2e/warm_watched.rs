//! What is seen of warming from outside: what waits and fails, and whether what was warmed was read.

use crate::commands::ask;
use crate::support::{PATIENCE, Setup, World};
use redis::Commands as _;
use std::time::{Duration, Instant};

const SCHEMA: &str = "
CREATE TABLE users (id int PRIMARY KEY, name text);
INSERT INTO users SELECT n, 'name ' || n FROM generate_series(1, 50) n;
";

const CONFIG: &str = r#"
[cache.user]
key = "user:{id}"
ttl = "10m"
warm.sql = "SELECT name FROM users WHERE id = :id"
warm.always = true
[table.users]
evict = ["user"]
"#;

fn world(config: &str, redis: &[(&str, &str)]) -> World {
    let w = World::running(&Setup { config, schema: SCHEMA, redis, ..Setup::default() });
    w.wait_position();
    w
}

/// A change of this user, and the key is back.
fn change(w: &World, id: u32) {
    let mark = w.mark();
    w.sql(&format!("UPDATE users SET name = name || '.' WHERE id = {id}"));
    w.wait_line(mark, &[&format!("warm user:{id}: stored")]);
}

/// Waits until so many warmed keys that a change took had been read, had not, and are not known of.
#[track_caller]
fn wait_worth(w: &World, read: u64, unread: u64, unknown: u64) {
    let socket = w.config_path().with_file_name("admin.sock");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let cache = &w.pgevict(&["status", "-o", "json"]).exits(0).json()["warming"]["caches"][0];
        if (&cache["read"], &cache["unread"], &cache["unknown"]) == (&read.into(), &unread.into(), &unknown.into()) {
            break;
        }
        assert!(Instant::now() < deadline, "not {read}, {unread}, {unknown}: {cache}");
    }
    let metrics = ask(&socket, "/metrics");
    for (label, n) in [("yes", read), ("no", unread), ("unknown", unknown)] {
        let line = format!("pgevict_warmed_again_total{{cache=\"user\",read=\"{label}\"}} {n}");
        assert!(n == 0 || metrics.contains(&line), "{line} is not in {metrics}");
    }
}

/// Redis counts idle time in whole seconds, and time is the subject: this test waits for it.
#[test]
fn a_warmed_key_counts_as_read_or_unread_when_the_next_change_takes_it() {
    let w = world(CONFIG, &[]);
    for id in 1..=3 {
        change(&w, id);
    }
    std::thread::sleep(Duration::from_millis(3_300));
    let mut redis = w.redis();
    // Redis' own clock stands still for as long as Redis gets no core.
    let deadline = Instant::now() + PATIENCE;
    while (2..=3).any(|id| redis.object_idletime::<_, u64>(format!("user:{id}")).unwrap() < 3) {
        assert!(Instant::now() < deadline, "Redis' clock stands still");
        std::thread::sleep(Duration::from_millis(20));
    }
    let _: String = redis.get("user:1").unwrap();
    for id in [2, 3, 1] {
        change(&w, id);
    }
    // At once: too soon to tell, and told.
    change(&w, 1);
    wait_worth(&w, 1, 2, 1);
    // What the application deleted or stored in between is none of ours.
    let _: () = w.redis().del("user:2").unwrap();
    change(&w, 2);
    wait_worth(&w, 1, 2, 1);
    let text = w.pgevict(&["status"]).exits(0).out;
    assert!(text.contains("UNREAD") && !text.contains("worth warming"), "{text}");
}

/// The counter decays when the clock's minute changes, which would make one read look like none if it came in between.
#[test]
fn under_an_lfu_policy_the_first_key_is_unknown_and_the_next_are_told_by_their_frequency() {
    let w = world(CONFIG, &[("maxmemory-policy", "allkeys-lfu"), ("lfu-decay-time", "0")]);
    for id in [1, 2, 3, 1] {
        change(&w, id);
    }
    wait_worth(&w, 0, 0, 1);
    let _: String = w.redis().get("user:2").unwrap();
    change(&w, 2);
    change(&w, 3);
    wait_worth(&w, 1, 1, 1);
}

#[test]
fn without_the_right_to_ask_evictions_go_on_and_the_worth_is_unknown() {
    let w = world(CONFIG, &[]);
    redis::cmd("ACL").arg(&["SETUSER", "default", "-object"]).exec(&mut w.redis()).unwrap();
    for id in [1, 2, 1, 2, 1, 2] {
        change(&w, id);
    }
    wait_worth(&w, 0, 0, 1);
    let log = redis::cmd("ACL").arg("LOG").query::<Vec<redis::Value>>(&mut w.redis()).unwrap();
    assert!(log.len() <= 1, "it goes on asking: {log:?}");
}

#[test]
fn status_shows_what_fails_and_that_the_cache_is_left_alone() {
    let w = world(&CONFIG.replace("SELECT name", "SELECT nam"), &[]);
    w.sql("UPDATE users SET name = 'new' WHERE id <= 8");
    let deadline = Instant::now() + PATIENCE;
    let cache = loop {
        let status = w.pgevict(&["status", "-o", "json"]).exits(0).json();
        let cache = status["warming"]["caches"][0].clone();
        if cache["resting_until"].is_string() {
            break cache;
        }
        assert!(Instant::now() < deadline, "it never rests: {status}");
    };
    assert!(cache["failed"].as_u64() >= Some(5) && cache["stored"] == 0, "{cache}");
    assert!(cache["last_error"].as_str().is_some_and(|e| e.contains("42703")), "{cache}");
    let text = w.pgevict(&["status"]).exits(0).out;
    assert!(text.contains("user last failed") && text.contains("42703"), "{text}");
}
