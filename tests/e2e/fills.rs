//! `guard_fills`: no value read before a change is stored after the change was evicted. The applications here speak SQL
//! and Lua only, as docs/fills.md tells them to.

use crate::support::standby::{caught_up, promote, standby, url_of};
use crate::support::{Db, Setup, World};
use nix::sys::signal::Signal;
use pgevict::cli::demo::servers::Down;
use pgevict::sink::fill::SCRIPT;
use redis::Commands as _;

const SCHEMA: &str = "
CREATE TABLE users (id int PRIMARY KEY, name text);
CREATE TABLE posts (id int PRIMARY KEY, user_id int, at date, title text);
INSERT INTO users SELECT n, 'u' FROM generate_series(1, 50) n;
INSERT INTO posts SELECT n, n, '2026-11-20', 't' FROM generate_series(1, 50) n;
";

const CONFIG: &str = r#"
[cache.user]
key = "user:{id}"
guard_fills = true
[cache.posts]
pattern = "posts:{user_id}:*"
guard_fills = true
[cache.plain]
key = "plain:{id}"
[table.users]
evict = ["user", "plain"]
[table.posts]
evict = ["posts"]
"#;

const USER: (&str, &str) = ("user", "");
const POSTS: (&str, &str) = ("posts", "posts:1:*");
const READ: &str = "SELECT name, pgevict.token() FROM users WHERE id = 1";

fn setup() -> Setup<'static> {
    Setup { config: CONFIG, schema: SCHEMA, ..Setup::default() }
}

fn world(setup: &Setup<'_>) -> World {
    let w = World::running(setup);
    w.wait_position();
    w
}

/// The token of what `db` reads now; None where the transaction has written.
fn token(db: &Db) -> Option<String> {
    db.sql(READ)[0][1].clone()
}

fn fill(w: &World, key: &str, token: Option<&str>, cache: (&str, &str)) -> String {
    let mut eval = redis::cmd("EVAL");
    eval.arg(SCRIPT).arg(2).arg("{pgevict}:position").arg(key);
    eval.arg(token.unwrap_or_default()).arg(60_000).arg("value").arg("").arg(cache.0).arg(cache.1);
    eval.query(&mut w.redis()).unwrap()
}

/// Deletes go on behind `sql` until they have arrived.
fn change(w: &World, sql: &str) {
    w.sql(sql);
    w.drain();
}

#[test]
fn what_was_read_before_a_change_is_refused_after_it_and_what_was_read_after_is_stored() {
    let w = world(&setup());
    let db = w.connect();
    let before = token(&db);
    assert_eq!(fill(&w, "user:1", before.as_deref(), USER), "stored");
    // The key is absent when it is evicted, and so is everything under the pattern.
    let _: () = w.redis().del("user:1").unwrap();
    change(&w, "UPDATE users SET name = 'n' WHERE id = 1; UPDATE posts SET title = 'n' WHERE user_id = 1");
    assert_eq!(fill(&w, "user:1", before.as_deref(), USER), "evicted");
    assert_eq!(fill(&w, "posts:1:a", before.as_deref(), POSTS), "evicted");
    assert_eq!(fill(&w, "user:2", before.as_deref(), USER), "stored", "another row's value is not old");
    let after = token(&db);
    assert_eq!(fill(&w, "user:1", after.as_deref(), USER), "stored");
    assert_eq!(fill(&w, "posts:1:a", after.as_deref(), POSTS), "stored");
    assert_eq!(fill(&w, "plain:1", after.as_deref(), ("plain", "")), "unguarded");
}

/// HAZARDS B3: commit order is not id order, so a fill between two commits must be told from one after both.
#[test]
fn a_fill_between_two_commits_of_one_batch_is_refused() {
    let w = world(&setup());
    let (slow, quick, reader) = (w.connect(), w.connect(), w.connect());
    // More than once: a beacon of the daemon's between the two is a younger transaction, and would hide that they are mixed up.
    for round in 0..4 {
        slow.sql(&format!("BEGIN; UPDATE users SET name = 'first {round}' WHERE id = 1"));
        quick.sql(&format!("BEGIN; UPDATE users SET name = 'second {round}' WHERE id = 2"));
        // Both are read at once.
        w.daemon(|d| d.signal(Signal::SIGSTOP));
        quick.sql(&format!("UPDATE posts SET title = 'second {round}' WHERE user_id = 1; COMMIT"));
        let between = token(&reader);
        slow.sql("COMMIT");
        w.daemon(|d| d.signal(Signal::SIGCONT));
        w.drain();
        assert_eq!(fill(&w, "user:1", between.as_deref(), USER), "evicted", "it lacks the slow commit");
        let after = token(&reader);
        assert_eq!(fill(&w, "user:1", after.as_deref(), USER), "stored");
    }
}

#[test]
fn an_old_snapshot_and_a_transaction_that_has_written_are_refused() {
    let w = world(&setup());
    let old = w.connect();
    old.sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM users");
    change(&w, "UPDATE users SET name = 'n' WHERE id = 1");
    // Read after the eviction, but by a snapshot of before.
    let token_of_old = token(&old);
    assert_eq!(fill(&w, "user:1", token_of_old.as_deref(), USER), "evicted");
    let own = w.connect();
    own.sql("BEGIN; UPDATE users SET name = 'never committed' WHERE id = 1");
    assert_eq!(token(&own), None);
    assert_eq!(fill(&w, "user:1", None, USER), "no-token");
    own.sql("SAVEPOINT s; ROLLBACK TO s");
    assert_eq!(token(&own), None);
    own.sql("ROLLBACK");
    assert!(token(&own).is_some());
}

/// HAZARDS B7: the token speaks of the statement's snapshot, not of the moment in which the function runs.
#[test]
fn a_statement_that_is_held_open_across_a_commit_has_the_token_of_its_beginning() {
    let w = world(&setup());
    let (reader, gate) = (w.connect(), w.connect());
    gate.sql("SELECT pg_advisory_lock(42)");
    let held = std::thread::scope(|scope| {
        let held = scope.spawn(|| {
            // The subquery waits in the middle of the statement; value and token come after it.
            reader.sql(
                "SELECT u.name, pgevict.token() FROM (SELECT pg_advisory_lock_shared(42) IS NULL OFFSET 0) AS waited(x), \
                 LATERAL (SELECT name FROM users WHERE id = 1 AND x IS NOT NULL OFFSET 0) AS u",
            )
        });
        crate::warm::wait_at_gate(&w, 1);
        change(&w, "UPDATE users SET name = 'changed while the statement was open' WHERE id = 1");
        gate.sql("SELECT pg_advisory_unlock(42)");
        held.join().unwrap()
    });
    assert_eq!(held[0][0].as_deref(), Some("u"));
    assert_eq!(fill(&w, "user:1", held[0][1].as_deref(), USER), "evicted");
    // `sql diff` finds a token that has become VOLATILE and would lie here.
    w.sql("ALTER FUNCTION pgevict.token() VOLATILE");
    let ran = w.pgevict(&["sql", "diff"]).exits(1);
    assert!(ran.out.contains(".token has another body"), "{ran:?}");
    w.apply();
    w.pgevict(&["sql", "diff"]).exits(0);
}

/// HAZARDS B5, W9.
#[test]
fn a_fill_does_not_outlive_a_cache_that_went_whole() {
    let w = World::new(&setup());
    w.apply();
    w.start_with(&["--adopt"]);
    w.wait_position();
    let before = token(&w.connect());
    change(&w, "TRUNCATE posts");
    assert_eq!(fill(&w, "posts:1:a", before.as_deref(), POSTS), "floor");
    let after = token(&w.connect());
    assert_eq!(fill(&w, "posts:1:a", after.as_deref(), POSTS), "stored");
    // A change that could only be counted: every cache goes, and what was read before it is refused.
    let locker = w.connect();
    locker.sql("BEGIN; LOCK TABLE pgevict.journal IN ACCESS EXCLUSIVE MODE");
    w.sql("UPDATE users SET name = 'uncaptured' WHERE id = 9");
    locker.sql("ROLLBACK");
    w.wait_line(0, &["flushed", "user"]);
    w.drain();
    assert_eq!(fill(&w, "user:9", after.as_deref(), USER), "floor");
    assert_eq!(fill(&w, "user:9", token(&w.connect()).as_deref(), USER), "stored");
}

#[test]
fn a_killed_daemon_leaves_no_hole_for_what_was_read_before() {
    let w = world(&setup());
    let before = token(&w.connect());
    w.kill9();
    w.sql("UPDATE users SET name = 'n' WHERE id = 1");
    // Nobody has evicted it yet, so it may be stored; then it goes, and may not come back.
    assert_eq!(fill(&w, "user:1", before.as_deref(), USER), "stored");
    w.start();
    w.wait_gone(&["user:1"]);
    let word = fill(&w, "user:1", before.as_deref(), USER);
    assert!(word == "evicted" || word == "floor", "{word}");
    w.wait_ready();
    assert_eq!(fill(&w, "user:1", token(&w.connect()).as_deref(), USER), "stored");
}

/// HAZARDS B6: a token of what may be lost is of another history.
#[test]
fn a_token_from_before_a_crash_is_of_a_history_that_is_gone() {
    let w = world(&Setup { own_postgres: Some(&[]), ..setup() });
    let before = token(&w.connect());
    let mut server = w.pg.server();
    server.down(Down::Crash);
    server.up().unwrap();
    drop(server);
    w.wait_ready();
    w.drain();
    assert_eq!(fill(&w, "user:1", before.as_deref(), USER), "history");
    assert_eq!(fill(&w, "user:1", token(&w.connect()).as_deref(), USER), "stored");
}

/// HAZARDS W4, P6: a standby cannot list what runs on its primary, so its tokens claim less.
#[test]
fn a_standby_may_store_what_it_has_replayed_and_a_promotion_ends_its_tokens() {
    let mut w = World::new(&Setup { own_postgres: Some(&[]), ..setup() });
    w.apply();
    let other = standby(&w);
    let url = url_of(&[&w.pg.server(), &other], &w.database);
    w.set_env("PGEVICT_POSTGRES__URL", &url);
    w.start();
    w.wait_position();
    caught_up(&w, &other);
    let replica = Db::connect(&other.url(&w.database));
    replica.sql("SELECT pg_wal_replay_pause()");
    change(&w, "UPDATE users SET name = 'n' WHERE id = 1");
    assert_eq!(fill(&w, "user:1", token(&replica).as_deref(), USER), "evicted", "it lags");
    replica.sql("SELECT pg_wal_replay_resume()");
    caught_up(&w, &other);
    assert_eq!(fill(&w, "user:1", token(&replica).as_deref(), USER), "stored");
    // Somebody writes on the primary for long: nothing after its beginning is certain on the standby.
    let slow = w.connect();
    slow.sql("BEGIN; UPDATE users SET name = 'slow' WHERE id = 3");
    change(&w, "UPDATE users SET name = 'm' WHERE id = 1");
    caught_up(&w, &other);
    assert_eq!(fill(&w, "user:1", token(&replica).as_deref(), USER), "evicted");
    assert_eq!(fill(&w, "user:1", token(&w.connect()).as_deref(), USER), "stored");
    slow.sql("ROLLBACK");
    let (before, mark) = (token(&replica), w.mark());
    w.pg.server().down(Down::Crash);
    promote(&other);
    w.wait_line(mark, &["flushed", "user"]);
    assert_eq!(fill(&w, "user:1", before.as_deref(), USER), "history");
    assert_eq!(fill(&w, "user:1", token(&Db::connect(&other.url(&w.database))).as_deref(), USER), "stored");
}

#[test]
fn a_redis_without_a_position_stores_nothing() {
    let w = world(&setup());
    let read = token(&w.connect());
    w.stop();
    redis::cmd("FLUSHALL").exec(&mut w.redis()).unwrap();
    assert_eq!(fill(&w, "user:1", read.as_deref(), USER), "unguarded");
    w.start();
    w.drain();
    let word = fill(&w, "user:1", read.as_deref(), USER);
    assert_eq!(word, "history", "what happened while there was no position is unknown");
}

#[test]
fn a_reload_begins_and_ends_the_guard() {
    let w = world(&Setup { config: &CONFIG.replace("guard_fills = true\n", ""), ..setup() });
    assert_eq!(token(&w.connect()), None, "nothing was ever guarded");
    let reload = |config: &str| {
        let mark = w.mark();
        w.write_config(config);
        w.daemon(|d| d.signal(Signal::SIGHUP));
        w.wait_line(mark, &["reload"]);
        w.drain();
    };
    reload(CONFIG);
    let read = token(&w.connect());
    assert_eq!(fill(&w, "user:1", read.as_deref(), USER), "stored");
    reload(&CONFIG.replacen("guard_fills = true\n", "", 1));
    assert_eq!(fill(&w, "user:1", read.as_deref(), USER), "unguarded");
    assert_eq!(fill(&w, "posts:1:a", token(&w.connect()).as_deref(), POSTS), "stored");
}

#[test]
fn an_application_role_needs_usage_on_the_schema_and_gets_nothing_else_by_it() {
    let w = world(&setup());
    w.sql(
        "DO $$ BEGIN CREATE ROLE fills_app; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$; \
         GRANT SELECT, UPDATE ON users TO fills_app",
    );
    let app = w.connect();
    app.sql("SET ROLE fills_app");
    assert!(app.try_sql(READ).is_err(), "it has no right on the schema");
    w.sql("GRANT USAGE ON SCHEMA pgevict TO fills_app");
    assert!(token(&app).is_some());
    for table in ["journal", "history", "beacon", "floor", "sentinel", "layout"] {
        assert!(app.try_sql(&format!("SELECT FROM pgevict.{table}")).is_err(), "{table}");
    }
    assert!(app.try_sql("SELECT pgevict.retire(pg_current_snapshot(), 1)").is_err());
    w.sql("REVOKE USAGE ON SCHEMA pgevict FROM fills_app; REVOKE ALL ON users FROM fills_app");
}
