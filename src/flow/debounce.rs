//! `debounce`: one delete now, one at the end of a fixed window if another change came.
//!
//! Kept in memory only: whoever suppresses a delete holds the batch in the ledger until the window's end, so that a
//! crash replays it.

use super::ledger::Ticket;
use crate::rules::template::Rendered;
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
///
/// By key *or* pattern: a value may hold a `*`, so that a key has the bytes of a pattern, and the end of the one must not stand for
/// the end of the other.
#[derive(Debug)]
pub struct Debounce<W> {
    windows: HashMap<Rendered, Window<W>>,
    ends: BTreeSet<(Instant, Rendered)>,
}

/// What goes at a window's end: what was named, the batches that wait for it, and what the caller wants back.
pub type Ending<W> = (Rendered, Vec<Ticket>, W);

impl<W> Default for Debounce<W> {
    fn default() -> Self {
        Self { windows: HashMap::new(), ends: BTreeSet::new() }
    }
}

impl<W> Debounce<W> {
    /// `key` was named by the batch of `ticket` (None: notify delivery, which has no batches). On [`Verdict::AtEnd`] the
    /// ticket is kept (hold it in the ledger) and `what` is returned by [`Debounce::ended`], no later than `length` from now.
    pub fn named(
        &mut self,
        key: &Rendered,
        length: Duration,
        ticket: Option<Ticket>,
        what: W,
        now: Instant,
    ) -> Verdict {
        // A window that is over and was not collected yet still owes a delete, and holds the tickets that wait for it: it is
        // joined, not replaced.
        if let Some(window) = self.windows.get_mut(key)
            && (now < window.ends || window.suppressed.is_some())
        {
            match &mut window.suppressed {
                Some((tickets, _)) => tickets.extend(ticket),
                None => window.suppressed = Some((ticket.into_iter().collect(), what)),
            }
            // Another table may have opened it, with more patience than this one.
            let sooner = window.ends.min(now + length);
            if sooner < window.ends {
                self.ends.remove(&(window.ends, key.clone()));
                self.ends.insert((sooner, key.clone()));
                window.ends = sooner;
            }
            return Verdict::AtEnd;
        }
        if self.windows.len() < MOST_WINDOWS {
            let ends = now + length;
            if let Some(old) = self.windows.insert(key.clone(), Window { ends, suppressed: None }) {
                self.ends.remove(&(old.ends, key.clone()));
            }
            self.ends.insert((ends, key.clone()));
        }
        Verdict::Now
    }

    /// When the next window ends.
    #[must_use]
    pub fn next_end(&self) -> Option<Instant> {
        self.ends.first().map(|(at, _)| *at)
    }

    /// Closes the windows that have ended; returns those in which a delete was suppressed.
    pub fn ended(&mut self, now: Instant) -> Vec<Ending<W>> {
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
    pub fn end_all(&mut self) -> Vec<Ending<W>> {
        self.ends.clear();
        let windows = std::mem::take(&mut self.windows);
        windows.into_iter().filter_map(|(k, w)| w.suppressed.map(|(t, what)| (k, t, what))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::ledger::Ledger;
    use super::*;
    use proptest::prelude::*;

    fn key(name: &str) -> Rendered {
        Rendered::Key(name.into())
    }

    #[test]
    fn one_delete_now_and_one_at_the_end_only_if_another_change_came() {
        let mut ledger = Ledger::new("1:1:".parse().unwrap());
        let ticket = ledger.open("2:2:".parse().unwrap());
        let start = Instant::now();
        let length = Duration::from_millis(250);
        let at = |ms| start + Duration::from_millis(ms);
        let mut d = Debounce::default();
        assert_eq!(d.named(&key("k"), length, Some(ticket), 1, at(0)), Verdict::Now);
        assert_eq!(d.named(&key("k"), length, Some(ticket), 2, at(100)), Verdict::AtEnd);
        assert_eq!(d.named(&key("k"), length, Some(ticket), 3, at(200)), Verdict::AtEnd);
        assert_eq!(d.named(&key("other"), length, None, 4, at(200)), Verdict::Now);
        assert!(d.ended(at(249)).is_empty());
        assert_eq!(d.ended(at(250)), [(key("k"), vec![ticket, ticket], 2)]);
        assert_eq!(d.named(&key("k"), length, Some(ticket), 5, at(251)), Verdict::Now, "a new window begins");
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
        assert_eq!(d.named(&key("k"), length, Some(first), 1, at(0)), Verdict::Now);
        assert_eq!(d.named(&key("k"), length, Some(first), 2, at(100)), Verdict::AtEnd);
        // A busy daemon reads the next change before it looks at its windows: a lost ticket would hold the position for ever.
        assert_eq!(d.named(&key("k"), length, Some(second), 3, at(300)), Verdict::AtEnd);
        assert_eq!(d.ended(at(301)), [(key("k"), vec![first, second], 2)]);
    }

    #[test]
    fn a_key_that_looks_like_a_pattern_has_a_window_of_its_own() {
        let start = Instant::now();
        let length = Duration::from_millis(250);
        let (key, pattern) = (key("u:7:*"), Rendered::Pattern(b"u:7:*".to_vec()));
        let mut d = Debounce::default();
        assert_eq!(d.named(&key, length, None, 1, start), Verdict::Now);
        assert_eq!(d.named(&key, length, None, 2, start), Verdict::AtEnd);
        assert_eq!(d.named(&pattern, length, None, 3, start), Verdict::Now);
        assert_eq!(d.named(&pattern, length, None, 4, start), Verdict::AtEnd);
        let mut ended: Vec<_> = d.ended(start + length).into_iter().map(|(what, ..)| what).collect();
        ended.sort();
        assert_eq!(ended, [key, pattern]);
    }

    proptest! {
        /// Whoever names what, with whatever patience, and however late the daemon looks: each suppressed delete is followed by
        /// one, in time if the daemon is; each ticket comes back once; and deletes at once are a window apart.
        #[test]
        fn every_suppressed_delete_is_followed_by_one(
            steps in prop::collection::vec((0u64..120, 0usize..3, 0usize..3, any::<bool>()), 1..120), prompt in any::<bool>(),
        ) {
            let lengths = [60, 100, 250].map(Duration::from_millis);
            let mut ledger = Ledger::new("1:1:".parse().unwrap());
            let mut now = Instant::now();
            let mut d = Debounce::default();
            // Per key: what waits for its end, as (ticket, latest end), and the last delete at once.
            let mut waits: [Vec<(Ticket, Instant)>; 3] = Default::default();
            let mut last: [Option<Instant>; 3] = [None; 3];
            let name = |k: usize| key(["a", "b", "c"][k]);
            let collect = |d: &mut Debounce<usize>, waits: &mut [Vec<(Ticket, Instant)>; 3], now: Instant| {
                for (what, tickets, k) in d.ended(now) {
                    prop_assert_eq!(&what, &name(k));
                    let expected: Vec<Ticket> = waits[k].iter().map(|(t, _)| *t).collect();
                    prop_assert_eq!(&tickets, &expected, "one delete answers all who wait, once");
                    if prompt {
                        prop_assert!(waits[k].iter().all(|(_, by)| now <= *by), "it came too late");
                    }
                    waits[k].clear();
                }
                Ok(())
            };
            for (pause, k, length, looks) in steps {
                let next = now + Duration::from_millis(pause);
                while prompt && let Some(end) = d.next_end().filter(|end| *end <= next) {
                    collect(&mut d, &mut waits, end)?;
                }
                now = next;
                if looks {
                    collect(&mut d, &mut waits, now)?;
                }
                let ticket = ledger.open("2:2:".parse().unwrap());
                match d.named(&name(k), lengths[length], Some(ticket), k, now) {
                    Verdict::AtEnd => waits[k].push((ticket, now + lengths[length])),
                    Verdict::Now => {
                        prop_assert!(waits[k].is_empty(), "the window that was open is forgotten");
                        prop_assert!(last[k].is_none_or(|at| now - at >= lengths[0]), "twice at once");
                        last[k] = Some(now);
                    }
                }
            }
            now += lengths[2];
            if prompt {
                while let Some(end) = d.next_end() {
                    collect(&mut d, &mut waits, end)?;
                }
            } else {
                collect(&mut d, &mut waits, now)?;
            }
            prop_assert!(waits.iter().all(Vec::is_empty), "a suppressed delete never came");
            prop_assert!(d.windows.is_empty() && d.ends.is_empty());
        }
    }
}
