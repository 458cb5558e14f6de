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
    /// The repetition under way.
    busy: Option<Busy>,
}

#[derive(Debug)]
struct Busy {
    up_to: Snapshot,
    /// Statements outstanding, and one for the reading itself.
    outstanding: usize,
    /// From where pages are still to be read, and behind which row; None: all are read, or there are none.
    reading: Option<(Snapshot, (i64, i64))>,
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
    /// For a session that starts with first deletes done up to `position`; `flushing`: they will be when a first flush
    /// is over, see [`Repeats::first_flush_done`].
    pub(super) fn new(
        config: &Config,
        recorded: &BTreeMap<u64, Snapshot>,
        position: &Snapshot,
        flushing: bool,
        now: Instant,
    ) -> Self {
        let by_delay = delays(config).into_iter().map(|ms| {
            let delay = Duration::from_millis(ms);
            let at = recorded.get(&ms).cloned();
            let mut due = VecDeque::new();
            if !flushing || at.is_some() {
                // What lies between is unknown to a new session: it is repeated whole.
                due.push_back((now + delay, position.clone()));
            }
            (ms, Repeat { delay, position: at.clone(), recorded: at, due, touched: false, busy: None })
        });
        Self { by_delay: by_delay.collect() }
    }

    /// The session's first flush is over, with everything up to `snapshot` gone: from now on the delays of the second count.
    /// Counted from its beginning, the second could be over before a long first one is.
    pub(super) fn first_flush_done(&mut self, snapshot: &Snapshot, now: Instant) {
        for repeat in self.by_delay.values_mut().filter(|r| r.position.is_none() && r.busy.is_none()) {
            repeat.due.push_front((now + repeat.delay, snapshot.clone()));
        }
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
            // A second position ahead of this beacon's snapshot waits for the next beacon.
            if repeat.position.as_ref().is_some_and(|p| snapshot.contains(p)) {
                if repeat.due.is_empty() && !repeat.touched && repeat.busy.is_none() {
                    // Nothing waits: the second position is where the first is.
                    repeat.position = Some(snapshot.clone());
                }
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
        if let Some(busy) = self.by_delay.get_mut(&ms).and_then(|r| r.busy.as_mut()) {
            busy.outstanding += 1;
        }
    }

    /// A statement of a repetition, or its reading, has ended.
    pub(super) fn ended(&mut self, ms: u64) {
        let Some(repeat) = self.by_delay.get_mut(&ms) else { return };
        if let Some(busy) = repeat.busy.take() {
            if busy.outstanding > 1 {
                repeat.busy = Some(Busy { outstanding: busy.outstanding - 1, ..busy });
            } else {
                repeat.position = Some(busy.up_to);
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

    /// Begins the repetitions that are due; returns those that have no position to read from: `(delay, up to)`.
    fn begin_due(&mut self, now: Instant) -> Vec<(u64, Snapshot)> {
        let mut out = Vec::new();
        for (ms, repeat) in self.by_delay.iter_mut().filter(|(_, r)| r.busy.is_none()) {
            let mut last = None;
            while repeat.due.front().is_some_and(|(at, _)| *at <= now) {
                last = repeat.due.pop_front().map(|(_, snapshot)| snapshot);
            }
            let Some(up_to) = last else { continue };
            let reading = repeat.position.clone().map(|from| (from, (0, 0)));
            if reading.is_none() {
                out.push((*ms, up_to.clone()));
            }
            repeat.busy = Some(Busy { up_to, outstanding: 1, reading });
        }
        out
    }

    /// The next page that a repetition wants: `(delay, from, up to, behind)`.
    fn next_page(&self) -> Option<(u64, Snapshot, Snapshot, (i64, i64))> {
        self.by_delay.iter().find_map(|(ms, repeat)| {
            let busy = repeat.busy.as_ref()?;
            let (from, after) = busy.reading.as_ref()?;
            Some((*ms, from.clone(), busy.up_to.clone(), *after))
        })
    }

    /// Where the page behind the one just read begins; None: it was the last.
    fn page_read(&mut self, ms: u64, next: Option<(i64, i64)>) {
        if let Some(busy) = self.by_delay.get_mut(&ms).and_then(|r| r.busy.as_mut()) {
            busy.reading = busy.reading.take().and_then(|(from, _)| Some((from, next?)));
        }
    }

    /// Whether a page is wanted now.
    pub(super) fn reading(&self) -> bool {
        self.by_delay.values().any(|r| r.busy.as_ref().is_some_and(|b| b.reading.is_some()))
    }
}

impl Live<'_> {
    /// Begins the repetitions that are due and reads one page of one: fresh changes come in between.
    pub(super) async fn repeats_due(&mut self, now: Instant) -> Step {
        for (ms, up_to) in self.repeats.begin_due(now) {
            self.flush_again(ms, up_to).await?;
        }
        let (Some((ms, from, up_to, after)), Some(journal)) = (self.repeats.next_page(), &self.journal) else {
            return Ok(());
        };
        let page = journal.page(&from, Some(&up_to), after, self.paging.rows()).await.map_err(|e| postgres(&e))?;
        if page.kept.as_ref().and_then(|kept| kept.floor.as_ref()).is_some_and(|floor| !from.contains(floor)) {
            return Err(super::Ended::TooOld);
        }
        self.deliver(page.changes, None, Turn::Repeat(ms)).await?;
        self.repeats.page_read(ms, page.next);
        if page.next.is_none() {
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

    #[test]
    fn the_delay_of_a_second_flush_counts_from_the_end_of_the_first() {
        let toml = "[postgres]\nurl = \"postgresql://u@h/d\"\n[redis]\nurl = \"redis://h\"\n\
                    [cache.c]\nkey = \"c:{id}\"\nrepeat_after = \"1s\"\n[table.t]\nevict = [\"c\"]";
        let (config, _) = crate::config::parse(toml, "t", &crate::config::Environment::empty()).unwrap();
        let (now, minute, second) = (Instant::now(), Duration::from_secs(60), Duration::from_secs(1));
        let mut r = Repeats::new(&config, &BTreeMap::new(), &at(5), true, now);
        assert!(r.next_due().is_none() && r.begin_due(now + minute).is_empty(), "the first is under way");
        r.first_flush_done(&at(5), now + minute);
        assert_eq!(r.next_due(), Some(now + minute + second));
        assert_eq!(r.begin_due(now + minute + second), [(1000, at(5))]);
        // A session that begins behind a finished flush has no other to wait for.
        let r = Repeats::new(&config, &BTreeMap::new(), &at(5), false, now);
        assert_eq!(r.next_due(), Some(now + second));
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
        assert!(r.begin_due(now).is_empty() && !r.reading());
        let later = now + Duration::from_secs(1);
        assert!(r.begin_due(later).is_empty());
        assert_eq!(r.next_page(), Some((1000, at(3), at(5), (0, 0))));
        r.began(1000);
        r.page_read(1000, None);
        assert!(!r.reading());
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
        r.begin_due(now + Duration::from_secs(1));
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
        assert_eq!(r.begin_due(now + Duration::from_secs(1)), [(1000, at(5))]);
        assert!(r.up_to(&at(9)).is_empty());
        r.flushed(1000, at(5));
        assert_eq!(r.up_to(&at(9))[&1000], at(9), "nothing waits any more");
    }
}
