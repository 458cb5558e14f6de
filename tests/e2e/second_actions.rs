//! What is promised for later survives kill -9: the second delete of `repeat_after`, the end of a `debounce` window, the
//! second pass of a flush, the answer to lost captures (HAZARDS B9). And `alive`, which vouches for the caches meanwhile.

use crate::support::{Setup, World};
use nix::sys::signal::Signal;
use redis::Commands as _;
use std::time::Duration;

const SCHEMA: &str = "
CREATE TABLE users (id int PRIMARY KEY, name text);
CREATE TABLE posts (id int PRIMARY KEY, title text);
INSERT INTO users SELECT n, 'u' FROM generate_series(1, 5) n;
INSERT INTO posts SELECT n, 't' FROM generate_series(1, 5) n;
";
/// The second delete is due after what the tests do before it (stop, kill, start), also on a machine with slow moments.
const REPEATED: &str = r#"
[cache.user]
key = "user:{id}"
repeat_after = "8s"
[table.users]
evict = ["user"]
"#;
const POSTS: &str = r#"
[cache.post]
key = "post:{id}"
repeat_after = "8s"
[table.posts]
evict = ["post"]
"#;
const CHANGE: &str = "UPDATE users SET name = name || '.' WHERE id = 1";
const ALIVE: &str = "{pgevict}:alive";

fn new(config: &str) -> World {
    let w = World::new(&Setup { config, schema: SCHEMA, ..Setup::default() });
    w.apply();
    w
}

/// Running, without second passes of the first flush under way.
fn adopted(config: &str) -> World {
    let w = new(config);
    w.start_with(&["--adopt"]);
    w.wait_position();
    w
}

/// What a request stores that has read before the change.
fn store(w: &World, key: &str) {
    let _: () = w.redis().set(key, "stale").unwrap();
}

fn position(redis: &mut redis::Connection) -> serde_json::Value {
    let record: Option<String> = redis.hget("{pgevict}:position", "rec").unwrap_or_default();
    serde_json::from_str::<serde_json::Value>(&record.unwrap_or_default()).unwrap_or_default()["pos"].clone()
}

/// kill -9, a value that was read before, and a new daemon: it must go without any further change.
#[track_caller]
fn goes_after_kill9(w: &World, key: &str) {
    w.kill9();
    store(w, key);
    w.start_unready(&[]);
    w.wait_gone(&[key]);
    w.wait_ready();
}

#[test]
fn the_second_delete_of_repeat_after_survives_kill_9() {
    let w = adopted(REPEATED);
    w.fill(&["user:1", "user:2"]);
    let before = position(&mut w.redis());
    w.sql(CHANGE);
    w.wait_gone(&["user:1"]);
    // The first delete is behind the position: only the second position still knows of the change.
    w.wait_keys("the position to move past the change", |redis| position(redis) != before);
    goes_after_kill9(&w, "user:1");
    assert_eq!(w.missing(), ["user:1".to_owned()].into());
}

#[test]
fn the_end_of_a_debounce_window_survives_kill_9() {
    let config = REPEATED.replace("repeat_after = \"8s\"\n", "").replace("evict", "debounce = \"30s\"\nevict");
    let w = adopted(&config);
    w.fill(&["user:1", "user:2"]);
    w.sql(CHANGE);
    w.wait_gone(&["user:1"]);
    store(&w, "user:1");
    w.sql(CHANGE);
    // Changes behind it have been delivered, so it was read, and held back.
    w.drain();
    assert!(!w.missing().contains("user:1"), "it was not held back");
    // Nothing to wait for: the position must not move, and would within 100 ms.
    std::thread::sleep(Duration::from_millis(300));
    goes_after_kill9(&w, "user:1");
    assert_eq!(w.missing(), ["user:1".to_owned()].into());
}

#[test]
fn the_second_pass_of_the_first_flush_survives_kill_9() {
    let w = new(REPEATED);
    store(&w, "user:1");
    w.start();
    w.wait_position();
    assert!(!w.redis().exists::<_, bool>("user:1").unwrap());
    goes_after_kill9(&w, "user:1");
}

#[test]
fn the_second_pass_for_a_new_edge_survives_kill_9() {
    let w = adopted(REPEATED);
    w.stop();
    w.write_config(&format!("{REPEATED}{POSTS}"));
    w.apply();
    store(&w, "post:1");
    w.start();
    w.wait_line(0, &["flushed", "post"]);
    goes_after_kill9(&w, "post:1");
}

#[test]
fn a_flush_for_ddl_has_a_second_pass_and_it_survives_kill_9() {
    const DDL: &str = "ALTER TABLE users ALTER COLUMN name TYPE varchar(90) USING name || '!'";
    let w = adopted(REPEATED);
    w.stop();
    w.sql(DDL);
    w.start_unready(&[]);
    w.wait_line(0, &["flushed", "user"]);
    // Twice: a reader that was slow, and one that was slow while the daemon was down.
    store(&w, "user:1");
    w.wait_gone(&["user:1"]);
    w.stop();
    w.sql(&DDL.replace("90", "91"));
    w.start();
    w.wait_line(0, &["flushed", "user"]);
    goes_after_kill9(&w, "user:1");
}

#[test]
fn captures_that_were_only_counted_are_answered_again_when_their_transaction_has_ended_whatever_dies() {
    let w = adopted(&REPEATED.replace("repeat_after = \"8s\"\n", ""));
    let (locker, slow) = (w.connect(), w.connect());
    locker.sql("BEGIN; LOCK TABLE pgevict.journal IN ACCESS EXCLUSIVE MODE");
    slow.sql("BEGIN");
    slow.sql(CHANGE);
    locker.sql("ROLLBACK");
    w.wait_line(0, &["flushed", "user"]);
    w.kill9();
    store(&w, "user:1");
    w.start_unready(&[]);
    w.wait_gone(&["user:1"]);
    w.wait_line(0, &["flushed", "user"]);
    // Still uncommitted, so a reader still finds the old value.
    store(&w, "user:1");
    w.drain();
    assert!(w.redis().exists::<_, bool>("user:1").unwrap(), "it was flushed before its transaction had ended");
    slow.sql("COMMIT");
    w.wait_gone(&["user:1"]);
}

#[test]
fn alive_is_not_there_before_the_first_flush_is_over_and_expires_when_evictions_stop() {
    let w = new(REPEATED);
    // A flush that cannot end: SCAN is refused, everything else works.
    let acl = |rule: &str| redis::cmd("ACL").arg(&["SETUSER", "default", rule]).exec(&mut w.redis()).unwrap();
    w.write_config(&format!(
        "{REPEATED}[cache.broad]\npattern = \"broad:{{id}}:*\"\n[table.posts]\nevict = [\"broad\"]"
    ));
    w.apply();
    acl("-scan");
    w.start_unready(&[]);
    w.wait_line(0, &["flush of"]);
    w.wait_line(0, &["NOPERM"]);
    assert!(!w.redis().exists::<_, bool>(ALIVE).unwrap(), "it vouches for what was not flushed");
    acl("+scan");
    w.wait_ready();
    let alive = |redis: &mut redis::Connection| redis.exists::<_, bool>(ALIVE).unwrap_or_default();
    w.wait_keys("alive to be set", alive);
    // Frozen: it says nothing any more, and neither does the key after five seconds, by Redis' own clock.
    w.daemon(|d| d.signal(Signal::SIGSTOP));
    let left: i64 = w.redis().pttl(ALIVE).unwrap();
    assert!((-2..=5_000).contains(&left) && left != -1, "alive lives for another {left} ms");
    w.wait_keys("alive to expire", |redis| !alive(redis));
    w.daemon(|d| d.signal(Signal::SIGCONT));
    w.wait_keys("alive to be set again", alive);
    w.kill9();
    w.wait_keys("alive to expire", |redis| !alive(redis));
}

#[test]
fn a_daemon_that_only_observes_vouches_for_nothing() {
    let w = new(&format!("mode = \"observe\"\n{REPEATED}"));
    w.start();
    let mark = w.mark();
    w.sql(CHANGE);
    w.wait_line(mark, &["would"]);
    assert!(!w.redis().exists::<_, bool>(ALIVE).unwrap());
}
