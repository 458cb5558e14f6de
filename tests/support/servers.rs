//! One PostgreSQL cluster for all tests of a binary, a database each; and clusters of their own for those that restart it.

use super::PATIENCE;
use pgevict::cli::demo::servers::Postgres;
use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// The cluster of a world.
pub(crate) enum Pg {
    Shared,
    Own(Box<Mutex<Postgres>>),
}

impl Pg {
    pub(crate) fn own(settings: &[(&str, &str)]) -> Self {
        Self::Own(Box::new(Mutex::new(Postgres::start(settings).unwrap_or_else(|e| panic!("{e}")))))
    }

    pub(crate) fn server(&self) -> MutexGuard<'_, Postgres> {
        static SHARED: OnceLock<Mutex<Postgres>> = OnceLock::new();
        let server = match self {
            Self::Own(server) => server,
            Self::Shared => SHARED.get_or_init(|| Mutex::new(Postgres::start(&[]).unwrap_or_else(|e| panic!("{e}")))),
        };
        server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn url(&self, database: &str) -> String {
        self.server().url(database)
    }

    /// A new, empty database.
    pub(crate) fn create_database(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
        Db::connect(&self.url("postgres")).sql(&format!("CREATE DATABASE {name} TEMPLATE template0"));
        name
    }

    pub(crate) fn drop_database(&self, name: &str) {
        // The server may be down by the test's own doing.
        if let Ok(db) = Db::try_connect(&self.url("postgres")) {
            let _ = db.try_sql(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        }
    }
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap())
}

fn wait<T>(what: &str, future: impl Future<Output = T>) -> T {
    runtime()
        .block_on(async { tokio::time::timeout(PATIENCE, future).await })
        .unwrap_or_else(|_| panic!("no answer from PostgreSQL within {PATIENCE:?}: {what}"))
}

/// A connection of an application.
pub(crate) struct Db(Client);

impl Db {
    pub(crate) fn try_connect(url: &str) -> Result<Self, tokio_postgres::Error> {
        let (client, connection) = wait(url, tokio_postgres::connect(url, NoTls))?;
        // Ends with the client; its error shows in the statement that meets it.
        runtime().spawn(connection);
        Ok(Self(client))
    }

    pub(crate) fn connect(url: &str) -> Self {
        Self::try_connect(url).unwrap_or_else(|e| panic!("cannot connect to {url}: {e}"))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Runs statements; several of them are one transaction unless they say otherwise.
    pub(crate) fn try_sql(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, tokio_postgres::Error> {
        let messages = wait(sql, self.0.simple_query(sql))?;
        Ok(messages
            .into_iter()
            .filter_map(|m| match m {
                SimpleQueryMessage::Row(row) => {
                    Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect::<Vec<_>>())
                }
                _ => None,
            })
            .collect())
    }

    /// The same, for statements that may not fail: no statement of an application ever does because of pgevict.
    pub(crate) fn sql(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        self.try_sql(sql).unwrap_or_else(|e| {
            let detail = e.as_db_error().map_or_else(|| e.to_string(), |d| format!("{d}\n{:?}", d.where_()));
            panic!("the application's statement failed: {detail}\n  in: {}", sql.chars().take(400).collect::<String>())
        })
    }
}
