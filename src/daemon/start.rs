//! The start of a session: both servers, who they are, what was proven, from where to go on.

use super::flushes::{After, Flushes};
use super::indexed::{self, Indexed};
use super::live::{HEARTBEAT, Live, postgres};
use super::meaning::Meaning;
use super::passes::Passes;
use super::probe::Prober;
use super::repeats::Repeats;
use super::statements::Statements;
use super::trust::Trust;
use super::warmer::Warmer;
use super::watch::{self, Watch};
use super::{Context, Ended, notify};
use crate::config::model::{Bell as BellMode, Config, Delivery};
use crate::flow::bell::Bell;
use crate::flow::debounce::Debounce;
use crate::flow::fork::{self, Found, Lineage, Verdict};
use crate::flow::ledger::Ledger;
use crate::flow::paging::Paging;
use crate::flow::proof::{self, Proven};
use crate::flow::record::Record;
use crate::observe::event::{Condition, FlushReason, Observation, PROBE_UNDER_WAY, Server};
use crate::planted;
use crate::rules::layout;
use crate::sink::connect as redis_connect;
use crate::sink::position::{self, Fault, Position};
use crate::sink::tracking;
use crate::source::connect::Connected;
use crate::source::journal::Journal;
use crate::source::session::{Candidate, Session, Unfit};
use crate::source::side::Side;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// NOTIFY arrives in milliseconds; a server that is so busy that it takes longer is tried again.
const HEARING: Duration = Duration::from_secs(3);

/// Opens a session. `force` flushes whatever the record says; `seen` is a history that was found on one of the hosts,
/// behind which no server is used; `leading` is a connection that has waited for the lead and has it. With `trust` the
/// servers are greeted.
pub(super) async fn open<'a>(
    context: &'a Context,
    config: &Arc<Config>,
    force: Option<FlushReason>,
    seen: Option<&Lineage>,
    leading: Option<Candidate>,
    mut trust: Trust,
) -> Result<Live<'a>, Ended> {
    let observer = &context.observer;
    // Redis first: without it no session is of use, and no connection of PostgreSQL is held while it is away.
    let (mut redis, tracking) = tracking::connect(&config.redis, indexed::index(config))
        .await
        .map_err(|e| Ended::Down(Server::Redis, e.to_string()))?;
    let redis_version = redis_connect::version(&mut redis).await;
    let memory = position::remember(&mut redis, &config.redis.state).await.map_err(redis_down)?;

    let record = Record::parse(&memory.record).ok();
    let known = known(record.as_ref(), seen);
    let candidate = match leading {
        Some(leading) => leading,
        None => {
            let candidate = Candidate::open(&config.postgres, known.as_ref()).await?;
            if !candidate.try_lead().await? {
                // What it waits for is another daemon, no server.
                observer.report(greeting(config, Server::Postgres, postgres_version(&candidate.connected)));
                observer.report(greeting(config, Server::Redis, redis_version));
                return Err(Ended::Standby(Box::new(candidate)));
            }
            candidate
        }
    };
    let mut session = candidate.begin(&config.postgres).await?;
    let side = Side::new(&config.postgres.url, &session.connected.host, &config.postgres.schema)
        .map_err(|e| Ended::Down(Server::Postgres, e))?;
    let journal = match config.postgres.delivery {
        Delivery::Journal => Some(Arc::new(Journal::prepare(&session).await.map_err(|e| postgres(&e))?)),
        Delivery::Notify if session.identity.prepared_transactions => {
            let why = "delivery = \"notify\" is refused where max_prepared_transactions > 0: PREPARE TRANSACTION fails \
                       after NOTIFY; use delivery = \"journal\"";
            return Err(Ended::Down(Server::Postgres, why.into()));
        }
        Delivery::Notify => None,
    };
    hear(&mut session, &side, config).await?;
    for cleared in [Condition::SchemaMissing, Condition::Standby] {
        observer.condition(cleared, None);
    }
    trust.greet(greeting(config, Server::Postgres, postgres_version(&session.connected)), observer);

    let identity = session.identity.clone();
    let doubt = match &record {
        None => Some(FlushReason::NoPosition),
        Some(record) => doubt(record, &session, &side, config).await?,
    };
    let doubt = force.or(doubt);
    let adopts = context.adopt.load(Ordering::Relaxed);
    let adopted = adopts && record.is_none() && matches!(doubt, Some(FlushReason::NoPosition));
    let mut next = record.clone().filter(|_| doubt.is_none()).unwrap_or_else(|| {
        let mut fresh = Record::new(identity.db.clone(), identity.timeline.clone(), identity.sentinel.clone());
        // 0 where nothing is known: a capture that was lost before may belong to a transaction that is still open, and
        // commits after the first flush. The counter's own answer waits for it.
        fresh.lost = record.as_ref().map_or(0, |r| r.lost);
        fresh
    });
    (next.timeline, next.sentinel) = (identity.timeline.clone(), identity.sentinel.clone());
    next.by.clone_from(&identity.backend);
    if journal.is_none() {
        next.pos = None;
        next.repeat.clear();
    }
    if adopted {
        // What is cached now is taken as fresh, so nothing waits for a second delete either.
        next.repeat = super::repeats::delays(config).into_iter().map(|ms| (ms, identity.snapshot.clone())).collect();
    }
    let seen = next.pos.clone().unwrap_or_else(|| identity.snapshot.clone());
    if adopted && journal.is_some() {
        next.lost = lost_so_far(&session).await?;
    }
    let nonce = format!("{:016x}", rand::random::<u64>());
    let recorded = next.repeat.clone();
    let mut held = Position::take(redis, &config.redis.state, memory.record, next, nonce).await.map_err(redis_down)?;
    // Said only now that Redis has let us write: one that answers and refuses (READONLY, MISCONF …) is still down.
    trust.greet(greeting(config, Server::Redis, redis_version), observer);

    let tracking = tracking.unwrap_or_else(|refused| {
        let detail =
            format!("{refused}; patterns are found by SCAN, and `pgevict check` prints the ACL line that allows more");
        observer.report(Observation::Warning { what: "Redis does not report its keys", detail });
        None
    });
    let current: Vec<Arc<layout::Layout>> = layout::layouts(config).into_iter().map(Arc::new).collect();
    let meaning = Meaning::new(config, current.iter().map(|l| (l.id(), l.clone())));
    let warmer = context.beside(|| Warmer::start(config, &session, context));
    held.worths = warmer.worths();
    let now = Instant::now();
    let rings = journal.is_some() && config.postgres.bell == BellMode::Auto && !identity.prepared_transactions;
    let mut live = Live {
        context,
        bell: Bell::new(now, rings),
        rung: None,
        ledger: Ledger::new(seen.clone()),
        debounce: Debounce::default(),
        passes: Passes::default(),
        indexed: tracking.map(|tracking| Indexed::new(tracking, now)),
        statements: Statements::default(),
        flushes: Flushes::default(),
        repeats: match &journal {
            Some(_) => Repeats::new(config, &recorded, &seen, doubt.is_some(), now),
            None => Repeats::default(),
        },
        watch: Watch::new(config, &memory.edges, &memory.tables),
        trust,
        probe: Prober::new(config, now),
        assembler: notify::assembler(),
        later: notify::Later::default(),
        late: HashMap::new(),
        paging: Paging::default(),
        batch: None,
        proven: doubt.is_none() && journal.is_some(),
        dirty: true,
        guard_due: false,
        beacon: None,
        next_beacon: now,
        next_tick: now + Duration::from_secs(30),
        next_heartbeat: now,
        next_audit: now + Duration::from_secs(25),
        drain_by: None,
        draining: None,
        config: config.clone(),
        names: names(config),
        session,
        journal,
        side,
        position: held,
        warmer,
        meaning,
        current,
        seen,
    };
    live.learn_layouts().await;
    live.read_refused().await?;
    let look = live.first_look().await?;
    live.guard(doubt.is_some()).await?;
    // Nothing is ready before a probe has arrived; it begins with the session's first turn.
    observer.condition(Condition::Probe, Some(PROBE_UNDER_WAY.into()));
    // What a session before was about to flush is found again, unless another daemon has done it since.
    observer.condition(Condition::Flushing, None);
    live.begin(look, doubt, adopted).await?;
    context.adopt.store(false, Ordering::Relaxed);
    observer.report(Observation::Resumed { position: live.seen.to_string() });
    Ok(live)
}

impl Live<'_> {
    /// The first look at the tables. It may take seconds, and a leader that is not heard of for that long is superseded.
    async fn first_look(&mut self) -> Result<watch::Look, Ended> {
        let (side, config) = (self.side.clone(), self.config.clone());
        let mut look = std::pin::pin!(watch::look(&side, &config));
        loop {
            tokio::select! {
                biased;
                look = &mut look => return look.map_err(|e| Ended::Down(Server::Postgres, e)),
                () = tokio::time::sleep(HEARTBEAT) => self.position.heartbeat().await.map_err(|f| self.fault(f))?,
            }
        }
    }

    /// What the first look at the tables and the doubt about the position lead to.
    async fn begin(&mut self, look: watch::Look, doubt: Option<FlushReason>, adopted: bool) -> Result<(), Ended> {
        self.take_note(&look);
        let Some(reason) = doubt else {
            if self.journal.is_none() {
                let (edges, _) = self.unproven(&Proven::new());
                self.watch.accept_tables(&look);
                return self.gap(edges).await;
            }
            return self.compare(look).await;
        };
        let (edges, forms) = self.unproven(&Proven::new());
        self.watch.accept_tables(&look);
        let tables = self.watch.tables.clone();
        self.position.step(&[], &[("tables", &tables)], |_| {}).await.map_err(|f| self.fault(f))?;
        let forms = if adopted { std::collections::BTreeSet::new() } else { forms };
        self.flush(forms, reason, After::Proven { edges, position: self.journal.is_some() }).await
    }

    pub(super) fn unproven(&self, stored: &Proven) -> (Proven, std::collections::BTreeSet<proof::Form>) {
        let layouts: Vec<_> = self.current.iter().map(|l| (**l).clone()).collect();
        proof::unproven(&self.config, &layouts, |table, cache| self.watch.is_live(table, cache), stored)
    }
}

/// Proves that the session hears: a transaction pooler accepts LISTEN and delivers nothing (HAZARDS N4), and LISTEN and
/// NOTIFY on one connection would look fine there, so the other connection rings.
async fn hear(session: &mut Session, side: &Side, config: &Config) -> Result<(), Ended> {
    let settings = &config.postgres;
    if planted::is("listen-late") || settings.delivery == Delivery::Journal && settings.bell == BellMode::Never {
        return Ok(());
    }
    let down = |why: String| Ended::Down(Server::Postgres, why);
    let nonce = format!("hear {:016x}", rand::random::<u64>());
    side.ring(&settings.channel, &nonce).await.map_err(down)?;
    let heard = async {
        while let Some((_, payload)) = session.connected.notifications.recv().await {
            if payload == nonce {
                return true;
            }
            // A change that came before the proof is no loss: in journal delivery the first poll finds it, in notify
            // delivery the start is a gap that is flushed after this.
        }
        false
    };
    match tokio::time::timeout(HEARING, heard).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(down(session.connected.why_ended().unwrap_or_else(|| "the connection was closed".into()))),
        Err(_) => Err(down(format!(
            "LISTEN on channel `{}` was accepted, but a NOTIFY from another connection did not arrive within {HEARING:?}: \
             this looks like a transaction pooler; give postgres.url the server itself, or set bell = \"never\"",
            settings.channel
        ))),
    }
}

/// What [`Live::names`] is.
pub(super) fn names(config: &Config) -> Vec<Arc<str>> {
    config.caches.iter().map(|cache| cache.name.as_str().into()).collect()
}

fn greeting(config: &Config, server: Server, version: String) -> Observation {
    let to = match server {
        Server::Postgres => config.postgres.url.to_string(),
        Server::Redis => config.redis.url.to_string(),
    };
    Observation::Connected { server, to, version }
}

fn postgres_version(connected: &Connected) -> String {
    format!("{}.{}", connected.version / 10_000, connected.version % 10_000)
}

impl From<Unfit> for Ended {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::Down(why) => Self::Down(Server::Postgres, why),
            Unfit::SchemaMissing(why) => Self::SchemaMissing(why),
        }
    }
}

/// Asks the server what [`fork::judge`] wants to know, and says what must be flushed, if anything.
async fn doubt(record: &Record, session: &Session, side: &Side, config: &Config) -> Result<Option<FlushReason>, Ended> {
    let identity = &session.identity;
    let journal = config.postgres.delivery == Delivery::Journal;
    let beacon = match &record.pos {
        Some(pos) if journal && record.beacon != 0 => {
            side.has_beacon(record.beacon, pos).await.map_err(|e| Ended::Down(Server::Postgres, e))?
        }
        _ => false,
    };
    let found = Found {
        db: &identity.db,
        timeline: &identity.timeline,
        sentinel: journal.then_some(identity.sentinel.as_str()),
        now: &identity.snapshot,
        beacon,
    };
    match fork::judge(record, &found) {
        Verdict::GoOn => Ok(None),
        Verdict::Flush(reason) => Ok(Some(reason)),
        Verdict::PassOver(why) => Err(Ended::Down(Server::Postgres, why)),
        Verdict::Refuse(why) => Err(Ended::Foreign(format!(
            "the position in Redis ({}) {why} (system identifier/database oid): is this a clone pointed at another \
             environment's Redis? If it is meant, delete `{}:position` there, and all caches are flushed",
            config.redis.url, config.redis.state,
        ))),
    }
}

/// The furthest history that is known of: the record's, or one that was found on a host since.
fn known(record: Option<&Record>, seen: Option<&Lineage>) -> Option<Lineage> {
    let recorded = record.map(|r| Lineage { db: r.db.clone(), timeline: r.timeline.clone() });
    match (recorded, seen) {
        (Some(recorded), Some(seen)) if seen.is_ahead_of(&recorded.db, &recorded.timeline) => Some(seen.clone()),
        (None, Some(seen)) => Some(seen.clone()),
        (recorded, _) => recorded,
    }
}

async fn lost_so_far(session: &Session) -> Result<i64, Ended> {
    let sql = crate::source::session::in_schema(
        "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM pgevict.lost",
        &session.schema,
    );
    Ok(session.connected.client.query_one(&sql, &[]).await.map_err(|e| postgres(&e))?.get(0))
}

pub(super) fn redis_down(fault: Fault) -> Ended {
    match fault {
        Fault::Redis(why) => Ended::Down(Server::Redis, why),
        Fault::Moved(found) => Ended::Moved(found),
    }
}
