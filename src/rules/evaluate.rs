//! What a change of one row evicts, worked out without servers: the twin of the trigger for `explain` and `[[test]]`.
//!
//! Classes come from the same layout that the trigger is compiled from, keys from the same mapping that the daemon
//! uses; only the part between them, which PL/pgSQL does in production, is done here.

use super::layout::{Class, Layout, LayoutEdge, Source, layouts};
use super::mapping::{EdgeRef, Exempt, Mapped, Mapper};
use super::template::{Fill, Rendered};
use crate::config::model::{Config, Op, Row, TableName};
use std::collections::BTreeMap;
use std::fmt;

/// What happened to the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// It came.
    Insert(&'a Row),
    /// It changed, from the first to the second.
    Update(&'a Row, &'a Row),
    /// It went.
    Delete(&'a Row),
    /// It went with all others.
    Truncate,
}

/// One of the two sides of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Image {
    /// Before.
    Old,
    /// After.
    New,
}

/// What a change comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluation {
    /// The operation.
    pub op: Op,
    /// What goes, sorted by key, cache and version.
    pub evict: Vec<Evicted>,
    /// What would have gone, but a hole was NULL or the key is exempt.
    pub skipped: Vec<Skipped>,
    /// Edges that such a change does not concern.
    pub unaffected: Vec<Unaffected>,
}

/// A key or pattern that goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Evicted {
    /// The full Redis key or pattern.
    pub rendered: Rendered,
    /// The cache.
    pub cache: String,
    /// The namespace version.
    pub version: Option<String>,
    /// The same without namespace prefix.
    pub bare: Rendered,
    /// Why; at least one.
    pub reasons: Vec<Reason>,
}

/// Why something goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reason {
    /// The child table whose lookup passes through this one.
    pub via: Option<TableName>,
    /// The images that say so; none for the whole form.
    pub images: Vec<Image>,
    /// The holes with their values; None: not known at this table, so `*`.
    pub values: Vec<(String, Option<String>)>,
}

/// An eviction that does not happen although the edge fires.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Skipped {
    /// The cache.
    pub cache: String,
    /// Why.
    pub reason: SkipReason,
}

/// Why an edge that fires evicts nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SkipReason {
    /// This hole is NULL in this image.
    Null {
        /// The hole.
        hole: String,
        /// Where.
        image: Image,
    },
    /// The key or pattern is exempt.
    Exempt {
        /// By what.
        by: Exempt,
        /// The full key or pattern.
        rendered: Rendered,
    },
}

/// An edge that does not fire.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unaffected {
    /// The cache.
    pub cache: String,
    /// The child table whose lookup passes through this one.
    pub via: Option<TableName>,
    /// Why.
    pub filter: Filter,
}

/// The filters of an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Filter {
    /// `ops` does not list the operation.
    Ops,
    /// None of the listed columns changed.
    Columns,
    /// Neither image meets `when`.
    When,
}

/// Why a change cannot be evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EvaluateError {
    /// The table is neither configured nor the parent of a lookup.
    UnknownTable(TableName),
    /// An image lacks the column of a hole.
    MissingHole {
        /// The table.
        table: TableName,
        /// The cache.
        cache: String,
        /// The hole.
        hole: String,
        /// What the row must have for it: a column, or for a lookup the hole's own name.
        wanted: String,
        /// Whether the hole comes through a lookup.
        lookup: bool,
        /// Which image.
        image: Image,
    },
    /// An image lacks a column of `when`.
    MissingWhen {
        /// The table.
        table: TableName,
        /// The cache.
        cache: String,
        /// The column.
        column: String,
        /// Which image.
        image: Image,
    },
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Old => "old",
            Self::New => "new",
        })
    }
}

impl Filter {
    /// As JSON spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ops => "ops",
            Self::Columns => "columns",
            Self::When => "when",
        }
    }
}

impl SkipReason {
    /// As JSON spells it.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Null { .. } => "null",
            Self::Exempt { by, .. } => by.as_str(),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(child) = &self.via {
            write!(f, "through {child}: ")?;
        }
        for (hole, value) in &self.values {
            match value {
                Some(value) => write!(f, "{hole}={} ", value.escape_debug())?,
                None => write!(f, "{hole} unknown ")?,
            }
        }
        match self.images.as_slice() {
            [] => write!(f, "(whole table)"),
            [one] => write!(f, "({one})"),
            _ => write!(f, "(old and new)"),
        }
    }
}

impl fmt::Display for EvaluateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownTable(table) => write!(f, "no table `{table}` in the configuration"),
            Self::MissingHole { table, cache, hole, wanted, lookup, image } => {
                write!(f, "the {image} row of {table} lacks ")?;
                if *lookup {
                    write!(f, "`{hole}`, which cache {cache} gets through a lookup: give its value as `{wanted}`")
                } else if wanted == hole {
                    write!(f, "`{hole}`, a hole of cache {cache}")
                } else {
                    write!(f, "`{wanted}`, the column of hole `{hole}` of cache {cache}")
                }
            }
            Self::MissingWhen { table, cache, column, image } => {
                write!(f, "the {image} row of {table} lacks `{column}`, which `when` tests for cache {cache}")
            }
        }
    }
}

impl std::error::Error for EvaluateError {}

impl<'a> Event<'a> {
    /// The event that these images and this flag describe; None where they describe none.
    #[must_use]
    pub fn from_images(old: Option<&'a Row>, new: Option<&'a Row>, truncate: bool) -> Option<Self> {
        match (old, new, truncate) {
            (None, None, true) => Some(Self::Truncate),
            (None, Some(new), false) => Some(Self::Insert(new)),
            (Some(old), None, false) => Some(Self::Delete(old)),
            (Some(old), Some(new), false) => Some(Self::Update(old, new)),
            _ => None,
        }
    }

    /// The operation.
    #[must_use]
    pub fn op(self) -> Op {
        match self {
            Self::Insert(_) => Op::Insert,
            Self::Update(..) => Op::Update,
            Self::Delete(_) => Op::Delete,
            Self::Truncate => Op::Truncate,
        }
    }

    fn images(self) -> Vec<(Image, &'a Row)> {
        match self {
            Self::Insert(new) => vec![(Image::New, new)],
            Self::Update(old, new) => vec![(Image::Old, old), (Image::New, new)],
            Self::Delete(old) => vec![(Image::Old, old)],
            Self::Truncate => Vec::new(),
        }
    }
}

/// Evaluates every edge that watches `table`.
///
/// # Errors
/// What the images lack. Only edges that fire need their holes.
pub fn evaluate(config: &Config, table: &TableName, event: Event<'_>) -> Result<Evaluation, EvaluateError> {
    let layouts = layouts(config);
    let layout = layouts.iter().find(|l| l.table == *table);
    let layout = layout.ok_or_else(|| EvaluateError::UnknownTable(table.clone()))?;
    let mut run =
        Run { config, mapper: Mapper::new(config), layout, event, evict: BTreeMap::new(), skipped: Vec::new() };
    let mut unaffected = Vec::new();
    for (c, class) in layout.classes.iter().enumerate() {
        for (e, edge) in class.edges.iter().enumerate() {
            match run.filtered(class, edge)? {
                Some(filter) => {
                    unaffected.push(Unaffected { cache: edge.cache.clone(), via: edge.via.clone(), filter })
                }
                None => run.fire(EdgeRef { class: c, edge: e }, class, edge)?,
            }
        }
    }
    run.skipped.sort();
    run.skipped.dedup();
    unaffected.sort();
    unaffected.dedup();
    let mut evict: Vec<Evicted> = run.evict.into_values().collect();
    evict.sort_by(|a, b| a.rendered.bytes().cmp(b.rendered.bytes()).then_with(|| a.cmp(b)));
    Ok(Evaluation { op: event.op(), evict, skipped: run.skipped, unaffected })
}

struct Run<'a> {
    config: &'a Config,
    mapper: Mapper<&'a Config>,
    layout: &'a Layout,
    event: Event<'a>,
    /// By full key, cache and version.
    evict: BTreeMap<(Rendered, usize, usize), Evicted>,
    skipped: Vec<Skipped>,
}

impl Run<'_> {
    /// The filter that keeps the edge from firing. TRUNCATE passes `columns` and `when`.
    fn filtered(&self, class: &Class, edge: &LayoutEdge) -> Result<Option<Filter>, EvaluateError> {
        if !class.ops.has(self.event.op()) {
            return Ok(Some(Filter::Ops));
        }
        if let (Event::Update(old, new), Some(columns)) = (self.event, &class.columns) {
            // A looked-up hole stands for its column where neither image has the column itself.
            let looked_up = |hole: &str, column: &String| {
                !old.contains_key(column) && !new.contains_key(column) && old.get(hole) != new.get(hole)
            };
            let changed = columns.iter().any(|c| old.get(c) != new.get(c))
                || edge.holes.iter().any(|(hole, i)| match &class.values[*i] {
                    Source::Lookup { follow, .. } => looked_up(hole, follow),
                    Source::Column(_) => false,
                });
            if !changed {
                return Ok(Some(Filter::Columns));
            }
        }
        let images = self.event.images();
        let mut met = images.is_empty() || class.when.is_empty();
        for (image, row) in images {
            let mut all = true;
            for condition in &class.when {
                let value = row.get(&condition.column).ok_or_else(|| EvaluateError::MissingWhen {
                    table: self.layout.table.clone(),
                    cache: edge.cache.clone(),
                    column: condition.column.clone(),
                    image,
                })?;
                all &= value.as_ref().is_some_and(|v| condition.values.contains(v));
            }
            met |= all;
        }
        Ok((!met).then_some(Filter::When))
    }

    fn fire(&mut self, at: EdgeRef, class: &Class, edge: &LayoutEdge) -> Result<(), EvaluateError> {
        let images = self.event.images();
        if images.is_empty() {
            self.target(at, edge, None, &BTreeMap::new());
        }
        for (image, row) in images {
            let mut values: BTreeMap<&str, Option<&str>> = BTreeMap::new();
            for (hole, i) in &edge.holes {
                values.insert(hole, self.value(edge, hole, &class.values[*i], image, row)?);
            }
            match values.iter().find(|(_, v)| v.is_none()) {
                Some((hole, _)) => {
                    let reason = SkipReason::Null { hole: (*hole).to_owned(), image };
                    self.skipped.push(Skipped { cache: edge.cache.clone(), reason });
                }
                None => self.target(at, edge, Some(image), &values),
            }
        }
        Ok(())
    }

    /// The value of a hole in one image; None is NULL.
    fn value<'r>(
        &self,
        edge: &LayoutEdge,
        hole: &str,
        source: &Source,
        image: Image,
        row: &'r Row,
    ) -> Result<Option<&'r str>, EvaluateError> {
        let (wanted, lookup) = match source {
            Source::Column(column) => (column.as_str(), false),
            Source::Lookup { follow, .. } => {
                if row.get(follow) == Some(&None) {
                    return Ok(None);
                }
                (hole, true)
            }
        };
        row.get(wanted).map(Option::as_deref).ok_or_else(|| EvaluateError::MissingHole {
            table: self.layout.table.clone(),
            cache: edge.cache.clone(),
            hole: hole.to_owned(),
            wanted: wanted.to_owned(),
            lookup,
            image,
        })
    }

    fn target(&mut self, at: EdgeRef, edge: &LayoutEdge, image: Option<Image>, values: &BTreeMap<&str, Option<&str>>) {
        let Some(cache) = self.config.cache(&edge.cache) else { return };
        let known = |hole: &str| values.get(hole).copied().flatten().map(str::as_bytes);
        let mut mapped = Mapped::default();
        self.mapper.edge(at, edge, |hole| known(hole).map(Some), &mut mapped);
        let bare = cache.template.render(b"", |hole| known(hole).map_or(Fill::Unknown, Fill::Value));
        let shown = |hole: &str| (hole.to_owned(), values.get(hole).copied().flatten().map(str::to_owned));
        let reason = Reason {
            via: edge.via.clone(),
            images: image.into_iter().collect(),
            values: match image {
                Some(_) => cache.template.holes().into_iter().map(shown).collect(),
                None => Vec::new(),
            },
        };
        for (_, target) in mapped.protected {
            // The list was made by the same question.
            let by = self.mapper.protection().rendered(&target.rendered).unwrap_or(Exempt::NeverDelete);
            let reason = SkipReason::Exempt { by, rendered: target.rendered };
            self.skipped.push(Skipped { cache: cache.name.clone(), reason });
        }
        for (_, target) in mapped.targets {
            let version = self.config.namespace.prefixes[target.prefix].0.clone();
            let key = (target.rendered.clone(), target.cache, target.prefix);
            let evicted = self.evict.entry(key).or_insert_with(|| Evicted {
                rendered: target.rendered,
                cache: cache.name.clone(),
                version,
                bare: bare.clone(),
                reasons: Vec::new(),
            });
            evicted.add(reason.clone());
        }
    }
}

impl Evicted {
    /// The same reason from the other image makes one reason of both.
    fn add(&mut self, reason: Reason) {
        let same = |r: &&mut Reason| r.via == reason.via && r.values == reason.values;
        match self.reasons.iter_mut().find(same) {
            Some(known) => {
                known.images.extend(reason.images);
                known.images.sort();
                known.images.dedup();
            }
            None => self.reasons.push(reason),
        }
    }
}

#[cfg(test)]
mod tests;
