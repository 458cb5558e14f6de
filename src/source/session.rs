//! A session with the primary: one connection that listens, holds the advisory locks and reads the journal.
//!
//! One connection on purpose: whatever ends it ends listening, the bell lock and reading together, and nothing can
//! go deaf alone.

use super::connect::{self, Connected};
use crate::config::model::{Delivery, Postgres};
use crate::flow::fork::Lineage;
use crate::rules::snapshot::Snapshot;
use crate::rules::sql;
use tokio_postgres::Client;

/// First half of the advisory lock keys; the second is the oid of the journal (bell) or of the layouts (leader), so
/// that two schemas in one database do not meet. Any number that other software is unlikely to use would do; the
/// triggers carry the same one.
pub const LOCK_CLASS: i32 = crate::rules::capture::BELL_LOCK;

/// Why a session cannot begin.
#[derive(Debug)]
pub enum Unfit {
    /// PostgreSQL cannot be used; says why and what to do.
    Down(String),
    /// The schema is missing or incomplete; says what to do.
    SchemaMissing(String),
    /// Another daemon leads.
    Standby,
}

/// Who the server is, and where its history stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `system identifier/database oid`.
    pub db: String,
    /// Timeline, eight hex digits.
    pub timeline: String,
    /// `nonce/oid` of the sentinel, and what else must stay the same for a position to mean something: the oid of the counter `lost`
    /// and the journal's file, as `/oid/file`.
    pub sentinel: String,
    /// The journal's file.
    pub journal_file: Option<u32>,
    /// The snapshot in which all this was read.
    pub snapshot: Snapshot,
    /// `max_prepared_transactions > 0`.
    pub prepared_transactions: bool,
}

/// An open session.
#[derive(Debug)]
pub struct Session {
    /// The connection.
    pub connected: Connected,
    /// Who it leads to.
    pub identity: Identity,
    /// The schema, quoted.
    pub schema: String,
    /// Second half of the bell's lock key, the journal's oid; None in notify delivery, which has no journal.
    bell: Option<i32>,
}

/// Writes the configured schema where the SQL files say `pgevict.`.
#[must_use]
pub fn in_schema(text: &str, schema: &str) -> String {
    if schema == "pgevict" { text.to_owned() } else { text.replace("pgevict.", &format!("{}.", sql::ident(schema))) }
}

impl Session {
    /// Connects, pins the session's settings, takes the leader lock, listens, and learns who the server is: in this
    /// order, so that whatever is committed after the first snapshot rings. Servers behind `known` are passed over.
    ///
    /// # Errors
    /// [`Unfit`].
    pub async fn open(postgres: &Postgres, known: Option<&Lineage>) -> Result<Self, Unfit> {
        let connected = connect::connect_beyond(&postgres.url, known).await.map_err(|e| Unfit::Down(e.to_string()))?;
        let failed = |e: &tokio_postgres::Error| {
            Unfit::Down(format!("PostgreSQL at {}: {}", postgres.url, connected.describe(e)))
        };
        let client = &connected.client;
        client.batch_execute(include_str!("../../sql/session.sql")).await.map_err(|e| failed(&e))?;
        let schema = sql::ident(&postgres.schema);
        let row = client.query_one(include_str!("../../sql/identity.sql"), &[&schema]).await.map_err(|e| failed(&e))?;
        let (journal, layouts): (Option<u32>, Option<u32>) = (row.get(4), row.get(5));
        let missing = |what: &str| {
            Unfit::SchemaMissing(format!(
                "{what} is missing in database {}: apply the migration, `pgevict sql apply` or `pgevict sql up | psql`",
                postgres.url.dbname
            ))
        };
        let Some(layouts) = layouts else { return Err(missing(&format!("schema {schema} of pgevict"))) };
        let bell = match (postgres.delivery, journal) {
            (Delivery::Notify, _) => None,
            (Delivery::Journal, Some(oid)) => Some(oid.cast_signed()),
            (Delivery::Journal, None) => return Err(missing(&format!("the journal ({schema}.journal)"))),
        };
        let leads: bool = client
            .query_one("SELECT pg_try_advisory_lock($1, $2)", &[&(LOCK_CLASS + 1), &layouts.cast_signed()])
            .await
            .map_err(|e| failed(&e))?
            .get(0);
        if !leads {
            return Err(Unfit::Standby);
        }
        client.batch_execute(&format!("LISTEN {}", sql::ident(&postgres.channel))).await.map_err(|e| failed(&e))?;
        // Notify delivery keeps no position that a crash or a fork could make wrong: every start is a gap.
        let sentinel = match bell {
            None => String::new(),
            Some(_) => sentinel(client, &postgres.schema).await.map_err(|e| match e.code() {
                Some(code) if code.code() == "42P01" => missing("the sentinel"),
                _ => failed(&e),
            })?,
        };
        let snapshot: String = row.get(2);
        let journal_file: Option<u32> = row.get(7);
        let sentinel = match bell {
            None => sentinel,
            Some(_) => {
                let lost = row.get::<_, Option<u32>>(6).unwrap_or_default();
                format!("{sentinel}/{lost}/{}", journal_file.unwrap_or_default())
            }
        };
        let identity = Identity {
            db: row.get(0),
            timeline: row.get(1),
            sentinel,
            journal_file,
            snapshot: snapshot.parse().map_err(|e| Unfit::Down(format!("{e}")))?,
            prepared_transactions: row.get::<_, i32>(3) > 0,
        };
        Ok(Self { connected, identity, schema: postgres.schema.clone(), bell })
    }

    /// What is visible now, as a snapshot's text.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn snapshot(&self) -> Result<String, tokio_postgres::Error> {
        Ok(self.connected.client.query_one("SELECT pg_current_snapshot()::text", &[]).await?.get(0))
    }

    /// Takes the bell lock exclusively if no writer holds it.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn try_bell_lock(&self) -> Result<bool, tokio_postgres::Error> {
        let Some(key) = self.bell else { return Ok(false) };
        let row = self.connected.client.query_one("SELECT pg_try_advisory_lock($1, $2)", &[&LOCK_CLASS, &key]).await?;
        Ok(row.get(0))
    }

    /// Gives the bell lock back: writers stop ringing.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn bell_unlock(&self) -> Result<(), tokio_postgres::Error> {
        let Some(key) = self.bell else { return Ok(()) };
        self.connected.client.query_one("SELECT pg_advisory_unlock($1, $2)", &[&LOCK_CLASS, &key]).await?;
        Ok(())
    }
}

/// The sentinel's `nonce/oid`; arms it with a new nonce where the table is empty (first start, crash, promotion).
async fn sentinel(client: &Client, schema: &str) -> Result<String, tokio_postgres::Error> {
    let read = in_schema(
        "SELECT nonce::text || '/' || 'pgevict.sentinel'::regclass::oid::text FROM pgevict.sentinel LIMIT 1",
        schema,
    );
    if let Some(row) = client.query_opt(&read, &[]).await? {
        return Ok(row.get(0));
    }
    client.execute(&in_schema("INSERT INTO pgevict.sentinel (nonce) VALUES (gen_random_uuid())", schema), &[]).await?;
    Ok(client.query_one(&read, &[]).await?.get(0))
}
