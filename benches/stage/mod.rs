//! What the parts measure on: servers, databases, a daemon, as values that end when they are dropped.

pub(crate) mod db;
pub(crate) mod pgbench;
pub(crate) mod process;
pub(crate) mod resp;
pub(crate) mod site;

pub(crate) use db::Db;
pub(crate) use resp::Resp;
pub(crate) use site::Site;

use pgevict::cli::demo::servers::{Postgres, Redis};

/// A cluster set up as a small production server is: commits wait for the disk. Autovacuum is off so that it does not fall into one
/// candidate's slice; the parts vacuum between them.
pub(crate) fn postgres() -> Postgres {
    let settings = [
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("shared_buffers", "512MB"),
        ("max_wal_size", "8GB"),
        ("checkpoint_timeout", "1h"),
        ("autovacuum", "off"),
        ("shared_preload_libraries", "pg_stat_statements"),
        // It is asked for by one part; for the others it is loaded and silent.
        ("pg_stat_statements.track", "none"),
    ];
    Postgres::start(&settings).unwrap_or_else(|e| panic!("{e}"))
}

pub(crate) fn redis() -> Redis {
    Redis::start(&[("enable-debug-command", "yes")]).unwrap_or_else(|e| panic!("{e}"))
}

/// Host and port of a server's URL.
pub(crate) fn address(redis: &Redis) -> String {
    let url = redis.url(0);
    url.trim_start_matches("redis://").trim_end_matches("/0").to_owned()
}
