//! Keys that nothing evicted: those that `warm.startup.sql` names, at the daemon's start or by hand (`pgevict warm`).

use super::{Beside, By, Engine, Ordered, Shared, Store, Warmer, newest};
use crate::config::model::{Cache, Config, Refill};
use crate::flow::heat::STARTUP;
use crate::flow::warm::Want;
use crate::observe::Observer;
use crate::observe::event::{Observation, WarmOutcome};
use crate::rules::binding::Binding;
use crate::rules::template::{Fill, Kind};
use crate::warm::http::Client;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Between two looks whether the queue has room: what is started with is in no hurry.
const ROOM: Duration = Duration::from_millis(50);
/// Keys whose existence is asked for at once.
pub(super) const LOOK: usize = 500;

/// What became of one key: the key, the outcome and why.
pub type Told = (Vec<u8>, WarmOutcome, Option<String>);

/// Warming by hand: the same queue, limits and contract as the daemon's, without a daemon.
pub struct Hand {
    config: Arc<Config>,
    store: Arc<Store>,
    engine: Engine,
    told: mpsc::UnboundedReceiver<Told>,
    cache: usize,
}

impl Hand {
    /// For one cache of the configuration, by its number.
    ///
    /// # Errors
    /// It is not warmed, or a server cannot be reached; says why.
    pub async fn new(config: &Arc<Config>, cache: usize) -> Result<Self, String> {
        let store = Arc::new(Store::new(config, &config.postgres.url.hosts)?);
        store.reach().await?;
        let refill = config.caches.get(cache).and_then(|c| c.warm.as_ref()).map(|w| &w.refill);
        let by = match refill {
            None => return Err("the cache has no `warm`".into()),
            Some(Refill::Sql { .. }) => By::Sql(store.clone()),
            Some(Refill::Http(http)) => By::Http(Client::new(http.url.tls)?, store.clone()),
        };
        let never = watch::Sender::new(false).subscribe();
        let (sender, told) = mpsc::unbounded_channel();
        // One cache alone waits for no other.
        let (order, _) = Ordered::new(config);
        let beside = Beside { order, worths: Arc::default(), paused: never };
        let engine = Engine::start(config, &Observer::new(&config.log), by, &beside, Some(sender));
        Ok(Self { config: config.clone(), store, engine, told, cache })
    }

    fn cache(&self) -> &Cache {
        &self.config.caches[self.cache]
    }

    /// The key for these values; None where a filter cannot work on one.
    #[must_use]
    pub fn key<'v>(&self, value: impl Fn(&str) -> Option<&'v str>) -> Option<(Vec<u8>, Binding)> {
        let fill = |hole: &str| value(hole).map_or(Fill::Unknown, |v| Fill::Value(v.as_bytes()));
        keyed(&self.config, self.cache(), fill)
    }

    /// Everything that `warm.startup.sql` names.
    ///
    /// # Errors
    /// The query fails.
    pub async fn all(&self) -> Result<Vec<(Vec<u8>, Binding)>, String> {
        self.store.named(self.cache()).await
    }

    /// Fills these keys, where `absent` only those that are not there, and says of each what became of it as soon as it is known.
    pub async fn warm(&mut self, keys: Vec<(Vec<u8>, Binding)>, absent: bool, mut tell: impl FnMut(Told)) {
        let mut left = keys.len();
        let mut keys = keys.into_iter();
        let room = self.config.warm.queue.min(1000);
        while left > 0 {
            while self.engine.shared.warming().waiting() < room
                && let Some((key, values)) = keys.next()
            {
                let want = Want::new(self.cache, key, values, STARTUP);
                self.engine.offer(if absent { want.if_absent() } else { want });
            }
            let Some(told) = self.told.recv().await else { return };
            if told.1 != WarmOutcome::Retried {
                left -= 1;
                tell(told);
            }
        }
    }
}

/// The key, and its values, for what fills the holes.
pub(super) fn keyed<'v>(config: &Config, cache: &Cache, fill: impl Fn(&str) -> Fill<'v>) -> Option<(Vec<u8>, Binding)> {
    let values = Binding::new(&cache.template, &fill)?;
    Some((cache.template.render(newest(config).1.as_bytes(), &fill).bytes().to_vec(), values))
}

impl Warmer {
    /// Begins to fill what `warm.startup.sql` names, in the background and behind all that changes evict.
    pub(crate) fn begin_startup(&mut self) {
        let Some(store) = self.store.clone() else { return };
        let wanting: Vec<(Arc<Shared>, usize)> = self
            .engines
            .iter()
            .flat_map(|engine| {
                let caches = engine.shared.config.caches.iter().enumerate();
                let mine =
                    caches.filter(|(_, c)| c.warm.as_ref().is_some_and(|w| w.at_start && engine.shared.by.makes(w)));
                mine.map(|(i, _)| (engine.shared.clone(), i)).collect::<Vec<_>>()
            })
            .collect();
        if !wanting.is_empty() {
            self.startup = Some(super::Task(tokio::spawn(async move {
                for (shared, cache) in wanting {
                    started_with(&store, &shared, cache).await;
                }
            })));
        }
    }
}

async fn started_with(store: &Store, shared: &Arc<Shared>, index: usize) {
    let cache = &shared.config.caches[index];
    let keys = match store.named(cache).await {
        Ok(keys) => keys,
        Err(why) => {
            let detail = format!("warm.startup.sql of {}: {why}", cache.name);
            shared.observer.report(Observation::Warning { what: "nothing is warmed at the start", detail });
            return;
        }
    };
    for chunk in keys.chunks(LOOK) {
        shared.unpaused().await;
        let wanted = absent(store, shared, index, chunk).await;
        for ((key, values), _) in chunk.iter().zip(wanted).filter(|(_, absent)| *absent) {
            // Never so many that evicted keys find the queue full.
            while shared.warming().waiting() >= shared.config.warm.queue / 2 {
                tokio::time::sleep(ROOM).await;
            }
            Engine::offer_to(shared, Want::new(index, key.clone(), values.clone(), STARTUP).if_absent());
        }
    }
}

/// Whether each of these keys is absent: what is there needs no query. Where Redis does not say, the queue's own limits have to do.
pub(super) async fn absent(store: &Store, shared: &Shared, cache: usize, keys: &[(Vec<u8>, Binding)]) -> Vec<bool> {
    let names: Vec<&[u8]> = keys.iter().map(|(key, _)| key.as_slice()).collect();
    let there = match shared.config.caches[cache].template.kind {
        Kind::Key => store.exist(&names).await.unwrap_or_default(),
        Kind::Pattern => Vec::new(),
    };
    (0..keys.len()).map(|i| there.get(i) != Some(&true)).collect()
}
