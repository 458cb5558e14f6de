//! Caches that go whole, and what may be remembered once they have.

use super::live::{Live, Step};
use super::statements::Asker;
use crate::flow::ledger::Ticket;
use crate::flow::proof::{Form, Proven};
use crate::observe::event::{Condition, FlushReason, Observation};
use crate::rules::snapshot::Snapshot;
use crate::rules::template::Rendered;
use crate::sink::portion::MOST_KEYS;
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// What is true once the caches are gone.
#[derive(Debug, Clone)]
pub(super) enum After {
    /// These edges are proven; with `position`, everything up to the session's first snapshot is too.
    Proven {
        /// All proven edges.
        edges: Proven,
        /// The record may name a position from now on.
        position: bool,
    },
    /// The counter of lost captures was answered up to here.
    Lost(i64),
    /// The tables are as this audit found them.
    Tables(String),
    /// The second flush of this delay: deleted twice up to the snapshot.
    Repeat(u64, Snapshot),
    /// Nothing to remember.
    Nothing,
}

#[derive(Debug)]
struct Flush {
    names: Vec<String>,
    forms: BTreeSet<Form>,
    remaining: usize,
    deleted: u64,
    begun: Instant,
    after: After,
    ticket: Option<Ticket>,
    /// This is the second time already.
    second: bool,
}

/// Captures that the trigger's last layer could only count.
#[derive(Debug, Clone, Copy)]
struct Lost {
    count: i64,
    /// The counter moves before its transaction commits: when all that ran at that moment have ended, flush again.
    xmax: u64,
    answered: bool,
}

/// All flushes under way.
#[derive(Debug, Default)]
pub(super) struct Flushes {
    running: HashMap<u64, Flush>,
    /// Second flushes of caches with `repeat_after`, before their edges count as proven.
    again: Vec<(Instant, BTreeSet<Form>, After)>,
    lost: Option<Lost>,
    next: u64,
}

impl Flushes {
    /// Whether a first flush is not over yet.
    pub(super) fn under_way(&self) -> bool {
        self.running.values().any(|f| !f.forms.is_empty() && !f.second)
    }

    /// When the next second flush is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.again.iter().map(|(at, ..)| *at).min()
    }
}

impl Live<'_> {
    /// Flushes `forms`; `after` is remembered in Redis when all their keys are gone.
    pub(super) async fn flush(&mut self, forms: BTreeSet<Form>, reason: FlushReason, after: After) -> Step {
        self.begin_flush(forms, reason, after, false).await
    }

    async fn begin_flush(&mut self, forms: BTreeSet<Form>, reason: FlushReason, after: After, second: bool) -> Step {
        let id = self.flushes.next;
        self.flushes.next += 1;
        let names: BTreeSet<String> = forms.iter().map(|(cache, _)| self.config.caches[*cache].name.clone()).collect();
        let names: Vec<String> = names.into_iter().collect();
        let ticket = matches!(after, After::Proven { position: true, .. }).then(|| self.ledger.open(self.seen.clone()));
        let begun = Instant::now();
        if !forms.is_empty() {
            if !second {
                let why = format!("{} go whole; ready when they are gone", names.join(", "));
                self.context.observer.condition(Condition::Flushing, Some(why));
            }
            self.context.observer.report(Observation::FlushBegun { caches: names.clone(), reason });
        }
        let mut flush = Flush { names, forms, remaining: 1, deleted: 0, begun, after, ticket, second };
        let mut keys: Vec<Vec<u8>> = Vec::new();
        for (cache, prefix) in &flush.forms {
            let prefix = self.config.namespace.prefixes[*prefix].1.as_bytes();
            match self.config.caches[*cache].template.whole(prefix) {
                Rendered::Key(key) if self.watch.protection.key(&key).is_none() => keys.push(key),
                Rendered::Key(_) => {}
                Rendered::Pattern(pattern) => {
                    flush.remaining += 1;
                    self.passes.want(pattern, Asker::Flush(id));
                }
            }
        }
        self.raise_floor(&flush.forms).await?;
        for chunk in keys.chunks(MOST_KEYS) {
            let chunk: Vec<&[u8]> = chunk.iter().map(Vec::as_slice).collect();
            let gone = self.delete_unnamed(&chunk).await?;
            flush.deleted += gone.iter().filter(|g| **g).count() as u64;
        }
        if !keys.is_empty() {
            self.pass_over();
        }
        self.flushes.running.insert(id, flush);
        self.flushed(id, 0).await
    }

    /// One pattern of a flush is gone, with that many keys (or the flush's beginning is over).
    pub(super) async fn flushed(&mut self, id: u64, deleted: u64) -> Step {
        let Some(flush) = self.flushes.running.get_mut(&id) else { return Ok(()) };
        flush.deleted += deleted;
        flush.remaining -= 1;
        if flush.remaining > 0 {
            return Ok(());
        }
        let Some(flush) = self.flushes.running.remove(&id) else { return Ok(()) };
        let now = Instant::now();
        if !flush.forms.is_empty() {
            let took = now.saturating_duration_since(flush.begun);
            self.context.observer.report(Observation::FlushDone { caches: flush.names, deleted: flush.deleted, took });
        }
        if self.flushes.running.values().all(|f| f.forms.is_empty() || f.second) {
            self.context.observer.condition(Condition::Flushing, None);
        }
        // A stale fill may land right after a flush too: caches with `repeat_after` go a second time before anything is called
        // done. After a first start the second positions see to it, and the first flush for lost captures is followed by
        // one that does.
        let repeated = matches!(flush.after, After::Proven { position: false, .. } | After::Lost(_) | After::Tables(_));
        if let (Some(delay), true, false) = (self.longest_repeat(&flush.forms), repeated, flush.second) {
            let mut forms = flush.forms;
            forms.retain(|(cache, _)| self.config.caches[*cache].repeat_after.is_some());
            self.flushes.again.push((now + delay, forms, flush.after));
            return Ok(());
        }
        match flush.after {
            After::Proven { edges, position } => {
                // Otherwise an audit has found something else since: what this flush would call proven has holes by now.
                if !self.watch.overtaken(&edges) {
                    let text = serde_json::to_string(&edges).unwrap_or_default();
                    self.position.step(&[], &[("edges", &text)], |_| {}).await.map_err(|f| self.fault(f))?;
                    self.watch.proven = edges;
                }
                if position {
                    // The ledger has waited for this flush: its snapshot is still that of the session's start.
                    self.repeats.first_flush_done(self.ledger.settled(), now);
                    self.proven = true;
                    self.dirty = true;
                }
            }
            After::Lost(count) => {
                self.position.step(&[], &[], |r| r.lost = count).await.map_err(|f| self.fault(f))?;
                // More may have been lost meanwhile; that has flushes of its own.
                self.flushes.lost = self.flushes.lost.filter(|lost| lost.count != count);
            }
            After::Tables(text) => {
                self.position.step(&[], &[("tables", &text)], |_| {}).await.map_err(|f| self.fault(f))?;
                self.watch.tables = text;
            }
            After::Repeat(ms, snapshot) => self.repeats.flushed(ms, snapshot),
            After::Nothing => {}
        }
        if let Some(ticket) = flush.ticket {
            self.release(ticket, now);
        }
        Ok(())
    }

    /// Second flushes that are due.
    pub(super) async fn flushes_due(&mut self, now: Instant) -> Step {
        while let Some(i) = self.flushes.again.iter().position(|(at, ..)| *at <= now) {
            let (_, forms, after) = self.flushes.again.swap_remove(i);
            self.begin_flush(forms, FlushReason::Again, after, true).await?;
        }
        Ok(())
    }

    /// The second flush of the caches with this delay, whose second position is unknown.
    pub(super) async fn flush_again(&mut self, ms: u64, snapshot: Snapshot) -> Step {
        let forms = self
            .enforced_forms()
            .into_iter()
            .filter(|(cache, _)| self.config.caches[*cache].repeat_after.map(super::repeats::millis) == Some(ms));
        let forms = forms.collect();
        self.begin_flush(forms, FlushReason::Again, After::Repeat(ms, snapshot), true).await
    }

    /// Compares the counter of the trigger's last layer with what was answered.
    pub(super) async fn lost(&mut self, count: i64, now: &Snapshot) -> Step {
        if count == self.position.record().lost {
            return Ok(());
        }
        self.watch.coverage.saw_all(Instant::now());
        match self.flushes.lost {
            Some(lost) if lost.count == count => {
                if !lost.answered && now.xmin() >= lost.xmax {
                    self.flushes.lost = Some(Lost { answered: true, ..lost });
                    let forms = self.enforced_forms();
                    self.flush(forms, FlushReason::LostCaptures(count), After::Lost(count)).await?;
                }
                Ok(())
            }
            _ => {
                self.flushes.lost = Some(Lost { count, xmax: now.xmax(), answered: false });
                let forms = self.enforced_forms();
                self.flush(forms, FlushReason::LostCaptures(count), After::Nothing).await
            }
        }
    }

    /// Every form of every cache that an enforced edge leads to.
    pub(super) fn enforced_forms(&self) -> BTreeSet<Form> {
        let layouts: Vec<_> = self.current.iter().map(|l| (**l).clone()).collect();
        crate::flow::proof::unproven(&self.config, &layouts, |_, _| true, &Proven::new()).1
    }

    fn longest_repeat(&self, forms: &BTreeSet<Form>) -> Option<Duration> {
        forms.iter().filter_map(|(cache, _)| self.config.caches[*cache].repeat_after).max()
    }
}
