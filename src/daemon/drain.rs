//! The end of a session that was asked for: a stop, or a reload that may go on with the same connections.

use super::Ended;
use super::flushes::Flushes;
use super::live::{Live, Step};
use super::meaning::Meaning;
use super::repeats::Repeats;
use super::warmer::Warmer;
use crate::config::model::Config;
use crate::flow::proof::Proven;
use crate::observe::event::Observation;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a drain may take after SIGTERM; systemd's own limit is longer.
const DRAIN: Duration = Duration::from_secs(5);

impl Live<'_> {
    /// Stops reading and lets what is outstanding end.
    pub(super) async fn begin_drain(&mut self, ended: Ended, now: Instant) -> Step {
        self.draining = Some(ended);
        self.drain_by = Some(now + DRAIN);
        for (key, tickets, what) in self.debounce.end_all() {
            self.debounced(key, &tickets, what, now).await?;
        }
        Ok(())
    }

    /// While draining: ends when nothing is outstanding and the position says so, or when time is up. A reload that
    /// keeps both servers keeps the session: in notify delivery a new one would be a gap.
    pub(super) async fn drained(&mut self, now: Instant) -> Step {
        let Some(by) = self.drain_by else { return Ok(()) };
        // A batch of which pages are left was begun before the drain; it is read on, or again after the next start.
        let done = (self.ledger.is_idle() || self.batch.is_some()) && self.passes.is_idle() && self.beacon.is_none();
        let told = !self.proven || self.position.record().pos.as_ref() == Some(self.ledger.settled());
        // Without changes the position may lag behind idle polls; it need not move then.
        let still = !self.dirty && !self.repeats.moved();
        if !(done && (told || still)) && now < by {
            return Ok(());
        }
        match self.draining.take() {
            Some(Ended::Reload(config)) if done && self.same_servers(&config) => {
                self.drain_by = None;
                self.adopt(config, now).await
            }
            ended => Err(ended.unwrap_or(Ended::Stop)),
        }
    }

    /// Whether the session's connections serve this configuration too.
    fn same_servers(&self, new: &Config) -> bool {
        let old = &*self.config;
        let (a, b) = (&old.postgres, &new.postgres);
        (&a.url, a.delivery, &a.schema, &a.channel, a.bell) == (&b.url, b.delivery, &b.schema, &b.channel, b.bell)
            && (&old.redis.url, &old.redis.state) == (&new.redis.url, &new.redis.state)
            // What is tracked is settled with the connection. (Without a journal a new session would be a gap: there, patterns that
            // are not covered are found by SCAN until the next one.)
            && (self.journal.is_none() || super::indexed::index(old) == super::indexed::index(new))
    }

    /// Goes on with another configuration. Nothing is outstanding; what is unproven under it is found by the audit that
    /// is due at once.
    async fn adopt(&mut self, config: Arc<Config>, now: Instant) -> Step {
        self.current = crate::rules::layout::layouts(&config).into_iter().map(Arc::new).collect();
        let known = self.meaning.layouts().iter().map(|(id, layout)| (*id, layout.clone()));
        self.meaning = Meaning::new(&config, known.chain(self.current.iter().map(|l| (l.id(), l.clone()))));
        if self.journal.is_some() {
            let recorded = self.position.record().repeat.clone();
            self.repeats = Repeats::new(&config, &recorded, self.ledger.settled(), false, now);
        }
        self.flushes = Flushes::default();
        self.watch.adopt(&config);
        // What waits to be warmed speaks of the old caches by number.
        self.warmer = self.context.beside(|| Warmer::start(&config, &self.session, self.context));
        self.position.worths = self.warmer.worths();
        self.names = super::start::names(&config);
        self.config = config;
        self.guard_due = true;
        self.next_audit = now;
        self.context.observer.report(Observation::Reloaded);
        let (edges, _) = self.unproven(&Proven::new());
        self.forget(&edges).await
    }
}
