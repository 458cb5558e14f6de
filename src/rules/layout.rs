//! What the capture of one table writes: the contract between trigger and daemon.
//!
//! A journal row carries *tuples*; a tuple is `[class, value, value, …]`, all text, NULL where a value is NULL. A
//! [`Class`] groups the edges of a table that fire for the same rows and need the same values, so that a statement
//! writes each distinct tuple once. The layout is stored in the database under its id: rows stay readable after
//! the configuration has moved on.

use crate::config::model::{Config, OnError, Ops, TableName, When};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Version of this contract; part of every layout's text and so of its id.
pub const VERSION: u32 = 1;

/// Everything that is captured of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The table, as the configuration names it.
    pub table: TableName,
    /// The groups of edges, in a stable order.
    pub classes: Vec<Class>,
    /// ENABLE ALWAYS.
    pub always: bool,
    /// Layers or failure.
    pub on_error: OnError,
}

/// Edges that fire for the same rows and need the same values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Class {
    /// Which operations count; TRUNCATE counts as delete and writes no tuples, only a whole-table row.
    pub ops: Ops,
    /// An UPDATE counts when one of these changed, by row; None: every updated row counts. The columns that
    /// `values` read are listed already.
    pub columns: Option<BTreeSet<String>>,
    /// Rows count that meet all of these before, or all of these after.
    pub when: Vec<When>,
    /// Where the values of a tuple come from, in order.
    pub values: Vec<Source>,
    /// The edges.
    pub edges: Vec<LayoutEdge>,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// `column::text` of the row.
    Column(String),
    /// `take::text` of the row of `to` whose `by` equals the row's `follow`.
    Lookup {
        /// Column of the row.
        follow: String,
        /// The parent.
        to: TableName,
        /// Column of the parent.
        take: String,
        /// Column of the parent; None: its primary key, found in the catalog when the SQL is made.
        by: Option<String>,
    },
}

/// One edge of a class.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LayoutEdge {
    /// The cache.
    pub cache: String,
    /// Hole of the cache's template → index into [`Class::values`]. Holes of the template that are missing here are
    /// not known at this table (parents of lookups) and become `*`.
    pub holes: BTreeMap<Arc<str>, usize>,
    /// The child table, when this edge exists only because that table's lookup passes through this one.
    pub via: Option<TableName>,
}

/// The layouts of all watched tables: the configured ones and the parents of their lookups.
#[must_use]
pub fn layouts(config: &Config) -> Vec<Layout> {
    let mut out: Vec<Layout> = Vec::new();
    for table in &config.tables {
        let layout = at(&mut out, &table.name);
        layout.always = table.always;
        layout.on_error = table.on_error;
        for edge in &table.edges {
            let Some(cache) = config.cache(&edge.cache) else { continue };
            let mut values: Vec<Source> = Vec::new();
            let mut holes = BTreeMap::new();
            for hole in cache.template.holes() {
                let source = source_of(table, edge, hole);
                let index = values.iter().position(|v| *v == source).unwrap_or_else(|| {
                    values.push(source);
                    values.len() - 1
                });
                holes.insert(hole.into(), index);
            }
            let columns = edge.columns.as_ref().or(table.columns.as_ref()).map(|listed| {
                let mut counted: BTreeSet<String> = listed.iter().cloned().collect();
                counted.extend(values.iter().map(|v| v.own_column().to_owned()));
                counted
            });
            let mut when = [table.when.clone(), edge.when.clone()].concat();
            when.sort();
            when.dedup();
            layout.add(
                Class { ops: edge.ops, columns, when, values, edges: Vec::new() },
                LayoutEdge { cache: edge.cache.clone(), holes, via: None },
            );
        }
    }
    for table in &config.tables {
        for edge in &table.edges {
            let Some(cache) = config.cache(&edge.cache) else { continue };
            watch_parents(&mut out, table, edge, &cache.template.holes());
        }
    }
    out
}

fn source_of(table: &crate::config::model::Table, edge: &crate::config::model::Edge, hole: &str) -> Source {
    match (edge.with.get(hole), table.lookups.iter().find(|l| l.hole == hole)) {
        (Some(column), _) => Source::Column(column.clone()),
        (None, Some(l)) => {
            Source::Lookup { follow: l.follow.clone(), to: l.to.clone(), take: l.take.clone(), by: l.by.clone() }
        }
        (None, None) => Source::Column(hole.to_owned()),
    }
}

/// A change of the looked-up column, an insert or a delete of the parent moves the same cache: holes that come from
/// the child itself are unknown there.
fn watch_parents(
    out: &mut Vec<Layout>,
    table: &crate::config::model::Table,
    edge: &crate::config::model::Edge,
    template_holes: &[&str],
) {
    // Looked-up holes that walk the same way (same column, same parent, same key) are known together.
    type Walk = (String, TableName, Option<String>);
    let mut by_walk: BTreeMap<Walk, Vec<(String, String)>> = BTreeMap::new();
    for hole in template_holes {
        if let Source::Lookup { follow, to, take, by } = source_of(table, edge, hole) {
            by_walk.entry((follow, to, by)).or_default().push(((*hole).to_owned(), take));
        }
    }
    for ((_, to, by), taken) in by_walk {
        let mut values = Vec::new();
        let mut holes = BTreeMap::new();
        for (hole, take) in taken {
            let source = Source::Column(take);
            let index = values.iter().position(|v| *v == source).unwrap_or_else(|| {
                values.push(source);
                values.len() - 1
            });
            holes.insert(hole.into(), index);
        }
        let mut counted: BTreeSet<String> = values.iter().map(|v| v.own_column().to_owned()).collect();
        counted.extend(by.clone());
        let class = Class { ops: Ops::ALL, columns: Some(counted), when: Vec::new(), values, edges: Vec::new() };
        let edge = LayoutEdge { cache: edge.cache.clone(), holes, via: Some(table.name.clone()) };
        at(out, &to).add(class, edge);
    }
}

fn at<'a>(out: &'a mut Vec<Layout>, table: &TableName) -> &'a mut Layout {
    let i = out.iter().position(|l| l.table == *table).unwrap_or_else(|| {
        out.push(Layout { table: table.clone(), classes: Vec::new(), always: false, on_error: OnError::Open });
        out.len() - 1
    });
    &mut out[i]
}

impl Source {
    /// The column of the watched row that this source reads.
    #[must_use]
    pub fn own_column(&self) -> &str {
        match self {
            Self::Column(c) => c,
            Self::Lookup { follow, .. } => follow,
        }
    }
}

impl Layout {
    fn add(&mut self, class: Class, edge: LayoutEdge) {
        let same = |c: &&mut Class| {
            c.ops == class.ops && c.columns == class.columns && c.when == class.when && c.values == class.values
        };
        match self.classes.iter_mut().find(same) {
            Some(existing) if existing.edges.contains(&edge) => {}
            Some(existing) => existing.edges.push(edge),
            None => self.classes.push(Class { edges: vec![edge], ..class }),
        }
    }

    /// Number of values of the widest class: every tuple has one element more.
    #[must_use]
    pub fn width(&self) -> usize {
        self.classes.iter().map(|c| c.values.len()).max().unwrap_or(0)
    }

    /// The columns of the table that the capture reads, for any reason.
    #[must_use]
    pub fn columns(&self) -> BTreeSet<&str> {
        self.classes
            .iter()
            .flat_map(|c| {
                let counted = c.columns.iter().flatten().map(String::as_str);
                counted.chain(c.when.iter().map(|w| w.column.as_str())).chain(c.values.iter().map(Source::own_column))
            })
            .collect()
    }

    /// The layout as stored in the database; equal layouts have equal text.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(&Stored::from(self)).unwrap_or_default()
    }

    /// Reads what [`Layout::to_json`] wrote, this version's or the one before.
    ///
    /// # Errors
    /// Says what does not fit.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let stored: Stored = serde_json::from_str(text).map_err(|e| e.to_string())?;
        if stored.v != VERSION {
            return Err(format!("layout version {} is not known to this pgevict", stored.v));
        }
        let layout = Self::from(stored);
        let sound = |c: &Class| c.edges.iter().all(|e| e.holes.values().all(|i| *i < c.values.len()));
        if layout.classes.iter().all(sound) { Ok(layout) } else { Err("a hole points past its class's values".into()) }
    }

    /// The id under which the layout is stored: the first 8 bytes of SHA-256 over its text, sign bit cleared.
    #[must_use]
    pub fn id(&self) -> i64 {
        let digest = sha2::Sha256::digest(self.to_json().as_bytes());
        let first: [u8; 8] = std::array::from_fn(|i| digest[i]);
        i64::from_be_bytes(first) & i64::MAX
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    v: u32,
    schema: String,
    table: String,
    always: bool,
    closed: bool,
    classes: Vec<StoredClass>,
}

#[derive(Serialize, Deserialize)]
struct StoredClass {
    ops: String,
    columns: Option<BTreeSet<String>>,
    when: Vec<(String, Vec<String>)>,
    values: Vec<StoredSource>,
    edges: Vec<StoredEdge>,
}

#[derive(Serialize, Deserialize)]
struct StoredSource {
    column: String,
    lookup: Option<StoredLookup>,
}

#[derive(Serialize, Deserialize)]
struct StoredLookup {
    to: (String, String),
    take: String,
    by: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct StoredEdge {
    cache: String,
    holes: BTreeMap<String, usize>,
    via: Option<(String, String)>,
}

impl From<&Layout> for Stored {
    fn from(l: &Layout) -> Self {
        let class = |c: &Class| StoredClass {
            ops: [(c.ops.insert, 'i'), (c.ops.update, 'u'), (c.ops.delete, 'd')]
                .into_iter()
                .filter_map(|(on, letter)| on.then_some(letter))
                .collect(),
            columns: c.columns.clone(),
            when: c.when.iter().map(|w| (w.column.clone(), w.values.clone())).collect(),
            values: c
                .values
                .iter()
                .map(|v| match v {
                    Source::Column(column) => StoredSource { column: column.clone(), lookup: None },
                    Source::Lookup { follow, to, take, by } => StoredSource {
                        column: follow.clone(),
                        lookup: Some(StoredLookup {
                            to: (to.schema.to_string(), to.name.to_string()),
                            take: take.clone(),
                            by: by.clone(),
                        }),
                    },
                })
                .collect(),
            edges: c
                .edges
                .iter()
                .map(|e| StoredEdge {
                    cache: e.cache.clone(),
                    holes: e.holes.iter().map(|(hole, at)| (hole.to_string(), *at)).collect(),
                    via: e.via.as_ref().map(|t| (t.schema.to_string(), t.name.to_string())),
                })
                .collect(),
        };
        Self {
            v: VERSION,
            schema: l.table.schema.to_string(),
            table: l.table.name.to_string(),
            always: l.always,
            closed: l.on_error == OnError::Closed,
            classes: l.classes.iter().map(class).collect(),
        }
    }
}

impl From<Stored> for Layout {
    fn from(s: Stored) -> Self {
        let name = |(schema, name): (String, String)| TableName { schema: schema.into(), name: name.into() };
        let class = |c: StoredClass| Class {
            ops: Ops { insert: c.ops.contains('i'), update: c.ops.contains('u'), delete: c.ops.contains('d') },
            columns: c.columns,
            when: c.when.into_iter().map(|(column, values)| When { column, values }).collect(),
            values: c
                .values
                .into_iter()
                .map(|v| match v.lookup {
                    None => Source::Column(v.column),
                    Some(l) => Source::Lookup { follow: v.column, to: name(l.to), take: l.take, by: l.by },
                })
                .collect(),
            edges: c
                .edges
                .into_iter()
                .map(|e| LayoutEdge {
                    cache: e.cache,
                    holes: e.holes.into_iter().map(|(hole, at)| (hole.into(), at)).collect(),
                    via: e.via.map(name),
                })
                .collect(),
        };
        Self {
            table: TableName { schema: s.schema.into(), name: s.table.into() },
            classes: s.classes.into_iter().map(class).collect(),
            always: s.always,
            on_error: if s.closed { OnError::Closed } else { OnError::Open },
        }
    }
}
