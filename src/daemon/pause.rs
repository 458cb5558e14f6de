//! What an operator has paused: warming, or delivery as a whole. It ends with the process: a daemon that was restarted, or that took over,
//! goes on, because a pause that nobody remembers would leave every cache stale.

use super::live::{HEARTBEAT, Live, Step};
use super::probe::Prober;
use crate::config::model::Delivery;
use crate::observe::Observer;
use crate::observe::event::{Condition, Observation};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tokio::sync::watch;

/// The two switches.
#[derive(Debug, Default)]
pub struct Pause {
    warming: watch::Sender<bool>,
    delivery: AtomicBool,
}

impl Pause {
    /// Whether nothing is delivered.
    pub(super) fn delivery(&self) -> bool {
        self.delivery.load(Ordering::Relaxed)
    }

    /// Whether nothing is warmed, and when that changes.
    pub(super) fn warming(&self) -> watch::Receiver<bool> {
        self.warming.subscribe()
    }

    /// What an operator asks; says whether that is new.
    ///
    /// # Errors
    /// It cannot be done; says why.
    pub(super) fn ask(
        &self,
        warming: bool,
        paused: bool,
        delivery: Delivery,
        observer: &Observer,
    ) -> Result<bool, String> {
        match (warming, delivery) {
            (true, _) => Ok(self.set_warming(paused, observer)),
            (false, Delivery::Notify) if paused => {
                Err("delivery = \"notify\" cannot be paused: what happens meanwhile would be lost".into())
            }
            (false, _) => Ok(self.set_delivery(paused, observer)),
        }
    }

    fn set_warming(&self, paused: bool, observer: &Observer) -> bool {
        let new = self.warming.send_replace(paused) != paused;
        if new {
            observer.report(Observation::WarmingPaused { paused });
        }
        new
    }

    fn set_delivery(&self, paused: bool, observer: &Observer) -> bool {
        let new = self.delivery.swap(paused, Ordering::Relaxed) != paused;
        if new {
            let why =
                "an operator paused delivery: nothing is evicted, the position stands still; `pgevict resume` goes on";
            observer.condition(Condition::Paused, paused.then(|| why.to_owned()));
        }
        new
    }
}

impl Live<'_> {
    /// Whether this session stands still. Without a journal there is nothing to come back to.
    pub(super) fn paused(&self) -> bool {
        self.journal.is_some() && self.context.pause.delivery()
    }

    /// When something is due at the latest while it stands still.
    pub(super) fn paused_until(&self) -> Instant {
        let at = self.next_heartbeat.min(self.next_tick);
        let audit = self.next_audit_may_begin().then_some(self.next_audit);
        [audit, self.drain_by].into_iter().flatten().fold(at, Instant::min)
    }

    fn next_audit_may_begin(&self) -> bool {
        self.watch.looking.is_none() && self.draining.is_none()
    }

    /// What goes on all the same: the sign of life that keeps another daemon from taking over, but not the one that readers trust; the
    /// beacon of what was delivered before; and the audit, for the retention that comes with it.
    pub(super) async fn stand_still(&mut self, now: Instant) -> Step {
        self.position.vouch(false);
        // A probe would have to be delivered.
        self.probe = Prober::new(&self.config, now);
        let greets = self.trust.earned(self.ledger.settled(), now) && self.trust.is_silent();
        if now >= self.next_heartbeat || greets {
            self.position.heartbeat().await.map_err(|f| self.fault(f))?;
            if greets {
                self.trust.greetings().into_iter().for_each(|o| self.context.observer.report(o));
            }
            self.next_heartbeat = Instant::now() + HEARTBEAT;
            self.warmer.tell();
        }
        if now >= self.next_audit && self.next_audit_may_begin() {
            self.next_audit = now + super::watch::AUDIT;
            self.begin_audit();
        }
        self.move_position(now);
        self.drained(now).await
    }
}
