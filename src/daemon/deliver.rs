//! From changes to deletes: the middle of the path.

use super::live::{Live, Step, Suppressed};
use super::meaning::{Ahead, Meaning, SLICE};
use super::poison::Poison;
use super::statements::{Asker, Ended, Turn};
use crate::config::model::{Mode, Op, TableName};
use crate::flow::debounce::Verdict;
use crate::flow::ledger::Ticket;
use crate::flow::proof::mode_of;
use crate::observe::event::{Extent, KeyOutcome, Observation, Outcome, Statement};
use crate::planted;
use crate::rules::layout::Layout;
use crate::rules::mapping::{EdgeRef, Mapped, Target};
use crate::rules::template::{Kind, Rendered};
use crate::sink::portion::portions;
use crate::source::journal::{Change, What};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pairs of hole and value that a log line shows.
const SHOWN_VALUES: usize = 8;

/// Exact keys of one page, as often as they are asked for.
#[derive(Default)]
struct Keys(Vec<(Vec<u8>, Asker)>);

/// The same, each once.
struct Once<'k> {
    /// With the last place at which it is asked for.
    names: Vec<(&'k [u8], usize)>,
    /// For each place the one before it at which the same key is asked for.
    before: Vec<Option<usize>>,
}

impl Keys {
    fn add(&mut self, key: Vec<u8>, asker: Asker) {
        self.0.push((key, asker));
    }

    fn once(&self) -> Once<'_> {
        let mut index: HashMap<&[u8], usize> = HashMap::with_capacity(self.0.len());
        let (mut names, mut before) = (Vec::with_capacity(self.0.len()), Vec::with_capacity(self.0.len()));
        for (place, (key, _)) in self.0.iter().enumerate() {
            let name = *index.entry(key).or_insert(names.len());
            match names.get_mut(name) {
                None => {
                    names.push((key.as_slice(), place));
                    before.push(None);
                }
                Some((_, last)) => before.push(Some(std::mem::replace(last, place))),
            }
        }
        Once { names, before }
    }
}

impl Once<'_> {
    /// All places at which a key is asked for.
    fn places(&self, last: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(last), |place| self.before.get(*place).copied().flatten())
    }
}

impl Live<'_> {
    /// Delivers a page of changes: exact keys are gone when this returns, patterns wait for their pass, debounced
    /// keys for their window's end. What is outstanding holds `ticket`.
    pub(super) async fn deliver(&mut self, changes: Vec<Change>, ticket: Option<Ticket>, turn: Turn) -> Step {
        self.deliver_page(changes, None, ticket, turn).await
    }

    /// The same, where some of the changes are mapped already.
    pub(super) async fn deliver_page(
        &mut self,
        changes: Vec<Change>,
        ahead: Option<Ahead>,
        ticket: Option<Ticket>,
        turn: Turn,
    ) -> Step {
        let now = Instant::now();
        let mut keys = Keys::default();
        // Once a page: who floods the journal with unknown layouts costs a statement a page, not one a row.
        if changes.iter().any(|c| !self.meaning.layouts().contains_key(&c.layout)) {
            self.learn_layouts().await;
        }
        let meaning = self.meaning.clone();
        let mut ready = ahead.map(|ahead| ahead.with(&meaning));
        let mut poison = Poison::default();
        let mut mapped = Mapped::default();
        for (place, mut change) in changes.into_iter().enumerate() {
            if place % SLICE == SLICE - 1 {
                // What was asked of PostgreSQL meanwhile goes out.
                tokio::task::yield_now().await;
            }
            mapped.clear();
            let is_mapped = ready.as_mut().is_some_and(|ready| ready.next(&mut mapped));
            if change.what.is_err() && planted::is("poison-skipped") {
                continue;
            }
            let (layout, mut what, mut extent) = self.readable(&mut change);
            if layout.as_ref().is_some_and(|l| self.probe.is(&l.table)) {
                if turn == Turn::First
                    && let Some((key, asker)) = self.probe_read(&what, extent, now)
                {
                    keys.add(key, asker);
                }
                continue;
            }
            if !is_mapped
                && let Some(layout) = &layout
                && let Err(misfit) = meaning.map(layout, &what, &mut mapped)
            {
                (what.note, extent) = (Some(misfit.to_string()), Extent::Poison);
            }
            if extent == Extent::Poison {
                poison.note(&change, what.note.as_deref().unwrap_or_default());
            }
            let Some(layout) = layout else { continue };
            self.watch.coverage.saw(&layout.table, now);
            self.enter(&layout, &what, extent, &mut mapped, &change, ticket, turn, &mut keys, now);
        }
        self.bury(poison, turn).await;
        self.delete(keys).await
    }

    /// Reads the layouts again: `sql apply` may have run since.
    pub(super) async fn learn_layouts(&mut self) {
        match self.side.layouts().await {
            Ok(found) => {
                let known = self.meaning.layouts();
                let unknown = found.into_iter().filter(|(id, _)| !known.contains_key(id));
                let read = |(id, text): (i64, String)| Some((id, Arc::new(Layout::from_json(&text).ok()?)));
                let unknown: Vec<_> = unknown.filter_map(read).collect();
                if !unknown.is_empty() {
                    let all = known.iter().map(|(id, layout)| (*id, layout.clone())).chain(unknown);
                    self.meaning = Meaning::new(&self.config, all);
                }
            }
            Err(why) => self
                .context
                .observer
                .report(Observation::Warning { what: "layouts cannot be read from the database", detail: why }),
        }
    }

    /// Opens the statement of a change and sorts its targets: delete now, at a window's end, by pass, or not at all.
    #[expect(clippy::too_many_arguments, reason = "one call site; a struct would only name them twice")]
    fn enter(
        &mut self,
        layout: &Layout,
        what: &What,
        extent: Extent,
        mapped: &mut Mapped,
        change: &Change,
        ticket: Option<Ticket>,
        turn: Turn,
        keys: &mut Keys,
        now: Instant,
    ) {
        let statement = Statement {
            table: layout.table.clone(),
            op: what.op,
            extent,
            note: what.note.clone(),
            values: shown(layout, what),
            keys: Vec::with_capacity(mapped.targets.len() + mapped.protected.len()),
            more_keys: 0,
            skipped_null: if turn == Turn::First { counted(layout, &mapped.skipped_null) } else { Vec::new() },
            unresolved: if turn == Turn::First { counted(layout, &mapped.unresolved) } else { Vec::new() },
            again: turn != Turn::First,
            lag: Duration::ZERO,
            took: Duration::ZERO,
        };
        if turn == Turn::First {
            for edge in mapped.unknown.iter().filter_map(|at| at.of(layout)) {
                self.context
                    .observer
                    .report(Observation::UnknownCache { table: layout.table.clone(), cache: edge.cache.clone() });
            }
        }
        let id = self.statements.open(statement, ticket, turn, change.read, change.age);
        if let Some(ticket) = ticket {
            self.ledger.hold(ticket);
        }
        if let Turn::Repeat(ms) = turn {
            self.repeats.began(ms);
        }
        // One target, which most changes have, is named once.
        let several = mapped.targets.len() + mapped.protected.len() > 1;
        let mut named: HashSet<(usize, Vec<u8>)> = HashSet::new();
        let config = self.config.clone();
        let protected = mapped.protected.drain(..).map(|t| (t, true));
        for ((at, target), protected) in mapped.targets.drain(..).map(|t| (t, false)).chain(protected) {
            let Some(edge) = at.of(layout) else { continue };
            let mode = mode_of(&config, &layout.table, edge);
            let cache = &config.caches[target.cache];
            if mode == Mode::Off || !in_turn(turn, cache.repeat_after) {
                continue;
            }
            if several && !named.insert((target.cache, target.rendered.bytes().to_vec())) {
                continue;
            }
            let kind = target.rendered.kind();
            let name = self.names[target.cache].clone();
            let key = |rendered, outcome| {
                let (Rendered::Key(key) | Rendered::Pattern(key)) = rendered;
                KeyOutcome { cache: name, kind, key, outcome }
            };
            if protected || mode == Mode::Observe {
                let outcome = if protected { Outcome::Protected } else { Outcome::Observed };
                self.statements.key(id, key(target.rendered, outcome), true);
                continue;
            }
            if turn == Turn::First
                && let Some(delay) = cache.repeat_after
            {
                self.repeats.touch(super::repeats::millis(delay));
            }
            if turn == Turn::First
                && extent == Extent::Rows
                && !target.widened
                && self.debounces(layout, edge, &target, what.op, ticket, now)
            {
                self.statements.key(id, key(target.rendered, Outcome::Debounced), true);
                continue;
            }
            // The second delete belongs to no newer change: what was named at the first still stands.
            if turn == Turn::First && cache.guard_fills {
                match target.widened {
                    true => self.position.tombstones.widen(),
                    false => self.position.tombstones.bury(target.rendered.bytes(), now),
                }
            }
            let bytes = target.rendered.bytes().to_vec();
            let asker = self.statements.key(id, key(target.rendered, Outcome::Absent), false);
            if let Some(values) = target.warm {
                self.warmer.expect(target.cache, &bytes, &values);
                self.statements.want(asker, target.cache, values);
            }
            match kind {
                Kind::Key => keys.add(bytes, asker),
                Kind::Pattern => self.passes.want(bytes, asker),
            }
        }
        let ended = self.statements.close(id, now);
        self.tell(ended, now);
    }

    /// Whether this delete is suppressed until its window's end.
    fn debounces(
        &mut self,
        layout: &Layout,
        edge: &crate::rules::layout::LayoutEdge,
        target: &Target,
        op: Op,
        ticket: Option<Ticket>,
        now: Instant,
    ) -> bool {
        let table = edge.via.as_ref().unwrap_or(&layout.table);
        let Some(length) = self.config.table(table).and_then(|t| t.debounce) else { return false };
        let what = Suppressed {
            table: layout.table.clone(),
            op,
            cache: edge.cache.as_str().into(),
            warm: target.warm.clone().map(|values| (target.cache, values)),
        };
        match self.debounce.named(&target.rendered, length, ticket, what, now) {
            Verdict::Now => false,
            Verdict::AtEnd => {
                // The position stays before this batch until the window's end: a crash replays it.
                if let Some(ticket) = ticket {
                    self.ledger.hold(ticket);
                }
                true
            }
        }
    }

    /// A window has ended in which deletes were suppressed: one more delete.
    pub(super) async fn debounced(
        &mut self,
        named: Rendered,
        tickets: &[Ticket],
        what: Suppressed,
        now: Instant,
    ) -> Step {
        let kind = named.kind();
        let (Rendered::Key(key) | Rendered::Pattern(key)) = named;
        let statement = Statement {
            table: what.table,
            op: what.op,
            extent: Extent::Rows,
            note: None,
            values: Vec::new(),
            keys: Vec::new(),
            more_keys: 0,
            skipped_null: Vec::new(),
            unresolved: Vec::new(),
            again: true,
            lag: Duration::ZERO,
            took: Duration::ZERO,
        };
        if self.config.cache(&what.cache).is_some_and(|c| c.guard_fills) {
            // By the newest snapshot that was read: it holds all changes that were suppressed.
            self.position.tombstones.bury(&key, now);
        }
        let last = tickets.last().copied();
        let id = self.statements.open(statement, last, Turn::First, now, Duration::ZERO);
        let outcome = KeyOutcome { cache: what.cache, kind, key: key.clone(), outcome: Outcome::Absent };
        let asker = self.statements.key(id, outcome, false);
        if let Some((cache, values)) = what.warm {
            self.warmer.expect(cache, &key, &values);
            self.statements.want(asker, cache, values);
        }
        // Every ticket but the last is released with the delete's confirmation; for a pattern that is its pass, so all
        // of them wait for it together.
        let mut keys = Keys::default();
        match kind {
            Kind::Key => keys.add(key, asker),
            Kind::Pattern => self.passes.want(key, asker),
        }
        let ended = self.statements.close(id, now);
        self.tell(ended, now);
        self.delete(keys).await?;
        if kind == Kind::Key {
            for ticket in &tickets[..tickets.len().saturating_sub(1)] {
                self.release(*ticket, now);
            }
        } else if tickets.len() > 1 {
            self.late.entry(id).or_default().extend_from_slice(&tickets[..tickets.len() - 1]);
        }
        Ok(())
    }

    /// Deletes exact keys, each once.
    pub(super) async fn delete_for(&mut self, named: Vec<(Vec<u8>, Asker)>) -> Step {
        let mut keys = Keys::default();
        named.into_iter().for_each(|(key, asker)| keys.add(key, asker));
        self.delete(keys).await
    }

    /// Deletes exact keys and tells their askers.
    async fn delete(&mut self, keys: Keys) -> Step {
        let once = keys.once();
        for chunk in portions(&once.names, self.position.most_keys(), |(key, _)| key.len()) {
            let names: Vec<&[u8]> = chunk.iter().map(|(key, _)| *key).collect();
            let gone = self.position.delete(&names).await.map_err(|f| self.fault(f))?;
            // One answer of a slow Redis is bounded by less than the watchdog's patience; a page of them is not.
            self.context.observer.beat();
            let now = Instant::now();
            for ((_, last), was_there) in chunk.iter().zip(gone) {
                let outcome = if was_there { Outcome::Deleted(1) } else { Outcome::Absent };
                for (_, asker) in once.places(*last).filter_map(|place| keys.0.get(place)) {
                    self.answer(std::slice::from_ref(asker), outcome, now).await?;
                }
            }
        }
        // Patterns have no key of this page: their tombstones stand before any pass looks for what they name.
        self.position.entomb().await.map_err(|f| self.fault(f))
    }

    /// Tells everybody who asked what became of a key or pattern.
    pub(super) async fn answer(&mut self, askers: &[Asker], outcome: Outcome, now: Instant) -> Step {
        for asker in askers {
            match *asker {
                Asker::Statement { id, slot } => {
                    self.warm(id, slot, outcome);
                    let ended = self.statements.outcome(id, slot, outcome, now);
                    if ended.is_some()
                        && !self.late.is_empty()
                        && let Some(tickets) = self.late.remove(&id)
                    {
                        tickets.into_iter().for_each(|ticket| self.release(ticket, now));
                    }
                    self.tell(ended, now);
                }
                Asker::Flush(id) => {
                    let deleted = if let Outcome::Deleted(n) = outcome { n } else { 0 };
                    // A flush may begin another one, which may delete at once: the recursion needs a box.
                    Box::pin(self.flushed(id, deleted)).await?;
                }
                Asker::Probe => self.probe_arrived(now).await?,
            }
        }
        Ok(())
    }

    /// Reports a statement that has ended, and lets go of what it held.
    pub(super) fn tell(&mut self, ended: Option<Ended>, now: Instant) {
        let Some(Ended { statement, ticket, turn }) = ended else { return };
        if let Some(ticket) = ticket {
            self.release(ticket, now);
        }
        if let Turn::Repeat(ms) = turn {
            self.repeats.ended(ms);
        }
        if turn == Turn::First {
            self.remember_for_repeat(&statement, now);
        }
        if !statement.keys.is_empty() || !statement.skipped_null.is_empty() || !statement.unresolved.is_empty() {
            self.context.observer.report(Observation::Statement(Box::new(statement)));
        }
    }
}

fn in_turn(turn: Turn, repeat_after: Option<Duration>) -> bool {
    match turn {
        Turn::First => true,
        Turn::Repeat(ms) => repeat_after.map(super::repeats::millis) == Some(ms),
    }
}

/// Hole and value of the first tuples, each pair once.
fn shown(layout: &Layout, what: &What) -> Vec<(Arc<str>, Option<Vec<u8>>)> {
    let mut out: Vec<(Arc<str>, Option<Vec<u8>>)> = Vec::with_capacity(what.tuples.len().min(SHOWN_VALUES));
    for tuple in &what.tuples {
        let (class, resolved) = tuple.class_index();
        let Some(class) = layout.classes.get(class).filter(|_| resolved) else { continue };
        for (hole, i) in class.edges.iter().flat_map(|e| &e.holes) {
            let pair = (hole.clone(), tuple.values.get(*i).cloned().flatten());
            if !out.contains(&pair) {
                out.push(pair);
            }
            if out.len() == SHOWN_VALUES {
                return out;
            }
        }
    }
    out
}

fn counted(layout: &Layout, edges: &[EdgeRef]) -> Vec<(String, u64)> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for edge in edges.iter().filter_map(|at| at.of(layout)) {
        *counts.entry(&edge.cache).or_default() += 1;
    }
    counts.into_iter().map(|(cache, n)| (cache.to_owned(), n)).collect()
}

/// Parses a table as [`TableName`] displays it; only names that the configuration itself displayed come back.
pub(super) fn table_named<'l>(current: &'l [Arc<Layout>], text: &str) -> Option<&'l TableName> {
    current.iter().map(|l| &l.table).find(|t| t.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::portion::MOST_KEYS;
    use proptest::prelude::*;

    proptest! {
        /// However often a key is named on a page: it goes once, and everybody who named it hears of it once.
        #[test]
        fn a_key_that_is_named_often_goes_once_and_every_asker_is_answered_once(
            named in prop::collection::vec("[ab]{0,2}", 0..40),
        ) {
            let mut keys = Keys::default();
            for (slot, key) in named.iter().enumerate() {
                keys.add(key.clone().into_bytes(), Asker::Statement { id: 0, slot });
            }
            let once = keys.once();
            let mut names: Vec<Vec<u8>> = once.names.iter().map(|(key, _)| key.to_vec()).collect();
            names.sort();
            let expected: std::collections::BTreeSet<Vec<u8>> = named.iter().map(|k| k.clone().into_bytes()).collect();
            prop_assert_eq!(names, expected.into_iter().collect::<Vec<_>>());
            let mut answered = vec![0; named.len()];
            for chunk in portions(&once.names, MOST_KEYS, |(key, _)| key.len()) {
                for (key, last) in chunk {
                    for asker in once.places(*last).map(|place| keys.0[place].1) {
                        let Asker::Statement { slot, .. } = asker else { panic!("{asker:?}") };
                        prop_assert_eq!(named[slot].as_bytes(), *key);
                        answered[slot] += 1;
                    }
                }
            }
            prop_assert!(answered.iter().all(|n| *n == 1), "{:?}", answered);
        }
    }
}
