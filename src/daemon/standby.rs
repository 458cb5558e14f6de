//! Waiting while another daemon leads: one connection to each server, and as little to do as possible.
//!
//! Three ways lead out. The leader's session ends, then its lock is free at the next question. The leader stops
//! working while its connections stay (frozen, its network gone): then its record in Redis stands still, and its
//! session in PostgreSQL is ended from here. Or nobody can tell, and the server ends an idle session after 10 s
//! (`sql/session.sql`). Whoever leads wrongly for a moment harms nothing: every script compares the record.

use super::control::Control;
use super::start::redis_down;
use super::{BEAT, Context, Ended};
use crate::config::model::Config;
use crate::flow::record::Record;
use crate::flow::vigil::{LOOK_LIMIT, Vigil};
use crate::observe::event::{Condition, Observation, Server};
use crate::sink::{connect, position};
use crate::source::session::Candidate;
use std::time::{Duration, Instant};

/// Between two looks at the leader's record: a read of one field. See `flow/vigil.rs` for the sum.
const LOOK: Duration = Duration::from_millis(500);
/// Between two questions for the lock. A leader that stopped in order, or was killed, is followed within this.
const ASK: Duration = Duration::from_secs(3);

/// Waits until the lead is ours.
pub(super) async fn wait(
    context: &Context,
    config: &Config,
    mut candidate: Candidate,
    dismissed: &mut Vec<String>,
) -> Result<Candidate, Ended> {
    let why = "another pgevict leads; this one waits and takes over when it ends";
    context.observer.condition(Condition::Standby, Some(why.into()));
    let mut redis = connect::connect(&config.redis).await.map_err(|e| Ended::Down(Server::Redis, e.to_string()))?;
    let mut vigil = Vigil::default();
    let (mut next_ask, mut next_look) = (Instant::now() + ASK, Instant::now());
    let mut control = context.control.lock().await;
    loop {
        context.observer.beat();
        let now = Instant::now();
        if now >= next_look {
            next_look = now + LOOK;
            let look = position::glance(&mut redis, &config.redis.state);
            match tokio::time::timeout(LOOK_LIMIT, look).await {
                Ok(Ok(record)) => {
                    if vigil.saw(&record, now, Instant::now()) {
                        vigil.blind();
                        if supersede(context, &candidate, &record).await? {
                            return Ok(candidate);
                        }
                    }
                }
                Ok(Err(fault)) => return Err(redis_down(fault)),
                Err(_) => vigil.blind(),
            }
        }
        if now >= next_ask {
            next_ask = now + ASK;
            if candidate.try_lead().await? {
                return Ok(candidate);
            }
        }
        let until = next_ask.min(next_look).min(Instant::now() + BEAT);
        tokio::select! {
            biased;
            () = context.stop.cancelled() => return Err(Ended::Stop),
            why = &mut candidate.connected.driver => {
                return Err(Ended::Down(Server::Postgres, why.unwrap_or_else(|e| e.to_string())));
            }
            Some(asked) = control.recv() => match asked {
                Control::Reload(config) => return Err(Ended::Reload(config)),
                Control::Dismiss(cache) => dismissed.push(cache),
                Control::Warm(asked) => asked.not_now("another daemon has the lead: ask that one"),
            },
            () = tokio::time::sleep_until(until.into()) => {}
        }
    }
}

/// The leader's record stands still: takes the lead if it is free, or ends the session of a leader that does not work.
/// Only of one that has written this record, and for which the server does nothing: a leader that has just begun, or
/// whose statement takes long, is at work.
async fn supersede(context: &Context, candidate: &Candidate, record: &str) -> Result<bool, Ended> {
    if candidate.try_lead().await? {
        return Ok(true);
    }
    let Ok(record) = Record::parse(record) else { return Ok(false) };
    let Some(leader) = candidate.leader().await?.filter(|l| !l.busy && l.backend == record.by) else {
        return Ok(false);
    };
    let detail = format!(
        "its record has not moved for some seconds, and its session (process {}) is idle; it is ended, and this one leads",
        leader.pid
    );
    context.observer.report(Observation::Warning { what: "the leading pgevict does not work", detail });
    candidate.end(leader.pid).await?;
    Ok(candidate.try_lead().await?)
}
