//! Standbys that are promoted, and primaries that do not know it.

use super::{ALL, delivers, filled, flushed_because, setup};
use crate::support::standby::{caught_up, promote, standby, url_of};
use crate::support::{Db, World};
use pgevict::cli::demo::servers::{Down, Postgres};

/// A daemon that knows both servers, the primary first.
fn pair() -> (World, Postgres) {
    let mut w = World::new(&setup(&[]));
    w.apply();
    let other = standby(&w);
    let url = url_of(&[&w.pg.server(), &other], &w.database);
    w.set_env("PGEVICT_POSTGRES__URL", &url);
    w.start();
    filled(&w);
    (w, other)
}

fn on(w: &World, server: &Postgres) -> Db {
    Db::connect(&server.url(&w.database))
}

/// P3, P4: an asynchronous standby lacks the last commits. What was cached of them is in no history any more, and
/// their transaction ids come again.
#[test]
fn a_promotion_that_lost_commits_leaves_no_value_of_them_and_no_reused_id_unseen() {
    let (w, mut other) = pair();
    caught_up(&w, &other);
    other.down(Down::Crash);
    for n in 0..20 {
        w.sql(&format!("UPDATE users SET name = 'lost {n}' WHERE id = 1"));
    }
    w.drain();
    // The application has cached what it read, and nothing will ever name it again.
    w.fill(&ALL);
    let mark = w.mark();
    w.pg.server().down(Down::Crash);
    other.up().unwrap();
    promote(&other);
    assert_eq!(
        on(&w, &other).sql("SELECT name FROM users WHERE id = 1")[0][0].as_deref(),
        Some("u"),
        "it was not lost"
    );
    flushed_because(&w, mark, &["timeline 00000001 became 00000002"]);
    // Ids that the position had counted as seen are handed out again: their rows arrive.
    delivers(&w, || on(&w, &other));
}

/// Everything arrived at the standby before the primary ended. A flush all the same: nothing on the new primary could
/// prove it (B20).
#[test]
fn a_clean_switchover_flushes_once_and_goes_on_with_the_old_primary_as_standby() {
    let (w, other) = pair();
    let conninfo = format!("host=127.0.0.1 port={} user=postgres", other.port());
    let mark = w.mark();
    w.pg.server().down(Down::Clean);
    promote(&other);
    flushed_because(&w, mark, &["timeline 00000001 became 00000002"]);
    delivers(&w, || on(&w, &other));
    let mut old = w.pg.server();
    old.set("primary_conninfo", &conninfo);
    old.touch("standby.signal").unwrap();
    old.up().unwrap();
    drop(old);
    // The first host of the URL answers again, as a standby: it is passed over, and nothing is flushed again.
    w.restart();
    let lines = w.daemon(|d| d.log().since(0));
    assert!(!lines.iter().any(|l| l.contains("flush of")), "{lines:#?}");
    delivers(&w, || on(&w, &other));
}

/// P6: a snapshot that is taken on a standby lies, and LISTEN fails there: it is never used.
#[test]
fn a_standby_alone_is_not_ready_until_it_is_promoted() {
    let mut w = World::new(&setup(&[]));
    w.apply();
    let other = standby(&w);
    let url = other.url(&w.database);
    w.set_env("PGEVICT_POSTGRES__URL", &url);
    w.start_unready(&[]);
    w.wait_line(0, &["it is a standby", "list all hosts"]);
    w.pgevict(&["ready"]).exits(1);
    promote(&other);
    w.wait_ready();
    filled(&w);
    delivers(&w, || on(&w, &other));
}

/// P5: after a failover the old primary still answers and stands first in the URL.
#[test]
fn an_old_primary_that_still_answers_is_left_for_the_new_one_and_never_used_again() {
    let (w, other) = pair();
    let mark = w.mark();
    // The daemon's session on the old primary goes on undisturbed: only looking elsewhere can tell.
    promote(&other);
    w.wait_line(mark, &["is the primary of the later timeline 00000002", "an old one that still answers"]);
    flushed_because(&w, mark, &["timeline 00000001 became 00000002"]);
    delivers(&w, || on(&w, &other));
    w.stop();
    w.fill(&ALL);
    on(&w, &other).sql("UPDATE users SET name = name || '.' WHERE id = 3");
    w.start();
    w.wait_gone(&["user:3"]);
    assert_eq!(w.missing(), ["user:3".to_owned()].into(), "a restart replays, from the new primary");
}

#[test]
fn alone_an_old_primary_is_not_ready_with_a_remedy_and_its_changes_evict_nothing() {
    let (mut w, other) = pair();
    w.pg.server().down(Down::Clean);
    let mark = w.mark();
    promote(&other);
    flushed_because(&w, mark, &["timeline"]);
    w.stop();
    w.pg.server().up().unwrap();
    let url = w.pg.url(&w.database);
    w.set_env("PGEVICT_POSTGRES__URL", &url);
    w.fill(&ALL);
    w.start_unready(&[]);
    w.wait_line(0, &["it is on timeline 00000001, and pgevict has followed timeline 00000002", "point postgres.url"]);
    let ran = w.pgevict(&["ready"]).exits(1);
    assert!(format!("{}{}", ran.out, ran.err).contains("old primary"), "{ran:?}");
    w.sql("UPDATE users SET name = name || '.' WHERE id = 1");
    // When it becomes what it should be, nothing needs a restart.
    let mark = w.mark();
    w.pg.server().down(Down::Clean);
    w.wait_line(mark, &["PostgreSQL down"]);
    assert!(w.missing().is_empty(), "{:?}", w.missing());
}
