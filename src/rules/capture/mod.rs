//! From a [`Layout`] to the SQL that captures its table's changes. Pure: the facts of the catalog are arguments.
//!
//! One migration is a list of statements, each safe to run again: the schema (`sql/schema.sql`, `sql/journal.sql`),
//! one `DO` a watched table (`sql/table.sql` round the functions of `sql/capture*.sql`), and one that removes what
//! the configuration no longer names (`sql/leftovers.sql`).

mod function;
mod migration;
mod query;

pub use function::{BELL_LOCK, Capture, Function, Level, Trigger, compile, function_name};
pub use migration::{
    Step, bury_source, down, leftovers, relief_source, retire_source, schema, script, table, token_source, up,
};

use crate::config::model::{Bell, CaptureLevel, Config, Delivery, TableName};
use crate::rules::layout::{Layout, Source};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What the SQL needs to know beside the layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Schema of journal and functions.
    pub schema: String,
    /// NOTIFY channel.
    pub channel: String,
    /// Whether writers may ring.
    pub bell: Bell,
    /// Journal or payload.
    pub delivery: Delivery,
    /// The daemon's role, to be granted what it reads.
    pub role: String,
    /// What the journal may take where no daemon keeps it in order.
    pub journal_max_bytes: u64,
    /// Tables whose triggers fire once a row whatever they are.
    pub by_row: BTreeSet<TableName>,
}

impl Settings {
    /// The settings of a configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let p = &config.postgres;
        Self {
            schema: p.schema.clone(),
            channel: p.channel.clone(),
            bell: p.bell,
            delivery: p.delivery,
            role: p.url.user.clone(),
            journal_max_bytes: p.journal_max_bytes,
            by_row: config.tables.iter().filter(|t| t.capture == CaptureLevel::Row).map(|t| t.name.clone()).collect(),
        }
    }
}

/// What the catalog knows about the tables of the layouts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Columns of primary keys; a table without one is missing.
    pub primary_keys: BTreeMap<TableName, Vec<String>>,
    /// Virtual generated columns (PostgreSQL 18) → their expression. They read NULL in transition tables.
    pub virtual_columns: BTreeMap<TableName, BTreeMap<String, String>>,
    /// Timescale hypertables: they refuse transition tables, some versions all of them, others on chunks only.
    pub hypertables: BTreeSet<TableName>,
}

/// Why a layout cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uncompilable {
    /// The watched table.
    pub table: TableName,
    /// The parent whose key is not known.
    pub parent: TableName,
    /// Its primary key as the catalog has it; empty: none, or the database was not asked.
    pub primary_key: Vec<String>,
}

impl fmt::Display for Uncompilable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table {}: the lookup through {} has no `by`, and ", self.table, self.parent)?;
        if self.primary_key.is_empty() {
            write!(f, "no primary key of {} is known", self.parent)?;
        } else {
            write!(f, "the primary key of {} has {} columns", self.parent, self.primary_key.len())?;
        }
        write!(f, "; write `by = \"COLUMN\"` in the lookup")
    }
}

/// Whether some lookup can only be compiled with the catalog's help.
#[must_use]
pub fn needs_catalog(layouts: &[Layout]) -> bool {
    layouts
        .iter()
        .flat_map(|l| &l.classes)
        .flat_map(|c| &c.values)
        .any(|v| matches!(v, Source::Lookup { by: None, .. }))
}

/// The tables of which [`Facts`] are needed: the watched ones and their parents (which are watched too).
#[must_use]
pub fn tables(layouts: &[Layout]) -> BTreeSet<TableName> {
    layouts.iter().map(|l| l.table.clone()).collect()
}
