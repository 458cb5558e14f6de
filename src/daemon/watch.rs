//! The audit: are the triggers where they should be, did DDL change rows silently. It takes housekeeping along.

use super::Ended;
use super::flushes::After;
use super::house::{self, Queue};
use super::live::{Live, Step};
use crate::config::model::{Config, TableName};
use crate::flow::coverage::{Coverage, Suspicion};
use crate::flow::fork::Lineage;
use crate::flow::proof::{Form, Proven};
use crate::observe::event::{Condition, FlushReason, Observation};
use crate::rules::mapping::Protection;
use crate::source::catalog::{self, Relation, TableState};
use crate::source::connect;
use crate::source::side::Side;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Between the audits while an edge is not live, since whoever applies the migration wants to see it work, and while the NOTIFY
/// queue is filling, since only who asks how full it is lets it drain.
const AUDIT_SOON: Duration = Duration::from_secs(3);
/// Between the audits of triggers, partitions and files (DESIGN, promise 1: within 30 s).
pub(super) const AUDIT: Duration = Duration::from_secs(25);

/// What an audit found.
#[derive(Debug, Clone)]
pub(super) struct Look {
    states: Vec<TableState>,
    /// None at the start of a session, when nobody has looked yet.
    queue: Option<Queue>,
    /// A layout that this session does not know is in the database.
    unknown_layouts: bool,
    /// Another host that is the primary of a later history.
    newer: Option<(String, Lineage)>,
}

/// What the audits know.
#[derive(Debug)]
pub(super) struct Watch {
    /// The audit under way.
    pub(super) looking: Option<JoinHandle<Result<Look, String>>>,
    /// Edges whose capture is not live, with the remedy.
    dead: BTreeMap<(TableName, String), String>,
    /// The edges that Redis knows as proven.
    pub(super) proven: Proven,
    /// The tables' files, as Redis remembers them: JSON of [`Files`].
    pub(super) tables: String,
    /// What is never deleted.
    pub(super) protection: Protection,
    /// Refused edges: (table, cache) → why.
    pub(super) refused: BTreeMap<(String, String), String>,
    /// A flush for unproven edges or changed files is under way: not begun twice.
    flushing: Option<(Proven, String)>,
    /// The NOTIFY queue was filling at the last audit.
    pub(super) queue_filling: bool,
    /// Whether rows move that nobody captures.
    pub(super) coverage: Coverage,
}

/// Table → oid of each of its relations → its [`mark`]: DDL that changes rows silently changes these.
type Files = BTreeMap<String, BTreeMap<String, String>>;

/// A relation's file, since when it belongs, and behind a bar its sound triggers.
fn mark(r: &Relation) -> String {
    let triggers: Vec<String> = r.triggers.iter().map(|(which, made)| format!("{which}={made}")).collect();
    // A partitioned table has no file of its own: 0 stands for it.
    format!("{} {}|{}", r.filenode.unwrap_or(0), r.joined.as_deref().unwrap_or_default(), triggers.join(" "))
}

/// Whether rows may have changed unseen between two marks. A trigger that only one of them has does not count: what is missing or
/// disabled makes its edges dead, and they are flushed once they are live. Nor does it count that an earlier version wrote none.
fn differ(old: &str, new: &str) -> bool {
    let (old_file, old) = old.split_once('|').unwrap_or((old, ""));
    let (new_file, new) = new.split_once('|').unwrap_or((new, ""));
    let made = |list: &str, which: &str| {
        list.split(' ').filter_map(|t| t.split_once('=')).find(|(w, _)| *w == which).map(|(_, made)| made.to_owned())
    };
    let replaced = |trigger: &str| {
        trigger.split_once('=').is_some_and(|(which, old)| made(new, which).is_some_and(|new| new != old))
    };
    old_file != new_file || old.split(' ').any(replaced)
}

/// Looks at the database once.
pub(super) async fn look(side: &Side, config: &Config) -> Result<Look, String> {
    let states = side.run(async |client| catalog::inspect(client, config).await).await?;
    Ok(Look { states, queue: None, unknown_layouts: true, newer: None })
}

impl Watch {
    /// For a new session, with what Redis remembers.
    pub(super) fn new(config: &Config, proven: &str, tables: &str) -> Self {
        Self {
            looking: None,
            dead: BTreeMap::new(),
            // Unreadable memory is no memory: everything is unproven then.
            proven: serde_json::from_str(proven).unwrap_or_default(),
            tables: tables.to_owned(),
            protection: Protection::new(&config.limits, &config.redis),
            refused: BTreeMap::new(),
            flushing: None,
            queue_filling: false,
            coverage: Coverage::default(),
        }
    }

    /// Follows a new configuration; what is known about triggers waits for the next audit.
    pub(super) fn adopt(&mut self, config: &Config) {
        self.looking = None;
        self.flushing = None;
        self.protection = Protection::new(&config.limits, &config.redis);
    }

    /// Whether the edge's capture is in place and as the configuration wants it.
    pub(super) fn is_live(&self, table: &TableName, cache: &str) -> bool {
        !self.dead.contains_key(&(table.clone(), cache.to_owned()))
    }

    /// Whether nothing is watched that may change any moment: no edge waits for its triggers, and the NOTIFY queue drains.
    pub(super) fn calm(&self) -> bool {
        self.dead.is_empty() && !self.queue_filling
    }

    /// Whether an audit wanted other edges proven after the flush for `edges` had begun.
    pub(super) fn overtaken(&self, edges: &Proven) -> bool {
        self.flushing.as_ref().is_some_and(|(wanted, _)| wanted != edges)
    }

    /// Takes the files as they are, without a flush.
    pub(super) fn accept_tables(&mut self, look: &Look) {
        self.tables = serde_json::to_string(&files(look)).unwrap_or_default();
    }

    /// The operator has dealt with the refused edges of `cache`; returns them.
    pub(super) fn dismiss(
        &mut self,
        cache: &str,
        current: &[Arc<crate::rules::layout::Layout>],
    ) -> Vec<(TableName, String)> {
        let gone: Vec<_> = self.refused.keys().filter(|(_, c)| c == cache).cloned().collect();
        gone.iter().for_each(|key| drop(self.refused.remove(key)));
        gone.into_iter()
            .filter_map(|(table, cache)| Some((super::deliver::table_named(current, &table)?.clone(), cache)))
            .collect()
    }
}

fn files(look: &Look) -> Files {
    let one = |s: &TableState| s.relations.iter().map(|r| (r.oid.to_string(), mark(r))).collect();
    look.states.iter().map(|s| (s.table.to_string(), one(s))).collect()
}

impl Live<'_> {
    /// Begins an audit beside the session.
    pub(super) fn begin_audit(&mut self) {
        let (side, config) = (self.side.clone(), self.config.clone());
        let lowest = self.position.record().lowest(&super::repeats::delays(&self.config)).cloned();
        let observer = self.context.observer.clone();
        let journal = self.journal.is_some();
        let known: BTreeSet<i64> = self.meaning.layouts().keys().copied().collect();
        let identity = &self.session.identity;
        let own = Lineage { db: identity.db.clone(), timeline: identity.timeline.clone() };
        self.watch.looking = Some(self.context.beside.spawn(async move {
            let (found, newer) = tokio::join!(look(&side, &config), connect::newer(&config.postgres.url, &own));
            let mut found = Look { newer, ..found? };
            let settings = &config.postgres;
            let usage = if journal {
                match side.house(settings.retention, settings.retention_max).await {
                    Ok(house) => {
                        observer.set_journal_rows(house.rows);
                        found.unknown_layouts = house.layouts.iter().any(|id| !known.contains(id));
                        house::keep(&side, &config, &house, lowest.as_ref(), &observer).await;
                        Ok(house.queue)
                    }
                    Err(why) => Err(why),
                }
            } else {
                side.notify_queue().await
            };
            match usage {
                Ok(usage) => found.queue = Some(Queue::of(usage, &side).await),
                // What the triggers are like is worth knowing all the same.
                Err(detail) => observer.report(Observation::Warning {
                    what: "the journal and the NOTIFY queue cannot be looked at",
                    detail,
                }),
            }
            Ok(found)
        }));
    }

    /// An audit is back.
    pub(super) async fn audited(&mut self, outcome: Result<Look, String>, now: Instant) -> Step {
        let look = match outcome {
            Ok(look) => look,
            Err(detail) => {
                self.context.observer.report(Observation::Warning { what: "the audit of triggers failed", detail });
                return Ok(());
            }
        };
        if let Some((host, lineage)) = look.newer {
            return Err(Ended::Newer(host, lineage));
        }
        if let Some(queue) = &look.queue {
            self.watch_queue(queue).await?;
        }
        self.take_note(&look);
        self.guard_due |= self.lacks_guard();
        self.suspect(&look, now);
        if !self.watch.calm() {
            self.next_audit = self.next_audit.min(now + AUDIT_SOON);
        }
        if look.unknown_layouts {
            self.learn_layouts().await;
        }
        self.compare(look).await
    }

    /// Tells of tables whose rows change though no trigger says so.
    fn suspect(&mut self, look: &Look, now: Instant) {
        // What is committed but not read yet explains more than what was read.
        if self.journal.is_none() || self.batch.is_some() || !self.ledger.is_idle() {
            return;
        }
        // Timescale writes into chunks by itself when it decompresses; a dead edge has been told of already.
        for state in look.states.iter().filter(|s| s.live() && !s.hypertable) {
            let Some(layout) = self.current.iter().find(|l| l.table == state.table) else { continue };
            let moved = state.relations.iter().map(|r| (r.oid, r.moved)).collect();
            let told = self.watch.coverage.audit(layout, moved, now);
            match self.watch.coverage.suspicion(&state.table) {
                Suspicion::Unknown => {}
                Suspicion::None => self.context.observer.set_suspected(&state.table, None),
                Suspicion::Rows(rows) => self.context.observer.set_suspected(&state.table, Some(rows)),
            }
            if let Some(rows) = told {
                self.context.observer.report(Observation::Warning {
                    what: "rows changed and no trigger told of it",
                    detail: format!(
                        "table {}: {rows} by the server's statistics, under session_replication_role = replica, or in transactions \
                         that were rolled back; nothing was evicted for it",
                        state.table
                    ),
                });
            }
        }
    }

    /// Sets and clears the conditions of edges that are not live.
    pub(super) fn take_note(&mut self, look: &Look) {
        self.watch.dead.clear();
        for state in &look.states {
            for edge in &state.edges {
                let Some(why) = &edge.why_not else { continue };
                let remedy = state.remedies.first().map(|r| format!("; {r}")).unwrap_or_default();
                self.watch.dead.insert((state.table.clone(), edge.cache.clone()), format!("{why}{remedy}"));
            }
        }
        for ((table, cache), why) in &self.watch.dead {
            let condition = Condition::NotLive { table: table.clone(), cache: cache.clone() };
            self.context.observer.condition(condition, Some(why.clone()));
        }
        // What an earlier session said, too: the trigger may have come back while there was none.
        for (condition, ..) in self.context.observer.conditions() {
            let Condition::NotLive { table, cache } = &condition else { continue };
            if self.watch.is_live(table, cache) {
                self.context.observer.condition(condition, None);
            }
        }
    }

    /// Compares with what Redis remembers: unproven edges and changed files are flushed.
    pub(super) async fn compare(&mut self, look: Look) -> Step {
        let (edges, mut forms) = self.unproven(&self.watch.proven);
        self.forget(&edges).await?;
        let tables = serde_json::to_string(&files(&look)).unwrap_or_default();
        if self.watch.flushing.as_ref() == Some(&(edges.clone(), tables.clone())) {
            return Ok(());
        }
        let mut reason = FlushReason::Unproven;
        if self.watch.tables.is_empty() {
            self.watch.tables.clone_from(&tables);
            self.position.step(&[], &[("tables", &tables)], |_| {}).await.map_err(|f| self.fault(f))?;
        } else if tables != self.watch.tables {
            let (changed, what) = self.changed_tables(&look);
            if !changed.is_empty() {
                reason = FlushReason::Ddl(what);
                self.watch.flushing = Some((edges.clone(), tables.clone()));
                self.flush(changed, reason.clone(), After::Tables(tables.clone())).await?;
            } else {
                self.watch.tables.clone_from(&tables);
                self.position.step(&[], &[("tables", &tables)], |_| {}).await.map_err(|f| self.fault(f))?;
            }
        }
        if edges == self.watch.proven {
            // A flush for other edges that is still under way proves nothing any more.
            self.watch.flushing = self.watch.flushing.take().map(|_| (edges, tables));
            return Ok(());
        }
        // Caches that a flush for changed files takes anyway are flushed twice then; it happens once per migration.
        self.watch.flushing = Some((edges.clone(), tables));
        if let FlushReason::Ddl(_) = reason {
            reason = FlushReason::Unproven;
        }
        self.flush(std::mem::take(&mut forms), reason, After::Proven { edges, position: false }).await
    }

    /// Forgets what was proven of edges that are not evicted now, or differently: before the position moves under this
    /// configuration. Whoever evicts them next, another daemon with its own configuration perhaps, flushes them
    /// (HAZARDS B11).
    pub(super) async fn forget(&mut self, edges: &Proven) -> Step {
        let mut kept = self.watch.proven.clone();
        kept.retain(|edge, print| edges.get(edge) == Some(print));
        if kept != self.watch.proven {
            let text = serde_json::to_string(&kept).unwrap_or_default();
            self.position.step(&[], &[("edges", &text)], |_| {}).await.map_err(|f| self.fault(f))?;
            self.watch.proven = kept;
        }
        Ok(())
    }

    /// The forms of the caches that changed tables feed, and what changed in words.
    fn changed_tables(&self, look: &Look) -> (BTreeSet<Form>, String) {
        let before: Files = serde_json::from_str(&self.watch.tables).unwrap_or_default();
        let now = files(look);
        // A new chunk of a hypertable is born with the triggers and with the row that needs it.
        let grows = |table: &str| look.states.iter().any(|s| s.hypertable && s.table.to_string() == table);
        let differs = |table: &str, old: &BTreeMap<String, String>, new: &BTreeMap<String, String>| {
            let gone = old.iter().any(|(oid, old)| new.get(oid).is_none_or(|new| differ(old, new)));
            gone || !grows(table) && old.len() != new.len()
        };
        // A table that was not there before is a matter of unproven edges, not of changed rows.
        let changed: Vec<&String> = before
            .iter()
            .filter(|(table, files)| now.get(*table).is_some_and(|n| differs(table, files, n)))
            .map(|(t, _)| t)
            .collect();
        let mut forms = BTreeSet::new();
        for layout in self.current.iter().filter(|l| changed.contains(&&l.table.to_string())) {
            forms.extend(
                crate::flow::proof::unproven(&self.config, &[(**layout).clone()], |_, _| true, &Proven::new()).1,
            );
        }
        let names: Vec<&str> = changed.iter().map(|s| s.as_str()).collect();
        (
            forms,
            format!(
                "partitions, files or triggers of {} changed: attach, detach, swap, rewrite, truncate, or a trigger that was away",
                names.join(", ")
            ),
        )
    }

    /// Stores the refused edges beside the position, so that a restart does not forget them.
    pub(super) async fn write_refused(&mut self) -> Step {
        let list: Vec<_> = self.watch.refused.iter().map(|((t, c), why)| (t, c, why)).collect();
        let text = serde_json::to_string(&list).unwrap_or_default();
        self.position.step(&[], &[("refused", &text)], |_| {}).await.map(drop).map_err(|f| self.fault(f))
    }

    /// Reads the refused edges of an earlier session and sets their conditions again.
    pub(super) async fn read_refused(&mut self) -> Step {
        let text = self.position.field("refused").await.map_err(|f| self.fault(f))?;
        let list: Vec<(String, String, String)> = serde_json::from_str(&text).unwrap_or_default();
        for (table, cache, why) in list {
            let Some(name) = super::deliver::table_named(&self.current, &table).cloned() else { continue };
            let condition = Condition::Refused { table: name, cache: cache.clone() };
            self.context.observer.condition(condition, Some(why.clone()));
            self.watch.refused.insert((table, cache), why);
        }
        // What an earlier session said, too: it may have been dismissed at the daemon that led meanwhile.
        for (condition, ..) in self.context.observer.conditions() {
            let Condition::Refused { table, cache } = &condition else { continue };
            if !self.watch.refused.contains_key(&(table.to_string(), cache.clone())) {
                self.context.observer.condition(condition, None);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::differ;

    #[test]
    fn a_trigger_that_was_away_differs_and_one_that_comes_or_goes_does_not() {
        for (old, new, expected) in [
            ("1 |is=7.8 us=9.8", "1 |is=7.8 us=9.8", false),
            ("1 |is=7.8 us=9.8", "2 |is=7.8 us=9.8", true),
            ("1 5|is=7.8", "1 6|is=7.8", true),
            // Disabled and enabled again, then dropped and made again.
            ("1 |is=7.8 us=9.8", "1 |is=7.8 us=9.44", true),
            ("1 |is=7.8 us=9.8", "1 |is=7.8 us=10.44", true),
            // Disabled now, enabled later: its edges are dead meanwhile.
            ("1 |is=7.8 us=9.8", "1 |is=7.8", false),
            ("1 |is=7.8", "1 |is=7.8 us=9.44", false),
            // As earlier versions wrote it.
            ("1 5", "1 5|is=7.8", false),
            ("1 5", "2 5|is=7.8", true),
            ("1 ", "1 |", false),
        ] {
            assert_eq!(differ(old, new), expected, "{old} → {new}");
        }
    }
}
