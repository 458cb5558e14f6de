//! Housekeeping: retention of the journal, and the watch over the NOTIFY queue.

use super::live::{Live, Step, postgres};
use crate::config::model::{Bell, Config, Delivery};
use crate::observe::Observer;
use crate::observe::event::Observation;
use crate::rules::snapshot::Snapshot;
use crate::source::connect;
use crate::source::house::House;
use crate::source::side::Side;
use std::time::Instant;

/// Rows that one transaction of retention deletes: short enough to hold no lock for long.
const SLICE: i32 = 5_000;
/// Share of the NOTIFY queue above which an operator is told; the triggers stop ringing there too.
const QUEUE_ALARM: f64 = 0.1;

/// How full the NOTIFY queue is, and who may be the reason.
#[derive(Debug, Clone, Default)]
pub(super) struct Queue {
    /// 0 to 1.
    usage: f64,
    /// Sessions that may keep it from draining, in words; empty below the alarm.
    holders: Vec<String>,
}

impl Queue {
    /// Completes what was read: who sits in a transaction is asked only when it matters.
    pub(super) async fn of(usage: f64, side: &Side) -> Self {
        let holders = if usage < QUEUE_ALARM { Vec::new() } else { side.queue_holders().await.unwrap_or_default() };
        Self { usage, holders }
    }

    /// Whether it is so full that nobody may ring.
    pub(super) fn filling(&self) -> bool {
        self.usage >= QUEUE_ALARM
    }
}

impl Live<'_> {
    /// Tells how full the NOTIFY queue is. While it is filling the triggers do not ring, so the daemon does not sleep.
    pub(super) async fn watch_queue(&mut self, queue: &Queue) -> Step {
        self.context.observer.set_notify_queue(queue.usage);
        if queue.filling() {
            let who = match queue.holders.as_slice() {
                [] => {
                    "no other session is in a transaction; it drains as soon as the listeners have read it".to_owned()
                }
                list => format!(
                    "end the session that LISTENs and sits in a transaction; the oldest transactions: pid {}",
                    list.join(", pid ")
                ),
            };
            let detail = format!("{:.0} % full, writers do not ring, the daemon polls; {who}", queue.usage * 100.0);
            self.context.observer.report(Observation::Warning { what: "the NOTIFY queue is filling", detail });
        } else if self.watch.queue_filling {
            self.context.observer.report(Observation::QueueDrained);
        }
        self.watch.queue_filling = queue.filling();
        let may = self.config.postgres.bell == Bell::Auto && !self.session.identity.prepared_transactions;
        if self.journal.is_some() && self.bell.allow(may && !queue.filling(), Instant::now()) {
            self.session.bell_unlock(true).await.map_err(|e| postgres(&e))?;
        }
        Ok(())
    }
}

/// Retention beside a session.
pub(super) async fn keep(side: &Side, config: &Config, house: &House, lowest: Option<&Snapshot>, observer: &Observer) {
    match retire(side, config, house, lowest).await {
        Ok(0) => {}
        Ok(rows) => observer.report(Observation::Retired { rows }),
        Err(detail) => {
            observer.report(Observation::Warning { what: "retention could not delete journal rows", detail });
        }
    }
}

/// Retention while no session can live because Redis is away: the journal must not grow without bounds then either.
/// Nothing is known about positions, so only `retention_max` and `journal_max_bytes` count.
pub(super) async fn keep_alone(config: &Config) -> Result<u64, String> {
    if config.postgres.delivery == Delivery::Notify {
        return Ok(0);
    }
    let connected = connect::connect(&config.postgres.url).await.map_err(|e| e.to_string())?;
    let side = Side::new(&config.postgres.url, &connected.host, &config.postgres.schema)?;
    side.mark_time().await?;
    let house = side.house(config.postgres.retention, config.postgres.retention_max).await?;
    retire(&side, config, &house, None).await
}

/// Deletes what no position and no roll-back of Redis within `retention` can need any more; past `retention_max` or
/// `journal_max_bytes` also what a position still needs, which is then flushed instead.
async fn retire(side: &Side, config: &Config, house: &House, lowest: Option<&Snapshot>) -> Result<u64, String> {
    let mut rows = 0;
    if let Some(limit) = &house.kept
        && lowest.is_some_and(|l| l.contains(limit))
    {
        rows += side.retire(limit, SLICE).await?;
    }
    if let Some(limit) = &house.most {
        rows += side.retire(limit, SLICE).await?;
    }
    if house.bytes > config.postgres.journal_max_bytes
        && let Some(limit) = lowest.or(house.newest.as_ref())
    {
        rows += side.retire(limit, SLICE).await?;
    }
    Ok(rows)
}
