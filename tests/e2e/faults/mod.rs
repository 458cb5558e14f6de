//! What breaks around the daemon, and that no stale key survives it. Journal delivery: that is its promise.

mod bounds;
mod network;
mod proxy;
mod redis;

use crate::support::{Setup, World};
use nix::sys::signal::Signal;
use pgevict::cli::demo::servers::Down;

const SCHEMA: &str = "
CREATE TABLE users (id int PRIMARY KEY, name text);
CREATE TABLE posts (id int PRIMARY KEY, user_id int, title text);
INSERT INTO users SELECT n, 'u' FROM generate_series(1, 50) n;
INSERT INTO posts SELECT n, n, 't' FROM generate_series(1, 50) n;
";

const CONFIG: &str = r#"
[cache.user]
key = "user:{id}"
[cache.posts]
pattern = "posts:{user_id}:*"
[table.users]
evict = ["user"]
[table.posts]
evict = ["posts"]
"#;

const CHANGE: &str =
    "UPDATE users SET name = name || '.' WHERE id = 1; UPDATE posts SET title = title || '.' WHERE user_id = 1";
const GONE: [&str; 3] = ["user:1", "posts:1:a", "posts:1:b"];

fn setup() -> Setup<'static> {
    Setup { config: CONFIG, schema: SCHEMA, ..Setup::default() }
}

fn world(setup: &Setup<'_>) -> World {
    let w = World::running(setup);
    w.wait_position();
    fill(&w);
    w
}

fn fill(w: &World) {
    w.fill(&GONE);
    w.fill(&["user:2", "posts:2:a", "canary"]);
}

#[test]
fn what_changed_while_the_daemon_was_stopped_goes_when_it_is_back_and_nothing_else() {
    let w = world(&setup());
    w.check_after("a change between stop and start", &GONE, || {
        w.stop();
        w.sql(CHANGE);
        w.start();
    });
}

#[test]
fn a_killed_daemon_goes_on_where_it_was() {
    let w = world(&setup());
    w.check_after("a change between kill -9 and start", &GONE, || {
        w.kill9();
        w.sql(CHANGE);
        w.start();
    });
    w.check(CHANGE, &GONE);
}

#[test]
fn an_idle_restart_deletes_nothing() {
    let w = world(&setup());
    w.check_after("a restart", &[], || w.restart());
}

#[test]
fn terminated_backends_are_replaced() {
    let w = world(&setup());
    for _ in 0..3 {
        w.check_after("a change while all backends are terminated", &GONE, || {
            w.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid()",
            );
            w.sql(CHANGE);
        });
    }
}

#[test]
fn a_restarted_postgresql_is_found_again() {
    let w = world(&Setup { own_postgres: Some(&[]), ..setup() });
    w.check_after("a change after a clean restart", &GONE, || {
        let mut server = w.pg.server();
        server.down(Down::Clean);
        server.up().unwrap();
        drop(server);
        w.sql(CHANGE);
    });
}

#[test]
fn a_crashed_postgresql_leaves_no_stale_key() {
    let w = world(&Setup { own_postgres: Some(&[]), ..setup() });
    w.sql(CHANGE);
    let mut server = w.pg.server();
    server.down(Down::Crash);
    server.up().unwrap();
    drop(server);
    w.sql(CHANGE);
    w.wait_gone(&GONE);
    w.drain();
    // A crash may have lost commits: a flush of the caches is right, but never of what belongs to nobody.
    assert!(!w.missing().contains("canary"));
}

#[test]
fn a_journal_that_was_emptied_or_replaced_is_noticed_and_flushed() {
    let w = world(&setup());
    let all = [&GONE[..], &["user:2", "posts:2:a"]].concat();
    w.check_after("a change that was in a journal emptied meanwhile", &all, || {
        w.stop();
        w.sql(CHANGE);
        w.sql("TRUNCATE pgevict.journal");
        w.start();
    });
    w.check_after("a change that was in a journal replaced under a frozen daemon", &all, || {
        w.daemon(|d| d.signal(Signal::SIGSTOP));
        w.sql(CHANGE);
        w.sql("DROP TABLE pgevict.journal");
        w.apply();
        w.daemon(|d| d.signal(Signal::SIGCONT));
        w.wait_gone(&all);
        w.wait_ready();
    });
}

#[test]
fn a_second_daemon_waits_and_takes_over() {
    let w = world(&setup());
    let socket = w.config_path().with_file_name("second.sock");
    let second = w.spawn(&[], &[("PGEVICT_ADMIN__SOCKET", socket.to_str().unwrap())]);
    w.check(CHANGE, &GONE);
    w.check_after("a change after the leader was killed", &GONE, || {
        w.kill9();
        w.sql(CHANGE);
        w.wait_gone(&GONE);
    });
    drop(second);
}

#[test]
fn a_frozen_leader_does_no_harm_when_it_wakes() {
    let w = world(&setup());
    let socket = w.config_path().with_file_name("second.sock");
    let second = w.spawn(&[], &[("PGEVICT_ADMIN__SOCKET", socket.to_str().unwrap())]);
    w.daemon(|d| d.signal(Signal::SIGSTOP));
    w.sql(CHANGE);
    w.wait_gone(&GONE);
    w.daemon(|d| d.signal(Signal::SIGCONT));
    w.check(CHANGE, &GONE);
    drop(second);
}

#[test]
fn prepared_transactions_work_and_evict_when_they_commit() {
    let w = world(&Setup { own_postgres: Some(&[("max_prepared_transactions", "5")]), ..setup() });
    w.check_after("a prepared, uncommitted change", &[], || {
        w.sql("BEGIN; UPDATE users SET name = 'p' WHERE id = 1; PREPARE TRANSACTION 'p'");
    });
    w.check_after("other changes meanwhile", &["user:2"], || {
        w.sql("UPDATE users SET name = 'q' WHERE id = 2");
    });
    w.check_after("its commit", &["user:1"], || {
        w.sql("COMMIT PREPARED 'p'");
    });
}

#[test]
fn an_open_transaction_holds_nothing_up_and_arrives_when_it_commits() {
    let w = world(&setup());
    let slow = w.connect();
    slow.sql("BEGIN");
    slow.sql("UPDATE users SET name = 'slow' WHERE id = 1");
    w.check("UPDATE users SET name = 'quick' WHERE id = 2", &["user:2"]);
    w.check_after("the slow commit", &["user:1"], || {
        slow.sql("COMMIT");
    });
}

#[test]
fn a_renamed_column_costs_the_whole_form_of_its_edges_and_no_statement() {
    let w = world(&setup());
    w.sql("ALTER TABLE posts RENAME COLUMN user_id TO author_id");
    w.check("UPDATE posts SET title = 'n' WHERE id = 1", &["posts:1:a", "posts:1:b", "posts:2:a"]);
    w.check("INSERT INTO posts VALUES (99, 1, 'n')", &["posts:1:a", "posts:1:b", "posts:2:a"]);
    w.check("UPDATE users SET name = 'n' WHERE id = 1", &["user:1"]);
    w.sql("ALTER TABLE posts RENAME COLUMN author_id TO user_id");
    w.check(CHANGE, &GONE);
}

#[test]
fn a_dropped_schema_breaks_no_statement_and_is_reported() {
    let w = world(&setup());
    w.sql("DROP TABLE pgevict.journal CASCADE");
    w.sql(CHANGE);
    let ran = w.pgevict(&["ready"]);
    assert_ne!(ran.code, Some(70), "{ran:?}");
}

#[test]
fn a_lock_on_the_journal_delays_a_writer_but_never_fails_it() {
    let w = world(&setup());
    let locker = w.connect();
    locker.sql("BEGIN");
    locker.sql("LOCK TABLE pgevict.journal IN ACCESS EXCLUSIVE MODE");
    let before = std::time::Instant::now();
    w.sql("UPDATE users SET name = 'locked' WHERE id = 1");
    assert!(before.elapsed().as_secs() < 10, "the writer waited {:?}", before.elapsed());
    locker.sql("ROLLBACK");
    // What could not be captured is counted, and the caches are flushed for it.
    w.wait_gone(&["user:1"]);
    w.drain();
    assert!(!w.missing().contains("canary"));
}
