//! What a pass finds, on its way to being deleted: protection, limits, refusal.

use super::live::{Live, Step};
use super::passes::{Lane, Wanted};
use super::statements::Asker;
use crate::config::model::OverLimit;
use crate::observe::event::{Condition, Observation, Outcome};
use crate::sink::portion::{MOST_FOUND, portions};
use crate::sink::scan::Found;
use std::time::Instant;

impl Live<'_> {
    /// What the pass of a lane reports.
    pub(super) async fn found(&mut self, lane: Lane, found: Found, now: Instant) -> Step {
        match found {
            Found::Keys(hits) if hits.is_empty() => {
                // Nothing was waited for: others get their turn.
                tokio::task::yield_now().await;
                Ok(())
            }
            Found::Keys(hits) => self.delete_found(lane, hits, now).await,
            Found::Lost => {
                self.passes.again(lane);
                Ok(())
            }
            Found::Broken(why) => Err(super::Ended::Down(crate::observe::event::Server::Redis, why)),
            Found::End { scanned } => {
                let Some(mut running) = self.passes.lane(lane).take() else { return Ok(()) };
                for wanted in &mut running.wanted {
                    let outcome = self.end_pattern(wanted).await?;
                    self.answer(&wanted.askers, outcome, now).await?;
                }
                self.pass_over();
                if lane == Lane::Scan {
                    self.context.observer.report(Observation::PassDone {
                        patterns: running.wanted.len(),
                        scanned,
                        deleted: running.deleted,
                        took: now.saturating_duration_since(running.begun),
                    });
                }
                Ok(())
            }
        }
    }

    async fn delete_found(&mut self, lane: Lane, hits: Vec<(Vec<u8>, Vec<usize>)>, now: Instant) -> Step {
        let Some(running) = self.passes.lane(lane) else { return Ok(()) };
        let mut gone: Vec<(Vec<u8>, Vec<usize>)> = Vec::new();
        for (key, which) in hits {
            if self.watch.protection.key(&key).is_some() {
                continue;
            }
            for i in &which {
                running.wanted[*i].matched += 1;
            }
            // Held back only while every pattern that matches it may still be refused.
            if which.iter().all(|i| running.wanted[*i].held.is_some()) {
                let limit = self.config.limits.max_keys_per_change;
                for i in &which {
                    let wanted = &mut running.wanted[*i];
                    if let Some(held) = wanted.held.as_mut().filter(|_| wanted.matched <= limit) {
                        held.push(key.clone());
                    }
                }
            } else {
                gone.push((key, which));
            }
        }
        for chunk in portions(&gone, MOST_FOUND, |(key, _)| key.len()) {
            let names: Vec<&[u8]> = chunk.iter().map(|(key, _)| key.as_slice()).collect();
            self.leaving(&names);
            let deleted = self.delete_unnamed(&names).await?;
            self.context.observer.beat();
            self.left();
            let Some(running) = self.passes.lane(lane) else { return Ok(()) };
            for ((_, which), was_there) in chunk.iter().zip(deleted) {
                running.deleted += u64::from(was_there);
                for i in which {
                    running.wanted[*i].deleted += u64::from(was_there);
                }
            }
        }
        self.over_limit(lane, now);
        Ok(())
    }

    /// Alerts once for each pattern over its limit, and slows the pass down.
    fn over_limit(&mut self, lane: Lane, now: Instant) {
        let limit = self.config.limits.max_keys_per_change;
        let Some(running) = self.passes.lane(lane) else { return };
        let mut slow = false;
        let mut alerts = Vec::new();
        for wanted in &mut running.wanted {
            let by_change = wanted.askers.iter().any(|a| matches!(a, Asker::Statement { .. }));
            if !by_change || wanted.matched <= limit {
                continue;
            }
            slow |= wanted.held.is_none();
            if !wanted.alerted {
                wanted.alerted = true;
                alerts.push((wanted.askers.clone(), wanted.pattern.clone(), wanted.matched, wanted.held.is_some()));
            }
        }
        if slow {
            running.throttle(now);
        }
        for (askers, pattern, matched, refused) in alerts {
            let cache = askers.iter().find_map(|a| match a {
                Asker::Statement { id, slot } => self.statements.edge(*id, *slot).map(|(_, cache)| cache),
                Asker::Flush(_) | Asker::Probe => None,
            });
            let cache = cache.unwrap_or_default();
            self.context.observer.report(Observation::OverLimit { cache, pattern, matched, refused });
        }
    }

    /// The pass is over for this pattern: held keys go, or the edge is refused.
    async fn end_pattern(&mut self, wanted: &mut Wanted) -> Result<Outcome, super::Ended> {
        let limit = self.config.limits.max_keys_per_change;
        if let Some(held) = wanted.held.take() {
            debug_assert_eq!(self.config.limits.over_limit, OverLimit::Refuse);
            if wanted.matched > limit {
                self.refuse(&wanted.askers, &wanted.pattern, wanted.matched).await?;
                return Ok(Outcome::Refused(wanted.matched));
            }
            for chunk in portions(&held, MOST_FOUND, Vec::len) {
                let names: Vec<&[u8]> = chunk.iter().map(Vec::as_slice).collect();
                self.leaving(&names);
                let gone = self.delete_unnamed(&names).await?;
                self.context.observer.beat();
                self.left();
                wanted.deleted += gone.iter().filter(|g| **g).count() as u64;
            }
        }
        Ok(if wanted.deleted == 0 { Outcome::Absent } else { Outcome::Deleted(wanted.deleted) })
    }

    async fn refuse(&mut self, askers: &[Asker], pattern: &[u8], matched: u64) -> Step {
        for asker in askers {
            let Asker::Statement { id, slot } = asker else { continue };
            let Some((table, cache)) = self.statements.edge(*id, *slot) else { continue };
            let why = format!(
                "`{}` matched {matched} keys, more than limits.max_keys_per_change: nothing was deleted; \
                 run `pgevict evict {cache} --all`, or `pgevict evict {cache} --dismiss` to leave them",
                String::from_utf8_lossy(pattern).escape_debug(),
            );
            self.watch.refused.insert((table.to_string(), cache.clone()), why.clone());
            self.context.observer.condition(Condition::Refused { table, cache }, Some(why));
        }
        self.write_refused().await
    }
}
