//! Guarded fills: which history and floor Redis holds for them, and when it holds none.

use super::Ended;
use super::live::{Live, Step, postgres};
use crate::config::model::{Cache, Config};
use crate::flow::proof::Form;
use crate::observe::event::{Observation, Server};
use crate::rules::snapshot::Snapshot;
use crate::sink::position::Guard;
use std::collections::BTreeSet;
use std::time::Duration;

/// A new history is one row; a synchronous standby that is away would make it wait for ever, and evictions with it.
const HISTORY_LIMIT: Duration = Duration::from_secs(5);

impl Live<'_> {
    /// Guards what the configuration wants guarded, from this moment on. `doubt`: PostgreSQL may have lost commits, so
    /// that values read so far must not be stored any more. To be called before the flush that answers the doubt.
    ///
    /// Where no history can be had, fills are refused, evictions go on, and the next audit tries again.
    pub(super) async fn guard(&mut self, doubt: bool) -> Step {
        self.guard_due = false;
        let stands = self.position.is_guarded().await.map_err(|f| self.fault(f))?;
        let caches = guarded(&self.config).map(|c| (c.name.clone(), c.template.kind.as_str())).collect::<Vec<_>>();
        let mut guard = None;
        if self.journal.is_some() && !caches.is_empty() {
            // Nobody looked after the history while nothing was guarded.
            match self.history(doubt || !stands).await {
                Ok(history) => guard = Some(Guard { history, floor: self.now_visible().await?, caches }),
                Err(detail) => {
                    self.context.observer.report(Observation::Warning { what: "guarded fills are refused", detail });
                }
            }
        }
        if guard.is_some() || stands {
            self.position.guard(guard).await.map_err(|f| self.fault(f))?;
        }
        Ok(())
    }

    async fn history(&self, renew: bool) -> Result<String, String> {
        let side = self.side.clone();
        // A task of its own: what comes too late must still end, and its connection be looked after.
        let asked = self.context.beside.spawn(async move { side.history(renew).await });
        match tokio::time::timeout(HISTORY_LIMIT, asked).await {
            Ok(Ok(Ok(Some(history)))) => Ok(history),
            Ok(Ok(Ok(None))) => {
                Err("the schema has no table `history`: apply the migration, `pgevict sql apply --as OWNER_URL`".into())
            }
            Ok(Ok(Err(why))) => Err(format!("{why}; it is tried again")),
            Ok(Err(broken)) => Err(format!("{broken}; it is tried again")),
            Err(_) => Err(format!("PostgreSQL did not commit within {HISTORY_LIMIT:?}; it is tried again")),
        }
    }

    /// Whether the configuration wants a guard that Redis does not hold.
    pub(super) fn lacks_guard(&self) -> bool {
        self.journal.is_some() && !self.position.tombstones.guards() && guarded(&self.config).next().is_some()
    }

    /// Refuses every fill that has not seen what is visible now: whole caches are about to go, and keys that are absent
    /// have no tombstone (HAZARDS B5). The floor stands in Redis before the first SCAN.
    pub(super) async fn raise_floor(&mut self, forms: &BTreeSet<Form>) -> Step {
        let concerned = forms.iter().any(|(cache, _)| self.config.caches[*cache].guard_fills);
        if !concerned || !self.position.tombstones.guards() {
            return Ok(());
        }
        let floor = self.now_visible().await?;
        self.position.tombstones.raise(floor);
        self.position.entomb().await.map_err(|f| self.fault(f))
    }

    async fn now_visible(&self) -> Result<Snapshot, Ended> {
        let text = self.session.snapshot().await.map_err(|e| postgres(&e))?;
        text.parse().map_err(|e| Ended::Down(Server::Postgres, format!("{e}")))
    }
}

/// The guarded caches.
fn guarded(config: &Config) -> impl Iterator<Item = &Cache> {
    config.caches.iter().filter(|c| c.guard_fills)
}
