//! `warm.on = ["schedule"]`: in quiet hours what `warm.schedule` names is filled where it is absent, once a window.
//!
//! It stops when the window closes or Redis has more to do, and goes on where it was. Little is handed over at a time, so that little is
//! left in the queue when the hours are over.

use super::hand::absent;
use super::{Engine, Shared, Store, Task, Warmer};
use crate::config::model::{Mode, Quiet};
use crate::flow::heat::STARTUP;
use crate::flow::hours::{Hours, Turn};
use crate::flow::warm::{BATCH, Want};
use crate::observe::event::{Observation, Scheduled};
use crate::rules::binding::Binding;
use jiff::Timestamp;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two looks at the clock and at Redis.
const TURN: Duration = Duration::from_secs(1);
/// The same while there is something to hand over.
const SOON: Duration = Duration::from_millis(50);
/// Keys whose existence is asked for at once: few, because that is work for Redis, too.
const LOOK: usize = 100;
/// Before a query that failed is asked again.
const AGAIN: Duration = Duration::from_secs(60);
/// Redis' own figure is an average of the last 1.6 s: asking more often tells nothing.
const OPS: Duration = Duration::from_secs(1);

/// A cache with quiet hours.
struct Filling {
    shared: Arc<Shared>,
    cache: usize,
    quiet: Quiet,
    hours: Hours,
    /// What is left of the window that is filled.
    left: VecDeque<(Vec<u8>, Binding)>,
    /// What was absent a moment ago, and is handed over next.
    absent: VecDeque<(Vec<u8>, Binding)>,
    /// The query failed: not before then.
    not_before: Option<Instant>,
    /// Whether Redis had little to do, when it was last asked.
    calm: Option<(Instant, bool)>,
}

impl Warmer {
    /// Begins to keep the hours.
    pub(super) fn begin_schedule(&mut self) {
        let Some(store) = self.store.clone() else { return };
        let mut all = Vec::new();
        for shared in self.engines.iter().map(|e| &e.shared).filter(|s| s.config.mode == Mode::Enforce) {
            for (cache, of) in shared.config.caches.iter().enumerate() {
                let Some(warm) = of.warm.as_ref().filter(|w| shared.by.makes(w)) else { continue };
                if let Some(quiet) = warm.schedule.clone() {
                    let shared = shared.clone();
                    all.push(Filling {
                        shared,
                        cache,
                        quiet,
                        hours: Hours::default(),
                        left: VecDeque::new(),
                        absent: VecDeque::new(),
                        not_before: None,
                        calm: None,
                    });
                }
            }
        }
        if !all.is_empty() {
            self.schedule = Some(Task(tokio::spawn(keep(store, all))));
        }
    }
}

async fn keep(store: Arc<Store>, mut all: Vec<Filling>) {
    loop {
        let mut busy = false;
        for one in &mut all {
            busy |= one.turn(&store, Timestamp::now()).await;
        }
        tokio::time::sleep(if busy { SOON } else { TURN }).await;
    }
}

impl Filling {
    /// Does what the hour allows; says whether there is more to do soon.
    async fn turn(&mut self, store: &Store, now: Timestamp) -> bool {
        let turn = self.hours.turn(self.quiet.schedule.at(now));
        match turn {
            Turn::Rest => return false,
            Turn::Closed => {
                self.tell(Scheduled::Closed, self.left.len() + self.absent.len());
                self.left.clear();
                self.absent.clear();
                self.not_before = None;
                return true;
            }
            Turn::Name | Turn::Fill => {}
        }
        if self.shared.is_paused() || !self.is_calm(store).await {
            return false;
        }
        if turn == Turn::Name && !self.name(store).await {
            return false;
        }
        self.hand_over(store).await;
        let over = self.absent.is_empty() && self.left.is_empty();
        if over {
            self.hours.done();
            self.tell(Scheduled::Done, 0);
        }
        !over
    }

    /// Asks which keys; says whether that worked.
    async fn name(&mut self, store: &Store) -> bool {
        if self.not_before.is_some_and(|at| Instant::now() < at) {
            return false;
        }
        let cache = &self.shared.config.caches[self.cache];
        match store.named_by(cache, &self.quiet.query).await {
            Ok(keys) => {
                self.tell(Scheduled::Begun, keys.len());
                self.left = keys.into();
                self.hours.asked();
                true
            }
            Err(why) => {
                let detail = format!("warm.schedule of {}: {why}", cache.name);
                self.shared.observer.report(Observation::Warning { what: "nothing is warmed by schedule", detail });
                self.not_before = Some(Instant::now() + AGAIN);
                false
            }
        }
    }

    /// Whether Redis does less than the limit. Where it does not say, it is not calm.
    async fn is_calm(&mut self, store: &Store) -> bool {
        let Some(below) = self.quiet.below else { return true };
        if let Some((at, calm)) = self.calm
            && at.elapsed() < OPS
        {
            return calm;
        }
        let calm = store.ops_per_second().await.is_ok_and(|ops| ops < below);
        self.calm = Some((Instant::now(), calm));
        calm
    }

    /// Hands over some keys that are absent, as many as are soon asked for.
    async fn hand_over(&mut self, store: &Store) {
        let (shared, cache) = (&self.shared, self.cache);
        let warm = shared.config.caches[cache].warm.as_ref();
        let each = if warm.and_then(|w| w.query()).is_some_and(|q| q.batch.is_some()) { BATCH } else { 1 };
        let room = 2 * each * shared.config.warm.concurrency;
        let free = room.min(shared.config.warm.queue / 2).max(1).saturating_sub(shared.warming().waiting());
        if free > 0 && self.absent.is_empty() {
            let some: Vec<_> = self.left.drain(..self.left.len().min(LOOK)).collect();
            let there = absent(store, shared, cache, &some).await;
            self.absent.extend(some.into_iter().zip(there).filter(|(_, absent)| *absent).map(|(key, _)| key));
        }
        for (key, values) in self.absent.drain(..free.min(self.absent.len())) {
            Engine::offer_to(shared, Want::new(cache, key, values, STARTUP).if_absent());
        }
    }

    fn tell(&self, what: Scheduled, keys: usize) {
        let cache = self.shared.config.caches[self.cache].name.clone();
        self.shared.observer.report(Observation::WarmSchedule { cache, what, keys });
    }
}
