//! The probe on its way: row → trigger → bell → journal → Redis, and where it was lost.
//!
//! It takes the way of every change: the trigger is made from the same template, the row is read with the others, the key is deleted by
//! the script that compares the position. Only the configuration does not name it, so it is told apart by its table.

use super::live::{Live, Step, finished, postgres};
use super::statements::Asker;
use crate::config::model::{Config, Delivery, TableName};
use crate::flow::probe::{self, DEADLINE, Due};
use crate::observe::event::{Extent, Observation};
use crate::rules::probe as rules;
use crate::source::catalog;
use crate::source::connect::describe;
use crate::source::journal::{Change, What};
use crate::source::side::Side;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Share of the NOTIFY queue from which on the triggers do not ring (`sql/capture.sql`).
const RINGS_UNTIL: f64 = 0.1;

/// What a task of the probe found.
#[derive(Debug)]
pub(super) enum Told {
    /// The row is changed, by this transaction.
    Written(i64),
    /// It cannot arrive; says why and what to do.
    Failed(String),
    /// It arrived, but nobody rang; says why, where it can be told.
    Unheard(String),
}

/// The probe of a session.
#[derive(Debug)]
pub(super) struct Prober {
    state: probe::Probe,
    pub(super) task: Option<JoinHandle<Told>>,
    table: TableName,
    /// As journal rows spell it.
    name: String,
    /// The transaction of the probe under way.
    xid: Option<i64>,
}

impl Prober {
    pub(super) fn new(config: &Config, now: Instant) -> Self {
        let table = rules::table(&config.postgres.schema);
        Self { state: probe::Probe::new(now), task: None, name: table.to_string(), table, xid: None }
    }

    /// What its task found; pends while there is none.
    pub(super) async fn told(&mut self) -> Told {
        let told = finished(&mut self.task).await;
        self.task = None;
        told.unwrap_or_else(|e| Told::Failed(e.to_string()))
    }

    /// When something is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        // While a task runs, what it finds comes first; it is bounded by the deadline.
        if self.task.is_some() { None } else { self.state.next_due() }
    }

    /// Whether these rows are the probe's.
    pub(super) fn is(&self, table: &TableName) -> bool {
        *table == self.table
    }

    /// Whether one is on its way.
    pub(super) fn is_under_way(&self) -> bool {
        self.state.travels()
    }

    /// Whether this row of the journal is the probe's.
    pub(super) fn wrote(&self, change: &Change) -> bool {
        *change.table == *self.name
    }
}

impl Live<'_> {
    /// Begins a probe, looks for it, or gives it up.
    pub(super) async fn probe_due(&mut self, now: Instant) -> Step {
        if self.draining.is_some() || self.probe.task.is_some() {
            return Ok(());
        }
        if self.probe.state.hears_again(now) {
            self.bell.rely(true, now);
        }
        match self.probe.state.due(now) {
            Due::Nothing => {}
            Due::Begin => self.begin_probe(now).await?,
            Due::Look => {
                self.probe.state.looked();
                self.bell.rang();
            }
            Due::Late => {
                let (side, config, xid) = (self.side.clone(), self.config.clone(), self.probe.xid);
                let behind = (self.batch.is_some() || !self.ledger.is_idle()).then(|| self.statements.keys());
                self.ask(async move { Told::Failed(station(&side, &config, xid, behind).await) });
            }
        }
        Ok(())
    }

    async fn begin_probe(&mut self, now: Instant) -> Step {
        let nonce = format!("{:016x}", rand::random::<u64>());
        self.position.plant_probe(&nonce, 4 * DEADLINE).await.map_err(|f| self.fault(f))?;
        self.probe.xid = None;
        self.probe.state.begin(nonce.clone(), self.bell.asleep(), now);
        let side = self.side.clone();
        self.ask(async move { write(&side, &nonce).await });
        Ok(())
    }

    /// Runs something beside the loop; every statement of it is bounded.
    fn ask(&mut self, work: impl Future<Output = Told> + Send + 'static) {
        self.probe.task = Some(self.context.beside.spawn(work));
    }

    /// A task of the probe is back.
    pub(super) fn probe_told(&mut self, told: Told, now: Instant) -> Step {
        match told {
            Told::Written(xid) => self.probe.xid = Some(xid),
            Told::Failed(why) => {
                // The answer to the UPDATE may be lost, and the change arrive all the same.
                if self.probe.state.failed(now) {
                    self.context.observer.report(Observation::ProbeLost { why });
                }
            }
            Told::Unheard(why) => {
                self.context.observer.report(Observation::Warning { what: "the bell was not heard", detail: why });
            }
        }
        Ok(())
    }

    /// A change of the probe's table came. Its key goes with those of the page when it is the one that is waited for.
    pub(super) fn probe_read(&mut self, what: &What, extent: Extent, now: Instant) -> Option<(Vec<u8>, Asker)> {
        if extent != Extent::Rows {
            if !self.probe.state.failed(now) {
                return None;
            }
            let why = what.note.as_deref().unwrap_or("it could not name the row");
            let why = format!("its trigger fails: {why}: run `pgevict sql apply`");
            self.context.observer.report(Observation::ProbeLost { why });
            return None;
        }
        let values = what.tuples.iter().flat_map(|t| t.values.iter().flatten());
        let ours = values.into_iter().any(|nonce| self.probe.state.expects(nonce));
        ours.then(|| (self.position.probe_key().as_bytes().to_vec(), Asker::Probe))
    }

    /// The probe's key is deleted: it has arrived.
    pub(super) async fn probe_arrived(&mut self, now: Instant) -> Step {
        let Some(arrival) = self.probe.state.arrived(now) else { return Ok(()) };
        self.context.observer.report(Observation::ProbeArrived { took: arrival.took, unheard: arrival.unheard });
        if arrival.unheard {
            // Polling needs no bell; it is tried again later.
            if self.bell.rely(false, now) {
                self.session.bell_unlock(true).await.map_err(|e| postgres(&e))?;
            }
            let side = self.side.clone();
            self.ask(async move { Told::Unheard(why_unheard(&side).await) });
        }
        Ok(())
    }
}

/// Changes the probe's row.
async fn write(side: &Side, nonce: &str) -> Told {
    // The session's lock_timeout is 5 s: the server, which knows what it waits for, has the last word.
    match side.probe(nonce, DEADLINE + Duration::from_secs(1)).await {
        Ok(Ok(Some(xid))) => Told::Written(xid),
        Ok(Ok(None)) => Told::Failed("the table of the probe has lost its row: run `pgevict sql apply --yes`".into()),
        Ok(Err(e)) => Told::Failed(format!("its row cannot be changed: {}", worded(&e))),
        Err(why) => Told::Failed(format!(
            "its row cannot be changed: {why}: do commits wait, for a lock, a disk, or a synchronous standby?"
        )),
    }
}

/// Which station kept a probe that was written in time. `behind`: keys that are being delivered.
async fn station(side: &Side, config: &Config, xid: Option<i64>, behind: Option<usize>) -> String {
    let late = format!("it did not arrive within {DEADLINE:?}");
    let state = match side.run_within(DEADLINE, async |client| catalog::probe(client, config).await).await {
        Ok(state) => state,
        Err(why) => return format!("{late}: {why}"),
    };
    if let Some(why) = state.edges.iter().find_map(|e| e.why_not.as_deref()) {
        return format!("{late}: {why}: run `pgevict sql apply`");
    }
    if config.postgres.delivery == Delivery::Notify {
        return format!("{late}: {}", why_unheard(side).await);
    }
    let written = match xid {
        Some(xid) => side.is_journalled(xid, &rules::table(&config.postgres.schema).to_string()).await,
        None => return format!("{late}: its row was not changed in time"),
    };
    match (written, behind) {
        (Err(why), _) => format!("{late}: {why}"),
        (Ok(false), _) => format!(
            "{late}: its trigger is in place but wrote nothing: does the daemon's role have session_replication_role = replica?"
        ),
        (Ok(true), Some(keys)) => format!(
            "{late}: it waits in the journal behind other changes, of which {keys} keys are under way: Redis, or SCAN passes over it, \
             take longer than the changes"
        ),
        (Ok(true), None) => format!("{late}: it is in the journal and was not read: please report this with the log"),
    }
}

/// Why nobody rang, as far as the server can tell.
async fn why_unheard(side: &Side) -> String {
    let polls = "evictions go on by polling, at most 100 ms late; the bell is tried again in a minute";
    match side.notify_queue().await {
        Ok(full) if full >= RINGS_UNTIL => format!(
            "the NOTIFY queue is {:.0} % full, so that writers do not ring: end the session that LISTENs within a long transaction \
             (pg_stat_activity, `idle in transaction`); {polls}",
            full * 100.0
        ),
        _ => format!(
            "a NOTIFY did not reach the session that LISTENs: does something stand between (a pooler, a proxy)? {polls}"
        ),
    }
}

/// An error of PostgreSQL, with what to do.
pub(super) fn worded(e: &tokio_postgres::Error) -> String {
    let remedy = match e.code().map(|c| c.code()) {
        Some("42501") => {
            ": the daemon's role lacks a right; the tables' owner grants it: `pgevict sql apply --as OWNER_URL`"
        }
        Some("42P01" | "42703" | "42883") => {
            ": the schema is incomplete or of another version: apply the migration, `pgevict sql apply --as OWNER_URL`"
        }
        _ => "",
    };
    format!("{}{remedy}", describe(e))
}
