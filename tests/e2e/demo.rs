//! The demo: proves something, ends by itself, and leaves nothing behind, wherever it plays.

use crate::support::pace::Pace;
use crate::support::{Daemon, Ran, Setup, World};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

/// It loads the machine by itself; beside other tests, of which some are demos, it takes its time.
const PATIENCE: Duration = Duration::from_secs(300);

#[test]
fn it_proves_that_no_key_is_stale_and_ends_in_time() {
    let (begun, pace) = (Instant::now(), Pace::watch());
    let ran = Ran::within(PATIENCE, &["demo", "-o", "json", "--seconds", "2"], &[]).exits(0);
    let figures = ran.json();
    assert_eq!(figures["stale"], serde_json::json!([]), "{figures}");
    for figure in ["changes", "statements", "deleted", "reads", "hits", "compared"] {
        assert!(figures[figure].as_u64().is_some_and(|n| n > 0), "{figure}: {figures}");
    }
    assert!(figures["lag_ms"]["p99"].as_f64() >= figures["lag_ms"]["p50"].as_f64(), "{figures}");
    let (took, bound) = (begun.elapsed(), pace.allows(Duration::from_secs(30)));
    assert!(took < bound, "{took:?}, more than {bound:?}");
}

#[test]
fn it_reads_without_colours_where_there_is_no_terminal() {
    let ran = Ran::within(PATIENCE, &["demo", "--seconds", "1"], &[]).exits(0);
    assert!(ran.out.contains("none is stale") && ran.out.contains("user_dashboard:7  deleted"), "{}", ran.out);
    assert!(!ran.out.contains('\x1b'), "{}", ran.out);
}

#[test]
fn on_given_servers_it_works_in_its_own_corner_and_cleans_up() {
    let w = World::new(&Setup::default());
    w.fill(&["user_dashboard:7", "agent_performance:3:calls", "session:1"]);
    let databases = || w.sql("SELECT datname FROM pg_database WHERE datname LIKE 'pgevict_demo%'");
    let (postgres, redis) = (w.pg.url(&w.database), w.redis.borrow().url(0));
    let args = ["demo", "-o", "json", "--seconds", "1", "--postgres", &postgres, "--redis", &redis];
    Ran::within(PATIENCE, &args, &[]).exits(0);
    assert!(w.missing().is_empty(), "{:?}", w.missing());
    let keys: usize = redis::cmd("DBSIZE").query(&mut w.redis()).unwrap();
    assert_eq!((keys, databases().len()), (3, 0));

    // A role that may not create a database could not drop one: refused before anything is done.
    let role = format!("guest_{}", w.database);
    w.sql(&format!("CREATE ROLE {role} LOGIN"));
    let as_guest = postgres.replace("postgres@", &format!("{role}@"));
    let ran = Ran::of(&["demo", "--postgres", &as_guest], &[]).exits(3);
    assert!(ran.err.contains("CREATEDB"), "{}", ran.err);
    w.sql(&format!("DROP ROLE {role}"));
}

#[test]
fn an_interrupt_leaves_neither_servers_nor_folders() {
    // A folder of our own for temporary files shows what stays.
    let folder = tempfile::Builder::new().prefix("pgevict-").tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let env = [("TMPDIR".to_owned(), folder.path().display().to_string())];
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut demo = Daemon::spawn(&["demo"], &env);
        demo.wait_line(0, &["deleted"]);
        demo.signal(signal);
        assert_eq!(demo.wait(), Some(1), "{}", demo.log().tail(20));
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().map(|e| e.path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
    // Killed, it cannot clean up; the watchers of its children do.
    let demo = Daemon::spawn(&["demo"], &env);
    demo.wait_line(0, &["deleted"]);
    demo.kill9();
    let deadline = Instant::now() + Duration::from_secs(60);
    while std::fs::read_dir(folder.path()).unwrap().next().is_some() {
        assert!(Instant::now() < deadline, "something outlived a killed demo");
        std::thread::yield_now();
    }
}
