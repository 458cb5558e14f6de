//! When a probe begins, when it is late, and what its arrival says.
//!
//! A probe changes a row of pgevict's own and waits until the change has deleted a key of pgevict's own: row → trigger → bell → journal →
//! Redis. It arrives within milliseconds or something is wrong. If writers ring and it does not arrive soon, the daemon looks for itself;
//! a change that is found only then was not heard, and the bell is not relied on for a while.

use std::time::{Duration, Instant};

/// From one probe to the next. An idle daemon sends PostgreSQL an UPDATE and a poll for each, 24 statements a minute.
pub const EVERY: Duration = Duration::from_secs(5);
/// A probe that has not arrived by then is lost: what evicts later than this is not ready.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// A ring takes milliseconds; on a machine that is out of breath, some hundred.
const HEARD: Duration = Duration::from_secs(2);
/// After a failure the next one comes sooner, so that a repair shows.
const AGAIN: Duration = Duration::from_secs(2);
/// How long the bell is not relied on after a ring was missed.
const DEAF: Duration = Duration::from_secs(60);

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// Begin a probe: [`Probe::begin`].
    Begin,
    /// The bell should have rung: look into the journal, then [`Probe::looked`].
    Look,
    /// The deadline has passed: find out which station failed, then [`Probe::failed`].
    Late,
}

/// A probe has come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// From its beginning to the delete of its key.
    pub took: Duration,
    /// The bell should have rung for it, and did not.
    pub unheard: bool,
}

#[derive(Debug)]
enum State {
    /// The next one begins at this instant.
    Waiting(Instant),
    /// Under way since `began`. `rings`: writers rang when it began. `looked`: the daemon has looked for itself.
    Travelling { nonce: String, began: Instant, rings: bool, looked: bool },
    /// Lost; somebody finds out where.
    Lost,
}

/// The probes of one session.
#[derive(Debug)]
pub struct Probe {
    state: State,
    deaf_until: Option<Instant>,
}

impl Probe {
    /// The first one begins at once: nothing is ready before it has arrived.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { state: State::Waiting(now), deaf_until: None }
    }

    /// When to ask [`Probe::due`] again at the latest; None: not before something is reported.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        match &self.state {
            State::Waiting(at) => Some(*at),
            State::Travelling { began, rings: true, looked: false, .. } => Some(*began + HEARD),
            State::Travelling { began, .. } => Some(*began + DEADLINE),
            State::Lost => None,
        }
    }

    /// What is due at `now`. [`Due::Late`] is said once.
    pub fn due(&mut self, now: Instant) -> Due {
        if self.next_due().is_none_or(|at| now < at) {
            return Due::Nothing;
        }
        match &self.state {
            State::Waiting(_) => Due::Begin,
            State::Travelling { began, .. } if now < *began + DEADLINE => Due::Look,
            _ => {
                self.state = State::Lost;
                Due::Late
            }
        }
    }

    /// A probe begins. `rings`: writers ring now, because the daemon sleeps.
    pub fn begin(&mut self, nonce: String, rings: bool, now: Instant) {
        self.state = State::Travelling { nonce, began: now, rings, looked: false };
    }

    /// The daemon looks into the journal by itself.
    pub fn looked(&mut self) {
        if let State::Travelling { looked, .. } = &mut self.state {
            *looked = true;
        }
    }

    /// Whether one is under way.
    #[must_use]
    pub fn travels(&self) -> bool {
        matches!(self.state, State::Travelling { .. })
    }

    /// Whether this is the probe that is under way: older ones may still come out of the journal.
    #[must_use]
    pub fn expects(&self, nonce: &[u8]) -> bool {
        matches!(&self.state, State::Travelling { nonce: ours, .. } if ours.as_bytes() == nonce)
    }

    /// Its key was deleted. None: nobody waits for it any more.
    pub fn arrived(&mut self, now: Instant) -> Option<Arrival> {
        let State::Travelling { began, looked, .. } = self.state else { return None };
        self.state = State::Waiting(now + EVERY);
        if looked {
            self.deaf_until = Some(now + DEAF);
        }
        Some(Arrival { took: now.saturating_duration_since(began), unheard: looked })
    }

    /// It is known why it cannot arrive. False: it has.
    pub fn failed(&mut self, now: Instant) -> bool {
        let open = !matches!(self.state, State::Waiting(_));
        if open {
            self.state = State::Waiting(now + AGAIN);
        }
        open
    }

    /// Whether the bell may be relied on again; said once. A probe begins at once to prove it.
    pub fn hears_again(&mut self, now: Instant) -> bool {
        let again = matches!(self.state, State::Waiting(_)) && self.deaf_until.is_some_and(|until| now >= until);
        if again {
            *self = Self::new(now);
        }
        again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(rings: bool) -> (Probe, Instant) {
        let now = Instant::now();
        let mut probe = Probe::new(now);
        assert_eq!(probe.due(now), Due::Begin, "the first one begins at once");
        probe.begin("a".into(), rings, now);
        (probe, now)
    }

    #[test]
    fn one_that_arrives_is_followed_by_the_next_after_a_while() {
        let (mut probe, t) = begun(true);
        assert!(probe.expects(b"a") && !probe.expects(b"b"));
        let at = t + Duration::from_millis(7);
        assert_eq!(probe.arrived(at), Some(Arrival { took: Duration::from_millis(7), unheard: false }));
        assert_eq!(probe.arrived(at), None, "once");
        assert_eq!((probe.due(at), probe.next_due()), (Due::Nothing, Some(at + EVERY)));
        assert_eq!(probe.due(at + EVERY), Due::Begin);
    }

    #[test]
    fn where_writers_ring_the_daemon_looks_for_itself_and_then_knows_that_it_is_deaf() {
        let (mut probe, t) = begun(true);
        assert_eq!(probe.due(t + HEARD), Due::Look);
        probe.looked();
        assert_eq!(probe.due(t + HEARD), Due::Nothing);
        let at = t + HEARD + Duration::from_millis(1);
        assert!(probe.arrived(at).unwrap().unheard);
        assert!(!probe.hears_again(at + DEAF - Duration::from_secs(1)));
        assert!(probe.hears_again(at + DEAF));
        assert_eq!(probe.due(at + DEAF), Due::Begin, "and that is to be proven");
        assert!(!probe.hears_again(at + DEAF), "once");
    }

    #[test]
    fn where_the_daemon_polls_there_is_nothing_to_look_for() {
        let (mut probe, t) = begun(false);
        assert_eq!(probe.due(t + HEARD), Due::Nothing);
        assert_eq!(probe.next_due(), Some(t + DEADLINE));
    }

    #[test]
    fn a_late_one_is_said_once_and_tried_again_when_it_is_known_why() {
        let (mut probe, t) = begun(true);
        probe.looked();
        let late = t + DEADLINE;
        assert_eq!((probe.due(late), probe.due(late), probe.next_due()), (Due::Late, Due::Nothing, None));
        assert!(!probe.expects(b"a"));
        assert_eq!(probe.arrived(late), None, "too late is lost");
        assert!(probe.failed(late));
        assert!(!probe.failed(late), "once");
        assert_eq!(probe.next_due(), Some(late + AGAIN));
    }
}
