//! What `pgevict status` shows of warming: each cache with what waits, what became of its keys, and whether they were read.

use super::clock::{Now, rfc3339};
use super::event::WarmOutcome;
use crate::config::model::Config;
use crate::flow::warm::LaneState;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::SystemTime;

/// Warming as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct WarmingStatus {
    /// Since when an operator has paused it.
    pub paused_since: Option<String>,
    /// The caches that are warmed, sorted by name.
    pub caches: Vec<WarmStatus>,
}

/// The warming of one cache; counts are since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct WarmStatus {
    /// The cache.
    pub cache: String,
    /// Keys that wait.
    pub waiting: usize,
    /// Questions under way, to the database or the application.
    pub running: usize,
    /// Keys that are back.
    pub stored: u64,
    /// Keys that the application says it has filled.
    pub asked: u64,
    /// Keys that the query has no row for.
    pub empty: u64,
    /// Times that a key was tried again.
    pub retried: u64,
    /// Keys that changes overtook each time.
    pub refused: u64,
    /// Keys that could not be filled.
    pub failed: u64,
    /// Keys that found the queue full.
    pub dropped: u64,
    /// Keys that somebody filled while they waited.
    pub present: u64,
    /// Why a key was last not filled, also when that is over.
    pub last_error: Option<String>,
    /// When that was.
    pub last_error_at: Option<String>,
    /// It failed too often in a row: one try after this decides.
    pub resting_until: Option<String>,
    /// Warmed keys that had been read when a change took them.
    pub read: u64,
    /// Warmed keys that nobody had read by then.
    pub unread: u64,
    /// Warmed keys of which Redis could not say.
    pub unknown: u64,
}

/// What is counted.
#[derive(Debug, Default)]
pub(super) struct WarmBook {
    paused: Option<SystemTime>,
    caches: BTreeMap<String, Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    lane: LaneState,
    seen: Option<SystemTime>,
    outcomes: BTreeMap<WarmOutcome, u64>,
    worths: BTreeMap<&'static str, u64>,
    error: Option<(String, SystemTime)>,
}

impl WarmBook {
    /// The warmed caches of a new configuration; those that stay keep their counts.
    pub(super) fn set(&mut self, config: &Config) {
        let mut old = std::mem::take(&mut self.caches);
        for cache in config.caches.iter().filter(|c| c.warm.is_some()) {
            let known = old.remove(&cache.name).unwrap_or_default();
            // What waited is gone with the old configuration.
            self.caches.insert(cache.name.clone(), Cache { lane: LaneState::default(), ..known });
        }
    }

    pub(super) fn pause(&mut self, since: Option<SystemTime>) {
        self.paused = since;
    }

    pub(super) fn is_known(&self, cache: &str) -> bool {
        self.caches.contains_key(cache)
    }

    pub(super) fn lane(&mut self, now: Now, cache: &str, lane: LaneState) {
        if let Some(known) = self.caches.get_mut(cache) {
            (known.lane, known.seen) = (lane, Some(now.wall));
        }
    }

    pub(super) fn warmed(&mut self, now: Now, cache: &str, outcome: WarmOutcome, why: Option<&str>) {
        let Some(known) = self.caches.get_mut(cache) else { return };
        *known.outcomes.entry(outcome).or_default() += 1;
        if let Some(why) = why {
            known.error = Some((why.to_owned(), now.wall));
        }
    }

    pub(super) fn dropped(&mut self, cache: &str, keys: u64) {
        if let Some(known) = self.caches.get_mut(cache) {
            *known.outcomes.entry(WarmOutcome::Dropped).or_default() += keys;
        }
    }

    pub(super) fn worth(&mut self, cache: &str, worth: &'static str, keys: u64) {
        if let Some(known) = self.caches.get_mut(cache) {
            *known.worths.entry(worth).or_default() += keys;
        }
    }

    /// None where nothing is warmed.
    pub(super) fn status(&self) -> Option<WarmingStatus> {
        let cache = |(name, c): (&String, &Cache)| {
            let of = |outcome| c.outcomes.get(&outcome).copied().unwrap_or_default();
            let worth = |label| c.worths.get(label).copied().unwrap_or_default();
            WarmStatus {
                cache: name.clone(),
                waiting: c.lane.waiting,
                running: c.lane.running,
                stored: of(WarmOutcome::Stored),
                asked: of(WarmOutcome::Asked),
                empty: of(WarmOutcome::Empty),
                retried: of(WarmOutcome::Retried),
                refused: of(WarmOutcome::Refused),
                failed: of(WarmOutcome::Failed),
                dropped: of(WarmOutcome::Dropped),
                present: of(WarmOutcome::Present),
                last_error: c.error.as_ref().map(|(why, _)| why.clone()),
                last_error_at: c.error.as_ref().map(|(_, at)| rfc3339(*at)),
                resting_until: c.lane.rests.zip(c.seen).map(|(rests, seen)| rfc3339(seen + rests)),
                read: worth("yes"),
                unread: worth("no"),
                unknown: worth("unknown"),
            }
        };
        let paused_since = self.paused.map(rfc3339);
        (!self.caches.is_empty())
            .then(|| WarmingStatus { paused_since, caches: self.caches.iter().map(cache).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, parse};
    use std::time::Duration;

    fn config(caches: &[&str]) -> Config {
        let warm = "ttl = \"1m\"\nwarm.sql = \"SELECT 1 WHERE :id = '1'\"";
        let sections: Vec<String> =
            caches.iter().map(|c| format!("[cache.{c}]\nkey = \"{c}:{{id}}\"\n{warm}")).collect();
        let names: Vec<String> = caches.iter().map(|c| format!("\"{c}\"")).collect();
        let toml = format!(
            "[postgres]\nurl = \"postgresql://u@h/d\"\n[redis]\nurl = \"redis://h\"\n{}\n[cache.plain]\nkey = \"p:{{id}}\"\n\
             [table.t]\nevict = [\"plain\", {}]",
            sections.join("\n"),
            names.join(", ")
        );
        parse(&toml, "t", &Environment::empty()).unwrap().0
    }

    #[test]
    fn a_cache_shows_what_became_of_its_keys_and_keeps_it_over_a_reload() {
        let now = Now { wall: SystemTime::UNIX_EPOCH, ..Now::read() };
        let mut book = WarmBook::default();
        assert_eq!(book.status(), None, "nothing is warmed");
        book.set(&config(&["a", "b"]));
        book.lane(now, "a", LaneState { waiting: 3, running: 1, rests: Some(Duration::from_secs(2)) });
        book.warmed(now, "a", WarmOutcome::Failed, Some("no such column"));
        book.warmed(now, "a", WarmOutcome::Stored, None);
        book.worth("a", "no", 2);
        book.dropped("a", 9);
        book.warmed(now, "plain", WarmOutcome::Stored, None);
        book.pause(Some(now.wall));
        let status = book.status().unwrap();
        let shown = WarmStatus {
            cache: "a".into(),
            waiting: 3,
            running: 1,
            stored: 1,
            failed: 1,
            dropped: 9,
            last_error: Some("no such column".into()),
            last_error_at: Some("1970-01-01T00:00:00.000Z".into()),
            resting_until: Some("1970-01-01T00:00:02.000Z".into()),
            unread: 2,
            ..WarmStatus::default()
        };
        assert_eq!(status.caches, [shown, WarmStatus { cache: "b".into(), ..WarmStatus::default() }]);
        assert_eq!(status.paused_since.as_deref(), Some("1970-01-01T00:00:00.000Z"));
        book.set(&config(&["a", "c"]));
        let status = book.status().unwrap();
        let seen: Vec<_> = status.caches.iter().map(|c| (c.cache.as_str(), c.failed, c.waiting)).collect();
        assert_eq!(seen, [("a", 1, 0), ("c", 0, 0)]);
    }
}
