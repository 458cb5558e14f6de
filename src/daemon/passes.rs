//! Patterns on their way: those that wait for the next SCAN pass, and those of the pass under way.

use super::statements::Asker;
use crate::config::model::{OverLimit, Redis};
use crate::sink::scan::{self, Found, Pass};
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

/// A pass under way.
#[derive(Debug)]
pub(super) struct Running {
    pass: Pass,
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
    /// The pass under way.
    pub(super) running: Option<Running>,
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
        self.waiting.is_empty() && self.running.is_none()
    }

    /// Starts a pass for everything that waits, unless one is under way.
    pub(super) fn start(&mut self, redis: &Redis, over_limit: OverLimit, now: Instant) {
        if self.running.is_some() || self.waiting.is_empty() {
            return;
        }
        let wanted: Vec<Wanted> = self
            .waiting
            .drain()
            .map(|(pattern, askers)| {
                // A flush proves what nothing else can: it is never refused.
                let refusable = over_limit == OverLimit::Refuse && !askers.iter().any(|a| matches!(a, Asker::Flush(_)));
                Wanted { pattern, askers, matched: 0, deleted: 0, alerted: false, held: refusable.then(Vec::new) }
            })
            .collect();
        let pass = scan::begin(redis.clone(), wanted.iter().map(|w| w.pattern.clone()).collect());
        self.running = Some(Running { pass, wanted, begun: now, deleted: 0, not_before: None });
    }

    /// The next find of the pass under way; pends for ever when there is none.
    pub(super) async fn found(&mut self) -> Found {
        let Some(running) = &mut self.running else { return std::future::pending().await };
        if let Some(at) = running.not_before {
            tokio::time::sleep_until(at.into()).await;
            running.not_before = None;
        }
        running.pass.found.recv().await.unwrap_or_else(|| Found::Broken("the pass ended without a word".into()))
    }
}

impl Running {
    /// Slows the pass down: a pattern is over its limit.
    pub(super) fn throttle(&mut self, now: Instant) {
        self.not_before = Some(now + THROTTLE);
    }
}
