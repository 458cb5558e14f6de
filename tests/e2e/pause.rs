//! `pgevict pause` and `resume`: of warming, and of delivery.

use crate::support::pace::Pace;
use crate::support::{Delivery, Setup, World};
use redis::Commands as _;

const SCHEMA: &str = "
CREATE TABLE users (id int PRIMARY KEY, name text);
INSERT INTO users SELECT n, 'name ' || n FROM generate_series(1, 30) n;
";

const CONFIG: &str = r#"
[cache.user]
key = "user:{id}"
ttl = "10m"
warm.sql = "SELECT name FROM users WHERE id = :id"
[cache.posts]
pattern = "posts:{id}:*"
index = false
[table.users]
evict = ["user", "posts"]
"#;

fn world() -> World {
    let w = World::running(&Setup { config: CONFIG, schema: SCHEMA, ..Setup::default() });
    w.wait_position();
    w
}

#[test]
fn while_warming_is_paused_evictions_go_on_and_keys_stay_absent() {
    let w = world();
    let ran = w.pgevict(&["pause", "--warming"]).exits(0);
    assert_eq!(ran.out, "warming is paused; evictions go on");
    assert_eq!(w.pgevict(&["pause", "--warming", "-o", "json"]).exits(0).json()["new"], false);
    w.pgevict(&["ready"]).exits(0);
    w.fill(&["user:1", "user:2"]);
    w.check("UPDATE users SET name = 'new' WHERE id = 1", &["user:1"]);
    let status = w.pgevict(&["status", "-o", "json"]).exits(0).json();
    assert!(status["warming"]["paused_since"].is_string(), "{status}");
    let text = w.pgevict(&["status"]).exits(0).out;
    assert!(text.contains("warming is paused since"), "{text}");
    // A reload is no reason to go on.
    let mark = w.mark();
    w.daemon(|d| d.signal(nix::sys::signal::Signal::SIGHUP));
    w.wait_line(mark, &["the new configuration is live"]);
    w.check("UPDATE users SET name = 'newer' WHERE id = 1", &["user:1"]);

    assert_eq!(w.pgevict(&["resume", "--warming"]).exits(0).out, "warming goes on");
    let mark = w.mark();
    w.sql("UPDATE users SET name = 'newest' WHERE id = 2");
    w.wait_line(mark, &["warm user:2: stored"]);
    assert!(!w.redis().exists::<_, bool>("user:1").unwrap(), "what was evicted meanwhile is left to its readers");
    assert!(w.pgevict(&["status", "-o", "json"]).exits(0).json()["warming"]["paused_since"].is_null());
}

#[test]
fn while_delivery_is_paused_nothing_goes_and_the_position_stands_and_afterwards_all_of_it_comes() {
    let w = world();
    w.fill(&["user:1", "user:2", "user:3", "posts:2:a", "posts:3:a"]);
    w.drain();
    w.refill();
    let ran = w.pgevict(&["pause"]).exits(0);
    assert!(ran.out.starts_with("delivery is paused"), "{ran:?}");
    let no = w.pgevict(&["ready"]).exits(1);
    assert!(no.out.contains("paused: an operator paused delivery"), "{no:?}");
    w.sql("UPDATE users SET name = 'new' WHERE id <= 2; TRUNCATE users");
    // Readers stop trusting the caches; the heartbeat that says so comes after everything that was under way.
    w.wait_keys("alive to go", |redis| !redis.exists::<_, bool>("{pgevict}:alive").unwrap_or(true));
    let (record, log) = (position(&w), w.mark());
    for _ in 0..3 {
        heartbeat(&w);
    }
    assert!(w.missing().is_empty(), "it went while delivery was paused: {:?}", w.missing());
    assert_eq!(position(&w), record, "the position moved");
    assert_eq!(
        w.value("SELECT count(DISTINCT xid) FROM pgevict.journal WHERE tbl = 'users'"),
        "1",
        "the journal keeps it"
    );

    assert_eq!(w.pgevict(&["resume"]).exits(0).out, "delivery goes on from where it stood");
    w.wait_line(log, &["evict users.update", "user:1 deleted"]);
    w.wait_gone(&["user:1", "user:2", "user:3", "posts:2:a", "posts:3:a"]);
    w.wait_ready();
    w.wait_keys("alive to be back", |redis| redis.exists::<_, bool>("{pgevict}:alive").unwrap_or(false));
}

#[test]
fn a_restart_ends_the_pause_and_a_stop_under_it_is_clean() {
    let w = world();
    w.fill(&["user:1"]);
    w.pgevict(&["pause"]).exits(0);
    w.sql("UPDATE users SET name = 'new' WHERE id = 1");
    w.stop();
    assert!(w.missing().is_empty());
    w.start();
    w.wait_line(0, &["evict users.update", "user:1 deleted"]);
}

#[test]
fn notify_delivery_cannot_be_paused_because_it_has_nothing_to_come_back_to() {
    let config = CONFIG.replace("warm.sql = \"SELECT name FROM users WHERE id = :id\"\n", "");
    let w = World::running(&Setup { delivery: Delivery::Notify, config: &config, schema: SCHEMA, ..Setup::default() });
    let ran = w.pgevict(&["pause"]).exits(3);
    assert!(ran.err.contains("would be lost"), "{ran:?}");
    w.pgevict(&["ready"]).exits(0);
    assert_eq!(w.pgevict(&["resume"]).exits(0).out, "delivery was not paused");
}

#[test]
fn a_session_that_begins_under_a_pause_stands_still_too() {
    let w = world();
    w.fill(&["user:1"]);
    w.pgevict(&["pause"]).exits(0);
    w.sql("UPDATE users SET name = 'new' WHERE id = 1");
    let mark = w.mark();
    w.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgevict' AND datname = current_database()");
    w.wait_line(mark, &["PostgreSQL down"]);
    w.wait_line(mark, &["PostgreSQL connected"]);
    for _ in 0..3 {
        heartbeat(&w);
    }
    assert!(w.missing().is_empty(), "the new session delivers");
    let reasons = w.pgevict(&["ready", "-o", "json"]).exits(1).json()["reasons"].clone();
    assert!(reasons.as_array().unwrap().iter().any(|r| r["condition"] == "paused"), "{reasons}");
    assert!(!reasons.to_string().contains("_down"), "both servers are there: {reasons}");
    let mark = w.mark();
    w.pgevict(&["resume"]).exits(0);
    w.wait_line(mark, &["evict users.update", "user:1 deleted"]);
    w.wait_ready();
}

/// The record that a waiting daemon watches is written all the same: a leader that was paused is not one that is frozen.
#[test]
fn a_paused_leader_keeps_the_lead() {
    // One that gets no core for seconds loses it, which is meant; then nothing was tried.
    assert!((0..4).any(|_| keeps_the_lead()), "the machine is too busy to tell");
}

/// False if the lead changed while nobody could keep it.
fn keeps_the_lead() -> bool {
    let (w, pace) = (world(), Pace::watch());
    let socket = w.config_path().with_file_name("second.sock");
    let second = w.spawn(&[], &[("PGEVICT_ADMIN__SOCKET", socket.to_str().unwrap())]);
    second.wait_line(0, &["another pgevict leads"]);
    w.fill(&["user:1"]);
    w.pgevict(&["pause"]).exits(0);
    w.sql("UPDATE users SET name = 'new' WHERE id = 1");
    // It would take over within 5 s; these are 8.
    for _ in 0..8 {
        heartbeat(&w);
    }
    if !w.missing().is_empty() {
        assert!(pace.is_poor(), "the other daemon has taken over\n{}", second.log().tail(20));
        return false;
    }
    // When the leader goes, so does its pause.
    w.kill9();
    second.wait_line(0, &["evict users.update", "user:1 deleted"]);
    true
}

fn record(w: &World) -> serde_json::Value {
    let text: String = w.redis().hget("{pgevict}:position", "rec").unwrap();
    serde_json::from_str(&text).unwrap()
}

fn position(w: &World) -> String {
    record(w)["pos"].to_string()
}

/// Waits for the daemon's next sign of life.
fn heartbeat(w: &World) {
    let before = record(w)["step"].clone();
    w.wait_keys("a heartbeat", |_| record(w)["step"] != before);
}
