//! The statements that are being delivered, from the first delete to the log line.
//!
//! Their keys end at different times: exact keys at once, patterns with a pass. The log line is written when the last
//! one has.

use crate::flow::ledger::Ticket;
use crate::observe::event::{KeyOutcome, Outcome, Statement};
use crate::rules::binding::Binding;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::{Duration, Instant};

/// What a key counts for: one for every 100 bytes begun, so that a bound in keys is a bound in bytes.
fn weight(key: &KeyOutcome) -> usize {
    1 + key.key.len() / 100
}

/// Who asked for a key or pattern to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Asker {
    /// A statement, and which of its keys.
    Statement {
        /// Number of the statement.
        id: u64,
        /// Index of its key.
        slot: usize,
    },
    /// A flush.
    Flush(u64),
    /// The probe.
    Probe,
}

/// Which of the two deletes a statement's keys get now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// The first.
    First,
    /// The second, of `repeat_after`, with that delay in milliseconds.
    Repeat(u64),
}

#[derive(Debug)]
struct Open {
    statement: Statement,
    remaining: usize,
    ticket: Option<Ticket>,
    turn: Turn,
    read: Instant,
    age: Duration,
    /// By slot: keys that are to be warmed, with their cache.
    wants: HashMap<usize, (usize, Binding)>,
}

/// Numbers that nobody else chooses need no hash that withstands an attacker: their order spreads them well enough.
#[derive(Debug, Default)]
struct Numbered(u64);

impl Hasher for Numbered {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(self.0.rotate_left(8) ^ u64::from(*byte)));
    }

    fn write_u64(&mut self, n: u64) {
        // The table looks at the lowest bits and at the highest seven: an odd factor keeps neighbours apart in both.
        self.0 = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// A statement whose last key has ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// For the log; nothing to say when it has no keys and nothing was skipped.
    pub(super) statement: Statement,
    /// Held in the ledger until now.
    pub(super) ticket: Option<Ticket>,
    /// Which delete it was.
    pub(super) turn: Turn,
}

/// The open statements. Bounded by what the session reads ahead (see [`Statements::keys`]).
#[derive(Debug, Default)]
pub(super) struct Statements {
    open: HashMap<u64, Open, BuildHasherDefault<Numbered>>,
    next: u64,
    keys: usize,
}

impl Statements {
    /// Opens a statement that holds `ticket`; its keys are added by [`Statements::key`], then it is [`Statements::close`]d.
    pub(super) fn open(
        &mut self,
        statement: Statement,
        ticket: Option<Ticket>,
        turn: Turn,
        read: Instant,
        age: Duration,
    ) -> u64 {
        let id = self.next;
        self.next += 1;
        // One remaining for the opening itself, so that it cannot end before it is closed.
        self.open.insert(id, Open { statement, remaining: 1, ticket, turn, read, age, wants: HashMap::new() });
        id
    }

    /// Adds a key: with an outcome that is known already, or to be told by [`Statements::outcome`].
    pub(super) fn key(&mut self, id: u64, key: KeyOutcome, known: bool) -> Asker {
        self.keys += weight(&key);
        let slot = self.open.get_mut(&id).map_or(0, |open| {
            open.remaining += usize::from(!known);
            open.statement.keys.push(key);
            open.statement.keys.len() - 1
        });
        Asker::Statement { id, slot }
    }

    /// The key of `asker` is to be warmed once it is gone.
    pub(super) fn want(&mut self, asker: Asker, cache: usize, values: Binding) {
        if let Asker::Statement { id, slot } = asker
            && let Some(open) = self.open.get_mut(&id)
        {
            open.wants.insert(slot, (cache, values));
        }
    }

    /// The key of a slot that is to be warmed: its cache, itself, its values.
    pub(super) fn take_want(&mut self, id: u64, slot: usize) -> Option<(usize, Vec<u8>, Binding)> {
        let open = self.open.get_mut(&id)?;
        if open.wants.is_empty() {
            return None;
        }
        let (cache, values) = open.wants.remove(&slot)?;
        Some((cache, open.statement.keys.get(slot)?.key.clone(), values))
    }

    /// All keys are added. Returns the statement if nothing of it is outstanding.
    pub(super) fn close(&mut self, id: u64, now: Instant) -> Option<Ended> {
        self.one_less(id, now)
    }

    /// What became of a key. Returns the statement when that was its last.
    pub(super) fn outcome(&mut self, id: u64, slot: usize, outcome: Outcome, now: Instant) -> Option<Ended> {
        let open = self.open.get_mut(&id)?;
        if let Some(key) = open.statement.keys.get_mut(slot) {
            key.outcome = match (open.turn, outcome) {
                (Turn::Repeat(_), Outcome::Deleted(n)) => Outcome::Repeat(n),
                (Turn::Repeat(_), Outcome::Absent) => Outcome::Repeat(0),
                (_, other) => other,
            };
        }
        self.one_less(id, now)
    }

    /// How many keys are held, a long one counted as several: what is read ahead is bounded by it.
    pub(super) fn keys(&self) -> usize {
        self.keys
    }

    /// The table and cache that a slot stands for.
    pub(super) fn edge(&self, id: u64, slot: usize) -> Option<(crate::config::model::TableName, String)> {
        let statement = &self.open.get(&id)?.statement;
        Some((statement.table.clone(), statement.keys.get(slot)?.cache.to_string()))
    }

    fn one_less(&mut self, id: u64, now: Instant) -> Option<Ended> {
        let open = self.open.get_mut(&id)?;
        open.remaining -= 1;
        if open.remaining > 0 {
            return None;
        }
        let mut open = self.open.remove(&id)?;
        self.keys -= open.statement.keys.iter().map(weight).sum::<usize>();
        open.statement.took = now.saturating_duration_since(open.read);
        if !open.statement.again {
            open.statement.lag = open.age + open.statement.took;
        }
        open.statement.keys.sort_by(|a, b| a.key.cmp(&b.key));
        Some(Ended { statement: open.statement, ticket: open.ticket, turn: open.turn })
    }
}
