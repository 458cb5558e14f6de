//! Bell or polling, by load.
//!
//! While changes are rare the daemon sleeps and writers ring; when they are frequent it polls and writers do not ring
//! (NOTIFY serialises commits). The protocol is exact: a writer rings when it cannot take the bell lock shared; the
//! daemon sleeps only while it holds the lock exclusively *and* one more poll, begun after it got the lock, was
//! empty. Every writer that skipped the ring had ended by then, so that poll saw it (HAZARDS 3.4).

use crate::planted;
use std::time::{Duration, Instant};

/// Between two polls while changes come. Short enough not to be felt, long enough that 200 polls a second cost
/// PostgreSQL a few per cent of a core.
const BUSY: Duration = Duration::from_millis(5);
/// Silence after which going to sleep is tried: a few times [`BUSY`], so that a steady stream never rings.
const SILENCE: Duration = Duration::from_millis(20);
/// The longest time between polls while the lock cannot be had (a writer's transaction is open) or must not be used.
const SLOWEST: Duration = Duration::from_millis(100);
/// Asleep, a poll runs this often all the same: it keeps the session from the server's `idle_session_timeout` and
/// would rescue a lost wake-up.
pub const FALLBACK: Duration = Duration::from_secs(8);

/// What the daemon does next with its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Poll now.
    Poll,
    /// Try to take the bell lock exclusively, then report [`Bell::locked`].
    TryLock,
    /// Nothing before this instant, unless the bell rings.
    Wait(Instant),
}

/// Where the bell protocol stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Polling; the last change was seen at `active`, the next poll is due.
    /// `untried`: the last poll was empty after long enough a silence, and the lock was not tried since; once for each
    /// such poll, so that a lock that cannot be had never keeps the daemon from polling.
    Polling { active: Instant, due: Instant, pace: Duration, untried: bool },
    /// The lock is ours, and the poll that must confirm silence has not come back yet.
    Confirming,
    /// The lock is ours and silence is confirmed: writers ring.
    Asleep { since: Instant },
}

/// The protocol's state. Not `Clone`: it mirrors a lock of one session.
#[derive(Debug)]
pub struct Bell {
    state: State,
    /// Whether writers may ring: not in poll-only mode, not while the NOTIFY queue is filling.
    allowed: bool,
    /// Whether rings are heard, as far as is known.
    heard: bool,
}

impl Bell {
    /// A new session polls at once. `rings` is false for poll-only mode.
    #[must_use]
    pub fn new(now: Instant, rings: bool) -> Self {
        Self {
            state: State::Polling { active: now, due: now, pace: BUSY, untried: false },
            allowed: rings,
            heard: true,
        }
    }

    /// What to do at `now`.
    #[must_use]
    pub fn next(&self, now: Instant) -> Next {
        match self.state {
            State::Confirming => Next::Poll,
            State::Polling { due, .. } if now >= due => Next::Poll,
            State::Polling { untried: true, .. } if self.rings() => Next::TryLock,
            State::Polling { due, .. } => Next::Wait(due),
            State::Asleep { since } if now >= since + FALLBACK => Next::Poll,
            State::Asleep { since } => Next::Wait(since + FALLBACK),
        }
    }

    /// The answer of `pg_try_advisory_lock`.
    pub fn locked(&mut self, got: bool, now: Instant) {
        if got && planted::is("wake-up-lost") {
            self.state = State::Asleep { since: now };
        } else if got {
            self.state = State::Confirming;
        } else if let State::Polling { due, pace, untried, .. } = &mut self.state {
            *untried = false;
            *pace = (*pace * 2).min(SLOWEST);
            *due = now + *pace;
        }
    }

    /// A poll came back. Returns whether the lock must be given back now.
    pub fn polled(&mut self, found: bool, now: Instant) -> bool {
        let rings = self.rings();
        match (&mut self.state, found) {
            (State::Polling { active, due, pace, untried }, true) => {
                (*active, *due, *pace, *untried) = (now, now + BUSY, BUSY, false);
                false
            }
            (State::Polling { active, due, pace, untried }, false) => {
                let silent = now.saturating_duration_since(*active) >= SILENCE;
                *untried = silent;
                // Poll-only mode slows down by itself; with a bell it is the refused lock that slows.
                if silent && !rings {
                    *pace = (*pace * 2).min(SLOWEST);
                }
                *due = now + *pace;
                false
            }
            (State::Confirming | State::Asleep { .. }, false) => {
                self.state = State::Asleep { since: now };
                false
            }
            (State::Confirming | State::Asleep { .. }, true) => {
                self.state = State::Polling { active: now, due: now + BUSY, pace: BUSY, untried: false };
                true
            }
        }
    }

    /// The bell rang: poll at once. The lock is given back by the poll that finds something.
    pub fn rang(&mut self) {
        if matches!(self.state, State::Asleep { .. }) {
            self.state = State::Confirming;
        }
    }

    /// Whether the next poll should come at once because the last page was full.
    pub fn hurry(&mut self, now: Instant) {
        if let State::Polling { due, .. } = &mut self.state {
            *due = now;
        }
    }

    /// Whether writers may ring from now on: not while the NOTIFY queue is filling, when they would not anyway. Returns whether
    /// the lock must be given back now.
    pub fn allow(&mut self, rings: bool, now: Instant) -> bool {
        self.allowed = rings;
        self.silenced(now)
    }

    /// Whether rings are heard, as far as the probe knows; without that nothing may depend on them. Returns whether the lock must
    /// be given back now.
    pub fn rely(&mut self, heard: bool, now: Instant) -> bool {
        self.heard = heard;
        self.silenced(now)
    }

    fn rings(&self) -> bool {
        self.allowed && self.heard
    }

    fn silenced(&mut self, now: Instant) -> bool {
        if self.rings() || matches!(self.state, State::Polling { .. }) {
            return false;
        }
        self.state = State::Polling { active: now, due: now, pace: BUSY, untried: false };
        true
    }

    /// Whether writers ring now.
    #[must_use]
    pub fn asleep(&self) -> bool {
        matches!(self.state, State::Asleep { .. })
    }
}

#[cfg(test)]
mod simulated;

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the protocol over `ms` with the given answers; returns (polls, lock tries, asleep at the end).
    fn run(ms: u64, rings: bool, lock: bool, found: impl Fn(u64) -> bool) -> (u32, u32, bool) {
        let start = Instant::now();
        let mut bell = Bell::new(start, rings);
        let (mut polls, mut tries, mut now) = (0, 0, start);
        while now < start + Duration::from_millis(ms) {
            match bell.next(now) {
                Next::Poll => {
                    polls += 1;
                    bell.polled(found((now - start).as_millis() as u64), now);
                    now += Duration::from_micros(200);
                }
                Next::TryLock => {
                    tries += 1;
                    bell.locked(lock, now);
                    now += Duration::from_micros(200);
                }
                Next::Wait(until) => {
                    assert!(until > now, "a wait must end later than it begins");
                    now = until;
                }
            }
        }
        (polls, tries, bell.asleep())
    }

    #[test]
    fn silence_leads_to_sleep_within_a_few_polls() {
        let (polls, tries, asleep) = run(1000, true, true, |_| false);
        assert!(asleep && tries == 1 && polls < 10, "{polls} polls, {tries} tries");
    }

    #[test]
    fn a_steady_stream_never_sleeps_nor_tries() {
        let (polls, tries, asleep) = run(1000, true, true, |_| true);
        assert!(!asleep && tries == 0 && polls > 150, "{polls} polls, {tries} tries");
    }

    #[test]
    fn a_held_lock_slows_polling_to_ten_a_second() {
        let (polls, _, asleep) = run(10_000, true, false, |_| false);
        assert!(!asleep && (90..150).contains(&polls), "{polls} polls");
    }

    #[test]
    fn poll_only_mode_slows_to_ten_a_second_and_never_locks() {
        let (polls, tries, _) = run(10_000, false, true, |_| false);
        assert!(tries == 0 && (90..150).contains(&polls), "{polls} polls");
    }

    #[test]
    fn asleep_it_costs_eight_polls_a_minute_at_most() {
        let (polls, tries, _) = run(60_000, true, true, |_| false);
        assert!(polls + tries < 18, "{polls} polls, {tries} tries");
    }

    #[test]
    fn a_find_after_the_lock_gives_it_back_instead_of_sleeping() {
        let now = Instant::now();
        let mut bell = Bell::new(now, true);
        bell.locked(true, now);
        assert!(bell.polled(true, now));
        assert!(!bell.asleep());
    }

    #[test]
    fn where_ringing_is_forbidden_it_wakes_and_polls_and_sleeps_again_when_it_may() {
        let now = Instant::now();
        let mut bell = Bell::new(now, true);
        bell.locked(true, now);
        bell.polled(false, now);
        assert!(bell.asleep());
        assert!(bell.allow(false, now), "the lock goes back");
        assert!(!bell.allow(false, now) && !bell.asleep());
        let mut later = now;
        for _ in 0..20 {
            assert_ne!(bell.next(later), Next::TryLock);
            bell.polled(false, later);
            later += SLOWEST;
        }
        assert!(!bell.allow(true, later));
        bell.polled(false, later);
        assert_eq!(bell.next(later), Next::TryLock);
    }

    #[test]
    fn a_bell_that_is_not_heard_is_not_relied_on_until_it_is_tried_again() {
        let now = Instant::now();
        let mut bell = Bell::new(now, true);
        bell.locked(true, now);
        assert!(!bell.polled(false, now));
        assert!(bell.rely(false, now), "asleep, the lock is ours");
        assert_eq!((bell.asleep(), bell.next(now)), (false, Next::Poll));
        assert!(!bell.polled(false, now + SILENCE));
        assert!(matches!(bell.next(now + SILENCE), Next::Wait(_)), "it polls, and tries no lock");
        assert!(!bell.rely(true, now));
        bell.polled(false, now + SILENCE * 2);
        assert_eq!(bell.next(now + SILENCE * 2), Next::TryLock);
        assert!(!bell.allow(false, now) && !bell.rely(true, now), "both must hold");
        bell.polled(false, now + SILENCE * 2);
        assert!(matches!(bell.next(now + SILENCE * 2), Next::Wait(_)));
        let mut poll_only = Bell::new(now, false);
        poll_only.rely(true, now);
        poll_only.polled(false, now + SILENCE);
        assert!(matches!(poll_only.next(now + SILENCE), Next::Wait(_)), "poll-only stays so");
    }

    #[test]
    fn a_ring_polls_at_once() {
        let now = Instant::now();
        let mut bell = Bell::new(now, true);
        bell.locked(true, now);
        assert!(!bell.polled(false, now));
        assert!(bell.asleep());
        bell.rang();
        assert_eq!(bell.next(now), Next::Poll);
        assert!(bell.polled(true, now), "the lock goes back once changes are seen");
    }
}
