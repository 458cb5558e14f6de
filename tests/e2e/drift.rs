//! The watch over the triggers in the running daemon: whatever keeps a capture from working is told of, in every way there is.

use crate::support::{Setup, World};
use nix::sys::signal::Signal;
use std::time::Duration;

const SCHEMA: &str = "
CREATE TABLE users (id int PRIMARY KEY, name text); INSERT INTO users VALUES (1, 'u'), (2, 'u');
CREATE TABLE events (id int, day int) PARTITION BY RANGE (day);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (1) TO (10);
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

fn world() -> World {
    let w = World::running(&Setup { config: CONFIG, schema: SCHEMA, ..Setup::default() });
    w.wait_position();
    w.fill(&["user:1", "user:2", "event:1", "canary"]);
    w
}

#[test]
fn a_trigger_that_is_disabled_replaced_or_missing_is_told_of_everywhere_and_apply_ends_it() {
    let w = world();
    for (harm, table, why) in [
        ("ALTER TABLE users DISABLE TRIGGER zz_pgevict_u", "users", "is disabled"),
        (
            "CREATE OR REPLACE TRIGGER zz_pgevict_u AFTER UPDATE ON users FOR EACH STATEMENT
             EXECUTE FUNCTION suppress_redundant_updates_trigger()",
            "users",
            "suppress_redundant_updates_trigger",
        ),
        ("CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (10) TO (20)", "events", "is missing"),
    ] {
        let mark = w.mark();
        w.sql(harm);
        w.pgevict(&["sql", "diff"]).exits(1);
        // A reload looks at once; otherwise the audit does within 30 s.
        w.daemon(|d| d.signal(Signal::SIGHUP));
        w.wait_line(mark, &["not ready", table, why]);
        let ran = w.pgevict(&["ready"]).exits(1);
        assert!(ran.out.contains(table), "{ran:?}");
        let status = w.pgevict(&["status", "-o", "json"]).json();
        let not_live =
            |r: &serde_json::Value| r["condition"] == "not_live" && r["what"].as_str().unwrap().contains(table);
        assert!(status["reasons"].as_array().unwrap().iter().any(not_live), "{status}");
        w.apply();
        w.pgevict(&["sql", "diff"]).exits(0);
        w.wait_ready();
    }
    w.drain();
    w.check("UPDATE users SET name = 'n' WHERE id = 1", &["user:1"]);
}

/// Takes a minute, which is what the detector waits for.
#[test]
fn rows_that_change_behind_the_triggers_are_suspected_and_nothing_is_flushed() {
    let w = world();
    let mark = w.mark();
    w.check_after("a change under session_replication_role = replica, and its suspicion", &[], || {
        for _ in 0..20 {
            w.sql("SET session_replication_role = replica; UPDATE users SET name = name || '.' WHERE id = 1; RESET session_replication_role");
            w.daemon(|d| d.signal(Signal::SIGHUP));
            let told = w.daemon(|d| d.line_within(Duration::from_secs(6), &["rows changed and no trigger told of it", "users"]));
            if told.is_some() {
                return;
            }
        }
        w.wait_line(mark, &["rows changed and no trigger told of it"]);
    });
    let suspected = || w.pgevict(&["status", "-o", "json"]).exits(0).json()["suspected"].clone();
    let found = suspected();
    assert!(found[0]["table"] == "users" && found[0]["rows"].as_u64() > Some(0), "{found}");
    let page = w.pgevict(&["status"]).exits(0).out;
    assert!(page.contains("suspected  users:"), "{page}");
    // A change that is captured ends it.
    w.check("UPDATE users SET name = 'n' WHERE id = 1", &["user:1"]);
    w.daemon(|d| d.signal(Signal::SIGHUP));
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while suspected().as_array().is_none_or(|list| !list.is_empty()) {
        assert!(std::time::Instant::now() < deadline, "still suspected");
    }
}

/// Between two audits nobody sees that it was away; its row in the catalog is another one since.
#[test]
fn a_trigger_that_was_away_between_two_audits_flushes_its_table_once() {
    let w = world();
    w.check_after("an audit", &[], || w.daemon(|d| d.signal(Signal::SIGHUP)));
    let definition = w.value(
        "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = 'zz_pgevict_u' AND tgrelid = 'users'::regclass",
    );
    for (begin, end) in [
        ("ALTER TABLE users DISABLE TRIGGER zz_pgevict_u", "ALTER TABLE users ENABLE TRIGGER zz_pgevict_u"),
        ("DROP TRIGGER zz_pgevict_u ON users", definition.as_str()),
    ] {
        w.refill();
        let mark = w.mark();
        w.sql(&format!("BEGIN; {begin}; UPDATE users SET name = name || '.' WHERE id = 1; {end}; COMMIT"));
        w.daemon(|d| d.signal(Signal::SIGHUP));
        w.wait_line(mark, &["flush of user", "a trigger that was away"]);
        w.wait_gone(&["user:1", "user:2"]);
        w.drain();
        assert_eq!(w.missing(), ["user:1".to_owned(), "user:2".to_owned()].into());
        w.check_after("a migration that finds everything in place, and a restart", &[], || {
            w.apply();
            w.restart();
        });
    }
}
