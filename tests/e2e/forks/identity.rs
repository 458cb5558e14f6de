//! Servers that are another one than the position's: clones, dumps, restores.

use super::{ALL, CONFIG, SCHEMA, delivers, flushed_because, setup, world};
use crate::support::{Db, Setup, World};
use pgevict::cli::demo::servers::{Down, find_postgres};
use std::process::Command;

#[test]
fn another_cluster_is_refused_with_3_and_a_remedy_that_works() {
    let mine = world(&[]);
    mine.stop();
    let mut other = World::new(&setup(&[]));
    other.apply();
    let url = mine.redis.borrow().url(0);
    other.set_env("PGEVICT_REDIS__URL", &url);
    let mut daemon = other.spawn(&[], &[]);
    let line = daemon.wait_line(0, &["belongs to database", "delete `{pgevict}:position`"]);
    assert!(line.contains("clone pointed at another environment"), "{line}");
    assert_eq!(daemon.wait(), Some(3), "{}", daemon.log().tail(20));
    assert!(mine.missing().is_empty(), "a refused daemon deletes nothing");
    redis::cmd("DEL").arg("{pgevict}:position").exec(&mut mine.redis()).unwrap();
    let daemon = other.spawn(&[], &[]);
    mine.wait_gone(&ALL);
    drop(daemon);
}

/// P7: a copy of the cluster that was recovered to a point in time: the same system identifier.
#[test]
fn a_restore_to_a_point_in_time_flushes() {
    let mut w = World::new(&setup(&[]));
    w.apply();
    let mut server = w.pg.server();
    server.down(Down::Clean);
    let mut restored = server.copy(&[("restore_command", "false"), ("recovery_target_action", "promote")]).unwrap();
    restored.touch("recovery.signal").unwrap();
    server.up().unwrap();
    drop(server);
    let url = crate::support::standby::url_of(&[&w.pg.server(), &restored], &w.database);
    w.set_env("PGEVICT_POSTGRES__URL", &url);
    w.start();
    super::filled(&w);
    w.sql("UPDATE users SET name = 'undone' WHERE id = 1");
    w.drain();
    w.fill(&ALL);
    let mark = w.mark();
    w.pg.server().down(Down::Clean);
    restored.up().unwrap();
    flushed_because(&w, mark, &["timeline 00000001 became 00000002"]);
    delivers(&w, || Db::connect(&restored.url(&w.database)));
}

/// A cold copy is indistinguishable at first. It goes its own way with its own beacons, so the original's daemon finds
/// that the position is not its own any more.
#[test]
fn a_cold_copy_that_worked_on_the_same_redis_costs_a_flush_and_no_stale_key() {
    let w = world(&[]);
    w.stop();
    let mut server = w.pg.server();
    server.down(Down::Clean);
    let mut copy = server.copy(&[]).unwrap();
    server.up().unwrap();
    drop(server);
    w.sql("UPDATE users SET name = 'only here' WHERE id = 1");
    copy.up().unwrap();
    let url = copy.url(&w.database);
    let clone = w.spawn(&[], &[("PGEVICT_POSTGRES__URL", &url)]);
    clone.wait_line(0, &["delivery goes on from position"]);
    let of_clone = Db::connect(&url);
    w.fill(&ALL);
    of_clone.sql("UPDATE users SET name = 'only there' WHERE id = 2");
    w.wait_gone(&["user:2"]);
    let beacons = of_clone.sql("SELECT max(n) FROM pgevict.beacon")[0][0].clone().unwrap();
    w.wait_keys("the copy's position", |redis| {
        let record: String = redis::Commands::hget(redis, "{pgevict}:position", "rec").unwrap_or_default();
        let record: serde_json::Value = serde_json::from_str(&record).unwrap_or_default();
        record["beacon"].as_i64() >= beacons.parse().ok()
    });
    assert_eq!(clone.stop(), Some(0));
    // As many beacons and more transactions than the copy: neither the number alone nor the position's place would tell
    // them apart.
    for _ in 0..60 {
        w.sql("SELECT pg_current_xact_id()");
    }
    w.sql(&format!(
        "INSERT INTO pgevict.beacon (snap) SELECT pg_current_snapshot() FROM generate_series(
         (SELECT max(n) FROM pgevict.beacon) + 1, {beacons} + 5)"
    ));
    w.fill(&ALL);
    w.start_unready(&[]);
    flushed_because(&w, 0, &["beacon", "is missing: commits were lost"]);
    delivers(&w, || w.connect());
}

/// B20: `pg_dump` carries the sentinel's nonce into the restored schema; its table has another oid.
#[test]
fn a_dump_that_is_restored_into_the_same_database_flushes() {
    let w = World::running(&Setup { config: CONFIG, schema: SCHEMA, ..Setup::default() });
    super::filled(&w);
    w.stop();
    let program = find_postgres().unwrap().join("pg_dump");
    if !program.is_file() {
        eprintln!("{} is not there: nothing is tested", program.display());
        return;
    }
    let dumped = Command::new(program).args(["--inserts", "--dbname"]).arg(w.pg.url(&w.database)).output().unwrap();
    assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
    // Newer versions guard the dump with commands of psql.
    let dump = String::from_utf8(dumped.stdout).unwrap();
    let dump: String = dump.lines().filter(|l| !l.starts_with('\\')).map(|l| format!("{l}\n")).collect();
    let nonce = "SELECT nonce FROM pgevict.sentinel";
    let before = w.value(nonce);
    w.sql("UPDATE users SET name = 'undone' WHERE id = 1");
    w.fill(&ALL);
    w.sql("DROP SCHEMA pgevict CASCADE; DROP SCHEMA public CASCADE; CREATE SCHEMA public");
    let restorer = w.connect();
    restorer.sql(&dump);
    assert_eq!(w.value(nonce), before, "the dump brings the nonce: it alone would hide the restore");
    w.start_unready(&[]);
    flushed_because(&w, 0, &["it was dropped, or restored from a dump"]);
    delivers(&w, || w.connect());
}
