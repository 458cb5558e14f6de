//! The rules of delivery, each by what would break without it. Faults of whole servers have a file of their own.

use crate::support::{Delivery, Setup, World};
use nix::sys::signal::Signal;
use redis::Commands as _;
use std::time::{Duration, Instant};

const SCHEMA: &str = "
CREATE TABLE users (id int PRIMARY KEY, name text);
INSERT INTO users SELECT n, 'u' FROM generate_series(1, 50) n;
CREATE TABLE events (id int, day int) PARTITION BY RANGE (day);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (1) TO (10);
CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (10) TO (20);
INSERT INTO events VALUES (1, 1), (2, 11);
";
const CONFIG: &str = r#"
[cache.user]
key = "user:{id}"
[cache.event]
key = "event:{id}"
[table.users]
evict = ["user"]
[table.events]
evict = ["event"]
"#;

fn world(setup: &Setup<'_>) -> World {
    let w = World::running(setup);
    w.wait_position();
    w.fill(&["user:1", "user:2", "event:1", "event:2", "canary"]);
    w
}

const HELD: &str = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'
     AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// Waits until writers ring: the daemon holds the bell's lock beside the leader's.
fn sleeps(w: &World) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while w.value(HELD) != "2" {
        assert!(Instant::now() < deadline, "it never sleeps");
    }
}

fn setup() -> Setup<'static> {
    Setup { config: CONFIG, schema: SCHEMA, ..Setup::default() }
}

fn record(w: &World) -> serde_json::Value {
    let text: String = w.redis().hget("{pgevict}:position", "rec").unwrap();
    serde_json::from_str(&text).unwrap()
}

/// B10: rows that retention has deleted are unknown, so everything goes.
#[test]
fn a_position_that_the_journal_has_outlived_is_flushed() {
    let w = world(&setup());
    w.stop();
    w.sql("UPDATE users SET name = 'x' WHERE id = 1");
    w.sql("SELECT pgevict.retire(pg_current_snapshot(), 1000)");
    w.check_after("a start behind the floor", &["user:1", "user:2", "event:1", "event:2"], || w.start());
}

/// The page that answers a ring is read without the floor; what was taken from under it is found before the position moves.
#[test]
fn what_retention_took_from_under_a_ring_is_flushed() {
    let w = world(&setup());
    sleeps(&w);
    w.check_after("a ring behind the floor", &["user:1", "user:2", "event:1", "event:2"], || {
        // One transaction: of its two changes one is in the journal, the other one below the floor.
        w.sql(
            "UPDATE users SET name = 'x' WHERE id = 1;
             DELETE FROM pgevict.journal WHERE xid = pg_current_xact_id();
             INSERT INTO pgevict.floor (snap) SELECT format('%1$s:%1$s:', pg_current_xact_id()::text::bigint + 1)::pg_snapshot
             ON CONFLICT (one) DO UPDATE SET snap = excluded.snap;
             UPDATE users SET name = 'x' WHERE id = 2",
        );
    });
}

/// B1: the record is compared before anything is deleted. A Redis that rolled back answers with another record; the
/// batch begins again from the position that it has.
#[test]
fn a_record_that_went_back_is_noticed_while_idle_and_replayed() {
    let w = world(&setup());
    let old: String = w.redis().hget("{pgevict}:position", "rec").unwrap();
    w.sql("UPDATE users SET name = 'x' WHERE id = 1");
    w.wait_gone(&["user:1"]);
    // What a failover to a replica that lagged looks like: key and record as they were, the connection untouched.
    w.check_after("a roll-back", &["user:1"], || {
        let () = redis::pipe().atomic().hset("{pgevict}:position", "rec", &old).query(&mut w.redis()).unwrap();
    });
}

/// B2: what the record counts as seen was followed by a committed beacon.
#[test]
fn the_position_names_a_beacon_that_is_committed_and_saw_no_more_than_it() {
    let w = world(&setup());
    w.check("UPDATE users SET name = 'x' WHERE id = 1", &["user:1"]);
    let deadline = Instant::now() + Duration::from_secs(20);
    let (record, snap) = loop {
        let record = record(&w);
        let n = record["beacon"].as_i64().unwrap();
        let snap = w.value(&format!("SELECT snap::text FROM pgevict.beacon WHERE n = {n}"));
        let seen = w.value(&format!(
            "SELECT bool_and(pg_visible_in_snapshot(xid, '{}')) FROM pgevict.journal",
            record["pos"].as_str().unwrap()
        ));
        if seen == "t" {
            break (record, snap);
        }
        assert!(Instant::now() < deadline, "the position does not follow: {record}");
    };
    assert_eq!(record["pos"].as_str().unwrap(), snap, "the position is the snapshot that its beacon vouches for");
}

/// B18: a database whose default is SERIALIZABLE keeps its writers.
#[test]
fn a_serializable_database_loses_no_transaction_to_the_daemon() {
    let w = World::new(&setup());
    w.sql(&format!("ALTER DATABASE \"{}\" SET default_transaction_isolation = 'serializable'", w.database));
    w.apply();
    w.start();
    w.fill(&["user:1"]);
    let levels = "SELECT count(*) FROM pg_stat_activity a JOIN pg_locks l USING (pid)
                  WHERE application_name LIKE 'pgevict%' AND mode = 'SIReadLock'";
    let writer = w.connect();
    for _ in 0..30 {
        writer.sql("UPDATE users SET name = name || '.' WHERE id = 1");
        assert_eq!(w.value(levels), "0", "the daemon takes part in serialization");
    }
    w.wait_gone(&["user:1"]);
}

/// B12: a frozen daemon holds the bell lock; the server ends its session, and writers no longer ring for nobody.
#[test]
fn a_frozen_daemon_loses_the_bell_within_its_idle_limit() {
    let w = world(&setup());
    sleeps(&w);
    w.daemon(|d| d.signal(Signal::SIGSTOP));
    let frozen = Instant::now();
    while w.value(HELD) != "0" {
        assert!(frozen.elapsed() < Duration::from_secs(20), "a frozen daemon keeps its locks");
        std::thread::yield_now();
    }
    w.daemon(|d| d.signal(Signal::SIGCONT));
    w.check("UPDATE users SET name = 'x' WHERE id = 1", &["user:1"]);
}

/// C7, C8, C9: DDL that changes rows without a trigger is found by the audit. A reload audits at once; without one it
/// takes up to 30 s.
#[test]
fn rows_that_ddl_takes_away_or_brings_are_flushed_by_the_audit() {
    let w = world(&setup());
    // (One statement a call: several of them would be one transaction.)
    let attach = "ALTER TABLE events ATTACH PARTITION events_2 FOR VALUES FROM (10) TO (20)";
    let again = "CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (1) TO (10)";
    for ddl in [vec!["ALTER TABLE events DETACH PARTITION events_2"], vec![attach], vec!["DROP TABLE events_1", again]]
    {
        ddl.iter().for_each(|one| drop(w.sql(one)));
        let gone: &[&str] = &["event:1", "event:2"];
        w.fill(&["event:1", "event:2", "user:1"]);
        w.daemon(|d| d.signal(Signal::SIGHUP));
        w.wait_gone(gone);
        assert_eq!(w.redis().exists::<_, u32>("user:1").unwrap(), 1, "after {ddl:?}: another table's cache stays");
    }
}

/// A leaf that came later has no triggers of its own: said, not ready, and live again after `sql apply`.
#[test]
fn a_partition_that_came_later_is_not_live_until_it_is_applied() {
    let w = world(&setup());
    w.sql("CREATE TABLE events_3 PARTITION OF events FOR VALUES FROM (20) TO (30)");
    w.pgevict(&["sql", "diff"]).exits(1);
    let mark = w.mark();
    w.daemon(|d| d.signal(Signal::SIGHUP));
    w.wait_line(mark, &["not ready", "events", "events_3"]);
    w.pgevict(&["ready"]).exits(1);
    w.apply();
    w.daemon(|d| d.signal(Signal::SIGHUP));
    w.wait_ready();
    w.fill(&["event:7"]);
    w.sql("INSERT INTO events_3 VALUES (7, 21)");
    w.wait_gone(&["event:7"]);
}

/// A drain that waits for a server that does not answer is ended by the second signal.
#[test]
fn a_second_signal_ends_at_once() {
    let w = world(&setup());
    w.redis.borrow().signal(Signal::SIGSTOP);
    w.sql("UPDATE users SET name = 'x' WHERE id = 1");
    let mark = w.mark();
    w.daemon(|d| d.signal(Signal::SIGTERM));
    w.wait_line(mark, &["stopping"]);
    let asked = Instant::now();
    w.daemon(|d| d.signal(Signal::SIGTERM));
    assert_eq!(w.daemon(|d| d.wait()), Some(0));
    // Redis' answer is waited for for ten seconds.
    assert!(asked.elapsed() < Duration::from_secs(8), "it waited {:?} for a server that is frozen", asked.elapsed());
    w.redis.borrow().signal(Signal::SIGCONT);
}

/// The server ends idle sessions after 10 s: a daemon that is merely idle must not be one, in notify delivery least of
/// all, where every new session is a gap.
#[test]
fn an_idle_session_outlives_the_idle_limit_in_both_deliveries() {
    let worlds = [Delivery::Journal, Delivery::Notify].map(|delivery| World::running(&Setup { delivery, ..setup() }));
    for w in &worlds {
        let old = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgevict'
                   AND datname = current_database() AND clock_timestamp() - backend_start > interval '13s'";
        let deadline = Instant::now() + Duration::from_secs(30);
        while w.value(old) == "0" {
            assert!(Instant::now() < deadline, "no session of the daemon gets old");
            std::thread::yield_now();
        }
        let lines = w.daemon(|d| d.log().since(0));
        assert!(!lines.iter().any(|l| l.contains("\"event\":\"disconnected\"")), "{lines:#?}");
    }
}
