//! What is done beside the session: beacons, retention, the audit. A slow beacon (synchronous replication that waits)
//! delays the position, never the deletes, so it has connections of its own.

use super::connect;
use super::pool::pool;
use super::session::in_schema;
use crate::config::model::{PgHost, PgUrl};
use crate::rules::snapshot::Snapshot;
use deadpool_postgres::{ClientWrapper, Pool, PoolError};
use std::fmt;
use std::time::Duration;
use tokio_postgres::{Error, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

/// One for beacons, one for the audit with its retention, one for the probe, which must not wait for either.
const CONNECTIONS: usize = 3;
/// How long one piece of side work may take, connecting included, before its connection counts as dead. More than its
/// `statement_timeout`, so that a healthy server always has the last word.
const LIMIT: Duration = Duration::from_secs(15);
/// The same, given to the server.
const STATEMENT_TIMEOUT: &str = "SET statement_timeout = '12s'";
/// For telling the server that nobody waits for the statement any more.
const CANCEL_LIMIT: Duration = Duration::from_secs(3);

/// The side connections, opened on demand.
#[derive(Clone)]
pub struct Side {
    pool: Pool,
    schema: String,
    tls: Option<MakeRustlsConnect>,
}

impl fmt::Debug for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Side").field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// What went wrong, for the log.
pub type Failure = String;

impl Side {
    /// A pool to the host that the session has chosen.
    ///
    /// # Errors
    /// TLS files that do not fit.
    pub fn new(url: &PgUrl, host: &PgHost, schema: &str) -> Result<Self, Failure> {
        // Unlike the session's, these connections hold no lock and may idle.
        let idle = "SET idle_session_timeout = 0";
        let settings = [include_str!("../../sql/session.sql"), idle, STATEMENT_TIMEOUT].map(str::to_owned).to_vec();
        let (pool, tls) = pool(url, std::slice::from_ref(host), CONNECTIONS, settings)?;
        Ok(Self { pool, schema: schema.to_owned(), tls })
    }

    pub(super) fn schema(&self) -> &str {
        &self.schema
    }

    /// Runs `work` on a side connection, within a limit.
    ///
    /// # Errors
    /// There is no connection, the server refuses, or nothing came in time; says which. A connection that did not answer
    /// is closed, and the server is told not to go on: a commit that waits for a synchronous standby would otherwise
    /// keep its process for as long as the standby is away, and every further try another one.
    pub async fn run<T>(&self, work: impl AsyncFnOnce(&ClientWrapper) -> Result<T, Error>) -> Result<T, Failure> {
        self.run_within(LIMIT, work).await
    }

    /// The same, within another limit.
    ///
    /// # Errors
    /// As [`Side::run`].
    pub async fn run_within<T>(
        &self,
        limit: Duration,
        work: impl AsyncFnOnce(&ClientWrapper) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        let until = tokio::time::Instant::now() + limit;
        let late = || format!("PostgreSQL gave no answer to a side connection within {limit:?}");
        let client = match tokio::time::timeout_at(until, self.pool.get()).await {
            Ok(client) => client.map_err(|e| format!("no side connection to PostgreSQL: {}", words(&e)))?,
            Err(_) => return Err(late()),
        };
        match tokio::time::timeout_at(until, work(&client)).await {
            Ok(outcome) => outcome.map_err(|e| connect::describe(&e)),
            Err(_) => {
                self.give_up(deadpool_postgres::Object::take(client).cancel_token());
                Err(late())
            }
        }
    }

    fn give_up(&self, token: tokio_postgres::CancelToken) {
        let tls = self.tls.clone();
        tokio::spawn(tokio::time::timeout(CANCEL_LIMIT, async move {
            // A server that does not hear this does not work for us either.
            let _ = match tls {
                Some(tls) => token.cancel_query(tls).await,
                None => token.cancel_query(NoTls).await,
            };
        }));
    }

    /// Commits a beacon after `snapshot` was taken, synchronously. Returns its number: once it is back, everything that
    /// `snapshot` sees is as durable as the server makes commits.
    ///
    /// # Errors
    /// What happened.
    pub async fn beacon(&self, snapshot: &Snapshot) -> Result<i64, Failure> {
        let sql =
            in_schema("INSERT INTO pgevict.beacon (snap) VALUES ($1::text::pg_snapshot) RETURNING n", &self.schema);
        let snapshot = snapshot.to_string();
        self.run(async |client| {
            let statement = client.prepare_cached(&sql).await?;
            Ok(client.query_one(&statement, &[&snapshot]).await?.get(0))
        })
        .await
    }

    /// The history that this database lives in. `renew`: what was read so far must not be stored any more, so it gets a
    /// new one, committed before this returns. None: the migration lacks the table.
    ///
    /// # Errors
    /// What happened.
    pub async fn history(&self, renew: bool) -> Result<Option<String>, Failure> {
        let newest = in_schema("SELECT id::text FROM pgevict.history ORDER BY n DESC LIMIT 1", &self.schema);
        let insert = in_schema("INSERT INTO pgevict.history DEFAULT VALUES RETURNING id::text", &self.schema);
        self.run(async |client| {
            let found = async {
                let known = if renew { None } else { client.query_opt(&newest, &[]).await? };
                match known {
                    Some(row) => Ok(row),
                    None => client.query_one(&insert, &[]).await,
                }
            };
            match found.await {
                Ok(row) => Ok(Some(row.get(0))),
                Err(e) if e.code().is_some_and(|c| c.code() == "42P01") => Ok(None),
                Err(e) => Err(e),
            }
        })
        .await
    }

    /// A beacon for the moment, where no session takes snapshots: retention counts time by beacons.
    ///
    /// # Errors
    /// What happened.
    pub async fn mark_time(&self) -> Result<(), Failure> {
        let sql = in_schema("INSERT INTO pgevict.beacon (snap) VALUES (pg_current_snapshot())", &self.schema);
        self.run(async |client| client.execute(&sql, &[]).await.map(drop)).await
    }

    /// Whether beacon `n` is there and vouches for `position`: if a promoted or restored server lacks it, commits may be
    /// lost. The number alone would not do: a copy that went its own way counts on from the same one.
    ///
    /// # Errors
    /// What happened.
    pub async fn has_beacon(&self, n: i64, position: &Snapshot) -> Result<bool, Failure> {
        let sql = in_schema(
            "SELECT EXISTS (SELECT FROM pgevict.beacon WHERE n = $1 AND snap::text = $2::text::pg_snapshot::text)",
            &self.schema,
        );
        self.run(async |client| Ok(client.query_one(&sql, &[&n, &position.to_string()]).await?.get(0))).await
    }

    /// Rings the bell from another connection: whoever listens hears it, unless something in between swallows it.
    ///
    /// # Errors
    /// What happened.
    pub async fn ring(&self, channel: &str, payload: &str) -> Result<(), Failure> {
        let sql = "SELECT pg_notify($1, $2)";
        self.run(async |client| client.execute(sql, &[&channel, &payload]).await.map(drop)).await
    }

    /// Changes the probe's row within `limit`; returns the transaction that did, None where there is no row.
    ///
    /// # Errors
    /// As [`Side::run`]; inside, what the server says of the statement.
    pub async fn probe(&self, nonce: &str, limit: Duration) -> Result<Result<Option<i64>, Error>, Failure> {
        let sql =
            in_schema("UPDATE pgevict.probe SET nonce = $1 RETURNING pg_current_xact_id()::text::bigint", &self.schema);
        self.run_within(limit, async |client| {
            let statement = match client.prepare_cached(&sql).await {
                Ok(statement) => statement,
                Err(e) => return Ok(Err(e)),
            };
            Ok(client.query_opt(&statement, &[&nonce]).await.map(|row| row.map(|r| r.get(0))))
        })
        .await
    }

    /// Whether transaction `xid` has written a journal row of `table`.
    ///
    /// # Errors
    /// As [`Side::run`].
    pub async fn is_journalled(&self, xid: i64, table: &str) -> Result<bool, Failure> {
        let sql = in_schema(
            "SELECT EXISTS (SELECT FROM pgevict.journal WHERE xid = $1::text::xid8 AND tbl = $2)",
            &self.schema,
        );
        self.run(async |client| Ok(client.query_one(&sql, &[&xid.to_string(), &table]).await?.get(0))).await
    }

    /// Deletes journal rows that `snapshot` sees, in slices of `slice` rows, and raises the floor in the same
    /// transactions. Returns how many went.
    ///
    /// # Errors
    /// What happened.
    pub async fn retire(&self, snapshot: &Snapshot, slice: i32) -> Result<u64, Failure> {
        let sql = in_schema("SELECT pgevict.retire($1::text::pg_snapshot, $2)::bigint", &self.schema);
        let snapshot = snapshot.to_string();
        let mut total = 0;
        loop {
            let gone: i64 =
                self.run(async |client| Ok(client.query_one(&sql, &[&snapshot, &slice]).await?.get(0))).await?;
            let gone = u64::try_from(gone).unwrap_or(0);
            total += gone;
            if gone < u64::try_from(slice).unwrap_or(1) {
                return Ok(total);
            }
        }
    }

    /// Copies journal rows that cannot be read, each by its place and with why.
    ///
    /// # Errors
    /// What happened.
    pub async fn bury(&self, rows: &[((i64, i64), String)]) -> Result<(), Failure> {
        let sql = in_schema("SELECT pgevict.bury($1, $2, $3)", &self.schema);
        let (places, whys): (Vec<(i64, i64)>, Vec<&str>) =
            rows.iter().map(|(place, why)| (*place, why.as_str())).unzip();
        let (xids, seqs): (Vec<i64>, Vec<i64>) = places.into_iter().unzip();
        self.run(async |client| client.execute(&sql, &[&xids, &seqs, &whys]).await.map(drop)).await
    }

    /// Advances the tail of the NOTIFY queue and tells how full it is, 0 to 1. A queue that an idle listener filled stays
    /// full until somebody calls this function (HAZARDS N7).
    ///
    /// # Errors
    /// What happened.
    pub async fn notify_queue(&self) -> Result<f64, Failure> {
        let sql = "SELECT pg_notification_queue_usage()";
        self.run(async |client| Ok(client.query_one(sql, &[]).await?.get(0))).await
    }

    /// The layouts that the database knows, as `(id, text)`.
    ///
    /// # Errors
    /// What happened.
    pub async fn layouts(&self) -> Result<Vec<(i64, String)>, Failure> {
        let sql = in_schema("SELECT id, spec FROM pgevict.layout", &self.schema);
        let rows = self.run(async |client| client.query(&sql, &[]).await).await?;
        Ok(rows.iter().map(|r| (r.get(0), r.get(1))).collect())
    }
}

/// The pool's own words leave out what the server said.
fn words(e: &PoolError) -> String {
    match e {
        PoolError::Backend(e) => connect::describe(e),
        e => e.to_string(),
    }
}
