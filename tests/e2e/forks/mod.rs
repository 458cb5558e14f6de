//! Forks and crashes of PostgreSQL (HAZARDS 3.5): what the daemon finds, what it does, and that no value survives that
//! the surviving history does not have. `src/flow/fork.rs` is the decision table; these are its lines on real servers.

mod crash;
mod failover;
mod identity;

use crate::support::{Setup, World};
use std::collections::BTreeSet;

const SCHEMA: &str = "
CREATE TABLE users (id int PRIMARY KEY, name text);
INSERT INTO users SELECT n, 'u' FROM generate_series(1, 50) n;
";
const CONFIG: &str = r#"
[cache.user]
key = "user:{id}"
[table.users]
evict = ["user"]
"#;
const ALL: [&str; 3] = ["user:1", "user:2", "user:3"];

fn setup(settings: &'static [(&'static str, &'static str)]) -> Setup<'static> {
    Setup { config: CONFIG, schema: SCHEMA, own_postgres: Some(settings), ..Setup::default() }
}

/// A world whose daemon has recorded a position, with keys that are true.
fn world(settings: &'static [(&'static str, &'static str)]) -> World {
    let w = World::running(&setup(settings));
    filled(&w);
    w
}

fn filled(w: &World) {
    w.wait_position();
    w.fill(&ALL);
    w.fill(&["canary"]);
}

/// Waits until everything of the watched caches is gone, and insists that nothing else went: that the flush is said
/// with these words in the log, and shown by `pgevict status`.
#[track_caller]
fn flushed_because(w: &World, mark: usize, words: &[&str]) {
    w.wait_line(mark, &[&["\"event\":\"flush_begun\"", "flush of"][..], words].concat());
    w.wait_gone(&ALL);
    w.wait_ready();
    assert_eq!(w.missing(), ALL.map(String::from).into(), "a flush takes the caches and nothing else");
    let status = w.pgevict(&["status", "-o", "json"]).exits(0).json();
    let whys: Vec<&str> = status["flushes"].as_array().unwrap().iter().filter_map(|f| f["why"].as_str()).collect();
    assert!(whys.iter().any(|why| words.iter().all(|w| why.contains(w))), "{whys:?}");
}

/// The history goes on: exactly what changes goes.
#[track_caller]
fn delivers(w: &World, connect: impl Fn() -> crate::support::Db) {
    w.fill(&[&ALL[..], &["canary"]].concat());
    connect().sql("UPDATE users SET name = name || '.' WHERE id = 2");
    w.wait_gone(&["user:2"]);
    assert_eq!(w.missing(), BTreeSet::from(["user:2".to_owned()]));
}
