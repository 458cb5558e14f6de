//! What is done beside the session: beacons, retention, the audit. A slow beacon (synchronous replication that waits)
//! delays the position, never the deletes, so it has connections of its own.

use super::connect;
use super::session::in_schema;
use crate::config::model::{PgHost, PgUrl, SslMode};
use crate::rules::snapshot::Snapshot;
use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Timeouts};
use std::time::Duration;
use tokio_postgres::NoTls;

/// One for beacons and one for everything else.
const CONNECTIONS: usize = 2;

/// The side connections, opened on demand.
#[derive(Debug, Clone)]
pub struct Side {
    pool: Pool,
    schema: String,
}

/// What went wrong, for the log.
pub type Failure = String;

impl Side {
    /// A pool to the host that the session has chosen.
    ///
    /// # Errors
    /// TLS files that do not fit.
    pub fn new(url: &PgUrl, host: &PgHost, schema: &str) -> Result<Self, Failure> {
        let config = connect::driver_config(url, host);
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let plain = url.tls.mode == SslMode::Disable || host.host.starts_with('/');
        let manager = if plain {
            Manager::from_config(config, NoTls, recycling)
        } else {
            let mode = if url.tls.mode == SslMode::Allow { SslMode::Prefer } else { url.tls.mode };
            let tls = super::tls::connector(&url.tls)?;
            Manager::from_config(connect::with_tls(config, mode), tls, recycling)
        };
        let limit = Some(url.connect_timeout);
        let pool = Pool::builder(manager)
            .max_size(CONNECTIONS)
            // deadpool's time-outs default to none: a hanging connect would hang the beacon for ever.
            .timeouts(Timeouts { wait: limit, create: limit, recycle: limit })
            .runtime(Runtime::Tokio1)
            .post_create(Hook::async_fn(|client, _| {
                Box::pin(async move {
                    let settings = include_str!("../../sql/session.sql");
                    client.batch_execute(settings).await.map_err(|e| HookError::message(connect::describe(&e)))?;
                    // Unlike the session's, these connections hold no lock and may idle.
                    let idle = "SET idle_session_timeout = 0";
                    client.batch_execute(idle).await.map_err(|e| HookError::message(connect::describe(&e)))
                })
            }))
            .build()
            .map_err(|e| e.to_string())?;
        Ok(Self { pool, schema: schema.to_owned() })
    }

    /// A connection for an administrative statement.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn client(&self) -> Result<deadpool_postgres::Object, Failure> {
        self.pool.get().await.map_err(|e| format!("no side connection to PostgreSQL: {e}"))
    }

    /// Commits a beacon after `snapshot` was taken, synchronously. Returns its number: once it is back, everything that
    /// `snapshot` sees is as durable as the server makes commits.
    ///
    /// # Errors
    /// What happened.
    pub async fn beacon(&self, snapshot: &Snapshot) -> Result<i64, Failure> {
        let sql =
            in_schema("INSERT INTO pgevict.beacon (snap) VALUES ($1::text::pg_snapshot) RETURNING n", &self.schema);
        let client = self.client().await?;
        let statement = client.prepare_cached(&sql).await.map_err(|e| connect::describe(&e))?;
        let row = client.query_one(&statement, &[&snapshot.to_string()]).await.map_err(|e| connect::describe(&e))?;
        Ok(row.get(0))
    }

    /// A beacon for the moment, where no session takes snapshots: retention counts time by beacons.
    ///
    /// # Errors
    /// What happened.
    pub async fn mark_time(&self) -> Result<(), Failure> {
        let sql = in_schema("INSERT INTO pgevict.beacon (snap) VALUES (pg_current_snapshot())", &self.schema);
        let client = self.client().await?;
        client.execute(&sql, &[]).await.map(drop).map_err(|e| connect::describe(&e))
    }

    /// Whether beacon `n` is there: if a promoted or restored server lacks it, commits may be lost.
    ///
    /// # Errors
    /// What happened.
    pub async fn has_beacon(&self, n: i64) -> Result<bool, Failure> {
        let sql = in_schema("SELECT EXISTS (SELECT FROM pgevict.beacon WHERE n = $1)", &self.schema);
        let client = self.client().await?;
        Ok(client.query_one(&sql, &[&n]).await.map_err(|e| connect::describe(&e))?.get(0))
    }

    /// The newest snapshot that a beacon older than `age` vouches for.
    ///
    /// # Errors
    /// What happened.
    pub async fn snapshot_before(&self, age: Duration) -> Result<Option<Snapshot>, Failure> {
        let sql = in_schema(
            "SELECT snap::text FROM pgevict.beacon WHERE at < clock_timestamp() - make_interval(secs => $1) \
             AND snap IS NOT NULL ORDER BY n DESC LIMIT 1",
            &self.schema,
        );
        let client = self.client().await?;
        let row = client.query_opt(&sql, &[&age.as_secs_f64()]).await.map_err(|e| connect::describe(&e))?;
        row.map(|r| r.get::<_, String>(0).parse::<Snapshot>().map_err(|e| e.to_string())).transpose()
    }

    /// The journal's size on disk in bytes, index included.
    ///
    /// # Errors
    /// What happened.
    pub async fn journal_bytes(&self) -> Result<u64, Failure> {
        let sql = in_schema("SELECT pg_total_relation_size('pgevict.journal'::regclass)", &self.schema);
        let client = self.client().await?;
        let bytes: i64 = client.query_one(&sql, &[]).await.map_err(|e| connect::describe(&e))?.get(0);
        Ok(u64::try_from(bytes).unwrap_or(0))
    }

    /// About how many rows the journal holds, by the server's statistics.
    ///
    /// # Errors
    /// What happened.
    pub async fn journal_rows(&self) -> Result<u64, Failure> {
        let sql = in_schema("SELECT pg_stat_get_live_tuples('pgevict.journal'::regclass)", &self.schema);
        let client = self.client().await?;
        let rows: i64 = client.query_one(&sql, &[]).await.map_err(|e| connect::describe(&e))?.get(0);
        Ok(u64::try_from(rows).unwrap_or(0))
    }

    /// Rings the bell from another connection: whoever listens hears it, unless something in between swallows it.
    ///
    /// # Errors
    /// What happened.
    pub async fn ring(&self, channel: &str, payload: &str) -> Result<(), Failure> {
        let client = self.client().await?;
        let rung = client.execute("SELECT pg_notify($1, $2)", &[&channel, &payload]).await;
        rung.map(drop).map_err(|e| connect::describe(&e))
    }

    /// Deletes journal rows that `snapshot` sees, in slices of `slice` rows, and raises the floor in the same
    /// transactions. Returns how many went.
    ///
    /// # Errors
    /// What happened.
    pub async fn retire(&self, snapshot: &Snapshot, slice: i32) -> Result<u64, Failure> {
        let sql = in_schema("SELECT pgevict.retire($1::text::pg_snapshot, $2)::bigint", &self.schema);
        let client = self.client().await?;
        let mut total = 0;
        loop {
            let row =
                client.query_one(&sql, &[&snapshot.to_string(), &slice]).await.map_err(|e| connect::describe(&e))?;
            let gone = u64::try_from(row.get::<_, i64>(0)).unwrap_or(0);
            total += gone;
            if gone < u64::try_from(slice).unwrap_or(1) {
                return Ok(total);
            }
        }
    }

    /// Advances the tail of the NOTIFY queue and tells how full it is, 0 to 1. A queue that an idle listener filled stays
    /// full until somebody calls this function (HAZARDS N7).
    ///
    /// # Errors
    /// What happened.
    pub async fn notify_queue(&self) -> Result<f64, Failure> {
        let client = self.client().await?;
        let row =
            client.query_one("SELECT pg_notification_queue_usage()", &[]).await.map_err(|e| connect::describe(&e))?;
        Ok(row.get(0))
    }

    /// The layouts that the database knows, as `(id, text)`.
    ///
    /// # Errors
    /// What happened.
    pub async fn layouts(&self) -> Result<Vec<(i64, String)>, Failure> {
        let client = self.client().await?;
        let sql = in_schema("SELECT id, spec FROM pgevict.layout", &self.schema);
        let rows = client.query(&sql, &[]).await.map_err(|e| connect::describe(&e))?;
        Ok(rows.iter().map(|r| (r.get(0), r.get(1))).collect())
    }
}
