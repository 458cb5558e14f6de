//! Tuples and whole-table rows become Redis keys and patterns: one for every live edge and namespace version.
//!
//! The layout says what a trigger captured; the configuration says what the caches are called *now*. Where the two
//! have moved apart, a hole that the capture did not know becomes `*`, and an edge whose cache is gone is reported.

use super::binding::Binding;
use super::glob;
use super::layout::{Class, Layout, LayoutEdge};
use super::payload::Tuple;
use super::template::{Fill, Kind, Rendered};
use crate::config::model::{Config, Limits, Op, Redis};
use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::vec;

/// An edge of a layout, by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EdgeRef {
    /// In [`Layout::classes`].
    pub class: usize,
    /// In [`Class::edges`].
    pub edge: usize,
}

impl EdgeRef {
    /// The edge itself; None if it belongs to another layout.
    #[must_use]
    pub fn of(self, layout: &Layout) -> Option<&LayoutEdge> {
        layout.classes.get(self.class)?.edges.get(self.edge)
    }
}

/// What one edge wants gone, in one namespace version.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// In [`Config::caches`].
    pub cache: usize,
    /// In [`crate::config::model::Namespace::prefixes`].
    pub prefix: usize,
    /// The full Redis key or pattern.
    pub rendered: Rendered,
    /// The cache guards its fills, and a hole was not known: no fill names what was rendered, so only the floor can refuse late ones.
    pub widened: bool,
    /// The values, all of them known, of what may be warmed: its cache is, and this is the newest version.
    pub warm: Option<Binding>,
}

/// What tuples and whole-table rows came to. Everything is listed once per tuple: repeats are merged by the plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mapped {
    /// To be deleted.
    pub targets: Vec<(EdgeRef, Target)>,
    /// Exempt: `never_delete`, or a key of pgevict itself.
    pub protected: Vec<(EdgeRef, Target)>,
    /// A hole that the template needs was NULL.
    pub skipped_null: Vec<EdgeRef>,
    /// The row that a lookup follows to was gone; its own event has evicted.
    pub unresolved: Vec<EdgeRef>,
    /// The edge's cache is not in the configuration any more.
    pub unknown: Vec<EdgeRef>,
}

/// A row names a class or a value that its layout does not have. The caller treats the statement as "whole table".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfit {
    /// No such class.
    Class(i32),
    /// The tuple of this class is shorter than its holes need.
    Short(i32),
}

impl Mapped {
    /// Empties it and keeps its room.
    pub fn clear(&mut self) {
        let Self { targets, protected, skipped_null, unresolved, unknown } = self;
        targets.clear();
        protected.clear();
        skipped_null.clear();
        unresolved.clear();
        unknown.clear();
    }

    /// How long its lists are.
    #[must_use]
    pub fn lengths(&self) -> Lengths {
        let Self { targets, protected, skipped_null, unresolved, unknown } = self;
        Lengths([targets.len(), protected.len(), skipped_null.len(), unresolved.len(), unknown.len()])
    }

    /// Cuts the lists back to what they were.
    pub fn truncate(&mut self, Lengths([a, b, c, d, e]): Lengths) {
        let Self { targets, protected, skipped_null, unresolved, unknown } = self;
        targets.truncate(a);
        protected.truncate(b);
        skipped_null.truncate(c);
        unresolved.truncate(d);
        unknown.truncate(e);
    }
}

/// How long the lists of a [`Mapped`] were at some point of its making.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lengths([usize; 5]);

/// A [`Mapped`] that many tuples were added to, taken apart again in the order of its making.
#[derive(Debug)]
pub struct Parts {
    targets: vec::IntoIter<(EdgeRef, Target)>,
    protected: vec::IntoIter<(EdgeRef, Target)>,
    refs: [vec::IntoIter<EdgeRef>; 3],
    taken: Lengths,
}

impl From<Mapped> for Parts {
    fn from(mapped: Mapped) -> Self {
        let Mapped { targets, protected, skipped_null, unresolved, unknown } = mapped;
        Self {
            targets: targets.into_iter(),
            protected: protected.into_iter(),
            refs: [skipped_null.into_iter(), unresolved.into_iter(), unknown.into_iter()],
            taken: Lengths::default(),
        }
    }
}

impl Parts {
    /// Moves into `out` what was added between the point that was asked for last and `until`.
    pub fn next(&mut self, until: Lengths, out: &mut Mapped) {
        let [a, b, c, d, e] = std::array::from_fn(|i| until.0[i].saturating_sub(self.taken.0[i]));
        self.taken = until;
        out.targets.extend(self.targets.by_ref().take(a));
        out.protected.extend(self.protected.by_ref().take(b));
        let [skipped_null, unresolved, unknown] = &mut self.refs;
        out.skipped_null.extend(skipped_null.take(c));
        out.unresolved.extend(unresolved.take(d));
        out.unknown.extend(unknown.take(e));
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Class(n) => write!(f, "the row speaks of class {n}, which its layout does not have"),
            Self::Short(n) => write!(f, "a tuple of class {n} has fewer values than its layout"),
        }
    }
}

impl std::error::Error for Misfit {}

/// What may never be deleted, whoever asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protection {
    never_delete: Vec<Vec<u8>>,
    own: Vec<u8>,
}

/// Why a key is exempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Exempt {
    /// A glob of `limits.never_delete` matches it.
    NeverDelete,
    /// It is pgevict's own.
    Own,
}

impl Exempt {
    /// As JSON spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NeverDelete => "never_delete",
            Self::Own => "own_key",
        }
    }
}

impl Protection {
    /// Reads the two settings.
    #[must_use]
    pub fn new(limits: &Limits, redis: &Redis) -> Self {
        Self {
            never_delete: limits.never_delete.iter().map(|g| g.as_bytes().to_vec()).collect(),
            own: format!("{}:", redis.state).into_bytes(),
        }
    }

    /// Whether this full Redis key is exempt. To be asked of every key that a pattern matched.
    #[must_use]
    pub fn key(&self, key: &[u8]) -> Option<Exempt> {
        if key.starts_with(&self.own) {
            return Some(Exempt::Own);
        }
        self.never_delete.iter().any(|glob| glob::matches(glob, key)).then_some(Exempt::NeverDelete)
    }

    /// Whether everything that this pattern can match is exempt, so that looking for it is pointless. None says
    /// nothing about single keys.
    #[must_use]
    pub fn pattern(&self, pattern: &[u8]) -> Option<Exempt> {
        if glob::literal_prefix(pattern).starts_with(&self.own) {
            return Some(Exempt::Own);
        }
        self.never_delete.iter().any(|glob| glob::covers(glob, pattern)).then_some(Exempt::NeverDelete)
    }

    /// [`Protection::key`] or [`Protection::pattern`].
    #[must_use]
    pub fn rendered(&self, rendered: &Rendered) -> Option<Exempt> {
        match rendered.kind() {
            Kind::Key => self.key(rendered.bytes()),
            Kind::Pattern => self.pattern(rendered.bytes()),
        }
    }
}

/// One configuration, made ready for mapping: borrowed, or held with others.
#[derive(Debug, Clone)]
pub struct Mapper<C> {
    config: C,
    caches: HashMap<String, usize>,
    protection: Protection,
}

impl<C: Deref<Target = Config>> Mapper<C> {
    /// Indexes the configuration.
    #[must_use]
    pub fn new(config: C) -> Self {
        let caches = config.caches.iter().enumerate().map(|(i, c)| (c.name.clone(), i)).collect();
        let protection = Protection::new(&config.limits, &config.redis);
        Self { config, caches, protection }
    }

    /// What is exempt.
    #[must_use]
    pub fn protection(&self) -> &Protection {
        &self.protection
    }

    /// Adds what one tuple names to `out`.
    ///
    /// # Errors
    /// [`Misfit`] when the tuple cannot be of this layout; `out` is unchanged then.
    pub fn tuple(&self, layout: &Layout, tuple: &Tuple, out: &mut Mapped) -> Result<(), Misfit> {
        let (index, resolved) = tuple.class_index();
        let class = layout.classes.get(index).ok_or(Misfit::Class(tuple.class))?;
        if !resolved {
            out.unresolved.extend(refs(index, class).map(|(at, _)| at));
            return Ok(());
        }
        if tuple.values.len() < class.values.len() {
            return Err(Misfit::Short(tuple.class));
        }
        for (at, edge) in refs(index, class) {
            self.edge(
                at,
                edge,
                |hole| edge.holes.get(hole).and_then(|i| tuple.values.get(*i)).map(Option::as_deref),
                out,
            );
        }
        Ok(())
    }

    /// Adds the whole forms of the listed classes to `out`; None: of all classes that fire for `op`.
    ///
    /// # Errors
    /// [`Misfit`] when a listed class does not exist; the whole forms of those that do are in `out` all the same.
    pub fn whole(&self, layout: &Layout, op: Op, classes: Option<&[i32]>, out: &mut Mapped) -> Result<(), Misfit> {
        let mut misfit = Ok(());
        match classes {
            None => {
                let firing = layout.classes.iter().enumerate().filter(|(_, c)| c.ops.has(op));
                firing.for_each(|(i, class)| self.whole_class(i, class, out));
            }
            Some(listed) => {
                for n in listed {
                    match usize::try_from(*n).ok().and_then(|i| Some((i, layout.classes.get(i)?))) {
                        Some((i, class)) => self.whole_class(i, class, out),
                        None => misfit = Err(Misfit::Class(*n)),
                    }
                }
            }
        }
        misfit
    }

    fn whole_class(&self, index: usize, class: &Class, out: &mut Mapped) {
        for (at, edge) in refs(index, class) {
            self.edge(at, edge, |_| None, out);
        }
    }

    /// One edge, in all namespace versions. `fill` gives None for a hole that is not known, `Some(None)` for NULL.
    pub(super) fn edge<'v>(
        &self,
        at: EdgeRef,
        edge: &LayoutEdge,
        fill: impl Fn(&str) -> Option<Option<&'v [u8]>>,
        out: &mut Mapped,
    ) {
        let Some(&cache) = self.caches.get(edge.cache.as_str()) else {
            out.unknown.push(at);
            return;
        };
        let template = &self.config.caches[cache].template;
        if template.has_hole(|hole| fill(hole) == Some(None)) {
            out.skipped_null.push(at);
            return;
        }
        let value = |hole: &str| fill(hole).flatten().map_or(Fill::Unknown, Fill::Value);
        let widened = self.config.caches[cache].guard_fills && !template.is_named_by(value);
        for (prefix, (_, text)) in self.config.namespace.prefixes.iter().enumerate() {
            let rendered = template.render(text.as_bytes(), value);
            let list = match self.protection.rendered(&rendered) {
                None => &mut out.targets,
                Some(_) => &mut out.protected,
            };
            let newest = prefix + 1 == self.config.namespace.prefixes.len();
            let warms = newest && self.config.caches[cache].warm.is_some();
            let warm = if warms { Binding::new(template, value) } else { None };
            list.push((at, Target { cache, prefix, rendered, widened, warm }));
        }
    }
}

fn refs(index: usize, class: &Class) -> impl Iterator<Item = (EdgeRef, &LayoutEdge)> {
    class.edges.iter().enumerate().map(move |(edge, e)| (EdgeRef { class: index, edge }, e))
}

#[cfg(test)]
mod tests;
