//! Whether a query could be asked: prepared and planned by the server as the role that will ask it, and not run.

use crate::config::model::WarmFormat;
use crate::rules::query::Query;
use std::error::Error;
use tokio_postgres::error::ErrorPosition;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Statement};

/// What is wrong with a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The server's words, or ours.
    pub why: String,
    /// What to do; may be empty.
    pub help: String,
    /// Where, in bytes of [`Query::source`].
    pub at: Option<usize>,
}

/// NULL, whatever the parameter's type: nothing is run that could look at it.
#[derive(Debug)]
struct Null;

impl ToSql for Null {
    fn to_sql(
        &self,
        _: &Type,
        _: &mut bytes::BytesMut,
    ) -> Result<tokio_postgres::types::IsNull, Box<dyn Error + Sync + Send>> {
        Ok(tokio_postgres::types::IsNull::Yes)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    tokio_postgres::types::to_sql_checked!();
}

/// Tries the query of `warm.sql`. `schema`: pgevict's, where its functions are installed.
///
/// # Errors
/// The connection broke.
pub async fn value(
    client: &Client,
    query: &Query,
    format: WarmFormat,
    schema: Option<&str>,
) -> Result<Option<Fault>, tokio_postgres::Error> {
    let statement = match client.prepare(&query.text).await {
        Ok(statement) => statement,
        Err(e) => return fault(e, query).map(Some),
    };
    let columns: Vec<(&str, bool)> = statement.columns().iter().map(|c| (c.name(), true)).collect();
    let asked = match query.with_token(&columns, format, schema.unwrap_or("pgevict")) {
        Ok(asked) => asked,
        Err(why) => return Ok(Some(Fault { why, help: String::new(), at: None })),
    };
    plan(client, query, if schema.is_some() { &asked } else { &query.text }).await
}

/// Tries the query of `warm.startup.sql`, which names a key by the columns `holes`.
///
/// # Errors
/// The connection broke.
pub async fn names(client: &Client, query: &Query, holes: &[&str]) -> Result<Option<Fault>, tokio_postgres::Error> {
    let statement = match client.prepare(&query.text).await {
        Ok(statement) => statement,
        Err(e) => return fault(e, query).map(Some),
    };
    if let Some(hole) = holes.iter().find(|hole| !statement.columns().iter().any(|c| c.name() == **hole)) {
        let why = format!("it returns no column `{hole}`, which the key needs");
        return Ok(Some(Fault { why, help: String::new(), at: None }));
    }
    plan(client, query, &query.columns(holes)).await
}

/// Rights are looked at when a plan is made ready to run.
async fn plan(client: &Client, query: &Query, sql: &str) -> Result<Option<Fault>, tokio_postgres::Error> {
    let planned = async {
        let statement: Statement = client.prepare(&format!("EXPLAIN {sql}")).await?;
        let nulls: Vec<&(dyn ToSql + Sync)> = statement.params().iter().map(|_| &Null as _).collect();
        client.query(&statement, &nulls).await
    };
    match planned.await {
        Ok(_) => Ok(None),
        // Its place is one in our statement, not in the operator's.
        Err(e) => fault(e, query).map(|fault| Some(Fault { at: None, ..fault })),
    }
}

fn fault(e: tokio_postgres::Error, query: &Query) -> Result<Fault, tokio_postgres::Error> {
    let Some(db) = e.as_db_error() else { return Err(e) };
    let code = db.code().code();
    let at = match db.position() {
        Some(ErrorPosition::Original(n)) => usize::try_from(*n).ok().and_then(|n| query.in_source(n)),
        _ => None,
    };
    let mut why = db.message().to_owned();
    // The operator wrote names, not numbers.
    for (i, name) in query.parameters.iter().enumerate().rev() {
        why = why.replace(&format!("${}", i + 1), &format!("`:{name}`"));
    }
    let help = match (code, db.hint()) {
        ("42P18", _) => "say its type, as in `:name::bigint`".to_owned(),
        ("42501", _) if why.contains("schema") => "GRANT USAGE ON SCHEMA … to the role that asks".to_owned(),
        ("42501", _) => "GRANT SELECT to the role that asks, or name another role in warm.url".to_owned(),
        (_, hint) => hint.unwrap_or_default().to_owned(),
    };
    Ok(Fault { why: format!("{why} ({code})"), help, at })
}
