//! Facts read from the database: what the watched tables are like, which captures are installed, and whether each
//! edge is live.

mod drift;
mod inspect;

pub use drift::{Drift, drift};
pub use inspect::{EdgeState, Relation, TableState, inspect, probe};

use crate::config::model::TableName;
use crate::rules::capture::Facts;
use serde::Deserialize;
use std::collections::BTreeMap;
use tokio_postgres::{Client, Error};

/// One watched table, as `sql/catalog.sql` shows it.
#[derive(Debug, Default, Deserialize)]
struct Found {
    root: Option<u32>,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    hypertable: Option<bool>,
    #[serde(default)]
    columns: Option<Vec<String>>,
    #[serde(default)]
    primary_key: Option<Vec<String>>,
    #[serde(default, rename = "virtual")]
    generated: Option<BTreeMap<String, String>>,
    #[serde(default)]
    relations: Option<Vec<FoundRelation>>,
}

#[derive(Debug, Deserialize)]
struct FoundRelation {
    oid: u32,
    name: String,
    kind: String,
    filenode: Option<u32>,
    #[serde(default)]
    joined: Option<String>,
    moved: [i64; 3],
    triggers: Option<Vec<FoundTrigger>>,
}

#[derive(Debug, Deserialize)]
struct FoundTrigger {
    name: String,
    schema: String,
    function: String,
    #[serde(rename = "type")]
    bits: i16,
    enabled: String,
    old: Option<String>,
    new: Option<String>,
    made: String,
}

/// What is installed, as the first row of `sql/catalog.sql` shows it.
#[derive(Debug, Default, Deserialize)]
struct Installed {
    relations: Option<Vec<String>>,
    retire: Option<String>,
    relieve: Option<String>,
    bury: Option<String>,
    token: Option<String>,
    captures: Option<Vec<Captured>>,
}

#[derive(Debug, Deserialize)]
struct Captured {
    name: String,
    mark: String,
    config: Option<Vec<String>>,
    definer: bool,
    hash: String,
    triggers: Option<Vec<Placed>>,
}

#[derive(Debug, Deserialize)]
struct Placed {
    relation: String,
    oid: u32,
    name: String,
}

impl Captured {
    /// The layout that the mark names.
    fn layout(&self) -> Option<i64> {
        self.mark.split(' ').find_map(|word| word.strip_prefix("layout=")).and_then(|id| id.parse().ok())
    }

    /// Whether it runs as its owner, with these settings pinned and no others.
    fn pins(&self, settings: &[&str]) -> bool {
        self.definer && self.config.as_deref().unwrap_or_default().iter().eq(settings.iter())
    }
}

/// What the compiler needs to know about `tables`; the session's `search_path` must be `pg_catalog`, so that
/// expressions of virtual columns come qualified.
///
/// # Errors
/// The database's.
pub async fn facts(client: &Client, tables: impl IntoIterator<Item = TableName>) -> Result<Facts, Error> {
    let tables: Vec<TableName> = tables.into_iter().collect();
    // What is installed does not matter here.
    let (_, found) = read(client, "", &tables).await?;
    Ok(facts_of(&tables, &found))
}

fn facts_of(tables: &[TableName], found: &[Found]) -> Facts {
    let mut facts = Facts::default();
    for (table, found) in tables.iter().zip(found) {
        if let Some(key) = &found.primary_key {
            facts.primary_keys.insert(table.clone(), key.clone());
        }
        if found.hypertable == Some(true) {
            facts.hypertables.insert(table.clone());
        }
        if let Some(columns) = &found.generated {
            facts.virtual_columns.insert(table.clone(), columns.clone());
        }
    }
    facts
}

/// What is installed in `schema`, and the tables.
async fn read(client: &Client, schema: &str, tables: &[TableName]) -> Result<(Installed, Vec<Found>), Error> {
    let (schemas, names): (Vec<&str>, Vec<&str>) = tables.iter().map(|t| (&*t.schema, &*t.name)).unzip();
    let rows = client.query(include_str!("../../../sql/catalog.sql"), &[&schemas, &schema, &names]).await?;
    // The shape is our own; what cannot be read would be a table that is not there.
    let installed = rows.first().and_then(|row| serde_json::from_str(row.get(0)).ok()).unwrap_or_default();
    Ok((installed, rows.iter().skip(1).map(|row| serde_json::from_str(row.get(0)).unwrap_or_default()).collect()))
}
