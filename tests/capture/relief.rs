//! The bound of a journal that nobody reads, and the form of the tables that must not make writers wait.

use crate::support::*;
use pgevict::config::model::*;
use std::ops::Range;
use std::time::{Duration, Instant};

const POSTS: &str = "CREATE TABLE posts (id int PRIMARY KEY, user_id int)";

/// A journal that is over its bound as soon as it holds anything.
fn world(level: CaptureLevel) -> World {
    let mut c = config(&[("u", "u:{user_id}")], vec![Table { capture: level, ..table("posts", vec![edge("u")]) }]);
    c.postgres.journal_max_bytes = 1;
    World::new(POSTS, c)
}

fn rows(w: &World) -> u64 {
    w.db.text("SELECT count(*) FROM pgevict.journal").unwrap().parse().unwrap()
}

/// So many statements, each a transaction of its own.
fn write(w: &World, from: u32, statements: u32) {
    for n in from..from + statements {
        w.sql(&format!("INSERT INTO posts VALUES ({n}, {n})"));
    }
}

fn floor(w: &World) -> Option<String> {
    w.db.text("SELECT snap::text FROM pgevict.floor")
}

#[test]
fn writers_shed_what_nobody_reads_at_each_251st_row_and_say_so_by_the_floor() {
    for level in [CaptureLevel::Auto, CaptureLevel::Row] {
        let w = world(level);
        write(&w, 0, 200);
        assert_eq!((rows(&w), floor(&w)), (200, None));
        write(&w, 200, 400);
        assert!(rows(&w) <= 251, "{} rows are left", rows(&w));
        let outside = "SELECT count(*) FROM pgevict.journal AS j, pgevict.floor AS f WHERE NOT pg_visible_in_snapshot(j.xid, f.snap)";
        assert_eq!(w.db.text(outside).unwrap(), rows(&w).to_string(), "what is left is what the floor does not see");
        // Errors and large statements look each time: who makes only those is bounded, too.
        w.sql("INSERT INTO posts SELECT n, n FROM generate_series(10000, 10400) n");
        assert!(rows(&w) <= 401, "{} rows are left", rows(&w));
        w.sql("ALTER TABLE posts RENAME user_id TO u");
        for n in 20_000..20_020 {
            w.sql(&format!("INSERT INTO posts VALUES ({n}, 1)"));
        }
        // The row just written is its own transaction's, which sees no more than the others'.
        assert_eq!(rows(&w), 1);
        assert_eq!(w.lost(), 0);
    }
}

#[test]
fn a_writer_that_rolls_back_has_shed_nothing() {
    let w = world(CaptureLevel::Auto);
    write(&w, 0, 10);
    w.sql("BEGIN; SELECT pgevict.relieve(); ROLLBACK");
    assert_eq!((rows(&w), floor(&w)), (10, None));
}

#[test]
fn nothing_is_shed_beside_a_daemon_a_stricter_transaction_or_another_one_that_sheds() {
    let w = world(CaptureLevel::Auto);
    write(&w, 0, 10);
    let relieve = || w.db.text("SELECT pgevict.relieve()").unwrap();
    let other = w.connect();

    other.text("SELECT pg_advisory_lock(1885431414, 'pgevict.layout'::regclass::oid::integer)");
    assert_eq!(relieve(), "0", "a daemon leads");
    other.text("SELECT pg_advisory_unlock_all()");

    w.sql("INSERT INTO pgevict.beacon (snap) VALUES (pg_current_snapshot())");
    assert_eq!(relieve(), "0", "a daemon was here just now");
    w.sql("UPDATE pgevict.beacon SET at = at - interval '11 minutes'");

    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        w.sql(&format!("BEGIN ISOLATION LEVEL {level}"));
        assert_eq!(relieve(), "0", "{level}");
        w.sql("COMMIT");
    }

    other.sql("BEGIN");
    assert_eq!(other.text("SELECT pgevict.relieve()").unwrap(), "10");
    write(&w, 10, 5);
    assert_eq!(relieve(), "0", "another one sheds");
    other.sql("COMMIT");
    assert_eq!(relieve(), "5");
    assert_eq!(rows(&w), 0);
}

/// The file of a journal never shrinks; what counts is what is in it.
#[test]
fn a_journal_that_was_large_once_is_not_shed() {
    let mut w = world(CaptureLevel::Auto);
    w.config.postgres.journal_max_bytes = 1_000_000;
    assert_eq!(w.drift(), ["function \"pgevict\".relieve has another body"]);
    w.up().unwrap();
    assert_eq!(w.drift(), [""; 0]);
    assert!(w.inspect().iter().all(|s| s.live()), "the bound is no part of a capture");
    w.sql("INSERT INTO pgevict.journal (layout, tbl, kind, op) SELECT 1, 'posts', 'w', 'u' FROM generate_series(1, 20000)");
    w.sql("DELETE FROM pgevict.journal");
    write(&w, 0, 10);
    w.sql("ANALYZE pgevict.journal");
    wait_live(&w, 1..1000);
    let relieve = || w.db.text("SELECT pgevict.relieve()").unwrap();
    assert_eq!(relieve(), "0");
    w.sql("INSERT INTO pgevict.journal (layout, tbl, kind, op) SELECT 1, 'posts', 'w', 'u' FROM generate_series(1, 20000)");
    w.sql("ANALYZE pgevict.journal");
    wait_live(&w, 20_000..50_000);
    assert_eq!(relieve(), "1000");
}

/// Until PostgreSQL counts about so many rows: up to version 14 a process of its own counts, and hears of them a moment later.
fn wait_live(w: &World, rows: Range<u64>) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let count = || -> u64 {
        let n = w.db.text("SELECT pg_stat_get_live_tuples('pgevict.journal'::regclass)").unwrap();
        n.parse().unwrap()
    };
    while !rows.contains(&count()) {
        assert!(Instant::now() < deadline, "{} rows, not {rows:?}", count());
        std::thread::yield_now();
    }
}

/// HAZARDS B19: truncating a tail takes a lock that writers wait for, and an updated row slows down under a pinned horizon.
#[test]
fn vacuum_never_truncates_the_journal_and_beacons_are_only_inserted() {
    let w = world(CaptureLevel::Auto);
    for table in ["journal", "beacon", "probe"] {
        let options =
            w.db.text(&format!("SELECT reloptions::text FROM pg_class WHERE oid = 'pgevict.{table}'::regclass"));
        assert!(options.as_ref().is_some_and(|o| o.contains("vacuum_truncate=off")), "{table}: {options:?}");
    }
    w.sql(
        "INSERT INTO pgevict.journal (layout, tbl, kind, op) SELECT 1, 'posts', 'w', 'u' FROM generate_series(1, 5000)",
    );
    let size = || w.db.text("SELECT pg_relation_size('pgevict.journal')").unwrap();
    let full = size();
    w.sql("DELETE FROM pgevict.journal");
    w.sql("VACUUM pgevict.journal");
    assert_eq!(size(), full);
    // What of pgevict writes beacons says INSERT; the daemon's role can do nothing else.
    let harm = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'pgevict'::regnamespace AND prosrc ~* 'update\\s+pgevict\\.beacon'";
    assert_eq!(w.db.text(harm).unwrap(), "0");
    w.sql(
        "DO $$ BEGIN CREATE ROLE pgevict_daemon; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$",
    );
    w.up().unwrap();
    let may = |what: &str| {
        w.db.text(&format!("SELECT has_table_privilege('pgevict_daemon', 'pgevict.beacon', '{what}')")).unwrap()
    };
    assert_eq!([may("INSERT"), may("UPDATE"), may("DELETE")], ["t", "f", "f"]);
}
