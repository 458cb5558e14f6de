//! The live key index in a session: filled by a walk, kept by reports, asked before any walk.

use super::Ended;
use super::live::{Live, Step};
use super::passes::Lane;
use crate::config::model::Config;
use crate::flow::index::{Index, State, cover};
use crate::observe::event::{Observation, Server};
use crate::rules::glob;
use crate::sink::scan::{self, Found, Pass};
use crate::sink::tracking::Tracking;
use std::time::{Duration, Instant};

/// Pages that are deleted before anything else gets its turn: about 5 ms.
const PAGES: usize = 5;
/// Between two walks that fill the index: a server that is flushed again and again is not walked again and again.
const REFILL: Duration = Duration::from_secs(5);
/// Between two rounds of questions after keys that are gone.
const ROUND: Duration = Duration::from_secs(1);
/// The same where many are gone: 20 000 questions a second take one per cent of Redis' time.
const SOON: Duration = Duration::from_millis(100);

/// The index of a session.
#[derive(Debug)]
pub(super) struct Indexed {
    tracking: Tracking,
    filling: Option<Pass>,
    began: Instant,
    next_walk: Instant,
    next_round: Instant,
    /// What an operator was told last.
    told: State,
    /// Redis reports nothing any more, until the next session.
    silenced: bool,
}

/// An empty index for the patterns of a configuration; None where there are none, or none shall be tracked.
#[must_use]
pub fn index(config: &Config) -> Option<Index> {
    let limit = usize::try_from(config.limits.index_memory).unwrap_or(usize::MAX);
    let beginnings: Vec<Vec<u8>> = config
        .caches
        .iter()
        .filter(|cache| cache.index)
        .flat_map(|cache| {
            config
                .namespace
                .prefixes
                .iter()
                .map(|(_, p)| glob::literal_prefix(cache.template.whole(p.as_bytes()).bytes()))
        })
        .collect();
    (limit > 0).then(|| Index::new(cover(&beginnings), limit)).filter(|index| !index.prefixes().is_empty())
}

impl Indexed {
    pub(super) fn new(tracking: Tracking, now: Instant) -> Self {
        Self {
            tracking,
            filling: None,
            began: now,
            next_walk: now,
            next_round: now + ROUND,
            told: State::Broken,
            silenced: false,
        }
    }

    fn next_due(&self) -> Instant {
        match self.tracking.with(|index| index.state()) {
            State::Broken if self.filling.is_none() => self.next_walk,
            _ => self.next_round,
        }
    }
}

/// What the walk that fills the index finds; pends for ever while there is none.
pub(super) async fn filled(indexed: &mut Option<Indexed>) -> Found {
    match indexed.as_mut().and_then(|indexed| indexed.filling.as_mut()) {
        Some(walk) => walk.found.recv().await.unwrap_or_else(|| Found::Broken("the walk ended without a word".into())),
        None => std::future::pending().await,
    }
}

impl Live<'_> {
    /// When the index wants something.
    pub(super) fn index_due(&self) -> Option<Instant> {
        self.indexed.as_ref().map(Indexed::next_due)
    }

    /// Takes in what the walk has found.
    pub(super) fn fill(&mut self, found: Found, now: Instant) -> Step {
        let Some(indexed) = &mut self.indexed else { return Ok(()) };
        match found {
            Found::Keys(hits) => indexed.tracking.with(|index| hits.iter().for_each(|(key, _)| index.found(key))),
            // Only the index is ever lost, and this is a walk.
            Found::Lost => {}
            Found::Broken(why) => return Err(Ended::Down(Server::Redis, why)),
            Found::End { .. } => {
                indexed.filling = None;
                indexed.next_walk = now + REFILL;
                indexed.tracking.with(Index::filled);
            }
        }
        self.tell_index(now);
        Ok(())
    }

    /// Performs what the index wants now: a walk, or a round of questions.
    pub(super) async fn keep_index(&mut self, now: Instant) -> Step {
        let Some(indexed) = &mut self.indexed else { return Ok(()) };
        let state = indexed.tracking.with(|index| index.state());
        if state == State::Broken && indexed.filling.is_none() && now >= indexed.next_walk {
            // Before the walk that mends it: one that breaks long after its last walk would be live again without a word.
            self.tell_index(now);
            let Some(indexed) = &mut self.indexed else { return Ok(()) };
            let patterns = indexed.tracking.with(|index| {
                index.filling();
                index.prefixes().iter().map(|p| [&glob::escape(p), b"*".as_slice()].concat()).collect()
            });
            let redis = self.config.redis.clone();
            indexed.filling = Some(self.context.beside(|| scan::begin(redis, patterns)));
            indexed.began = now;
        }
        let Some(indexed) = &mut self.indexed else { return Ok(()) };
        if now >= indexed.next_round {
            indexed.next_round = now + ROUND;
            let tracking = indexed.tracking.clone();
            let questions = tracking.with(Index::questions);
            if !questions.is_empty() {
                let there = self.position.exist(&questions).await.map_err(|f| self.fault(f))?;
                let haunted = tracking.with(|index| {
                    index.answers(&questions, &there);
                    index.is_haunted()
                });
                if let Some(indexed) = self.indexed.as_mut().filter(|_| haunted) {
                    indexed.next_round = now + SOON;
                }
            }
        }
        let full = |indexed: &Indexed| indexed.tracking.with(|index| index.state()) == State::Full;
        if self.indexed.as_mut().is_some_and(|i| full(i) && !std::mem::replace(&mut i.silenced, true)) {
            // Nobody takes the reports in any more, and they cost Redis with every write.
            self.position.stop_reports().await.map_err(|f| self.fault(f))?;
        }
        self.tell_index(now);
        Ok(())
    }

    /// Deletes what the index knows of the patterns that wait.
    pub(super) async fn answer_from_index(&mut self, now: Instant) -> Step {
        let Some(tracking) = self.indexed.as_ref().map(|indexed| indexed.tracking.clone()) else { return Ok(()) };
        if tracking.with(|index| index.state()) != State::Live || !self.passes.answerable(&tracking) {
            return Ok(());
        }
        // Only what is reported counts: a PING that comes back has all earlier reports before it.
        self.position.fence().await.map_err(|f| self.fault(f))?;
        if tracking.with(|index| index.state()) != State::Live {
            return Ok(());
        }
        self.passes.start_indexed(&tracking, self.config.limits.over_limit, now);
        let mut pages = 0;
        while let Some(running) = self.passes.lane(Lane::Now) {
            if pages >= PAGES || running.is_throttled() {
                self.passes.set_aside();
                break;
            }
            let found = running.next().await;
            self.found(Lane::Now, found, Instant::now()).await?;
            pages += 1;
        }
        Ok(())
    }

    /// These keys are about to be deleted; to be said before they are, and [`Live::left`] after.
    pub(super) fn leaving(&mut self, keys: &[&[u8]]) {
        if let Some(indexed) = &self.indexed {
            indexed.tracking.with(|index| index.leaving(keys.iter().copied()));
        }
    }

    pub(super) fn left(&mut self) {
        if let Some(indexed) = &self.indexed {
            indexed.tracking.with(Index::left);
        }
    }

    fn tell_index(&mut self, now: Instant) {
        let Some(indexed) = &mut self.indexed else { return };
        let (state, (keys, bytes)) = indexed.tracking.with(|index| (index.state(), index.size()));
        let news = state != indexed.told && state != State::Filling;
        let took = now.saturating_duration_since(indexed.began);
        if news {
            indexed.told = state;
            self.context.observer.report(Observation::Index { state: state.as_str(), keys, bytes, took });
        }
        self.context.observer.set_index(keys, bytes, state == State::Live);
    }
}
