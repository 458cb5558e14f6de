//! `warm.on = ["refresh"]`: what is read is read anew before it expires.
//!
//! A walk over the keyspace finds the keys; Redis says how long each has left and when it was last read. Nothing else is kept.

use super::{Engine, Shared, Store, Task, Warmer, newest};
use crate::config::model::{Mode, Refresh};
use crate::flow::heat::is_due;
use crate::flow::warm::Want;
use crate::rules::binding::Binding;
use crate::rules::glob;
use crate::rules::template::Rendered;
use crate::sink::scan::{self, Found};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two walks at least and at most; in between a third of the time in which a key is due.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));
/// A walk is followed by so many times its length of rest: at most a twentieth of the time is walked.
const REST: u32 = 19;

/// A cache that is refreshed.
struct Refreshed {
    shared: Arc<Shared>,
    cache: usize,
    ttl: Duration,
    refresh: Refresh,
}

impl Warmer {
    /// Begins to look for keys that are due.
    pub(super) fn begin_refresh(&mut self) {
        let Some(store) = self.store.clone() else { return };
        let mut caches = Vec::new();
        for shared in self.engines.iter().map(|e| &e.shared).filter(|s| s.config.mode == Mode::Enforce) {
            for (cache, of) in shared.config.caches.iter().enumerate() {
                let Some(warm) = of.warm.as_ref().filter(|w| shared.by.makes(w)) else { continue };
                if let (Some(refresh), Some(ttl)) = (warm.refresh, of.ttl) {
                    caches.push(Refreshed { shared: shared.clone(), cache, ttl, refresh });
                }
            }
        }
        if !caches.is_empty() {
            self.refresh = Some(Task(tokio::spawn(refresh(store, caches, self.begun))));
        }
    }
}

async fn refresh(store: Arc<Store>, caches: Vec<Refreshed>, since: Instant) {
    let window = |c: &Refreshed| c.ttl.mul_f64(1.0 - f64::from(c.refresh.at) / 1000.0) / 3;
    let pause = caches.iter().map(window).min().unwrap_or(PAUSE.1).clamp(PAUSE.0, PAUSE.1);
    loop {
        caches[0].shared.unpaused().await;
        let began = Instant::now();
        walk(&store, &caches, since).await;
        tokio::time::sleep(pause.max(began.elapsed() * REST)).await;
    }
}

async fn walk(store: &Store, caches: &[Refreshed], since: Instant) {
    let Some(config) = caches.first().map(|c| &c.shared.config) else { return };
    let prefix = newest(config).1;
    let whole = |c: &Refreshed| match config.caches[c.cache].template.whole(prefix.as_bytes()) {
        Rendered::Pattern(pattern) => pattern,
        Rendered::Key(key) => glob::escape(&key),
    };
    let mut pass = scan::begin(config.redis.clone(), caches.iter().map(whole).collect());
    while let Some(Found::Keys(hits)) = pass.found.recv().await {
        let keys: Vec<&[u8]> = hits.iter().map(|(key, _)| key.as_slice()).collect();
        // Redis away, or a right that is missing: the next walk asks again.
        let Ok(lives) = store.lives(&keys).await else { return };
        for ((key, which), life) in hits.iter().zip(lives) {
            let Some(life) = life else { continue };
            for c in which.iter().filter_map(|i| caches.get(*i)) {
                if !is_due(c.ttl, c.refresh.at, c.refresh.read_within, life) {
                    continue;
                }
                // What cannot be told apart (`{a}:{b}` with a colon in a value) waits for its next change.
                let Some(values) = Binding::read(&config.caches[c.cache].template, prefix, key) else { continue };
                Engine::offer_to(&c.shared, Want::new(c.cache, key.clone(), values, life.used.heat(since.elapsed())));
            }
        }
    }
}
