//! Notify delivery: changes that travel in NOTIFY itself. What happens while nobody listens is a gap.

use super::Ended;
use super::live::{Live, Step};
use super::statements::Turn;
use crate::flow::proof::Proven;
use crate::observe::event::{FlushReason, Observation, Server, Statement};
use crate::rules::payload::notify::{Assembler, Broken, Limits, Notified, Step as Slice};
use crate::rules::template::Kind;
use crate::source::journal::{Change, What};
use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

/// Statements of 64 kB at most, so 1 024 of them are 64 MB at the very worst; slices of one transaction come in one go.
const SLICES: Limits = Limits { open: 1024, bytes: 32 << 20, age: Duration::from_secs(10) };
/// Statements that are delivered together at most.
const PAGE: usize = 512;
/// Tuples after which such a page ends, at about 200 bytes each with the keys they name; one statement alone brings at
/// most 8 192.
const PAGE_TUPLES: usize = 16_384;
/// Second deletes that are remembered. Beyond, the oldest promise is broken, and it is said so.
const MOST_LATER: usize = 100_000;

/// Second deletes in memory: notify delivery has nothing to read again.
#[derive(Debug, Default)]
pub(super) struct Later(VecDeque<(Instant, u64, Statement)>);

/// An assembler within our limits.
pub(super) fn assembler() -> Assembler {
    Assembler::new(SLICES)
}

impl Later {
    /// When the next second delete is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.0.iter().map(|(at, ..)| *at).min()
    }
}

impl Live<'_> {
    /// Notifications that were thrown away are changes that nobody knows: the session ends, and the next one begins with
    /// what `on_gap` says. In journal delivery they rang for what the next poll finds anyway.
    pub(super) fn no_gap(&self) -> Step {
        if self.journal.is_some() || !self.session.connected.notifications.overflowed() {
            return Ok(());
        }
        let why = "notifications came faster than they could be worked off: this is a gap";
        Err(Ended::Down(Server::Postgres, why.into()))
    }

    /// A payload came.
    pub(super) async fn notified(&mut self, sender: i32, payload: &str, now: Instant) -> Step {
        let (mut changes, mut tuples) = (Vec::new(), 0);
        let mut next = Some((sender, payload.to_owned()));
        // What is there already goes in the same page: a burst costs one script, not one each.
        while let Some((sender, payload)) = next.take() {
            for slice in self.assembler.take(sender, &payload, now) {
                match slice {
                    Slice::Pending => {}
                    Slice::Complete(statement) => {
                        tuples += statement.tuples.len();
                        changes.push(change(*statement, now));
                    }
                    Slice::Broken(broken) => changes.extend(self.broken(&broken, now)),
                }
            }
            if changes.len() < PAGE && tuples < PAGE_TUPLES {
                next = self.session.connected.notifications.try_recv().ok();
            }
        }
        self.deliver(changes, None, Turn::First).await
    }

    /// Statements whose missing slices did not come in time.
    pub(super) async fn expire_slices(&mut self, now: Instant) -> Step {
        let broken = self.assembler.expire(now);
        let changes: Vec<Change> = broken.iter().filter_map(|b| self.broken(b, now)).collect();
        if !changes.is_empty() {
            self.deliver(changes, None, Turn::First).await?;
        }
        self.later_due(now).await
    }

    /// What cannot be read evicts what its layout could, never more: anybody may call NOTIFY.
    fn broken(&self, broken: &Broken, now: Instant) -> Option<Change> {
        self.context.observer.report(Observation::Warning {
            what: "a notification that is not a whole statement",
            detail: broken.why.to_string(),
        });
        let layout = broken.layout.filter(|id| self.meaning.layouts().contains_key(id))?;
        Some(Change {
            layout,
            table: "".into(),
            what: Err(broken.why.to_string()),
            place: None,
            age: Duration::ZERO,
            read: now,
        })
    }

    /// A session of notify delivery begins: nobody knows what was missed.
    pub(super) async fn gap(&mut self, edges: Proven) -> Step {
        let why = "changes while nobody listened are unknown".to_owned();
        match self.config.postgres.on_gap {
            crate::config::model::OnGap::Evict => {
                let forms = self.enforced_forms();
                let after = super::flushes::After::Proven { edges, position: false };
                self.flush(forms, FlushReason::Gap(why), after).await
            }
            crate::config::model::OnGap::Alert => {
                self.context.observer.report(Observation::Warning {
                    what: "a gap of notify delivery",
                    detail: format!("{why}; on_gap = \"alert\" keeps the caches: evict by hand what may be stale"),
                });
                Ok(())
            }
        }
    }

    /// Keeps the second delete of a statement in memory.
    pub(super) fn remember_for_repeat(&mut self, statement: &Statement, now: Instant) {
        if self.journal.is_some() {
            return;
        }
        let delay = |cache: &str| self.config.cache(cache).and_then(|c| c.repeat_after);
        for key in &statement.keys {
            let Some(delay) = delay(&key.cache) else { continue };
            if self.later.0.len() >= MOST_LATER {
                self.context.observer.report(Observation::Warning {
                    what: "second deletes are dropped",
                    detail: format!("more than {MOST_LATER} wait; delivery = \"journal\" has no such limit"),
                });
                return;
            }
            let mut one = statement.clone();
            one.keys = vec![key.clone()];
            (one.skipped_null, one.unresolved, one.note) = (Vec::new(), Vec::new(), None);
            self.later.0.push_back((now + delay, super::repeats::millis(delay), one));
        }
    }

    async fn later_due(&mut self, now: Instant) -> Step {
        let mut keys: Vec<(Vec<u8>, super::statements::Asker)> = Vec::new();
        let mut rest = VecDeque::new();
        for (at, ms, mut statement) in std::mem::take(&mut self.later.0) {
            if at > now {
                rest.push_back((at, ms, statement));
                continue;
            }
            let Some(key) = statement.keys.pop() else { continue };
            let id = self.statements.open(statement, None, Turn::Repeat(ms), now, Duration::ZERO);
            let (kind, bytes) = (key.kind, key.key.clone());
            let asker = self.statements.key(id, key, false);
            match kind {
                Kind::Key => keys.push((bytes, asker)),
                Kind::Pattern => self.passes.want(bytes, asker),
            }
            let ended = self.statements.close(id, now);
            self.tell(ended, now);
        }
        self.later.0 = rest;
        self.delete_for(keys).await
    }
}

fn change(statement: Notified, now: Instant) -> Change {
    let age = statement.at.and_then(|at| SystemTime::now().duration_since(at).ok()).unwrap_or_default();
    Change {
        layout: statement.layout,
        table: "".into(),
        place: None,
        what: Ok(What {
            kind: statement.kind,
            op: statement.op,
            classes: statement.classes,
            tuples: statement.tuples,
            note: statement.note,
        }),
        age,
        read: now,
    }
}
