//! Crashes on one timeline: what recovery brings back may be less than what was read.

use super::{ALL, delivers, flushed_because, world};
use crate::support::{Db, World};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgevict::cli::demo::servers::Down;

/// Nothing but an explicit flush of the log writes an asynchronous commit within this test.
const ASYNCHRONOUS: &[(&str, &str)] = &[("wal_writer_delay", "10s"), ("synchronous_commit", "off")];

fn crash(w: &World) {
    let mut server = w.pg.server();
    server.down(Down::Crash);
    server.up().unwrap();
}

/// P4: with `synchronous_commit = off` a commit is seen before it is durable.
#[test]
fn a_commit_that_a_backend_crash_takes_back_leaves_no_cached_value() {
    let w = world(ASYNCHRONOUS);
    // A daemon that runs commits beacons synchronously, and what was committed before one of them survives.
    w.daemon(|d| d.signal(Signal::SIGSTOP));
    let victim = w.connect();
    let pid: i32 = victim.sql("SELECT pg_backend_pid()")[0][0].as_ref().unwrap().parse().unwrap();
    // It comes by every ten seconds, and would make the commit durable if that were now.
    let flusher = w.value("SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'").parse().unwrap();
    kill(Pid::from_raw(flusher), Signal::SIGSTOP).unwrap();
    w.sql("UPDATE users SET name = 'lost' WHERE id = 1");
    assert_eq!(w.value("SELECT name FROM users WHERE id = 1"), "lost");
    // What a reader caches now.
    w.fill(&ALL);
    let mark = w.mark();
    for pid in [pid, flusher] {
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    // The postmaster takes a moment to notice that one of its own was killed. Recovery empties the sentinel, and the
    // daemon, which would arm it again, is frozen.
    let recovered =
        |db: &Db| db.try_sql("SELECT count(*) FROM pgevict.sentinel").is_ok_and(|r| r[0][0].as_deref() == Some("0"));
    let back = loop {
        match Db::try_connect(&w.pg.url(&w.database)) {
            Ok(db) if recovered(&db) => break db,
            _ => assert!(std::time::Instant::now() < deadline, "no recovery"),
        }
    };
    assert_eq!(back.sql("SELECT name FROM users WHERE id = 1")[0][0].as_deref(), Some("u"), "it was not lost");
    w.daemon(|d| d.signal(Signal::SIGCONT));
    flushed_because(&w, mark, &["the unlogged sentinel is gone"]);
    delivers(&w, || w.connect());
}

#[test]
fn an_immediate_restart_flushes_and_says_why() {
    let w = world(&[]);
    let mark = w.mark();
    crash(&w);
    flushed_because(&w, mark, &["the unlogged sentinel is gone", "stopped at once"]);
    delivers(&w, || w.connect());
}

#[test]
fn a_clean_restart_flushes_nothing() {
    let w = world(&[]);
    let mark = w.mark();
    w.check_after("a change after a clean restart", &["user:1"], || {
        let mut server = w.pg.server();
        server.down(Down::Clean);
        server.up().unwrap();
        drop(server);
        w.sql("UPDATE users SET name = name || '.' WHERE id = 1");
    });
    let lines = w.daemon(|d| d.log().since(mark));
    assert!(!lines.iter().any(|l| l.contains("flush of")), "{lines:#?}");
}

/// B2: ids of transactions that wrote nothing durable are handed out again after a crash. The sentinel, which sees every
/// crash, is blinded here: what remains is the rule that the position moves only behind a beacon.
#[test]
fn ids_that_come_again_after_a_crash_were_never_counted_as_seen() {
    let w = world(ASYNCHRONOUS);
    w.sql("ALTER TABLE pgevict.sentinel SET LOGGED");
    w.sql("CHECKPOINT");
    w.restart();
    w.wait_position();
    w.drain();
    // No beacon follows before the slow tick.
    w.wait_settled();
    // Aborted: the ids are used up, and nothing in the log says so.
    for _ in 0..30 {
        w.sql("BEGIN; SELECT pg_current_xact_id(); ROLLBACK");
    }
    polled(&w);
    w.kill9();
    crash(&w);
    w.fill(&ALL);
    for _ in 0..20 {
        w.sql("UPDATE users SET name = name || '.' WHERE id = 1");
    }
    w.sql("UPDATE users SET name = name || '.' WHERE id = 3");
    w.start();
    w.wait_gone(&["user:1", "user:3"]);
    assert_eq!(w.missing(), ["user:1".to_owned(), "user:3".to_owned()].into(), "replayed, not flushed");
}

/// Rings the sleeping daemon and waits until it has read the journal twice: it has seen every id that was given out.
fn polled(w: &World) {
    for _ in 0..2 {
        let now = w.value("SELECT clock_timestamp()");
        w.sql("NOTIFY pgevict");
        let polled = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgevict' AND query LIKE '%pgevict.journal%'
             AND state = 'idle' AND query_start > '{now}'"
        );
        let deadline = std::time::Instant::now() + crate::support::PATIENCE;
        while w.value(&polled) == "0" {
            assert!(std::time::Instant::now() < deadline, "the daemon does not poll");
            std::thread::yield_now();
        }
    }
}
