//! `debounce`: one delete now, one at the end of a fixed window if another change came.
//!
//! Kept in memory only: whoever suppresses a delete holds the batch in the ledger until the window's end, so that a
//! crash replays it.

use super::ledger::Ticket;
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// More windows than this are not opened: keys beyond are deleted at once, every time. 100 000 keys of 100 bytes are
/// about 20 MB.
const MOST_WINDOWS: usize = 100_000;

/// What to do with a key that was named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Delete it now.
    Now,
    /// Its window is open and it is the first suppressed delete of it, or a further one: it goes at the window's end.
    AtEnd,
}

#[derive(Debug)]
struct Window<W> {
    ends: Instant,
    suppressed: Option<(Vec<Ticket>, W)>,
}

/// The open windows. `W` is what the caller wants back at a window's end.
#[derive(Debug)]
pub struct Debounce<W> {
    windows: HashMap<Vec<u8>, Window<W>>,
    ends: BTreeSet<(Instant, Vec<u8>)>,
}

impl<W> Default for Debounce<W> {
    fn default() -> Self {
        Self { windows: HashMap::new(), ends: BTreeSet::new() }
    }
}

impl<W> Debounce<W> {
    /// `key` was named by the batch of `ticket` (None: notify delivery, which has no batches). On [`Verdict::AtEnd`] the
    /// ticket is kept (hold it in the ledger) and `what` is returned by [`Debounce::ended`].
    pub fn named(&mut self, key: &[u8], length: Duration, ticket: Option<Ticket>, what: W, now: Instant) -> Verdict {
        // A window that is over and was not collected yet still owes a delete, and holds the tickets that wait for it: it is
        // joined, not replaced.
        if let Some(window) = self.windows.get_mut(key)
            && (now < window.ends || window.suppressed.is_some())
        {
            match &mut window.suppressed {
                Some((tickets, _)) => tickets.extend(ticket),
                None => window.suppressed = Some((ticket.into_iter().collect(), what)),
            }
            return Verdict::AtEnd;
        }
        if self.windows.len() < MOST_WINDOWS {
            let ends = now + length;
            if let Some(old) = self.windows.insert(key.to_vec(), Window { ends, suppressed: None }) {
                self.ends.remove(&(old.ends, key.to_vec()));
            }
            self.ends.insert((ends, key.to_vec()));
        }
        Verdict::Now
    }

    /// When the next window ends.
    #[must_use]
    pub fn next_end(&self) -> Option<Instant> {
        self.ends.first().map(|(at, _)| *at)
    }

    /// Closes the windows that have ended; returns those in which a delete was suppressed.
    pub fn ended(&mut self, now: Instant) -> Vec<(Vec<u8>, Vec<Ticket>, W)> {
        let mut out = Vec::new();
        while self.ends.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, key)) = self.ends.pop_first() else { break };
            if let Some(Window { suppressed: Some((tickets, what)), .. }) = self.windows.remove(&key) {
                out.push((key, tickets, what));
            }
        }
        out
    }

    /// Ends every window now, whatever its time: the daemon is about to stop.
    pub fn end_all(&mut self) -> Vec<(Vec<u8>, Vec<Ticket>, W)> {
        self.ends.clear();
        let windows = std::mem::take(&mut self.windows);
        windows.into_iter().filter_map(|(k, w)| w.suppressed.map(|(t, what)| (k, t, what))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::ledger::Ledger;
    use super::*;

    #[test]
    fn one_delete_now_and_one_at_the_end_only_if_another_change_came() {
        let mut ledger = Ledger::new("1:1:".parse().unwrap());
        let ticket = ledger.open("2:2:".parse().unwrap());
        let start = Instant::now();
        let length = Duration::from_millis(250);
        let at = |ms| start + Duration::from_millis(ms);
        let mut d = Debounce::default();
        assert_eq!(d.named(b"k", length, Some(ticket), 1, at(0)), Verdict::Now);
        assert_eq!(d.named(b"k", length, Some(ticket), 2, at(100)), Verdict::AtEnd);
        assert_eq!(d.named(b"k", length, Some(ticket), 3, at(200)), Verdict::AtEnd);
        assert_eq!(d.named(b"other", length, None, 4, at(200)), Verdict::Now);
        assert!(d.ended(at(249)).is_empty());
        assert_eq!(d.ended(at(250)), [(b"k".to_vec(), vec![ticket, ticket], 2)]);
        assert_eq!(d.named(b"k", length, Some(ticket), 5, at(251)), Verdict::Now, "a new window begins");
        assert!(d.ended(at(9999)).is_empty());
        assert_eq!(d.next_end(), None);
    }

    #[test]
    fn a_window_that_is_over_but_not_collected_keeps_its_tickets() {
        let mut ledger = Ledger::new("1:1:".parse().unwrap());
        let (first, second) = (ledger.open("2:2:".parse().unwrap()), ledger.open("3:3:".parse().unwrap()));
        let start = Instant::now();
        let length = Duration::from_millis(250);
        let at = |ms| start + Duration::from_millis(ms);
        let mut d = Debounce::default();
        assert_eq!(d.named(b"k", length, Some(first), 1, at(0)), Verdict::Now);
        assert_eq!(d.named(b"k", length, Some(first), 2, at(100)), Verdict::AtEnd);
        // A busy daemon reads the next change before it looks at its windows: a lost ticket would hold the position for ever.
        assert_eq!(d.named(b"k", length, Some(second), 3, at(300)), Verdict::AtEnd);
        assert_eq!(d.ended(at(301)), [(b"k".to_vec(), vec![first, second], 2)]);
    }
}
