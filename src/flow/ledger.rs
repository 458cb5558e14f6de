//! Which snapshot the position may move to.
//!
//! Batches are applied in order, but what they asked for ends out of order: a SCAN pass takes longer than an UNLINK,
//! a debounced key goes at the end of its window. The ledger keeps each batch with the number of things that are
//! still outstanding; the position may reach a snapshot only when nothing at or before it is.

use crate::rules::snapshot::Snapshot;
use std::collections::VecDeque;

/// A batch of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

#[derive(Debug)]
struct Entry {
    ticket: Ticket,
    snapshot: Snapshot,
    outstanding: u64,
}

/// The batches that are not settled yet.
#[derive(Debug)]
pub struct Ledger {
    entries: VecDeque<Entry>,
    settled: Snapshot,
    next: u64,
}

impl Ledger {
    /// A ledger for a session that starts at `position`.
    #[must_use]
    pub fn new(position: Snapshot) -> Self {
        Self { entries: VecDeque::new(), settled: position, next: 0 }
    }

    /// A batch up to `snapshot` begins. It is outstanding once, until [`Ledger::release`].
    pub fn open(&mut self, snapshot: Snapshot) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.entries.push_back(Entry { ticket, snapshot, outstanding: 1 });
        ticket
    }

    /// One more thing of that batch is outstanding.
    pub fn hold(&mut self, ticket: Ticket) {
        if let Some(entry) = self.entry(ticket) {
            entry.outstanding += 1;
        }
    }

    /// One thing of that batch is done. Returns true when [`Ledger::settled`] moved.
    pub fn release(&mut self, ticket: Ticket) -> bool {
        if let Some(entry) = self.entry(ticket) {
            entry.outstanding -= 1;
        }
        let mut moved = false;
        while self.entries.front().is_some_and(|e| e.outstanding == 0) {
            if let Some(entry) = self.entries.pop_front() {
                self.settled = entry.snapshot;
                moved = true;
            }
        }
        moved
    }

    /// An empty batch up to `snapshot`: settles at once when nothing else is outstanding, else not at all (a later
    /// one will).
    pub fn pass_over(&mut self, snapshot: &Snapshot) {
        if self.entries.is_empty() {
            self.settled = snapshot.clone();
        }
    }

    /// Everything up to here is done.
    #[must_use]
    pub fn settled(&self) -> &Snapshot {
        &self.settled
    }

    /// Whether nothing is outstanding.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.entries.is_empty()
    }

    fn entry(&mut self, ticket: Ticket) -> Option<&mut Entry> {
        // Tickets rise by one, so the distance to the front is the index.
        let first = self.entries.front()?.ticket.0;
        let index = usize::try_from(ticket.0.checked_sub(first)?).ok()?;
        self.entries.get_mut(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(x: u64) -> Snapshot {
        format!("{x}:{x}:").parse().unwrap()
    }

    #[test]
    fn a_late_pass_holds_back_everything_behind_it() {
        let mut ledger = Ledger::new(at(1));
        let slow = ledger.open(at(2));
        let fast = ledger.open(at(3));
        ledger.hold(slow);
        ledger.release(slow);
        assert!(!ledger.release(fast));
        assert_eq!(*ledger.settled(), at(1));
        ledger.pass_over(&at(9));
        assert_eq!(*ledger.settled(), at(1));
        assert!(ledger.release(slow));
        assert_eq!(*ledger.settled(), at(3));
    }

    proptest! {
        /// Releases in any order: settled is always the snapshot before the first batch with something outstanding.
        #[test]
        fn settled_never_passes_an_outstanding_batch(holds in prop::collection::vec(0u64..3, 1..20), order in any::<u64>()) {
            let mut ledger = Ledger::new(at(1));
            let tickets: Vec<_> = (0..holds.len()).map(|i| ledger.open(at(i as u64 + 2))).collect();
            let mut left: Vec<u64> = holds.iter().map(|h| h + 1).collect();
            for (t, h) in tickets.iter().zip(&holds) {
                for _ in 0..*h { ledger.hold(*t); }
            }
            let mut seed = order;
            while left.iter().any(|l| *l > 0) {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let i = (seed >> 33) as usize % left.len();
                if left[i] == 0 { continue }
                left[i] -= 1;
                ledger.release(tickets[i]);
                let first_open = left.iter().position(|l| *l > 0).unwrap_or(left.len());
                prop_assert_eq!(ledger.settled(), &at(first_open as u64 + 1));
            }
            prop_assert!(ledger.is_idle());
        }
    }
}
