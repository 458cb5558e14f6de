//! Patterns on their way: those that wait, and those of the passes under way.
//!
//! A pass takes its keys from a walk over the keyspace, or from the live key index. They run in lanes, so that what the
//! index answers at once never waits for a walk, nor for an answer of a million keys.

use super::statements::Asker;
use crate::config::model::{OverLimit, Redis};
use crate::flow::index::State;
use crate::rules::matcher::Matcher;
use crate::sink::scan::{self, Found, Pass};
use crate::sink::tracking::Tracking;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// From one slice of deletes to the next once a pattern is over its limit: 50 000 keys a second leave Redis to its other clients for most of
/// the time.
const THROTTLE: Duration = Duration::from_millis(2);
/// Keys of such a slice. Many small ones: where the cores are few, whoever wants something meanwhile waits for a slice to end, with all that
/// it takes the daemon, not only for Redis.
const SLICE: usize = 100;

/// A pattern of the pass under way.
#[derive(Debug)]
pub(super) struct Wanted {
    /// The pattern.
    pub(super) pattern: Vec<u8>,
    /// Who asked for it.
    pub(super) askers: Vec<Asker>,
    /// Keys that matched.
    pub(super) matched: u64,
    /// Keys that were deleted.
    pub(super) deleted: u64,
    /// Whether passing the limit was reported.
    pub(super) alerted: bool,
    /// Under `over_limit = "refuse"`: the keys are kept until the count is known.
    pub(super) held: Option<Vec<Vec<u8>>>,
}

/// Keys of one page of the index: some five scripts delete them.
const PAGE: usize = 1_000;
/// Keys of the index that one page looks at: about 2 ms in which no report is taken in and nothing else is done.
const LOOKS: usize = 20_000;

/// Which pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// From the index, while the session waits for nothing else: a few pages.
    Now,
    /// From the index: more than that.
    Large,
    /// From a walk over the keyspace.
    Scan,
}

/// Where a pass takes its keys from.
#[derive(Debug)]
enum Source {
    Walk(Pass),
    Index {
        tracking: Tracking,
        matcher: Matcher,
        /// Which pattern, and from which key on.
        at: (usize, Vec<u8>),
    },
}

/// A pass under way.
#[derive(Debug)]
pub(super) struct Running {
    source: Source,
    /// Its patterns, in the order of the pass's indices.
    pub(super) wanted: Vec<Wanted>,
    /// When it began.
    pub(super) begun: Instant,
    /// Keys deleted so far.
    pub(super) deleted: u64,
    /// Found, and not taken yet.
    rest: VecDeque<Hit>,
    /// When the last slice was due; None: all that is found is taken at once.
    slices: Option<Instant>,
    /// Not before this the next finds are taken.
    pub(super) not_before: Option<Instant>,
}

/// A key, and which patterns it matches.
type Hit = (Vec<u8>, Vec<usize>);

/// A pattern that no pass looks for yet.
#[derive(Debug, Default)]
struct Waiting {
    askers: Vec<Asker>,
    /// Keys that a pass deleted before it was lost.
    deleted: u64,
    alerted: bool,
}

/// All patterns that are not deleted yet.
#[derive(Debug, Default)]
pub(super) struct Passes {
    waiting: HashMap<Vec<u8>, Waiting>,
    now: Option<Running>,
    large: Option<Running>,
    /// Their turn in the lane [`Lane::Large`] comes one after the other.
    queue: VecDeque<Running>,
    scan: Option<Running>,
}

impl Passes {
    /// `pattern` shall go.
    pub(super) fn want(&mut self, pattern: Vec<u8>, asker: Asker) {
        self.waiting.entry(pattern).or_default().askers.push(asker);
    }

    /// How many patterns wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits or runs.
    pub(super) fn is_idle(&self) -> bool {
        let none = self.now.is_none() && self.large.is_none() && self.scan.is_none();
        none && self.waiting.is_empty() && self.queue.is_empty()
    }

    /// The pass of a lane.
    pub(super) fn lane(&mut self, lane: Lane) -> &mut Option<Running> {
        match lane {
            Lane::Now => &mut self.now,
            Lane::Large => &mut self.large,
            Lane::Scan => &mut self.scan,
        }
    }

    /// Starts a walk for everything that waits, unless one is under way.
    pub(super) fn start(&mut self, redis: &Redis, over_limit: OverLimit, now: Instant) {
        if self.scan.is_some() || self.waiting.is_empty() {
            return;
        }
        let wanted: Vec<Wanted> =
            self.waiting.drain().map(|(p, waiting)| Wanted::new(p, waiting, over_limit)).collect();
        let walk = scan::begin(redis.clone(), wanted.iter().map(|w| w.pattern.clone()).collect());
        self.scan = Some(Running::new(Source::Walk(walk), wanted, now));
    }

    /// Whether something waits that the index can answer.
    pub(super) fn answerable(&self, tracking: &Tracking) -> bool {
        !self.waiting.is_empty() && tracking.with(|index| self.waiting.keys().any(|p| index.covers(p)))
    }

    /// Starts a pass from the index for what it covers, in the lane [`Lane::Now`].
    pub(super) fn start_indexed(&mut self, tracking: &Tracking, over_limit: OverLimit, now: Instant) {
        let covered: Vec<Vec<u8>> =
            tracking.with(|index| self.waiting.keys().filter(|p| index.covers(p)).cloned().collect());
        let mut wanted = Vec::with_capacity(covered.len());
        for pattern in covered {
            if let Some(waiting) = self.waiting.remove(&pattern) {
                wanted.push(Wanted::new(pattern, waiting, over_limit));
            }
        }
        let matcher = Matcher::new(wanted.iter().map(|w| w.pattern.clone()).collect());
        let source = Source::Index { tracking: tracking.clone(), matcher, at: (0, Vec::new()) };
        self.now = Some(Running::new(source, wanted, now));
    }

    /// What is left of the pass in [`Lane::Now`] goes on beside everything else.
    pub(super) fn set_aside(&mut self) {
        self.queue.extend(self.now.take());
    }

    /// The pass of a lane cannot go on: its patterns wait for another one.
    pub(super) fn again(&mut self, lane: Lane) {
        for wanted in self.lane(lane).take().into_iter().flat_map(|running| running.wanted) {
            let waiting = self.waiting.entry(wanted.pattern).or_default();
            waiting.askers.extend(wanted.askers);
            waiting.deleted += wanted.deleted;
            waiting.alerted |= wanted.alerted;
        }
    }

    /// The next find of the passes under way; pends for ever when there is none.
    pub(super) async fn found(&mut self) -> (Lane, Found) {
        if self.large.is_none() {
            self.large = self.queue.pop_front();
        }
        tokio::select! {
            found = next(&mut self.large) => (Lane::Large, found),
            found = next(&mut self.scan) => (Lane::Scan, found),
        }
    }
}

async fn next(running: &mut Option<Running>) -> Found {
    let Some(running) = running else { return std::future::pending().await };
    if let Some(at) = running.not_before {
        tokio::time::sleep_until(at.into()).await;
        running.not_before = None;
    }
    running.next().await
}

impl Wanted {
    fn new(pattern: Vec<u8>, waiting: Waiting, over_limit: OverLimit) -> Self {
        let Waiting { askers, deleted, alerted } = waiting;
        // A flush proves what nothing else can: it is never refused.
        let refusable = over_limit == OverLimit::Refuse && !askers.iter().any(|a| matches!(a, Asker::Flush(_)));
        Self { pattern, askers, matched: deleted, deleted, alerted, held: refusable.then(Vec::new) }
    }
}

impl Running {
    fn new(source: Source, wanted: Vec<Wanted>, now: Instant) -> Self {
        Self { source, wanted, begun: now, deleted: 0, rest: VecDeque::new(), slices: None, not_before: None }
    }

    /// Slows the pass down: a pattern is over its limit. A timer that is late makes the next wait shorter.
    pub(super) fn throttle(&mut self, now: Instant) {
        let due = self.slices.map_or(now, |last| last.max(now.checked_sub(THROTTLE).unwrap_or(now))) + THROTTLE;
        (self.slices, self.not_before) = (Some(due), Some(due));
    }

    /// Whether it must wait before it goes on.
    pub(super) fn is_throttled(&self) -> bool {
        self.not_before.is_some()
    }

    /// What it finds next, in slices once it is slowed down.
    pub(super) async fn next(&mut self) -> Found {
        if self.rest.is_empty() {
            match self.fetch().await {
                Found::Keys(hits) => self.rest = hits.into(),
                end => return end,
            }
        }
        if self.slices.is_none() || self.rest.len() <= SLICE {
            return Found::Keys(std::mem::take(&mut self.rest).into());
        }
        Found::Keys(self.rest.drain(..SLICE).collect())
    }

    async fn fetch(&mut self) -> Found {
        match &mut self.source {
            Source::Walk(walk) => {
                walk.found.recv().await.unwrap_or_else(|| Found::Broken("the pass ended without a word".into()))
            }
            Source::Index { tracking, matcher, at } => {
                let (mut hits, mut looks) = (Vec::new(), LOOKS);
                while let Some(pattern) = matcher.patterns().get(at.0)
                    && hits.len() < PAGE
                    && looks > 0
                {
                    let (more, next) =
                        tracking.with(|index| index.matches(pattern, &at.1, PAGE - hits.len(), &mut looks));
                    // A key that an earlier pattern matches as well was found with that one, and counted for both.
                    hits.extend(
                        more.into_iter()
                            .map(|key| (matcher.matching(&key), key))
                            .filter(|(which, _)| which.first() == Some(&at.0))
                            .map(|(which, key)| (key, which)),
                    );
                    *at = next.map_or((at.0 + 1, Vec::new()), |next| (at.0, next));
                }
                // What it has lost since the pass began would count as absent. Asked last, because it may fill up while it is
                // asked above: reports are taken in by another thread. It is never live again before this task has it refilled.
                if tracking.with(|index| index.state()) != State::Live {
                    return Found::Lost;
                }
                if hits.is_empty() && at.0 >= matcher.patterns().len() {
                    return Found::End { scanned: 0 };
                }
                Found::Keys(hits)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::index::Index;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn live(keys: &BTreeSet<String>) -> Tracking {
        let mut index = Index::new(vec![b"s:".to_vec()], 1 << 20);
        index.filling();
        keys.iter().for_each(|key| index.found(key.as_bytes()));
        index.filled();
        Tracking::of(index)
    }

    /// Everything that the pass in the lane finds: key and patterns, in the order in which they come.
    async fn all(passes: &mut Passes, lane: Lane) -> (Vec<(String, Vec<usize>)>, Vec<Wanted>) {
        let mut out = Vec::new();
        loop {
            match passes.lane(lane).as_mut().unwrap().next().await {
                Found::Keys(hits) => {
                    out.extend(hits.into_iter().map(|(key, which)| (String::from_utf8(key).unwrap(), which)));
                }
                Found::End { .. } => return (out, passes.lane(lane).take().unwrap().wanted),
                other => panic!("{other:?}"),
            }
        }
    }

    proptest! {
        /// Patterns that many ask for, and that overlap: every matching key comes once, with all patterns that match it, and
        /// everybody who asked is among the askers of their pattern once.
        #[test]
        fn a_pass_from_the_index_finds_each_key_once_and_keeps_every_asker(
            keys in prop::collection::btree_set("[st]:[ab]{0,4}", 0..40),
            named in prop::collection::vec("s:[ab]{0,2}[*?][ab*]{0,2}", 1..20),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let mut passes = Passes::default();
            for (slot, pattern) in named.iter().enumerate() {
                passes.want(pattern.clone().into_bytes(), Asker::Statement { id: 0, slot });
            }
            let tracking = live(&keys);
            passes.start_indexed(&tracking, OverLimit::Slow, Instant::now());
            prop_assert_eq!(passes.waiting(), 0);
            let (found, wanted) = runtime.block_on(all(&mut passes, Lane::Now));
            let expected: BTreeMap<String, Vec<usize>> = keys
                .iter()
                .map(|key| {
                    let matched = |w: &Wanted| crate::rules::glob::matches(&w.pattern, key.as_bytes());
                    (key.clone(), (0..wanted.len()).filter(|i| matched(&wanted[*i])).collect::<Vec<_>>())
                })
                .filter(|(key, which)| key.starts_with("s:") && !which.is_empty())
                .collect();
            prop_assert_eq!(found.len(), expected.len(), "a key twice");
            prop_assert_eq!(found.into_iter().collect::<BTreeMap<_, _>>(), expected);
            let mut slots = Vec::new();
            for w in &wanted {
                for asker in &w.askers {
                    let Asker::Statement { slot, .. } = asker else { panic!("{asker:?}") };
                    prop_assert_eq!(named[*slot].as_bytes(), w.pattern.as_slice());
                    slots.push(*slot);
                }
            }
            slots.sort_unstable();
            prop_assert_eq!(slots, (0..named.len()).collect::<Vec<_>>());
        }
    }

    #[tokio::test]
    async fn a_pass_whose_index_is_lost_waits_again_with_what_it_has_done() {
        let (mut passes, asker) = (Passes::default(), Asker::Flush(1));
        passes.want(b"s:*".to_vec(), asker);
        let tracking = live(&["s:1".to_owned()].into());
        passes.start_indexed(&tracking, OverLimit::Slow, Instant::now());
        passes.set_aside();
        passes.large = passes.queue.pop_front();
        passes.large.as_mut().unwrap().wanted[0].deleted = 3;
        tracking.with(Index::broken);
        assert!(matches!(passes.large.as_mut().unwrap().next().await, Found::Lost));
        passes.again(Lane::Large);
        assert!(passes.large.is_none());
        let waiting = &passes.waiting[b"s:*".as_slice()];
        assert_eq!((waiting.askers.as_slice(), waiting.deleted), ([asker].as_slice(), 3));
    }

    #[tokio::test]
    async fn a_pass_that_is_slowed_down_comes_in_slices_with_time_between_them() {
        let keys: BTreeSet<String> = (0..950).map(|n| format!("s:{n:03}")).collect();
        let mut passes = Passes::default();
        passes.want(b"s:*".to_vec(), Asker::Probe);
        passes.start_indexed(&live(&keys), OverLimit::Slow, Instant::now());
        passes.set_aside();
        passes.large = passes.queue.pop_front();
        let (mut slices, begun) = (Vec::new(), Instant::now());
        loop {
            passes.large.as_mut().unwrap().throttle(Instant::now());
            match passes.found().await {
                (Lane::Large, Found::Keys(hits)) => {
                    slices.extend([hits.len()].into_iter().filter(|_| !hits.is_empty()))
                }
                _ => break,
            }
        }
        assert_eq!(slices, [&[SLICE; 9][..], &[50]].concat());
        assert!(begun.elapsed() >= THROTTLE * 10, "{:?}", begun.elapsed());
    }

    #[test]
    fn late_slices_are_made_up_for_and_a_pause_is_not() {
        let begun = Instant::now() + Duration::from_secs(1);
        let at = |ms| begun + Duration::from_millis(ms);
        let mut passes = Passes::default();
        passes.start_indexed(&live(&BTreeSet::new()), OverLimit::Slow, begun);
        let running = passes.now.as_mut().unwrap();
        for (now, due) in [(0, 2), (3, 4), (5, 6), (6, 8), (50, 50), (50, 52)] {
            running.throttle(at(now));
            assert_eq!(running.not_before, Some(at(due)), "at {now} ms");
        }
    }

    #[tokio::test]
    async fn a_pass_looks_at_no_more_than_a_few_keys_at_a_time() {
        let keys: BTreeSet<String> = (0..50_000).map(|n| format!("s:{n:05}:a")).collect();
        let mut passes = Passes::default();
        passes.want(b"s:*:b".to_vec(), Asker::Probe);
        passes.start_indexed(&live(&keys), OverLimit::Slow, Instant::now());
        let mut pages = 0;
        while let Found::Keys(hits) = passes.now.as_mut().unwrap().next().await {
            assert!(hits.is_empty());
            pages += 1;
        }
        assert_eq!(pages, 50_000 / LOOKS);
    }

    #[tokio::test]
    async fn passes_that_are_set_aside_come_one_after_the_other_and_none_is_forgotten() {
        let mut passes = Passes::default();
        let tracking = live(&["s:1".to_owned(), "s:2".to_owned()].into());
        for n in [1, 2] {
            passes.want(format!("s:{n}*").into_bytes(), Asker::Flush(n));
            passes.start_indexed(&tracking, OverLimit::Slow, Instant::now());
            passes.set_aside();
        }
        for n in [1, 2] {
            let (lane, found) = passes.found().await;
            assert!(
                lane == Lane::Large && matches!(found, Found::Keys(hits) if hits[0].0 == format!("s:{n}").into_bytes())
            );
            assert!(!passes.is_idle());
            assert!(matches!(passes.found().await, (Lane::Large, Found::End { .. })));
            *passes.lane(Lane::Large) = None;
        }
        assert!(passes.is_idle());
    }
}
