//! The probe: ready means that a change has just travelled the whole way, and where one is lost, the log says at which station.

use crate::support::standby::{promote, standby};
use crate::support::{Db, Delivery, Setup, World, over_both_deliveries};
use std::time::{Duration, Instant};

const SCHEMA: &str = "CREATE TABLE users (id int PRIMARY KEY, name text); INSERT INTO users VALUES (1, 'a'), (2, 'b')";
const CONFIG: &str = "[cache.user]\nkey = \"user:{id}\"\n[table.users]\nevict = [\"user\"]";
const CHANGE: &str = "UPDATE users SET name = name || '.' WHERE id = 1";

fn setup(delivery: Delivery) -> Setup<'static> {
    Setup { delivery, config: CONFIG, schema: SCHEMA, ..Setup::default() }
}

/// Waits until the log and `pgevict ready` name the station.
#[track_caller]
fn lost(w: &World, mark: usize, parts: &[&str]) {
    w.wait_line(mark, &[&["not ready: the last probe did not arrive: "], parts].concat());
    let ran = w.pgevict(&["ready"]).exits(1);
    assert!(parts.iter().all(|p| ran.out.contains(p)), "{ran:?}");
}

/// Evictions do not wait for the probe.
#[track_caller]
fn evicts(w: &World) {
    w.fill(&["user:1", "user:2"]);
    w.check(CHANGE, &["user:1"]);
}

over_both_deliveries! {
    ready_means_that_a_probe_has_arrived_and_nobody_else_sees_it
    a_disabled_trigger_of_the_probe_is_named
    a_schema_from_before_the_probe_is_named_with_its_remedy_and_evicts_all_the_same
}

fn ready_means_that_a_probe_has_arrived_and_nobody_else_sees_it(delivery: Delivery) {
    let w = World::running(&setup(delivery));
    let status = w.pgevict(&["status", "-o", "json"]).exits(0).json();
    assert!(status["probe"]["at"].is_string(), "{status}");
    assert!(status["probe"]["took_ms"].as_f64().is_some_and(|ms| ms < 5_000.0), "{status}");
    assert_eq!(status["totals"]["changes"], 0, "{status}");
    assert_eq!(status["totals"]["poison"], 0, "{status}");
    assert!(w.pgevict(&["status"]).exits(0).out.contains("probe      arrived "));
    // Another one follows, with the daemon asleep: row, bell and all.
    let first = status["probe"]["at"].clone();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let status = w.pgevict(&["status", "-o", "json"]).exits(0).json();
        if status["probe"]["at"] != first {
            assert_eq!(status["probe"]["heard"], true, "{status}");
            break;
        }
        assert!(Instant::now() < deadline, "no second probe: {status}");
    }
    w.pgevict(&["ready"]).exits(0);
    let key: Option<String> = redis::cmd("GET").arg("{pgevict}:probe").query(&mut w.redis()).unwrap();
    assert_eq!(key, None, "the probe's change deleted it");
    assert!(!w.daemon(|d| d.log().since(0)).iter().any(|line| line.contains("pgevict.probe")));
}

fn a_disabled_trigger_of_the_probe_is_named(delivery: Delivery) {
    let w = World::running(&setup(delivery));
    w.sql("ALTER TABLE pgevict.probe DISABLE TRIGGER zz_pgevict_u");
    lost(&w, 0, &["trigger zz_pgevict_u on pgevict.probe is disabled", "pgevict sql apply"]);
    let drift = w.pgevict(&["sql", "diff"]).exits(1);
    assert!(drift.out.contains("trigger zz_pgevict_u on pgevict.probe is disabled"), "{drift:?}");
    evicts(&w);
    w.apply();
    w.wait_ready();
}

fn a_schema_from_before_the_probe_is_named_with_its_remedy_and_evicts_all_the_same(delivery: Delivery) {
    let w = World::new(&setup(delivery));
    w.apply();
    w.sql("DROP TABLE pgevict.probe");
    w.start_unready(&[]);
    lost(&w, 0, &["pgevict.probe", "does not exist", "pgevict sql apply"]);
    evicts(&w);
    w.apply();
    w.wait_ready();
}

#[test]
fn a_database_whose_commits_wait_is_named() {
    let w = World::running(&setup(Delivery::Journal));
    let locker = w.connect();
    locker.sql("BEGIN; UPDATE pgevict.probe SET nonce = ''");
    w.wait_line(0, &["not ready: the last probe did not arrive: "]);
    let ran = w.pgevict(&["ready"]).exits(1);
    assert!(ran.out.contains("lock timeout") || ran.out.contains("do commits wait"), "{ran:?}");
    evicts(&w);
    locker.sql("ROLLBACK");
    w.wait_ready();
}

#[test]
fn a_redis_that_takes_no_writes_is_named() {
    let w = World::running(&setup(Delivery::Journal));
    let mark = w.mark();
    redis::cmd("REPLICAOF").arg("127.0.0.1").arg("1").query::<()>(&mut w.redis()).unwrap();
    w.wait_line(mark, &["READONLY", "point redis.url at the master"]);
    let ran = w.pgevict(&["ready"]).exits(1);
    assert!(ran.out.contains("READONLY"), "{ran:?}");
    redis::cmd("REPLICAOF").arg("NO").arg("ONE").query::<()>(&mut w.redis()).unwrap();
    w.wait_ready();
}

#[test]
fn a_standby_is_named() {
    let mut w = World::new(&Setup { own_postgres: Some(&[]), ..setup(Delivery::Journal) });
    w.apply();
    let standby = standby(&w);
    w.set_env("PGEVICT_POSTGRES__URL", &standby.url(&w.database));
    w.start_unready(&[]);
    w.wait_line(0, &["PostgreSQL down", "it is a standby", "pgevict works on the primary"]);
    let ran = w.pgevict(&["ready"]).exits(1);
    assert!(ran.out.contains("it is a standby"), "{ran:?}");
    promote(&standby);
    w.wait_ready();
}

/// What a proxy that passes on everything but notifications would do.
fn swallow_notifications(db: &Db) {
    db.sql(
        "SET allow_system_table_mods = on; ALTER FUNCTION pg_catalog.pg_notify(text, text) RENAME TO real_notify; \
         CREATE FUNCTION pg_catalog.pg_notify(text, text) RETURNS void LANGUAGE sql AS 'SELECT'",
    );
    // A session that has rung before goes on with the plan it has. The one that LISTENs holds the locks, and stays.
    db.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
         AND pid <> pg_backend_pid() AND pid NOT IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')",
    );
}

#[test]
fn a_bell_that_is_not_heard_is_said_and_evictions_go_on_by_polling() {
    let w = World::running(&setup(Delivery::Journal));
    swallow_notifications(&w.connect());
    w.wait_line(0, &["the bell was not heard", "did not reach the session that LISTENs"]);
    let status = w.pgevict(&["status", "-o", "json"]).exits(0).json();
    assert_eq!(status["probe"]["heard"], false, "{status}");
    assert!(w.pgevict(&["status"]).exits(0).out.contains("by polling"));
    w.pgevict(&["ready"]).exits(0);
    // Behind a slow poll there is none for 8 s, so that changes one behind the other would each take that long. The quickest counts: a
    // slow moment of the machine is not slow polling.
    let took = (0..3).map(|_| {
        w.fill(&["user:1"]);
        let began = Instant::now();
        w.sql(CHANGE);
        w.wait_gone(&["user:1"]);
        began.elapsed()
    });
    let took: Vec<Duration> = took.collect();
    assert!(took[1..].iter().any(|took| *took < Duration::from_secs(4)), "asleep, it would take 8 s: {took:?}");
}
