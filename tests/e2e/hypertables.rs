//! Timescale hypertables in the running daemon, over the stand-in of tests/support/hypertable.sql.

use crate::support::{Setup, World};
use nix::sys::signal::Signal;
use redis::Commands as _;

const CONFIG: &str = r#"
[cache.day]
key = "day:{device}:{day}"
[table.readings]
columns = ["value"]
evict = ["day"]
"#;

/// The chunks that the last audit has written down.
fn wait_audited(w: &World, chunk: &str) {
    let oid = w.value(&format!("SELECT '_timescaledb_internal.{chunk}'::regclass::oid::text"));
    w.daemon(|d| d.signal(Signal::SIGHUP));
    w.wait_keys(&format!("an audit that knows {chunk}"), |redis| {
        let files: String = redis.hget("{pgevict}:position", "tables").unwrap_or_default();
        files.contains(&format!("\"{oid}\""))
    });
}

#[test]
fn a_new_chunk_flushes_nothing_and_a_dropped_one_does() {
    let schema = include_str!("../support/hypertable.sql");
    let w = World::new(&Setup { config: CONFIG, schema, ..Setup::default() });
    w.sql("INSERT INTO readings VALUES (1, 'a', 1), (2, 'a', 1)");
    w.apply();
    w.start();
    w.wait_position();
    w.fill(&["day:a:1", "day:a:2", "day:a:3", "day:b:1", "canary"]);
    w.check("UPDATE readings SET value = 2 WHERE day = 1", &["day:a:1"]);
    w.check("INSERT INTO readings VALUES (3, 'a', 1)", &["day:a:3"]);
    w.check_after("an audit that finds a new chunk", &[], || wait_audited(&w, "_hyper_1_3_chunk"));
    w.check("UPDATE readings SET value = 2 WHERE day = 3", &["day:a:3"]);
    // What a retention policy does: rows go, and no trigger fires.
    let mark = w.mark();
    w.check_after("drop_chunks", &["day:a:1", "day:a:2", "day:a:3", "day:b:1"], || {
        w.sql("DROP TABLE _timescaledb_internal._hyper_1_1_chunk");
        w.daemon(|d| d.signal(Signal::SIGHUP));
        w.wait_line(mark, &["flushed", "day"]);
    });
}
