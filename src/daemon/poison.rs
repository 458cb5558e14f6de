//! Journal rows that cannot be read: never skipped, never fatal (HAZARDS P9). The caches of their table go whole, a copy is kept in
//! the database, the position moves.

use super::live::Live;
use super::statements::Turn;
use crate::config::model::Op;
use crate::observe::event::{Extent, Observation};
use crate::rules::layout::Layout;
use crate::rules::payload::RowKind;
use crate::source::journal::{Change, What};
use std::sync::Arc;

/// The rows of a page that could not be read, with why.
#[derive(Debug, Default)]
pub(super) struct Poison(Vec<((i64, i64), String)>);

impl Poison {
    /// Notes a row of the journal; a notification has no place there.
    pub(super) fn note(&mut self, change: &Change, why: &str) {
        self.0.extend(change.place.map(|place| (place, why.to_owned())));
    }
}

impl Live<'_> {
    /// The layout of a change and what it says; what cannot be read stands for the whole table.
    /// Takes it out of the change.
    pub(super) fn readable(&self, change: &mut Change) -> (Option<Arc<Layout>>, What, Extent) {
        let layout = self.meaning.layouts().get(&change.layout);
        let what = std::mem::replace(&mut change.what, Err(String::new()));
        let op = what.as_ref().map_or(Op::Truncate, |w| w.op);
        let why = match (layout, what) {
            (Some(layout), Ok(what)) => {
                let extent = match what.kind {
                    RowKind::Rows => Extent::Rows,
                    RowKind::Whole => Extent::Whole,
                    RowKind::Degraded => Extent::Degraded,
                };
                return (Some(layout.clone()), what, extent);
            }
            (None, _) => format!("layout {} is not known to this pgevict", change.layout),
            (_, Err(why)) => why,
        };
        // What the row says of its layout may be as wrong as the rest: the edges of today's configuration count.
        let today = |table: &str| self.current.iter().find(|l| l.table.to_string() == table);
        let named =
            today(&change.table).or_else(|| layout.and_then(|l| today(&l.table.to_string()))).or(layout).cloned();
        if named.is_none() {
            self.context.observer.report(Observation::Warning {
                what: "a change of a table that no edge watches",
                detail: format!("table `{}`: {why}; nothing is cached from it", change.table.escape_debug()),
            });
        }
        let classes = named.as_ref().map(|l| all(l));
        let what = What { kind: RowKind::Degraded, op, classes, tuples: Vec::new(), note: Some(why) };
        (named, what, Extent::Poison)
    }

    /// Keeps copies of the rows. They stay in the journal for `retention`, so a copy that fails is told of and no more.
    pub(super) async fn bury(&self, poison: Poison, turn: Turn) {
        if poison.0.is_empty() || turn != Turn::First {
            return;
        }
        if let Err(detail) = self.side.bury(&poison.0).await {
            self.context
                .observer
                .report(Observation::Warning { what: "journal rows that cannot be read were not copied", detail });
        }
    }
}

/// Every class of a layout.
pub(super) fn all(layout: &Layout) -> Vec<i32> {
    (0..i32::try_from(layout.classes.len()).unwrap_or(0)).collect()
}
