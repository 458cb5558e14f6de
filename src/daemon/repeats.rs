//! Second positions: the second delete of `repeat_after`.
//!
//! For every delay there is a position of its own behind the first one. When the first deletes up to a snapshot were
//! confirmed, the journal up to there is read once more after the delay, and the keys of the caches with that delay
//! go again. Nothing but the position is kept: a crash repeats more, never less.

use super::live::{Live, Step, postgres};
use super::statements::Turn;
use crate::config::model::Config;
use crate::rules::snapshot::Snapshot;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

#[derive(Debug)]
struct Repeat {
    delay: Duration,
    /// Deleted twice up to here; None: the caches were flushed once and must be flushed again.
    position: Option<Snapshot>,
    /// What the record says.
    recorded: Option<Snapshot>,
    /// First deletes up to the snapshot are confirmed; the second is due then.
    due: VecDeque<(Instant, Snapshot)>,
    /// A change for this delay was delivered that no entry of `due` covers yet.
    touched: bool,
    /// The repetition under way: up to where, and how many statements of it are outstanding.
    busy: Option<(Snapshot, usize)>,
}

/// All delays of the configuration, in milliseconds.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    by_delay: BTreeMap<u64, Repeat>,
}

/// The distinct delays that the configuration names.
pub(super) fn delays(config: &Config) -> Vec<u64> {
    let mut all: Vec<u64> = config.caches.iter().filter_map(|c| c.repeat_after).map(millis).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Whole milliseconds.
pub(super) fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

impl Repeats {
    /// For a session that starts with first deletes done up to `position`.
    pub(super) fn new(config: &Config, recorded: &BTreeMap<u64, Snapshot>, position: &Snapshot, now: Instant) -> Self {
        let by_delay = delays(config).into_iter().map(|ms| {
            let delay = Duration::from_millis(ms);
            let at = recorded.get(&ms).cloned();
            // What lies between is unknown to a new session: it is repeated whole.
            let due = VecDeque::from([(now + delay, position.clone())]);
            (ms, Repeat { delay, position: at.clone(), recorded: at, due, touched: false, busy: None })
        });
        Self { by_delay: by_delay.collect() }
    }

    /// A change was delivered that concerns a cache with this delay.
    pub(super) fn touch(&mut self, ms: u64) {
        if let Some(repeat) = self.by_delay.get_mut(&ms) {
            repeat.touched = true;
        }
    }

    /// Everything up to `snapshot` was deleted once. `idle`: nothing behind it is outstanding.
    pub(super) fn settled(&mut self, snapshot: &Snapshot, idle: bool, now: Instant) {
        for repeat in self.by_delay.values_mut().filter(|r| r.touched) {
            repeat.due.push_back((now + repeat.delay, snapshot.clone()));
            // A batch behind this one may have touched already; only when none is left is everything covered.
            repeat.touched = !idle;
        }
    }

    /// When the next repetition is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.by_delay.values().filter(|r| r.busy.is_none()).filter_map(|r| r.due.front().map(|(at, _)| *at)).min()
    }

    /// Whether a second position has moved since it was recorded.
    pub(super) fn moved(&self) -> bool {
        self.by_delay.values().any(|r| r.position != r.recorded)
    }

    /// What the record may say about second positions when the first one is `snapshot`.
    pub(super) fn up_to(&mut self, snapshot: &Snapshot) -> BTreeMap<u64, Snapshot> {
        let mut out = BTreeMap::new();
        for (ms, repeat) in &mut self.by_delay {
            if repeat.position.is_some() && repeat.due.is_empty() && !repeat.touched && repeat.busy.is_none() {
                // Nothing waits: the second position is where the first is.
                repeat.position = Some(snapshot.clone());
            }
            if repeat.position.as_ref().is_some_and(|p| snapshot.contains(p)) {
                repeat.recorded.clone_from(&repeat.position);
            }
            if let Some(recorded) = &repeat.recorded {
                out.insert(*ms, recorded.clone());
            }
        }
        out
    }

    /// A statement of a repetition begins.
    pub(super) fn began(&mut self, ms: u64) {
        if let Some((_, outstanding)) = self.by_delay.get_mut(&ms).and_then(|r| r.busy.as_mut()) {
            *outstanding += 1;
        }
    }

    /// A statement of a repetition, or its reading, has ended.
    pub(super) fn ended(&mut self, ms: u64) {
        let Some(repeat) = self.by_delay.get_mut(&ms) else { return };
        if let Some((snapshot, outstanding)) = repeat.busy.take() {
            if outstanding > 1 {
                repeat.busy = Some((snapshot, outstanding - 1));
            } else {
                repeat.position = Some(snapshot);
            }
        }
    }

    /// The second flush of a delay without a position is done.
    pub(super) fn flushed(&mut self, ms: u64, snapshot: Snapshot) {
        if let Some(repeat) = self.by_delay.get_mut(&ms) {
            repeat.busy = None;
            repeat.position = Some(snapshot);
        }
    }

    /// Repetitions that are due: `(delay, from, up to)`. They count as busy from now on.
    fn take_due(&mut self, now: Instant) -> Vec<(u64, Option<Snapshot>, Snapshot)> {
        let mut out = Vec::new();
        for (ms, repeat) in self.by_delay.iter_mut().filter(|(_, r)| r.busy.is_none()) {
            let mut last = None;
            while repeat.due.front().is_some_and(|(at, _)| *at <= now) {
                last = repeat.due.pop_front().map(|(_, snapshot)| snapshot);
            }
            if let Some(snapshot) = last {
                repeat.busy = Some((snapshot.clone(), 1));
                out.push((*ms, repeat.position.clone(), snapshot));
            }
        }
        out
    }
}

impl Live<'_> {
    /// Begins the repetitions that are due.
    pub(super) async fn repeats_due(&mut self, now: Instant) -> Step {
        for (ms, from, up_to) in self.repeats.take_due(now) {
            let Some(from) = from else {
                self.flush_again(ms, up_to).await?;
                continue;
            };
            let mut after = (0, 0);
            while let Some(journal) = &self.journal {
                let mut page =
                    journal.page(&self.session, &from, Some(&up_to), after).await.map_err(|e| postgres(&e))?;
                if page.floor.as_ref().is_some_and(|floor| !from.contains(floor)) {
                    return Err(super::Ended::TooOld);
                }
                self.deliver(std::mem::take(&mut page.changes), None, Turn::Repeat(ms)).await?;
                let Some(next) = page.next else { break };
                after = next;
            }
            self.repeats.ended(ms);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(x: u64) -> Snapshot {
        format!("{x}:{x}:").parse().unwrap()
    }

    fn one(now: Instant, recorded: Option<u64>) -> Repeats {
        let due = VecDeque::from([(now + Duration::from_secs(1), at(5))]);
        let position = recorded.map(at);
        let repeat = Repeat {
            delay: Duration::from_secs(1),
            position: position.clone(),
            recorded: position,
            due,
            touched: false,
            busy: None,
        };
        Repeats { by_delay: BTreeMap::from([(1000, repeat)]) }
    }

    #[test]
    fn the_second_position_follows_a_delay_behind_and_only_when_its_statements_have_ended() {
        let now = Instant::now();
        let mut r = one(now, Some(3));
        assert!(r.take_due(now).is_empty());
        let later = now + Duration::from_secs(1);
        assert_eq!(r.take_due(later), [(1000, Some(at(3)), at(5))]);
        r.began(1000);
        r.ended(1000);
        assert_eq!(r.up_to(&at(9))[&1000], at(3), "one statement is outstanding");
        r.ended(1000);
        assert!(r.moved());
        assert_eq!(r.up_to(&at(4))[&1000], at(3), "never ahead of the first position");
        r.touch(1000);
        assert_eq!(r.up_to(&at(9))[&1000], at(5));
        r.settled(&at(10), true, later);
        assert_eq!(r.next_due(), Some(later + Duration::from_secs(1)));
    }

    #[test]
    fn a_batch_that_touched_behind_a_settled_one_is_not_forgotten() {
        let now = Instant::now();
        let mut r = one(now, Some(5));
        r.take_due(now + Duration::from_secs(1));
        r.ended(1000);
        r.touch(1000);
        r.settled(&at(6), false, now);
        r.settled(&at(7), true, now);
        assert_eq!(r.by_delay[&1000].due.back().unwrap().1, at(7));
        assert!(!r.by_delay[&1000].touched);
    }

    #[test]
    fn without_a_position_the_record_stays_without() {
        let now = Instant::now();
        let mut r = one(now, None);
        assert_eq!(r.take_due(now + Duration::from_secs(1)), [(1000, None, at(5))]);
        assert!(r.up_to(&at(9)).is_empty());
        r.flushed(1000, at(5));
        assert_eq!(r.up_to(&at(9))[&1000], at(9), "nothing waits any more");
    }
}
