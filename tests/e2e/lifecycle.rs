//! The daemon's life: first start, reload, stop, and how each way of ending says so.

use crate::support::{Delivery, Setup, World, over_both_deliveries};
use nix::sys::signal::Signal;

const SCHEMA: &str = "CREATE TABLE users (id int PRIMARY KEY, name text); INSERT INTO users VALUES (1, 'a'), (2, 'b')";
const CONFIG: &str = r#"
[cache.user]
key = "user:{id}"
[cache.list]
key = "users"
[table.users]
evict = ["user"]
"#;
const CHANGE: &str = "UPDATE users SET name = name || '.' WHERE id = 1";

fn setup(delivery: Delivery) -> Setup<'static> {
    Setup { delivery, config: CONFIG, schema: SCHEMA, ..Setup::default() }
}

fn cached(w: &World) {
    w.fill(&["user:1", "user:2", "users", "canary"]);
}

over_both_deliveries! {
    a_stop_is_clean_and_ends_with_0
    a_reload_takes_the_new_file_and_a_bad_file_changes_nothing
    a_missing_schema_is_not_ready_says_the_remedy_and_is_retried
    a_rolled_back_change_evicts_nothing
}

fn a_stop_is_clean_and_ends_with_0(delivery: Delivery) {
    let w = World::running(&setup(delivery));
    w.sql(CHANGE);
    w.stop();
}

#[test]
fn an_interrupt_ends_like_a_stop() {
    let w = World::running(&setup(Delivery::Journal));
    w.daemon(|d| d.signal(Signal::SIGINT));
    assert_eq!(w.daemon(super::support::Daemon::wait), Some(0));
}

#[test]
fn the_first_start_flushes_what_it_cannot_prove() {
    let w = World::new(&setup(Delivery::Journal));
    w.apply();
    cached(&w);
    w.start();
    // `users` belongs to a cache that no table evicts: it cannot be stale by a row change that anybody watches.
    let missing = w.missing();
    assert!(missing.contains("user:1") && missing.contains("user:2") && !missing.contains("canary"), "{missing:?}");
}

/// Counted from the start of the session, the second flush would be over before a first that walks a large Redis is.
#[test]
fn the_second_flush_of_a_first_start_comes_repeat_after_behind_the_end_of_the_first() {
    let repeated = CONFIG.replace("key = \"user:{id}\"", "key = \"user:{id}\"\nrepeat_after = \"500ms\"");
    let w = World::new(&Setup { config: &repeated, ..setup(Delivery::Journal) });
    w.apply();
    w.start();
    w.wait_line(0, &["once more after repeat_after"]);
    let status = w.pgevict(&["status", "-o", "json"]).exits(0).json();
    let [second, first] = [0, 1].map(|i| status["flushes"][i].clone());
    assert_eq!([&second["reason"], &first["reason"]], ["again", "no_position"], "{status}");
    let between = format!(
        "SELECT extract(epoch FROM timestamptz {} - timestamptz {}) * 1000 - {} >= 495",
        second["at"].to_string().replace('"', "'"),
        first["at"].to_string().replace('"', "'"),
        first["took_ms"],
    );
    assert_eq!(w.value(&between), "t", "{between}");
}

#[test]
fn the_first_start_with_adopt_takes_the_caches_as_fresh() {
    let w = World::new(&setup(Delivery::Journal));
    w.apply();
    cached(&w);
    w.start_with(&["--adopt"]);
    assert!(w.missing().is_empty(), "{:?}", w.missing());
    w.check(CHANGE, &["user:1"]);
}

#[test]
fn a_position_that_is_lost_later_is_flushed_under_adopt_too() {
    let w = World::new(&setup(Delivery::Journal));
    w.apply();
    w.start_with(&["--adopt"]);
    w.wait_position();
    cached(&w);
    redis::cmd("DEL").arg("{pgevict}:position").exec(&mut w.redis()).unwrap();
    // No change asks for it: what changed since the position that was lost is not known.
    w.wait_gone(&["user:1"]);
}

fn a_reload_takes_the_new_file_and_a_bad_file_changes_nothing(delivery: Delivery) {
    let w = World::running(&setup(delivery));
    cached(&w);
    w.write_config(&CONFIG.replace("evict = [\"user\"]", "evict = [\"user\", \"usr\"]"));
    let mark = w.mark();
    w.daemon(|d| d.signal(Signal::SIGHUP));
    w.wait_line(mark, &["PE"]);
    w.check(CHANGE, &["user:1"]);
    w.write_config(&CONFIG.replace("evict = [\"user\"]", "evict = [\"user\", \"list\"]"));
    w.apply();
    let mark = w.mark();
    w.daemon(|d| d.signal(Signal::SIGHUP));
    w.wait_line(mark, &["eload"]);
    w.wait_ready();
    w.check(CHANGE, &["user:1", "users"]);
}

fn a_missing_schema_is_not_ready_says_the_remedy_and_is_retried(delivery: Delivery) {
    let w = World::new(&setup(delivery));
    w.start_unready(&[]);
    w.wait_line(0, &["sql apply"]);
    let ran = w.pgevict(&["ready"]).exits(1);
    assert!(format!("{}{}", ran.out, ran.err).contains("sql apply"), "{ran:?}");
    w.apply();
    w.wait_ready();
    cached(&w);
    w.check(CHANGE, &["user:1"]);
}

fn a_rolled_back_change_evicts_nothing(delivery: Delivery) {
    let w = World::running(&setup(delivery));
    cached(&w);
    w.check(&format!("BEGIN; {CHANGE}; ROLLBACK"), &[]);
    let db = w.connect();
    db.try_sql(&format!("BEGIN; {CHANGE}; SELECT 1/0")).unwrap_err();
    w.check("SELECT 1", &[]);
}

#[test]
fn unreachable_servers_are_waited_for() {
    let w = World::new(&setup(Delivery::Journal));
    w.apply();
    w.redis.borrow_mut().kill();
    w.start_unready(&[]);
    w.wait_line(0, &["Redis"]);
    w.pgevict(&["ready"]).exits(1);
    w.redis.borrow_mut().up().unwrap();
    w.wait_ready();
}

#[test]
fn a_redis_that_belongs_to_another_database_is_refused_with_3() {
    let mine = World::running(&setup(Delivery::Journal));
    mine.stop();
    let other = World::new(&setup(Delivery::Journal));
    other.apply();
    let url = mine.redis.borrow().url(0);
    let mut daemon = other.spawn(&[], &[("PGEVICT_REDIS__URL", &url)]);
    assert_eq!(daemon.wait(), Some(3), "{}", daemon.log().tail(20));
}

#[test]
fn an_invalid_file_ends_with_78_and_a_wrong_word_with_2() {
    let w = World::new(&setup(Delivery::Journal));
    w.pgevict(&["run", "--no-such-option"]).exits(2);
    w.write_config("[cache.user]\nkey = \"user:{id\"\n");
    for command in [&["run"][..], &["check", "--offline"], &["sql", "up"], &["evict", "user", "id=1"], &["ready"]] {
        let ran = w.pgevict(command).exits(78);
        assert!(ran.err.contains("PE"), "{ran:?}");
    }
}

#[test]
fn a_daemon_that_is_not_there_is_4_and_so_are_servers() {
    let mut w = World::new(&setup(Delivery::Journal));
    w.pgevict(&["ready"]).exits(4);
    w.pgevict(&["status"]).exits(4);
    w.set_env("PGEVICT_REDIS__URL", "redis://127.0.0.1:1/0");
    w.pgevict(&["evict", "user", "id=1"]).exits(4);
    w.set_env("PGEVICT_POSTGRES__URL", "postgresql://nobody@127.0.0.1:1/none");
    w.pgevict(&["sql", "apply", "--yes"]).exits(4);
}

#[test]
fn by_hand_unknown_names_are_2_and_protected_keys_3() {
    let config = format!("{CONFIG}\n[limits]\nnever_delete = [\"session:*\", \"user:2\"]\n");
    let w = World::new(&Setup { config: &config, ..setup(Delivery::Journal) });
    cached(&w);
    w.pgevict(&["evict", "nothing", "id=1"]).exits(2);
    w.pgevict(&["evict", "user", "ident=1"]).exits(2);
    w.pgevict(&["evict", "--key", "session:9"]).exits(3);
    w.pgevict(&["evict", "user", "id=2"]).exits(3);
    w.pgevict(&["evict", "--key", "{pgevict}:position"]).exits(3);
    w.pgevict(&["evict", "user", "id=1"]).exits(0);
    assert_eq!(w.missing(), ["user:1".to_owned()].into());
}
