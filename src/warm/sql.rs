//! Values by `warm.sql`, each with the token of the statement that read it.

use super::Failure;
use super::replica::Standing;
use crate::config::model::WarmFormat;
use crate::flow::fork::Lineage;
use crate::planted;
use crate::rules::binding::Binding;
use crate::rules::query::{Query, array};
use bytes::BytesMut;
use deadpool_postgres::{Object, Pool, PoolError};
use futures_util::TryStreamExt as _;
use std::collections::HashMap;
use std::error::Error;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};

/// The server ends a statement itself; this much later it counts as dead.
const GRACE: Duration = Duration::from_secs(2);
/// A value that is longer is not stored: a query that forgot its WHERE, rather than a cache entry.
const LONGEST_VALUE: usize = 16 << 20;

/// Keys that `warm.startup.sql` may name: at 50 a second they take half an hour.
const MOST_NAMED: usize = 100_000;

/// What opens a connection of [`Database`].
#[must_use]
pub fn settings(statement_timeout: Duration) -> Vec<String> {
    let limit = format!("SET statement_timeout = {}", statement_timeout.as_millis());
    vec![include_str!("../../sql/warm.sql").to_owned(), limit]
}

/// A value as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Its text.
    pub value: String,
    /// What `token()` said in the same statement.
    pub token: Option<String>,
}

/// A text that the server reads as whatever type the parameter has, as it reads a literal.
#[derive(Debug)]
struct Text(String);

impl ToSql for Text {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

/// Where queries run.
#[derive(Debug)]
pub struct Database {
    pool: Pool,
    schema: String,
    limit: Duration,
    /// Only what a standby says counts.
    standby: bool,
    /// By query and format: the statement with its token, once its columns are known.
    asked: Mutex<HashMap<(String, WarmFormat), Arc<str>>>,
}

impl Database {
    /// Over connections that were opened with [`settings`].
    #[must_use]
    pub fn new(pool: Pool, schema: &str, statement_timeout: Duration) -> Self {
        Self {
            pool,
            schema: schema.to_owned(),
            limit: statement_timeout + GRACE,
            standby: false,
            asked: Mutex::default(),
        }
    }

    /// The same of a server that has to be a standby.
    #[must_use]
    pub fn of_a_standby(self) -> Self {
        Self { standby: true, ..self }
    }

    /// How it stands with a standby, by `look` (`sql/replica.sql`).
    ///
    /// # Errors
    /// No connection, no answer in time, or what the server says.
    pub async fn standing(&self, look: &str) -> Result<Standing, Failure> {
        let asking = async {
            let client = self.pool.get().await.map_err(|e| unreachable_pool(&e))?;
            let statement = client.prepare_cached(look).await.map_err(|e| refused(&e))?;
            let row = client.query_one(&statement, &[]).await.map_err(|e| refused(&e))?;
            let get = |i: usize| row.try_get::<_, Option<String>>(i).map_err(|e| refused(&e));
            let (db, timeline) = (get(1)?.unwrap_or_default(), get(2)?.unwrap_or_default());
            let replays = row.try_get(0).map_err(|e| refused(&e))?;
            Ok(Standing { replays, lineage: Lineage { db, timeline }, token: get(3)? })
        };
        let late = || Failure { why: format!("no answer within {:?}", self.limit), hopeless: false };
        tokio::time::timeout(self.limit, asking).await.unwrap_or_else(|_| Err(late()))
    }

    /// The values of `keys`, in the same order; None where the query returns no row, or NULL. Several keys only where the query is
    /// batched.
    ///
    /// # Errors
    /// No connection, no answer in time, or what the server says.
    pub async fn read(
        &self,
        query: &Query,
        format: WarmFormat,
        version: Option<&str>,
        keys: &[Binding],
    ) -> Result<Vec<Option<Read>>, Failure> {
        let mut client = None;
        let reading = async {
            let client = client.insert(self.pool.get().await.map_err(|e| unreachable_pool(&e))?);
            self.read_on(client, query, format, version, keys).await
        };
        let outcome = tokio::time::timeout(self.limit, reading).await;
        match outcome {
            Ok(Ok(read)) => Ok(read),
            Ok(Err(failure)) => {
                // A table may have got another shape since: the next try looks anew.
                self.shapes().remove(&(query.text.clone(), format));
                if let Some(client) = client {
                    client.statement_cache.clear();
                }
                Err(failure)
            }
            Err(_) => {
                // What still waits for an answer must not be handed to the next.
                drop(client.map(Object::take));
                Err(Failure { why: format!("no answer within {:?}", self.limit), hopeless: false })
            }
        }
    }

    /// Whether a connection can be had.
    ///
    /// # Errors
    /// Why not.
    pub async fn reach(&self) -> Result<(), Failure> {
        self.pool.get().await.map(drop).map_err(|e| unreachable_pool(&e))
    }

    /// The columns `names` of a query's rows, as text; rows with NULL in one of them are left out.
    ///
    /// # Errors
    /// As [`Database::read`]; also where there are too many rows.
    pub async fn named(
        &self,
        query: &Query,
        names: &[&str],
        version: Option<&str>,
    ) -> Result<Vec<Vec<String>>, Failure> {
        let reading = async {
            let client = self.pool.get().await.map_err(|e| unreachable_pool(&e))?;
            let statement = client.prepare(&query.columns(names)).await.map_err(|e| refused(&e))?;
            let version = Text(version.unwrap_or_default().to_owned());
            let values: Vec<&Text> = query.parameters.iter().map(|_| &version).collect();
            let rows = client.query_raw(&statement, values).await.map_err(|e| refused(&e))?;
            let mut rows = pin!(rows);
            let mut out = Vec::new();
            while let Some(row) = rows.try_next().await.map_err(|e| refused(&e))? {
                if out.len() == MOST_NAMED {
                    return Err(wrong(&format!("it names more than {MOST_NAMED} keys: add LIMIT")));
                }
                let values: Result<Option<Vec<String>>, _> = (0..names.len()).map(|i| row.try_get(i)).collect();
                out.extend(values.map_err(|e| refused(&e))?);
            }
            Ok(out)
        };
        match tokio::time::timeout(self.limit, reading).await {
            Ok(rows) => rows,
            Err(_) => Err(Failure { why: format!("no answer within {:?}", self.limit), hopeless: false }),
        }
    }

    fn shapes(&self) -> std::sync::MutexGuard<'_, HashMap<(String, WarmFormat), Arc<str>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read_on(
        &self,
        client: &Object,
        query: &Query,
        format: WarmFormat,
        version: Option<&str>,
        keys: &[Binding],
    ) -> Result<Vec<Option<Read>>, Failure> {
        let key = (query.text.clone(), format);
        let known = self.shapes().get(&key).cloned();
        let sql = match known {
            Some(sql) => sql,
            None => {
                let sql: Arc<str> = self.shape(client, query, format).await?.into();
                self.shapes().insert(key, sql.clone());
                sql
            }
        };
        let statement = client.prepare_cached(&sql).await.map_err(|e| refused(&e))?;
        let values: Vec<Text> = query.parameters.iter().map(|name| Text(value(query, name, version, keys))).collect();
        let rows = client.query_raw(&statement, values).await.map_err(|e| refused(&e))?;
        let mut rows = pin!(rows);
        let mut out: Vec<Option<Read>> = vec![None; keys.len()];
        let mut seen = 0;
        while let Some(row) = rows.try_next().await.map_err(|e| refused(&e))? {
            seen += 1;
            let slot = match &query.batch {
                None if seen > 1 => {
                    return Err(wrong("the query returns more than one row: aggregate them, or add LIMIT 1"));
                }
                None => 0,
                Some(name) => {
                    let told: Option<&str> = row.try_get(2).map_err(|e| refused(&e))?;
                    let Some(slot) = keys.iter().position(|k| k.get(name) == told) else { continue };
                    if out[slot].is_some() {
                        return Err(wrong(&format!("the query returns more than one row for a value of `{name}`")));
                    }
                    slot
                }
            };
            let (token, value): (Option<String>, Option<&str>) =
                (row.try_get(0).map_err(|e| refused(&e))?, row.try_get(1).map_err(|e| refused(&e))?);
            if value.is_some_and(|v| v.len() > LONGEST_VALUE) {
                return Err(wrong("the value is longer than 16 MiB"));
            }
            out[slot] = value.map(|value| Read { value: value.to_owned(), token });
        }
        if planted::is("warm-token-late") {
            let now = format!("SELECT {}.token()", crate::rules::sql::ident(&self.schema));
            let row = client.query_one(&now, &[]).await.map_err(|e| refused(&e))?;
            out.iter_mut().flatten().for_each(|read| read.token = row.get(0));
        }
        Ok(out)
    }

    /// The statement with its token: the columns are what the server says of the query alone.
    async fn shape(&self, client: &Object, query: &Query, format: WarmFormat) -> Result<String, Failure> {
        let statement = client.prepare(&query.text).await.map_err(|e| refused(&e))?;
        let plain = [Type::JSON, Type::JSONB, Type::TEXT, Type::VARCHAR, Type::BPCHAR, Type::NAME, Type::UNKNOWN];
        let columns: Vec<(&str, bool)> =
            statement.columns().iter().map(|c| (c.name(), plain.contains(c.type_()))).collect();
        let asked = match self.standby {
            true => query.with_token_of_a_standby(&columns, format, &self.schema),
            false => query.with_token(&columns, format, &self.schema),
        };
        asked.map_err(|why| wrong(&why))
    }
}

/// The text of a parameter.
fn value(query: &Query, name: &str, version: Option<&str>, keys: &[Binding]) -> String {
    let of = |key: &Binding| key.get(name).or(version).unwrap_or_default().to_owned();
    if query.batch.as_deref() == Some(name) {
        let values: Vec<&str> = keys.iter().filter_map(|k| k.get(name)).collect();
        return array(&values);
    }
    keys.first().map_or_else(|| version.unwrap_or_default().to_owned(), of)
}

fn wrong(why: &str) -> Failure {
    Failure { why: why.to_owned(), hopeless: true }
}

/// Why the pool gives no connection.
#[must_use]
pub fn unreachable_pool(e: &PoolError) -> Failure {
    let why = match e {
        PoolError::Backend(e) => refused(e).why,
        e => e.to_string(),
    };
    Failure { why: format!("no connection: {why}"), hopeless: false }
}

/// The server's words. Syntax, names, types and rights do not mend themselves in a moment.
fn refused(e: &tokio_postgres::Error) -> Failure {
    let Some(db) = e.as_db_error() else {
        let mut why = e.to_string();
        if let Some(cause) = e.source() {
            why = format!("{why}: {cause}");
        }
        return Failure { why, hopeless: false };
    };
    let code = db.code().code();
    let remedy = match code {
        "42501" if db.message().contains("schema") => ": GRANT USAGE ON SCHEMA … to the role",
        "42501" => ": GRANT SELECT to the role, or name another role in warm.url",
        "42P18" => ": say its type, `:name::bigint`",
        "57014" => ": warm.statement_timeout is over",
        "25006" => ": warm.sql only reads",
        _ => "",
    };
    // A data exception quotes the value, which is not ours to log.
    let message = if code.starts_with("22") { "a value does not fit" } else { db.message() };
    let hopeless = ["42", "22", "0A", "25"].iter().any(|class| code.starts_with(class));
    Failure { why: format!("{message} ({code}){remedy}"), hopeless }
}
