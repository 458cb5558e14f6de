//! Other servers of the world's cluster: a streaming standby, a copy.

use super::PATIENCE;
use super::servers::Db;
use super::world::World;
use pgevict::cli::demo::servers::{Down, Postgres};
use std::time::Instant;

/// A streaming standby of the world's own cluster, made from a cold copy: no program but the server's is needed. Asynchronous.
pub(crate) fn standby(w: &World) -> Postgres {
    let mut primary = w.pg.server();
    let conninfo = format!("host=127.0.0.1 port={} user=postgres", primary.port());
    primary.down(Down::Clean);
    let mut standby = primary.copy(&[("primary_conninfo", &conninfo)]).unwrap();
    standby.touch("standby.signal").unwrap();
    primary.up().unwrap();
    drop(primary);
    standby.up().unwrap();
    caught_up(w, &standby);
    standby
}

/// Waits until `standby` has replayed everything that the world's cluster has committed.
#[track_caller]
pub(crate) fn caught_up(w: &World, standby: &Postgres) {
    let lsn = w.value("SELECT pg_current_wal_insert_lsn()");
    let db = Db::connect(&standby.url("postgres"));
    let deadline = Instant::now() + PATIENCE;
    let replayed = format!("SELECT pg_last_wal_replay_lsn() >= '{lsn}'::pg_lsn");
    while db.sql(&replayed)[0][0].as_deref() != Some("t") {
        assert!(Instant::now() < deadline, "the standby does not follow\n{}", standby.log_tail());
        std::thread::yield_now();
    }
}

/// Makes it a primary of the next timeline; returns when it is one.
#[track_caller]
pub(crate) fn promote(standby: &Postgres) {
    Db::connect(&standby.url("postgres")).sql("SELECT pg_promote(true, 60)");
}

/// A URL for libpq with several hosts, tried in this order.
pub(crate) fn url_of(servers: &[&Postgres], database: &str) -> String {
    let hosts: Vec<String> = servers.iter().map(|s| format!("127.0.0.1:{}", s.port())).collect();
    format!("postgresql://postgres@{}/{database}?target_session_attrs=read-write", hosts.join(","))
}
