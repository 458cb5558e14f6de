//! A connection of an application. It and the task that drives it share one thread, so that the answer is known the
//! moment it is here: another thread's wake-up would be part of what is measured.

use pgevict::cli::demo::servers::Postgres;
use tokio::runtime::Runtime;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, Statement};

pub(crate) struct Db {
    client: Client,
    runtime: Runtime,
}

impl Db {
    pub(crate) fn connect(url: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (client, connection) =
            runtime.block_on(tokio_postgres::connect(url, NoTls)).unwrap_or_else(|e| panic!("{url}: {e}"));
        // Ends with the client; its error shows in the statement that meets it.
        runtime.spawn(connection);
        Self { client, runtime }
    }

    /// A new database with this schema, and a connection to it.
    pub(crate) fn create(server: &Postgres, name: &str, schema: &str) -> Self {
        Self::connect(&server.url("postgres")).sql(&format!("CREATE DATABASE {name}"));
        let db = Self::connect(&server.url(name));
        db.sql(schema);
        db.sql("VACUUM ANALYZE");
        db
    }

    /// Runs statements and returns the rows of the last one that has any.
    pub(crate) fn sql(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        let messages = self.runtime.block_on(self.client.simple_query(sql)).unwrap_or_else(|e| panic!("{e:?}: {sql}"));
        let rows = messages.into_iter().filter_map(|m| match m {
            SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect()),
            _ => None,
        });
        rows.collect()
    }

    /// The first value of the first row.
    pub(crate) fn value(&self, sql: &str) -> String {
        self.sql(sql).first().and_then(|row| row.first().cloned().flatten()).unwrap_or_default()
    }

    pub(crate) fn number(&self, sql: &str) -> f64 {
        self.value(sql).parse().unwrap_or(0.0)
    }

    /// The process that serves this connection.
    pub(crate) fn pid(&self) -> u32 {
        self.value("SELECT pg_backend_pid()").parse().expect("a pid")
    }

    pub(crate) fn prepare(&self, sql: &str) -> Statement {
        self.runtime.block_on(self.client.prepare(sql)).unwrap_or_else(|e| panic!("{e:?}: {sql}"))
    }

    /// Runs it in a transaction of its own; returns when the commit is acknowledged.
    pub(crate) fn commit(&self, statement: &Statement, parameters: &[&(dyn ToSql + Sync)]) {
        self.runtime.block_on(self.client.execute(statement, parameters)).unwrap_or_else(|e| panic!("{e:?}"));
    }
}
