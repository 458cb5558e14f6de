//! When a session that follows a broken one may call itself well.
//!
//! A server may answer everything but the one command that matters: a user without SCAN, a role that may no longer read the journal. Each
//! session would then open, be ready, let readers trust the caches, and break at the first delete, again and again.

use crate::observe::Observer;
use crate::observe::event::Observation;
use crate::rules::snapshot::Snapshot;
use std::time::{Duration, Instant};

/// What is refused is refused within the first moments, because delivery begins with what broke the session before. A session that lives
/// this long is well, also when a long back-log is not yet delivered.
const PROBATION: Duration = Duration::from_secs(5);

/// Whether this session has shown that it works; until then it does not say that its servers are there.
#[derive(Debug, Default)]
pub(super) struct Trust {
    /// What is said then.
    greetings: Vec<Observation>,
    /// The session before this one had opened, and was broken by a server.
    doubted: bool,
    /// What the first poll saw: once that is delivered, whatever broke the session before is too.
    first: Option<Snapshot>,
    until: Option<Instant>,
}

impl Trust {
    /// `doubted`: the session before this one had opened, and was broken by a server.
    pub(super) fn new(doubted: bool) -> Self {
        Self { doubted, ..Self::default() }
    }

    /// Says that a server is there, now or once it is earned.
    pub(super) fn greet(&mut self, greeting: Observation, observer: &Observer) {
        if self.doubted {
            self.greetings.push(greeting);
        } else {
            observer.report(greeting);
        }
    }

    /// A poll has read up to `target`.
    pub(super) fn read(&mut self, target: &Snapshot) {
        if self.first.is_none() {
            self.first = Some(target.clone());
        }
    }

    /// Whether the session works; everything up to `settled` is delivered.
    pub(super) fn earned(&mut self, settled: &Snapshot, now: Instant) -> bool {
        let delivered = self.first.as_ref().is_some_and(|first| settled.contains(first));
        let until = *self.until.get_or_insert(now + PROBATION);
        self.doubted &= !delivered && now < until;
        !self.doubted
    }

    /// What is to be said now that it is earned; empty afterwards.
    pub(super) fn greetings(&mut self) -> Vec<Observation> {
        std::mem::take(&mut self.greetings)
    }

    /// Whether something is left to be said.
    pub(super) fn is_silent(&self) -> bool {
        !self.greetings.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{Log, LogFormat, LogKeys, LogLevel};

    fn snapshot(text: &str) -> Snapshot {
        text.parse().unwrap()
    }

    #[test]
    fn a_doubted_session_is_trusted_when_its_first_batch_is_delivered_or_time_has_passed() {
        let now = Instant::now();
        let (before, first, later) = (snapshot("10:10:"), snapshot("12:12:"), snapshot("15:15:"));
        let mut trust = Trust::new(false);
        assert!(trust.earned(&before, now));
        let mut trust = Trust::new(true);
        assert!(!trust.earned(&before, now));
        trust.read(&first);
        trust.read(&later);
        assert!(!trust.earned(&before, now));
        assert!(trust.earned(&first, now));
        let mut trust = Trust::new(true);
        assert!(!trust.earned(&later, now));
        assert!(!trust.earned(&later, now + PROBATION / 2));
        assert!(trust.earned(&before, now + PROBATION));
        assert!(trust.earned(&before, now));
    }

    #[test]
    fn greetings_wait_only_while_a_session_is_doubted() {
        let log = Log { format: LogFormat::Text, level: LogLevel::Info, keys: LogKeys::Full };
        let observer = Observer::new(&log);
        for doubted in [false, true] {
            let mut trust = Trust::new(doubted);
            trust.greet(Observation::Reloaded, &observer);
            assert_eq!(trust.is_silent(), doubted);
            assert_eq!(trust.greetings().len(), usize::from(doubted));
            assert!(!trust.is_silent());
        }
    }
}
