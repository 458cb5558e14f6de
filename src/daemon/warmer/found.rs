//! Keys that no change named one by one: what patterns and whole caches took is warmed too, the hottest first.
//!
//! The session hands over what it has deleted, with its use as Redis told it just before, and goes on. A task of its own reads the
//! values out of the keys and waits for the end of the pass, since hotter keys may still come.

use super::{Engine, Shared, Task, Warmer, newest};
use crate::daemon::Ended;
use crate::daemon::live::Live;
use crate::flow::heat::{Hottest, UNKNOWN};
use crate::flow::warm::Want;
use crate::observe::event::Observation;
use crate::rules::binding::Binding;
use crate::rules::glob;
use crate::rules::template::Kind;
use crate::sink::uses::Uses;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Portions (of some two hundred keys) on their way to the task: a few megabytes, and more than it ever is behind.
const PORTIONS: usize = 256;
/// A pass that takes longer (a walk over many millions of keys, or one that is slowed down) does not keep what it has found away
/// for longer than this.
const LONGEST: Duration = Duration::from_secs(10);

/// Where deleted keys are handed over.
pub(super) struct Gone {
    sender: mpsc::Sender<Word>,
    /// What the keys of warmed caches begin with.
    beginnings: Vec<Vec<u8>>,
    uses: Uses,
    begun: Instant,
    _task: Task,
}

enum Word {
    /// These were there, and are deleted; with their heat.
    Keys(Vec<(Vec<u8>, u32)>),
    /// A pass is over.
    Over,
}

/// A cache whose keys are warmed if their values can be read.
struct Reads {
    shared: Arc<Shared>,
    cache: usize,
}

impl Warmer {
    /// Begins to take what patterns delete.
    pub(super) fn begin_found(&mut self) {
        let mut reads = Vec::new();
        for shared in self.engines.iter().map(|e| &e.shared) {
            for (cache, of) in shared.config.caches.iter().enumerate() {
                let wanted = of.warm.as_ref().is_some_and(|w| w.at_evict && shared.by.makes(w));
                // Those of a pattern are asked for by its name.
                if wanted && of.template.kind == Kind::Key {
                    reads.push(Reads { shared: shared.clone(), cache });
                }
            }
        }
        let begins = |r: &Reads| {
            let config = &r.shared.config;
            glob::literal_prefix(config.caches[r.cache].template.whole(newest(config).1.as_bytes()).bytes())
        };
        let beginnings: Vec<Vec<u8>> = reads.iter().map(begins).collect();
        self.gone = (!reads.is_empty()).then(|| {
            let (sender, words) = mpsc::channel(PORTIONS);
            Gone {
                sender,
                beginnings,
                uses: Uses::default(),
                begun: self.begun,
                _task: Task(tokio::spawn(take(words, reads))),
            }
        });
    }
}

impl Gone {
    fn wants(&self, key: &[u8]) -> bool {
        self.beginnings.iter().any(|begins| key.starts_with(begins))
    }
}

impl Live<'_> {
    /// Deletes keys that were found, not named, and hands over what is to be warmed. Returns for each whether it was there.
    pub(in crate::daemon) async fn delete_unnamed(&mut self, keys: &[&[u8]]) -> Result<Vec<bool>, Ended> {
        let Some(gone) = self.warmer.gone.as_mut().filter(|gone| keys.iter().any(|key| gone.wants(key))) else {
            return self.position.delete(keys).await.map_err(|f| self.fault(f));
        };
        let mut connection = self.position.connection();
        if gone.uses.is_new() {
            gone.uses.learn(&mut connection, format!("{}:position", self.config.redis.state).as_bytes()).await;
        }
        let (uses, at) = (gone.uses, gone.begun.elapsed());
        let asked: Vec<usize> = (0..keys.len()).filter(|i| gone.wants(keys[*i])).collect();
        let names: Vec<&[u8]> = asked.iter().map(|i| keys[*i]).collect();
        // On one connection, the question first: it is answered before the delete, and nobody waits for it.
        let (used, there) =
            futures_util::future::join(uses.ask(&mut connection, &names), self.position.delete(keys)).await;
        let there = there.map_err(|f| self.fault(f))?;
        let taken: Vec<_> = asked
            .iter()
            .zip(used)
            .filter(|(i, _)| there[**i])
            .map(|(i, used)| (keys[*i].to_vec(), used.map_or(UNKNOWN, |u| u.heat(at))))
            .collect();
        if let Some(gone) = &self.warmer.gone
            && !taken.is_empty()
            && gone.sender.try_send(Word::Keys(taken)).is_err()
        {
            let detail =
                "more keys were deleted at once than can be handed over; the next readers fill them".to_owned();
            self.context.observer.report(Observation::Warning { what: "not everything is warmed", detail });
        }
        Ok(there)
    }

    /// A pass is over: what it has found may be warmed.
    pub(in crate::daemon) fn pass_over(&self) {
        if let Some(gone) = &self.warmer.gone {
            // Where there is no room, what is held is offered a little later.
            let _ = gone.sender.try_send(Word::Over);
        }
    }
}

async fn take(mut words: mpsc::Receiver<Word>, reads: Vec<Reads>) {
    // One for each queue.
    let mut held: Vec<(Arc<Shared>, Hottest)> = Vec::new();
    for read in &reads {
        if !held.iter().any(|(shared, _)| Arc::ptr_eq(shared, &read.shared)) {
            held.push((read.shared.clone(), Hottest::new(read.shared.config.warm.queue)));
        }
    }
    let mut dropped: BTreeMap<usize, u64> = BTreeMap::new();
    let mut since: Option<Instant> = None;
    loop {
        let word = match since {
            Some(since) => tokio::time::timeout_at((since + LONGEST).into(), words.recv()).await,
            None => Ok(words.recv().await),
        };
        match word {
            Ok(None) => return,
            Ok(Some(Word::Keys(keys))) => {
                since.get_or_insert_with(Instant::now);
                for (key, heat) in keys {
                    for read in &reads {
                        let cold = read
                            .want(&key, heat)
                            .and_then(|want| held.iter_mut().find(|(s, _)| Arc::ptr_eq(s, &read.shared))?.1.push(want));
                        if let Some(cold) = cold {
                            *dropped.entry(cold.cache).or_default() += 1;
                        }
                    }
                }
            }
            Ok(Some(Word::Over)) | Err(_) => {
                since = None;
                let all: Vec<_> =
                    held.iter_mut().map(|(shared, hottest)| (&*shared, hottest.take().collect::<Vec<_>>())).collect();
                // What is made from others waits for them, whoever is hotter.
                for (shared, wants) in &all {
                    wants.iter().for_each(|w| shared.order.expect(w.cache, &w.key, &w.values));
                }
                for (shared, wants) in all {
                    wants.into_iter().for_each(|want| Engine::offer_found(shared, want, &mut dropped));
                }
                if let Some((shared, _)) = held.first() {
                    for (cache, keys) in std::mem::take(&mut dropped) {
                        let cache = shared.config.caches[cache].name.clone();
                        shared.observer.report(Observation::WarmsDropped { cache, keys });
                    }
                }
            }
        }
    }
}

impl Reads {
    /// What is to be asked for the key, if it is one of the cache's. Readers go on while it waits, so it may be there by then.
    fn want(&self, key: &[u8], heat: u32) -> Option<Want> {
        let config = &self.shared.config;
        let values = Binding::read(&config.caches[self.cache].template, newest(config).1, key)?;
        Some(Want::new(self.cache, key.to_vec(), values, heat).if_absent())
    }
}
