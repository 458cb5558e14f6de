//! Patterns on their way: those that wait, and those of the passes under way.
//!
//! A pass takes its keys from a walk over the keyspace, or from the live key index. They run in lanes, so that what the
//! index answers at once never waits for a walk, nor for an answer of a million keys.

use super::statements::Asker;
use crate::config::model::{OverLimit, Redis};
use crate::rules::matcher::Matcher;
use crate::sink::scan::{self, Found, Pass};
use crate::sink::tracking::Tracking;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Between two slices of deletes once a pattern is over its limit: 1 000 keys in 20 ms leave Redis to its other clients
/// for most of the time.
const THROTTLE: Duration = Duration::from_millis(20);

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

/// Keys of one page of the index: one script deletes them.
const PAGE: usize = 1_000;

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
    /// Not before this the next finds are taken.
    pub(super) not_before: Option<Instant>,
}

/// All patterns that are not deleted yet.
#[derive(Debug, Default)]
pub(super) struct Passes {
    waiting: HashMap<Vec<u8>, Vec<Asker>>,
    now: Option<Running>,
    large: Option<Running>,
    scan: Option<Running>,
}

impl Passes {
    /// `pattern` shall go.
    pub(super) fn want(&mut self, pattern: Vec<u8>, asker: Asker) {
        self.waiting.entry(pattern).or_default().push(asker);
    }

    /// How many patterns wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits or runs.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.now.is_none() && self.large.is_none() && self.scan.is_none()
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
        let wanted: Vec<Wanted> = self.waiting.drain().map(|(p, askers)| Wanted::new(p, askers, over_limit)).collect();
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
            if let Some(askers) = self.waiting.remove(&pattern) {
                wanted.push(Wanted::new(pattern, askers, over_limit));
            }
        }
        let matcher = Matcher::new(wanted.iter().map(|w| w.pattern.clone()).collect());
        let source = Source::Index { tracking: tracking.clone(), matcher, at: (0, Vec::new()) };
        self.now = Some(Running::new(source, wanted, now));
    }

    /// What is left of the pass in [`Lane::Now`] goes on beside everything else; whether there is room for that.
    pub(super) fn set_aside(&mut self) -> bool {
        let room = self.large.is_none();
        if room {
            self.large = self.now.take();
        }
        room
    }

    /// The next find of the passes under way; pends for ever when there is none.
    pub(super) async fn found(&mut self) -> (Lane, Found) {
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
    fn new(pattern: Vec<u8>, askers: Vec<Asker>, over_limit: OverLimit) -> Self {
        // A flush proves what nothing else can: it is never refused.
        let refusable = over_limit == OverLimit::Refuse && !askers.iter().any(|a| matches!(a, Asker::Flush(_)));
        Self { pattern, askers, matched: 0, deleted: 0, alerted: false, held: refusable.then(Vec::new) }
    }
}

impl Running {
    fn new(source: Source, wanted: Vec<Wanted>, now: Instant) -> Self {
        Self { source, wanted, begun: now, deleted: 0, not_before: None }
    }

    /// Slows the pass down: a pattern is over its limit.
    pub(super) fn throttle(&mut self, now: Instant) {
        self.not_before = Some(now + THROTTLE);
    }

    /// Whether it must wait before it goes on.
    pub(super) fn is_throttled(&self) -> bool {
        self.not_before.is_some()
    }

    /// What it finds next.
    pub(super) async fn next(&mut self) -> Found {
        match &mut self.source {
            Source::Walk(walk) => {
                walk.found.recv().await.unwrap_or_else(|| Found::Broken("the pass ended without a word".into()))
            }
            Source::Index { tracking, matcher, at } => {
                let mut keys = Vec::new();
                while let Some(pattern) = matcher.patterns().get(at.0)
                    && keys.len() < PAGE
                {
                    let (more, next) = tracking.with(|index| index.matches(pattern, &at.1, PAGE - keys.len()));
                    keys.extend(more);
                    *at = next.map_or((at.0 + 1, Vec::new()), |next| (at.0, next));
                }
                if !keys.is_empty() {
                    // Two patterns may have found the same key.
                    keys.sort_unstable();
                    keys.dedup();
                    return Found::Keys(
                        keys.into_iter()
                            .map(|key| (matcher.matching(&key), key))
                            .map(|(which, key)| (key, which))
                            .collect(),
                    );
                }
                Found::End { scanned: 0 }
            }
        }
    }
}
