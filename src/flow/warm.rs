//! What is warmed when: one query at a time for each key, the hottest first, within limits, and not at all where it fails.
//!
//! Nothing here may ever delay an eviction: what is offered is taken, joined with what waits, or dropped, at once.

use crate::planted;
use crate::rules::binding::Binding;
use crate::rules::snapshot::Snapshot;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Keys that one query may fill, where it takes many: an answer stays small, and one that fails costs no more than these.
pub const BATCH: usize = 100;
/// Times that a key is tried before the next reader has to fill it.
const MOST_TRIES: u32 = 6;
/// Before a value that was overtaken is read again: doubled each time. The change is committed and its eviction done, so the next
/// query sees it; it is lost again only to a newer one.
const RACE_PAUSE: Duration = Duration::from_millis(5);
/// Before what failed is tried again: doubled each time.
const FAILURE_PAUSE: Duration = Duration::from_millis(200);
/// Failures in a row after which a cache is left alone.
const BREAKS_AT: u32 = 5;
/// For how long, doubled each time up to the second.
const BREAK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// A key that is to be filled again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// In [`crate::config::model::Config::caches`].
    pub cache: usize,
    /// The full Redis key.
    pub key: Vec<u8>,
    /// Its values.
    pub values: Binding,
    /// The hotter goes first, the coldest is dropped first.
    pub heat: u32,
    /// What its value has to have seen, as far as is known.
    pub since: Option<Snapshot>,
    /// Nothing is asked for it where it is there by then.
    pub if_absent: bool,
    /// How often it was tried.
    tries: u32,
}

impl Want {
    /// A key that nobody has tried yet.
    #[must_use]
    pub fn new(cache: usize, key: Vec<u8>, values: Binding, heat: u32) -> Self {
        Self { cache, key, values, heat, since: None, if_absent: false, tries: 0 }
    }

    /// The same, evicted by a change that was read by this snapshot.
    #[must_use]
    pub fn since(self, since: Option<Snapshot>) -> Self {
        Self { since, ..self }
    }

    /// The same, unless somebody fills it while it waits.
    #[must_use]
    pub fn if_absent(self) -> Self {
        Self { if_absent: true, ..self }
    }

    /// How often it was tried.
    #[must_use]
    pub fn tries(&self) -> u32 {
        self.tries
    }
}

/// What bounds warming as a whole.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Queries at the same time.
    pub concurrency: usize,
    /// Queries begun in any second.
    pub per_second: u32,
    /// Keys that may wait.
    pub queue: usize,
}

/// What bounds one cache.
#[derive(Debug, Clone, Copy, Default)]
pub struct LaneLimits {
    /// Queries at the same time.
    pub concurrency: Option<usize>,
    /// Queries begun in any second.
    pub per_second: Option<u32>,
    /// One query fills many keys.
    pub batched: bool,
}

/// Keys of one cache for one query.
#[derive(Debug, PartialEq, Eq)]
pub struct Job {
    /// The cache.
    pub cache: usize,
    /// At least one.
    pub wants: Vec<Want>,
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Ask this.
    Start(Job),
    /// Nothing before then; None: before something is offered or ends.
    Wait(Option<Instant>),
}

/// How a key ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Stored, or there is nothing to store.
    Done,
    /// A change overtook the value.
    Overtaken,
    /// Something failed that may work later.
    Failed,
    /// It cannot work as it is.
    Hopeless,
}

/// How it stands with one cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LaneState {
    /// Keys that wait for their turn, or to be tried again.
    pub waiting: usize,
    /// Questions under way.
    pub running: usize,
    /// It is left alone for this long; zero: a try decides now.
    pub rests: Option<Duration>,
}

/// At most so many in any second.
#[derive(Debug)]
struct Rate {
    most: usize,
    begun: VecDeque<Instant>,
}

impl Rate {
    fn new(most: u32) -> Self {
        Self { most: usize::try_from(most).unwrap_or(usize::MAX), begun: VecDeque::new() }
    }

    /// When the next may begin.
    fn free_at(&self, now: Instant) -> Instant {
        match self.begun.front().filter(|_| self.begun.len() >= self.most && !planted::is("warm-rateless")) {
            Some(first) => (*first + Duration::from_secs(1)).max(now),
            None => now,
        }
    }

    fn begin(&mut self, now: Instant) {
        if self.begun.len() >= self.most {
            self.begun.pop_front();
        }
        self.begun.push_back(now);
    }

    /// The last one that began asked nothing.
    fn spare(&mut self) {
        self.begun.pop_back();
    }
}

/// Whether a cache is left alone because its queries fail.
#[derive(Debug, Default)]
struct Breaker {
    failures: u32,
    breaks: u32,
    /// Nothing is asked before; then one query, which decides.
    until: Option<Instant>,
}

impl Breaker {
    fn ended(&mut self, well: bool, now: Instant) {
        if well {
            *self = Self::default();
            return;
        }
        self.failures += 1;
        if self.failures >= BREAKS_AT {
            let pause = BREAK.0.saturating_mul(1 << self.breaks.min(10)).min(BREAK.1);
            self.breaks += 1;
            self.until = Some(now + pause);
        }
    }
}

#[derive(Debug)]
struct Lane {
    limits: LaneLimits,
    rate: Option<Rate>,
    breaker: Breaker,
    running: usize,
    /// Keys of `Warming::paused`.
    paused: usize,
    /// The hottest first, then the one that has waited longest.
    waiting: BTreeMap<(Reverse<u32>, u64), Vec<u8>>,
}

impl Lane {
    /// When it may begin the next; None: when one that runs has ended.
    fn free_at(&self, now: Instant) -> Option<Instant> {
        // A cache that was left alone is tried with one query.
        let at_once = if self.breaker.until.is_some() { 1 } else { self.limits.concurrency.unwrap_or(usize::MAX) };
        if self.running >= at_once {
            return None;
        }
        let free = self.rate.as_ref().map_or(now, |r| r.free_at(now));
        Some(free.max(self.breaker.until.unwrap_or(now)))
    }
}

/// Where a key is.
#[derive(Debug)]
enum Place {
    Waiting(Want, (Reverse<u32>, u64)),
    /// Failed or overtaken: waits in `paused`.
    Paused(Want),
    /// Asked for now; Some: and once more afterwards, for it was evicted since.
    Running(Option<Want>),
}

/// Everything that waits, runs and is left alone.
#[derive(Debug)]
pub struct Warming {
    limits: Limits,
    rate: Rate,
    running: usize,
    lanes: Vec<Lane>,
    places: HashMap<Vec<u8>, Place>,
    paused: BTreeMap<(Instant, u64), Vec<u8>>,
    /// Keys in `waiting` and `paused`.
    held: usize,
    next: u64,
}

impl Warming {
    /// Nothing waits yet. One lane for each cache of the configuration.
    #[must_use]
    pub fn new(limits: Limits, lanes: impl IntoIterator<Item = LaneLimits>) -> Self {
        let lane = |limits: LaneLimits| Lane {
            limits,
            rate: limits.per_second.map(Rate::new),
            breaker: Breaker::default(),
            running: 0,
            paused: 0,
            waiting: BTreeMap::new(),
        };
        Self {
            limits,
            rate: Rate::new(limits.per_second),
            running: 0,
            lanes: lanes.into_iter().map(lane).collect(),
            places: HashMap::new(),
            paused: BTreeMap::new(),
            held: 0,
            next: 0,
        }
    }

    /// Keys that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.held
    }

    /// Whether this cache is left alone because its queries failed.
    #[must_use]
    pub fn is_broken(&self, cache: usize) -> bool {
        self.lanes.get(cache).is_some_and(|lane| lane.breaker.until.is_some())
    }

    /// Whether the key waits or is asked for.
    #[must_use]
    pub fn holds(&self, key: &[u8]) -> bool {
        self.places.contains_key(key)
    }

    /// How it stands with this cache.
    #[must_use]
    pub fn lane(&self, cache: usize, now: Instant) -> LaneState {
        let state = |lane: &Lane| LaneState {
            waiting: lane.waiting.len() + lane.paused,
            running: lane.running,
            rests: lane.breaker.until.map(|until| until.saturating_duration_since(now)),
        };
        self.lanes.get(cache).map(state).unwrap_or_default()
    }

    /// A key was evicted, or is wanted for another reason. Returns what had to go for it: the coldest that waits, or itself.
    pub fn offer(&mut self, want: Want) -> Option<Want> {
        if want.cache >= self.lanes.len() {
            return None;
        }
        match self.places.get_mut(&want.key) {
            Some(Place::Running(_)) if planted::is("warm-twice") => {}
            // The query under way may have read what was evicted since.
            Some(Place::Running(again)) => {
                *again = Some(want);
                return None;
            }
            Some(Place::Paused(known)) => {
                known.if_absent &= want.if_absent;
                return None;
            }
            Some(Place::Waiting(known, order)) => {
                known.if_absent &= want.if_absent;
                // Changes are read in order: what is newer has seen more.
                known.since = want.since.or(known.since.take());
                if want.heat > known.heat {
                    known.heat = want.heat;
                    let lane = &mut self.lanes[known.cache];
                    lane.waiting.remove(order);
                    order.0 = Reverse(want.heat);
                    lane.waiting.insert(*order, want.key);
                }
                return None;
            }
            None => {}
        }
        let mut gone = None;
        if self.held >= self.limits.queue {
            let coldest = self
                .lanes
                .iter()
                .enumerate()
                .filter_map(|(i, lane)| Some((*lane.waiting.last_key_value()?.0, i)))
                .max()
                .filter(|((Reverse(heat), _), _)| *heat <= want.heat);
            // Everything that waits is hotter, or has failed before and comes back soon.
            let Some((order, lane)) = coldest else { return Some(want) };
            let key = self.lanes[lane].waiting.remove(&order);
            if let Some(Place::Waiting(cold, _)) = key.and_then(|key| self.places.remove(&key)) {
                self.held -= 1;
                gone = Some(cold);
            }
        }
        self.wait(want);
        gone
    }

    /// A key was evicted and was not there: what is under way may store it nevertheless, so it is asked for once more. Nothing else
    /// is begun for it.
    pub fn offer_if_running(&mut self, want: Want) {
        if let Some(Place::Running(again)) = self.places.get_mut(&want.key) {
            *again = Some(want);
        }
    }

    fn wait(&mut self, want: Want) {
        let order = (Reverse(want.heat), self.number());
        self.lanes[want.cache].waiting.insert(order, want.key.clone());
        self.places.insert(want.key.clone(), Place::Waiting(want, order));
        self.held += 1;
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// What to do now. A job that is returned has begun.
    pub fn next(&mut self, now: Instant) -> Next {
        while let Some(entry) = self.paused.first_entry().filter(|e| e.key().0 <= now) {
            let key = entry.remove();
            if let Some(Place::Paused(want)) = self.places.remove(&key) {
                self.held -= 1;
                self.lanes[want.cache].paused -= 1;
                self.wait(want);
            }
        }
        let due = self.paused.first_key_value().map(|((at, _), _)| *at);
        if self.running >= self.limits.concurrency {
            return Next::Wait(due);
        }
        let free = self.rate.free_at(now);
        let mut soonest = due;
        let mut best: Option<((Reverse<u32>, u64), usize)> = None;
        for (i, lane) in self.lanes.iter().enumerate() {
            let (Some((order, _)), Some(at)) = (lane.waiting.first_key_value(), lane.free_at(now)) else { continue };
            let at = at.max(free);
            if at > now {
                soonest = Some(soonest.map_or(at, |s| s.min(at)));
            } else if best.as_ref().is_none_or(|(other, _)| order < other) {
                best = Some((*order, i));
            }
        }
        match best {
            Some((_, lane)) => Next::Start(self.begin(lane, now)),
            None => Next::Wait(soonest),
        }
    }

    fn begin(&mut self, cache: usize, now: Instant) -> Job {
        let lane = &mut self.lanes[cache];
        let most = if lane.limits.batched { BATCH } else { 1 };
        let mut wants = Vec::new();
        while wants.len() < most
            && let Some((_, key)) = lane.waiting.pop_first()
        {
            if let Some(Place::Waiting(want, _)) = self.places.insert(key, Place::Running(None)) {
                wants.push(want);
                self.held -= 1;
            }
        }
        lane.running += 1;
        if let Some(rate) = &mut lane.rate {
            rate.begin(now);
        }
        self.rate.begin(now);
        self.running += 1;
        Job { cache, wants }
    }

    /// Of a job that has begun, these keys are there already: nothing is asked for them. Returns what is left of it, if anything is:
    /// otherwise it counts for no limit, and says nothing of what would have answered.
    pub fn spare(&mut self, mut job: Job, there: &[bool], now: Instant) -> (Option<Job>, Vec<Want>) {
        let (mut left, mut spared) = (Vec::new(), Vec::new());
        for (i, want) in std::mem::take(&mut job.wants).into_iter().enumerate() {
            let list = if there.get(i) == Some(&true) { &mut spared } else { &mut left };
            list.push(want);
        }
        for want in &spared {
            self.key_ended(want.clone(), End::Done, now);
        }
        if left.is_empty() {
            self.running = self.running.saturating_sub(1);
            self.rate.spare();
            if let Some(lane) = self.lanes.get_mut(job.cache) {
                lane.running = lane.running.saturating_sub(1);
                lane.rate.iter_mut().for_each(Rate::spare);
            }
            return (None, spared);
        }
        job.wants = left;
        (Some(job), spared)
    }

    /// A job has ended, each key in its way. `well`: what answers works, whatever became of the values. Returns, in the same order,
    /// whether that is the last word on the key: otherwise it is tried again.
    pub fn ended(&mut self, job: Job, ends: &[End], well: bool, now: Instant) -> Vec<bool> {
        self.running = self.running.saturating_sub(1);
        if let Some(lane) = self.lanes.get_mut(job.cache) {
            lane.running = lane.running.saturating_sub(1);
            lane.breaker.ended(well, now);
        }
        job.wants.into_iter().zip(ends).map(|(want, end)| self.key_ended(want, *end, now)).collect()
    }

    fn key_ended(&mut self, mut want: Want, end: End, now: Instant) -> bool {
        let again = match self.places.remove(&want.key) {
            Some(Place::Running(again)) => again,
            _ => None,
        };
        want.tries += 1;
        let pause = match end {
            End::Overtaken => Some(RACE_PAUSE),
            End::Failed => Some(FAILURE_PAUSE),
            End::Done | End::Hopeless => None,
        };
        match (pause.filter(|_| want.tries < MOST_TRIES), again) {
            (Some(pause), _) => {
                let at = (now + pause.saturating_mul(1 << (want.tries - 1).min(10)), self.number());
                self.paused.insert(at, want.key.clone());
                self.lanes[want.cache].paused += 1;
                self.places.insert(want.key.clone(), Place::Paused(want));
                self.held += 1;
                false
            }
            (None, Some(again)) => {
                self.wait(again);
                true
            }
            (None, None) => true,
        }
    }
}

#[cfg(test)]
mod tests;
