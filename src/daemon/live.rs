//! A live session: both servers connected, the position ours. `select!` only builds an event; one match performs.

use super::control::Control;
use super::flushes::Flushes;
use super::meaning::Meaning;
use super::passes::{Lane, Passes};
use super::probe::{Prober, Told, worded};
use super::repeats::Repeats;
use super::statements::Statements;
use super::trust::Trust;
use super::watch::Watch;
use super::{Context, Ended};
use crate::config::model::{Config, Delivery, TableName};
use crate::flow::bell::{Bell, Next};
use crate::flow::debounce::Debounce;
use crate::flow::ledger::Ledger;
use crate::flow::paging::Paging;
use crate::observe::event::{Condition, Observation, Server};
use crate::planted;
use crate::rules::layout::Layout;
use crate::rules::payload::notify::Assembler;
use crate::rules::snapshot::Snapshot;
use crate::sink::position::{Fault, Position};
use crate::sink::scan::Found;
use crate::source::journal::{First, Journal, Page};
use crate::source::session::Session;
use crate::source::side::Side;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Between two comparisons of the position while nothing else touches Redis: a roll-back is found within this, and
/// `alive` (5 s) survives a few missed ones.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(1);
/// Between two beacons while changes come: the position lags by this, a crash replays this much.
const BEACON_PACE: Duration = Duration::from_millis(100);
/// Between two beacons while nothing changes: the position follows the server's snapshots, so that retention can.
const SLOW_TICK: Duration = Duration::from_secs(30);
/// Keys of open statements beyond which nothing more is read: about 100 bytes each.
const MOST_KEYS: usize = 200_000;
/// Patterns that wait for a pass beyond which nothing more is read.
const MOST_PATTERNS: usize = 20_000;

/// Why the loop's step ended the session.
pub(super) type Step = Result<(), Ended>;

/// What a suppressed delete of `debounce` needs at its window's end.
#[derive(Debug, Clone)]
pub(super) struct Suppressed {
    pub(super) table: TableName,
    pub(super) op: crate::config::model::Op,
    pub(super) cache: Arc<str>,
    /// The cache and the values of a key that is to be warmed.
    pub(super) warm: Option<(usize, crate::rules::binding::Binding)>,
}

/// Everything a live session holds. It dies with either connection; nothing of it outlives the session but what Redis
/// and the database keep.
pub(super) struct Live<'a> {
    pub(super) context: &'a Context,
    pub(super) config: Arc<Config>,
    /// The names of its caches, to be shared by all keys that are delivered.
    pub(super) names: Vec<Arc<str>>,
    pub(super) session: Session,
    pub(super) journal: Option<Arc<Journal>>,
    pub(super) side: Side,
    pub(super) position: Position,
    /// Fills again what is evicted, beside this loop.
    pub(super) warmer: super::warmer::Warmer,
    /// What changes are mapped with.
    pub(super) meaning: Arc<Meaning>,
    /// The configuration's own.
    pub(super) current: Vec<Arc<Layout>>,
    pub(super) bell: Bell,
    /// It rang, and what for was asked.
    pub(super) rung: Option<First>,
    pub(super) ledger: Ledger,
    pub(super) debounce: Debounce<Suppressed>,
    pub(super) passes: Passes,
    /// None where nothing is tracked: SCAN serves all patterns.
    pub(super) indexed: Option<super::indexed::Indexed>,
    pub(super) statements: Statements,
    pub(super) flushes: Flushes,
    pub(super) repeats: Repeats,
    pub(super) watch: Watch,
    pub(super) trust: Trust,
    pub(super) probe: Prober,
    pub(super) assembler: Assembler,
    pub(super) later: super::notify::Later,
    /// Batches that wait for a debounced pattern's pass, by its statement.
    pub(super) late: HashMap<u64, Vec<crate::flow::ledger::Ticket>>,
    /// Everything up to here was read (not: deleted).
    pub(super) seen: Snapshot,
    /// How long pages are.
    pub(super) paging: Paging,
    /// The batch under way, while it has more pages.
    pub(super) batch: Option<super::reading::Batch>,
    /// Whether the record may name a position: not while the first flush is under way, never in notify delivery.
    pub(super) proven: bool,
    /// Something was delivered since the position last moved.
    pub(super) dirty: bool,
    /// What guards the fills must be written anew.
    pub(super) guard_due: bool,
    pub(super) beacon: Option<JoinHandle<Result<(i64, Snapshot), String>>>,
    pub(super) next_beacon: Instant,
    pub(super) next_tick: Instant,
    pub(super) next_heartbeat: Instant,
    pub(super) next_audit: Instant,
    /// A drain must be over by then.
    pub(super) drain_by: Option<Instant>,
    pub(super) draining: Option<Ended>,
}

/// What the loop waits for.
enum Event {
    Stop,
    Control(Control),
    Rang(Option<(i32, String)>),
    /// It rang, and this was asked at once.
    Answered(Result<Option<Page>, tokio_postgres::Error>),
    Driver(String),
    Found(Lane, Found),
    /// The walk that fills the index found something.
    Filled(Found),
    Beacon(Result<(i64, Snapshot), String>),
    Audit(Result<super::watch::Look, String>),
    Probe(Told),
    Timer,
}

impl Live<'_> {
    /// Delivers until something ends the session. Says also what configuration it ended with: a reload may have kept the
    /// session, and the next one must not go back behind it.
    pub(super) async fn run(mut self) -> (Ended, Arc<Config>) {
        let ended = self.deliver_until_ended().await;
        (ended, self.config)
    }

    async fn deliver_until_ended(&mut self) -> Ended {
        loop {
            self.arm();
            let event = self.next_event().await;
            self.disarm();
            let now = Instant::now();
            self.context.observer.beat();
            let step = match event {
                Event::Stop => self.begin_drain(Ended::Stop, now).await,
                Event::Control(Control::Reload(config)) => self.begin_drain(Ended::Reload(config), now).await,
                Event::Control(Control::Dismiss(cache)) => self.dismiss(&cache).await,
                Event::Control(Control::Warm(asked)) => {
                    self.warmer.asked(&self.config, asked);
                    Ok(())
                }
                Event::Rang(None) => Err(Ended::Down(Server::Postgres, "the connection was closed".into())),
                Event::Answered(first) => {
                    self.rung = Some(First::new(std::future::ready(first)));
                    self.bell.rang();
                    Ok(())
                }
                Event::Rang(Some((sender, payload))) => self.rang(sender, &payload, now).await,
                Event::Driver(why) => Err(Ended::Down(Server::Postgres, format!("the connection was lost: {why}"))),
                Event::Found(lane, found) => self.found(lane, found, now).await,
                Event::Filled(found) => self.fill(found, now),
                Event::Beacon(outcome) => self.beacon_back(outcome, now).await,
                // It may flush; the next one after the pause finds the same.
                Event::Audit(_) if self.paused() => Ok(()),
                Event::Audit(outcome) => self.audited(outcome, now).await,
                Event::Probe(told) => self.probe_told(told, now),
                Event::Timer => Ok(()),
            };
            let step = match step.and_then(|()| self.no_gap()) {
                Ok(()) => self.due(Instant::now()).await,
                ended => ended,
            };
            if let Err(ended) = step {
                // A reload that was asked for outlives the session that dies while it drains.
                return match (self.draining.take(), ended) {
                    (
                        Some(reload @ Ended::Reload(_)),
                        Ended::Down(..) | Ended::Moved(_) | Ended::TooOld | Ended::Newer(..),
                    ) => reload,
                    (_, ended) => self.explained(ended),
                };
            }
        }
    }

    /// The statement that meets a connection's end says only that it is closed; the connection knows why.
    fn explained(&self, ended: Ended) -> Ended {
        match (ended, self.session.connected.why_ended()) {
            (Ended::Down(Server::Postgres, _), Some(why)) => Ended::Down(Server::Postgres, why),
            (ended, _) => ended,
        }
    }

    async fn next_event(&mut self) -> Event {
        let until = self.next_deadline(Instant::now());
        let draining = self.draining.is_some();
        // In notify delivery what rings is the change itself: it waits, within limits, while memory is full.
        let hears = self.journal.is_some() || self.roomy();
        let answered = self.session.connected.notifications.answered();
        let (notifications, passes) = (&mut self.session.connected.notifications, &mut self.passes);
        let indexed = &mut self.indexed;
        tokio::select! {
            biased;
            // First, since an application waits. It is no flood: from then on the daemon is awake.
            first = answered => Event::Answered(first),
            () = self.context.stop.cancelled(), if !draining => Event::Stop,
            why = &mut self.session.connected.driver => Event::Driver(why.unwrap_or_else(|e| e.to_string())),
            Some(control) = recv(&self.context.control), if !draining => Event::Control(control),
            outcome = finished(&mut self.beacon) => {
                self.beacon = None;
                Event::Beacon(outcome.unwrap_or_else(|e| Err(e.to_string())))
            }
            outcome = finished(&mut self.watch.looking) => {
                self.watch.looking = None;
                Event::Audit(outcome.unwrap_or_else(|e| Err(e.to_string())))
            }
            told = self.probe.told() => Event::Probe(told),
            // Neither before the other: a flood of either must not starve the other one.
            event = async {
                tokio::select! {
                    rang = notifications.recv(), if hears => Event::Rang(rang),
                    (lane, found) = passes.found() => Event::Found(lane, found),
                    found = super::indexed::filled(indexed) => Event::Filled(found),
                }
            } => event,
            () = tokio::time::sleep_until(until.into()) => Event::Timer,
        }
    }

    /// When something is due at the latest.
    fn next_deadline(&self, now: Instant) -> Instant {
        if self.paused() {
            let until = self.paused_until();
            return if self.wants_beacon(now) { until.min(self.next_beacon) } else { until };
        }
        if self.batch.is_some() && self.reads() || self.repeats.reading() && self.roomy() {
            return now;
        }
        let mut at = self.next_heartbeat.min(self.next_audit).min(self.next_tick);
        if self.reads() {
            at = at.min(match self.bell.next(now) {
                Next::Poll | Next::TryLock => now,
                Next::Wait(until) => until,
            });
        }
        for deadline in [
            self.debounce.next_end(),
            self.repeats.next_due(),
            self.flushes.next_due(),
            self.later.next_due(),
            self.index_due(),
            self.probe.next_due(),
            self.drain_by,
        ] {
            at = at.min(deadline.unwrap_or(at));
        }
        if self.wants_beacon(now) {
            at = at.min(self.next_beacon);
        }
        at
    }

    /// Whether the journal is read now: not beyond what memory may hold, not while draining.
    pub(super) fn reads(&self) -> bool {
        self.journal.is_some() && self.draining.is_none() && self.roomy()
    }

    /// Whether memory has room for another page.
    pub(super) fn roomy(&self) -> bool {
        self.statements.keys() < MOST_KEYS && self.passes.waiting() < MOST_PATTERNS
    }

    /// Performs everything that is due.
    async fn due(&mut self, now: Instant) -> Step {
        if self.paused() {
            return self.stand_still(now).await;
        }
        if self.guard_due {
            self.guard(false).await?;
        }
        for (key, tickets, what) in self.debounce.ended(now) {
            self.debounced(key, &tickets, what, now).await?;
        }
        if self.batch.is_some() && self.reads() {
            self.poll().await?;
        } else if self.reads() {
            match self.bell.next(now) {
                Next::Poll => self.poll().await?,
                Next::TryLock => {
                    let got = self.session.try_bell_lock().await.map_err(|e| postgres(&e))?;
                    self.bell.locked(got, Instant::now());
                }
                Next::Wait(_) => {}
            }
        }
        if self.roomy() {
            self.repeats_due(now).await?;
        }
        if planted::is("listen-late") && self.bell.asleep() && planted::first(self.position.nonce()) {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let listen = format!("LISTEN {}", crate::rules::sql::ident(&self.config.postgres.channel));
            self.session.connected.client.batch_execute(&listen).await.map_err(|e| postgres(&e))?;
        }
        self.flushes_due(now).await?;
        self.probe_due(now).await?;
        self.expire_slices(now).await?;
        self.keep_index(now).await?;
        self.answer_from_index(now).await?;
        let (context, config) = (self.context, self.config.clone());
        context.beside(|| self.passes.start(&config.redis, config.limits.over_limit, now));
        let enforced = self.config.mode == crate::config::model::Mode::Enforce;
        let trusted = self.trust.earned(self.ledger.settled(), now);
        let proven = self.proven || self.journal.is_none();
        let vouched = enforced && proven && trusted && !self.flushes.under_way();
        self.position.vouch(vouched);
        // Not before the first flush is over, which would take it again.
        if vouched {
            let first = !context.warmed.swap(true, std::sync::atomic::Ordering::Relaxed);
            context.beside(|| self.warmer.trusted(first));
        }
        let greets = trusted && self.trust.is_silent();
        if now >= self.next_heartbeat || greets {
            self.position.heartbeat().await.map_err(|f| self.fault(f))?;
            if greets {
                self.trust.greetings().into_iter().for_each(|o| self.context.observer.report(o));
            }
            self.next_heartbeat = Instant::now() + HEARTBEAT;
            self.warmer.tell();
        }
        if now >= self.next_audit && self.watch.looking.is_none() && self.draining.is_none() {
            self.next_audit = now + super::watch::AUDIT;
            self.begin_audit();
        }
        self.move_position(now);
        self.drained(now).await
    }

    /// The bell: in journal delivery an empty wake-up, in notify delivery the change itself.
    async fn rang(&mut self, sender: i32, payload: &str, now: Instant) -> Step {
        match self.config.postgres.delivery {
            Delivery::Journal => {
                self.bell.rang();
                // One wake-up is as good as many: what else rang is answered by the same poll.
                while self.session.connected.notifications.try_recv().is_ok() {}
                Ok(())
            }
            Delivery::Notify => self.notified(sender, payload, now).await,
        }
    }

    /// One thing of the batch is done.
    pub(super) fn release(&mut self, ticket: crate::flow::ledger::Ticket, now: Instant) {
        if self.ledger.release(ticket) {
            // Also when a beacon came back meanwhile: a pass may outlive it, and the position must still follow soon.
            self.dirty = true;
            self.repeats.settled(self.ledger.settled(), self.ledger.is_idle(), now);
        }
    }

    fn wants_beacon(&self, now: Instant) -> bool {
        let behind = || self.position.record().pos.as_ref() != Some(self.ledger.settled());
        self.proven
            && self.beacon.is_none()
            && ((self.dirty && behind()) || self.repeats.moved() || now >= self.next_tick)
    }

    /// Begins to move the position to what is settled: first a beacon, committed after that snapshot was taken.
    pub(super) fn move_position(&mut self, now: Instant) {
        if !self.wants_beacon(now) || now < self.next_beacon {
            if now >= self.next_tick {
                self.next_tick = now + SLOW_TICK;
            }
            return;
        }
        self.next_beacon = now + BEACON_PACE;
        self.next_tick = now + SLOW_TICK;
        let done = if planted::is("position-first") { &self.seen } else { self.ledger.settled() };
        let (side, snapshot) = (self.side.clone(), done.clone());
        let beacon = async move { side.beacon(&snapshot).await.map(|n| (n, snapshot)) };
        self.beacon = Some(self.context.beside.spawn(beacon));
    }

    /// The beacon is committed: the position moves.
    async fn beacon_back(&mut self, outcome: Result<(i64, Snapshot), String>, now: Instant) -> Step {
        match outcome {
            Ok((n, snapshot)) => {
                let repeats = self.repeats.up_to(&snapshot);
                self.position
                    .step(&[], &[], |record| {
                        record.beacon = n;
                        record.pos = Some(snapshot.clone());
                        record.repeat = repeats;
                    })
                    .await
                    .map_err(|f| self.fault(f))?;
                self.next_heartbeat = now + HEARTBEAT;
                self.dirty = snapshot != *self.ledger.settled();
                self.context.observer.set_position(&snapshot.to_string());
            }
            Err(why) => {
                self.next_beacon = now + Duration::from_secs(1);
                self.context.observer.report(Observation::Warning {
                    what: "the position waits for a beacon",
                    detail: format!("{why}; deletes go on, and are repeated after a crash"),
                });
            }
        }
        Ok(())
    }

    /// What a fault of the position means for the session.
    pub(super) fn fault(&self, fault: Fault) -> Ended {
        match fault {
            Fault::Redis(why) => Ended::Down(Server::Redis, why),
            Fault::Moved(found) => Ended::Moved(found),
        }
    }

    /// An operator has dealt with a refused edge.
    pub(super) async fn dismiss(&mut self, cache: &str) -> Step {
        let refused = self.watch.dismiss(cache, &self.current);
        for (table, cache) in refused {
            self.context.observer.condition(Condition::Refused { table, cache }, None);
        }
        self.write_refused().await
    }
}

/// Pends while there is no task.
pub(super) async fn finished<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, tokio::task::JoinError> {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

async fn recv(control: &tokio::sync::Mutex<tokio::sync::mpsc::Receiver<Control>>) -> Option<Control> {
    control.lock().await.recv().await
}

/// A statement of the session failed.
pub(super) fn postgres(e: &tokio_postgres::Error) -> Ended {
    Ended::Down(Server::Postgres, worded(e))
}
