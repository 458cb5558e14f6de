//! A session with the primary: one connection that listens, holds the advisory locks and reads the journal.
//!
//! One connection on purpose: whatever ends it ends listening, the bell lock and reading together, and nothing can
//! go deaf alone.

use super::connect::{self, Connected};
use crate::config::model::{Delivery, Postgres};
use crate::flow::fork::Lineage;
use crate::planted;
use crate::rules::snapshot::Snapshot;
use crate::rules::sql;
use tokio_postgres::{Client, Statement};

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
    /// `process/start` of this session in the server: nobody else's, also after the process number came again.
    pub backend: String,
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
    /// None in notify delivery, which has no journal and so no bell.
    bell: Option<BellLock>,
}

/// The bell's lock, its statements prepared: a change that rings waits for neither to be planned.
#[derive(Debug)]
struct BellLock {
    /// Second half of its key, the journal's oid.
    key: i32,
    take: Statement,
    give: Statement,
}

/// Writes the configured schema where the SQL files say `pgevict.`.
#[must_use]
pub fn in_schema(text: &str, schema: &str) -> String {
    if schema == "pgevict" { text.to_owned() } else { text.replace("pgevict.", &format!("{}.", sql::ident(schema))) }
}

/// Who leads, as the server sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    /// The server's process.
    pub pid: i32,
    /// As [`Identity::backend`]; empty where this role may not see it.
    pub backend: String,
    /// The server works for it.
    pub busy: bool,
}

/// A connection that may become a session: as soon as nobody else leads.
#[derive(Debug)]
pub struct Candidate {
    /// The connection.
    pub connected: Connected,
    /// Second half of the leader's lock key: the oid of the layouts.
    key: i32,
    to: String,
}

impl Candidate {
    /// Connects and pins the session's settings. Servers behind `known` are passed over.
    ///
    /// # Errors
    /// [`Unfit`].
    pub async fn open(postgres: &Postgres, known: Option<&Lineage>) -> Result<Self, Unfit> {
        let connected = connect::connect_beyond(&postgres.url, known).await.map_err(|e| Unfit::Down(e.to_string()))?;
        let mut candidate = Self { connected, key: 0, to: postgres.url.to_string() };
        let client = &candidate.connected.client;
        let settings = include_str!("../../sql/session.sql");
        client.batch_execute(settings).await.map_err(|e| candidate.failed(&e))?;
        let schema = sql::ident(&postgres.schema);
        let row = client
            .query_one("SELECT to_regclass($1 || '.layout')::oid", &[&schema])
            .await
            .map_err(|e| candidate.failed(&e))?;
        let layouts: Option<u32> = row.get(0);
        candidate.key = layouts.ok_or_else(|| missing(postgres, &format!("schema {schema} of pgevict")))?.cast_signed();
        Ok(candidate)
    }

    fn failed(&self, e: &tokio_postgres::Error) -> Unfit {
        Unfit::Down(format!("PostgreSQL at {}: {}", self.to, self.connected.describe(e)))
    }

    /// Takes the lead if nobody has it.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn try_lead(&self) -> Result<bool, Unfit> {
        let ask = "SELECT pg_try_advisory_lock($1, $2)";
        let row = self.connected.client.query_one(ask, &[&(LOCK_CLASS + 1), &self.key]).await;
        Ok(row.map_err(|e| self.failed(&e))?.get(0))
    }

    /// Who has the lead.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn leader(&self) -> Result<Option<Leader>, Unfit> {
        let ask = include_str!("../../sql/leader.sql");
        let row = self.connected.client.query_opt(ask, &[&(LOCK_CLASS + 1), &self.key]).await;
        Ok(row.map_err(|e| self.failed(&e))?.map(|row| Leader {
            pid: row.get(0),
            backend: row.get::<_, Option<String>>(1).unwrap_or_default(),
            busy: row.get(2),
        }))
    }

    /// Ends the session of a leader that does not work, and waits until it is gone, two seconds at most. A role may do
    /// this to its own sessions.
    ///
    /// # Errors
    /// The connection is lost, or the other session is another role's.
    pub async fn end(&self, pid: i32) -> Result<(), Unfit> {
        let end = self.connected.client.execute("SELECT pg_terminate_backend($1, 2000)", &[&pid]).await;
        end.map(drop).map_err(|e| self.failed(&e))
    }

    /// Begins the session of the one who leads: listens, and learns who the server is, in this order, so that whatever
    /// is committed after the first snapshot rings.
    ///
    /// # Errors
    /// [`Unfit`].
    pub async fn begin(self, postgres: &Postgres) -> Result<Session, Unfit> {
        let failed = |e: &tokio_postgres::Error| self.failed(e);
        let client = &self.connected.client;
        if !planted::is("listen-late") {
            client.batch_execute(&format!("LISTEN {}", sql::ident(&postgres.channel))).await.map_err(|e| failed(&e))?;
        }
        let schema = sql::ident(&postgres.schema);
        let row = client.query_one(include_str!("../../sql/identity.sql"), &[&schema]).await.map_err(|e| failed(&e))?;
        let (journal, layouts): (Option<u32>, Option<u32>) = (row.get(4), row.get(5));
        if layouts.map(u32::cast_signed) != Some(self.key) {
            // The lock of a schema that is gone keeps nobody else out.
            return Err(Unfit::Down("pgevict's schema was replaced meanwhile".into()));
        }
        let bell = match (postgres.delivery, journal) {
            (Delivery::Notify, _) => None,
            (Delivery::Journal, Some(oid)) => {
                let take = client.prepare("SELECT pg_try_advisory_lock($1, $2)").await.map_err(|e| failed(&e))?;
                let give = client.prepare("SELECT pg_advisory_unlock($1, $2)").await.map_err(|e| failed(&e))?;
                Some(BellLock { key: oid.cast_signed(), take, give })
            }
            (Delivery::Journal, None) => return Err(missing(postgres, &format!("the journal ({schema}.journal)"))),
        };
        // Notify delivery keeps no position that a crash or a fork could make wrong: every start is a gap.
        let sentinel = match &bell {
            None => String::new(),
            Some(_) => sentinel(client, &postgres.schema).await.map_err(|e| match e.code() {
                Some(code) if code.code() == "42P01" => missing(postgres, "the sentinel"),
                _ => failed(&e),
            })?,
        };
        let snapshot: String = row.get(2);
        let journal_file: Option<u32> = row.get(7);
        let sentinel = match &bell {
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
            backend: row.get::<_, Option<String>>(8).unwrap_or_default(),
            snapshot: snapshot.parse().map_err(|e| Unfit::Down(format!("{e}")))?,
            prepared_transactions: row.get::<_, i32>(3) > 0,
        };
        Ok(Session { connected: self.connected, identity, schema: postgres.schema.clone(), bell })
    }
}

fn missing(postgres: &Postgres, what: &str) -> Unfit {
    Unfit::SchemaMissing(format!(
        "{what} is missing in database {}: apply the migration, `pgevict sql apply` or `pgevict sql up | psql`",
        postgres.url.dbname
    ))
}

impl Session {
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
        let Some(bell) = &self.bell else { return Ok(false) };
        Ok(self.connected.client.query_one(&bell.take, &[&LOCK_CLASS, &bell.key]).await?.get(0))
    }

    /// Gives the bell lock back, if it is `ours`: writers stop ringing. The future borrows nothing, so that deletes can go on
    /// beside it.
    ///
    /// # Errors
    /// The connection is lost.
    pub fn bell_unlock(&self, ours: bool) -> impl Future<Output = Result<(), tokio_postgres::Error>> + use<> {
        let lock = self.bell.as_ref().filter(|_| ours);
        let lock = lock.map(|bell| (self.connected.client.clone(), bell.give.clone(), bell.key));
        async move {
            let Some((client, give, key)) = lock else { return Ok(()) };
            client.query_one(&give, &[&LOCK_CLASS, &key]).await.map(drop)
        }
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
