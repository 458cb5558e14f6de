//! Connections of the application: they fail often, say why, and never wait for ever.

use std::future::Future;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// No statement of the storm takes this long; a server that is frozen meanwhile counts as lost.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why a statement did not work.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    /// SQLSTATE; empty when the connection is lost or no answer came.
    pub(crate) code: String,
    pub(crate) message: String,
    /// pgevict has a part in it: its name is in the message or the context.
    pub(crate) by_pgevict: bool,
}

impl Refused {
    fn lost(message: String) -> Self {
        Self { code: String::new(), message, by_pgevict: false }
    }
}

impl From<tokio_postgres::Error> for Refused {
    fn from(e: tokio_postgres::Error) -> Self {
        let Some(db) = e.as_db_error() else { return Self::lost(e.to_string()) };
        let code = db.code().code().to_owned();
        let context = db.where_().unwrap_or_default();
        let all = [db.message(), context, db.detail().unwrap_or_default(), db.schema().unwrap_or_default()].join(" ");
        // A server that ends a session, or a statement that its own session cancels, does so wherever the statement is.
        let ended = code.starts_with("57");
        Self { by_pgevict: all.contains("pgevict") && !ended, message: format!("{} / {context}", db.message()), code }
    }
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap())
}

fn wait<T>(future: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, Refused> {
    match runtime().block_on(async { tokio::time::timeout(PATIENCE, future).await }) {
        Ok(answer) => answer.map_err(Refused::from),
        Err(_) => Err(Refused::lost(format!("no answer within {PATIENCE:?}"))),
    }
}

/// A session of PostgreSQL.
pub(crate) struct Db(Client);

pub(crate) type Row = Vec<Option<String>>;

impl Db {
    pub(crate) fn connect(url: &str) -> Result<Self, Refused> {
        let (client, connection) = wait(tokio_postgres::connect(url, NoTls))?;
        // Ends with the client; its error shows in the statement that meets it.
        runtime().spawn(connection);
        Ok(Self(client))
    }

    /// Runs statements; returns the rows of all of them.
    pub(crate) fn rows(&self, sql: &str) -> Result<Vec<Row>, Refused> {
        let messages = wait(self.0.simple_query(sql))?;
        let row = |m| match m {
            SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect()),
            _ => None,
        };
        Ok(messages.into_iter().filter_map(row).collect())
    }

    /// The first value of the first row.
    pub(crate) fn value(&self, sql: &str) -> Result<Option<String>, Refused> {
        Ok(self.rows(sql)?.into_iter().next().and_then(|row| row.into_iter().next().flatten()))
    }
}

/// A connection to Redis with `patience` for each answer.
pub(crate) fn cache(url: &str, patience: Duration) -> redis::RedisResult<redis::Connection> {
    let connection = redis::Client::open(url)?.get_connection_with_timeout(patience)?;
    connection.set_read_timeout(Some(patience))?;
    connection.set_write_timeout(Some(patience))?;
    Ok(connection)
}
