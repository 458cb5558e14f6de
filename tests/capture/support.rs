//! A database with watched tables, and one way to say "this statement writes exactly these tuples".

use pgevict::cli::demo::servers::Postgres as Server;
use pgevict::config::model::*;
use pgevict::rules::capture::{self, Facts, Settings};
use pgevict::rules::layout::{Layout, layouts};
use pgevict::rules::template::{Kind, Template};
use pgevict::source::catalog;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio_postgres::{AsyncMessage, Client, NoTls};

/// Bounds every wait, so that a hang is a failure.
const PATIENCE: Duration = Duration::from_secs(60);

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap())
}

pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    runtime().block_on(async { tokio::time::timeout(PATIENCE, future).await }).expect("an answer from PostgreSQL")
}

/// One cluster for the whole binary; the process ends it with itself.
fn url(database: &str) -> String {
    static SERVER: OnceLock<Mutex<Server>> = OnceLock::new();
    let start = || Mutex::new(Server::start(&[("max_prepared_transactions", "10")]).unwrap());
    SERVER.get_or_init(start).lock().unwrap_or_else(PoisonError::into_inner).url(database)
}

/// A connection, with what the server has told it beside results.
pub(crate) struct Db {
    pub(crate) client: Client,
    heard: tokio::sync::mpsc::UnboundedReceiver<String>,
}

impl Db {
    pub(crate) fn connect(url: &str) -> Self {
        let (client, mut connection) = wait(tokio_postgres::connect(url, NoTls)).unwrap();
        let (tell, heard) = tokio::sync::mpsc::unbounded_channel();
        runtime().spawn(async move {
            while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
                match message {
                    AsyncMessage::Notification(n) => tell.send(n.payload().to_owned()).unwrap_or_default(),
                    AsyncMessage::Notice(n) if n.severity() == "WARNING" => {
                        tell.send(format!("WARNING {}", n.message())).unwrap_or_default();
                    }
                    _ => {}
                }
            }
        });
        Self { client, heard }
    }

    pub(crate) fn try_sql(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        wait(self.client.batch_execute(sql))
    }

    /// Statements that may not fail.
    #[track_caller]
    pub(crate) fn sql(&self, sql: &str) {
        if let Err(e) = self.try_sql(sql) {
            let detail = e.as_db_error().map_or_else(|| e.to_string(), |d| format!("{d} {:?}", d.where_()));
            panic!("{detail}\nin: {}", &sql.chars().take(2000).collect::<String>());
        }
    }

    #[track_caller]
    pub(crate) fn text(&self, sql: &str) -> Option<String> {
        let rows = wait(self.client.simple_query(sql)).unwrap_or_else(|e| panic!("{sql}: {e} {:?}", e.as_db_error()));
        rows.iter().find_map(|m| match m {
            tokio_postgres::SimpleQueryMessage::Row(r) => Some(r.get(0).map(str::to_owned)),
            _ => None,
        })?
    }

    /// What was heard until now: the answer to a query comes behind all of it.
    pub(crate) fn heard(&mut self) -> Vec<String> {
        self.sql("SELECT 1");
        std::iter::from_fn(|| self.heard.try_recv().ok()).collect()
    }
}

/// Configuration by hand: no file, no parser.
pub(crate) fn config(caches: &[(&str, &str)], tables: Vec<Table>) -> Config {
    let second = Duration::from_secs(1);
    let tls = PgTls {
        mode: SslMode::Disable,
        root_cert: None,
        cert: None,
        key: None,
        channel_binding: ChannelBinding::Disable,
    };
    let url = PgUrl {
        hosts: Vec::new(),
        user: "pgevict_daemon".into(),
        dbname: "app".into(),
        password: None,
        tls,
        connect_timeout: second,
        application_name: "pgevict".into(),
        options: None,
        keepalives_idle: second,
        keepalives_interval: second,
        keepalives_count: 3,
        tcp_user_timeout: second,
    };
    let postgres = Postgres {
        url,
        delivery: Delivery::Journal,
        schema: "pgevict".into(),
        channel: "pgevict".into(),
        bell: Bell::Auto,
        on_gap: OnGap::Evict,
        retention: second,
        retention_max: second,
        journal_max_bytes: 1_000_000_000,
    };
    let address = RedisAddress::Tcp { host: "localhost".into(), port: 6379 };
    let cache = |(name, template): &(&str, &str)| Cache {
        name: (*name).into(),
        template: Template::parse(template, if template.contains('*') { Kind::Pattern } else { Kind::Key }).unwrap(),
        ttl: None,
        repeat_after: None,
        guard_fills: false,
        warm: None,
        allow_broad: false,
        index: template.contains('*'),
    };
    Config {
        mode: Mode::Enforce,
        postgres,
        redis: Redis { url: RedisUrl { address, db: 0, username: None, password: None }, state: "{pgevict}".into() },
        namespace: Namespace { prefix: String::new(), prefixes: vec![(None, String::new())] },
        limits: Limits {
            never_delete: Vec::new(),
            max_keys_per_change: 100_000,
            over_limit: OverLimit::Slow,
            index_memory: 128_000_000,
        },
        warm: Warm::default(),
        caches: caches.iter().map(cache).collect(),
        tables,
        admin: Admin { socket: "admin.sock".into(), listen: None },
        log: Log { format: LogFormat::Text, keys: LogKeys::Full, level: LogLevel::Info },
        tests: Vec::new(),
    }
}

pub(crate) fn name(schema: &str, name: &str) -> TableName {
    TableName { schema: schema.into(), name: name.into() }
}

pub(crate) fn table(table: &str, edges: Vec<Edge>) -> Table {
    Table {
        name: name("public", table),
        columns: None,
        debounce: None,
        mode: None,
        when: Vec::new(),
        lookups: Vec::new(),
        always: false,
        capture: CaptureLevel::Auto,
        on_error: OnError::Open,
        edges,
    }
}

pub(crate) fn edge(cache: &str) -> Edge {
    Edge { cache: cache.into(), columns: None, ops: Ops::ALL, with: BTreeMap::new(), when: Vec::new() }
}

/// An edge whose UPDATEs count only where one of these columns changes.
pub(crate) fn filtered(cache: &str, columns: &[&str]) -> Edge {
    Edge { columns: Some(columns.iter().map(|c| (*c).to_owned()).collect()), ..edge(cache) }
}

pub(crate) fn lookup(hole: &str, follow: &str, to: &str, take: &str, by: Option<&str>) -> Lookup {
    Lookup {
        hole: hole.into(),
        follow: follow.into(),
        to: name("public", to),
        take: take.into(),
        by: by.map(Into::into),
    }
}

/// A database of its own with the captures of a configuration.
pub(crate) struct World {
    pub(crate) db: Db,
    pub(crate) url: String,
    pub(crate) config: Config,
}

impl World {
    pub(crate) fn bare(schema: &str, config: Config) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let database = format!("capture_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        Db::connect(&url("postgres")).sql(&format!("CREATE DATABASE {database} TEMPLATE template0"));
        let url = url(&database);
        let db = Db::connect(&url);
        db.sql(schema);
        Self { db, url, config }
    }

    /// The tables, and what `sql up` installs.
    pub(crate) fn new(schema: &str, config: Config) -> Self {
        let world = Self::bare(schema, config);
        world.up().unwrap_or_else(|e| panic!("{e}"));
        world
    }

    pub(crate) fn connect(&self) -> Db {
        Db::connect(&self.url)
    }

    pub(crate) fn layouts(&self) -> Vec<Layout> {
        layouts(&self.config)
    }

    pub(crate) fn facts(&self) -> Facts {
        let client = self.connect().client;
        wait(client.batch_execute("SET search_path = pg_catalog")).unwrap();
        wait(catalog::facts(&client, capture::tables(&self.layouts()))).unwrap()
    }

    pub(crate) fn up_sql(&self) -> Vec<String> {
        let steps = capture::up(&self.layouts(), &Settings::of(&self.config), &self.facts()).unwrap();
        steps.into_iter().map(|s| s.sql).collect()
    }

    pub(crate) fn up(&self) -> Result<(), String> {
        for sql in self.up_sql() {
            self.db
                .try_sql(&sql)
                .map_err(|e| format!("{e} {:?}\n{}", e.as_db_error(), sql.chars().take(600).collect::<String>()))?;
        }
        Ok(())
    }

    pub(crate) fn down(&self) {
        for step in capture::down(&Settings::of(&self.config)) {
            self.db.sql(&step.sql);
        }
    }

    pub(crate) fn sql(&self, sql: &str) {
        self.db.sql(sql);
    }

    /// Takes what the journal holds: one text a row, `TABLE OP KIND classes {tuples, sorted}`.
    #[track_caller]
    pub(crate) fn journal(&self) -> Vec<String> {
        let rows = wait(self.db.client.query(
            "SELECT tbl || ' ' || op::text || ' ' || kind::text || coalesce(' ' || classes::text, ''), \
             (SELECT string_agg(line, ' ' ORDER BY line) FROM (SELECT string_agg(coalesce(j.tuples[i][k], 'NULL'), ',' ORDER BY k) AS line \
              FROM generate_series(1, array_length(j.tuples, 1)) AS i, generate_series(1, array_length(j.tuples, 2)) AS k GROUP BY i) AS l) \
             FROM pgevict.journal AS j ORDER BY xid, seq",
            &[],
        ))
        .unwrap();
        self.db.sql("DELETE FROM pgevict.journal");
        rows.iter()
            .map(|r| {
                let tuples: Option<String> = r.get(1);
                r.get::<_, String>(0) + &tuples.map_or_else(String::new, |t| format!(" [{t}]"))
            })
            .collect()
    }

    /// Runs a statement and compares what it wrote.
    #[track_caller]
    pub(crate) fn check(&self, sql: &str, expected: &[&str]) {
        self.sql(sql);
        assert_eq!(self.journal(), expected, "{sql}");
    }

    pub(crate) fn lost(&self) -> i64 {
        let sql = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM pgevict.lost";
        self.db.text(sql).unwrap().parse().unwrap()
    }

    pub(crate) fn drift(&self) -> Vec<String> {
        let client = self.connect().client;
        wait(client.batch_execute("SET search_path = pg_catalog")).unwrap();
        let drift = wait(catalog::drift(&client, &self.config)).unwrap();
        drift.into_iter().map(|d| format!("{} {}", d.object, d.what)).collect()
    }

    pub(crate) fn inspect(&self) -> Vec<catalog::TableState> {
        let client = self.connect().client;
        wait(client.batch_execute("SET search_path = pg_catalog")).unwrap();
        wait(catalog::inspect(&client, &self.config)).unwrap()
    }
}
