//! Floor 3: wiring and lifetimes. One session at a time, one retry loop around it.

pub mod control;
mod deliver;
mod drain;
mod fills;
mod flushes;
mod found;
mod house;
pub mod indexed;
mod live;
mod meaning;
mod notify;
mod passes;
pub mod pause;
mod poison;
mod probe;
mod reading;
mod repeats;
mod standby;
mod start;
mod statements;
pub mod supervise;
pub mod systemd;
pub mod threads;
mod trust;
pub mod warmer;
mod watch;

use crate::config::model::Config;
use crate::flow::fork::Lineage;
use crate::flow::retry::Retry;
use crate::observe::Observer;
use crate::observe::event::{Condition, FlushReason, Observation, Server};
use crate::source::session::Candidate;
use control::Control;
use pause::Pause;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;
use trust::Trust;

/// Between two rounds of retention while Redis is away.
const HOUSEKEEPING: Duration = Duration::from_secs(30);
/// While waiting, the loop still shows that it lives.
const BEAT: Duration = Duration::from_secs(1);
/// What the start of a session may take beside connecting to PostgreSQL: Redis has 5 s to connect and 10 s for each answer, `LISTEN` is
/// proven within 3 s, and a look at hundreds of tables takes seconds.
const OPENING: Duration = Duration::from_secs(45);

/// What lives as long as the process.
#[derive(Debug)]
pub struct Context {
    /// Where everything is reported.
    pub observer: Observer,
    /// Cancelled: drain and stop.
    pub stop: CancellationToken,
    /// What operators ask.
    pub control: Mutex<mpsc::Receiver<Control>>,
    /// `run --adopt`: without a position, take the present caches as fresh. Only until a session has begun: a position that
    /// is missing after that was lost, and with it what the caches lack.
    pub adopt: AtomicBool,
    /// What is warmed at the start has been begun: once a process, whatever becomes of its sessions.
    pub warmed: AtomicBool,
    /// What an operator has paused.
    pub pause: Arc<Pause>,
    /// The thread for what no delivery waits for.
    pub beside: Handle,
}

impl Context {
    /// What `begin` spawns runs on the thread beside the one that delivers.
    fn beside<R>(&self, begin: impl FnOnce() -> R) -> R {
        let _entered = self.beside.enter();
        begin()
    }
}

/// Why a session ended.
#[derive(Debug)]
enum Ended {
    /// Asked to.
    Stop,
    /// Asked to go on with this configuration.
    Reload(Arc<Config>),
    /// A server cannot be used; says why and what to do.
    Down(Server, String),
    /// The schema is missing; says what to do.
    SchemaMissing(String),
    /// Another daemon leads; the connection that may wait for it.
    Standby(Box<Candidate>),
    /// The position is not ours any more; what was found.
    Moved(String),
    /// Retention has deleted what the position still needed.
    TooOld,
    /// Another host is the primary of a later history; where, and which.
    Newer(String, Lineage),
    /// The position belongs to another database; says which.
    Foreign(String),
}

/// How the daemon ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Asked to.
    Stopped,
    /// It refuses to work with these servers; says why.
    Refused(String),
}

/// Runs until it is asked to stop, or must refuse.
pub async fn run(context: &Context, mut config: Arc<Config>) -> End {
    let mut retry = Retry::default();
    let mut force: Option<FlushReason> = None;
    let mut kept: Option<Instant> = None;
    let mut dismissed = Vec::new();
    let mut seen: Option<Lineage> = None;
    let mut leading: Option<Candidate> = None;
    // The session before had opened, and was broken by a server.
    let mut broken = false;
    loop {
        let began = Instant::now();
        context.observer.beat();
        let trust = Trust::new(std::mem::take(&mut broken));
        let ended = match open(context, &config, force.take(), seen.as_ref(), leading.take(), trust).await {
            Ok(mut live) => {
                let ended = match dismiss(&mut live, &mut dismissed).await {
                    Ok(()) => {
                        let (ended, last) = live.run().await;
                        config = last;
                        ended
                    }
                    Err(ended) => ended,
                };
                broken = matches!(ended, Ended::Down(..));
                ended
            }
            Err(ended) => ended,
        };
        let ended = match ended {
            Ended::Standby(candidate) => match standby::wait(context, &config, *candidate, &mut dismissed).await {
                Ok(candidate) => {
                    leading = Some(candidate);
                    continue;
                }
                Err(ended) => ended,
            },
            ended => ended,
        };
        let lived = began.elapsed();
        let wait = match ended {
            Ended::Stop => return End::Stopped,
            Ended::Foreign(why) => return End::Refused(why),
            Ended::Reload(new) => {
                config = new;
                context.observer.report(Observation::Reloaded);
                continue;
            }
            Ended::Down(server, why) => {
                let wait = retry.after(lived);
                if server == Server::Redis && kept.is_none_or(|at| at.elapsed() >= HOUSEKEEPING) {
                    kept = Some(Instant::now());
                    keep_house(context, &config);
                }
                let why = placed(&config, server, why);
                context.observer.report(Observation::Disconnected { server, why, retry_in: wait });
                wait
            }
            Ended::SchemaMissing(why) => {
                context.observer.condition(Condition::SchemaMissing, Some(format!("{why}; it is looked for again")));
                retry.after(lived)
            }
            Ended::Standby(_) => retry.after(lived),
            Ended::Moved(found) => {
                context.observer.report(Observation::PositionMoved { found });
                retry.after(lived)
            }
            Ended::Newer(host, lineage) => {
                let wait = retry.after(lived);
                let why = format!(
                    "{host} is the primary of the later timeline {}: this server is an old one that still answers",
                    lineage.timeline
                );
                seen = Some(lineage);
                context.observer.report(Observation::Disconnected { server: Server::Postgres, why, retry_in: wait });
                wait
            }
            Ended::TooOld => {
                force = Some(FlushReason::PositionTooOld);
                retry.after(lived)
            }
        };
        match pause(context, wait, &mut dismissed).await {
            Some(Ended::Stop) => return End::Stopped,
            Some(Ended::Reload(new)) => {
                config = new;
                context.observer.report(Observation::Reloaded);
            }
            _ => {}
        }
    }
}

/// Opens a session. The loop beats meanwhile, so that servers which answer slowly are no reason for the watchdog to strike, and it does
/// not wait for ever, so that the beat proves something.
async fn open<'a>(
    context: &'a Context,
    config: &Arc<Config>,
    force: Option<FlushReason>,
    seen: Option<&Lineage>,
    leading: Option<Candidate>,
    trust: Trust,
) -> Result<live::Live<'a>, Ended> {
    let hosts = u32::try_from(config.postgres.url.hosts.len()).unwrap_or(u32::MAX);
    let limit = OPENING.saturating_add(config.postgres.url.connect_timeout.saturating_mul(hosts));
    let until = Instant::now() + limit;
    let mut opened = std::pin::pin!(start::open(context, config, force, seen, leading, trust));
    loop {
        tokio::select! {
            biased;
            () = context.stop.cancelled() => return Err(Ended::Stop),
            opened = &mut opened => return opened,
            () = tokio::time::sleep_until(until.min(Instant::now() + BEAT).into()) => {}
        }
        context.observer.beat();
        if Instant::now() >= until {
            let why = format!("the session did not begin within {limit:?}: some statement is not answered");
            return Err(Ended::Down(Server::Postgres, why));
        }
    }
}

/// What went wrong, with the place where it did.
fn placed(config: &Config, server: Server, why: String) -> String {
    let place = match server {
        Server::Postgres => config.postgres.url.to_string(),
        Server::Redis => config.redis.url.to_string(),
    };
    if why.contains(&place) { why } else { format!("{place}: {why}") }
}

/// Retention beside the retry loop; it ends by itself, within the connection's and the statements' limits.
fn keep_house(context: &Context, config: &Arc<Config>) {
    let (observer, config) = (context.observer.clone(), config.clone());
    context.beside.spawn(async move {
        // An unreachable PostgreSQL is no news here: its own session will say so once Redis is back.
        if let Ok(rows @ 1..) = house::keep_alone(&config).await {
            observer.report(Observation::Retired { rows });
        }
    });
}

/// What operators dismissed while no session was there to hear it.
async fn dismiss(live: &mut live::Live<'_>, caches: &mut Vec<String>) -> Result<(), Ended> {
    for cache in caches.drain(..) {
        live.dismiss(&cache).await?;
    }
    Ok(())
}

/// Waits, unless something is asked meanwhile; what is dismissed is kept for the next session.
async fn pause(context: &Context, wait: Duration, dismissed: &mut Vec<String>) -> Option<Ended> {
    let until = Instant::now() + wait;
    let mut control = context.control.lock().await;
    while Instant::now() < until {
        context.observer.beat();
        tokio::select! {
            biased;
            () = context.stop.cancelled() => return Some(Ended::Stop),
            Some(asked) = control.recv() => match asked {
                Control::Reload(config) => return Some(Ended::Reload(config)),
                Control::Dismiss(cache) => dismissed.push(cache),
                Control::Warm(asked) => asked.not_now("the servers are not connected"),
            },
            () = tokio::time::sleep_until(until.min(Instant::now() + BEAT).into()) => {}
        }
    }
    None
}
