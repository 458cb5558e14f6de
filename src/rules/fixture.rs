//! Configurations for unit tests of the rules, without the reader of `config/`.

use super::template::{Kind, Template};
use crate::config::model::*;
use std::collections::BTreeMap;
use std::time::Duration;

/// Everything at its default, no caches, no tables.
pub(crate) fn config() -> Config {
    let second = Duration::from_secs(1);
    Config {
        mode: Mode::Enforce,
        postgres: Postgres {
            url: PgUrl {
                hosts: Vec::new(),
                user: "pgevict".into(),
                dbname: "app".into(),
                password: None,
                tls: PgTls {
                    mode: SslMode::Prefer,
                    root_cert: None,
                    cert: None,
                    key: None,
                    channel_binding: ChannelBinding::Prefer,
                },
                connect_timeout: second,
                application_name: "pgevict".into(),
                options: None,
                keepalives_idle: second,
                keepalives_interval: second,
                keepalives_count: 3,
                tcp_user_timeout: second,
            },
            delivery: Delivery::Journal,
            schema: "pgevict".into(),
            channel: "pgevict".into(),
            bell: Bell::Auto,
            on_gap: OnGap::Evict,
            retention: second,
            retention_max: second,
            journal_max_bytes: 0,
        },
        redis: Redis {
            url: RedisUrl {
                address: RedisAddress::Tcp { host: "localhost".into(), port: 6379 },
                db: 0,
                username: None,
                password: None,
            },
            state: "{pgevict}".into(),
        },
        namespace: Namespace { prefix: String::new(), prefixes: vec![(None, String::new())] },
        limits: Limits {
            never_delete: Vec::new(),
            max_keys_per_change: 100_000,
            over_limit: OverLimit::Slow,
            index_memory: 128_000_000,
        },
        warm: Warm::default(),
        caches: Vec::new(),
        tables: Vec::new(),
        admin: Admin { socket: "/run/pgevict/admin.sock".into(), listen: None },
        log: Log { format: LogFormat::Auto, keys: LogKeys::Full, level: LogLevel::Info },
        tests: Vec::new(),
    }
}

/// A cache; a template with `*` in it is a pattern.
pub(crate) fn cache(name: &str, template: &str) -> Cache {
    let kind = if template.contains('*') { Kind::Pattern } else { Kind::Key };
    let template = Template::parse(template, kind).unwrap();
    Cache {
        name: name.into(),
        template,
        ttl: None,
        repeat_after: None,
        guard_fills: false,
        warm: None,
        allow_broad: false,
        index: kind == Kind::Pattern,
    }
}

/// A table of `public` with plain edges.
pub(crate) fn table(name: &str, caches: &[&str]) -> Table {
    Table {
        name: TableName { schema: "public".into(), name: name.into() },
        columns: None,
        debounce: None,
        mode: None,
        when: Vec::new(),
        lookups: Vec::new(),
        always: false,
        capture: CaptureLevel::Auto,
        on_error: OnError::Open,
        edges: caches.iter().map(|c| edge(c)).collect(),
    }
}

/// An edge without conditions.
pub(crate) fn edge(cache: &str) -> Edge {
    Edge { cache: cache.into(), columns: None, ops: Ops::ALL, with: BTreeMap::new(), when: Vec::new() }
}

/// A lookup by the parent's primary key.
pub(crate) fn lookup(hole: &str, follow: &str, to: &str, take: &str) -> Lookup {
    let to = TableName { schema: "public".into(), name: to.into() };
    Lookup { hole: hole.into(), follow: follow.into(), to, take: take.into(), by: None }
}
