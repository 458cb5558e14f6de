//! `warm.replica_url`: a standby answers where it has replayed the change, and what it has not replayed is never stored.

use crate::commands::ask;
use crate::support::standby::{caught_up, promote, standby};
use crate::support::{Db, PATIENCE, Setup, World};
use pgevict::cli::demo::servers::Postgres;
use redis::Commands as _;
use std::time::Instant;

const SCHEMA: &str = "
CREATE TABLE users (id int PRIMARY KEY, name text);
INSERT INTO users SELECT n, 'old' FROM generate_series(1, 50) n;
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

fn setup() -> Setup<'static> {
    Setup { config: CONFIG, schema: SCHEMA, own_postgres: Some(&[]), ..Setup::default() }
}

/// A daemon on the primary, with a standby under this setting.
fn pair(setting: &str) -> (World, Postgres) {
    let mut w = World::new(&setup());
    w.apply();
    let other = standby(&w);
    w.set_env(setting, &other.url(&w.database));
    w.start();
    w.wait_position();
    caught_up(&w, &other);
    (w, other)
}

fn on(w: &World, server: &Postgres) -> Db {
    Db::connect(&server.url(&w.database))
}

/// Stops replay; returns when it stands still.
fn pause(w: &World, other: &Postgres) {
    let db = on(w, other);
    db.sql("SELECT pg_wal_replay_pause()");
    let deadline = Instant::now() + PATIENCE;
    while db.sql("SELECT pg_get_wal_replay_pause_state()")[0][0].as_deref() != Some("paused") {
        assert!(Instant::now() < deadline, "replay goes on");
        std::thread::yield_now();
    }
}

/// How many warming queries this server has answered.
fn answered(w: &World, server: &str) -> u64 {
    let text = ask(&w.config_path().with_file_name("admin.sock"), "/metrics");
    let head = format!("pgevict_warm_queries_total{{server=\"{server}\"}} ");
    text.lines().find_map(|l| l.strip_prefix(&head)?.parse().ok()).unwrap_or_default()
}

fn get(w: &World, key: &str) -> Option<String> {
    w.redis().get(key).unwrap()
}

/// What the fill contract says to what this server shows of user 1.
fn fill(w: &World, server: &Postgres) -> String {
    let row = on(w, server).sql("SELECT name, pgevict.token() FROM users WHERE id = 1").remove(0);
    let (value, token) = (row[0].clone().unwrap(), row[1].clone().unwrap());
    let script = redis::Script::new(include_str!("../../docs/fills/fill.lua"));
    let mut call = script.key("{pgevict}:position");
    call.key("user:1").arg(token).arg(60_000).arg(value).arg("").arg("user").arg("");
    call.invoke(&mut w.redis()).unwrap()
}

#[test]
fn a_standby_that_has_replayed_the_change_answers_and_one_that_has_not_leaves_it_to_the_primary() {
    let (w, other) = pair("PGEVICT_WARM__REPLICA_URL");
    w.pgevict(&["check"]).exits(0);
    // A standby that gets no core for a third of a second is behind, too, and is left alone for a while: then once more.
    let deadline = Instant::now() + PATIENCE;
    while answered(&w, "replica") == 0 {
        assert!(Instant::now() < deadline, "the standby is never asked");
        let mark = w.mark();
        w.sql("UPDATE users SET name = name || ', new' WHERE id = 1");
        w.wait_line(mark, &["warm user:1: stored"]);
        assert_eq!(get(&w, "user:1"), Some(w.value("SELECT name FROM users WHERE id = 1")));
    }

    pause(&w, &other);
    let (mark, primary) = (w.mark(), answered(&w, "primary"));
    w.sql("UPDATE users SET name = 'newer' WHERE id = 1");
    w.wait_line(mark, &["warm user:1: stored"]);
    w.wait_line(0, &["the replica is not asked", "ms behind"]);
    assert_eq!(get(&w, "user:1").as_deref(), Some("newer"), "the standby has not replayed it");
    assert_eq!((answered(&w, "replica"), answered(&w, "primary")), (1, primary + 1));

    // The contract needs nobody who looks before: what the standby shows now is refused, and after replay it is not.
    assert_eq!(fill(&w, &other), "evicted");
    on(&w, &other).sql("SELECT pg_wal_replay_resume()");
    caught_up(&w, &other);
    assert_eq!(fill(&w, &other), "stored");
}

/// The same without the look before: a standby as the only server that is asked.
#[test]
fn what_a_standby_has_not_replayed_is_refused_by_the_contract_itself() {
    let (w, other) = pair("PGEVICT_WARM__URL");
    let ran = w.pgevict(&["check"]).exits(0);
    assert!(!ran.out.contains("standby"), "{ran:?}");
    pause(&w, &other);
    let mark = w.mark();
    w.sql("UPDATE users SET name = 'new' WHERE id = 1");
    w.wait_line(mark, &["warm user:1: refused: evicted"]);
    assert_eq!(get(&w, "user:1"), None);
    on(&w, &other).sql("SELECT pg_wal_replay_resume()");
    caught_up(&w, &other);
    let mark = w.mark();
    w.sql("UPDATE users SET name = 'newer' WHERE id = 1");
    w.wait_line(mark, &["warm user:1: stored"]);
    assert_eq!(get(&w, "user:1").as_deref(), Some("newer"));
}

#[test]
fn a_transaction_that_runs_on_the_primary_does_not_count_as_seen_on_the_standby() {
    let (w, other) = pair("PGEVICT_WARM__REPLICA_URL");
    // It has written before the standby's snapshot is taken, and its commit is not replayed.
    let writer = w.connect();
    writer.sql("BEGIN; UPDATE users SET name = 'late' WHERE id = 1");
    w.sql("UPDATE users SET name = 'other' WHERE id = 2");
    caught_up(&w, &other);
    pause(&w, &other);
    writer.sql("COMMIT");
    w.wait_keys("user 1 to be warmed", |redis| {
        redis.get::<_, Option<String>>("user:1").is_ok_and(|v| v.as_deref() == Some("late"))
    });
    assert_eq!(on(&w, &other).sql("SELECT name FROM users WHERE id = 1")[0][0].as_deref(), Some("old"));
    assert_eq!(fill(&w, &other), "evicted");
    on(&w, &other).sql("SELECT pg_wal_replay_resume()");
}

#[test]
fn a_promoted_copy_is_not_asked_whatever_it_says() {
    let (w, other) = pair("PGEVICT_WARM__REPLICA_URL");
    promote(&other);
    // Its own history goes on: ids that the primary has not handed out yet, so that its tokens seem to have seen everything.
    let rogue = on(&w, &other);
    for _ in 0..100 {
        rogue.sql("UPDATE users SET name = 'rogue' WHERE id = 1");
    }
    let mark = w.mark();
    w.sql("UPDATE users SET name = 'new' WHERE id = 1");
    w.wait_line(mark, &["the replica is not asked", "no standby (any more)"]);
    w.wait_line(mark, &["warm user:1: stored"]);
    assert_eq!(get(&w, "user:1").as_deref(), Some("new"));
    assert_eq!(answered(&w, "replica"), 0);
}

#[test]
fn a_standby_of_another_cluster_is_not_asked_and_neither_is_one_that_is_away() {
    let foreign = World::new(&setup());
    foreign.apply();
    let mut w = World::new(&setup());
    w.apply();
    w.set_env("PGEVICT_WARM__REPLICA_URL", &foreign.pg.url(&foreign.database));
    let told = w.pgevict(&["check", "-o", "json"]).exits(0).json();
    let problem = &told["problems"][0];
    assert_eq!((&problem["code"], &problem["severity"]), (&"PE514".into(), &"warning".into()), "{told}");
    w.start();
    w.wait_position();
    let mark = w.mark();
    w.sql("UPDATE users SET name = 'new' WHERE id = 1");
    w.wait_line(mark, &["the replica is not asked", "another cluster or database"]);
    w.wait_line(mark, &["warm user:1: stored"]);
    w.stop();
    w.set_env("PGEVICT_WARM__REPLICA_URL", "postgresql://postgres@127.0.0.1:1/app");
    w.start();
    let mark = w.mark();
    w.sql("UPDATE users SET name = 'newer' WHERE id = 1");
    w.wait_line(mark, &["the replica is not asked", "no connection"]);
    w.wait_line(mark, &["warm user:1: stored"]);
    assert_eq!(get(&w, "user:1").as_deref(), Some("newer"));
}
